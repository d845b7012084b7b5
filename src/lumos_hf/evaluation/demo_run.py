# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""A run of the demo's benchmark from its options."""

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..argument_checks import check_integer
from ..generation_defaults import OFFICIAL_DEFAULTS, resolve_default
from .clips import ClipSpec, is_held_out
from .demo_benchmark import DEMO, given_frames, plan_demo, score_demo
from .run_record import RunRecord, checkpoint_revision
from .sample_media import write_strip
from .sample_plan import Sample
from .sample_runner import SampleRun, SampleWork
from .score import BATCH_SIZE, README_SEEDS, Scores, tasks, wilson_interval


if TYPE_CHECKING:
    from PIL.Image import Image

    from ..pipeline_lumos_video import LumosVideoPipeline


class DemoRun(SampleRun):
    """
    Args:
        checkpoint: a directory.
        output: directory of the run.
        device: that this process computes on, in words.
        limit: only the first so many prompts of each task.
        training_prompts: prompts of combinations that training saw.
        fast: whether to decode with the preset approximations.
        dtype: that is computed in, by its name.
        device_type: such as `"cpu"`.

    Raises:
        ValueError: if `limit` is below 1, or `output` is of another run.
    """

    num_examples = README_SEEDS

    def __init__(
        self,
        checkpoint: Path,
        output: Path,
        device: str,
        limit: int | None = None,
        training_prompts: bool = False,
        fast: bool = False,
        dtype: str = "float32",
        device_type: str = "cpu",
    ) -> None:
        if limit is not None:
            check_integer("limit", limit)
        every_task = tasks(_is_trained if training_prompts else is_held_out)
        self.tasks = [replace(task, prompts=task.prompts[:limit]) for task in every_task]
        self.samples = plan_demo(self.tasks)
        self.approximations = "fast" if fast else None
        index = json.loads((checkpoint / "model_index.json").read_text(encoding="utf-8"))
        self.record = RunRecord(output, device)
        self.record.begin(
            {
                "benchmark": DEMO,
                "protocol": "training prompts" if training_prompts else "held-out prompts",
                "revision": checkpoint_revision(checkpoint),
                "settings": {name: resolve_default(name, None, index) for name in OFFICIAL_DEFAULTS},
                "approximations": self.approximations,
                "dtype": dtype,
                "device_type": device_type,
                "batch_size": BATCH_SIZE,
            },
            self.samples,
        )

    @cached_property
    def work(self) -> SampleWork:
        """What is to be made."""
        settings = {"approximations": self.approximations}
        return _DemoWork(self.samples, self.record, settings, BATCH_SIZE, given_frames(self.tasks))

    def score(self, pipe: "LumosVideoPipeline") -> tuple[dict[str, dict[str, Scores]], int]:
        """See [`score_demo`]."""
        return score_demo(pipe, self.tasks, self.record.samples_directory, self.record.scores_directory)

    def num_prompts(self, title: str) -> int:
        return next(len(task.prompts) for task in self.tasks if task.title == title)

    def interval(self, title: str, table: Mapping[str, Mapping[str, Any]]) -> str:
        """How many clips of a task are right in everything, and the 95% interval of their share."""
        count, share = self.num_prompts(title), table["generated"]["all"]
        low, high = wilson_interval(share, count)
        return f"all: {round(share * count)} of {count}, 95% interval {low:.3f} to {high:.3f}"


class _DemoWork(SampleWork):
    def write_sample(self, pipe: "LumosVideoPipeline", sample: Sample, frames: list["Image"]) -> None:
        write_strip(self.record.samples_directory / sample.file, frames)


def _is_trained(spec: ClipSpec) -> bool:
    return not is_held_out(spec)
