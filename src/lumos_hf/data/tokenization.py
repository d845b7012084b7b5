# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
Turns images and videos with captions into a tokenised set, what `lumos-hf tokenize` does.

Notable:

- Clips of equal size are encoded together, in float32 without TF32: in lower precision, one code in seven comes out
  different.
- A clip that cannot be used is skipped and listed. Whatever else is wrong is an error before any work is done.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import av
import torch
from torch.utils.data import Dataset
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from ..argument_checks import check_choice, check_minimum
from ..configuration_lumos import LumosConfig
from ..cosmos_video_tokenizer import CosmosVideoTokenizer
from ..generation_defaults import resolve_default
from ..image_reading import MAX_PIXELS
from ..pipeline_lumos_video import LumosVideoPipeline
from ..token_layout import (
    encode_text,
    frame_length,
    grid_size,
    prompt_ids,
    prompt_text,
    video_duration,
    video_header_ids,
)
from ..video_processor_lumos import crop_budget, crop_sizes, pixels_to_input
from .clip_listing import ListedClip, list_clips
from .clip_reading import FRAME_CHOICES, OFFICIAL_FPS, OFFICIAL_NUM_FRAMES, POSITIONS, ClipReader
from .shard_work import ShardExecutor, ShardWork, TokenizationSummary, check_rank, write_shards
from .tokenized_dataset import SkippedClip, TokenizedDirectory, video_tokenizer_checksum


# Ends a sequence in training: video_end and the separator.
_TAIL_LENGTH = 2


@dataclass(frozen=True)
class _Checkpoint:
    """What reading clips needs of a pipeline; no weights are among it."""

    config: LumosConfig
    text_tokenizer: PreTrainedTokenizerBase
    pipeline_config: dict[str, Any]

    @classmethod
    def load(cls, model: str | Path) -> "_Checkpoint":
        return cls(
            config=LumosConfig.from_pretrained(model, subfolder="transformer"),
            text_tokenizer=AutoTokenizer.from_pretrained(model, subfolder="tokenizer"),
            # Without the arguments that ask for more, it is a dictionary alone.
            pipeline_config=cast(dict[str, Any], LumosVideoPipeline.load_config(model)),
        )

    def or_default(self, name: str, value: int | None) -> int:
        """The value if it is given, or else that of the checkpoint, or else the official one."""
        return resolve_default(name, value, self.pipeline_config)

    @property
    def image_fps(self) -> int:
        """What the pipeline says of images if no rate is given."""
        return resolve_default("fps", None, self.pipeline_config, num_frames=1)

    def num_latent_frames(self, num_frames: int) -> int:
        """Latent frames that `num_frames` frames are encoded to, the last of which may be completed."""
        return math.ceil((num_frames - 1) / self.config.temporal_compression) + 1

    def num_decoded_frames(self, num_frames: int) -> int:
        """Frames that the codes of `num_frames` frames decode to."""
        return (self.num_latent_frames(num_frames) - 1) * self.config.temporal_compression + 1

    def visual_length(self, num_frames: int, height: int, width: int, fps: int) -> int:
        """Tokens from video_start to the end of a training sequence."""
        duration = video_duration(self.num_decoded_frames(num_frames), fps)
        header = video_header_ids(duration, fps, self.config)
        frames = self.num_latent_frames(num_frames) * frame_length(*grid_size(height, width, self.config))
        return len(header) + frames + _TAIL_LENGTH


@dataclass(frozen=True)
class _ReadClip:
    """A clip to encode: uint8 pixels `(frames, height, width, 3)`, and its row but for the codes."""

    pixels: torch.Tensor
    row: dict[str, Any]


@dataclass(frozen=True)
class _ReadableClips(Dataset):
    """Reads the clips of a listing, in any process."""

    clips: Sequence[ListedClip]
    reader: ClipReader
    checkpoint: _Checkpoint

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> _ReadClip | SkippedClip:
        clip = self.clips[index]
        try:
            return self._read(index, clip)
        # Whatever is wrong with one clip, of libraries' errors too, must not end the whole run.
        except Exception as error:
            return SkippedClip(index, clip.source, clip.listed_at, _reason(error))

    def _read(self, index: int, clip: ListedClip) -> _ReadClip:
        if clip.problem is not None or clip.open_file is None:
            raise ValueError(clip.problem)
        if clip.caption is None:
            raise ValueError("there is no caption")
        caption = clip.caption.strip()
        if not caption:
            raise ValueError("the caption is empty")
        _check_unicode("the caption", caption)
        _check_unicode("the name of the file", clip.source)
        with clip.open_file() as file:
            pixels, checksum = self.reader.read(file, clip.is_image)

        num_frames, height, width = pixels.shape[:3]
        fps = self.checkpoint.image_fps if clip.is_image else self.reader.fps
        row = {
            "caption": caption,
            "fps": fps,
            "num_frames": self.checkpoint.num_decoded_frames(num_frames),
            "height": height,
            "width": width,
            "length": self._sequence_length(caption, num_frames, height, width, fps),
            "clip": index,
            "source": clip.source,
            "source_sha256": checksum,
        }
        return _ReadClip(torch.from_numpy(pixels), row)

    def _sequence_length(self, caption: str, num_frames: int, height: int, width: int, fps: int) -> int:
        checkpoint = self.checkpoint
        duration = video_duration(checkpoint.num_decoded_frames(num_frames), fps)
        text = prompt_text(caption, height=height, width=width, duration=duration, fps=fps)
        text_ids = encode_text(checkpoint.text_tokenizer, text, checkpoint.config, name="caption")
        visual_length = checkpoint.visual_length(num_frames, height, width, fps)
        length = len(prompt_ids(text_ids, checkpoint.config)) + visual_length
        limit = checkpoint.config.max_position_embeddings
        if length > limit:
            raise ValueError(
                f"the caption is too long: the sequence has {length} tokens, of which {visual_length} are visual, and the "
                f"context of the transformer {limit}"
            )
        return length


def _check_unicode(name: str, text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{name} is not text in Unicode: {error.reason}") from error


def _reason(error: Exception) -> str:
    if isinstance(error, av.error.ArgumentError):
        return "the file cannot be read: it is none of its kind, or its pictures are larger than `max_pixels` allows"
    if isinstance(error, (OSError, av.FFmpegError)) and error.strerror:
        return f"the file cannot be read: {error.strerror}"
    return str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"


def tokenize_dataset(
    data: str | Path,
    model: str | Path,
    output: str | Path,
    *,
    fps: int | None = None,
    duration: int | None = None,
    num_frames: int | None = None,
    position: str = "middle",
    height: int | None = None,
    width: int | None = None,
    buckets: bool = True,
    seed: int = 0,
    frames: str = "clock",
    max_pixels: int = MAX_PIXELS,
    caption_column: str = "text",
    media_column: str | None = None,
    split: str = "train",
    batch_size: int = 8,
    num_proc: int = 0,
    clips_per_shard: int = 256,
    device: torch.device | str = "cpu",
    rank: int = 0,
    world_size: int = 1,
    executor: ShardExecutor | None = None,
) -> TokenizationSummary:
    """
    Encodes the clips of `data` with the video tokenizer of `model` and writes them, with their captions, to `output`,
    for [`load_tokenized_dataset`].

    Of each video, `fps * duration` frames around the middle are taken, as for the official training; the last latent
    frame is completed by the video tokenizer. Images are videos of one frame. A clip that cannot be used is left out and
    told with the reason in `skipped.jsonl`: its file is broken, empty or too short, its caption is empty, or its sequence
    is longer than the context of the transformer.

    A run that was interrupted goes on when it is started again with the same arguments; `batch_size`, `num_proc`,
    `device`, `rank` and `world_size` may change. What comes out is the same as without the interruption.

    Args:
        data: folder, CSV or JSONL file or data set of the `datasets` library, see [`list_clips`].
        model: directory or repository of a [`LumosVideoPipeline`].
        output: directory of the tokenised set; new, empty, or begun with the same arguments.
        fps: frames per second of videos. Images get the pipeline's rate for images.
        duration: of videos, in seconds.
        num_frames: of videos, instead of `duration`.
        position: which frames of a longer video are taken: those in the `"middle"`, from the `"start"`, or from a
            `"random"` place that depends on `seed` and the contents of its file.
        height: in pixels, a multiple of 32.
        width: in pixels, a multiple of 32.
        buckets: whether clips keep about their shape, in the sizes of at most about `height * width` pixels among which
            the official crop rule chooses; otherwise all are cropped to `height` by `width`.
        seed: of random positions.
        frames: `"clock"` takes those that follow each other at `fps`; `"official"` those of the official scripts, whatever
            that makes of the speed: 84, every n-th one around the middle, n the whole number of times that 12 goes into
            the file's frames per second. `num_frames` or `duration` keep the first of them: 25 frames are what the
            official training on 2 seconds sees. Shorter videos are skipped.
        max_pixels: that an image or a frame may have, so that a small file cannot ask for a large memory.
        caption_column: column of captions in tables and data sets.
        media_column: column of files, see [`list_clips`].
        split: of a data set.
        batch_size: clips of equal size that are encoded together.
        num_proc: processes that read clips besides this one, which encodes them; 0 reads here.
        clips_per_shard: clips of the data per file. This much work at most is lost if the process is killed.
        device: on which to encode.
        rank: number of this process among those that share the work.
        world_size: number of these processes.
        executor: does the work instead of this process, such as [`~lumos_hf.cluster.RayExecutor`].

    What is None of `fps`, `duration`, `height` and `width` comes from the checkpoint, or else is the official value.

    Raises:
        ValueError: if an argument is not as described, the sequence of a video does not fit into the transformer's
            context, or `output` was begun with other settings, another video tokenizer or other data.
        OSError: if `data` or `model` cannot be found.
    """
    _check_choices(position, batch_size, num_proc, clips_per_shard, rank, world_size)
    check_choice("frames", frames, FRAME_CHOICES)
    check_minimum("max_pixels", max_pixels, 1)
    if torch.device(device).type == "meta":
        raise ValueError(f"`device` must be one that holds data, got {str(device)!r}.")
    checkpoint = _Checkpoint.load(model)
    if frames == "official":
        fps, num_frames = _check_official(fps, duration, num_frames, position)
        duration = None
    reader = _clip_reader(checkpoint, fps, duration, num_frames, position, height, width, buckets, seed)
    reader = replace(reader, frames=frames, max_pixels=max_pixels)
    clips = list_clips(data, caption_column=caption_column, media_column=media_column, split=split)
    _check_context(checkpoint, reader, clips)
    vqvae = CosmosVideoTokenizer.from_pretrained(model, subfolder="vqvae", torch_dtype=torch.float32).to(device).eval()
    _check_encodes(vqvae, reader)

    directory = TokenizedDirectory(output)
    directory.begin_or_resume(
        {
            "data": str(data),
            "model": str(model),
            "lumos_hf_version": version("lumos_hf"),
            "num_clips": len(clips),
            "num_shards": math.ceil(len(clips) / clips_per_shard),
            "settings": {
                **_settings(reader),
                "image_fps": checkpoint.image_fps,
                "context_length": checkpoint.config.max_position_embeddings,
                "clips_per_shard": clips_per_shard,
                "tokenizer_checksum": video_tokenizer_checksum(vqvae),
            },
        },
        clips,
    )
    readable_clips = _ReadableClips(clips, reader, checkpoint)
    make_rows = partial(_tokenize_clips, vqvae=vqvae, batch_size=batch_size)
    work = ShardWork(directory, readable_clips, make_rows, num_proc, "Tokenizing clips")
    return write_shards(work, rank=rank, world_size=world_size, executor=executor)


def _check_choices(
    position: str, batch_size: int, num_proc: int, clips_per_shard: int, rank: int, world_size: int
) -> None:
    check_choice("position", position, POSITIONS)
    check_minimum("batch_size", batch_size, 1)
    check_minimum("num_proc", num_proc, 0)
    check_minimum("clips_per_shard", clips_per_shard, 1)
    check_rank(rank, world_size)


def _clip_reader(
    checkpoint: _Checkpoint,
    fps: int | None,
    duration: int | None,
    num_frames: int | None,
    position: str,
    height: int | None,
    width: int | None,
    buckets: bool,
    seed: int,
) -> ClipReader:
    for name, value in (("fps", fps), ("duration", duration), ("num_frames", num_frames)):
        if value is not None:
            check_minimum(name, value, 1)
    if duration is not None and num_frames is not None:
        raise ValueError(f"Only one of `duration` and `num_frames` may be given, got {duration} and {num_frames}.")
    fps = checkpoint.or_default("fps", fps)
    height, width = checkpoint.or_default("height", height), checkpoint.or_default("width", width)
    _check_sizes(checkpoint.config, height, width, buckets)
    num_frames = num_frames or _num_frames_of_duration(checkpoint, fps, duration)
    return ClipReader(num_frames, fps, position, height, width, buckets, seed)


def _check_official(fps: int | None, duration: int | None, num_frames: int | None, position: str) -> tuple[int, int]:
    """Frames per second and number of frames."""
    if fps not in (None, OFFICIAL_FPS):
        raise ValueError(f"`fps` must be {OFFICIAL_FPS} with `frames='official'`, got {fps}.")
    if position != "middle":
        raise ValueError(f"`position` must be 'middle' with `frames='official'`, got {position!r}.")
    if duration is not None and num_frames is not None:
        raise ValueError(f"Only one of `duration` and `num_frames` may be given, got {duration} and {num_frames}.")
    if duration is not None:
        num_frames = OFFICIAL_FPS * duration
    num_frames = OFFICIAL_NUM_FRAMES if num_frames is None else num_frames
    if not 1 <= num_frames <= OFFICIAL_NUM_FRAMES:
        raise ValueError(
            f"`num_frames` must be from 1 to {OFFICIAL_NUM_FRAMES} with `frames='official'`, got {num_frames}."
        )
    return OFFICIAL_FPS, num_frames


def _settings(reader: ClipReader) -> dict[str, Any]:
    """What the codes depend on. A limit is no such thing, and sets that were begun before there was a choice go on."""
    settings = asdict(reader)
    del settings["max_pixels"]
    if settings["frames"] == "clock":
        del settings["frames"]
    return settings


def _check_sizes(config: LumosConfig, height: int, width: int, buckets: bool) -> None:
    grid_size(height, width, config)
    for size in crop_sizes(crop_budget(height, width)) if buckets else []:
        try:
            grid_size(*size, config)
        except ValueError as error:
            raise ValueError(
                f"`height` and `width` must be smaller, or `buckets` be off, got {height} and {width}: a clip of another "
                f"shape could be cropped to {size}, for which {error}"
            ) from error


def _num_frames_of_duration(checkpoint: _Checkpoint, fps: int, duration: int | None) -> int:
    if duration is None:
        duration = video_duration(checkpoint.or_default("num_frames", None), checkpoint.or_default("fps", None))
    num_frames = fps * duration
    decoded = checkpoint.num_decoded_frames(num_frames)
    if video_duration(decoded, fps) != duration:
        raise ValueError(
            f"`fps` must be higher for a `duration` of {duration}: {num_frames} frames at {fps} frames per second are "
            f"completed to {decoded} frames, {video_duration(decoded, fps)} seconds."
        )
    return num_frames


def _check_context(checkpoint: _Checkpoint, reader: ClipReader, clips: Sequence[ListedClip]) -> None:
    if all(clip.is_image for clip in clips):
        return
    length = checkpoint.visual_length(reader.num_frames, reader.height, reader.width, reader.fps)
    limit = checkpoint.config.max_position_embeddings
    if length >= limit:
        raise ValueError(
            f"`height`, `width` and `num_frames` must fit into the context of the transformer, {limit} tokens, got "
            f"{length} tokens for {reader.num_frames} frames of {reader.width}x{reader.height} pixels."
        )


@torch.no_grad()
def _check_encodes(vqvae: CosmosVideoTokenizer, reader: ClipReader) -> None:
    """Some video tokenizers take certain numbers of frames only."""
    side = vqvae.config.spatial_compression_ratio
    try:
        vqvae.encode(torch.zeros(1, 3, reader.num_frames, side, side, device=vqvae.device))
    except ValueError as error:
        raise ValueError(f"`num_frames` must suit the video tokenizer, got {reader.num_frames}: {error}") from error


def _tokenize_clips(
    clips: Iterable[_ReadClip | SkippedClip],
    clip_done: Callable[[], Any],
    *,
    vqvae: CosmosVideoTokenizer,
    batch_size: int,
) -> tuple[list[dict[str, Any]], list[SkippedClip]]:
    """Rows and skipped clips, each in the order of the listing. Only clips of equal size share a batch."""
    rows: list[dict[str, Any]] = []
    skipped: list[SkippedClip] = []
    waiting: defaultdict[torch.Size, list[_ReadClip]] = defaultdict(list)
    for clip in clips:
        if isinstance(clip, SkippedClip):
            skipped.append(clip)
        else:
            batch = waiting[clip.pixels.shape]
            batch.append(clip)
            if len(batch) == batch_size:
                rows += _encode(waiting.pop(clip.pixels.shape), vqvae)
        clip_done()
    for batch in waiting.values():
        rows += _encode(batch, vqvae)
    return sorted(rows, key=lambda row: row["clip"]), skipped


@torch.no_grad()
def _encode(clips: list[_ReadClip], vqvae: CosmosVideoTokenizer) -> list[dict[str, Any]]:
    pixels = torch.stack([clip.pixels for clip in clips]).to(vqvae.device)
    with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
        codes = vqvae.encode(pixels_to_input(pixels)).cpu().numpy()
    return [{"codes": codes, **clip.row} for codes, clip in zip(codes, clips, strict=True)]
