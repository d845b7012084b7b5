# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
import numpy as np
import PIL.Image
import pytest
import torch

from lumos_hf import LumosVideoPipeline, demo_checkpoint
from lumos_hf.modular_blocks import LumosBlocks, LumosDecodeStep


pytestmark = pytest.mark.slow

PROMPT = "A red star jumps in the snow."
SMALL = {"num_frames": 5, "num_inference_steps": 2}


@pytest.fixture(scope="module")
def pipe():
    pipe = LumosVideoPipeline.from_pretrained(demo_checkpoint())
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture
def modular(pipe):
    return with_components(LumosBlocks(), pipe)


def with_components(blocks, pipe):
    modular = blocks.init_pipeline()
    modular.update_components(**pipe.components)
    modular.update_components(**{name: value for name, value in pipe.config.items() if name.startswith("default_")})
    return modular


def seed():
    return torch.Generator().manual_seed(0)


def given():
    return PIL.Image.new("RGB", (128, 128), "blue")


@pytest.mark.parametrize(
    "arguments", [{}, {"image": given()}, {"video": [given()] * 6, "num_frames": 9}], ids=["text", "image", "video"]
)
def test_blocks_give_what_a_call_gives(pipe, modular, arguments):
    arguments = {**SMALL, **arguments}
    made = modular(prompt=PROMPT, generator=seed(), output_type="np", output="videos", **arguments)
    expected = pipe(PROMPT, generator=seed(), output_type="np", **arguments).frames
    assert np.array_equal(made, expected)


def test_a_block_may_be_taken_alone(pipe):
    input_ids, _ = pipe.tokenize_prompt(PROMPT, num_frames=5)
    alone = with_components(LumosDecodeStep(), pipe)
    codes = alone(input_ids=input_ids, generator=seed(), output="codes", **SMALL)
    assert torch.equal(codes, pipe(PROMPT, generator=seed(), output_type="latent", **SMALL).frames)


def test_one_thing_is_given(modular):
    with pytest.raises(ValueError, match="`image` and `video` must not both be given"):
        modular(prompt=PROMPT, image=given(), video=[given()], **SMALL)
