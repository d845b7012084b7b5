# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""The small vocabulary of the demo checkpoint: its text tokenizer and model configuration."""

import re
from typing import Any

from tokenizers import AddedToken, Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

from ..configuration_lumos import LumosConfig
from ..token_layout import prompt_text
from .clips import BACKGROUNDS, COLOURS, FPS, MOTIONS, NUM_FRAMES, RELATIONS, SHAPES, SIZE


SPECIAL_TOKENS = (
    "<bos>",
    "<unknown>",
    "<separator>",
    "<image_start>",
    "<image_end>",
    "<new_line>",
    "<mask>",
    "<video_start>",
    "<video_end>",
)
# Words end where the number tokens begin; those end where the visual codes begin.
SIZE_TOKEN_OFFSET = 160
VISUAL_TOKEN_OFFSET = 192
# The fixed parts of the prompt template are one token each, which makes prompts a third as long.
TEMPLATE_PHRASES = tuple(
    phrase.strip() for phrase in re.split(r"\d+x\d+|\d+", prompt_text("", height=32, width=32, duration=1, fps=1))
)


def demo_text_tokenizer() -> PreTrainedTokenizerFast:
    """A word-level tokenizer of the words that captions of the demo use; other words become `<unknown>`."""
    tokens = [*SPECIAL_TOKENS, *_words()]
    if len(tokens) + len(TEMPLATE_PHRASES) > SIZE_TOKEN_OFFSET:
        raise ValueError(f"The captions have {len(tokens)} words, more than fit below id {SIZE_TOKEN_OFFSET}.")
    tokenizer = Tokenizer(WordLevel({token: index for index, token in enumerate(tokens)}, unk_token="<unknown>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_tokens([AddedToken(phrase.lower(), normalized=True) for phrase in TEMPLATE_PHRASES])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<bos>",
        pad_token="<bos>",
        unk_token="<unknown>",
        eos_token="<separator>",
        mask_token="<mask>",
    )


def demo_config(visual_vocab_size: int, spatial_compression: int, **changes: Any) -> LumosConfig:
    """The demo's architecture over this vocabulary, with `changes` to fields of [`LumosConfig`]."""
    ids: dict[str, Any] = {
        f"{name[1:-1]}_token_id": index for index, name in enumerate(SPECIAL_TOKENS) if name != "<unknown>"
    }
    architecture: dict[str, Any] = {
        "hidden_size": 256,
        "intermediate_size": 640,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
    }
    return LumosConfig(
        max_position_embeddings=1024,
        vocab_size=VISUAL_TOKEN_OFFSET + visual_vocab_size,
        visual_token_offset=VISUAL_TOKEN_OFFSET,
        visual_vocab_size=visual_vocab_size,
        size_token_offset=SIZE_TOKEN_OFFSET,
        spatial_compression=spatial_compression,
        pad_token_id=ids["bos_token_id"],
        eos_token_id=ids["separator_token_id"],
        **ids,
        **(architecture | changes),
    )


def _words() -> list[str]:
    phrases = [*SHAPES, *COLOURS, *sum(MOTIONS.values(), ()), *BACKGROUNDS.values(), *RELATIONS.values(), "a an . ,"]
    sizes = [f"{SIZE}x{SIZE}", str(FPS), str(NUM_FRAMES - 1), "1"]
    return sorted(set(" ".join([*phrases, *sizes]).split()))
