# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
What full and LoRA fine-tuning have in common: the official recipe, arguments, a stock `Trainer`, resuming.

There is no average of the weights (EMA): the official recipe has none, and no gain of one was measured here.
"""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from transformers import HfArgumentParser, Trainer, TrainingArguments

from ..data.tokenized_dataset import load_tokenized_dataset, video_tokenizer_checksum
from ..pipeline_lumos_video import LumosVideoPipeline
from .batch_sampler import BatchedDataset, BucketBatchSampler
from .callbacks import FrameLossCallback, SampleGridCallback
from .data_collator import DataCollatorForDiffusionForcing
from .loss_curve import save_loss_curve
from .trainer_checkpoints import resume


# For `TrainingArguments`. The official learning rates lie between 2.5e-5 and 5e-5; how long the official warm-up lasts is
# not known but for that it is short, so these steps are a choice.
OFFICIAL_RECIPE: dict[str, Any] = {
    "learning_rate": 2.5e-5,
    "lr_scheduler_type": "constant_with_warmup",
    "warmup_steps": 100,
    "adam_beta1": 0.9,
    "adam_beta2": 0.95,
    "weight_decay": 0.1,
    "max_grad_norm": 4.0,
    # One of the batches of `BatchedDataset`, which come in an order of their own.
    "per_device_train_batch_size": 1,
    "per_device_eval_batch_size": 1,
    "train_sampling_strategy": "sequential",
    "bf16": True,
    "activation_checkpointing": True,
    "ddp_find_unused_parameters": False,
    # What the collator reads are columns that the model does not.
    "remove_unused_columns": False,
    "label_names": ["labels"],
    "report_to": "tensorboard",
    "logging_steps": 10,
    "eval_strategy": "steps",
    "eval_steps": 500,
    "save_steps": 500,
    "save_total_limit": 2,
}


@dataclass
class FinetuningArguments:
    """What fine-tuning needs besides `TrainingArguments`."""

    model: str = field(metadata={"help": "Checkpoint to begin with: a directory or a repository on the Hub."})
    data: str = field(metadata={"help": "A directory that `lumos-hf tokenize` wrote with the same checkpoint."})
    eval_clips: int = field(
        default=8, metadata={"help": "Clips to hold out, for the loss of each frame at every evaluation."}
    )
    image_batch_size: int = field(default=6, metadata={"help": "Images of a batch on one device."})
    video_batch_size: int = field(default=1, metadata={"help": "Videos of a batch on one device."})
    mask_strategy: str = field(default="tube", metadata={"help": "tube, decaying_tube, random or diffusion_forcing."})
    mask_schedule: str = field(default="cosine", metadata={"help": "Turns a uniform draw into a mask ratio."})
    minimum_mask_ratio: float = field(default=0.7, metadata={"help": "Lower limit of the mask ratio."})
    prompt_drop_probability: float = field(default=0.1, metadata={"help": "Share of prompts to drop."})
    sample_prompts: list[str] = field(default_factory=list, metadata={"help": "Prompts to sample while training."})
    sample_steps: int = field(default=500, metadata={"help": "Optimizer steps between two sheets of samples."})


def parse_arguments(
    dataclass_types: Iterable[Any], arguments: Sequence[str] | None, **defaults: Any
) -> tuple[Any, ...]:
    """
    Instances of the given types and, last, `TrainingArguments` with the official recipe as its defaults.

    Args:
        dataclass_types: see `HfArgumentParser`.
        arguments: of the command line; by default those of this process.
        defaults: that go before those of the recipe and of the types. Unless given, the warm-up is at most a tenth of
            `max_steps`.
    """
    parser = HfArgumentParser(cast(Any, [*dataclass_types, TrainingArguments]))
    parser.set_defaults(**{**OFFICIAL_RECIPE, "use_cpu": not torch.cuda.is_available(), **defaults})
    parsed = parser.parse_args_into_dataclasses(args=arguments)
    training_arguments = parsed[-1]
    given = sys.argv[1:] if arguments is None else arguments
    if training_arguments.max_steps > 0 and not any(argument.startswith("--warmup_steps") for argument in given):
        # Runs on small sets are short, and would end before their rate is reached.
        training_arguments.warmup_steps = min(training_arguments.warmup_steps, training_arguments.max_steps // 10)
    return parsed


def build_trainer(
    model: nn.Module, pipe: LumosVideoPipeline, arguments: FinetuningArguments, training_arguments: TrainingArguments
) -> Trainer:
    """
    A stock `Trainer` with AR-DF batches of a tokenised set, images and videos apart, and the callbacks of this package.

    Batches and masks follow from `data_seed`, or else `seed`, and the epoch, so that a run that was interrupted goes on
    with the ones it would have had.

    Args:
        model: `pipe.transformer`, or a peft model around it.
        pipe: its video tokenizer, in float32, is the one that the set was made with.
        arguments: of this package.
        training_arguments: of the Trainer.

    Raises:
        ValueError: if the set cannot be used with this checkpoint or is too small, or an argument is out of range.
    """
    if training_arguments.label_smoothing_factor != 0:
        raise ValueError(
            "`label_smoothing_factor` must be 0, as a Trainer would smooth over text as well as visual codes, got "
            f"{training_arguments.label_smoothing_factor}."
        )
    collator = DataCollatorForDiffusionForcing(
        pipe.transformer.config,
        pipe.tokenizer,
        strategy=arguments.mask_strategy,
        mask_schedule=arguments.mask_schedule,
        minimum_mask_ratio=arguments.minimum_mask_ratio,
        prompt_drop_probability=arguments.prompt_drop_probability,
        skip_logits=True,
    )
    dataset = load_tokenized_dataset(arguments.data, video_tokenizer_checksum(pipe.vqvae))
    if not 1 <= arguments.eval_clips < len(dataset):
        raise ValueError(
            f"`eval_clips` must be at least 1 and leave a clip of the {len(dataset)} in '{arguments.data}' to train on, got "
            f"{arguments.eval_clips}."
        )
    seed = training_arguments.seed if training_arguments.data_seed is None else training_arguments.data_seed
    parts = dataset.train_test_split(test_size=arguments.eval_clips, seed=seed)
    batches = {
        name: BatchedDataset(
            clips, BucketBatchSampler(clips, arguments.image_batch_size, arguments.video_batch_size, seed)
        )
        for name, clips in parts.items()
    }
    trainer = Trainer(
        model, training_arguments, collator, train_dataset=batches["train"], eval_dataset=batches["test"]
    )
    trainer.add_callback(FrameLossCallback(trainer, parts["test"]))
    if arguments.sample_prompts:
        trainer.add_callback(SampleGridCallback(pipe, arguments.sample_prompts, arguments.sample_steps))
    return trainer


def train(trainer: Trainer) -> None:
    """
    Trains, from the last complete checkpoint in the output directory if there is one, or from `resume_from_checkpoint`,
    and plots the loss to `loss.png`.
    """
    output = Path(cast(str, trainer.args.output_dir))
    resume(trainer)
    if trainer.is_world_process_zero():
        save_loss_curve(trainer.state.log_history, output / "loss.png")
