# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""What requests and answers of the HTTP API hold; the OpenAPI pages are made of it."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


Reference = str | dict[str, Any]

_REFERENCE = (
    '`{{"{key}": URL}}` or the URL itself: a data URL, or one of a host that the server was told to fetch from.'
)


class Request(BaseModel):
    """Fields of a form arrive as text and are read as numbers; what is unknown is refused."""

    model_config = ConfigDict(extra="forbid")


class GenerationRequest(Request):
    """What all calls may say that make something."""

    prompt: str = Field(min_length=1, max_length=8192, description="What is to be seen.")
    model: str | None = Field(None, description="One of `GET /v1/models`; by default the first.")
    negative_prompt: str | None = Field(None, max_length=8192, description="What is not to be seen.")
    num_inference_steps: int | None = Field(None, ge=1, description="Decoding steps per latent frame.")
    guidance_scale: float | None = Field(None, ge=0, description="The weight of the prompt; 1 is none, and faster.")
    seed: int | None = Field(None, ge=0, lt=2**63, description="Makes the same again; random by default.")
    lora: Any = Field(None, description="JSON. This server has no adapters to choose from, so only null is allowed.")
    extra_params: dict[str, Any] | str | None = Field(
        None,
        description="JSON: `history_mask_ratio`, `approximations`, `prompt_segments`, `preserve_unmasked`, "
        "`temporal_tile_size`, `temporal_overlap`, as in a call of the pipeline.",
    )
    user: str | None = Field(None, max_length=256, description="Of no effect; other clients send it.")


class VideoSettings(GenerationRequest):
    """Of calls that make videos."""

    seconds: str | None = Field(
        None,
        description='How long, such as "2" or "1.5", rounded up to whole latent frames. Of an extension, the new part.',
    )
    num_frames: int | None = Field(None, ge=1, description="How long, in frames, instead of `seconds`.")
    fps: int | None = Field(None, ge=1, description="Frames per second.")


class VideoRequest(VideoSettings):
    """`POST /v1/videos` and `/v1/videos/sync`."""

    size: str | None = Field(None, description='"WIDTHxHEIGHT" in pixels, multiples of 32.')
    width: int | None = Field(None, ge=1, description="In pixels, with `height`, instead of `size`.")
    height: int | None = Field(None, ge=1, description="In pixels, with `width`, instead of `size`.")
    input_reference: Reference | None = Field(
        None,
        description="The image or video that the result begins with: a file, or " + _REFERENCE.format(key="image_url"),
    )
    image_reference: Reference | None = Field(None, description="An image: " + _REFERENCE.format(key="image_url"))
    video_reference: Reference | None = Field(None, description="A video: " + _REFERENCE.format(key="video_url"))


class VideoEditRequest(VideoSettings):
    """`POST /v1/videos/edits`."""

    video: Reference = Field(description='What is made again in part: a file, or `{"id": ...}` of a completed video.')
    mask: Reference | None = Field(
        None, description="A file: an image, or a video of such, white where it is made again."
    )
    strength: float | None = Field(
        None, ge=0, le=1, description="Instead of a mask, the share of it that is made again; 0.6 if neither is given."
    )


class VideoExtensionRequest(VideoSettings):
    """`POST /v1/videos/extensions`."""

    video: Reference = Field(description='What goes on after its end: a file, or `{"id": ...}` of a completed video.')


class RemixRequest(Request):
    """`POST /v1/videos/{id}/remix`."""

    prompt: str = Field(min_length=1, max_length=8192, description="What is to be seen instead.")


class ImageRequest(GenerationRequest):
    """`POST /v1/images/generations`."""

    n: int = Field(1, ge=1, le=10, description="How many, with seeds that follow each other.")
    size: str | None = Field(None, description='"WIDTHxHEIGHT" in pixels, multiples of 32.')
    response_format: Literal["b64_json", "url"] = Field("b64_json", description="The picture itself, or where it is.")


class JobError(BaseModel):
    """Why a job failed."""

    code: str
    message: str
    param: str | None = None
    type: str | None = None


class Video(BaseModel):
    """A job that makes a video."""

    id: str
    object: Literal["video"] = "video"
    model: str
    status: Literal["queued", "in_progress", "completed", "failed"]
    progress: int = Field(ge=0, le=100, description="In percent.")
    created_at: int = Field(description="Unix seconds.")
    completed_at: int | None = None
    expires_at: int | None = Field(None, description="When the result is removed.")
    seconds: str
    size: str
    prompt: str
    remixed_from_video_id: str | None = None
    error: JobError | None = None
    seed: int
    num_frames: int
    fps: int
    seconds_left: float | None = Field(None, description="Until the last step, at the pace of the steps so far.")


class VideoList(BaseModel):
    """A page of videos."""

    object: Literal["list"] = "list"
    data: list[Video]
    first_id: str | None
    last_id: str | None
    has_more: bool


class DeletedVideo(BaseModel):
    """That a video was deleted."""

    id: str
    object: Literal["video.deleted"] = "video.deleted"
    deleted: bool = True


class GeneratedImage(BaseModel):
    """A picture."""

    b64_json: str | None = None
    url: str | None = None
    revised_prompt: None = None


class Images(BaseModel):
    """Pictures."""

    created: int
    data: list[GeneratedImage]
    output_format: Literal["png"] = "png"
    size: str


class Model(BaseModel):
    """What the server has, and what it can make."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str
    defaults: dict[str, Any] = Field(description="What is used if a request does not say it.")
    limits: dict[str, int] = Field(description="The most that a request may ask for.")


class ModelList(BaseModel):
    """The models."""

    object: Literal["list"] = "list"
    data: list[Model]


class Health(BaseModel):
    """Whether jobs are accepted and made."""

    status: Literal["ok", "degraded"]
    problem: str | None = Field(None, description="Why jobs wait that were accepted.")
    jobs: dict[str, int] = Field(description="How many there are, by status.")


class ErrorContent(BaseModel):
    """What is wrong."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorAnswer(BaseModel):
    """The form of all errors."""

    error: ErrorContent
