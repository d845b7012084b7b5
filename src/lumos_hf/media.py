# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
Images and videos as files: mp4, gif and png, each written whole or not at all.

A file can say how it was made: the comment that each of the formats has holds the settings as JSON.
"""

import json
import math
import os
from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import av
from PIL import Image, PngImagePlugin

from .files import whole_file


SHEET_MARGIN = 4
SHEET_COLOR = "white"

# Hardly visible loss. The encoder's own default smears the flat colours and sharp edges of small clips. With macroblock
# trees the same frames became other bytes in other processes.
MP4_OPTIONS = {"crf": "16", "preset": "slow", "mbtree": "0"}

# What our files name their settings by, so that other comments are not taken for such.
_SETTINGS_KEY = "lumos_hf"
_PNG_COMMENT = "Comment"


def write_media(
    path: str | os.PathLike,
    frames: list[Image.Image],
    fps: int = 12,
    mp4_options: Mapping[str, str] = MP4_OPTIONS,
    settings: Mapping[str, Any] | None = None,
) -> None:
    """
    Writes a video as mp4 or gif, or as a png: of one frame the picture itself, of several a grid of them.

    Directories are created. The file appears under its name when it is complete; if writing fails, a file that was there
    before is left as it was.

    Args:
        path: file to write; its ending says how.
        frames: the video, at least one frame, all of one size. For mp4, width and height must be even.
        fps: frames per second of mp4 and gif. The delays of a gif are rounded to hundredths of a second.
        mp4_options: of the encoder, libx264.
        settings: what the file says of how it was made, which [`read_settings`] reads: what JSON can hold, as
            [`~lumos_hf.generation_record.generation_record`] gives it. None says nothing.

    Raises:
        ValueError: if the ending is unknown or the frames do not fit the format.
    """
    path = Path(path)
    check_media_path(path)
    if not frames:
        raise ValueError("`frames` must hold at least one image, got none.")
    sizes = {frame.size for frame in frames}
    if len(sizes) > 1:
        raise ValueError(f"`frames` must all have the same size, got the sizes (width, height) {sorted(sizes)}.")
    comment = _comment(settings)
    with whole_file(path) as temporary:
        if path.suffix.lower() == ".mp4":
            _write_mp4(temporary, frames, fps, comment, mp4_options)
        else:
            _WRITERS[path.suffix.lower()](temporary, frames, fps, comment)


def read_settings(path: str | os.PathLike) -> dict[str, Any] | None:
    """
    How a file was made, as [`write_media`] noted it; None if it does not say.

    Args:
        path: an mp4, gif or png file, told by its ending.

    Raises:
        ValueError: if the ending is unknown, or the file cannot be read.
        FileNotFoundError: if there is none.
    """
    path = Path(path)
    check_media_path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no file '{path}'.")
    reader = _mp4_comment if path.suffix.lower() == ".mp4" else _image_comment
    # Damaged files lead to errors of many kinds.
    try:
        comment = reader(path)
    except Exception as error:
        raise ValueError(f"'{path}' cannot be read: {error}.") from error
    try:
        settings = json.loads(comment or "null")
    # Brackets inside brackets end in a RecursionError.
    except (ValueError, RecursionError):
        return None
    return settings if isinstance(settings, dict) and _SETTINGS_KEY in settings else None


def write_mp4(
    path: str | os.PathLike,
    frames: Iterable[Image.Image],
    fps: int = 12,
    settings: Mapping[str, Any] | None = None,
) -> tuple[int, tuple[int, int]]:
    """
    Writes a video as mp4 while its frames are made, so that a long one needs no memory. The file appears under its name when
    it is complete.

    Args:
        path: file to write.
        frames: at least one, all of one size, of even width and height.
        fps: frames per second.
        settings: as in [`write_media`].

    Returns:
        how many frames they were, and their width and height.

    Raises:
        ValueError: if width or height are odd.
    """
    with whole_file(path) as temporary:
        return _write_mp4(temporary, frames, fps, _comment(settings))


def check_media_path(path: str | os.PathLike) -> None:
    """
    Raises:
        ValueError: if [`write_media`] knows no format of this ending.
    """
    if Path(path).suffix.lower() not in _WRITERS:
        raise ValueError(f"The name of an output file must end in one of {', '.join(_WRITERS)}, got '{path}'.")


def frame_grid(frames: list[Image.Image], columns: int | None = None) -> Image.Image:
    """
    Frames in reading order, in one picture.

    Args:
        frames: at least one image, all of one size.
        columns: frames per row; by default about as many as there are rows.
    """
    columns = columns or math.isqrt(len(frames) - 1) + 1
    return contact_sheet([frames[start : start + columns] for start in range(0, len(frames), columns)], columns)


def contact_sheet(clips: list[list[Image.Image]], columns: int | None = None) -> Image.Image:
    """
    Clips below each other in one picture, a row of frames for each.

    Args:
        clips: at least one clip of at least one frame, all frames of one size.
        columns: at most this many frames of a clip are shown, spread evenly from its first to its last; by default all.
    """
    rows = [_spread_evenly(clip, columns or len(clip)) for clip in clips]
    width, height = rows[0][0].size
    step_x, step_y = width + SHEET_MARGIN, height + SHEET_MARGIN
    size = (max(map(len, rows)) * step_x + SHEET_MARGIN, len(rows) * step_y + SHEET_MARGIN)
    sheet = Image.new("RGB", size, SHEET_COLOR)
    for y, row in enumerate(rows):
        for x, frame in enumerate(row):
            sheet.paste(frame, (SHEET_MARGIN + x * step_x, SHEET_MARGIN + y * step_y))
    return sheet


def _comment(settings: Mapping[str, Any] | None) -> str | None:
    return None if settings is None else json.dumps({_SETTINGS_KEY: None, **settings})


def _spread_evenly(clip: list[Image.Image], count: int) -> list[Image.Image]:
    if len(clip) <= count:
        return clip
    return [clip[round(index * (len(clip) - 1) / max(count - 1, 1))] for index in range(count)]


def _write_mp4(
    path: Path,
    frames: Iterable[Image.Image],
    fps: int,
    comment: str | None,
    options: Mapping[str, str] = MP4_OPTIONS,
) -> tuple[int, tuple[int, int]]:
    """Writes frames as they come; how many they were, and their size."""
    frames = iter(frames)
    first = next(frames)
    width, height = first.size
    count = 0
    if width % 2 or height % 2:
        raise ValueError(f"An mp4 file needs `frames` of even width and height, got {width}x{height} pixels.")
    with av.open(str(path), "w", format="mp4", options={"movflags": "faststart"}) as container:
        if comment is not None:
            container.metadata["comment"] = comment
        stream = container.add_stream("libx264", rate=fps, options=dict(options))
        stream.width, stream.height = width, height
        # Many players show nothing else.
        stream.pix_fmt = "yuv420p"
        for frame in chain([first], frames):
            container.mux(stream.encode(av.VideoFrame.from_image(frame)))
            count += 1
        container.mux(stream.encode())
    return count, (width, height)


def _write_gif(path: Path, frames: list[Image.Image], fps: int, comment: str | None) -> None:
    delay_in_ms = 10 * round(100 / fps)
    options = {} if comment is None else {"comment": comment.encode("ascii")}
    frames[0].save(
        path, format="GIF", save_all=True, append_images=frames[1:], duration=delay_in_ms, loop=0, **options
    )


def _write_png(path: Path, frames: list[Image.Image], fps: int, comment: str | None) -> None:
    picture = frames[0] if len(frames) == 1 else frame_grid(frames)
    info = PngImagePlugin.PngInfo()
    if comment is not None:
        info.add_text(_PNG_COMMENT, comment)
    picture.save(path, format="PNG", pnginfo=info)


def _mp4_comment(path: Path) -> str | None:
    # Under the name of a video, FFmpeg would take lists of other files.
    with av.open(str(path), format="mov", options={"protocol_whitelist": "file"}) as container:
        return container.metadata.get("comment")


def _image_comment(path: Path) -> str | bytes | None:
    with Image.open(path, formats=("GIF", "PNG")) as image:
        return image.info.get("comment", image.info.get(_PNG_COMMENT))


_WRITERS: dict[str, Callable[[Path, list[Image.Image], int, str | None], object]] = {
    ".mp4": _write_mp4,
    ".gif": _write_gif,
    ".png": _write_png,
}
