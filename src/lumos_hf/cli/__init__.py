# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
The command `lumos-hf`.

Notable: nothing but typer is imported until a command has checked its options, since PyTorch, transformers and diffusers
take seconds. Options are named as in a call of the pipeline, and errors name the option.
"""

import gc
from typing import Annotated

import typer

from .. import __version__
from ..generation_defaults import OFFICIAL_CHECKPOINTS
from ..termination import interrupt_on_termination
from .checkpoint_conversion import convert, export, export_remote_code
from .command import Command
from .evaluation import evaluate
from .generation import generate
from .page import serve_app
from .publication import card, export_space, push
from .serving import serve
from .tokenized_sets import export_tokenized, import_tokenized, tokenize


app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    # The other mode takes square brackets in help texts for its own.
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


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


# In the order of the help page.
app.command(cls=Command)(generate)
app.command("app", cls=Command)(serve_app)
app.command(cls=Command)(serve)
for _function in (tokenize, import_tokenized, export_tokenized, card, export_space, push, export_remote_code):
    app.command(cls=Command)(_function)
app.command(cls=Command, epilog=f"Checkpoints of RELEASE: {', '.join(OFFICIAL_CHECKPOINTS)}.")(convert)
app.command(cls=Command)(export)
app.add_typer(evaluate, name="evaluate")


def main() -> None:
    """Runs the command line; SIGINT and SIGTERM end it with status 130."""
    interrupt_on_termination()
    # Importing allocates a million objects that stay; looking through them for garbage takes a fifth of the time.
    gc.disable()
    app()
