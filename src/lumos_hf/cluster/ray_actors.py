# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
Numbered pieces of work on the actors of a Ray Data job, each of which loads its model once.

Notable: what is done is told by the files that the pieces write, not by Ray's checkpoints of finished rows. Files are there
whole or not at all, and are the same whoever wrote them, so a job may go on where Ray, `accelerate launch` or one process
was killed; a second list of what is done could only disagree.
"""

import contextlib
import logging
import os
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self, TypeAlias

from ..argument_checks import check_integer


# Makes what does pieces of work by their numbers; called in each actor.
MakeWorker: TypeAlias = Callable[[], Callable[[int], Any]]

LOCAL = "local"


class RayCluster:
    """
    A Ray cluster to work on, which is left when the context ends; one of this machine alone ends with it.

    Args:
        address: `"local"` starts one on this machine; `"auto"` finds the one that this machine belongs to; else that of a
            head node, such as `"10.0.0.1:6379"`.
        num_actors: how many load the model; by default one for each GPU, or else one for each machine.

    Raises:
        ValueError: if Ray is not installed, no cluster is at the address, or it has too few processors for the actors.
    """

    def __init__(self, address: str = LOCAL, num_actors: int | None = None) -> None:
        if num_actors is not None:
            check_integer("num_actors", num_actors)
        self.address = address
        self._num_actors = num_actors
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            import ray
        except ImportError as error:
            raise ValueError("`ray` needs Ray, which comes with `pip install lumos_hf[cluster]`.") from error
        self._ray = ray

    def __enter__(self) -> Self:
        options: dict[str, Any] = {"address": self.address, "logging_level": logging.WARNING, "log_to_driver": False}
        if self.address == LOCAL:
            options |= {"include_dashboard": False, "num_cpus": self._num_logical_processors()}
        try:
            self._ray.init(**options)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise ValueError(f"`ray` must be the address of a cluster, got '{self.address}': {error}") from error
        try:
            self._check_processors()
        except ValueError:
            self._ray.shutdown()
            raise
        return self

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ray.shutdown()

    @property
    def has_gpus(self) -> bool:
        """Whether the actors have one each."""
        return self._num_gpus > 0

    @property
    def num_actors(self) -> int:
        return self._num_actors or self._num_gpus or self._num_machines

    def run(self, make_worker: MakeWorker, numbers: Sequence[int], done: Callable[[int], Any]) -> None:
        """
        Does pieces of work, in any order. An actor that dies is started again, and its piece with it.

        Args:
            make_worker: what can be pickled. It is called in the directory of this process, where the actor's machine has it.
            numbers: of the pieces.
            done: called here with each number.
        """
        if not numbers:
            return
        from ray import data

        context = data.DataContext.get_current()
        context.enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.WARNING)
        num_actors = min(self.num_actors, len(numbers))
        # A block each, so that an actor gets another piece only when it has done one.
        rows = data.from_items([{"number": number} for number in numbers], override_num_blocks=len(numbers))
        results = rows.map_batches(
            _Actor,
            fn_constructor_args=(make_worker, os.getcwd(), -(-num_actors // self._num_machines)),
            batch_size=1,
            compute=data.ActorPoolStrategy(size=num_actors, max_tasks_in_flight_per_actor=1),
            num_cpus=1,
            num_gpus=1 if self.has_gpus else 0,
        )
        for row in results.iter_rows():
            done(int(row["number"]))

    @property
    def _num_gpus(self) -> int:
        return int(self._ray.cluster_resources().get("GPU", 0))

    @property
    def _num_machines(self) -> int:
        return sum(node["Alive"] for node in self._ray.nodes())

    def _num_logical_processors(self) -> int:
        """Actors and what feeds them wait for each other for ever where they are as many as processors."""
        return max(os.cpu_count() or 1, 2 * (self._num_actors or 1) + 4)

    def _check_processors(self) -> None:
        num_cpus = int(self._ray.cluster_resources().get("CPU", 0))
        if self.num_actors >= num_cpus:
            raise ValueError(
                f"`num_actors` must be below the number of the cluster's processors, {num_cpus}, got {self.num_actors}."
            )
        if self.has_gpus and self.num_actors > self._num_gpus:
            raise ValueError(
                f"`num_actors` must be at most the number of the cluster's GPUs, {self._num_gpus}, got {self.num_actors}."
            )


class _Actor:
    """Holds a worker."""

    def __init__(self, make_worker: MakeWorker, directory: str, num_per_machine: int) -> None:
        import torch

        # Relative paths are meant as the command was given them.
        with contextlib.suppress(OSError):
            os.chdir(directory)
        # Ray gives an actor one thread.
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // num_per_machine))
        self._work = make_worker()

    def __call__(self, rows: dict[str, Any]) -> dict[str, Any]:
        for number in rows["number"]:
            self._work(int(number))
        return rows
