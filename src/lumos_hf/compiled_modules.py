# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""Modules that were compiled: graphs are made for shapes, so some work is done in another way where there is one."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from diffusers.utils.torch_utils import is_compiled_module


_changing_the_stance = threading.Lock()
_stance = ExitStack()
_num_inside = 0


def is_compiled(module: torch.nn.Module) -> bool:
    """Whether calls of a module run a graph, by `torch.compile(module)` or by `module.compile()`."""
    return is_compiled_module(module) or module._compiled_call_impl is not None


@contextmanager
def without_graphs(module: torch.nn.Module) -> Iterator[None]:
    """
    Calls of a module and its parts run no graph and make none.

    Of effect for the whole process, if anything of the module is compiled: the first thread to come tells torch, and the last
    one to leave takes it back. If each of them restored what it had found, threads that overlap would leave it said for good.
    """
    global _num_inside
    if not any(is_compiled(part) for part in module.modules()):
        yield
        return
    with _changing_the_stance:
        if _num_inside == 0:
            _stance.enter_context(torch.compiler.set_stance("force_eager"))
        _num_inside += 1
    try:
        yield
    finally:
        with _changing_the_stance:
            _num_inside -= 1
            if _num_inside == 0:
                _stance.close()
