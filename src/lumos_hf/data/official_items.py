# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
Items of official pre-tokenised sets: one training sequence each, in a pickle of `token`, `label` and `id`.

    0, text, 8710, 9004, 8804 + seconds, 8804 + frames per second, frames, 9005, 8710

Notable:

- The text holds two placeholders, for the number of frames and the frames per second, which training fills in. Their ids
  are those of visual codes 3 and 4 too, so that they are looked for in the text alone.
- Pickles are programs. These are read only if they consist of lists, numbers and names: what could call a function,
  import a name or ask for more memory than the file has is refused before the first of its instructions runs.
"""

import io
import pickle
import pickletools
import re
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from ..configuration_lumos import LumosConfig
from ..token_layout import (
    PIXELS_PER_SIZE_UNIT,
    UNKNOWN_CODE,
    check_text_ids,
    codes_from_frame_ids,
    frame_length,
    prompt_ids,
    sequence_from_codes,
    video_duration,
)
from .number_tokens import NumberTokens


NUM_FRAMES_PLACEHOLDER = 65539
FPS_PLACEHOLDER = 65540

_IGNORED_LABEL = -100

_MAX_KEY_BYTES = 32
_KEYS = b"|".join(
    b"\\x8c\\x%02x.{%d}|X\\x%02x\\x00{3}.{%d}" % (length, length, length, length)
    for length in range(1, _MAX_KEY_BYTES + 1)
)
# All that pickles of lists of numbers consist of. Indices of the memo are small, for it is laid out up to the highest one.
_PLAIN_PICKLE = re.compile(
    rb"\x80[\x02-\x05](?:K.|M..|J.{4}|[\x94()\]}aeust]|\x95.{8}|[hq].|[jr]..[\x00-\x0f]\x00|" + _KEYS + rb")*\.",
    re.DOTALL,
)
_GLOBALS = {"GLOBAL", "INST", "STACK_GLOBAL", "EXT1", "EXT2", "EXT4"}
_PLAIN = {"PROTO", "FRAME", "STOP", "MARK", "MEMOIZE", "EMPTY_LIST", "EMPTY_DICT", "EMPTY_TUPLE", "TUPLE", "APPEND"}
_PLAIN |= {"APPENDS", "SETITEM", "SETITEMS", "BININT", "BININT1", "BININT2", "SHORT_BINUNICODE", "BINUNICODE"}
_PLAIN |= {"BINGET", "LONG_BINGET", "BINPUT", "LONG_BINPUT"}


@dataclass(frozen=True)
class OfficialItem:
    """
    One item.

    Args:
        item_id: its number in the set.
        text_ids: token ids of the prompt with placeholders, without bos and separator.
        codes: `(t, h, w)` int64.
        duration: in seconds.
        fps: frames per second.
    """

    item_id: int
    text_ids: list[int]
    codes: torch.Tensor
    duration: int
    fps: int

    def cut_to(self, num_latent_frames: int, duration: int) -> "OfficialItem":
        """What training on `duration` seconds sees of a longer video; images and shorter ones stay as they are."""
        if num_latent_frames >= len(self.codes):
            return self
        return replace(self, codes=self.codes[:num_latent_frames], duration=duration)

    def num_frames(self, config: LumosConfig) -> int:
        """
        Pixel frames that the codes decode to.

        Raises:
            ValueError: if that many frames do not last as long as the item says.
        """
        num_frames = (len(self.codes) - 1) * config.temporal_compression + 1
        lasting = video_duration(num_frames, self.fps)
        if lasting != self.duration:
            raise ValueError(
                f"the header says {self.duration} seconds at {self.fps} frames per second, but {len(self.codes)} latent "
                f"frames, {num_frames} frames, last {lasting}"
            )
        return num_frames

    def num_tokens(self, config: LumosConfig) -> int:
        """Of the whole sequence, placeholders counted as one token each."""
        return len(sequence_from_codes(prompt_ids(self.text_ids, config), self.codes, self.duration, self.fps, config))

    def filled_in(self, number_tokens: NumberTokens, config: LumosConfig) -> list[int]:
        """
        The text as training reads it: the first placeholder of each kind is a number.

        Args:
            number_tokens: writes numbers as text ids.
            config: names the token ids.

        Raises:
            ValueError: if the text holds ids that are none of text.
        """
        text_ids = self.text_ids
        numbers = {NUM_FRAMES_PLACEHOLDER: self.fps * self.duration, FPS_PLACEHOLDER: self.fps}
        for placeholder, number in numbers.items():
            if placeholder in text_ids:
                place = text_ids.index(placeholder)
                text_ids = [*text_ids[:place], *number_tokens(number), *text_ids[place + 1 :]]
        check_text_ids(text_ids, config)
        return text_ids


def read_item(content: bytes, config: LumosConfig) -> OfficialItem:
    """
    Reads an item and checks each of its tokens.

    Args:
        content: of its file.
        config: names the token ids.

    Raises:
        ValueError: if the file is no plain pickle of an item, or its tokens are not laid out as an item's; the message
            names the place.
    """
    entries = load_plain_pickle(content)
    if not isinstance(entries, dict) or not {"token", "label", "id"} <= set(entries):
        raise ValueError("the pickle must hold a dictionary with the keys token, label and id")
    if type(entries["id"]) is not int:
        raise ValueError(f"`id` must be an integer, got a {type(entries['id']).__name__}")
    tokens, labels = (_integers(name, entries[name]) for name in ("token", "label"))
    text_ids, codes, duration, fps = _read_tokens(tokens, config)
    _check_labels(labels, tokens, num_ignored=len(prompt_ids(text_ids, config)))
    return OfficialItem(entries["id"], text_ids, codes, duration, fps)


def item_content(item: OfficialItem, config: LumosConfig) -> dict[str, Any]:
    """The dictionary that the pickle of an item holds."""
    prefix = prompt_ids(item.text_ids, config)
    tokens = sequence_from_codes(prefix, item.codes, item.duration, item.fps, config).tolist()
    labels = [_IGNORED_LABEL] * len(prefix) + tokens[len(prefix) :]
    return {"token": tokens, "label": labels, "id": item.item_id}


def load_plain_pickle(content: bytes) -> Any:
    """
    Loads a pickle of lists, tuples, dictionaries, integers of 32 bits and short names, and of nothing else.

    Raises:
        ValueError: if there is anything else in it, above all a global, which is never looked up.
    """
    if not _PLAIN_PICKLE.fullmatch(content):
        raise ValueError(_what_is_not_plain(content))
    try:
        return _PlainUnpickler(io.BytesIO(content)).load()
    except Exception as error:
        # Instructions in an order that makes no sense lead to errors of many kinds.
        raise ValueError(f"the pickle is damaged: {error}") from error


class _PlainUnpickler(pickle.Unpickler):
    """Resolves no global: the check before should let none through, and this is what stops one that it does."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"it has the global {module}.{name}")


def _what_is_not_plain(content: bytes) -> str:
    names: list[str] = []
    try:
        for opcode, argument, place in pickletools.genops(content):
            if opcode.name in _GLOBALS:
                found = argument if opcode.name != "STACK_GLOBAL" else ".".join(names[-2:])
                return f"the pickle has a global, {str(found).replace(' ', '.')[:80]}, at byte {place}"
            if opcode.name not in _PLAIN:
                return f"the pickle must consist of lists, numbers and names, got {opcode.name} at byte {place}"
            if isinstance(argument, str):
                names.append(argument)
    except Exception as error:
        return f"the file is no pickle, or is cut short: {error}"
    return "the file is no plain pickle of lists, numbers and names"


def _integers(name: str, values: Any) -> np.ndarray:
    if type(values) is not list or not all(type(value) is int for value in values):
        raise ValueError(f"`{name}` must be a list of integers")
    return np.array(values, dtype=np.int64)


def _read_tokens(tokens: np.ndarray, config: LumosConfig) -> tuple[list[int], torch.Tensor, int, int]:
    """Text ids with placeholders, codes, duration and frames per second."""
    starts = np.flatnonzero(tokens == config.video_start_token_id)
    start = int(starts[0]) if len(starts) > 0 else 0
    _check_in_vocabulary(tokens, start, config)
    tail = [config.video_end_token_id, config.separator_token_id]
    if tokens[-2:].tolist() != tail:
        raise ValueError(f"the item is cut short: its last tokens must be {tail}, got {tokens[-2:].tolist()}")
    if len(starts) == 0:
        raise ValueError(f"there is no start of the visual part, the token {config.video_start_token_id}")
    text_ids = tokens[1 : max(start - 1, 1)].tolist()
    numbers = (tokens[start + 1 : start + 3] - config.size_token_offset).tolist()
    if len(numbers) < 2:
        raise ValueError("the item is cut short: duration and frames per second are missing")
    duration, fps = numbers
    codes = _read_frames(tokens, start + 3, config)
    _check_layout(tokens, sequence_from_codes(prompt_ids(text_ids, config), codes, duration, fps, config))
    return text_ids, codes, duration, fps


def _check_in_vocabulary(tokens: np.ndarray, start: int, config: LumosConfig) -> None:
    """Placeholders before `start` may have any id."""
    is_placeholder = np.isin(tokens, (NUM_FRAMES_PLACEHOLDER, FPS_PLACEHOLDER)) & (np.arange(len(tokens)) < start)
    outside = np.flatnonzero(((tokens < 0) | (tokens >= config.vocab_size)) & ~is_placeholder)
    if len(outside) > 0:
        place = int(outside[0])
        raise ValueError(f"token {place} must be from 0 to {config.vocab_size - 1}, got {tokens[place]}")


def _read_frames(tokens: np.ndarray, first: int, config: LumosConfig) -> torch.Tensor:
    """Codes of the frames from token `first` to the end of the visual part; their insides are checked later."""
    frames = tokens[first:-2]
    if len(frames) < frame_length(1, 1):
        raise ValueError(f"the item is cut short: from token {first} on there is no whole frame")
    cells_per_unit = PIXELS_PER_SIZE_UNIT // config.spatial_compression
    h, w = ((frames[1:3] - config.size_token_offset) * cells_per_unit).tolist()
    length = frame_length(h, w) if h > 0 and w > 0 else 0
    if length == 0 or len(frames) % length != 0 or (frames[length - 1 :: length] != config.image_end_token_id).any():
        raise ValueError(
            f"the size tokens {frames[1]} and {frames[2]} at token {first + 1} do not fit the codes: they say {h} rows and "
            f"{w} columns, frames of {length} tokens, but there are {len(frames)} tokens of frames"
        )
    codes = codes_from_frame_ids(torch.from_numpy(frames).view(-1, length), h, w, config)
    unknown = (codes == UNKNOWN_CODE).nonzero().tolist()
    if unknown:
        k, row, column = unknown[0]
        place = first + k * length + frame_length(row, w) - 1 + column
        raise ValueError(f"token {place}, in frame {k}, row {row}, must be a visual token, got {tokens[place]}")
    return codes


def _check_layout(tokens: np.ndarray, expected: torch.Tensor) -> None:
    different = np.flatnonzero(tokens != expected.numpy()) if len(tokens) == len(expected) else [0]
    if len(different) > 0:
        place = int(different[0])
        raise ValueError(f"token {place} must be {int(expected[place])} by the layout of an item, got {tokens[place]}")


def _check_labels(labels: np.ndarray, tokens: np.ndarray, num_ignored: int) -> None:
    if len(labels) != len(tokens):
        raise ValueError(f"the item is cut short: it has {len(tokens)} tokens and {len(labels)} labels")
    expected = np.where(np.arange(len(tokens)) < num_ignored, _IGNORED_LABEL, tokens)
    different = np.flatnonzero(labels != expected)
    if len(different) > 0:
        place = int(different[0])
        raise ValueError(f"label {place} must be {expected[place]}, got {labels[place]}")
