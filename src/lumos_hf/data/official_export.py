# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""Writes tokenised sets of this package in the official layout, what `lumos-hf export-tokenized` does."""

import csv
import json
import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, cast

import torch
from tqdm.auto import tqdm
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from ..configuration_lumos import LumosConfig
from ..files import whole_directory
from ..token_layout import check_text_ids, prompt_text, video_duration
from .number_tokens import NumberTokens
from .official_items import FPS_PLACEHOLDER, NUM_FRAMES_PLACEHOLDER, OfficialItem, item_content
from .official_records import CAPTIONS_FILE, MERGED_RECORD
from .tokenized_dataset import load_tokenized_dataset


# As if one process had made the whole set in one part.
_PART = "1-in-1"
_RECORD = "0-of-1-record.jsonl"
_PROGRESS = "0-of-1-progress.txt"

# Of pickles; what the official scripts write.
_PROTOCOL = 4

_PLACEHOLDERS = (NUM_FRAMES_PLACEHOLDER, FPS_PLACEHOLDER)


# The numbers of the official prompt that become placeholders.
_PROMPT_NUMBERS = re.compile(r"consisting of (\d+) frames at (\d+) frames per second")


@dataclass(frozen=True)
class _ItemMaker:
    """Turns rows of a tokenised set into items."""

    config: LumosConfig
    tokenizer: PreTrainedTokenizerBase | None

    def item(self, row: Mapping[str, Any]) -> OfficialItem:
        codes = torch.tensor(row["codes"])
        duration = video_duration(row["num_frames"], row["fps"])
        if self.tokenizer is None:
            text_ids = row.get("text_ids")
            places = None if text_ids is None else _places_of_digits(text_ids, row, duration)
        else:
            text_ids, places = self._encode(self.tokenizer, row, duration)
        if text_ids is None:
            raise ValueError(
                "`model` must be given for a set of captions, whose text tokenizer encodes them, got None."
            )
        if places is None:
            raise ValueError(
                f"The text of '{row['source']}' must be the official prompt, with numbers of tokens of their own, got the "
                f"ids {text_ids[:40]}..."
            )
        for place, placeholder in zip(places, _PLACEHOLDERS, strict=True):
            text_ids = [*text_ids[: place.start], placeholder, *text_ids[place.stop :]]
        check_text_ids([token_id for token_id in text_ids if token_id not in _PLACEHOLDERS], self.config)
        return OfficialItem(row["clip"], text_ids, codes, duration, row["fps"])

    def _encode(
        self, tokenizer: PreTrainedTokenizerBase, row: Mapping[str, Any], duration: int
    ) -> tuple[list[int], list[range] | None]:
        """The text of a row, and where its tokens of the two numbers stand, the second one after the first is replaced."""
        size = {"height": row["height"], "width": row["width"]}
        finished = row.get("text_ids")
        caption = "" if finished is not None else row["caption"]
        text = prompt_text(caption, **size, duration=duration, fps=row["fps"])
        encoded = tokenizer(text, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True)
        # The prompt has them, whatever the caption is.
        numbers = cast(re.Match[str], _PROMPT_NUMBERS.search(text))
        first, second = (_tokens_of(encoded["offset_mapping"], *numbers.span(group)) for group in (1, 2))
        text_ids = encoded["input_ids"]
        if first is None or second is None:
            return text_ids, None
        if finished is not None:
            end = second.stop
            if finished[:end] != text_ids[:end]:
                return finished, None
            text_ids = finished
        return text_ids, _after_replacing([first, second])


def _places_of_digits(text_ids: list[int], row: Mapping[str, Any], duration: int) -> list[range] | None:
    """By the digits of the official vocabulary: the prompt says width, height, number of frames, frames per second."""
    spans: list[range] = []
    start = 0
    for number in (row["width"], row["height"], row["fps"] * duration, row["fps"]):
        written = NumberTokens()(number)
        places = range(start, len(text_ids) - len(written) + 1)
        place = next((place for place in places if text_ids[place : place + len(written)] == written), None)
        if place is None:
            return None
        start = place + len(written)
        spans.append(range(place, start))
    return _after_replacing(spans[2:])


def _tokens_of(offsets: list[tuple[int, int]], start: int, stop: int) -> range | None:
    """The tokens that make up these characters of a text, or None if one of them holds others as well."""
    tokens = [token for token, (first, last) in enumerate(offsets) if first < stop and last > start]
    if not tokens or offsets[tokens[0]][0] != start or offsets[tokens[-1]][1] != stop:
        return None
    return range(tokens[0], tokens[-1] + 1)


def _after_replacing(spans: list[range]) -> list[range]:
    """The second of two places once the first has become one token."""
    first, second = spans
    shift = len(first) - 1
    return [first, range(second.start - shift, second.stop - shift)]


def export_tokenized_dataset(
    path: str | Path,
    output: str | Path,
    *,
    model: str | Path | None = None,
    path_prefix: str | None = None,
) -> int:
    """
    Writes a tokenised set in the official layout: a pickle per row, without globals, and the records that list them, for
    the official trainer or for [`import_tokenized_dataset`]. Captions go to `captions.csv`, whose row `id` is that of the
    item `id`. An item's number is the `clip` of its row.

    Args:
        path: directory of the tokenised set.
        output: a new directory; it appears when it is complete.
        model: directory or repository of a [`LumosVideoPipeline`], whose text tokenizer encodes captions and whose token
            ids are used. Sets with `text_ids` do without; token ids are the official ones then.
        path_prefix: the directory by which records name the set's files; the official trainer looks for it from where it
            is started. By default the absolute path of `output`.

    Returns:
        The number of items.

    Raises:
        ValueError: if an argument is not as described, or a row does not have the official prompt.
        FileExistsError: if there is anything at `output`.
    """
    output = Path(output)
    if output.exists() and not (output.is_dir() and not any(output.iterdir())):
        raise FileExistsError(f"`output` must be a new directory, got '{output}'.")
    config = LumosConfig() if model is None else LumosConfig.from_pretrained(model, subfolder="transformer")
    tokenizer = None if model is None else AutoTokenizer.from_pretrained(model, subfolder="tokenizer")
    make = _ItemMaker(config, tokenizer)
    rows = load_tokenized_dataset(path)
    prefix = PurePosixPath(path_prefix if path_prefix is not None else output.resolve().as_posix()) / _PART / "files"
    with whole_directory(output) as partial:
        files = partial / _PART / "files"
        files.mkdir(parents=True)
        entries = []
        for row in tqdm(rows, desc="Exporting items", unit="item"):
            content = item_content(make.item(row), config)
            (files / f"{row['clip']}.pkl").write_bytes(pickle.dumps(content, protocol=_PROTOCOL))
            entries.append(
                {"file": str(prefix / f"{row['clip']}.pkl"), "len": len(content["token"]), "id": row["clip"]}
            )
        lines = [json.dumps(entry) + "\n" for entry in entries]
        (partial / _PART / _RECORD).write_text("".join(lines), encoding="utf-8")
        (partial / _PART / _PROGRESS).write_text("finished", encoding="utf-8")
        (partial / MERGED_RECORD).write_text(json.dumps(entries), encoding="utf-8")
        if any(rows["caption"]):
            _write_captions(partial / CAPTIONS_FILE, rows.remove_columns("codes"))
    return len(entries)


def _write_captions(path: Path, rows: Any) -> None:
    """A line for each number up to the last, empty where a clip could not be used."""
    by_number = {row["clip"]: row for row in rows}
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "text", "num_frames", "height", "width", "aspect_ratio"])
        for number in range(max(by_number) + 1):
            row = by_number.get(number)
            if row is None:
                writer.writerow([""] * 6)
                continue
            ratio = row["height"] / row["width"]
            writer.writerow([row["source"], row["caption"], row["num_frames"], row["height"], row["width"], ratio])
