# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""The images and videos that `lumos-hf generate` starts from, and the options that say what happens to them."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from ..argument_checks import check_number
from ..generation_defaults import MAX_INTEGER, resolve_default
from .options import DIRECTING, option


if TYPE_CHECKING:
    from PIL import Image


VIDEO_ENDINGS = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".gif")

Edited = Annotated[
    Path | None,
    option(
        "--edit",
        metavar="FILE",
        help="The image or video that is made again in part: where --mask is white, or a share of --strength.",
        exists=True,
        dir_okay=False,
        panel=DIRECTING,
    ),
]
Mask = Annotated[
    Path | None,
    option(
        metavar="FILE",
        help="An image, white where --edit is made again, or a video of such images.",
        exists=True,
        dir_okay=False,
        panel=DIRECTING,
    ),
]
Strength = Annotated[
    float | None,
    option(metavar="X", help="The share of --edit, from 0 to 1, that is made again.", panel=DIRECTING),
]
Continued = Annotated[
    Path | None,
    option(
        "--continue",
        metavar="FILE",
        help="The video that goes on after its last frame.",
        exists=True,
        dir_okay=False,
        panel=DIRECTING,
    ),
]
SegmentTexts = Annotated[
    list[str] | None,
    option(
        "--segment",
        metavar="FRAME:TEXT",
        help="From that frame on TEXT is to be seen; may be given several times.",
        panel=DIRECTING,
    ),
]


@dataclass(frozen=True)
class GivenFiles:
    """
    What the options name, each None if it is not given.

    Args:
        image, video: the beginning of the result.
        edited: what is made again in part.
        continued: what goes on after its end.
        mask, strength: which part of `edited`.
        max_pixels: that no picture may have more of.
    """

    image: Path | None = None
    video: Path | None = None
    edited: Path | None = None
    continued: Path | None = None
    mask: Path | None = None
    strength: float | None = None
    max_pixels: int | None = None

    def check(self) -> None:
        """
        Raises:
            ValueError: if options contradict each other.
        """
        names = [name for name in ("image", "video", "edited", "continued") if getattr(self, name) is not None]
        if len(names) > 1:
            raise ValueError(f"At most one of {' and '.join(f'`{name}`' for name in names)} can be given.")
        if self.strength is not None:
            check_number("strength", self.strength, maximum=1)
        is_said = (self.mask is not None) + (self.strength is not None)
        if self.edited is not None and is_said != 1:
            raise ValueError("`edited` needs one of `mask` and `strength`, which say what is made again.")
        if self.edited is None and is_said:
            raise ValueError("`mask` and `strength` can be given with `edited` only.")

    def read_images(self) -> dict[str, Any]:
        """
        Arguments of the call of the pipeline, as far as they are single pictures, which need no pipeline to be read.

        Raises:
            ValueError: for a file that cannot be used.
        """
        arguments: dict[str, Any] = {} if self.strength is None else {"strength": self.strength}
        if self.image is not None:
            arguments["image"] = self._read_image("image", self.image)
        if self.edited is not None and not _is_video(self.edited):
            arguments["image"] = self._read_image("edited", self.edited)
        if self.mask is not None and not _is_video(self.mask):
            arguments["mask"] = self._read_image("mask", self.mask)
        return arguments

    def read_videos(self, num_frames: int | None, fps: int | None, pipeline_config: Any) -> dict[str, Any]:
        """
        The other arguments, which depend on the frame rate of the result.

        Args:
            num_frames, fps: what was asked for; None for nothing.
            pipeline_config: has the defaults.

        Raises:
            ValueError: for a file that cannot be used.
        """
        rate = int(resolve_default("fps", fps, pipeline_config, num_frames))
        length = int(resolve_default("num_frames", num_frames, pipeline_config))
        arguments: dict[str, Any] = {}
        if self.video is not None:
            arguments["video"] = self._read_video("video", self.video, length, rate)
        if self.continued is not None:
            frames = self._read_video("continued", self.continued, MAX_INTEGER, rate)
            new_frames = int(resolve_default("num_frames", None, pipeline_config)) - 1
            arguments["video"] = frames
            arguments["num_frames"] = len(frames) + new_frames if num_frames is None else num_frames
        if self.edited is not None and _is_video(self.edited):
            arguments["video"] = self._read_video("edited", self.edited, num_frames or MAX_INTEGER, rate)
        if self.mask is not None and _is_video(self.mask):
            count = len(arguments["video"]) if "video" in arguments else 1
            arguments["mask"] = self._read_video("mask", self.mask, count, rate)
        return arguments

    def _read_image(self, name: str, path: Path) -> "Image.Image":
        from ..image_reading import MAX_PIXELS, read_image_file

        # The decoder that the official code uses for this task.
        try:
            return read_image_file(path, decoder="ffmpeg", max_pixels=self.max_pixels or MAX_PIXELS)
        except ValueError as error:
            raise ValueError(f"`{name}` '{path}' cannot be used: {error}.") from error

    def _read_video(self, name: str, path: Path, num_frames: int, fps: int) -> list["Image.Image"]:
        """At most the first `num_frames` frames, at the frame rate of the result."""
        import av

        from ..data.clip_reading import read_first_frames
        from ..image_reading import MAX_PIXELS

        try:
            with path.open("rb") as file:
                return read_first_frames(file, num_frames, fps, self.max_pixels or MAX_PIXELS)
        except (ValueError, av.FFmpegError) as error:
            raise ValueError(f"`{name}` '{path}' cannot be used: {error}.") from error


def parse_segments(values: list[str] | None) -> list[dict[str, Any]] | None:
    """
    `prompt_segments` of the pipeline from `FRAME:TEXT`; None for none.

    Raises:
        ValueError: for another form.
    """
    segments = []
    for value in values or []:
        start, _, text = value.partition(":")
        if not start.strip().isdecimal() or not text.strip():
            raise ValueError(f"`segments` must be FRAME:TEXT, such as 24:A red star jumps., got {value!r}.")
        segments.append({"start_frame": int(start), "text": text.strip()})
    return segments or None


def _is_video(path: Path) -> bool:
    return path.suffix.lower() in VIDEO_ENDINGS
