# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""The whole decoding loop against recordings of the official code."""

import json

import pytest
import torch
from safetensors.torch import load_file

from lumos_hf.conversion import convert_lumos_model
from lumos_hf.decoding.frame_decoder import FrameDecoder, guide
from lumos_hf.pipeline_lumos_video import LumosVideoPipeline
from lumos_hf.scheduling_mask_decoding import MaskDecodingScheduler
from lumos_hf.token_layout import UNKNOWN_CODE, codes_from_frame_ids, frame_length


LOGITS_ATOL = 2e-3
VISUAL_TOKEN_OFFSET = 9216
HEADER_LENGTH = 3
TASKS = ("t2i_64x96", "t2v_32x64", "t2v_g15_64x32", "i2v_64x64", "vp2_32x96")
CASES = tuple(f"{task}_{mode}" for task in TASKS for mode in ("greedy", "sampled"))


class ReplayScheduler(MaskDecodingScheduler):
    """Takes recorded random numbers instead of drawing them, one row per step."""

    def replay(self, token_uniforms, confidence_uniforms):
        self.recorded = zip(token_uniforms, confidence_uniforms, strict=True)

    def draw_uniforms(self, shape, generator=None, device=None):
        token_uniforms, confidence_uniforms = next(self.recorded)
        return token_uniforms.expand(shape), confidence_uniforms.expand(shape)


class Case:
    """One recorded run, in the terms of the pipeline."""

    def __init__(self, golden, name):
        directory = golden / "decode" / name
        self.settings = json.loads((directory / "case.json").read_text(encoding="utf-8"))
        self.tensors = load_file(directory / "tensors.safetensors")
        settings = self.settings
        self.h, self.w = settings["latent_h"], settings["latent_w"]
        self.num_frames = settings["total_latent_frames"]
        self.num_given = settings["given_latent_frames"]
        self.prompt_length = settings["prompt_len_before_video"]

        model = convert_lumos_model(
            (directory / settings["model"]).resolve(),
            visual_token_offset=VISUAL_TOKEN_OFFSET,
            visual_vocab_size=settings["num_visual"],
        )
        with torch.no_grad():
            model.lm_head.weight *= settings["lm_head_scale"]
        self.pipe = LumosVideoPipeline(
            tokenizer=None, transformer=model, vqvae=None, scheduler=self.build_scheduler(settings)
        )
        self.pipe.set_progress_bar_config(disable=True)

    def build_scheduler(self, settings):
        if settings["mode"] == "greedy":
            return MaskDecodingScheduler(token_temperature=0.0, confidence_temperature=0.0)
        scheduler = ReplayScheduler(confidence_temperature=settings["initial_temperature"])
        scheduler.replay(self.tensors["u_token"], self.tensors["u_gumbel"])
        return scheduler

    def codes(self, sequence):
        """`(1, t, h, w)` of the frames in whole recorded sequences."""
        frames = sequence[self.prompt_length + HEADER_LENGTH :]
        frames = frames.view(1, -1, frame_length(self.h, self.w))
        return codes_from_frame_ids(frames, self.h, self.w, self.pipe.transformer.config)

    @property
    def given_codes(self):
        return self.codes(self.tensors["prefix_ids"]) if self.num_given else None

    @property
    def final_codes(self):
        return self.codes(self.tensors["final_ids"][:-1])

    def run(self, **options):
        settings = self.settings
        options.setdefault("input_ids", self.tensors["prefix_ids"][: self.prompt_length])
        return self.pipe(
            latents=self.given_codes,
            height=settings["pixel_height"],
            width=settings["pixel_width"],
            num_frames=(self.num_frames - 1) * 4 + 1,
            fps=settings["fps"],
            num_inference_steps=settings["timesteps"],
            guidance_scale=settings["guidance_scale"],
            history_mask_ratio=settings["mask_history_ratio_effective"],
            output_type="latent",
            **options,
        ).frames


@pytest.fixture
def case(golden, request):
    return Case(golden, request.param)


@pytest.mark.parametrize("case", CASES, indirect=True)
def test_decoded_tokens(case):
    """Every token after every step, through `__call__` alone."""
    tokens = []

    def record(pipe, step, timestep, callback_kwargs):
        tokens.append(callback_kwargs["latents"].flatten())
        return {}

    codes = case.run(callback_on_step_end=record)
    assert torch.equal(codes, case.final_codes)

    recorded = case.tensors["tokens_after"] - VISUAL_TOKEN_OFFSET
    recorded[recorded < 0] = UNKNOWN_CODE
    assert torch.equal(torch.stack(tokens), recorded)


@pytest.mark.parametrize("case", CASES, indirect=True)
def test_inputs_of_the_transformer(case):
    """What is fed to both branches: prompt and header, given frames, every step's frame, masked history."""
    fed = []

    def record(module, args, kwargs):
        is_output_head_alone = "input_ids" not in kwargs
        if not is_output_head_alone:
            fed.append(kwargs["input_ids"][0])

    handle = case.pipe.transformer.register_forward_pre_hook(record, with_kwargs=True)
    case.run()
    handle.remove()

    prefix = case.tensors["prefix_ids"]
    assert torch.equal(fed[0], prefix)
    assert torch.equal(fed[1], prefix[case.prompt_length :])
    assert all(torch.equal(conditional, unconditional) for conditional, unconditional in zip(fed[2::2], fed[3::2]))

    calls_per_frame = case.settings["timesteps"] + 1
    history = fed[2::2][calls_per_frame - 1 :: calls_per_frame]
    assert len(history) == case.num_frames - case.num_given - 1
    # The official code also writes the last frame, which nothing reads.
    for ids, recorded in zip(history, case.tensors["history_update_ids"]):
        assert torch.equal(ids, recorded)


@pytest.mark.parametrize("case", CASES, indirect=True)
@torch.no_grad()
def test_guided_logits_on_recorded_tokens(case):
    pipe, tensors, settings = case.pipe, case.tensors, case.settings
    codes = torch.full((1, case.num_frames, case.h, case.w), UNKNOWN_CODE)
    if case.num_given:
        codes[:, : case.num_given] = case.given_codes
    prefix = tensors["prefix_ids"].tolist()
    header_ids = prefix[case.prompt_length : case.prompt_length + HEADER_LENGTH]
    decoder = FrameDecoder(
        pipe.transformer,
        pipe.scheduler,
        prefixes=[prefix[: case.prompt_length]],
        negative_prefixes=[[]],
        header_ids=header_ids,
        codes=codes,
        num_given=case.num_given,
        num_inference_steps=settings["timesteps"],
        history_mask_ratio=settings["mask_history_ratio_effective"],
    )
    assert torch.equal(decoder.history_mask_positions, tensors["history_mask_indices"] + 3)

    recorded = dict(zip(tensors["logits_at"].tolist(), tensors["cfg_logits"], strict=True))
    for step, tokens in enumerate(tensors["tokens_before"]):
        frame = int(tensors["frame_index"][step])
        is_new_frame = step > 0 and frame != int(tensors["frame_index"][step - 1])
        if is_new_frame:
            decoder.append(case.final_codes[:, frame - 1])
        if step in recorded:
            latents = tokens.view(1, case.h, case.w) - VISUAL_TOKEN_OFFSET
            latents = latents.masked_fill(latents < 0, UNKNOWN_CODE)
            branches = decoder._branches_up_to_date(is_guided=True)
            logits = guide(decoder._all_logits(branches, latents), settings["guidance_scale"])
            torch.testing.assert_close(logits, recorded[step], atol=LOGITS_ATOL, rtol=0)

            hidden_states = decoder._hidden_states(branches, latents)
            logits = decoder._guided_head(hidden_states, settings["guidance_scale"])
            is_undecided = latents.flatten() == UNKNOWN_CODE
            torch.testing.assert_close(logits, recorded[step][is_undecided], atol=LOGITS_ATOL, rtol=0)


@pytest.mark.parametrize("case", ["t2v_32x64_greedy", "i2v_64x64_greedy"], indirect=True)
def test_a_padded_row_decodes_the_same_tokens(case):
    prompt = case.tensors["prefix_ids"][: case.prompt_length].tolist()
    codes = case.run(input_ids=[prompt, prompt + prompt[1:]])
    assert torch.equal(codes[:1], case.final_codes)
    assert not torch.equal(codes[1:], case.final_codes)
