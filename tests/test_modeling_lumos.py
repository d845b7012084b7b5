# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
import copy
import logging
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from peft import AutoPeftModelForCausalLM, LoraConfig, PeftModel, get_peft_model
from tiny_models import NUM_CODES, VISUAL_TOKEN_OFFSET, tiny_config
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import DynamicCache, StaticCache

from lumos_hf import modeling_lumos
from lumos_hf.modeling_lumos import LumosForCausalLM, rotary_channel_axes
from lumos_hf.token_layout import derive_layout, frame_length, prompt_ids, sequence_from_codes


VISUAL = VISUAL_TOKEN_OFFSET
H, W = 4, 8
FRAME = frame_length(H, W)
ATOL = 1e-5


def build_config(**fields):
    return tiny_config(**{"num_attention_heads": 4, "num_key_value_heads": 2, "model_parallel_size": 2, **fields})


def build_model(**fields):
    """The same weights every time, far enough from their initial values that every part of the model matters."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        model = LumosForCausalLM(build_config(**fields)).eval()
        for parameter in model.parameters():
            parameter.add_(0.15 * torch.randn_like(parameter))
    return model


@pytest.fixture
def model():
    return build_model()


def build_row(config, text_ids=(5, 6, 7), num_frames=2, closed=False, seed=0):
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(0, NUM_CODES, (num_frames, H, W), generator=generator)
    prefix_ids = prompt_ids(list(text_ids), config) if text_ids else []
    return sequence_from_codes(prefix_ids, codes, 1, 4, config, closed)


def build_training_batch(config):
    """Two rows of different lengths, padded right; labels as in the official code: everything from video_start on."""
    rows = [build_row(config, closed=True), build_row(config, (), num_frames=1, closed=True, seed=1)]
    input_ids = nn.utils.rnn.pad_sequence(rows, batch_first=True)
    labels = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=-100).clone()
    labels[0, :5] = -100
    is_visual = input_ids >= config.visual_token_offset
    kept = is_visual & (torch.rand(input_ids.shape, generator=torch.Generator().manual_seed(2)) < 0.3)
    labels[kept] = -100
    input_ids[is_visual & ~kept] = config.mask_token_id
    return input_ids, labels


def visual_labels(labels):
    """-100 instead of the others, which are refused where a number of labels is given."""
    return labels.masked_fill(labels < VISUAL, -100)


def pad(rows, side):
    """`input_ids`, `attention_mask`, and the columns of each row."""
    length = max(map(len, rows))
    input_ids = torch.zeros(len(rows), length, dtype=torch.long)
    attention_mask = torch.zeros_like(input_ids)
    columns = [slice(length - len(row), length) if side == "left" else slice(0, len(row)) for row in rows]
    for index, row in enumerate(rows):
        input_ids[index, columns[index]] = row
        attention_mask[index, columns[index]] = 1
    return input_ids, attention_mask, columns


@torch.no_grad()
def logits_of(model, **inputs):
    return model(**inputs).logits


def assert_close(actual, expected, atol=ATOL):
    torch.testing.assert_close(actual, expected, atol=atol, rtol=1e-5)


# Attention


def test_a_frame_sees_itself_and_the_past_only(model):
    input_ids = build_row(model.config, closed=True)[None]
    before = logits_of(model, input_ids=input_ids)[0]
    first_frame = 8  # after bos, three text tokens, separator and the video header
    second_frame = first_frame + FRAME

    changed_ids = input_ids.clone()
    changed_ids[0, second_frame - 2] = model.config.visual_token_offset
    changed = (logits_of(model, input_ids=changed_ids)[0] - before).abs().amax(-1) > 1e-4
    assert not changed[:first_frame].any()
    assert changed[first_frame:].all()

    changed_ids = input_ids.clone()
    changed_ids[0, second_frame + FRAME - 2] = model.config.visual_token_offset
    changed = (logits_of(model, input_ids=changed_ids)[0] - before).abs().amax(-1) > 1e-4
    assert not changed[:second_frame].any()
    assert changed[second_frame:].all()


@pytest.mark.parametrize("attention", ("eager", "sdpa"))
@pytest.mark.parametrize("side", ("left", "right"))
def test_padding_changes_nothing(model, side, attention):
    model.set_attn_implementation(attention)
    rows = [build_row(model.config), build_row(model.config, (), 1, seed=1), torch.tensor([0, 9, 102])]
    input_ids, attention_mask, columns = pad(rows, side)
    logits = logits_of(model, input_ids=input_ids, attention_mask=attention_mask)
    assert torch.isfinite(logits).all()
    for index, row in enumerate(rows):
        assert_close(logits[index, columns[index]], logits_of(model, input_ids=row[None])[0])


@pytest.mark.slow
@pytest.mark.parametrize("padded", (False, True))
def test_attention_implementations_agree(model, padded):
    rows = [build_row(model.config), build_row(model.config, (), 1 if padded else 2, seed=1)[: None if padded else -3]]
    input_ids, attention_mask, _ = pad(rows, "left")
    inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
    is_real = attention_mask.bool()
    model.set_attn_implementation("eager")
    expected = logits_of(model, **inputs)[is_real]
    model.set_attn_implementation("sdpa")
    assert_close(logits_of(model, **inputs)[is_real], expected)
    model.set_attn_implementation("flex_attention")
    with torch.compiler.set_stance("force_eager"):
        assert_close(logits_of(model, **inputs)[is_real], expected)


@pytest.mark.slow
@pytest.mark.parametrize("side", ("left", "right"))
def test_attention_without_a_cache_agrees(model, side):
    """It goes without a mask over all tokens then, if it can."""
    rows = [build_row(model.config, closed=True), build_row(model.config, (), 1, seed=1), torch.tensor([0, 9, 102])]
    input_ids, attention_mask, _ = pad(rows, side)
    broken_mask = attention_mask.clone()
    broken_mask[0, len(rows[0]) // 2] = 0
    for mask in (attention_mask, broken_mask, None):
        inputs = {"input_ids": input_ids, "attention_mask": mask}
        is_real = torch.ones_like(input_ids, dtype=torch.bool) if mask is None else mask.bool()
        model.set_attn_implementation("eager")
        expected = logits_of(model, **inputs)[is_real]
        model.set_attn_implementation("sdpa")
        assert_close(logits_of(model, **inputs, use_cache=False)[is_real], expected)


def test_flash_attention_is_refused(model):
    with pytest.raises(ValueError, match="does not support Flash Attention"):
        model.set_attn_implementation("flash_attention_2")


# Layout


@pytest.mark.slow
def test_given_layout_equals_derived_layout(model):
    input_ids, attention_mask, _ = pad([build_row(model.config), build_row(model.config, (), 1)], "left")
    position_ids, frame_ids = derive_layout(input_ids, model.config, attention_mask)
    expected = logits_of(model, input_ids=input_ids, attention_mask=attention_mask)
    for given in ({"position_ids": position_ids}, {"frame_ids": frame_ids}):
        assert torch.equal(logits_of(model, input_ids=input_ids, attention_mask=attention_mask, **given), expected)
    given = {"position_ids": position_ids, "frame_ids": frame_ids}
    assert torch.equal(logits_of(model, input_ids=input_ids, attention_mask=attention_mask, **given), expected)
    embeds = model.get_input_embeddings()(input_ids)
    assert torch.equal(logits_of(model, inputs_embeds=embeds, attention_mask=attention_mask, **given), expected)


@pytest.mark.slow
@pytest.mark.parametrize("attention", ("eager", "sdpa"))
def test_with_given_layout_nothing_is_read_back(attention):
    model = LumosForCausalLM(build_config()).eval().to("meta")
    model.set_attn_implementation(attention)
    input_ids = torch.zeros(2, 50, dtype=torch.long, device="meta")
    outputs = model(
        input_ids=input_ids,
        attention_mask=torch.ones_like(input_ids),
        position_ids=input_ids.expand(3, -1, -1),
        frame_ids=input_ids,
    )
    frame = input_ids[:, :FRAME]
    outputs = model(
        input_ids=frame,
        attention_mask=torch.ones(2, 50 + FRAME, device="meta"),
        position_ids=frame.expand(3, -1, -1),
        past_key_values=outputs.past_key_values,
        is_causal=False,
    )
    assert outputs.logits.shape == (2, FRAME, 200)


@pytest.mark.slow
def test_position_encodings_differ_in_frames_only():
    mm_rope = build_model()
    input_ids = build_row(mm_rope.config)[None]
    expected = logits_of(mm_rope, input_ids=input_ids)
    for position_encoding in ("rope_3d", "rope_1d"):
        model = build_model(position_encoding=position_encoding)
        logits = logits_of(model, input_ids=input_ids)
        assert_close(logits[:, :5], expected[:, :5])
        assert (logits - expected)[:, 10:].abs().amax() > 1e-3


def test_rotary_channels_are_shared_out_two_to_three_to_three():
    for position_encoding in ("mm_rope", "rope_3d"):
        axes = torch.tensor(rotary_channel_axes(position_encoding, 32))
        assert axes.bincount().tolist() == [8, 12, 12]
    assert rotary_channel_axes("mm_rope", 16) == (0, 0, 0, 0, 1, 1, 2, 2, 1, 1, 2, 2, 1, 1, 2, 2)
    assert rotary_channel_axes("rope_3d", 8) == (0, 0, 1, 1, 1, 2, 2, 2)
    assert rotary_channel_axes("rope_1d", 4) == (0, 0, 0, 0)


# Cache


@pytest.mark.parametrize("attention", ("eager", "sdpa"))
@pytest.mark.parametrize("causal", (False, True))
@pytest.mark.parametrize("static", (False, True))
def test_cached_frame_equals_full_forward(model, static, causal, attention):
    model.set_attn_implementation(attention)
    input_ids = build_row(model.config)[None]
    position_ids, frame_ids = derive_layout(input_ids, model.config)
    expected = logits_of(model, input_ids=input_ids)[:, -FRAME:]
    length = input_ids.shape[1]

    cache = StaticCache(model.config, max_cache_len=length + 5) if static else DynamicCache(config=model.config)
    prefix = {"position_ids": position_ids[..., :-FRAME], "frame_ids": frame_ids[:, :-FRAME]}
    logits_of(model, input_ids=input_ids[:, :-FRAME], past_key_values=cache, **prefix)
    frame = {"position_ids": position_ids[..., -FRAME:]}
    if causal:
        frame["frame_ids"] = frame_ids[:, -FRAME:]
    else:
        frame["is_causal"] = False
        # The unused slots of a static cache are only hidden by a mask.
        frame["attention_mask"] = torch.ones(1, length) if static else None
    logits = logits_of(model, input_ids=input_ids[:, -FRAME:], past_key_values=cache, **frame)
    assert_close(logits, expected)


@pytest.mark.parametrize("causal", (False, True))
def test_cached_frame_of_a_left_padded_batch(model, causal):
    rows = [build_row(model.config), build_row(model.config, (), seed=1)]
    input_ids, attention_mask, _ = pad(rows, "left")
    position_ids, frame_ids = derive_layout(input_ids, model.config, attention_mask)

    with torch.no_grad():
        cache = model(
            input_ids=input_ids[:, :-FRAME],
            attention_mask=attention_mask[:, :-FRAME],
            position_ids=position_ids[..., :-FRAME],
            frame_ids=frame_ids[:, :-FRAME],
        ).past_key_values
    logits = logits_of(
        model,
        input_ids=input_ids[:, -FRAME:],
        attention_mask=attention_mask,
        position_ids=position_ids[..., -FRAME:],
        frame_ids=frame_ids[:, -FRAME:] if causal else None,
        past_key_values=cache,
        is_causal=causal,
    )
    for index, row in enumerate(rows):
        assert_close(logits[index], logits_of(model, input_ids=row[None])[0, -FRAME:])


def test_one_frame_is_run_again_after_cropping_the_cache(model):
    input_ids = build_row(model.config)[None]
    position_ids, _ = derive_layout(input_ids, model.config)
    masked_ids = input_ids.clone()
    masked_ids[:, -FRAME:][masked_ids[:, -FRAME:] >= model.config.visual_token_offset] = model.config.mask_token_id

    with torch.no_grad():
        cache = model(input_ids=masked_ids).past_key_values
    cache.crop(-FRAME)
    logits = logits_of(
        model,
        input_ids=input_ids[:, -FRAME:],
        position_ids=position_ids[..., -FRAME:],
        past_key_values=cache,
        is_causal=False,
    )
    assert_close(logits, logits_of(model, input_ids=input_ids)[:, -FRAME:])
    assert not hasattr(model.config, "is_causal")


@pytest.mark.parametrize("name", ("cache", "past_key_values"))
@pytest.mark.parametrize("part", ("model", "base model"))
def test_both_names_of_the_cache_work(model, name, part, caplog, recwarn, monkeypatch):
    """transformers has renamed it."""
    input_ids = build_row(model.config)[None]
    position_ids, frame_ids = derive_layout(input_ids, model.config)
    module = model if part == "model" else model.model
    output = "logits" if part == "model" else "last_hidden_state"
    # What is said once a process may have been said already, and what is said does not reach other loggers.
    logger = logging.getLogger("transformers")
    logger.warning_once.cache_clear()
    monkeypatch.setattr(logger, "propagate", True)
    with torch.no_grad():
        expected = module(input_ids=input_ids)[output][:, -FRAME:]
        cache = DynamicCache(config=model.config)
        prefix = {"position_ids": position_ids[..., :-FRAME], "frame_ids": frame_ids[:, :-FRAME]}
        module(input_ids=input_ids[:, :-FRAME], **{name: cache}, **prefix)
        frame = {"position_ids": position_ids[..., -FRAME:], "frame_ids": frame_ids[:, -FRAME:]}
        outputs = module(input_ids=input_ids[:, -FRAME:], **{name: cache}, **frame)
    assert_close(outputs[output], expected)
    is_old = name == "past_key_values" and modeling_lumos._CACHE_NAME == "cache"
    assert "deprecated" not in caplog.text
    warned = {str(warning.message) for warning in recwarn.list}
    assert warned == ({"`past_key_values` is deprecated in transformers: use `cache`."} if is_old else set())
    assert outputs.past_key_values is cache


def test_two_different_caches_are_refused(model):
    caches = {name: DynamicCache(config=model.config) for name in ("cache", "past_key_values")}
    with pytest.raises(ValueError, match="two names of one argument, got two different caches"):
        model(input_ids=torch.arange(6)[None], **caches)


@pytest.mark.parametrize("part", ("model", "base model"))
def test_unknown_keywords_are_refused(model, part):
    module = model if part == "model" else model.model
    with pytest.raises(TypeError, match=r"forward\(\) got unexpected keyword arguments: chache, token_type_ids"):
        module(input_ids=torch.arange(6)[None], chache=None, token_type_ids=None)
    module(input_ids=torch.arange(6)[None], output_attentions=None, output_hidden_states=False, return_dict=True)


def test_a_cache_is_refused_where_activations_are_checkpointed(model):
    model.train().activation_checkpointing_enable()
    with pytest.raises(ValueError, match="`past_key_values` must be None in training with activation checkpointing"):
        model(input_ids=torch.arange(6)[None], past_key_values=DynamicCache(config=model.config))


# Logits


def test_logits_to_keep(model):
    input_ids = torch.stack([build_row(model.config), build_row(model.config, seed=1)])
    full = logits_of(model, input_ids=input_ids)
    masked = input_ids >= model.config.visual_token_offset
    assert_close(logits_of(model, input_ids=input_ids, logits_to_keep=3), full[:, -3:])
    assert_close(logits_of(model, input_ids=input_ids, logits_to_keep=torch.tensor([1, 4])), full[:, [1, 4]])
    assert_close(logits_of(model, input_ids=input_ids, logits_to_keep=masked), full[masked])


@pytest.mark.parametrize("attention", ("eager", "sdpa"))
@pytest.mark.parametrize("case", ("whole", "cached", "cached and padded"))
@torch.no_grad()
def test_every_row_keeps_its_own_positions(model, case, attention):
    """Whether or not the last layer leaves out the others."""
    model.set_attn_implementation(attention)
    rows = [
        build_row(model.config),
        build_row(model.config, (5, 6) if case == "cached and padded" else (7, 6, 5), seed=1),
    ]
    input_ids, attention_mask, _ = pad(rows, "left")
    position_ids, frame_ids = derive_layout(input_ids, model.config, attention_mask)
    attention_mask = attention_mask if case == "cached and padded" else None
    inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
    inputs |= {"position_ids": position_ids, "frame_ids": frame_ids}
    full = logits_of(model, **inputs)

    def cached_inputs():
        prefix = {name: None if value is None else value[..., :-FRAME] for name, value in inputs.items()}
        cache = model(**prefix).past_key_values
        frame = {"input_ids": input_ids[:, -FRAME:], "position_ids": position_ids[..., -FRAME:]}
        return {**frame, "attention_mask": attention_mask, "past_key_values": cache, "is_causal": False}

    for num_rows in (4, 1):
        positions = torch.stack([torch.randperm(FRAME)[:num_rows] for _ in rows])
        logits = logits_of(model, **(inputs if case == "whole" else cached_inputs()), logits_to_keep=positions)
        offset = 0 if case == "whole" else input_ids.shape[1] - FRAME
        assert_close(logits, torch.take_along_dim(full, positions[..., None] + offset, dim=1))


@torch.no_grad()
def test_logits_of_hidden_states_that_were_kept(model):
    input_ids = build_row(model.config)[None]
    positions = torch.tensor([1, 4, 9])
    output = model(input_ids=input_ids, logits_to_keep=positions, skip_logits=True)
    assert output.logits is None and output.last_hidden_state.shape == (1, 3, model.config.hidden_size)
    for options in ({}, {"visual_logits_only": True}):
        logits = model(last_hidden_state=output.last_hidden_state, **options).logits
        assert_close(logits, logits_of(model, input_ids=input_ids, logits_to_keep=positions, **options))


def test_visual_logits_are_a_slice(model):
    input_ids = build_row(model.config)[None]
    expected = logits_of(model, input_ids=input_ids)[..., VISUAL:]
    assert_close(logits_of(model, input_ids=input_ids, visual_logits_only=True), expected)


class ScaledLinear(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


def test_visual_logits_respect_a_replaced_or_hooked_head(model):
    hidden_states = torch.randn(3, 32, generator=torch.Generator().manual_seed(0))
    expected = 2 * model.visual_logits(hidden_states)

    hook = model.lm_head.register_forward_hook(lambda module, inputs, output: 2 * output)
    assert_close(model.visual_logits(hidden_states), expected)
    hook.remove()

    head = ScaledLinear(32, 200, bias=False)
    head.weight = model.lm_head.weight
    model.lm_head = head
    assert_close(model.visual_logits(hidden_states), expected)


def test_hidden_states_attentions_and_tuples(model):
    model.set_attn_implementation("eager")
    input_ids = build_row(model.config)[None]
    outputs = model(input_ids=input_ids, output_hidden_states=True, output_attentions=True)
    assert len(outputs.hidden_states) == 3 and outputs.hidden_states[-1].shape == (1, len(input_ids[0]), 32)
    assert [attention.shape[1] for attention in outputs.attentions] == [4, 4]
    assert torch.equal(model(input_ids=input_ids, return_dict=False)[0], outputs.logits)


# Loss


def plain_loss(model, input_ids, labels, num_items=None):
    """From all logits at once, with a mask."""
    counts = labels >= VISUAL
    logits = model(input_ids=input_ids, use_cache=True).logits[counts][:, VISUAL:]
    loss = F.cross_entropy(logits.float(), labels[counts] - VISUAL, reduction="sum")
    return loss / (counts.sum() if num_items is None else num_items)


def loss_and_gradients(model, loss):
    model.zero_grad()
    loss.backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    return loss.detach(), gradients


def build_lora_model(target_modules):
    with torch.random.fork_rng():
        config = LoraConfig(r=2, target_modules=target_modules, init_lora_weights=False)
        return get_peft_model(build_model(), config)


def build_frozen_head_model():
    model = build_model()
    model.lm_head.requires_grad_(False)
    return model


@pytest.mark.slow
@pytest.mark.parametrize("checkpointing", (False, True))
@pytest.mark.parametrize("rows_per_chunk", (7, 1000))
@pytest.mark.parametrize(
    "build",
    (
        build_model,
        partial(build_model, tie_word_embeddings=True),
        build_frozen_head_model,
        partial(build_lora_model, ["q_proj", "v_proj"]),
        partial(build_lora_model, ["q_proj", "lm_head"]),
    ),
    ids=("plain", "tied", "frozen-head", "lora", "lora-head"),
)
def test_loss_is_the_cross_entropy_of_masked_visual_tokens(build, rows_per_chunk, checkpointing, monkeypatch):
    model = build()
    base_model = model.get_base_model() if isinstance(model, PeftModel) else model
    num_columns = NUM_CODES if base_model.has_plain_head else model.config.vocab_size
    monkeypatch.setitem(modeling_lumos.MAX_LOGITS_BYTES, "cpu", rows_per_chunk * num_columns * 4)
    input_ids, labels = build_training_batch(model.config)
    for num_items in (None, 1000):
        if num_items is not None:
            labels = visual_labels(labels)
        expected = loss_and_gradients(model, plain_loss(model, input_ids, labels, num_items))
        if checkpointing:
            base_model.train()
            base_model.activation_checkpointing_enable()
        outputs = model(input_ids=input_ids, labels=labels, num_items_in_batch=num_items)
        assert outputs.logits is None and outputs.past_key_values is None
        loss, gradients = loss_and_gradients(model, outputs.loss)
        base_model.activation_checkpointing_disable()
        base_model.eval()

        assert_close(loss, expected[0])
        assert set(gradients) == set(expected[1])
        for name, gradient in gradients.items():
            assert_close(gradient, expected[1][name])


class LargestTensor(TorchDispatchMode):
    """Records the most elements of any tensor that an operation returns."""

    num_elements = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        output = operation(*args, **(kwargs or {}))
        tensors = [leaf for leaf in torch.utils._pytree.tree_leaves(output) if torch.is_tensor(leaf)]
        self.num_elements = max([self.num_elements, *(tensor.numel() for tensor in tensors)])
        return output


@pytest.mark.slow
def test_training_holds_neither_masks_nor_logits_of_all_tokens(monkeypatch):
    """Nothing is larger than the queries of a layer."""
    num_codes = 640
    model = build_model(vocab_size=VISUAL + num_codes, visual_vocab_size=num_codes)
    monkeypatch.setitem(modeling_lumos.MAX_LOGITS_BYTES, "cpu", 50 * num_codes * 4)
    input_ids = build_row(model.config, num_frames=12)[None]
    labels = torch.where(input_ids >= VISUAL, input_ids, -100)
    with LargestTensor() as record:
        model(input_ids=input_ids, labels=labels).loss.backward()
    length, counted = input_ids.numel(), (labels >= VISUAL).sum()
    assert record.num_elements == length * model.config.num_attention_heads * model.config.head_dim
    assert record.num_elements < min(length**2, counted * num_codes) / 1.9


def test_tokens_with_zero_loss_are_left_out_of_the_mean(model):
    input_ids = build_row(model.config)[None]
    with torch.no_grad():
        model.lm_head.weight.mul_(1e4)
        logits = model(input_ids=input_ids).logits[..., VISUAL:]
    labels = torch.full_like(input_ids, -100)
    labels[0, 12:16] = VISUAL + logits[0, 12:16].argmax(-1)
    labels[0, 16] = VISUAL + logits[0, 16].argmin(-1)

    token_losses = F.cross_entropy(logits[0, 12:17], labels[0, 12:17] - VISUAL, reduction="none")
    assert (token_losses[:4] == 0).all() and token_losses[4] > 0
    assert_close(model(input_ids=input_ids, labels=labels).loss, token_losses[4])
    assert_close(model(input_ids=input_ids, labels=labels, num_items_in_batch=5).loss, token_losses[4] / 5)


def test_batch_without_masked_tokens_has_zero_loss_and_gradients(model):
    input_ids = build_row(model.config)[None]
    loss = model(input_ids=input_ids, labels=torch.full_like(input_ids, -100)).loss
    loss.backward()
    assert loss == 0
    assert not model.lm_head.weight.grad.any()


@pytest.mark.slow
def test_accumulated_batches_equal_one_batch(model):
    input_ids, labels = build_training_batch(model.config)
    labels = visual_labels(labels)
    num_items = (labels >= VISUAL).sum()
    model(input_ids=input_ids, labels=labels).loss.backward()
    expected = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}

    model.zero_grad()
    for row in range(2):
        inputs = {"input_ids": input_ids[row : row + 1], "labels": labels[row : row + 1]}
        model(**inputs, num_items_in_batch=num_items).loss.backward()
    for name, parameter in model.named_parameters():
        assert_close(parameter.grad, expected[name])


@pytest.mark.slow
def test_activation_checkpointing_changes_nothing(model):
    input_ids, labels = build_training_batch(model.config)
    model.train()
    model(input_ids=input_ids, labels=labels).loss.backward()
    expected = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}

    model.zero_grad()
    model.activation_checkpointing_enable()
    assert model(input_ids=input_ids).past_key_values is None
    model(input_ids=input_ids, labels=labels).loss.backward()
    for name, parameter in model.named_parameters():
        assert_close(parameter.grad, expected[name])


def test_padding_id_is_trained_like_any_other(model):
    input_ids, labels = build_training_batch(model.config)
    model(input_ids=input_ids, labels=labels).loss.backward()
    assert model.config.pad_token_id == model.config.bos_token_id == 0
    assert model.model.embed_tokens.weight.grad[0].any()


def test_half_precision(model):
    model.to(torch.bfloat16)
    input_ids, labels = build_training_batch(model.config)
    outputs = model(input_ids=input_ids, labels=labels)
    assert outputs.loss.dtype == torch.float32
    outputs.loss.backward()
    assert torch.isfinite(model.lm_head.weight.grad).all()


# Weights


@pytest.mark.parametrize("tied", (False, True))
def test_save_and_load(tied, tmp_path):
    model = build_model(tie_word_embeddings=tied)
    input_ids = build_row(model.config)[None]
    model.save_pretrained(tmp_path)
    loaded, info = LumosForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values())
    assert (loaded.lm_head.weight is loaded.model.embed_tokens.weight) == tied
    assert torch.equal(logits_of(loaded, input_ids=input_ids), logits_of(model, input_ids=input_ids))


@pytest.mark.slow
def test_initial_weights_are_those_of_a_model_without_checkpoint(tmp_path):
    model = LumosForCausalLM(build_config())
    state_dict = {name: tensor for name, tensor in model.state_dict().items() if "_norm" not in name}
    model.save_pretrained(tmp_path, state_dict=state_dict)
    for initialised in (model, LumosForCausalLM.from_pretrained(tmp_path)):
        norm = initialised.model.layers[0].self_attn.q_norm
        assert norm.weight.shape == norm.bias.shape == (2, 32)
        assert (norm.weight == 1).all() and (norm.bias == 0).all()
        assert torch.equal(initialised.model.rotary_emb.inv_freq, model.model.rotary_emb.inv_freq)


def test_shards_have_their_own_norm_weights(model):
    norm = copy.deepcopy(model.model.layers[0].self_attn.q_norm)
    states = torch.randn(1, 3, 4, 32, generator=torch.Generator().manual_seed(0))
    expected = norm(states)
    with torch.no_grad():
        norm.bias[1] += 1
        changed = norm(states) - expected
    assert_close(changed, torch.tensor([0.0, 0.0, 1.0, 1.0])[:, None].expand_as(changed))


# Errors


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "Exactly one of `input_ids` and `inputs_embeds`"),
        ({"input_ids": True, "inputs_embeds": True}, "Exactly one of"),
        ({"inputs_embeds": True}, "`position_ids` must be given with `inputs_embeds`"),
        ({"inputs_embeds": True, "position_ids": (3, 1, 6)}, "`frame_ids` must be given with `inputs_embeds`"),
        ({"input_ids": True, "position_ids": (1, 6)}, "`position_ids` .* = \\(3, 1, 6\\), got \\(1, 6\\)"),
        ({"input_ids": True, "frame_ids": (1, 5)}, "`frame_ids` .* = \\(1, 6\\), got \\(1, 5\\)"),
        ({"input_ids": True, "attention_mask": (1, 7)}, "`attention_mask` .* = \\(1, 6\\), got \\(1, 7\\)"),
        ({"input_ids": True, "labels": (1, 5)}, "`labels` .* = \\(1, 6\\), got \\(1, 5\\)"),
        ({"input_ids": True, "past_key_values": True}, "`position_ids` must be given with a filled `past_key_values`"),
        ({"input_ids": True, "past_key_values": True, "position_ids": (3, 1, 6)}, "`frame_ids` must be given"),
    ],
)
def test_bad_input_is_refused(model, inputs, message):
    input_ids = torch.arange(6)[None]
    built = {
        "input_ids": input_ids,
        "inputs_embeds": torch.zeros(1, 6, 32),
        "past_key_values": model(input_ids=input_ids).past_key_values,
    }
    inputs = {
        name: torch.zeros(value, dtype=torch.long) if isinstance(value, tuple) else built[name]
        for name, value in inputs.items()
    }
    with pytest.raises(ValueError, match=message):
        model(**inputs)


# Padding as numbers


@torch.no_grad()
@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_padding_as_numbers_equals_a_mask(model, implementation):
    model.set_attn_implementation(implementation)
    ids = torch.randint(20, (3, 12))
    inputs = {"input_ids": ids, "position_ids": torch.arange(12).expand(3, 3, -1), "is_causal": False}
    num_padding = [2, 0, 5]
    attention_mask = (torch.arange(12) >= torch.tensor(num_padding)[:, None]).long()
    result = model(num_padding=num_padding, **inputs).logits
    expected = model(attention_mask=attention_mask, **inputs).logits
    torch.testing.assert_close(result, expected, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(result, model(**inputs).logits, atol=1e-3)


@torch.no_grad()
@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_padding_as_numbers_begins_a_cache(model, implementation):
    model.set_attn_implementation(implementation)
    num_padding = [2, 0, 5]
    inputs = {"input_ids": torch.randint(20, (3, 12)), "position_ids": torch.arange(12).expand(3, 3, -1)}
    inputs["frame_ids"] = torch.tensor([-1] * 8 + [0] * 4).expand(3, -1)
    attention_mask = (torch.arange(12) >= torch.tensor(num_padding)[:, None]).long()
    result = model(num_padding=num_padding, past_key_values=DynamicCache(), **inputs).logits
    expected = model(attention_mask=attention_mask, past_key_values=DynamicCache(), **inputs).logits
    for row, num_pads in enumerate(num_padding):
        torch.testing.assert_close(result[row, num_pads:], expected[row, num_pads:], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"is_causal": True}, "`num_padding` must be given with `is_causal=False`"),
        ({"attention_mask": torch.ones(2, 4)}, "instead of `attention_mask`"),
        ({"num_padding": [1]}, "`num_padding` must have 2 numbers, one per row, got 1"),
    ],
)
def test_bad_padding(model, changes, message):
    inputs = {
        "input_ids": torch.zeros(2, 4, dtype=torch.long),
        "position_ids": torch.arange(4).expand(3, 2, -1),
        "frame_ids": torch.full((2, 4), -1),
        "is_causal": False,
        "num_padding": [1, 0],
    }
    with pytest.raises(ValueError, match=message):
        model(**{**inputs, **changes})


# What a stock Trainer and other libraries ask for


@pytest.mark.slow
def test_evaluation_gives_logits_where_labels_count(model, monkeypatch):
    monkeypatch.setitem(modeling_lumos.MAX_LOGITS_BYTES, "cpu", 7 * NUM_CODES * 4)
    input_ids, labels = build_training_batch(model.config)
    counts = labels >= VISUAL
    expected = logits_of(model, input_ids=input_ids, visual_logits_only=True, use_cache=False)
    with torch.no_grad():
        outputs = model(input_ids=input_ids, labels=labels)
        assert model(input_ids=input_ids, labels=labels, skip_logits=True).logits is None
    assert_close(outputs.logits[counts], expected[counts])
    assert not outputs.logits[~counts].any() and outputs.logits.shape == expected.shape
    loss = F.cross_entropy(outputs.logits[counts], labels[counts] - VISUAL)
    assert_close(outputs.loss, loss)

    model.train()
    assert model(input_ids=input_ids, labels=labels).logits is None
    assert_close(model(input_ids=input_ids, labels=labels, skip_logits=False).logits, outputs.logits)


@torch.no_grad()
def test_evaluation_without_a_label_that_counts(model):
    input_ids = build_row(model.config)[None]
    outputs = model(input_ids=input_ids, labels=torch.full_like(input_ids, -100))
    assert outputs.loss == 0 and not outputs.logits.any()
    assert outputs.logits.shape == (*input_ids.shape, NUM_CODES)


@pytest.mark.parametrize("other", (7, VISUAL + NUM_CODES, -1))
def test_labels_that_the_trainer_would_count_otherwise_are_refused(other):
    model = build_model(vocab_size=VISUAL + NUM_CODES + 2)
    input_ids = build_row(model.config)[None]
    labels = torch.where(input_ids >= VISUAL, input_ids, -100)
    number = (labels != -100).sum()
    expected = model(input_ids=input_ids, labels=labels).loss
    assert_close(model(input_ids=input_ids, labels=labels, num_items_in_batch=number).loss, expected)
    labels[0, 1] = other
    assert_close(model(input_ids=input_ids, labels=labels).loss, expected)
    message = (
        rf"`labels` must be visual ids \(140 to 199\) or -100 .* got {other}\. Set what is not to be predicted to -100"
    )
    with pytest.raises(ValueError, match=message):
        model(input_ids=input_ids, labels=labels, num_items_in_batch=number + 1)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"num_items_in_batch": 3}, "`labels` must be given with `num_items_in_batch`.*`label_smoothing_factor`"),
        (
            {"labels": torch.full((1, 6), VISUAL), "logits_to_keep": 3},
            "`logits_to_keep` must be 0 with `labels`, got 3",
        ),
        ({"input_ids": torch.zeros(0, 6, dtype=torch.long)}, r"`input_ids` must hold .* got the shape \(0, 6\)"),
        ({"input_ids": torch.zeros(1, 0, dtype=torch.long)}, r"`input_ids` must hold .* got the shape \(1, 0\)"),
        ({"input_ids": None, "inputs_embeds": torch.zeros(0, 6, 32)}, "`inputs_embeds` must hold at least one token"),
    ],
)
def test_what_cannot_be_answered_is_refused(model, inputs, message):
    with pytest.raises(ValueError, match=message):
        model(**{"input_ids": torch.arange(6)[None], **inputs})
    assert model(input_ids=torch.arange(6)[None], num_items_in_batch=3, skip_logits=False).logits is not None


@pytest.mark.parametrize("part", ("model", "base model"))
def test_fewer_embeddings_are_fewer_visual_codes(part, tmp_path):
    model = build_model()
    whole = model if part == "model" else model.model
    whole.resize_token_embeddings(VISUAL + 50)
    assert (model.config.vocab_size, model.config.visual_vocab_size) == (VISUAL + 50, 50)
    if part == "model":
        input_ids = torch.arange(6)[None]
        assert logits_of(model, input_ids=input_ids, visual_logits_only=True).shape == (1, 6, 50)
        model.save_pretrained(tmp_path)
        loaded = LumosForCausalLM.from_pretrained(tmp_path)
        assert torch.equal(logits_of(loaded, input_ids=input_ids), logits_of(model, input_ids=input_ids))
    for number in (VISUAL, 0):
        with pytest.raises(ValueError, match=f"`new_num_tokens` must be at least 141, .* got {number}"):
            whole.resize_token_embeddings(number)
    whole.resize_token_embeddings(VISUAL + 50, pad_to_multiple_of=64)
    assert (model.config.vocab_size, model.config.visual_vocab_size) == (192, 50)


def test_generate_says_what_to_call_instead(model):
    with pytest.raises(AttributeError, match="call `LumosVideoPipeline"):
        model.generate(torch.arange(6)[None])
    assert not hasattr(model, "generate")
    assert not model.can_generate()


@pytest.mark.slow
@pytest.mark.parametrize("name", ("default", "a", "b", "model", "head", "lm_head"))
def test_adapters_of_any_name(name, tmp_path):
    """Trained, saved with the base model's directory, loaded by `AutoPeftModelForCausalLM`, merged."""
    input_ids = build_row(build_config())[None]
    build_model().save_pretrained(tmp_path / "base")
    base = LumosForCausalLM.from_pretrained(tmp_path / "base")
    config = LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["q_proj", "lm_head"], init_lora_weights=False)
    model = get_peft_model(base, config, adapter_name=name).eval()
    model(input_ids=input_ids, labels=torch.where(input_ids >= VISUAL, input_ids, -100)).loss.backward()
    expected = logits_of(model, input_ids=input_ids)
    assert not torch.allclose(expected, logits_of(build_model(), input_ids=input_ids), atol=1e-2)

    model.save_pretrained(tmp_path)
    saved = tmp_path if name == "default" else tmp_path / name
    loaded = AutoPeftModelForCausalLM.from_pretrained(saved, adapter_name=name)
    assert_close(logits_of(loaded, input_ids=input_ids), expected)
    assert_close(logits_of(loaded.merge_and_unload(), input_ids=input_ids), expected, atol=1e-4)


@pytest.mark.slow
def test_two_adapters(tmp_path):
    config = LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["q_proj", "down_proj"], init_lora_weights=False)
    input_ids = build_row(build_config())[None]
    model = get_peft_model(build_model(), config, adapter_name="a").eval()
    model.add_adapter("b", config)
    logits = {}
    for name in ("a", "b"):
        model.set_adapter(name)
        logits[name] = logits_of(model, input_ids=input_ids)
    assert not torch.allclose(logits["a"], logits["b"], atol=1e-2)
    mixed = logits_of(model, input_ids=input_ids.repeat(2, 1), adapter_names=["b", "a"])
    assert_close(mixed, torch.cat([logits["b"], logits["a"]]), atol=1e-4)

    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(build_model(), tmp_path / "a", adapter_name="a")
    loaded.load_adapter(tmp_path / "b", adapter_name="b")
    for name in ("b", "a"):
        loaded.set_adapter(name)
        assert_close(logits_of(loaded, input_ids=input_ids), logits[name])
    with loaded.disable_adapter():
        assert_close(logits_of(loaded, input_ids=input_ids), logits_of(build_model(), input_ids=input_ids))
