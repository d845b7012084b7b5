# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""A transformer that is as small as can be, for tests of everything around it."""

from typing import Any

from lumos_hf.configuration_lumos import LumosConfig


NUM_CODES = 60
VISUAL_TOKEN_OFFSET = 140


def tiny_config(**changes: Any) -> LumosConfig:
    fields = {
        "vocab_size": VISUAL_TOKEN_OFFSET + NUM_CODES,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 32,
        "max_position_embeddings": 512,
        "image_end_token_id": 100,
        "image_start_token_id": 101,
        "separator_token_id": 102,
        "eos_token_id": 102,
        "new_line_token_id": 103,
        "size_token_offset": 104,
        "mask_token_id": 130,
        "video_start_token_id": 131,
        "video_end_token_id": 132,
        "visual_token_offset": VISUAL_TOKEN_OFFSET,
        "visual_vocab_size": NUM_CODES,
    }
    return LumosConfig(**{**fields, **changes})


def tiny_batch_config(num_codes: int) -> LumosConfig:
    """With the official token ids, and one layer; for tests of batches."""
    return LumosConfig(
        vocab_size=9216 + num_codes,
        visual_token_offset=9216,
        visual_vocab_size=num_codes,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=1,
        num_key_value_heads=1,
    )
