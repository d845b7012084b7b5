# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
Samples as files: what the scorers of the benchmarks read, and strips that lose nothing for the demo's own measures.

Notable: one file follows from its frames alone, whatever the machine. libx264 gives other bytes with other numbers of
threads, so it has one.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import PIL.Image

from ..files import whole_file, write_text
from ..image_reading import read_image_file
from ..media import contact_sheet, write_media
from .benchmarks import Entry


# What the official scripts encode with.
_OFFICIAL_MP4_OPTIONS = {"crf": "17", "threads": "1"}
METADATA_FILE, GRID_FILE = "metadata.jsonl", "grid.png"


def write_sample(path: Path, frames: list[PIL.Image.Image], fps: int) -> None:
    """An image as png, a video as the official scripts encode it, by the ending of `path`."""
    write_media(path, frames, fps=fps, mp4_options=_OFFICIAL_MP4_OPTIONS)


def write_strip(path: Path, frames: list[PIL.Image.Image]) -> None:
    """Frames below each other in one png."""
    strip = np.concatenate([np.asarray(frame) for frame in frames])
    with whole_file(path) as partial:
        PIL.Image.fromarray(strip).save(partial, format="PNG")


def read_strip(path: Path, height: int) -> np.ndarray:
    """The frames of a strip, uint8 `(frames, height, width, 3)`."""
    strip = np.asarray(read_image_file(path))
    return strip.reshape(-1, height, *strip.shape[1:])


def write_metadata(directory: Path, entries: Sequence[Entry]) -> None:
    """What GenEval's scorer must know of each prompt, into its folder: one JSON object without a new line."""
    for entry in entries:
        path = directory / entry.name / METADATA_FILE
        content = json.dumps(entry.metadata)
        if not path.is_file() or path.read_text(encoding="utf-8") != content:
            write_text(path, content)


def write_grids(directory: Path, entries: Sequence[Entry], num_samples: int) -> None:
    """The samples of a GenEval prompt below each other, where all are there; for people, not for the scorer."""
    for entry in entries:
        folder = directory / entry.name
        images = [folder / "samples" / f"{index:05d}.png" for index in range(num_samples)]
        if not (folder / GRID_FILE).exists() and all(image.is_file() for image in images):
            write_media(folder / GRID_FILE, [contact_sheet([[read_image_file(image)] for image in images])])


def find_images(directory: Path, names: Sequence[str]) -> dict[str, Path]:
    """
    The image files of those names.

    Raises:
        ValueError: if one is missing.
    """
    paths = {name: directory / name for name in dict.fromkeys(names)}
    missing = [name for name, path in paths.items() if not path.is_file()]
    if missing:
        raise ValueError(
            f"`images` must be the folder of the benchmark's images, got '{directory}', in which {len(missing)} of "
            f"{len(paths)} are missing, among them '{missing[0]}'."
        )
    return paths
