# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""Model cards of LoRA weights: what they were made from, the words they have added, how they are loaded."""

import json
import os
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData, parse_local_safetensors_file_metadata

from .lora_files import PEFT_CONFIG_NAME, find_lora_file, read_lora_file, read_turbo_settings
from .model_card import TAGS, code_span, format_count, in_string, plain_text, write_card


LORA_TEMPLATE = Path(__file__).parent / "lora_card_template.md"
_MAX_WORDS = 20


def lora_card(
    directory: str | os.PathLike,
    *,
    weight_name: str | None = None,
    name: str | None = None,
    license: str | None = None,
    base_model: str | None = None,
    language: str | list[str] = "en",
    tags: list[str] | None = None,
    template: Path = LORA_TEMPLATE,
    training_data: str | None = None,
    limits: str | None = None,
) -> ModelCard:
    """
    The card of LoRA weights in a directory, in the layout of diffusers or of peft.

    Args:
        directory: has LoRA weights. A tokenizer beside it, with words of its own, is described as well.
        weight_name: which file, as [`~LumosLoraLoaderMixin.load_lora_weights`] takes it.
        name: what the weights are called, such as `"user/name"`; by default the name of the directory.
        license: identifier, such as `"apache-2.0"`.
        base_model: the checkpoint that they belong to, such as `"user/name"`; by default what their configuration says, if
            that is a repository.
        language: of prompts.
        tags: to put into the metadata; `lora` is always there.
        template: text with the variables of `lora_card_template.md`.
        training_data: Markdown on what was learned from.
        limits: Markdown on what does not work.

    Raises:
        ValueError: if there are no LoRA weights, or they cannot be read.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise ValueError(f"`directory` must be a directory with LoRA weights, got '{directory}'.")
    file = find_lora_file(directory, weight_name)
    state_dict, config = read_lora_file(file)
    config = {key.removeprefix("transformer."): value for key, value in (config or {}).items()}
    base_model = base_model or _repository(config.get("base_model_name_or_path"))
    words = _new_words(directory, config)
    data = ModelCardData(
        license=license,
        base_model=base_model,
        language=language,
        library_name="lumos_hf",
        pipeline_tag="text-to-video",
        tags=list(dict.fromkeys([*(tags or TAGS), "lora"])),
    )
    num_parameters = sum(parse_local_safetensors_file_metadata(file).parameter_count.values())
    card = ModelCard.from_template(
        data,
        template_path=str(template),
        title=plain_text((name or directory.resolve().name).rpartition("/")[2]),
        name=in_string(name or directory.resolve().name),
        base_model=plain_text(base_model) if base_model else None,
        base=in_string(base_model or "the checkpoint that they belong to"),
        weight_name=in_string(weight_name) if weight_name else None,
        words=[code_span(word) for word in words],
        size=f"{format_count(num_parameters)} parameters in {len(state_dict)} tensors",
        rank=config.get("r") if isinstance(config.get("r"), int) else None,
        alpha=config.get("lora_alpha") if isinstance(config.get("lora_alpha"), (int, float)) else None,
        turbo=read_turbo_settings(file),
        training_data=training_data,
        limits=limits,
    )
    # Jinja takes the last line break off.
    card.text += "\n"
    return card


def write_lora_card(
    directory: Path,
    weight_name: str | None = None,
    *,
    base_model: str | None = None,
    replace: bool = False,
    training_data: str | None = None,
) -> None:
    """
    Writes the card of the LoRA weights in a directory, unless there is a card already and `replace` is not set. A
    `base_model` that is no repository is left out.
    """
    card_file = directory / "README.md"
    if replace or not card_file.is_file():
        card = lora_card(
            directory, weight_name=weight_name, base_model=_repository(base_model), training_data=training_data
        )
        write_card(card_file, card)


def is_lora_directory(directory: str | os.PathLike) -> bool:
    """Whether a directory has LoRA weights, and no pipeline."""
    directory = Path(directory)
    names = (PEFT_CONFIG_NAME, "adapter_model.safetensors", "pytorch_lora_weights.safetensors")
    return not (directory / "model_index.json").exists() and any((directory / name).is_file() for name in names)


def _repository(base_model: Any) -> str | None:
    """A path of the machine that trained says nothing to others."""
    is_repository = (
        isinstance(base_model, str) and base_model.count("/") == 1 and not base_model.startswith((".", "/", "~"))
    )
    return base_model if is_repository and not Path(base_model).exists() else None


def _new_words(directory: Path, config: dict[str, Any]) -> list[str]:
    """Words of the tokenizer in the directory whose embeddings were trained."""
    rows = config.get("trainable_token_indices")
    rows = sum(rows.values(), []) if isinstance(rows, dict) else rows
    file = directory / "tokenizer.json"
    if not isinstance(rows, list) or not file.is_file():
        return []
    try:
        tokens = json.loads(file.read_text(encoding="utf-8"))["added_tokens"]
        words = [str(token["content"]) for token in tokens if token["id"] in rows]
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"'{file}' is no tokenizer that can be read: {error!r}") from error
    return words[:_MAX_WORDS]
