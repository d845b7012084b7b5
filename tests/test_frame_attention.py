# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from lumos_hf import frame_attention
from lumos_hf.frame_attention import FrameBlocks, blockwise_attention, unmasked_attention


HEADS, KEY_VALUE_HEADS, HEAD_DIM = 4, 2, 8
LAYER = SimpleNamespace(num_key_value_groups=HEADS // KEY_VALUE_HEADS)
# Numbers of tokens, frames in brackets.
ROWS = {
    "frames first": ([5], [5], 2),
    "text around frames": (3, [4], [6], 2),
    "text between frames": (3, [4], 3, [5]),
    "text alone": (9,),
    "one frame alone": ([7],),
}


def frame_ids_of(parts):
    ids, number = [], 0
    for part in parts:
        is_frame = isinstance(part, list)
        ids += [number] * part[0] if is_frame else [-1] * part
        number += is_frame
    return torch.tensor(ids)


def pad(rows, side):
    """Frame ids and attention mask `(B, L)`; padding looks like text."""
    length = max(map(len, rows))
    padding = [(length - len(row), 0) if side == "left" else (0, length - len(row)) for row in rows]
    frame_ids = torch.stack([F.pad(row, size, value=-1) for row, size in zip(rows, padding, strict=True)])
    mask = torch.stack([F.pad(torch.ones_like(row), size) for row, size in zip(rows, padding, strict=True)])
    return frame_ids, mask


def build_states(batch_size, length):
    shapes = [(batch_size, heads, length, HEAD_DIM) for heads in (HEADS, KEY_VALUE_HEADS, KEY_VALUE_HEADS)]
    return [torch.randn(shape, requires_grad=True) for shape in shapes]


def masked_attention(states, frame_ids, is_real):
    query, key, value = states
    index = torch.arange(frame_ids.shape[1])
    is_same_frame = (frame_ids[:, :, None] == frame_ids[:, None]) & (frame_ids >= 0)[:, None]
    mask = ((index[:, None] >= index) | is_same_frame) & is_real[:, None]
    # Padding sees itself, so that its results are numbers.
    mask = (mask | torch.eye(len(index), dtype=torch.bool))[:, None]
    output = F.scaled_dot_product_attention(query, key, value, mask, scale=0.3, enable_gqa=True)
    return output.transpose(1, 2) * is_real[:, :, None, None]


def assert_equal_attention(frame_ids, attention_mask):
    blocks = FrameBlocks.from_layout(frame_ids, attention_mask)
    is_real = torch.ones_like(frame_ids, dtype=torch.bool) if attention_mask is None else attention_mask.bool()
    states = build_states(*frame_ids.shape)
    expected = masked_attention(states, frame_ids, is_real)
    actual, weights = blockwise_attention(LAYER, *states, blocks, scaling=0.3, is_causal=True)
    assert weights is None
    torch.testing.assert_close(actual, expected)
    direction = torch.randn_like(expected)
    for one, other in zip(
        torch.autograd.grad(actual, states, direction), torch.autograd.grad(expected, states, direction), strict=True
    ):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("parts", ROWS.values(), ids=ROWS)
def test_equals_masked_attention(parts):
    frame_ids = frame_ids_of(parts).expand(2, -1)
    assert_equal_attention(frame_ids, None)
    assert_equal_attention(frame_ids, torch.ones_like(frame_ids))


@pytest.mark.parametrize("side", ("left", "right"))
def test_rows_of_different_layouts(side):
    frame_ids, attention_mask = pad([frame_ids_of(parts) for parts in ROWS.values()], side)
    assert_equal_attention(frame_ids, attention_mask)


def test_padding_without_a_mask_is_text():
    frame_ids, _ = pad([frame_ids_of(parts) for parts in ROWS.values()], "right")
    assert_equal_attention(frame_ids, None)


def test_a_row_of_padding_alone_is_text():
    frame_ids = frame_ids_of((3, [4], 1)).repeat(2, 1)
    frame_ids[1] = -1
    attention_mask = torch.ones_like(frame_ids)
    attention_mask[1] = 0
    states = build_states(*frame_ids.shape)
    actual, _ = blockwise_attention(LAYER, *states, FrameBlocks.from_layout(frame_ids, attention_mask), scaling=0.3)
    torch.testing.assert_close(actual, masked_attention(states, frame_ids, torch.ones_like(frame_ids) > 0))


def test_autocast_gives_its_own_dtype():
    frame_ids, attention_mask = pad([frame_ids_of((3, [4], 1)), frame_ids_of((1, [4], 1))], "right")
    blocks = FrameBlocks.from_layout(frame_ids, attention_mask)
    with torch.autocast("cpu", torch.bfloat16):
        output, _ = blockwise_attention(LAYER, *build_states(*frame_ids.shape), blocks)
    assert output.dtype == torch.bfloat16


def test_no_call_has_a_mask_over_frames(monkeypatch):
    calls = []
    attention = F.scaled_dot_product_attention

    def record(query, key, *arguments, attn_mask=None, is_causal=False, **kwargs):
        calls.append((query.shape[2], key.shape[2], attn_mask is not None, is_causal))
        return attention(query, key, *arguments, attn_mask=attn_mask, is_causal=is_causal, **kwargs)

    monkeypatch.setattr(F, "scaled_dot_product_attention", record)
    frame_ids = frame_ids_of((3, [4], [6], 2)).expand(2, -1)
    blockwise_attention(LAYER, *build_states(*frame_ids.shape), FrameBlocks.from_layout(frame_ids, None))
    assert calls == [(3, 3, False, True), (4, 7, False, False), (6, 13, False, False), (2, 15, True, False)]


@pytest.mark.parametrize("side", ("left", "right"))
def test_alike_rows_share_their_calls(side):
    rows = [frame_ids_of((3, [4], 1)), frame_ids_of((3, [4], 1)), frame_ids_of((2, [4], 1))]
    groups = FrameBlocks.from_layout(*pad(rows[:2], side)).by_layout()
    assert [rows for rows, _ in groups] == [slice(None)]
    groups = FrameBlocks.from_layout(*pad(rows, side)).by_layout()
    assert [rows for rows, _ in groups] == [slice(0, 1), slice(1, 2), slice(2, 3)]


def test_what_is_not_made_of_blocks():
    frame_ids = frame_ids_of((2, [3], 1, [3]))
    assert FrameBlocks.from_layout(frame_ids[None], None) is not None
    padding_between = torch.ones_like(frame_ids)
    padding_between[5] = 0
    assert FrameBlocks.from_layout(frame_ids[None], padding_between[None]) is None
    in_pieces = frame_ids.clamp(max=0)
    assert FrameBlocks.from_layout(in_pieces[None], None) is None


@pytest.mark.parametrize("max_scores_bytes", (1, 5 * 11 * 4, 2**20))
@torch.no_grad()
def test_attention_by_products_in_chunks_of_rows(max_scores_bytes, monkeypatch):
    monkeypatch.setattr(frame_attention, "_MAX_SCORES_BYTES", max_scores_bytes)
    query, keys, values = torch.randn(2, HEADS, 7, HEAD_DIM), *torch.randn(2, 2, KEY_VALUE_HEADS, 15, HEAD_DIM)
    key, value = keys[:, :, 4:], values[:, :, 4:]
    expected = F.scaled_dot_product_attention(query, key, value, scale=0.3, enable_gqa=True).transpose(1, 2)
    for takes_onednn in (True, False):
        monkeypatch.setattr(frame_attention, "takes_onednn", lambda *tensors, answer=takes_onednn: answer)
        output, _ = unmasked_attention(None, query, key, value, None, dropout=0.0, scaling=0.3)
        torch.testing.assert_close(output, expected)


def test_a_frame_after_cached_padding_sees_what_is_real():
    query, key, value = build_states(3, 9)
    query, num_padding = query[:, :, -4:], [2, 0, 3]
    actual, _ = blockwise_attention(
        LAYER, query, key, value, FrameBlocks.after_padding(num_padding), dropout=0.0, scaling=0.3
    )
    mask = (torch.arange(9) >= torch.tensor(num_padding)[:, None])[:, None, None]
    expected = F.scaled_dot_product_attention(query, key, value, mask, scale=0.3, enable_gqa=True)
    torch.testing.assert_close(actual, expected.transpose(1, 2))
