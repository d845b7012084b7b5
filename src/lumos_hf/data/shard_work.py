# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
How processes make a tokenised set together: which shards each of them does, and what is told at the end.

Which clips stand in which shard follows from the listing of the data alone. Processes share out the shards by their rank
and never talk to each other; a run that was killed goes on with the shards that are missing.
"""

import logging
from collections.abc import Callable, Iterable
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


def write_shards(
    directory: TokenizedDirectory,
    clips: Dataset,
    make_rows: MakeRows,
    *,
    rank: int,
    world_size: int,
    num_proc: int,
    description: str,
) -> TokenizationSummary:
    """
    Writes this process's share of the shards of a set.

    Args:
        directory: of the set.
        clips: read by their index in the listing, in `num_proc` other processes or, with 0, in this one.
        make_rows: what follows from the clips of one shard.
        rank: number of this process among those that share the work.
        world_size: number of these processes.
        num_proc: processes that read.
        description: in front of the progress bar.
    """
    shards = range(rank, directory.num_shards, world_size)
    for shard in directory.forget_damaged(shards):
        logger.warning("'%s' is missing or was changed, and is made again.", directory.data_file(shard))
    unfinished = sorted(set(shards) & set(directory.unfinished_shards()))
    indices = {shard: directory.clips_of_shard(shard) for shard in shards}
    loader = DataLoader(
        clips,
        batch_size=None,
        sampler=[index for shard in unfinished for index in indices[shard]],
        num_workers=num_proc,
    )
    total = sum(map(len, indices.values()))
    with tqdm(desc=description, unit="clip", total=total, initial=total - len(loader)) as progress:
        read_clips = iter(loader)
        for shard in unfinished:
            directory.write_shard(shard, *make_rows(islice(read_clips, len(indices[shard])), progress.update))
    return _summarize(directory)


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
