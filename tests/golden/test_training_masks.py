# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""Training masks, rows and their statistics against the official code."""

import functools
import json

import pytest
import torch
from safetensors.torch import load_file

from lumos_hf.configuration_lumos import LumosConfig
from lumos_hf.scheduling_mask_decoding import MaskDecodingScheduler
from lumos_hf.token_layout import codes_from_frame_ids, content_positions, frame_length
from lumos_hf.training import DataCollatorForDiffusionForcing


NAMES = ("video_b1", "image_b2", "video_b2_cfgdrop")
VISUAL_TOKEN_OFFSET = 9216
# Makes torch's default generator give the references' draws.
REFERENCE_SEED = 58
HEADER_LENGTH = 3
DRAWS = 10_000
# Exceeded by one in a thousand pairs of samples of 10,000 and the references' 1000 draws of one distribution.
KOLMOGOROV_SMIRNOV_LIMIT = 1.95 * (1 / DRAWS + 1 / 1000) ** 0.5


@pytest.fixture(scope="module")
def config():
    return LumosConfig(
        vocab_size=VISUAL_TOKEN_OFFSET + 240, visual_token_offset=VISUAL_TOKEN_OFFSET, visual_vocab_size=240
    )


@functools.cache
def load_references(directory):
    facts = json.loads((directory / "cases.json").read_text(encoding="utf-8"))
    return facts, load_file(directory / "cases.safetensors")


@pytest.fixture(params=NAMES)
def case(request, golden):
    """Name, facts and tensors of one case."""
    facts, tensors = load_references(golden / "training")
    prefix = f"{request.param}."
    own_tensors = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    return facts["cases"][f"{request.param}.seeded"], own_tensors


def video_start(ids, config):
    return (ids == config.video_start_token_id).nonzero()[0, 0].item()


def feature_from_row(ids, facts, config):
    """The clip that a reference row was made of. A row without a prompt gets one, to be cut off again."""
    start = video_start(ids, config)
    t, h, w = facts["frames"], facts["latent_h"], facts["latent_w"]
    frames = ids[start + HEADER_LENGTH :][: t * frame_length(h, w)].view(t, -1)
    return {
        "codes": codes_from_frame_ids(frames, h, w, config),
        "text_ids": ids[1 : start - 1].tolist() if start > 0 else [1],
        "fps": ids[start + 2].item() - config.size_token_offset,
    }


def only_visual(labels):
    """The reference keeps labels of special tokens, which its loss then skips."""
    return labels.masked_fill(labels < VISUAL_TOKEN_OFFSET, -100)


def collate_reference_rows(case, config):
    facts, tensors = case
    collator = DataCollatorForDiffusionForcing(config, prompt_drop_probability=0)
    features = [feature_from_row(row, facts, config) for row in tensors["input_ids"]]
    torch.manual_seed(REFERENCE_SEED)
    return collator(features)


def test_rows_with_the_reference_seed(case, config):
    facts, tensors = case
    batch = collate_reference_rows(case, config)
    for row, (ids, labels, attention_mask) in enumerate(
        zip(batch["input_ids"], batch["labels"], batch["attention_mask"], strict=True)
    ):
        expected_ids = tensors["seeded.masked_input_ids"][row].clone()
        expected_labels = only_visual(tensors["seeded.masked_labels"][row])
        expected_start = video_start(expected_ids, config)
        start = video_start(ids, config)

        # One reference says two seconds at 4 frames per second for the 5 frames it holds; the collator says one.
        expected_ids[expected_start + 1] = ids[start + 1]
        length = (tensors["input_ids"][row] == config.video_end_token_id).nonzero().item() + 2 - expected_start

        if expected_start > 0:
            assert torch.equal(ids[:start], expected_ids[:expected_start])
        assert torch.equal(ids[start:][:length], expected_ids[expected_start:][:length])
        assert torch.equal(labels[start:][:length], expected_labels[expected_start:][:length])
        assert (ids[start + length :] == config.pad_token_id).all()
        assert (labels[:start] == -100).all() and (labels[start + length :] == -100).all()
        assert attention_mask.sum() == start + length
    assert (batch["labels"] != -100).sum() == facts["labels_that_enter_loss"]


@pytest.mark.parametrize("name", ("video_b1", "image_b2"))
def test_whole_batches_with_the_reference_seed(name, golden, config):
    facts, tensors = load_references(golden / "training")
    case = facts["cases"][f"{name}.seeded"], {"input_ids": tensors[f"{name}.input_ids"]}
    batch = collate_reference_rows(case, config)

    assert torch.equal(batch["input_ids"], tensors[f"{name}.seeded.masked_input_ids"])
    assert torch.equal(batch["labels"], only_visual(tensors[f"{name}.seeded.masked_labels"]))


@pytest.mark.parametrize("variant", ("seeded", "given"))
def test_masks_from_given_draws(case, config, variant):
    facts, tensors = case
    scheduler = MaskDecodingScheduler()
    ratios = scheduler.sample_mask_ratio(tensors[f"{variant}.rand_timesteps"])
    mask = scheduler.training_mask(ratios, tensors[f"{variant}.rand_order"])

    assert torch.equal(ratios, tensors[f"{variant}.mask_prob"])
    if variant == "given":
        assert torch.equal(mask, tensors["given.mask_within_frame"])
    for row, is_content in enumerate(tensors["frame_content_mask"]):
        masked_ids = tensors[f"{variant}.masked_input_ids"][row, is_content]
        assert torch.equal(masked_ids == config.mask_token_id, mask[row].repeat(facts["frames"]))


@pytest.mark.parametrize("case_index", (0, 1))
@pytest.mark.slow
def test_statistics_of_10000_draws(case_index, golden, config):
    facts, _ = load_references(golden / "training")
    histogram = facts["histograms"][case_index]
    masks = draw_masks(histogram["latent_h"], histogram["latent_w"], config)
    counts = masks[:, 0].sum(dim=-1)
    content = histogram["content_tokens_per_frame"]

    assert (masks == masks[:, :1]).all()
    assert masks.shape[-1] == content
    assert counts.min() == histogram["min"] and counts.max() == histogram["max"]
    assert largest_difference(counts, histogram) < KOLMOGOROV_SMIRNOV_LIMIT
    # Three standard errors of the difference of two means; the rate's deviation is about 0.11.
    mean_error = 3 * 0.11 * (1 / DRAWS + 1 / histogram["draws"]) ** 0.5
    assert counts.double().mean().item() == pytest.approx(histogram["mean"], abs=mean_error * content)
    rates = masks.double().mean(dim=(1, 2))
    assert rates.mean().item() == pytest.approx(histogram["mask_prob_mean"], abs=mean_error)
    # Every position is masked as often as any other: five standard errors of a share of 0.8.
    assert masks[:, 0].double().mean(dim=0).sub(rates.mean()).abs().max() < 5 * (0.8 * 0.2 / DRAWS) ** 0.5


def draw_masks(h, w, config):
    """Tube masks of clips of two frames, `(draws, frames, content)`."""
    collator = DataCollatorForDiffusionForcing(config, prompt_drop_probability=0, seed=0)
    feature = {"codes": torch.zeros(2, h, w, dtype=torch.int64), "text_ids": [1], "fps": 4}
    ids = torch.cat([collator([feature] * 1000)["input_ids"] for _ in range(DRAWS // 1000)])
    start = video_start(ids[0], config) + HEADER_LENGTH
    frames = ids[:, start:][:, : 2 * frame_length(h, w)].unflatten(1, (2, -1))
    return frames[:, :, content_positions(h, w)] == config.mask_token_id


def largest_difference(counts, histogram):
    """The statistic of Kolmogorov and Smirnov: between the cumulative distributions of both samples."""
    values = range(histogram["min"], histogram["max"] + 1)
    expected = torch.tensor([histogram["histogram"].get(str(value), 0) for value in values]).double()
    found = torch.bincount(counts - histogram["min"], minlength=len(expected)).double()
    return (found.cumsum(0) / len(counts) - expected.cumsum(0) / histogram["draws"]).abs().max()
