# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
Frames of an image or video file: which ones, and at which size.

Notable: frames are chosen by their times of presentation, so files of any and of varying frame rate work; only the
chosen ones are kept in memory; damaged data is an error instead of a grey picture.
"""

import hashlib
import random
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO

import av
import numpy as np
import PIL.Image

from ..video_processor_lumos import choose_crop_size, crop_budget, resize_and_crop


POSITIONS = ("middle", "start", "random")

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

    Args:
        num_frames: frames of a video; an image always is one.
        fps: frames per second.
        position: `"middle"`, `"start"` or `"random"`.
        height: in pixels, a multiple of 32.
        width: in pixels, a multiple of 32.
        buckets: whether the shape of each clip chooses its size.
        seed: of random positions.
    """

    num_frames: int
    fps: int
    position: str
    height: int
    width: int
    buckets: bool
    seed: int

    def read(self, file: BinaryIO, is_image: bool) -> tuple[np.ndarray, str]:
        """
        Args:
            file: open for reading.
            is_image: whether the file is a still.

        Returns:
            The frames, uint8 `(frames, height, width, 3)`, and the SHA-256 checksum of the whole file in hexadecimal.

        Raises:
            ValueError: if the file is empty, has no pictures, or lasts shorter than `num_frames`.
            av.FFmpegError: if it cannot be decoded.
        """
        checksum = _checksum(file)
        timeline = _read_timeline(file)
        chosen = [timeline.timestamps[0]] if is_image else self._choose_frames(timeline, checksum)
        crops: dict[int, np.ndarray] = {}
        size = None
        for timestamp, image in _decode(file, set(chosen)):
            size = size or self._size_for(image)
            crops[timestamp] = np.asarray(resize_and_crop(image, *size))
        if len(crops) < len(set(chosen)):
            raise ValueError(f"only {len(crops)} of {len(set(chosen))} frames could be decoded")
        return np.stack([crops[timestamp] for timestamp in chosen]), checksum

    def _choose_frames(self, timeline: "_Timeline", checksum: str) -> list[int]:
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

    def _choose_start(self, last_start: int, checksum: str) -> int:
        """The frame of the file to begin with, of those from 0 to `last_start`."""
        if self.position == "random":
            return random.Random(f"{self.seed}/{checksum}").randint(0, last_start)
        return last_start // 2 if self.position == "middle" else 0

    def _size_for(self, image: PIL.Image.Image) -> tuple[int, int]:
        if not self.buckets:
            return self.height, self.width
        return choose_crop_size(image.height, image.width, crop_budget(self.height, self.width))


def _checksum(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    while chunk := file.read(1 << 20):
        digest.update(chunk)
    if file.tell() == 0:
        raise ValueError("the file is empty")
    return digest.hexdigest()


@dataclass(frozen=True)
class _Timeline:
    """When the frames of a file are shown, in order: by its own clock and in seconds; and when the last one ends."""

    timestamps: list[int]
    seconds: list[float]
    end: float

    def frame_at(self, second: float) -> int:
        """Index of the frame that is shown at that time; the first one before it begins."""
        return max(bisect_right(self.seconds, second + _CLOCK_ERROR) - 1, 0)


def _read_timeline(file: BinaryIO) -> _Timeline:
    """Nothing is decoded."""
    with _opened(file) as (container, stream):
        durations = {
            packet.pts: packet.duration or 0
            for packet in container.demux(stream)
            if packet.pts is not None and not packet.is_discard
        }
        if not durations:
            raise ValueError("the file has no frames with a time")
        timestamps = sorted(durations)
        # Some files do not say how long the last frame is shown.
        average = (timestamps[-1] - timestamps[0]) / max(len(timestamps) - 1, 1)
        return _Timeline(
            timestamps,
            [float(timestamp * stream.time_base) for timestamp in timestamps],
            float(stream.time_base) * (timestamps[-1] + (durations[timestamps[-1]] or average)),
        )


def _decode(file: BinaryIO, timestamps: set[int]) -> Iterator[tuple[int, PIL.Image.Image]]:
    """The frames of these timestamps, upright, in order of time."""
    with _opened(file) as (container, stream):
        if min(timestamps) > 0:
            # To the last frame before it that needs no other.
            container.seek(min(timestamps), stream=stream)
        for frame in container.decode(stream):
            if frame.pts in timestamps:
                yield frame.pts, frame.to_image().rotate(frame.rotation, expand=True)
            if frame.pts is not None and frame.pts >= max(timestamps):
                return


@contextmanager
def _opened(file: BinaryIO) -> Iterator[tuple[av.container.InputContainer, av.video.stream.VideoStream]]:
    """A file from its beginning, and its video stream."""
    file.seek(0)
    with av.open(file) as container:
        if not container.streams.video:
            raise ValueError("the file has no pictures")
        stream = container.streams.video[0]
        # Or else what cannot be decoded is filled with grey.
        stream.codec_context.options = {"err_detect": "explode"}
        yield container, stream
