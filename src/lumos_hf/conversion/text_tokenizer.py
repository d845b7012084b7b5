# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
The official text tokenizer as a `PreTrainedTokenizerFast`, and the ids of the visual codes.

Both come from Chameleon's tokenizer, whose reserved tokens Lumos gives new meanings. The official code encodes prompts by
the `tokenizer.json` of Lumina-mGPT, which has the text vocabulary alone, and looks the ids of the visual codes up in
`text_tokenizer.json`, where a script has added an entry for each. That script writes what no library loads: another version,
and the new entries as a list inside the list of added tokens. Here the entries are taken for what they are, and the
tokenizer is made of the rest: 64,000 tokens that no text has would make it several times slower to load.

An entry is named `VIDVID`, the code's decimal digits as letters from A for 0 to J for 9, and one more letter.
"""

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from ..configuration_lumos import LumosConfig
from ..files import read_json
from ..token_layout import prompt_text
from .weight_files import reading


# The one that names visual codes, and the one that texts are encoded by, which may be the same.
CODE_NAMES_FILE, TEXT_FILE = "text_tokenizer.json", "tokenizer.json"
TEXT_TOKENIZER_FILES = (CODE_NAMES_FILE, TEXT_FILE)

_CODE_NAME = re.compile(r"VIDVID([A-J]+)[A-Z]")
_DIGITS = str.maketrans("ABCDEFGHIJ", "0123456789")
_LETTERS = str.maketrans("0123456789", "ABCDEFGHIJ")

_BOS, _SEPARATOR, _MASK = "<s>", "<reserved08706>", "<reserved08999>"
_LAYOUT_TOKENS = {
    "image_start_token": "<racm3:break>",
    "image_end_token": "<eoss>",
    "new_line_token": "<reserved08799>",
    "video_start_token": "<reserved09000>",
    "video_end_token": "<reserved09001>",
}
_FIRST_NUMBER_NAME = 8800

# Where Chameleon's vocabulary has the 256 bytes, in the order and by the characters of GPT-2's.
_FIRST_BYTE_ID = 16384
_PRINTABLE = (*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1))
_BYTE_NAMES = [*map(chr, _PRINTABLE), *(chr(256 + index) for index in range(256 - len(_PRINTABLE)))]

_SAMPLE_PROMPT = prompt_text("A cat runs over the grass.", height=384, width=672, duration=2, fps=12)


class TextTokenizer(NamedTuple):
    """
    A text tokenizer that was read.

    Args:
        tokenizer: knows the text vocabulary alone.
        code_ids: ids of the visual codes, in the order of the codes; None if no file names them.
        path: the file of `tokenizer`.
    """

    tokenizer: PreTrainedTokenizerFast
    code_ids: range | None
    path: Path


def load_text_tokenizer(source: str | Path, code_names: str | Path | None = None) -> TextTokenizer:
    """
    Reads an official text tokenizer.

    Its beginning of sequence is also its padding, as in the official code; separator, mask and the tokens that lay out
    frames are named: `tokenizer.sep_token`, `tokenizer.mask_token`, `tokenizer.image_start_token` and so on. What it
    adds to a text of its own is left as it is; prompts are encoded without that (`add_special_tokens=False`).

    Args:
        source: the official `text_tokenizer.json`, as the official script writes it or mended; or the `tokenizer.json` of
            Chameleon or Lumina-mGPT; or a directory that holds one of them. Of a directory with both, the first gives
            the ids of the visual codes and the second encodes texts, as in the official code.
        code_names: the official `text_tokenizer.json`, or its directory, if `source` does not name the visual codes.

    Raises:
        ValueError: if there is no such file, or it is no tokenizer, lacks one of the named tokens, or has visual codes that
            do not follow each other.
    """
    path, code_names_file = _find_files(Path(source))
    if code_names is not None:
        code_names_file = _find_files(Path(code_names))[1]
        if code_names_file is None:
            raise ValueError(f"The ids of the visual codes must be in a file {CODE_NAMES_FILE}, got '{code_names}'.")
    content, code_ids = _read_tokenizer(path)
    if code_names_file not in (None, path):
        code_ids = _read_tokenizer(code_names_file)[1]
    must_name_codes = code_names is not None or code_names_file not in (None, path)
    if must_name_codes and code_ids is None:
        raise ValueError(f"'{code_names_file}' must name the visual codes, got no entry VIDVID....")
    return TextTokenizer(_fast_tokenizer(content, path), code_ids, path)


def _find_files(source: Path) -> tuple[Path, Path | None]:
    """The file that encodes texts, and the one that names visual codes, if any does as far as can be told by names."""
    if source.is_file():
        return source, source
    code_names_file, text_file = source / CODE_NAMES_FILE, source / TEXT_FILE
    if code_names_file.is_file():
        return (text_file if text_file.is_file() else code_names_file), code_names_file
    if text_file.is_file():
        return text_file, None
    raise ValueError(
        f"`text_tokenizer` must be a file, or a directory that holds {' or '.join(TEXT_TOKENIZER_FILES)}, got '{source}'."
    )


def _read_tokenizer(path: Path) -> tuple[dict[str, Any], range | None]:
    """What a file says as the tokenizers library has it, without the visual codes; and their ids."""
    return take_visual_codes(read_json(path), path)


def take_visual_codes(content: dict[str, Any], path: Path) -> tuple[dict[str, Any], range | None]:
    """
    Takes a tokenizer apart.

    Args:
        content: of a tokenizers file, or of one that the official script wrote.
        path: where it was read, for messages.

    Returns:
        the content without visual codes, and the ids of these, None if it names none.

    Raises:
        ValueError: if two entries are for one code, or they do not follow each other; the first break is shown.
    """
    with reading(path, "a tokenizers file", "text_tokenizer"):
        vocabulary, added_tokens = content["model"]["vocab"], content.get("added_tokens") or []
        # The official script appends the list of new tokens to the list, as one element.
        flat = [token for item in added_tokens for token in (item if isinstance(item, list) else [item])]
        entries = {**vocabulary, **{token["content"]: token["id"] for token in flat}}
        if not all(type(token_id) is int for token_id in entries.values()):
            raise ValueError("the ids of its tokens must be integers")
        is_code = {name: _CODE_NAME.fullmatch(name) is not None for name in entries}
    code_ids = _visual_code_ids(entries, path)
    texts = {name: token_id for name, token_id in vocabulary.items() if not is_code[name]}
    added_tokens = [token for token in flat if not is_code[token["content"]]]
    # "2.0" of the official script is the same format.
    return {
        **content,
        "version": "1.0",
        "added_tokens": added_tokens,
        "model": {**content["model"], "vocab": texts},
    }, code_ids


def add_visual_codes(content: dict[str, Any], code_ids: range) -> dict[str, Any]:
    """The content of a tokenizers file with an entry per visual code in its vocabulary, where the official code looks."""
    names = {_code_name(code) + "Z": token_id for code, token_id in enumerate(code_ids)}
    model = {**content["model"], "vocab": {**content["model"]["vocab"], **names}}
    return {**content, "model": model}


def _visual_code_ids(entries: dict[str, int], path: Path) -> range | None:
    ids: dict[int, int] = {}
    for name, token_id in entries.items():
        match = _CODE_NAME.fullmatch(name)
        if match is None:
            continue
        code = int(match[1].translate(_DIGITS))
        if code in ids:
            raise ValueError(
                f"`text_tokenizer` must have one token per visual code, got two for code {code} in '{path}'."
            )
        ids[code] = token_id
    if not ids:
        return None
    offset = ids.get(0, min(ids.values()))
    for code in range(len(ids)):
        if ids.get(code) != offset + code:
            found = f"id {ids[code]}" if code in ids else "no entry"
            raise ValueError(
                "`text_tokenizer` must give the visual codes ids that follow each other, but code "
                f"{code} ({_code_name(code)}?) has {found} instead of id {offset + code} in '{path}'."
            )
    return range(offset, offset + len(ids))


def _code_name(code: int) -> str:
    """Without the last letter."""
    return "VIDVID" + str(code).translate(_LETTERS)


def _fast_tokenizer(content: dict[str, Any], path: Path) -> PreTrainedTokenizerFast:
    with reading(path, "a tokenizers file", "text_tokenizer"):
        backend = Tokenizer.from_str(json.dumps(content))
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


def check_text_tokenizer(tokenizer: PreTrainedTokenizerBase, config: LumosConfig, source: str | Path) -> None:
    """
    Checks that a text tokenizer is the official one, and that of a model.

    Args:
        tokenizer: without visual codes.
        config: of the model.
        source: where the tokenizer was read, for messages.

    Raises:
        ValueError: if a special token has not the id that the model knows it by, a byte not that of Chameleon's vocabulary,
            a token one of the visual codes or beyond, or the prompt template does not come back from the tokenizer.
    """
    vocabulary = tokenizer.get_vocab()
    _check_ids("the special tokens at the ids of the model", vocabulary, _special_token_ids(config), source)
    # Where the vocabulary is a smaller one, as for tests, the bytes are elsewhere.
    if config.visual_token_offset >= _FIRST_BYTE_ID + len(_BYTE_NAMES):
        ids = {name: _FIRST_BYTE_ID + index for index, name in enumerate(_BYTE_NAMES)}
        _check_ids(f"the 256 bytes at the ids {_FIRST_BYTE_ID} to {max(ids.values())}", vocabulary, ids, source)
    last = max(vocabulary, key=vocabulary.__getitem__)
    if vocabulary[last] >= config.visual_token_offset:
        raise ValueError(
            f"`text_tokenizer` must have its tokens before the visual codes, which begin at {config.visual_token_offset}, "
            f"got {last} at {vocabulary[last]} in '{source}'."
        )
    _check_round_trip(tokenizer, config, source)


def _check_ids(what: str, vocabulary: dict[str, int], expected: dict[str, int], source: str | Path) -> None:
    wrong = [
        f"{token} {vocabulary.get(token, 'nothing')} instead of {token_id}"
        for token, token_id in expected.items()
        if vocabulary.get(token) != token_id
    ]
    if wrong:
        shown = ", ".join(wrong[:5]) + (f" and {len(wrong) - 5} more" if len(wrong) > 5 else "")
        raise ValueError(f"`text_tokenizer` must have {what}, got {shown} in '{source}'.")


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


def _check_round_trip(tokenizer: PreTrainedTokenizerBase, config: LumosConfig, source: str | Path) -> None:
    text_ids = sample_prompt_ids(tokenizer)
    # Some decoders put a space before the first word.
    decoded = str(tokenizer.decode(text_ids)).strip()
    if decoded != _SAMPLE_PROMPT:
        raise ValueError(
            f"`text_tokenizer` must give the prompt {_SAMPLE_PROMPT!r} back, got {decoded!r} from '{source}'."
        )
    # The official code encodes the prompt and its separator in one go, this package each on its own.
    joint_ids = tokenizer(_SAMPLE_PROMPT + _SEPARATOR, add_special_tokens=False).input_ids
    if joint_ids != [*text_ids, config.separator_token_id]:
        raise ValueError(
            f"`text_tokenizer` must encode {_SEPARATOR} after a text as one token, and the text as without it, got "
            f"{joint_ids[-4:]} instead of {[*text_ids, config.separator_token_id][-4:]} at the end, from '{source}'."
        )
