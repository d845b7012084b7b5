# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
import pytest

from lumos_hf.configuration_lumos import LumosConfig


def test_defaults_are_the_official_token_ids():
    config = LumosConfig()
    assert config.model_type == "lumos"
    assert (config.bos_token_id, config.pad_token_id, config.eos_token_id) == (0, 0, 8710)
    assert (config.image_start_token_id, config.image_end_token_id, config.new_line_token_id) == (8197, 8196, 8803)
    assert (config.mask_token_id, config.video_start_token_id, config.video_end_token_id) == (9003, 9004, 9005)
    assert (config.separator_token_id, config.size_token_offset) == (8710, 8804)
    assert (config.visual_token_offset, config.visual_vocab_size, config.vocab_size) == (65536, 64000, 129536)
    assert (config.temporal_compression, config.spatial_compression) == (4, 8)


def test_derived_fields():
    config = LumosConfig(hidden_size=128, num_attention_heads=4)
    assert config.head_dim == 32
    assert config.num_key_value_heads == 4
    assert config.rope_parameters == {"rope_theta": 10000.0, "rope_type": "default"}


def test_round_trip(tmp_path):
    config = LumosConfig(hidden_size=128, num_attention_heads=4, num_key_value_heads=2, model_parallel_size=2)
    config.save_pretrained(tmp_path)
    assert LumosConfig.from_pretrained(tmp_path).to_dict() == config.to_dict()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_attention_heads": 4, "num_key_value_heads": 3}, "`num_key_value_heads` \\(3\\)"),
        ({"num_key_value_heads": 0}, "`num_key_value_heads` must be at least 1, got 0"),
        ({"num_key_value_heads": 2, "model_parallel_size": 4}, "`num_key_value_heads` \\(2\\)"),
        ({"model_parallel_size": 3}, "`num_attention_heads` \\(4\\)"),
        ({"model_parallel_size": 0}, "`model_parallel_size` must be at least 1"),
        ({"position_encoding": "alibi"}, "mm_rope, rope_3d, rope_1d, got 'alibi'"),
        ({"head_dim": 16}, "`head_dim` must be a multiple of 32 for `position_encoding='mm_rope'`, got 16"),
        ({"head_dim": 24, "position_encoding": "rope_3d"}, "multiple of 16"),
        ({"head_dim": 7, "position_encoding": "rope_1d"}, "multiple of 2"),
        ({"visual_vocab_size": 64001}, "`vocab_size` \\(129536\\)"),
        ({"mask_token_id": 9004}, "must differ"),
        ({"mask_token_id": 65536}, "`mask_token_id` must lie in the vocabulary"),
        ({"mask_token_id": -1}, "got -1"),
        ({"spatial_compression": 12}, "`spatial_compression` must divide 32"),
        ({"temporal_compression": 0}, "`temporal_compression` must be at least 1"),
        *(
            ({field: value}, f"`{field}` must be at least 1, got {value}")
            for field in (
                "vocab_size",
                "hidden_size",
                "intermediate_size",
                "num_hidden_layers",
                "num_attention_heads",
                "head_dim",
                "max_position_embeddings",
            )
            for value in (0, -8)
        ),
        ({"rms_norm_eps": float("nan")}, "`rms_norm_eps` must lie between 1e-30 and 1, got nan"),
        ({"rms_norm_eps": 0.0}, "`rms_norm_eps` must lie between 1e-30 and 1, got 0.0"),
        ({"initializer_range": -0.1}, "`initializer_range` must lie between 0 and 1000, got -0.1"),
        ({"initializer_range": float("inf")}, "`initializer_range` must lie between 0 and 1000, got inf"),
        ({"attention_dropout": 1.5}, "`attention_dropout` must lie between 0 and 1, got 1.5"),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 0.0}}, "finite number above 0, got 0.0"),
        ({"pad_token_id": 129536}, "`pad_token_id` must lie in the vocabulary .* or be None, got 129536"),
        ({"bos_token_id": -1}, "`bos_token_id` must lie in the vocabulary .* or be None, got -1"),
    ],
)
def test_contradictions_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        LumosConfig(**{"hidden_size": 128, "num_attention_heads": 4, **fields})


@pytest.mark.parametrize(("position_encoding", "head_dim"), [("mm_rope", 32), ("rope_3d", 16), ("rope_1d", 2)])
def test_narrowest_heads(position_encoding, head_dim):
    assert LumosConfig(position_encoding=position_encoding, head_dim=head_dim).head_dim == head_dim
