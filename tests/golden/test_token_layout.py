# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""The token layout against prompts and sequences of the official code."""

import json

import pytest
import torch
from safetensors.torch import load_file

from lumos_hf.configuration_lumos import LumosConfig
from lumos_hf.token_layout import (
    UNKNOWN_CODE,
    codes_from_frame_ids,
    derive_layout,
    frame_ids_from_codes,
    frame_length,
    grid_size,
    prompt_ids,
    prompt_text,
    sequence_from_codes,
    video_header_ids,
)


CASES = ("t2v", "t2i", "i2v", "continuation_5_frames")
VISUAL_TOKEN_OFFSET = 9216


@pytest.fixture
def config():
    return LumosConfig(vocab_size=9456, visual_token_offset=VISUAL_TOKEN_OFFSET, visual_vocab_size=240)


@pytest.fixture
def prompts(golden):
    return json.loads((golden / "prompt" / "prompts.json").read_text(encoding="utf-8"))


def stand_in_text_ids(text):
    return [100 + ord(character) for character in text]


def expand_collapsed_text(items):
    ids = []
    for item in items:
        ids.extend(stand_in_text_ids(item["text"]) if isinstance(item, dict) else [item])
    return ids


def result_size(case):
    if case["image_sizes_after_crop_wh"]:
        width, height = case["image_sizes_after_crop_wh"][0][0]
    else:
        width, height = case["requested_video_resolution_wh"]
    return height, width


def codes_of_frames(frame_ids, h, w, config):
    """`(t, h, w)` codes of one or more whole frames."""
    return codes_from_frame_ids(torch.tensor(frame_ids).view(-1, frame_length(h, w)), h, w, config)


@pytest.mark.parametrize("name", CASES)
def test_prompt_and_first_call_are_the_official_ones(name, prompts, config):
    case = {case["name"]: case for case in prompts["cases"]}[name]
    height, width = result_size(case)
    h, w = grid_size(height, width, config)

    text = prompt_text(case["caption"], height=height, width=width, duration=case["duration"], fps=case["fps"])
    assert text == case["text"]
    prefix_ids = prompt_ids(stand_in_text_ids(text), config)
    header_ids = video_header_ids(case["duration"], case["fps"], config)
    assert prefix_ids[:1] == case["prefix_ids"]
    assert prefix_ids[-1:] + header_ids == case["between_text_and_first_frame_ids"]

    first_call = expand_collapsed_text(case["first_call_cond_ids_text_collapsed"])
    frames = first_call[len(prefix_ids) + len(header_ids) :]
    codes = codes_of_frames(frames, h, w, config)
    num_given_frames = case["total_latent_frames_in_result"] - case["generated_latent_frames"]
    assert len(codes) == num_given_frames + 1
    assert (codes[:num_given_frames] >= 0).all() and (codes[num_given_frames:] == UNKNOWN_CODE).all()

    sequence = sequence_from_codes(prefix_ids, codes, case["duration"], case["fps"], config, closed=False)
    assert sequence.tolist() == first_call
    unconditional = sequence_from_codes([], codes, case["duration"], case["fps"], config, closed=False)
    assert unconditional.tolist() == case["first_call_uncond_ids"]

    closed = sequence_from_codes(prefix_ids, codes, case["duration"], case["fps"], config).tolist()
    assert closed[-3:] == [*case["result_tail"], config.separator_token_id]
    assert first_call[len(prefix_ids) :][:6] == case["result_head"]
    assert frames[:3] == case["first_frame_header_ids"]


def test_training_item_is_the_official_one(prompts, config):
    item = prompts["training_item"]
    official_ids = expand_collapsed_text(item["tokens_text_collapsed"])
    first_visual = item["first_label_index"]
    h, w = grid_size(32, 64, config)
    codes = codes_of_frames(official_ids[first_visual + 3 : -2], h, w, config)

    assert (codes >= 0).all()
    ids = sequence_from_codes(official_ids[:first_visual], codes, duration=1, fps=4, config=config)
    assert ids.tolist() == official_ids


@pytest.mark.parametrize("name", ("video_b1", "image_b2", "video_b2_cfgdrop"))
def test_content_of_training_rows_is_found(name, golden, config):
    tensors = load_file(golden / "training" / "cases.safetensors")
    input_ids = tensors[f"{name}.input_ids"]
    masked_ids = tensors[f"{name}.given.masked_input_ids"]

    position_ids, frame_ids = derive_layout(input_ids, config)
    masked_position_ids, masked_frame_ids = derive_layout(masked_ids, config)
    assert torch.equal(masked_position_ids, position_ids)
    assert torch.equal(masked_frame_ids, frame_ids)

    layout_ids = torch.tensor(
        [config.image_start_token_id, config.image_end_token_id, *range(config.size_token_offset, 9003)]
    )
    content = (frame_ids >= 0) & ~torch.isin(input_ids, layout_ids)
    assert torch.equal(content, tensors[f"{name}.frame_content_mask"])


@pytest.mark.parametrize("name", ("t2i_64x96_greedy", "t2v_32x64_greedy", "i2v_64x64_greedy", "vp2_32x96_greedy"))
def test_generated_sequences_are_read_and_written_back(name, golden, config):
    tensors = load_file(golden / "decode" / name / "tensors.safetensors")
    decoded_ids = tensors["decoded_ids"]
    duration, fps, height, width = (decoded_ids[[1, 2, 4, 5]] - config.size_token_offset).tolist()
    h, w = grid_size(32 * height, 32 * width, config)

    codes = codes_of_frames(decoded_ids[3:-1].tolist(), h, w, config)
    rewritten = sequence_from_codes([], codes, duration, fps, config)
    assert torch.equal(rewritten[:-1], decoded_ids)
    assert torch.equal(frame_ids_from_codes(codes, config).flatten(), decoded_ids[3:-1])


@pytest.mark.parametrize("branch", ("cond", "uncond"))
@pytest.mark.parametrize("name", ("t2v_32x64_greedy", "i2v_64x64_greedy"))
def test_positions_of_decoding_calls_are_the_official_ones(name, branch, golden, config):
    tensors = load_file(golden / "decode" / name / "tensors.safetensors")
    position_ids, _ = derive_layout(tensors[f"first_call_{branch}.input_ids"].view(1, -1), config)
    later_frame_length = tensors[f"later_call_{branch}.input_ids"].numel()

    assert torch.equal(position_ids[:, 0], tensors[f"first_call_{branch}.positions"][1:4])
    assert torch.equal(position_ids[:, 0, -later_frame_length:], tensors[f"later_call_{branch}.positions"][1:4])
