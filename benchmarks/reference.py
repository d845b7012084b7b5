# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
What the official decoding loop and training step compute, written plainly, as the yardstick for the speed of this package.

[`decode`] has the costs of the official code: two forward passes of batch 1 per step, logits of the whole vocabulary in float32
at every position fed, a softmax over all of it with what is not a visual code set to minus infinity, a multinomial draw
from it, a dense attention mask per pass, and a cache that is concatenated and cropped in every step. Of the layers,
[`with_plain_layers`] gives the usual form on the same weights.

It takes one prompt and no given frames; greedy results equal those of [`LumosVideoPipeline`].

[`training_loss`] likewise: a dense mask, and logits of the whole vocabulary in float32 at every position.
"""

import copy

import torch
import torch.nn.functional as F
from torch import nn
from transformers import DynamicCache
from transformers.models.llama.modeling_llama import LlamaMLP

from lumos_hf import LumosConfig, LumosForCausalLM, MaskDecodingScheduler
from lumos_hf.modeling_lumos import LumosMLP
from lumos_hf.token_layout import (
    UNKNOWN_CODE,
    content_positions,
    derive_layout,
    frame_ids_from_codes,
    frame_length,
    video_duration,
    video_header_ids,
    visual_positions,
)


class _PlainLinear(nn.Linear):
    """Of a class of its own, which keeps this package from taking its product elsewhere."""


def with_plain_layers(model: LumosForCausalLM) -> LumosForCausalLM:
    """A model of the same parameters, not copies, whose linear layers and MLPs are those of torch and transformers."""
    plain = copy.deepcopy(model, {id(parameter): parameter for parameter in model.parameters()})
    for module in plain.modules():
        if type(module) is nn.Linear:
            module.__class__ = _PlainLinear
        elif type(module) is LumosMLP:
            module.__class__ = LlamaMLP
    return plain


class ReferenceBranch:
    """One side of guidance: its layout and its cache."""

    def __init__(self, model: LumosForCausalLM, prefix_ids: list[int], num_frames: int, h: int, w: int):
        self.model = model
        self.cache = DynamicCache(config=model.config)
        unknown = torch.full((num_frames, h, w), UNKNOWN_CODE, device=model.device)
        frames = frame_ids_from_codes(unknown, model.config).flatten()
        ids = torch.cat([frames.new_tensor(prefix_ids), frames])[None]
        self.position_ids, self.frame_ids = derive_layout(ids, model.config)

    def forward(self, ids: torch.LongTensor, num_kept: int) -> torch.Tensor:
        """Logits `(L, vocabulary)`, float32, of the tokens fed, of which the first `num_kept` stay cached."""
        start = self.cache.get_seq_length()
        end = start + len(ids)
        logits = self.model(
            input_ids=ids[None],
            attention_mask=dense_mask(self.frame_ids[0, :end], self.model.dtype, start),
            position_ids=self.position_ids[..., start:end],
            frame_ids=self.frame_ids[:, start:end],
            cache=self.cache,
            use_cache=True,
        ).logits
        self.cache.crop(num_kept - len(ids))
        return logits[0].float()


def dense_mask(frame_ids: torch.LongTensor, dtype: torch.dtype, start: int = 0) -> torch.Tensor:
    """Additive mask `(1, 1, queries from start, keys)` of frames `(keys,)`: causal, but bidirectional inside frames."""
    index = torch.arange(len(frame_ids), device=frame_ids.device)
    is_causal = index[start:, None] >= index
    is_same_frame = (frame_ids[start:, None] == frame_ids) & (frame_ids >= 0)
    mask = torch.zeros(is_causal.shape, device=index.device, dtype=dtype)
    return mask.masked_fill(~(is_causal | is_same_frame), torch.finfo(dtype).min)[None, None]


@torch.no_grad()
def decode(
    model: LumosForCausalLM,
    input_ids: list[int],
    *,
    h: int,
    w: int,
    num_latent_frames: int,
    fps: int,
    num_inference_steps: int,
    guidance_scale: float,
    history_mask_ratio: float,
    greedy: bool,
) -> torch.LongTensor:
    """
    Codes `(1, t, h, w)` of one video.

    Args:
        model: with full weights on one device.
        input_ids: everything before `video_start`.
        h, w: rows and columns of codes.
        num_latent_frames: t.
        fps: pixel frames per second, for the header.
        num_inference_steps: per latent frame.
        guidance_scale: weight of the conditional branch.
        history_mask_ratio: share of a finished frame that is masked again.
        greedy: the most probable codes and no noise, instead of draws from torch's default generator.
    """
    config = model.config
    scheduler = MaskDecodingScheduler(confidence_temperature=0.0 if greedy else 1.0)
    scheduler.set_timesteps(num_inference_steps)
    num_pixel_frames = (num_latent_frames - 1) * config.temporal_compression + 1
    header = video_header_ids(video_duration(num_pixel_frames, fps), fps, config)
    prefixes = [input_ids + header, header]
    branches = [ReferenceBranch(model, prefix, num_latent_frames, h, w) for prefix in prefixes]
    visual = visual_positions(h, w, device=model.device)
    history = content_positions(h, w)[scheduler.history_mask_indices(h * (w + 1), history_mask_ratio)]

    codes = torch.full((num_latent_frames, h, w), UNKNOWN_CODE, device=model.device)
    for frame in range(num_latent_frames):
        for timestep in scheduler.timesteps:
            ids = frame_ids_from_codes(codes[frame], config)
            logits = []
            for prefix, branch in zip(prefixes, branches, strict=True):
                # The first call of all reads the prompt as well, and keeps it.
                is_first_call = branch.cache.get_seq_length() == 0
                fed = torch.cat([ids.new_tensor(prefix), ids]) if is_first_call else ids
                branch_logits = branch.forward(fed, num_kept=len(fed) - len(ids))
                logits.append(branch_logits[-frame_length(h, w) :][visual])
            conditional, unconditional = logits
            guided = unconditional + guidance_scale * (conditional - unconditional)
            codes[frame] = _step(guided, timestep, codes[frame].flatten(), scheduler, config).view(h, w)

        ids = frame_ids_from_codes(codes[frame], config)
        ids[history.to(ids.device)] = config.mask_token_id
        for branch in branches:
            branch.forward(ids, num_kept=len(ids))
    return codes[None]


def _step(
    logits: torch.Tensor,
    timestep: torch.Tensor,
    sample: torch.LongTensor,
    scheduler: MaskDecodingScheduler,
    config: LumosConfig,
) -> torch.LongTensor:
    """Codes `(n,)` after one step, from guided logits `(n, vocabulary)`; draws are made for known positions as well."""
    first = config.visual_token_offset
    logits[:, :first] = -torch.inf
    logits[:, first + config.visual_vocab_size :] = -torch.inf
    probabilities = logits.softmax(dim=-1)
    is_greedy = scheduler.config.confidence_temperature == 0
    if is_greedy:
        token_ids = probabilities.argmax(dim=-1)
    else:
        token_ids = torch.multinomial(probabilities, num_samples=1)[:, 0]
    selected = probabilities.gather(-1, token_ids[:, None])[:, 0]
    uniforms = None if is_greedy else torch.rand(1, len(sample), device=sample.device)
    codes = token_ids - first
    return scheduler.mask_least_confident(codes[None], selected[None], sample[None], timestep, uniforms)[0]


def training_loss(model: LumosForCausalLM, input_ids: torch.LongTensor, labels: torch.LongTensor) -> torch.Tensor:
    """
    Mean cross entropy over the visual codes, with labels that are none ignored. Tokens whose loss is 0, the ignored ones
    among them, are left out of the mean.

    Args:
        model: with full weights on one device.
        input_ids: `(1, L)`, one masked sequence.
        labels: `(1, L)`.
    """
    config = model.config
    position_ids, frame_ids = derive_layout(input_ids, config)
    logits = model(
        input_ids=input_ids,
        attention_mask=dense_mask(frame_ids[0], model.dtype),
        position_ids=position_ids,
        frame_ids=frame_ids,
        use_cache=False,
    ).logits.float()
    visual_logits = logits[0, :, config.visual_token_offset :][:, : config.visual_vocab_size]
    codes = (labels[0] - config.visual_token_offset).clamp(min=-1)
    token_losses = F.cross_entropy(visual_logits, codes, ignore_index=-1, reduction="none")
    return token_losses[token_losses != 0].mean()
