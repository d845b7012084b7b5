# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
Attention over whole sequences without a mask of size (tokens x tokens).

All queries of a frame see the same keys: everything up to the end of the frame. So each frame is one attention call
without a mask, which the fused kernels do fastest, and over its past alone, where a mask has them work off the future
as well. Text before the frames is plainly causal; text after them is a few tokens.

Shape suffixes: B rows, H heads, L tokens, D width of a head.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from .onednn_linear import product, takes_onednn


# Size of the scores that exist at a time where attention is made of products: they stay in a processor's cache.
_MAX_SCORES_BYTES = 2**20


@dataclass(frozen=True)
class _Block:
    """
    Neighbouring queries, a frame or the text between two: `[start, end)` of the queries, which see no key but
    `[first_key, end)`; an end of None is that of all queries and keys.
    """

    start: int
    end: int | None
    is_frame: bool
    first_key: int


@dataclass(frozen=True)
class FrameBlocks:
    """
    What stands in for an attention mask in [`blockwise_attention`]: which keys the queries of each row see.

    Args:
        rows: the blocks of each row, in order and without gaps, from its first real token to its last; all tokens of a
            row that has none.
    """

    rows: tuple[tuple[_Block, ...], ...]

    @classmethod
    def from_layout(cls, frame_ids: torch.Tensor, attention_mask: torch.Tensor | None) -> "FrameBlocks | None":
        """
        Reads the blocks back from the device.

        Args:
            frame_ids: `(B, L)`, `k` inside frame `k`, -1 elsewhere.
            attention_mask: `(B, L)`, nonzero at real tokens, or `None` if all are.

        Returns:
            `None` for sequences that aren't made of blocks: with padding between tokens or a frame in pieces.
        """
        is_real = torch.ones_like(frame_ids) if attention_mask is None else attention_mask
        found = [_row_blocks(*row) for row in zip(frame_ids.cpu(), is_real.cpu() != 0, strict=True)]
        rows = tuple(blocks for blocks in found if blocks is not None)
        return cls(rows) if len(rows) == len(found) else None

    @classmethod
    def after_padding(cls, num_padding: list[int]) -> "FrameBlocks":
        """Rows that feed one whole frame each, after cached tokens of which so many on the left are padding."""
        return cls(tuple((_Block(0, None, True, num_pads),) for num_pads in num_padding))

    def by_layout(self) -> list[tuple[slice, tuple[_Block, ...]]]:
        """Rows that can share calls, with their blocks: all of them if they are alike, otherwise each on its own."""
        if len(set(self.rows)) == 1:
            return [(slice(None), self.rows[0])]
        return [(slice(index, index + 1), blocks) for index, blocks in enumerate(self.rows)]


def left_padding_mask(num_padding: list[int], length: int, device: torch.device) -> torch.Tensor:
    """Rows that begin with so much padding, `(B, length)`: 1 at real tokens, 0 at padding."""
    index = torch.arange(length, device=device)
    return (index >= torch.tensor(num_padding, device=device)[:, None]).long()


def _row_blocks(frame_ids_L: torch.Tensor, is_real_L: torch.Tensor) -> tuple[_Block, ...] | None:
    real_index = is_real_L.nonzero()[:, 0].tolist() or range(len(is_real_L))
    first, end = real_index[0], real_index[-1] + 1
    frames, lengths = frame_ids_L[first:end].unique_consecutive(return_counts=True)
    numbers = frames[frames >= 0].tolist()
    if len(real_index) < end - first or len(set(numbers)) < len(numbers):
        return None
    ends = (first + lengths.cumsum(0)).tolist()
    starts = [first, *ends[:-1]]
    return tuple(_Block(*block, first) for block in zip(starts, ends, (frames >= 0).tolist(), strict=True))


def blockwise_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: FrameBlocks,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """
    An attention function like those of transformers: `(B, H, L, D)` in, `(B, L, H, D)` out. Padding beside tokens gets
    zeros.

    Args:
        module: the attention layer.
        query, key, value: of all tokens of the sequences, or of one whole frame after cached ones where there is padding
            before them; keys and values may have fewer heads.
        attention_mask: the blocks.
        kwargs: of [`sdpa_attention_forward`]; `is_causal` is overruled.
    """
    outputs = [
        _attend(module, query[rows], key[rows], value[rows], blocks, kwargs)
        for rows, blocks in attention_mask.by_layout()
    ]
    return torch.cat(outputs), None


def _attend(
    module: nn.Module,
    query_BHLD: torch.Tensor,
    key_BHLD: torch.Tensor,
    value_BHLD: torch.Tensor,
    blocks: tuple[_Block, ...],
    kwargs: dict[str, Any],
) -> torch.Tensor:
    """Attention `(B, L, H, D)` of rows with the same blocks."""
    outputs = []
    for block in blocks:
        # A frame alone, in decoding.
        attend: Callable[..., Any] = unmasked_attention if block.end is None else sdpa_attention_forward
        output_BLHD, _ = attend(
            module,
            query_BHLD[:, :, block.start : block.end],
            key_BHLD[:, :, block.first_key : block.end],
            value_BHLD[:, :, block.first_key : block.end],
            _mask_of_later_text(block, query_BHLD.device),
            **{**kwargs, "is_causal": not block.is_frame},
        )
        outputs.append(output_BLHD)
    output_BLHD = torch.cat(outputs, dim=1)
    num_before = blocks[0].start
    return F.pad(output_BLHD, (0, 0, 0, 0, num_before, query_BHLD.shape[2] - num_before - output_BLHD.shape[1]))


def _mask_of_later_text(block: _Block, device: torch.device) -> torch.Tensor | None:
    """Kernels know a causal pattern only where queries and keys begin together, which is the first text of a row."""
    if block.end is None or block.is_frame or block.start == block.first_key:
        return None
    shape = (1, 1, block.end - block.start, block.end - block.first_key)
    return torch.ones(shape, dtype=torch.bool, device=device).tril(block.start - block.first_key)


def unmasked_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: None,
    dropout: float,
    scaling: float,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """
    An attention function like those of transformers, of all queries to all keys: what a frame does after its prefix.

    Query heads that share keys are laid end to end. It is one head with a longer query then, which kernels can cut into
    larger blocks, with bit-identical results.

    Args:
        module: the attention layer; not used.
        query: `(B, H, L, D)`.
        key, value: `(B, heads, keys, D)` with H or fewer heads, of which H is a multiple.
        attention_mask: None.
        dropout: share of attention weights to drop.
        scaling: factor of the scores.
        kwargs: not used.
    """
    folded = query.reshape(len(query), key.shape[1], -1, query.shape[-1])
    is_plain_inference = query.is_cpu and not torch.is_grad_enabled() and dropout == 0
    if is_plain_inference and takes_onednn(folded[0, 0], key[0, 0]):
        output = _attention_by_products(folded, key, value, scaling)
    else:
        output = F.scaled_dot_product_attention(folded, key, value, dropout_p=dropout, scale=scaling)
    return output.reshape(query.shape).transpose(1, 2), None


def _attention_by_products(
    query_BHLD: torch.Tensor, key_BHLD: torch.Tensor, value_BHLD: torch.Tensor, scaling: float
) -> torch.Tensor:
    """Attention `(B, H, L, D)` with products by oneDNN, where the fused kernel uses the slower library."""
    output_BHLD = torch.empty_like(query_BHLD)
    rows_per_chunk = max(1, _MAX_SCORES_BYTES // (key_BHLD.shape[2] * key_BHLD.element_size()))
    scaled_key_BHLD = key_BHLD * scaling
    for b, h in itertools.product(range(query_BHLD.shape[0]), range(query_BHLD.shape[1])):
        output_chunks, query_chunks = (states[b, h].split(rows_per_chunk) for states in (output_BHLD, query_BHLD))
        for output_RD, query_RD in zip(output_chunks, query_chunks, strict=True):
            weights_RK = product(query_RD, scaled_key_BHLD[b, h]).softmax(dim=-1)
            output_RD.copy_(product(weights_RK, value_BHLD[b, h].T))
    return output_BHLD
