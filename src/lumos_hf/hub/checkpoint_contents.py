# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
Whether the files of a checkpoint hold what its configurations ask for: libraries load what is missing at random.

Headers are read, not weights. A changed bit inside of a tensor is therefore not seen.
"""

import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import safetensors
import torch
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from huggingface_hub.errors import StrictDataclassError

from ..configuration_lumos import LumosConfig
from ..cosmos_video_tokenizer import CosmosVideoTokenizer
from ..files import read_json
from ..modeling_lumos import LumosForCausalLM
from .checkpoint_files import CONFIG_FILES, weight_files


Shapes = dict[str, tuple[int, ...]]
# Of configurations whose values are of another type, or do not fit together.
_BUILD_ERRORS = (
    ArithmeticError,
    AttributeError,
    LookupError,
    RuntimeError,
    StrictDataclassError,
    TypeError,
    ValueError,
)


def check_contents(
    directory: str | os.PathLike, passed_components: Collection[str] = (), variant: str | None = None
) -> None:
    """
    Checks the files of the checkpoint in `directory`, apart from those of components that are passed ready-made.

    Raises:
        ValueError: if a JSON file cannot be read, or weights are cut off, lack tensors, or have them in another shape. The
            message names the file.
    """
    directory = Path(directory)
    index = read_json(directory / DiffusionPipeline.config_name)
    unnamed = [
        component for component in CONFIG_FILES if component not in index and component not in passed_components
    ]
    if unnamed:
        raise ValueError(f"'{directory / DiffusionPipeline.config_name}' must name the component `{unnamed[0]}`.")
    for component, config_file in CONFIG_FILES.items():
        folder = directory / component
        if component in passed_components or not (folder / config_file).is_file():
            continue
        for file in sorted(folder.glob("*.json")):
            read_json(file)
        entry = index.get(component)
        if component in _EXPECTED and isinstance(entry, list) and entry[-1] == _EXPECTED[component][0].__name__:
            _check_weights(folder / config_file, component, weight_files(directory, component, variant))


def _check_weights(config_file: Path, component: str, files: list[Path]) -> None:
    if not files or "quantization_config" in read_json(config_file):
        # Quantised tensors have names and shapes of their own.
        return
    stored: Shapes = {}
    for file in files:
        stored.update(_read_header(file))
    model_class, build, optional, repeats = _EXPECTED[component]
    described = f"'{files[0]}'" if len(files) == 1 else f"the shards in '{config_file.parent}'"
    number = read_json(config_file).get(repeats)
    # Each of them has tensors: building so many that are not there would keep the machine busy, even without weights.
    if isinstance(number, int) and number > len(stored):
        raise ValueError(
            f"{described} must have every tensor of the model, but there are {len(stored)}, where `{repeats}` in "
            f"'{config_file}' is {number}."
        )
    try:
        with torch.device("meta"):
            model = build(config_file.parent)
        expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
        tied = optional(model)
    except _BUILD_ERRORS as error:
        first_line = next(iter(str(error).splitlines()), type(error).__name__)
        raise ValueError(f"'{config_file}' is no configuration of {model_class.__name__}: {first_line}") from error
    missing = sorted(expected.keys() - stored.keys() - tied)
    if missing:
        raise ValueError(
            f"{described} must have every tensor of the model, but {len(missing)} are missing: {missing[:3]}."
        )
    for name in sorted(expected.keys() & stored.keys()):
        if expected[name] != stored[name]:
            raise ValueError(
                f"{described} has the tensor {name} as {stored[name]}, where '{config_file}' asks for {expected[name]}."
            )


def _read_header(file: Path) -> Shapes:
    try:
        with safetensors.safe_open(file, "pt") as weights:
            return {name: tuple(weights.get_slice(name).get_shape()) for name in weights.keys()}
    except (safetensors.SafetensorError, OSError) as error:
        raise ValueError(f"'{file}' is no safetensors file that can be read: {error}") from error


def _build_transformer(folder: Path) -> LumosForCausalLM:
    return LumosForCausalLM(LumosConfig.from_pretrained(folder))


def _tied_keys(model: LumosForCausalLM) -> set[str]:
    return set(model._tied_weights_keys) if model.config.tie_word_embeddings else set()


def _build_video_tokenizer(folder: Path) -> CosmosVideoTokenizer:
    return CosmosVideoTokenizer.from_config(CosmosVideoTokenizer.load_config(folder))


_Expected = tuple[type[torch.nn.Module], Callable[[Path], torch.nn.Module], Callable[[Any], set[str]], str]
# By component: its class, what builds it without weights, which tensors need not be stored, and the field of the
# configuration that says how often a module is repeated.
_EXPECTED: dict[str, _Expected] = {
    "transformer": (LumosForCausalLM, _build_transformer, _tied_keys, "num_hidden_layers"),
    "vqvae": (CosmosVideoTokenizer, _build_video_tokenizer, lambda model: set(), "layers_per_block"),
}
