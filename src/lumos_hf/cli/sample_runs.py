# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""Runs of many samples, by this process and those beside it, or by Ray."""

import platform
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ..process_rank import process_rank
from .model_loading import check_device, load_pipeline, own_device
from .options import Dtype


if TYPE_CHECKING:
    import torch

    from ..evaluation.sample_runner import SampleRun
    from ..pipeline_lumos_video import LumosVideoPipeline


Run = TypeVar("Run", bound="SampleRun")


def make_samples(
    begin: Callable[[str, str, str], Run],
    checkpoint: Path,
    dtype: Dtype | None,
    device: str | None,
    ray: str | None,
    num_actors: int | None,
) -> tuple[Run, int]:
    """
    Makes the samples of a run that are missing: this process's share, or all of them by Ray.

    Args:
        begin: gives the run for a type of device, a dtype, and the device in words.
        checkpoint: a directory.
        dtype: to compute in; by default float32 on CPUs, else bfloat16.
        device: by its name; by default a GPU where there are any.
        ray: address of the cluster, None for no Ray.
        num_actors: see [`~lumos_hf.cluster.RayCluster`].

    Returns:
        the run, and how many samples of all processes are still missing.
    """
    if ray is None:
        run = _begin_here(begin, dtype, device)
        return run, run.make_samples(partial(load_quietly, checkpoint, dtype, device), *process_rank())
    from ..cluster import RayCluster, make_samples_on_ray

    with RayCluster(ray, num_actors) as cluster:
        device = device or ("cuda" if cluster.has_gpus else "cpu")
        run = begin(device.partition(":")[0], _dtype_on(device, dtype), f"actors of Ray on {device}")
        make_run = partial(_begin_here, begin, dtype, device)
        return run, make_samples_on_ray(cluster, run, make_run, partial(load_quietly, checkpoint, dtype, device))


def load_quietly(checkpoint: Path, dtype: Dtype | None, device: str | None) -> "LumosVideoPipeline":
    """A pipeline without progress bars of its own."""
    pipe = load_pipeline(checkpoint, dtype, device)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _begin_here(begin: Callable[[str, str, str], Run], dtype: Dtype | None, device: str | None) -> Run:
    target = check_device(device or own_device())
    return begin(target.type, _dtype_on(target.type, dtype), _describe(target))


def _dtype_on(device: str, dtype: Dtype | None) -> Dtype:
    return dtype or ("float32" if device == "cpu" else "bfloat16")


def _describe(device: "torch.device") -> str:
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type}, {platform.processor() or platform.machine()}, {torch.get_num_threads()} threads"
