# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""Codes may be given anywhere: the others are made around them."""

import pytest
import torch
from tiny_models import NUM_CODES
from tiny_pipelines import PROMPT_IDS, SMALL, ForwardCalls, H, W, build_pipeline, codes_of, generators, random_codes

from lumos_hf.scheduling_mask_decoding import MaskDecodingScheduler
from lumos_hf.token_layout import UNKNOWN_CODE, visual_positions


T = 3
ROWS = [PROMPT_IDS, [0, 9, 102], [0, 3, 4, 5, 102]]


def with_holes(codes, share, seed=0):
    holes = torch.rand(codes.shape, generator=torch.Generator().manual_seed(seed)) < share
    return codes.masked_fill(holes, UNKNOWN_CODE)


@pytest.fixture(params=["standard step", "step of its own"])
def either_pipe(request, code_pipe):
    """Steps are taken in parts, or by one call of a scheduler that the pipeline does not know."""
    if request.param == "standard step":
        return code_pipe

    class Scheduler(MaskDecodingScheduler):
        def step(self, *arguments, **options):
            return super().step(*arguments, **options)

    return build_pipeline(tokenizer=None, vqvae=None, scheduler=Scheduler())


@pytest.mark.parametrize("place", [(0, 0, 0), (1, 3, 5), (2, 2, 7)])
def test_everything_but_one_code_is_given(either_pipe, place):
    latents = random_codes(1, T, H, W)
    latents[(0, *place)] = UNKNOWN_CODE
    codes = codes_of(either_pipe, input_ids=PROMPT_IDS, latents=latents)
    assert (codes != latents).nonzero().tolist() == [[0, *place]]
    assert 0 <= codes[(0, *place)] < NUM_CODES


@pytest.mark.slow
def test_all_that_is_given_stays(either_pipe):
    latents = with_holes(random_codes(3, T, H, W), 0.5)
    codes = codes_of(either_pipe, input_ids=ROWS, latents=latents)
    is_given = latents != UNKNOWN_CODE
    assert torch.equal(codes[is_given], latents[is_given])
    assert (codes != UNKNOWN_CODE).all()


@pytest.mark.slow
def test_nothing_given_is_a_plain_call(either_pipe):
    plain = codes_of(either_pipe, input_ids=PROMPT_IDS)
    for num_frames in (1, T):
        latents = torch.full((1, num_frames, H, W), UNKNOWN_CODE)
        assert torch.equal(codes_of(either_pipe, input_ids=PROMPT_IDS, latents=latents), plain)


def test_nothing_to_make_costs_a_pass_where_a_later_frame_reads_it(code_pipe):
    latents = random_codes(1, T, H, W)
    with ForwardCalls(code_pipe.transformer) as calls:
        assert torch.equal(codes_of(code_pipe, input_ids=PROMPT_IDS, latents=latents, guidance_scale=1.0), latents)
    assert not calls

    latents[:, 0, 0, 0] = UNKNOWN_CODE
    with ForwardCalls(code_pipe.transformer) as calls:
        codes_of(code_pipe, input_ids=PROMPT_IDS, latents=latents, guidance_scale=1.0)
    # The prompt and the steps of the first frame; nothing reads the others.
    assert len(calls) == 1 + 3

    latents[:, 2, 0, 0] = UNKNOWN_CODE
    with ForwardCalls(code_pipe.transformer) as calls:
        codes_of(code_pipe, input_ids=PROMPT_IDS, latents=latents, guidance_scale=1.0)
    # One pass each for the first frame, made in part, and the second one, given whole.
    assert len(calls) == 1 + 3 + 2 + 3


def test_what_later_frames_see_of_given_codes(code_pipe):
    """Frames given whole are history as they are; of others the given codes stay, and the rest is masked as usual."""
    latents = random_codes(1, T, H, W)
    latents[:, 0] = with_holes(latents[:, 0], 0.5)
    latents[:, 2] = UNKNOWN_CODE
    with ForwardCalls(code_pipe.transformer) as calls:
        codes_of(code_pipe, input_ids=PROMPT_IDS, latents=latents, guidance_scale=1.0, history_mask_ratio=1.0)
    in_part, whole = calls[1 + 3], calls[1 + 3 + 1]
    mask_token_id = code_pipe.transformer.config.mask_token_id
    assert (whole == mask_token_id).sum() == 0
    is_masked = (in_part == mask_token_id)[0, visual_positions(H, W)]
    assert torch.equal(is_masked, latents[0, 0].flatten() == UNKNOWN_CODE)
    # With their new lines.
    assert (in_part == mask_token_id).sum() == is_masked.sum() + H


@pytest.mark.slow
@pytest.mark.parametrize("guidance_scale", [1.0, 3.0])
def test_a_batch_equals_single_calls_for_unlike_holes(either_pipe, guidance_scale):
    """Also where a row has nothing to make in a frame: its random numbers and its temperature wait."""
    latents = with_holes(random_codes(3, T, H, W), 0.4)
    latents[0, 1] = random_codes(H, W, seed=1)
    latents[1, 0] = random_codes(H, W, seed=2)
    latents[2, 2] = UNKNOWN_CODE
    options = {"guidance_scale": guidance_scale}
    batch = codes_of(either_pipe, input_ids=ROWS, latents=latents, generator=generators(0, 1, 2), **options)
    for row, input_ids in enumerate(ROWS):
        single = codes_of(
            either_pipe, input_ids=input_ids, latents=latents[row : row + 1], generator=generators(row), **options
        )
        assert torch.equal(batch[row], single[0])


def test_steps_keep_their_share_of_the_codes_to_make(code_pipe):
    """As many codes are left after each step as in a frame that has only so many codes."""
    latents = random_codes(1, 1, H, W)
    latents[:, :, :, : W // 2] = UNKNOWN_CODE
    left = []

    def callback(pipe, step, timestep, callback_kwargs):
        left.append(int((callback_kwargs["latents"] == UNKNOWN_CODE).sum()))
        return {}

    options = {"input_ids": PROMPT_IDS, "num_frames": 1, "num_inference_steps": 4, "callback_on_step_end": callback}
    codes_of(code_pipe, latents=latents, **options)
    # floor(16 * cos(pi / 2 * s / 4))
    assert left == [14, 11, 6, 0]


@pytest.mark.slow
def test_streams_with_given_codes(code_pipe):
    options = {"input_ids": PROMPT_IDS, "latents": with_holes(random_codes(1, T, H, W), 0.5)}
    expected = codes_of(code_pipe, **options)
    parts = code_pipe.stream(output_type="latent", generator=generators(0)[0], **{**SMALL, **options})
    assert torch.equal(torch.cat(list(parts), dim=1), expected)
