# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""Writes LoRA weights that make do with few steps, and what they want of a call, for `load_turbo_weights`."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors.torch
import torch
from diffusers.loaders.lora_base import LORA_ADAPTER_METADATA_KEY, LORA_WEIGHT_NAME_SAFE

from ..files import whole_file
from ..generation_defaults import check_settings
from ..scheduling_mask_decoding import MaskDecodingScheduler
from .lora_card import write_lora_card
from .lora_files import TURBO_METADATA_KEY, plain_config


if TYPE_CHECKING:
    from peft import PeftModel


def write_turbo_weights(
    directory: str | os.PathLike,
    model: "PeftModel",
    scheduler: MaskDecodingScheduler,
    *,
    num_inference_steps: int | Sequence[int],
    guidance_scale: float = 1.0,
    base_model: str | None = None,
    training_data: str | None = None,
) -> None:
    """
    Writes `pytorch_lora_weights.safetensors`, whose header has all the rest as well, the configuration of the scheduler
    beside it, and a card.

    Args:
        directory: made if need be.
        model: with the adapter `"default"`.
        scheduler: to decode with.
        num_inference_steps: that the weights were made for, one number or one per latent frame.
        guidance_scale: that they want; 1 is one branch.
        base_model: the checkpoint, for the card.
        training_data: Markdown, for the card.

    Raises:
        ValueError: if a number is out of range.
    """
    from peft import get_peft_model_state_dict

    check_settings(num_inference_steps=num_inference_steps, guidance_scale=guidance_scale)
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    tensors = {
        f"transformer.{name.removeprefix('base_model.model.')}": tensor.detach().to("cpu", torch.float32).contiguous()
        for name, tensor in get_peft_model_state_dict(model).items()
    }
    config = {**plain_config(model.peft_config["default"].to_dict()), "inference_mode": True}
    # Of the machine that trained.
    config["base_model_name_or_path"] = None
    settings = {
        "num_inference_steps": num_inference_steps,
        "guidance_scale": guidance_scale,
        "scheduler": _plain_scheduler_config(scheduler),
    }
    header = {
        "format": "pt",
        LORA_ADAPTER_METADATA_KEY: json.dumps(
            {f"transformer.{name}": value for name, value in config.items()}, sort_keys=True, default=str
        ),
        TURBO_METADATA_KEY: json.dumps(settings, sort_keys=True),
    }
    scheduler.save_pretrained(directory / "scheduler")
    with whole_file(directory / LORA_WEIGHT_NAME_SAFE) as partial:
        safetensors.torch.save_file(tensors, partial, metadata=header)
    write_lora_card(directory, base_model=base_model, replace=True, training_data=training_data)


def _plain_scheduler_config(scheduler: MaskDecodingScheduler) -> dict[str, Any]:
    """Without what tells where it was and by which version it was written."""
    return {name: value for name, value in scheduler.config.items() if not name.startswith("_")}
