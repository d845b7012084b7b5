# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""The course of a training run as a picture."""

from pathlib import Path
from typing import Any


def save_loss_curve(log_history: list[dict[str, Any]], path: Path) -> None:
    """
    Plots the logged training loss over the steps.

    Args:
        log_history: `trainer.state.log_history`.
        path: the picture to write; directories are created.
    """
    from matplotlib.figure import Figure

    points = [(entry["step"], float(entry["loss"])) for entry in log_history if "loss" in entry]
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot(xlabel="step", ylabel="training loss", yscale="log")
    if points:
        axes.plot(*zip(*points))
    axes.grid(alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
