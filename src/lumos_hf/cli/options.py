# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""The options that several commands have, and how an option is written."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer


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
