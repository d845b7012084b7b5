# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
Stand-ins for the helpers of transformers' tests that its sdist lacks.

The mixins of the sdist import four modules that are in the repository alone. What they take from these is little: two mixins
that do not apply to a model without `generate`, some values of a configuration, and a way to start processes. Where
the modules themselves are at hand, they are used.
"""

import importlib.util
import multiprocessing
import os
import sys
import tempfile
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist


class ExportTesterMixin:
    """The exporters of transformers need a model that generates, or a tool of its own each; see `test_export_with_labels`."""


class GenerationTesterMixin:
    """Lumos models have no `generate`."""


# Values that differ from the defaults of `PreTrainedConfig`.
CONFIG_COMMON_KWARGS = {
    "return_dict": False,
    "output_hidden_states": True,
    "output_attentions": True,
    "dtype": "float16",
    "chunk_size_feed_forward": 5,
    "architectures": ["BertModel"],
    "id2label": {0: "label"},
    "label2id": {"label": "0"},
    "problem_type": "regression",
}


def start_rank_processes(function: Callable, args: tuple = (), nprocs: int = 1) -> None:
    """Runs `function(rank, *args)` in so many processes; they are forked, since their imports are done then."""
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_run_rank, args=(function, rank, args)) for rank in range(nprocs)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    failed = [rank for rank, process in enumerate(processes) if process.exitcode != 0]
    if failed:
        raise RuntimeError(f"Processes of the ranks {failed} failed.")


def _run_rank(function: Callable, rank: int, args: tuple) -> None:
    torch.set_num_threads(1)
    function(rank, *args)


def run_distributed(world_size: int) -> Callable:
    """Decorates what `world_size` processes of one gloo group run as `function(rank, *args)`."""

    def decorate(function: Callable) -> Callable:
        def run(*args: Any) -> None:
            with tempfile.NamedTemporaryFile() as store:
                start_rank_processes(_run_in_group, (function, world_size, store.name, args), world_size)

        return run

    return decorate


def _run_in_group(rank: int, function: Callable, world_size: int, store: str, args: tuple) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world_size)}
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world_size)
    try:
        function(rank, *args)
    finally:
        dist.destroy_process_group()


def install(suite: str) -> None:
    """
    Puts stand-ins where a module is missing.

    Args:
        suite: the folder that holds `tests/` of transformers.
    """
    _add_module("tests", {"__path__": [str(Path(suite) / "tests")]})
    contents: dict[str, dict[str, Any]] = {
        "tests.exporters.test_export": {"ExportTesterMixin": ExportTesterMixin},
        "tests.generation.test_utils": {"GenerationTesterMixin": GenerationTesterMixin},
        "tests.utils.test_configuration_utils": {"config_common_kwargs": CONFIG_COMMON_KWARGS},
        "tests.distributed_testing_utils": {
            "_get_distributed_backend": lambda: "gloo",
            "_get_distributed_device_type": lambda: "cpu",
            "_get_rank_device": lambda rank: torch.device("cpu"),
            "_set_rank_device": lambda rank: None,
            "_start_rank_processes": start_rank_processes,
            "run_distributed": run_distributed,
        },
    }
    for name, attributes in contents.items():
        if _is_missing(name):
            _add_module(name, attributes)


def _is_missing(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is None
    except ModuleNotFoundError:
        return True


def _add_module(name: str, attributes: dict[str, Any]) -> None:
    parent = name.rpartition(".")[0]
    if parent and parent not in sys.modules and _is_missing(parent):
        package = types.ModuleType(parent)
        package.__path__ = []
        sys.modules[parent] = package
    module = types.ModuleType(name)
    vars(module).update(attributes)
    sys.modules[name] = module
