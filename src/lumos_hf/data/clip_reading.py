# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
Frames of an image or video file: which ones, and at which size.

Notable:

- Frames are chosen by their times of presentation, so files of any and of varying frame rate work; only the chosen ones
  are kept in memory. The official choice, by number, is there by name.
- Damaged data of a video is an error instead of a grey picture.
- The name of a file says how it is read. FFmpeg opens nothing but the listed kinds of files, and none that a file refers
  to: under the name of a video it would take lists of other files, and descriptions of what is to be fetched.
"""

import hashlib
import os
import random
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import av
import numpy as np
import PIL.Image

from ..image_reading import MAX_PIXELS, check_num_pixels, read_image_file
from ..video_processor_lumos import choose_crop_size, crop_budget, resize_and_crop


POSITIONS = ("middle", "start", "random")
FRAME_CHOICES = ("clock", "official")

# What the official scripts take of every video.
OFFICIAL_NUM_FRAMES, OFFICIAL_FPS = 84, 12

# FFmpeg's readers, by the endings of names.
_DEMUXERS = {
    ".avi": "avi",
    ".gif": "gif",
    ".m4v": "mov",
    ".mkv": "matroska",
    ".mov": "mov",
    ".mp4": "mov",
    ".webm": "matroska",
}

# In seconds. A gif keeps times in hundredths of a second, a mkv in thousandths.
_CLOCK_ERROR = 0.006


@dataclass(frozen=True)
class ClipReader:
    """
    Reads images and videos as clips of one frame rate.

    Of a video, `num_frames` frames are taken that follow each other at `fps` frames per second: around its middle, from
    its start, or from a random place that depends on `seed` and on the contents of the file alone. Each is the frame that
    a player would show at that time. Frames are turned as the file says, then scaled and cropped by the official rule
    ([`resize_and_crop`]), to `height` by `width` or, with `buckets`, to the size of about that area that fits the first
    frame best ([`choose_crop_size`]).

    With `frames="official"`, they are instead the first `num_frames` of those that the official scripts take: 84, every
    n-th one around the middle, n the whole number of times that 12 goes into the file's frames per second.

    Args:
        num_frames: frames of a video; an image always is one.
        fps: frames per second.
        position: `"middle"`, `"start"` or `"random"`.
        height: in pixels, a multiple of 32.
        width: in pixels, a multiple of 32.
        buckets: whether the shape of each clip chooses its size.
        seed: of random positions.
        frames: `"clock"` or `"official"`.
        max_pixels: that a picture may have before it is decoded.
    """

    num_frames: int
    fps: int
    position: str
    height: int
    width: int
    buckets: bool
    seed: int
    frames: str = "clock"
    max_pixels: int = MAX_PIXELS

    def read(self, file: BinaryIO, is_image: bool) -> tuple[np.ndarray, str]:
        """
        Args:
            file: open for reading.
            is_image: whether the file is a still.

        Returns:
            The frames, uint8 `(frames, height, width, 3)`, and the SHA-256 checksum of the whole file in hexadecimal.

        Raises:
            ValueError: if the file is empty, is no image, has no pictures or too large ones, or lasts shorter than
                `num_frames`.
            av.FFmpegError: if a video cannot be decoded.
        """
        checksum = _checksum(file)
        if is_image:
            file.seek(0)
            image = read_image_file(file, max_pixels=self.max_pixels)
            return np.array(resize_and_crop(image, *self._size_for(image)))[None], checksum
        timeline = _read_timeline(file, self.max_pixels)
        chosen = self._choose_official(timeline) if self.frames == "official" else self._choose(timeline, checksum)
        crops: dict[int, np.ndarray] = {}
        size = None
        for timestamp, image in _decode(file, set(chosen), self.max_pixels):
            size = size or self._size_for(image)
            crops[timestamp] = np.asarray(resize_and_crop(image, *size))
        if len(crops) < len(set(chosen)):
            raise ValueError(f"only {len(crops)} of {len(set(chosen))} frames could be decoded")
        return np.stack([crops[timestamp] for timestamp in chosen]), checksum

    def _choose(self, timeline: "_Timeline", checksum: str) -> list[int]:
        """Timestamps of the frames to take, a frame more than once where the file shows it that long."""
        num_available = round((timeline.end - timeline.seconds[0]) * self.fps)
        if num_available < self.num_frames:
            raise ValueError(
                f"the clip is too short: {num_available} of {self.num_frames} frames at {self.fps} frames per second"
            )
        last = max(timeline.seconds[-1], timeline.end - 1 / self.fps)
        last_start = timeline.frame_at(last - (self.num_frames - 1) / self.fps)
        start = timeline.seconds[self._choose_start(last_start, checksum)]
        frames = [timeline.frame_at(start + index / self.fps) for index in range(self.num_frames)]
        return [timeline.timestamps[frame] for frame in frames]

    def _choose_official(self, timeline: "_Timeline") -> list[int]:
        """Timestamps of frames that are counted, whenever they are shown."""
        if timeline.rate is None or timeline.rate < OFFICIAL_FPS:
            raise ValueError(f"the official frames need a clip of at least {OFFICIAL_FPS} frames per second")
        step = int(timeline.rate / OFFICIAL_FPS)
        num_available = len(timeline.timestamps)
        start = num_available // 2 - OFFICIAL_NUM_FRAMES * step // 2
        if start < 0:
            raise ValueError(
                f"the clip is too short: {num_available} of the {OFFICIAL_NUM_FRAMES * step} frames around which the "
                "official ones are"
            )
        return timeline.timestamps[start : start + self.num_frames * step : step]

    def _choose_start(self, last_start: int, checksum: str) -> int:
        """The frame of the file to begin with, of those from 0 to `last_start`."""
        if self.position == "random":
            return random.Random(f"{self.seed}/{checksum}").randint(0, last_start)
        return last_start // 2 if self.position == "middle" else 0

    def _size_for(self, image: PIL.Image.Image) -> tuple[int, int]:
        if not self.buckets:
            return self.height, self.width
        return choose_crop_size(image.height, image.width, crop_budget(self.height, self.width))


def read_first_frames(
    file: BinaryIO, num_frames: int, fps: int, max_pixels: int = MAX_PIXELS
) -> list[PIL.Image.Image]:
    """
    The beginning of a video, at another frame rate: what a player shows at 0, 1 / fps, 2 / fps, ... seconds.

    Args:
        file: open for reading.
        num_frames: that are wanted; a video that ends before gives fewer, and at least one.
        fps: frames per second.
        max_pixels: that a frame may have before it is decoded.

    Raises:
        ValueError: if the file has no pictures or too large ones.
        av.FFmpegError: if it cannot be decoded.
    """
    timeline = _read_timeline(file, max_pixels)
    num_available = max(1, round((timeline.end - timeline.seconds[0]) * fps))
    times = [timeline.seconds[0] + index / fps for index in range(min(num_frames, num_available))]
    chosen = [timeline.timestamps[timeline.frame_at(time)] for time in times]
    images = dict(_decode(file, set(chosen), max_pixels))
    if len(images) < len(set(chosen)):
        raise ValueError(f"only {len(images)} of {len(set(chosen))} frames could be decoded")
    return [images[timestamp] for timestamp in chosen]


def _checksum(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    while chunk := file.read(1 << 20):
        digest.update(chunk)
    if file.tell() == 0:
        raise ValueError("the file is empty")
    return digest.hexdigest()


@dataclass(frozen=True)
class _Timeline:
    """
    When the frames of a file are shown, in order: by its own clock and in seconds; when the last one ends; and how many a
    second the file says there are on average.
    """

    timestamps: list[int]
    seconds: list[float]
    end: float
    rate: Fraction | None

    def frame_at(self, second: float) -> int:
        """Index of the frame that is shown at that time; the first one before it begins."""
        return max(bisect_right(self.seconds, second + _CLOCK_ERROR) - 1, 0)


def _read_timeline(file: BinaryIO, max_pixels: int) -> _Timeline:
    """Nothing is decoded."""
    with _opened(file, max_pixels) as (container, stream):
        durations = {
            packet.pts: packet.duration or 0
            for packet in container.demux(stream)
            if packet.pts is not None and not packet.is_discard
        }
        if not durations:
            raise ValueError("the file has no frames with a time")
        timestamps = sorted(durations)
        if stream.time_base is None:
            raise ValueError("the file does not say in which unit its times are")
        # Some files do not say how long the last frame is shown.
        average = (timestamps[-1] - timestamps[0]) / max(len(timestamps) - 1, 1)
        return _Timeline(
            timestamps,
            [float(timestamp * stream.time_base) for timestamp in timestamps],
            float(stream.time_base) * (timestamps[-1] + (durations[timestamps[-1]] or average)),
            stream.average_rate,
        )


def _decode(file: BinaryIO, timestamps: set[int], max_pixels: int) -> Iterator[tuple[int, PIL.Image.Image]]:
    """The frames of these timestamps, upright, in order of time."""
    with _opened(file, max_pixels) as (container, stream):
        if min(timestamps) > 0:
            # To the last frame before it that needs no other.
            container.seek(min(timestamps), stream=stream)
        for frame in container.decode(stream):
            if frame.pts in timestamps:
                yield frame.pts, frame.to_image(threads=1).rotate(frame.rotation, expand=True)
            if frame.pts is not None and frame.pts >= max(timestamps):
                return


@contextmanager
def _opened(
    file: BinaryIO, max_pixels: int
) -> Iterator[tuple[av.container.InputContainer, av.video.stream.VideoStream]]:
    """A file from its beginning, and its video stream."""
    file.seek(0)
    options = {
        "format_whitelist": ",".join(sorted(set(_DEMUXERS.values()))),
        "protocol_whitelist": "",
        "max_pixels": str(max_pixels),
    }
    with av.open(file, mode="r", format=_demuxer(file), options=options) as container:
        if not container.streams.video:
            raise ValueError("the file has no pictures")
        stream = container.streams.video[0]
        if stream.codec_context is None:
            raise ValueError("there is no decoder for the codec of its video")
        # No threads, here and where colours are converted: they outlive the container where an error keeps the stream, and a
        # process forked later, such as the worker of a DataLoader, would wait for them for ever.
        stream.thread_type = "NONE"
        check_num_pixels(stream.codec_context.width, stream.codec_context.height, max_pixels)
        # Or else what cannot be decoded is filled with grey.
        stream.codec_context.options = {"err_detect": "explode", "max_pixels": str(max_pixels)}
        yield container, stream


def _demuxer(file: BinaryIO) -> str | None:
    """None, of contents without a name, leaves FFmpeg the choice among the listed ones."""
    name = getattr(file, "name", None)
    return _DEMUXERS.get(Path(name).suffix.lower()) if isinstance(name, (str, os.PathLike)) else None
