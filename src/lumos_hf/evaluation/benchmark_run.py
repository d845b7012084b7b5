# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
A run of a benchmark from its options: everything is checked, then samples are made, then they are scored.

Notable: weights are loaded only if a sample is missing, or the demo is scored.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from ..argument_checks import check_integer
from ..generation_defaults import OFFICIAL_DEFAULTS, check_settings, resolve_default
from ..image_reading import read_image_file
from .benchmarks import BENCHMARKS, FLICKERING, GENEVAL, VBENCH_I2V, VBENCH_T2V, Protocol, read_entries
from .run_record import RUN_FILE, RunRecord, checkpoint_revision, images_checksum, prompts_checksum
from .sample_media import find_images, write_grids, write_metadata, write_sample
from .sample_plan import Sample, plan_samples
from .sample_runner import BatchExecutor, Given, SampleRun, SampleWork
from .scorers import Scorer


if TYPE_CHECKING:
    from ..pipeline_lumos_video import LumosVideoPipeline


BATCH_SIZE = 4


@dataclass(frozen=True)
class BenchmarkOptions:
    """
    What a user asks for.

    Args:
        benchmark: `"geneval"`, `"vbench-t2v"` or `"vbench-i2v"`.
        checkpoint: its directory.
        output: directory of the run.
        protocol: `"official"` or `"standard"`.
        prompts: the prompt file, if it is not to be found or downloaded.
        full_info: `VBench_full_info.json`, see [`read_entries`].
        images: folder of the images of VBench-I2V.
        num_samples: of each prompt, instead of the protocol's number.
        limit: only the first so many prompts.
        dimensions: only prompts that one of these is measured on.
        batch_size: samples that are made together.
        settings: arguments of the pipeline's call, instead of the protocol's; None stands for that.
        fast: whether to decode with the preset approximations.
        dtype: that is computed in, by its name.
        device_type: such as `"cpu"`; results differ by it.

    Raises:
        ValueError: if one of them is not what it may be.
    """

    benchmark: str
    checkpoint: Path
    output: Path
    protocol: Protocol = "official"
    prompts: Path | None = None
    full_info: Path | None = None
    images: Path | None = None
    num_samples: int | None = None
    limit: int | None = None
    dimensions: tuple[str, ...] | None = None
    batch_size: int = BATCH_SIZE
    settings: Mapping[str, Any] | None = None
    fast: bool = False
    dtype: str = "float32"
    device_type: str = "cpu"

    def __post_init__(self) -> None:
        check_settings(**(self.settings or {}))
        for name in ("num_samples", "limit", "batch_size"):
            if getattr(self, name) is not None:
                check_integer(name, getattr(self, name))
        if (self.benchmark == VBENCH_I2V) != (self.images is not None):
            needed = "must be given for" if self.images is None else "goes with"
            raise ValueError(f"`images` {needed} {VBENCH_I2V}, got {self.benchmark} and {self.images}.")


class BenchmarkRun(SampleRun):
    """
    A run whose options were checked, on its way.

    Args:
        options: of the user.
        device: that this process computes on, in words.

    Raises:
        ValueError: if the prompts or images do not fit, or `output` is of another run.
    """

    def __init__(self, options: BenchmarkOptions, device: str) -> None:
        self.options = options
        self.entries = read_entries(
            options.benchmark, options.protocol, options.prompts, options.dimensions, options.full_info
        )
        self.entries = self.entries[: options.limit]
        self.samples = plan_samples(options.benchmark, self.entries, options.num_samples)
        self.images = self._find_images()
        self.record = RunRecord(options.output, device)
        self.record.begin(self._made_by(), self.samples)
        self._check_capitals()

    def _find_images(self) -> dict[str, Path]:
        names = [entry.image for entry in self.entries if entry.image is not None]
        return find_images(self.options.images, names) if self.options.images is not None else {}

    def _check_capitals(self) -> None:
        """VBench-T2V has "a fantasy landscape" and "A fantasy landscape", which some file systems take for one."""
        ignores_capitals = (self.record.directory / RUN_FILE.upper()).exists()
        if ignores_capitals and len({sample.file.casefold() for sample in self.samples}) < len(self.samples):
            raise ValueError(
                f"`output` must be on a file system that tells capitals from small letters, got '{self.record.directory}': "
                "some names differ by that alone."
            )

    @cached_property
    def settings(self) -> dict[str, Any]:
        """All numbers of the pipeline's call."""
        index = json.loads((self.options.checkpoint / "model_index.json").read_text(encoding="utf-8"))
        protocol = BENCHMARKS[self.options.benchmark].settings
        chosen = {name: value for name, value in (self.options.settings or {}).items() if value is not None}
        return {
            name: chosen.get(name, protocol.get(name, resolve_default(name, None, index)))
            for name in OFFICIAL_DEFAULTS
        }

    def _made_by(self) -> dict[str, Any]:
        options = self.options
        every_entry = read_entries(options.benchmark, options.protocol, options.prompts)
        return {
            "benchmark": options.benchmark,
            "protocol": options.protocol,
            "revision": checkpoint_revision(options.checkpoint),
            "prompts": prompts_checksum(every_entry),
            "images": images_checksum(options.images, every_entry),
            "settings": self.settings,
            "approximations": "fast" if options.fast else None,
            "dtype": options.dtype,
            "device_type": options.device_type,
            "batch_size": options.batch_size,
        }

    @cached_property
    def work(self) -> SampleWork:
        """What is to be made."""
        settings = {**self.settings, "approximations": "fast" if self.options.fast else None}
        return _BenchmarkWork(self.samples, self.record, settings, self.options.batch_size, self._given())

    def make_samples(
        self,
        load: Callable[[], "LumosVideoPipeline"],
        rank: int = 0,
        world_size: int = 1,
        executor: BatchExecutor | None = None,
    ) -> int:
        """Makes as well what GenEval's scorer and its readers find beside the samples."""
        directory = self.record.samples_directory
        if self.options.benchmark == GENEVAL:
            write_metadata(directory, self.entries[rank::world_size])
        missing = super().make_samples(load, rank, world_size, executor)
        if self.options.benchmark == GENEVAL:
            write_grids(directory, self.entries, self.options.num_samples or self.entries[0].num_samples)
        return missing

    def _given(self) -> Given | None:
        return _FirstImages(self.images) if self.images else None

    def score(self, scorer: Scorer) -> None:
        """
        Lets the benchmark's scorer measure the samples; see [`Scorer.score`].

        Raises:
            ValueError: if flickering would be measured on videos that VBench wants to be filtered first.
        """
        dimensions = self.options.dimensions or BENCHMARKS[self.options.benchmark].dimensions
        is_unfiltered = (self.options.benchmark, self.options.protocol) == (VBENCH_T2V, "standard")
        if is_unfiltered and FLICKERING in dimensions:
            raise ValueError(
                f"`dimensions` must leave out {FLICKERING} where --standard is scored: VBench first wants `vbench static_filter "
                f"--videos_path {self.record.samples_directory}`, on a GPU, and measures what that leaves."
            )
        scorer.score(self.record.samples_directory, self.record.scores_directory, dimensions)


class _BenchmarkWork(SampleWork):
    def write_sample(self, pipe: "LumosVideoPipeline", sample: Sample, frames: list[Image.Image]) -> None:
        write_sample(self.record.samples_directory / sample.file, frames, self.settings["fps"])


@dataclass(frozen=True)
class _FirstImages:
    """The images that the videos of a batch begin with."""

    paths: Mapping[str, Path]

    def __call__(self, pipe: "LumosVideoPipeline", batch: Sequence[Sample]) -> dict[str, list[Image.Image]]:
        return {"image": [self._read(self.paths[sample.image or ""]) for sample in batch]}

    @staticmethod
    def _read(path: Path) -> Image.Image:
        # The decoder that the official code uses for this task.
        try:
            return read_image_file(path, decoder="ffmpeg")
        except ValueError as error:
            raise ValueError(f"`images` must hold images that can be read, got '{path}': {error}.") from error
