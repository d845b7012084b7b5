# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""The whole way of `make demo-train`, in a few steps: clips, tokenizer, generator, checkpoint, video."""

import pytest
import torch

from lumos_hf import LumosVideoPipeline
from lumos_hf.demo import assemble, train_generator, train_tokenizer


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    training = tmp_path_factory.mktemp("training")
    vqvae, transformer = str(training / "vqvae"), str(training / "transformer")
    train_tokenizer.main(["--output", vqvae, "--steps", "2", "--batch-size", "2"])
    generator = ["--vqvae", vqvae, "--output", transformer, "--max-clips", "8", "--batch-size", "2"]
    train_generator.main([*generator, "--steps", "2"])
    output = training / "checkpoint"
    assemble.main(["--training", str(training), "--output", str(output)])
    return output


def test_the_trained_checkpoint_makes_a_video(checkpoint):
    pipe = LumosVideoPipeline.from_pretrained(checkpoint)
    pipe.set_progress_bar_config(disable=True)
    frames = pipe("A red star jumps in the snow.", num_inference_steps=2).frames[0]
    assert len(frames) == 9
    assert frames[0].size == (128, 128)


def test_a_draw_of_the_data_set_depends_on_its_index_only():
    singles, pairs = (specs[:4] for specs in train_generator.training_specs())
    codes = torch.arange(8 * 3 * 8 * 8).view(8, 3, 8, 8).numpy()
    dataset, longer = (train_generator.TokenizedClipDataset(singles, pairs, codes, size) for size in (16, 32))
    assert [dataset[i]["caption"] for i in range(16)] == [longer[i]["caption"] for i in range(16)]
    assert len({dataset[i]["caption"] for i in range(16)}) >= 4
