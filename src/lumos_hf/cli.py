# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
The command `lumos-hf`.

Notable: nothing but typer is imported until a command has checked its options, since PyTorch, transformers and diffusers
take seconds. Options are named as in a call of the pipeline, and errors name the option.
"""

import gc
import importlib.util
import os
import random
import re
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.core import TyperCommand, TyperOption

from . import __version__
from .demo import demo_checkpoint
from .generation_defaults import OFFICIAL_CHECKPOINTS, OFFICIAL_REPOSITORY, check_settings, resolve_default


if TYPE_CHECKING:
    import torch
    from PIL import Image

    from .conversion.official_release import ConversionPlan
    from .data.shard_work import TokenizationSummary
    from .pipeline_lumos_video import LumosVideoPipeline


# Headings of the help page.
SIZE, DECODING, MACHINE = "Size of the result", "Decoding", "Machine"
CLIPS, COLUMNS = "Clips", "Columns of tables and data sets"

# Exit status of a run that did all its work but had to leave something out.
SKIPPED_STATUS = 3
_MAX_SKIPPED_SHOWN = 10
DEFAULTS = "Defaults of the checkpoint, where they are not the official ones"

Dtype = Literal["float32", "bfloat16", "float16", "fp32", "bf16", "fp16"]
DTYPE_HELP = "float32, bfloat16 or float16; fp32, bf16 or fp16 for short."

# `MAX_PIXELS` of image_reading, which imports libraries.
MAX_PIXELS_TEXT = "67108864, of 8192x8192"

# Beyond that, enlarging needs more memory than a clip is worth.
MAX_SCALED_SIDE = 8192

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    # The other mode takes square brackets in help texts for its own.
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


class _Command(TyperCommand):
    """Turns errors that the user can mend into one message and exit status 2, as of wrong options."""

    def invoke(self, context: typer.Context) -> Any:
        try:
            return super().invoke(context)
        except (ValueError, OSError) as error:
            if context.find_root().params["debug"]:
                traceback.print_exception(error)
            typer.secho(f"Error: {self._with_options(str(error))}", fg=typer.colors.RED, err=True)
            raise typer.Exit(2) from error

    def _with_options(self, message: str) -> str:
        """A message that names arguments of Python, with the options of the command in their place."""
        options = {
            parameter.name: max(parameter.opts, key=len)
            for parameter in self.params
            if isinstance(parameter, TyperOption)
        }
        return re.sub(r"`(\w+)`", lambda match: f"`{options.get(match[1], match[1])}`", message)


def _option(
    *names: str,
    help: str,
    metavar: str | None = None,
    default: str | bool = False,
    panel: str | None = None,
    **constraints: Any,
) -> Any:
    """An option; `default` is what its help says of it not being given: the text, True for the value itself, or nothing."""
    return typer.Option(*names, metavar=metavar, help=help, show_default=default, rich_help_panel=panel, **constraints)


ModelOption = Annotated[
    str | None,
    _option(
        metavar="DIR_OR_REPO",
        help="The checkpoint: a directory, or a repository on the Hub.",
        default="the demo checkpoint of this package",
    ),
]
DeviceOption = Annotated[
    str | None, _option(metavar="DEVICE", help="Such as cpu or cuda:1.", default="a GPU, or cpu", panel=MACHINE)
]


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        typer.echo(f"lumos-hf {__version__}")
        raise typer.Exit()


@app.callback()
def lumos_hf(
    version: Annotated[
        bool, typer.Option("--version", help="Prints the version and ends.", callback=_print_version, is_eager=True)
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Shows where an error comes from.")] = False,
) -> None:
    """Images and videos from text with Lumos-1, an LLM that draws by discrete diffusion."""


@app.command(cls=_Command)
def generate(
    prompt: Annotated[str, typer.Argument(help="What is to be seen.", metavar="PROMPT", show_default=False)],
    output: Annotated[
        list[Path] | None,
        _option(
            "--output",
            "-o",
            metavar="FILE",
            help="An mp4, gif or png file, by the ending of its name; may be given several times. The png of a video is "
            "a contact sheet. Without this option, a file named after the prompt is written to outputs/.",
        ),
    ] = None,
    model: ModelOption = None,
    image: Annotated[
        Path | None, _option(metavar="FILE", help="The image that the video begins with.", exists=True, dir_okay=False)
    ] = None,
    max_pixels: Annotated[
        int | None, _option(metavar="N", min=1, help="That image may not have more pixels.", default=MAX_PIXELS_TEXT)
    ] = None,
    video: Annotated[
        Path | None,
        _option(
            metavar="FILE",
            help="The video that is continued: its beginning, at the frame rate of the result.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    negative_prompt: Annotated[str | None, _option(metavar="TEXT", help="What is not to be seen.")] = None,
    lora: Annotated[
        list[str] | None,
        _option(
            metavar="DIR[:WEIGHT]",
            help="LoRA weights to draw with: a directory, a file or a repository, and how much of them, 1 if that is "
            "not said; may be given several times.",
        ),
    ] = None,
    seed: Annotated[
        int | None, _option(metavar="N", min=0, max=2**63 - 1, help="Makes the same video again.", default="random")
    ] = None,
    num_videos_per_prompt: Annotated[
        int,
        _option(
            metavar="N",
            help="Makes so many, with seeds that follow each other; -0, -1, ... are put to the file names.",
        ),
    ] = 1,
    height: Annotated[int | None, _option(metavar="N", help="Pixels, a multiple of 32.", panel=SIZE)] = None,
    width: Annotated[int | None, _option(metavar="N", help="Pixels, a multiple of 32.", panel=SIZE)] = None,
    num_frames: Annotated[
        int | None, _option(metavar="N", help="4k + 1 for a video, 1 for an image.", panel=SIZE)
    ] = None,
    fps: Annotated[int | None, _option(metavar="N", help="Frames per second.", panel=SIZE)] = None,
    scale: Annotated[
        int, _option(metavar="N", min=1, help="Enlarges the written frames so many times.", default=True, panel=SIZE)
    ] = 1,
    num_inference_steps: Annotated[
        int | None,
        _option("--num-inference-steps", "--steps", metavar="N", help="Steps per latent frame.", panel=DECODING),
    ] = None,
    guidance_scale: Annotated[
        float | None,
        _option(metavar="X", help="The weight of the prompt; 1 is no guidance, and faster.", panel=DECODING),
    ] = None,
    history_mask_ratio: Annotated[
        float | None,
        _option(
            metavar="X",
            help="The share of a finished frame, from 0 to 1, that later frames do not see.",
            panel=DECODING,
        ),
    ] = None,
    fast: Annotated[
        bool,
        typer.Option(
            "--fast", help="Leaves out what hardly changes the result, see docs/speed.md.", rich_help_panel=DECODING
        ),
    ] = False,
    device: DeviceOption = None,
    dtype: Annotated[
        Dtype | None, _option(metavar="DTYPE", help=DTYPE_HELP, default="float32 on cpu, else bfloat16", panel=MACHINE)
    ] = None,
) -> None:
    """
    Make a video or an image.

    Sizes and numbers that are not given are the checkpoint's own.

    Example: lumos-hf generate "A red star jumps in the snow." -o star.mp4 -o star.png
    """
    settings = {
        "height": height,
        "width": width,
        "num_frames": num_frames,
        "fps": fps,
        "num_inference_steps": num_inference_steps,
        "guidance_scale": guidance_scale,
        "history_mask_ratio": history_mask_ratio,
    }
    check_settings(**settings, num_videos_per_prompt=num_videos_per_prompt)
    if image is not None and video is not None:
        raise ValueError("At most one of `image` and `video` can be given.")
    _check_scale(scale, height, width)
    adapters = [_parse_lora(value) for value in lora or []]
    source = _demo_source() if model is None else _check_model(model)
    seed = random.randrange(2**31) if seed is None else seed
    paths = output or [_default_path(prompt, seed, is_image=num_frames == 1)]
    seeds = [seed + index for index in range(num_videos_per_prompt)]
    targets = [[_numbered(path, index, len(seeds)) for path in paths] for index in range(len(seeds))]
    _check_writable([path for video in targets for path in video])
    given: dict[str, Any] = {} if image is None else {"image": _read_image(image, max_pixels)}

    pipe = _load_pipeline(source, dtype, device)
    _check_scale(scale, *(resolve_default(name, settings[name], pipe.config) for name in ("height", "width")))
    _load_loras(pipe, adapters)
    if video is not None:
        length, rate = (int(resolve_default(name, settings[name], pipe.config)) for name in ("num_frames", "fps"))
        given["video"] = _read_video(video, length, rate, max_pixels)
    frames_of_videos = pipe(
        prompt,
        negative_prompt=negative_prompt,
        num_videos_per_prompt=num_videos_per_prompt,
        generator=_generators(seeds),
        approximations="fast" if fast else None,
        **settings,
        **given,
    ).frames
    rate = int(resolve_default("fps", fps, pipe.config))
    for video_seed, frames, video_paths in zip(seeds, frames_of_videos, targets, strict=True):
        _write(frames, video_paths, scale, rate, video_seed)


@app.command(cls=_Command)
def tokenize(
    data: Annotated[
        str,
        typer.Argument(
            help="A folder of images and videos, with captions in metadata.csv, metadata.jsonl or text files beside them; "
            "a .csv or .jsonl file with the columns path and text; or a data set, in a folder or on the Hub.",
            metavar="DATA",
            show_default=False,
        ),
    ],
    model: Annotated[str, _option(metavar="DIR_OR_REPO", help="The checkpoint whose video tokenizer encodes.")],
    output: Annotated[
        Path,
        _option(
            "--output",
            "-o",
            metavar="DIR",
            help="The directory of the tokenised set; a run that was interrupted goes on with it.",
        ),
    ],
    fps: Annotated[
        int | None,
        _option(metavar="N", help="The frames per second of videos.", default="the checkpoint's", panel=CLIPS),
    ] = None,
    duration: Annotated[
        int | None,
        _option(
            metavar="N",
            help="The seconds of each video; fps * duration frames are taken.",
            default="the checkpoint's",
            panel=CLIPS,
        ),
    ] = None,
    num_frames: Annotated[
        int | None, _option(metavar="N", help="The frames of each video, instead of --duration.", panel=CLIPS)
    ] = None,
    position: Annotated[
        Literal["middle", "start", "random"],
        _option(
            metavar="PLACE",
            help="Takes the frames from the middle or the start of longer videos, or from a random place.",
            panel=CLIPS,
            default=True,
        ),
    ] = "middle",
    seed: Annotated[int, _option(metavar="N", help="Chooses the random places.", panel=CLIPS, default=True)] = 0,
    frames: Annotated[
        Literal["clock", "official"],
        _option(
            metavar="WHICH",
            help="clock takes frames that follow each other at --fps; official takes every n-th, 84 of them, as the official scripts "
            "take them.",
            panel=CLIPS,
            default=True,
        ),
    ] = "clock",
    max_pixels: Annotated[
        int | None,
        _option(
            metavar="N",
            min=1,
            help="An image or a frame with more pixels is skipped.",
            default=MAX_PIXELS_TEXT,
            panel=CLIPS,
        ),
    ] = None,
    height: Annotated[
        int | None, _option(metavar="N", help="A multiple of 32.", default="the checkpoint's", panel=CLIPS)
    ] = None,
    width: Annotated[
        int | None, _option(metavar="N", help="A multiple of 32.", default="the checkpoint's", panel=CLIPS)
    ] = None,
    buckets: Annotated[
        bool,
        _option(
            "--buckets/--no-buckets",
            help="Crop each clip to the size of about height x width pixels that fits its shape, or all to that size.",
            panel=CLIPS,
        ),
    ] = True,
    caption_column: Annotated[
        str, _option(metavar="NAME", help="The column of captions.", panel=COLUMNS, default=True)
    ] = "text",
    media_column: Annotated[
        str | None,
        _option(
            metavar="NAME",
            help="The column of images or videos.",
            default="path in tables, the only such column in data sets",
            panel=COLUMNS,
        ),
    ] = None,
    split: Annotated[
        str, _option(metavar="NAME", help="The split of a data set.", panel=COLUMNS, default=True)
    ] = "train",
    batch_size: Annotated[
        int, _option(metavar="N", help="The number of clips encoded together.", panel=MACHINE, default=True)
    ] = 8,
    num_proc: Annotated[
        int,
        _option(
            metavar="N",
            help="The number of processes that read clips, besides the one that encodes.",
            panel=MACHINE,
            default=True,
        ),
    ] = 0,
    clips_per_shard: Annotated[
        int,
        _option(
            metavar="N",
            help="The number of clips in a file; so many at most are done again after a kill.",
            panel=MACHINE,
            default=True,
        ),
    ] = 256,
    device: Annotated[
        str | None, _option(metavar="DEVICE", help="Such as cpu, cuda:1.", default="a GPU, or cpu", panel=MACHINE)
    ] = None,
) -> None:
    """
    Turn images and videos with captions into a tokenised set to train on.

    Files that cannot be used are skipped, listed in skipped.jsonl, and lead to exit status 3 instead of 0.

    Started by `accelerate launch` or torchrun, the processes share the work, each on its GPU; the one that finishes last
    reports, and its launcher turns exit status 3 into 1.

    Example: lumos-hf tokenize clips/ --model checkpoints/lumos-1b -o clips-tokenized --num-proc 8
    """
    _check_datasets_installed()
    from .data import process_rank, tokenize_dataset

    rank, world_size = process_rank()
    summary = tokenize_dataset(
        data,
        _check_model(model),
        output,
        fps=fps,
        duration=duration,
        num_frames=num_frames,
        position=position,
        height=height,
        width=width,
        buckets=buckets,
        seed=seed,
        frames=frames,
        **({} if max_pixels is None else {"max_pixels": max_pixels}),
        caption_column=caption_column,
        media_column=media_column,
        split=split,
        batch_size=batch_size,
        num_proc=num_proc,
        clips_per_shard=clips_per_shard,
        device=_check_device(device or _own_device()),
        rank=rank,
        world_size=world_size,
    )
    _report_tokenized("Tokenised", summary, output, rank)


@app.command(cls=_Command)
def import_tokenized(
    source: Annotated[
        Path,
        typer.Argument(
            help="A directory with records, a merge-record.json, a record in JSONL, or a yaml file of several with ratios.",
            metavar="SOURCE",
            show_default=False,
            exists=True,
        ),
    ],
    output: Annotated[
        Path,
        _option(
            "--output",
            "-o",
            metavar="DIR",
            help="The directory of the tokenised set; a run that was interrupted goes on with it.",
        ),
    ],
    seconds: Annotated[int, _option(metavar="N", help="Cuts longer videos to so many seconds.", default=True)] = 2,
    whole: Annotated[bool, _option("--whole", help="Cuts nothing.")] = False,
    fps: Annotated[
        int | None, _option(metavar="N", help="Frames per second that videos must have.", default="any")
    ] = None,
    captions: Annotated[
        list[Path] | None,
        _option(
            metavar="FILE",
            help="Table whose row N is the caption of item N; of several sets, to be given for each.",
            default="captions.csv beside a record, if there is one",
            exists=True,
        ),
    ] = None,
    caption_column: Annotated[
        str, _option(metavar="NAME", help="The column of captions in these tables.", default=True)
    ] = "text",
    model: Annotated[
        str | None,
        _option(
            metavar="DIR_OR_REPO",
            help="The checkpoint whose token ids the sets were made with.",
            default="the official ones",
        ),
    ] = None,
    num_proc: Annotated[
        int,
        _option(
            metavar="N", help="The number of processes that read items, besides this one.", panel=MACHINE, default=True
        ),
    ] = 0,
    clips_per_shard: Annotated[
        int,
        _option(
            metavar="N",
            help="The number of clips in a file; so many at most are done again after a kill.",
            panel=MACHINE,
            default=True,
        ),
    ] = 256,
) -> None:
    """
    Read official pre-tokenised sets.

    The text's placeholders are filled in and longer videos are cut, as in the official training. Items that cannot be used
    are skipped, listed in skipped.jsonl, and lead to exit status 3. Processes share the work as for tokenize.

    Example: lumos-hf import-tokenized pre_tokenize/data/videos -o videos-tokenized --seconds 2
    """
    _check_datasets_installed()
    from .data import import_tokenized_dataset, process_rank

    rank, world_size = process_rank()
    summary = import_tokenized_dataset(
        source,
        output,
        seconds=None if whole else seconds,
        fps=fps,
        captions=captions or (),
        caption_column=caption_column,
        model=None if model is None else _check_model(model),
        num_proc=num_proc,
        clips_per_shard=clips_per_shard,
        rank=rank,
        world_size=world_size,
    )
    _report_tokenized("Imported", summary, output, rank)


@app.command(cls=_Command)
def export_tokenized(
    data: Annotated[
        Path, typer.Argument(help="Directory of a tokenised set.", metavar="DATA", show_default=False, exists=True)
    ],
    output: Annotated[
        Path, _option("--output", "-o", metavar="DIR", help="The directory to write, which must be new.")
    ],
    model: Annotated[
        str | None,
        _option(
            metavar="DIR_OR_REPO",
            help="Checkpoint whose text tokenizer encodes captions; imported sets do without.",
            default="the official token ids",
        ),
    ] = None,
    path_prefix: Annotated[
        str | None,
        _option(
            metavar="PATH",
            help="What stands before the names of files in the records, seen from where the official trainer starts.",
            default="the absolute path of the new directory",
        ),
    ] = None,
) -> None:
    """
    Write a tokenised set in the official layout.

    The official trainer reads it, and import-tokenized.

    Example: lumos-hf export-tokenized clips-tokenized -o clips-official --model checkpoints/lumos-1b
    """
    _check_datasets_installed()
    from .data import export_tokenized_dataset

    num_items = export_tokenized_dataset(
        data, output, model=None if model is None else _check_model(model), path_prefix=path_prefix
    )
    typer.echo(f"Wrote {num_items} items to {output}.")


@app.command(cls=_Command)
def card(
    model: Annotated[Path, _option(metavar="DIR", help="The checkpoint, or LoRA weights.", exists=True)],
    output: Annotated[
        Path | None, _option(metavar="FILE", help="The file to write.", default="README.md in there")
    ] = None,
    name: Annotated[
        str | None,
        _option(metavar="USER/NAME", help="The repository that the card is for.", default="the checkpoint's path"),
    ] = None,
    license: Annotated[
        str | None, _option(metavar="ID", help="The licence, such as apache-2.0.", default="left out")
    ] = None,
    base_model: Annotated[
        list[str] | None,
        _option(metavar="USER/NAME", help="What the checkpoint was made from; may be given several times."),
    ] = None,
    language: Annotated[
        list[str], _option(metavar="CODE", help="A language of prompts; may be given several times.", default=True)
    ] = ["en"],
    tag: Annotated[
        list[str] | None, _option(metavar="TAG", help="A tag beside the usual ones; may be given several times.")
    ] = None,
    template: Annotated[
        Path | None,
        _option(metavar="FILE", help="A text with the variables of model_card_template.md or lora_card_template.md."),
    ] = None,
    scores: Annotated[
        Path | None, _option(metavar="FILE", help="A file like the scores.json of make demo-score.")
    ] = None,
    sample: Annotated[
        list[str] | None,
        _option(
            metavar="FILE", help="A picture or video to show, by its path from the card; may be given several times."
        ),
    ] = None,
    training_data: Annotated[str | None, _option(metavar="TEXT", help="What the checkpoint was trained on.")] = None,
    limits: Annotated[str | None, _option(metavar="TEXT", help="What the checkpoint cannot do.")] = None,
) -> None:
    """
    Write the model card of a checkpoint, or of LoRA weights.

    Example: lumos-hf card --model my-lumos --name me/my-lumos --license apache-2.0
    """
    from .hub.lora_card import LORA_TEMPLATE, is_lora_directory, lora_card
    from .hub.model_card import TAGS, TEMPLATE, model_card, write_card

    common = {
        "name": name,
        "license": license,
        "language": language,
        "tags": [*TAGS, *(tag or [])],
        "training_data": training_data,
        "limits": limits,
    }
    if is_lora_directory(model):
        base = _check_options_of_lora_card(scores, sample, base_model)
        content = lora_card(model, base_model=base, template=template or LORA_TEMPLATE, **common)
    else:
        content = model_card(
            model,
            base_model=base_model,
            template=template or TEMPLATE,
            scores=scores,
            samples=sample or [],
            **common,
        )
    path = output or model / "README.md"
    write_card(path, content)
    typer.echo(f"Wrote {path}.")


@app.command(cls=_Command)
def push(
    model: Annotated[Path, _option(metavar="DIR", help="The checkpoint.", exists=True)],
    repo: Annotated[str, _option(metavar="USER/NAME", help="The repository; it is made if it is not there.")],
    private: Annotated[bool, _option("--private", help="Hides a new repository from others.")] = False,
) -> None:
    """
    Publish a checkpoint on the Hub, as it is.

    It needs a model card, see `lumos-hf card`. Log in before with `hf auth login`.
    """
    from .hub.checkpoint_files import check_complete
    from .hub.hub_errors import describe_hub_error
    from .hub.pipeline_repository import publish

    check_complete(model)
    try:
        commit = publish(model, repo, private=private or None)
    except OSError as error:
        reason = describe_hub_error(error, repo)
        raise OSError(f"'{model}' could not be published as '{repo}': {reason}") from error
    typer.echo(f"Wrote {commit.commit_url}.")


@app.command(cls=_Command)
def export_remote_code(
    model: Annotated[Path, _option(metavar="DIR", help="The checkpoint.", exists=True)],
    output: Annotated[Path, _option(metavar="DIR", help="The directory to write, which must be new.")],
) -> None:
    """
    Copy a checkpoint together with all of its code.

    `DiffusionPipeline.from_pretrained(DIR, trust_remote_code=True)` of diffusers then loads it without this package.
    """
    from .conversion.remote_code import export_remote_code

    export_remote_code(model, output)


@app.command(cls=_Command, epilog=f"Checkpoints of RELEASE: {', '.join(OFFICIAL_CHECKPOINTS)}.")
def convert(
    output: Annotated[
        Path, _option("--output", "-o", metavar="DIR", help="The directory to write, which must be new.")
    ],
    release: Annotated[
        str | None,
        typer.Argument(
            metavar="RELEASE",
            help=f"The official release, {OFFICIAL_REPOSITORY}, or a directory laid out like it.",
            show_default=False,
        ),
    ] = None,
    checkpoint: Annotated[
        str | None,
        _option(metavar="NAME", help="Which one of RELEASE, see below. What it was made for becomes its defaults."),
    ] = None,
    lumos: Annotated[
        str | None,
        _option(metavar="DIR_OR_REPO", help="The official model instead of a release: config.json and safetensors."),
    ] = None,
    cosmos: Annotated[
        str | None,
        _option(
            metavar="DIR_OR_REPO",
            help="NVIDIA's Cosmos-Tokenizer-DV4x8x8: encoder.jit and decoder.jit.",
            default="NVIDIA's repository",
        ),
    ] = None,
    text_tokenizer: Annotated[
        str | None,
        _option(
            metavar="FILE_OR_DIR_OR_REPO",
            help="The official text_tokenizer.json, or the tokenizer.json of Chameleon or Lumina-mGPT.",
            default="Lumina-mGPT's repository",
        ),
    ] = None,
    code_names: Annotated[
        str | None,
        _option(
            metavar="FILE_OR_DIR_OR_REPO",
            help="The official text_tokenizer.json, for the ids of the visual codes where --text-tokenizer has none.",
            default="that of the release, or 65536 + code",
        ),
    ] = None,
    dtype: Annotated[Dtype | None, _option(metavar="DTYPE", help=DTYPE_HELP, default="that of each part")] = None,
    name: Annotated[
        str | None,
        _option(metavar="NAME", help="The name of the model, for its card.", default="that of the directory"),
    ] = None,
    height: Annotated[int | None, _option(metavar="N", help="Pixels, a multiple of 32.", panel=DEFAULTS)] = None,
    width: Annotated[int | None, _option(metavar="N", help="Pixels, a multiple of 32.", panel=DEFAULTS)] = None,
    num_frames: Annotated[
        int | None, _option(metavar="N", help="4k + 1 for videos, 1 for images.", panel=DEFAULTS)
    ] = None,
    fps: Annotated[int | None, _option(metavar="N", help="Frames per second.", panel=DEFAULTS)] = None,
    num_inference_steps: Annotated[
        int | None,
        _option("--num-inference-steps", "--steps", metavar="N", help="Steps per latent frame.", panel=DEFAULTS),
    ] = None,
    guidance_scale: Annotated[
        float | None, _option(metavar="X", help="The weight of the prompt.", panel=DEFAULTS)
    ] = None,
    history_mask_ratio: Annotated[
        float | None,
        _option(metavar="X", help="The share of a finished frame that later frames do not see.", panel=DEFAULTS),
    ] = None,
    check_only: Annotated[
        bool, _option("--check-only", help="Say what would be written and what is missing, and write nothing.")
    ] = False,
) -> None:
    """
    Make a checkpoint of an official release.

    What the release consists of is given as directories, or as places on the Hub: USER/NAME[@REVISION][/SUBFOLDER].
    Everything is checked before anything is written.

    Example: lumos-hf convert Alibaba-DAMO-Academy/Lumos-1 --checkpoint 1B/v2-stage2-joint-384p-sft -o lumos-1-1b

    Example: lumos-hf convert --lumos Lumos-1-1B --cosmos Cosmos-Tokenizer-DV4x8x8 --text-tokenizer text_tokenizer.json
    -o lumos-1-1b --dtype bf16
    """
    defaults = {
        "height": height,
        "width": width,
        "num_frames": num_frames,
        "fps": fps,
        "num_inference_steps": num_inference_steps,
        "guidance_scale": guidance_scale,
        "history_mask_ratio": history_mask_ratio,
    }
    from . import conversion

    if (release is None) == (lumos is None):
        raise ValueError("Give either RELEASE and `--checkpoint`, or `--lumos`.")
    options = {
        "dtype": None if dtype is None else _torch_dtype(dtype),
        "pipeline_defaults": {name: value for name, value in defaults.items() if value is not None},
    }
    if release is not None:
        if code_names is not None:
            raise ValueError("`--code-names` goes with `--lumos`; RELEASE has a file of its own.")
        sources = {"cosmos_dir": cosmos, "text_tokenizer": text_tokenizer}
        if check_only:
            return _report_plan(
                conversion.plan_official_release(release, checkpoint, output, **sources, **options), output
            )
        conversion.convert_official_release(release, checkpoint, output, name=name, **sources, **options)
    else:
        if checkpoint is not None:
            raise ValueError("`--checkpoint` goes with RELEASE, got `--lumos`.")
        parts = (lumos, cosmos, text_tokenizer, output)
        if check_only:
            return _report_plan(conversion.plan_conversion(*parts, code_names=code_names, **options), output)
        conversion.convert_original_checkpoint(*parts, code_names=code_names, name=name, **options)
    typer.echo(f"Wrote {output}. Try it: lumos-hf generate PROMPT --model {output}")


def _report_plan(plan: "ConversionPlan", output: Path) -> None:
    typer.echo(f"Would write {output}:")
    for line in plan.written:
        typer.echo(f"  {line}")
    typer.echo("Defaults: " + ", ".join(f"{name} {value}" for name, value in plan.defaults.items()))
    for source, size in plan.downloaded.items():
        typer.echo(f"Would download {size / 1e9:.2f} GB from {source}.")
    for line in plan.missing:
        typer.secho(f"Missing: {line}", fg=typer.colors.RED, err=True)
    if plan.missing:
        raise typer.Exit(2)
    typer.echo("Nothing is missing.")


@app.command(cls=_Command)
def export(
    model: Annotated[str, _option(metavar="DIR_OR_REPO", help="The checkpoint to be exported.")],
    output: Annotated[
        Path, _option("--output", "-o", metavar="DIR", help="The directory to write, which must be new.")
    ],
) -> None:
    """
    Write a checkpoint in the official layout.

    Gives lumos/, text_tokenizer.json and cosmos/. The weights of the video tokenizer come as safetensors under their
    official names, to be loaded into the official network.
    """
    from .conversion import export_original_checkpoint

    export_original_checkpoint(model, output)
    typer.echo(f"Wrote {output}.")


def main() -> None:
    """Runs the command line."""
    # Importing allocates a million objects that stay; looking through them for garbage takes a fifth of the time.
    gc.disable()
    app()


def _check_options_of_lora_card(
    scores: Path | None, sample: list[str] | None, base_model: list[str] | None
) -> str | None:
    """The only base model."""
    for name, value in (("scores", scores), ("sample", sample)):
        if value:
            raise ValueError(f"`{name}` belongs to the card of a checkpoint, not to that of LoRA weights.")
    if len(base_model or []) > 1:
        raise ValueError(f"`base_model` of LoRA weights must be one, got {', '.join(base_model or [])}.")
    return base_model[0] if base_model else None


def _default_path(prompt: str, seed: int, is_image: bool) -> Path:
    words = "-".join(re.findall(r"[a-z0-9]+", prompt.lower())) or "lumos"
    return Path("outputs") / f"{words[:60]}-{seed}.{'png' if is_image else 'mp4'}"


def _numbered(path: Path, index: int, count: int) -> Path:
    return path if count == 1 else path.with_stem(f"{path.stem}-{index}")


def _check_writable(paths: list[Path]) -> None:
    """Refuses what could not be written once all the work is done."""
    from .media import check_media_path

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


def _read_image(path: Path, max_pixels: int | None) -> "Image.Image":
    from .image_reading import MAX_PIXELS, read_image_file

    # The decoder that the official code uses for this task.
    try:
        return read_image_file(path, decoder="ffmpeg", max_pixels=max_pixels or MAX_PIXELS)
    except ValueError as error:
        raise ValueError(f"`image` '{path}' cannot be used: {error}.") from error


def _read_video(path: Path, num_frames: int, fps: int, max_pixels: int | None) -> list["Image.Image"]:
    import av

    from .data.clip_reading import read_first_frames
    from .image_reading import MAX_PIXELS

    try:
        with path.open("rb") as file:
            return read_first_frames(file, num_frames, fps, max_pixels or MAX_PIXELS)
    except (ValueError, av.FFmpegError) as error:
        raise ValueError(f"`video` '{path}' cannot be used: {error}.") from error


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


def _generators(seeds: list[int]) -> list["torch.Generator"]:
    import torch

    return [torch.Generator().manual_seed(seed) for seed in seeds]


def _write(frames: list["Image.Image"], paths: list[Path], scale: int, fps: int, seed: int) -> None:
    from PIL import Image

    from .media import write_media

    frames = [frame.resize((frame.width * scale, frame.height * scale), Image.Resampling.LANCZOS) for frame in frames]
    for path in paths:
        write_media(path, frames, fps=fps)
        typer.echo(f"Wrote {path} ({_describe(frames)}, seed {seed}).")


def _demo_source() -> Path:
    typer.echo(
        "Using the demo checkpoint, which knows a small world only. Another one is loaded with --model DIR_OR_REPO.",
        err=True,
    )
    return demo_checkpoint()


def _load_pipeline(source: str | Path, dtype: Dtype | None, device: str | None) -> "LumosVideoPipeline":
    target = _check_device(device or _own_device())

    from .hub.hub_errors import describe_hub_error
    from .pipeline_lumos_video import LumosVideoPipeline

    torch_dtype = _torch_dtype(dtype or ("float32" if target.type == "cpu" else "bfloat16"))
    try:
        return LumosVideoPipeline.from_pretrained(source, dtype=torch_dtype).to(target)
    except OSError as error:
        raise ValueError(
            f"The checkpoint '{source}' could not be loaded: {describe_hub_error(error, str(source))}"
        ) from error


def _torch_dtype(name: Dtype) -> "torch.dtype":
    import torch

    short_names = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
    return getattr(torch, short_names.get(name, name))


def _check_device(name: str) -> "torch.device":
    import torch

    try:
        device = torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"`device` must be one that PyTorch can use here, got '{name}': {reason}") from error
    if device.type == "meta":
        raise ValueError("`device` must be one that can compute, got 'meta'.")
    return device


def _check_model(model: str) -> str:
    if not Path(model).is_dir() and not re.fullmatch(r"[\w.-]+/[\w.-]+", model):
        raise ValueError(f"`model` must be an existing directory or a repository like USER/NAME, got '{model}'.")
    return model


def _check_datasets_installed() -> None:
    if importlib.util.find_spec("datasets") is None:
        raise ValueError("Tokenised sets need datasets, which comes with `pip install lumos_hf[train]`.")


def _own_device() -> str:
    """A GPU for each process of this machine, where there are any."""
    import torch

    return f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if torch.cuda.is_available() else "cpu"


def _report_tokenized(done: str, summary: "TokenizationSummary", output: Path, rank: int) -> None:
    if summary.num_unfinished_shards > 0:
        typer.echo(f"Process {rank} is done; {summary.num_unfinished_shards} shards of other processes are not.")
        return
    typer.echo(f"{done} {summary.num_rows} of {summary.num_clips} clips into {output}.")
    if not summary.skipped:
        return
    typer.echo(f"Skipped {len(summary.skipped)}, listed in {output / 'skipped.jsonl'}:", err=True)
    for clip in summary.skipped[:_MAX_SKIPPED_SHOWN]:
        typer.echo(f"  {clip}", err=True)
    if len(summary.skipped) > _MAX_SKIPPED_SHOWN:
        typer.echo(f"  and {len(summary.skipped) - _MAX_SKIPPED_SHOWN} more.", err=True)
    raise typer.Exit(SKIPPED_STATUS)


def _describe(frames: list["Image.Image"]) -> str:
    count = "an image" if len(frames) == 1 else f"{len(frames)} frames"
    return f"{count} of {frames[0].width}x{frames[0].height}"
