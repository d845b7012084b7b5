# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
The benchmark that needs nothing: the tasks of the demo's world as a plan of samples, and its scores from their files.

A mini-GenEval and mini-VBench in one: what a clip promises is read back from its pixels. Seeds are the numbers of the
prompts, as they have always been, so that figures stay what they were.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm.auto import tqdm

from ..files import write_json
from .clips import SIZE
from .measure import ends_alike, judge, observe
from .sample_media import read_strip
from .sample_plan import Sample
from .sample_runner import generators
from .score import (
    README_MOVEMENT,
    README_SEEDS,
    README_SPEC,
    README_STILL,
    Scores,
    Task,
    given_arguments,
    save_animation,
    save_contact_sheet,
    score,
    true_observations,
)


if TYPE_CHECKING:
    from ..pipeline_lumos_video import LumosVideoPipeline


DEMO = "demo"
README_EXAMPLE = "the README's example"
SCORES_FILE, VERDICTS_FILE = "scores.json", "verdicts.json"


def plan_demo(tasks: Sequence[Task]) -> list[Sample]:
    """One sample for each prompt of the tasks, then the README's example with its seeds."""
    samples = [
        Sample(f"{_folder(task.title)}/{row:05d}.png", caption, seed=row, group=task.title, row=row)
        for task in tasks
        for row, caption in enumerate(task.captions)
    ]
    return samples + [
        Sample(f"{_folder(README_EXAMPLE)}/{row:05d}.png", README_MOVEMENT, seed=row, group=README_EXAMPLE, row=row)
        for row in range(README_SEEDS)
    ]


def given_frames(tasks: Sequence[Task]) -> Callable[["LumosVideoPipeline", Sequence[Sample]], Mapping[str, Any]]:
    """What the samples of a batch begin with: frames of the true clips, or an image that is made first."""
    by_title = {task.title: task for task in tasks}

    def given(pipe: "LumosVideoPipeline", batch: Sequence[Sample]) -> Mapping[str, Any]:
        if batch[0].group == README_EXAMPLE:
            stills = pipe([README_STILL] * len(batch), generator=generators(batch), num_frames=1).frames
            return {"image": [image for (image,) in stills]}
        frames = by_title[batch[0].group].given()
        return {} if frames is None else given_arguments([frames[sample.row] for sample in batch])

    return given


def score_demo(
    pipe: "LumosVideoPipeline", tasks: Sequence[Task], samples_directory: Path, output: Path
) -> tuple[dict[str, dict[str, Scores]], int]:
    """
    Scores of all tasks with their controls, and how often the README's example is right.

    Writes `scores.json`, `verdicts.json` (whether each sample is right in everything, by its file) and pictures.

    Args:
        pipe: the checkpoint; its video tokenizer gives the ceiling.
        tasks: whose samples are there.
        samples_directory: of the samples.
        output: directory to write into.
    """
    report: dict[str, dict[str, Scores]] = {}
    verdicts: dict[str, bool] = {}
    output.mkdir(parents=True, exist_ok=True)
    for task in tqdm(tasks, desc="Scoring", unit="task"):
        files = [f"{_folder(task.title)}/{row:05d}.png" for row in range(len(task.prompts))]
        clips = [read_strip(samples_directory / file, SIZE) for file in files]
        report[task.title] = score(pipe, task, clips)
        verdicts |= dict(zip(files, _verdicts(task, clips), strict=True))
        picture = output / f"{_folder(task.title)}.png"
        save_contact_sheet(picture, clips)
        save_animation(picture.with_suffix(".gif"), clips)
    examples = [f"{_folder(README_EXAMPLE)}/{row:05d}.png" for row in range(README_SEEDS)]
    verdicts |= {
        file: judge(README_SPEC, observe(read_strip(samples_directory / file, SIZE)))["all"] for file in examples
    }
    write_json(output / SCORES_FILE, report)
    write_json(output / VERDICTS_FILE, verdicts)
    return report, sum(verdicts[file] for file in examples)


def _verdicts(task: Task, clips: Sequence[np.ndarray]) -> list[bool]:
    """Whether each clip keeps everything that its prompt promises."""
    seen = [observe(clip) for clip in clips]
    right = [judge(spec, one)["all"] for spec, one in zip(task.specs, seen, strict=True)]
    if not task.num_given:
        return right
    truth = true_observations(task)
    return [all_kept and ends_alike(one, true) for all_kept, one, true in zip(right, seen, truth, strict=True)]


def _folder(title: str) -> str:
    return title.replace(", ", " ").replace("'", "").replace(" ", "_")
