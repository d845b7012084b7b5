# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
How processes make a tokenised set together: which shards each of them does, and what is told at the end.

Which clips stand in which shard follows from the listing of the data alone. Processes share out the shards by their rank
and never talk to each other; a run that was killed goes on with the shards that are missing.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeAlias

from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from .tokenized_dataset import SkippedClip, TokenizedDirectory


logger = logging.getLogger(__name__)

# Rows and skipped clips, each in the order of the listing, of clips that were read; the other argument is called for each
# clip that is done.
MakeRows: TypeAlias = Callable[[Iterable[Any], Callable[[], Any]], tuple[list[dict[str, Any]], list[SkippedClip]]]


@dataclass(frozen=True)
class TokenizationSummary:
    """
    What became of the clips of a data set.

    Args:
        num_clips: in the data.
        num_rows: in the tokenised set so far.
        skipped: the clips that could not be used, so far.
        num_unfinished_shards: shards that other processes still have to write.
    """

    num_clips: int
    num_rows: int
    skipped: tuple[SkippedClip, ...]
    num_unfinished_shards: int


def check_rank(rank: int, world_size: int) -> None:
    if not 0 <= rank < world_size:
        raise ValueError(f"`rank` must be at least 0 and below `world_size` {world_size}, got {rank}.")


@dataclass(frozen=True)
class ShardWork:
    """
    The shards of a set that was begun, to be written by any number of processes.

    Args:
        directory: of the set.
        clips: read by their index in the listing, in `num_proc` other processes or, with 0, in this one.
        make_rows: what follows from the clips of one shard.
        num_proc: processes that read.
        description: in front of the progress bar.
    """

    directory: TokenizedDirectory
    clips: Dataset
    make_rows: MakeRows
    num_proc: int
    description: str

    def count_clips(self, shards: Iterable[int]) -> int:
        return sum(len(self.directory.clips_of_shard(shard)) for shard in shards)

    def unfinished(self, shards: Sequence[int]) -> list[int]:
        """Those of the shards that are not there, or not as they were written."""
        for shard in self.directory.forget_damaged(shards):
            logger.warning("'%s' is missing or was changed, and is made again.", self.directory.data_file(shard))
        return sorted(set(shards) & set(self.directory.unfinished_shards()))

    def write(self, shards: Sequence[int], clip_done: Callable[[], Any]) -> None:
        """Writes shards, one after another."""
        indices = [self.directory.clips_of_shard(shard) for shard in shards]
        sampler = [index for clips in indices for index in clips]
        read_clips = iter(DataLoader(self.clips, batch_size=None, sampler=sampler, num_workers=self.num_proc))
        for shard, clips in zip(shards, indices, strict=True):
            self.directory.write_shard(shard, *self.make_rows(islice(read_clips, len(clips)), clip_done))


# Has shards written that are not finished, elsewhere; the other argument is called with each that was.
ShardExecutor: TypeAlias = Callable[["ShardWork", list[int], Callable[[int], Any]], None]


def write_shards(
    work: ShardWork, *, rank: int, world_size: int, executor: ShardExecutor | None = None
) -> TokenizationSummary:
    """
    Writes this process's share of the shards of a set.

    Args:
        work: the shards.
        rank: number of this process among those that share the work.
        world_size: number of these processes.
        executor: does that share instead of this process.
    """
    shards = range(rank, work.directory.num_shards, world_size)
    unfinished = work.unfinished(shards)
    total = work.count_clips(shards)
    initial = total - work.count_clips(unfinished)
    with tqdm(desc=work.description, unit="clip", total=total, initial=initial) as progress:
        if executor is None:
            work.write(unfinished, progress.update)
        else:
            executor(work, unfinished, lambda shard: progress.update(work.count_clips([shard])))
    return _summarize(work.directory)


def _summarize(directory: TokenizedDirectory) -> TokenizationSummary:
    unfinished = directory.unfinished_shards()
    if not unfinished:
        directory.write_skipped()
    records = directory.records()
    return TokenizationSummary(
        num_clips=directory.manifest["num_clips"],
        num_rows=sum(record.num_rows for record in records),
        skipped=tuple(clip for record in records for clip in record.skipped),
        num_unfinished_shards=len(unfinished),
    )
