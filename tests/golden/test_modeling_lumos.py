# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""The transformer against the official code: positions, masks, rotary tables, norms, hidden states and logits."""

import functools
import json

import pytest
import torch
from safetensors.torch import load_file

from lumos_hf.conversion.lumos import convert_lumos_model
from lumos_hf.modeling_lumos import rotary_channel_axes
from lumos_hf.token_layout import derive_layout


CONFIGS = ("a_h64_l2_mha", "b_h128_l3_mqa", "c_h128_l2_gqa_mp2")
ONE_ROW_CASES = ("text_only", "t2v_1f", "t2v_3f", "uncond_incomplete", "masked_history_incomplete")
TWO_ROW_CASES = ("batch2_pad", "batch2_cfgdrop")
CASES = ONE_ROW_CASES + TWO_ROW_CASES
VISUAL_TOKEN_OFFSET = 9216


@functools.cache
def load_model(source_dir, attention):
    vocab_size = json.loads((source_dir / "config.json").read_text(encoding="utf-8"))["vocab_size"]
    model = convert_lumos_model(
        source_dir, visual_token_offset=VISUAL_TOKEN_OFFSET, visual_vocab_size=vocab_size - VISUAL_TOKEN_OFFSET
    )
    model.set_attn_implementation(attention)
    return model


@functools.cache
def load_cases(source_dir):
    return load_file(source_dir / "cases.safetensors")


@pytest.fixture(params=CONFIGS)
def source_dir(request, golden):
    directory = golden / "model" / request.param
    if not directory.is_dir():
        pytest.skip(f"{request.param} is not in this copy of the golden data")
    return directory


def result(tensors, case, name):
    """What the official code computes for each row on its own."""
    key = f"{case}.perrow.{name}" if case in TWO_ROW_CASES else f"{case}.{name}"
    return tensors[key]


@pytest.mark.parametrize("case", CASES)
def test_positions_and_frames(source_dir, case):
    tensors = load_cases(source_dir)
    config = load_model(source_dir, "eager").config
    position_ids, frame_ids = derive_layout(tensors[f"{case}.input_ids"], config)

    for axis, name in enumerate("thw"):
        assert torch.equal(position_ids[axis], tensors[f"{case}.position_{name}"])
    is_content = tensors[f"{case}.position_flag"].bool()
    assert torch.equal(position_ids[:, ~is_content], tensors[f"{case}.position_text"][~is_content].expand(3, -1))
    assert (frame_ids[is_content] >= 0).all()


@pytest.mark.parametrize("case", CASES)
def test_attention_pattern(source_dir, case):
    tensors = load_cases(source_dir)
    model = load_model(source_dir, "eager")
    with torch.no_grad():
        attentions = model(input_ids=tensors[f"{case}.input_ids"], output_attentions=True).attentions

    keep = result(tensors, case, "attention_keep")
    for attention in attentions:
        assert torch.equal(attention > 0, keep.expand_as(attention))


@pytest.mark.parametrize(
    ("attention", "use_cache"), (("eager", True), ("sdpa", True), pytest.param("sdpa", False, id="without-mask"))
)
@pytest.mark.parametrize("case", CASES)
def test_logits(source_dir, case, attention, use_cache):
    tensors = load_cases(source_dir)
    model = load_model(source_dir, attention)
    with torch.no_grad():
        logits = model(input_ids=tensors[f"{case}.input_ids"], use_cache=use_cache).logits

    assert logits.shape == (*tensors[f"{case}.input_ids"].shape, model.config.vocab_size)
    torch.testing.assert_close(
        logits[..., VISUAL_TOKEN_OFFSET:], result(tensors, case, "logits_visual"), atol=5e-4, rtol=0
    )
    torch.testing.assert_close(
        logits.double().logsumexp(-1), result(tensors, case, "logits_logsumexp"), atol=5e-4, rtol=0
    )
    if f"{case}.logits_full" in tensors:
        positions = tensors[f"{case}.logits_full_at"]
        torch.testing.assert_close(logits[:, positions], tensors[f"{case}.logits_full"], atol=5e-4, rtol=0)


@pytest.mark.parametrize("case", ("text_only", "t2v_1f"))
def test_last_hidden_state(source_dir, case):
    tensors = load_cases(source_dir)
    with torch.no_grad():
        hidden = load_model(source_dir, "sdpa").model(input_ids=tensors[f"{case}.input_ids"]).last_hidden_state
    torch.testing.assert_close(hidden, tensors[f"{case}.last_hidden"], atol=5e-4, rtol=0)


def test_rotary_tables(source_dir):
    expected = load_file(source_dir / "rope.safetensors")
    model = load_model(source_dir, "eager")
    position_ids, _ = derive_layout(load_cases(source_dir)["t2v_3f.input_ids"], model.config)
    cos, sin = model.model.rotary_emb(torch.zeros(1), position_ids)

    torch.testing.assert_close(cos, expected["t2v_3f.cos"], atol=1e-6, rtol=0)
    torch.testing.assert_close(sin, expected["t2v_3f.sin"], atol=1e-6, rtol=0)
    torch.testing.assert_close(model.model.rotary_emb.inv_freq, expected["inv_freq"], atol=1e-6, rtol=0)


def test_rotary_axes_of_channels(source_dir):
    expected = load_file(source_dir / "rope.safetensors")
    head_dim = load_model(source_dir, "eager").config.head_dim
    axes = torch.tensor(rotary_channel_axes("mm_rope", head_dim // 2) * 2)
    for axis, name in enumerate(("frame", "h", "w")):
        assert torch.equal((axes == axis).nonzero().flatten(), expected[f"indices_{name}"])


@pytest.mark.parametrize("name", ("qnorm", "knorm"))
def test_head_norms(source_dir, name):
    expected = load_file(source_dir / "rope.safetensors")
    attention = load_model(source_dir, "eager").model.layers[0].self_attn
    norm = attention.q_norm if name == "qnorm" else attention.k_norm
    with torch.no_grad():
        output = norm(expected[f"{name}.in"])
    torch.testing.assert_close(output, expected[f"{name}.out"], atol=1e-6, rtol=0)


@pytest.mark.parametrize("case", ("t2v_3f", "masked_history_incomplete"))
def test_cached_frame_equals_full_forward(source_dir, case):
    tensors = load_cases(source_dir)
    model = load_model(source_dir, "sdpa")
    input_ids = tensors[f"{case}.input_ids"]
    position_ids, frame_ids = derive_layout(input_ids, model.config)
    last_frame = (frame_ids[0] == frame_ids.max()).nonzero().flatten()
    start, end = last_frame[0], last_frame[-1] + 1

    with torch.no_grad():
        prefix = model(
            input_ids=input_ids[:, :start], position_ids=position_ids[..., :start], frame_ids=frame_ids[:, :start]
        )
        frame = model(
            input_ids=input_ids[:, start:end],
            position_ids=position_ids[..., start:end],
            past_key_values=prefix.past_key_values,
            is_causal=False,
        )
    expected = tensors[f"{case}.logits_visual"][:, start:end]
    torch.testing.assert_close(frame.logits[..., VISUAL_TOKEN_OFFSET:], expected, atol=5e-4, rtol=0)
