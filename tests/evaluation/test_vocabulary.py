# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
import random

import pytest

from lumos_hf.evaluation.clips import FPS, SIZE, caption, pair_specs, single_specs
from lumos_hf.evaluation.vocabulary import SIZE_TOKEN_OFFSET, demo_config, demo_text_tokenizer
from lumos_hf.token_layout import prompt_text


@pytest.mark.slow
def test_every_caption_is_known_word_by_word():
    tokenizer, rng = demo_text_tokenizer(), random.Random(0)
    for spec in [*single_specs(), *rng.sample(pair_specs(), 500)]:
        text = prompt_text(caption(spec, rng), height=SIZE, width=SIZE, duration=1, fps=FPS)
        ids = tokenizer(text, add_special_tokens=False).input_ids
        assert tokenizer.unk_token_id not in ids
        assert max(ids) < SIZE_TOKEN_OFFSET
        assert len(ids) < 30


def test_unknown_words_and_capitals_are_tolerated():
    tokenizer = demo_text_tokenizer()
    ids = tokenizer("A RED dragon", add_special_tokens=False).input_ids
    assert tokenizer.convert_ids_to_tokens(ids) == ["a", "red", "<unknown>"]


def test_the_tokenizer_agrees_with_the_configuration():
    tokenizer, config = demo_text_tokenizer(), demo_config(visual_vocab_size=1000, spatial_compression=16)
    assert tokenizer.bos_token_id == config.bos_token_id
    assert tokenizer.pad_token_id == config.pad_token_id
    assert tokenizer.eos_token_id == config.separator_token_id == config.eos_token_id
    assert tokenizer.mask_token_id == config.mask_token_id
    assert tokenizer.convert_tokens_to_ids("<video_start>") == config.video_start_token_id
