# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
Which captioned clips a folder, a table or a data set of the `datasets` library holds.

Files are opened only when they are read, so that a broken one costs nothing but itself: whatever is wrong with a single
clip is told in [`ListedClip.problem`], or found when it is opened. Errors are raised for what spoils the whole listing.
"""

import csv
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import datasets


IMAGE_ENDINGS = (".bmp", ".jpeg", ".jpg", ".png", ".webp")
VIDEO_ENDINGS = (".avi", ".gif", ".m4v", ".mkv", ".mov", ".mp4", ".webm")
TABLE_ENDINGS = (".csv", ".jsonl")
METADATA_FILES = ("metadata.csv", "metadata.jsonl")

# What the official code and imagefolder call the column of files.
TABLE_COLUMN = "path"
METADATA_COLUMN = "file_name"

# Of one cell of a table: a caption that is too long is told as such. The limit of the csv module is 131,072.
_MAX_FIELD_CHARACTERS = 2**31 - 1


@dataclass(frozen=True)
class ListedClip:
    """
    One image or video, not opened yet.

    Args:
        source: its name in the data: a path relative to it, or a row of it.
        caption: the text that goes with it, or None where there is none.
        listed_at: the file and line that name it, or None if the file itself was found.
        is_image: whether it is a still.
        version: changes when the clip does: size and time of its file.
        open_file: opens the image or video for reading.
        problem: why it cannot be used, if that is known already.
    """

    source: str
    caption: str | None
    listed_at: str | None = None
    is_image: bool = False
    version: str | None = None
    open_file: Callable[[], BinaryIO] | None = None
    problem: str | None = None


def list_clips(
    data: str | Path,
    *,
    caption_column: str = "text",
    media_column: str | None = None,
    split: str = "train",
) -> list[ListedClip]:
    """
    Lists the clips of `data` in a fixed order.

    Args:
        data: one of

            - a folder of images and videos, at any depth, in the order of their paths. Captions stand in `metadata.csv`
              or `metadata.jsonl`, as for imagefolder (`file_name`, relative to the metadata file, and the caption), or
              else in a text file beside each clip (`a.mp4`, `a.txt`). Hidden files are left out;
            - a CSV or JSONL file with the columns `path`, relative to it, and the caption, in its order;
            - a folder or the name on the Hub of a data set with a column of images or videos.
        caption_column: column of the captions.
        media_column: column of the files; by default `path` in a table and the only column of images or videos in a data
            set. Folders always have `file_name`.
        split: of a data set.

    Raises:
        ValueError: if there are no clips, a table lacks a column or is not text in UTF-8, or a data set has no column of
            images or videos, or several.
        OSError: if there is no such data.
    """
    path = Path(data)
    if path.is_file():
        clips = _list_table(path, media_column or TABLE_COLUMN, caption_column)
    elif path.is_dir() and _holds_clips(path):
        clips = _list_folder(path, caption_column)
    else:
        clips = _list_dataset(str(data), split, media_column, caption_column)
    if not clips:
        raise ValueError(f"`data` must hold at least one clip, got none in '{data}'.")
    return clips


def _list_table(path: Path, media_column: str, caption_column: str) -> list[ListedClip]:
    if path.suffix.lower() not in TABLE_ENDINGS:
        raise ValueError(f"`data` must be a folder, a file that ends in .csv or .jsonl, or a data set, got '{path}'.")
    return list(_table_clips(path, media_column, caption_column, root=path.parent))


def _table_clips(path: Path, media_column: str, caption_column: str, root: Path) -> Iterator[ListedClip]:
    """The clips of a table's rows, named relative to `root` where they lie in it."""
    for line, row in read_rows(path, (media_column, caption_column)):
        listed_at = f"{path.name}, line {line}"
        if isinstance(row, str):
            yield ListedClip(source=listed_at, caption=None, listed_at=listed_at, problem=row)
        elif not _is_text(row.get(media_column)):
            problem = f"the column `{media_column}` names no file"
            yield ListedClip(source=listed_at, caption=None, listed_at=listed_at, problem=problem)
        else:
            caption = row.get(caption_column)
            caption = caption if isinstance(caption, str) else None
            yield _file_clip(path.parent / row[media_column], root, caption, listed_at)


def read_rows(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """
    Numbers of lines of a CSV or JSONL file with their rows, or with what is wrong with them.

    Raises:
        ValueError: if the file is of another kind, is not text in UTF-8, or lacks one of `columns`.
    """
    if path.suffix.lower() not in _READERS:
        raise ValueError(f"The name of a table must end in .csv or .jsonl, got '{path}'.")
    try:
        # Excel and others begin a table with a byte order mark.
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield from _READERS[path.suffix.lower()](file, path, columns)
    except UnicodeDecodeError as error:
        raise ValueError(f"'{path}' must be text in UTF-8, got {error}.") from error


def _read_csv(file: io.TextIOBase, path: Path, columns: tuple[str, ...]) -> Iterator[tuple[int, dict[str, Any] | str]]:
    default_limit = csv.field_size_limit(_MAX_FIELD_CHARACTERS)
    try:
        reader = csv.DictReader(file)
        _check_columns(path, columns, reader)
        while True:
            row: dict[str, Any] | str | None
            try:
                row = next(reader, None)
            except csv.Error as error:
                row = f"the line is not CSV: {error}"
            if row is None:
                return
            yield reader.line_num, row
    finally:
        csv.field_size_limit(default_limit)


def _check_columns(path: Path, columns: tuple[str, ...], reader: csv.DictReader) -> None:
    try:
        present = reader.fieldnames or []
    except csv.Error as error:
        raise ValueError(f"'{path}' must begin with the names of its columns, got {error}.") from error
    if not set(columns) <= set(present):
        raise ValueError(f"'{path}' must have the columns {', '.join(columns)}, got {', '.join(present) or 'none'}.")


def _read_jsonl(
    file: io.TextIOBase, path: Path, columns: tuple[str, ...]
) -> Iterator[tuple[int, dict[str, Any] | str]]:
    for number, line in enumerate(file, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        # Numbers of thousands of digits, and brackets in thousands of brackets, are errors of other kinds.
        except (ValueError, RecursionError) as error:
            row = f"the line is not JSON: {error}"
        yield number, row if isinstance(row, (dict, str)) else "the line is not a JSON object"


_READERS = {".csv": _read_csv, ".jsonl": _read_jsonl}


def _holds_clips(folder: Path) -> bool:
    return any(_is_media(path) or path.name in METADATA_FILES for path in _visible_files(folder))


def _list_folder(folder: Path, caption_column: str) -> list[ListedClip]:
    files = list(_visible_files(folder))
    clips = [
        clip
        for path in sorted(files)
        if path.name in METADATA_FILES
        for clip in _table_clips(path, METADATA_COLUMN, caption_column, root=folder)
    ]
    described = {clip.source for clip in clips}
    for path in files:
        if _is_media(path) and relative_name(path, folder) not in described:
            clips.append(_file_clip(path, folder, _caption_beside(path), listed_at=None))
    # A stable order: of one clip with several captions, the rows stay as they are.
    return sorted(clips, key=lambda clip: clip.source)


def _visible_files(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts):
            yield path


def _is_media(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_ENDINGS + VIDEO_ENDINGS


def _caption_beside(path: Path) -> str | None:
    beside = path.with_suffix(".txt")
    try:
        # Reading a pipe would wait for ever.
        return beside.read_text(encoding="utf-8-sig") if beside.is_file() else None
    except (OSError, UnicodeDecodeError):
        return None


def _file_clip(path: Path, root: Path, caption: str | None, listed_at: str | None) -> ListedClip:
    source = relative_name(path, root)
    try:
        status = path.stat() if path.is_file() else None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        return ListedClip(source, caption, listed_at, problem=f"its file cannot be found: {reason}")
    if status is None:
        return ListedClip(source, caption, listed_at, problem="there is no such file")
    if not _is_media(path):
        endings = ", ".join(sorted(IMAGE_ENDINGS + VIDEO_ENDINGS))
        return ListedClip(source, caption, listed_at, problem=f"the name of its file must end in one of {endings}")
    return ListedClip(
        source,
        caption,
        listed_at,
        is_image=path.suffix.lower() in IMAGE_ENDINGS,
        version=f"{status.st_size} bytes, {status.st_mtime_ns} ns",
        open_file=partial(open_binary, path),
    )


def open_binary(path: Path) -> BinaryIO:
    """Opens a file for reading; a function of this module, so that other processes can be told of it."""
    return path.open("rb")


def relative_name(path: Path, root: Path) -> str:
    return (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()


def _list_dataset(name: str, split: str, media_column: str | None, caption_column: str) -> list[ListedClip]:
    dataset = datasets.load_dataset(name, split=split)
    media_column = media_column or _only_media_column(name, dataset.features)
    for role, column in (("media_column", media_column), ("caption_column", caption_column)):
        if column not in dataset.features:
            raise ValueError(f"`{role}` must be a column of '{name}', {list(dataset.features)}, got '{column}'.")
    feature = dataset.features[media_column]
    if not isinstance(feature, (datasets.Image, datasets.Video)):
        raise ValueError(f"`media_column` must hold images or videos, got '{media_column}' of {feature}.")

    media = dataset.select_columns(media_column).cast_column(media_column, type(feature)(decode=False))
    return [
        ListedClip(
            source=f"{split}/{row}",
            caption=caption if isinstance(caption, str) else None,
            is_image=isinstance(feature, datasets.Image),
            version=f"a data set of {dataset.info.dataset_size} bytes",
            open_file=partial(_open_cell, media, row, media_column),
        )
        for row, caption in enumerate(dataset[caption_column])
    ]


def _only_media_column(name: str, features: datasets.Features) -> str:
    columns = [column for column, feature in features.items() if isinstance(feature, (datasets.Image, datasets.Video))]
    if len(columns) != 1:
        raise ValueError(
            f"`data` must have one column of images or videos, or `media_column` must name one, got {columns} among the "
            f"columns {list(features)} of '{name}'."
        )
    return columns[0]


def _open_cell(dataset: datasets.Dataset, row: int, column: str) -> BinaryIO:
    cell = dataset[row][column]
    if cell is None:
        raise ValueError("the row has no image or video")
    return io.BytesIO(cell["bytes"]) if cell["bytes"] is not None else Path(cell["path"]).open("rb")


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())
