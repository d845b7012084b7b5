# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""`lumos-hf app`: a page to play with a checkpoint."""

import gc
import importlib.util
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..demo import demo_checkpoint
from ..generation_defaults import most_steps, resolve_default
from .model_loading import check_model, load_pipeline
from .options import DTYPE_HELP, MACHINE, Device, Dtype, Model, number, option


if TYPE_CHECKING:
    from ..pipeline_lumos_video import LumosVideoPipeline
    from ..serving import JobLimits


VISITORS = "What visitors may ask for"
# Of the checkpoint's own length.
MAX_LENGTHS = 4
MAX_STEPS = 100
MAX_QUEUED = 64

Host = Annotated[
    str, option(metavar="ADDRESS", help="Where to listen; 0.0.0.0 lets other machines in.", default="127.0.0.1")
]
Port = Annotated[
    int | None, option(metavar="N", help="The port.", min=1, max=65535, default="a free one from 7860 on")
]
Share = Annotated[bool, typer.Option("--share", help="Makes a public address, through servers of gradio.")]
MaxArea = Annotated[int | None, number("Height times width, in pixels.", VISITORS, "the checkpoint's own")]
MaxFrames = Annotated[int | None, number("Frames of a call.", VISITORS, f"{MAX_LENGTHS} times the checkpoint's own")]
MaxSteps = Annotated[int, number("Steps per latent frame.", VISITORS, True)]
MaxQueued = Annotated[int, number("Calls that wait, of all visitors.", VISITORS, True)]
ComputeDtype = Annotated[
    Dtype | None, option(metavar="DTYPE", help=DTYPE_HELP, default="float32 on cpu, else bfloat16", panel=MACHINE)
]


def serve_app(
    model: Model = None,
    host: Host = "127.0.0.1",
    port: Port = None,
    share: Share = False,
    max_area: MaxArea = None,
    max_frames: MaxFrames = None,
    max_steps: MaxSteps = MAX_STEPS,
    max_queued: MaxQueued = MAX_QUEUED,
    device: Device = None,
    dtype: ComputeDtype = None,
) -> None:
    """
    Open a page to play with: make, continue and edit videos in a browser.

    Several visitors take turns. Needs gradio: pip install "lumos_hf[app]".
    """
    if importlib.util.find_spec("gradio") is None:
        raise ValueError('The page needs gradio: pip install "lumos_hf[app]".')
    source = demo_checkpoint() if model is None else check_model(model)
    pipe = load_pipeline(source, dtype, device)
    pipe.set_progress_bar_config(disable=True)
    limits = job_limits(pipe, max_area, max_frames, max_steps, max_queued)
    serve_until_interrupted(pipe, limits, source, host=host, port=port, share=share)


def serve_until_interrupted(
    pipe: "LumosVideoPipeline", limits: "JobLimits", checkpoint: str | Path, **options: Any
) -> None:
    """Serves the page of a pipeline; `options` are those of [`~lumos_hf.app.page.served_page`]."""
    from ..app.page import served_page
    from ..serving import JobRunner

    # `main` has it off for commands that end soon. What is there by now stays for good.
    gc.freeze()
    gc.enable()
    with JobRunner(pipe, limits) as runner, served_page(runner, checkpoint, **options):
        try:
            while True:
                time.sleep(3600)
        except KeyboardInterrupt:
            typer.echo("Closing.", err=True)


def job_limits(
    pipe: "LumosVideoPipeline",
    max_area: int | None = None,
    max_frames: int | None = None,
    max_steps: int = MAX_STEPS,
    max_queued: int = MAX_QUEUED,
) -> "JobLimits":
    """
    What clients of a pipeline may ask for; what None stands for depends on the checkpoint, as the options' help says.

    Raises:
        ValueError: if that is less than what the checkpoint does by default.
    """
    from ..serving import JobLimits

    height, width, num_frames = (
        int(resolve_default(name, None, pipe.config)) for name in ("height", "width", "num_frames")
    )
    num_steps = most_steps(resolve_default("num_inference_steps", None, pipe.config))
    for name, value, own in (
        ("max_area", max_area, height * width),
        ("max_frames", max_frames, num_frames),
        ("max_steps", max_steps, num_steps),
    ):
        if value is not None and value < own:
            raise ValueError(f"`{name}` must be at least the checkpoint's own, {own}, got {value}.")
    return JobLimits(
        max_area=max_area or height * width,
        max_num_frames=max_frames or MAX_LENGTHS * max(num_frames - 1, 1) + 1,
        max_num_inference_steps=max_steps,
        max_queued=max_queued,
    )
