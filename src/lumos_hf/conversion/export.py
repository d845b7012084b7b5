# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
A checkpoint of [`LumosVideoPipeline`] back in the official layout, for the official code and its tools.

The transformer and the text tokenizer come back as they were. The official video tokenizer is a TorchScript archive,
which is code and weights in one: its weights come back under their official names, as safetensors, to be loaded into
the official network. Its resampling convolutions that are built but not used are gone since the conversion.
"""

import json
from pathlib import Path
from typing import Any

from accelerate import init_empty_weights
from transformers import PreTrainedTokenizerFast

from ..configuration_lumos import LumosConfig
from ..cosmos_video_tokenizer import CosmosVideoTokenizer
from ..files import write_json, write_text
from .cosmos import official_cosmos_config, official_cosmos_names
from .lumos import LUMOS_WEIGHT_FILES, check_lumos_weights, official_lumos_config
from .sources import local_source
from .text_tokenizer import add_visual_codes, check_text_tokenizer, take_visual_codes
from .weight_files import (
    WeightFiles,
    check_fit,
    check_new_directory,
    existing_file,
    new_directory,
    write_tensors,
    write_weights,
)


_CHECKPOINT_FILES = ("model_index.json", "tokenizer/*", "transformer/*", "vqvae/*")
_VQVAE_WEIGHT_FILES = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.safetensors.index.json")


def export_original_checkpoint(model_dir: str | Path, output_dir: str | Path) -> Path:
    """
    Writes a checkpoint in the official layout, which [`convert_original_checkpoint`] reads again.

    No more than one tensor of the transformer is in memory at a time, and nothing is left behind if anything fails.

    Args:
        model_dir: a directory that holds a [`LumosVideoPipeline`], or its location on the Hub,
            `USER/NAME[@REVISION][/SUBFOLDER]`.
        output_dir: a new or an empty directory. It gets `lumos/`, `text_tokenizer.json` and `cosmos/`: the model with
            its official config and weights; the text tokenizer; the video tokenizer with its official config, and
            its weights as `model.safetensors`, to be loaded into the official network with `strict=False`.

    Returns:
        `output_dir`.

    Raises:
        ValueError: if the checkpoint is incomplete or broken, or the official code has no such model. The demo checkpoint
            for one has a vocabulary of its own.
        OSError: if the checkpoint cannot be downloaded, or the output cannot be written.
    """
    output_dir = Path(output_dir)
    check_new_directory("output_dir", output_dir)
    model_dir = local_source("model_dir", model_dir, _CHECKPOINT_FILES)

    config = LumosConfig.from_pretrained(existing_file(model_dir, "transformer/config.json").parent)
    weights = WeightFiles(model_dir / "transformer", LUMOS_WEIGHT_FILES)
    stored_names = list(weights)
    check_lumos_weights(weights, config)
    text_tokenizer = _official_text_tokenizer(model_dir, config)
    vqvae, vqvae_weights = _open_vqvae(existing_file(model_dir, "vqvae/config.json").parent)
    lumos_config, cosmos_config = official_lumos_config(config), official_cosmos_config(vqvae)

    num_bytes = sum(path.stat().st_size for path in {*weights.paths.values(), *vqvae_weights.paths.values()})
    with new_directory(output_dir, num_bytes) as directory:
        (directory / "lumos").mkdir()
        write_json(directory / "lumos" / "config.json", lumos_config, sort_keys=True)
        write_weights(weights, stored_names, directory / "lumos")
        write_text(directory / "text_tokenizer.json", json.dumps(text_tokenizer, indent=2, ensure_ascii=False))
        (directory / "cosmos").mkdir()
        write_json(directory / "cosmos" / "config.json", cosmos_config, sort_keys=True)
        official_weights = {official: vqvae_weights[name] for name, official in official_cosmos_names(vqvae).items()}
        write_tensors(official_weights, official_weights, directory / "cosmos" / "model.safetensors")
    return output_dir


def _official_text_tokenizer(model_dir: Path, config: LumosConfig) -> dict[str, Any]:
    """The content of `text_tokenizer.json`: the text tokenizer of a checkpoint, with a name for every visual code."""
    file = model_dir / "tokenizer" / "tokenizer.json"
    if not file.is_file():
        raise ValueError(f"'{model_dir}' has no official text tokenizer to export: there is no tokenizer/{file.name}.")
    tokenizer = PreTrainedTokenizerFast.from_pretrained(file.parent)
    content, code_ids = take_visual_codes(json.loads(tokenizer.backend_tokenizer.to_str()), file)
    expected = range(config.visual_token_offset, config.visual_token_offset + config.visual_vocab_size)
    if code_ids not in (None, expected):
        raise ValueError(f"`text_tokenizer` must have the visual codes at {expected}, got {code_ids} in '{file}'.")
    if code_ids is None:
        try:
            check_text_tokenizer(tokenizer, config, file)
        except ValueError as error:
            raise ValueError(f"'{model_dir}' has no official text tokenizer to export: {error}") from error
    return add_visual_codes(content, expected)


def _open_vqvae(directory: Path) -> tuple[CosmosVideoTokenizer, WeightFiles]:
    with init_empty_weights(include_buffers=False):
        vqvae = CosmosVideoTokenizer.from_config(CosmosVideoTokenizer.load_config(directory))
    weights = WeightFiles(directory, _VQVAE_WEIGHT_FILES)
    check_fit(weights.shapes, {name: tensor.shape for name, tensor in vqvae.state_dict().items()}, directory)
    return vqvae, weights
