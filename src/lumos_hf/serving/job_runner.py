# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
Calls of one pipeline as jobs, which clients wait for, watch and cancel.

Notable:

- One thread owns the pipeline. Everything that a client may do takes effect through a job, from any thread.
- Clients take turns: whoever has many jobs waiting delays another client by one of them.
- Waiting jobs of one shape may run as one batch. Unlike prompts and seeds are, in float32, what single calls give.
- Whatever is wrong with a request is told to who makes it, before it waits in the queue. What goes wrong later belongs to
  the job: `result` raises it, and the next job is run.
- A finished job is kept by nobody but its client.
"""

import asyncio
import logging
import secrets
import threading
import time
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, cast

import PIL.Image
import torch

from ..argument_checks import check_integer, check_number
from ..call_inputs import CallInputs, as_list, check_context
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

# Calls that give or change more than these are never part of a batch.
_BATCHED = frozenset(
    {
        "prompt",
        "negative_prompt",
        "height",
        "width",
        "num_frames",
        "fps",
        "num_inference_steps",
        "guidance_scale",
        "history_mask_ratio",
        "approximations",
        "temporal_tile_size",
        "temporal_overlap",
    }
)
_OF_EACH = frozenset({"prompt", "negative_prompt"})

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


@dataclass(frozen=True)
class JobRequest:
    """
    What [`JobRunner.submit`] takes.

    Args:
        client: any text that tells clients apart; they take turns.
        arguments: of [`LumosVideoPipeline.__call__`] for one video.
        seed: from 0 to 2**63 - 1; None for a random one.
        is_streamed: whether frames come while they are made, and the prompt may change. Pixels of a stream may be rounded
            in another way than those of a direct call; False gives what that gives, to the bit, in the end.
    """

    client: str
    arguments: Mapping[str, Any]
    seed: int | None = None
    is_streamed: bool = True


class Job:
    """
    A call that waits, runs or has ended; made by [`JobRunner.submit`].

    `status` and `frames` may be read at any time. [`Job.updates`] and [`Job.watch`] tell of every change, [`Job.result`]
    waits for the end.

    Args:
        client: whose turn it is.
        arguments: of [`LumosVideoPipeline.__call__`].
        seed: of its random numbers.
        shape: what jobs have in common that can run as one batch; None if this one runs alone.
        is_streamed: whether frames come while they are made.
    """

    def __init__(
        self,
        client: str,
        arguments: Mapping[str, Any],
        seed: int,
        shape: str | None = None,
        is_streamed: bool = True,
    ):
        self.id = secrets.token_urlsafe(16)
        self.client = client
        self.arguments = dict(arguments)
        self.seed = seed
        self.shape = shape
        self.is_streamed = is_streamed
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

    def on_change(self, listener: Callable[[], object]) -> None:
        """Has `listener` called after every change from now on, by the thread that makes it, which it must not hold up."""
        with self._lock:
            self._listeners.append(listener)

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
        self.on_change(listener)
        try:
            yield
        finally:
            with self._lock:
                self._listeners.remove(listener)


class JobRunner:
    """
    Runs the jobs of many clients on one pipeline, one batch after another.

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
        max_batch_size: jobs of one shape that run together. Beyond float32 their results may depend on each other, where
            products of other shapes round in other ways.
        batch_delay: seconds for which a job waits for others of its shape, if a batch of it would not be full.

    Raises:
        ValueError: if `max_batch_size` is no positive integer, or `batch_delay` no number of at least 0.
    """

    def __init__(
        self, pipe: "LumosVideoPipeline", limits: JobLimits, *, max_batch_size: int = 1, batch_delay: float = 0.0
    ):
        check_integer("max_batch_size", max_batch_size)
        check_number("batch_delay", batch_delay)
        self.pipe = pipe
        self.limits = limits
        self.max_batch_size = max_batch_size
        self.batch_delay = batch_delay
        # In the order of their turns.
        self._queues: OrderedDict[str, deque[Job]] = OrderedDict()
        self._running: list[Job] = []
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
        (job,) = self.submit_all([JobRequest(client, arguments, seed)])
        return job

    def submit_all(self, requests: Sequence[JobRequest]) -> list[Job]:
        """
        Puts calls into the queue at once, so that those of one shape begin as one batch; all of them or none.

        Raises:
            ValueError, QueueFull, RuntimeError: as [`JobRunner.submit`].
        """
        jobs = [self._checked_job(request) for request in requests]
        with self._changed:
            if self._is_closed:
                raise RuntimeError("The runner is closed.")
            for client, count in Counter(job.client for job in jobs).items():
                self._check_room(client, count, len(jobs))
            for job in jobs:
                self._queues.setdefault(job.client, deque()).append(job)
            self._count_those_ahead()
            self._changed.notify()
        return jobs

    @property
    def room_in_batch(self) -> int:
        """How many more jobs of its shape the batch has room for that waits for them; 0 if none does."""
        with self._changed:
            batch = [] if self._running else self._next_batch()
            return self.max_batch_size - len(batch) if batch and batch[0].shape is not None else 0

    def check(self, arguments: Mapping[str, Any]) -> None:
        """
        Checks a call as [`JobRunner.submit`] does.

        Raises:
            ValueError: if the arguments are wrong, or ask for more than `limits` allow.
        """
        self._completed(arguments)

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
                self._changed.notify()
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
        self._check_length(CallInputs(**{**job.arguments, "prompt": prompt}).completed(self.pipe))
        if not job.is_streamed:
            raise ValueError("`job` must be one whose frames are streamed.")
        if job.status.state.is_final:
            raise ValueError(f"`job` must be one that has not ended, got one that is {job.status.state}.")
        job._next_prompt = prompt

    def close(self) -> None:
        """Cancels all jobs and waits for the thread to end. No job is taken any more."""
        with self._changed:
            self._is_closed = True
            jobs = self._waiting_jobs()
            running = list(self._running)
            self._changed.notify()
        for job in [*jobs, *running]:
            self.cancel(job)
        self._thread.join()

    def _checked_job(self, request: JobRequest) -> Job:
        seed = secrets.randbelow(2**31) if request.seed is None else request.seed
        check_integer("seed", seed, minimum=0, maximum=MAX_SEED)
        inputs = self._completed(request.arguments)
        shape = call_shape(request.arguments, inputs)
        if shape is not None and not request.is_streamed:
            shape += ", whole"
        return Job(request.client, request.arguments, seed, shape, request.is_streamed)

    def _completed(self, arguments: Mapping[str, Any]) -> CallInputs:
        reserved = sorted(_RESERVED & arguments.keys())
        if reserved:
            raise ValueError(f"`arguments` must be without what the runner sets itself, got {reserved}.")
        try:
            inputs = CallInputs(**arguments).completed(self.pipe)
        except TypeError as error:
            raise ValueError(f"`arguments` must be those of a call of the pipeline: {error}.") from error
        if not isinstance(inputs.prompt, str):
            raise ValueError(f"`prompt` must be a string, got {inputs.prompt!r}.")
        num_steps = most_steps(cast(Any, inputs.num_inference_steps))
        self.limits.check(*self._size(inputs), cast(int, inputs.num_frames), num_steps)
        self._check_length(inputs)
        return inputs

    def _size(self, inputs: CallInputs) -> tuple[int, int]:
        """Height and width. What is given may choose the size, among those of about the checkpoint's area."""
        height, width = (
            resolve_default(name, getattr(inputs, name), self.pipe.config) for name in ("height", "width")
        )
        return height, width

    def _check_length(self, inputs: CallInputs) -> None:
        """Whether the prompts leave room for the frames, which the pipeline says only when it begins."""
        height, width = self._size(inputs)
        num_frames, fps = inputs.sequence_num_frames, cast(int, inputs.fps)
        prefixes = self.pipe.tokenize_prompt(
            inputs.prompt, inputs.negative_prompt, height=height, width=width, num_frames=num_frames, fps=fps
        )
        check_context(prefixes, inputs, height, width, self.pipe.transformer.config)

    def _check_room(self, client: str, num_of_client: int, num_in_all: int) -> None:
        if len(self._queues.get(client, ())) + num_of_client > self.limits.max_queued_per_client:
            raise QueueFull(f"{self.limits.max_queued_per_client} of your jobs are waiting already.")
        if sum(map(len, self._queues.values())) + num_in_all > self.limits.max_queued:
            raise QueueFull(f"{self.limits.max_queued} jobs are waiting already.")

    def _waiting_jobs(self) -> list[Job]:
        """In the order in which they will run if no more come."""
        rounds = max(map(len, self._queues.values()), default=0)
        return [queue[turn] for turn in range(rounds) for queue in self._queues.values() if turn < len(queue)]

    def _next_batch(self) -> list[Job]:
        """What runs next if no more jobs come, in the order of turns."""
        waiting = self._waiting_jobs()
        if not waiting or waiting[0].shape is None:
            return waiting[:1]
        return [job for job in waiting if job.shape == waiting[0].shape][: self.max_batch_size]

    def _count_those_ahead(self) -> None:
        num_running = len(self._running)
        for index, job in enumerate(self._waiting_jobs()):
            if job.status.num_ahead != index + num_running:
                job._update(num_ahead=index + num_running)

    def _work(self) -> None:
        while self._take_batch():
            # Frames belong to their clients alone: nothing here may hold a job while the thread waits for the next.
            self._run_taken_batch()

    def _take_batch(self) -> bool:
        """Waits for jobs and makes them the running ones; False once the runner is closed."""
        with self._changed:
            self._running = []
            while not self._is_closed and not self._running:
                self._changed.wait_for(lambda: self._is_closed or self._queues)
                self._changed.wait_for(self._is_batch_ready, self.batch_delay)
                self._running = self._next_batch()
            if self._is_closed:
                self._running = []
                return False
            self._queues.move_to_end(self._running[0].client)
            for job in self._running:
                self._queues[job.client].remove(job)
                if not self._queues[job.client]:
                    del self._queues[job.client]
                job._update(state=JobState.RUNNING, num_ahead=0)
            self._count_those_ahead()
            return True

    def _is_batch_ready(self) -> bool:
        batch = self._next_batch()
        return self._is_closed or not batch or batch[0].shape is None or len(batch) >= self.max_batch_size

    def _run_taken_batch(self) -> None:
        jobs = self._running
        try:
            self._generate(jobs)
        except JobCancelled:
            self._end_cancelled(jobs)
        # The thread serves all others, so nothing may end it.
        except BaseException as error:
            _logger.exception("Jobs %s failed.", [job.id for job in jobs])
            # The traceback holds the call's tensors for as long as the client holds the job.
            error = error.with_traceback(None)
            for job in self._end_cancelled(jobs):
                job.error = error
                job._update(state=JobState.FAILED, seconds_left=None)
        else:
            for job in self._end_cancelled(jobs):
                job._update(state=JobState.DONE, seconds_left=None)

    def _generate(self, jobs: list[Job]) -> None:
        start = time.monotonic()

        def after_step(
            pipe: "LumosVideoPipeline", step: int, timestep: Any, tensors: dict[str, Any]
        ) -> dict[str, Any]:
            done, total = step + 1, pipe.num_timesteps
            seconds_left = (time.monotonic() - start) / done * (total - done)
            for job in self._those_left(jobs):
                job._update(step=done, num_steps=total, seconds_left=seconds_left)
            return {}

        self._those_left(jobs)
        if jobs[0].is_streamed:
            self._stream(jobs, after_step)
        else:
            self._call(jobs, after_step)

    def _call(self, jobs: list[Job], after_step: Callable[..., dict[str, Any]]) -> None:
        arguments = self._arguments_of_all(jobs)
        output = self.pipe(**arguments, generator=_generators(jobs), callback_on_step_end=after_step)
        frames = output.frames
        if len(jobs) > 1:
            with torch.no_grad(), self.pipe._own_turn():
                frames = self._as_images([self.pipe.vqvae.decode(row) for row in cast(Any, frames).split(1)])
        for job, own in zip(jobs, cast(list[list[PIL.Image.Image]], frames), strict=True):
            if not job.status.state.is_final:
                job._add_frames(own)

    def _stream(self, jobs: list[Job], after_step: Callable[..., dict[str, Any]]) -> None:
        session = self._open_session(jobs, after_step)
        streams = [self.pipe.vqvae.open_stream() for _ in jobs] if len(jobs) > 1 else []
        with closing(session):
            while not session.is_finished:
                self._take_next_prompts(jobs, session)
                frames = self._decode(session.next(), streams) if streams else session.next()
                for job, new_frames in zip(jobs, cast(list[list[PIL.Image.Image]], frames), strict=True):
                    if not job.status.state.is_final:
                        job._add_frames(new_frames)
                self._those_left(jobs)

    def _open_session(self, jobs: list[Job], after_step: Callable[..., dict[str, Any]]) -> "VideoSession":
        arguments = self._arguments_of_all(jobs)
        if arguments.get("num_frames") is None and arguments.get("mask") is None and arguments.get("strength") is None:
            # A session without a number has no end.
            arguments["num_frames"] = resolve_default("num_frames", None, self.pipe.config)
        generator = _generators(jobs)
        return self.pipe.session(**arguments, generator=generator, callback_on_step_end=after_step, max_rewind=0)

    @staticmethod
    def _arguments_of_all(jobs: list[Job]) -> dict[str, Any]:
        """Of a call that makes all of them; of a batch, the codes."""
        arguments = dict(jobs[0].arguments)
        if len(jobs) > 1:
            arguments["prompt"] = [job.arguments["prompt"] for job in jobs]
            arguments["negative_prompt"] = [job.arguments.get("negative_prompt") or "" for job in jobs]
            arguments["output_type"] = "latent"
        return arguments

    @torch.no_grad()
    def _decode(self, codes: Any, streams: list[Any]) -> list[list[PIL.Image.Image]]:
        """
        The frames of codes `(B, 1, h, w)`, each row by itself: codes of a batch are those of single calls, but pixels of a
        batch are rounded in other ways, and one of ten thousand differs by one level.
        """
        with self.pipe._own_turn():
            return self._as_images([stream.decode(row) for stream, row in zip(streams, codes.split(1), strict=True)])

    def _as_images(self, videos: list[torch.Tensor]) -> list[list[PIL.Image.Image]]:
        """Videos `(1, 3, frames, height, width)` as frames."""
        return [self.pipe.video_processor.postprocess_video(video.float(), "pil")[0] for video in videos]

    @staticmethod
    def _take_next_prompts(jobs: list[Job], session: "VideoSession") -> None:
        prompts = as_list(cast(str | list[str], session.prompt))
        for index, job in enumerate(jobs):
            prompt, job._next_prompt = job._next_prompt, None
            if prompt is not None:
                prompts = [*prompts[:index], prompt, *prompts[index + 1 :]]
                session.prompt = prompts
                job._segments.append({"start_frame": len(job._frames), "text": prompt})

    def _those_left(self, jobs: list[Job]) -> list[Job]:
        """Of a batch, those that were not cancelled; raises [`JobCancelled`] if all of them were."""
        left = self._end_cancelled(jobs)
        if not left:
            raise JobCancelled
        return left

    @staticmethod
    def _end_cancelled(jobs: list[Job]) -> list[Job]:
        """The others. Of a batch, the rest goes on."""
        for job in jobs:
            if job._is_cancelled.is_set() and not job.status.state.is_final:
                job._update(state=JobState.CANCELLED, seconds_left=None)
        return [job for job in jobs if not job.status.state.is_final]


def _generators(jobs: list[Job]) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(job.seed) for job in jobs]


def call_shape(arguments: Mapping[str, Any], inputs: CallInputs) -> str | None:
    """
    What calls have in common that can run as one batch.

    Args:
        arguments: of the call.
        inputs: the same, completed.

    Returns:
        a text, equal for such calls; None for one that runs alone, since it starts from a clip, changes its prompt, or is
        longer than a sequence, so that its own pixels are read again.
    """
    if inputs.sequence_num_frames != inputs.num_frames:
        return None
    if any(value is not None and name not in _BATCHED for name, value in arguments.items()):
        return None
    return repr([(name, getattr(inputs, name)) for name in sorted(_BATCHED - _OF_EACH)])
