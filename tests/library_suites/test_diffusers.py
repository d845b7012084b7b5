# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
The test mixins of diffusers on the pipeline, the video tokenizer and the scheduler. Skipped unless `DIFFUSERS_TESTS` names
the folder that holds `tests/` of the library; tests/library_suites.md says where that comes from, and how they fared.

`LUMOS_FORCE=1` runs on the CPU what asks for an accelerator, apart from streams.
"""

import os
import sys
import unittest
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.hooks import apply_layerwise_casting, group_offloading
from diffusers.models.modeling_utils import ModelMixin
from tiny_models import NUM_CODES, tiny_config
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from lumos_hf import CosmosVideoTokenizer, LumosForCausalLM, LumosVideoPipeline, MaskDecodingScheduler


SUITE = os.environ.get("DIFFUSERS_TESTS")
if SUITE is None:
    pytest.skip("DIFFUSERS_TESTS names no folder", allow_module_level=True)
sys.path.insert(0, SUITE)
# By now, pytest has given the name to the folder above this one.
sys.modules.pop("tests", None)

from tests import testing_utils  # noqa: E402


def without_streams(function: Callable) -> Callable:
    """Streams need a GPU; everything else of group offloading runs on a CPU as well."""

    def call(*args: Any, use_stream: bool = False, record_stream: bool = False, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return call


def force_onto_the_cpu() -> None:
    for name in ("require_accelerator", "require_torch_accelerator", "require_torch_accelerator_with_training"):
        setattr(testing_utils, name, lambda test: test)
    ModelMixin.enable_group_offload = without_streams(ModelMixin.enable_group_offload)
    group_offloading.apply_group_offloading = without_streams(group_offloading.apply_group_offloading)


# Before the mixins are imported: they take the decorators by name.
if os.environ.get("LUMOS_FORCE") == "1":
    force_onto_the_cpu()

from tests.models import testing_utils as model_mixins  # noqa: E402
from tests.models.autoencoders.testing_utils import AutoencoderTesterMixin  # noqa: E402
from tests.pipelines import test_pipelines_common as older_pipeline_mixins  # noqa: E402
from tests.pipelines import testing_utils as pipeline_mixins  # noqa: E402
from tests.schedulers import test_schedulers  # noqa: E402


def tiny_transformer(num_layers: int = 2) -> LumosForCausalLM:
    torch.manual_seed(0)
    model = LumosForCausalLM(tiny_config(num_hidden_layers=num_layers, max_position_embeddings=2048)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.15 * torch.randn_like(parameter))
    return model


VQVAE_CONFIG = {
    "latent_channels": 8,
    "levels": (5, 4, 3),
    "encoder_block_out_channels": (8, 8, 16, 16),
    "decode_block_out_channels": (8, 8, 16, 16),
    "layers_per_block": 1,
}


def tiny_vqvae() -> CosmosVideoTokenizer:
    torch.manual_seed(0)
    vqvae = CosmosVideoTokenizer(**VQVAE_CONFIG).eval()
    with torch.no_grad():
        vqvae.quant_conv.weight *= 20
    return vqvae


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    words = sorted("a red kite cat runs over the grass waves blue very long bad".split())
    backend = Tokenizer(models.WordLevel({word: index for index, word in enumerate(["<unk>", *words])}, "<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>")


# The pipeline


def with_one_frame(get_inputs: Callable) -> Callable:
    """For a test that sets the latents of the last step to zero: they are those of the last frame alone."""
    return lambda *args, **kwargs: {**get_inputs(*args, **kwargs), "num_frames": 1}


def from_ids_to_codes(get_inputs: Callable) -> Callable:
    """For a test that takes the optional components away: the tokenizer and the vqvae."""

    def get_inputs_of_codes(*args: Any, **kwargs: Any) -> dict[str, Any]:
        inputs = get_inputs(*args, **kwargs)
        del inputs["prompt"], inputs["negative_prompt"]
        return {**inputs, "input_ids": [0, 5, 6, 7, 102], "output_type": "latent"}

    return get_inputs_of_codes


class LumosPipelineConfig(pipeline_mixins.BasePipelineTesterConfig):
    pipeline_class = LumosVideoPipeline
    # Those of Wan without `prompt_embeds`: there is no text encoder whose output could be given.
    required_input_params_in_call_signature = frozenset(
        ["prompt", "negative_prompt", "height", "width", "num_frames", "guidance_scale", "input_ids", "attention_mask"]
    )
    optional_input_params = frozenset(
        ["num_inference_steps", "num_videos_per_prompt", "generator", "latents", "output_type", "return_dict"]
    )
    batch_input_params = frozenset(["prompt"])
    output_shape = (5, 3, 32, 32)

    def get_dummy_components(self, num_layers: int = 2) -> dict[str, Any]:
        return {
            "transformer": tiny_transformer(num_layers),
            "tokenizer": tiny_tokenizer(),
            "vqvae": tiny_vqvae(),
            "scheduler": MaskDecodingScheduler(),
        }

    def get_dummy_inputs(self) -> dict[str, Any]:
        return {
            "prompt": "a red kite",
            "negative_prompt": "bad",
            "generator": self.get_generator(0),
            "num_inference_steps": 2,
            "guidance_scale": 3.0,
            "height": 32,
            "width": 32,
            "num_frames": 5,
            "fps": 4,
            "output_type": "pt",
        }


class TestPipeline(LumosPipelineConfig, pipeline_mixins.PipelineTesterMixin):
    """Three tests have inputs that cannot fit a pipeline that makes one frame after another; here they get others."""

    def test_callback_inputs(self) -> None:
        self.get_dummy_inputs = with_one_frame(self.get_dummy_inputs)
        super().test_callback_inputs()

    def test_save_load_optional_components(self, tmp_path) -> None:
        self.get_dummy_inputs = from_ids_to_codes(self.get_dummy_inputs)
        super().test_save_load_optional_components(tmp_path)

    def test_torch_dtype_dict(self, tmp_path) -> None:
        # The first component gets another dtype, and has to be a model of diffusers.
        components = self.get_dummy_components()
        self.get_dummy_components = lambda: {"vqvae": components["vqvae"], **components}
        super().test_torch_dtype_dict(tmp_path)


class TestPipelineMemory(LumosPipelineConfig, pipeline_mixins.MemoryTesterMixin):
    pass


class LumosPipelineLoRAConfig(LumosPipelineConfig):
    denoiser_target_modules = {"transformer": ["q_proj", "k_proj", "v_proj", "o_proj"]}


class TestPipelineLoRA(LumosPipelineLoRAConfig, pipeline_mixins.LoraTesterMixin):
    pass


class TestPipelineLoRAMemory(LumosPipelineLoRAConfig, pipeline_mixins.LoraMemoryTesterMixin):
    pass


class OlderPipelineConfig:
    pipeline_class = LumosVideoPipeline
    params = LumosPipelineConfig.required_input_params_in_call_signature
    batch_params = LumosPipelineConfig.batch_input_params
    required_optional_params = LumosPipelineConfig.optional_input_params
    test_attention_slicing = True
    test_xformers_attention = False
    test_layerwise_casting = True
    test_group_offloading = True
    image_params = frozenset(["image"])
    image_latents_params: frozenset[str] = frozenset()

    def get_dummy_components(self) -> dict[str, Any]:
        return LumosPipelineConfig().get_dummy_components()

    def get_dummy_inputs(self, device: str, seed: int = 0) -> dict[str, Any]:
        inputs = LumosPipelineConfig().get_dummy_inputs()
        return {**inputs, "generator": torch.Generator("cpu").manual_seed(seed), "output_type": "np"}


class OlderPipelineTests(OlderPipelineConfig, older_pipeline_mixins.PipelineTesterMixin, unittest.TestCase):
    def test_callback_inputs(self) -> None:
        self.get_dummy_inputs = with_one_frame(self.get_dummy_inputs)
        super().test_callback_inputs()

    def test_save_load_optional_components(self) -> None:
        self.get_dummy_inputs = from_ids_to_codes(self.get_dummy_inputs)
        super().test_save_load_optional_components()

    def test_layerwise_casting_inference(self) -> None:
        # By the function, since models of transformers have no method for it.
        pipe = self.pipeline_class(**self.get_dummy_components()).to(testing_utils.torch_device, dtype=torch.bfloat16)
        pipe.set_progress_bar_config(disable=None)
        apply_layerwise_casting(pipe.transformer, storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.bfloat16)
        assert np.isfinite(pipe(**self.get_dummy_inputs(testing_utils.torch_device))[0]).all()


class OlderPipelineImageTests(OlderPipelineConfig, older_pipeline_mixins.PipelineLatentTesterMixin, unittest.TestCase):
    """Image to video."""

    def get_dummy_inputs(self, device: str, seed: int = 0) -> dict[str, Any]:
        image = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
        return {**super().get_dummy_inputs(device, seed), "image": image}

    def _test_pt_np_pil_outputs_equivalent(
        self, expected_max_diff: float = 1e-4, input_image_type: str = "pt"
    ) -> None:
        # The mixin's own takes the axes of images.
        pipe = self.pipeline_class(**self.get_dummy_components())
        pipe.set_progress_bar_config(disable=None)
        device = testing_utils.torch_device
        pt, array, pil = (
            pipe(**self.get_dummy_inputs_by_type(device, input_image_type=input_image_type, output_type=kind))[0]
            for kind in ("pt", "np", "pil")
        )
        assert np.abs(pt.numpy().transpose(0, 1, 3, 4, 2) - array).max() < expected_max_diff
        assert np.abs(np.stack([np.array(frame) for frame in pil[0]]) - (array[0] * 255).round()).max() < 2.0

    @unittest.skip("the mixin puts continuous autoencoders of images in")
    def test_multi_vae(self) -> None:
        pass


# The video tokenizer


class TokenizerConfig(model_mixins.BaseModelTesterConfig):
    model_class = CosmosVideoTokenizer
    main_input_name = "video"
    output_shape = (3, 9, 32, 32)

    def get_init_dict(self) -> dict[str, Any]:
        return dict(VQVAE_CONFIG)

    def get_dummy_inputs(self) -> dict[str, Any]:
        video = torch.randn(2, 3, 9, 32, 32, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)
        return {self.main_input_name: video.to(testing_utils.torch_device)}


class TestTokenizer(TokenizerConfig, model_mixins.ModelTesterMixin):
    pass


class TestTokenizerTraining(TokenizerConfig, model_mixins.TrainingTesterMixin):
    def test_gradient_checkpointing_is_applied(self) -> None:
        super().test_gradient_checkpointing_is_applied(expected_set={"CosmosEncoder3d", "CosmosDecoder3d"})


class TestTokenizerSlicingTiling(TokenizerConfig, AutoencoderTesterMixin):
    pass


class TestTokenizerMemory(TokenizerConfig, model_mixins.MemoryTesterMixin):
    pass


class TestTokenizerCompile(TokenizerConfig, model_mixins.TorchCompileTesterMixin):
    pass


class TestTokenizerAttention(TokenizerConfig, model_mixins.AttentionTesterMixin):
    pass


# The scheduler


class _Config(dict):
    """What the tests of discrete schedulers ask for, but is no argument of this one."""

    def __missing__(self, key: str) -> int:
        if key == "num_vec_classes":
            return NUM_CODES
        raise KeyError(key)


class SchedulerTests(test_schedulers.SchedulerCommonTest):
    """By the branch of the tests that is for discrete schedulers, and knows VQ-Diffusion's alone."""

    scheduler_classes = (MaskDecodingScheduler,)
    forward_default_kwargs = (("num_inference_steps", 10),)

    def setUp(self) -> None:
        patch = pytest.MonkeyPatch()
        patch.setattr(test_schedulers, "VQDiffusionScheduler", MaskDecodingScheduler)
        self.addCleanup(patch.undo)

    def get_scheduler_config(self, **changes: Any) -> dict[str, Any]:
        return _Config(changes)

    def dummy_sample(self, num_vec_classes: int) -> torch.Tensor:
        return torch.full((2, 16), -1)

    def dummy_model(self, num_vec_classes: int) -> Callable:
        def model(sample: torch.Tensor, t: int, *args: Any) -> torch.Tensor:
            return torch.randn(*sample.shape, num_vec_classes, generator=torch.Generator().manual_seed(0))

        return model

    @unittest.skip("adds noise to continuous samples")
    def test_add_noise_device(self) -> None:
        pass

    def test_configs(self) -> None:
        for config in (
            {"token_temperature": 0.0},
            {"confidence_temperature": 0.0},
            {"temperature_decay": "linear"},
            {"mask_schedule": "linear"},
            {"mask_schedule": "pow"},
            {"mask_schedule": "sigmoid"},
        ):
            self.check_over_configs(**config)

    def test_forward(self) -> None:
        for num_steps in (1, 5, 50):
            self.check_over_forward(num_inference_steps=num_steps)
