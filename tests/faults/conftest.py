# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
The campaign of faults: `make test-faults`. It takes minutes, so `make test` leaves it out.

Everything here ends in one of three ways: the work is done, it is refused by an error that says what is wrong, or the
process is killed, and then what was there before is as it was and the next run finishes the work.
"""

import shutil

import pytest
import torch
from assemble import demo_pipeline
from train_tokenizer import demo_tokenizer

from lumos_hf import LumosForCausalLM, LumosVideoPipeline
from lumos_hf.evaluation.vocabulary import demo_config

from ..conversion.conftest import golden_cosmos, golden_lumos, release  # noqa: F401


def random_pipeline(seed: int) -> LumosVideoPipeline:
    """The demo's pipeline with random weights and one layer."""
    torch.manual_seed(seed)
    vqvae = demo_tokenizer()
    config = demo_config(vqvae.codebook_size, vqvae.config.spatial_compression_ratio)
    config.num_hidden_layers = 1
    return demo_pipeline(LumosForCausalLM(config), vqvae)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    directory = tmp_path_factory.mktemp("checkpoint") / "checkpoint"
    random_pipeline(seed=0).save_pretrained(directory)
    return directory


@pytest.fixture
def copied_checkpoint(checkpoint, tmp_path):
    return shutil.copytree(checkpoint, tmp_path / "checkpoint")


@pytest.fixture
def pipe(checkpoint):
    pipe = LumosVideoPipeline.from_pretrained(checkpoint)
    pipe.set_progress_bar_config(disable=True)
    return pipe
