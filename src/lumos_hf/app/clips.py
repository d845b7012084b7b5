# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""What the page shows and hands out: a clip, read from an upload or made."""

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import numpy as np
import PIL.Image

from ..data.clip_reading import read_first_frames
from ..image_reading import check_num_pixels, read_image_file
from ..media import write_media
from ..video_processor_lumos import resize_and_crop


# Of an uploaded picture or frame: 16 million, of 4096 by 4096.
MAX_UPLOADED_PIXELS = 1 << 24

FORMATS = ("mp4", "gif", "png")

_VIDEO_ENDINGS = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".webm")


@dataclass(frozen=True)
class Clip:
    """
    Args:
        frames: the video, all of one size.
        fps: frames per second.
        settings: how it was made; empty if it was uploaded.
    """

    frames: list[PIL.Image.Image]
    fps: int
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def num_bytes(self) -> int:
        """Of its pixels, in RGB."""
        return sum(3 * frame.width * frame.height for frame in self.frames)


def read_upload(path: str | Path, *, height: int, width: int, max_num_frames: int, fps: int) -> Clip:
    """
    An uploaded image, or the beginning of an uploaded video at `fps`, scaled and cropped to `height` by `width`.

    Raises:
        ValueError: if the file is neither, is broken, or its pictures have more than `MAX_UPLOADED_PIXELS` pixels.
    """
    path = Path(path)
    try:
        if path.suffix.lower() in _VIDEO_ENDINGS:
            with path.open("rb") as file:
                frames = read_first_frames(file, max_num_frames, fps, MAX_UPLOADED_PIXELS)
        else:
            frames = [read_image_file(path, decoder="ffmpeg", max_pixels=MAX_UPLOADED_PIXELS)]
    except (ValueError, av.FFmpegError) as error:
        raise ValueError(f"'{path.name}' cannot be used: {error}.") from error
    return Clip([resize_and_crop(frame, height, width) for frame in frames], fps)


def read_drawing(content: bytes) -> PIL.Image.Image:
    """
    A PNG or WebP picture, as browsers send drawings, in RGBA.

    Raises:
        ValueError: if it is none, is broken, or has more than `MAX_UPLOADED_PIXELS` pixels.
    """
    try:
        picture = PIL.Image.open(io.BytesIO(content), formats=("PNG", "WEBP"))
        check_num_pixels(*picture.size, MAX_UPLOADED_PIXELS)
        return picture.convert("RGBA")
    # Damaged files lead to errors of many kinds.
    except Exception as error:
        raise ValueError(f"the file cannot be read: {error}") from error


def read_mask(drawing: PIL.Image.Image, height: int, width: int) -> np.ndarray:
    """
    Args:
        drawing: RGBA of any size, opaque where something was drawn.

    Returns:
        bool `(height, width)`: where that is.

    Raises:
        ValueError: if that is nowhere or everywhere.
    """
    alpha = drawing.convert("RGBA").getchannel("A").resize((width, height), PIL.Image.Resampling.BOX)
    mask = np.asarray(alpha) > 0
    if not mask.any() or mask.all():
        covered = "everything" if mask.any() else "nothing"
        raise ValueError(f"Draw over the part of the picture that is to be made again: {covered} is marked.")
    return mask


def write_files(clip: Clip, directory: str | Path, name: str) -> dict[str, str]:
    """Writes a clip in all formats, with its settings inside, and gives the paths by format."""
    paths = {ending: str(Path(directory) / f"{name}.{ending}") for ending in FORMATS}
    for path in paths.values():
        write_media(path, clip.frames, fps=clip.fps, settings=clip.settings or None)
    return paths
