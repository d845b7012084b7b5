# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
Makes stored jobs: takes them from the store, has the runner run them, and writes what comes of them.

Notable:

- A thread takes jobs when those that it took before are run, so that jobs wait in the store, where every worker of the
  database may take them; a second one writes results meanwhile; a third renews the lease and tells how far jobs are.
- A job has ended when its results are on the disk and the store has heard of it. Where the disk is full or the database is
  away, the result is kept and tried again; nothing else is taken meanwhile.
- A result follows from arguments and seed alone, so a job that is made again, after a kill, becomes the same bytes.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import av

from ..data.clip_reading import read_first_frames
from ..generation_record import generation_record
from ..image_reading import read_image_file
from .job_files import JobFiles
from .job_runner import Job, JobRequest, JobRunner, JobState
from .job_store import JobStore, Progress, StoredJob, StoreFull, StoreUnavailable
from .worker_identity import new_worker_name


DEFAULT_LEASE = 30.0

# In seconds: how often the store is asked for jobs of other processes, told of progress, and cleaned up; and how long what
# did not work is left alone.
_POLL = 0.5
_BEAT = 0.5
_CLEAN_UP = 30.0
_PAUSE = 1.0

_logger = logging.getLogger(__name__)


class JobWorker:
    """
    ```python
    with JobRunner(pipe, limits, max_batch_size=4) as runner, JobWorker(runner, store, files, "me/lumos-1b"):
        ...
    ```

    Args:
        runner: runs the jobs. Others may use it, too, and take turns with the stored jobs.
        store: has them.
        files: where their inputs are, and their results will be.
        checkpoint: where the pipeline was loaded from.
        lease: seconds after which others take the jobs of a worker that is not heard of any more.
        on_end: called with every job that has ended, its state and the seconds that it ran.
    """

    def __init__(
        self,
        runner: JobRunner,
        store: JobStore,
        files: JobFiles,
        checkpoint: str | Path,
        *,
        lease: float = DEFAULT_LEASE,
        on_end: Callable[[StoredJob, JobState, float], object] = lambda job, state, seconds: None,
    ):
        self.runner, self.store, self.files, self.checkpoint = runner, store, files, checkpoint
        self.lease = lease
        self.name = new_worker_name()
        self._problems: dict[str, str] = {}
        self._on_end = on_end
        self._taken: dict[str, tuple[StoredJob, Job, float]] = {}
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._is_closed = threading.Event()
        self._ended: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=target, name=f"lumos-{target.__name__.strip('_')}", daemon=True)
            for target in (self._take_jobs, self._write_results, self._beat)
        ]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> "JobWorker":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def notify(self) -> None:
        """Says that there is a new job, which would be noticed half a second later otherwise."""
        self._wake.set()

    def cancel(self, id: str) -> None:
        """Ends the running of a job within a step, if it runs here; it must have been deleted from the store."""
        with self._lock:
            taken = self._taken.get(id)
        if taken is not None:
            self.runner.cancel(taken[1])

    def progress(self, id: str) -> Progress | None:
        """How far a job is, if it runs here."""
        with self._lock:
            taken = self._taken.get(id)
        return None if taken is None else _progress(taken[1])

    @property
    def problem(self) -> str | None:
        """Why jobs are not taken or results not written at the moment; None if all is well."""
        return next(iter(list(self._problems.values())), None)

    @property
    def is_alive(self) -> bool:
        """Whether jobs are taken, written and told of; not so after `close`."""
        return all(thread.is_alive() for thread in self._threads)

    def close(self) -> None:
        """Ends what runs, and gives the jobs back to the store for others or for the next start."""
        self._is_closed.set()
        self._wake.set()
        with self._lock:
            running = [job for _, job, _ in self._taken.values()]
        for job in running:
            self.runner.cancel(job)
        self._ended.put(None)
        for thread in self._threads:
            thread.join()
        try:
            self.store.release(self.name)
        except StoreUnavailable as error:
            _logger.warning("Jobs could not be given back, and wait until their lease ends: %s", error)

    # Taking

    def _take_jobs(self) -> None:
        while not self._is_closed.is_set():
            self._wake.clear()
            try:
                self._take()
                self._problems.pop("taking", None)
            except (StoreUnavailable, StoreFull) as error:
                self._report("taking", error)
            # Whatever else may come, a server without this thread makes nothing any more.
            except Exception:
                _logger.exception("Jobs could not be taken.")
            self._wake.wait(_POLL)

    def _take(self) -> None:
        if not self._is_running():
            self.store.release_those_of_the_dead()
            self._start(self.store.take(self.name, self.lease, limit=self.runner.max_batch_size))
            return
        room, shape = self.runner.room_in_batch, self._shape_in_wait()
        if shape is not None and room > 0:
            self._start(self.store.take(self.name, self.lease, limit=room, shape=shape))

    def _shape_in_wait(self) -> str | None:
        """Of the jobs that were taken and wait for others."""
        with self._lock:
            waiting = (job for job, running, _ in self._taken.values() if running.status.state is JobState.QUEUED)
            return next((job.shape for job in waiting), None)

    def _is_running(self) -> bool:
        """Whether anything that was taken is still to be run, or so many results wait to be written that no more may come."""
        with self._lock:
            num_unwritten = sum(job.status.state.is_final for _, job, _ in self._taken.values())
            return num_unwritten < len(self._taken) or num_unwritten > self.runner.max_batch_size

    def _start(self, stored: list[StoredJob]) -> None:
        requests, ready = [], []
        for job in stored:
            try:
                arguments = read_arguments(job, self.files)
                self.runner.check(arguments)
            except (ValueError, OSError) as error:
                self.store.fail(job.id, self.name, _error(error))
                self._on_end(job, JobState.FAILED, 0.0)
            else:
                requests.append(JobRequest(job.client, arguments, job.seed, is_streamed=False))
                ready.append(job)
        with self._lock:
            jobs = self.runner.submit_all(requests)
            start = time.monotonic()
            for job, running in zip(ready, jobs, strict=True):
                self._taken[job.id] = (job, running, start)
        for job, running in zip(ready, jobs, strict=True):
            running.on_change(partial(self._note_end, job.id, running))
            # It may have ended before anybody listened.
            self._note_end(job.id, running)

    def _note_end(self, id: str, running: Job) -> None:
        if running.status.state.is_final:
            self._wake.set()
            self._ended.put(id)

    # Results

    def _write_results(self) -> None:
        while (id := self._ended.get()) is not None:
            with self._lock:
                taken = self._taken.get(id)
            if taken is None:
                continue
            job, running, start = taken
            while not self._write_result(job, running):
                if self._is_closed.wait(_PAUSE):
                    return
            with self._lock:
                del self._taken[id]
            self._on_end(job, running.status.state, time.monotonic() - start)
            # Its frames are let go before the next wait.
            del taken, running
            self._wake.set()

    def _write_result(self, job: StoredJob, running: Job) -> bool:
        """Whether it is done, or must be tried again."""
        state = running.status.state
        try:
            if state is JobState.DONE:
                num_bytes = self._write_files(job, running)
                if not self.store.complete(job.id, self.name, num_bytes=num_bytes):
                    self._forget_files(job.id)
            elif state is JobState.FAILED and running.error is not None:
                self.store.fail(job.id, self.name, _error(running.error))
            elif not self._is_closed.is_set():
                # Deleted while it ran.
                self._forget_files(job.id)
        except (StoreUnavailable, StoreFull, OSError) as error:
            self._report("writing", error)
            return False
        except Exception as error:
            _logger.exception("The result of job %s could not be written.", job.id)
            running.error = error
            self.store.fail(job.id, self.name, _error(error))
        self._problems.pop("writing", None)
        return True

    def _write_files(self, job: StoredJob, running: Job) -> int:
        settings = generation_record(self.runner.pipe, running.arguments, seed=job.seed, checkpoint=self.checkpoint)
        if job.kind == "image":
            return self.files.write_image(job.id, running.frames, settings)
        return self.files.write_video(job.id, running.frames, running.arguments["fps"], settings)

    def _forget_files(self, id: str) -> None:
        """Of a job that this worker does not hold any more: another one may be writing the same files."""
        if self.store.those_without_files([id]):
            self.files.remove(id)

    # Leases

    def _beat(self) -> None:
        told: dict[str, Progress] = {}
        renewed = cleaned = 0.0
        while not self._is_closed.wait(_BEAT):
            try:
                with self._lock:
                    taken = {id: job for id, (_, job, _) in self._taken.items()}
                progress = {id: _progress(job) for id, job in taken.items()}
                if progress and (progress != told or time.monotonic() - renewed > self.lease / 3):
                    held = self.store.renew(self.name, self.lease, progress)
                    told, renewed = progress, time.monotonic()
                    for id in taken.keys() - held:
                        self.runner.cancel(taken[id])
                if time.monotonic() - cleaned > _CLEAN_UP:
                    self._clean_up()
                    cleaned = time.monotonic()
                self._problems.pop("renewing", None)
            except (StoreUnavailable, StoreFull, OSError) as error:
                self._report("renewing", error)
            except Exception:
                _logger.exception("The lease could not be renewed.")

    def _clean_up(self) -> None:
        for id in self.store.remove_expired():
            self.files.remove(id)
        for id in self.store.those_without_files(self.files.old_ids()):
            self.files.remove(id)

    def _report(self, task: str, error: Exception) -> None:
        if task not in self._problems:
            _logger.warning("Jobs wait: %s", error)
        self._problems[task] = str(error)


def read_arguments(job: StoredJob, files: JobFiles) -> dict[str, Any]:
    """
    The arguments of the call of a stored job, with the clips that it is given.

    Raises:
        ValueError: if a clip cannot be read.
        OSError: if it is not there.
    """
    arguments = dict(job.arguments)
    given: Mapping[str, Mapping[str, Any]] = arguments.pop("given", {})
    for name, file in given.items():
        arguments[name] = read_given(files.path(job.id, file["file"]), name, arguments["fps"], file["max_frames"])
    return arguments


def read_given(path: Path, name: str, fps: int, max_frames: int, max_pixels: int = 1 << 24) -> Any:
    """
    An image, or the first `max_frames` frames of a video at `fps`.

    Args:
        path: its name says what it is.
        name: of the argument that it is for: `"image"`, `"video"` or `"mask"`.

    Raises:
        ValueError: if it cannot be read, or its pictures have more than `max_pixels` pixels.
    """
    try:
        if path.suffix in (".png", ".jpg", ".webp", ".bmp", ".tiff"):
            return read_image_file(path, decoder="ffmpeg", max_pixels=max_pixels)
        with path.open("rb") as file:
            return read_first_frames(file, max_frames, fps, max_pixels)
    except (ValueError, av.FFmpegError) as error:
        raise ValueError(f"`{name}` cannot be used: {error}.") from error


def _progress(job: Job) -> Progress:
    status = job.status
    return Progress(status.step, status.num_steps, status.seconds_left)


def _error(error: BaseException) -> dict[str, Any]:
    is_request = isinstance(error, ValueError)
    message = str(error) if is_request else f"{type(error).__name__}: {error}"
    kind = "invalid_request_error" if is_request else "server_error"
    return {"code": "invalid_request" if is_request else "generation_failed", "message": message, "param": None} | {
        "type": kind
    }
