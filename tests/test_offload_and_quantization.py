# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
Weights that are elsewhere or smaller, by the ways of diffusers and transformers, as far as a CPU can show it. Offloading by
whole models and by modules is tested with the rest of the pipeline.
"""

import pytest
import torch
from diffusers import PipelineQuantizationConfig
from diffusers.hooks import apply_group_offloading
from tiny_models import tiny_config
from transformers import BitsAndBytesConfig, TorchAoConfig

from lumos_hf.cosmos_video_tokenizer import CosmosVideoTokenizer
from lumos_hf.modeling_lumos import LumosForCausalLM, LumosHeadLayerNorm
from lumos_hf.pipeline_lumos_video import LumosVideoPipeline
from lumos_hf.scheduling_mask_decoding import MaskDecodingScheduler


CPU = torch.device("cpu")


def build_pipeline():
    torch.manual_seed(0)
    config = tiny_config(hidden_size=64, intermediate_size=128)
    pipe = LumosVideoPipeline(None, LumosForCausalLM(config).eval(), None, MaskDecodingScheduler())
    pipe.set_progress_bar_config(disable=True)
    return pipe


def codes_of(pipe):
    return pipe(
        input_ids=[0, 5, 6, 7, 102],
        height=32,
        width=64,
        num_frames=5,
        fps=4,
        num_inference_steps=3,
        guidance_scale=3.0,
        generator=torch.Generator().manual_seed(0),
        output_type="latent",
    ).frames


@pytest.mark.slow
@pytest.mark.parametrize(
    "options", [{"offload_type": "leaf_level"}, {"offload_type": "block_level", "num_blocks_per_group": 1}]
)
@pytest.mark.parametrize("of_pipeline", [False, True])
def test_group_offload(options, of_pipeline):
    pipe = build_pipeline()
    expected = codes_of(pipe)
    options = {"onload_device": CPU, "offload_device": CPU, **options}
    if of_pipeline:
        pipe.enable_group_offload(**options)
    else:
        apply_group_offloading(pipe.transformer, **options)
    assert torch.equal(codes_of(pipe), expected)


def build_vqvae(**changes):
    torch.manual_seed(0)
    vqvae = CosmosVideoTokenizer(
        latent_channels=8,
        levels=(5, 4, 3),
        encoder_block_out_channels=(8, 8, 16, 16),
        decode_block_out_channels=(8, 8, 16, 16),
        layers_per_block=1,
        **changes,
    ).eval()
    with torch.no_grad():
        vqvae.quant_conv.weight *= 20
    return vqvae


VIDEO = torch.rand(2, 3, 9, 32, 48, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.mark.parametrize("num_cached_latent_frames", [10, 1])
@pytest.mark.parametrize("norm", ["frame", "position"])
@pytest.mark.parametrize("to_disk", [False, True])
@pytest.mark.parametrize(
    "options", [{"offload_type": "leaf_level"}, {"offload_type": "block_level", "num_blocks_per_group": 1}]
)
@torch.no_grad()
@pytest.mark.slow
def test_group_offload_of_the_video_tokenizer(options, to_disk, norm, num_cached_latent_frames, tmp_path):
    """On disk, what is not brought back is garbage on a CPU as well; on a GPU it is on the wrong device."""
    vqvae = build_vqvae(norm=norm)
    vqvae.num_cached_latent_frames = num_cached_latent_frames
    indices = vqvae.encode(VIDEO)
    assert len(indices.unique()) > 8
    decoded, reconstruction = vqvae.decode(indices), vqvae(VIDEO).sample
    if to_disk:
        options = {"offload_to_disk_path": str(tmp_path), **options}
    vqvae.enable_group_offload(CPU, **options)
    for _ in range(2):
        assert torch.equal(vqvae.encode(VIDEO), indices)
        assert torch.equal(vqvae.decode(indices), decoded)
        assert torch.equal(vqvae(VIDEO).sample, reconstruction)
    if to_disk:
        # What was brought in has gone out again.
        assert not torch.equal(vqvae.quant_conv.weight, build_vqvae(norm=norm).quant_conv.weight)


@pytest.mark.slow
@torch.no_grad()
def test_layerwise_casting_of_the_video_tokenizer():
    vqvae = build_vqvae()
    expected, vqvae = vqvae.decode(vqvae.encode(VIDEO)), build_vqvae()
    vqvae.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.float32)
    kept = {name for name, weight in vqvae.named_parameters() if weight.dtype != torch.float8_e4m3fn}
    assert {name for name in kept if "norm" not in name} == {
        f"{name}.{part}" for name in ("quant_conv", "post_quant_conv") for part in ("weight", "bias")
    }
    assert vqvae.dtype == torch.float32
    error = (vqvae.decode(build_vqvae().encode(VIDEO)) - expected).abs().mean()
    assert 0 < error < 0.1 * expected.std()
    assert vqvae.encode(VIDEO).shape == (2, 3, 4, 6)


@pytest.mark.slow
@torch.no_grad()
def test_layerwise_casting_and_group_offload_together():
    vqvae = build_vqvae()
    vqvae.enable_layerwise_casting(storage_dtype=torch.bfloat16, compute_dtype=torch.float32)
    indices = vqvae.encode(VIDEO)
    decoded = vqvae.decode(indices)
    vqvae.enable_group_offload(CPU, offload_type="leaf_level")
    assert torch.equal(vqvae.encode(VIDEO), indices)
    assert torch.equal(vqvae.decode(indices), decoded)


def load_quantised(directory, config):
    build_pipeline().save_pretrained(directory)
    quantization_config = PipelineQuantizationConfig(quant_mapping={"transformer": config})
    pipe = LumosVideoPipeline.from_pretrained(directory, quantization_config=quantization_config)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def assert_only_the_body_is_quantised(transformer):
    """Norms keep their precision, and so does the output head, so that its visual columns can be taken alone."""
    assert transformer.has_plain_head
    assert transformer.lm_head.weight.dtype == torch.float32
    norms = [module for module in transformer.modules() if isinstance(module, LumosHeadLayerNorm)]
    assert len(norms) == 4 and all(norm.weight.dtype == torch.float32 for norm in norms)


def assert_close_hidden_states(transformer, expected, limit):
    inputs = {
        "input_ids": torch.arange(5)[None],
        "position_ids": torch.arange(5).expand(3, 1, -1),
        "frame_ids": torch.full((1, 5), -1),
        "skip_logits": True,
    }
    with torch.no_grad():
        result, reference = (model(**inputs).last_hidden_state for model in (transformer, expected))
    error = (result - reference).norm() / reference.norm()
    assert 0 < error < limit


@pytest.mark.slow
def test_torchao_int8_weights(tmp_path):
    pytest.importorskip("torchao", reason="needs the extra `quantization`")
    from torchao.quantization import Int8WeightOnlyConfig

    pipe = load_quantised(tmp_path, TorchAoConfig(Int8WeightOnlyConfig()))
    assert type(pipe.transformer.model.layers[0].self_attn.q_proj.weight) is not torch.nn.Parameter
    assert_only_the_body_is_quantised(pipe.transformer)
    assert_close_hidden_states(pipe.transformer, build_pipeline().transformer, limit=0.03)
    assert codes_of(pipe).shape == (1, 2, 4, 8)


@pytest.mark.slow
def test_bitsandbytes_int8_weights(tmp_path):
    bitsandbytes = pytest.importorskip("bitsandbytes", reason="needs the extra `quantization`")
    pipe = load_quantised(tmp_path, BitsAndBytesConfig(load_in_8bit=True))
    assert isinstance(pipe.transformer.model.layers[0].self_attn.q_proj, bitsandbytes.nn.Linear8bitLt)
    assert_only_the_body_is_quantised(pipe.transformer)
    assert_close_hidden_states(pipe.transformer, build_pipeline().transformer, limit=0.03)
    assert codes_of(pipe).shape == (1, 2, 4, 8)
