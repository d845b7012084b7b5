# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
How codes are made: one latent frame after another, and all codes of a frame in parallel over a few steps.

Shape suffixes: B videos, t latent frames, h and w rows and columns of codes, n = h * w, V visual codes, R undecided codes.
"""

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, cast

import torch

from ..generation_defaults import steps_of_frame
from ..modeling_lumos import LumosForCausalLM
from ..scheduling_mask_decoding import MaskDecodingScheduler
from ..token_layout import (
    UNKNOWN_CODE,
    content_positions,
    frame_ids_from_codes,
    frame_length,
    visual_positions,
)
from .approximations import EXACT, CompactHistory, DecodingApproximations, StepShortcuts
from .guidance_branch import GuidanceBranch, call_eagerly, is_compiled
from .guidance_parallel import BranchElsewhere, GuidanceParallel


class FrameDecoder:
    """
    Decodes the frames of one call: autoregressive from frame to frame, mask-based discrete diffusion inside a frame
    (Lumos-1, arXiv 2507.08801, section 3.3).

    With `c` the prompt, `H` the frames that are past, `x` the codes of the frame in hand, `?` where they are undecided, and
    `g` the guidance scale, a step is

        logits = z(x | no prompt, H) + g * (z(x | c, H) - z(x | no prompt, H))
        x0     ~ softmax(logits)                       where x is undecided; the other codes stay
        x      = x0, with its least confident codes undecided again           (the scheduler's part)

    and a finished frame becomes history with a share of its tokens masked, as the model saw history in training:

        H      = H and mask(x)

    Codes of `x` that are given are history as they are: a frame that is given whole is not masked at all, and of one that
    is given in part the given codes stay.

    Everything that a call changes is in here: the scheduler with its temperature (a copy), what is cached, what earlier
    steps left for later ones. So any number of decoders may take turns, also in several threads.

    Args:
        transformer ([`LumosForCausalLM`]): gives the logits `z`.
        scheduler ([`MaskDecodingScheduler`]):
            Samples, and decides what stays. One whose `step` is another is called by that, with all logits at once.
        prefixes (`list[list[int]]`): token ids before `video_start`, one list per prompt: the prompts `c`.
        negative_prefixes (`list[list[int]]`): the same for what guidance leads away from; empty lists for no prompt.
        header_ids (`list[int]`): token ids from `video_start` up to the first frame.
        codes (`torch.LongTensor` of shape `(B, t, h, w)`):
            Given frames first, then whatever is to be made. B is the number of prompts or a multiple of it; the rows of a
            prompt are neighbours, with the same given frames.
        num_given (`int`): how many frames are given whole in all rows. They are history as they are.
        num_inference_steps (`int` or a list of them): steps per frame, or of each frame, of which the last number goes on.
        history_mask_ratio (`float`): share of a finished frame's tokens that is masked, in [0, 1]; at least one is.
        approximations ([`DecodingApproximations`]): what to leave out.
        generator (`torch.Generator` or a list of B of them, *optional*): of the random numbers.
        parallel ([`GuidanceParallel`], *optional*): two processes that have one branch each; None has both here.
    """

    def __init__(
        self,
        transformer: LumosForCausalLM,
        scheduler: MaskDecodingScheduler,
        *,
        prefixes: list[list[int]],
        negative_prefixes: list[list[int]],
        header_ids: list[int],
        codes: torch.Tensor,
        num_given: int,
        num_inference_steps: int | Sequence[int],
        history_mask_ratio: float,
        approximations: DecodingApproximations = EXACT,
        generator: torch.Generator | list[torch.Generator] | None = None,
        parallel: GuidanceParallel | None = None,
    ):
        _, self._num_frames, h, w = codes.shape
        self.transformer = transformer
        self.scheduler = copy.copy(scheduler)
        # Steps stay on the CPU, where the scheduler reads them without waiting for the device.
        self._num_inference_steps = num_inference_steps
        num_steps = steps_of_frame(num_inference_steps, 0)
        self.scheduler.set_timesteps(num_steps)
        self._generator = generator
        self._parallel = parallel
        self._shortcuts = StepShortcuts(approximations, num_steps, h, w, codes.device)
        self._compact_history = CompactHistory(approximations, frame_length(h, w))

        self._prefixes = (prefixes, negative_prefixes)
        self._num_videos_per_prompt = len(codes) // len(prefixes)
        self._header_ids = header_ids
        # Token ids `(rows, frames, frame_length)` of the frames that a branch reads in one pass with the prompt: one row per
        # prompt as long as the videos of a prompt have them in common.
        given = codes[:: self._num_videos_per_prompt, :num_given]
        self._base = frame_ids_from_codes(given, transformer.config)
        self._unknown_frame = frame_ids_from_codes(codes.new_full((h, w), UNKNOWN_CODE), transformer.config)
        self._positions = visual_positions(h, w, device=codes.device)
        content = content_positions(h, w)
        self.history_mask_positions = content[scheduler.history_mask_indices(len(content), history_mask_ratio)].to(
            codes.device
        )
        # Token ids of the frames that follow the base, as later frames see them.
        self._history: list[torch.Tensor] = []
        self._branches: list[GuidanceBranch | BranchElsewhere] = []
        # Of the frame in hand, where codes of it are given: how many each row has to decide, None for all.
        self._num_to_decide: torch.Tensor | None = None

    @property
    def timesteps(self) -> torch.Tensor:
        """The steps of the frame in hand, in order."""
        # The constructor sets them.
        return cast(torch.Tensor, self.scheduler.timesteps)

    def begin_frame(self, latents: torch.Tensor, latent_frame: int = 0) -> None:
        """
        To be called before the first step of a frame of which codes are given, or that has a number of steps of its own.

        Where codes are given, the steps keep their share of the codes that a row has to decide, instead of its share of all codes. A row
        that has none to decide draws no random numbers, and keeps its temperature: as if it had not been there.

        Args:
            latents: the given codes, `(B, h, w)`, `UNKNOWN_CODE` where they are to be made.
            latent_frame: its number in the video, from 0 on.
        """
        self._set_timesteps(steps_of_frame(self._num_inference_steps, latent_frame))
        num_to_decide = (latents == UNKNOWN_CODE).flatten(1).sum(dim=1)
        is_plain = bool((num_to_decide == latents[0].numel()).all())
        self._num_to_decide = None if is_plain else num_to_decide

    def step(
        self, latents: torch.Tensor, timestep: int | torch.Tensor, guidance_scale: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """
        One step for the frame that follows the history.

        Args:
            latents: the frame's codes so far, `(B, h, w)`, `UNKNOWN_CODE` where undecided.
            timestep: one of `timesteps`.
            guidance_scale: `g`. At most 1 is no guidance: the branch without the prompt rests, and reads the frames that it
                missed if guidance comes back.

        Returns:
            the codes after the step and the complete prediction, both of the shape of `latents`.
        """
        branches = self._branches_up_to_date(is_guided=guidance_scale > 1)
        take_step = self._step_in_parts if self.scheduler.has_standard_step else self._step_with_all_logits
        temperature = self.scheduler.temperature
        sample, predicted = take_step(branches, latents, timestep, guidance_scale)
        if self._resting_rows is not None:
            self.scheduler.temperature = self._temperature_of_resting_rows(temperature)
        return sample.view_as(latents), predicted.view_as(latents)

    def append(self, latents: torch.Tensor, is_given: torch.Tensor | None = None) -> None:
        """
        Makes history of a finished frame, masked in part. Branches read it before their next step.

        Args:
            latents: its codes, `(B, h, w)`.
            is_given: which of them are given, `(B, h, w)`, and so stay. In a row that is given whole nothing is masked, not
                even the new lines.
        """
        frame = frame_ids_from_codes(latents, self.transformer.config)
        masked = torch.zeros_like(frame, dtype=torch.bool)
        masked[:, self.history_mask_positions] = True
        if is_given is not None:
            masked[:, self._positions] &= ~is_given.flatten(1)
            masked &= ~is_given.flatten(1).all(dim=1, keepdim=True)
        self._history.append(frame.masked_fill(masked, self.transformer.config.mask_token_id))
        self._num_to_decide = None

    def switch_prompts(self, prefixes: list[list[int]], negative_prefixes: list[list[int]]) -> None:
        """
        Has other prompts from the frame in hand on: all that is past is read again after them, in one pass.

        Args:
            prefixes, negative_prefixes: as in the constructor, as many as there.
        """
        self._prefixes = (prefixes, negative_prefixes)
        self._base = self._past_ids()
        self._history.clear()
        self._branches.clear()

    def restart(self, codes: torch.Tensor) -> None:
        """
        Goes on in a new sequence, whose positions begin anew, with given frames.

        Args:
            codes: of its first frames, `(B, t, h, w)`, fewer than a sequence has.
        """
        self._base = frame_ids_from_codes(codes, self.transformer.config)
        self._history.clear()
        self._branches.clear()

    def least_probable(self, latents: torch.Tensor, count: int, guidance_scale: float) -> torch.Tensor:
        """
        Which codes of the frame that follows the history the model would expect least, `(B, h, w)`, bool.

        Args:
            latents: complete codes, `(B, h, w)`.
            count: so many of every row. Codes are judged where none of the frame is seen, which is what the model was
                trained for.
            guidance_scale: `g`, see [`~FrameDecoder.step`].
        """
        branches = self._branches_up_to_date(is_guided=guidance_scale > 1)
        hidden_states = self._hidden_states(branches, torch.full_like(latents, UNKNOWN_CODE))
        num_rows = max(1, self.transformer.num_rows_per_chunk(latents.device) // 2)
        probabilities = torch.cat(
            [
                self._guided_head(states, guidance_scale).log_softmax(dim=-1).gather(-1, codes[:, None])[:, 0]
                for codes, *states in _chunks(num_rows, latents.flatten(), *hidden_states)
            ]
        )
        order = probabilities.view(len(latents), -1).argsort(dim=1, stable=True)
        chosen = torch.zeros_like(order, dtype=torch.bool).scatter(1, order[:, :count], True)
        return chosen.view_as(latents)

    def mark(self) -> "DecoderMark":
        """Where it is, for [`~FrameDecoder.rewind`]."""
        return DecoderMark(self._prefixes, self._base, tuple(self._history), self.scheduler.temperature)

    def rewind(self, mark: "DecoderMark") -> None:
        """
        Goes back to where it, or one that it was forked from, has been.

        Nothing is computed again, unless prompts were switched, the sequence began anew or frames were thinned since: then
        branches read the past again before their next step.
        """
        is_same_sequence = mark.base is self._base and mark.prefixes is self._prefixes
        self._prefixes, self._base, self._history = mark.prefixes, mark.base, list(mark.history)
        self.scheduler.temperature = mark.temperature
        self._num_to_decide = None
        branches = self._branches if is_same_sequence else []
        self._branches = list(takewhile(lambda branch: branch.rewind(len(self._history)), branches))

    def fork(self, generator: torch.Generator | list[torch.Generator] | None) -> "FrameDecoder":
        """Another decoder that has come as far, and goes on by itself, with random numbers of its own."""
        other = copy.copy(self)
        other._generator = generator
        other.scheduler = copy.copy(self.scheduler)
        other._shortcuts = self._shortcuts.fork()
        other._history = list(self._history)
        other._branches = [branch.fork() for branch in self._branches]
        return other

    def state_dict(self) -> dict[str, torch.Tensor]:
        """What it takes to go on in another process, beside the arguments of the constructor."""
        history = torch.stack(self._history) if self._history else self._unknown_frame[None, None][:0]
        temperature = torch.as_tensor(self.scheduler.temperature, dtype=torch.float64)
        return {"base": self._base, "history": history, "temperature": temperature}

    def load_state_dict(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Takes the place of a decoder with the same arguments whose `state_dict` this is."""
        self._base = tensors["base"].to(self._base)
        self._history = list(tensors["history"].to(self._base).unbind())
        temperature = tensors["temperature"]
        self.scheduler.temperature = (
            temperature.float().to(self._base.device) if temperature.ndim else float(temperature)
        )
        self._branches.clear()

    def _past_ids(self) -> torch.Tensor:
        """Token ids `(rows, frames, frame_length)` of all that is past."""
        if not self._history:
            return self._base
        base = self._base.repeat_interleave(len(self._history[0]) // len(self._base), dim=0)
        return torch.cat([base, torch.stack(self._history, dim=1)], dim=1)

    def _set_timesteps(self, num_steps: int) -> None:
        """Another number of steps from this frame on; the temperature goes on from where it is."""
        if num_steps == len(self.timesteps):
            return
        temperature = self.scheduler.temperature
        self.scheduler.set_timesteps(num_steps)
        self.scheduler.temperature = temperature
        self._shortcuts.set_timesteps(num_steps)

    @property
    def _resting_rows(self) -> torch.Tensor | None:
        """Rows `(B,)` that have nothing to decide in this frame, None for none."""
        if self._num_to_decide is None or bool(self._num_to_decide.all()):
            return None
        return self._num_to_decide == 0

    def _temperature_of_resting_rows(self, before: float | torch.Tensor) -> torch.Tensor:
        """The temperature after a step, `(B, 1)`, which resting rows keep."""
        resting = cast(torch.Tensor, self._resting_rows)[:, None]
        before, after = (
            torch.as_tensor(value, dtype=torch.float32, device=resting.device)
            for value in (before, self.scheduler.temperature)
        )
        return torch.where(resting, before, after)

    def _branches_up_to_date(self, is_guided: bool) -> list[GuidanceBranch | BranchElsewhere]:
        """The branch with the prompt, and with guidance the other one, both with all of the history."""
        num_branches = 2 if is_guided else 1
        while len(self._branches) < num_branches:
            self._branches.append(self._start_branch(len(self._branches)))
        for branch in self._branches[:num_branches]:
            branch.read(self._history, self._positions)
        return self._branches[:num_branches]

    def _start_branch(self, branch: int) -> GuidanceBranch | BranchElsewhere:
        if self._parallel is not None and self._parallel.is_elsewhere(branch):
            return BranchElsewhere(self.transformer)
        prefixes = self._prefixes[branch]
        rows, num_given, length = self._base.shape
        repeats = 1 if rows == len(prefixes) else self._num_videos_per_prompt
        header = self._base.new_tensor(self._header_ids).expand(rows, -1)
        unknown = self._unknown_frame.expand(rows, self._num_frames - num_given, -1)
        return GuidanceBranch(
            self.transformer,
            [prefix for prefix in prefixes for _ in range(repeats)],
            torch.cat([header, self._base.flatten(1), unknown.flatten(1)], dim=1),
            num_known=len(self._header_ids) + num_given * length,
            num_given=num_given,
            num_past_frames=self._num_frames - 1,
            history=self._compact_history,
            num_videos_per_prompt=self._num_videos_per_prompt // repeats,
        )

    def _step_in_parts(
        self,
        branches: list[GuidanceBranch | BranchElsewhere],
        latents: torch.Tensor,
        timestep: int | torch.Tensor,
        guidance_scale: float,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """
        What [`_step_with_all_logits`] gives, from the same random numbers, but computed for undecided codes only, and never
        with the logits of more than a chunk of them.
        """
        sample = latents.flatten(1)
        undecided = sample == UNKNOWN_CODE
        token_uniforms, confidence_uniforms = self._draw_uniforms(sample)
        undecided_uniforms = token_uniforms[undecided]
        hidden_states = self._hidden_states(self._shortcuts.branches_to_run(branches, timestep), latents)
        hidden_states = self._shortcuts.complete(hidden_states, undecided, timestep, is_guided=len(branches) > 1)
        codes, probabilities, *entropies = self._sample_codes(hidden_states, undecided_uniforms, guidance_scale)
        predicted = sample.masked_scatter(undecided, codes)
        probabilities = probabilities.new_ones(sample.shape).masked_scatter(undecided, probabilities)
        rule = self._keep_rule
        if entropies:
            rule["entropies"] = probabilities.new_zeros(sample.shape).masked_scatter(undecided, entropies[0])
        sample = self.scheduler.mask_least_confident(
            predicted, probabilities, sample, timestep, confidence_uniforms, **rule
        )
        return sample, predicted

    @property
    def _keep_rule(self) -> dict[str, Any]:
        """What decides which codes a step keeps, beside their probabilities; by the names that the scheduler has for it."""
        return self._shortcuts.keep_rule | {"num_to_decide": self._num_to_decide}

    def _draw_uniforms(self, sample: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The random numbers of a step; of generators of their own, resting rows draw none."""
        resting = self._resting_rows
        if resting is None or not isinstance(self._generator, (list, tuple)):
            return self.scheduler.draw_uniforms(sample.shape, self._generator, sample.device)
        generators = [each for each, rests in zip(self._generator, resting.tolist(), strict=True) if not rests]
        drawn = self.scheduler.draw_uniforms((len(generators), sample.shape[1]), generators, sample.device)
        zeros = torch.zeros(sample.shape, device=sample.device)
        token_uniforms, confidence_uniforms = (zeros.index_copy(0, (~resting).nonzero()[:, 0], each) for each in drawn)
        return token_uniforms, confidence_uniforms

    def _step_with_all_logits(
        self,
        branches: list[GuidanceBranch | BranchElsewhere],
        latents: torch.Tensor,
        timestep: int | torch.Tensor,
        guidance_scale: float,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """A step as it is written down: all logits of the branches, guidance, one step of the scheduler."""
        everywhere = torch.ones_like(latents.flatten(1), dtype=torch.bool)
        logits = self._all_logits(self._shortcuts.branches_to_run(branches, timestep), latents)
        logits = self._shortcuts.complete(logits, everywhere, timestep, is_guided=len(branches) > 1)
        rule = {name: value for name, value in self._keep_rule.items() if value is not None}
        if self._resting_rows is not None:
            rule["uniforms"] = self._draw_uniforms(latents.flatten(1))
        output = self.scheduler.step(
            guide(logits, guidance_scale).unflatten(0, everywhere.shape),
            timestep,
            latents.flatten(1),
            generator=self._generator,
            return_dict=False,
            **rule,
        )
        # Without `return_dict` it is a tuple.
        return cast(tuple[torch.Tensor, torch.Tensor], output)

    def _all_logits(
        self, branches: list[GuidanceBranch | BranchElsewhere], latents: torch.Tensor
    ) -> list[torch.Tensor]:
        """Every branch's logits of the visual codes, decided ones included, `(B * n, V)`."""
        frame = frame_ids_from_codes(latents, self.transformer.config)

        def logits(branch: GuidanceBranch) -> torch.Tensor:
            output = branch.forward(frame, logits_to_keep=self._positions, visual_logits_only=True)
            # Outputs have what was asked for.
            return cast(torch.Tensor, output.logits).flatten(0, 1)

        num_rows, num_codes = len(latents) * len(self._positions), self.transformer.config.visual_vocab_size
        return self._outputs(branches, logits, (num_rows, num_codes))

    def _outputs(
        self,
        branches: list[GuidanceBranch | BranchElsewhere],
        forward: Callable[[GuidanceBranch], torch.Tensor],
        shape: tuple[int, int],
    ) -> list[torch.Tensor]:
        """What `forward` gives for each branch, of that shape."""
        if self._parallel is not None:
            return self._parallel.outputs(branches, forward, shape)
        return [forward(cast(GuidanceBranch, branch)) for branch in branches]

    def _hidden_states(
        self, branches: list[GuidanceBranch | BranchElsewhere], latents: torch.Tensor
    ) -> list[torch.Tensor]:
        """What every branch's output head gets for the R undecided codes of a batch of frames, `(R, hidden_size)`."""
        frame = frame_ids_from_codes(latents, self.transformer.config)
        undecided = latents.flatten(1) == UNKNOWN_CODE
        num_rows = int(undecided.sum(dim=1).max())
        if num_rows == 0:
            nothing = torch.empty(
                0, self.transformer.config.hidden_size, dtype=self.transformer.dtype, device=latents.device
            )
            return [nothing] * len(branches)
        if is_compiled(self.transformer):
            # All rows, so that one graph serves all steps.
            num_rows = len(self._positions)
        # Undecided ones first. Rows with fewer than others get some decided ones as well.
        order = undecided.int().argsort(dim=1, descending=True, stable=True)[:, :num_rows]
        # As indices, so that nothing is read back from the device between the branches.
        wanted = undecided.gather(1, order).flatten().nonzero()[:, 0]

        def hidden_states(branch: GuidanceBranch) -> torch.Tensor:
            output = branch.forward(frame, logits_to_keep=self._positions[order], skip_logits=True)
            return cast(torch.Tensor, output.last_hidden_state).flatten(0, 1)[wanted]

        return self._outputs(branches, hidden_states, (len(wanted), self.transformer.config.hidden_size))

    def _sample_codes(
        self, hidden_states: list[torch.Tensor], uniforms: torch.Tensor, guidance_scale: float
    ) -> tuple[torch.Tensor, ...]:
        """
        Codes `(R,)`, their probabilities, and their entropies where those are bounded, from each branch's
        `(R, hidden_size)` and draws `(R,)`.
        """
        # A draw holds the probabilities in the place of the logits, or beside them, with half the rows then.
        is_in_place = self.scheduler.has_standard_sampling and uniforms.is_cpu
        options: dict[str, Any] = {"overwrite_logits": True} if is_in_place else {}
        is_bounded = self._shortcuts.keep_rule["entropy_bound"] is not None

        # A function, as a name would hold the logits of one chunk while those of the next are made.
        def sample(chunk_uniforms: torch.Tensor, *chunk_states: torch.Tensor) -> tuple[torch.Tensor, ...]:
            logits = self._guided_head(list(chunk_states), guidance_scale)
            entropies = (self.scheduler.entropies(logits),) if is_bounded else ()
            return (*self.scheduler.sample_tokens(logits, chunk_uniforms, **options), *entropies)

        num_rows = max(1, self.transformer.num_rows_per_chunk(uniforms.device) // (1 if is_in_place else 2))
        samples = (sample(*chunk) for chunk in _chunks(num_rows, uniforms, *hidden_states))
        return tuple(torch.cat(parts) for parts in zip(*samples, strict=True))

    def _guided_head(self, hidden_states: list[torch.Tensor], guidance_scale: float) -> torch.Tensor:
        """Guided logits of the visual codes, with one product instead of two where the output head is linear."""

        def logits(states: torch.Tensor) -> torch.Tensor:
            output = call_eagerly(self.transformer, last_hidden_state=states, visual_logits_only=True)
            return cast(torch.Tensor, output.logits)

        if self.transformer.has_plain_head:
            return logits(guide(hidden_states, guidance_scale).to(hidden_states[0].dtype))
        return guide([logits(states) for states in hidden_states], guidance_scale)


def _chunks(max_rows: int, *tensors: torch.Tensor) -> Iterator[tuple[torch.Tensor, ...]]:
    """Neighbouring rows of all tensors, at most so many at a time, and about as many every time; once if there are none."""
    num_chunks = max(1, math.ceil(len(tensors[0]) / max_rows))
    return zip(*(tensor.tensor_split(num_chunks) for tensor in tensors), strict=True)


def guide(outputs: list[torch.Tensor], guidance_scale: float) -> torch.Tensor:
    """Leads away from the unconditional output, the second one; float32. A conditional one alone stays as it is."""
    if len(outputs) == 1:
        return outputs[0].float()
    conditional, unconditional = (output.float() for output in outputs)
    return unconditional + guidance_scale * (conditional - unconditional)


@dataclass(frozen=True)
class DecoderMark:
    """
    Where a [`FrameDecoder`] is.

    Args:
        prefixes: of both branches.
        base: token ids of what is read in one pass with them.
        history: token ids of the frames that follow, as later frames see them.
        temperature: of the scheduler.
    """

    prefixes: tuple[list[list[int]], list[list[int]]]
    base: torch.Tensor
    history: tuple[torch.Tensor, ...]
    temperature: float | torch.Tensor
