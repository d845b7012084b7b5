# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""What the demo's training runs have in common: a stock `Trainer` that resumes, arrays that are computed once."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from muon import MuonWithAdamW
from torch import nn
from torch.utils.data import Dataset
from transformers import Trainer, TrainingArguments

from lumos_hf.training.loss_curve import save_loss_curve
from lumos_hf.training.trainer_checkpoints import last_complete_checkpoint


def computed_once(file: Path, compute: Callable[[], np.ndarray]) -> np.ndarray:
    """The array in `file`, which an earlier run may have left there, else what `compute` gives, saved to it."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        unfinished = file.with_suffix(".unfinished.npy")
        np.save(unfinished, compute())
        unfinished.replace(file)
    return np.load(file)


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
    Trains `model` in place, in bfloat16 autocast, with Muon and a cosine schedule.

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
        warmup_steps=100,
        max_grad_norm=1.0,
        bf16=True,
        use_cpu=not torch.cuda.is_available(),
        logging_steps=50,
        save_steps=500,
        save_total_limit=2,
        remove_unused_columns=False,
        label_names=["labels"],
        report_to="none",
        seed=seed,
    )
    optimizer = MuonWithAdamW(model, lr=learning_rate)
    trainer = Trainer(model, arguments, collator, dataset, optimizers=(optimizer, None))
    trainer.train(resume_from_checkpoint=last_complete_checkpoint(Path(arguments.output_dir)))
    save_loss_curve(trainer.state.log_history, output / "loss.png")
