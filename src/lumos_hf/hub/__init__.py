# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""Checkpoints and LoRA weights in directories and on the Hugging Face Hub: load, save, describe, publish."""
