# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""`lumos-hf card`, `export-space` and `push`: model cards, Spaces, and both on the Hub."""

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from .options import NewDirectory, option


CardFile = Annotated[Path | None, option(metavar="FILE", help="The file to write.", default="README.md in there")]
RepositoryName = Annotated[
    str | None,
    option(metavar="USER/NAME", help="The repository that the card is for.", default="the checkpoint's path"),
]
License = Annotated[str | None, option(metavar="ID", help="The licence, such as apache-2.0.", default="left out")]
BaseModels = Annotated[
    list[str] | None,
    option(metavar="USER/NAME", help="What the checkpoint was made from; may be given several times."),
]
Languages = Annotated[
    list[str], option(metavar="CODE", help="A language of prompts; may be given several times.", default=True)
]
Tags = Annotated[
    list[str] | None, option(metavar="TAG", help="A tag beside the usual ones; may be given several times.")
]
Template = Annotated[
    Path | None,
    option(metavar="FILE", help="A text with the variables of model_card_template.md or lora_card_template.md."),
]
Scores = Annotated[Path | None, option(metavar="FILE", help="A file like the scores.json of make demo-score.")]
Samples = Annotated[
    list[str] | None,
    option(metavar="FILE", help="A picture or video to show, by its path from the card; may be given several times."),
]


def card(
    model: Annotated[Path, option(metavar="DIR", help="The checkpoint, or LoRA weights.", exists=True)],
    output: CardFile = None,
    name: RepositoryName = None,
    license: License = None,
    base_model: BaseModels = None,
    language: Languages = ["en"],
    tag: Tags = None,
    template: Template = None,
    scores: Scores = None,
    sample: Samples = None,
    training_data: Annotated[str | None, option(metavar="TEXT", help="What the checkpoint was trained on.")] = None,
    limits: Annotated[str | None, option(metavar="TEXT", help="What the checkpoint cannot do.")] = None,
) -> None:
    """
    Write the model card of a checkpoint, or of LoRA weights.

    Example: lumos-hf card --model my-lumos --name me/my-lumos --license apache-2.0
    """
    from ..hub.lora_card import LORA_TEMPLATE, is_lora_directory, lora_card
    from ..hub.model_card import TAGS, TEMPLATE, model_card, write_card

    common: dict[str, Any] = {
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


def export_space(
    output: NewDirectory,
    model: Annotated[
        str | None,
        option(
            metavar="USER/NAME",
            help="The repository of the checkpoint.",
            default="the demo checkpoint of this package",
        ),
    ] = None,
    title: Annotated[
        str | None, option(metavar="TEXT", help="The title of the Space.", default="of the model's name")
    ] = None,
    requirement: Annotated[
        str | None,
        option(metavar="TEXT", help="What pip installs as lumos_hf, such as a URL.", default="its repository"),
    ] = None,
) -> None:
    """
    Write a Space of the Hub: the page of `lumos-hf app`, also for ZeroGPU.

    Example: lumos-hf export-space --model me/lumos-1b -o page && lumos-hf push --model page --repo me/lumos-page
    """
    if model is not None and not re.fullmatch(r"\w[\w.-]*/[\w.-]+", model):
        raise ValueError(f"`model` must be a repository like USER/NAME, which the Space can load, got '{model}'.")

    from ..conversion.weight_files import check_new_directory
    from ..files import whole_directory
    from ..hub.space_files import write_space

    check_new_directory("output", output)
    with whole_directory(output) as directory:
        write_space(directory, model=model, title=title, requirement=requirement)
    typer.echo(f"Wrote {output}.")


def push(
    model: Annotated[Path, option(metavar="DIR", help="The checkpoint, or a Space of export-space.", exists=True)],
    repo: Annotated[str, option(metavar="USER/NAME", help="The repository; it is made if it is not there.")],
    private: Annotated[bool, option("--private", help="Hides a new repository from others.")] = False,
) -> None:
    """
    Publish a checkpoint or a Space on the Hub, as it is.

    A checkpoint needs a model card, see `lumos-hf card`. Log in before with `hf auth login`.
    """
    from ..hub.checkpoint_files import check_complete
    from ..hub.hub_errors import describe_hub_error
    from ..hub.pipeline_repository import publish
    from ..hub.space_files import is_space

    space_sdk = "gradio" if is_space(model) else None
    if space_sdk is None:
        check_complete(model)
    try:
        commit = publish(model, repo, private=private or None, space_sdk=space_sdk)
    except OSError as error:
        reason = describe_hub_error(error, repo)
        raise OSError(f"'{model}' could not be published as '{repo}': {reason}") from error
    typer.echo(f"Wrote {commit.commit_url}.")
