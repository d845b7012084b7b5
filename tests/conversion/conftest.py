# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""An official-looking release made of the golden data, and what it is converted to."""

import json
import math

import pytest
from safetensors.torch import load_file

from lumos_hf import convert_original_checkpoint

from .official_release import LEVELS, release_in, save_archives, save_shards, text_tokenizer


@pytest.fixture(scope="session")
def golden_cosmos(golden):
    return sorted(path for path in (golden / "tokenizer").iterdir() if path.is_dir())[0]


@pytest.fixture(scope="session")
def golden_lumos(golden):
    return golden / "model" / "a_h64_l2_mha"


@pytest.fixture(scope="session")
def release(golden_lumos, golden_cosmos, tmp_path_factory):
    release = release_in(tmp_path_factory.mktemp("release"))

    release.lumos.mkdir()
    config = json.loads((golden_lumos / "config.json").read_text(encoding="utf-8"))
    (release.lumos / "config.json").write_text(json.dumps(config), encoding="utf-8")
    # Embeddings that the compact copy of the golden data does without are NaN there.
    weights = {name: tensor.nan_to_num() for name, tensor in load_file(golden_lumos / "model.safetensors").items()}
    save_shards(weights, release.lumos)

    release.cosmos.mkdir()
    config = json.loads((golden_cosmos / "config.json").read_text(encoding="utf-8"))
    (release.cosmos / "config.json").write_text(json.dumps({**config, "levels": LEVELS}), encoding="utf-8")
    (release.cosmos / "model_config.yaml").write_text("# not read\n", encoding="utf-8")
    save_archives(load_file(golden_cosmos / "model.safetensors"), release.cosmos, LEVELS)

    text_tokenizer(math.prod(LEVELS)).save(str(release.text_tokenizer))
    return release


@pytest.fixture(scope="session")
def checkpoint(release, tmp_path_factory):
    return convert_original_checkpoint(*release, tmp_path_factory.mktemp("converted") / "checkpoint")
