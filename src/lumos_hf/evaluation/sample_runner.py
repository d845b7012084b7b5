# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
Makes the samples of a plan: resumable, and shared out over processes that never talk to each other.

A sample is there or not, by its file, which appears whole. Each process takes every n-th batch; one that was killed loses
the batch it was at. Notable: the progress bar counts the files of all processes, so that the first one's speaks for all.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

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
Write: TypeAlias = Callable[[Path, list["Image.Image"]], None]


def make_samples(
    load: Callable[[], "LumosVideoPipeline"],
    samples: Sequence[Sample],
    record: RunRecord,
    write: Write,
    *,
    given: Given | None = None,
    settings: Mapping[str, Any],
    batch_size: int,
    rank: int = 0,
    world_size: int = 1,
) -> int:
    """
    Makes this process's share of the samples that are missing.

    Args:
        load: gives the checkpoint, which is asked for only if something is missing.
        samples: all of the run.
        record: of the run, which was begun; its directory gets them.
        write: writes the frames of a sample to a path, whole or not at all.
        given: what samples begin with, if anything.
        settings: of the pipeline's call.
        batch_size: of samples that are made together.
        rank: number of this process among those that share the work.
        world_size: number of these processes.

    Returns:
        how many samples of all processes are still missing.
    """
    directory = record.samples_directory
    _remove_leftovers(directory, samples)
    own_batches = cut_batches(samples, batch_size)[rank::world_size]
    unfinished = [batch for batch in own_batches if _count_finished(directory, batch) < len(batch)]
    if not unfinished:
        return len(samples) - _count_finished(directory, samples)
    pipe = load()
    done = _count_finished(directory, samples)
    with tqdm(desc="Samples", unit="sample", total=len(samples), initial=done, disable=rank != 0) as progress:
        for batch in unfinished:
            missing = [sample for sample in batch if not (directory / sample.file).exists()]
            start = time.perf_counter()
            videos = _make_batch(pipe, batch, given, settings)
            for sample, frames in zip(batch, videos, strict=True):
                if sample in missing:
                    write(directory / sample.file, frames)
            record.note_batch(missing, (time.perf_counter() - start) * len(missing) / len(batch))
            progress.update(_count_finished(directory, samples) - progress.n)
    return len(samples) - _count_finished(directory, samples)


def _remove_leftovers(directory: Path, samples: Sequence[Sample]) -> None:
    """Of killed runs, in every folder that samples, or what belongs to them, are written to."""
    files = [directory / sample.file for sample in samples]
    for folder in {folder for file in files for folder in (file.parent, file.parent.parent)}:
        if folder.is_dir():
            remove_leftovers(folder)


def _make_batch(
    pipe: "LumosVideoPipeline", batch: Sequence[Sample], given: Given | None, settings: Mapping[str, Any]
) -> list[list["Image.Image"]]:
    conditions = {} if given is None else given(pipe, batch)
    return pipe([sample.text for sample in batch], generator=generators(batch), **settings, **conditions).frames


def generators(batch: Sequence[Sample]) -> list[torch.Generator]:
    """One for each sample, at its beginning."""
    return [torch.Generator().manual_seed(sample.seed) for sample in batch]


def _count_finished(directory: Path, samples: Sequence[Sample]) -> int:
    return sum((directory / sample.file).exists() for sample in samples)
