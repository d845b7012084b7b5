# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""Checks of arguments, which raise a `ValueError` that names the argument, what is allowed and what it was."""

import math
import numbers
from collections.abc import Collection
from typing import TYPE_CHECKING, Any


if TYPE_CHECKING:
    import torch


def check_integer(name: str, value: Any, minimum: int = 1, multiple_of: int = 1, maximum: float = math.inf) -> None:
    is_integer = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not is_integer or value < minimum or value % multiple_of != 0:
        allowed = "a positive integer" if minimum == 1 else f"an integer of at least {minimum}"
        multiple = "" if multiple_of == 1 else f" and a multiple of {multiple_of}"
        raise ValueError(f"`{name}` must be {allowed}{multiple}, got {value!r}.")
    if value > maximum:
        received = value if value < 10**20 else "a larger one"
        raise ValueError(f"`{name}` must be at most {maximum}, got {received}.")


def check_minimum(name: str, value: float, minimum: float) -> None:
    if value < minimum:
        raise ValueError(f"`{name}` must be at least {minimum}, got {value}.")


def check_number(name: str, value: Any, maximum: float = math.inf) -> None:
    """Allows finite numbers from 0 to `maximum`."""
    if not is_number(value, maximum):
        allowed = "a finite number of at least 0" if maximum == math.inf else f"a number in [0, {maximum}]"
        raise ValueError(f"`{name}` must be {allowed}, got {value!r}.")


def is_number(value: Any, maximum: float) -> bool:
    """Whether a value is a finite number in [0, maximum]."""
    is_real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    try:
        return is_real and math.isfinite(value) and 0 <= value <= maximum
    except OverflowError:
        # An integer too large for a float.
        return False


def check_choice(name: str, value: str, choices: Collection[str]) -> None:
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"`{name}` must be one of {list(choices)}, got {value!r}.")


def check_shape(name: str, value: "torch.Tensor", shape: tuple[int, ...]) -> None:
    if tuple(value.shape) != tuple(shape):
        raise ValueError(f"`{name}` must have the shape {tuple(shape)}, got {tuple(value.shape)}.")
