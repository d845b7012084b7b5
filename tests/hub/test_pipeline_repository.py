# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""What is in a saved checkpoint; loading is in test_pipeline_lumos_video.py, the Hub in test_hub.py."""

import json
import os
from functools import partial

import pytest
from faults.crash_points import count_operations, run_killed_before
from tiny_models import tiny_config
from typer.testing import CliRunner

from lumos_hf import LumosVideoPipeline, demo_checkpoint
from lumos_hf.cli import app
from lumos_hf.hub.checkpoint_files import missing_files
from lumos_hf.hub.pipeline_repository import remove_model_code
from lumos_hf.modeling_lumos import LumosModel


CODE = {
    "configuration_lumos.py",
    "frame_attention.py",
    "linear_cross_entropy.py",
    "modeling_lumos.py",
    "onednn_linear.py",
    "token_layout.py",
}
AUTO_MAP = {
    "AutoConfig": "configuration_lumos.LumosConfig",
    "AutoModel": "modeling_lumos.LumosModel",
    "AutoModelForCausalLM": "modeling_lumos.LumosForCausalLM",
}


@pytest.fixture(scope="module")
def pipe():
    return LumosVideoPipeline.from_pretrained(demo_checkpoint())


def python_files(directory):
    return {file.relative_to(directory).as_posix() for file in directory.rglob("*.py")}


@pytest.mark.slow
def test_the_code_of_the_model_is_saved_at_the_root(pipe, tmp_path):
    pipe.save_pretrained(tmp_path)
    assert python_files(tmp_path) == CODE
    assert json.loads((tmp_path / "transformer" / "config.json").read_text())["auto_map"] == AUTO_MAP
    remove_model_code(tmp_path)
    assert python_files(tmp_path) == set()
    assert "auto_map" not in json.loads((tmp_path / "transformer" / "config.json").read_text())


@pytest.mark.slow
def test_the_model_alone_is_saved_with_its_code(pipe, tmp_path):
    pipe.transformer.save_pretrained(tmp_path)
    assert python_files(tmp_path) == CODE
    assert json.loads((tmp_path / "config.json").read_text())["auto_map"] == AUTO_MAP


def test_the_base_model_alone_is_no_causal_model(tmp_path):
    LumosModel(tiny_config()).save_pretrained(tmp_path)
    auto_map = {name: AUTO_MAP[name] for name in ("AutoConfig", "AutoModel")}
    assert json.loads((tmp_path / "config.json").read_text())["auto_map"] == auto_map


@pytest.mark.slow
def test_weights_may_lack_the_variant(pipe, tmp_path):
    pipe.save_pretrained(tmp_path, variant="bf16")
    assert missing_files(tmp_path) == ["transformer/model.safetensors", "vqvae/diffusion_pytorch_model.safetensors"]
    assert missing_files(tmp_path, variant="bf16") == []
    pipe.save_pretrained(tmp_path)
    assert missing_files(tmp_path, variant="fp8") == missing_files(tmp_path) == []


def test_a_checkpoint_without_a_file_is_not_pushed(tmp_path):
    (tmp_path / "model_index.json").write_text('{"vqvae": ["a", "b"]}')
    result = CliRunner().invoke(app, ["push", "--model", str(tmp_path), "--repo", "someone/lumos"])
    assert result.exit_code == 2 and "has no vqvae/config.json" in result.stderr


def test_every_keyword_is_passed_on_or_refused(pipe, tmp_path):
    with pytest.raises(TypeError, match="`max_shards` is no argument of `save_pretrained`"):
        pipe.save_pretrained(tmp_path / "new", max_shards=2)
    with pytest.raises(TypeError, match="`repo_id` is no argument of `save_pretrained` without `push_to_hub=True`"):
        pipe.save_pretrained(tmp_path / "new", repo_id="me/mine")
    assert not (tmp_path / "new").exists()


@pytest.fixture(scope="module")
def num_operations(pipe, tmp_path_factory):
    """On files, of a save over another checkpoint."""
    directory = tmp_path_factory.mktemp("counted")
    pipe.save_pretrained(directory)
    return count_operations(partial(pipe.save_pretrained, directory))


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")
@pytest.mark.parametrize("seventh", range(8))
def test_a_killed_save_leaves_a_whole_checkpoint(pipe, tmp_path, num_operations, seventh):
    pipe.save_pretrained(tmp_path / "checkpoint")
    (tmp_path / "checkpoint" / "notes.txt").write_text("mine")
    before = {path.name for path in (tmp_path / "checkpoint").rglob("*")}
    operation = seventh * (num_operations - 1) // 7
    assert num_operations > 8 and run_killed_before(partial(pipe.save_pretrained, tmp_path / "checkpoint"), operation)
    LumosVideoPipeline.from_pretrained(tmp_path / "checkpoint")
    assert {path.name for path in (tmp_path / "checkpoint").rglob("*")} == before
