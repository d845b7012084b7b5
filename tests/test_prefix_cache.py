# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
import pytest
import torch
from transformers import DynamicCache

from lumos_hf.configuration_lumos import LumosConfig
from lumos_hf.modeling_lumos import LumosForCausalLM
from lumos_hf.prefix_cache import PrefixCacheLayer, prefix_cache


def tiny_model():
    config = LumosConfig(
        vocab_size=96,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,
        image_end_token_id=70,
        image_start_token_id=71,
        separator_token_id=72,
        eos_token_id=72,
        new_line_token_id=73,
        size_token_offset=74,
        mask_token_id=80,
        video_start_token_id=81,
        video_end_token_id=82,
        visual_token_offset=84,
        visual_vocab_size=12,
    )
    return LumosForCausalLM(config).eval()


def states(batch_size, length):
    return torch.randn(batch_size, 2, length, 4), torch.randn(batch_size, 2, length, 4)


def filled_layer(batch_size=3, length=5, capacity=8):
    layer = PrefixCacheLayer(capacity)
    return layer, layer.update(*states(batch_size, length))


@torch.no_grad()
def test_the_model_sees_what_it_sees_with_a_dynamic_cache():
    """A prompt, then steps of one length that are taken back, then one that stays, as a pipeline does it."""
    model = tiny_model()
    caches = prefix_cache(num_layers=2, capacity=7 + 2 * 5), DynamicCache(config=model.config)
    ids = torch.randint(70, (2, 7 + 2 * 5))

    def logits(cache, start, end, fed):
        positions = torch.arange(start, end).expand(3, 2, -1)
        return model(input_ids=fed, position_ids=positions, past_key_values=cache, is_causal=False).logits

    def assert_equal_logits(start, end, fed):
        results = [logits(cache, start, end, fed) for cache in caches]
        torch.testing.assert_close(*results)
        assert all(cache.get_seq_length() == end for cache in caches)

    assert_equal_logits(0, 7, ids[:, :7])
    for start in (7, 12):
        for _ in range(3):
            assert_equal_logits(start, start + 5, torch.randint(70, (2, 5)))
            for cache in caches:
                cache.crop(-5)
        assert_equal_logits(start, start + 5, ids[:, start : start + 5])


def test_tokens_are_written_in_place():
    layer, (keys, _) = filled_layer()
    buffer = layer.keys.data_ptr()
    assert keys.shape == (3, 2, 5, 4) and layer.keys.shape == layer.values.shape == (3, 2, 8, 4)
    for length in (2, 3, 1):
        new_keys, new_values = states(3, length)
        all_keys, all_values = layer.update(new_keys, new_values)
        assert torch.equal(all_keys, torch.cat([keys, new_keys], dim=-2))
        assert torch.equal(all_values[..., 5:, :], new_values)
        layer.crop(-length)
        assert layer.get_seq_length() == 5
    assert layer.keys.data_ptr() == buffer


def test_several_crops():
    layer, (keys, _) = filled_layer()
    layer.crop(-1)
    layer.crop(0)
    layer.crop(-2)
    new_keys, new_values = states(3, 1)
    all_keys, _ = layer.update(new_keys, new_values)
    assert torch.equal(all_keys, torch.cat([keys[..., :2, :], new_keys], dim=-2))


def test_thinning_closes_the_gaps_in_place():
    layer, (keys, values) = filled_layer()
    keys, values = keys.clone(), values.clone()
    buffer = layer.keys.data_ptr()
    layer.thin(1, torch.tensor([1, 3]))
    assert layer.get_seq_length() == 3
    new_keys, new_values = states(3, 1)
    all_keys, all_values = layer.update(new_keys, new_values)
    assert torch.equal(all_keys, torch.cat([keys[..., [0, 2, 4], :], new_keys], dim=-2))
    assert torch.equal(all_values, torch.cat([values[..., [0, 2, 4], :], new_values], dim=-2))
    assert layer.keys.data_ptr() == buffer


@torch.no_grad()
def test_what_is_forgotten_is_as_if_masked():
    model = tiny_model()
    ids = torch.randint(70, (2, 12))
    positions = torch.arange(12).expand(3, 2, -1)
    cache = prefix_cache(num_layers=2, capacity=12)
    model(input_ids=ids[:, :8], position_ids=positions[..., :8], past_key_values=cache, is_causal=False)
    options = {"input_ids": ids[:, 8:], "position_ids": positions[..., 8:], "is_causal": False}
    is_kept = torch.ones(2, 12, dtype=torch.long)
    is_kept[:, [3, 5, 6]] = 0
    masked = model(past_key_values=cache, attention_mask=is_kept, **options).logits
    cache.crop(-4)
    for layer in cache.layers:
        layer.thin(2, torch.tensor([0, 2, 5]))
    torch.testing.assert_close(model(past_key_values=cache, **options).logits, masked)


@pytest.mark.parametrize("tokens_to_remove", [1, -6])
def test_crops_that_are_refused(tokens_to_remove):
    layer, _ = filled_layer()
    with pytest.raises(ValueError, match=rf"`tokens_to_remove` must lie in \[-5, 0\], got {tokens_to_remove}"):
        layer.crop(tokens_to_remove)


def test_no_more_than_the_capacity():
    layer, _ = filled_layer()
    assert layer.get_max_length() == 8
    with pytest.raises(ValueError, match="must fit into the `capacity` of 8 tokens, got 9 in all"):
        layer.update(*states(3, 4))


@pytest.mark.parametrize(
    "operation, rows",
    [
        (lambda cache: cache.batch_repeat_interleave(2), [0, 0, 1, 1, 2, 2]),
        (lambda cache: cache.batch_select_indices(torch.tensor([2, 0])), [2, 0]),
        (lambda cache: cache.reorder_cache(torch.tensor([1, 1, 0])), [1, 1, 0]),
    ],
)
def test_operations_on_the_batch(operation, rows):
    cache = prefix_cache(num_layers=1, capacity=8)
    keys, values = cache.update(*states(3, 5), 0)
    keys, values = keys.clone(), values.clone()
    operation(cache)
    assert cache.get_seq_length() == 5
    new_keys, new_values = states(len(rows), 2)
    all_keys, all_values = cache.update(new_keys, new_values, 0)
    assert torch.equal(all_keys, torch.cat([keys[rows], new_keys], dim=-2))
    assert torch.equal(all_values, torch.cat([values[rows], new_values], dim=-2))


def test_a_reset_cache_takes_another_batch():
    cache = prefix_cache(num_layers=1, capacity=8)
    cache.update(*states(3, 5), 0)
    cache.reset()
    assert cache.get_seq_length() == 0
    keys, _ = states(1, 8)
    assert torch.equal(cache.update(keys, keys, 0)[0], keys)
