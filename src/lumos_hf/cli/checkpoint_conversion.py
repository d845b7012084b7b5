# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""`lumos-hf convert`, `export` and `export-remote-code`: official checkpoints, the way back, checkpoints with their code."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..generation_defaults import OFFICIAL_REPOSITORY
from .model_loading import dtype_named
from .options import DEFAULTS, DTYPE_HELP, Dtype, NewDirectory, number, option


if TYPE_CHECKING:
    from ..conversion.official_release import ConversionPlan


Release = Annotated[
    str | None,
    typer.Argument(
        metavar="RELEASE",
        help=f"The official release, {OFFICIAL_REPOSITORY}, or a directory laid out like it.",
        show_default=False,
    ),
]
CheckpointName = Annotated[
    str | None,
    option(metavar="NAME", help="Which one of RELEASE, see below. What it was made for becomes its defaults."),
]
OfficialModel = Annotated[
    str | None,
    option(
        "--lumos",
        metavar="DIR_OR_REPO",
        help="The official model instead of a release: config.json and safetensors.",
    ),
]
CosmosTokenizer = Annotated[
    str | None,
    option(
        "--cosmos",
        metavar="DIR_OR_REPO",
        help="NVIDIA's Cosmos-Tokenizer-DV4x8x8: encoder.jit and decoder.jit.",
        default="NVIDIA's repository",
    ),
]
TextTokenizer = Annotated[
    str | None,
    option(
        metavar="FILE_OR_DIR_OR_REPO",
        help="The official text_tokenizer.json, or the tokenizer.json of Chameleon or Lumina-mGPT.",
        default="Lumina-mGPT's repository",
    ),
]
CodeNames = Annotated[
    str | None,
    option(
        metavar="FILE_OR_DIR_OR_REPO",
        help="The official text_tokenizer.json, for the ids of the visual codes where --text-tokenizer has none.",
        default="that of the release, or 65536 + code",
    ),
]
StoredDtype = Annotated[Dtype | None, option(metavar="DTYPE", help=DTYPE_HELP, default="that of each part")]
ModelName = Annotated[
    str | None, option(metavar="NAME", help="The name of the model, for its card.", default="that of the directory")
]
Height = Annotated[int | None, number("Pixels, a multiple of 32.", DEFAULTS)]
Width = Annotated[int | None, number("Pixels, a multiple of 32.", DEFAULTS)]
NumFrames = Annotated[int | None, number("4k + 1 for videos, 1 for images.", DEFAULTS)]
Fps = Annotated[int | None, number("Frames per second.", DEFAULTS)]
NumInferenceSteps = Annotated[
    int | None,
    option("--num-inference-steps", "--steps", metavar="N", help="Steps per latent frame.", panel=DEFAULTS),
]
GuidanceScale = Annotated[float | None, option(metavar="X", help="The weight of the prompt.", panel=DEFAULTS)]
HistoryMaskRatio = Annotated[
    float | None,
    option(metavar="X", help="The share of a finished frame that later frames do not see.", panel=DEFAULTS),
]
CheckOnly = Annotated[
    bool, option("--check-only", help="Say what would be written and what is missing, and write nothing.")
]


def convert(
    context: typer.Context,
    output_dir: NewDirectory,
    source: Release = None,
    checkpoint: CheckpointName = None,
    lumos_dir: OfficialModel = None,
    cosmos_dir: CosmosTokenizer = None,
    text_tokenizer: TextTokenizer = None,
    code_names: CodeNames = None,
    dtype: StoredDtype = None,
    name: ModelName = None,
    height: Height = None,
    width: Width = None,
    num_frames: NumFrames = None,
    fps: Fps = None,
    num_inference_steps: NumInferenceSteps = None,
    guidance_scale: GuidanceScale = None,
    history_mask_ratio: HistoryMaskRatio = None,
    check_only: CheckOnly = False,
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
    from .. import conversion
    from ..conversion.official_release import check_checkpoint

    options: dict[str, Any] = {
        "dtype": None if dtype is None else dtype_named(dtype),
        "pipeline_defaults": {name: value for name, value in defaults.items() if value is not None},
    }
    if source is not None and lumos_dir is None:
        if code_names is not None:
            raise ValueError("`--code-names` goes with `--lumos`; RELEASE has a file of its own.")
        options |= {"cosmos_dir": cosmos_dir, "text_tokenizer": text_tokenizer}
        checkpoint = check_checkpoint(checkpoint)
        if check_only:
            plan = conversion.plan_official_release(source, checkpoint, output_dir, **options)
            return _report_plan(plan, output_dir, context)
        conversion.convert_official_release(source, checkpoint, output_dir, name=name, **options)
    elif lumos_dir is not None and source is None:
        if checkpoint is not None:
            raise ValueError("`--checkpoint` goes with RELEASE, got `--lumos`.")
        options |= {"code_names": code_names}
        if check_only:
            plan = conversion.plan_conversion(lumos_dir, cosmos_dir, text_tokenizer, output_dir, **options)
            return _report_plan(plan, output_dir, context)
        conversion.convert_original_checkpoint(lumos_dir, cosmos_dir, text_tokenizer, output_dir, name=name, **options)
    else:
        raise ValueError("Give either RELEASE and `--checkpoint`, or `--lumos`.")
    typer.echo(f"Wrote {output_dir}. Try it: lumos-hf generate PROMPT --model {output_dir}")


def _report_plan(plan: "ConversionPlan", output: Path, context: Any) -> None:
    typer.echo(f"Would write {output}:")
    for line in plan.written:
        typer.echo(f"  {line}")
    typer.echo("Defaults: " + ", ".join(f"{name} {value}" for name, value in plan.defaults.items()))
    for source, size in plan.downloaded.items():
        typer.echo(f"Would download {size / 1e9:.2f} GB from {source}.")
    for line in plan.missing:
        typer.secho(f"Missing: {context.command.in_terms_of_options(line)}", fg=typer.colors.RED, err=True)
    if plan.missing:
        raise typer.Exit(2)
    typer.echo("Nothing is missing.")


def export(
    model: Annotated[str, option(metavar="DIR_OR_REPO", help="The checkpoint to be exported.")],
    output: NewDirectory,
) -> None:
    """
    Write a checkpoint in the official layout.

    Gives lumos/, text_tokenizer.json and cosmos/. The weights of the video tokenizer come as safetensors under their
    official names, to be loaded into the official network.
    """
    from ..conversion import export_original_checkpoint

    export_original_checkpoint(model, output)
    typer.echo(f"Wrote {output}.")


def export_remote_code(
    model: Annotated[Path, option(metavar="DIR", help="The checkpoint.", exists=True)],
    output: NewDirectory,
    handler: Annotated[
        bool, typer.Option("--handler", help="Adds handler.py, which Inference Endpoints of the Hub run.")
    ] = False,
) -> None:
    """
    Copy a checkpoint together with all of its code.

    `DiffusionPipeline.from_pretrained(DIR, trust_remote_code=True)` of diffusers then loads it without this package.
    """
    from ..conversion.remote_code import export_remote_code

    export_remote_code(model, output, handler=handler)
