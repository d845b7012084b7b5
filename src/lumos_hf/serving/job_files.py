# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
What jobs are given and what they become, as files: a directory for each, all in one that the workers share.

Notable: a directory is found by the id of a job that the store knows, never by what a client sent. Files appear whole.
"""

import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import PIL.Image

from ..files import whole_file
from ..media import frame_grid, write_media


# Of a result, what the API calls its variants.
VARIANTS = {"video": "video.mp4", "thumbnail": "thumbnail.png", "spritesheet": "spritesheet.png"}
MEDIA_TYPES = {".mp4": "video/mp4", ".png": "image/png"}
IMAGE = "image.png"

_ID = re.compile(r"[a-z]+_[0-9a-f]{48}")
_CHUNK = 1 << 20
# A directory without a job that is older was left behind; a younger one may be of a job that is being stored.
_MAX_SECONDS_WITHOUT_JOB = 3600


class JobFiles:
    """
    Args:
        root: the directory, which is made.
    """

    def __init__(self, root: str | os.PathLike):
        self.root = Path(root)
        self.root.mkdir(parents=True, exist_ok=True)

    def path(self, id: str, name: str) -> Path:
        """
        Where a file of a job is.

        Args:
            id: of a job, from the store.
            name: of the file, from the code.

        Raises:
            ValueError: if the id is none that the store gives.
        """
        if _ID.fullmatch(id) is None:
            raise ValueError(f"`id` must be one of a job, got {id!r}.")
        return self.root / id / name

    def write_input(self, id: str, name: str, content: BinaryIO) -> int:
        """Keeps what a job is given; the bytes that it takes."""
        content.seek(0)
        with whole_file(self.path(id, name)) as partial, partial.open("wb") as file:
            shutil.copyfileobj(content, file, _CHUNK)
            file.flush()
            os.fsync(file.fileno())
            return file.tell()

    def write_video(self, id: str, frames: list[PIL.Image.Image], fps: int, settings: Mapping[str, Any]) -> int:
        """Writes a video and its pictures, with their settings inside; the bytes that they take."""
        contents = {"thumbnail": frames[:1], "spritesheet": [frame_grid(frames)], "video": frames}
        for variant, pictures in contents.items():
            write_media(self.path(id, VARIANTS[variant]), pictures, fps=fps, settings=settings)
        return self.num_bytes(id)

    def write_image(self, id: str, frames: list[PIL.Image.Image], settings: Mapping[str, Any]) -> int:
        """Writes an image with its settings inside; the bytes that it takes."""
        write_media(self.path(id, IMAGE), frames[:1], settings=settings)
        return self.num_bytes(id)

    def num_bytes(self, id: str) -> int:
        """What the files of a job take."""
        return sum(file.stat().st_size for file in self.path(id, "").iterdir())

    def remove(self, id: str) -> None:
        """Removes the files of a job, if there are any."""
        shutil.rmtree(self.path(id, ""), ignore_errors=True)

    def old_ids(self) -> Iterator[str]:
        """Ids of directories that are so old that their jobs must have been stored."""
        with os.scandir(self.root) as entries:
            for entry in entries:
                is_old = time.time() - entry.stat(follow_symlinks=False).st_mtime > _MAX_SECONDS_WITHOUT_JOB
                if is_old and entry.is_dir(follow_symlinks=False) and _ID.fullmatch(entry.name):
                    yield entry.name
