# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
What a tokenised set is on disk: parquet shards that `datasets` reads, and the record of how they were made.

    tokenization.json                      settings, checksum of the video tokenizer, numbers of clips and shards
    listing.jsonl                          the clips of the data in order, one a line
    data/train-00012-of-00040.parquet      clips `12 * clips_per_shard` and following, without the skipped ones
    shards/00012.json                      written last: that shard is done, and what was skipped in it
    skipped.jsonl                          all that was skipped; written when all shards are done

A row of a set is a feature for [`DataCollatorForDiffusionForcing`] as it is: codes are nested lists, which hold clips of
any sizes in one column. Its `length`, in tokens of the whole sequence, is what `group_by_length` of the Trainer reads.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import zip_longest
from pathlib import Path
from typing import Any

import datasets
import pyarrow.parquet
from datasets import Features, List, Value

from ..cosmos_video_tokenizer import CosmosVideoTokenizer
from ..files import remove_leftovers, whole_file
from .clip_listing import ListedClip


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
    """What became of the clips of one shard."""

    shard: int
    num_rows: int
    skipped: tuple[SkippedClip, ...]


class TokenizedDirectory:
    """The files of a tokenised set, finished or not."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.manifest_file = self.path / "tokenization.json"
        self.listing_file = self.path / "listing.jsonl"
        self.skipped_file = self.path / "skipped.jsonl"

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """
        What `tokenization.json` says.

        Raises:
            ValueError: if there is none.
        """
        if not self.manifest_file.is_file():
            raise ValueError(f"`path` must be a tokenised set, with a {self.manifest_file.name}, got '{self.path}'.")
        return json.loads(self.manifest_file.read_text(encoding="utf-8"))

    @property
    def num_shards(self) -> int:
        return self.manifest["num_shards"]

    def begin_or_resume(self, manifest: dict[str, Any], clips: Sequence[ListedClip]) -> None:
        """
        Writes down how and from what the set is made, or compares it with what stands there.

        Raises:
            ValueError: if the directory has other contents, or is a set of other settings or of other clips.
        """
        if not self.manifest_file.is_file():
            contents = sorted(path.name for path in self.path.glob("[!.]*"))
            if contents:
                raise ValueError(f"`output` must be empty or a tokenised set, got '{self.path}' with {contents[:5]}.")
            _write_json(self.manifest_file, manifest)
        self._check_settings(manifest["settings"])

        listing = (_listing_entry(clip) for clip in clips)
        if self.listing_file.is_file():
            self._check_listing(listing)
        else:
            _write_lines(self.listing_file, listing)

    def _check_settings(self, settings: dict[str, Any]) -> None:
        for name, begun_with in self.manifest["settings"].items():
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
        return [shard for shard in range(self.num_shards) if not self._record_file(shard).is_file()]

    def clips_of_shard(self, shard: int) -> range:
        """Indices of clips in the listing."""
        per_shard = self.manifest["settings"]["clips_per_shard"]
        return range(shard * per_shard, min((shard + 1) * per_shard, self.manifest["num_clips"]))

    def records(self) -> list[ShardRecord]:
        """What became of the clips of the finished shards, in order."""
        files = (self._record_file(shard) for shard in range(self.num_shards))
        return [_read_record(file) for file in files if file.is_file()]

    def write_shard(self, shard: int, rows: list[dict[str, Any]], skipped: list[SkippedClip]) -> None:
        """Files appear whole, and the record last: a shard that was cut short leaves none."""
        # `datasets` cannot read a file without rows.
        if rows:
            table = datasets.Dataset.from_list(rows, features=FEATURES).data.table
            with whole_file(self.data_file(shard)) as temporary:
                pyarrow.parquet.write_table(table, temporary)
        _write_json(self._record_file(shard), asdict(ShardRecord(shard, len(rows), tuple(skipped))))

    def write_skipped(self) -> None:
        """Gathers what was skipped, once all shards are done, and removes what killed processes left behind."""
        skipped = [clip for record in self.records() for clip in record.skipped]
        _write_lines(self.skipped_file, (asdict(clip) for clip in skipped))
        for directory in (self.path, *(path for path in self.path.iterdir() if path.is_dir())):
            remove_leftovers(directory)

    def data_file(self, shard: int) -> Path:
        # The pattern by which `datasets` and the Hub tell splits.
        return self.path / "data" / f"train-{shard:05d}-of-{self.num_shards:05d}.parquet"

    def _record_file(self, shard: int) -> Path:
        return self.path / "shards" / f"{shard:05d}.json"


def load_tokenized_dataset(path: str | Path, tokenizer_checksum: str | None = None) -> datasets.Dataset:
    """
    Loads what `lumos-hf tokenize` wrote, in the order of the data; clips that could not be used are missing.

    Rows are features for [`DataCollatorForDiffusionForcing`]: `codes` `(t, h, w)` as nested lists of integers,
    `caption`, `fps`, `num_frames` (pixel frames that the codes decode to), `height` and `width` in pixels, `length` of
    the sequence in tokens; `clip` (index in the data), `source` and `source_sha256` (of the file) tell where it came
    from.

    Args:
        path: directory of the set.
        tokenizer_checksum: [`video_tokenizer_checksum`] of the tokenizer that the model to train belongs to; by default
            nothing is checked.

    Raises:
        ValueError: if there is no such set, it is not finished, or its codes are those of another tokenizer.
    """
    directory = TokenizedDirectory(path)
    made_with = directory.manifest["settings"]["tokenizer_checksum"]
    if tokenizer_checksum is not None and tokenizer_checksum != made_with:
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
    files = [str(directory.data_file(record.shard)) for record in directory.records() if record.num_rows > 0]
    if not files:
        return datasets.Dataset.from_dict({name: [] for name in FEATURES}, features=FEATURES)
    return datasets.load_dataset("parquet", data_files=files, features=FEATURES, split="train")


def video_tokenizer_checksum(vqvae: CosmosVideoTokenizer) -> str:
    """
    Tells video tokenizers apart by the codes they give: SHA-256 in hexadecimal over configuration and weights of the
    encoder, in float32. A decoder that was trained further leaves it as it is. Weights that were rounded to another
    dtype are other weights.
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


def _read_record(file: Path) -> ShardRecord:
    content = json.loads(file.read_text(encoding="utf-8"))
    return ShardRecord(
        content["shard"], content["num_rows"], tuple(SkippedClip(**clip) for clip in content["skipped"])
    )


def _write_json(path: Path, content: dict[str, Any]) -> None:
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _write_lines(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    with whole_file(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _listing_entry(clip: ListedClip) -> dict[str, Any]:
    return {name: getattr(clip, name) for name in ("source", "caption", "listed_at", "version", "problem")}
