# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
Images as upright RGB pictures: from files of the usual formats, and from PIL images of any mode.

Notable:

- A file has a say in nothing but its pixels: it is opened by one of the listed formats, and refused before it is decoded
  if it has more pixels than `max_pixels`.
- The eight orientations that cameras note are undone, 16-bit grey keeps its range, transparency is left out as in the
  official code.
- Two decoders of JPEG give different pixels. The official code uses both of them, each for one task, and so does this
  package: Pillow for tokenising images, FFmpeg for the image that a video begins with. On a photograph, 56% of the values
  differ after cropping, by 0.64 of 255 on average and at most by 7. Of the other formats there is one decoder.
"""

import io
import os
import threading
from pathlib import Path
from typing import BinaryIO

import av
import numpy as np
import PIL.Image
import PIL.ImageOps

from .argument_checks import check_choice


# 67 million, of 8192 by 8192 pixels; decoding takes about 4 bytes for each.
MAX_PIXELS = 1 << 26

DECODERS = ("pillow", "ffmpeg")

# Pillow knows more, among them EPS, for which it starts another program.
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")

# Pillow's own limit is one for the whole process, and `max_pixels` may be above it.
_lifting_the_limit = threading.Lock()

_ORIENTATION = 0x0112
_GREY_16_BIT_MODES = ("I;16", "I;16L", "I;16B", "I;16N")
_LEVELS_PER_LEVEL = 65535 // 255


def read_image_file(
    file: str | os.PathLike | BinaryIO, *, decoder: str = "pillow", max_pixels: int = MAX_PIXELS
) -> PIL.Image.Image:
    """
    Args:
        file: BMP, GIF, JPEG, PNG, TIFF or WebP, of whose pictures the first one is taken; a path or open for reading.
        decoder: of JPEG, `"pillow"` or `"ffmpeg"`.
        max_pixels: that the image may have.

    Returns:
        The upright image, in RGB.

    Raises:
        ValueError: if the file is broken, of another format, or has more than `max_pixels` pixels.
        OSError: if there is no such file.
    """
    check_choice("decoder", decoder, DECODERS)
    content = file.read() if hasattr(file, "read") else Path(file).read_bytes()
    if not content:
        raise ValueError("the file is empty")
    image = _open(content, max_pixels)
    try:
        # Of CMYK, FFmpeg has its own idea.
        if decoder == "ffmpeg" and image.format == "JPEG" and image.mode in ("L", "RGB"):
            return _upright(_decode_by_ffmpeg(content, max_pixels), _orientation(image))
        return to_rgb(image)
    # Damaged files lead to errors of many kinds.
    except Exception as error:
        raise ValueError(f"the file cannot be read: {error}") from error


def to_rgb(image: PIL.Image.Image) -> PIL.Image.Image:
    """
    A PIL image of any mode, upright and in RGB.

    Raises:
        OSError or SyntaxError: if the file behind it is broken.
        ValueError: if its mode has no colours.
    """
    # Some files are turned, and their orientation forgotten, when they are loaded.
    image.load()
    orientation = _orientation(image)
    if image.mode in _GREY_16_BIT_MODES or (image.mode == "I" and np.asarray(image).max() > 255):
        levels = np.asarray(image).clip(0, 65535).astype(np.uint32)
        image = PIL.Image.fromarray(((levels + _LEVELS_PER_LEVEL // 2) // _LEVELS_PER_LEVEL).astype(np.uint8))
    return _upright(image.convert("RGB"), orientation)


def check_num_pixels(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise ValueError(
            f"the picture has {width}x{height} pixels, more than the {max_pixels} that `max_pixels` allows to be decoded"
        )


def _open(content: bytes, max_pixels: int) -> PIL.Image.Image:
    """Nothing is decoded yet."""
    with _lifting_the_limit:
        limit_of_pillow = PIL.Image.MAX_IMAGE_PIXELS
        PIL.Image.MAX_IMAGE_PIXELS = None
        try:
            image = PIL.Image.open(io.BytesIO(content), formats=_FORMATS)
        except Exception as error:
            raise ValueError(f"the file cannot be read: it is no image in {', '.join(_FORMATS)}") from error
        finally:
            PIL.Image.MAX_IMAGE_PIXELS = limit_of_pillow
    check_num_pixels(*image.size, max_pixels)
    return image


def _decode_by_ffmpeg(content: bytes, max_pixels: int) -> PIL.Image.Image:
    options = {"max_pixels": str(max_pixels)}
    with av.open(io.BytesIO(content), mode="r", format="jpeg_pipe", options=options) as container:
        # Threads would outlive it where an error keeps the stream, and forked processes would wait for them for ever.
        container.streams.video[0].thread_type = "NONE"
        for frame in container.decode(video=0):
            return frame.to_image(threads=1)
    raise ValueError("it has no picture")


def _orientation(image: PIL.Image.Image) -> int:
    """From 1 to 8; 1 is upright, which is what images are that do not say."""
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    # Notes of a camera that make no sense are no reason to refuse its picture.
    except Exception:
        return 1
    return orientation if orientation in range(1, 9) else 1


def _upright(image: PIL.Image.Image, orientation: int) -> PIL.Image.Image:
    upright = PIL.Image.fromarray(np.asarray(image))
    upright.getexif()[_ORIENTATION] = orientation
    PIL.ImageOps.exif_transpose(upright, in_place=True)
    return upright
