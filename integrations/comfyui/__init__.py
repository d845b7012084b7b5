# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""Nodes of Lumos-1 for ComfyUI; it loads this folder from its `custom_nodes`."""

from .nodes import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS


__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS"]
