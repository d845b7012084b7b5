# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""Whatever a call is given: it works, or a ValueError or TypeError names the argument before any work is done."""

import math
import re
from dataclasses import fields

import numpy as np
import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from lumos_hf import LumosConfig, MaskDecodingScheduler


# What people, forms and other programs put where something else belongs.
HOSTILE = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from([10**400, -(10**400), 2**63, -(2**63), 33, 48]),
    st.floats(allow_nan=True, allow_infinity=True),
    st.text(max_size=8),
    st.sampled_from(["\ud800", "\x00", "<s>", "<reserved09001>", b"bytes", "a" * 5000]),
    st.lists(st.one_of(st.none(), st.integers(-2, 2), st.text(max_size=3)), max_size=3),
    st.dictionaries(st.text(max_size=2), st.integers(0, 2), max_size=2),
    st.sampled_from([object(), print, Ellipsis, 1j, range(3), np.float64(2), np.int64(1), np.zeros(0)]),
    st.sampled_from(
        [
            torch.zeros(0),
            torch.zeros(1, 1, 2, 4, dtype=torch.int64),
            torch.full((1, 1, 2, 4), -5),
            torch.full((1, 1, 2, 4), math.nan),
            torch.zeros(1, 3, 32, 64),
            torch.full((1, 3, 32, 64), math.nan),
            torch.ones(2, 2, dtype=torch.bool),
        ]
    ),
    st.sampled_from([Image.new("RGB", (64, 32)), Image.new("P", (1, 1)), Image.new("I;16", (7, 900)), []]),
)

CALL = {"prompt": "A red star.", "height": 32, "width": 64, "num_frames": 5, "num_inference_steps": 1}
ARGUMENTS = [
    "prompt", "negative_prompt", "image", "video", "height", "width", "num_frames", "fps", "num_inference_steps",
    "guidance_scale", "history_mask_ratio", "num_videos_per_prompt", "generator", "input_ids", "attention_mask",
    "latents", "output_type", "callback_on_step_end", "callback_on_step_end_tensor_inputs", "approximations",
]  # fmt: skip
# Where a value may be large enough to keep a machine busy for good reason.
AMOUNTS = {"height", "width", "num_frames", "num_inference_steps", "num_videos_per_prompt"}

FUZZ = settings(
    derandomize=True,
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def is_too_much_to_try(name, value):
    return name in AMOUNTS and isinstance(value, (int, float, np.number)) and 64 < value < 10**6


@pytest.fixture
def counted_pipe(pipe, monkeypatch):
    pipe.num_forward_passes = 0

    def count(*_):
        pipe.num_forward_passes += 1

    handle = pipe.transformer.register_forward_pre_hook(count)
    yield pipe
    handle.remove()


@pytest.mark.parametrize("name", ARGUMENTS)
@FUZZ
@given(value=HOSTILE)
@example(value=math.nan)
@example(value=10**400)
@example(value="\ud800")
def test_calls(counted_pipe, name, value):
    if is_too_much_to_try(name, value):
        return
    arguments = {**CALL, "output_type": "latent", name: value}
    if name == "input_ids":
        del arguments["prompt"]
    counted_pipe.num_forward_passes = 0
    try:
        counted_pipe(**arguments)
    except (ValueError, TypeError) as error:
        assert counted_pipe.num_forward_passes == 0, f"{value!r} was refused after work had begun: {error}"
        assert named(name, str(error)), f"the error for {name}={value!r} does not name it: {error}"


def named(name, message):
    # Exactly one of the two must be given, and one follows from the other.
    related = {"input_ids": ["prompt"], "attention_mask": ["input_ids", "prompt"]}
    # With an index where a list holds what cannot be.
    return any(re.search(rf"`{candidate}(\[\d+])?`", message) for candidate in [name, *related.get(name, [])])


@pytest.mark.parametrize(
    "name",
    ["token_temperature", "confidence_temperature", "temperature_decay", "mask_schedule", "mask_value"],
)
@FUZZ
@given(value=HOSTILE)
def test_schedulers(name, value):
    refused(name, lambda: MaskDecodingScheduler(**{name: value}))


CONFIG_NUMBERS = [
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads", "head_dim", "max_position_embeddings", "model_parallel_size", "visual_token_offset",
    "visual_vocab_size", "temporal_compression", "spatial_compression", "position_encoding",
]  # fmt: skip


@pytest.mark.parametrize("name", CONFIG_NUMBERS)
@FUZZ
@given(value=HOSTILE)
def test_configurations(name, value):
    """The error may also name what does not go with the value, such as a head dimension that follows from it."""
    refused(name, lambda: LumosConfig(**{name: value}), related=[field.name for field in fields(LumosConfig)])


def refused(name, call, related=()):
    try:
        call()
    except (ValueError, TypeError, StrictDataclassError) as error:
        # The last one is what configurations of transformers raise for a field of another type.
        message = str(error)
        assert name in message or any(f"`{field}`" in message for field in related), f"{name} is not named: {error}"
