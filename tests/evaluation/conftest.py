# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
import pytest
import torch
from assemble import demo_pipeline
from train_tokenizer import demo_tokenizer

from lumos_hf import LumosForCausalLM
from lumos_hf.evaluation.vocabulary import demo_config


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """The demo's pipeline, smaller and with random weights."""
    directory = tmp_path_factory.mktemp("checkpoint")
    torch.manual_seed(0)
    vqvae = demo_tokenizer()
    size = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 1}
    config = demo_config(vqvae.codebook_size, vqvae.config.spatial_compression_ratio, **size)
    demo_pipeline(LumosForCausalLM(config), vqvae).save_pretrained(directory)
    return directory
