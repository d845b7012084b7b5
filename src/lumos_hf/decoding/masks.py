# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
Masks over pixels: which codes they touch, and how what was made is joined with what stays.

Shape suffixes: B clips, F pixel frames, H and W pixels, t latent frames, h and w rows and columns of codes.
"""

from typing import Any, TypeAlias

import numpy as np
import PIL.Image
import torch
import torch.nn.functional as F

from ..video_processor_lumos import (
    Image,
    ImageInput,
    VideoInput,
    read_image,
    resize_and_crop,
    split_images,
    split_videos,
)


MaskInput: TypeAlias = Image | list[Image] | list[list[Image]]

# Of a grey value.
_WHITE = 128


def read_masks(mask: MaskInput, given: ImageInput | VideoInput, name: str, height: int, width: int) -> torch.Tensor:
    """
    What is to be made again, resized and cropped as the given clips are.

    Args:
        mask: one image for all frames, a list (or an array or tensor with a leading axis) of one image per frame, or a list
            of such lists, one per prompt. An image is a PIL image, an array `(height, width)` or `(height, width, 1)`, or a
            tensor `(height, width)` or `(1, height, width)`; bool, uint8, or floating point in [0, 1]. White, or True, is
            made again.
        given: the value of `image` or `video`.
        name: `"image"` or `"video"`.
        height, width: of the result.

    Returns:
        `(masks, F, height, width)`, bool, on the CPU.

    Raises:
        ValueError: if a mask cannot be read, has another size than the frames, there is another number of them than of
            frames, or one covers nothing or everything.
    """
    clips = _clips(given, is_image=name == "image")
    size = read_image(name, clips[0][0]).size
    masks = [_as_frames(frames, len(clips[0]), size, height, width) for frames in _split_masks(mask)]
    stacked = torch.from_numpy(np.stack(masks))
    for index, frames in enumerate(stacked):
        if not frames.any() or frames.all():
            covered = "everything" if frames.any() else "nothing"
            raise ValueError(
                f"`mask` must cover a part of the pixels, got one (number {index}) that covers {covered} of {width}x{height}."
            )
    return stacked


def touched_codes(mask: torch.Tensor, spatial_compression: int, temporal_compression: int) -> torch.Tensor:
    """
    Which codes stand for a pixel of the mask.

    Args:
        mask: `(B, F, H, W)`, bool, F one more than a multiple of `temporal_compression`.
        spatial_compression: pixels per code along height and along width.
        temporal_compression: frames per latent frame, of which the first one stands for one.

    Returns:
        `(B, t, h, w)`, bool.
    """
    cells = F.max_pool2d(mask.float(), spatial_compression).bool()
    first, others = cells[:, :1], cells[:, 1:]
    return torch.cat([first, others.unflatten(1, (-1, temporal_compression)).any(dim=2)], dim=1)


def blend_weights(mask: torch.Tensor, reach: int) -> torch.Tensor:
    """
    How much of what was made is seen at every pixel: 1 inside the mask, falling to 0 over `reach` pixels around it.

    Args:
        mask: `(B, F, H, W)`, bool.
        reach: in pixels, at least 0.

    Returns:
        `(B, F, H, W)`, float32 in [0, 1].
    """
    grown = mask.float()
    weights = grown.clone()
    for distance in range(1, reach + 1):
        grown = F.max_pool2d(grown, 3, stride=1, padding=1)
        weights = torch.maximum(weights, grown * (1 - distance / (reach + 1)))
    return weights


def blend(made: torch.Tensor, original: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Pixels `(B, F, 3, H, W)`, `original` ones to the bit where `weights` `(B, F, H, W)` are 0."""
    weights = weights[:, :, None]
    return torch.where(weights == 0, original, original + weights * (made - original))


def outpainting_canvas(
    video: VideoInput | ImageInput, height: int, width: int, top: int | None = None, left: int | None = None
) -> tuple[list[PIL.Image.Image], PIL.Image.Image]:
    """
    A clip on a larger canvas, and the mask of what is new: `video, mask = outpainting_canvas(clip, 128, 256)`, then
    `pipe(prompt, video=video, mask=mask, height=128, width=256)`.

    The new pixels repeat the edge of the clip, since codes along it see a little of them.

    Args:
        video: one clip, or one image.
        height, width: of the canvas in pixels, multiples of 32, not smaller than the clip.
        top, left: where the clip lies; None for the middle. Multiples of the spatial compression keep its codes unmixed.

    Raises:
        ValueError: if there are several clips, or the clip does not fit.
    """
    is_image = isinstance(video, PIL.Image.Image) or (isinstance(video, (np.ndarray, torch.Tensor)) and video.ndim < 4)
    clips = _clips(video, is_image)
    if len(clips) != 1:
        raise ValueError(f"`video` must be one clip, got {len(clips)}.")
    frames = [np.asarray(read_image("video", frame)) for frame in clips[0]]
    places = []
    for name, start, inner, outer in (
        ("top", top, frames[0].shape[0], height),
        ("left", left, frames[0].shape[1], width),
    ):
        start = (outer - inner) // 2 if start is None else start
        if start < 0 or start + inner > outer:
            raise ValueError(f"`{name}` must leave room for {inner} pixels on a canvas of {outer}, got {start}.")
        places.append((start, outer - inner - start))
    canvases = [PIL.Image.fromarray(np.pad(frame, (*places, (0, 0)), mode="edge")) for frame in frames]
    inside = np.pad(np.zeros(frames[0].shape[:2], dtype=np.uint8), places, constant_values=255)
    return canvases, PIL.Image.fromarray(inside)


def _clips(given: Any, is_image: bool) -> list[list[Image]]:
    return [[each] for each in split_images(given)] if is_image else split_videos(given)


def _split_masks(mask: Any) -> list[list[Any]]:
    """Lists of masks, one per clip or one for all."""
    if isinstance(mask, (list, tuple)):
        if not mask:
            raise ValueError("`mask` must hold at least one mask, got an empty list.")
        is_batch = isinstance(mask[0], (list, tuple)) or (_is_array(mask[0]) and _num_masks(mask[0]) is not None)
        return [_frames_of(each) for each in mask] if is_batch else [list(mask)]
    return [_frames_of(mask)]


def _frames_of(mask: Any) -> list[Any]:
    if isinstance(mask, (list, tuple)):
        return list(mask)
    return list(mask) if _is_array(mask) and _num_masks(mask) is not None else [mask]


def _is_array(value: Any) -> bool:
    return isinstance(value, (np.ndarray, torch.Tensor))


def _num_masks(mask: np.ndarray | torch.Tensor) -> int | None:
    """How many masks an array with a leading axis for frames holds; None for an array that is one mask."""
    channel = 0 if isinstance(mask, torch.Tensor) else -1
    is_one = mask.ndim < 3 or (mask.ndim == 3 and mask.shape[channel] == 1)
    return None if is_one else mask.shape[0]


def _as_frames(masks: list[Any], num_frames: int, size: tuple[int, int], height: int, width: int) -> np.ndarray:
    """Masks of one clip, `(num_frames, height, width)`, bool."""
    if len(masks) not in (1, num_frames):
        raise ValueError(
            f"`mask` must be one for all frames or {num_frames}, one per frame, got {len(masks)} of them."
        )
    return np.stack([_read_mask_image(mask, size, height, width) for mask in masks] * (num_frames // len(masks)))


def _read_mask_image(mask: Any, size: tuple[int, int], height: int, width: int) -> np.ndarray:
    if _is_array(mask) and mask.dtype in (np.bool_, torch.bool):
        mask = 255 * (mask.astype(np.uint8) if isinstance(mask, np.ndarray) else mask.to(torch.uint8))
    image = read_image("mask", mask)
    if image.size != size:
        raise ValueError(
            f"`mask` must have the size of the frames, {size[0]}x{size[1]} pixels, got {image.width}x{image.height}."
        )
    is_white = np.asarray(image.convert("L")) >= _WHITE
    binary = PIL.Image.fromarray(np.repeat(np.uint8(255) * is_white[..., None], 3, axis=-1))
    return np.asarray(resize_and_crop(binary, height, width).convert("L")) >= _WHITE
