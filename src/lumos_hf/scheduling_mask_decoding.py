# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
Mask-based discrete diffusion inside one latent frame: the decoding step of Lumos-1 (arXiv 2507.08801) and the masking
rules that training shares with it.

Shapes: B rows, n visual positions of a frame, V visual codes, R any selection of positions (a chunk of `B * n`).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from diffusers.utils import BaseOutput

from .argument_checks import check_choice, check_integer, check_number, check_shape


DEFAULT_HISTORY_MASK_RATIO = 0.3
SMALLEST_GUMBEL_ARGUMENT = 1e-20
SAMPLING_BLOCK_SIZE = 256
SIGMOID_HALF_WIDTH = 3.0
POWER_EXPONENT = 2.0

# Between them, logits and confidences stay finite in float32.
SMALLEST_TEMPERATURE, LARGEST_TEMPERATURE = 1e-6, 1e6

TEMPERATURE_DECAYS = ("compounding", "linear")


def _sigmoid_schedule(progress: torch.Tensor) -> torch.Tensor:
    start, end = (1 / (1 + math.exp(-x)) for x in (-SIGMOID_HALF_WIDTH, SIGMOID_HALF_WIDTH))
    return (end - torch.sigmoid(SIGMOID_HALF_WIDTH * (2 * progress - 1))) / (end - start)


MASK_SCHEDULES: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "cosine": lambda progress: torch.cos(progress * math.pi / 2),
    "linear": lambda progress: 1 - progress,
    "pow": lambda progress: 1 - progress**POWER_EXPONENT,
    "sigmoid": _sigmoid_schedule,
}


def mask_ratio(progress: torch.Tensor, mask_schedule: str = "cosine") -> torch.Tensor:
    """
    The share of tokens that is masked when the given part of the decoding is done.

    The schedules are those of the MaskGIT family (arXiv 2202.04200, section 3.3): all fall from 1 at progress 0 to 0
    at progress 1. Lumos-1 uses `"cosine"`, in decoding and in training.

    Args:
        progress (`torch.Tensor`): floating point, any shape, values in [0, 1].
        mask_schedule (`str`): `"cosine"`, `"linear"`, `"pow"` (quadratic) or `"sigmoid"`.

    Returns:
        `torch.Tensor`: same shape and dtype, values in [0, 1].

    Raises:
        ValueError: for an unknown schedule.
    """
    check_choice("mask_schedule", mask_schedule, MASK_SCHEDULES)
    return MASK_SCHEDULES[mask_schedule](progress).clamp(0, 1)


def gumbel_noise(uniforms: torch.Tensor) -> torch.Tensor:
    """Standard Gumbel noise from uniform draws in [0, 1), same shape and dtype; 0 and values near 1 stay finite."""
    exponential = -torch.log(uniforms.clamp(min=SMALLEST_GUMBEL_ARGUMENT))
    return -torch.log(exponential.clamp(min=SMALLEST_GUMBEL_ARGUMENT))


def mask_lowest(confidence: torch.Tensor, mask_lengths: torch.Tensor) -> torch.Tensor:
    """
    Mark the least confident positions of every row.

    A position is marked if it lies strictly below the value that has `mask_lengths` smaller ones. Positions tied with
    that value are kept, so ties mark fewer positions than asked for, as in the official code.

    Args:
        confidence (`torch.Tensor` of shape `(B, n)`): floating point.
        mask_lengths (`torch.LongTensor` of shape `(B,)`): how many positions to mark, at least 0.

    Returns:
        `torch.BoolTensor` of shape `(B, n)`.
    """
    cut_off_index = mask_lengths.clamp(max=confidence.shape[-1] - 1)
    cut_off = confidence.sort(dim=-1).values.gather(-1, cut_off_index[:, None])
    return confidence < cut_off


def within_entropy_bound(entropies: torch.Tensor, entropy_bound: float) -> torch.Tensor:
    """
    Which positions of every row to decide at once: those of the lowest entropies, as many as have a sum of at most
    `entropy_bound` without the highest one of them, and at least one (arXiv 2505.24857).

    Args:
        entropies (`torch.Tensor` of shape `(B, n)`): in nats; infinite where there is nothing to decide.
        entropy_bound (`float`): in nats.

    Returns:
        `torch.BoolTensor` of shape `(B, n)`.
    """
    ascending, order = entropies.sort(dim=-1, stable=True)
    sums_before = torch.nn.functional.pad(ascending.cumsum(dim=-1)[..., :-1], (1, 0))
    fits = (sums_before <= entropy_bound) & ascending.isfinite()
    return torch.zeros_like(fits).scatter(-1, order, fits)


def halton_order(h: int, w: int) -> torch.Tensor:
    """
    Positions of a frame in a low-discrepancy order: wherever it is cut, the positions before the cut are spread evenly
    over the frame (Halton scheduler, arXiv 2503.17076).

    The points of the two-dimensional Halton sequence with bases 2 and 3 are rounded down to the grid; a position comes
    where the sequence meets it first.

    Args:
        h (`int`): rows of codes.
        w (`int`): columns of codes.

    Returns:
        `torch.LongTensor` of shape `(h * w,)`: every position from 0 to `h * w - 1` once, on the CPU.
    """
    num_points = h * w
    while True:
        index = torch.arange(num_points)
        positions = _halton_cells(index, 2, h) * w + _halton_cells(index, 3, w)
        first_met = index.new_full((h * w,), num_points).scatter_reduce(0, positions, index, "amin")
        if first_met.max() < num_points:
            return first_met.argsort()
        num_points *= 2


def _halton_cells(index: torch.Tensor, base: int, num_cells: int) -> torch.Tensor:
    """In which of so many cells of [0, 1) the digits of `index`, mirrored at the point, lie; in exact integers."""
    mirrored, scale = torch.zeros_like(index), 1
    while index.any():
        mirrored = mirrored * base + index % base
        index, scale = index // base, scale * base
    return mirrored * num_cells // scale


def sample_from_probabilities(probabilities: torch.Tensor, uniforms: torch.Tensor) -> torch.Tensor:
    """
    Draw one index per row by inverting the cumulative distribution.

    The draw is the first index whose cumulative probability reaches the uniform number. It is found among blocks of
    codes and then inside one block, so that only sums of blocks, not all 64,000 codes, are accumulated one by one. The
    accumulation runs in float64, since so many float32 additions would move the borders between codes.

    Args:
        probabilities (`torch.Tensor` of shape `(R, V)`): float32 or float64; rows need not sum to exactly 1.
        uniforms (`torch.Tensor` of shape `(R,)`): in [0, 1).

    Returns:
        `torch.LongTensor` of shape `(R,)`.
    """
    block_size = math.gcd(probabilities.shape[-1], SAMPLING_BLOCK_SIZE)
    blocks = probabilities.unflatten(-1, (-1, block_size))
    block_ends = blocks.sum(dim=-1).cumsum(dim=-1, dtype=torch.float64)

    # A draw of exactly 0 would select the first code even where its probability is 0.
    positive = uniforms.to(torch.float64).clamp(min=torch.finfo(torch.float64).tiny)
    targets = positive[:, None] * block_ends[:, -1:]
    block = torch.searchsorted(block_ends, targets).clamp(max=block_ends.shape[-1] - 1)

    cumulative = blocks.take_along_dim(block[..., None], dim=1)[:, 0].cumsum(dim=-1, dtype=torch.float64)
    block_starts = torch.nn.functional.pad(block_ends, (1, 0)).gather(-1, block)
    # Rounding may carry a target past the end of its block, to a code whose probability is 0.
    targets = torch.minimum(targets - block_starts, cumulative[:, -1:])
    # Probabilities that are no numbers would end one beyond the last code.
    inside = torch.searchsorted(cumulative, targets).clamp(max=block_size - 1)
    return (block * block_size + inside)[:, 0]


def softmax_in_place(logits: torch.Tensor) -> torch.Tensor:
    """
    `logits.softmax(dim=-1)`, on a CPU in the memory of the logits, where no gradients are wanted. Its kernel writes a value
    only after the last time that it reads it; of those of other devices nobody promises that.
    """
    is_writable = logits.is_cpu and not (logits.requires_grad and torch.is_grad_enabled())
    return torch.softmax(logits, dim=-1, out=logits) if is_writable else logits.softmax(dim=-1)


@dataclass
class MaskDecodingSchedulerOutput(BaseOutput):
    """
    Output of [`MaskDecodingScheduler.step`].

    Args:
        prev_sample (`torch.LongTensor` of shape `(B, n)`):
            The frame's codes after the step; positions left for later steps hold the mask value.
        pred_original_sample (`torch.LongTensor` of shape `(B, n)`):
            The complete frame as predicted in this step, before the least confident positions are masked again.
    """

    prev_sample: torch.Tensor
    pred_original_sample: torch.Tensor


class MaskDecodingScheduler(SchedulerMixin, ConfigMixin):  # type: ignore[misc]  # bases of diffusers, in its order
    """
    Decodes the masked tokens of a frame in parallel, the most confident first (MaskGIT, arXiv 2202.04200, as used by
    Lumos-1, arXiv 2507.08801).

    In step s of T every masked position is sampled, then the least confident ones are masked again:

        masked positions left  = max(1, min(unknown - 1, floor(n * schedule((s + 1) / T)))), none in the last step
        confidence             = log p(sampled code) + temperature * Gumbel noise
        temperature            = previous temperature * (1 - (s + 1) / T)

    The official code carries the temperature on from frame to frame, so that it is 0 from the second frame on; that is
    `temperature_decay="compounding"`. Call `set_timesteps` once per video, not per frame, to follow it.

    Args:
        token_temperature (`float`, defaults to 1.0):
            Divides the logits before a code is sampled; 0 takes the most probable code. The confidence always uses the
            probability before this division.
        confidence_temperature (`float`, defaults to 1.0):
            Scale of the Gumbel noise on the confidence before any decay; 0 adds no noise.
        temperature_decay (`str`, defaults to `"compounding"`):
            `"compounding"` multiplies the temperature step by step and over frames; `"linear"` lets it fall linearly
            from `confidence_temperature` to 0 within each frame.
        mask_schedule (`str`, defaults to `"cosine"`):
            `"cosine"`, `"linear"`, `"pow"` or `"sigmoid"`, see [`mask_ratio`].
        mask_value (`int`, defaults to -1):
            Marks the positions of a sample that are not decided yet. It has to be negative, as codes start at 0.

    Raises:
        ValueError: for a negative temperature, an unknown decay or schedule, or a mask value that is a code.
    """

    order = 1

    if TYPE_CHECKING:

        @property
        def config(self) -> Any:
            """Its entries are attributes, too, which the annotation of diffusers does not tell."""

    @register_to_config
    def __init__(
        self,
        token_temperature: float = 1.0,
        confidence_temperature: float = 1.0,
        temperature_decay: str = "compounding",
        mask_schedule: str = "cosine",
        mask_value: int = -1,
    ):
        for name, value in (
            ("token_temperature", token_temperature),
            ("confidence_temperature", confidence_temperature),
        ):
            check_number(name, value)
            if value > LARGEST_TEMPERATURE or 0 < value < SMALLEST_TEMPERATURE:
                raise ValueError(
                    f"`{name}` must be 0 or from {SMALLEST_TEMPERATURE:g} to {LARGEST_TEMPERATURE:g}, got {value}."
                )
        check_choice("temperature_decay", temperature_decay, TEMPERATURE_DECAYS)
        check_choice("mask_schedule", mask_schedule, MASK_SCHEDULES)
        if not isinstance(mask_value, int) or mask_value >= 0:
            raise ValueError(
                f"`mask_value` must be negative, and an integer, to differ from every code, got {mask_value!r}."
            )

        self.num_inference_steps: int | None = None
        self.timesteps: torch.Tensor | None = None
        # A tensor `(B, 1)` where rows have come through different numbers of steps.
        self.temperature: float | torch.Tensor = confidence_temperature

    @property
    def compatibles(self) -> list[type[Self]]:
        """Schedulers of the same configuration: this one alone. diffusers would look for it in itself."""
        return [type(self)]

    @property
    def has_standard_step(self) -> bool:
        """
        Whether [`step`] is the one of this class, which may be taken in parts: [`draw_uniforms`], [`sample_tokens`] chunk by
        chunk, [`mask_least_confident`]. A subclass that overrides it is called by it, with all logits at once.
        """
        return getattr(self.step, "__func__", None) is MaskDecodingScheduler.step

    @property
    def has_standard_sampling(self) -> bool:
        """Whether [`sample_tokens`] is the one of this class: a subclass's knows of no `overwrite_logits`."""
        return getattr(self.sample_tokens, "__func__", None) is MaskDecodingScheduler.sample_tokens

    def set_timesteps(self, num_inference_steps: int, device: str | torch.device | None = None) -> None:
        """
        Set the steps of every frame, `timesteps = 0 .. num_inference_steps - 1`, and reset the temperature.

        Args:
            num_inference_steps (`int`): steps per frame, at least 1.
            device (`str` or `torch.device`, *optional*): where `timesteps` lives.

        Raises:
            ValueError: if `num_inference_steps` is not an integer of at least 1.
        """
        check_integer("num_inference_steps", num_inference_steps)
        self.num_inference_steps = int(num_inference_steps)
        self.timesteps = torch.arange(self.num_inference_steps, device=device)
        self.temperature = self.config.confidence_temperature

    def step(
        self,
        model_output: torch.Tensor,
        timestep: int | torch.Tensor,
        sample: torch.Tensor,
        generator: torch.Generator | list[torch.Generator] | None = None,
        uniforms: tuple[torch.Tensor, torch.Tensor] | None = None,
        return_dict: bool = True,
        order: torch.Tensor | None = None,
        confidence_threshold: float | None = None,
        num_to_decide: torch.Tensor | None = None,
        entropy_bound: float | None = None,
    ) -> MaskDecodingSchedulerOutput | tuple[torch.Tensor, torch.Tensor]:
        """
        Decode one step of a frame. Each step has to be taken once and in order, as the temperature decays with it.

        Args:
            model_output (`torch.Tensor` of shape `(B, n, V)`):
                Logits over the visual codes, after classifier-free guidance, floating point.
            timestep (`int` or `torch.Tensor`): a value of `timesteps`.
            sample (`torch.LongTensor` of shape `(B, n)`): codes; undecided positions hold `mask_value`.
            generator (`torch.Generator` or a list of B of them, *optional*): see [`draw_uniforms`].
            uniforms (`tuple` of two `torch.Tensor` of shape `(B, n)`, *optional*):
                Numbers in [0, 1) for the codes and for the confidence, used instead of drawing them.
            return_dict (`bool`): return a [`MaskDecodingSchedulerOutput`] rather than a tuple.
            order (`torch.LongTensor` of shape `(n,)`, *optional*): see [`mask_least_confident`].
            confidence_threshold (`float`, *optional*): see [`mask_least_confident`].
            num_to_decide (`torch.LongTensor` of shape `(B,)`, *optional*): see [`mask_lengths`].
            entropy_bound (`float`, *optional*): see [`mask_least_confident`].

        Returns:
            [`MaskDecodingSchedulerOutput`] or `(prev_sample, pred_original_sample)`.

        Raises:
            ValueError: if `set_timesteps` was not called, the timestep is not one of `timesteps`, or shapes disagree.
        """
        if model_output.ndim != 3:
            raise ValueError(
                f"`model_output` must have the shape (batch, positions, codes), got {tuple(model_output.shape)}."
            )
        step_index = self._step_index(timestep)
        batch_size, num_positions, num_codes = model_output.shape
        check_shape("sample", sample, (batch_size, num_positions))

        if uniforms is None:
            uniforms = self.draw_uniforms(sample.shape, generator=generator, device=model_output.device)
        token_uniforms, confidence_uniforms = uniforms
        check_shape("uniforms[0]", token_uniforms, sample.shape)
        check_shape("uniforms[1]", confidence_uniforms, sample.shape)

        rows = model_output.reshape(-1, num_codes)
        codes, probabilities = self.sample_tokens(rows, token_uniforms.to(model_output.device).flatten())
        codes, probabilities = codes.view(sample.shape), probabilities.view(sample.shape)
        prev_sample = self.mask_least_confident(
            codes,
            probabilities,
            sample,
            step_index,
            confidence_uniforms,
            order,
            confidence_threshold,
            num_to_decide,
            entropy_bound,
            None if entropy_bound is None else self.entropies(rows).view(sample.shape),
        )
        pred_original_sample = torch.where(sample == self.config.mask_value, codes, sample)

        if not return_dict:
            return prev_sample, pred_original_sample
        return MaskDecodingSchedulerOutput(prev_sample=prev_sample, pred_original_sample=pred_original_sample)

    def draw_uniforms(
        self,
        shape: tuple[int, ...],
        generator: torch.Generator | list[torch.Generator] | None = None,
        device: str | torch.device | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Draw the random numbers of one step, for decided positions as well, so that the use of a generator depends on
        the number of steps only.

        Args:
            shape (`tuple[int, int]`): `(B, n)`.
            generator (`torch.Generator` or a list of B of them, *optional*):
                With a list, row i depends on generator i only and equals a call for that row alone. `None` uses
                torch's default generator.
            device (`str` or `torch.device`, *optional*): device of the result; draws happen on the generator's device.

        Returns:
            two `torch.Tensor` of shape `(B, n)`, float32 in [0, 1): for the codes and for the confidence.

        Raises:
            ValueError: if the number of generators is not B.
        """
        batch_size, num_positions = shape
        if isinstance(generator, (list, tuple)):
            if len(generator) != batch_size:
                raise ValueError(
                    f"`generator` must be one generator or a list of {batch_size}, one per row, got a list of "
                    f"{len(generator)}."
                )
            rows = [self.draw_uniforms((1, num_positions), row_generator, device) for row_generator in generator]
            token_uniforms, confidence_uniforms = (torch.cat(parts) for parts in zip(*rows, strict=True))
            return token_uniforms, confidence_uniforms

        draw_device = device if generator is None else generator.device
        token_uniforms = torch.rand(shape, generator=generator, device=draw_device, dtype=torch.float32)
        confidence_uniforms = torch.rand(shape, generator=generator, device=draw_device, dtype=torch.float32)
        return token_uniforms.to(device), confidence_uniforms.to(device)

    def sample_tokens(
        self, logits: torch.Tensor, uniforms: torch.Tensor | None = None, overwrite_logits: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Sample one code per row of logits. Rows are independent, so a frame may be sampled in chunks of any size.

        Args:
            logits (`torch.Tensor` of shape `(R, V)`): guided logits over the visual codes, floating point.
            uniforms (`torch.Tensor` of shape `(R,)`, *optional*):
                Numbers in [0, 1); not needed if `token_temperature` is 0.
            overwrite_logits (`bool`, defaults to `False`):
                Whether `logits` are not needed any more, so that on a CPU their memory can serve for the probabilities.

        Returns:
            codes (`torch.LongTensor` of shape `(R,)`) and their probabilities under `softmax(logits)`
            (`torch.Tensor` of shape `(R,)`, at least float32).

        Raises:
            ValueError: if shapes disagree, or `uniforms` is missing where codes are drawn.
        """
        if logits.ndim != 2:
            raise ValueError(f"`logits` must have the shape (rows, codes), got {tuple(logits.shape)}.")
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        temperature = self.config.token_temperature
        if temperature == 0:
            codes = logits.argmax(dim=-1)
        elif uniforms is None:
            raise ValueError(f"`uniforms` must be given for `token_temperature={temperature}`, got None.")
        else:
            check_shape("uniforms", uniforms, logits.shape[:1])
            if temperature != 1:
                codes = sample_from_probabilities(softmax_in_place(logits / temperature), uniforms)
        # Not from logsumexp: guided logits are in the hundreds, where float32 has no digits left for nearly certain codes.
        probabilities = softmax_in_place(logits) if overwrite_logits else logits.softmax(dim=-1)
        if temperature == 1 and uniforms is not None:
            codes = sample_from_probabilities(probabilities, uniforms)
        return codes, probabilities.gather(-1, codes[:, None])[:, 0]

    def entropies(self, logits: torch.Tensor) -> torch.Tensor:
        """
        Entropy, in nats, of the distribution that [`sample_tokens`] draws a code from; where it draws none, of
        `softmax(logits)`.

        Args:
            logits (`torch.Tensor` of shape `(R, V)`): guided logits over the visual codes, floating point.

        Returns:
            `torch.Tensor` of shape `(R,)`, at least float32.
        """
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        return torch.special.entr((logits / (self.config.token_temperature or 1)).softmax(dim=-1)).sum(dim=-1)

    def mask_least_confident(
        self,
        codes: torch.Tensor,
        probabilities: torch.Tensor,
        sample: torch.Tensor,
        timestep: int | torch.Tensor,
        uniforms: torch.Tensor | None = None,
        order: torch.Tensor | None = None,
        confidence_threshold: float | None = None,
        num_to_decide: torch.Tensor | None = None,
        entropy_bound: float | None = None,
        entropies: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """
        Take the sampled codes of the undecided positions over and mask the least confident of them again. Advances
        the temperature, so it has to be called once per step.

        Args:
            codes (`torch.LongTensor` of shape `(B, n)`): sampled codes; ignored at decided positions.
            probabilities (`torch.Tensor` of shape `(B, n)`): their probabilities; ignored at decided positions.
            sample (`torch.LongTensor` of shape `(B, n)`): the frame before this step.
            timestep (`int` or `torch.Tensor`): a value of `timesteps`.
            uniforms (`torch.Tensor` of shape `(B, n)`, *optional*):
                Numbers in [0, 1); not needed if `confidence_temperature` is 0.
            order (`torch.LongTensor` of shape `(n,)`, *optional*):
                A permutation of the positions, such as [`halton_order`]: the last of them are masked again instead of
                the least confident.
            confidence_threshold (`float`, *optional*):
                Codes at least as probable as this are kept, though the schedule would mask them again, and at least
                one more code per step is, so that a frame may be complete early (confidence-aware parallel decoding,
                Fast-dLLM, arXiv 2505.22618).
            num_to_decide (`torch.LongTensor` of shape `(B,)`, *optional*): see [`mask_lengths`].
            entropy_bound (`float`, *optional*):
                The k codes of the lowest entropies are kept as well, and at least one, with the largest k for which their
                entropies without the highest of them add up to at most this many nats: that bounds what they tell of
                each other, which a step that draws them independently loses (entropy-bounded unmasking,
                arXiv 2505.24857; the name is that of `EntropyBoundScheduler` in diffusers).
            entropies (`torch.Tensor` of shape `(B, n)`, *optional*):
                Of the distributions that the codes were drawn from, see [`entropies`]; needed for `entropy_bound`.

        Returns:
            `torch.LongTensor` of shape `(B, n)`: the frame after this step.

        Raises:
            ValueError: if `set_timesteps` was not called, the timestep is not one of `timesteps`, shapes disagree,
                `uniforms` is missing where noise is added, or `entropies` are missing where they are bounded.
        """
        step_index = self._step_index(timestep)
        check_shape("codes", codes, sample.shape)
        check_shape("probabilities", probabilities, sample.shape)
        if uniforms is not None:
            check_shape("uniforms", uniforms, sample.shape)
        elif self.config.confidence_temperature > 0:
            raise ValueError(
                f"`uniforms` must be given for `confidence_temperature={self.config.confidence_temperature}`, got None."
            )

        if entropy_bound is not None:
            if entropies is None:
                raise ValueError("`entropies` must be given with `entropy_bound`, got None.")
            check_shape("entropies", entropies, sample.shape)

        undecided = sample == self.config.mask_value
        if (undecided & probabilities.isnan()).any():
            raise ValueError(
                "`probabilities` must be numbers, got NaN: the logits that they come from are NaN or infinite, by the weights, "
                "or because guided logits are beyond the range of their dtype."
            )
        self.temperature = self._next_temperature(step_index)
        decoded = torch.where(undecided, codes, sample)
        if step_index == self._num_steps - 1:
            return decoded

        if order is None:
            confidence = self.confidence(probabilities, sample, uniforms)
        else:
            check_shape("order", order, sample.shape[-1:])
            confidence = torch.where(undecided, -order.argsort().float(), torch.inf)
        mask_lengths = self.mask_lengths(sample, step_index, num_to_decide)
        if confidence_threshold is not None or entropy_bound is not None:
            # As the schedule leaves at least one position masked, a single unsure code would hold up a frame to the end.
            mask_lengths = mask_lengths.minimum(undecided.sum(dim=-1) - 1).clamp(min=0)
        masked = mask_lowest(confidence, mask_lengths) & undecided
        if confidence_threshold is not None:
            masked &= probabilities < confidence_threshold
        if entropy_bound is not None and entropies is not None:
            masked &= ~within_entropy_bound(entropies.masked_fill(~undecided, torch.inf), entropy_bound)
        return decoded.masked_fill(masked, self.config.mask_value)

    def confidence(
        self, probabilities: torch.Tensor, sample: torch.Tensor, uniforms: torch.Tensor | None = None
    ) -> torch.Tensor:
        """
        Log-probabilities with Gumbel noise at the current temperature; decided positions count as the float32 maximum
        instead of a probability.

        Args:
            probabilities (`torch.Tensor` of shape `(B, n)`): of the sampled codes.
            sample (`torch.LongTensor` of shape `(B, n)`): the frame before this step.
            uniforms (`torch.Tensor` of shape `(B, n)`, *optional*): numbers in [0, 1); None leaves the noise out.

        Returns:
            `torch.Tensor` of shape `(B, n)`, float32.
        """
        undecided = sample == self.config.mask_value
        scores = probabilities.float().masked_fill(~undecided, torch.finfo(torch.float32).max)
        confidence = scores.log()
        if uniforms is None:
            return confidence
        return confidence + self.temperature * gumbel_noise(uniforms.to(confidence))

    def mask_lengths(
        self, sample: torch.Tensor, timestep: int | torch.Tensor, num_to_decide: torch.Tensor | None = None
    ) -> torch.Tensor:
        """
        How many positions of each row stay masked after a step: the schedule's share of the positions that the row had to
        decide, rounded down in float32, but at least one position fewer than before and at least one. (The last step masks
        nothing, see [`mask_least_confident`].)

        Args:
            sample (`torch.LongTensor` of shape `(B, n)`): the frame before the step.
            timestep (`int` or `torch.Tensor`): a value of `timesteps`.
            num_to_decide (`torch.LongTensor` of shape `(B,)`, *optional*):
                How many positions of each row were masked before the first step: fewer than n where codes are given, as
                for inpainting with MaskGIT (arXiv 2202.04200, section 4.3). None stands for n.

        Returns:
            `torch.LongTensor` of shape `(B,)`.
        """
        progress = torch.tensor((self._step_index(timestep) + 1) / self._num_steps, dtype=torch.float32)
        ratio = mask_ratio(progress, self.config.mask_schedule)
        if num_to_decide is None:
            num_to_decide = sample.new_full(sample.shape[:1], sample.shape[-1])
        scheduled = torch.floor(num_to_decide * ratio).to(num_to_decide.dtype)
        num_undecided = (sample == self.config.mask_value).sum(dim=-1)
        return (num_undecided - 1).minimum(scheduled).clamp(min=1)

    def add_noise(
        self,
        sample: torch.Tensor,
        timesteps: int | torch.Tensor,
        generator: torch.Generator | list[torch.Generator] | None = None,
    ) -> torch.Tensor:
        """
        Mask positions of finished frames at random, as many as stay undecided after a step: decoding can begin again at
        the step that follows. The last step leaves none.

        Args:
            sample (`torch.LongTensor` of shape `(B, n)`): codes.
            timesteps (`int` or `torch.Tensor`): a value of `timesteps`, one for all rows.
            generator (`torch.Generator` or a list of B of them, *optional*): see [`draw_uniforms`].

        Returns:
            `torch.LongTensor` of shape `(B, n)`: the codes, with `mask_value` where masked.

        Raises:
            ValueError: if `set_timesteps` was not called, or the timestep is not one of `timesteps`.
        """
        progress = torch.tensor((self._step_index(timesteps) + 1) / self._num_steps, dtype=torch.float32)
        count = int(torch.floor(sample.shape[-1] * mask_ratio(progress, self.config.mask_schedule)))
        uniforms, _ = self.draw_uniforms(sample.shape, generator=generator, device=sample.device)
        return sample.masked_fill(uniforms.argsort(dim=-1) < count, self.config.mask_value)

    @staticmethod
    def history_mask_indices(history_length: int, ratio: float | None = None) -> torch.Tensor:
        """
        The content positions of a finished frame that are masked again before it becomes history, evenly spaced from
        position 0 on (Lumos-1, section 3.3: partial masks in inference as seen in training).

        As in the official code, at least one position is masked and halves round to the even neighbour.

        Args:
            history_length (`int`): content positions of a frame, ends of lines included: `h * (w + 1)`.
            ratio (`float`, *optional*): share of positions in [0, 1]; None stands for the official 0.3.

        Returns:
            `torch.LongTensor` of shape `(max(1, round(ratio * history_length)),)`, ascending, on the CPU.

        Raises:
            ValueError: if `history_length` is below 1 or `ratio` outside [0, 1].
        """
        if history_length < 1:
            raise ValueError(f"`history_length` must be at least 1, got {history_length}.")
        if ratio is None:
            ratio = DEFAULT_HISTORY_MASK_RATIO
        if not 0 <= ratio <= 1:
            raise ValueError(f"`ratio` must lie in [0, 1], got {ratio}.")
        count = max(1, round(ratio * history_length))
        return torch.tensor([round(index * history_length / count) for index in range(count)])

    def sample_mask_ratio(self, uniforms: torch.Tensor, minimum_ratio: float = 0.7) -> torch.Tensor:
        """
        Mask ratios for training: the schedule at a random progress, but never below a minimum.

        Args:
            uniforms (`torch.Tensor`): draws in [0, 1), any shape, floating point.
            minimum_ratio (`float`): in [0, 1]; the official 0.7 makes about half of all draws sit at the minimum.

        Returns:
            `torch.Tensor`: same shape and dtype.

        Raises:
            ValueError: if `minimum_ratio` lies outside [0, 1].
        """
        if not 0 <= minimum_ratio <= 1:
            raise ValueError(f"`minimum_ratio` must lie in [0, 1], got {minimum_ratio}.")
        return mask_ratio(uniforms, self.config.mask_schedule).clamp(min=minimum_ratio)

    @staticmethod
    def training_mask(ratios: torch.Tensor, uniforms: torch.Tensor) -> torch.Tensor:
        """
        Random masks of a fixed size: each masks `round(ratio * content)` positions, at least one, all sets of that
        size being equally likely.

        Args:
            ratios (`torch.Tensor` of shape `(...)`): mask ratios.
            uniforms (`torch.Tensor` of shape `(..., content)`): independent draws that decide the positions.

        Returns:
            `torch.BoolTensor` of shape `(..., content)`, True where masked.

        Raises:
            ValueError: if shapes disagree.
        """
        check_shape("ratios", ratios, uniforms.shape[:-1])
        counts = (ratios * uniforms.shape[-1]).round().clamp(min=1)
        return uniforms.argsort(dim=-1) < counts[..., None]

    @property
    def _num_steps(self) -> int:
        if self.num_inference_steps is None:
            raise ValueError("`num_inference_steps` is not set: call `set_timesteps` before decoding.")
        return self.num_inference_steps

    def _step_index(self, timestep: int | torch.Tensor) -> int:
        num_steps, step_index = self._num_steps, int(timestep)
        if not 0 <= step_index < num_steps:
            raise ValueError(
                f"`timestep` must lie in 0..{num_steps - 1}, as set by `set_timesteps`, got {step_index}."
            )
        return step_index

    def _next_temperature(self, step_index: int) -> float | torch.Tensor:
        remaining = 1 - (step_index + 1) / self._num_steps
        if self.config.temperature_decay == "compounding":
            return self.temperature * remaining
        return self.config.confidence_temperature * remaining
