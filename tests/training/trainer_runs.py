# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
Small training runs for test_trainer.py, which starts `main` in two processes without torchrun, to save their imports.

    torchrun --nproc-per-node 2 tests/training/trainer_runs.py OUTPUT

does the same.
"""

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed.fsdp import fully_shard
from torch.nn.utils import clip_grad_norm_
from torch.utils.data import Dataset
from transformers import Trainer, TrainerCallback, TrainingArguments

from lumos_hf import LumosConfig, LumosForCausalLM
from lumos_hf.training import BatchedDataset, BucketBatchSampler, DataCollatorForDiffusionForcing


SEED = 3
NUM_CLIPS = 12
STEPS = 7
GLOBAL_BATCH_SIZE = 4


def tiny_model() -> LumosForCausalLM:
    torch.manual_seed(SEED)
    config = LumosConfig(
        vocab_size=9216 + 64,
        visual_token_offset=9216,
        visual_vocab_size=64,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=1,
        num_key_value_heads=1,
    )
    return LumosForCausalLM(config)


def seeded_clips() -> list[dict]:
    """Clips of several sizes, so that batches have padding and different numbers of labels. Masks are always the same."""
    generator = torch.Generator().manual_seed(SEED)
    shapes = [(2, 4, 4), (1, 4, 8), (3, 4, 4)]
    return [
        {
            "codes": torch.randint(64, shapes[index % 3], generator=generator),
            "text_ids": [11 + index],
            "fps": 4,
            "seed": index,
        }
        for index in range(NUM_CLIPS)
    ]


def batched_clips() -> BatchedDataset:
    """Batches of two clips, with new masks in every epoch."""
    clips = seeded_clips()
    return BatchedDataset(clips, BucketBatchSampler(clips, image_batch_size=2, video_batch_size=2, seed=SEED))


def build_trainer(
    output: Path,
    dataset: Dataset,
    callbacks: list[TrainerCallback] = (),
    compute_metrics: Callable | None = None,
    preprocess_logits_for_metrics: Callable | None = None,
    **changes,
) -> Trainer:
    arguments = {
        "output_dir": str(output),
        "per_device_train_batch_size": 1,
        "train_sampling_strategy": "sequential",
        "max_steps": STEPS,
        "learning_rate": 1e-2,
        "adam_beta2": 0.95,
        "weight_decay": 0.1,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "use_cpu": True,
        "ddp_find_unused_parameters": False,
        "remove_unused_columns": False,
        "label_names": ["labels"],
        "disable_tqdm": True,
        **changes,
    }
    model = tiny_model()
    return Trainer(
        model,
        TrainingArguments(**arguments),
        DataCollatorForDiffusionForcing(model.config),
        train_dataset=dataset,
        eval_dataset=dataset,
        callbacks=list(callbacks),
        compute_metrics=compute_metrics,
        preprocess_logits_for_metrics=preprocess_logits_for_metrics,
    )


def losses(trainer: Trainer) -> list[float]:
    """Of each step."""
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


class KillCallback(TrainerCallback):
    """Kills its own process in the middle of a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_pre_optimizer_step(self, args, state, control, **kwargs) -> None:
        if state.global_step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)


def plain_losses(rank: int = 0, world_size: int = 1, shards: bool = False) -> list[float]:
    """
    Losses of a loop without a Trainer, whose process `rank` sees its share of each batch. With `shards`, weights lie
    sharded by FSDP2.
    """
    model, clips = tiny_model(), seeded_clips()
    collator = DataCollatorForDiffusionForcing(model.config)
    if shards:
        for layer in model.model.layers:
            fully_shard(layer)
        fully_shard(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    model.train()
    return [
        _plain_step(model, optimizer, collator([clips[index] for index in _indices(step)]), rank, world_size)
        for step in range(STEPS)
    ]


def _indices(step: int) -> list[int]:
    return [(step * GLOBAL_BATCH_SIZE + row) % NUM_CLIPS for row in range(GLOBAL_BATCH_SIZE)]


def _plain_step(
    model: LumosForCausalLM,
    optimizer: torch.optim.Optimizer,
    batch: dict[str, torch.Tensor],
    rank: int,
    world_size: int,
) -> float:
    num_items = (batch["labels"] != -100).sum()
    share = {name: rows[rank::world_size] for name, rows in batch.items()}
    # Sharded gradients are averaged over the processes.
    loss = model(**share, num_items_in_batch=num_items).loss * world_size
    loss.backward()
    clip_grad_norm_(model.parameters(), 4.0)
    optimizer.step()
    optimizer.zero_grad()
    mean = loss.detach() / world_size
    if world_size > 1:
        dist.all_reduce(mean)
    return mean.item()


def main(output: Path) -> None:
    torch.set_num_threads(1)
    trainer = build_trainer(output / "ddp", batched_clips())
    trainer.train()
    rank, world_size = dist.get_rank(), dist.get_world_size()
    sharded = plain_losses(rank, world_size, shards=True)
    if rank == 0:
        results = {
            "world_size": world_size,
            "parallel_mode": trainer.args.parallel_mode.value,
            "ddp": losses(trainer),
            "fsdp2": sharded,
        }
        (output / "losses.json").write_text(json.dumps(results), encoding="utf-8")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
