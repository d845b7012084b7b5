# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""The course of a training run as a picture."""

import re
from collections import defaultdict
from pathlib import Path
from typing import Any


Points = list[tuple[int, float]]

_FRAME_LOSS = re.compile(r"eval_frame_(\d+)_loss")


def save_loss_curve(log_history: list[dict[str, Any]], path: Path) -> None:
    """
    Plots the logged training loss over the steps.

    Args:
        log_history: `trainer.state.log_history`.
        path: the picture to write; directories are created.
    """
    points = [(entry["step"], float(entry["loss"])) for entry in log_history if "loss" in entry]
    _save_curves({"": points} if points else {}, "training loss", path)


def save_frame_loss_curves(log_history: list[dict[str, Any]], path: Path) -> None:
    """
    Plots what [`FrameLossCallback`] logged, a line for each latent frame.

    Args:
        log_history: `trainer.state.log_history`.
        path: the picture to write; directories are created.
    """
    curves: dict[str, Points] = defaultdict(list)
    for entry in log_history:
        for name, value in entry.items():
            if match := _FRAME_LOSS.fullmatch(name):
                curves[f"frame {match[1]}"].append((entry["step"], float(value)))
    _save_curves(curves, "loss on held-out clips", path)


def _save_curves(curves: dict[str, Points], ylabel: str, path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot(xlabel="step", ylabel=ylabel, yscale="log")
    for label, points in curves.items():
        axes.plot(*zip(*points), label=label)
    if len(curves) > 1:
        axes.legend()
    axes.grid(alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
