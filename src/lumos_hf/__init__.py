# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
Lumos-1 (arXiv 2507.08801): images and videos by autoregressive discrete diffusion in an LLM.

Importing this package makes `AutoConfig`, `AutoModel` and `AutoModelForCausalLM` know Lumos. Names that this does not
need, such as those that stand on diffusers, are imported when they are used.
"""

import importlib
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

from .configuration_lumos import LumosConfig
from .modeling_lumos import LumosForCausalLM, LumosModel


if TYPE_CHECKING:
    from .conversion import (
        convert_cosmos_tokenizer,
        convert_lumos_model,
        convert_original_checkpoint,
        export_original_checkpoint,
    )
    from .cosmos_video_tokenizer import CosmosVideoTokenizer
    from .decoding.approximations import DecodingApproximations
    from .demo import demo_checkpoint
    from .pipeline_lumos_video import LumosPipelineOutput, LumosVideoPipeline
    from .scheduling_mask_decoding import MaskDecodingScheduler
    from .training import DataCollatorForDiffusionForcing


__version__ = version("lumos_hf")

_LAZY_MODULES = {
    "CosmosVideoTokenizer": "cosmos_video_tokenizer",
    "DataCollatorForDiffusionForcing": "training",
    "DecodingApproximations": "decoding.approximations",
    "LumosPipelineOutput": "pipeline_lumos_video",
    "LumosVideoPipeline": "pipeline_lumos_video",
    "MaskDecodingScheduler": "scheduling_mask_decoding",
    "convert_cosmos_tokenizer": "conversion",
    "convert_lumos_model": "conversion",
    "convert_original_checkpoint": "conversion",
    "demo_checkpoint": "demo",
    "export_original_checkpoint": "conversion",
}

__all__ = [
    "CosmosVideoTokenizer",
    "DataCollatorForDiffusionForcing",
    "DecodingApproximations",
    "LumosConfig",
    "LumosForCausalLM",
    "LumosModel",
    "LumosPipelineOutput",
    "LumosVideoPipeline",
    "MaskDecodingScheduler",
    "convert_cosmos_tokenizer",
    "convert_lumos_model",
    "convert_original_checkpoint",
    "demo_checkpoint",
    "export_original_checkpoint",
]

AutoConfig.register("lumos", LumosConfig)
AutoModel.register(LumosConfig, LumosModel)
AutoModelForCausalLM.register(LumosConfig, LumosForCausalLM)

# `save_pretrained` and `push_to_hub` then save their code too, for `trust_remote_code=True` without this package.
LumosConfig.register_for_auto_class()
LumosModel.register_for_auto_class("AutoModel")
LumosForCausalLM.register_for_auto_class("AutoModelForCausalLM")


def __getattr__(name: str) -> Any:
    if name not in _LAZY_MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_LAZY_MODULES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
