# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
What a call is given beside its prompts: an image, a video or codes, and a mask over them.

Shape suffixes: B videos, t latent frames, h and w rows and columns of codes, F pixel frames.
"""

from dataclasses import dataclass

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
        pixels: what stays outside of a mask, `(B, F, 3, height, width)`, float32 in [0, 1]; None if nothing has to.
        weights: how much of what is made is seen, `(B, F, height, width)`, see [`blend_weights`]; None without pixels.
    """

    codes: torch.Tensor
    pixels: torch.Tensor | None = None
    weights: torch.Tensor | None = None

    @property
    def num_whole(self) -> int:
        """How many latent frames from the first one on are given whole, in all rows."""
        return int((self.codes != UNKNOWN_CODE).all(dim=(0, 2, 3)).cumprod(dim=0).sum())

    def codes_of(self, frame: int) -> torch.Tensor:
        """Those of a latent frame, `(B, h, w)`: all unknown behind the end."""
        if frame < self.codes.shape[1]:
            return self.codes[:, frame]
        return torch.full_like(self.codes[:, 0], UNKNOWN_CODE) if self.codes.shape[1] else self._unknown()

    def _unknown(self) -> torch.Tensor:
        batch_size, _, h, w = self.codes.shape
        return self.codes.new_full((batch_size, h, w), UNKNOWN_CODE)

    def join(self, video: torch.Tensor, first: int) -> torch.Tensor:
        """
        What was made, with the pixels that stay.

        Args:
            video: `(B, frames, 3, height, width)`, in [0, 1].
            first: number of its first pixel frame.
        """
        if self.pixels is None or self.weights is None or first >= self.pixels.shape[1]:
            return video
        last = first + video.shape[1]
        return blend(video, self.pixels[:, first:last].to(video), self.weights[:, first:last].to(video))


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

    latents = inputs.latents if pixels is None else pipe.encode_video(pixels)
    if latents is None:
        h, w = grid_size(height, width, pipe.transformer.config)
        nothing = torch.empty(batch_size, 0, h, w, dtype=torch.long, device=pipe._execution_device)
        return GivenClip(nothing), height, width
    num_frames = 1 + pipe.transformer.config.temporal_compression * (latents.shape[1] - 1)
    codes = pipe.prepare_latents(batch_size, num_frames, height, width, latents)
    if mask is None or pixels is None:
        return GivenClip(codes), height, width

    config = pipe.transformer.config
    touched = touched_codes(mask, config.spatial_compression, config.temporal_compression).to(codes.device)
    codes = codes.masked_fill(_per_video(touched, batch_size), UNKNOWN_CODE)
    if inputs.preserve_unmasked is False:
        return GivenClip(codes), height, width
    # From uint8 to [0, 1] directly, so that values come back to the bit.
    unit = ((pixels / 2 + 0.5) * 255).round().transpose(1, 2) / 255
    weights = blend_weights(mask, config.spatial_compression // 2)
    return GivenClip(codes, _per_video(unit, batch_size), _per_video(weights, batch_size)), height, width


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
