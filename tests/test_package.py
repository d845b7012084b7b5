# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
import importlib.metadata
import subprocess
import sys

import pytest
import torch
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

import lumos_hf
from lumos_hf import demo


@pytest.fixture(scope="module")
def model():
    config = lumos_hf.LumosConfig(
        vocab_size=9216 + 16,
        visual_token_offset=9216,
        visual_vocab_size=16,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=1,
    )
    return lumos_hf.LumosForCausalLM(config).eval()


@pytest.mark.parametrize("name", lumos_hf.__all__)
def test_public_names_exist(name):
    assert name in dir(lumos_hf)
    assert getattr(lumos_hf, name).__name__ == name


def test_unknown_names_are_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'LumosImagePipeline'"):
        lumos_hf.LumosImagePipeline


def test_version_is_the_installed_one():
    assert lumos_hf.__version__ == importlib.metadata.version("lumos_hf")


def test_import_leaves_diffusers_for_later():
    code = "import sys, lumos_hf; sys.exit('diffusers' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_auto_classes_know_lumos(model, tmp_path):
    model.save_pretrained(tmp_path)
    input_ids = torch.tensor([[0, 8710, 9220]])
    causal_lm = AutoModelForCausalLM.from_pretrained(tmp_path)
    base = AutoModel.from_pretrained(tmp_path)

    assert type(AutoConfig.from_pretrained(tmp_path)) is lumos_hf.LumosConfig
    assert type(causal_lm) is lumos_hf.LumosForCausalLM
    assert type(base) is lumos_hf.LumosModel
    with torch.no_grad():
        assert torch.equal(causal_lm(input_ids=input_ids).logits, model(input_ids=input_ids).logits)
        expected = model.model(input_ids=input_ids).last_hidden_state
        assert torch.equal(base(input_ids=input_ids).last_hidden_state, expected)


def test_demo_checkpoint_is_a_directory_with_a_pipeline(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "_CHECKPOINT", tmp_path)
    (tmp_path / "model_index.json").write_text("{}", encoding="utf-8")
    assert lumos_hf.demo_checkpoint() == tmp_path


def test_missing_demo_checkpoint_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "_CHECKPOINT", tmp_path)
    with pytest.raises(FileNotFoundError, match="make demo-train"):
        lumos_hf.demo_checkpoint()
