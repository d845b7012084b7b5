# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
A run over a file of prompts, what `lumos-hf generate --prompts` does: a file for each sample, which says how it was made.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from ..argument_checks import check_integer
from ..generation_defaults import OFFICIAL_DEFAULTS, check_settings, resolve_default
from ..generation_record import generation_record
from ..media import MP4_OPTIONS, write_media
from .run_record import RunRecord, checkpoint_revision
from .sample_plan import Sample
from .sample_runner import SampleRun, SampleWork


if TYPE_CHECKING:
    from ..pipeline_lumos_video import LumosVideoPipeline


# With one thread: another number of them gives other bytes.
_MP4_OPTIONS = {**MP4_OPTIONS, "threads": "1"}
_MAX_PROMPTS = 10_000_000
_MAX_NAME_LENGTH = 60


@dataclass(frozen=True)
class PromptOptions:
    """
    What a user asks for.

    Args:
        checkpoint: its directory.
        output: directory of the run.
        prompts: what is to be seen, see [`read_prompts`].
        seed: of the first sample; those of the others follow each other.
        num_videos_per_prompt: samples of each prompt.
        batch_size: samples that are made together.
        settings: arguments of the pipeline's call; what is None of them is the checkpoint's.
        negative_prompt: what is not to be seen.
        fast: whether to decode with the preset approximations.
        scale: enlarges the written frames so many times.

    Raises:
        ValueError: if one of them is not what it may be.
    """

    checkpoint: Path
    output: Path
    prompts: tuple[str, ...]
    seed: int = 0
    num_videos_per_prompt: int = 1
    batch_size: int = 1
    settings: Mapping[str, Any] | None = None
    negative_prompt: str | None = None
    fast: bool = False
    scale: int = 1

    def __post_init__(self) -> None:
        check_settings(**(self.settings or {}))
        for name in ("num_videos_per_prompt", "batch_size", "scale"):
            check_integer(name, getattr(self, name))
        check_integer("seed", self.seed, minimum=0)


class PromptRun(SampleRun):
    """
    A run whose options were checked, on its way.

    Args:
        options: of the user.
        device_type: that is computed on, such as `"cpu"`; results differ by it.
        dtype: that is computed in, by its name.
        device: that this process computes on, in words.

    Raises:
        ValueError: if `output` is of another run.
    """

    def __init__(self, options: PromptOptions, device_type: str, dtype: str, device: str) -> None:
        self.options = options
        index = json.loads((options.checkpoint / "model_index.json").read_text(encoding="utf-8"))
        chosen = {name: value for name, value in (options.settings or {}).items() if value is not None}
        self.settings = {name: chosen.get(name, resolve_default(name, None, index)) for name in OFFICIAL_DEFAULTS}
        if "fps" not in chosen:
            self.settings["fps"] = resolve_default("fps", None, index, self.settings["num_frames"])
        self.samples = plan_prompts(options.prompts, options, is_image=self.settings["num_frames"] == 1)
        self.record = RunRecord(options.output, device)
        self.record.begin(self._made_by(device_type, dtype), self.samples)

    def _made_by(self, device_type: str, dtype: str) -> dict[str, Any]:
        options = self.options
        return {
            "benchmark": "prompts",
            "revision": checkpoint_revision(options.checkpoint),
            "prompts": hashlib.sha256(json.dumps(options.prompts).encode()).hexdigest(),
            "negative_prompt": options.negative_prompt,
            "seed": options.seed,
            "num_videos_per_prompt": options.num_videos_per_prompt,
            "settings": self.settings,
            "approximations": "fast" if options.fast else None,
            "scale": options.scale,
            "dtype": dtype,
            "device_type": device_type,
            "batch_size": options.batch_size,
        }

    @cached_property
    def work(self) -> SampleWork:
        """What is to be made."""
        settings = {
            **self.settings,
            "negative_prompt": self.options.negative_prompt,
            "approximations": "fast" if self.options.fast else None,
        }
        return _PromptWork(
            self.samples,
            self.record,
            settings,
            self.options.batch_size,
            checkpoint=self.options.checkpoint,
            scale=self.options.scale,
        )


@dataclass(frozen=True)
class _PromptWork(SampleWork):
    """Samples whose files say how they were made."""

    checkpoint: Path = Path()
    scale: int = 1

    def write_sample(self, pipe: "LumosVideoPipeline", sample: Sample, frames: list[Image.Image]) -> None:
        call = {"prompt": sample.text, **self.settings}
        record = generation_record(pipe, call, seed=sample.seed, checkpoint=self.checkpoint)
        path = self.record.samples_directory / sample.file
        enlarged = [_enlarged(frame, self.scale) for frame in frames]
        write_media(path, enlarged, fps=self.settings["fps"], settings=record, mp4_options=_MP4_OPTIONS)


def read_prompts(path: Path) -> tuple[str, ...]:
    """
    The prompts in a text file, one a line; empty lines are passed over.

    Raises:
        ValueError: if there are none, or the file is no text in UTF-8.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"`prompts` must be a text file in UTF-8, got '{path}': {error.reason}.") from error
    prompts = tuple(line.strip() for line in lines if line.strip())
    if not 1 <= len(prompts) <= _MAX_PROMPTS:
        raise ValueError(
            f"`prompts` must have from 1 to {_MAX_PROMPTS} lines of text, got {len(prompts)} in '{path}'."
        )
    return prompts


def plan_prompts(prompts: Sequence[str], options: PromptOptions, is_image: bool) -> list[Sample]:
    """The samples of the first prompt, then those of the second, and so on."""
    ending, count = ("png" if is_image else "mp4"), options.num_videos_per_prompt
    return [
        Sample(
            file=f"{row:05d}-{_words(prompt)}{f'-{index}' if count > 1 else ''}.{ending}",
            text=prompt,
            seed=options.seed + row * count + index,
            row=row,
        )
        for row, prompt in enumerate(prompts)
        for index in range(count)
    ]


def _words(prompt: str) -> str:
    return "-".join(re.findall(r"[a-z0-9]+", prompt.lower()))[:_MAX_NAME_LENGTH] or "lumos"


def _enlarged(frame: Image.Image, scale: int) -> Image.Image:
    return frame.resize((frame.width * scale, frame.height * scale), Image.Resampling.LANCZOS)
