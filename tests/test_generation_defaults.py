# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
import subprocess
import sys

import pytest

from lumos_hf.configuration_lumos import PIXELS_PER_SIZE_UNIT
from lumos_hf.generation_defaults import (
    OFFICIAL_DEFAULTS,
    SIZE_MULTIPLE,
    check_settings,
    resolve_default,
    steps_of_frame,
)


def test_the_given_value_comes_before_the_checkpoints_and_that_before_the_official_one():
    for name, official in OFFICIAL_DEFAULTS.items():
        assert resolve_default(name, None, {}) == resolve_default(name, None, {f"default_{name}": None}) == official
        assert resolve_default(name, None, {f"default_{name}": 7}) == 7
        assert resolve_default(name, 3, {f"default_{name}": 7}) == 3


@pytest.mark.parametrize("name", ["guidance_scale", "history_mask_ratio"])
def test_zero_is_a_value(name):
    assert resolve_default(name, 0.0, {f"default_{name}": 2.0}) == 0.0
    assert resolve_default(name, None, {f"default_{name}": 0.0}) == 0.0


def test_official_images_have_one_frame_per_second():
    assert resolve_default("fps", None, {}, num_frames=1) == 1
    assert resolve_default("fps", None, {}, num_frames=5) == 12
    assert resolve_default("fps", None, {"default_fps": 8}, num_frames=1) == 8
    assert resolve_default("fps", 24, {}, num_frames=1) == 24


def test_sizes_are_multiples_of_what_a_size_token_stands_for():
    assert SIZE_MULTIPLE == PIXELS_PER_SIZE_UNIT


@pytest.mark.slow
def test_imports_go_one_way():
    """The defaults, which everything else reads, need nothing of the package."""
    code = "import sys, lumos_hf.generation_defaults; sys.exit('lumos_hf.pipeline_lumos_video' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_frames": 10**7}, "`num_frames` must be at most 1000000, got 10000000"),
        ({"height": 32 * 10**6}, "`height` must be at most 1000000, got 32000000"),
        ({"num_inference_steps": [3, 10**7]}, r"`num_inference_steps\[1\]` must be at most 1000000, got 10000000"),
        ({"guidance_scale": 2e6}, r"`guidance_scale` must be at most 1e\+06, got 2000000.0"),
    ],
)
def test_numbers_that_cannot_be_meant_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        check_settings(**settings)


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([], "`num_inference_steps` must be a positive integer or a list of them, got an empty one"),
        ([3, 0], r"`num_inference_steps\[1\]` must be a positive integer, got 0"),
        ((3, 1.5), r"`num_inference_steps\[1\]` must be a positive integer, got 1.5"),
        ([[3]], r"`num_inference_steps\[0\]` must be a positive integer, got \[3\]"),
        ("3", "`num_inference_steps` must be a positive integer, got '3'"),
    ],
)
def test_lists_of_steps_that_are_refused(steps, message):
    with pytest.raises(ValueError, match=message):
        check_settings(num_inference_steps=steps)


def test_the_last_number_of_steps_goes_on():
    assert [steps_of_frame([12, 3], frame) for frame in range(4)] == [12, 3, 3, 3]
    assert [steps_of_frame(5, frame) for frame in range(2)] == [5, 5]
