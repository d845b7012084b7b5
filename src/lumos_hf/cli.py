# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""The command `lumos-hf`."""

import random
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import torch
import typer
from PIL import Image

from .demo import demo_checkpoint
from .media import check_media_path, write_media


if TYPE_CHECKING:
    from .pipeline_lumos_video import LumosVideoPipeline


# Headings of the help page.
SIZE, DECODING, MACHINE = "Size of the result", "Decoding", "Machine"
DEFAULTS = "Defaults of the checkpoint, where they are not the official ones"

Dtype = Literal["float32", "bfloat16", "float16", "fp32", "bf16", "fp16"]
DTYPE_HELP = "float32, bfloat16 or float16; fp32, bf16 or fp16 for short."

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def lumos_hf() -> None:
    """Images and videos from text with Lumos-1, an LLM that draws by discrete diffusion."""


@app.command()
def generate(
    prompt: Annotated[str, typer.Argument(help="What is to be seen.", metavar="PROMPT", show_default=False)],
    output: Annotated[
        list[Path] | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="mp4, gif or png, by the name's ending; may be given several times. The png of a video is a contact "
            "sheet. Without it a file named after the prompt is written to outputs/.",
            show_default=False,
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="DIR_OR_REPO",
            help="Checkpoint: a directory, or a repository on the Hub.",
            show_default="the demo checkpoint of this package",
        ),
    ] = None,
    image: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Image that the video begins with.", exists=True, dir_okay=False, show_default=False
        ),
    ] = None,
    negative_prompt: Annotated[
        str | None, typer.Option(metavar="TEXT", help="What is not to be seen.", show_default=False)
    ] = None,
    seed: Annotated[
        int | None, typer.Option(metavar="N", min=0, help="Makes the same video again.", show_default="random")
    ] = None,
    height: Annotated[
        int | None, typer.Option(metavar="N", help="A multiple of 32.", show_default=False, rich_help_panel=SIZE)
    ] = None,
    width: Annotated[
        int | None, typer.Option(metavar="N", help="A multiple of 32.", show_default=False, rich_help_panel=SIZE)
    ] = None,
    num_frames: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="4k + 1 for a video, 1 for an image.", show_default=False, rich_help_panel=SIZE
        ),
    ] = None,
    fps: Annotated[
        int | None, typer.Option(metavar="N", help="Frames per second.", show_default=False, rich_help_panel=SIZE)
    ] = None,
    scale: Annotated[
        int, typer.Option(metavar="N", min=1, help="Enlarge the written frames.", rich_help_panel=SIZE)
    ] = 1,
    steps: Annotated[
        int | None,
        typer.Option(metavar="N", help="Per latent frame.", show_default=False, rich_help_panel=DECODING),
    ] = None,
    guidance_scale: Annotated[
        float | None,
        typer.Option(
            metavar="X",
            help="Weight of the prompt; 1 is no guidance, and faster.",
            show_default=False,
            rich_help_panel=DECODING,
        ),
    ] = None,
    history_mask_ratio: Annotated[
        float | None,
        typer.Option(
            metavar="X",
            help="Share of a finished frame, from 0 to 1, that later ones do not see.",
            show_default=False,
            rich_help_panel=DECODING,
        ),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            metavar="DEVICE", help="Such as cpu, cuda:1.", show_default="a GPU, or cpu", rich_help_panel=MACHINE
        ),
    ] = None,
    dtype: Annotated[
        Dtype | None,
        typer.Option(
            metavar="DTYPE",
            help=DTYPE_HELP,
            show_default="float32 on cpu, else bfloat16",
            rich_help_panel=MACHINE,
        ),
    ] = None,
) -> None:
    """
    Make a video or an image.

    Sizes and numbers that are not given are the checkpoint's own.

    Example: lumos-hf generate "A red star jumps in the snow." -o star.mp4 -o star.png
    """
    seed = random.randrange(2**31) if seed is None else seed
    paths = output or [_default_path(prompt, seed, is_image=num_frames == 1)]
    with _short_errors():
        for path in paths:
            check_media_path(path)
        first_frame = None if image is None else Image.open(image)
        pipe = _load_pipeline(model, dtype, device)
        _warn_of_unknown_words(pipe, prompt)
        frames = pipe(
            prompt,
            negative_prompt=negative_prompt,
            image=first_frame,
            height=height,
            width=width,
            num_frames=num_frames,
            fps=fps,
            num_inference_steps=steps,
            guidance_scale=guidance_scale,
            history_mask_ratio=history_mask_ratio,
            generator=torch.Generator().manual_seed(seed),
        ).frames[0]
        frames = [frame.resize((frame.width * scale, frame.height * scale), Image.LANCZOS) for frame in frames]
        for path in paths:
            write_media(path, frames, fps=_playback_rate(pipe, fps))
            typer.echo(f"Wrote {path} ({_describe(frames)}, seed {seed}).")


@app.command()
def convert(
    lumos: Annotated[
        str,
        typer.Option(
            metavar="DIR_OR_REPO", help="The official model: config.json and safetensors.", show_default=False
        ),
    ],
    cosmos: Annotated[
        str,
        typer.Option(
            metavar="DIR_OR_REPO",
            help="NVIDIA's Cosmos-Tokenizer-DV4x8x8: encoder.jit and decoder.jit.",
            show_default=False,
        ),
    ],
    text_tokenizer: Annotated[
        str,
        typer.Option(metavar="FILE_OR_DIR_OR_REPO", help="The official text_tokenizer.json.", show_default=False),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="A new directory.", show_default=False)
    ],
    dtype: Annotated[
        Dtype | None,
        typer.Option(metavar="DTYPE", help=DTYPE_HELP, show_default="that of each part"),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Of the model, for its card.", show_default="that of the directory"),
    ] = None,
    height: Annotated[
        int | None, typer.Option(metavar="N", help="In pixels.", show_default=False, rich_help_panel=DEFAULTS)
    ] = None,
    width: Annotated[
        int | None, typer.Option(metavar="N", help="In pixels.", show_default=False, rich_help_panel=DEFAULTS)
    ] = None,
    num_frames: Annotated[
        int | None, typer.Option(metavar="N", help="1 for images.", show_default=False, rich_help_panel=DEFAULTS)
    ] = None,
    fps: Annotated[
        int | None, typer.Option(metavar="N", help="Frames per second.", show_default=False, rich_help_panel=DEFAULTS)
    ] = None,
    steps: Annotated[
        int | None, typer.Option(metavar="N", help="Per latent frame.", show_default=False, rich_help_panel=DEFAULTS)
    ] = None,
    guidance_scale: Annotated[
        float | None,
        typer.Option(metavar="X", help="Weight of the prompt.", show_default=False, rich_help_panel=DEFAULTS),
    ] = None,
    history_mask_ratio: Annotated[
        float | None,
        typer.Option(
            metavar="X",
            help="Share of a finished frame that later ones do not see.",
            show_default=False,
            rich_help_panel=DEFAULTS,
        ),
    ] = None,
) -> None:
    """
    Make a checkpoint of an official release.

    What the release consists of is given as directories, or as places on the Hub: USER/NAME[@REVISION][/SUBFOLDER].
    Everything is checked before anything is written.

    Example: lumos-hf convert --lumos Lumos-1-1B --cosmos Cosmos-Tokenizer-DV4x8x8 --text-tokenizer text_tokenizer.json
    -o lumos-1-1b --dtype bf16
    """
    defaults = {
        "height": height,
        "width": width,
        "num_frames": num_frames,
        "fps": fps,
        "num_inference_steps": steps,
        "guidance_scale": guidance_scale,
        "history_mask_ratio": history_mask_ratio,
    }
    with _short_errors():
        from .conversion import convert_original_checkpoint

        convert_original_checkpoint(
            lumos,
            cosmos,
            text_tokenizer,
            output,
            dtype=None if dtype is None else _torch_dtype(dtype),
            name=name,
            pipeline_defaults={name: value for name, value in defaults.items() if value is not None},
        )
        typer.echo(f"Wrote {output}. Try it: lumos-hf generate PROMPT --model {output}")


@app.command()
def export(
    model: Annotated[
        str, typer.Option(metavar="DIR_OR_REPO", help="The checkpoint to be exported.", show_default=False)
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="A new directory.", show_default=False)
    ],
) -> None:
    """
    Write a checkpoint in the official layout.

    Gives lumos/, text_tokenizer.json and cosmos/. The weights of the video tokenizer come as safetensors under their
    official names, to be loaded into the official network.
    """
    with _short_errors():
        from .conversion import export_original_checkpoint

        export_original_checkpoint(model, output)
        typer.echo(f"Wrote {output}.")


def main() -> None:
    """Runs the command line."""
    app()


@contextmanager
def _short_errors() -> Iterator[None]:
    """Turns errors that the user can mend into one message and exit status 2, as of wrong options."""
    try:
        yield
    except (ValueError, OSError) as error:
        typer.secho(f"Error: {error}", fg=typer.colors.RED, err=True)
        raise typer.Exit(2) from error


def _default_path(prompt: str, seed: int, is_image: bool) -> Path:
    words = "-".join(re.findall(r"[a-z0-9]+", prompt.lower())) or "lumos"
    return Path("outputs") / f"{words[:60]}-{seed}.{'png' if is_image else 'mp4'}"


def _load_pipeline(model: str | None, dtype: str | None, device: str | None) -> "LumosVideoPipeline":
    from .pipeline_lumos_video import LumosVideoPipeline

    target = _check_device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    torch_dtype = _torch_dtype(dtype or ("float32" if target.type == "cpu" else "bfloat16"))
    if model is None:
        typer.echo(
            "Using the demo checkpoint, which knows a small world only. Another one is loaded with --model DIR_OR_REPO.",
            err=True,
        )
        source = demo_checkpoint()
    else:
        source = _check_model(model)
    try:
        return LumosVideoPipeline.from_pretrained(source, dtype=torch_dtype).to(target)
    except OSError as error:
        raise ValueError(f"The checkpoint '{source}' could not be loaded: {error}") from error


def _torch_dtype(name: Dtype) -> torch.dtype:
    short_names = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
    return getattr(torch, short_names.get(name, name))


def _check_device(name: str) -> torch.device:
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"`--device` must be a device that PyTorch can use here, got '{name}': {reason}") from error


def _check_model(model: str) -> str:
    if not Path(model).is_dir() and not re.fullmatch(r"[\w.-]+/[\w.-]+", model):
        raise ValueError(f"`--model` must be an existing directory or a repository like USER/NAME, got '{model}'.")
    return model


def _warn_of_unknown_words(pipe: "LumosVideoPipeline", prompt: str) -> None:
    if pipe.tokenizer is None or pipe.tokenizer.unk_token_id is None:
        return
    words = re.findall(r"\w+", prompt)
    unknown = [word for word in words if pipe.tokenizer.unk_token_id in pipe.tokenizer(word).input_ids]
    if unknown:
        typer.echo(f"The checkpoint does not know these words: {', '.join(unknown)}.", err=True)


def _playback_rate(pipe: "LumosVideoPipeline", fps: int | None) -> int:
    from .pipeline_lumos_video import OFFICIAL_DEFAULTS

    return fps or pipe.config.default_fps or OFFICIAL_DEFAULTS["fps"]


def _describe(frames: list[Image.Image]) -> str:
    count = "an image" if len(frames) == 1 else f"{len(frames)} frames"
    return f"{count} of {frames[0].width}x{frames[0].height}"
