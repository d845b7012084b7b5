# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""Official checkpoints to the classes of this package."""

from .cosmos import convert_cosmos_tokenizer
from .lumos import convert_lumos_model


__all__ = ["convert_cosmos_tokenizer", "convert_lumos_model"]
