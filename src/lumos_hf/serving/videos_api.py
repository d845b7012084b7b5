# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
The HTTP app of `lumos-hf serve`: the Videos API that existing clients know, images, models, health and metrics.

Notable:

- The app knows the store and the files, and need not have the model: a worker in this process or elsewhere makes the jobs.
- A job is answered for when it is stored. What is wrong with a request is said before.
- Whatever takes time (reading uploads, the database, files) happens in threads, so that others are answered meanwhile.
"""

import asyncio
import base64
import errno
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Query, Request, Response, WebSocket
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, JSONResponse

from .. import __version__
from .api_errors import ApiError, unknown_video
from .api_schemas import (
    DeletedVideo,
    ErrorAnswer,
    GeneratedImage,
    Health,
    ImageRequest,
    Images,
    JobError,
    Model,
    ModelList,
    RemixRequest,
    Video,
    VideoEditRequest,
    VideoExtensionRequest,
    VideoList,
    VideoRequest,
)
from .http_guards import ApiKeys, Guard, RequestTimer
from .job_events import JobEvents
from .job_files import IMAGE, MEDIA_TYPES, VARIANTS, JobFiles
from .job_requests import Asker, JobRequests
from .job_store import COMPLETED, FAILED, JobStore, NewJob, StoredJob, StoreFull, StoreUnavailable
from .job_worker import JobWorker
from .media_references import MAX_FETCHED_BYTES, MediaFetcher
from .realtime import stream_video
from .request_parsing import describe_body, parse_body
from .served_model import ServedModel


# In milliseconds, between which a client is told to wait before it asks again.
_POLL_RANGE = (50, 1000)
# In seconds: after which whoever waits for a job looks whether another process has ended it.
_LOOK_AGAIN = 1.0

_REFERENCES = ("input_reference", "image_reference", "video_reference")
_ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": ErrorAnswer, "description": "What is wrong with the request, and what is allowed"},
    401: {"model": ErrorAnswer, "description": "A key is needed"},
    422: {"model": ErrorAnswer, "description": "What is wrong with the address"},
}
_NOT_FOUND: dict[int | str, dict[str, Any]] = {404: {"model": ErrorAnswer, "description": "There is no such job"}}
_CONFLICT: dict[int | str, dict[str, Any]] = {409: {"model": ErrorAnswer, "description": "It is not completed"}}
_FULL: dict[int | str, dict[str, Any]] = {
    413: {"model": ErrorAnswer, "description": "The request is too large"},
    429: {"model": ErrorAnswer, "description": "Too many jobs wait; `Retry-After` says how long to wait"},
    507: {"model": ErrorAnswer, "description": "The disk is full"},
}
_PROMPT = "A red star jumps in the snow."

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """
    Args:
        max_upload_bytes: of a request.
        upload_timeout: seconds in which a request must have come.
        media_hosts: that references may be fetched from.
    """

    max_upload_bytes: int = MAX_FETCHED_BYTES
    upload_timeout: float = 60.0
    media_hosts: tuple[str, ...] = ()


def create_app(
    store: JobStore,
    files: JobFiles,
    model: ServedModel,
    *,
    events: JobEvents | None = None,
    worker: JobWorker | None = None,
    keys: ApiKeys | None = None,
    settings: ServerSettings | None = None,
    fetcher: MediaFetcher | None = None,
) -> FastAPI:
    """
    The app, for any ASGI server.

    Args:
        store: where jobs are put.
        files: their inputs and results, which workers elsewhere see, too.
        model: what can be asked for.
        events: what the worker tells of ends, and the numbers of `/metrics`.
        worker: makes jobs in this process, and streams; None if all workers are elsewhere: there is no streaming then, and
            what only the model can refuse fails later. It is not closed with the app.
        keys: who may come in; None lets everybody in.
        settings: limits.
        fetcher: reads references; by default from `settings.media_hosts`.
    """
    settings = settings or ServerSettings()
    api = _VideosApi(
        store,
        files,
        model,
        events or JobEvents(),
        worker,
        fetcher or MediaFetcher(settings.media_hosts, settings.max_upload_bytes),
    )
    app = FastAPI(
        title="lumos_hf",
        version=__version__,
        description="Images and video by Lumos-1: the Videos API, images, and a socket for video that is directed while "
        "it comes (`WS /v1/realtime/video`, see docs/serving.md).",
        responses=_ERRORS,
    )
    api.add_routes(app)
    _add_error_handlers(app, api)
    app.add_middleware(
        Guard,
        keys=keys or ApiKeys(),
        max_bytes=settings.max_upload_bytes,
        upload_timeout=settings.upload_timeout,
    )
    app.add_middleware(RequestTimer, note=api.events.answered)
    return app


class _VideosApi:
    """The routes, see [`create_app`]."""

    def __init__(
        self,
        store: JobStore,
        files: JobFiles,
        model: ServedModel,
        events: JobEvents,
        worker: JobWorker | None,
        fetcher: MediaFetcher,
    ):
        self.store, self.files, self.model, self.events, self.worker = store, files, model, events, worker
        check = worker.runner.check if worker else lambda arguments: None
        self.requests = JobRequests(model, files, fetcher, store.get, check)

    def add_routes(self, app: FastAPI) -> None:
        self._add_video_routes(app)
        image = describe_body(
            ImageRequest, {"An image": {"prompt": "A yellow square waits in the desert.", "seed": 0}}
        )
        app.add_api_route(
            "/v1/images/generations",
            self.create_images,
            methods=["POST"],
            response_model=Images,
            responses=_FULL,
            openapi_extra=image,
            tags=["images"],
        )
        png: dict[int | str, dict[str, Any]] = {200: {"content": {"image/png": {}}}}
        app.add_api_route(
            "/v1/images/{image_id}/content",
            self.image_content,
            name="image_content",
            response_class=Response,
            responses={**_NOT_FOUND, **png},
            tags=["images"],
        )
        app.add_api_route("/v1/models", self.list_models, response_model=ModelList, tags=["models"])
        app.add_api_route(
            "/v1/models/{model_id:path}", self.get_model, response_model=Model, responses=_NOT_FOUND, tags=["models"]
        )
        app.add_api_route("/health", self.health, response_model=Health, tags=["server"])
        text: dict[int | str, dict[str, Any]] = {200: {"content": {"text/plain": {}}}}
        app.add_api_route("/metrics", self.metrics, response_class=Response, responses=text, tags=["server"])
        app.add_api_websocket_route("/v1/realtime/video", self.realtime)

    def _add_video_routes(self, app: FastAPI) -> None:
        def post(
            path: str,
            endpoint: Callable[..., Any],
            schema: type[BaseModel],
            example: dict[str, Any],
            file_fields: Sequence[str] = (),
            **options: Any,
        ) -> None:
            body = describe_body(schema, {"A video": {"prompt": _PROMPT, **example}}, file_fields)
            app.add_api_route(path, endpoint, methods=["POST"], openapi_extra=body, tags=["videos"], **options)

        job: dict[str, Any] = {"response_model": Video, "responses": {**_FULL, **_NOT_FOUND, **_CONFLICT}}
        mp4: dict[int | str, dict[str, Any]] = {200: {"content": {"video/mp4": {}}}}
        new = {"seconds": "1", "seed": 7}
        source = {"video": {"id": "VIDEO_ID"}}
        post("/v1/videos", self.create_video, VideoRequest, new, _REFERENCES, **job)
        post(
            "/v1/videos/sync",
            self.create_video_and_wait,
            VideoRequest,
            new,
            _REFERENCES,
            response_class=Response,
            responses={**_FULL, **mp4},
        )
        post(
            "/v1/videos/edits",
            self.edit_video,
            VideoEditRequest,
            {**source, "strength": 0.4},
            ("video", "mask"),
            **job,
        )
        extension = {**source, "seconds": "1"}
        post("/v1/videos/extensions", self.extend_video, VideoExtensionRequest, extension, ("video",), **job)
        post("/v1/videos/{video_id}/remix", self.remix_video, RemixRequest, {}, **job)
        app.add_api_route("/v1/videos", self.list_videos, response_model=VideoList, tags=["videos"])
        path = "/v1/videos/{video_id}"
        common: dict[str, Any] = {"responses": _NOT_FOUND, "tags": ["videos"]}
        app.add_api_route(path, self.get_video, response_model=Video, **common)
        app.add_api_route(path, self.delete_video, methods=["DELETE"], response_model=DeletedVideo, **common)
        content: dict[int | str, dict[str, Any]] = {
            200: {"content": {"video/mp4": {}, "image/png": {}}},
            **_NOT_FOUND,
            **_CONFLICT,
        }
        app.add_api_route(
            path + "/content", self.video_content, response_class=Response, responses=content, tags=["videos"]
        )

    # Videos

    async def create_video(self, request: Request, response: Response) -> Video:
        """Makes a video of a prompt, from an image or video if one is given. Answers when the job is stored."""
        body, files = await parse_body(request, VideoRequest, _REFERENCES)
        return await self._accept_one(request, response, lambda asker: self.requests.video(body, files, asker))

    async def create_video_and_wait(self, request: Request) -> Response:
        """The same, and answers with the MP4 when it is there. Whoever leaves before has the job cancelled."""
        body, files = await parse_body(request, VideoRequest, _REFERENCES)
        (job,) = await self._accept(request, lambda asker: [self.requests.video(body, files, asker)])
        (done,) = await self._wait(request, [job])
        return self._file(done, VARIANTS["video"])

    async def edit_video(self, request: Request, response: Response) -> Video:
        """Makes a part of a video again: where a mask is white, or a share of it."""
        body, files = await parse_body(request, VideoEditRequest, ("video", "mask"))
        return await self._accept_one(request, response, lambda asker: self.requests.edit(body, files, asker))

    async def extend_video(self, request: Request, response: Response) -> Video:
        """Goes on after the end of a video. `seconds` of the answer is the whole length."""
        body, files = await parse_body(request, VideoExtensionRequest, ("video",))
        return await self._accept_one(request, response, lambda asker: self.requests.extension(body, files, asker))

    async def remix_video(self, request: Request, response: Response, video_id: str) -> Video:
        """Makes a completed video again under another prompt: from the same clip, with the same seed and settings."""
        body, _ = await parse_body(request, RemixRequest)
        source = await self._find(request, video_id)
        return await self._accept_one(request, response, lambda asker: self.requests.remix(source, body.prompt, asker))

    async def list_videos(
        self,
        request: Request,
        after: Annotated[str | None, Query(description="The id that the page goes on after.")] = None,
        limit: Annotated[int, Query(ge=1, le=100)] = 20,
        order: Annotated[Literal["asc", "desc"], Query(description="Of the times that they were created.")] = "desc",
    ) -> VideoList:
        """The videos of this client."""
        asker, is_ascending = _asker(request), order == "asc"
        try:
            jobs, has_more = await asyncio.to_thread(
                self.store.page, asker.owner, after=after, limit=limit, is_ascending=is_ascending
            )
        except KeyError as error:
            raise ApiError(400, "`after` must be the id of a video.", "invalid_value", "after") from error
        ids = [job.id for job in jobs]
        videos = [self._video(job) for job in jobs]
        return VideoList(
            data=videos, first_id=ids[0] if ids else None, last_id=ids[-1] if ids else None, has_more=has_more
        )

    async def get_video(self, request: Request, response: Response, video_id: str) -> Video:
        """How far a video is. The header `openai-poll-after-ms` says when to ask again."""
        return self._answer(response, await self._find(request, video_id))

    async def delete_video(self, request: Request, video_id: str) -> DeletedVideo:
        """Deletes a video. What runs is cancelled within a step."""
        job = await asyncio.to_thread(self._delete, video_id, _asker(request).owner)
        if job is None:
            raise unknown_video(video_id)
        return DeletedVideo(id=job.id)

    async def video_content(
        self, request: Request, video_id: str, variant: Literal["video", "thumbnail", "spritesheet"] = "video"
    ) -> Response:
        """The MP4, its first frame, or all frames in one picture (PNG)."""
        return self._file(await self._find(request, video_id), VARIANTS[variant])

    # Images

    async def create_images(self, request: Request) -> Images:
        """Makes images of a prompt, and answers when they are there."""
        body, _ = await parse_body(request, ImageRequest)
        jobs = await self._accept(request, lambda asker: self.requests.images(body, asker))
        done = await self._wait(request, jobs)
        first = jobs[0]
        if body.response_format == "url":
            data = [GeneratedImage(url=str(request.url_for("image_content", image_id=job.id))) for job in done]
        else:
            contents = [await asyncio.to_thread(self._read_image, job) for job in done]
            data = [GeneratedImage(b64_json=base64.b64encode(content).decode("ascii")) for content in contents]
        return Images(created=int(first.created_at), data=data, size=_size(first))

    async def image_content(self, request: Request, image_id: str) -> Response:
        """An image as a PNG."""
        job = await asyncio.to_thread(self.store.get, image_id, _asker(request).owner)
        if job is None or job.kind != "image":
            raise ApiError(404, f"There is no image '{image_id[:80]}'.", "not_found", "image_id")
        return self._file(job, IMAGE)

    # Others

    async def list_models(self) -> ModelList:
        """The checkpoint that is served."""
        return ModelList(data=[self._model()])

    async def get_model(self, model_id: str) -> Model:
        """The checkpoint that is served, and what it can make."""
        if model_id != self.model.name:
            raise ApiError(
                404, f"There is no model '{model_id[:80]}', but '{self.model.name}'.", "model_not_found", "model"
            )
        return self._model()

    async def health(self, response: Response) -> Health:
        """Whether jobs are accepted and made; 503 if the database is away."""
        counts = await asyncio.to_thread(self.store.count)
        problem = self.worker.problem if self.worker else None
        return Health(status="degraded" if problem else "ok", problem=problem, jobs=counts)

    async def metrics(self) -> Response:
        """Numbers for Prometheus."""
        counts = await asyncio.to_thread(self.store.count)
        num_bytes = await asyncio.to_thread(self.store.num_bytes)
        return Response(self.events.metrics(counts, num_bytes), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def realtime(self, websocket: WebSocket) -> None:
        runner = self.worker.runner if self.worker else None
        await stream_video(websocket, runner, self.model, _asker(websocket).client)

    # Parts of the above

    async def _accept_one(self, request: Request, response: Response, build: Callable[[Asker], NewJob]) -> Video:
        (job,) = await self._accept(request, lambda asker: [build(asker)])
        return self._answer(response, job)

    async def _accept(self, request: Request, build: Callable[[Asker], list[NewJob]]) -> list[StoredJob]:
        return await asyncio.to_thread(self._store, _asker(request), build)

    def _store(self, asker: Asker, build: Callable[[Asker], list[NewJob]]) -> list[StoredJob]:
        self.store.check_room(asker.client)
        jobs = build(asker)
        try:
            stored = self.store.add(jobs)
        except BaseException:
            for job in jobs:
                self.files.remove(job.id)
            raise
        if self.worker:
            self.worker.notify()
        return stored

    async def _wait(self, request: Request, jobs: list[StoredJob]) -> list[StoredJob]:
        """The jobs, completed; deleted if one fails or the client leaves."""
        owner = _asker(request).owner
        done: list[StoredJob] = []
        try:
            for job in jobs:
                done.append(await self._wait_for(request, job, owner))
        except BaseException:
            for job in jobs:
                await asyncio.to_thread(self._delete, job.id, owner)
            raise
        return done

    async def _wait_for(self, request: Request, job: StoredJob, owner: str) -> StoredJob:
        while True:
            ending = asyncio.ensure_future(self.events.wait(job.id, _LOOK_AGAIN))
            current = await asyncio.to_thread(self.store.get, job.id, owner)
            if current is None:
                raise ApiError(409, "The job was deleted while it ran.", "deleted")
            if current.is_final:
                ending.cancel()
                break
            await ending
            if await request.is_disconnected():
                raise ApiError(499, "The client has left.", "disconnected")
        if current.status == FAILED:
            error = current.error or {}
            status = 400 if error.get("code") == "invalid_request" else 500
            raise ApiError(status, str(error.get("message")), error.get("code"))
        return current

    async def _find(self, request: Request, id: str) -> StoredJob:
        job = await asyncio.to_thread(self.store.get, id, _asker(request).owner)
        if job is None or job.kind != "video":
            raise unknown_video(id)
        return job

    def _delete(self, id: str, owner: str) -> StoredJob | None:
        job = self.store.delete(id, owner)
        if job is not None:
            if self.worker:
                self.worker.cancel(id)
            self.files.remove(id)
        return job

    def _read_image(self, job: StoredJob) -> bytes:
        """An image that is handed over is not kept."""
        content = self.files.path(job.id, IMAGE).read_bytes()
        self._delete(job.id, job.owner)
        return content

    def _file(self, job: StoredJob, name: str) -> Response:
        if job.status != COMPLETED:
            raise ApiError(409, f"'{job.id}' must be completed, and is {job.status}.", "conflict", "video_id")
        path = self.files.path(job.id, name)
        if not path.is_file():
            raise unknown_video(job.id)
        ending = Path(name).suffix
        return FileResponse(path, media_type=MEDIA_TYPES[ending], filename=f"{job.id}{ending}")

    def _answer(self, response: Response, job: StoredJob) -> Video:
        video = self._video(job)
        if not job.is_final:
            half = 500 * (video.seconds_left if video.seconds_left is not None else self.events.seconds_of_a_job)
            response.headers["openai-poll-after-ms"] = str(int(min(max(half, _POLL_RANGE[0]), _POLL_RANGE[1])))
        return video

    def _video(self, job: StoredJob) -> Video:
        arguments, details = job.arguments, job.details
        return Video(
            id=job.id,
            model=details["model"],
            status=job.status,  # type: ignore[arg-type]  # none of the store's others gets here
            progress=job.progress,
            created_at=int(job.created_at),
            completed_at=None if job.completed_at is None else int(job.completed_at),
            expires_at=None if job.expires_at is None else int(job.expires_at),
            seconds=f"{(arguments['num_frames'] - 1) / arguments['fps']:g}",
            size=_size(job),
            prompt=arguments["prompt"],
            remixed_from_video_id=details.get("remixed_from"),
            error=None if job.error is None else JobError(**job.error),
            seed=job.seed,
            num_frames=arguments["num_frames"],
            fps=arguments["fps"],
            seconds_left=job.seconds_left,
        )

    def _model(self) -> Model:
        limits = self.model.limits
        names = ("max_area", "max_num_frames", "max_num_inference_steps")
        return Model(
            id=self.model.name,
            created=0,
            owned_by="lumos_hf",
            defaults=self.model.defaults,
            limits={name: getattr(limits, name) for name in names},
        )


def _asker(connection: Request | WebSocket) -> Asker:
    owner = connection.scope.get("lumos_owner", "")
    address = connection.client.host if connection.client else "unknown"
    return Asker(owner, owner or address)


def _size(job: StoredJob) -> str:
    return f"{job.arguments['width']}x{job.arguments['height']}"


def _add_error_handlers(app: FastAPI, api: _VideosApi) -> None:
    def handler(kind: type[Exception]) -> Callable[[Callable[[Any], ApiError]], None]:
        def register(convert: Callable[[Any], ApiError]) -> None:
            async def answer(request: Request, error: Exception) -> JSONResponse:
                return convert(error).response()

            app.add_exception_handler(kind, answer)

        return register

    handler(ApiError)(lambda error: error)
    handler(HTTPException)(lambda error: ApiError(error.status_code, str(error.detail), headers=error.headers))
    handler(RequestValidationError)(_of_validation)
    handler(StoreFull)(lambda error: _of_full_store(error, api.events.seconds_of_a_job))
    handler(OSError)(_of_system)

    @handler(StoreUnavailable)
    def _of_store(error: StoreUnavailable) -> ApiError:
        _logger.warning("The database cannot be reached: %s", error)
        message = "The database cannot be reached at the moment; jobs that were accepted are kept."
        return ApiError(503, message, "unavailable", headers={"Retry-After": "2"})


def _of_validation(error: RequestValidationError) -> ApiError:
    first = error.errors()[0]
    name = str(first["loc"][-1])
    return ApiError(422, f"`{name}`: {first['msg']}.", "invalid_value", name)


def _of_full_store(error: StoreFull, seconds_of_a_job: float) -> ApiError:
    if error.is_disk:
        return ApiError(507, str(error), "storage_full")
    return ApiError(429, str(error), "queue_full", headers={"Retry-After": str(math.ceil(seconds_of_a_job))})


def _of_system(error: OSError) -> ApiError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ApiError(507, "The disk is full.", "storage_full")
    _logger.error("A request failed.", exc_info=error)
    return ApiError(500, "Something went wrong in the server.", "server_error")
