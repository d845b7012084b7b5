# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""Reads a clip back from its pixels and compares it with what its caption promised.

A mini-GenEval (shape, colour, count, background, relation) and mini-VBench (motion, jerk, background constancy) for the
clips of [`lumos_hf.evaluation.clips`]. Needs no learned model: the scenes and the shapes are known.
"""

import math
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import ndimage

from .clips import BACKGROUNDS, COLOURS, GRID, RADIUS, SHAPES, ClipSpec, background_image, sprite


FOREGROUND_THRESHOLD = 45
SMALLEST_CHARACTER = 180
TEMPLATE_SIZE = 48
TEMPLATE_AREA = 24**2
COLOUR_RADIUS = 100
MOVEMENT = 10
SIZE_STEP = 8
GROWTH = 1.6


@dataclass(frozen=True)
class Blob:
    """One connected region that is not scenery: `mask` `(height, width)`, its area and centre in pixels."""

    mask: np.ndarray
    area: int
    centre: tuple[float, float]


@dataclass(frozen=True)
class Observation:
    """What the pixels of a clip show.

    Args:
        characters: `(shape, colour)`, left to right if they stand side by side, else top to bottom.
        background: the best matching scene.
        motion: of the character that is the largest when it first appears.
        relation: `"left"` or `"above"` for two characters, else None.
        jerk: mean length of the third difference of that character's path, pixels per frame cubed.
        background_constancy: 1 minus the mean absolute change of scenery from frame to frame, relative to 255.
        end: centre in pixels and area in square pixels of that character where it was last seen, or None.
    """

    characters: tuple[tuple[str, str], ...]
    background: str
    motion: str
    relation: str | None
    jerk: float
    background_constancy: float
    end: tuple[tuple[float, float], int] | None = None


@dataclass(frozen=True)
class Layout:
    """What the first frame of a clip chooses that its caption leaves open.

    Args:
        is_mirrored: whether the scene is flipped left to right.
        position: of the largest character, `(column, row)` in steps of `GRID` pixels, or None if there is none.
        size: the side of a square of its area, in steps of `SIZE_STEP` pixels, 0 if there is none.
    """

    is_mirrored: bool
    position: tuple[int, int] | None
    size: int


def layout(clip: np.ndarray) -> Layout:
    """Reads the layout of a clip of uint8 RGB frames `(frames, height, width, 3)`, as large as the demo's clips."""
    name, scene = _best_scene(clip)
    blobs = _blobs(clip[0], scene)
    is_mirrored = np.array_equal(scene, background_image(name, True))
    if not blobs:
        return Layout(is_mirrored, None, 0)
    largest = max(blobs, key=lambda blob: blob.area)
    column, row = (round(value / GRID) for value in largest.centre)
    return Layout(is_mirrored, (column, row), round(math.sqrt(largest.area) / SIZE_STEP))


def observe(clip: np.ndarray) -> Observation:
    """Measures a clip of uint8 RGB frames `(frames, height, width, 3)`, as large as the demo's clips."""
    background, scene = _best_scene(clip)
    frames = [_blobs(frame, scene) for frame in clip]
    count = Counter(len(blobs) for blobs in frames).most_common(1)[0][0]
    whole = [(frame, blobs) for frame, blobs in zip(clip, frames) if len(blobs) == count]
    relation, tracks = _tracks(whole, count)
    characters = tuple((_shape(track), _colour(track)) for track in tracks)
    followed = _follow_largest(frames)
    path = np.array([blob.centre for blob in followed])
    areas = [blob.area for blob in followed]
    return Observation(
        characters,
        background,
        _motion(path, areas),
        relation,
        _jerk(path),
        _constancy(clip, frames),
        end=(followed[-1].centre, followed[-1].area) if followed else None,
    )


def judge(spec: ClipSpec, seen: Observation) -> dict[str, bool]:
    """Which promises of `spec` a clip keeps; `all` is the conjunction."""
    shapes, colours = ([character[i] for character in seen.characters] for i in (0, 1))
    verdict = {
        "background": seen.background == spec.background,
        "count": len(seen.characters) == len(spec.characters),
        "colour": colours == [colour for _, colour in spec.characters],
        "shape": shapes == [shape for shape, _ in spec.characters],
        "motion": seen.motion == spec.motion,
    }
    if spec.relation:
        verdict["relation"] = seen.relation == spec.relation
    return verdict | {"all": all(verdict.values())}


def temporal_flickering(clip: np.ndarray) -> float:
    """
    1 minus the mean absolute change from frame to frame relative to 255: VBench's dimension of that name.

    Unlike `background_constancy` it counts what moves as well. VBench applies it to videos of still scenes.

    Args:
        clip: uint8 `(frames, height, width, 3)`, two frames or more.
    """
    changes = [np.abs(frame.astype(np.int16) - before).mean() for before, frame in zip(clip[:-1], clip[1:])]
    return 1 - float(np.mean(changes)) / 255


def ends_alike(seen: Observation, true: Observation) -> bool:
    """Whether the character of a clip ends where, and as large as, that of the true clip does."""
    if seen.end is None or true.end is None:
        return seen.end == true.end
    (centre, area), (true_centre, true_area) = seen.end, true.end
    return math.dist(centre, true_centre) < MOVEMENT and 1 / GROWTH < area / true_area < GROWTH


def _best_scene(clip: np.ndarray) -> tuple[str, np.ndarray]:
    typical = np.median(clip[:: max(1, len(clip) // 4)], axis=0)
    scenes = [(name, background_image(name, mirrored)) for name in BACKGROUNDS for mirrored in (False, True)]
    return min(scenes, key=lambda item: np.abs(typical - item[1]).mean(axis=-1).clip(max=60).mean())


def _blobs(frame: np.ndarray, scene: np.ndarray) -> list[Blob]:
    difference = np.abs(frame.astype(np.int16) - scene).max(axis=-1)
    labels, _ = ndimage.label(ndimage.binary_fill_holes(difference > FOREGROUND_THRESHOLD))
    areas = np.bincount(labels.ravel())[1:]
    chosen = [index + 1 for index, area in enumerate(areas) if area >= SMALLEST_CHARACTER]
    centres = ndimage.center_of_mass(labels > 0, labels, chosen)
    return [Blob(labels == i, int(areas[i - 1]), (float(x), float(y))) for i, (y, x) in zip(chosen, centres)]


def _tracks(
    frames: list[tuple[np.ndarray, list[Blob]]], count: int
) -> tuple[str | None, list[list[tuple[np.ndarray, Blob]]]]:
    """The characters through time, in reading order, and their relation if they are two."""
    if count == 0:
        return None, []
    centres = np.array([blob.centre for blob in frames[0][1]])
    axis = int(np.argmax(np.ptp(centres, axis=0)))
    ordered = [(frame, sorted(blobs, key=lambda blob: blob.centre[axis])) for frame, blobs in frames]
    tracks = [[(frame, blobs[i]) for frame, blobs in ordered] for i in range(count)]
    return (("left", "above")[axis] if count == 2 else None), tracks


def _follow_largest(frames: list[list[Blob]]) -> list[Blob]:
    """
    The largest blob of the first frame that has one, then always the one nearest to where it was.

    Of two equal characters, one is a few pixels larger in this frame and the other in the next.
    """
    followed: list[Blob] = []
    for blobs in filter(None, frames):
        if followed:
            followed.append(min(blobs, key=lambda blob: math.dist(blob.centre, followed[-1].centre)))
        else:
            followed.append(max(blobs, key=lambda blob: blob.area))
    return followed


def _shape(track: list[tuple[np.ndarray, Blob]]) -> str:
    masks = np.stack([_normalised(blob.mask) for _, blob in track])
    overlap = {
        shape: ((masks & template).sum((1, 2)) / (masks | template).sum((1, 2))).mean()
        for shape, template in _shape_templates().items()
    }
    return max(overlap, key=lambda shape: overlap[shape])


@lru_cache
def _shape_templates() -> dict[str, np.ndarray]:
    return {shape: _normalised(sprite(shape, "red", RADIUS, (0, 0))[..., 3] > 127) for shape in SHAPES}


def _normalised(mask: np.ndarray) -> np.ndarray:
    """The mask around its centre of mass, scaled to a fixed area: a few stray pixels at its edge change little."""
    y, x = ndimage.center_of_mass(mask)
    scale = np.sqrt(mask.sum() / TEMPLATE_AREA)
    offset = np.array([y, x]) - scale * (TEMPLATE_SIZE - 1) / 2
    size = (TEMPLATE_SIZE, TEMPLATE_SIZE)
    return ndimage.affine_transform(mask.astype(np.float32), [scale, scale], offset, size, order=1) > 0.5


def _colour(track: list[tuple[np.ndarray, Blob]]) -> str:
    pixels = np.concatenate([frame[blob.mask] for frame, blob in track]).astype(np.float32)
    distances = np.stack([np.linalg.norm(pixels - rgb, axis=-1) for rgb in COLOURS.values()])
    nearest = distances.argmin(0)[distances.min(0) < COLOUR_RADIUS]
    return list(COLOURS)[np.bincount(nearest, minlength=len(COLOURS)).argmax()]


def _motion(path: np.ndarray, areas: list[int]) -> str:
    if len(path) < 2:
        return "none"
    growth = np.mean(areas[-2:]) / np.mean(areas[:2])
    if growth > GROWTH or growth < 1 / GROWTH:
        return "grow" if growth > 1 else "shrink"
    dx, dy = path[-1] - path[0]
    if max(abs(dx), abs(dy)) > MOVEMENT:
        return ("right" if dx > 0 else "left") if abs(dx) > abs(dy) else ("down" if dy > 0 else "up")
    rise = max(path[0][1], path[-1][1]) - path[:, 1].min()
    return "jump" if rise > MOVEMENT else "still"


def _jerk(path: np.ndarray) -> float:
    return float(np.linalg.norm(np.diff(path, n=3, axis=0), axis=-1).mean()) if len(path) > 3 else 0.0


def _constancy(clip: np.ndarray, frames: list[list[Blob]]) -> float:
    covered = np.zeros(clip.shape[1:3], bool)
    for blobs in frames:
        for blob in blobs:
            covered |= ndimage.binary_dilation(blob.mask, iterations=3)
    change = np.abs(np.diff(clip.astype(np.int16), axis=0)).mean(axis=(0, 3))[~covered]
    return 1 - float(change.mean()) / 255 if change.size else 0.0
