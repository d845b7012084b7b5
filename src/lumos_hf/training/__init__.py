# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""Training of Lumos models with `transformers.Trainer`."""

from .data_collator import DataCollatorForDiffusionForcing


__all__ = ["DataCollatorForDiffusionForcing"]
