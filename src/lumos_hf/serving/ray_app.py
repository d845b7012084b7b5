# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
What `lumos-hf serve` serves, as replicas of Ray Serve that scale with the queue.

    serve run lumos_hf.serving.ray_app:build model=me/lumos-1b database=postgresql://lumos@db/lumos data_dir=/shared/jobs \\
        max_replicas=8 num_gpus=1

Notable:

- Each replica is a whole server: it answers requests and makes jobs. All take them from one database, so a job does not
  belong to the replica that accepted it, and what a killed one had in hand is made by another, to the same bytes.
- Ray's proxy shares out requests, and starts a replica anew when it dies or makes no jobs any more.
- Every replica tells Ray how many jobs the database has; Ray decides by that, with its own delays, how many there are to be.
"""

import math
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from pydantic import ConfigDict, TypeAdapter, ValidationError
from ray import serve
from ray.serve import Application
from ray.serve.config import AutoscalingConfig, AutoscalingContext, AutoscalingPolicy

from ..cli.serving import ServerOptions, opened_server
from .job_store import IN_PROGRESS, QUEUED


_NUM_JOBS = "num_jobs"
# Sockets and calls that wait for their video are requests, too.
_MAX_REQUESTS = 1000


@dataclass(frozen=True, kw_only=True)
class RayServeOptions(ServerOptions):
    """
    The options of `lumos-hf serve`, and

    Args:
        min_replicas, max_replicas: how many servers there may be.
        jobs_per_replica: jobs that wait or run, for each of which so many there is to be a replica.
        num_cpus, num_gpus: what Ray keeps for each.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    min_replicas: int = 1
    max_replicas: int = 1
    jobs_per_replica: int = 4
    num_cpus: float = 1
    num_gpus: float = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("min_replicas", "jobs_per_replica"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, got {getattr(self, name)}.")
        if self.max_replicas < self.min_replicas:
            raise ValueError(
                f"`max_replicas` must be at least `min_replicas`, {self.min_replicas}, got {self.max_replicas}."
            )


class ScaleWithQueue:
    """
    Ray's question how many replicas there are to be, answered by the number of jobs.

    Args:
        jobs_per_replica: see [`RayServeOptions`].
    """

    def __init__(self, jobs_per_replica: int):
        self.jobs_per_replica = jobs_per_replica

    def __call__(self, context: AutoscalingContext) -> tuple[int, dict[str, Any]]:
        """
        Returns:
            replicas, which Ray keeps within its limits, and nothing to remember.
        """
        # All tell the same number, a moment apart.
        told = (context.aggregated_metrics or {}).get(_NUM_JOBS, {}).values()
        if not told:
            return context.target_num_replicas, {}
        return math.ceil(max(told) / self.jobs_per_replica), {}


@serve.ingress()
class Replica:
    """A server without a socket of its own."""

    def __init__(self, options: RayServeOptions):
        self._resources = ExitStack()
        self._server = self._resources.enter_context(opened_server(options))

    def __serve_build_asgi_app__(self) -> FastAPI:  # noqa: PLW3201
        """Ray's name for what gives it the app."""
        return self._server.app

    def check_health(self) -> None:
        """
        Asked by Ray again and again, which starts another replica if it does not end well.

        Raises:
            RuntimeError: if no jobs are made any more.
        """
        if not self._server.worker.is_alive:
            raise RuntimeError("The threads that make jobs have ended.")

    def record_autoscaling_stats(self) -> dict[str, float]:
        """What [`ScaleWithQueue`] goes by."""
        counts = self._server.store.count()
        return {_NUM_JOBS: counts.get(QUEUED, 0) + counts.get(IN_PROGRESS, 0)}

    def __del__(self) -> None:
        # What it has in hand goes back to the database, for others.
        self._resources.close()


def build(arguments: dict[str, str]) -> Application:
    """
    The application, for `serve run lumos_hf.serving.ray_app:build name=value ...` and the files of `serve deploy`.

    Args:
        arguments: fields of [`RayServeOptions`]; several `allow_media_host` with commas between them.

    Raises:
        ValueError: if one is unknown, or has a value that it cannot have.
    """
    options = read_options(arguments)
    scaling = AutoscalingConfig(
        min_replicas=options.min_replicas,
        max_replicas=options.max_replicas,
        policy=AutoscalingPolicy(
            policy_function=ScaleWithQueue, policy_kwargs={"jobs_per_replica": options.jobs_per_replica}
        ),
    )
    deployment = serve.deployment(
        name="lumos",
        autoscaling_config=scaling,
        max_ongoing_requests=_MAX_REQUESTS,
        ray_actor_options={"num_cpus": options.num_cpus, "num_gpus": options.num_gpus},
    )
    return deployment(Replica).bind(options)


def read_options(arguments: dict[str, Any]) -> RayServeOptions:
    """
    Args:
        arguments: as for [`build`].

    Returns:
        the options; paths are absolute, as replicas work in other directories.

    Raises:
        ValueError: if one is unknown, or has a value that it cannot have.
    """
    hosts = arguments.get("allow_media_host")
    if isinstance(hosts, str):
        arguments = {**arguments, "allow_media_host": hosts.split(",")}
    try:
        options = TypeAdapter(RayServeOptions).validate_python(arguments)
    except ValidationError as error:
        raise ValueError("; ".join(_describe(problem) for problem in error.errors())) from error
    has_directory = options.model is not None and Path(options.model).is_dir()
    if options.api_key_file is not None and not options.api_key_file.is_file():
        raise ValueError(f"`api_key_file` must be a file, got '{options.api_key_file}'.")
    return replace(
        options,
        model=str(Path(str(options.model)).resolve()) if has_directory else options.model,
        api_key_file=options.api_key_file and options.api_key_file.resolve(),
        data_dir=options.data_dir.resolve(),
    )


def _describe(problem: Any) -> str:
    place = ".".join(map(str, problem["loc"]))
    names = ", ".join(RayServeOptions.__dataclass_fields__)
    if problem["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        return f"`{place}` is none of the options, which are {names}"
    if not place:
        # What `__post_init__` said names its option.
        return str(problem["ctx"]["error"])
    return f"`{place}`: {problem['msg']}, got {problem['input']!r}"
