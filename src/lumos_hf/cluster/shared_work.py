# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""What the commands share out on Ray: shards of tokenised sets, batches of samples. Both are written as by one process."""

import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from .ray_actors import RayCluster


if TYPE_CHECKING:
    from ..data.shard_work import ShardWork, TokenizationSummary
    from ..evaluation.sample_runner import SampleRun
    from ..pipeline_lumos_video import LumosVideoPipeline


def write_shards_on_ray(
    cluster: RayCluster,
    function: Callable[..., "TokenizationSummary"],
    arguments: Mapping[str, Any],
    on_actors: Mapping[str, Any],
) -> "TokenizationSummary":
    """
    Writes the shards of a tokenised set on the actors of a cluster.

    Args:
        cluster: that is open.
        function: [`tokenize_dataset`] or [`import_tokenized_dataset`].
        arguments: its arguments. They are checked here, and the set is begun.
        on_actors: arguments that are others there.
    """

    def executor(_: "ShardWork", shards: list[int], shard_done: Callable[[int], Any]) -> None:
        cluster.run(partial(_ShardWriter, function, {**arguments, **on_actors}), shards, shard_done)

    return function(**arguments, executor=executor)


class _ShardWriter:
    """Writes shards by their numbers."""

    def __init__(self, function: Callable[..., Any], arguments: Mapping[str, Any]) -> None:
        # With no shards of its own, it looks through none of them.
        function(**arguments, rank=sys.maxsize - 1, world_size=sys.maxsize, executor=self._keep)

    def __call__(self, shard: int) -> None:
        # The process before may have written it, and then died.
        self._work.write(self._work.unfinished([shard]), lambda: None)

    def _keep(self, work: "ShardWork", shards: list[int], shard_done: Callable[[int], Any]) -> None:
        self._work = work


def make_samples_on_ray(
    cluster: RayCluster,
    run: "SampleRun",
    make_run: Callable[[], "SampleRun"],
    load: Callable[[], "LumosVideoPipeline"],
) -> int:
    """
    Makes the samples that are missing on the actors of a cluster; how many still are.

    Args:
        cluster: that is open.
        run: that was begun here.
        make_run: gives the same run on an actor.
        load: gives the checkpoint there.
    """

    def executor(batches: list[int], batch_done: Callable[[int], Any]) -> None:
        cluster.run(partial(_BatchMaker, make_run, load), batches, batch_done)

    return run.make_samples(load, executor=executor)


class _BatchMaker:
    """Makes batches by their numbers."""

    def __init__(self, make_run: Callable[[], "SampleRun"], load: Callable[[], "LumosVideoPipeline"]) -> None:
        self._work = make_run().work
        self._pipe = load()

    def __call__(self, batch: int) -> None:
        for number in self._work.unfinished([batch]):
            self._work.make(number, self._pipe)
