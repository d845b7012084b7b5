# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""Pipelines of components that are as small as can be, and what goes into and comes out of them."""

import numpy as np
import PIL.Image
import torch
from tiny_models import NUM_CODES, tiny_config
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from lumos_hf.cosmos_video_tokenizer import CosmosVideoTokenizer
from lumos_hf.modeling_lumos import LumosForCausalLM
from lumos_hf.pipeline_lumos_video import LumosVideoPipeline
from lumos_hf.scheduling_mask_decoding import MaskDecodingScheduler


H, W = 4, 8
SMALL = {"height": 32, "width": 64, "num_frames": 9, "fps": 4, "num_inference_steps": 3, "guidance_scale": 3.0}
PROMPT_IDS = [0, 5, 6, 7, 102]
CAPTIONS = [
    "a red kite",
    "a cat runs over the grass",
    "waves",
    "the blue kite climbs over the grass and a red cat runs",
]


def tiny_transformer(**changes):
    """Random weights, far enough from their initial values that logits depend on everything fed."""
    torch.manual_seed(0)
    model = LumosForCausalLM(tiny_config(**changes)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.15 * torch.randn_like(parameter))
    return model


def tiny_vqvae(**changes):
    torch.manual_seed(0)
    channels = (8, 8, 16, 16)
    fields = {
        "latent_channels": 8,
        "levels": (5, 4, 3),
        "encoder_block_out_channels": channels,
        "decode_block_out_channels": channels,
        "layers_per_block": 1,
    }
    vqvae = CosmosVideoTokenizer(**{**fields, **changes}).eval()
    with torch.no_grad():
        vqvae.quant_conv.weight *= 20
    return vqvae


def tiny_tokenizer():
    words = sorted({word for caption in CAPTIONS for word in caption.split()})
    backend = Tokenizer(models.WordLevel({word: index for index, word in enumerate(["<unk>", *words])}, "<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>")


def get_dummy_components(**changes):
    components = {
        "tokenizer": tiny_tokenizer(),
        "transformer": tiny_transformer(),
        "vqvae": tiny_vqvae(),
        "scheduler": MaskDecodingScheduler(),
    }
    return {**components, **changes}


def build_pipeline(**changes):
    pipe = LumosVideoPipeline(**get_dummy_components(**changes))
    pipe.set_progress_bar_config(disable=True)
    return pipe


def generators(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def random_codes(*shape, seed=0):
    return torch.randint(NUM_CODES, shape, generator=torch.Generator().manual_seed(seed))


def random_image(height=40, width=70, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return PIL.Image.fromarray(pixels)


def codes_of(pipe, *arguments, seed=0, **options):
    """Codes `(B, t, h, w)` from a call with small settings."""
    options = {**SMALL, "generator": torch.Generator().manual_seed(seed), **options}
    return pipe(*arguments, output_type="latent", **options).frames


class ForwardCalls:
    """Records the token ids of every forward pass of a transformer; calls of its output head alone have none."""

    def __init__(self, module):
        self.inputs = []
        self.handle = module.register_forward_pre_hook(self.record, with_kwargs=True)

    def record(self, module, args, kwargs):
        if "input_ids" in kwargs:
            self.inputs.append(kwargs["input_ids"].clone())

    def __enter__(self):
        return self.inputs

    def __exit__(self, *error):
        self.handle.remove()
