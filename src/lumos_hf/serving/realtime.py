# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
`WS /v1/realtime/video`: a video that is sent while it is made, and whose prompt changes meanwhile.

The client sends `session.start`, then `session.interaction` with other prompts, `session.ping`, and `session.stop`. The
server sends `video.start`, then for every latent frame `video.chunk_metadata` and one binary message of fragmented MP4,
`session.interaction.queued`, `session.pong`, `session.done` and `error`. docs/serving.md shows the messages.

Notable: a stream is a job of the runner that nobody stores: it ends with the connection.
"""

import asyncio
import json
from typing import Any

from fastapi import WebSocket
from pydantic import Field, ValidationError
from starlette.websockets import WebSocketDisconnect, WebSocketState

from .api_schemas import Request
from .fragmented_mp4 import MIME_TYPE, FragmentedMp4
from .job_runner import Job, JobRunner, JobState, QueueFull
from .served_model import ServedModel


# In seconds: until `session.start`, without a message of the client and progress, and for a message to be taken.
START_TIMEOUT = 10.0
STALL_TIMEOUT = 60.0

_TRY_AGAIN, _POLICY = 1013, 1008


class SessionStart(Request):
    """`session.start`."""

    type: str
    prompt: str = Field(min_length=1, max_length=8192)
    model: str | None = None
    format: str = Field("m4s", pattern="^m4s$")
    width: int | None = None
    height: int | None = None
    fps: int | None = None
    num_frames: int | None = None
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    negative_prompt: str | None = None
    seed: int | None = None


class _Refused(Exception):
    """What a client is told before the connection is closed."""

    def __init__(self, code: str, message: str, close_code: int = _POLICY):
        super().__init__(message)
        self.code, self.close_code = code, close_code


async def stream_video(websocket: WebSocket, runner: JobRunner | None, model: ServedModel, client: str) -> None:
    """
    Serves one connection to its end.

    Args:
        runner: makes the video; None if there is no model in this process.
        model: what can be asked for.
        client: whose turn it is.
    """
    await websocket.accept()
    job = None
    try:
        if runner is None:
            raise _Refused("unavailable", "There is no streaming here: the model is in other processes.", _TRY_AGAIN)
        start = await _receive_start(websocket)
        job = _submit(start, runner, model, client)
        await _Stream(websocket, runner, job, start, model).run()
    except _Refused as error:
        await _send(websocket, {"type": "error", "code": error.code, "message": str(error)})
        await websocket.close(error.close_code)
    except (WebSocketDisconnect, TimeoutError):
        pass
    finally:
        # Of whoever leaves in the middle, nothing is made any more.
        if runner is not None and job is not None:
            runner.cancel(job)
        if websocket.application_state is not WebSocketState.DISCONNECTED:
            await _close_quietly(websocket)


async def _receive_start(websocket: WebSocket) -> SessionStart:
    try:
        async with asyncio.timeout(START_TIMEOUT):
            message = await _receive(websocket)
    except TimeoutError as error:
        raise _Refused("start_timeout", f"`session.start` must come within {START_TIMEOUT:g} seconds.") from error
    if message.get("type") != "session.start":
        raise _Refused("invalid_message", "The first message must be `session.start`.")
    try:
        return SessionStart.model_validate(message)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = ".".join(map(str, first["loc"]))
        raise _Refused("invalid_message", f"`{name}`: {first['msg']}.") from error


def _submit(start: SessionStart, runner: JobRunner, model: ServedModel, client: str) -> Job:
    if start.model not in (None, model.name):
        raise _Refused("model_not_found", f"`model` must be '{model.name}', got '{str(start.model)[:80]}'.")
    arguments = start.model_dump(exclude={"type", "model", "format", "seed"}, exclude_none=True)
    for name in ("width", "height", "fps"):
        arguments.setdefault(name, int(model.defaults[name]))
    # A stream goes on for as long as it may, unless it is stopped.
    longest = model.limits.max_num_frames
    arguments.setdefault("num_frames", longest - (longest - 1) % model.temporal_compression)
    try:
        return runner.submit(client, arguments, start.seed)
    except ValueError as error:
        raise _Refused("invalid_value", str(error)) from error
    except QueueFull as error:
        raise _Refused("queue_full", str(error), _TRY_AGAIN) from error


class _Stream:
    """A connection whose job was begun."""

    def __init__(self, websocket: WebSocket, runner: JobRunner, job: Job, start: SessionStart, model: ServedModel):
        self.websocket, self.runner, self.job, self.model = websocket, runner, job, model
        self.width, self.height = job.arguments["width"], job.arguments["height"]
        self.fps = job.arguments["fps"]
        self._mp4 = FragmentedMp4(self.width, self.height, self.fps)
        self._num_sent = self._num_chunks = 0
        self._sending = asyncio.Lock()
        self._heard_at = asyncio.get_running_loop().time()

    async def run(self) -> None:
        await self._tell("video.start", format="m4s", mime_type=MIME_TYPE, **self._settings())
        async with asyncio.TaskGroup() as tasks:
            listening = tasks.create_task(self._listen())
            watching = tasks.create_task(self._watch_for_stalls())
            try:
                await self._send_frames()
            finally:
                listening.cancel()
                watching.cancel()
        status = self.job.status
        if status.state is JobState.FAILED:
            await self._tell("error", code="generation_failed", message=str(self.job.error))
        segments = self.job.prompt_segments
        await self._tell("session.done", num_frames=self._num_sent, state=status.state.value, prompt_segments=segments)
        await self.websocket.close()

    def _settings(self) -> dict[str, Any]:
        sizes = {"width": self.width, "height": self.height, "fps": self.fps}
        return {
            "model": self.model.name,
            "seed": self.job.seed,
            **sizes,
            "num_frames": self.job.arguments["num_frames"],
        }

    async def _send_frames(self) -> None:
        async for status in self.job.watch():
            self._hear()
            while status.num_frames > self._num_sent:
                await self._send_chunk()

    async def _send_chunk(self) -> None:
        """A latent frame; whoever is slow gets the same pieces, later."""
        first = self._num_sent
        size = self.model.temporal_compression if first else 1
        frames = self.job.frames[first : first + size]
        content = await asyncio.to_thread(self._mp4.piece, frames)
        segments = [segment for segment in self.job.prompt_segments if segment["start_frame"] <= first]
        prompt = segments[-1]["text"] if segments else self.job.arguments["prompt"]
        metadata = {"chunk_index": self._num_chunks, "start_frame": first, "num_frames": len(frames)}
        metadata |= {"num_bytes": len(content), "prompt": prompt}
        # Nothing comes between the two.
        async with self._sending, asyncio.timeout(STALL_TIMEOUT):
            await _send(self.websocket, {"type": "video.chunk_metadata", **metadata})
            await self.websocket.send_bytes(content)
        self._num_sent += len(frames)
        self._num_chunks += 1

    async def _listen(self) -> None:
        """Until the client leaves, which cancels the job, and with it the rest of the stream."""
        try:
            while True:
                await self._answer(await _receive(self.websocket))
        except (WebSocketDisconnect, _Refused):
            self.runner.cancel(self.job)

    async def _answer(self, message: dict[str, Any]) -> None:
        self._hear()
        kind = message.get("type")
        if kind == "session.interaction":
            await self._change_prompt(message)
        elif kind == "session.ping":
            await self._tell("session.pong", **{key: message[key] for key in ("event_id",) if key in message})
        elif kind == "session.stop":
            self.runner.cancel(self.job)
        else:
            await self._tell("error", code="invalid_message", message=f"There is no message {str(kind)[:80]!r} here.")

    async def _change_prompt(self, message: dict[str, Any]) -> None:
        event, event_id = message.get("event"), message.get("event_id")
        prompt = event.get("prompt") if isinstance(event, dict) else message.get("prompt")
        try:
            if not isinstance(prompt, str):
                raise ValueError("`event` must have a `prompt`.")
            await asyncio.to_thread(self.runner.change_prompt, self.job, prompt)
        except ValueError as error:
            await self._tell("error", code="interaction_failed", event_id=event_id, message=str(error))
            return
        await self._tell("session.interaction.queued", event_id=event_id, prompt=prompt)

    async def _watch_for_stalls(self) -> None:
        loop = asyncio.get_running_loop()
        while (left := self._heard_at + STALL_TIMEOUT - loop.time()) > 0:
            await asyncio.sleep(left)
        self.runner.cancel(self.job)

    def _hear(self) -> None:
        self._heard_at = asyncio.get_running_loop().time()

    async def _tell(self, kind: str, **content: Any) -> None:
        async with self._sending:
            await _send(self.websocket, {"type": kind, **content})


async def _receive(websocket: WebSocket) -> dict[str, Any]:
    """The next message; raises [`_Refused`] if it is none."""
    try:
        message = json.loads(await websocket.receive_text())
    # Bytes instead of text, and brackets inside brackets.
    except (ValueError, KeyError, RecursionError) as error:
        raise _Refused("invalid_message", "Messages must be JSON objects.") from error
    if not isinstance(message, dict):
        raise _Refused("invalid_message", "Messages must be JSON objects.")
    return message


async def _send(websocket: WebSocket, content: dict[str, Any]) -> None:
    async with asyncio.timeout(STALL_TIMEOUT):
        await websocket.send_text(json.dumps(content))


async def _close_quietly(websocket: WebSocket) -> None:
    try:
        await websocket.close()
    except RuntimeError:
        # The client was faster.
        pass
