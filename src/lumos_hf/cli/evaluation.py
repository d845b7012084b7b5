# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""`lumos-hf evaluate`: samples for the benchmarks, their scores, and a report of them."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..demo import demo_checkpoint
from ..process_rank import process_rank
from .command import Command
from .generation import (
    ComputeDtype,
    Fast,
    GuidanceScale,
    Height,
    HistoryMaskRatio,
    NumFrames,
    NumInferenceSteps,
    Width,
    parse_steps,
)
from .model_loading import checkpoint_directory
from .options import Device, Dtype, Model, NumActors, Ray, check_ray_options, option
from .sample_runs import load_quietly, make_samples


if TYPE_CHECKING:
    from ..evaluation.benchmark_run import BenchmarkOptions
    from ..evaluation.scorers import Scorer


PROMPTS, SCORING = "Prompts and samples", "Scores"

evaluate = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Make the samples of a benchmark, score them, and report what came out.",
)

Checkpoint = Annotated[
    str, option("--model", metavar="DIR_OR_REPO", help="The checkpoint: a directory, or a repository on the Hub.")
]
Output = Annotated[
    Path,
    option(
        "--output",
        "-o",
        metavar="DIR",
        help="The directory of the run: samples/, scores/ and run.json. A run that was interrupted goes on with it.",
        file_okay=False,
    ),
]
Standard = Annotated[
    bool,
    typer.Option(
        "--standard/--official",
        help="The benchmark's own prompts and numbers of samples, or those of the Lumos-1 release.",
        rich_help_panel=PROMPTS,
    ),
]
Prompts = Annotated[
    Path | None,
    option(
        metavar="FILE",
        help="The prompt file.",
        default="that of an installed vbench, or downloaded",
        panel=PROMPTS,
        exists=True,
        dir_okay=False,
    ),
]
FullInfo = Annotated[
    Path | None,
    option(
        metavar="FILE",
        help="VBench_full_info.json, by which --dimensions chooses official prompts of VBench-T2V.",
        default="that of an installed vbench, or downloaded",
        panel=PROMPTS,
        exists=True,
        dir_okay=False,
    ),
]
Images = Annotated[
    Path | None,
    option(
        metavar="DIR",
        help="The images of VBench-I2V, its folder crop/7-4.",
        panel=PROMPTS,
        exists=True,
        file_okay=False,
    ),
]
NumSamples = Annotated[
    int | None, option(metavar="N", help="So many of each prompt.", default="the benchmark's", panel=PROMPTS)
]
Limit = Annotated[
    int | None, option(metavar="N", help="The first so many prompts only.", default="all", panel=PROMPTS)
]
Dimensions = Annotated[
    list[str] | None,
    option(
        metavar="NAME",
        help="A dimension of the benchmark, for prompts of that alone; may be given several times.",
        default="all",
        panel=PROMPTS,
    ),
]
BatchSize = Annotated[int, option(metavar="N", help="So many samples are made together.", default=True, panel=PROMPTS)]
Score = Annotated[
    bool,
    typer.Option(
        "--score", help="Starts the benchmark's own scorer when all samples are there.", rich_help_panel=SCORING
    ),
]
ScorerPython = Annotated[
    str, option(metavar="FILE", help="The Python that the scorer is installed for.", default="this one", panel=SCORING)
]
ScorerRepo = Annotated[
    Path | None, option(metavar="DIR", help="The repository of GenEval, or VBench for VBench-I2V.", panel=SCORING)
]
Detector = Annotated[
    Path | None, option(metavar="DIR", help="The folder of GenEval's detector.", panel=SCORING, file_okay=False)
]
Runs = Annotated[
    list[Path], typer.Argument(metavar="DIR...", help="Runs of one benchmark; the first is the baseline.", exists=True)
]


def _benchmark_command(benchmark: str, summary: str) -> Callable[..., None]:
    def command(
        model: Checkpoint,
        output: Output,
        standard: Standard = False,
        prompts: Prompts = None,
        full_info: FullInfo = None,
        images: Images = None,
        num_samples: NumSamples = None,
        limit: Limit = None,
        dimensions: Dimensions = None,
        batch_size: BatchSize = 4,
        height: Height = None,
        width: Width = None,
        num_frames: NumFrames = None,
        num_inference_steps: NumInferenceSteps = None,
        guidance_scale: GuidanceScale = None,
        history_mask_ratio: HistoryMaskRatio = None,
        fast: Fast = False,
        score: Score = False,
        scorer_python: ScorerPython = sys.executable,
        scorer_repo: ScorerRepo = None,
        detector: Detector = None,
        device: Device = None,
        dtype: ComputeDtype = None,
        ray: Ray = None,
        num_actors: NumActors = None,
    ) -> None:
        check_ray_options(ray, num_actors)
        from ..evaluation.benchmark_run import BenchmarkOptions
        from ..evaluation.scorers import Scorer

        options = BenchmarkOptions(
            benchmark=benchmark,
            checkpoint=Path(model),
            output=output,
            protocol="standard" if standard else "official",
            prompts=prompts,
            full_info=full_info,
            images=images,
            num_samples=num_samples,
            limit=limit,
            dimensions=tuple(dimensions) if dimensions else None,
            batch_size=batch_size,
            settings={
                "height": height,
                "width": width,
                "num_frames": num_frames,
                "num_inference_steps": parse_steps(num_inference_steps),
                "guidance_scale": guidance_scale,
                "history_mask_ratio": history_mask_ratio,
            },
            fast=fast,
        )
        scorer = Scorer(benchmark, scorer_python, scorer_repo, detector) if score else None
        _run_benchmark(options, scorer, dtype, device, ray, num_actors)

    command.__doc__ = summary
    return command


def _run_benchmark(
    options: "BenchmarkOptions",
    scorer: "Scorer | None",
    dtype: Dtype | None,
    device: str | None,
    ray: str | None,
    num_actors: int | None,
) -> None:
    rank, world_size = process_rank()
    if scorer is not None:
        if world_size > 1:
            raise ValueError(
                "`score` is done by one process: give the same command without `accelerate launch` when all samples are "
                "there."
            )
        scorer.check_installed()

    from ..evaluation.benchmark_run import BenchmarkRun

    options = replace(options, checkpoint=checkpoint_directory(str(options.checkpoint)))

    def begin(device_type: str, dtype: str, device: str) -> BenchmarkRun:
        return BenchmarkRun(replace(options, device_type=device_type, dtype=dtype), device)

    run, missing = make_samples(begin, options.checkpoint, dtype, device, ray, num_actors)
    if missing:
        typer.echo(f"Process {rank} is done; {missing} samples of other processes are not.")
        return
    typer.echo(f"All {len(run.samples)} samples are in {run.record.samples_directory}.")
    if scorer is not None:
        run.score(scorer)
        typer.echo(f"Scores are in {run.record.scores_directory}; see `lumos-hf evaluate report {options.output}`.")


def demo(
    output: Output = Path("outputs/demo-score"),
    model: Model = None,
    limit: Limit = None,
    training_prompts: Annotated[
        bool,
        typer.Option(
            "--training-prompts",
            help="Prompts of training combinations, to choose checkpoints by.",
            rich_help_panel=PROMPTS,
        ),
    ] = False,
    fast: Fast = False,
    device: Device = None,
    dtype: ComputeDtype = None,
    ray: Ray = None,
    num_actors: NumActors = None,
) -> None:
    """
    Score a checkpoint of the demo's world, with the controls, without any other software.

    What clips promise is read back from their pixels; about 12 minutes of one core.
    """
    check_ray_options(ray, num_actors)
    from ..evaluation.demo_run import DemoRun
    from ..hub.model_card import format_table

    checkpoint = demo_checkpoint() if model is None else checkpoint_directory(model)

    def begin(device_type: str, dtype: str, device: str) -> DemoRun:
        return DemoRun(checkpoint, output, device, limit, training_prompts, fast, dtype, device_type)

    rank, _ = process_rank()
    run, missing = make_samples(begin, checkpoint, dtype, device, ray, num_actors)
    if missing or rank > 0:
        typer.echo(f"Process {rank} is done; {missing} samples of other processes are not.")
        return
    tables, num_right_examples = run.score(load_quietly(checkpoint, dtype, device))
    for title, table in tables.items():
        typer.echo(
            f"\n{title}, {run.num_prompts(title)} prompts\n\n{format_table(table)}\n\n{run.interval(title, table)}"
        )
    typer.echo(f"\nThe README's example: right with {num_right_examples} of {run.num_examples} seeds")


def report(
    directories: Runs,
    output: Annotated[
        Path | None, option("--output", "-o", metavar="DIR", help="Where to write.", default="the first run")
    ] = None,
) -> None:
    """
    Write one table and one picture of scored runs, beside what others published.

    Runs of the same prompts are compared sample by sample: what each loses and gains against the first one, and how sure
    that is.
    """
    from ..evaluation.report import read_runs, write_report

    runs = read_runs(directories)
    typer.echo(f"Wrote {write_report(runs, output or directories[0])}.")


_SUMMARIES: dict[str, Any] = {
    "geneval": """
    Make the images of GenEval, 4 for each of 553 prompts.

    Example: lumos-hf evaluate geneval --model lumos-1-1b-image -o geneval
    """,
    "vbench-t2v": """
    Make the videos of VBench-T2V, 5 for each of 944 prompts.

    Example: accelerate launch --num_processes 8 -m lumos_hf evaluate vbench-t2v --model lumos-1-1b -o vbench
    """,
    "vbench-i2v": """
    Make the videos of VBench-I2V, 5 for each of 1,118 prompts with an image.

    Example: lumos-hf evaluate vbench-i2v --model lumos-1-1b --images crop/7-4 -o vbench-i2v
    """,
}
for _name, _summary in _SUMMARIES.items():
    evaluate.command(_name, cls=Command)(_benchmark_command(_name, _summary))
evaluate.command(cls=Command)(demo)
evaluate.command(cls=Command)(report)
