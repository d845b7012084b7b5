# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""Which part of a work is this process's: those that share one out never talk to each other."""

import os


def process_rank() -> tuple[int, int]:
    """
    Number of this process among those that share the work, and their number, as torchrun and `accelerate launch` say.

    Raises:
        ValueError: if the environment variables `RANK` and `WORLD_SIZE` are no such numbers.
    """
    numbers = {}
    for name, default in (("RANK", "0"), ("WORLD_SIZE", "1")):
        value = os.environ.get(name, default)
        if not (value.isascii() and value.isdigit()) or len(value) > 9:
            raise ValueError(f"The environment variable {name} must be an integer of at least 0, got {value!r}.")
        numbers[name] = int(value)
    rank, world_size = numbers["RANK"], numbers["WORLD_SIZE"]
    if rank >= world_size:
        raise ValueError(f"The environment variable RANK must be below WORLD_SIZE, {world_size}, got {rank}.")
    return rank, world_size
