# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""Writes tokenised sets of this package in the official layout, what `lumos-hf export-tokenized` does."""

import csv
import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from tqdm.auto import tqdm
from transformers import PreTrainedTokenizerBase

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


@dataclass(frozen=True)
class _ItemMaker:
    """Turns rows of a tokenised set into items."""

    config: LumosConfig
    number_tokens: NumberTokens

    def item(self, row: Mapping[str, Any]) -> OfficialItem:
        codes = torch.tensor(row["codes"])
        duration = video_duration(row["num_frames"], row["fps"])
        text_ids = row.get("text_ids")
        if text_ids is None:
            text_ids = self._encode(row, duration)
        return OfficialItem(row["clip"], self._with_placeholders(text_ids, row, duration), codes, duration, row["fps"])

    def _encode(self, row: Mapping[str, Any], duration: int) -> list[int]:
        tokenizer: PreTrainedTokenizerBase | None = self.number_tokens.tokenizer
        if tokenizer is None:
            raise ValueError(
                "`model` must be given for a set of captions, whose text tokenizer encodes them, got None."
            )
        text = prompt_text(row["caption"], height=row["height"], width=row["width"], duration=duration, fps=row["fps"])
        text_ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        check_text_ids(text_ids, self.config)
        return text_ids

    def _with_placeholders(self, text_ids: list[int], row: Mapping[str, Any], duration: int) -> list[int]:
        """The official prompt says width, height, number of frames and frames per second, in this order."""
        text_ids, place = list(text_ids), 0
        for number, placeholder in (
            (row["width"], None),
            (row["height"], None),
            (row["fps"] * duration, NUM_FRAMES_PLACEHOLDER),
            (row["fps"], FPS_PLACEHOLDER),
        ):
            written = self.number_tokens(number)
            place = _find(written, text_ids, place)
            if place is None:
                raise ValueError(
                    f"the text of '{row['source']}' must be the official prompt, in which {number} stands as {written}, got "
                    f"{text_ids[:40]}..."
                )
            if placeholder is not None:
                text_ids[place : place + len(written)] = written = [placeholder]
            place += len(written)
        return text_ids


def _find(part: list[int], whole: list[int], start: int) -> int | None:
    return next(
        (place for place in range(start, len(whole) - len(part) + 1) if whole[place : place + len(part)] == part), None
    )


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
    make = _ItemMaker(config, NumberTokens.of_model(model))
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
