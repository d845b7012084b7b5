# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""What the demo's training runs have in common: a stock `Trainer` that resumes, arrays that are computed once."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from muon import MuonWithAdamW
from torch import nn
from torch.utils.data import Dataset
from transformers import Trainer, TrainingArguments

from lumos_hf.files import whole_file, write_json
from lumos_hf.training.loss_curve import save_loss_curve
from lumos_hf.training.trainer_checkpoints import resume


FINISHED = "finished.json"
SAVE_STEPS = 500


def computed_once(file: Path, compute: Callable[[], np.ndarray]) -> np.ndarray:
    """The array in `file`, which an earlier run may have left there, else what `compute` gives, saved to it."""
    if not file.exists():
        with whole_file(file) as partial, partial.open("wb") as stream:
            np.save(stream, compute())
    return np.load(file)


def is_finished(output: Path, settings: dict[str, Any]) -> bool:
    """
    Whether the run with these settings in `output` came to its end, which is then said; nothing is left to do.

    Raises:
        ValueError: if `output` holds a finished run with other settings.
    """
    file = output / FINISHED
    if not file.exists():
        return False
    earlier, settings = json.loads(file.read_text(encoding="utf-8")), json.loads(json.dumps(settings, default=str))
    if earlier != settings:
        raise ValueError(
            f"`--output` '{output}' holds a finished run with {earlier}, not {settings}; choose another directory."
        )
    print(f"'{output}' holds this run, finished: nothing was changed. Another directory starts it anew.")
    return True


def mark_finished(output: Path, settings: dict[str, Any]) -> None:
    """Says that everything of the run with these settings is in `output`."""
    write_json(output / FINISHED, json.loads(json.dumps(settings, default=str)))


def has_fast_bfloat16() -> bool:
    """Whether there is a GPU or a processor that computes in bfloat16; others imitate it, at a third of the speed."""
    return torch.cuda.is_available() or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def train(
    model: nn.Module,
    dataset: Dataset,
    collator: Callable,
    output: Path,
    *,
    steps: int,
    batch_size: int,
    learning_rate: float,
    seed: int = 42,
) -> None:
    """
    Trains `model` in place, in bfloat16 autocast where that is fast, with Muon and a cosine schedule.

    Checkpoints go to `output / "trainer"`; a run that was interrupted goes on from the last one, also with another
    number of steps. The loss curve is saved as `output / "loss.png"`.

    Args:
        model: its forward takes a batch of `collator` and returns a `loss`.
        dataset: at least `steps * batch_size` items.
        collator: makes a batch of items.
        output: directory of this run.
        steps: optimizer steps in all.
        batch_size: items per step.
        learning_rate: peak of the cosine schedule.
        seed: of the order of the items and of what `collator` draws from torch's default generator.
    """
    arguments = TrainingArguments(
        output_dir=str(output / "trainer"),
        max_steps=steps,
        per_device_train_batch_size=batch_size,
        learning_rate=learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=min(100, steps // 10),
        max_grad_norm=1.0,
        bf16=has_fast_bfloat16(),
        use_cpu=not torch.cuda.is_available(),
        logging_steps=50,
        save_steps=SAVE_STEPS,
        save_total_limit=2,
        remove_unused_columns=False,
        label_names=["labels"],
        report_to="none",
        seed=seed,
    )
    optimizer = MuonWithAdamW(model, lr=learning_rate)
    trainer = Trainer(model, arguments, collator, dataset, optimizers=(optimizer, None))
    resume(trainer)
    save_loss_curve(trainer.state.log_history, output / "loss.png")
