# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""`lumos-hf generate`: images and videos from a prompt."""

import os
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..demo import demo_checkpoint
from ..generation_defaults import check_settings, resolve_default
from .given_files import Continued, Edited, GivenFiles, Mask, SegmentTexts, Strength, parse_segments
from .many_prompts import generate_many
from .model_loading import check_model, load_pipeline
from .options import (
    DECODING,
    DTYPE_HELP,
    MACHINE,
    MAX_PIXELS_TEXT,
    SIZE,
    Device,
    Dtype,
    Model,
    NumActors,
    Ray,
    number,
    option,
)


if TYPE_CHECKING:
    import torch
    from PIL import Image

    from ..pipeline_lumos_video import LumosVideoPipeline


MANY = "Many prompts"

# Beyond that, enlarging needs more memory than a clip is worth.
MAX_SCALED_SIDE = 8192

Prompt = Annotated[
    str | None, typer.Argument(help="What is to be seen; or --prompts.", metavar="PROMPT", show_default=False)
]
PromptFile = Annotated[
    Path | None,
    option(
        metavar="FILE",
        help="A text file with a prompt on each line, instead of PROMPT. A file for each is written to samples/ in the "
        "directory that --output names; a run that was interrupted goes on with it. Started by `accelerate launch`, "
        "processes share the work.",
        panel=MANY,
        exists=True,
        dir_okay=False,
    ),
]
BatchSize = Annotated[
    int, option(metavar="N", min=1, help="With --prompts: so many videos are made together.", default=True, panel=MANY)
]
MediaFiles = Annotated[
    list[Path] | None,
    option(
        "--output",
        "-o",
        metavar="FILE",
        help="An mp4, gif or png file, by the ending of its name; may be given several times. The png of a video is "
        "a contact sheet. Without this option, a file named after the prompt is written to outputs/.",
    ),
]
FirstImage = Annotated[
    Path | None, option(metavar="FILE", help="The image that the video begins with.", exists=True, dir_okay=False)
]
MaxPixels = Annotated[
    int | None, option(metavar="N", min=1, help="That image may not have more pixels.", default=MAX_PIXELS_TEXT)
]
FirstVideo = Annotated[
    Path | None,
    option(
        metavar="FILE",
        help="The video that is continued: its beginning, at the frame rate of the result.",
        exists=True,
        dir_okay=False,
    ),
]
NegativePrompt = Annotated[str | None, option(metavar="TEXT", help="What is not to be seen.")]
LoraWeights = Annotated[
    list[str] | None,
    option(
        metavar="DIR[:WEIGHT]",
        help="LoRA weights to draw with: a directory, a file or a repository, and how much of them, 1 if that is "
        "not said; may be given several times.",
    ),
]
Seed = Annotated[
    int | None, option(metavar="N", min=0, max=2**63 - 1, help="Makes the same video again.", default="random")
]
NumVideosPerPrompt = Annotated[
    int,
    option(
        metavar="N",
        help="Makes so many, with seeds that follow each other; -0, -1, ... are put to the file names.",
    ),
]
Height = Annotated[int | None, number("Pixels, a multiple of 32.", SIZE)]
Width = Annotated[int | None, number("Pixels, a multiple of 32.", SIZE)]
NumFrames = Annotated[int | None, number("4k + 1 for a video, 1 for an image.", SIZE)]
Fps = Annotated[int | None, number("Frames per second.", SIZE)]
Scale = Annotated[
    int, option(metavar="N", min=1, help="Enlarges the written frames so many times.", default=True, panel=SIZE)
]
NumInferenceSteps = Annotated[
    str | None,
    option(
        "--num-inference-steps",
        "--steps",
        metavar="N[,N...]",
        help="Steps per latent frame; 12,3 takes 12 for the first one and 3 for each of the others.",
        panel=DECODING,
    ),
]
GuidanceScale = Annotated[
    float | None,
    option(metavar="X", help="The weight of the prompt; 1 is no guidance, and faster.", panel=DECODING),
]
HistoryMaskRatio = Annotated[
    float | None,
    option(
        metavar="X",
        help="The share of a finished frame, from 0 to 1, that later frames do not see.",
        panel=DECODING,
    ),
]
Fast = Annotated[
    bool,
    typer.Option(
        "--fast", help="Leaves out what hardly changes the result, see docs/speed.md.", rich_help_panel=DECODING
    ),
]
Turbo = Annotated[
    bool,
    typer.Option(
        "--turbo",
        help="Few steps and one branch, by the weights in the folder turbo of the checkpoint that were distilled for it.",
        rich_help_panel=DECODING,
    ),
]
ComputeDtype = Annotated[
    Dtype | None, option(metavar="DTYPE", help=DTYPE_HELP, default="float32 on cpu, else bfloat16", panel=MACHINE)
]


def generate(
    prompt: Prompt = None,
    output: MediaFiles = None,
    model: Model = None,
    prompts: PromptFile = None,
    batch_size: BatchSize = 1,
    image: FirstImage = None,
    max_pixels: MaxPixels = None,
    video: FirstVideo = None,
    negative_prompt: NegativePrompt = None,
    lora: LoraWeights = None,
    seed: Seed = None,
    num_videos_per_prompt: NumVideosPerPrompt = 1,
    height: Height = None,
    width: Width = None,
    num_frames: NumFrames = None,
    fps: Fps = None,
    scale: Scale = 1,
    num_inference_steps: NumInferenceSteps = None,
    guidance_scale: GuidanceScale = None,
    history_mask_ratio: HistoryMaskRatio = None,
    fast: Fast = False,
    turbo: Turbo = False,
    edited: Edited = None,
    mask: Mask = None,
    strength: Strength = None,
    continued: Continued = None,
    segments: SegmentTexts = None,
    device: Device = None,
    dtype: ComputeDtype = None,
    ray: Ray = None,
    num_actors: NumActors = None,
) -> None:
    """
    Make a video or an image, or one for each prompt of a file.

    Sizes and numbers that are not given are the checkpoint's own.

    Example: lumos-hf generate "A red star jumps in the snow." -o star.mp4 -o star.png
    """
    settings: dict[str, Any] = {
        "height": height,
        "width": width,
        "num_frames": num_frames,
        "fps": fps,
        "num_inference_steps": parse_steps(num_inference_steps),
        "guidance_scale": guidance_scale,
        "history_mask_ratio": history_mask_ratio,
    }
    check_settings(**settings, num_videos_per_prompt=num_videos_per_prompt)
    if fast and turbo:
        raise ValueError("`turbo` must be given without `--fast`, which leaves out of many steps what few steps need.")
    files = GivenFiles(image, video, edited, continued, mask, strength, max_pixels)
    files.check()
    _check_scale(scale, height, width)
    shared = {"negative_prompt": negative_prompt, "num_videos_per_prompt": num_videos_per_prompt}
    if prompts is None:
        if prompt is None or ray is not None:
            raise ValueError("`prompt` must be given, or `prompts`, which `ray` goes with.")
        call = {
            **shared,
            "approximations": "fast" if fast else None,
            "prompt_segments": parse_segments(segments),
        }
        _generate_one(prompt, output, model, files, lora, turbo, seed, settings, call, scale, device, dtype)
        return
    _check_alone(prompt=prompt, lora=lora, turbo=turbo, segments=segments, **vars(files))
    options: dict[str, Any] = {"prompts": prompts, "output": _only_directory(output), "seed": seed or 0, **shared}
    options |= {"batch_size": batch_size, "settings": settings, "fast": fast, "scale": scale}
    generate_many(model, options, dtype, device, ray, num_actors)


def _generate_one(
    prompt: str,
    output: list[Path] | None,
    model: str | None,
    files: GivenFiles,
    lora: list[str] | None,
    turbo: bool,
    seed: int | None,
    settings: dict[str, Any],
    call: dict[str, Any],
    scale: int,
    device: str | None,
    dtype: Dtype | None,
) -> None:
    """Makes the videos of one prompt; `call` are further arguments of the pipeline."""
    num_frames = settings["num_frames"]
    adapters = [_parse_lora(value) for value in lora or []]
    source = _demo_source() if model is None else check_model(model)
    seed = random.randrange(2**31) if seed is None else seed
    paths = output or [_default_path(prompt, seed, is_image=num_frames == 1)]
    seeds = [seed + index for index in range(call["num_videos_per_prompt"])]
    targets = [[_numbered(path, index, len(seeds)) for path in paths] for index in range(len(seeds))]
    _check_writable([path for video in targets for path in video])
    given = files.read_images()

    pipe = load_pipeline(source, dtype, device)
    _check_scale(scale, *(resolve_default(name, settings[name], pipe.config) for name in ("height", "width")))
    if turbo:
        pipe.load_turbo_weights()
    _load_loras(pipe, adapters)
    videos = files.read_videos(num_frames, settings["fps"], pipe.config)
    arguments = {**settings, **given, **videos, **call, "generator": _generators(seeds)}
    merged = [("turbo", 1.0)] if turbo else []
    records = _records(pipe, {"prompt": prompt, **arguments}, seeds, source, merged + adapters)
    _make(pipe, prompt, arguments, targets, scale, records)


def _check_alone(**others: Any) -> None:
    """A file of prompts goes with none of these."""
    given = [f"`{name}`" for name, value in others.items() if value]
    if given:
        raise ValueError(f"`prompts` cannot be given with {', '.join(given)}.")


def _only_directory(output: list[Path] | None) -> Path:
    if output is None or len(output) != 1:
        raise ValueError(f"`output` must be one directory with `prompts`, got {len(output or [])}.")
    if output[0].suffix.lower() in (".mp4", ".gif", ".png") or output[0].is_file():
        raise ValueError(f"`output` must be a directory with `prompts`, got '{output[0]}'.")
    return output[0]


def _make(
    pipe: "LumosVideoPipeline",
    prompt: str,
    arguments: dict[str, Any],
    targets: list[list[Path]],
    scale: int,
    records: list[dict[str, Any]],
) -> None:
    """Makes the videos and writes each to its files; one that goes to an mp4 alone is written while it is made."""
    rate = int(resolve_default("fps", arguments["fps"], pipe.config))
    if [path.suffix.lower() for paths in targets for path in paths] == [".mp4"]:
        parts = pipe.stream(prompt, **arguments)
        _write_stream((frame for part in parts for frame in part[0]), targets[0][0], scale, rate, records[0])
        return
    for record, frames, paths in zip(records, pipe(prompt, **arguments).frames, targets, strict=True):
        _write(frames, paths, scale, rate, record)


def _demo_source() -> Path:
    typer.echo(
        "Using the demo checkpoint, which knows a small world only. Another one is loaded with --model DIR_OR_REPO.",
        err=True,
    )
    return demo_checkpoint()


def parse_steps(value: str | None) -> int | list[int] | None:
    """
    `num_inference_steps` of the pipeline from `N` or `N,N...`; None for none.

    Raises:
        ValueError: for another form.
    """
    if value is None:
        return None
    try:
        counts = [int(count) for count in value.split(",")]
    except ValueError:
        raise ValueError(f"`num_inference_steps` must be N or N,N..., such as 12,3, got {value!r}.") from None
    return counts if len(counts) > 1 else counts[0]


def _parse_lora(value: str) -> tuple[str, float]:
    source, separator, weight = value.rpartition(":")
    if not separator:
        return value, 1.0
    try:
        return source, float(weight)
    except ValueError:
        # A colon of the path itself.
        return value, 1.0


def _load_loras(pipe: "LumosVideoPipeline", adapters: list[tuple[str, float]]) -> None:
    if not adapters:
        return
    names = [f"lora_{index}" for index in range(len(adapters))]
    for name, (source, _) in zip(names, adapters, strict=True):
        pipe.load_lora_weights(source, adapter_name=name)
    pipe.set_adapters(names, [weight for _, weight in adapters])


def _records(
    pipe: "LumosVideoPipeline",
    call: dict[str, Any],
    seeds: list[int],
    source: str | Path,
    adapters: list[tuple[str, float]],
) -> list[dict[str, Any]]:
    """What the files of each video say."""
    from ..generation_record import generation_record

    lora = [f"{Path(name).name if Path(name).exists() else name}:{weight:g}" for name, weight in adapters]
    return [generation_record(pipe, call, seed=seed, checkpoint=source, lora=lora) for seed in seeds]


def _default_path(prompt: str, seed: int, is_image: bool) -> Path:
    words = "-".join(re.findall(r"[a-z0-9]+", prompt.lower())) or "lumos"
    return Path("outputs") / f"{words[:60]}-{seed}.{'png' if is_image else 'mp4'}"


def _numbered(path: Path, index: int, count: int) -> Path:
    return path if count == 1 else path.with_stem(f"{path.stem}-{index}")


def _check_writable(paths: list[Path]) -> None:
    """Refuses what could not be written once all the work is done."""
    from ..media import check_media_path

    for path in paths:
        check_media_path(path)
        if path.is_dir():
            raise ValueError(f"`output` must be a file, got the directory '{path}'.")
        parent = next(directory for directory in path.absolute().parents if directory.exists())
        if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
            raise ValueError(f"`output` must be in a directory that can be written to, got '{path}'.")
    if len(set(paths)) < len(paths):
        raise ValueError(f"`output` must name different files, got {', '.join(map(str, paths))}.")


def _check_scale(scale: int, height: int | float | None, width: int | float | None) -> None:
    largest = scale * max(height or 1, width or 1)
    if largest > MAX_SCALED_SIDE:
        raise ValueError(
            f"`scale` must give frames of at most {MAX_SCALED_SIDE} pixels a side, got {scale}: {largest}."
        )


def _generators(seeds: list[int]) -> list["torch.Generator"]:
    import torch

    return [torch.Generator().manual_seed(seed) for seed in seeds]


def _write_stream(frames: Iterator["Image.Image"], path: Path, scale: int, fps: int, record: dict[str, Any]) -> None:
    from ..media import write_mp4

    count, size = write_mp4(path, (_enlarged(frame, scale) for frame in frames), fps, record)
    typer.echo(f"Wrote {path} ({_describe(count, size)}, seed {record['seed']}).")


def _enlarged(frame: "Image.Image", scale: int) -> "Image.Image":
    from PIL import Image

    return frame.resize((frame.width * scale, frame.height * scale), Image.Resampling.LANCZOS)


def _write(frames: list["Image.Image"], paths: list[Path], scale: int, fps: int, record: dict[str, Any]) -> None:
    from ..media import write_media

    frames = [_enlarged(frame, scale) for frame in frames]
    for path in paths:
        write_media(path, frames, fps=fps, settings=record)
        typer.echo(f"Wrote {path} ({_describe(len(frames), frames[0].size)}, seed {record['seed']}).")


def _describe(count: int, size: tuple[int, int]) -> str:
    return f"{'an image' if count == 1 else f'{count} frames'} of {size[0]}x{size[1]}"
