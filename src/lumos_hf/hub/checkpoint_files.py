# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""Which files a checkpoint consists of, with its weights whole, in shards, or as a variant such as "bf16"."""

import json
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

from diffusers import DiffusionPipeline

from ..files import write_json


CONFIG_FILES = {
    "tokenizer": "tokenizer_config.json",
    "transformer": "config.json",
    "vqvae": "config.json",
    "scheduler": "scheduler_config.json",
}
# Without suffix: weights may be stored as a variant, in shards, or pickled.
WEIGHT_FILES = {"transformer": "model", "vqvae": "diffusion_pytorch_model"}


def check_complete(
    directory: str | os.PathLike,
    passed_components: Collection[str] = (),
    variant: str | None = None,
    name: str | os.PathLike | None = None,
) -> None:
    """Raises `ValueError` if `directory`, called `name` in the message, lacks files; see [`missing_files`]."""
    missing = missing_files(Path(directory), passed_components, variant)
    if missing:
        raise ValueError(
            "`pretrained_model_name_or_path` must be a directory or repository written by `save_pretrained`, but "
            f"'{name or directory}' has no {', '.join(missing)}."
        )


def missing_files(directory: Path, passed_components: Collection[str] = (), variant: str | None = None) -> list[str]:
    """
    The files that a checkpoint in `directory` lacks, apart from those of components that are passed ready-made. Weights
    without the `variant` stand in for weights that do not have it.
    """
    index_file = directory / DiffusionPipeline.config_name
    if not index_file.is_file():
        return [index_file.name]
    index = json.loads(index_file.read_text(encoding="utf-8"))
    stored = [
        component
        for component in CONFIG_FILES
        if component not in passed_components and index.get(component, [None])[0] is not None
    ]
    missing = []
    for component in stored:
        config_file = f"{component}/{CONFIG_FILES[component]}"
        if not (directory / config_file).is_file():
            missing.append(config_file)
        if component in WEIGHT_FILES:
            missing.extend(_missing_weights(directory, component, variant))
    return missing


def _missing_weights(directory: Path, component: str, variant: str | None) -> list[str]:
    stem = f"{component}/{WEIGHT_FILES[component]}"
    suffixes = [""] if variant is None else [f".{variant}", ""]
    for suffix in suffixes:
        index_file = directory / f"{stem}.safetensors.index{suffix}.json"
        if index_file.is_file():
            shards = set(json.loads(index_file.read_text(encoding="utf-8"))["weight_map"].values())
            return sorted(f"{component}/{shard}" for shard in shards if not (directory / component / shard).is_file())
        if any((directory / f"{stem}{suffix}.{ending}").is_file() for ending in ("safetensors", "bin")):
            return []
    return [f"{stem}.safetensors"]


def file_patterns(component: str, variant: str | None) -> list[str]:
    """The files of a component, its weights in the given variant alone."""
    if component not in WEIGHT_FILES:
        return [f"{component}/*"]
    stem = f"{component}/{WEIGHT_FILES[component]}{'' if variant is None else f'.{variant}'}"
    return [f"{component}/*.json", f"{stem}.safetensors", f"{stem}-*-of-*.safetensors"]


def update_json(file: Path, **entries: Any) -> None:
    """Sets entries of a JSON object in a file, or removes those that are None; the file is never half written."""
    content = {**json.loads(file.read_text(encoding="utf-8")), **entries}
    for name in [name for name, value in entries.items() if value is None]:
        del content[name]
    write_json(file, content, sort_keys=True)
