# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
Calls of one pipeline as jobs, which clients wait for, watch and cancel.

Notable:

- One thread owns the pipeline. Everything that a client may do takes effect through a job, from any thread.
- Clients take turns: whoever has many jobs waiting delays another client by one of them.
- Whatever is wrong with a request is told to who makes it, before it waits in the queue. What goes wrong later belongs to
  the job: `result` raises it, and the next job is run.
- A finished job is kept by nobody but its client.
"""

import asyncio
import logging
import secrets
import threading
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, cast

import PIL.Image
import torch

from ..argument_checks import check_integer
from ..call_inputs import CallInputs
from ..generation_defaults import most_steps, resolve_default


if TYPE_CHECKING:
    from ..decoding.session import VideoSession
    from ..pipeline_lumos_video import LumosVideoPipeline


MAX_SEED = 2**63 - 1

# What the runner sets itself.
_RESERVED = frozenset(
    {
        "generator",
        "num_videos_per_prompt",
        "output_type",
        "return_dict",
        "callback_on_step_end",
        "callback_on_step_end_tensor_inputs",
    }
)

_logger = logging.getLogger(__name__)


class QueueFull(Exception):
    """Too many jobs are waiting."""


class JobCancelled(Exception):
    """The job was cancelled."""


class JobState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        return self not in (JobState.QUEUED, JobState.RUNNING)


@dataclass(frozen=True)
class JobStatus:
    """
    How far a job has come.

    Args:
        state: one of [`JobState`].
        num_ahead: jobs that are run before this one, if it is queued; else 0.
        step: decoding steps done, over all latent frames.
        num_steps: decoding steps in all; 0 until the first one is done.
        seconds_left: until the last step, at the pace of the steps so far; None until the first one is done.
        num_frames: pixel frames that there are.
    """

    state: JobState = JobState.QUEUED
    num_ahead: int = 0
    step: int = 0
    num_steps: int = 0
    seconds_left: float | None = None
    num_frames: int = 0


@dataclass(frozen=True, kw_only=True)
class JobLimits:
    """
    What clients may ask for.

    Args:
        max_area: height times width, in pixels.
        max_num_frames: pixel frames of a video, given ones included.
        max_num_inference_steps: decoding steps per latent frame.
        max_queued: jobs that wait, of all clients.
        max_queued_per_client: jobs that wait, of one client.

    Raises:
        ValueError: if a limit is not a positive integer.
    """

    max_area: int
    max_num_frames: int
    max_num_inference_steps: int = 100
    max_queued: int = 64
    max_queued_per_client: int = 8

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            check_integer(name, value)

    def check(self, height: int, width: int, num_frames: float = 1, num_inference_steps: int = 1) -> None:
        """
        Args:
            height, width, num_frames, num_inference_steps: of a call.

        Raises:
            ValueError: if the call asks for more than is allowed.
        """
        if height * width > self.max_area:
            raise ValueError(f"`height` times `width` must be at most {self.max_area} here, got {height}x{width}.")
        for name, value, limit in (
            ("num_frames", num_frames, self.max_num_frames),
            ("num_inference_steps", num_inference_steps, self.max_num_inference_steps),
        ):
            if value > limit:
                raise ValueError(f"`{name}` must be at most {limit} here, got {value}.")


class Job:
    """
    A call that waits, runs or has ended; made by [`JobRunner.submit`].

    `status` and `frames` may be read at any time. [`Job.updates`] and [`Job.watch`] tell of every change, [`Job.result`]
    waits for the end.

    Args:
        client: whose turn it is.
        arguments: of [`LumosVideoPipeline.__call__`].
        seed: of its random numbers.
    """

    def __init__(self, client: str, arguments: Mapping[str, Any], seed: int):
        self.id = secrets.token_urlsafe(16)
        self.client = client
        self.arguments = dict(arguments)
        self.seed = seed
        self.error: BaseException | None = None
        self._frames: list[PIL.Image.Image] = []
        self._status = JobStatus()
        self._lock = threading.Lock()
        self._listeners: list[Callable[[], object]] = []
        self._is_cancelled = threading.Event()
        self._next_prompt: str | None = None
        self._segments: list[dict[str, Any]] = []

    @property
    def status(self) -> JobStatus:
        return self._status

    @property
    def frames(self) -> list[PIL.Image.Image]:
        """The frames so far, given ones included."""
        return list(self._frames)

    @property
    def prompt_segments(self) -> list[dict[str, Any]]:
        """The prompts that [`JobRunner.change_prompt`] set, as a call takes them: it makes the same video again."""
        return list(self._segments)

    def updates(self, timeout: float | None = None) -> Iterator[JobStatus]:
        """
        Yields the status now and whenever it has changed, ending with a final one. Who is slow misses some in between.

        Raises:
            TimeoutError: if nothing changes for `timeout` seconds.
        """
        changed = threading.Event()
        with self._listener(changed.set):
            while True:
                changed.clear()
                status = self.status
                yield status
                if status.state.is_final:
                    return
                if not changed.wait(timeout):
                    raise TimeoutError(f"The job has been {status.state} without a change for {timeout} seconds.")

    async def watch(self) -> AsyncIterator[JobStatus]:
        """[`Job.updates`] for coroutines: no thread waits."""
        changed, loop = asyncio.Event(), asyncio.get_running_loop()

        def tell() -> None:
            # A loop that has ended without waiting for its coroutines is nobody to tell.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(changed.set)

        with self._listener(tell):
            while True:
                changed.clear()
                status = self.status
                yield status
                if status.state.is_final:
                    return
                await changed.wait()

    def result(self, timeout: float | None = None) -> list[PIL.Image.Image]:
        """
        Waits for the video.

        Args:
            timeout: seconds without any change after which waiting ends.

        Raises:
            JobCancelled: if the job was cancelled.
            TimeoutError: if nothing changes for `timeout` seconds.
            Exception: what went wrong in a job that failed.
        """
        for _ in self.updates(timeout):
            pass
        if self.status.state is JobState.CANCELLED:
            raise JobCancelled(f"The job was cancelled after {self.status.step} steps.")
        if self.error is not None:
            raise self.error
        return self.frames

    def _update(self, **changes: Any) -> None:
        with self._lock:
            self._status = replace(self._status, **changes)
            listeners = list(self._listeners)
        for listener in listeners:
            listener()

    def _add_frames(self, frames: list[PIL.Image.Image]) -> None:
        self._frames += frames
        self._update(num_frames=len(self._frames))

    @contextmanager
    def _listener(self, listener: Callable[[], object]) -> Iterator[None]:
        """Has `listener` called after every change."""
        with self._lock:
            self._listeners.append(listener)
        try:
            yield
        finally:
            with self._lock:
                self._listeners.remove(listener)


class JobRunner:
    """
    Runs the jobs of many clients on one pipeline, one after another.

    ```python
    with JobRunner(pipe, JobLimits(max_area=128 * 128, max_num_frames=17)) as runner:
        job = runner.submit("me", {"prompt": "A red star jumps in the snow."}, seed=0)
        for status in job.updates():
            print(status.step, status.num_steps, status.seconds_left)
        frames = job.result()
    ```

    Args:
        pipe: the pipeline, which nobody else may change from now on.
        limits: what clients may ask for.
    """

    def __init__(self, pipe: "LumosVideoPipeline", limits: JobLimits):
        self.pipe = pipe
        self.limits = limits
        # In the order of their turns.
        self._queues: OrderedDict[str, deque[Job]] = OrderedDict()
        self._running: Job | None = None
        self._is_closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="lumos-job-runner", daemon=True)
        self._thread.start()

    def __enter__(self) -> "JobRunner":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def submit(self, client: str, arguments: Mapping[str, Any], seed: int | None = None) -> Job:
        """
        Puts a call into the queue.

        Args:
            client: any text that tells clients apart; they take turns.
            arguments: of [`LumosVideoPipeline.__call__`] for one video, without those that the runner sets itself:
                `generator`, `num_videos_per_prompt`, `output_type`, `return_dict` and callbacks.
            seed: from 0 to 2**63 - 1; by default a random one. The result is that of a direct call with
                `generator=torch.Generator().manual_seed(seed)`.

        Raises:
            ValueError: if the arguments are wrong, or ask for more than `limits` allow.
            QueueFull: if too many jobs wait already.
            RuntimeError: if the runner is closed.
        """
        seed = secrets.randbelow(2**31) if seed is None else seed
        check_integer("seed", seed, minimum=0, maximum=MAX_SEED)
        self._check(arguments)
        job = Job(client, arguments, seed)
        with self._changed:
            if self._is_closed:
                raise RuntimeError("The runner is closed.")
            self._check_room(client)
            self._queues.setdefault(client, deque()).append(job)
            self._count_those_ahead()
            self._changed.notify()
        return job

    def cancel(self, job: Job) -> None:
        """Ends a job: at once if it waits, else within a decoding step. One that has ended stays as it is."""
        with self._changed:
            queue = self._queues.get(job.client, deque())
            is_waiting = job in queue
            if is_waiting:
                queue.remove(job)
                if not queue:
                    del self._queues[job.client]
                self._count_those_ahead()
        job._is_cancelled.set()
        if is_waiting:
            job._update(state=JobState.CANCELLED, num_ahead=0)

    def change_prompt(self, job: Job, prompt: str) -> None:
        """
        Has the video of a job go on with another prompt, from the next latent frame on that is begun.

        Raises:
            ValueError: if the prompt is wrong, or the job has ended.
        """
        if not isinstance(prompt, str):
            raise ValueError(f"`prompt` must be a string, got {prompt!r}.")
        self.pipe.check_inputs(**{**job.arguments, "prompt": prompt})
        if job.status.state.is_final:
            raise ValueError(f"`job` must be one that has not ended, got one that is {job.status.state}.")
        job._next_prompt = prompt

    def close(self) -> None:
        """Cancels all jobs and waits for the thread to end. No job is taken any more."""
        with self._changed:
            self._is_closed = True
            jobs = self._waiting_jobs()
            running = self._running
            self._changed.notify()
        for job in [*jobs, *([running] if running else [])]:
            self.cancel(job)
        self._thread.join()

    def _check(self, arguments: Mapping[str, Any]) -> None:
        reserved = sorted(_RESERVED & arguments.keys())
        if reserved:
            raise ValueError(f"`arguments` must be without what the runner sets itself, got {reserved}.")
        try:
            inputs = CallInputs(**arguments).completed(self.pipe)
        except TypeError as error:
            raise ValueError(f"`arguments` must be those of a call of the pipeline: {error}.") from error
        if not isinstance(inputs.prompt, str):
            raise ValueError(f"`prompt` must be a string, got {inputs.prompt!r}.")
        # What is given may choose the size, among those of about the checkpoint's area.
        height, width = (
            resolve_default(name, getattr(inputs, name), self.pipe.config) for name in ("height", "width")
        )
        num_steps = most_steps(cast(Any, inputs.num_inference_steps))
        self.limits.check(height, width, cast(int, inputs.num_frames), num_steps)

    def _check_room(self, client: str) -> None:
        if len(self._queues.get(client, ())) >= self.limits.max_queued_per_client:
            raise QueueFull(f"{self.limits.max_queued_per_client} of your jobs are waiting already.")
        if sum(map(len, self._queues.values())) >= self.limits.max_queued:
            raise QueueFull(f"{self.limits.max_queued} jobs are waiting already.")

    def _waiting_jobs(self) -> list[Job]:
        """In the order in which they will run if no more come."""
        rounds = max(map(len, self._queues.values()), default=0)
        return [queue[turn] for turn in range(rounds) for queue in self._queues.values() if turn < len(queue)]

    def _count_those_ahead(self) -> None:
        num_running = int(self._running is not None)
        for index, job in enumerate(self._waiting_jobs()):
            if job.status.num_ahead != index + num_running:
                job._update(num_ahead=index + num_running)

    def _work(self) -> None:
        while self._take_job():
            # Its frames belong to its client alone: nothing here may hold the job while the thread waits for the next.
            self._run_taken_job()

    def _take_job(self) -> bool:
        """Waits for a job and makes it the running one; False once the runner is closed."""
        with self._changed:
            self._running = None
            self._changed.wait_for(lambda: self._is_closed or self._queues)
            if self._is_closed:
                return False
            client, queue = self._queues.popitem(last=False)
            self._running = queue.popleft()
            if queue:
                self._queues[client] = queue
            self._running._update(state=JobState.RUNNING, num_ahead=0)
            self._count_those_ahead()
            return True

    def _run_taken_job(self) -> None:
        job = self._running
        assert job is not None
        try:
            self._generate(job)
        except JobCancelled:
            job._update(state=JobState.CANCELLED, seconds_left=None)
        # The thread serves all others, so nothing may end it.
        except BaseException as error:
            _logger.exception("Job %s failed.", job.id)
            # The traceback holds the call's tensors for as long as the client holds the job.
            job.error = error.with_traceback(None)
            job._update(state=JobState.FAILED, seconds_left=None)
        else:
            job._update(state=JobState.DONE, seconds_left=None)

    def _generate(self, job: Job) -> None:
        start = time.monotonic()

        def after_step(
            pipe: "LumosVideoPipeline", step: int, timestep: Any, tensors: dict[str, Any]
        ) -> dict[str, Any]:
            self._raise_if_cancelled(job)
            done, total = step + 1, pipe.num_timesteps
            seconds_left = (time.monotonic() - start) / done * (total - done)
            job._update(step=done, num_steps=total, seconds_left=seconds_left)
            return {}

        self._raise_if_cancelled(job)
        arguments = dict(job.arguments)
        if arguments.get("num_frames") is None and arguments.get("mask") is None and arguments.get("strength") is None:
            # A session without a number has no end.
            arguments["num_frames"] = resolve_default("num_frames", None, self.pipe.config)
        generator = torch.Generator().manual_seed(job.seed)
        session = self.pipe.session(**arguments, generator=generator, callback_on_step_end=after_step, max_rewind=0)
        with closing(session):
            while not session.is_finished:
                self._take_next_prompt(job, session)
                (frames,) = session.next()
                job._add_frames(frames)
                self._raise_if_cancelled(job)

    @staticmethod
    def _take_next_prompt(job: Job, session: "VideoSession") -> None:
        prompt, job._next_prompt = job._next_prompt, None
        if prompt is not None:
            session.prompt = prompt
            job._segments.append({"start_frame": len(job._frames), "text": prompt})

    @staticmethod
    def _raise_if_cancelled(job: Job) -> None:
        if job._is_cancelled.is_set():
            raise JobCancelled
