# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
What official pre-tokenised sets consist of, by their records.

    mixture.yaml                       META: a list of `path` of a record and `ratio`
    NAME/merge-record.json             a list of items, each `file`, `len` and `id`
    NAME/1-in-1/0-of-8-record.jsonl    the same, a line each, of one of the processes that made the set
    NAME/1-in-1/files/0.pkl            an item

`file` is relative to the directory that the official scripts were started in, which is nowhere to be read. It is looked for
from the directories above the record, and then by the end of its path from the record's own.
"""

import json
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from .clip_listing import ListedClip, open_binary, read_rows, relative_name


MERGED_RECORD = "merge-record.json"
CAPTIONS_FILE = "captions.csv"

_RECORDS_OF_PROCESSES = "*record.jsonl"
_YAML_ENDINGS = (".yaml", ".yml")


@dataclass(frozen=True)
class ListedItem(ListedClip):
    """
    An item that a record lists.

    Args:
        item_id: its number in its set.
        num_tokens: its length.
    """

    item_id: int | None = None
    num_tokens: int | None = None


def list_items(
    source: str | Path, captions: Sequence[str | Path] = (), caption_column: str = "text"
) -> list[ListedItem]:
    """
    Lists the items of `source`, set by set, in the order of the records.

    Args:
        source: a directory, in which records are looked for; a `merge-record.json`, a record in JSONL, or a yaml file that
            lists records with ratios. Of a set with a ratio below 1, that share of items is taken at random, the same
            every time; with one above 1, items are taken several times.
        captions: the table of captions of each set, in their order: a CSV file, or JSONL, whose row `id` belongs to the
            item `id`. By default `captions.csv` beside a record, where there is one.
        caption_column: of these tables.

    Raises:
        ValueError: if there are no records, one of them or `captions` cannot be read, or there are not as many tables of
            captions as sets.
        OSError: if a file cannot be found.
    """
    source = Path(source)
    records = list(_records(source))
    if captions and len(captions) != len(records):
        raise ValueError(
            f"`captions` must be one table for each of the {len(records)} sets in '{source}', got {len(captions)}."
        )
    root = source if source.is_dir() else source.parent
    items: list[ListedItem] = []
    for number, (files, ratio) in enumerate(records):
        beside = files[0].parent / CAPTIONS_FILE
        table = Path(captions[number]) if captions else beside if beside.is_file() else None
        texts = None if table is None else _captions(table, caption_column)
        of_set = [item for file in files for item in _list_record(file, root, texts)]
        items += _by_ratio(of_set, ratio)
    if not items:
        raise ValueError(f"`source` must list at least one item, got none in '{source}'.")
    return items


def _records(source: Path) -> Iterator[tuple[list[Path], float]]:
    """Each set: the files that list its items, and its ratio."""
    if source.is_dir():
        for files in _records_below(source):
            yield files, 1.0
    elif source.suffix.lower() in _YAML_ENDINGS:
        yield from _records_of_mixture(source)
    elif source.suffix.lower() in (".json", ".jsonl"):
        yield [source], 1.0
    else:
        raise ValueError(
            f"`source` must be a directory, a record that ends in .json or .jsonl, or a yaml file, got '{source}'."
        )


def _records_below(directory: Path) -> Iterator[list[Path]]:
    """The merged record of each set, or else the records of all processes in one directory."""
    merged = sorted(directory.rglob(MERGED_RECORD))
    of_processes: dict[Path, list[Path]] = {}
    for file in sorted(directory.rglob(_RECORDS_OF_PROCESSES), key=_process_number):
        if not any(file.is_relative_to(record.parent) for record in merged):
            of_processes.setdefault(file.parent, []).append(file)
    sets = [[record] for record in merged] + list(of_processes.values())
    if not sets:
        raise ValueError(
            f"`source` must hold a {MERGED_RECORD} or {_RECORDS_OF_PROCESSES}, got none in '{directory}'."
        )
    yield from sorted(sets)


def _process_number(file: Path) -> tuple[Path, int, str]:
    number = file.name.split("-")[0]
    return file.parent, int(number) if number.isascii() and number.isdigit() else -1, file.name


def _records_of_mixture(source: Path) -> Iterator[tuple[list[Path], float]]:
    try:
        content = yaml.safe_load(source.read_text(encoding="utf-8"))
        sets = [(str(entry["path"]), float(entry.get("ratio", 1.0))) for entry in content["META"]]
    except (
        yaml.YAMLError,
        UnicodeDecodeError,
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
        RecursionError,
    ) as error:
        raise ValueError(
            f"'{source}' must list sets as `META: [{{path: ..., ratio: ...}}]`, got {error!r}."
        ) from error
    for path, ratio in sets:
        if not (math.isfinite(ratio) and ratio >= 0):
            raise ValueError(f"`ratio` of '{path}' in '{source}' must be a finite number of at least 0, got {ratio}.")
        record = _FileFinder(source.parent).find(path)
        if record is None:
            raise FileNotFoundError(f"'{source}' names a record that is missing, '{path}'.")
        for files in _records_below(record) if record.is_dir() else [[record]]:
            yield files, ratio


def _by_ratio(items: list[ListedItem], ratio: float) -> list[ListedItem]:
    copies, share = int(ratio), ratio - int(ratio)
    chosen = sorted(random.Random(0).sample(range(len(items)), int(share * len(items))))
    return items * copies + [items[index] for index in chosen]


def _captions(table: Path, column: str) -> list[str | None]:
    """Captions by row."""
    rows = (row for _, row in read_rows(table, (column,)))
    texts = [row.get(column) if isinstance(row, dict) else None for row in rows]
    return [text.strip() or None if isinstance(text, str) else None for text in texts]


def _list_record(file: Path, root: Path, texts: list[str | None] | None) -> Iterator[ListedItem]:
    finder = _FileFinder(file.parent)
    for place, entry in _entries(file):
        listed_at = f"{relative_name(file, root)}, {place}"
        problem = _problem_of_entry(entry)
        if problem is not None:
            yield ListedItem(source=listed_at, caption=None, listed_at=listed_at, problem=problem)
            continue
        item = ListedItem(
            source=entry["file"],
            caption=texts[entry["id"]] if texts is not None and entry["id"] < len(texts) else None,
            listed_at=listed_at,
            item_id=entry["id"],
            num_tokens=entry["len"],
        )
        path = finder.find(entry["file"])
        if path is None:
            yield replace(item, problem="there is no such file")
        else:
            yield replace(
                item,
                source=relative_name(path, root),
                version=f"{path.stat().st_size} bytes, {path.stat().st_mtime_ns} ns",
                open_file=partial(open_binary, path),
            )


def _entries(file: Path) -> Iterator[tuple[str, Any]]:
    """Items of a record, or what is wrong with them, and where they stand."""
    if file.suffix.lower() == ".jsonl":
        for line, row in read_rows(file, ()):
            yield f"line {line}", row
        return
    try:
        entries = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"'{file}' must be JSON in UTF-8, got {error}.") from error
    if not isinstance(entries, list):
        raise ValueError(f"'{file}' must be a list of items, got a {type(entries).__name__}.")
    for number, entry in enumerate(entries):
        yield f"item {number}", entry


def _problem_of_entry(entry: Any) -> str | None:
    if isinstance(entry, str):
        return entry
    if not isinstance(entry, dict) or not isinstance(entry.get("file"), str) or not entry["file"].strip():
        return "the record names no `file`"
    for name in ("id", "len"):
        if type(entry.get(name)) is not int or entry[name] < 0:
            return f"the record must say `{name}`, an integer of at least 0"
    return None


class _FileFinder:
    """Finds files by paths that are relative to some other directory than the one they are listed in."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory.resolve()
        # Where the last one was found: a directory, and how many parts of the path did not count.
        self._last: tuple[Path, int] | None = None

    def find(self, name: str) -> Path | None:
        parts = PurePosixPath(name).parts
        for directory, num_skipped in self._places(len(parts)):
            path = directory.joinpath(*parts[num_skipped:])
            if _is_file_or_directory(path):
                self._last = directory, num_skipped
                return path
        return None

    def _places(self, num_parts: int) -> Iterator[tuple[Path, int]]:
        if self._last is not None and self._last[1] < num_parts:
            yield self._last
        for directory in (self._directory, *self._directory.parents, Path.cwd()):
            yield directory, 0
        for num_skipped in range(1, num_parts):
            yield self._directory, num_skipped
            # One level up, the name of a file alone could be that of another set's.
            if num_skipped < num_parts - 1:
                yield self._directory.parent, num_skipped


def _is_file_or_directory(path: Path) -> bool:
    try:
        return path.is_file() or path.is_dir()
    except (OSError, ValueError):
        return False
