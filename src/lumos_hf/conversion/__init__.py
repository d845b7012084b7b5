# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""Official checkpoints to the classes of this package, and back."""

from .cosmos import convert_cosmos_tokenizer
from .export import export_original_checkpoint
from .lumos import convert_lumos_model
from .official_release import convert_official_release, plan_conversion, plan_official_release
from .original_checkpoint import convert_original_checkpoint


__all__ = [
    "convert_cosmos_tokenizer",
    "convert_lumos_model",
    "convert_official_release",
    "convert_original_checkpoint",
    "export_original_checkpoint",
    "plan_conversion",
    "plan_official_release",
]
