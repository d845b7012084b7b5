# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""Checkpoints back in the official layout: what came from there is there again."""

import json

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from typer.testing import CliRunner

from lumos_hf import (
    LumosForCausalLM,
    convert_original_checkpoint,
    demo_checkpoint,
    export_original_checkpoint,
)
from lumos_hf.cli import app

from .official_release import assert_same_tensors, read_all, release_in


@pytest.fixture(scope="module")
def exported(checkpoint, tmp_path_factory):
    return release_in(export_original_checkpoint(checkpoint, tmp_path_factory.mktemp("exported") / "release"))


def read_json(path):
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.slow
def test_the_transformer_is_as_it_was(exported, release):
    names = [sorted(path.name for path in directory.iterdir()) for directory in (exported.lumos, release.lumos)]
    assert names[0] == names[1]
    for path in release.lumos.glob("*.safetensors"):
        assert_same_tensors(load_file(exported.lumos / path.name), load_file(path))
    index = "model.safetensors.index.json"
    assert read_json(exported.lumos / index)["weight_map"] == read_json(release.lumos / index)["weight_map"]


@pytest.mark.slow
def test_the_config_has_the_official_values(exported, release):
    written, official = (read_json(directory / "config.json") for directory in (exported.lumos, release.lumos))
    assert set(written) <= set(official)
    assert written == {name: official[name] for name in written}


@pytest.mark.slow
def test_the_text_tokenizer_is_as_it_was(exported, release):
    assert read_json(exported.text_tokenizer) == read_json(release.text_tokenizer)
    text = "A cat.<reserved08706>"
    encodings = [Tokenizer.from_file(str(path)).encode(text).ids for path in (exported[2], release[2])]
    assert encodings[0] == encodings[1]


def test_the_video_tokenizer_has_its_official_names(exported, golden_cosmos):
    """All that the official network uses; the golden data names what it does not."""
    official = load_file(golden_cosmos / "model.safetensors")
    unused = read_json(golden_cosmos / "cases.json")["unused_parameters"]
    expected = {name: tensor for name, tensor in official.items() if name not in unused}
    assert_same_tensors(read_all(exported.cosmos), expected)


def test_the_config_of_the_video_tokenizer_is_as_it_was(exported, release):
    assert read_json(exported.cosmos / "config.json") == read_json(release.cosmos / "config.json")


@pytest.mark.slow
def test_an_export_is_converted_to_the_same_checkpoint(exported, checkpoint, tmp_path):
    again = convert_original_checkpoint(*exported, tmp_path / "again")
    for path in checkpoint.rglob("*"):
        if path.is_file() and path.suffix != ".md":
            assert (again / path.relative_to(checkpoint)).read_bytes() == path.read_bytes(), path


@pytest.mark.slow
def test_trained_weights_are_exported(checkpoint, tmp_path):
    """Weights saved by `save_pretrained`, in one file and another dtype."""
    directory = tmp_path / "trained"
    model = LumosForCausalLM.from_pretrained(checkpoint / "transformer", dtype=torch.bfloat16)
    with torch.no_grad():
        model.lm_head.weight += 1
    model.save_pretrained(directory / "transformer")
    for part in ("tokenizer", "vqvae"):
        (directory / part).symlink_to(checkpoint / part)
    (directory / "model_index.json").symlink_to(checkpoint / "model_index.json")

    result = CliRunner().invoke(app, ["export", "--model", str(directory), "--output", str(tmp_path / "release")])
    assert result.exit_code == 0, result.output
    exported = release_in(tmp_path / "release")
    assert_same_tensors(load_file(exported.lumos / "model.safetensors"), model.state_dict())
    assert read_json(exported.lumos / "config.json")["torch_dtype"] == "bfloat16"


@pytest.mark.slow
def test_the_demo_checkpoint_has_no_official_counterpart(tmp_path):
    result = CliRunner().invoke(
        app, ["export", "--model", str(demo_checkpoint()), "--output", str(tmp_path / "release")]
    )
    assert result.exit_code == 2
    assert "`text_tokenizer` must have the special tokens at the ids of the model" in result.stderr
    assert list(tmp_path.iterdir()) == []
