# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""Decoding steps against the official loop, each on the reference's own tokens and guided logits."""

import functools
import json
import math

import pytest
import torch
from safetensors.torch import load_file

from lumos_hf.scheduling_mask_decoding import MaskDecodingScheduler, gumbel_noise, mask_lowest


DECODE_CASES = tuple(
    f"{task}_{mode}"
    for task in ("i2v_64x64", "t2i_64x96", "t2v_32x64", "t2v_g15_64x32", "vp2_32x96")
    for mode in ("greedy", "sampled")
)
MASK_TOKEN_ID = 9003
CONFIDENCE_ATOL = 2e-3
# The draw at which Gumbel noise is 0, as the greedy references have it.
NOISELESS_UNIFORM = math.exp(-1)


@functools.cache
def load_units(directory):
    return json.loads((directory / "units.json").read_text(encoding="utf-8"))


@pytest.fixture
def units(golden):
    return load_units(golden / "decode" / "units")


@functools.cache
def load_case(directory):
    facts = json.loads((directory / "case.json").read_text(encoding="utf-8"))
    return facts, load_file(directory / "tensors.safetensors")


@pytest.fixture(params=DECODE_CASES)
def case(request, golden):
    return load_case(golden / "decode" / request.param)


def replay(case):
    """Yields a scheduler before each step, the step's index in the tensors, its sample and its uniforms."""
    facts, tensors = case
    is_sampled = facts["mode"] == "sampled"
    scheduler = MaskDecodingScheduler(
        token_temperature=1.0 if is_sampled else 0.0, confidence_temperature=facts["initial_temperature"]
    )
    scheduler.set_timesteps(facts["timesteps"])
    for index in range(len(tensors["step_index"])):
        sample = codes(tensors["tokens_before"][index], facts)[None]
        noiseless = torch.full(sample.shape, NOISELESS_UNIFORM)
        uniforms = (
            (tensors["u_token"][index][None], tensors["u_gumbel"][index][None]) if is_sampled else (noiseless,) * 2
        )
        yield scheduler, index, sample, uniforms


def codes(token_ids, facts):
    return torch.where(token_ids == MASK_TOKEN_ID, -1, token_ids - facts["vis_tok_start"])


def test_whole_steps(case):
    facts, tensors = case
    rows_with_logits = {index: row for row, index in enumerate(tensors["logits_at"].tolist())}
    for scheduler, index, sample, uniforms in replay(case):
        timestep = tensors["step_index"][index]
        if index not in rows_with_logits:
            # Without logits only the temperature can move on.
            scheduler.mask_least_confident(
                sample, torch.ones(sample.shape), sample, timestep=timestep, uniforms=uniforms[1]
            )
            continue
        logits = tensors["cfg_logits"][rows_with_logits[index]][None]
        output = scheduler.step(logits, timestep, sample, uniforms=uniforms)

        assert torch.equal(output.prev_sample[0], codes(tensors["tokens_after"][index], facts))
        assert torch.equal(output.pred_original_sample[0], codes(tensors["sampled_ids"][index], facts))
        assert scheduler.temperature == tensors["temperature"][index]

        _, probabilities = scheduler.sample_tokens(logits[0], uniforms[0][0])
        torch.testing.assert_close(
            scheduler.confidence(probabilities[None], sample, uniforms[1])[0],
            tensors["confidence"][index],
            rtol=0,
            atol=CONFIDENCE_ATOL,
        )


def test_remasking_of_all_steps(case):
    facts, tensors = case
    for scheduler, index, sample, uniforms in replay(case):
        timestep = tensors["step_index"][index]
        sampled = codes(tensors["sampled_ids"][index], facts)[None]
        probabilities = tensors["selected_probs"][index][None]
        mask_lengths = scheduler.mask_lengths(sample, timestep)
        prev_sample = scheduler.mask_least_confident(sampled, probabilities, sample, timestep, uniforms[1])
        confidence = scheduler.confidence(probabilities, sample, uniforms[1])

        assert mask_lengths.item() == tensors["mask_len"][index]
        assert scheduler.temperature == tensors["temperature"][index]
        torch.testing.assert_close(confidence[0], tensors["confidence"][index], rtol=0, atol=CONFIDENCE_ATOL)
        assert torch.equal(mask_lowest(confidence, mask_lengths)[0], tensors["masking"][index])
        assert torch.equal(prev_sample[0], codes(tensors["tokens_after"][index], facts))


def test_history_of_cases(case):
    facts, tensors = case
    indices = MaskDecodingScheduler.history_mask_indices(facts["history_length"], facts["mask_history_ratio"])
    assert torch.equal(indices, tensors["history_mask_indices"])


def test_history_patterns(units):
    for pattern in units["history_patterns"]:
        indices = MaskDecodingScheduler.history_mask_indices(pattern["history_length"], pattern["ratio"])
        assert indices.tolist() == pattern["indices"]


def test_schedules(units):
    for schedule in units["schedules"]:
        num_tokens, num_steps = schedule["num_tokens"], schedule["timesteps"]
        scheduler = MaskDecodingScheduler()
        scheduler.set_timesteps(num_steps)
        sample = torch.full((1, num_tokens), -1)
        probabilities = torch.linspace(0.1, 0.9, num_tokens)[None]
        noiseless = torch.full((1, num_tokens), NOISELESS_UNIFORM)

        mask_lengths, temperatures = [], []
        for timestep in scheduler.timesteps:
            mask_lengths.append(scheduler.mask_lengths(sample, timestep).item())
            sample = scheduler.mask_least_confident(
                torch.zeros_like(sample), probabilities, sample, timestep, noiseless
            )
            temperatures.append(scheduler.temperature)

        assert mask_lengths == schedule["mask_len"]
        assert temperatures == schedule["temperature_first_frame_from_1"]
        assert (sample == 0).all()


def test_mask_by_random_topk(units, golden):
    tensors = load_file(golden / "decode" / "units" / "mask_by_random_topk.safetensors")
    for unit in units["mask_by_random_topk"]:
        probabilities, uniforms, expected = (
            tensors[f"topk{unit['case']}.{name}"] for name in ("probs", "u_gumbel", "masking")
        )
        confidence = probabilities.log() + unit["temperature"] * gumbel_noise(uniforms)
        masked = mask_lowest(confidence, torch.tensor([unit["mask_len"]]))

        assert torch.equal(masked, expected)
        assert masked.sum() == unit["masked"]
