# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""Procedural captioned clips: little characters that move through five scenes.

Everything about a clip follows from a [`ClipSpec`], so a caption can be checked on the pixels. Notable:

- Characters are sprites with a dark outline and eyes that look where they go; sprites and scenes are drawn once,
  four times too large, and reduced, so a clip costs about a millisecond.
- Centres start on the grid of the video tokenizer (16 px) and move one token per latent frame (4 px a frame):
  a small model then has few distinct tokens to learn.
- One (shape, colour, motion) triple in ten is held out from training, to test composition.
"""

import itertools
import math
import random
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw


SIZE = 128
NUM_FRAMES = 9
FPS = 8
GRID = 16
PIXELS_PER_FRAME = 4
RADIUS = 26
SMALL_RADIUS = 20
RADIUS_RANGE = (16, 36)
SUPERSAMPLING = 4
HELD_OUT_SHARE = 0.1
# A character moves this many tokens, or as many as leave all of it in the picture.
STEPS = 2
# Centres between which a character of the usual size is all in the picture.
MARGIN = 32
# What grows needs more room.
WIDE_MARGIN = 48

SHAPES = ("circle", "square", "triangle", "star", "heart")
COLOURS = {
    "red": (226, 45, 50),
    "orange": (250, 140, 20),
    "yellow": (250, 215, 40),
    "green": (30, 165, 75),
    "blue": (45, 95, 230),
    "purple": (150, 60, 205),
}
MOTIONS = {
    "right": ("moves right", "slides to the right"),
    "left": ("moves left", "slides to the left"),
    "up": ("rises", "floats up"),
    "down": ("sinks", "floats down"),
    "grow": ("grows", "gets bigger"),
    "shrink": ("shrinks", "gets smaller"),
    "jump": ("jumps", "hops"),
    "still": ("stands still", "waits"),
}
BACKGROUNDS = {
    "meadow": "in the meadow",
    "sea": "by the sea",
    "night": "at night",
    "desert": "in the desert",
    "snow": "in the snow",
}
RELATIONS = {"left": "to the left of", "above": "above"}

_LAST_RADIUS = {"grow": RADIUS_RANGE[1], "shrink": RADIUS_RANGE[0]}
_DIRECTIONS = {"right": (1, 0), "left": (-1, 0), "up": (0, -1), "down": (0, 1)}
_NEAR, _MIDDLE, _FAR = SIZE // 2 - GRID, SIZE // 2, SIZE // 2 + GRID
_STARTS = {
    "right": [(_NEAR, y) for y in (_MIDDLE, _FAR)],
    "left": [(_FAR, y) for y in (_MIDDLE, _FAR)],
    "up": [(x, _FAR) for x in (_NEAR, _MIDDLE, _FAR)],
    "down": [(x, _NEAR) for x in (_NEAR, _MIDDLE, _FAR)],
    "grow": [(_MIDDLE, _MIDDLE), (_MIDDLE, _FAR)],
    "shrink": [(_MIDDLE, _MIDDLE), (_MIDDLE, _FAR)],
    "jump": [(x, _FAR) for x in (_NEAR, _MIDDLE, _FAR)],
    "still": [(x, _FAR) for x in (_NEAR, _MIDDLE, _FAR)],
}
_PAIR_CENTRES = {
    "left": ((_MIDDLE - 2 * GRID, _FAR), (_MIDDLE + 2 * GRID, _FAR)),
    "above": ((_MIDDLE, _MIDDLE - 2 * GRID), (_MIDDLE, _MIDDLE + 2 * GRID)),
}
# What the first frame of a clip may look like that goes on from an image: where a character looks tells them apart.
IMAGES = ("still", *_DIRECTIONS)


@dataclass(frozen=True)
class ClipSpec:
    """What a clip shows.

    Args:
        characters: one or two `(shape, colour)` pairs.
        background: a key of `BACKGROUNDS`.
        mirrored: whether the scene is flipped left to right.
        motion: a key of `MOTIONS`; two characters always stand still.
        start: centre of a single character in frame 0, `(x, y)` in pixels.
        relation: where the first of two characters is, seen from the second; `None` for one character.
        image: the motion whose first frame is frame 0, one of `IMAGES`, if the clip goes on from an image; `None` for
            that of `motion` itself.
    """

    characters: tuple[tuple[str, str], ...]
    background: str
    mirrored: bool = False
    motion: str = "still"
    start: tuple[int, int] = (_MIDDLE, _MIDDLE)
    relation: str | None = None
    image: str | None = None


def single_specs() -> list[ClipSpec]:
    """Every clip with one character, in a fixed order."""
    return [
        ClipSpec(((shape, colour),), background, mirrored, motion, start)
        for shape, colour, motion in itertools.product(SHAPES, COLOURS, MOTIONS)
        for background, mirrored in itertools.product(BACKGROUNDS, (False, True))
        for start in _STARTS[motion]
    ]


def pair_specs() -> list[ClipSpec]:
    """Every clip with two characters of different colours, in a fixed order."""
    kinds = list(itertools.product(SHAPES, COLOURS))
    return [
        ClipSpec((first, second), background, mirrored, relation=relation)
        for first, second in itertools.product(kinds, kinds)
        if first[1] != second[1]
        for relation, background, mirrored in itertools.product(RELATIONS, BACKGROUNDS, (False, True))
    ]


def continued_specs() -> list[ClipSpec]:
    """
    Every clip with one character that goes on from an image, in a fixed order.

    The character stands anywhere on the grid with room for the motion, and grows or shrinks from its usual size.
    """
    centres = range(MARGIN, SIZE - MARGIN + 1, GRID)
    return [
        ClipSpec(((shape, colour),), background, mirrored, motion, start, image=image)
        for shape, colour, motion in itertools.product(SHAPES, COLOURS, MOTIONS)
        for background, mirrored in itertools.product(BACKGROUNDS, (False, True))
        for start in itertools.product(centres, centres)
        if room(motion, start)
        for image in IMAGES
    ]


def is_known_start(spec: ClipSpec) -> bool:
    """Whether a single character starts where clips that begin with it do, with text alone."""
    return spec.start in _STARTS[spec.motion]


def room(motion: str, start: tuple[int, int]) -> int:
    """How many steps of `GRID` pixels a character can move from `start`, at most `STEPS`; 0 if it cannot."""
    (x, y), far = start, SIZE - MARGIN
    pixels = {"right": far - x, "left": x - MARGIN, "up": y - MARGIN, "down": far - y, "jump": y - MARGIN}
    if motion == "grow":
        return STEPS if all(WIDE_MARGIN <= value <= SIZE - WIDE_MARGIN for value in start) else 0
    return max(0, min(STEPS, pixels.get(motion, SIZE) // GRID))


@lru_cache
def held_out_combinations() -> frozenset[tuple[str, ...]]:
    """The (shape, colour, motion) triples and (shape, colour, shape, colour) pairs that training never sees."""
    rng = random.Random(0)
    triples = list(itertools.product(SHAPES, COLOURS, MOTIONS))
    pairs = list(itertools.product(SHAPES, COLOURS, SHAPES, COLOURS))
    return frozenset(
        chosen for group in (triples, pairs) for chosen in rng.sample(group, round(HELD_OUT_SHARE * len(group)))
    )


def is_held_out(spec: ClipSpec) -> bool:
    """Whether the combination that `spec` shows is kept from training."""
    kinds = tuple(itertools.chain.from_iterable(spec.characters))
    return (kinds if spec.relation else (*kinds, spec.motion)) in held_out_combinations()


def caption(spec: ClipSpec, rng: random.Random) -> str:
    """A natural English caption of `spec`; `rng` picks among the wordings."""
    where = BACKGROUNDS[spec.background]
    nouns = [f"{_article(colour)} {colour} {shape}" for shape, colour in spec.characters]
    action = f"{RELATIONS[spec.relation]} {nouns[1]}" if spec.relation else rng.choice(MOTIONS[spec.motion])
    if rng.random() < 0.5:
        return f"{nouns[0].capitalize()} {action} {where}."
    return f"{where.capitalize()}, {nouns[0]} {action}."


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"


def draw_clip(spec: ClipSpec) -> np.ndarray:
    """Draws `spec` as uint8 RGB frames of shape `(NUM_FRAMES, SIZE, SIZE, 3)`."""
    scene = background_image(spec.background, spec.mirrored)
    frames = np.repeat(scene[None], NUM_FRAMES, axis=0)
    for time, frame in enumerate(frames):
        for (shape, colour), (centre, radius, gaze) in zip(spec.characters, _poses(spec, time)):
            _blit(frame, sprite(shape, colour, radius, gaze), centre)
    return frames


def _poses(spec: ClipSpec, time: int) -> list[tuple[tuple[int, int], int, tuple[int, int]]]:
    """Centre, radius and gaze of every character at a frame."""
    if spec.relation:
        first, second = _PAIR_CENTRES[spec.relation]
        towards = (1, 0) if spec.relation == "left" else (0, 1)
        return [(first, SMALL_RADIUS, towards), (second, SMALL_RADIUS, (-towards[0], -towards[1]))]
    distance = GRID * room(spec.motion, spec.start)
    (x, y), radius = spec.start, RADIUS
    direction, progress = _DIRECTIONS.get(spec.motion, (0, 0)), time / (NUM_FRAMES - 1)
    if spec.motion in _LAST_RADIUS:
        last = _LAST_RADIUS[spec.motion]
        initial = RADIUS if spec.image else sum(RADIUS_RANGE) - last
        radius = round(initial + (last - initial) * progress)
    if spec.motion == "jump":
        y -= round(distance * math.sin(math.pi * progress))
    moved = min(PIXELS_PER_FRAME * time, distance)
    gaze = direction if time or not spec.image else _DIRECTIONS.get(spec.image, (0, 0))
    return [((x + direction[0] * moved, y + direction[1] * moved), radius, gaze)]


def _blit(frame: np.ndarray, rgba: np.ndarray, centre: tuple[int, int]) -> None:
    half = rgba.shape[0] // 2
    left, top = centre[0] - half, centre[1] - half
    window = frame[max(top, 0) : top + 2 * half, max(left, 0) : left + 2 * half]
    rgba = rgba[max(-top, 0) :, max(-left, 0) :][: window.shape[0], : window.shape[1]]
    alpha = rgba[..., 3:].astype(np.float32) / 255
    window[:] = np.round(window * (1 - alpha) + rgba[..., :3] * alpha)


def outline(shape: str, radius: float) -> list[tuple[float, float]]:
    """Corner points of `shape` around the origin, `(x, y)` in pixels with y downwards."""
    turn = 2 * math.pi
    if shape == "circle":
        return [(radius * math.cos(turn * i / 72), radius * math.sin(turn * i / 72)) for i in range(72)]
    if shape == "square":
        side = 0.88 * radius
        return [(-side, -side), (side, -side), (side, side), (-side, side)]
    if shape == "triangle":
        return [(0, -1.05 * radius), (1.08 * radius, 0.85 * radius), (-1.08 * radius, 0.85 * radius)]
    if shape == "star":
        radii = itertools.cycle((1.12 * radius, 0.52 * radius))
        angles = [turn * i / 10 - turn / 4 for i in range(10)]
        return [(r * math.cos(a), r * math.sin(a) + 0.05 * radius) for a, r in zip(angles, radii)]
    angles = [turn * i / 72 for i in range(72)]
    lobes = [(13 * math.cos(a) - 5 * math.cos(2 * a) - 2 * math.cos(3 * a) - math.cos(4 * a)) for a in angles]
    return [(1.06 * radius * math.sin(a) ** 3, -radius * (y + 2.5) / 14.5) for a, y in zip(angles, lobes)]


@lru_cache(maxsize=4096)
def sprite(shape: str, colour: str, radius: int, gaze: tuple[int, int]) -> np.ndarray:
    """A character as uint8 RGBA, even-sided, its origin in the middle."""
    half = math.ceil(1.25 * radius)
    scale = SUPERSAMPLING
    rgb = COLOURS[colour]
    dark = tuple(round(0.45 * value) for value in rgb)
    image = Image.new("RGBA", (2 * half * scale,) * 2, (*dark, 0))
    draw = ImageDraw.Draw(image)
    points = [((x + half) * scale, (y + half) * scale) for x, y in outline(shape, radius)]
    draw.polygon(points, fill=rgb)
    draw.line([*points, points[0], points[1]], fill=dark, width=round(0.1 * radius * scale), joint="curve")
    _draw_face(draw, shape, half * scale, radius * scale, gaze, dark)
    return np.asarray(image.reduce(scale))


def _draw_face(
    draw: ImageDraw.ImageDraw, shape: str, middle: float, radius: float, gaze: tuple[int, int], dark: tuple[int, ...]
) -> None:
    height = middle + radius * {"triangle": 0.22, "star": -0.05, "heart": -0.22}.get(shape, -0.15)
    for side in (-1, 1):
        _disc(draw, middle + side * 0.26 * radius, height, 0.21 * radius, (255, 255, 255))
        pupil_x = middle + (side * 0.26 + 0.08 * gaze[0]) * radius
        _disc(draw, pupil_x, height + 0.08 * gaze[1] * radius, 0.11 * radius, (20, 20, 30))
    smile = [middle - 0.2 * radius, height + 0.1 * radius, middle + 0.2 * radius, height + 0.42 * radius]
    draw.arc(smile, 20, 160, fill=dark, width=round(0.07 * radius))


def _disc(draw: ImageDraw.ImageDraw, x: float, y: float, radius: float, fill: tuple[int, ...]) -> None:
    draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=fill)


@lru_cache
def background_image(name: str, mirrored: bool) -> np.ndarray:
    """A scene as uint8 RGB of shape `(SIZE, SIZE, 3)`."""
    sky_top, sky_bottom, horizon = {
        "meadow": ((120, 200, 250), (215, 240, 255), 92),
        "sea": ((250, 205, 170), (255, 238, 205), 80),
        "night": ((14, 16, 48), (48, 44, 98), 100),
        "desert": ((240, 170, 130), (252, 225, 185), 88),
        "snow": ((175, 190, 215), (225, 230, 242), 90),
    }[name]
    scale = SUPERSAMPLING
    ramp = np.linspace(0, 1, SIZE * scale)[:, None, None] * SIZE / horizon
    sky = np.asarray(sky_top) * (1 - np.clip(ramp, 0, 1)) + np.asarray(sky_bottom) * np.clip(ramp, 0, 1)
    image = Image.fromarray(np.round(np.broadcast_to(sky, (SIZE * scale, SIZE * scale, 3))).astype(np.uint8))
    _SCENERY[name](_ScaledDraw(ImageDraw.Draw(image), scale), horizon)
    drawn = np.asarray(image.reduce(scale))
    return drawn[:, ::-1].copy() if mirrored else drawn


@dataclass
class _ScaledDraw:
    """Draws in pixels of the finished picture."""

    draw: ImageDraw.ImageDraw
    scale: int

    def disc(self, x: float, y: float, radius: float, fill: tuple[int, ...]) -> None:
        _disc(self.draw, x * self.scale, y * self.scale, radius * self.scale, fill)

    def polygon(self, points: list[tuple[float, float]], fill: tuple[int, ...]) -> None:
        self.draw.polygon([(x * self.scale, y * self.scale) for x, y in points], fill=fill)

    def hills(self, height: float, swing: float, waves: float, phase: float, fill: tuple[int, ...]) -> None:
        crest = [(x, height - swing * math.sin(waves * 2 * math.pi * x / SIZE + phase)) for x in range(SIZE + 1)]
        self.polygon([*crest, (SIZE, SIZE), (0, SIZE)], fill)


def _meadow(draw: _ScaledDraw, horizon: int) -> None:
    draw.disc(20, 20, 11, (255, 230, 90))
    for x, y in ((92, 22), (102, 18), (111, 23)):
        draw.disc(x, y, 8, (255, 255, 255))
    draw.hills(horizon, 5, 1, 0.4, (150, 210, 110))
    draw.hills(horizon + 16, 4, 1, 2.6, (120, 190, 90))
    for x, y, fill in ((12, 118, (250, 120, 150)), (40, 122, (255, 255, 255)), (100, 121, (255, 240, 120))):
        draw.disc(x, y, 2.5, fill)


def _sea(draw: _ScaledDraw, horizon: int) -> None:
    draw.disc(102, horizon, 15, (255, 150, 90))
    draw.polygon([(0, horizon), (SIZE, horizon), (SIZE, SIZE), (0, SIZE)], (70, 160, 185))
    draw.hills(horizon + 16, 1.5, 4, 0, (55, 140, 170))
    draw.hills(horizon + 32, 1.5, 4, 2, (40, 120, 150))
    draw.polygon([(14, horizon - 1), (32, horizon - 1), (28, horizon + 4), (18, horizon + 4)], (120, 70, 50))
    draw.polygon([(23, horizon - 3), (23, horizon - 18), (32, horizon - 3)], (255, 255, 250))


def _night(draw: _ScaledDraw, horizon: int) -> None:
    draw.disc(104, 22, 12, (250, 245, 205))
    draw.disc(99, 18, 10, (20, 21, 56))
    for x, y in ((12, 14), (30, 34), (52, 10), (74, 26), (10, 56), (118, 50), (84, 8)):
        draw.disc(x, y, 1.3, (255, 255, 235))
    draw.hills(horizon, 5, 1, 1.5, (30, 40, 66))
    draw.hills(horizon + 14, 4, 1, 4, (20, 30, 50))


def _desert(draw: _ScaledDraw, horizon: int) -> None:
    draw.disc(98, 24, 12, (255, 250, 225))
    draw.hills(horizon, 6, 1, 2.2, (235, 190, 120))
    draw.hills(horizon + 18, 4, 1, 0.5, (215, 165, 95))
    for x, y, half_width, half_height in ((16, 84, 3, 16), (9, 82, 2, 6), (23, 78, 2, 6)):
        draw.polygon(
            [
                (x - half_width, y - half_height),
                (x + half_width, y - half_height),
                (x + half_width, y + half_height),
                (x - half_width, y + half_height),
            ],
            (80, 125, 80),
        )
    draw.polygon([(8, 86), (24, 82), (24, 85), (8, 89)], (80, 125, 80))


def _snow(draw: _ScaledDraw, horizon: int) -> None:
    draw.hills(horizon, 5, 1, 0, (238, 243, 250))
    draw.hills(horizon + 16, 4, 1, 3, (250, 252, 255))
    for x, y, size in ((14, horizon + 6, 12), (114, horizon + 2, 9)):
        for level in range(3):
            top = y - size * (3 - level)
            half = size * (0.5 + 0.2 * level)
            draw.polygon([(x, top), (x + half, top + 1.4 * size), (x - half, top + 1.4 * size)], (70, 120, 110))
    for x, y in ((34, 14), (56, 40), (80, 18), (100, 44), (44, 66), (90, 70), (66, 8)):
        draw.disc(x, y, 1.6, (255, 255, 255))


_SCENERY = {"meadow": _meadow, "sea": _sea, "night": _night, "desert": _desert, "snow": _snow}
