# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
Official Lumos-1 transformer checkpoints into [`LumosForCausalLM`], and its config back.

The official model is a Chameleon with extra fields: `config.json` uses its names, and the weights use the names that
this package uses too. What it carries beyond the transformer (an unused image tokenizer, rotary tables) is left out;
anything else that does not fit is an error.
"""

import dataclasses
import re
from pathlib import Path
from typing import Any, cast

import torch

from ..configuration_lumos import LumosConfig
from ..files import read_json
from ..modeling_lumos import LumosForCausalLM
from .weight_files import WEIGHT_DTYPES, WeightFiles, check_fit, existing_file, reading


# What is downloaded of a release on the Hub.
LUMOS_FILES = ("config.json", "model*.safetensors", "model.safetensors.index.json")

# The names that transformers uses too.
LUMOS_WEIGHT_FILES = (
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

_UNUSED_WEIGHTS = re.compile(r"model\.vqmodel\..*|.*rotary_emb\.inv_freq")

# What an official config says beside that which follows from the model.
_OFFICIAL_CONSTANTS = {
    "architectures": ["ChameleonXLLMXForConditionalGeneration"],
    "model_type": "chameleon",
    "swin_norm": False,
    "mask_image_logits": False,
    "vocabulary_map": {"<image>": 8711},
}


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
    config, weights = open_lumos_checkpoint(source_dir, dtype=dtype, **config_overrides)
    return LumosForCausalLM.from_pretrained(None, config=config, state_dict=dict(weights), dtype=config.dtype)


def open_lumos_checkpoint(
    source_dir: str | Path, *, dtype: str | torch.dtype | None = None, **config_overrides: Any
) -> tuple[LumosConfig, WeightFiles]:
    """
    Checks an official checkpoint as [`convert_lumos_model`] does, without reading its weights.

    Returns:
        the config, whose `dtype` is that which the weights are wanted in, and the weights, under the names that
        [`LumosForCausalLM`] has for them too.
    """
    source_dir = Path(source_dir)
    if not source_dir.is_dir():
        raise ValueError(f"`source_dir` must be a directory, got '{source_dir}'.")
    config_file = existing_file(source_dir, "config.json")
    official_config = read_json(config_file)
    _check_overrides(config_overrides)
    with reading(config_file, "the config of an official Lumos model"):
        config = _convert_config(official_config, config_overrides)
    weights = WeightFiles(source_dir, LUMOS_WEIGHT_FILES, ignored=_UNUSED_WEIGHTS)
    check_lumos_weights(weights, config)

    if dtype is None:
        dtype = official_config.get("torch_dtype") or official_config.get("dtype")
    if dtype is None:
        dtype = weights["model.embed_tokens.weight"].dtype
    config.dtype = torch_dtype(dtype)
    return config, weights


def check_lumos_weights(weights: WeightFiles, config: LumosConfig) -> None:
    """Ties what the config ties, and raises `ValueError` if the weights are not those of [`LumosForCausalLM`]."""
    if config.num_hidden_layers > len(weights):
        raise ValueError(
            f"The weights in '{weights.directory}' do not fit their config: it asks for {config.num_hidden_layers} layers, "
            f"and there are {len(weights)} weights."
        )
    with reading(weights.directory / "config.json", "the config of a Lumos model"), torch.device("meta"):
        model = LumosForCausalLM(config)
    tied = model.all_tied_weights_keys if config.tie_word_embeddings else {}
    for name, source in tied.items():
        if source in weights:
            weights.tie(name, source)
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    check_fit(weights.shapes, expected, weights.directory)


def torch_dtype(dtype: str | torch.dtype) -> torch.dtype:
    """The type of weights of that name; raises `ValueError` if there is none."""
    found = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if found not in WEIGHT_DTYPES:
        raise ValueError(f"`dtype` must be one of {', '.join(map(str, WEIGHT_DTYPES))}, or its name, got {dtype!r}.")
    return found


def official_lumos_config(config: LumosConfig) -> dict[str, Any]:
    """
    The official `config.json` of a model.

    Raises:
        ValueError: if the official code has no such model.
    """
    if config.position_encoding == "rope_3d":
        raise ValueError("`position_encoding` must be 'mm_rope' or 'rope_1d' in the official layout, got 'rope_3d'.")
    head_dim = config.hidden_size // config.num_attention_heads
    if config.head_dim != head_dim:
        raise ValueError(
            f"`head_dim` must be `hidden_size // num_attention_heads`, {head_dim}, in the official layout, got "
            f"{config.head_dim}."
        )
    fields = {name: getattr(config, name) for name in _SHARED_CONFIG_FIELDS}
    # A configuration that was made has them.
    rope_parameters = cast(dict[str, Any], config.rope_parameters)
    scaling = {name: value for name, value in rope_parameters.items() if name != "rope_theta"}
    rope_type = scaling.pop("rope_type")
    return {
        **_OFFICIAL_CONSTANTS,
        **fields,
        "mm_rope": config.position_encoding == "mm_rope",
        "rope_theta": rope_parameters["rope_theta"],
        "rope_scaling": None if rope_type == "default" else {"type": rope_type, **scaling},
        "bos_token_id": config.bos_token_id,
        "eos_token_id": config.eos_token_id,
        "torch_dtype": str(config.dtype).removeprefix("torch."),
    }


def _check_overrides(overrides: dict[str, Any]) -> None:
    allowed = {field.name for field in dataclasses.fields(LumosConfig)}
    unknown = sorted(set(overrides) - allowed)
    if unknown:
        raise ValueError(f"`config_overrides` must be fields of LumosConfig, got {', '.join(unknown)}.")


def _convert_config(official: dict[str, Any], overrides: dict[str, Any]) -> LumosConfig:
    if official.get("swin_norm"):
        raise ValueError(
            "`swin_norm` must be false in the official config: LumosForCausalLM normalises before a layer."
        )

    fields = {name: official[name] for name in (*_SHARED_CONFIG_FIELDS, "head_dim") if official.get(name) is not None}
    fields["position_encoding"] = "mm_rope" if official.get("mm_rope", True) else "rope_1d"
    fields["rope_parameters"] = _convert_rope_parameters(official)
    return LumosConfig(**{**fields, **overrides})


def _convert_rope_parameters(official: dict[str, Any]) -> dict[str, Any]:
    parameters = {"rope_type": "default", "rope_theta": official.get("rope_theta", 10000.0)}
    scaling = dict(official.get("rope_scaling") or {})
    if "type" in scaling:
        scaling.setdefault("rope_type", scaling.pop("type"))
    return {**parameters, **scaling}
