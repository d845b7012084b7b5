# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
What a tokenised set is on disk: parquet shards that `datasets` reads, and the record of how they were made.

    tokenization.json                      settings, checksum of the video tokenizer, numbers of clips and shards
    listing.jsonl                          the clips of the data in order, one a line
    data/train-00012-of-00040.parquet      clips `12 * clips_per_shard` and following, without the skipped ones
    shards/00012.json                      written last: that shard is done, its checksum, and what was skipped in it
    skipped.jsonl                          all that was skipped; written when all shards are done

Any number of processes may begin, go on with and finish one set at the same time: each shard is written whole, and what
another process has finished is left as it is.

A row of a set is a feature for [`DataCollatorForDiffusionForcing`] as it is: codes are nested lists, which hold clips of
any sizes in one column. Its `length`, in tokens of the whole sequence, is what `group_by_length` of the Trainer reads.
"""

import hashlib
import json
import math
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import zip_longest
from pathlib import Path
from typing import Any

import datasets
import pyarrow.parquet
from datasets import Features, List, Value

from ..argument_checks import check_integer
from ..cosmos_video_tokenizer import CosmosVideoTokenizer
from ..files import read_json, remove_leftovers, whole_file, write_json
from .clip_listing import ListedClip


if sys.platform != "win32":
    import fcntl


FEATURES = Features(
    {
        "codes": List(List(List(Value("uint16")))),
        "caption": Value("string"),
        "fps": Value("int32"),
        "num_frames": Value("int32"),
        "height": Value("int32"),
        "width": Value("int32"),
        "length": Value("int32"),
        "clip": Value("int64"),
        "source": Value("string"),
        "source_sha256": Value("string"),
    }
)

# Imported sets have the ids of finished prompts, and captions where they are known.
TEXT_IDS_FEATURES = Features({**FEATURES, "text_ids": List(Value("int32"))})

# Entries of a video tokenizer's configuration that its codes do not depend on.
_DECODER_ENTRIES = {"decode_block_out_channels", "out_channels", "dropout", "resolution"}


@dataclass(frozen=True)
class SkippedClip:
    """
    A clip that could not be used.

    Args:
        clip: its index in the listing of the data.
        source: its name in the data.
        listed_at: the file and line that name it, or None if the file itself was found.
        reason: what is wrong with it.
    """

    clip: int
    source: str
    listed_at: str | None
    reason: str

    def __str__(self) -> str:
        place = f" ({self.listed_at})" if self.listed_at and self.listed_at != self.source else ""
        return f"{self.source}{place}: {self.reason}"


@dataclass(frozen=True)
class ShardRecord:
    """What became of the clips of one shard; `sha256` is None if it has no rows, or was written before there were any."""

    shard: int
    num_rows: int
    skipped: tuple[SkippedClip, ...]
    sha256: str | None = None


class TokenizedDirectory:
    """The files of a tokenised set, finished or not."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.manifest_file = self.path / "tokenization.json"
        self.listing_file = self.path / "listing.jsonl"
        self.skipped_file = self.path / "skipped.jsonl"
        self._data_directory = self.path / "data"
        self._record_directory = self.path / "shards"

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """
        What `tokenization.json` says.

        Raises:
            ValueError: if there is none, or it is damaged.
        """
        if not self.manifest_file.is_file():
            raise ValueError(f"`path` must be a tokenised set, with a {self.manifest_file.name}, got '{self.path}'.")
        return _read_manifest(self.manifest_file)

    @property
    def num_shards(self) -> int:
        return self.manifest["num_shards"]

    @property
    def features(self) -> Features:
        """Columns of the rows."""
        return TEXT_IDS_FEATURES if self.manifest.get("has_text_ids") else FEATURES

    def begin_or_resume(self, manifest: dict[str, Any], clips: Sequence[ListedClip]) -> None:
        """
        Writes down how and from what the set is made, or compares it with what stands there, and removes what killed
        processes left behind.

        Raises:
            ValueError: if the directory has other contents or cannot be written to, or is a set of other settings or of
                other clips.
        """
        self._check_is_ours()
        self.path.mkdir(parents=True, exist_ok=True)
        if not os.access(self.path, os.W_OK | os.X_OK):
            raise ValueError(f"`output` must be a directory that can be written to, got '{self.path}'.")
        with self._alone():
            for directory in filter(Path.is_dir, (self.path, self._data_directory, self._record_directory)):
                remove_leftovers(directory)
            if not self.manifest_file.is_file():
                write_json(self.manifest_file, manifest)
            self._check_settings(manifest["settings"])
            listing = (_listing_entry(clip) for clip in clips)
            if self.listing_file.is_file():
                self._check_listing(listing)
            else:
                _write_lines(self.listing_file, listing)

    def _check_is_ours(self) -> None:
        contents = sorted(path.name for path in self.path.glob("[!.]*"))
        # In this order: whoever begins the set at the same time writes the manifest before anything else.
        if contents and not self.manifest_file.is_file():
            raise ValueError(f"`output` must be empty or a tokenised set, got '{self.path}' with {contents[:5]}.")

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Processes that share the set go through this one after another, on file systems with locks."""
        if sys.platform == "win32":
            yield
            return
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            except OSError:
                # Some network file systems. There, two processes that do the same shard must get equal codes.
                pass
            yield
        finally:
            os.close(descriptor)

    def _check_settings(self, settings: dict[str, Any]) -> None:
        for name in {**self.manifest["settings"], **settings}:
            begun_with = self.manifest["settings"].get(name)
            if settings.get(name) != begun_with:
                raise ValueError(
                    f"`{name}` must be {begun_with!r}, with which '{self.path}' was begun, got {settings.get(name)!r}. Give "
                    "another `output` for other settings."
                )

    def _check_listing(self, listing: Iterator[dict[str, Any]]) -> None:
        with self.listing_file.open(encoding="utf-8") as file:
            for index, (line, clip) in enumerate(zip_longest(file, listing)):
                begun_with = None if line is None else json.loads(line)
                if clip != begun_with:
                    raise ValueError(
                        f"`data` must be what it was when '{self.path}' was begun, but clip {index} was {begun_with} and "
                        f"is {clip}. Give another `output` for other data."
                    )

    def unfinished_shards(self) -> list[int]:
        return [shard for shard in range(self.num_shards) if not self.is_finished(shard)]

    def clips_of_shard(self, shard: int) -> range:
        """Indices of clips in the listing."""
        per_shard = self.manifest["settings"]["clips_per_shard"]
        return range(shard * per_shard, min((shard + 1) * per_shard, self.manifest["num_clips"]))

    def records(self) -> list[ShardRecord]:
        """What became of the clips of the finished shards, in order."""
        files = (self._record_file(shard) for shard in range(self.num_shards))
        return [_read_record(file) for file in files if file.is_file()]

    def is_finished(self, shard: int) -> bool:
        return self._record_file(shard).is_file()

    def write_shard(self, shard: int, rows: list[dict[str, Any]], skipped: list[SkippedClip]) -> None:
        """Files appear whole, and the record last: a shard that was cut short leaves none."""
        with self._alone():
            if self.is_finished(shard):
                return
            checksum = self._write_rows(shard, rows) if rows else None
            write_json(self._record_file(shard), asdict(ShardRecord(shard, len(rows), tuple(skipped), checksum)))

    def _write_rows(self, shard: int, rows: list[dict[str, Any]]) -> str:
        """Gives the SHA-256 checksum of the file."""
        table = datasets.Dataset.from_list(rows, features=self.features).data.table
        with whole_file(self.data_file(shard)) as partial:
            pyarrow.parquet.write_table(table, partial)
            return _checksum(partial)

    def write_skipped(self) -> None:
        """Gathers what was skipped, once all shards are done."""
        skipped = [clip for record in self.records() for clip in record.skipped]
        _write_lines(self.skipped_file, (asdict(clip) for clip in skipped))

    def forget_damaged(self, shards: Iterable[int]) -> list[int]:
        """Of these shards, those whose data is gone or no longer what was written; they count as unfinished again."""
        records = [_read_record(self._record_file(shard)) for shard in shards if self.is_finished(shard)]
        damaged = [record.shard for record in records if self._damage(record) is not None]
        for shard in damaged:
            self._record_file(shard).unlink(missing_ok=True)
        return damaged

    def check_data(self) -> None:
        """
        Raises:
            ValueError: if the data of a finished shard is gone, or no longer what was written.
        """
        for record in self.records():
            damage = self._damage(record)
            if damage is not None:
                raise ValueError(
                    f"`path` '{self.path}' is damaged: '{self.data_file(record.shard)}' {damage}. The command that made "
                    "the set makes this part again."
                )

    def _damage(self, record: ShardRecord) -> str | None:
        file = self.data_file(record.shard)
        if record.num_rows == 0:
            return None
        if not file.is_file():
            return "is missing"
        if record.sha256 is not None and _checksum(file) != record.sha256:
            return "is not what was written"
        return None

    def data_file(self, shard: int) -> Path:
        # The pattern by which `datasets` and the Hub tell splits.
        return self._data_directory / f"train-{shard:05d}-of-{self.num_shards:05d}.parquet"

    def _record_file(self, shard: int) -> Path:
        return self._record_directory / f"{shard:05d}.json"


def load_tokenized_dataset(path: str | Path, tokenizer_checksum: str | None = None) -> datasets.Dataset:
    """
    Loads what `lumos-hf tokenize` wrote, in the order of the data; clips that could not be used are missing.

    Rows are features for [`DataCollatorForDiffusionForcing`]: `codes` `(t, h, w)` as nested lists of integers,
    `caption`, `fps`, `num_frames` (pixel frames that the codes decode to), `height` and `width` in pixels, `length` of
    the sequence in tokens; `clip` (index in the data), `source` and `source_sha256` (of the file) tell where it came
    from. Sets that were imported have `text_ids` too, the ids of the whole prompt; `caption` is None where it is not known.

    Args:
        path: directory of the set.
        tokenizer_checksum: [`video_tokenizer_checksum`] of the tokenizer that the model to train belongs to; by default
            nothing is checked, nor is it for imported sets, which do not say by which tokenizer they were made.

    Raises:
        ValueError: if there is no such set, it is not finished, its files were changed or removed, or its codes are those
            of another tokenizer.
    """
    directory = TokenizedDirectory(path)
    made_with = directory.manifest["settings"]["tokenizer_checksum"]
    if None not in (tokenizer_checksum, made_with) and tokenizer_checksum != made_with:
        raise ValueError(
            f"`path` '{path}' was made with another video tokenizer: its checksum is {made_with}, that of the model's "
            f"{tokenizer_checksum}. Tokenise the data again with `--model` of the model to train."
        )
    unfinished = directory.unfinished_shards()
    if unfinished:
        raise ValueError(
            f"`path` '{path}' is not finished: {len(unfinished)} of {directory.num_shards} shards are missing. Give the "
            "command that began it again."
        )
    directory.check_data()
    files = [str(directory.data_file(record.shard)) for record in directory.records() if record.num_rows > 0]
    if not files:
        return datasets.Dataset.from_dict({name: [] for name in directory.features}, features=directory.features)
    return datasets.load_dataset("parquet", data_files=files, features=directory.features, split="train")


def video_tokenizer_checksum(vqvae: CosmosVideoTokenizer) -> str:
    """
    SHA-256 in hexadecimal over the configuration and the float32 weights of the encoder: equal for video tokenizers that
    give equal codes. A decoder that was trained further does not change it; weights rounded to another dtype do.
    """
    digest = hashlib.sha256()
    config = {
        name: value
        for name, value in vqvae.config.items()
        if not name.startswith("_") and name not in _DECODER_ENTRIES
    }
    digest.update(json.dumps(config, sort_keys=True).encode())
    for name, weight in sorted(vqvae.state_dict().items()):
        if name.startswith(("encoder.", "quant_conv.")):
            digest.update(name.encode())
            digest.update(weight.detach().cpu().float().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _checksum(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _read_manifest(file: Path) -> dict[str, Any]:
    content = read_json(file)
    try:
        settings = content["settings"]
        num_clips, per_shard = content["num_clips"], settings["clips_per_shard"]
        check_integer("num_clips", num_clips, minimum=0)
        check_integer("clips_per_shard", per_shard)
        is_sound = content["num_shards"] == math.ceil(num_clips / per_shard) and "tokenizer_checksum" in settings
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise ValueError(f"'{file}' does not say what a tokenised set is: {error!r}") from error
    if not is_sound:
        raise ValueError(f"'{file}' does not say what a tokenised set is: {str(content)[:200]}")
    return content


def _read_record(file: Path) -> ShardRecord:
    content = read_json(file)
    try:
        skipped = tuple(SkippedClip(**clip) for clip in content["skipped"])
        record = ShardRecord(content["shard"], content["num_rows"], skipped, content.get("sha256"))
        check_integer("num_rows", record.num_rows, minimum=0)
    except (LookupError, TypeError, ValueError) as error:
        raise ValueError(f"'{file}' does not say what became of a shard: {error!r}") from error
    if record.shard != int(file.stem) or (record.num_rows == 0 and record.sha256 is not None):
        raise ValueError(f"'{file}' does not say what became of its shard: {str(content)[:200]}")
    return record


def _write_lines(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    # Lone surrogates, which stand for the bytes of names that are not UTF-8, become the escapes of JSON.
    with whole_file(path) as partial, partial.open("w", encoding="utf-8", errors="backslashreplace") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _listing_entry(clip: ListedClip) -> dict[str, Any]:
    return {name: getattr(clip, name) for name in ("source", "caption", "listed_at", "version", "problem")}
