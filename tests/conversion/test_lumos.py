# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
import json
import re

import pytest
import torch
from safetensors.torch import save_file

from lumos_hf.configuration_lumos import LumosConfig
from lumos_hf.conversion.lumos import convert_lumos_model
from lumos_hf.modeling_lumos import LumosForCausalLM


OVERRIDES = {"visual_token_offset": 9216, "visual_vocab_size": 16}
LAYOUTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")

OFFICIAL_CONFIG = {
    "architectures": ["ChameleonXLLMXForConditionalGeneration"],
    "model_type": "chameleon",
    "vocab_size": 9232,
    "hidden_size": 32,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-6,
    "rope_theta": 50000.0,
    "rope_scaling": None,
    "mm_rope": True,
    "model_parallel_size": 2,
    "swin_norm": False,
    "attention_bias": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": None,
    "torch_dtype": "float32",
    "vq_config": {"embed_dim": 8},
}


@pytest.fixture(scope="module")
def weights():
    config = LumosConfig(
        vocab_size=9232,
        hidden_size=32,
        intermediate_size=40,
        num_hidden_layers=2,
        num_attention_heads=2,
        head_dim=16,
        position_encoding="rope_1d",
        model_parallel_size=2,
        **OVERRIDES,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return {name: tensor.clone() for name, tensor in LumosForCausalLM(config).state_dict().items()}


def write_checkpoint(directory, weights, layout="model.safetensors", **config):
    official = {**OFFICIAL_CONFIG, "mm_rope": False, **config}
    (directory / "config.json").write_text(json.dumps(official), encoding="utf-8")
    save = save_file if "safetensors" in layout else torch.save
    if not layout.endswith(".json"):
        save(weights, directory / layout)
        return
    names = sorted(weights)
    suffix = "safetensors" if "safetensors" in layout else "bin"
    weight_map = {name: f"part-{2 * index // len(names)}.{suffix}" for index, name in enumerate(names)}
    for shard in set(weight_map.values()):
        save({name: weights[name] for name in names if weight_map[name] == shard}, directory / shard)
    (directory / layout).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}), encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
def test_weights_are_read_from_every_layout(layout, weights, tmp_path):
    write_checkpoint(tmp_path, weights, layout)
    model = convert_lumos_model(tmp_path, **OVERRIDES)
    assert not model.training
    assert set(model.state_dict()) == set(weights)
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.state_dict().items())


@pytest.mark.slow
def test_converted_model_round_trips(weights, tmp_path):
    write_checkpoint(tmp_path, weights)
    model = convert_lumos_model(str(tmp_path), **OVERRIDES)
    model.save_pretrained(tmp_path / "converted")
    loaded = LumosForCausalLM.from_pretrained(tmp_path / "converted")
    input_ids = torch.arange(6)[None]
    with torch.no_grad():
        assert torch.equal(loaded(input_ids=input_ids).logits, model(input_ids=input_ids).logits)


def test_config_fields_are_mapped(weights, tmp_path):
    write_checkpoint(tmp_path, weights)
    config = convert_lumos_model(tmp_path, **OVERRIDES).config
    assert config.model_type == "lumos"
    assert config.position_encoding == "rope_1d"
    assert config.rope_parameters == {"rope_type": "default", "rope_theta": 50000.0}
    assert (config.model_parallel_size, config.rms_norm_eps, config.max_position_embeddings) == (2, 1e-6, 4096)
    assert (config.bos_token_id, config.eos_token_id, config.pad_token_id) == (0, 8710, 0)
    assert (config.visual_token_offset, config.visual_vocab_size) == (9216, 16)
    assert not hasattr(config, "vq_config")


@pytest.mark.slow
def test_mm_rope_and_rope_scaling_are_mapped(tmp_path):
    config = LumosConfig(
        vocab_size=9232, hidden_size=64, intermediate_size=40, num_hidden_layers=1, num_attention_heads=2, **OVERRIDES
    )
    write_checkpoint(
        tmp_path,
        LumosForCausalLM(config).state_dict(),
        hidden_size=64,
        num_hidden_layers=1,
        model_parallel_size=1,
        mm_rope=True,
        rope_scaling={"type": "linear", "factor": 2.0},
    )
    config = convert_lumos_model(tmp_path, **OVERRIDES).config
    assert config.position_encoding == "mm_rope"
    assert config.rope_parameters == {"rope_type": "linear", "rope_theta": 50000.0, "factor": 2.0}


@pytest.mark.slow
def test_dtype_follows_the_checkpoint(weights, tmp_path):
    half = {name: tensor.bfloat16() for name, tensor in weights.items()}
    write_checkpoint(tmp_path, half, torch_dtype="bfloat16")
    assert convert_lumos_model(tmp_path, **OVERRIDES).dtype == torch.bfloat16
    assert convert_lumos_model(tmp_path, dtype="float32", **OVERRIDES).dtype == torch.float32
    assert convert_lumos_model(tmp_path, dtype=torch.float16, **OVERRIDES).dtype == torch.float16
    write_checkpoint(tmp_path, half, torch_dtype=None)
    assert convert_lumos_model(tmp_path, **OVERRIDES).dtype == torch.bfloat16


def test_unused_official_tensors_are_left_out(weights, tmp_path):
    unused = {
        "model.vqmodel.encoder.conv_in.weight": torch.zeros(1),
        "model.layers.0.self_attn.rotary_emb.inv_freq": torch.zeros(8),
        "model.rotary_emb.inv_freq": torch.zeros(8),
    }
    write_checkpoint(tmp_path, {**weights, **unused})
    assert set(convert_lumos_model(tmp_path, **OVERRIDES).state_dict()) == set(weights)


def test_tied_head_may_be_missing(weights, tmp_path):
    tied = {name: tensor for name, tensor in weights.items() if name != "lm_head.weight"}
    write_checkpoint(tmp_path, tied, tie_word_embeddings=True)
    model = convert_lumos_model(tmp_path, **OVERRIDES)
    assert torch.equal(model.lm_head.weight, weights["model.embed_tokens.weight"])


def test_all_weights_that_do_not_fit_are_listed(weights, tmp_path):
    wrong = {**weights, "model.extra": torch.zeros(1), "model.norm.weight": torch.zeros(7)}
    del wrong["model.layers.1.self_attn.k_norm.bias"]
    write_checkpoint(tmp_path, wrong)
    with pytest.raises(ValueError) as error:
        convert_lumos_model(tmp_path, **OVERRIDES)
    message = str(error.value)
    assert str(tmp_path) in message
    assert "unexpected: model.extra" in message
    assert "missing: model.layers.1.self_attn.k_norm.bias" in message
    assert "model.norm.weight (7,) instead of (32,)" in message


def test_default_visual_ids_must_fit_the_vocabulary(weights, tmp_path):
    write_checkpoint(tmp_path, weights)
    with pytest.raises(ValueError, match="`visual_token_offset` \\(65536\\)"):
        convert_lumos_model(tmp_path)


@pytest.mark.parametrize(
    ("config", "overrides", "message"),
    [
        ({"swin_norm": True}, {}, "`swin_norm` must be false"),
        ({}, {"visual_offset": 1, "num_codes": 2}, "`config_overrides` .* num_codes, visual_offset"),
    ],
)
def test_unsupported_settings_are_refused(config, overrides, message, weights, tmp_path):
    write_checkpoint(tmp_path, weights, **config)
    with pytest.raises(ValueError, match=message):
        convert_lumos_model(tmp_path, **{**OVERRIDES, **overrides})


def test_missing_files_are_named(weights, tmp_path):
    with pytest.raises(ValueError, match="nowhere"):
        convert_lumos_model(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=re.escape(str(tmp_path)) + ".*config.json"):
        convert_lumos_model(tmp_path)

    write_checkpoint(tmp_path, weights, "model.safetensors.index.json")
    (tmp_path / "part-1.safetensors").unlink()
    with pytest.raises(ValueError, match=re.escape(str(tmp_path)) + ".*part-1.safetensors"):
        convert_lumos_model(tmp_path, **OVERRIDES)
    (tmp_path / "model.safetensors.index.json").unlink()
    with pytest.raises(ValueError, match=re.escape(str(tmp_path)) + ".*model.safetensors.*pytorch_model.bin"):
        convert_lumos_model(tmp_path, **OVERRIDES)
