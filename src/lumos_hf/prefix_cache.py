# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
A key/value cache for sequences whose end is rewritten again and again.

Decoding a frame feeds it once per step after the same prefix. `DynamicCache` copies the whole prefix in every step; here
memory for the longest sequence is taken once, tokens are written in place, and taking them back only moves a length.
"""

import torch
from transformers.cache_utils import Cache, DynamicLayer


class PrefixCacheLayer(DynamicLayer):
    """
    Keys and values of one layer in buffers `(batch, heads, capacity, head_dim)`, of which the first `length` tokens count.

    What [`~PrefixCacheLayer.update`] returns are views of the buffers: they hold until the next call overwrites them.

    Args:
        capacity (`int`): the largest number of tokens.
    """

    def __init__(self, capacity: int):
        super().__init__()
        self.capacity = capacity
        self.length = 0

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        self.dtype, self.device = key_states.dtype, key_states.device
        self.keys, self.values = (
            states.new_empty(*states.shape[:-2], self.capacity, states.shape[-1])
            for states in (key_states, value_states)
        )
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args, **kwargs
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Writes new tokens after the cached ones and returns the keys and values of all of them.

        Raises:
            ValueError: if they are more than `capacity`.
        """
        end = self.length + key_states.shape[-2]
        if end > self.capacity:
            raise ValueError(f"`key_states` must fit into the `capacity` of {self.capacity} tokens, got {end} in all.")
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        self.keys[..., self.length : end, :] = key_states
        self.values[..., self.length : end, :] = value_states
        self.length = end
        return self.keys[..., :end, :], self.values[..., :end, :]

    def get_seq_length(self) -> int:
        return self.length

    def get_max_length(self) -> int:
        return self.capacity

    def crop(self, tokens_to_remove: int) -> None:
        """Forgets the last `abs(tokens_to_remove)` tokens; the number is negative, as in the superclass."""
        if not -self.length <= tokens_to_remove <= 0:
            raise ValueError(f"`tokens_to_remove` must lie in [-{self.length}, 0], got {tokens_to_remove}.")
        self.length += tokens_to_remove

    def thin(self, start: int, kept: torch.LongTensor) -> None:
        """
        Forgets the tokens from index `start` on apart from those at `kept`, counted from `start`, ascending; they close
        the gaps. Keys were turned by their positions when they were written, so what stays keeps its place in space and
        time.
        """
        end = start + len(kept)
        for states in (self.keys, self.values):
            states[..., start:end, :] = states[..., start + kept, :]
        self.length = end

    def reset(self) -> None:
        super().reset()
        self.length = 0


def prefix_cache(num_layers: int, capacity: int) -> Cache:
    """A cache for a model of `num_layers` layers and up to `capacity` tokens per row."""
    return Cache(layers=[PrefixCacheLayer(capacity) for _ in range(num_layers)])
