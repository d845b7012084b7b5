# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
Pixels in and out: given images and videos to the input of the video tokenizer, its output to frames.

Sizes are `(height, width)` in pixels; "blocks" are squares of 32 by 32 pixels, the unit in which the model reads sizes.
"""

import math
from collections.abc import Iterable
from typing import TypeAlias, cast

import numpy as np
import PIL.Image
import torch
from diffusers.video_processor import VideoProcessor

from .image_reading import to_rgb
from .partial_resize import enlarge_part
from .token_layout import PIXELS_PER_SIZE_UNIT


Image: TypeAlias = PIL.Image.Image | np.ndarray | torch.Tensor
ImageInput: TypeAlias = Image | list[Image]
VideoInput: TypeAlias = np.ndarray | torch.Tensor | list[Image] | list[list[Image]]

# So many times as large as a crop may an image be that is enlarged to cover it.
_MAX_EXCESS = 8

# Crops of a more elongated shape are never chosen.
_MAX_ASPECT_RATIO = 4

# The official code pairs 768x480 text-to-video with crops of up to 20x20 blocks; 19x19 would hold that size too.
_OFFICIAL_BUDGETS = {(480, 768): 20 * 20}


def crop_budget(height: int, width: int) -> int:
    """
    The most blocks a crop may have in a checkpoint made for `height` by `width` pixels.

    It is the smallest square number of blocks that holds that size, which is what the official code uses for 448x256
    (11x11) and 672x384 (16x16). For 768x480 it uses 20x20, and so does this function.

    Raises:
        ValueError: if a side is not a positive multiple of 32 pixels.
    """
    for name, pixels in (("height", height), ("width", width)):
        if pixels < 1 or pixels % PIXELS_PER_SIZE_UNIT != 0:
            raise ValueError(f"`{name}` must be a positive multiple of {PIXELS_PER_SIZE_UNIT}, got {pixels}.")
    if (height, width) in _OFFICIAL_BUDGETS:
        return _OFFICIAL_BUDGETS[height, width]
    blocks = height * width // PIXELS_PER_SIZE_UNIT**2
    return (math.isqrt(blocks - 1) + 1) ** 2


def crop_sizes(max_blocks: int) -> list[tuple[int, int]]:
    """
    Every size, as `(height, width)`, that a given image may be cropped to: for each width in blocks the heights that fit
    into `max_blocks` and no wider size has, as long as no side is more than four times the other. Widest first.
    """
    sizes = []
    rows, columns = 1, max_blocks
    while columns > 0:
        if max(rows, columns) <= _MAX_ASPECT_RATIO * min(rows, columns):
            sizes.append((rows * PIXELS_PER_SIZE_UNIT, columns * PIXELS_PER_SIZE_UNIT))
        if (rows + 1) * columns <= max_blocks:
            rows += 1
        else:
            columns -= 1
    return sizes


def choose_crop_size(height: int, width: int, max_blocks: int) -> tuple[int, int]:
    """The crop size that keeps most of an image of `height` by `width` pixels; of equals, the widest and highest one."""

    def share_kept(size: tuple[int, int]) -> float:
        scales = size[1] / width, size[0] / height
        return min(scales) / max(scales)

    return max(crop_sizes(max_blocks), key=lambda size: (share_kept(size), size[1], size[0]))


def resize_and_crop(image: PIL.Image.Image, height: int, width: int) -> PIL.Image.Image:
    """
    Scales an image until it covers `height` by `width` pixels and takes the centre, as the official code does: it is
    halved with a box filter while at least twice as large, then resized with a bicubic filter.

    Of a much elongated image, only what remains of it is enlarged, which gives the same pixels: the whole of one of 1 by
    60,000 pixels would have 27 billion at a width of 672.
    """
    while image.width >= 2 * width and image.height >= 2 * height:
        image = image.resize((image.width // 2, image.height // 2), resample=PIL.Image.Resampling.BOX)
    scale = max(width / image.width, height / image.height)
    size = (round(image.width * scale), round(image.height * scale))
    left, top = (size[0] - width) // 2, (size[1] - height) // 2
    if scale > 1 and size[0] * size[1] > _MAX_EXCESS * width * height:
        return enlarge_part(image, size, (left, top, left + width, top + height))
    image = image.resize(size, resample=PIL.Image.Resampling.BICUBIC)
    return image.crop((left, top, left + width, top + height))


class LumosVideoProcessor(VideoProcessor):
    """
    Preprocesses given images and videos, and postprocesses decoded ones, as the official code does.

    An image is a PIL image, an array `(height, width, 3)` or a tensor `(3, height, width)`; grey images have one channel.
    Arrays and tensors hold uint8 values, or floating-point values in [0, 1]. A batch of images is a list of them, or one
    array or tensor with a leading batch axis. A video is a list of images, or an array or tensor with a leading frame
    axis; a batch of videos is a list of videos, or one array or tensor with a leading batch axis.
    """

    def preprocess_image(
        self,
        image: ImageInput,
        height: int | None = None,
        width: int | None = None,
        *,
        max_blocks: int | None = None,
    ) -> torch.Tensor:
        """
        Images as videos of one frame.

        Args:
            image: one image or a batch of them.
            height: of the result, in pixels.
            width: of the result, in pixels.
            max_blocks: instead of `height` and `width`, lets the shape of the images choose among [`crop_sizes`].

        Returns:
            `(batch, 3, 1, height, width)`, float32 in [-1, 1].

        Raises:
            ValueError: if an image cannot be read, or the images of a batch ask for different sizes.
        """
        clips = [[read_image("image", item)] for item in split_images(image)]
        return self._preprocess_clips("image", clips, height, width, max_blocks)

    # The crop is the official one: there are no `resize_mode` and so on of diffusers to choose another.
    def preprocess_video(  # type: ignore[override]
        self,
        video: VideoInput,
        height: int | None = None,
        width: int | None = None,
        *,
        max_blocks: int | None = None,
    ) -> torch.Tensor:
        """
        Args:
            video: one video or a batch of them.
            height: of the result, in pixels.
            width: of the result, in pixels.
            max_blocks: instead of `height` and `width`, lets the shape of the first frames choose among [`crop_sizes`].

        Returns:
            `(batch, 3, frames, height, width)`, float32 in [-1, 1].

        Raises:
            ValueError: if a frame cannot be read, a video has no frames, or the videos of a batch have different numbers
                of frames or ask for different sizes.
        """
        clips = [[read_image("video", frame) for frame in clip] for clip in split_videos(video)]
        lengths = [len(clip) for clip in clips]
        if min(lengths) < 1:
            raise ValueError(f"`video` must have at least one frame, got {min(lengths)}.")
        if len(set(lengths)) > 1:
            raise ValueError(f"`video` must hold videos of the same number of frames, got {lengths}.")
        return self._preprocess_clips("video", clips, height, width, max_blocks)

    @staticmethod
    def numpy_to_pil(images: np.ndarray) -> list[PIL.Image.Image]:
        """PIL images of `(batch, height, width, 3)` in [0, 1]. Values are cut off, not rounded, as in the official code."""
        return [PIL.Image.fromarray(image) for image in (images * 255).astype(np.uint8)]

    def _preprocess_clips(
        self,
        name: str,
        clips: list[list[PIL.Image.Image]],
        height: int | None,
        width: int | None,
        max_blocks: int | None,
    ) -> torch.Tensor:
        if max_blocks is not None:
            height, width = _common_crop_size(name, clips, max_blocks)
        # Given where `max_blocks` is not.
        size = cast(int, height), cast(int, width)
        crops = [[np.asarray(resize_and_crop(frame, *size)) for frame in clip] for clip in clips]
        return pixels_to_input(torch.from_numpy(np.array(crops)))


def pixels_to_input(pixels: torch.Tensor) -> torch.Tensor:
    """
    Args:
        pixels: uint8 `(batch, frames, height, width, 3)`.

    Returns:
        What the video tokenizer takes: float32 `(batch, 3, frames, height, width)` in [-1, 1], on the same device.
    """
    # In float64, as in the official code: float32 rounds some values differently.
    return VideoProcessor.normalize(pixels.double() / 255).float().permute(0, 4, 1, 2, 3)


def read_image(name: str, image: Image) -> PIL.Image.Image:
    """
    One image as an RGB PIL image.

    Args:
        name: of the argument, for messages.
        image: see [`LumosVideoProcessor`].

    Raises:
        ValueError: if it is of another type or shape, its file is broken, it has no pixels, or values are out of range.
    """
    if isinstance(image, PIL.Image.Image):
        _check_not_empty(name, image.height, image.width)
        try:
            return to_rgb(image)
        except (OSError, SyntaxError) as error:
            raise ValueError(f"`{name}` must be readable, got a broken image file: {error}") from error
    if isinstance(image, torch.Tensor):
        array = _channels_last(name, image)
    elif isinstance(image, np.ndarray):
        array = image
    else:
        raise ValueError(f"`{name}` must consist of PIL images, numpy arrays or torch tensors, got {type(image)}.")

    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[-1] not in (1, 3):
        raise ValueError(f"`{name}` must consist of images with 1 or 3 channels, got shape {tuple(image.shape)}.")
    _check_not_empty(name, *array.shape[:2])
    return PIL.Image.fromarray(np.repeat(_to_uint8(name, array), 3 // array.shape[-1], axis=-1))


def _channels_last(name: str, image: torch.Tensor) -> np.ndarray:
    image = image.detach().cpu()
    if image.is_floating_point():
        image = image.float()
    return image.movedim(0, -1).numpy() if image.ndim == 3 else image.numpy()


def _to_uint8(name: str, array: np.ndarray) -> np.ndarray:
    if array.dtype == np.uint8:
        return array
    if not np.issubdtype(array.dtype, np.floating):
        raise ValueError(f"`{name}` must have dtype uint8 or a floating-point dtype, got {array.dtype}.")
    low, high = array.min(), array.max()
    if not (low >= 0 and high <= 1):
        raise ValueError(f"`{name}` must have floating-point values in [0, 1], got values from {low} to {high}.")
    return (array * 255).round().astype(np.uint8)


def _check_not_empty(name: str, height: int, width: int) -> None:
    if height < 1 or width < 1:
        raise ValueError(f"`{name}` must consist of images of at least one pixel, got {width}x{height} pixels.")


def _common_crop_size(name: str, clips: list[list[PIL.Image.Image]], max_blocks: int) -> tuple[int, int]:
    sizes = {choose_crop_size(clip[0].height, clip[0].width, max_blocks) for clip in clips}
    if len(sizes) > 1:
        raise ValueError(
            f"`{name}` must hold items of about the same shape, or `height` and `width` must be given: their shapes ask "
            f"for the sizes (height, width) {sorted(sizes)}."
        )
    return sizes.pop()


def split_images(image: ImageInput) -> list[Image]:
    is_batch = isinstance(image, list | tuple) or (isinstance(image, np.ndarray | torch.Tensor) and image.ndim == 4)
    images = list(cast(Iterable[Image], image)) if is_batch else [cast(Image, image)]
    if len(images) == 0:
        raise ValueError("`image` must hold at least one image, got none.")
    return images


def split_videos(video: VideoInput) -> list[list[Image]]:
    is_videos = isinstance(video, np.ndarray | torch.Tensor) and video.ndim in (4, 5)
    if not isinstance(video, list | tuple) and not is_videos:
        shape = f" of shape {tuple(video.shape)}" if isinstance(video, np.ndarray | torch.Tensor) else ""
        raise ValueError(
            "`video` must be a list of images, an array or tensor with a frame axis, or a batch of these, got "
            f"{type(video)}{shape}."
        )
    if len(video) == 0:
        raise ValueError("`video` must have at least one frame, got 0.")
    first = video[0]
    if isinstance(first, list | tuple) or (isinstance(first, np.ndarray | torch.Tensor) and first.ndim == 4):
        return [list(clip) for clip in cast(Iterable[Iterable[Image]], video)]
    return [list(cast(Iterable[Image], video))]
