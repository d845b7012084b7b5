# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""The two sides of classifier-free guidance: sequences with the prompt, and sequences without it."""

import copy
from collections.abc import Sequence
from typing import Any

import torch

from ..compiled_modules import is_compiled, without_graphs
from ..frame_attention import left_padding_mask
from ..modeling_lumos import LumosCausalLMOutput, LumosForCausalLM
from ..token_layout import derive_layout
from .approximations import CompactHistory
from .prefix_cache import PrefixCache


class GuidanceBranch:
    """
    One side of guidance: the layout of its whole sequences, and the keys and values of what is past of them.

    The prompts and what is known of the visual part are read when the branch is made. Frames that follow are read by
    [`~GuidanceBranch.read`], and tried by [`~GuidanceBranch.forward`], which leaves no trace.

    Args:
        transformer ([`LumosForCausalLM`]): reads the sequences.
        prefixes (`list[list[int]]`):
            B lists of token ids, everything before `video_start`; empty for no prompt. They are padded on the left.
        visual_ids (`torch.LongTensor` of shape `(B, L)`):
            Token ids from `video_start` on, those of frames still to be made included, whatever they are.
        num_known (`int`): how many of `visual_ids` are known already: the header and the given frames. They are read in one
            pass.
        num_given (`int`): how many given frames those are.
        num_past_frames (`int`): how many frames are past when the last one is made.
        history ([`CompactHistory`]): which tokens of past frames stay cached.
        num_videos_per_prompt (`int`): rows of the result per prefix; what they share is computed once.
    """

    def __init__(
        self,
        transformer: LumosForCausalLM,
        prefixes: list[list[int]],
        visual_ids: torch.Tensor,
        *,
        num_known: int,
        num_given: int,
        num_past_frames: int,
        history: CompactHistory,
        num_videos_per_prompt: int = 1,
    ):
        self.transformer = transformer
        self._history = history
        self._num_forgotten = 0
        # Frames after the first one of which no token is forgotten.
        self._num_whole = num_given - 1

        ids, self._num_padding = _join_left_padded(prefixes, visual_ids)
        self._attention_mask = None
        if self._num_padding is not None:
            self._attention_mask = left_padding_mask(self._num_padding, ids.shape[1], ids.device)
        # Positions depend on the first frame, so they come from whole sequences.
        self._position_ids, frame_ids = derive_layout(ids, transformer.config, self._attention_mask)
        length = ids.shape[1] - visual_ids.shape[1] + num_known
        capacity = max(length, ids.shape[1] - history.num_forgotten(num_past_frames))
        self.cache = PrefixCache(transformer.config.num_hidden_layers, capacity)
        self.cache.make_room(length)
        call_eagerly(
            transformer,
            input_ids=ids[:, :length],
            num_padding=self._num_padding or [0] * len(prefixes),
            position_ids=self._position_ids[:, :, :length],
            frame_ids=frame_ids[:, :length],
            cache=self.cache,
            use_cache=True,
            skip_logits=True,
        )
        self.cache.keep_room()
        self._repeat(num_videos_per_prompt)
        self._thin()
        # Before the frames that are read later, and after each: how many tokens are cached, and how many forgotten.
        self._milestones = [(self.cache.get_seq_length(), self._num_forgotten)]

    def read(self, frames: Sequence[torch.Tensor], visual_positions: torch.Tensor) -> None:
        """
        Makes history of the finished frames that it has not read yet.

        Args:
            frames: token ids `(B, frame_length)` of every frame that was made so far, the given ones not counted.
            visual_positions: `(n,)`, where the visual tokens of a frame are.
        """
        for frame in frames[len(self._milestones) - 1 :]:
            # Keys and values are all that is needed; one row of output is the least that there can be. A compiled graph
            # gets the rows of a decoding step, so that it serves here, too.
            rows = visual_positions if is_compiled(self.transformer) else visual_positions[:1]
            self.forward(frame, logits_to_keep=rows.repeat(len(frame), 1), skip_logits=True)
            self.cache.keep_room()
            self._num_whole += 1
            self._thin()
            self._milestones.append((self.cache.get_seq_length(), self._num_forgotten))

    def rewind(self, num_frames: int) -> bool:
        """
        Forgets the frames that were read after the first `num_frames` of those of [`~GuidanceBranch.read`].

        Returns:
            whether that could be done: not if frames were thinned since, whose tokens are gone.
        """
        num_frames = min(num_frames, len(self._milestones) - 1)
        length, num_forgotten = self._milestones[num_frames]
        if num_forgotten != self._num_forgotten:
            return False
        self._num_whole -= len(self._milestones) - 1 - num_frames
        del self._milestones[num_frames + 1 :]
        self.cache.crop_to(length)
        return True

    def fork(self) -> "GuidanceBranch":
        """Another branch that has read the same, and goes on by itself."""
        other = copy.copy(self)
        other.cache = self.cache.fork()
        other._milestones = list(self._milestones)
        return other

    def forward(self, frame: torch.Tensor, **options: Any) -> LumosCausalLMOutput:
        """Feeds one whole frame of token ids `(B, frame_length)` after the past ones; the next call overwrites it."""
        self.cache.make_room(frame.shape[1])
        end = self._num_forgotten + self.cache.get_seq_length() + frame.shape[1]
        return self.transformer(
            input_ids=frame,
            # Of one memory layout wherever it comes from, for a compiled graph.
            position_ids=self._position_ids[:, :, end - frame.shape[1] : end].contiguous(),
            cache=self.cache,
            use_cache=True,
            # A frame sees its past and all of itself, so without padding no mask is needed.
            is_causal=False,
            **self._padding(frame.shape[1]),
            **options,
        )

    def _padding(self, num_new: int) -> dict[str, Any]:
        """What tells the model which of the cached tokens and of so many new ones are padding."""
        if self._attention_mask is None:
            return {}
        # A mask costs more than numbers, but every new combination of numbers would be compiled anew.
        if is_compiled(self.transformer):
            return {"attention_mask": self._attention_mask[:, : self.cache.get_seq_length() + num_new].contiguous()}
        return {"num_padding": self._num_padding}

    def _repeat(self, times: int) -> None:
        """Makes so many neighbouring rows of every row."""
        if times == 1:
            return
        self._position_ids = self._position_ids.repeat_interleave(times, dim=1)
        if self._attention_mask is not None and self._num_padding is not None:
            self._attention_mask = self._attention_mask.repeat_interleave(times, dim=0)
            self._num_padding = [num_pads for num_pads in self._num_padding for _ in range(times)]
        self.cache.batch_repeat_interleave(times)

    def _thin(self) -> None:
        """Forgets most tokens of frames that are neither the first nor among the latest."""
        kept = self._history.kept_of(self._num_whole)
        if kept is None:
            return
        length = self.cache.get_seq_length()
        kept = kept.to(self._position_ids.device)
        self.cache.thin(length - self._num_whole * self._history.frame_length, kept)
        self._num_forgotten += length - self.cache.get_seq_length()
        self._num_whole = int(self._history.window)


def call_eagerly(transformer: LumosForCausalLM, **inputs: Any) -> LumosCausalLMOutput:
    """The transformer without its compiled graph, for inputs whose shapes change from call to call."""
    with without_graphs(transformer):
        return transformer(**inputs)


def _join_left_padded(prefixes: list[list[int]], visual_ids: torch.Tensor) -> tuple[torch.Tensor, list[int] | None]:
    """Rows of prefix and visual ids, padded on the left, and how many pads each row has, None if no row has any."""
    prefix_length = max(len(prefix) for prefix in prefixes)
    num_padding = [prefix_length - len(prefix) for prefix in prefixes]
    padded = [[0] * num_pads + prefix for num_pads, prefix in zip(num_padding, prefixes, strict=True)]
    prefix_ids = visual_ids.new_tensor(padded).view(len(prefixes), prefix_length)
    return torch.cat([prefix_ids, visual_ids], dim=1), num_padding if any(num_padding) else None
