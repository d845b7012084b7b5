# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""Whether a module was compiled: graphs are made for shapes, so some work is done in another way where there is one."""

import torch
from diffusers.utils.torch_utils import is_compiled_module


def is_compiled(module: torch.nn.Module) -> bool:
    """Whether calls of a module run a graph, by `torch.compile(module)` or by `module.compile()`."""
    return is_compiled_module(module) or module._compiled_call_impl is not None
