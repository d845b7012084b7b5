# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
The test mixins of transformers on Lumos models, and on Llama as a control. Skipped unless `LUMOS_TRANSFORMERS_TESTS` names the
folder that holds `tests/` of the library; tests/library_suites.md says where that comes from.
"""

import copy
import os
import unittest
from unittest import mock

import pytest
import torch
from library_suites.transformers_stand_ins import install
from transformers import LlamaConfig, LlamaForCausalLM, LlamaModel
from transformers.models.auto import modeling_auto
from transformers.testing_utils import torch_device

from lumos_hf import LumosConfig, LumosForCausalLM, LumosModel
from lumos_hf.modeling_lumos import LumosRotaryEmbedding
from lumos_hf.token_layout import UNKNOWN_CODE, derive_layout, prompt_ids, sequence_from_codes


SUITE = os.environ.get("LUMOS_TRANSFORMERS_TESTS")
if SUITE is None:
    pytest.skip("LUMOS_TRANSFORMERS_TESTS names no folder", allow_module_level=True)
install(SUITE)

from tests.test_configuration_common import ConfigTester  # noqa: E402
from tests.test_fsdp_mixin import FSDPTesterMixin  # noqa: E402
from tests.test_modeling_common import ModelTesterMixin, ids_tensor  # noqa: E402
from tests.test_tensor_parallel_mixin import TensorParallelTesterMixin  # noqa: E402
from tests.test_training_mixin import TrainingTesterMixin  # noqa: E402

from tests import test_fsdp_mixin, test_modeling_common, test_tensor_parallel_mixin  # noqa: E402


# The mixins know by lists of names which class is a base model, which has a language modelling head, and which heads score
# every position against its own target.
modeling_auto.MODEL_MAPPING_NAMES["lumos"] = "LumosModel"
modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES["lumos"] = "LumosForCausalLM"
test_modeling_common.UNSHIFTED_LM_HEADS |= {"LumosForCausalLM"}

# No model type is left out of the distributed tests.
test_fsdp_mixin.FSDP_DISTRIBUTED_TEST_MODEL_TYPES = None
test_tensor_parallel_mixin.TP_DISTRIBUTED_TEST_MODEL_TYPES = None

# Resizing is tested down to 128 ids, which must hold the special ones and a visual code.
NUM_CODES = 80
VISUAL_TOKEN_OFFSET = 120


class LumosTester:
    """Inputs of text alone, in the form in which the mixins ask for a model's inputs."""

    base_model_class = LumosModel
    causal_lm_class = LumosForCausalLM
    sequence_classification_class = None
    config_class = LumosConfig
    batch_size = 4
    hidden_size = 32
    intermediate_size = 48
    num_hidden_layers = 2
    num_attention_heads = 4
    num_key_value_heads = 2
    head_dim = 32
    vocab_size = VISUAL_TOKEN_OFFSET + NUM_CODES
    seq_length = 9
    is_training = True
    is_decoder = False

    def __init__(self, parent: unittest.TestCase) -> None:
        self.parent = parent

    def get_config(self) -> LumosConfig:
        return LumosConfig(
            vocab_size=self.vocab_size,
            hidden_size=self.hidden_size,
            intermediate_size=self.intermediate_size,
            num_hidden_layers=self.num_hidden_layers,
            num_attention_heads=self.num_attention_heads,
            num_key_value_heads=self.num_key_value_heads,
            head_dim=self.head_dim,
            max_position_embeddings=512,
            image_end_token_id=91,
            image_start_token_id=92,
            separator_token_id=93,
            eos_token_id=93,
            new_line_token_id=94,
            size_token_offset=95,
            mask_token_id=116,
            video_start_token_id=117,
            video_end_token_id=118,
            visual_token_offset=VISUAL_TOKEN_OFFSET,
            visual_vocab_size=NUM_CODES,
        )

    def prepare_config_and_inputs(self) -> tuple[LumosConfig, torch.Tensor, torch.Tensor]:
        """A configuration, ids and the mask of what is no padding."""
        input_ids = ids_tensor([self.batch_size, self.seq_length], 90) + 1
        return self.get_config(), input_ids, torch.tril(torch.ones_like(input_ids))

    def prepare_config_and_inputs_for_common(self) -> tuple[LumosConfig, dict[str, torch.Tensor]]:
        config, input_ids, mask = self.prepare_config_and_inputs()
        return config, {"input_ids": input_ids, "attention_mask": mask}


class LumosFramesTester(LumosTester):
    """A prompt and two latent frames of 4 x 4 tokens, half of the last one masked."""

    def __init__(self, parent: unittest.TestCase) -> None:
        super().__init__(parent)
        self.seq_length = self._sequences(self.get_config()).shape[1]

    def prepare_config_and_inputs(self) -> tuple[LumosConfig, torch.Tensor, torch.Tensor]:
        config = self.get_config()
        input_ids = self._sequences(config).to(torch_device)
        return config, input_ids, torch.ones_like(input_ids)

    def _sequences(self, config: LumosConfig) -> torch.LongTensor:
        rows = []
        for _ in range(self.batch_size):
            codes = torch.randint(0, NUM_CODES, (2, 4, 4))
            codes[1][torch.rand(4, 4) < 0.5] = UNKNOWN_CODE
            prompt = prompt_ids(torch.randint(1, 90, (4,)).tolist(), config)
            rows.append(sequence_from_codes(prompt, codes, duration=1, fps=4, config=config))
        return torch.stack(rows)


class LumosNormsPerShardTester(LumosFramesTester):
    """As a model that was trained in shards, with q/k norms of each shard."""

    def get_config(self) -> LumosConfig:
        return LumosConfig(**{**super().get_config().to_dict(), "model_parallel_size": 2})


class LlamaTester(LumosTester):
    """What fails for Llama as well is the fault of the harness or of the environment."""

    base_model_class = LlamaModel
    causal_lm_class = LlamaForCausalLM
    config_class = LlamaConfig
    vocab_size = 99

    def get_config(self) -> LlamaConfig:
        return LlamaConfig(
            vocab_size=self.vocab_size,
            hidden_size=self.hidden_size,
            intermediate_size=self.intermediate_size,
            num_hidden_layers=self.num_hidden_layers,
            num_attention_heads=self.num_attention_heads,
            num_key_value_heads=self.num_key_value_heads,
            head_dim=self.head_dim,
            max_position_embeddings=512,
            pad_token_id=0,
        )


def _hsdp_with_equal_counts(rank: int, *args) -> None:
    """
    The mixin's test takes the mean over ranks of means over rows, which is the mean over all rows only if every rank has
    as many labels that count. Those of Lumos are visual ids, so: as many of them in every row.
    """
    original = torch.randint

    def randint(low, high, size, **kwargs):
        ids = original(low, high, size, **kwargs)
        ids[:, ::2] = original(VISUAL_TOKEN_OFFSET, VISUAL_TOKEN_OFFSET + NUM_CODES, ids[:, ::2].shape, **kwargs)
        ids[:, 1::2] %= 100
        return ids

    with mock.patch.object(torch, "randint", randint):
        test_fsdp_mixin._test_hsdp_grad_accumulation_vs_single_device_impl(rank, *args)


class _OneAxisLumos(LumosForCausalLM):
    """Takes positions on one axis, as the mixin's test of compiled training gives them."""

    def forward(self, input_ids=None, attention_mask=None, position_ids=None, **kwargs):
        position_ids = position_ids.expand(3, len(input_ids), -1)
        return super().forward(input_ids, attention_mask, position_ids, **kwargs)


class _Common(ModelTesterMixin, TrainingTesterMixin, TensorParallelTesterMixin, FSDPTesterMixin):
    model_tester_class = None
    model_tester = None

    def setUp(self):
        torch.manual_seed(0)
        self.model_tester = self.model_tester_class(self)
        self.all_model_classes = (self.model_tester_class.base_model_class, self.model_tester_class.causal_lm_class)
        self.config_tester = ConfigTester(self, config_class=self.model_tester_class.config_class)

    def test_config(self):
        self.config_tester.run_common_tests()


class _Lumos(_Common):
    _torch_compile_train_cls = _OneAxisLumos

    def _prepare_for_class(self, inputs_dict, model_class, return_labels=False):
        """Labels that count are visual ids."""
        inputs_dict = copy.deepcopy(inputs_dict)
        if return_labels and model_class is self.model_tester.causal_lm_class:
            ids = inputs_dict.get("input_ids")
            shape = (self.model_tester.batch_size, self.model_tester.seq_length) if ids is None else ids.shape
            inputs_dict["labels"] = torch.randint(
                VISUAL_TOKEN_OFFSET, self.model_tester.vocab_size, shape, generator=torch.Generator().manual_seed(1)
            ).to(torch_device)
        return inputs_dict

    def _create_text_training_batch(self, batch_size, seq_length, vocab_size):
        """Visual ids instead of text ids, which have no loss; input and labels alike, as in the mixin."""
        ids = torch.arange(seq_length).remainder(19).add(VISUAL_TOKEN_OFFSET).expand(batch_size, -1).contiguous()
        return {"input_ids": ids, "labels": ids.clone()}

    def test_inputs_embeds_matches_input_ids(self):
        """Positions and frames cannot be read out of embeddings."""
        config, inputs = self.model_tester.prepare_config_and_inputs_for_common()
        position_ids, frame_ids = derive_layout(inputs["input_ids"], config)
        super().test_inputs_embeds_matches_input_ids(position_ids=position_ids, frame_ids=frame_ids)

    def test_model_rope_scaling_frequencies(self):
        """The mixin takes one axis of positions, or as many as `mrope_section` in `rope_parameters` says."""
        forward = LumosRotaryEmbedding.forward

        def forward_of_one_axis(self, x, position_ids):
            return forward(self, x, position_ids.expand(3, -1, -1))

        with mock.patch.object(LumosRotaryEmbedding, "forward", forward_of_one_axis):
            super().test_model_rope_scaling_frequencies()

    @unittest.skip("Positions and frames cannot be read out of embeddings alone")
    def test_inputs_embeds(self):
        pass

    @unittest.skip("Embeddings and head stay whole on every card: the head computes few of its rows")
    def test_tp_plan_shards_input_embeddings(self):
        pass

    @unittest.skip("Lumos models have no `generate`; tests/parallel compares the pipeline's codes")
    def test_tp_generation(self):
        pass

    @unittest.skip("Lumos models have no `generate`")
    def test_tp_generation_quantized(self):
        pass

    @unittest.skip("Rows of random ids have different numbers of labels that count; the next test has equal ones")
    def test_hsdp_grad_accumulation_vs_single_device_1_replicate_only(self):
        pass

    def test_hsdp_grad_accumulation_with_equal_counts(self):
        self._run_fsdp2_distributed_test("hsdp_equal_counts", _hsdp_with_equal_counts, 2, 1, world_size=2)


class LumosTextTest(_Lumos, unittest.TestCase):
    model_tester_class = LumosTester


class LumosFramesTest(_Lumos, unittest.TestCase):
    model_tester_class = LumosFramesTester


class LumosNormsPerShardTest(_Lumos, unittest.TestCase):
    model_tester_class = LumosNormsPerShardTester


class LlamaControlTest(_Common, unittest.TestCase):
    model_tester_class = LlamaTester
