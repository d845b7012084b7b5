# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
Lumos-1 (arXiv 2507.08801): images and videos by autoregressive discrete diffusion in an LLM.

Once this package is imported, `AutoConfig`, `AutoModel`, `AutoModelForCausalLM` and `DiffusionPipeline` know Lumos. PyTorch,
transformers and diffusers are imported when a name that needs them is used.
"""

import importlib
import sys
from importlib.metadata import version
from types import ModuleType
from typing import TYPE_CHECKING, Any

from .import_hooks import when_imported


if TYPE_CHECKING:
    from .configuration_lumos import LumosConfig
    from .conversion import (
        convert_cosmos_tokenizer,
        convert_lumos_model,
        convert_original_checkpoint,
        export_original_checkpoint,
    )
    from .cosmos_video_tokenizer import CosmosVideoTokenizer
    from .decoding.approximations import DecodingApproximations
    from .demo import demo_checkpoint
    from .modeling_lumos import LumosForCausalLM, LumosModel
    from .pipeline_lumos_video import LumosPipelineOutput, LumosVideoPipeline
    from .scheduling_mask_decoding import MaskDecodingScheduler
    from .training import DataCollatorForDiffusionForcing


__version__ = version("lumos_hf")

_LAZY_MODULES = {
    "CosmosVideoTokenizer": "cosmos_video_tokenizer",
    "DataCollatorForDiffusionForcing": "training",
    "DecodingApproximations": "decoding.approximations",
    "LumosConfig": "configuration_lumos",
    "LumosForCausalLM": "modeling_lumos",
    "LumosModel": "modeling_lumos",
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


def _register_config() -> None:
    from transformers import AutoConfig

    AutoConfig.register("lumos", _loaded("LumosConfig"))


def _register_models() -> None:
    from transformers import AutoModel, AutoModelForCausalLM

    AutoModel.register(_loaded("LumosConfig"), _loaded("LumosModel"))
    AutoModelForCausalLM.register(_loaded("LumosConfig"), _loaded("LumosForCausalLM"))


def _import_to_register_models() -> None:
    # modeling_lumos may be what imports the auto classes: then it is not ready yet.
    importlib.import_module(".modeling_lumos", __name__)
    when_imported("lumos_hf.modeling_lumos", _register_models)


def _offer_pipeline() -> None:
    """`DiffusionPipeline.from_pretrained` looks among the names of diffusers for the class that a checkpoint names."""
    diffusers = sys.modules["diffusers"]
    if type(diffusers) is ModuleType:
        # So it is if `DIFFUSERS_SLOW_IMPORT` is set; otherwise it has a class of its own, since it imports by need.
        diffusers.__class__ = type("_Diffusers", (ModuleType,), {})
    setattr(type(diffusers), "LumosVideoPipeline", property(lambda module: _loaded("LumosVideoPipeline")))


def _save_code_of_models() -> None:
    _loaded("LumosModel").register_for_auto_class("AutoModel")
    _loaded("LumosForCausalLM").register_for_auto_class("AutoModelForCausalLM")


def _loaded(name: str) -> Any:
    return getattr(importlib.import_module(f".{_LAZY_MODULES[name]}", __name__), name)


when_imported("transformers.models.auto.configuration_auto", _register_config)
when_imported("transformers.models.auto.modeling_auto", _import_to_register_models)
when_imported("diffusers", _offer_pipeline)
# `save_pretrained` and `push_to_hub` then save their code too, for `trust_remote_code=True` without this package.
when_imported("lumos_hf.configuration_lumos", lambda: _loaded("LumosConfig").register_for_auto_class())
when_imported("lumos_hf.modeling_lumos", _save_code_of_models)


def __getattr__(name: str) -> Any:
    if name not in _LAZY_MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return _loaded(name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
