# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
The tasks of the demo on held-out prompts, and their scores: `lumos-hf evaluate demo`, or `make demo-score`.

From text alone, from an image and from the beginning of a video. Beside the generated clips stand the tokenizer's ceiling
(the true clips, encoded and decoded) and controls: the true clips, which must be perfect; generated clips judged by the
wrong prompts, which must be near chance; and, where frames are given, the last of them repeated, which is right only if
nothing moves.
"""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
from tqdm.auto import tqdm

from ..cosmos_video_tokenizer import CosmosVideoTokenizer
from ..media import contact_sheet, write_media
from ..pipeline_lumos_video import LumosVideoPipeline
from ..video_processor_lumos import LumosVideoProcessor, pixels_to_input
from .clips import (
    FPS,
    NUM_FRAMES,
    ClipSpec,
    caption,
    continued_specs,
    draw_clip,
    is_held_out,
    is_known_start,
    pair_specs,
    single_specs,
)
from .measure import Observation, ends_alike, judge, observe


NUM_SINGLES = 200
NUM_PAIRS = 100
# Of every kind of task in which frames are given.
NUM_GIVEN = 100
BATCH_SIZE = 25
NUM_VIDEO_FRAMES = 5
# The example of the README: an image is made, then moved.
README_STILL = "A yellow square waits in the desert."
README_MOVEMENT = "A yellow square moves right in the desert."
README_SPEC = ClipSpec((("square", "yellow"),), "desert", motion="right")
README_SEEDS = 12

Prompts = list[tuple[ClipSpec, str]]
Scores = dict[str, float]


@dataclass(frozen=True)
class Task:
    """
    Prompts of one kind, and what is given beside them.

    Args:
        title: names it in tables and files.
        prompts: specs and captions.
        num_given: how many frames of the true clip are given: 0, 1 (an image) or more (a video).
    """

    title: str
    prompts: Prompts
    num_given: int = 0

    @property
    def specs(self) -> list[ClipSpec]:
        return [spec for spec, _ in self.prompts]

    @property
    def captions(self) -> list[str]:
        return [caption for _, caption in self.prompts]

    def given(self) -> list[np.ndarray] | None:
        """The frames that are given with each prompt, uint8 `(num_given, height, width, 3)`."""
        return [draw_clip(spec)[: self.num_given] for spec in self.specs] if self.num_given else None


def tasks(is_chosen: Callable[[ClipSpec], bool] = is_held_out, share: float = 1.0) -> list[Task]:
    """Every task that the demo is scored on, with `share` of its prompts, of specs that `is_chosen` takes."""
    known, others = single_specs(), [spec for spec in continued_specs() if not is_known_start(spec)]

    def prompts(specs: list[ClipSpec], count: int) -> Prompts:
        return sample_prompts(specs, max(1, round(share * count)), is_chosen)

    return [
        Task("one character", prompts(known, NUM_SINGLES)),
        Task("two characters", prompts(pair_specs(), NUM_PAIRS)),
        Task("image, known starts", prompts(known, NUM_GIVEN), num_given=1),
        Task("image, other starts", prompts(others, NUM_GIVEN), num_given=1),
        Task("video, known starts", prompts(known, NUM_GIVEN), num_given=NUM_VIDEO_FRAMES),
        Task("video, other starts", prompts(others, NUM_GIVEN), num_given=NUM_VIDEO_FRAMES),
    ]


def held_out_prompts(specs: list[ClipSpec], count: int) -> Prompts:
    """The same `count` held-out clips and captions every time."""
    return sample_prompts(specs, count, is_held_out)


def sample_prompts(specs: list[ClipSpec], count: int, is_chosen: Callable[[ClipSpec], bool]) -> Prompts:
    """The same `count` clips and captions every time, of those that `is_chosen` takes."""
    rng = random.Random(0)
    chosen = rng.sample([spec for spec in specs if is_chosen(spec)], count)
    return [(spec, caption(spec, rng)) for spec in chosen]


def generate(
    pipe: LumosVideoPipeline,
    prompts: list[str],
    first_seed: int = 0,
    given: Sequence[np.ndarray] | None = None,
    **call_arguments: Any,
) -> list[np.ndarray]:
    """
    One clip per prompt, uint8 `(frames, height, width, 3)`; clip i is drawn with seed `first_seed + i`.

    Args:
        pipe: the checkpoint.
        prompts: captions.
        first_seed: of the first clip.
        given: what each clip goes on from, uint8 `(frames, height, width, 3)`: one frame is an image, more are a video.
        call_arguments: of the call of `pipe`.
    """
    clips = []
    for start in tqdm(range(0, len(prompts), BATCH_SIZE), desc="Generating"):
        batch = prompts[start : start + BATCH_SIZE]
        generators = [torch.Generator().manual_seed(first_seed + start + row) for row in range(len(batch))]
        if given is not None:
            call_arguments |= given_arguments(given[start : start + len(batch)])
        clips += _videos_to_arrays(pipe(batch, generator=generators, **call_arguments).frames)
    return clips


def given_arguments(given: Sequence[np.ndarray]) -> dict[str, Any]:
    """Arguments of the pipeline's call for clips that begin with these frames, as many in each: an image or a video."""
    videos = [[PIL.Image.fromarray(frame) for frame in frames] for frames in given]
    return {"image": [frame for (frame,) in videos]} if len(videos[0]) == 1 else {"video": videos}


@torch.no_grad()
def reconstruct(vqvae: CosmosVideoTokenizer, clips: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Clips as they come back from the tokenizer: what a perfect generator could reach."""
    processor = LumosVideoProcessor()
    restored = []
    for clip in tqdm(clips, desc="Reconstructing"):
        video = vqvae.decode(vqvae.encode(pixels_to_input(torch.from_numpy(clip[None])).to(vqvae.dtype))).float()
        restored += _videos_to_arrays(processor.postprocess_video(video, "pil"))
    return restored


def _videos_to_arrays(videos: list[list[PIL.Image.Image]]) -> list[np.ndarray]:
    return [np.stack([np.asarray(frame) for frame in video]) for video in videos]


def summarise(
    specs: Sequence[ClipSpec], observations: Sequence[Observation], truth: Sequence[Observation] | None = None
) -> Scores:
    """
    Share of clips that keep each promise, and the means of the smoothness measures.

    With `truth`, the observations of the true clips, a clip must also end as its true one does: what is given, and the
    motion, leave no choice.
    """
    verdicts = [judge(spec, seen) for spec, seen in zip(specs, observations, strict=True)]
    if truth is not None:
        for verdict, seen, true in zip(verdicts, observations, truth, strict=True):
            verdict["end"] = ends_alike(seen, true)
            verdict["all"] = verdict.pop("all") and verdict["end"]
    scores = {name: float(np.mean([verdict[name] for verdict in verdicts])) for name in verdicts[0]}
    scores["jerk"] = float(np.mean([seen.jerk for seen in observations]))
    scores["background_constancy"] = float(np.mean([seen.background_constancy for seen in observations]))
    return scores


def score(pipe: LumosVideoPipeline, task: Task, clips: list[np.ndarray]) -> dict[str, Scores]:
    """Scores of generated `clips`, with the ceiling and the controls beside them."""
    drawn = [draw_clip(spec) for spec in task.specs]
    true, seen = true_observations(task), [observe(clip) for clip in clips]
    restored = [observe(clip) for clip in reconstruct(pipe.vqvae, drawn)]
    rows = {
        "generated": seen,
        "tokenizer's ceiling": restored,
        "true clips": true,
        "wrong prompts": seen[1:] + seen[:1],
    }
    given = task.given()
    if given is not None:
        repeated = [np.repeat(frames[-1:], NUM_FRAMES - task.num_given, axis=0) for frames in given]
        frozen = [np.concatenate(parts) for parts in zip(given, repeated, strict=True)]
        rows["last given frame repeated"] = [observe(clip) for clip in frozen]
    truth = true if task.num_given else None
    return {name: summarise(task.specs, observations, truth) for name, observations in rows.items()}


def true_observations(task: Task) -> list[Observation]:
    """What the true clips of a task show."""
    return [observe(draw_clip(spec)) for spec in task.specs]


def wilson_interval(share: float, count: int) -> tuple[float, float]:
    """The 95% interval of Wilson for a `share` that was observed in `count` draws."""
    z = 1.96
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    reach = z / (1 + z**2 / count) * math.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    return middle - reach, middle + reach


def save_contact_sheet(path: Path, clips: list[np.ndarray], rows: int = 6, clips_per_row: int = 3) -> None:
    """A picture of the first, middle and last frame of the first clips, without choosing among them."""
    strips = [[PIL.Image.fromarray(clip[index]) for index in (0, len(clip) // 2, -1)] for clip in clips]
    groups = [strips[start : start + clips_per_row] for start in range(0, rows * clips_per_row, clips_per_row)]
    contact_sheet([[frame for strip in group for frame in strip] for group in groups]).save(path)


def save_animation(path: Path, clips: list[np.ndarray], rows: int = 3, columns: int = 6) -> None:
    """The first clips side by side, playing."""
    grid = [clips[start : start + columns] for start in range(0, rows * columns, columns)]
    frames = [
        contact_sheet([[PIL.Image.fromarray(clip[time]) for clip in row] for row in grid])
        for time in range(len(clips[0]))
    ]
    write_media(path, frames, fps=FPS)
