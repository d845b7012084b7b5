# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""`lumos-hf generate --prompts`: a file for each prompt, by one process or many."""

from typing import TYPE_CHECKING, Any

import typer

from ..demo import demo_checkpoint
from ..process_rank import process_rank
from .model_loading import checkpoint_directory
from .options import Dtype, check_ray_options
from .sample_runs import make_samples


if TYPE_CHECKING:
    from ..evaluation.prompt_run import PromptRun


def generate_many(
    model: str | None,
    options: dict[str, Any],
    dtype: Dtype | None,
    device: str | None,
    ray: str | None,
    num_actors: int | None,
) -> None:
    """
    Args:
        model: the checkpoint, None for the demo's.
        options: of [`PromptOptions`], with the file of `prompts`.
        dtype, device, ray, num_actors: see [`make_samples`].
    """
    check_ray_options(ray, num_actors)
    from ..evaluation.prompt_run import PromptOptions, PromptRun, read_prompts

    checkpoint = demo_checkpoint() if model is None else checkpoint_directory(model)
    prompts = read_prompts(options["prompts"])
    run_options = PromptOptions(checkpoint, **{**options, "prompts": prompts})

    def begin(device_type: str, dtype: str, device: str) -> "PromptRun":
        return PromptRun(run_options, device_type, dtype, device)

    run, missing = make_samples(begin, checkpoint, dtype, device, ray, num_actors)
    if missing:
        typer.echo(f"Process {process_rank()[0]} is done; {missing} samples of other processes are not.")
        return
    typer.echo(f"All {len(run.samples)} samples are in {run.record.samples_directory}.")
