# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""Who waits for the end of a job hears of it, and numbers of all that ended for `/metrics`."""

import asyncio
import threading
from collections.abc import Callable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from .job_runner import JobState
from .job_store import StoredJob


_JOB_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800)
_REQUEST_SECONDS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 30, 120)
# Of the mean of the time that jobs take, the weight of the last one.
_WEIGHT = 0.2


class JobEvents:
    """The ends of jobs: [`JobEvents.ended`] is what a [`JobWorker`] takes as `on_end`."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.seconds_of_a_job = 1.0
        self._lock = threading.Lock()
        self._waiting: dict[str, list[Callable[[], object]]] = {}
        registry = self.registry
        self._ended = Counter(
            "lumos_jobs_ended", "Jobs that this process ended.", ["kind", "state"], registry=registry
        )
        self._seconds = Histogram(
            "lumos_job_seconds", "From taking a job to its results.", ["kind"], buckets=_JOB_SECONDS, registry=registry
        )
        self._requests = Histogram(
            "lumos_http_request_seconds",
            "Requests by the route that answered them.",
            ["method", "route", "status"],
            buckets=_REQUEST_SECONDS,
            registry=registry,
        )
        self._jobs = Gauge("lumos_jobs", "Jobs in the store.", ["status"], registry=registry)
        self._bytes = Gauge("lumos_stored_bytes", "What inputs and results take on disk.", registry=registry)

    def ended(self, job: StoredJob, state: JobState, seconds: float) -> None:
        """A job has ended, after so many seconds of running."""
        self._ended.labels(job.kind, state.value).inc()
        if state is JobState.DONE:
            self._seconds.labels(job.kind).observe(seconds)
            self.seconds_of_a_job += _WEIGHT * (seconds - self.seconds_of_a_job)
        with self._lock:
            listeners = self._waiting.pop(job.id, [])
        for listener in listeners:
            listener()

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """A request was answered."""
        self._requests.labels(method, route, str(status)).observe(seconds)

    async def wait(self, id: str, timeout: float) -> None:
        """Returns when a job has ended in this process, or after `timeout` seconds: another one may have ended it."""
        ended, loop = asyncio.Event(), asyncio.get_running_loop()

        def tell() -> None:
            loop.call_soon_threadsafe(ended.set)

        with self._lock:
            self._waiting.setdefault(id, []).append(tell)
        try:
            async with asyncio.timeout(timeout):
                await ended.wait()
        except TimeoutError:
            pass
        finally:
            self._forget(id, tell)

    def metrics(self, counts: Mapping[str, int], num_bytes: int) -> bytes:
        """The text of `/metrics`, with what the store counted."""
        for status in ("queued", "in_progress", "completed", "failed"):
            self._jobs.labels(status).set(counts.get(status, 0))
        self._bytes.set(num_bytes)
        return generate_latest(self.registry)

    def _forget(self, id: str, listener: Callable[[], object]) -> None:
        with self._lock:
            listeners = self._waiting.get(id, [])
            if listener in listeners:
                listeners.remove(listener)
            if not listeners:
                self._waiting.pop(id, None)
