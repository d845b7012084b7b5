# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
Training of Lumos models with `transformers.Trainer`.

Names that need the `datasets` library, an optional dependency, are imported when they are used.
"""

import importlib
from typing import TYPE_CHECKING, Any

from .batch_sampler import BatchedDataset, BucketBatchSampler
from .data_collator import DataCollatorForDiffusionForcing


if TYPE_CHECKING:
    from ..data import load_tokenized_dataset, tokenize_dataset, video_tokenizer_checksum


_LAZY_NAMES = ("load_tokenized_dataset", "tokenize_dataset", "video_tokenizer_checksum")

__all__ = [
    "BatchedDataset",
    "BucketBatchSampler",
    "DataCollatorForDiffusionForcing",
    "load_tokenized_dataset",
    "tokenize_dataset",
    "video_tokenizer_checksum",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY_NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("..data", __name__), name)
