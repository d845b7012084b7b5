# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
Faster decoding that changes the result: what may be left out, and the preset that was measured.

Everything here is off by default. docs/speed.md has the cost and the score of each option.
"""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch

from ..argument_checks import check_choice, check_integer, check_number, is_number
from ..scheduling_mask_decoding import halton_order


DECODING_ORDERS = ("confidence", "halton")


@dataclass(frozen=True)
class DecodingApproximations:
    """
    What [`LumosVideoPipeline.__call__`] may leave out. The defaults leave out nothing: results are exact.

    Args:
        step_ratio (`float`, defaults to 1.0):
            Share in [0, 1] of the default number of steps that is taken, at least one step, by calls that do not give
            `num_inference_steps`.
        guidance_interval (`tuple[float, float]`, defaults to `(0.0, 1.0)`):
            Step s of T is guided if `start <= s / T < stop`; the others run the conditional branch alone (limited
            interval guidance, arXiv 2404.07724).
        unconditional_skip_range (`int`, defaults to 1):
            The unconditional branch runs in every so-many-th guided step of a frame. Those between keep its last
            difference to the conditional branch, position by position (the condition cache of LazyMAR, arXiv 2503.12450;
            the name is that of `FasterCacheConfig` in diffusers).
        confidence_threshold (`float`, *optional*):
            Codes at least as probable as this, in [0, 1], are kept whatever the schedule says, and every step decides
            one code or more; a frame whose codes are all decided needs no more passes (confidence-aware parallel
            decoding, Fast-dLLM, arXiv 2505.22618). In a batch, a step costs as much as before while any row needs it.
        entropy_bound (`float`, *optional*):
            In nats: a step keeps as well the codes of the lowest entropies, as many as add up to at most this without the
            highest one, whatever the schedule says, and at least one (entropy-bounded unmasking, arXiv 2505.24857; the name
            is that of `EntropyBoundScheduler` in diffusers). 0 keeps ahead what is certain alone. Passes are saved as with
            `confidence_threshold`.
        decoding_order (`str`, defaults to `"confidence"`):
            `"halton"` decides the codes in a fixed low-discrepancy order instead of the most confident first
            (arXiv 2503.17076). A step costs as much; it is meant to get by with fewer steps.
        history_window (`int`, *optional*):
            How many of the latest frames a new frame sees whole, beside the prompt and the first frame; None for all.
            Older frames are thinned, at their places in space and time (in the manner of PackCache,
            arXiv 2601.04359).
        history_keep_ratio (`float`, defaults to 0.0):
            Share in [0, 1] of a thinned frame's tokens that stay, evenly spaced; 0 drops such frames. Of no effect
            without `history_window`.

    Raises:
        ValueError: for a value out of range.
    """

    step_ratio: float = 1.0
    guidance_interval: tuple[float, float] = (0.0, 1.0)
    unconditional_skip_range: int = 1
    confidence_threshold: float | None = None
    entropy_bound: float | None = None
    decoding_order: str = "confidence"
    history_window: int | None = None
    history_keep_ratio: float = 0.0

    def __post_init__(self) -> None:
        check_number("step_ratio", self.step_ratio, maximum=1)
        _check_interval("guidance_interval", self.guidance_interval)
        check_integer("unconditional_skip_range", self.unconditional_skip_range)
        if self.confidence_threshold is not None:
            check_number("confidence_threshold", self.confidence_threshold, maximum=1)
        if self.entropy_bound is not None:
            check_number("entropy_bound", self.entropy_bound)
        check_choice("decoding_order", self.decoding_order, DECODING_ORDERS)
        if self.history_window is not None:
            check_integer("history_window", self.history_window, minimum=0)
        check_number("history_keep_ratio", self.history_keep_ratio, maximum=1)

    def reduced_steps(self, num_inference_steps: int | Sequence[int]) -> int | list[int]:
        """How many of the default number of steps are taken, or of each of several."""
        if isinstance(num_inference_steps, (list, tuple)):
            return [max(1, round(self.step_ratio * count)) for count in num_inference_steps]
        return max(1, round(self.step_ratio * cast(int, num_inference_steps)))


def _check_interval(name: str, value: tuple[float, float]) -> None:
    is_pair = isinstance(value, Sequence) and len(value) == 2 and all(is_number(bound, maximum=1) for bound in value)
    if not is_pair or value[0] > value[1]:
        raise ValueError(f"`{name}` must be two numbers in [0, 1], the smaller one first, got {value!r}.")


EXACT = DecodingApproximations()
# Chosen on training combinations of the demo checkpoint, see docs/speed.md.
PRESETS = {"fast": DecodingApproximations(step_ratio=2 / 3, unconditional_skip_range=4)}


def resolve_approximations(value: DecodingApproximations | str | None) -> DecodingApproximations:
    """
    The approximations that an argument stands for: itself, a preset's by name, none for None.

    Raises:
        ValueError: for anything else.
    """
    if value is None:
        return EXACT
    if isinstance(value, DecodingApproximations):
        return value
    if isinstance(value, str) and value in PRESETS:
        return PRESETS[value]
    raise ValueError(
        f"`approximations` must be None, a DecodingApproximations or one of {list(PRESETS)}, got {value!r}."
    )


class StepShortcuts:
    """
    What the steps of one call leave out.

    Args:
        approximations: what to leave out.
        num_inference_steps: of the first frame.
        h, w: rows and columns of codes.
        device: of the codes.
    """

    def __init__(
        self, approximations: DecodingApproximations, num_inference_steps: int, h: int, w: int, device: torch.device
    ):
        self._approximations = approximations
        self.set_timesteps(num_inference_steps)
        self._residual: torch.Tensor | None = None
        self._is_residual_lost = False
        is_halton = approximations.decoding_order == "halton"
        self.keep_rule: dict[str, Any] = {
            "order": halton_order(h, w).to(device) if is_halton else None,
            "confidence_threshold": approximations.confidence_threshold,
            "entropy_bound": approximations.entropy_bound,
        }

    def set_timesteps(self, num_inference_steps: int) -> None:
        """Which steps of a frame that takes so many are guided, and which of them with an unconditional pass of their own."""
        start, stop = self._approximations.guidance_interval
        guided_steps = [step for step in range(num_inference_steps) if start <= step / num_inference_steps < stop]
        self._unconditional_steps = guided_steps[:: self._approximations.unconditional_skip_range]
        self._reusing_steps = sorted({*guided_steps} - {*self._unconditional_steps})

    def fork(self) -> "StepShortcuts":
        """Another one that has come as far, and goes on by itself."""
        other = copy.copy(self)
        if self._residual is not None:
            other._residual = self._residual.clone()
        return other

    def branches_to_run(self, branches: list[Any], timestep: int | torch.Tensor) -> list[Any]:
        """Both branches of guidance, or the first one, the conditional one, alone."""
        step = int(timestep)
        needs_residual = self._is_residual_lost and step in self._reusing_steps
        return branches if step in self._unconditional_steps or needs_residual else branches[:1]

    def complete(
        self,
        outputs: list[torch.Tensor],
        undecided: torch.Tensor,
        timestep: int | torch.Tensor,
        is_guided: bool = True,
    ) -> list[torch.Tensor]:
        """
        Adds what a skipped unconditional branch would have given, by its last difference to the conditional one.

        Args:
            outputs: of the branches that were run, `(R, width)` for the R True positions of `undecided`.
            undecided: `(B, n)`. Positions that were decided in the last step with both branches have no guidance.
            timestep: of the scheduler.
            is_guided: whether there is guidance at all. A step without any ends what may be reused.
        """
        if not is_guided:
            self._residual, self._is_residual_lost = None, True
        elif len(outputs) == 2 and self._reusing_steps:
            conditional, unconditional = outputs
            if self._residual is None:
                self._residual = conditional.new_zeros(*undecided.shape, conditional.shape[-1])
            self._residual[undecided] = conditional - unconditional
            self._is_residual_lost = False
        elif int(timestep) in self._reusing_steps and self._residual is not None:
            outputs = [outputs[0], outputs[0] - self._residual[undecided]]
        return outputs


class CompactHistory:
    """
    Which tokens of past frames stay cached: those of the first frame, those of the latest `window` frames, and of the
    frames between them those at `kept`.

    Args:
        approximations: what to leave out.
        frame_length: tokens of a frame.
    """

    def __init__(self, approximations: DecodingApproximations, frame_length: int):
        self.window = math.inf if approximations.history_window is None else approximations.history_window
        self.frame_length = frame_length
        count = round(approximations.history_keep_ratio * frame_length)
        self.kept = torch.arange(count) * frame_length // max(1, count)

    def num_forgotten(self, num_frames: int) -> int:
        """How many of the tokens of so many past frames are not held."""
        num_thinned = max(0, num_frames - 1 - self.window)
        return int(num_thinned) * (self.frame_length - len(self.kept))

    def kept_of(self, num_whole_frames: int) -> torch.Tensor | None:
        """
        Which of the tokens of the latest frames stay, ascending; None for all.

        Args:
            num_whole_frames: so many frames at the end of the cache, not counting the first one of all, are whole.
        """
        num_thinned = num_whole_frames - self.window
        if num_thinned <= 0:
            return None
        starts = torch.arange(num_thinned) * self.frame_length
        window = torch.arange(num_thinned * self.frame_length, num_whole_frames * self.frame_length)
        return torch.cat([(starts[:, None] + self.kept).flatten(), window])
