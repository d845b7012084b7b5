# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
The official `text_tokenizer.json` as a `PreTrainedTokenizerFast`.

It is the tokenizer of Chameleon, whose reserved tokens Lumos gives new meanings, with one entry per visual code after
them. An entry is named `VIDVID`, the code's decimal digits as letters from A for 0 to J for 9, and one more letter.
"""

import re
from pathlib import Path

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from ..configuration_lumos import LumosConfig
from ..token_layout import prompt_text


TEXT_TOKENIZER_FILES = ("text_tokenizer.json", "tokenizer.json")

_CODE_NAME = re.compile(r"VIDVID([A-J]+)[A-Z]")
_DIGITS = str.maketrans("ABCDEFGHIJ", "0123456789")

_BOS, _SEPARATOR, _MASK = "<s>", "<reserved08706>", "<reserved08999>"
_LAYOUT_TOKENS = {
    "image_start_token": "<racm3:break>",
    "image_end_token": "<eoss>",
    "new_line_token": "<reserved08799>",
    "video_start_token": "<reserved09000>",
    "video_end_token": "<reserved09001>",
}
_FIRST_NUMBER_NAME = 8800

_SAMPLE_PROMPT = prompt_text("A cat runs over the grass.", height=384, width=672, duration=2, fps=12)


def load_text_tokenizer(source: str | Path) -> PreTrainedTokenizerFast:
    """
    Reads an official text tokenizer.

    Its beginning of sequence is also its padding, as in the official code; separator, mask and the tokens that lay out
    frames are named: `tokenizer.sep_token`, `tokenizer.mask_token`, `tokenizer.image_start_token` and so on. What it
    adds to a text of its own is left as it is; prompts are encoded without that (`add_special_tokens=False`).

    Args:
        source: `text_tokenizer.json`, or a directory that holds it.

    Raises:
        ValueError: if there is no such file, or it is no tokenizer, or lacks one of the named tokens.
    """
    path = _find_file(Path(source))
    try:
        backend = Tokenizer.from_file(str(path))
    # The library raises this class and no other.
    except Exception as error:
        raise ValueError(f"`text_tokenizer` '{path}' must be a tokenizers file: {error}") from error

    names = {"bos_token": _BOS, "sep_token": _SEPARATOR, "mask_token": _MASK, **_LAYOUT_TOKENS}
    missing = [f"{token} ({name})" for name, token in names.items() if backend.token_to_id(token) is None]
    if missing:
        raise ValueError(f"`text_tokenizer` '{path}' has no token {', '.join(missing)}.")
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=_BOS,
        pad_token=_BOS,
        eos_token=_SEPARATOR,
        sep_token=_SEPARATOR,
        mask_token=_MASK,
        unk_token=getattr(backend.model, "unk_token", None),
        extra_special_tokens=_LAYOUT_TOKENS,
    )


def _find_file(source: Path) -> Path:
    if source.is_file():
        return source
    for name in TEXT_TOKENIZER_FILES:
        if (source / name).is_file():
            return source / name
    raise ValueError(
        f"`text_tokenizer` must be a file, or a directory that holds {' or '.join(TEXT_TOKENIZER_FILES)}, got '{source}'."
    )


def visual_code_ids(tokenizer: PreTrainedTokenizerBase) -> range:
    """
    The token ids of the visual codes, in the order of the codes.

    Raises:
        ValueError: if the vocabulary names none, or a code more than once, or they do not follow each other; the first
            break is shown.
    """
    ids: dict[int, int] = {}
    for token, token_id in tokenizer.get_vocab().items():
        match = _CODE_NAME.fullmatch(token)
        if match:
            code = int(match[1].translate(_DIGITS))
            if code in ids:
                raise ValueError(f"`text_tokenizer` must have one token per visual code, got two for code {code}.")
            ids[code] = token_id
    if not ids:
        raise ValueError("`text_tokenizer` must name the visual codes in its vocabulary, got no entry VIDVID....")

    offset = ids.get(0, min(ids.values()))
    for code in range(len(ids)):
        if ids.get(code) != offset + code:
            found = f"id {ids[code]}" if code in ids else "no entry"
            raise ValueError(
                "`text_tokenizer` must give the visual codes ids that follow each other, but code "
                f"{code} ({_code_name(code)}) has {found} instead of id {offset + code}."
            )
    return range(offset, offset + len(ids))


def _code_name(code: int) -> str:
    return "VIDVID" + "".join("ABCDEFGHIJ"[int(digit)] for digit in str(code)) + "?"


def check_text_tokenizer(tokenizer: PreTrainedTokenizerBase, config: LumosConfig) -> None:
    """
    Checks that a text tokenizer is the official one, and that of a model.

    Raises:
        ValueError: if a special token or a visual code has not the id that the model knows it by, or the prompt template
            does not come back from the tokenizer.
    """
    vocabulary = tokenizer.get_vocab()
    wrong = [
        f"{token} {vocabulary.get(token, 'nothing')} instead of {token_id}"
        for token, token_id in _special_token_ids(config).items()
        if vocabulary.get(token) != token_id
    ]
    if wrong:
        raise ValueError(
            f"`text_tokenizer` must have the special tokens at the ids of the model, got {', '.join(wrong)}."
        )
    code_ids = visual_code_ids(tokenizer)
    expected = range(config.visual_token_offset, config.visual_token_offset + config.visual_vocab_size)
    if code_ids != expected:
        raise ValueError(f"`text_tokenizer` must have the visual codes at {expected}, got {code_ids}.")
    if max(vocabulary.values()) >= config.vocab_size:
        raise ValueError(
            f"`text_tokenizer` must not have ids beyond the vocabulary of the model, {config.vocab_size - 1}, got "
            f"{max(vocabulary.values())}."
        )
    _check_round_trip(tokenizer, config)


def sample_prompt_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The prompt template with a caption, as text ids."""
    return tokenizer(_SAMPLE_PROMPT, add_special_tokens=False).input_ids


def _special_token_ids(config: LumosConfig) -> dict[str, int]:
    layout_ids = {token: getattr(config, f"{name}_id") for name, token in _LAYOUT_TOKENS.items()}
    number_ids = {
        f"<reserved{_FIRST_NUMBER_NAME + number:05d}>": config.size_token_offset + number
        for number in range(1, config.mask_token_id - config.size_token_offset)
    }
    return {
        _BOS: config.bos_token_id,
        _SEPARATOR: config.separator_token_id,
        _MASK: config.mask_token_id,
        **layout_ids,
        **number_ids,
    }


def _check_round_trip(tokenizer: PreTrainedTokenizerBase, config: LumosConfig) -> None:
    text_ids = sample_prompt_ids(tokenizer)
    # Some decoders put a space before the first word.
    decoded = tokenizer.decode(text_ids).strip()
    if decoded != _SAMPLE_PROMPT:
        raise ValueError(f"`text_tokenizer` must give the prompt {_SAMPLE_PROMPT!r} back, got {decoded!r}.")
    # The official code encodes the prompt and its separator in one go, this package each on its own.
    joint_ids = tokenizer(_SAMPLE_PROMPT + _SEPARATOR, add_special_tokens=False).input_ids
    if joint_ids != [*text_ids, config.separator_token_id]:
        raise ValueError(
            f"`text_tokenizer` must encode {_SEPARATOR} after a text as one token, and the text as without it, got "
            f"{joint_ids[-4:]} instead of {[*text_ids, config.separator_token_id][-4:]} at the end."
        )
