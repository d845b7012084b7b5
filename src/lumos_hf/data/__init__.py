# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
Data to train on: from images and videos with captions to tokenised sets.

Names are imported when they are used, since most need the `datasets` library, an optional dependency.
"""

import importlib
from typing import TYPE_CHECKING, Any


if TYPE_CHECKING:
    from ..process_rank import process_rank
    from .official_export import export_tokenized_dataset
    from .official_import import import_tokenized_dataset
    from .tokenization import tokenize_dataset
    from .tokenized_dataset import load_tokenized_dataset, video_tokenizer_checksum


_LAZY_MODULES = {
    "export_tokenized_dataset": "official_export",
    "import_tokenized_dataset": "official_import",
    "load_tokenized_dataset": "tokenized_dataset",
    "process_rank": ".process_rank",
    "tokenize_dataset": "tokenization",
    "video_tokenizer_checksum": "tokenized_dataset",
}

__all__ = [
    "export_tokenized_dataset",
    "import_tokenized_dataset",
    "load_tokenized_dataset",
    "process_rank",
    "tokenize_dataset",
    "video_tokenizer_checksum",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY_MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_LAZY_MODULES[name]}", __name__), name)
