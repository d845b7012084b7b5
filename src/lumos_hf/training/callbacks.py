# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
What to look at while a Lumos model trains: the loss of each frame on held-out clips, and samples.

All processes of a distributed run call the model alike, as sharded weights need it; the first one writes the files.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
import torch.nn.functional as F
from torch import nn
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ..argument_checks import check_minimum
from ..media import contact_sheet, write_media
from ..modeling_lumos import LumosForCausalLM
from ..token_layout import derive_layout
from .data_collator import IGNORED_LABEL, DataCollatorForDiffusionForcing
from .loss_curve import save_frame_loss_curves


if TYPE_CHECKING:
    from ..pipeline_lumos_video import LumosVideoPipeline


class FrameLossCallback(TrainerCallback):
    """
    Logs the loss of each latent frame on held-out clips at every evaluation, as `eval_frame_<k>_loss`, and plots the
    course of all of them to `frame_loss.png` in the output directory.

    Later frames can be read off earlier ones where masks leave them in sight, so that their loss falls far below that of
    the first; temporal tube masking is there to even this out (arXiv 2507.08801, section 3.3). Masks are drawn once, as
    the trainer's collator draws them, and prompts are kept: what changes from one evaluation to the next is the model.

    Args:
        trainer: of the run; its collator is a [`DataCollatorForDiffusionForcing`].
        clips: features for the collator, at least one.

    Raises:
        ValueError: if there are no clips.
    """

    def __init__(self, trainer: Trainer, clips: Sequence[Mapping[str, Any]]) -> None:
        if not len(clips):
            raise ValueError("`clips` must hold at least one clip, got none.")
        self.trainer = trainer
        # Any collator of the type that the trainer must have is a dataclass.
        collator = replace(
            cast(DataCollatorForDiffusionForcing, trainer.data_collator), prompt_drop_probability=0, skip_logits=None
        )
        features: list[Mapping[str, Any]] = [{**clips[index], "seed": index} for index in range(len(clips))]
        size = trainer.args.per_device_eval_batch_size
        self.batches = [collator(features[start : start + size]) for start in range(0, len(features), size)]

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        model = kwargs["model"]
        with _evaluating(model):
            losses = frame_losses(
                model, [{name: value.to(args.device) for name, value in batch.items()} for batch in self.batches]
            )
        self.trainer.log({f"eval_frame_{frame}_loss": loss for frame, loss in enumerate(losses)})
        if state.is_world_process_zero:
            save_frame_loss_curves(state.log_history, Path(cast(str, args.output_dir)) / "frame_loss.png")


@torch.no_grad()
def frame_losses(model: LumosForCausalLM, batches: Sequence[Mapping[str, torch.Tensor]]) -> list[float]:
    """
    Cross entropy of the masked visual tokens of each latent frame, averaged over all batches.

    Args:
        model: [`LumosForCausalLM`], or a peft model around it.
        batches: of [`DataCollatorForDiffusionForcing`], on the model's device.
    """
    parts = [_token_losses(model, batch) for batch in batches]
    token_losses, frames = (torch.cat(part) for part in zip(*parts, strict=True))
    return (frames.bincount(token_losses) / frames.bincount()).tolist()


def _token_losses(model: LumosForCausalLM, batch: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Losses of the labelled tokens, and the frames they are in."""
    is_labelled = batch["labels"] != IGNORED_LABEL
    _, frame_ids = derive_layout(batch["input_ids"], model.config, batch["attention_mask"])
    states = model(
        input_ids=batch["input_ids"],
        attention_mask=batch["attention_mask"],
        logits_to_keep=is_labelled,
        skip_logits=True,
        use_cache=False,
    ).last_hidden_state
    codes = batch["labels"][is_labelled] - model.config.visual_token_offset
    num_rows = model.num_rows_per_chunk(states.device)
    losses = [
        F.cross_entropy(
            model(last_hidden_state=rows, visual_logits_only=True).logits.float(), targets, reduction="none"
        )
        for rows, targets in zip(states.split(num_rows), codes.split(num_rows), strict=True)
    ]
    return torch.cat(losses), frame_ids[is_labelled]


class SampleGridCallback(TrainerCallback):
    """
    Samples from the model every so many steps and writes one sheet, a row of frames per prompt, to
    `samples/step-<n>.png` in the output directory. The same seeds every time; the run's own draws stay what they are.

    Args:
        pipe: its transformer is the one in training. Size, frames and steps are the pipeline's defaults.
        prompts: at least one.
        every_steps: optimizer steps between two sheets.
        max_columns: at most this many frames of a sample are shown.

    Raises:
        ValueError: if there are no prompts, or a number is below 1.
    """

    def __init__(
        self, pipe: "LumosVideoPipeline", prompts: Sequence[str], every_steps: int, max_columns: int = 8
    ) -> None:
        if not prompts:
            raise ValueError("`prompts` must hold at least one prompt, got none.")
        check_minimum("every_steps", every_steps, 1)
        check_minimum("max_columns", max_columns, 1)
        self.pipe = pipe
        self.prompts = list(prompts)
        self.every_steps = every_steps
        self.max_columns = max_columns

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.global_step % self.every_steps != 0:
            return
        self.pipe.vqvae.to(args.device)
        generators = [torch.Generator().manual_seed(seed) for seed in range(len(self.prompts))]
        with _evaluating(self.pipe.transformer):
            clips = self.pipe(self.prompts, generator=generators).frames
        if state.is_world_process_zero:
            path = Path(cast(str, args.output_dir)) / "samples" / f"step-{state.global_step:06d}.png"
            write_media(path, [contact_sheet(clips, self.max_columns)])


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)
