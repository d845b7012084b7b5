# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""Scores how a demo checkpoint can be directed: `python examples/demo_world/score_directing.py`.

Edits (another colour or shape inside of a mask), prompts that change on the way, and clips seven times longer than those
it was trained on; held-out combinations, with controls beside them. docs/directing.md has the tables.
"""

import argparse
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
from tqdm.auto import tqdm

from lumos_hf.demo import demo_checkpoint
from lumos_hf.evaluation.clips import (
    COLOURS,
    GRID,
    MOTIONS,
    NUM_FRAMES,
    SHAPES,
    ClipSpec,
    background_image,
    caption,
    draw_clip,
    is_held_out,
    room,
    single_specs,
)
from lumos_hf.evaluation.measure import FOREGROUND_THRESHOLD, Observation, ends_alike, judge, observe
from lumos_hf.evaluation.score import generate, reconstruct, wilson_interval
from lumos_hf.files import write_json
from lumos_hf.hub.model_card import format_table
from lumos_hf.media import contact_sheet
from lumos_hf.pipeline_lumos_video import LumosVideoPipeline


NUM_CLIPS = 100
# Of a clip that goes on from one to the next.
NUM_WINDOWS = 8
BATCH_SIZE = 10
MASK_MARGIN = 2
SHARES_OF_CLIPS = {
    "all",
    "before the switch",
    "after it",
    "both",
    "first window",
    "last window",
    "clips right throughout",
}
# A new sequence begins with the last frame alone: what was trained as going on from an image.
ROLLING = {"temporal_tile_size": NUM_FRAMES, "temporal_overlap": 1}
STEP = NUM_FRAMES - 1
DIRECTIONS = {"right": (1, 0), "left": (-1, 0), "up": (0, -1), "down": (0, 1)}
BACK = {"right": "left", "left": "right", "up": "down", "down": "up", "jump": "still", "still": "jump"}

Chosen = Callable[[ClipSpec], bool]


@dataclass(frozen=True)
class Edit:
    """A clip, and the same clip with another colour or shape."""

    before: ClipSpec
    after: ClipSpec
    prompt: str

    def masks(self) -> list[np.ndarray]:
        """A box around both characters in every frame, bool `(height, width)`."""
        scene = background_image(self.before.background, self.before.mirrored)
        clips = [draw_clip(spec) for spec in (self.before, self.after)]
        return [_box(np.any([(clip[time] != scene).any(-1) for clip in clips], axis=0)) for time in range(NUM_FRAMES)]


@dataclass(frozen=True)
class Story:
    """What happens in one window of frames after another, and the prompts that ask for it."""

    windows: list[ClipSpec]
    prompts: list[str]

    @property
    def segments(self) -> list[dict[str, Any]]:
        starts = [0, *(1 + STEP * index for index in range(1, len(self.prompts)))]
        return [{"start_frame": start, "text": text} for start, text in zip(starts, self.prompts, strict=True)]


def edits(count: int, is_chosen: Chosen) -> list[Edit]:
    """The same edits every time: every other one changes the colour, the others the shape."""
    rng = random.Random(0)
    specs = rng.sample([spec for spec in single_specs() if is_chosen(spec)], count)
    result = []
    for index, after in enumerate(specs):
        shape, colour = after.characters[0]
        if index % 2:
            shape = rng.choice([other for other in SHAPES if other != shape])
        else:
            colour = rng.choice([other for other in COLOURS if other != colour])
        result.append(Edit(replace(after, characters=((shape, colour),)), after, caption(after, rng)))
    return result


def stories(count: int, is_chosen: Chosen, num_windows: int, motions: Sequence[str]) -> list[Story]:
    """
    The same stories every time. Two windows: any motion follows another. More: forth and back, over and over.

    The second window is what `is_chosen` takes; where a window ends, the next one starts.
    """
    rng = random.Random(0)
    possible = []
    for first in single_specs():
        if first.motion not in motions:
            continue
        followers = (
            [motion for motion in MOTIONS if motion != first.motion] if num_windows == 2 else [BACK[first.motion]]
        )
        windows = [_follow(first, motion) for motion in followers if room(motion, _end(first))]
        possible += [(first, second) for second in windows if is_chosen(second)]
    result = []
    for first, second in rng.sample(possible, count):
        windows = [first, second]
        while len(windows) < num_windows:
            windows.append(_follow(windows[-1], windows[-2].motion))
        result.append(Story(windows, [caption(spec, rng) for spec in windows]))
    return result


def _end(spec: ClipSpec) -> tuple[int, int]:
    dx, dy = DIRECTIONS.get(spec.motion, (0, 0))
    distance = GRID * room(spec.motion, spec.start)
    return spec.start[0] + dx * distance, spec.start[1] + dy * distance


def _follow(spec: ClipSpec, motion: str) -> ClipSpec:
    image = spec.motion if spec.motion in DIRECTIONS else "still"
    return replace(spec, motion=motion, start=_end(spec), image=image)


def _box(inside: np.ndarray) -> np.ndarray:
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    box = np.zeros_like(inside)
    box[
        max(0, rows[0] - MASK_MARGIN) : rows[-1] + 1 + MASK_MARGIN,
        max(0, columns[0] - MASK_MARGIN) : columns[-1] + 1 + MASK_MARGIN,
    ] = True
    return box


def run(
    pipe: LumosVideoPipeline, items: Sequence[Any], arguments: Callable[[Any], dict[str, Any]]
) -> list[np.ndarray]:
    """One clip per item, uint8 `(frames, height, width, 3)`, with its number as seed. Lists of arguments are batched."""
    clips = []
    for start in tqdm(range(0, len(items), BATCH_SIZE), desc="Generating"):
        rows = [arguments(item) for item in items[start : start + BATCH_SIZE]]
        batch = {name: [row[name] for row in rows] for name in rows[0]}
        # What is one value for all.
        batch |= {
            name: value[0]
            for name, value in batch.items()
            if name not in ("prompt", "image", "video", "mask", "prompt_segments")
        }
        generators = [torch.Generator().manual_seed(start + row) for row in range(len(rows))]
        clips += [
            np.stack([np.asarray(frame) for frame in video]) for video in pipe(**batch, generator=generators).frames
        ]
    return clips


def edit_arguments(edit: Edit, **options: Any) -> dict[str, Any]:
    video = [PIL.Image.fromarray(frame) for frame in draw_clip(edit.before)]
    return {"prompt": edit.prompt, "video": video, "mask": edit.masks(), **options}


def score_edits(pipe: LumosVideoPipeline, count: int, is_chosen: Chosen) -> tuple[dict, list[list[np.ndarray]]]:
    items = edits(count, is_chosen)
    before, after = ([draw_clip(getattr(edit, name)) for edit in items] for name in ("before", "after"))
    masks = [np.stack(edit.masks()) for edit in items]
    edited = run(pipe, items, edit_arguments)
    by_strength = run(
        pipe,
        items,
        lambda edit: {name: value for name, value in edit_arguments(edit, strength=0.4).items() if name != "mask"},
    )
    rows = {
        "edited": edited,
        "strength 0.4, no mask": by_strength,
        "control: input": before,
        "control: the prompt alone": generate(pipe, [edit.prompt for edit in items]),
        "control: the true result": after,
        "control: the true result, encoded and decoded": reconstruct(pipe.vqvae, after),
    }
    report = {}
    for name, clips in rows.items():
        verdicts = [judge(edit.after, observe(clip)) for edit, clip in zip(items, clips, strict=True)]
        same = [(clip == source).all(-1) for clip, source in zip(clips, before, strict=True)]
        close = [
            np.abs(clip.astype(int) - source).max(-1) <= FOREGROUND_THRESHOLD for clip, source in zip(clips, before)
        ]
        report[name] = {key: float(np.mean([verdict[key] for verdict in verdicts])) for key in verdicts[0]} | {
            "outside, to the bit": _share(same, masks),
            "outside, not seen to differ": _share(close, masks),
        }
    return report, [before[:6], edited[:6]]


def _share(is_alike: list[np.ndarray], masks: list[np.ndarray]) -> float:
    return float(np.mean([alike[~mask].mean() for alike, mask in zip(is_alike, masks, strict=True)]))


def story_arguments(story: Story, **options: Any) -> dict[str, Any]:
    """It begins with the true first frame, as captions do not say where a character starts."""
    return {
        "image": PIL.Image.fromarray(draw_clip(story.windows[0])[0]),
        "prompt_segments": story.segments,
        "num_frames": 1 + STEP * len(story.windows),
        **ROLLING,
        **options,
    }


def window_of(clip: np.ndarray, index: int) -> np.ndarray:
    return clip[STEP * index : STEP * (index + 1) + 1]


def _is_right(spec: ClipSpec, window: np.ndarray) -> bool:
    """Whether a window keeps its promises and ends where its true clip does."""
    seen = observe(window)
    return judge(spec, seen)["all"] and ends_alike(seen, _true_observation(spec))


@lru_cache(maxsize=None)
def _true_observation(spec: ClipSpec) -> Observation:
    return observe(draw_clip(spec))


def score_switches(pipe: LumosVideoPipeline, count: int, is_chosen: Chosen) -> tuple[dict, list[np.ndarray]]:
    items = stories(count, is_chosen, 2, [*DIRECTIONS, "still"])
    rows = {
        "switched": run(pipe, items, story_arguments),
        "control: not switched": run(
            pipe, items, lambda story: story_arguments(replace(story, prompts=[story.prompts[0]] * 2))
        ),
        "control: the true clips": [_true_clip(story) for story in items],
    }
    rows["control: the next clip's prompts"] = rows["switched"][1:] + rows["switched"][:1]
    report = {}
    for name, clips in rows.items():
        right = _right_windows(items, clips)
        report[name] = {
            "before the switch": float(right[:, 0].mean()),
            "after it": float(right[:, 1].mean()),
            "both": float(right.all(1).mean()),
            **_mean_changes(items, clips, "jump at the join"),
        }
    return report, rows["switched"][:6]


def score_long_clips(
    pipe: LumosVideoPipeline, count: int, is_chosen: Chosen, **options: Any
) -> tuple[dict, list[np.ndarray]]:
    items = stories(count, is_chosen, NUM_WINDOWS, list(BACK))
    made = run(pipe, items, lambda story: story_arguments(story, **options))
    rows = {
        "rolled": made,
        "control: first frames repeated": [
            np.concatenate([clip[:1], *[clip[1:NUM_FRAMES]] * NUM_WINDOWS]) for clip in made
        ],
        "control: the true clips": [_true_clip(story) for story in items],
    }
    report = {}
    for name, clips in rows.items():
        right = _right_windows(items, clips)
        report[name] = {
            "first window": float(right[:, 0].mean()),
            "last window": float(right[:, -1].mean()),
            "all windows": float(right.mean()),
            "clips right throughout": float(right.all(1).mean()),
            "background_constancy": float(np.mean([observe(clip).background_constancy for clip in clips])),
            **_mean_changes(items, clips, "jump at joins"),
        }
    return report, made[:6]


def _right_windows(items: Sequence[Story], clips: Sequence[np.ndarray]) -> np.ndarray:
    """Whether each window of each clip is right, `(clips, windows)`."""
    rows = [
        [_is_right(spec, window_of(clip, index)) for index, spec in enumerate(story.windows)]
        for story, clip in zip(items, clips, strict=True)
    ]
    return np.array(rows)


def _mean_changes(items: Sequence[Story], clips: Sequence[np.ndarray], name_of_joins: str) -> dict[str, float]:
    at_joins, elsewhere = zip(*(jump_at_joins(clip, story) for story, clip in zip(items, clips, strict=True)))
    return {name_of_joins: float(np.mean(at_joins)), "change elsewhere": float(np.mean(elsewhere))}


def _true_clip(story: Story) -> np.ndarray:
    drawn = [draw_clip(spec) for spec in story.windows]
    return np.concatenate([drawn[0], *(clip[1:] for clip in drawn[1:])])


def jump_at_joins(clip: np.ndarray, story: Story) -> tuple[float, float]:
    """
    Mean absolute change of scenery from a frame to the next, of 255: at joins, and elsewhere between latent frames.

    Scenery is what no character of the true clip covers.
    """
    first = story.windows[0]
    scene = background_image(first.background, first.mirrored)
    covered = (np.abs(_true_clip(story).astype(int) - scene).max(-1) > 0).any(0)
    change = np.abs(np.diff(clip.astype(int), axis=0)).mean(-1)[:, ~covered].mean(-1)
    between = np.arange(0, len(change), 4)
    is_join = (between % STEP == 0) & (between > 0)
    return float(change[between[is_join]].mean()), float(change[between[~is_join]].mean())


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=None, help="a checkpoint directory; default: the packaged one")
    parser.add_argument("--output", type=Path, default=Path("outputs/demo-directing"))
    parser.add_argument("--clips", type=int, default=NUM_CLIPS, help="of each kind")
    parser.add_argument("--only", nargs="*", default=["edit", "switch", "long"], help="kinds to score")
    parser.add_argument("--training-prompts", action="store_true", help="training combinations, to choose settings by")
    args = parser.parse_args(arguments)
    args.output.mkdir(parents=True, exist_ok=True)
    pipe = LumosVideoPipeline.from_pretrained(args.model or demo_checkpoint())
    pipe.set_progress_bar_config(disable=True)

    def is_chosen(spec: ClipSpec) -> bool:
        return is_held_out(spec) != args.training_prompts

    for kind, score in {"edit": score_edits, "switch": score_switches, "long": score_long_clips}.items():
        if kind not in args.only:
            continue
        report, clips = score(pipe, args.clips, is_chosen)
        _save_picture(args.output / f"{kind}.png", clips)
        write_json(args.output / f"{kind}.json", report)
        print(f"\n{kind}, {args.clips} clips\n\n{format_table(report)}")
        name, scores = next(iter(report.items()))
        for measure in SHARES_OF_CLIPS & scores.keys():
            low, high = wilson_interval(scores[measure], args.clips)
            print(f"{name}, {measure}: {scores[measure]:.3f}, 95% interval {low:.3f} to {high:.3f}", flush=True)


def _save_picture(path: Path, clips: list[Any]) -> None:
    """A row per clip, or above each other what a clip was and what it became."""
    is_pairs = isinstance(clips[0], list)
    rows = [clip for pair in zip(*clips, strict=True) for clip in pair] if is_pairs else clips
    contact_sheet([[PIL.Image.fromarray(frame) for frame in clip] for clip in rows], columns=9).save(path)


if __name__ == "__main__":
    main()
