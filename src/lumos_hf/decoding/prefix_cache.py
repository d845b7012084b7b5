# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
A key/value cache for sequences whose end is rewritten again and again.

Decoding a frame feeds it once per step after the same prefix. `DynamicCache` copies the whole prefix in every step; here
memory for the longest sequence is taken once, and room at its end is written in place as often as needed.

Compiled models see tensors of one shape for as long as the room stays, and no number that changes: what they would guard
on is moved outside of them, into [`~PrefixCache.make_room`].
"""

import copy
from typing import cast

import torch
from transformers.cache_utils import Cache, DynamicLayer


class PrefixCacheLayer(DynamicLayer):
    """
    Keys and values of one layer in buffers `(batch, heads, capacity, head_dim)`.

    `length` tokens are past; `room` tokens after them are rewritten by every [`~PrefixCacheLayer.update`]. `keys` and
    `values` are views of both together.

    Args:
        capacity (`int`): the largest number of tokens.
    """

    is_croppable = False
    # Set before they are read, by `lazy_initialization`.
    keys: torch.Tensor
    values: torch.Tensor

    def __init__(self, capacity: int):
        super().__init__()
        self.capacity = capacity
        self.length = 0
        self.room = 0

    def make_room(self, num_tokens: int) -> None:
        """
        Makes room for so many tokens after those that are past, unless there is just that room.

        Raises:
            ValueError: if they are more than `capacity` together.
        """
        if num_tokens == self.room:
            return
        if self.length + num_tokens > self.capacity:
            raise ValueError(
                f"`num_tokens` must fit into the `capacity` of {self.capacity} tokens, got {num_tokens} after {self.length}."
            )
        self.room = num_tokens
        if self.is_initialized:
            self._view_buffers()

    def keep_room(self) -> None:
        """Takes what is in the room for past."""
        self.length += self.room
        self.room = 0

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        self.dtype, self.device = key_states.dtype, key_states.device
        self._buffers = tuple(
            states.new_empty(*states.shape[:-2], self.capacity, states.shape[-1])
            for states in (key_states, value_states)
        )
        self.is_initialized = True
        self._view_buffers()

    def _view_buffers(self) -> None:
        self.keys, self.values = (buffer[..., : self.length + self.room, :] for buffer in self._buffers)
        for states in (self.keys, self.values):
            # One compiled graph serves every length, and CUDA graphs may write to the buffers without copying them.
            torch._dynamo.maybe_mark_dynamic(states, 2)
            torch._dynamo.mark_static_address(states, guard=False)

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args, **kwargs
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Writes tokens into the room, and returns the keys and values of the past and of them.

        Raises:
            ValueError: if they do not fill the room.
        """
        num_tokens = key_states.shape[-2]
        if num_tokens != self.room:
            raise ValueError(f"`key_states` must fill the room of {self.room} tokens, got {num_tokens}.")
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        self.keys[..., -num_tokens:, :] = key_states
        self.values[..., -num_tokens:, :] = value_states
        return self.keys, self.values

    def get_seq_length(self) -> int:
        return self.length

    def get_max_length(self) -> int:
        return self.capacity

    def thin(self, start: int, kept: torch.Tensor) -> None:
        """
        Forgets the past tokens from index `start` on apart from those at `kept`, counted from `start`, ascending; they close
        the gaps. Keys were turned by their positions when they were written, so what stays keeps its place in space and
        time.
        """
        end = start + len(kept)
        for states in (self.keys, self.values):
            states[..., start:end, :] = states[..., start + kept, :]
        self.length = end
        self._view_buffers()

    def crop_to(self, length: int) -> None:
        """Forgets all past tokens but the first `length`, and what is in the room."""
        self.length, self.room = length, 0
        if self.is_initialized:
            self._view_buffers()

    def fork(self) -> "PrefixCacheLayer":
        """Another layer with the same past, which goes on by itself."""
        other = copy.copy(self)
        if self.is_initialized:
            other._buffers = tuple(buffer.clone() for buffer in self._buffers)
            other._view_buffers()
        return other

    def reset(self) -> None:
        super().reset()
        self.length = self.room = 0

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        self._buffers = tuple(buffer[indices.to(buffer.device)] for buffer in self._buffers)
        self._view_buffers()

    def batch_repeat_interleave(self, repeats: int) -> None:
        self.batch_select_indices(torch.arange(len(self.keys)).repeat_interleave(repeats))

    def reorder_cache(self, beam_idx: torch.Tensor) -> None:
        self.batch_select_indices(beam_idx)


class PrefixCache(Cache):
    """
    A cache of [`PrefixCacheLayer`]s.

    Args:
        num_layers (`int`): of the model.
        capacity (`int`): the largest number of tokens per row.
    """

    def __init__(self, num_layers: int, capacity: int):
        super().__init__(layers=[PrefixCacheLayer(capacity) for _ in range(num_layers)])

    def make_room(self, num_tokens: int) -> None:
        """
        Makes room for the tokens that the model is fed next, unless there is just that room.

        Raises:
            ValueError: if they do not fit.
        """
        for layer in self._prefix_layers:
            layer.make_room(num_tokens)

    def keep_room(self) -> None:
        """Takes the tokens that the model was fed last for past."""
        for layer in self._prefix_layers:
            layer.keep_room()

    def thin(self, start: int, kept: torch.Tensor) -> None:
        """Forgets past tokens in every layer, see [`PrefixCacheLayer.thin`]."""
        for layer in self._prefix_layers:
            layer.thin(start, kept)

    def crop_to(self, length: int) -> None:
        """Forgets all past tokens but the first `length` in every layer, and what is in the room."""
        for layer in self._prefix_layers:
            layer.crop_to(length)

    def fork(self) -> "PrefixCache":
        """Another cache with the same past, which goes on by itself."""
        other = copy.copy(self)
        other.layers = [layer.fork() for layer in self._prefix_layers]
        return other

    @property
    def _prefix_layers(self) -> list[PrefixCacheLayer]:
        # `Cache` knows no more of its layers than that they are some.
        return cast(list[PrefixCacheLayer], self.layers)
