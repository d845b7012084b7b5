# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
Teaches a checkpoint to do with few steps and one branch what it does itself with many steps and guidance.

Two things are distilled at once, on states that decoding with few steps meets: the history masked as in decoding, a frame
with as many undecided codes as one of the steps to be taken finds, and the decided ones those that the many steps decided
first.

- Guidance: the student alone gives the distribution that the teacher has under guidance (guidance distillation,
  arXiv 2210.03142).
- Steps: the student predicts, from that state, the codes that the teacher had in the end, after all of its steps: the
  marginals of what many steps make of a state (as self-distillation through time does in stages, arXiv 2410.21035).
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedTokenizerBase

from ..configuration_lumos import LumosConfig
from ..decoding.frame_decoder import guide
from ..generation_defaults import steps_of_frame
from ..pipeline_lumos_video import LumosVideoPipeline
from ..scheduling_mask_decoding import MaskDecodingScheduler
from ..token_layout import UNKNOWN_CODE, content_positions, frame_length, visual_positions
from .data_collator import IGNORED_LABEL, Clip, DataCollatorForDiffusionForcing


def sample_with_order(
    pipe: LumosVideoPipeline, prompts: list[str], seeds: Sequence[int], **call: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    What the checkpoint makes of prompts, and in which order it decided it.

    Args:
        pipe: the checkpoint.
        prompts: B captions.
        seeds: one per prompt.
        call: further arguments of the call of `pipe`.

    Returns:
        Codes and the step that decided each, both int64 `(B, t, h, w)`.
    """
    deciding_steps: list[torch.Tensor] = []

    def note(_: Any, step: int, timestep: torch.Tensor, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        is_decided = tensors["latents"] != UNKNOWN_CODE
        if int(timestep) == 0:
            deciding_steps.append(torch.full_like(tensors["latents"], pipe.num_timesteps))
        frame = deciding_steps[-1]
        frame[is_decided] = frame[is_decided].clamp(max=int(timestep))
        return {}

    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    codes = pipe(prompts, generator=generators, output_type="latent", callback_on_step_end=note, **call).frames
    return codes, torch.stack(deciding_steps, dim=1).to(codes)


def undecided_counts(scheduler: MaskDecodingScheduler, num_inference_steps: int, num_codes: int) -> list[int]:
    """
    How many codes of a frame are undecided before each step.

    Args:
        scheduler: has the schedule; its number of steps is set.
        num_inference_steps: of the frame.
        num_codes: of the frame.
    """
    scheduler.set_timesteps(num_inference_steps)
    counts = [num_codes]
    for step in range(num_inference_steps - 1):
        sample = torch.arange(num_codes)[None] - counts[-1]
        counts.append(int(scheduler.mask_lengths(sample.clamp(UNKNOWN_CODE, 0), step)))
    return counts


@dataclass
class FewStepCollator:
    """
    Batches of states that decoding with few steps meets, for [`FewStepObjective`] in a stock `Trainer` with
    `remove_unused_columns=False`.

    A feature is one of [`DataCollatorForDiffusionForcing`], with an item `deciding_steps` of the shape of `codes` where it
    is known when each code was decided: those that came first are seen first. Without it any are. For every clip one step
    of one frame is drawn, each step of the video as often as the others.

    Args:
        config: names the token ids.
        tokenizer: of captions; not needed for features with `text_ids`.
        scheduler: the student's.
        num_inference_steps: the student's, one number or one per latent frame.
        history_mask_ratio: of decoding, see [`LumosVideoPipeline.__call__`].
        max_targets: so many undecided codes of a clip at most are learned from, drawn at random, which bounds the memory
            of logits.
    """

    config: LumosConfig
    tokenizer: PreTrainedTokenizerBase | None
    scheduler: MaskDecodingScheduler
    num_inference_steps: int | Sequence[int]
    history_mask_ratio: float
    max_targets: int = 1024

    def __post_init__(self) -> None:
        self._reader = DataCollatorForDiffusionForcing(self.config, self.tokenizer)

    def __call__(self, features: list[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        """
        Returns:
            `input_ids`, `attention_mask` and `labels`, each `(B, L)`, and the same of the sequences without prompts, with
            `unconditional_` before their names. Labels are ids of undecided codes and -100 elsewhere, in both alike.
        """
        clips = [self._reader.read_clip(index, feature) for index, feature in enumerate(features)]
        rows = [
            (torch.tensor(clip.prefix), *self._state(clip, feature.get("deciding_steps")))
            for clip, feature in zip(clips, features, strict=True)
        ]
        conditional = [
            (torch.cat([prefix, ids]), torch.cat([torch.full_like(prefix, IGNORED_LABEL), labels]))
            for prefix, ids, labels in rows
        ]
        unconditional = self._pad([(ids, labels) for _, ids, labels in rows])
        return self._pad(conditional) | {f"unconditional_{name}": value for name, value in unconditional.items()}

    def _state(self, clip: Clip, deciding_steps: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Token ids from `video_start` to the end of a frame that is being decoded, and labels."""
        t, h, w = clip.codes_shape
        length, mask_id = frame_length(h, w), self.config.mask_token_id
        counts = [
            (frame, count)
            for frame in range(t)
            for count in undecided_counts(self.scheduler, steps_of_frame(self.num_inference_steps, frame), h * w)
        ]
        frame, count = counts[int(torch.randint(len(counts), (), generator=clip.generator))]
        start = clip.header_length + frame * length
        ids = clip.visual_ids[: start + length].clone()
        labels = torch.full_like(ids, IGNORED_LABEL)

        content = content_positions(h, w)
        masked = content[self.scheduler.history_mask_indices(len(content), self.history_mask_ratio)]
        ids[clip.header_length : start].view(frame, length)[:, masked] = mask_id
        # Whole numbers decide, and chance among equal ones.
        order = torch.rand(h * w, generator=clip.generator)
        if deciding_steps is not None:
            order += torch.as_tensor(deciding_steps)[frame].flatten()
        undecided = start + visual_positions(h, w)[order.argsort(descending=True)[:count]]
        targets = undecided[torch.randperm(count, generator=clip.generator)[: self.max_targets]]
        labels[targets] = ids[targets]
        ids[undecided] = mask_id
        return ids, labels

    def _pad(self, rows: list[tuple[torch.Tensor, torch.Tensor]]) -> dict[str, torch.Tensor]:
        padding = self.config.pad_token_id or 0
        return {
            "input_ids": pad_sequence([ids for ids, _ in rows], batch_first=True, padding_value=padding),
            "attention_mask": pad_sequence([torch.ones_like(ids) for ids, _ in rows], batch_first=True),
            "labels": pad_sequence([labels for _, labels in rows], batch_first=True, padding_value=IGNORED_LABEL),
        }


class FewStepObjective(nn.Module):
    """
    The loss of a student, in the form that a stock `Trainer` takes. With `p` the student's distribution of a code and `q`
    the guided one of the teacher at the same state, both at the temperature at which it draws codes, and `c` the code that
    the teacher had in the end:

        loss = -log p(c) + teacher_weight * KL(q || p)

    Its `state_dict` has what is trained, so that checkpoints of LoRA weights are small.

    Args:
        student: a [`LumosForCausalLM`] with an adapter of peft around it, or one of which all weights are trained.
        teacher: the checkpoint as it was; None for the student with its adapter switched off.
        guidance_scale: the teacher's.
        token_temperature: at which the teacher draws codes; 0 counts as 1.
        teacher_weight: 0 leaves the teacher's passes out.
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module | None = None,
        *,
        guidance_scale: float,
        token_temperature: float = 1.0,
        teacher_weight: float = 1.0,
    ):
        super().__init__()
        self.student = student
        # In a list, as it is no part of what is trained, moved or saved.
        self._teacher = [] if teacher is None else [teacher.eval().requires_grad_(False)]
        self.guidance_scale = guidance_scale
        self.temperature = token_temperature or 1.0
        self.teacher_weight = teacher_weight

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        labels: torch.Tensor,
        unconditional_input_ids: torch.Tensor,
        unconditional_attention_mask: torch.Tensor,
        unconditional_labels: torch.Tensor,
    ) -> dict[str, torch.Tensor]:
        """See [`FewStepCollator`] for what goes in. Returns `loss`, a scalar."""
        logits = self._logits(self.student, input_ids, attention_mask, labels)
        log_probabilities = (logits.float() / self.temperature).log_softmax(dim=-1)
        codes = labels[labels != IGNORED_LABEL] - cast(Any, self.student).config.visual_token_offset
        loss = F.nll_loss(log_probabilities, codes)
        if self.teacher_weight > 0:
            with torch.no_grad(), self._teaching() as teacher:
                branches = [self._logits(teacher, input_ids, attention_mask, labels)]
                if self.guidance_scale > 1:
                    unconditional = (unconditional_input_ids, unconditional_attention_mask, unconditional_labels)
                    branches.append(self._logits(teacher, *unconditional))
                targets = (guide(branches, self.guidance_scale) / self.temperature).log_softmax(dim=-1)
            divergence = F.kl_div(log_probabilities, targets, reduction="batchmean", log_target=True)
            loss = loss + self.teacher_weight * divergence
        return {"loss": loss}

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Of all weights those that are trained."""
        trained = self._trained_names()
        return {name: value for name, value in super().state_dict(*args, **kwargs).items() if name in trained}

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """What [`~FewStepObjective.state_dict`] gives. Only a weight that is trained can be missing."""
        result = super().load_state_dict(state_dict, strict=False, assign=assign)
        missing = sorted(self._trained_names() & set(result.missing_keys))
        if strict and (missing or result.unexpected_keys):
            raise RuntimeError(f"Missing weights: {missing}, unexpected ones: {result.unexpected_keys}.")
        return type(result)(missing, result.unexpected_keys)

    def _trained_names(self) -> set[str]:
        return {name for name, parameter in self.named_parameters() if parameter.requires_grad}

    def activation_checkpointing_enable(self, **kwargs: Any) -> None:
        """Of the student, for the `Trainer`."""
        cast(Any, self.student).activation_checkpointing_enable(**kwargs)

    @contextmanager
    def _teaching(self) -> Iterator[nn.Module]:
        if self._teacher:
            yield self._teacher[0]
            return
        with cast(Any, self.student).disable_adapter():
            yield self.student

    @staticmethod
    def _logits(
        model: nn.Module, input_ids: torch.Tensor, attention_mask: torch.Tensor, labels: torch.Tensor
    ) -> torch.Tensor:
        """Of the visual codes at the labels, `(labels, codes)`."""
        return model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            logits_to_keep=labels != IGNORED_LABEL,
            visual_logits_only=True,
            use_cache=False,
        ).logits
