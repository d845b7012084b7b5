# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
Official Cosmos tokenizer checkpoints into [`CosmosVideoTokenizer`], and its config and names back.

They come as TorchScript archives, whose tensors alone are read: their code is never run. Beside the weights these hold
buffers that follow from the configuration, and resampling convolutions that the network builds but does not use;
both may be there or not. Anything else that does not fit is an error.
"""

import inspect
import re
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights

from ..cosmos_video_tokenizer import CosmosVideoTokenizer
from ..files import read_json
from .weight_files import check_fit, check_weight_dtype, read_tensors, reading


# What is downloaded of a release on the Hub.
COSMOS_FILES = ("config.json", "model.safetensors", "encoder.jit", "decoder.jit")

_WEIGHT_FILES = (("model.safetensors",), ("encoder.jit", "decoder.jit"), ("autoencoder.jit",))

_CONFIG_FIELDS = {
    "in_channels": "in_channels",
    "out_channels": "out_channels",
    "z_channels": "latent_channels",
    "levels": "levels",
    "num_res_blocks": "layers_per_block",
    "attn_resolutions": "attention_resolutions",
    "resolution": "resolution",
    "patch_size": "patch_size",
    "patch_method": "patch_type",
    "spatial_compression": "spatial_compression_ratio",
    "temporal_compression": "temporal_compression_ratio",
    "dropout": "dropout",
}

_REQUIRED_CONFIG_VALUES = {
    "quantizer": "FSQ",
    "encoder": "FACTORIZED",
    "decoder": "FACTORIZED",
    "num_groups": 1,
    "z_factor": 1,
    "legacy_mode": False,
}

_LEVELS_BUFFERS = ("quantizer._levels", "inv_quant.quantizer._levels")

_IGNORED = re.compile(
    r"(encoder\.patcher3d|decoder\.unpatcher3d)\.(wavelets|_arange|patch_size_buffer)"
    r"|(inv_quant\.)?quantizer\.(_levels|_basis|implicit_codebook)"
    r"|(encoder\.down\.\d+\.downsample|decoder\.up\.\d+\.upsample)\.conv[123]\.conv3d\.(weight|bias)"
)

# Applied in this order to a name of CosmosVideoTokenizer; the index of an `up` level is reversed apart from these.
_OFFICIAL_NAMES = (
    (r"\.mid_block\.resnets\.0\.", ".mid.block_1."),
    (r"\.mid_block\.resnets\.1\.", ".mid.block_2."),
    (r"\.mid_block\.attentions\.0\.", ".mid.attn_1.0."),
    (r"\.mid_block\.temp_attentions\.0\.", ".mid.attn_1.1."),
    (r"(_blocks\.\d+)\.attentions\.(\d+)\.", r"\1.attn.\2.0."),
    (r"(_blocks\.\d+)\.temp_attentions\.(\d+)\.", r"\1.attn.\2.1."),
    (r"\.down_blocks\.", ".down."),
    (r"\.up_blocks\.", ".up."),
    (r"\.resnets\.", ".block."),
    (r"\.(down|up)samplers\.0\.", r".\1sample."),
    (r"\.conv_shortcut\.", ".nin_shortcut."),
    (r"\.to_([qkv])\.", r".\1."),
    (r"\.to_out\.0\.", ".proj_out."),
    (r"\.conv_s\.", ".0."),
    (r"\.conv_t\.", ".1."),
    (r"(?<!\.norm)\.(weight|bias)$", r".conv3d.\1"),
)


def convert_cosmos_tokenizer(
    source_dir: str | Path, *, dtype: torch.dtype | None = None, **config_overrides: Any
) -> CosmosVideoTokenizer:
    """
    Loads an official checkpoint of a discrete Cosmos video tokenizer.

    Args:
        source_dir: a directory with `encoder.jit` and `decoder.jit`, or `autoencoder.jit`, or `model.safetensors` with
            the same names; and optionally `config.json` with the official keywords.
        dtype: of the weights; defaults to that of the stored ones.
        config_overrides: arguments of [`CosmosVideoTokenizer`]. They take precedence over `config.json`, which does
            over what the weights tell: channels, blocks, levels, patch size. Compression is that of DV4x8x8 unless
            told otherwise.

    Returns:
        The tokenizer on the CPU, in evaluation mode.

    Raises:
        ValueError: if the directory or its weights are missing, an override is no argument of the tokenizer, the config
            asks for something it does not have, or the weights do not fit it; all unexpected, missing and misshapen
            names are listed.
    """
    source_dir = Path(source_dir)
    if not source_dir.is_dir():
        raise ValueError(f"`source_dir` must be a directory, got '{source_dir}'.")
    _check_overrides(config_overrides)
    weights = _load_weights(source_dir)
    with reading(source_dir / "config.json", "the config of a Cosmos tokenizer"):
        fields = {**_convert_config(_read_config(source_dir)), **config_overrides}
    tokenizer = _empty_tokenizer(weights, fields, source_dir)
    official_names = official_cosmos_names(tokenizer)
    expected = {official_names[name]: tensor.shape for name, tensor in tokenizer.state_dict().items()}
    found = {
        name: tensor.shape for name, tensor in weights.items() if name in expected or not _IGNORED.fullmatch(name)
    }
    check_fit(found, expected, source_dir)
    for name in expected:
        check_weight_dtype(name, weights[name], source_dir)
    dtype = dtype or weights["quant_conv.conv3d.weight"].dtype
    state_dict = {name: weights[official].to(dtype) for name, official in official_names.items()}
    tokenizer.load_state_dict(state_dict, assign=True)
    return tokenizer.eval()


def official_cosmos_names(tokenizer: CosmosVideoTokenizer) -> dict[str, str]:
    """The official name of every weight of a tokenizer."""
    last_level = len(tokenizer.decoder.up_blocks) - 1
    names = {}
    for name in tokenizer.state_dict():
        official = re.sub(r"(?<=\.up_blocks\.)\d+", lambda level: str(last_level - int(level[0])), name)
        for pattern, replacement in _OFFICIAL_NAMES:
            official = re.sub(pattern, replacement, official)
        names[name] = official
    return names


def official_cosmos_config(tokenizer: CosmosVideoTokenizer) -> dict[str, Any]:
    """
    The official keywords of a tokenizer, as `config.json` has them.

    Raises:
        ValueError: if the official code has no such tokenizer.
    """
    config = tokenizer.config
    if config.norm != "frame":
        raise ValueError(f"`norm` must be 'frame' in the official layout of Cosmos, got {config.norm!r}.")
    channels, *level_channels = config.encoder_block_out_channels
    decoder_channels = [*level_channels, level_channels[-1]]
    if any(level % channels for level in level_channels) or list(config.decode_block_out_channels) != decoder_channels:
        raise ValueError(
            "`encoder_block_out_channels` must be multiples of the first of them, and `decode_block_out_channels` "
            f"the same without it, the last one twice, in the official layout of Cosmos, got "
            f"{list(config.encoder_block_out_channels)} and {list(config.decode_block_out_channels)}."
        )
    return {
        **_REQUIRED_CONFIG_VALUES,
        **{official: config[ours] for official, ours in _CONFIG_FIELDS.items()},
        "channels": channels,
        "channels_mult": [level // channels for level in level_channels],
        "embedding_dim": len(config.levels),
        "levels": list(config.levels),
        "name": "DV",
    }


def _check_overrides(overrides: dict[str, Any]) -> None:
    allowed = set(inspect.signature(CosmosVideoTokenizer).parameters)
    unknown = sorted(set(overrides) - allowed)
    if unknown:
        raise ValueError(f"`config_overrides` must be arguments of CosmosVideoTokenizer, got {', '.join(unknown)}.")


def _load_weights(source_dir: Path) -> dict[str, torch.Tensor]:
    for names in _WEIGHT_FILES:
        paths = [source_dir / name for name in names]
        if all(path.is_file() for path in paths):
            return {name: tensor for path in paths for name, tensor in read_tensors(path).items()}
    options = ", or ".join(" and ".join(names) for names in _WEIGHT_FILES)
    found = sorted(path.name for path in source_dir.iterdir())
    raise ValueError(f"'{source_dir}' must hold {options}, got {', '.join(found) or 'nothing'}.")


def _read_config(source_dir: Path) -> dict[str, Any]:
    path = source_dir / "config.json"
    return read_json(path) if path.is_file() else {}


def _convert_config(official: dict[str, Any]) -> dict[str, Any]:
    for name, required in _REQUIRED_CONFIG_VALUES.items():
        value = official.get(name, required)
        if value != required:
            raise ValueError(f"`{name}` must be {required!r} in the official config, got {value!r}.")
    return {ours: official[name] for name, ours in _CONFIG_FIELDS.items() if name in official}


def _empty_tokenizer(
    weights: dict[str, torch.Tensor], fields: dict[str, Any], source_dir: Path
) -> CosmosVideoTokenizer:
    """The tokenizer that weights and config describe, without its weights."""
    in_channels = fields.get("in_channels", 3)
    if not isinstance(in_channels, int) or in_channels < 1:
        raise ValueError(
            f"`in_channels` must be a positive integer in the config in '{source_dir}', got {in_channels!r}."
        )
    sizes = _config_from_weights(weights, in_channels, source_dir)
    # Before a network of absurd size is built.
    for name in ("layers_per_block", "patch_size"):
        if fields.get(name, sizes[name]) != sizes[name]:
            raise ValueError(
                f"`{name}` must be {sizes[name]} for the weights in '{source_dir}', got {fields[name]!r} from its config."
            )
    with reading(source_dir, "a directory with the config of a Cosmos tokenizer"):
        with init_empty_weights(include_buffers=False):
            return CosmosVideoTokenizer(**{**sizes, **fields})


def _config_from_weights(weights: dict[str, torch.Tensor], in_channels: int, source_dir: Path) -> dict[str, Any]:
    levels = range(_count(weights, r"encoder\.down\.(\d+)\."))
    encoder_convs = ["encoder.conv_in.0", *[f"encoder.down.{level}.block.0.conv1.0" for level in levels]]
    decoder_convs = [*[f"decoder.up.{level}.block.0.conv1.0" for level in levels], "decoder.conv_in.0"]
    weight_names = [f"{conv}.conv3d.weight" for conv in [*encoder_convs, *decoder_convs, "encoder.conv_out.0"]]
    missing = [name for name in weight_names if name not in weights]
    if missing:
        raise ValueError(
            f"The weights in '{source_dir}' must tell the sizes of the network, got no {', '.join(missing)}."
        )

    flat = [name for name in weight_names if weights[name].ndim != 5]
    if flat:
        raise ValueError(
            f"The weights in '{source_dir}' must have convolutions over three axes, got {', '.join(flat)}."
        )

    def channels(conv: str, dim: int = 0) -> int:
        return weights[f"{conv}.conv3d.weight"].shape[dim]

    fields = {
        "latent_channels": channels("encoder.conv_out.0"),
        "encoder_block_out_channels": [channels(conv) for conv in encoder_convs],
        "decode_block_out_channels": [channels(conv) for conv in decoder_convs],
        "layers_per_block": _count(weights, r"encoder\.down\.0\.block\.(\d+)\."),
        "patch_size": round((channels("encoder.conv_in.0", dim=1) / in_channels) ** (1 / 3)),
    }
    code_levels = [weights[name].tolist() for name in _LEVELS_BUFFERS if name in weights]
    return {**fields, "levels": code_levels[0]} if code_levels else fields


def _count(weights: dict[str, torch.Tensor], pattern: str) -> int:
    matches = [re.match(pattern, name) for name in weights]
    return len({match[1] for match in matches if match})
