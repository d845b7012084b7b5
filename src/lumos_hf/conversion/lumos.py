# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
Official Lumos-1 transformer checkpoints into [`LumosForCausalLM`].

The official model is a Chameleon with extra fields: `config.json` uses its names, and the weights use the names that
this package uses too. What it carries beyond the transformer (an unused image tokenizer, rotary tables) is left out;
anything else that does not fit is an error.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from ..configuration_lumos import LumosConfig
from ..modeling_lumos import LumosForCausalLM


_WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)

# Special token ids are not among them: the official code takes them from its text tokenizer, not from here.
_SHARED_CONFIG_FIELDS = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "hidden_act",
    "max_position_embeddings",
    "initializer_range",
    "rms_norm_eps",
    "use_cache",
    "tie_word_embeddings",
    "attention_bias",
    "attention_dropout",
    "mlp_bias",
    "model_parallel_size",
)

_UNUSED_PREFIXES = ("model.vqmodel.",)
_UNUSED_SUFFIXES = ("rotary_emb.inv_freq",)


def convert_lumos_model(
    source_dir: str | Path, *, dtype: str | torch.dtype | None = None, **config_overrides: Any
) -> LumosForCausalLM:
    """
    Loads an official checkpoint.

    Args:
        source_dir: a directory with the official `config.json` and the weights as `model.safetensors` or
            `pytorch_model.bin`, whole or in shards with an index.
        dtype: of the weights; defaults to that of the official config, or else of the stored embedding.
        config_overrides: fields of [`LumosConfig`]. The official config does not say where the visual ids are; by
            default they start at 65536 and are 64000.

    Returns:
        The model on the CPU, in evaluation mode.

    Raises:
        ValueError: if the directory, its config or a weight file is missing, an override is no field of the config, the
            config asks for something this model does not have, or the weights do not fit it; all unexpected, missing
            and misshapen names are listed.
    """
    source_dir = Path(source_dir)
    if not source_dir.is_dir():
        raise ValueError(f"`source_dir` must be a directory, got '{source_dir}'.")
    official_config = _read_json(_existing_file(source_dir, "config.json"))
    config = _convert_config(official_config, config_overrides)
    state_dict = _load_weights(source_dir)
    _check_weights(state_dict, config, source_dir)

    if dtype is None:
        dtype = official_config.get("torch_dtype") or official_config.get("dtype")
    if dtype is None:
        dtype = state_dict["model.embed_tokens.weight"].dtype
    return LumosForCausalLM.from_pretrained(None, config=config, state_dict=state_dict, dtype=dtype)


def _convert_config(official: dict[str, Any], overrides: dict[str, Any]) -> LumosConfig:
    allowed = {field.name for field in dataclasses.fields(LumosConfig)}
    unknown = sorted(set(overrides) - allowed)
    if unknown:
        raise ValueError(f"`config_overrides` must be fields of LumosConfig, got {', '.join(unknown)}.")
    if official.get("swin_norm"):
        raise ValueError(
            "`swin_norm` must be false in the official config: LumosForCausalLM normalises before a layer."
        )

    fields = {name: official[name] for name in _SHARED_CONFIG_FIELDS if official.get(name) is not None}
    fields["position_encoding"] = "mm_rope" if official.get("mm_rope", True) else "rope_1d"
    fields["rope_parameters"] = _convert_rope_parameters(official)
    return LumosConfig(**{**fields, **overrides})


def _convert_rope_parameters(official: dict[str, Any]) -> dict[str, Any]:
    parameters = {"rope_type": "default", "rope_theta": official.get("rope_theta", 10000.0)}
    scaling = dict(official.get("rope_scaling") or {})
    if "type" in scaling:
        scaling.setdefault("rope_type", scaling.pop("type"))
    return {**parameters, **scaling}


def _load_weights(source_dir: Path) -> dict[str, torch.Tensor]:
    present = [name for name in _WEIGHT_FILES if (source_dir / name).is_file()]
    if not present:
        raise ValueError(f"'{source_dir}' must hold one of {', '.join(_WEIGHT_FILES)}.")

    weights_file = source_dir / present[0]
    if weights_file.suffix != ".json":
        tensors = _load_file(weights_file)
    else:
        tensors = {}
        for shard in sorted(set(_read_json(weights_file)["weight_map"].values())):
            tensors.update(_load_file(_existing_file(source_dir, shard)))
    return {name: tensor for name, tensor in tensors.items() if not _is_unused(name)}


def _load_file(path: Path) -> dict[str, torch.Tensor]:
    if path.suffix == ".safetensors":
        return load_file(path)
    return torch.load(path, map_location="cpu", weights_only=True)


def _is_unused(name: str) -> bool:
    return name.startswith(_UNUSED_PREFIXES) or name.endswith(_UNUSED_SUFFIXES)


def _check_weights(state_dict: dict[str, torch.Tensor], config: LumosConfig, source_dir: Path) -> None:
    with torch.device("meta"):
        model = LumosForCausalLM(config)
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in state_dict.items()}

    optional = model.all_tied_weights_keys if config.tie_word_embeddings else {}
    problems = {
        "unexpected": sorted(set(found) - set(expected)),
        "missing": sorted(set(expected) - set(found) - set(optional)),
        "of the wrong shape": [
            f"{name} {found[name]} instead of {expected[name]}"
            for name in sorted(set(expected) & set(found))
            if found[name] != expected[name]
        ],
    }
    messages = [f"{kind}: {', '.join(names)}" for kind, names in problems.items() if names]
    if messages:
        raise ValueError(f"The weights in '{source_dir}' do not fit its config. " + "; ".join(messages) + ".")


def _existing_file(directory: Path, name: str) -> Path:
    path = directory / name
    if not path.is_file():
        raise ValueError(f"'{directory}' must hold the file '{name}'.")
    return path


def _read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))
