# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
From requests to jobs: the arguments of a call of the pipeline, complete, and the clips that it is given, on disk.

Notable: every setting is resolved when a job is accepted, so that it becomes the same under another version of the
checkpoint's defaults, and jobs of one shape are known without the model. What cannot be made is refused here.
"""

import json
import math
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

import PIL.Image

from ..generation_defaults import check_settings
from ..video_processor_lumos import choose_crop_size, crop_budget
from .api_errors import ApiError
from .api_schemas import (
    GenerationRequest,
    ImageRequest,
    VideoEditRequest,
    VideoExtensionRequest,
    VideoRequest,
    VideoSettings,
)
from .job_files import VARIANTS, JobFiles
from .job_store import COMPLETED, NewJob, StoredJob, new_job_id
from .job_worker import read_given
from .media_references import IMAGE_ENDINGS, MediaFetcher, media_ending
from .served_model import ServedModel


DEFAULT_STRENGTH = 0.6

_EXTRA_PARAMS = (
    "history_mask_ratio",
    "approximations",
    "prompt_segments",
    "preserve_unmasked",
    "temporal_tile_size",
    "temporal_overlap",
)
_URL_KEYS = ("image_url", "video_url", "url")

Check = Callable[[Mapping[str, Any]], None]
Given = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Asker:
    """
    Who makes a request.

    Args:
        owner: whose jobs these are; nobody else sees them.
        client: whose turn it is.
    """

    owner: str
    client: str


@dataclass(frozen=True)
class Clip:
    """
    A clip that a request gives.

    Args:
        content: open for reading.
        ending: what it is.
        fps: frames per second it was made with, if that is known.
    """

    content: BinaryIO
    ending: str
    fps: int | None = None

    @property
    def is_image(self) -> bool:
        return self.ending in IMAGE_ENDINGS


class JobRequests:
    """
    Args:
        model: what can be asked for.
        files: where given clips are kept.
        fetcher: reads the URLs of references.
        find: gives a job of an owner by its id, None if there is none.
        check: refuses arguments by a `ValueError`; where the model is elsewhere, its worker fails such jobs.
    """

    def __init__(
        self,
        model: ServedModel,
        files: JobFiles,
        fetcher: MediaFetcher,
        find: Callable[[str, str], StoredJob | None],
        check: Check = lambda arguments: None,
    ):
        self.model, self.files, self.fetcher, self._find, self._check = model, files, fetcher, find, check

    # What is asked for. Each raises `ApiError`, and leaves no files then.

    def video(self, request: VideoRequest, files: Mapping[str, BinaryIO], asker: Asker) -> NewJob:
        """Of `POST /v1/videos`; `files` are uploads by the names of their fields."""
        fps = self._fps(request)
        clip = self._reference(request, files, asker)
        num_frames = self._num_frames(request, fps, int(self.model.defaults["num_frames"]))
        size = self._size(request.size, request.width, request.height)
        id = new_job_id("video")
        with self._cleaned(id):
            given: Given = {}
            arguments = self._arguments(request) | {"fps": fps, "num_frames": num_frames}
            if clip is not None:
                most = 1 if clip.is_image else max(1, num_frames - self.model.temporal_compression)
                name = "image" if clip.is_image else "video"
                given[name] = self._keep(id, "input", clip, most)
                size = size or self._size_like(self._read(id, name, given[name], fps))
            size = size or self._own_size()
            return self._job(id, "video", request, asker, arguments, size, given)

    def edit(self, request: VideoEditRequest, files: Mapping[str, BinaryIO], asker: Asker) -> NewJob:
        """Of `POST /v1/videos/edits`."""
        clip = self._source(request.video, files, asker)
        fps = self._fps(request, clip.fps)
        mask = self._clip("mask", request.mask, files, asker)
        if mask is not None and request.strength is not None:
            raise ApiError(400, "At most one of `mask` and `strength` can be given.", "invalid_value", "mask")
        id = new_job_id("video")
        with self._cleaned(id):
            frames, given = self._whole_clip(id, clip, fps)
            arguments = self._arguments(request) | {"fps": fps}
            arguments["num_frames"] = self._num_frames(request, fps, given["video"]["max_frames"])
            if mask is None:
                arguments["strength"] = DEFAULT_STRENGTH if request.strength is None else request.strength
            else:
                given["mask"] = self._keep(id, "mask", mask, given["video"]["max_frames"])
                self._check_mask(self._read(id, "mask", given["mask"], fps), frames[0])
            return self._job(id, "video", request, asker, arguments, self._size_like(frames), given)

    def extension(self, request: VideoExtensionRequest, files: Mapping[str, BinaryIO], asker: Asker) -> NewJob:
        """Of `POST /v1/videos/extensions`."""
        clip = self._source(request.video, files, asker)
        fps = self._fps(request, clip.fps)
        num_new = self._num_frames(request, fps, int(self.model.defaults["num_frames"])) - 1
        id = new_job_id("video")
        with self._cleaned(id):
            frames, given = self._whole_clip(id, clip, fps)
            num_frames = given["video"]["max_frames"] + num_new
            self._check_num_frames(num_frames, fps, "seconds")
            arguments = self._arguments(request) | {"fps": fps, "num_frames": num_frames}
            return self._job(id, "video", request, asker, arguments, self._size_like(frames), given)

    def remix(self, source: StoredJob, prompt: str, asker: Asker) -> NewJob:
        """Of `POST /v1/videos/{id}/remix`: the same call with another prompt."""
        check_completed(source)
        id = new_job_id("video")
        arguments = {**source.arguments, "prompt": prompt}
        with self._cleaned(id):
            for file in source.arguments.get("given", {}).values():
                with self.files.path(source.id, file["file"]).open("rb") as content:
                    self.files.write_input(id, file["file"], content)
            details = {**source.details, "remixed_from": source.id}
            return self._checked(id, "video", asker, arguments, details, source.seed)

    def images(self, request: ImageRequest, asker: Asker) -> list[NewJob]:
        """Of `POST /v1/images/generations`, one for each picture."""
        size = self._size(request.size, None, None) or self._own_size()
        arguments = self._arguments(request) | {"fps": int(self.model.defaults["image_fps"]), "num_frames": 1}
        seed = _seed(request)
        if seed + request.n > 2**63:
            raise ApiError(400, f"`seed` must leave room for {request.n} seeds below 2**63.", "invalid_value", "seed")
        requests = [request.model_copy(update={"seed": seed + index}) for index in range(request.n)]
        return [self._job(new_job_id("image"), "image", each, asker, arguments, size, {}) for each in requests]

    # Settings

    def _arguments(self, request: GenerationRequest) -> dict[str, Any]:
        if request.model not in (None, self.model.name):
            message = f"`model` must be '{self.model.name}', got '{str(request.model)[:80]}'."
            raise ApiError(404, message, "model_not_found", "model")
        if request.lora not in (None, "", "null"):
            raise ApiError(400, "`lora` must be null: this server has no adapters.", "invalid_value", "lora")
        defaults = self.model.defaults
        arguments: dict[str, Any] = {"prompt": request.prompt, "negative_prompt": request.negative_prompt or None}
        arguments["num_inference_steps"] = request.num_inference_steps or defaults["num_inference_steps"]
        arguments["guidance_scale"] = (
            defaults["guidance_scale"] if request.guidance_scale is None else request.guidance_scale
        )
        arguments["history_mask_ratio"] = defaults["history_mask_ratio"]
        return arguments | _extra_params(request.extra_params)

    def _fps(self, request: VideoSettings, own: int | None = None) -> int:
        fps = request.fps or own or int(self.model.defaults["fps"])
        _checked_value(lambda: check_settings(fps=fps))
        return fps

    def _num_frames(self, request: VideoSettings, fps: int, default: int) -> int:
        if request.seconds is not None and request.num_frames is not None:
            raise ApiError(400, "At most one of `seconds` and `num_frames` can be given.", "invalid_value", "seconds")
        if request.num_frames is not None:
            step = self.model.temporal_compression
            num_frames, name = 1 + -(-(request.num_frames - 1) // step) * step, "num_frames"
        elif request.seconds is not None:
            num_frames, name = self.model.num_frames(self._seconds(request.seconds, fps), fps), "seconds"
        else:
            return default
        self._check_num_frames(num_frames, fps, name)
        return num_frames

    def _seconds(self, text: str, fps: int) -> float:
        try:
            seconds = float(text)
        except ValueError:
            seconds = math.nan
        if not 0 < seconds < 1e6:
            message = f"`seconds` must be a number, {self.model.describe_lengths(fps)}, got {text[:80]!r}."
            raise ApiError(400, message, "invalid_value", "seconds")
        return seconds

    def _check_num_frames(self, num_frames: int, fps: int, name: str) -> None:
        if num_frames > self.model.limits.max_num_frames:
            lengths = self.model.describe_lengths(fps)
            raise ApiError(400, f"`{name}` must be {lengths} in all, got {num_frames} frames.", "invalid_value", name)

    def _size(self, size: str | None, width: int | None, height: int | None) -> tuple[int, int] | None:
        """Width and height; None if the request does not say."""
        if size is not None and (width is not None or height is not None):
            raise ApiError(
                400, "At most one of `size` and `width` with `height` can be given.", "invalid_value", "size"
            )
        if size is not None:
            parts = size.lower().split("x")
            width, height = map(int, parts) if len(parts) == 2 and all(map(str.isdecimal, parts)) else (0, 0)
        elif width is None and height is None:
            return None
        try:
            check_settings(height=height or 0, width=width or 0)
            self.model.limits.check(height or 0, width or 0)
        except ValueError as error:
            received = size or f"width {width}, height {height}"
            message = f"`size` must be {self.model.describe_sizes()}, got {received[:40]}."
            raise ApiError(400, message, "invalid_value", "size") from error
        return int(width or 0), int(height or 0)

    def _own_size(self) -> tuple[int, int]:
        return int(self.model.defaults["width"]), int(self.model.defaults["height"])

    def _size_like(self, frames: list[PIL.Image.Image]) -> tuple[int, int]:
        """Width and height: those of the frames if they can be made, else the nearest shape of the checkpoint's area."""
        own_width, own_height = self._own_size()
        frame = frames[0]
        try:
            check_settings(height=frame.height, width=frame.width)
            self.model.limits.check(frame.height, frame.width)
        except ValueError:
            height, width = choose_crop_size(frame.height, frame.width, crop_budget(own_height, own_width))
            if height * width > self.model.limits.max_area:
                return own_width, own_height
            return width, height
        return frame.width, frame.height

    # Clips

    def _reference(self, request: VideoRequest, files: Mapping[str, BinaryIO], asker: Asker) -> Clip | None:
        names = ("input_reference", "image_reference", "video_reference")
        clips = {
            name: clip
            for name in names
            if (clip := self._clip(name, getattr(request, name), files, asker)) is not None
        }
        if len(clips) > 1:
            raise ApiError(
                400, f"At most one of {', '.join(f'`{name}`' for name in clips)} can be given.", "invalid_value"
            )
        for name, is_image in (("image_reference", True), ("video_reference", False)):
            if name in clips and clips[name].is_image != is_image:
                kind = "an image" if is_image else "a video"
                raise ApiError(400, f"`{name}` must be {kind}.", "invalid_value", name)
        return next(iter(clips.values()), None)

    def _source(self, reference: Any, files: Mapping[str, BinaryIO], asker: Asker) -> Clip:
        clip = self._clip("video", reference, files, asker)
        if clip is None:
            raise ApiError(400, "`video` must be a file, or the `id` of a completed video.", "invalid_value", "video")
        return clip

    def _clip(self, name: str, reference: Any, files: Mapping[str, BinaryIO], asker: Asker) -> Clip | None:
        if name in files and reference not in (None, "", FILE):
            raise ApiError(400, f"`{name}` must be given once, got a file and a reference.", "invalid_value", name)
        if name in files:
            content, fps = files[name], None
        elif reference in (None, "", {}):
            return None
        else:
            content, fps = self._refer(name, _as_object(reference), asker)
        try:
            return Clip(content, media_ending(content), fps)
        except ValueError as error:
            raise ApiError(400, f"`{name}` cannot be used: {error}.", "invalid_value", name) from error

    def _refer(self, name: str, reference: Any, asker: Asker) -> tuple[BinaryIO, int | None]:
        if isinstance(reference, dict) and set(reference) == {"id"}:
            job = self._find(str(reference["id"]), asker.owner)
            if job is None:
                message = f"`{name}` must be a video that exists, got the id '{str(reference['id'])[:80]}'."
                raise ApiError(404, message, "not_found", name)
            check_completed(job)
            return self.files.path(job.id, VARIANTS["video"]).open("rb"), job.arguments["fps"]
        url = reference
        if isinstance(reference, dict):
            urls = [reference[key] for key in _URL_KEYS if key in reference]
            url = urls[0] if len(urls) == len(reference) == 1 else None
            url = url["url"] if isinstance(url, dict) and set(url) == {"url"} else url
        if not isinstance(url, str):
            raise ApiError(400, f"`{name}` must be a file or an object with one URL.", "invalid_value", name)
        try:
            return self.fetcher.read(url), None
        except ValueError as error:
            raise ApiError(400, f"`{name}` cannot be used: {error}.", "invalid_value", name) from error

    def _keep(self, id: str, name: str, clip: Clip, max_frames: int) -> dict[str, Any]:
        self.files.write_input(id, name + clip.ending, clip.content)
        return {"file": name + clip.ending, "max_frames": max_frames}

    def _read(self, id: str, name: str, file: Mapping[str, Any], fps: int) -> list[PIL.Image.Image]:
        try:
            given = read_given(self.files.path(id, file["file"]), name, fps, file["max_frames"])
        except ValueError as error:
            raise ApiError.of_value(error) from error
        return given if isinstance(given, list) else [given]

    def _whole_clip(self, id: str, clip: Clip, fps: int) -> tuple[list[PIL.Image.Image], Given]:
        """The frames of a clip, and how it is given: as many as make whole latent frames."""
        name = "image" if clip.is_image else "video"
        given = self._keep(id, "input", clip, self.model.limits.max_num_frames + 1)
        frames = self._read(id, name, given, fps)
        if len(frames) > self.model.limits.max_num_frames:
            message = (
                f"`video` must have at most {self.model.limits.max_num_frames} frames at {fps} frames per second."
            )
            raise ApiError(400, message, "invalid_value", "video")
        if clip.is_image:
            raise ApiError(400, "`video` must be a video, got an image.", "invalid_value", "video")
        given["max_frames"] = len(frames) - (len(frames) - 1) % self.model.temporal_compression
        return frames, {name: given}

    def _check_mask(self, masks: list[PIL.Image.Image], frame: PIL.Image.Image) -> None:
        if masks[0].size != frame.size:
            sizes = f"{frame.width}x{frame.height}, got {masks[0].width}x{masks[0].height}"
            raise ApiError(400, f"`mask` must have the size of the video, {sizes}.", "invalid_value", "mask")

    # Jobs

    def _job(
        self,
        id: str,
        kind: str,
        request: GenerationRequest,
        asker: Asker,
        arguments: dict[str, Any],
        size: tuple[int, int],
        given: Given,
    ) -> NewJob:
        arguments = arguments | {"width": size[0], "height": size[1]} | ({"given": given} if given else {})
        return self._checked(id, kind, asker, arguments, {"model": self.model.name}, _seed(request))

    def _checked(
        self, id: str, kind: str, asker: Asker, arguments: dict[str, Any], details: dict[str, Any], seed: int
    ) -> NewJob:
        given = arguments.get("given", {})
        # Their contents were read, and are read again by who makes the job.
        placeholders: dict[str, Any] = {
            name: [PIL.Image.new("RGB", (1, 1))] * file["max_frames"] for name, file in given.items()
        }
        if "image" in placeholders:
            placeholders["image"] = placeholders["image"][0]
        call = {name: value for name, value in arguments.items() if name != "given"} | placeholders
        _checked_value(lambda: self._check(call))
        num_bytes = self.files.num_bytes(id) if given else 0
        return NewJob(
            id=id,
            kind=kind,
            owner=asker.owner,
            client=asker.client,
            arguments=arguments,
            details=details,
            seed=seed,
            shape=self._shape(arguments),
            num_bytes=num_bytes,
        )

    def _shape(self, arguments: Mapping[str, Any]) -> str | None:
        """As [`~lumos_hf.serving.job_runner.call_shape`], of complete arguments."""
        tile_size = arguments.get("temporal_tile_size") or self.model.sequence_num_frames
        is_alone = "given" in arguments or arguments.get("prompt_segments") or arguments["num_frames"] > tile_size
        settings = {name: value for name, value in arguments.items() if name not in ("prompt", "negative_prompt")}
        return None if is_alone else json.dumps(settings, sort_keys=True)

    @contextmanager
    def _cleaned(self, id: str) -> Iterator[None]:
        """Removes the files of a job that comes to nothing."""
        try:
            yield
        except BaseException:
            self.files.remove(id)
            raise


# What stands in a form's text for a file that came with it.
FILE = "(file)"


def check_completed(job: StoredJob) -> None:
    """
    Raises:
        ApiError: if a job that is to be gone on from is not completed.
    """
    if job.status != COMPLETED or job.kind != "video":
        raise ApiError(409, f"`video` must be completed, got '{job.id}', which is {job.status}.", "conflict", "video")


def _seed(request: GenerationRequest) -> int:
    return secrets.randbelow(2**31) if request.seed is None else request.seed


def _as_object(value: Any) -> Any:
    """JSON, where a form holds it as text."""
    if isinstance(value, str) and value.lstrip().startswith("{"):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return None
    return value


def _extra_params(value: Any) -> dict[str, Any]:
    params = {} if value in (None, "") else _as_object(value)
    if not isinstance(params, dict) or set(params) - set(_EXTRA_PARAMS):
        allowed = ", ".join(_EXTRA_PARAMS)
        raise ApiError(400, f"`extra_params` must be a JSON object of {allowed}.", "invalid_value", "extra_params")
    return {name: param for name, param in params.items() if param is not None}


def _checked_value(check: Callable[[], None]) -> None:
    try:
        check()
    except ValueError as error:
        raise ApiError.of_value(error) from error
