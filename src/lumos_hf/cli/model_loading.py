# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""Checkpoints, devices and dtypes by the names that options give them."""

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from .options import Dtype


if TYPE_CHECKING:
    import torch

    from ..pipeline_lumos_video import LumosVideoPipeline


def load_pipeline(source: str | Path, dtype: Dtype | None, device: str | None) -> "LumosVideoPipeline":
    target = check_device(device or own_device())

    from ..hub.hub_errors import describe_hub_error
    from ..pipeline_lumos_video import LumosVideoPipeline

    torch_dtype = dtype_named(dtype or ("float32" if target.type == "cpu" else "bfloat16"))
    try:
        return LumosVideoPipeline.from_pretrained(source, dtype=torch_dtype).to(target)
    except OSError as error:
        raise ValueError(
            f"The checkpoint '{source}' could not be loaded: {describe_hub_error(error, str(source))}"
        ) from error


def check_model(model: str) -> str:
    if not Path(model).is_dir() and not re.fullmatch(r"[\w.-]+/[\w.-]+", model):
        raise ValueError(f"`model` must be an existing directory or a repository like USER/NAME, got '{model}'.")
    return model


def dtype_named(name: Dtype) -> "torch.dtype":
    import torch

    short_names = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
    return getattr(torch, short_names.get(name, name))


def check_device(name: str) -> "torch.device":
    import torch

    try:
        device = torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"`device` must be one that PyTorch can use here, got '{name}': {reason}") from error
    if device.type == "meta":
        raise ValueError("`device` must be one that can compute, got 'meta'.")
    return device


def own_device() -> str:
    """A GPU for each process of this machine, where there are any."""
    import torch

    return f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if torch.cuda.is_available() else "cpu"


def checkpoint_directory(model: str) -> Path:
    """The directory of a checkpoint."""
    from ..hub.checkpoint_files import check_complete
    from ..hub.hub_errors import describe_hub_error
    from ..pipeline_lumos_video import LumosVideoPipeline

    if Path(check_model(model)).is_dir():
        check_complete(model)
        return Path(model)
    try:
        return Path(LumosVideoPipeline.download(model))
    except OSError as error:
        raise ValueError(
            f"The checkpoint '{model}' could not be loaded: {describe_hub_error(error, model)}"
        ) from error
