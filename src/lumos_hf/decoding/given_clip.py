# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
What a call is given beside its prompts: an image, a video or codes, and a mask over them.

Shape suffixes: B videos, t latent frames, h and w rows and columns of codes, F pixel frames.
"""

from dataclasses import dataclass, replace

import torch
from diffusers.pipelines.pipeline_utils import DiffusionPipeline

from ..call_inputs import CallInputs, check_rows_of_given, read_pixels
from ..token_layout import UNKNOWN_CODE, grid_size
from .masks import blend, blend_weights, read_masks, touched_codes


@dataclass(frozen=True)
class GivenClip:
    """
    The first latent frames of a video, as far as they are given.

    Args:
        codes: `(B, t, h, w)`, int64, `UNKNOWN_CODE` where they are to be made; t is 0 if nothing is given.
        temporal_compression: pixel frames per latent frame, of which the first one has one.
        pixels: what the codes stand for, uint8 `(B, F, 3, height, width)`; None if codes are given.
        touched: which codes a mask touches, `(B, t, h, w)`, bool; None without a mask.
        weights: how much of what is made is seen, `(B, F, height, width)`, see [`blend_weights`]; None if all is seen.
    """

    codes: torch.Tensor
    temporal_compression: int
    pixels: torch.Tensor | None = None
    touched: torch.Tensor | None = None
    weights: torch.Tensor | None = None

    @property
    def num_whole(self) -> int:
        """How many latent frames from the first one on are given whole, in all rows."""
        return int((self.codes != UNKNOWN_CODE).all(dim=(0, 2, 3)).cumprod(dim=0).sum())

    def codes_of(self, frame: int) -> torch.Tensor:
        """Those of a latent frame, `(B, h, w)`: all unknown behind the end."""
        if frame < self.codes.shape[1]:
            return self.codes[:, frame]
        batch_size, _, h, w = self.codes.shape
        return self.codes.new_full((batch_size, h, w), UNKNOWN_CODE)

    def pixels_of(self, frame: int, count: int) -> torch.Tensor | None:
        """Pixels `(B, 3, frames, height, width)` in [-1, 1] of so many latent frames from one after the first on."""
        if self.pixels is None or frame >= self.codes.shape[1]:
            return None
        first = 1 + self.temporal_compression * (frame - 1)
        part = self.pixels[:, first : first + self.temporal_compression * count].to(self.codes.device)
        return part.transpose(1, 2).float() / 127.5 - 1

    def with_codes(self, codes: torch.Tensor, frame: int) -> "GivenClip":
        """The same with other codes `(B, count, h, w)` of latent frames from `frame` on, as they are in another sequence."""
        if codes.shape[1] == 0:
            return self
        last = frame + codes.shape[1]
        if self.touched is not None:
            codes = codes.masked_fill(self.touched[:, frame:last], UNKNOWN_CODE)
        return replace(self, codes=torch.cat([self.codes[:, :frame], codes, self.codes[:, last:]], dim=1))

    def join_frames(self, frames: torch.Tensor, first: int) -> torch.Tensor:
        """
        What was made, with the pixels that stay.

        Args:
            frames: `(B, frames, 3, height, width)`, in [0, 1].
            first: number of the first pixel frame.
        """
        if self.pixels is None or self.weights is None or first >= self.pixels.shape[1]:
            return frames
        last = first + frames.shape[1]
        return blend(frames, self.pixels[:, first:last].to(frames) / 255, self.weights[:, first:last].to(frames))

    def join(self, video: torch.Tensor, first: int) -> torch.Tensor:
        """The same with what the video tokenizer gives, `(B, 3, frames, height, width)` in [-1, 1]."""
        if self.weights is None:
            return video
        return self.join_frames(video.transpose(1, 2) / 2 + 0.5, first).transpose(1, 2) * 2 - 1


def read_given_clip(inputs: CallInputs, pipe: DiffusionPipeline, num_prompts: int) -> tuple[GivenClip, int, int]:
    """
    Reads what completed inputs give, which may decide on the size.

    Returns:
        the clip, and height and width of the result in pixels.

    Raises:
        ValueError: for what cannot be read, does not fit the frames to make, or is not one per prompt.
    """
    pixels = read_pixels(inputs, pipe)
    check_rows_of_given(inputs, _num_rows(inputs, pixels), num_prompts)
    height, width = _size(inputs, pixels, pipe.transformer.config.spatial_compression)
    batch_size = num_prompts * inputs.num_videos_per_prompt
    mask = _read_mask(inputs, pixels, num_prompts)

    config = pipe.transformer.config
    latents = inputs.latents if pixels is None else pipe.encode_video(pixels)
    if latents is None:
        nothing = torch.empty(batch_size, 0, *grid_size(height, width, config), dtype=torch.long)
        return GivenClip(nothing.to(pipe._execution_device), config.temporal_compression), height, width
    num_frames = 1 + config.temporal_compression * (latents.shape[1] - 1)
    codes = pipe.prepare_latents(batch_size, num_frames, height, width, latents)
    clip = GivenClip(codes, config.temporal_compression)
    if pixels is not None:
        as_uint8 = ((pixels / 2 + 0.5) * 255).round().to(torch.uint8).transpose(1, 2)
        clip = replace(clip, pixels=_per_video(as_uint8, batch_size))
    if mask is not None:
        touched = touched_codes(mask, config.spatial_compression, config.temporal_compression).to(codes.device)
        clip = replace(clip, touched=_per_video(touched, batch_size)).with_codes(codes, 0)
        if inputs.preserve_unmasked is not False:
            weights = blend_weights(mask, config.spatial_compression // 2)
            clip = replace(clip, weights=_per_video(weights, batch_size))
    return clip, height, width


def _num_rows(inputs: CallInputs, pixels: torch.Tensor | None) -> int | None:
    given = inputs.latents if pixels is None else pixels
    return None if given is None else len(given)


def _size(inputs: CallInputs, pixels: torch.Tensor | None, spatial_compression: int) -> tuple[int, int]:
    if pixels is not None:
        return pixels.shape[-2], pixels.shape[-1]
    if inputs.latents is not None:
        height, width = (side * spatial_compression for side in inputs.latents.shape[-2:])
        return height, width
    # Completed inputs have them where nothing else says the size.
    return int(inputs.height or 0), int(inputs.width or 0)


def _read_mask(inputs: CallInputs, pixels: torch.Tensor | None, num_prompts: int) -> torch.Tensor | None:
    """`(B or 1, F, height, width)`, cut like the pixels to whole latent frames."""
    if inputs.mask is None or pixels is None:
        return None
    name = "image" if inputs.image is not None else "video"
    mask = read_masks(inputs.mask, getattr(inputs, name), name, *pixels.shape[-2:])[:, : pixels.shape[2]]
    if len(mask) not in (1, num_prompts):
        raise ValueError(f"`mask` must be for all prompts or {num_prompts}, one per prompt, got {len(mask)}.")
    return mask


def _per_video(tensor: torch.Tensor, batch_size: int) -> torch.Tensor:
    return tensor.repeat_interleave(batch_size // len(tensor), dim=0)
