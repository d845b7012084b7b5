# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""How a command ends when something is wrong that its user can mend."""

import itertools
import re
import traceback
from typing import Any

import typer
from typer.core import TyperCommand, TyperOption


_ADDRESS = re.compile(r"local|auto|(ray://)?[\w.-]+:\d+")


class Command(TyperCommand):
    """Turns errors that the user can mend into one message and exit status 2, as of wrong options."""

    def parse_args(self, context: Any, args: list[str]) -> list[str]:
        return super().parse_args(context, _with_address(args))

    # The class of `context` is of click, which newer releases of typer keep to themselves.
    def invoke(self, context: Any) -> Any:
        try:
            return super().invoke(context)
        except (ValueError, OSError) as error:
            if context.find_root().params["debug"]:
                traceback.print_exception(error)
            typer.secho(f"Error: {self.in_terms_of_options(str(error))}", fg=typer.colors.RED, err=True)
            raise typer.Exit(2) from error

    def in_terms_of_options(self, message: str) -> str:
        """A message that names arguments of Python, with the options of the command in their place."""
        names = {parameter.name: _shown_name(parameter) for parameter in self.params}
        return re.sub(r"`(\w+)`", lambda match: f"`{names.get(match[1], match[1])}`", message)


def _with_address(args: list[str]) -> list[str]:
    """The arguments, with an address after `--ray` where none is given."""
    return [
        part
        for arg, follower in itertools.pairwise([*args, ""])
        for part in ((arg, "local") if arg == "--ray" and not _ADDRESS.fullmatch(follower) else (arg,))
    ]


def _shown_name(parameter: Any) -> str:
    if isinstance(parameter, TyperOption):
        return max(parameter.opts, key=len)
    # An argument without an option: as the help page calls it, if that is another word.
    return parameter.name if parameter.name == parameter.metavar.lower() else parameter.metavar
