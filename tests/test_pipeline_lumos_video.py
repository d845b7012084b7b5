# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
import inspect
import io
import json
import math
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import PIL.Image
import pytest
import torch
from accelerate import cpu_offload
from diffusers.callbacks import PipelineCallback
from tiny_models import NUM_CODES, tiny_config
from tiny_pipelines import (
    CAPTIONS,
    PROMPT_IDS,
    SMALL,
    ForwardCalls,
    H,
    W,
    build_pipeline,
    codes_of,
    generators,
    random_codes,
    random_image,
    tiny_vqvae,
)
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
from torch.ao.quantization import quantize_dynamic
from transformers import PreTrainedTokenizerFast

from lumos_hf import call_inputs, demo_checkpoint, modeling_lumos
from lumos_hf.decoding.approximations import DecodingApproximations
from lumos_hf.decoding.frame_decoder import FrameDecoder, guide
from lumos_hf.generation_defaults import resolve_default
from lumos_hf.pipeline_lumos_video import LumosPipelineOutput, LumosVideoPipeline
from lumos_hf.scheduling_mask_decoding import MaskDecodingScheduler, halton_order
from lumos_hf.token_layout import UNKNOWN_CODE, prompt_ids, prompt_text, sequence_from_codes, video_duration


@pytest.fixture(scope="module")
def pipe():
    return build_pipeline()


@pytest.fixture(scope="module")
def code_pipe():
    """From ids to codes, without text tokenizer and video tokenizer."""
    return build_pipeline(tokenizer=None, vqvae=None)


# Results


@pytest.mark.slow
@pytest.mark.parametrize("num_frames", [1, 5, 9])
def test_output_types(pipe, num_frames):
    options = {**SMALL, "num_frames": num_frames}

    def run(output_type):
        output = pipe("a red kite", output_type=output_type, generator=torch.Generator().manual_seed(0), **options)
        assert isinstance(output, LumosPipelineOutput)
        return output.frames

    codes, pt, array, pil = (run(output_type) for output_type in ("latent", "pt", "np", "pil"))
    assert codes.shape == (1, (num_frames - 1) // 4 + 1, H, W) and codes.dtype == torch.long
    assert 0 <= codes.min() and codes.max() < NUM_CODES
    assert pt.shape == (1, num_frames, 3, 32, 64) and 0 <= pt.min() and pt.max() <= 1
    assert array.shape == (1, num_frames, 32, 64, 3) and array.dtype == np.float32
    np.testing.assert_array_equal(array, pt.permute(0, 1, 3, 4, 2).numpy())
    assert len(pil) == 1 and len(pil[0]) == num_frames
    assert isinstance(pil[0][0], PIL.Image.Image) and pil[0][0].size == (64, 32)
    np.testing.assert_array_equal(np.array(pil[0][-1]), np.floor(array[0, -1] * 255))

    with torch.no_grad():
        decoded = pipe.vqvae.decode(codes)
    torch.testing.assert_close(pt.transpose(1, 2), (decoded / 2 + 0.5).clamp(0, 1))


@pytest.mark.slow
def test_pil_is_the_default_and_tuples_are_returned_on_request(pipe):
    (frames,) = pipe("a red kite", return_dict=False, **{**SMALL, "num_frames": 1})
    assert isinstance(frames[0][0], PIL.Image.Image)


def test_the_call_has_the_agreed_arguments():
    parameters = list(inspect.signature(LumosVideoPipeline.__call__).parameters)[1:]
    assert (
        parameters
        == (
            "prompt negative_prompt image video height width num_frames fps num_inference_steps guidance_scale "
            "history_mask_ratio num_videos_per_prompt generator input_ids attention_mask latents output_type return_dict "
            "callback_on_step_end callback_on_step_end_tensor_inputs approximations attention_kwargs mask preserve_unmasked "
            "strength prompt_segments temporal_tile_size temporal_overlap"
        ).split()
    )


@pytest.mark.slow
def test_fixed_slice(code_pipe):
    codes = codes_of(code_pipe, input_ids=PROMPT_IDS)
    assert codes[0, 0, 0].tolist() == [42, 22, 22, 22, 44, 22, 48, 20]
    assert codes[0, -1, -1].tolist() == [42, 42, 39, 0, 14, 41, 10, 41]


@pytest.mark.slow
def test_random_numbers_come_from_the_generator(code_pipe):
    first, again, other = (codes_of(code_pipe, input_ids=PROMPT_IDS, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


# Against a decoding loop without cache, batches or padding


def reference_codes(pipe, prefixes, codes, duration, fps, scale, ratio, num_steps, seed):
    """
    One video by recomputing the whole sequence in every step. `prefixes` are those of the conditional and of the
    unconditional branch, `codes` are `(t, h, w)` with `UNKNOWN_CODE` where a frame is to be made.
    """
    config, scheduler = pipe.transformer.config, pipe.scheduler
    generator = torch.Generator().manual_seed(seed)
    codes, shown = codes.clone(), codes.clone()
    content = torch.arange(H * (W + 1))[scheduler.history_mask_indices(H * (W + 1), ratio)]
    masked_history = []
    scheduler.set_timesteps(num_steps)

    def logits_of_last_frame(prefix, num_frames):
        ids = sequence_from_codes(prefix, shown[:num_frames], duration, fps, config, closed=False)
        frame_start = len(prefix) + 3 + torch.arange(num_frames) * (H * (W + 1) + 4)
        for frame in masked_history:
            ids[frame_start[frame] + 3 + content] = config.mask_token_id
        visual = frame_start[-1] + 3 + torch.arange(H * (W + 1)).view(H, W + 1)[:, :W].flatten()
        logits = pipe.transformer(input_ids=ids[None], use_cache=False).logits
        return logits[:, visual, config.visual_token_offset : config.visual_token_offset + NUM_CODES]

    for frame in range(len(codes)):
        if (codes[frame] != UNKNOWN_CODE).all():
            continue
        for timestep in scheduler.timesteps:
            conditional, unconditional = (logits_of_last_frame(prefix, frame + 1) for prefix in prefixes)
            logits = unconditional + scale * (conditional - unconditional)
            sample = shown[frame].view(1, -1)
            shown[frame] = scheduler.step(logits, timestep, sample, generator).prev_sample.view(H, W)
        codes[frame] = shown[frame]
        masked_history.append(frame)
    return codes


@pytest.mark.slow
@pytest.mark.parametrize("negative_prefix", [[], [0, 8, 102]])
@pytest.mark.parametrize("num_given", [0, 1, 2])
@torch.no_grad()
def test_equals_a_loop_that_recomputes_everything(code_pipe, negative_prefix, num_given, monkeypatch):
    given = random_codes(1, num_given, H, W) if num_given else None
    monkeypatch.setattr(code_pipe, "tokenize_prompt", lambda *_, **__: ([PROMPT_IDS], [negative_prefix]))
    codes = codes_of(code_pipe, input_ids=PROMPT_IDS, latents=given, num_frames=13, history_mask_ratio=0.4, seed=3)

    start = torch.full((4, H, W), UNKNOWN_CODE)
    if num_given:
        start[:num_given] = given[0]
    prefixes = PROMPT_IDS, negative_prefix
    expected = reference_codes(code_pipe, prefixes, start, 3, 4, scale=3.0, ratio=0.4, num_steps=3, seed=3)
    assert torch.equal(codes[0], expected)


# Prompts


@pytest.mark.slow
def test_prompt_text_and_header(pipe):
    with ForwardCalls(pipe.transformer) as calls:
        codes_of(pipe, "a red kite", num_frames=9, fps=3)
    config = pipe.transformer.config
    text = prompt_text("a red kite", height=32, width=64, duration=3, fps=3)
    assert "64x32, consisting of 9 frames at 3 frames per second" in text
    expected = prompt_ids(pipe.tokenizer(text).input_ids, config)
    header = [config.video_start_token_id, config.size_token_offset + 3, config.size_token_offset + 3]
    assert calls[0].tolist() == [[*expected, *header]]
    assert calls[1].tolist() == [header]


def test_images_are_one_frame_per_second_unless_told_otherwise(pipe):
    offset = pipe.transformer.config.size_token_offset
    for fps, token in ((None, offset + 1), (8, offset + 8)):
        with ForwardCalls(pipe.transformer) as calls:
            codes_of(pipe, "waves", num_frames=1, fps=fps)
        assert calls[0][0, -2:].tolist() == [offset + 1, token]


@pytest.mark.slow
def test_the_frame_rate_of_the_checkpoint_holds_for_images_too():
    pipe = build_pipeline(vqvae=None, default_fps=8)
    with ForwardCalls(pipe.transformer) as calls:
        codes_of(pipe, "waves", num_frames=1, fps=None)
    assert calls[0][0, -1] == pipe.transformer.config.size_token_offset + 8


@pytest.mark.slow
def test_a_prompt_equals_its_input_ids(pipe):
    text = prompt_text("waves", height=32, width=64, duration=video_duration(9, 4), fps=4)
    ids = prompt_ids(pipe.tokenizer(text).input_ids, pipe.transformer.config)
    expected = codes_of(pipe, "waves")
    for input_ids in (ids, [ids], torch.tensor(ids), torch.tensor([ids]), [torch.tensor(ids)], list(np.array(ids))):
        assert torch.equal(codes_of(pipe, input_ids=input_ids), expected)


@pytest.mark.slow
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_of_input_ids_is_left_out(code_pipe, side):
    padding = [0, 0]
    rows = [padding + PROMPT_IDS, PROMPT_IDS + padding]
    row = rows[0] if side == "left" else rows[1]
    attention_mask = [int(side == "right")] * 2 + [1] * 3 + [int(side == "left")] * 2
    codes = codes_of(code_pipe, input_ids=torch.tensor([row]), attention_mask=torch.tensor([attention_mask]))
    assert torch.equal(codes, codes_of(code_pipe, input_ids=PROMPT_IDS))


@pytest.mark.slow
def test_negative_prompts_replace_the_unconditional_branch(pipe):
    plain = codes_of(pipe, "waves")
    assert not torch.equal(codes_of(pipe, "waves", negative_prompt="a red kite"), plain)
    assert torch.equal(codes_of(pipe, "waves", negative_prompt=""), plain)
    guided_by_itself = codes_of(pipe, "waves", negative_prompt="waves")
    assert torch.equal(guided_by_itself, codes_of(pipe, "waves", guidance_scale=1.0))


# Batches


@pytest.mark.slow
@pytest.mark.parametrize("negative_prompt", [None, "a red cat runs", ["", "grass", "a red kite climbs", ""]])
@pytest.mark.parametrize("image", [False, True])
def test_a_batch_equals_single_calls(pipe, negative_prompt, image):
    seeds = range(4)
    images = [random_image(seed=seed) for seed in seeds] if image else None
    batch = codes_of(
        pipe, CAPTIONS, negative_prompt=negative_prompt, image=images, generator=generators(*seeds), num_frames=9
    )
    assert len({tuple(codes.flatten().tolist()) for codes in batch}) == 4
    for row in seeds:
        single = codes_of(
            pipe,
            CAPTIONS[row],
            negative_prompt=negative_prompt[row] if isinstance(negative_prompt, list) else negative_prompt,
            image=images[row] if image else None,
            generator=generators(row),
        )
        assert torch.equal(batch[row], single[0])


@pytest.mark.slow
def test_input_ids_of_different_lengths(code_pipe):
    rows = [PROMPT_IDS, [0, 9, 102], [0, 3, 4, 5, 6, 7, 8, 102]]
    batch = codes_of(code_pipe, input_ids=rows, generator=generators(0, 1, 2))
    for row, input_ids in enumerate(rows):
        assert torch.equal(batch[row : row + 1], codes_of(code_pipe, input_ids=input_ids, seed=row))


@pytest.mark.slow
def test_num_videos_per_prompt(pipe):
    with ForwardCalls(pipe.transformer) as calls:
        codes = codes_of(pipe, CAPTIONS[:2], num_videos_per_prompt=2, generator=generators(0, 1, 2, 3))
    # Videos of one prompt share what is cached of it.
    assert [len(ids) for ids in calls[:3]] == [2, 2, 4]
    for row, (caption, seed) in enumerate(zip([CAPTIONS[0]] * 2 + [CAPTIONS[1]] * 2, range(4))):
        assert torch.equal(codes[row : row + 1], codes_of(pipe, caption, seed=seed))


@pytest.mark.slow
def test_given_frames_go_with_their_prompts(code_pipe):
    given = random_codes(2, 1, H, W)
    codes = codes_of(code_pipe, input_ids=[PROMPT_IDS, PROMPT_IDS], latents=given, num_videos_per_prompt=2)
    assert torch.equal(codes[:, :1], given.repeat_interleave(2, dim=0))
    shared = codes_of(code_pipe, input_ids=[PROMPT_IDS, PROMPT_IDS], latents=given[:1])
    assert torch.equal(shared[:, :1], given[:1].expand(2, -1, -1, -1))


# Guidance and steps


def num_forward_calls(pipe, **options):
    with ForwardCalls(pipe.transformer) as calls:
        codes_of(pipe, input_ids=PROMPT_IDS, **options)
    return len(calls)


@pytest.mark.slow
def test_forward_passes_per_step(code_pipe):
    # Prompt, three frames of three steps, two frames into the history; twice with guidance.
    assert num_forward_calls(code_pipe, guidance_scale=1.0) == 1 + 3 * 3 + 2
    assert num_forward_calls(code_pipe, guidance_scale=2.0) == 2 * (1 + 3 * 3 + 2)
    assert num_forward_calls(code_pipe, guidance_scale=1.0, num_frames=1) == 1 + 3


def test_guidance_of_one_is_the_conditional_branch(code_pipe):
    latents = torch.full((1, H, W), UNKNOWN_CODE)
    decoder = FrameDecoder(
        code_pipe.transformer,
        code_pipe.scheduler,
        prefixes=[PROMPT_IDS],
        negative_prefixes=[[]],
        header_ids=[131, 106, 108],
        codes=latents[:, None],
        num_given=0,
        num_inference_steps=1,
        history_mask_ratio=0.5,
    )
    with torch.no_grad():
        branches = decoder._branches_up_to_date(is_guided=True)
        conditional, unconditional = logits = decoder._all_logits(branches, latents)
        torch.testing.assert_close(guide(logits, 1.0), conditional, atol=1e-4, rtol=0)
        torch.testing.assert_close(guide(logits[:1], 2.5), conditional, atol=0, rtol=0)
    torch.testing.assert_close(guide(logits, 2.5), 2.5 * conditional - 1.5 * unconditional, atol=1e-4, rtol=0)


@pytest.mark.parametrize("ratio, num_masked", [(0.0, 1), (0.5, 18), (1.0, 36)])
def test_history_is_masked_in_part_and_given_frames_are_not(code_pipe, ratio, num_masked):
    given = random_codes(1, 1, H, W)
    with ForwardCalls(code_pipe.transformer) as calls:
        codes = codes_of(code_pipe, input_ids=PROMPT_IDS, latents=given, history_mask_ratio=ratio)
    mask_token_id = code_pipe.transformer.config.mask_token_id
    for prompt_and_given in calls[:2]:
        assert (prompt_and_given == mask_token_id).sum() == 0
    first_frame, history = calls[2], calls[2 + 2 * 3]
    assert (first_frame == mask_token_id).sum() == H * W
    assert (history == mask_token_id).sum() == num_masked
    assert torch.equal(codes[:, :1], given)
    assert (codes != UNKNOWN_CODE).all()


def test_one_step_is_enough(code_pipe):
    codes = codes_of(code_pipe, input_ids=PROMPT_IDS, latents=random_codes(1, 1, H, W), num_inference_steps=1)
    assert codes.shape == (1, 3, H, W) and (codes != UNKNOWN_CODE).all()


# Fast and plain steps


class SchedulerWithOwnStep(MaskDecodingScheduler):
    """The same step, but the pipeline cannot know that."""

    def step(self, *arguments, **options):
        return super().step(*arguments, **options)


class SchedulerWithOwnSampling(MaskDecodingScheduler):
    """Of before logits could be overwritten."""

    def sample_tokens(self, logits, uniforms=None):
        return super().sample_tokens(logits, uniforms)


def plain(pipe):
    """The same components, but every step holds all logits and is one call of the scheduler."""
    scheduler = SchedulerWithOwnStep.from_config(pipe.scheduler.config)
    result = LumosVideoPipeline(**{**pipe.components, "scheduler": scheduler})
    result.set_progress_bar_config(disable=True)
    return result


@pytest.mark.slow
@pytest.mark.parametrize("guidance_scale", [1.0, 3.0])
@pytest.mark.parametrize("bytes_of_logits", [1, 7 * 4 * NUM_CODES, 2**25])
def test_fast_steps_equal_plain_steps(code_pipe, guidance_scale, bytes_of_logits, monkeypatch):
    monkeypatch.setitem(modeling_lumos.MAX_LOGITS_BYTES, "cpu", bytes_of_logits)
    rows = [PROMPT_IDS, [0, 9, 102], [0, 3, 4, 5, 6, 7, 8, 102]]
    results = [
        codes_of(pipe, input_ids=rows, generator=generators(0, 1, 2), guidance_scale=guidance_scale)
        for pipe in (code_pipe, plain(code_pipe))
    ]
    assert torch.equal(*results)


@pytest.mark.slow
def test_rows_may_have_different_numbers_of_undecided_codes(code_pipe):
    """None at all in one of them, and later none in any."""

    def callback(pipe, step, timestep, callback_kwargs):
        latents = callback_kwargs["latents"].clone()
        latents[0] = 17
        latents[1, : 2 * step] = 18
        return {"latents": latents}

    results = [
        codes_of(
            pipe, input_ids=[PROMPT_IDS] * 2, generator=generators(0, 1), num_frames=5, callback_on_step_end=callback
        )
        for pipe in (code_pipe, plain(code_pipe))
    ]
    assert torch.equal(*results)


def test_logits_never_exist_for_more_than_a_chunk(code_pipe, monkeypatch):
    # Of which a sampler of its own holds half, as its probabilities stand beside the logits.
    rows_per_chunk = 10
    monkeypatch.setitem(modeling_lumos.MAX_LOGITS_BYTES, "cpu", rows_per_chunk * 4 * NUM_CODES)
    numbers_of_rows: list[int] = []

    def record(module, args, kwargs, output):
        if output.logits is not None:
            numbers_of_rows.append(output.logits.shape[:-1].numel())

    handle = code_pipe.transformer.register_forward_hook(record, with_kwargs=True)
    codes = codes_of(code_pipe, input_ids=PROMPT_IDS, num_frames=1, generator=generators(0))
    # Three steps for 32, 27 and 15 undecided codes, in chunks of about one size.
    assert numbers_of_rows == [8] * 4 + [9] * 3 + [8, 7]

    numbers_of_rows.clear()
    own_sampling = LumosVideoPipeline(
        **{**code_pipe.components, "scheduler": SchedulerWithOwnSampling.from_config(code_pipe.scheduler.config)}
    )
    own_sampling.set_progress_bar_config(disable=True)
    assert torch.equal(codes_of(own_sampling, input_ids=PROMPT_IDS, num_frames=1, generator=generators(0)), codes)
    handle.remove()
    assert numbers_of_rows == [5] * 4 + [4] * 3 + [5] * 3 + [4] * 3 + [5] * 3


class LowRankHead(torch.nn.Module):
    """What an adapter makes of an output head: a product beside the original one."""

    def __init__(self, base):
        super().__init__()
        self.base = base
        self.down = torch.nn.Linear(base.in_features, 2, bias=False)
        self.up = torch.nn.Linear(2, base.out_features, bias=False)

    def forward(self, hidden_states):
        return self.base(hidden_states) + self.up(self.down(hidden_states))


@pytest.mark.slow
def test_wrapped_heads_are_called_as_they_are():
    pipe = build_pipeline(tokenizer=None, vqvae=None)
    unwrapped = codes_of(pipe, input_ids=PROMPT_IDS)
    pipe.transformer.lm_head = LowRankHead(pipe.transformer.lm_head)
    assert not pipe.transformer.has_plain_head
    codes = codes_of(pipe, input_ids=PROMPT_IDS)
    assert torch.equal(codes, codes_of(plain(pipe), input_ids=PROMPT_IDS))
    assert not torch.equal(codes, unwrapped)


@pytest.mark.slow
def test_quantised_heads_are_called_as_they_are():
    pipe = build_pipeline(tokenizer=None, vqvae=None)
    quantize_dynamic(pipe.transformer, {"lm_head"}, inplace=True)
    assert not pipe.transformer.has_plain_head
    codes = codes_of(pipe, input_ids=PROMPT_IDS)
    assert codes.shape == (1, 3, H, W) and (codes != UNKNOWN_CODE).all()


# Approximations


ROWS = [PROMPT_IDS, [0, 9, 102], [0, 3, 4, 5, 6, 7, 8, 102]]
# Each of them alone, and together. The random weights are never as sure of a code as a trained model is.
APPROXIMATIONS = {
    "interval": {"guidance_interval": (0.2, 0.7)},
    "skip range": {"unconditional_skip_range": 2},
    "threshold": {"confidence_threshold": 0.03},
    "entropy bound": {"entropy_bound": 8.0},
    "halton": {"decoding_order": "halton"},
    "window": {"history_window": 1, "history_keep_ratio": 0.5},
    "all": {
        "guidance_interval": (0.0, 0.9),
        "unconditional_skip_range": 3,
        "confidence_threshold": 0.03,
        "decoding_order": "halton",
        "history_window": 0,
    },
}


def approximate_codes(pipe, name, **options):
    options = {"num_frames": 13, "num_inference_steps": 4, **options}
    return codes_of(pipe, approximations=DecodingApproximations(**APPROXIMATIONS[name]), **options)


@pytest.mark.slow
@pytest.mark.parametrize(
    "values",
    [
        {},
        {"guidance_interval": (0.0, 1.0), "unconditional_skip_range": 1},
        {"history_window": 3},
        {"history_window": 0, "history_keep_ratio": 1.0},
    ],
)
@pytest.mark.parametrize("num_given", [0, 3])
def test_approximations_that_leave_out_nothing(code_pipe, values, num_given):
    options = {"input_ids": ROWS, "latents": random_codes(3, num_given, H, W) if num_given else None, "num_frames": 17}
    approximations = DecodingApproximations(**values)
    results = [codes_of(code_pipe, approximations=each, **options) for each in (None, approximations)]
    assert torch.equal(*results)


@pytest.mark.slow
@pytest.mark.parametrize("name", APPROXIMATIONS)
def test_approximations_change_the_result_alike_in_fast_and_plain_steps(code_pipe, name):
    options = {"input_ids": ROWS, "num_frames": 13, "num_inference_steps": 4}
    results = [
        approximate_codes(pipe, name, input_ids=ROWS, generator=generators(0, 1, 2))
        for pipe in (code_pipe, plain(code_pipe))
    ]
    assert torch.equal(*results)
    assert (results[0] != UNKNOWN_CODE).all()
    assert not torch.equal(results[0], codes_of(code_pipe, generator=generators(0, 1, 2), **options))


@pytest.mark.slow
def test_prompts_of_other_lengths_are_read_as_alone_in_bfloat16():
    """To the bit: padding beside a prompt must not change how the kernels sum up its tokens."""
    pipe = LumosVideoPipeline.from_pretrained(demo_checkpoint(), dtype=torch.bfloat16)
    pipe.set_progress_bar_config(disable=True)
    read = []
    pipe.transformer.model.layers[0].self_attn.register_forward_hook(lambda *call: read.append(call[-1][0]))

    def states_of_prompts(prompts):
        read.clear()
        pipe(prompts, num_frames=1, num_inference_steps=1, output_type="latent")
        return read[0]

    prompts = ["A red star.", "A purple heart floats up by the sea.", "A blue circle jumps in the snow."]
    batch = states_of_prompts(prompts)
    for row, prompt in enumerate(prompts):
        alone = states_of_prompts(prompt)[0]
        assert torch.equal(batch[row, -len(alone) :], alone)


@pytest.mark.slow
@pytest.mark.parametrize("name", APPROXIMATIONS)
def test_approximated_batches_equal_single_calls(code_pipe, name):
    """Also where a row's frame is complete when those of other rows are not."""
    batch = approximate_codes(
        code_pipe, name, input_ids=ROWS, num_videos_per_prompt=2, generator=generators(*range(6))
    )
    for row in range(6):
        single = approximate_codes(code_pipe, name, input_ids=ROWS[row // 2], generator=generators(row))
        assert torch.equal(batch[row : row + 1], single)


@pytest.mark.slow
def test_the_share_of_steps_is_one_of_the_default():
    pipe = build_pipeline(tokenizer=None, vqvae=None, default_num_inference_steps=4)
    half = {"approximations": DecodingApproximations(step_ratio=0.5), "guidance_scale": 1.0, "num_frames": 1}
    assert num_forward_calls(pipe, num_inference_steps=None, **half) == 1 + 2
    assert num_forward_calls(pipe, num_inference_steps=6, **half) == 1 + 6
    assert num_forward_calls(pipe, num_inference_steps=None, guidance_scale=1.0, num_frames=1) == 1 + 4


@pytest.mark.slow
@pytest.mark.parametrize(
    "values, num_unconditional_steps",
    [
        ({"guidance_interval": (0.0, 0.5)}, 3),
        ({"guidance_interval": (0.5, 0.6)}, 1),
        ({"guidance_interval": (1.0, 1.0)}, 0),
        ({"unconditional_skip_range": 2}, 3),
        ({"unconditional_skip_range": 4}, 2),
    ],
)
def test_skipped_passes_of_the_unconditional_branch(code_pipe, values, num_unconditional_steps):
    approximations = DecodingApproximations(**values)
    # Three frames of six steps. The prompt and two frames are cached for both branches in any case.
    expected = 2 * (1 + 2) + 3 * (6 + num_unconditional_steps)
    assert num_forward_calls(code_pipe, num_inference_steps=6, approximations=approximations) == expected
    unguided = num_forward_calls(code_pipe, num_inference_steps=6, guidance_scale=1.0, approximations=approximations)
    assert unguided == 1 + 2 + 3 * 6


def test_a_frame_of_sure_codes_takes_one_pass(code_pipe):
    approximations = DecodingApproximations(confidence_threshold=0.0)
    assert num_forward_calls(code_pipe, approximations=approximations) == 2 * (1 + 3 + 2)
    codes, one_step = (
        codes_of(code_pipe, input_ids=PROMPT_IDS, num_frames=1, **options)
        for options in ({"approximations": approximations}, {"num_inference_steps": 1})
    )
    assert torch.equal(codes, one_step)


def test_a_frame_within_the_entropy_bound_takes_one_pass(code_pipe):
    # 32 codes of at most log(50) nats each.
    approximations = DecodingApproximations(entropy_bound=32 * math.log(NUM_CODES))
    assert num_forward_calls(code_pipe, approximations=approximations) == 2 * (1 + 3 + 2)


@pytest.mark.slow
@pytest.mark.parametrize("steps, total", [([4], 12), ([4, 1], 6), ((3, 2, 1), 6), ([1, 2, 3, 9], 6)])
def test_steps_of_each_frame(code_pipe, steps, total):
    seen = []

    def callback(pipe, step, timestep, callback_kwargs):
        seen.append((step, int(timestep)))
        assert pipe.num_timesteps == total
        return {}

    codes = codes_of(code_pipe, input_ids=PROMPT_IDS, num_inference_steps=steps, callback_on_step_end=callback)
    taken = [*steps, steps[-1], steps[-1]][:3]
    assert seen == list(enumerate(step for count in taken for step in range(count)))
    assert (codes != UNKNOWN_CODE).all()


@pytest.mark.slow
def test_a_list_of_equal_steps_is_one_number(code_pipe):
    options = {"input_ids": PROMPT_IDS, "approximations": DecodingApproximations(unconditional_skip_range=2)}
    for number in (1, 3):
        results = [codes_of(code_pipe, num_inference_steps=each, **options) for each in (number, [number] * 3)]
        assert torch.equal(*results)


@pytest.mark.slow
def test_steps_of_each_frame_begin_as_those_of_all(code_pipe):
    short, long = (codes_of(code_pipe, input_ids=PROMPT_IDS, num_inference_steps=steps) for steps in ([4, 1], 4))
    assert torch.equal(short[:, 0], long[:, 0]) and not torch.equal(short, long)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options", [{"num_inference_steps": [4, 2, 1]}, {"approximations": DecodingApproximations(entropy_bound=8.0)}]
)
def test_rows_with_steps_of_their_own_equal_single_calls(code_pipe, options):
    batch = codes_of(code_pipe, input_ids=ROWS, generator=generators(0, 1, 2), **options)
    for row, ids in enumerate(ROWS):
        assert torch.equal(batch[row], codes_of(code_pipe, input_ids=ids, generator=generators(row), **options)[0])


def test_callbacks_see_the_steps_of_complete_frames_and_may_mask_codes_again(code_pipe):
    seen = []

    def callback(pipe, step, timestep, callback_kwargs):
        latents = callback_kwargs["latents"].clone()
        seen.append(int((latents == UNKNOWN_CODE).sum()))
        if timestep == 1:
            latents[:, 0] = UNKNOWN_CODE
        return {"latents": latents}

    approximations = DecodingApproximations(confidence_threshold=0.0, unconditional_skip_range=2)
    options = {"num_inference_steps": 4, "approximations": approximations, "callback_on_step_end": callback}
    with ForwardCalls(code_pipe.transformer) as calls:
        codes = codes_of(code_pipe, input_ids=PROMPT_IDS, num_frames=1, **options)
    assert seen == [0, 0, 0, 0]
    # Prompt, first and third step, each twice.
    assert len(calls) == 2 * (1 + 2)
    assert (codes != UNKNOWN_CODE).all()


@pytest.mark.slow
def test_codes_are_decided_in_the_halton_order(code_pipe):
    order, seen = halton_order(H, W), []

    def callback(pipe, step, timestep, callback_kwargs):
        decided = callback_kwargs["latents"].flatten() != UNKNOWN_CODE
        seen.append(int(decided.sum()))
        assert decided[order[: seen[-1]]].all()
        return {}

    approximations = DecodingApproximations(decoding_order="halton")
    codes_of(code_pipe, input_ids=PROMPT_IDS, approximations=approximations, callback_on_step_end=callback)
    assert seen == [5, 17, 32] * 3


@pytest.mark.parametrize("num_given", [0, 3])
def test_what_a_frame_sees_of_the_history(code_pipe, num_given):
    """Lengths and positions of what is cached when frames are decoded; nothing is reserved beyond that."""
    frame, seen = H * (W + 1) + 4, []

    def record(module, args, kwargs):
        if kwargs.get("cache") is not None:
            layer = kwargs["cache"].layers[0]
            seen.append((layer.get_seq_length(), layer.capacity, kwargs["position_ids"][0, 0, 0].item()))

    handle = code_pipe.transformer.register_forward_pre_hook(record, with_kwargs=True)
    latents = random_codes(1, num_given, H, W) if num_given else None
    codes_of(
        code_pipe,
        input_ids=PROMPT_IDS,
        latents=latents,
        num_frames=21,
        num_inference_steps=1,
        guidance_scale=1.0,
        approximations=DecodingApproximations(history_window=1, history_keep_ratio=0.25),
    )
    handle.remove()
    prefix = len(PROMPT_IDS) + 3
    # The first frame, then a quarter of older ones, and the latest one.
    cached = [prefix + frame * min(k, 2) + frame // 4 * max(0, k - 2) for k in range(6)]
    capacity = max(cached[5] + frame, prefix + num_given * frame)
    steps, histories = seen[1::2], seen[2::2]
    assert steps == [(cached[k], capacity, prefix + k * frame) for k in range(num_given, 6)]
    assert [position for _, _, position in histories] == [prefix + k * frame for k in range(num_given, 5)]


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{"approximations": "fast"}, {"num_inference_steps": [3, 1]}])
def test_approximated_streams(pipe, changes):
    options = {**SMALL, "num_frames": 17, "output_type": "latent", **changes}
    expected = pipe(CAPTIONS[:2], generator=generators(0, 1), **options).frames
    parts = list(pipe.stream(CAPTIONS[:2], generator=generators(0, 1), **options))
    assert torch.equal(torch.cat(parts, dim=1), expected)


# Sizes and defaults


@pytest.mark.slow
def test_num_frames_is_rounded_up_with_a_warning(code_pipe, caplog):
    codes = codes_of(code_pipe, input_ids=PROMPT_IDS, num_frames=6)
    assert "`num_frames` must be 1 plus a multiple of 4: 6 is rounded up to 9." in caplog.text
    assert torch.equal(codes, codes_of(code_pipe, input_ids=PROMPT_IDS, num_frames=9))


@pytest.mark.slow
def test_numbers_may_be_those_of_numpy(code_pipe):
    integers = {"height": 32, "width": 64, "num_frames": 9, "fps": 4, "num_inference_steps": 3}
    numbers = {**{name: np.int64(value) for name, value in integers.items()}, "guidance_scale": np.float32(3)}
    assert torch.equal(codes_of(code_pipe, input_ids=PROMPT_IDS, **numbers), codes_of(code_pipe, input_ids=PROMPT_IDS))


@pytest.mark.slow
def test_defaults_come_from_the_checkpoint_or_else_from_the_official_code():
    defaults = {
        "default_height": 64,
        "default_width": 32,
        "default_num_frames": 5,
        "default_fps": 4,
        "default_num_inference_steps": 2,
        "default_guidance_scale": 2.0,
        "default_history_mask_ratio": 0.25,
    }
    pipe = build_pipeline(vqvae=None, **defaults)
    assert {name: pipe.config[name] for name in defaults} == defaults
    generator = torch.Generator().manual_seed(0)
    codes = pipe("waves", generator=generator, output_type="latent").frames
    explicit = {name.removeprefix("default_"): value for name, value in defaults.items()}
    assert torch.equal(codes, codes_of(pipe, "waves", **explicit))

    pipe = build_pipeline(vqvae=None)
    official = {
        "height": 384,
        "width": 672,
        "num_frames": 25,
        "fps": 12,
        "num_inference_steps": 50,
        "guidance_scale": 15.0,
        "history_mask_ratio": 0.7,
    }
    assert {name: resolve_default(name, None, pipe.config) for name in official} == official


@pytest.mark.slow
def test_components_that_do_not_fit():
    pipe = build_pipeline(vqvae=tiny_vqvae(levels=(5, 4, 2)))
    for arguments in ({"image": random_image(), "output_type": "latent"}, {"output_type": "np"}):
        with pytest.raises(ValueError, match="`vqvae` must fit `transformer.config.visual_vocab_size`, 60, got 40"):
            pipe("waves", **{**SMALL, **arguments})
    with pytest.raises(ValueError, match="`scheduler` must mark undecided codes with the `mask_value` -1, got -2"):
        build_pipeline(scheduler=MaskDecodingScheduler(mask_value=-2))


# Given images and videos


def encoded(pipe, *images):
    pixels = pipe.video_processor.preprocess_video(list(images), 32, 64)
    with torch.no_grad():
        return pipe.vqvae.encode(pixels).long()


@pytest.mark.slow
def test_an_image_is_the_first_frame(pipe):
    image = random_image()
    codes = codes_of(pipe, "waves", image=image)
    assert torch.equal(codes[:, :1], encoded(pipe, image))
    assert torch.equal(codes, codes_of(pipe, "waves", latents=encoded(pipe, image)))


@pytest.mark.slow
@pytest.mark.parametrize("num_given, num_used", [(1, 1), (4, 1), (5, 5), (8, 5), (9, 9)])
def test_a_video_is_continued(pipe, num_given, num_used, caplog):
    clip = [random_image(seed=seed) for seed in range(num_given)]
    codes = codes_of(pipe, "waves", video=clip)
    assert (f"`video` has {num_given} frames: the first {num_used}," in caplog.text) == (num_used < num_given)
    given = encoded(pipe, *clip[:num_used])
    assert codes.shape == (1, 3, H, W)
    assert torch.equal(codes[:, : given.shape[1]], given)


@pytest.mark.slow
def test_results_can_be_continued(pipe):
    frames = pipe("waves", output_type="pt", generator=torch.Generator().manual_seed(0), **SMALL).frames
    first_frames = (frames[:, :5] * 255).round() / 255
    from_tensor = codes_of(pipe, "waves", video=first_frames)
    array = first_frames.permute(0, 1, 3, 4, 2).numpy()
    from_array = codes_of(pipe, "waves", video=array)
    images = [PIL.Image.fromarray((frame * 255).round().astype(np.uint8)) for frame in array[0]]
    assert torch.equal(from_tensor, from_array)
    assert torch.equal(from_tensor, codes_of(pipe, "waves", video=images))


@pytest.mark.slow
def test_the_shape_of_an_image_chooses_the_size():
    pipe = build_pipeline(default_height=64, default_width=64)
    options = {"num_frames": 1, "output_type": "pil", "num_inference_steps": 1}
    for size, expected in (((200, 100), (64, 32)), ((100, 100), (64, 64)), ((50, 200), (32, 128))):
        image = random_image(height=size[1], width=size[0])
        assert pipe("waves", image=image, **options).frames[0][0].size == expected
    image = random_image(height=100, width=200)
    assert pipe("waves", image=image, height=96, width=64, **options).frames[0][0].size == (64, 96)


def test_latents_decide_on_the_size(code_pipe):
    latents = random_codes(1, 1, 8, 4)
    codes = codes_of(code_pipe, input_ids=PROMPT_IDS, latents=latents.int(), height=None, width=None)
    assert codes.shape == (1, 3, 8, 4) and codes.dtype == torch.long


@pytest.mark.slow
def test_codes_need_no_fitting_vqvae(code_pipe):
    pipe = build_pipeline(tokenizer=None, vqvae=tiny_vqvae(levels=(5, 4, 2)))
    assert torch.equal(codes_of(pipe, input_ids=PROMPT_IDS), codes_of(code_pipe, input_ids=PROMPT_IDS))


def test_nothing_is_left_to_make(code_pipe):
    latents = random_codes(1, 3, H, W)
    assert torch.equal(codes_of(code_pipe, input_ids=PROMPT_IDS, latents=latents), latents)


# Callbacks


@pytest.mark.slow
def test_callbacks_see_every_step(code_pipe):
    seen = []

    def callback(pipe, step, timestep, callback_kwargs):
        latents = callback_kwargs["latents"]
        seen.append((step, int(timestep), int((latents == UNKNOWN_CODE).sum())))
        assert latents.shape == (1, H, W)
        assert pipe.num_timesteps == 9 and pipe.current_timestep == timestep and pipe.guidance_scale == 3.0
        return {}

    codes = codes_of(code_pipe, input_ids=PROMPT_IDS, callback_on_step_end=callback)
    assert [step for step, _, _ in seen] == list(range(9))
    assert [timestep for _, timestep, _ in seen] == [0, 1, 2] * 3
    assert [num_unknown for _, _, num_unknown in seen] == [27, 15, 0] * 3
    assert code_pipe.current_timestep is None
    assert torch.equal(codes, codes_of(code_pipe, input_ids=PROMPT_IDS))


@pytest.mark.slow
def test_callbacks_change_codes(code_pipe):
    def callback(pipe, step, timestep, callback_kwargs):
        latents = callback_kwargs["latents"].clone()
        latents[:, 0] = 17
        return {"latents": latents}

    codes = codes_of(code_pipe, input_ids=PROMPT_IDS, callback_on_step_end=callback)
    assert (codes[:, :, 0] == 17).all()
    assert (codes[:, :, 1:] != 17).any()


@pytest.mark.slow
def test_callbacks_that_mask_the_last_step_leave_no_gaps(code_pipe):
    def callback(pipe, step, timestep, callback_kwargs):
        return {"latents": torch.full_like(callback_kwargs["latents"], UNKNOWN_CODE)}

    codes = codes_of(code_pipe, input_ids=PROMPT_IDS, callback_on_step_end=callback)
    assert (codes != UNKNOWN_CODE).all()


@pytest.mark.slow
@pytest.mark.parametrize("last_step, num_frames", [(0, 1), (4, 5), (8, 9)])
def test_an_interrupted_call_returns_the_frames_so_far(pipe, last_step, num_frames):
    def callback(pipe, step, timestep, callback_kwargs):
        pipe._interrupt = step == last_step
        return {}

    generator = torch.Generator().manual_seed(0)
    frames = pipe("waves", generator=generator, output_type="pil", callback_on_step_end=callback, **SMALL).frames
    assert len(frames[0]) == num_frames
    assert len(pipe("waves", **SMALL).frames[0]) == 9


def test_pipeline_callbacks_name_their_tensors(code_pipe):
    class Recorder(PipelineCallback):
        tensor_inputs = ["latents"]

        def __init__(self):
            super().__init__(cutoff_step_ratio=0.5)
            self.shapes = []

        def callback_fn(self, pipeline, step_index, timestep, callback_kwargs):
            self.shapes.append(callback_kwargs["latents"].shape)
            return callback_kwargs

    recorder = Recorder()
    codes_of(
        code_pipe,
        input_ids=PROMPT_IDS,
        num_frames=1,
        callback_on_step_end=recorder,
        callback_on_step_end_tensor_inputs=None,
    )
    assert recorder.shapes == [(1, H, W)] * 3


# Streams


@pytest.mark.slow
@pytest.mark.parametrize("output_type", ["pil", "np", "pt", "latent"])
@pytest.mark.parametrize("num_given", [0, 1, 2])
def test_a_stream_gives_the_frames_of_a_call(pipe, output_type, num_given):
    given = random_codes(2, num_given, H, W) if num_given else None
    options = {**SMALL, "latents": given, "output_type": output_type}
    captions = CAPTIONS[:2]
    expected = pipe(captions, generator=generators(0, 1), **options).frames
    parts = list(pipe.stream(captions, generator=generators(0, 1), **options))
    assert len(parts) == 3
    if output_type == "pil":
        assert [[len(frames) for frames in part] for part in parts] == [[1, 1], [4, 4], [4, 4]]
        for row, frames in enumerate(expected):
            streamed = [frame for part in parts for frame in part[row]]
            assert all(np.array_equal(*pair) for pair in zip(streamed, frames, strict=True))
    else:
        np.testing.assert_array_equal(np.concatenate(parts, axis=1), expected)


@pytest.mark.slow
def test_the_first_pixels_come_after_one_latent_frame(pipe):
    with ForwardCalls(pipe.transformer) as calls:
        stream = pipe.stream("waves", **SMALL)
        assert len(calls) == 0
        assert len(next(stream)[0]) == 1
        # Twice the prompt and three steps; nothing of the second frame.
        assert len(calls) == 2 * (1 + 3)
        assert torch.is_grad_enabled()
        stream.close()
    assert len(pipe("waves", **SMALL).frames[0]) == 9


@pytest.mark.slow
def test_a_stream_can_be_interrupted(pipe):
    def callback(pipe, step, timestep, callback_kwargs):
        pipe._interrupt = step == 4
        return {}

    parts = list(pipe.stream("waves", callback_on_step_end=callback, **SMALL))
    assert [len(part[0]) for part in parts] == [1, 4]


def test_bad_input_of_a_stream(pipe):
    with pytest.raises(ValueError, match="`fps` must be a positive integer, got 0"):
        next(pipe.stream("waves", **{**SMALL, "fps": 0}))


@pytest.mark.slow
def test_a_stream_with_model_offload(pipe):
    offloaded = build_pipeline()
    offloaded.enable_model_cpu_offload(device="cpu")
    expected, result = (
        list(each.stream("waves", output_type="pt", generator=torch.Generator().manual_seed(0), **SMALL))
        for each in (pipe, offloaded)
    )
    assert all(torch.equal(*parts) for parts in zip(expected, result, strict=True))


# State of a call


def streams_in_turns(*streams):
    """The codes of streams, one frame of each at a time."""
    parts = [[] for _ in streams]
    for frames in zip(*streams, strict=True):
        for part, frame in zip(parts, frames, strict=True):
            part.append(frame)
    return [torch.cat(part, dim=1) for part in parts]


CALLS = [
    {"input_ids": PROMPT_IDS, "guidance_scale": 3.0, "num_inference_steps": 3},
    {"input_ids": [0, 9, 102], "guidance_scale": 1.0, "num_inference_steps": 5},
    {"input_ids": [0, 3, 4, 5, 102], "guidance_scale": 2.0, "num_inference_steps": 4},
    {"input_ids": PROMPT_IDS, "guidance_scale": 5.0, "num_inference_steps": 2},
]


@pytest.fixture(scope="module")
def linear_pipe():
    """Its temperature depends on the step only if nobody else moves it on, in every frame."""
    return build_pipeline(tokenizer=None, vqvae=None, scheduler=MaskDecodingScheduler(temperature_decay="linear"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["code_pipe", "linear_pipe"])
def test_streams_take_turns(name, request):
    pipe = request.getfixturevalue(name)
    expected = [codes_of(pipe, seed=seed, **call) for seed, call in enumerate(CALLS)]
    streams = [
        pipe.stream(output_type="latent", generator=torch.Generator().manual_seed(seed), **{**SMALL, **call})
        for seed, call in enumerate(CALLS)
    ]
    for codes, alone in zip(streams_in_turns(*streams), expected, strict=True):
        assert torch.equal(codes, alone)


@pytest.mark.slow
def test_calls_run_in_threads(pipe, linear_pipe):
    for each, calls in ((pipe, [{"prompt": caption} for caption in CAPTIONS]), (linear_pipe, CALLS)):
        output_type = "pt" if each is pipe else "latent"

        def run(seed, each=each, calls=calls, output_type=output_type):
            generator = torch.Generator().manual_seed(seed)
            return each(output_type=output_type, generator=generator, **{**SMALL, **calls[seed % 4]}).frames

        expected = [run(seed) for seed in range(8)]
        with ThreadPoolExecutor(4) as threads:
            results = list(threads.map(run, range(8)))
        assert all(torch.equal(*pair) for pair in zip(results, expected, strict=True))


@pytest.mark.slow
def test_calls_from_inside_a_callback(code_pipe):
    expected, inner_expected = (codes_of(code_pipe, **call) for call in CALLS[:2])
    inner, scales = [], []

    def callback(pipe, step, timestep, callback_kwargs):
        if step in (0, 4):
            inner.append(codes_of(pipe, **CALLS[1]))
        scales.append((pipe.guidance_scale, pipe.num_timesteps, int(pipe.current_timestep)))
        return {}

    assert torch.equal(codes_of(code_pipe, **CALLS[0], callback_on_step_end=callback), expected)
    assert len(inner) == 2 and all(torch.equal(codes, inner_expected) for codes in inner)
    assert scales == [(3.0, 9, step % 3) for step in range(9)]


@pytest.mark.slow
def test_a_call_does_not_touch_the_scheduler_of_the_pipeline(code_pipe):
    before = dict(vars(code_pipe.scheduler))
    codes_of(code_pipe, input_ids=PROMPT_IDS)
    assert vars(code_pipe.scheduler) == before


@pytest.mark.slow
def test_offloaded_calls_in_threads_wait_for_each_other(pipe):
    offloaded = build_pipeline()
    offloaded.enable_model_cpu_offload(device="cpu")
    expected = [codes_of(pipe, caption) for caption in CAPTIONS]
    running = []

    def callback(pipe, step, timestep, callback_kwargs):
        running.append(threading.get_ident())
        return {}

    with ThreadPoolExecutor(4) as threads:
        results = list(
            threads.map(lambda caption: codes_of(offloaded, caption, callback_on_step_end=callback), CAPTIONS)
        )
    assert all(torch.equal(*pair) for pair in zip(results, expected, strict=True))
    # Nine steps each, without a step of another call between.
    assert all(len(set(running[start : start + 9])) == 1 for start in range(0, 36, 9))


# Guidance that callbacks change


def set_guidance(*scales, name="guidance_scale"):
    """A callback after whose n-th step the n-th of the scales holds; the last one stays."""

    def callback(pipe, step, timestep, callback_kwargs):
        setattr(pipe, name, scales[min(step, len(scales) - 1)])

    return callback


@pytest.mark.slow
@pytest.mark.parametrize("name", ["guidance_scale", "_guidance_scale"])
@pytest.mark.parametrize("scale", [1.0, 0.0])
def test_a_callback_ends_guidance_and_its_cost(code_pipe, name, scale):
    callback = set_guidance(3.0, scale, name=name)
    # Both branches read the prompt and take two steps; the other seven steps and the history are of one.
    num_calls = num_forward_calls(code_pipe, callback_on_step_end=callback)
    assert num_calls == 2 * (1 + 2) + 7 + 2
    # The scale is that of the call until the next one.
    assert code_pipe.guidance_scale == scale


@pytest.mark.slow
@pytest.mark.parametrize("approximations", [None, DecodingApproximations(history_window=0, history_keep_ratio=0.25)])
@pytest.mark.parametrize("make", [lambda pipe: pipe, lambda pipe: plain(pipe)])
def test_guidance_that_comes_back_is_as_if_it_had_been_there(code_pipe, approximations, make):
    """A weight of next to one hardly guides, but keeps the branch in step."""
    options = {"input_ids": ROWS, "num_frames": 17, "num_inference_steps": 2, "approximations": approximations}
    almost_one, one, high = 1 + 1e-7, 1.0, 4.0
    resting, kept = (
        codes_of(
            make(code_pipe),
            generator=generators(0, 1, 2),
            guidance_scale=first,
            callback_on_step_end=set_guidance(*[first] * 6, high),
            **options,
        )
        for first in (one, almost_one)
    )
    assert torch.equal(resting, kept)
    assert not torch.equal(resting, codes_of(code_pipe, generator=generators(0, 1, 2), guidance_scale=one, **options))


def test_residuals_are_not_reused_after_a_rest(code_pipe):
    """Of six steps every third runs both branches; a rest in the first frame ends in a step that would reuse."""
    approximations = DecodingApproximations(unconditional_skip_range=3)
    steps = []

    def callback(pipe, step, timestep, callback_kwargs):
        pipe.guidance_scale = 1.0 if step == 2 else 3.0
        return {}

    original = code_pipe.transformer.forward

    def record(module, args, kwargs):
        if "input_ids" in kwargs:
            steps.append(1)

    handle = code_pipe.transformer.register_forward_pre_hook(record, with_kwargs=True)
    codes_of(
        code_pipe,
        input_ids=PROMPT_IDS,
        num_frames=1,
        num_inference_steps=6,
        approximations=approximations,
        callback_on_step_end=callback,
    )
    handle.remove()
    assert code_pipe.transformer.forward == original
    # Two prompts; steps 0 and 4 with both branches, 1, 3 (resting), 2 and 5 with one.
    assert len(steps) == 2 + 2 * 2 + 4


def test_guidance_set_to_nonsense_is_refused(code_pipe):
    with pytest.raises(ValueError, match="`guidance_scale` must be a finite number of at least 0, got 'high'"):
        codes_of(code_pipe, input_ids=PROMPT_IDS, callback_on_step_end=set_guidance("high"))


@pytest.mark.slow
@pytest.mark.parametrize("scale", [0.0, 0.5, 1.0])
def test_a_scale_of_at_most_one_is_no_guidance(code_pipe, scale):
    expected = codes_of(code_pipe, input_ids=PROMPT_IDS, guidance_scale=1.0)
    assert torch.equal(codes_of(code_pipe, input_ids=PROMPT_IDS, guidance_scale=scale), expected)
    assert not code_pipe.do_classifier_free_guidance


@pytest.mark.slow
def test_a_scheduler_with_a_step_of_its_own_is_called_by_it():
    class Last(MaskDecodingScheduler):
        """Decides all codes in the first step, on the last code."""

        def step(self, model_output, timestep, sample, generator=None, return_dict=True):
            codes = torch.full_like(sample, model_output.shape[-1] - 1)
            return codes, codes

    pipe = build_pipeline(tokenizer=None, vqvae=None, scheduler=Last())
    assert (codes_of(pipe, input_ids=PROMPT_IDS) == NUM_CODES - 1).all()


@pytest.mark.slow
def test_callbacks_get_and_replace_predictions(code_pipe):
    seen = []

    def callback(pipe, step, timestep, callback_kwargs):
        latents, predicted = callback_kwargs["latents"], callback_kwargs["predicted"]
        is_decided = latents != UNKNOWN_CODE
        assert torch.equal(latents[is_decided], predicted[is_decided]) and (predicted != UNKNOWN_CODE).all()
        seen.append(step)
        pipe.interrupt = step == 1
        return {"predicted": torch.full_like(predicted, 7)}

    codes = codes_of(
        code_pipe,
        input_ids=PROMPT_IDS,
        callback_on_step_end=callback,
        callback_on_step_end_tensor_inputs=["latents", "predicted"],
    )
    assert seen == [0, 1] and codes.shape == (1, 1, H, W)
    assert (codes == 7).sum() >= 15


@pytest.mark.slow
def test_no_tensor_inputs_stand_for_the_default(code_pipe):
    names = []
    codes_of(
        code_pipe,
        input_ids=PROMPT_IDS,
        callback_on_step_end=lambda pipe, step, timestep, tensors: names.append(list(tensors)),
        callback_on_step_end_tensor_inputs=None,
    )
    assert names == [["latents"]] * 9


@pytest.mark.parametrize(
    "outputs, message",
    [
        ([], "`callback_on_step_end` must return a dict, got <class 'list'>"),
        ({"latents": torch.zeros(2)}, r"must return 'latents' as codes of the shape \(1, 4, 8\), got .*float32"),
        ({"predicted": 3}, r"must return 'predicted' as codes of the shape \(1, 4, 8\), got <class 'int'>"),
    ],
)
def test_what_callbacks_return_is_checked(code_pipe, outputs, message):
    with pytest.raises(ValueError, match=message):
        codes_of(code_pipe, input_ids=PROMPT_IDS, callback_on_step_end=lambda *_: outputs)


# Parts of a call by themselves


@pytest.mark.slow
def test_the_parts_of_a_call(pipe):
    image = random_image()
    size = {"height": 32, "width": 64, "num_frames": 9, "fps": 4}
    input_ids, negative_ids = pipe.tokenize_prompt(["waves", "a red kite"], "grass", **size)
    assert len(negative_ids) == 2 and negative_ids[0] == negative_ids[1]
    assert pipe.tokenize_prompt(["waves"], **size) == ([input_ids[0]], [[]])
    with torch.no_grad():
        given = pipe.encode_video(pipe.video_processor.preprocess_image(image, 32, 64))
    latents = pipe.prepare_latents(4, 9, 32, 64, given)
    assert latents.shape == (4, 3, H, W) and (latents[:, :1] == given).all() and (latents[:, 1:] == UNKNOWN_CODE).all()
    expected = codes_of(pipe, ["waves", "a red kite"], image=image, generator=generators(0, 1))
    codes = codes_of(pipe, input_ids=input_ids, latents=given, generator=generators(0, 1))
    assert torch.equal(codes, expected)


def test_check_inputs_checks_without_work(pipe):
    with ForwardCalls(pipe.transformer) as calls:
        pipe.check_inputs(prompt="waves", **SMALL)
        with pytest.raises(ValueError, match="`fps` must be a positive integer, got 0"):
            pipe.check_inputs(prompt="waves", **{**SMALL, "fps": 0})
    assert not calls


# What is said


@pytest.fixture
def warnings(caplog):
    call_inputs._warn_once.cache_clear()
    return caplog


@pytest.mark.slow
def test_unknown_words_are_named_once(pipe, warnings):
    for _ in range(2):
        codes_of(pipe, ["a red kite", "a purple kite sings"], num_frames=1)
    codes_of(pipe, "waves")
    assert warnings.text.count("`prompt` has words that the checkpoint does not know: purple, sings.") == 1
    assert len(warnings.records) == 1


@pytest.mark.slow
def test_the_size_that_a_shape_chose_is_said_once(warnings):
    pipe = build_pipeline(default_height=64, default_width=64)
    options = {"num_frames": 1, "output_type": "latent", "num_inference_steps": 1}
    for _ in range(2):
        pipe("waves", image=random_image(height=100, width=200), **options)
    assert warnings.text.count("`image` has another shape than 64x64") == 1
    assert "the result has 64x32 pixels" in warnings.text
    pipe("waves", image=random_image(height=100, width=100), **options)
    assert len(warnings.records) == 1


def test_a_video_that_fills_everything_is_said(pipe, warnings):
    codes_of(pipe, "waves", video=[random_image(seed=seed) for seed in range(9)])
    assert "`video` fills all of `num_frames` (9) already: nothing is left to make." in warnings.text


@pytest.mark.slow
def test_values_from_minus_one_are_taken_with_a_warning(pipe, warnings):
    image = torch.rand(3, 32, 64, generator=torch.Generator().manual_seed(0))
    expected = codes_of(pipe, "waves", image=image)
    assert not warnings.records
    signed = [image * 2 - 1, (image * 2 - 1).movedim(0, -1).numpy(), [image * 2 - 1], (image * 2 - 1)[None]]
    for each in signed:
        assert torch.equal(codes_of(pipe, "waves", image=each), expected)
    assert torch.equal(codes_of(pipe, "waves", video=[image * 2 - 1]), expected)
    assert len(warnings.records) == 2 and "`image` has values below 0" in warnings.text
    with pytest.raises(ValueError, match=r"`image` must have floating-point values in \[0, 1\], got values from -3"):
        codes_of(pipe, "waves", image=torch.full((3, 32, 64), -3.0))


# Layout and text


def layout_tokenizer(config, is_special):
    """Words, and every layout token by the name `<id>`, as official tokenizers have them."""
    words = sorted({word for caption in CAPTIONS for word in caption.split()})
    vocabulary = {word: index for index, word in enumerate(["<unk>", *words], start=1)}
    backend = Tokenizer(models.WordLevel(vocabulary, "<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    fillers = [AddedToken(f"<{index}>", special=is_special) for index in range(len(vocabulary) + 1, config.vocab_size)]
    backend.add_tokens([AddedToken("<0>", special=is_special), *fillers])
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>")


LAYOUT_IDS = [100, 101, 102, 103, 105, 129, 130, 131, 132, 140, 199]


@pytest.mark.slow
@pytest.mark.parametrize("token_id", LAYOUT_IDS)
def test_special_tokens_in_prompts_are_text(token_id):
    config = tiny_config()
    pipe = build_pipeline(vqvae=None, tokenizer=layout_tokenizer(config, is_special=True))
    name = pipe.tokenizer.convert_ids_to_tokens(token_id)
    ids, _ = pipe.tokenize_prompt(f"a red {name} kite", height=32, width=64, num_frames=9, fps=4)
    assert pipe.tokenizer(name, add_special_tokens=False).input_ids == [token_id]
    assert not set(ids[0][1:-1]) & set(LAYOUT_IDS)
    with ForwardCalls(pipe.transformer) as calls:
        codes_of(pipe, f"a red {name} kite")
    assert calls[0][0, : len(ids[0])].tolist() == ids[0]


@pytest.mark.parametrize("name", ["prompt", "negative_prompt"])
@pytest.mark.parametrize("token_id", LAYOUT_IDS)
def test_layout_tokens_that_are_words_of_the_tokenizer_are_refused(token_id, name):
    pipe = build_pipeline(vqvae=None, tokenizer=layout_tokenizer(tiny_config(), is_special=False))
    word = pipe.tokenizer.convert_ids_to_tokens(token_id)
    with ForwardCalls(pipe.transformer) as calls, pytest.raises(ValueError, match=f"`{name}` must be text"):
        codes_of(pipe, **{"prompt": "waves", name: f"a red {word} kite"})
    assert not calls


def test_a_long_prompt_is_named_with_both_lengths(pipe, code_pipe):
    with ForwardCalls(pipe.transformer) as calls:
        with pytest.raises(
            ValueError, match=r"`prompt` .* 512 tokens, got \d+, of which 123 are visual and 4\d\d are those"
        ):
            codes_of(pipe, "waves " * 400)
        with pytest.raises(ValueError, match="`negative_prompt` .* 512 tokens, .* are those of `negative_prompt`"):
            codes_of(pipe, "waves", negative_prompt="waves " * 400)
        assert not calls
    with pytest.raises(ValueError, match="`input_ids` .* 512 tokens, got 573, .* and 450 are those of `input_ids`"):
        codes_of(code_pipe, input_ids=[0, *[5] * 448, 102])


@pytest.mark.slow
def test_weights_that_give_no_numbers_are_said():
    for scheduler in (MaskDecodingScheduler(), SchedulerWithOwnStep(), MaskDecodingScheduler(0.0, 0.0)):
        pipe = build_pipeline(tokenizer=None, vqvae=None, scheduler=scheduler)
        with torch.no_grad():
            pipe.transformer.model.norm.weight[0] = torch.nan
        with pytest.raises(ValueError, match="`probabilities` must be numbers, got NaN"):
            codes_of(pipe, input_ids=PROMPT_IDS)


# The pipeline from its parts


@pytest.mark.slow
def test_defaults_stay_with_the_components():
    pipe = build_pipeline(default_height=64, default_guidance_scale=0.0)
    for again in (LumosVideoPipeline(**pipe.components), LumosVideoPipeline.from_pipe(pipe)):
        assert again.config.default_height == 64 and again.config.default_guidance_scale == 0.0
        assert again.config.default_width is None
        assert again.transformer is pipe.transformer
    assert set(build_pipeline().components) == {"tokenizer", "transformer", "vqvae", "scheduler"}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_leaves_the_frequencies_of_positions_alone(dtype):
    pipe = build_pipeline()
    expected = pipe.transformer.model.rotary_emb.inv_freq.clone()
    pipe.to(dtype)
    assert pipe.transformer.dtype == dtype
    assert torch.equal(pipe.transformer.model.rotary_emb.inv_freq, expected)


# Saving, loading, moving


@pytest.mark.slow
def test_save_reload_generate(pipe, tmp_path):
    pipe.save_pretrained(tmp_path)
    index = json.loads((tmp_path / "model_index.json").read_text())
    assert index["_class_name"] == "LumosVideoPipeline"
    assert index["transformer"] == ["lumos_hf.modeling_lumos", "LumosForCausalLM"]
    assert index["vqvae"] == ["lumos_hf.cosmos_video_tokenizer", "CosmosVideoTokenizer"]
    assert index["scheduler"] == ["lumos_hf.scheduling_mask_decoding", "MaskDecodingScheduler"]

    loaded = LumosVideoPipeline.from_pretrained(tmp_path)
    loaded.set_progress_bar_config(disable=True)
    options = {**SMALL, "output_type": "pt", "negative_prompt": "grass"}
    expected, result = (
        each("waves", generator=torch.Generator().manual_seed(0), **options).frames for each in (pipe, loaded)
    )
    assert torch.equal(result, expected)


@pytest.mark.slow
def test_all_components_are_loaded_in_one_dtype(tmp_path):
    build_pipeline().to(torch.bfloat16).save_pretrained(tmp_path)
    for options, dtype in (({}, torch.float32), ({"dtype": torch.bfloat16}, torch.bfloat16)):
        loaded = LumosVideoPipeline.from_pretrained(tmp_path, **options)
        assert loaded.transformer.dtype == loaded.vqvae.dtype == dtype


@pytest.mark.slow
def test_defaults_and_left_out_components_are_saved(code_pipe, tmp_path):
    pipe = build_pipeline(tokenizer=None, vqvae=None, default_height=64, default_guidance_scale=2.5)
    pipe.save_pretrained(tmp_path)
    loaded = LumosVideoPipeline.from_pretrained(tmp_path)
    assert loaded.tokenizer is None and loaded.vqvae is None
    assert loaded.config.default_height == 64 and loaded.config.default_guidance_scale == 2.5
    assert loaded.config.default_width is None


@pytest.mark.slow
def test_shards_and_variants_are_loaded(tmp_path):
    pipe = build_pipeline(tokenizer=None)
    pipe.save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    assert len(list((tmp_path / "shards" / "transformer").glob("*.safetensors"))) > 1
    LumosVideoPipeline.from_pretrained(tmp_path / "shards")

    pipe.save_pretrained(tmp_path / "variant", variant="fp16")
    LumosVideoPipeline.from_pretrained(tmp_path / "variant", variant="fp16")


@pytest.mark.slow
def test_from_the_hub(pipe, tmp_path):
    """From the Hub's cache, as nothing can be downloaded here."""
    repository = tmp_path / "models--someone--lumos"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0" * 40)
    pipe.save_pretrained(repository / "snapshots" / ("0" * 40))
    loaded = LumosVideoPipeline.from_pretrained("someone/lumos", cache_dir=tmp_path, local_files_only=True)
    loaded.set_progress_bar_config(disable=True)
    assert torch.equal(codes_of(loaded, "waves"), codes_of(pipe, "waves"))


@pytest.mark.parametrize(
    "removed, named",
    [
        ("model_index.json", "model_index.json"),
        ("transformer/config.json", "transformer/config.json"),
        ("transformer/model.safetensors", "transformer/model.safetensors"),
        ("vqvae/diffusion_pytorch_model.safetensors", "vqvae/diffusion_pytorch_model.safetensors"),
        ("scheduler/scheduler_config.json", "scheduler/scheduler_config.json"),
        ("tokenizer/tokenizer_config.json", "tokenizer/tokenizer_config.json"),
    ],
)
def test_missing_files_are_named(pipe, tmp_path, removed, named):
    pipe.save_pretrained(tmp_path)
    (tmp_path / removed).unlink()
    with pytest.raises(ValueError, match=f"`pretrained_model_name_or_path` .* has no {named}"):
        LumosVideoPipeline.from_pretrained(tmp_path)


@pytest.mark.slow
def test_missing_shards_are_named(pipe, tmp_path):
    pipe.save_pretrained(tmp_path, max_shard_size="20KB")
    shard = sorted((tmp_path / "transformer").glob("*.safetensors"))[1]
    shard.unlink()
    with pytest.raises(ValueError, match=f"has no transformer/{shard.name}"):
        LumosVideoPipeline.from_pretrained(tmp_path)


@pytest.mark.slow
def test_components_that_are_passed_need_no_files(pipe, tmp_path):
    pipe.save_pretrained(tmp_path)
    (tmp_path / "transformer" / "model.safetensors").unlink()
    loaded = LumosVideoPipeline.from_pretrained(tmp_path, transformer=pipe.transformer)
    assert loaded.transformer is pipe.transformer


@pytest.mark.slow
def test_model_offload(pipe):
    offloaded = build_pipeline()
    offloaded.enable_model_cpu_offload(device="cpu")
    assert len(offloaded._all_hooks) == 2
    image = random_image()
    expected, result = (
        each("waves", image=image, output_type="pt", generator=torch.Generator().manual_seed(0), **SMALL).frames
        for each in (pipe, offloaded)
    )
    assert torch.equal(result, expected)


@pytest.mark.slow
def test_sequential_offload(pipe):
    offloaded = build_pipeline()
    cpu_offload(offloaded.transformer, execution_device=torch.device("cpu"))
    assert {parameter.device.type for parameter in offloaded.transformer.parameters()} == {"meta"}
    assert torch.equal(codes_of(offloaded, "waves"), codes_of(pipe, "waves"))


@pytest.mark.slow
def test_a_call_leaves_the_components_as_they_were(pipe):
    before = {name: tensor.clone() for name, tensor in pipe.transformer.state_dict().items()}
    config, is_training = pipe.transformer.config.to_dict(), pipe.transformer.training
    codes_of(pipe, "waves", image=random_image())
    assert pipe.transformer.config.to_dict() == config and pipe.transformer.training == is_training
    assert all(torch.equal(tensor, before[name]) for name, tensor in pipe.transformer.state_dict().items())


@pytest.mark.slow
def test_bfloat16():
    pipe = build_pipeline().to(torch.bfloat16)
    pipe.set_progress_bar_config(disable=True)
    frames = pipe("waves", image=random_image(), output_type="np", **SMALL).frames
    assert frames.shape == (1, 9, 32, 64, 3) and frames.dtype == np.float32


# Bad input: every message names the argument, what it got and what it takes


def broken_image():
    file = io.BytesIO()
    random_image().save(file, format="PNG")
    return PIL.Image.open(io.BytesIO(file.getvalue()[:2000]))


BAD_INPUTS = {
    "empty prompt": ({"prompt": ""}, r"`prompt` must not be empty, got ''"),
    "blank prompt": ({"prompt": ["waves", " "]}, r"`prompt` must not be empty, got \['waves', ' '\]"),
    "no prompts": ({"prompt": []}, r"`prompt` must be a string or a non-empty list of strings, got \[\]"),
    "prompt of another type": ({"prompt": 3}, r"`prompt` must be a string or a non-empty list of strings, got 3"),
    "mixed prompts": ({"prompt": ["a", 3]}, r"`prompt` must be a string .* got \['a', 3\]"),
    "prompt and ids": ({"input_ids": PROMPT_IDS}, "Exactly one of `prompt` and `input_ids` must be given, got both"),
    "neither prompt nor ids": ({"prompt": None}, "Exactly one of `prompt` and `input_ids` must be given, got neither"),
    "mask without ids": ({"attention_mask": [1]}, "`attention_mask` must be given with `input_ids` only"),
    "negative prompt of another type": ({"negative_prompt": 3}, "`negative_prompt` must be a string .* got 3"),
    "negative prompts": ({"negative_prompt": ["a", "b"]}, "`negative_prompt` must be .* a list of 1, .* got 2"),
    "height": ({"height": 48}, "`height` must be a positive integer and a multiple of 32, got 48"),
    "zero height": ({"height": 0}, "`height` must be a positive integer and a multiple of 32, got 0"),
    "width": ({"width": -64}, "`width` must be a positive integer and a multiple of 32, got -64"),
    "float width": ({"width": 64.0}, "`width` must be a positive integer and a multiple of 32, got 64.0"),
    "huge height": ({"height": 3200}, "`height` needs a number token"),
    "num_frames": ({"num_frames": 0}, "`num_frames` must be a positive integer, got 0"),
    "fps": ({"fps": 0}, "`fps` must be a positive integer, got 0"),
    "huge fps": ({"fps": 99}, "`fps` needs a number token from 1 to 25, got 99"),
    "num_inference_steps": ({"num_inference_steps": 0}, "`num_inference_steps` must be a positive integer, got 0"),
    "num_videos_per_prompt": (
        {"num_videos_per_prompt": 0},
        "`num_videos_per_prompt` must be a positive integer, got 0",
    ),
    "guidance_scale": ({"guidance_scale": -1.0}, "`guidance_scale` must be a finite number of at least 0, got -1.0"),
    "NaN guidance_scale": ({"guidance_scale": float("nan")}, "`guidance_scale` must be a finite number .* got nan"),
    "history_mask_ratio": ({"history_mask_ratio": 1.5}, r"`history_mask_ratio` must be a number in \[0, 1\], got 1.5"),
    "generators": ({"generator": generators(0, 1)}, "`generator` must be one generator or a list of 1, .* list of 2"),
    "generator of another type": ({"generator": 0}, "`generator` must be one generator or a list of 1, .* got 0"),
    "generators of another type": ({"generator": [0]}, r"`generator` must be one generator .* got \[0\]"),
    "image of another type": ({"image": "kite.png"}, "`image` must consist of PIL images, .* got <class 'str'>"),
    "broken image": (
        {"image": broken_image()},
        "`image` must be readable, got a broken image file: image file is trunc",
    ),
    "image without pixels": ({"image": PIL.Image.new("RGB", (0, 8))}, "`image` .* at least one pixel, got 0x8"),
    "no images": ({"image": []}, "`image` must hold at least one image, got none"),
    "images": ({"image": [random_image()] * 2}, "`image` must be one for all prompts or 1, one per prompt, got 2"),
    "video without frames": ({"video": []}, "`video` must have at least one frame, got 0"),
    "long video": ({"video": [random_image()] * 10}, r"`video` must have at most `num_frames` \(9\) frames, got 10"),
    "video of another type": ({"video": "kite.mp4"}, "`video` must be a list of images, .* got <class 'str'>"),
    "image and latents": (
        {"image": random_image(), "latents": random_codes(1, 1, H, W)},
        r"At most one of `image`, `video` and `latents` must be given, got \['image', 'latents'\]",
    ),
    "half a size": (
        {"image": random_image(), "height": None},
        "`height` and `width` must be given together or not at all with `image`, got None and 64",
    ),
    "rank of latents": ({"latents": random_codes(1, H, W)}, r"`latents` must be a tensor .* got \(1, 4, 8\)"),
    "type of latents": ({"latents": [1]}, "`latents` must be a tensor .* got <class 'list'>"),
    "dtype of latents": (
        {"latents": torch.zeros(1, 1, H, W)},
        "`latents` must have an integer dtype, since they are codes, got torch.float32",
    ),
    "range of latents": (
        {"latents": torch.full((1, 1, H, W), NUM_CODES)},
        "`latents` must be codes from 0 to 59, or -1 where they are to be made, got values from 60 to 60",
    ),
    "codes below the unknown one in latents": (
        {"latents": torch.full((1, 1, H, W), -2)},
        "`latents` must be codes from 0 to 59, or -1 where they are to be made, got values from -2 to -2",
    ),
    "height and latents": (
        {"latents": random_codes(1, 1, 8, W)},
        "`height` must be that of `latents`, 64, or None, got 32",
    ),
    "grid of latents": (
        {"latents": random_codes(1, 1, 5, W), "height": None},
        "`latents` must have a height of a multiple of 32 pixels, got 5 codes, 40 pixels",
    ),
    "long latents": (
        {"latents": random_codes(1, 4, H, W)},
        "`latents` must have at most 3 frames for `num_frames=9`, got 4",
    ),
    "rows of latents": (
        {"latents": random_codes(2, 1, H, W)},
        "`latents` must be one for all prompts or 1, one per prompt, got 2",
    ),
    "output_type": (
        {"output_type": "mp4"},
        r"`output_type` must be one of \['pil', 'np', 'pt', 'latent'\], got 'mp4'",
    ),
    "context": (
        {"num_frames": 81, "temporal_tile_size": 81},
        r"must not be longer than the context .* \(`max_position_embeddings`\), 512 tokens, got 8\d\d, of which 843 are",
    ),
    "approximations": (
        {"approximations": "slow"},
        r"`approximations` must be None, a DecodingApproximations or one of \['fast'\], got 'slow'",
    ),
    "huge guidance_scale": ({"guidance_scale": 1e30}, r"`guidance_scale` must be at most 1e\+06, got 1e\+30"),
    "guidance_scale beyond floats": ({"guidance_scale": 10**400}, "`guidance_scale` must be a finite number"),
    "num_frames beyond floats": ({"num_frames": 10**400}, "`num_frames` must be at most 1000000, got a larger one"),
    "num_frames that is a truth value": ({"num_frames": True}, "`num_frames` must be a positive integer, got True"),
    "steps without end": ({"num_inference_steps": 10**9}, "`num_inference_steps` must be at most 1000000, got 10"),
    "lone surrogate": ({"prompt": "waves \ud800"}, "`prompt` must be text that UTF-8 can write, got .*waves"),
    "lone surrogate in the negative prompt": (
        {"negative_prompt": "\udfff"},
        "`negative_prompt` must be text that UTF",
    ),
    "callback": ({"callback_on_step_end": 3}, "`callback_on_step_end` must be callable, got 3"),
    "callback tensors of another type": (
        {"callback_on_step_end_tensor_inputs": 3},
        r"`callback_on_step_end_tensor_inputs` must be among \['latents', 'predicted'\], got 3",
    ),
    "output_type of another type": ({"output_type": ["pil"]}, r"`output_type` must be one of .* got \['pil'\]"),
    "callback tensors": (
        {"callback_on_step_end_tensor_inputs": ["latents", "logits"]},
        r"`callback_on_step_end_tensor_inputs` must be among \['latents', 'predicted'\], got \['logits'\]",
    ),
}


@pytest.mark.parametrize("arguments, message", BAD_INPUTS.values(), ids=BAD_INPUTS.keys())
def test_bad_input(pipe, arguments, message):
    with ForwardCalls(pipe.transformer) as calls, pytest.raises(ValueError, match=message):
        pipe(**{"prompt": "waves", **SMALL, **arguments})
    assert not calls


BAD_IDS = {
    "no ids": ([], None, r"`input_ids` must be a tensor or a non-empty list, got \[\]"),
    "empty row": ([[5], []], None, "`input_ids` must have at least one token in every row"),
    "dtype": (torch.zeros(1, 3), None, "`input_ids` must hold integers in one or two dimensions"),
    "rank": (torch.zeros(1, 1, 3, dtype=torch.long), None, "`input_ids` must hold integers in one or two dimensions"),
    "range": ([5, 200], None, "`input_ids` must lie in the vocabulary, 0 to 199, got ids from 5 to 200"),
    "visual part": ([5, 102, 131], None, "`input_ids` must end before `video_start_token_id`, 131, .* at position 2"),
    "mask": ([5, 6], [1], r"`attention_mask` must have the shape of `input_ids`, rows of lengths \[2\], got \[1\]"),
    "padding only": ([5, 6], [0, 0], "`input_ids` must have at least one token in every row"),
}


@pytest.mark.slow
@pytest.mark.parametrize("input_ids, attention_mask, message", BAD_IDS.values(), ids=BAD_IDS.keys())
def test_bad_input_ids(code_pipe, input_ids, attention_mask, message):
    with pytest.raises(ValueError, match=message):
        codes_of(code_pipe, input_ids=input_ids, attention_mask=attention_mask)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"prompt": "waves"}, "`prompt` must be None in a pipeline without `tokenizer`, got 'waves'"),
        (
            {"negative_prompt": "waves"},
            "`negative_prompt` must be None in a pipeline without `tokenizer`, got 'waves'",
        ),
        ({"output_type": "pil"}, "`output_type` must be 'latent' in a pipeline without `vqvae`, got 'pil'"),
        ({"image": random_image()}, "`image` must be None in a pipeline without `vqvae`"),
        ({"video": [random_image()]}, "`video` must be None in a pipeline without `vqvae`"),
    ],
)
def test_missing_components(code_pipe, arguments, message):
    input_ids = None if "prompt" in arguments else PROMPT_IDS
    with pytest.raises(ValueError, match=message):
        code_pipe(**{"input_ids": input_ids, "output_type": "latent", **SMALL, **arguments})
