# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""Runs a function in two processes of a gloo group, as torchrun would, and gives back what each of them returned."""

import multiprocessing
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch


TIMEOUT_SECONDS = 200


def run_in_two_processes(function: Callable[..., Any], directory: Path, *arguments: Any) -> list[Any]:
    """What `function(*arguments)` returns in each process; raises with its traceback on the screen if one of them fails."""
    # Forked, since their imports are done then.
    context = multiprocessing.get_context("fork")
    port = _free_port()
    files = [directory / f"rank-{rank}.pt" for rank in range(2)]
    processes = [
        context.Process(target=_run, args=(rank, port, files[rank], function, arguments)) for rank in range(2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=TIMEOUT_SECONDS)
        process.kill()
    assert [process.exitcode for process in processes] == [0, 0]
    return [torch.load(file, weights_only=False) for file in files]


def _run(rank: int, port: int, file: Path, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "MASTER_PORT": port}
    os.environ.update({name: str(number) for name, number in numbers.items()}, MASTER_ADDR="localhost")
    torch.distributed.init_process_group("gloo")
    torch.save(function(*arguments), file)
    torch.distributed.destroy_process_group()


def _free_port() -> int:
    with socket.socket() as server:
        server.bind(("localhost", 0))
        return server.getsockname()[1]
