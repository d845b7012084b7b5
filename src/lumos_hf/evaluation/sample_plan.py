# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
Which samples a run makes: their file names, seeds and texts, and which of them are made together.

Pure functions: processes that share a run, and runs that are started again, come to the same samples without talking.
Notable: batches are cut from the whole plan, not from what is missing, so that a sample always has the same neighbours. In
half precision, those change how products are rounded.
"""

import hashlib
import itertools
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .benchmarks import GENEVAL, Entry


# Fits into the integers of JSON and of `torch.Generator`.
_SEED_BYTES = 6


@dataclass(frozen=True)
class Sample:
    """
    One image or video to make.

    Args:
        file: its path below the folder of the samples, with `/`.
        text: what the model reads.
        seed: of its own generator.
        group: samples of different groups are not made together.
        image: file name of the image that it begins with.
        row: of its prompt in its group.
    """

    file: str
    text: str
    seed: int
    group: str = ""
    image: str | None = None
    row: int = 0


def plan_samples(benchmark: str, entries: Sequence[Entry], num_samples: int | None = None) -> list[Sample]:
    """
    The samples of a benchmark: the first one of every prompt, then the second ones, and so on.

    Args:
        benchmark: its name.
        entries: of [`read_entries`].
        num_samples: of each prompt; by default as many as the protocol wants.
    """
    most = max(entry.num_samples for entry in entries) if num_samples is None else num_samples
    return [
        Sample(
            file=_sample_file(benchmark, entry, index),
            text=entry.text,
            seed=sample_seed(benchmark, entry.prompt, index),
            image=entry.image,
            row=row,
        )
        for index in range(most)
        for row, entry in enumerate(entries)
        if num_samples is not None or index < entry.num_samples
    ]


def sample_seed(benchmark: str, prompt: str, index: int) -> int:
    """The seed of the sample of that index: the same for both protocols, so that they can be compared in pairs."""
    digest = hashlib.sha256(json.dumps([benchmark, prompt, index]).encode())
    return int.from_bytes(digest.digest()[:_SEED_BYTES])


def cut_batches(samples: Iterable[Sample], batch_size: int) -> list[list[Sample]]:
    """Samples that are made together, in the order of the plan."""
    batches = []
    for _, group in itertools.groupby(samples, key=lambda sample: sample.group):
        members = list(group)
        batches += [members[start : start + batch_size] for start in range(0, len(members), batch_size)]
    return batches


def _sample_file(benchmark: str, entry: Entry, index: int) -> str:
    if benchmark == GENEVAL:
        return f"{entry.name}/samples/{index:05d}.png"
    return f"{entry.name}-{index}.mp4"
