# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""Numbers in prompts as token ids."""

from dataclasses import dataclass
from pathlib import Path

from transformers import AutoTokenizer, PreTrainedTokenizerBase


# Token id of the digit 0 in the official vocabulary; the others follow.
_FIRST_DIGIT_ID = 16399


@dataclass(frozen=True)
class NumberTokens:
    """
    Writes numbers as text ids.

    Args:
        tokenizer: that the text was encoded with; None stands for the official one, which writes digit by digit.
    """

    tokenizer: PreTrainedTokenizerBase | None = None

    @classmethod
    def of_model(cls, model: str | Path | None) -> "NumberTokens":
        """Those of a checkpoint's tokenizer, or the official ones."""
        return cls() if model is None else cls(AutoTokenizer.from_pretrained(model, subfolder="tokenizer"))

    def __call__(self, number: int) -> list[int]:
        if self.tokenizer is None:
            return [_FIRST_DIGIT_ID + int(digit) for digit in str(number)]
        return self.tokenizer(str(number), add_special_tokens=False)["input_ids"]
