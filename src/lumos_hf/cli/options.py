# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""The options that several commands have, and how an option is written."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from ..process_rank import process_rank


# Headings of the help pages.
SIZE, DECODING, MACHINE = "Size of the result", "Decoding", "Machine"
DIRECTING = "Editing, going on, other prompts on the way"
CLIPS, COLUMNS = "Clips", "Columns of tables and data sets"
DEFAULTS = "Defaults of the checkpoint, where they are not the official ones"

# `MAX_PIXELS` of image_reading, which imports libraries.
MAX_PIXELS_TEXT = "67108864, of 8192x8192"

Dtype = Literal["float32", "bfloat16", "float16", "fp32", "bf16", "fp16"]
DTYPE_HELP = "float32, bfloat16 or float16; fp32, bf16 or fp16 for short."


def option(
    *names: str,
    help: str,
    metavar: str | None = None,
    default: str | bool = False,
    panel: str | None = None,
    **constraints: Any,
) -> Any:
    """An option. `default` is what its help shows as the default: a text, True for the value itself, or nothing."""
    return typer.Option(*names, metavar=metavar, help=help, show_default=default, rich_help_panel=panel, **constraints)


def number(help: str, panel: str, default: str | bool = False) -> Any:
    """An option that takes an integer."""
    return option(metavar="N", help=help, panel=panel, default=default)


Model = Annotated[
    str | None,
    option(
        metavar="DIR_OR_REPO",
        help="The checkpoint: a directory, or a repository on the Hub.",
        default="the demo checkpoint of this package",
    ),
]
NewDirectory = Annotated[
    Path, option("--output", "-o", metavar="DIR", help="The directory to write, which must be new.")
]
Device = Annotated[
    str | None, option(metavar="DEVICE", help="Such as cpu or cuda:1.", default="a GPU, or cpu", panel=MACHINE)
]
Ray = Annotated[
    str | None,
    option(
        metavar="[ADDRESS]",
        help="Shares the work out by Ray: `local`, on this machine, `auto`, on the cluster that it belongs to, or that at "
        "HOST:PORT; local if none is given.",
        panel=MACHINE,
    ),
]
NumActors = Annotated[
    int | None,
    option(
        metavar="N",
        min=1,
        help="With --ray: how many processes hold the model.",
        default="one for each GPU, or else for each machine",
        panel=MACHINE,
    ),
]


def check_ray_options(ray: str | None, num_actors: int | None) -> None:
    """
    Raises:
        ValueError: if there are actors without Ray, or Ray among the processes of a launcher.
    """
    if ray is None and num_actors is not None:
        raise ValueError(f"`num_actors` goes with `ray`, got {num_actors} without it.")
    if ray is not None and process_rank()[1] > 1:
        raise ValueError("`ray` starts processes by itself: give the command without `accelerate launch` or torchrun.")
