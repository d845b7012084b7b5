# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
Makes the samples of a plan: resumable, and shared out over processes that never talk to each other.

A sample is there or not, by its file, which appears whole. Each process takes every n-th batch; one that was killed loses
the batch it was at. Notable: the progress bar counts the files of all processes, so that the first one's speaks for all.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import torch
from tqdm.auto import tqdm

from ..files import remove_leftovers
from .run_record import RunRecord
from .sample_plan import Sample, cut_batches


if TYPE_CHECKING:
    from PIL import Image

    from ..pipeline_lumos_video import LumosVideoPipeline


# Arguments of the pipeline's call for what the samples of a batch begin with.
Given: TypeAlias = Callable[["LumosVideoPipeline", Sequence[Sample]], Mapping[str, Any]]
# Has batches of those numbers made, elsewhere; the other argument is called with each that was.
BatchExecutor: TypeAlias = Callable[[list[int], Callable[[int], Any]], None]


@dataclass(frozen=True)
class SampleWork(ABC):
    """
    The batches of samples of a run that was begun, to be made by any number of processes.

    Args:
        samples: all of the run.
        record: of the run; its directory gets them.
        settings: of the pipeline's call.
        batch_size: of samples that are made together.
        given: what samples begin with, if anything.
    """

    samples: Sequence[Sample]
    record: RunRecord
    settings: Mapping[str, Any]
    batch_size: int
    given: Given | None = None

    @cached_property
    def batches(self) -> list[list[Sample]]:
        return cut_batches(self.samples, self.batch_size)

    @property
    def num_finished(self) -> int:
        """How many samples are there, whoever made them."""
        return sum(self._is_there(sample) for sample in self.samples)

    def unfinished(self, batches: Iterable[int]) -> list[int]:
        """Those of the batches, by their numbers, of which a sample is missing."""
        return [number for number in batches if not all(map(self._is_there, self.batches[number]))]

    def make(self, number: int, pipe: "LumosVideoPipeline") -> None:
        """Makes a batch, and writes what is missing of it."""
        batch = self.batches[number]
        missing = [sample for sample in batch if not self._is_there(sample)]
        start = time.perf_counter()
        videos = self._make(pipe, batch)
        for sample, frames in zip(batch, videos, strict=True):
            if sample in missing:
                self.write_sample(pipe, sample, frames)
        self.record.note_batch(missing, (time.perf_counter() - start) * len(missing) / len(batch))

    @abstractmethod
    def write_sample(self, pipe: "LumosVideoPipeline", sample: Sample, frames: list["Image.Image"]) -> None:
        """Writes a sample to its file, whole or not at all."""

    def _make(self, pipe: "LumosVideoPipeline", batch: Sequence[Sample]) -> list[list["Image.Image"]]:
        conditions = {} if self.given is None else self.given(pipe, batch)
        return pipe(
            [sample.text for sample in batch], generator=generators(batch), **self.settings, **conditions
        ).frames

    def _is_there(self, sample: Sample) -> bool:
        return (self.record.samples_directory / sample.file).exists()


def make_samples(
    work: SampleWork,
    load: Callable[[], "LumosVideoPipeline"],
    *,
    rank: int = 0,
    world_size: int = 1,
    executor: BatchExecutor | None = None,
) -> int:
    """
    Makes this process's share of the samples that are missing.

    Args:
        work: the samples.
        load: gives the checkpoint, which is asked for only if something is missing.
        rank: number of this process among those that share the work.
        world_size: number of these processes.
        executor: does that share instead of this process.

    Returns:
        how many samples of all processes are still missing.
    """
    _remove_leftovers(work.record.samples_directory, work.samples)
    unfinished = work.unfinished(range(rank, len(work.batches), world_size))
    if not unfinished:
        return len(work.samples) - work.num_finished
    pipe = load() if executor is None else None
    total, done = len(work.samples), work.num_finished
    with tqdm(desc="Samples", unit="sample", total=total, initial=done, disable=rank != 0) as progress:

        def batch_done(number: int) -> None:
            progress.update(work.num_finished - progress.n)

        if executor is not None:
            executor(unfinished, batch_done)
        else:
            for number in unfinished:
                work.make(number, cast("LumosVideoPipeline", pipe))
                batch_done(number)
    return total - work.num_finished


class SampleRun(ABC):
    """A run of samples whose record was begun, of whatever kind."""

    record: RunRecord

    @property
    @abstractmethod
    def work(self) -> SampleWork:
        """What is to be made."""

    def make_samples(
        self,
        load: Callable[[], "LumosVideoPipeline"],
        rank: int = 0,
        world_size: int = 1,
        executor: BatchExecutor | None = None,
    ) -> int:
        """Makes this process's share of what is missing; how many samples of all processes still are."""
        missing = make_samples(self.work, load, rank=rank, world_size=world_size, executor=executor)
        self.record.summarize()
        return missing


def _remove_leftovers(directory: Path, samples: Sequence[Sample]) -> None:
    """Of killed runs, in every folder that samples, or what belongs to them, are written to."""
    files = [directory / sample.file for sample in samples]
    for folder in {folder for file in files for folder in (file.parent, file.parent.parent)}:
        if folder.is_dir():
            remove_leftovers(folder)


def generators(batch: Sequence[Sample]) -> list[torch.Generator]:
    """One for each sample, at its beginning."""
    return [torch.Generator().manual_seed(sample.seed) for sample in batch]
