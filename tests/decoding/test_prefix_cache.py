# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
import pytest
import torch
from tiny_models import tiny_config
from transformers import DynamicCache

from lumos_hf.decoding.prefix_cache import PrefixCache, PrefixCacheLayer
from lumos_hf.modeling_lumos import LumosForCausalLM


def states(batch_size, length):
    return torch.randn(batch_size, 2, length, 4), torch.randn(batch_size, 2, length, 4)


def filled_layer(batch_size=3, length=5, capacity=8):
    layer = PrefixCacheLayer(capacity)
    layer.make_room(length)
    filled = layer.update(*states(batch_size, length))
    layer.keep_room()
    return layer, filled


@torch.no_grad()
def test_the_model_sees_what_it_sees_with_a_dynamic_cache():
    """A prompt, then steps of one length that are taken back, then one that stays, as a pipeline does it."""
    model = LumosForCausalLM(tiny_config()).eval()
    cache, dynamic_cache = PrefixCache(num_layers=2, capacity=7 + 2 * 5), DynamicCache(config=model.config)
    ids = torch.randint(70, (2, 7 + 2 * 5))

    def assert_equal_logits(start, end, fed):
        cache.make_room(end - start)
        assert cache.get_seq_length() == dynamic_cache.get_seq_length() == start
        positions = torch.arange(start, end).expand(3, 2, -1)
        results = [
            model(input_ids=fed, position_ids=positions, past_key_values=each, is_causal=False).logits
            for each in (cache, dynamic_cache)
        ]
        torch.testing.assert_close(*results)

    assert_equal_logits(0, 7, ids[:, :7])
    cache.keep_room()
    for start in (7, 12):
        for _ in range(3):
            assert_equal_logits(start, start + 5, torch.randint(70, (2, 5)))
            dynamic_cache.crop(-5)
        assert_equal_logits(start, start + 5, ids[:, start : start + 5])
        cache.keep_room()


def test_room_is_written_in_place():
    layer, (keys, _) = filled_layer()
    buffer = layer.keys.data_ptr()
    for length in (2, 3, 3, 1):
        layer.make_room(length)
        new_keys, new_values = states(3, length)
        all_keys, all_values = layer.update(new_keys, new_values)
        assert torch.equal(all_keys, torch.cat([keys, new_keys], dim=-2))
        assert torch.equal(all_values[..., 5:, :], new_values)
        assert layer.get_seq_length() == 5
        assert all_keys.data_ptr() == layer.keys.data_ptr() == buffer


def test_kept_room_is_past():
    layer, (keys, values) = filled_layer()
    layer.make_room(2)
    layer.update(*states(3, 2))
    new_keys, new_values = states(3, 2)
    layer.update(new_keys, new_values)
    layer.keep_room()
    assert layer.get_seq_length() == 7
    layer.make_room(1)
    last_keys, last_values = states(3, 1)
    all_keys, all_values = layer.update(last_keys, last_values)
    assert torch.equal(all_keys, torch.cat([keys, new_keys, last_keys], dim=-2))
    assert torch.equal(all_values, torch.cat([values, new_values, last_values], dim=-2))


def test_forks_go_on_by_themselves_and_cropping_forgets_the_end():
    cache = PrefixCache(num_layers=1, capacity=8)
    cache.make_room(5)
    keys, values = cache.layers[0].update(*states(1, 5))
    cache.keep_room()
    before = keys.clone(), values.clone()
    fork = cache.fork()
    cache.crop_to(2)
    assert cache.get_seq_length() == 2 and fork.get_seq_length() == 5
    cache.make_room(3)
    cache.layers[0].update(*states(1, 3))
    assert torch.equal(fork.layers[0].keys, before[0]) and torch.equal(fork.layers[0].values, before[1])
    assert torch.equal(cache.layers[0].keys[:, :, :2], before[0][:, :, :2])
    assert not torch.equal(cache.layers[0].keys, before[0])


def test_thinning_closes_the_gaps_in_place():
    layer, (keys, values) = filled_layer()
    keys, values = keys.clone(), values.clone()
    buffer = layer.keys.data_ptr()
    layer.thin(1, torch.tensor([1, 3]))
    assert layer.get_seq_length() == 3
    layer.make_room(1)
    new_keys, new_values = states(3, 1)
    all_keys, all_values = layer.update(new_keys, new_values)
    assert torch.equal(all_keys, torch.cat([keys[..., [0, 2, 4], :], new_keys], dim=-2))
    assert torch.equal(all_values, torch.cat([values[..., [0, 2, 4], :], new_values], dim=-2))
    assert layer.keys.data_ptr() == buffer


@torch.no_grad()
def test_what_is_forgotten_is_as_if_masked():
    model = LumosForCausalLM(tiny_config()).eval()
    ids = torch.randint(70, (2, 12))
    positions = torch.arange(12).expand(3, 2, -1)
    cache = PrefixCache(num_layers=2, capacity=12)
    cache.make_room(8)
    model(input_ids=ids[:, :8], position_ids=positions[..., :8], past_key_values=cache, is_causal=False)
    cache.keep_room()
    cache.make_room(4)
    options = {"input_ids": ids[:, 8:], "position_ids": positions[..., 8:], "is_causal": False}
    is_kept = torch.ones(2, 12, dtype=torch.long)
    is_kept[:, [3, 5, 6]] = 0
    masked = model(past_key_values=cache, attention_mask=is_kept, **options).logits
    cache.make_room(0)
    for layer in cache.layers:
        layer.thin(2, torch.tensor([0, 2, 5]))
    cache.make_room(4)
    torch.testing.assert_close(model(past_key_values=cache, **options).logits, masked)


def test_no_more_than_the_capacity():
    layer, _ = filled_layer()
    assert layer.get_max_length() == 8
    with pytest.raises(ValueError, match="`num_tokens` must fit into the `capacity` of 8 tokens, got 4 after 5"):
        layer.make_room(4)


@pytest.mark.parametrize("room", [0, 2])
def test_only_what_there_is_room_for(room):
    layer, _ = filled_layer()
    layer.make_room(room)
    with pytest.raises(ValueError, match=f"`key_states` must fill the room of {room} tokens, got 3"):
        layer.update(*states(3, 3))


@pytest.mark.parametrize(
    "operation, rows",
    [
        (lambda cache: cache.batch_repeat_interleave(2), [0, 0, 1, 1, 2, 2]),
        (lambda cache: cache.batch_select_indices(torch.tensor([2, 0])), [2, 0]),
        (lambda cache: cache.reorder_cache(torch.tensor([1, 1, 0])), [1, 1, 0]),
    ],
)
def test_operations_on_the_batch(operation, rows):
    cache = PrefixCache(num_layers=1, capacity=8)
    cache.make_room(5)
    keys, values = (each.clone() for each in cache.update(*states(3, 5), 0))
    cache.keep_room()
    operation(cache)
    assert cache.get_seq_length() == 5
    cache.make_room(2)
    new_keys, new_values = states(len(rows), 2)
    all_keys, all_values = cache.update(new_keys, new_values, 0)
    assert torch.equal(all_keys, torch.cat([keys[rows], new_keys], dim=-2))
    assert torch.equal(all_values, torch.cat([values[rows], new_values], dim=-2))


def test_a_reset_cache_takes_another_batch():
    cache = PrefixCache(num_layers=1, capacity=8)
    cache.make_room(5)
    cache.update(*states(3, 5), 0)
    cache.reset()
    assert cache.get_seq_length() == 0
    keys, _ = states(1, 8)
    cache.make_room(8)
    assert torch.equal(cache.update(keys, keys, 0)[0], keys)
