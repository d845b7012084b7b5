# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""Crops and pixels against the official code, exactly."""

import json

import numpy as np
import PIL.Image
import pytest
import torch
from safetensors.torch import load_file

from lumos_hf.video_processor_lumos import (
    LumosVideoProcessor,
    choose_crop_size,
    crop_budget,
    crop_sizes,
    resize_and_crop,
)


# The official code names its crop lists by the side of a square, and pairs three of them with sizes of its videos.
OFFICIAL_SIZES = {352: (256, 448), 528: (384, 672), 656: (480, 768)}


@pytest.fixture
def prompts(golden):
    return json.loads((golden / "prompt" / "prompts.json").read_text(encoding="utf-8"))


@pytest.fixture
def pixels(golden):
    return load_file(golden / "prompt" / "preprocess.safetensors")


def max_blocks(target_size):
    if target_size in OFFICIAL_SIZES:
        return crop_budget(*OFFICIAL_SIZES[target_size])
    return (target_size // 32) ** 2


def test_crop_sizes(prompts):
    for target_size, sizes_wh in prompts["crop_size_lists"].items():
        assert crop_sizes(max_blocks(int(target_size))) == [(height, width) for width, height in sizes_wh]


def test_choices(prompts):
    for choice in prompts["crop_choices"]:
        width, height = choice["image_wh"]
        chosen = choose_crop_size(height, width, max_blocks(choice["target_size"]))
        assert chosen == tuple(reversed(choice["crop_wh"])), choice


@pytest.mark.parametrize("index", range(3))
def test_crops(pixels, index):
    image = PIL.Image.fromarray(pixels[f"crop{index}.in"].numpy())
    size = choose_crop_size(image.height, image.width, max_blocks(int(pixels[f"crop{index}.target_size"])))
    np.testing.assert_array_equal(np.array(resize_and_crop(image, *size)), pixels[f"crop{index}.out"].numpy())


def test_pixels_in(pixels):
    frames = pixels["pixels.uint8_thwc"].numpy()
    preprocessed = LumosVideoProcessor().preprocess_video(frames, *frames.shape[1:3])
    assert torch.equal(preprocessed, pixels["pixels.encoder_input_bcthw"])


def test_pixels_out(pixels):
    decoded = pixels["pixels.decoder_output_chw"][None, :, None]
    ((frame,),) = LumosVideoProcessor().postprocess_video(decoded, "pil")
    np.testing.assert_array_equal(np.array(frame), pixels["pixels.decoded_uint8_hwc"].numpy())
