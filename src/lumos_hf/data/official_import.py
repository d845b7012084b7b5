# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""Turns official pre-tokenised sets into tokenised sets of this package, what `lumos-hf import-tokenized` does."""

import hashlib
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from torch.utils.data import Dataset

from ..argument_checks import check_integer
from ..configuration_lumos import LumosConfig
from .number_tokens import NumberTokens
from .official_items import OfficialItem, read_item
from .official_records import ListedItem, list_items
from .shard_work import ShardExecutor, ShardWork, TokenizationSummary, check_rank, write_shards
from .tokenized_dataset import SkippedClip, TokenizedDirectory


# An item of 22 latent frames of 672x384 has 0.9 MB.
_MAX_ITEM_BYTES = 1 << 28

_Row: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class _ReadableItems(Dataset):
    """Rows of the items of a listing, read in any process."""

    items: Sequence[ListedItem]
    seconds: int | None
    fps: int | None
    config: LumosConfig
    number_tokens: NumberTokens

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> _Row | SkippedClip:
        item = self.items[index]
        try:
            return {**self._read(item), "clip": index}
        # Whatever is wrong with one item must not end the whole import.
        except Exception as error:
            return SkippedClip(index, item.source, item.listed_at, str(error) or type(error).__name__)

    def _read(self, listed: ListedItem) -> _Row:
        if listed.problem is not None or listed.open_file is None:
            raise ValueError(listed.problem)
        with listed.open_file() as file:
            content = file.read(_MAX_ITEM_BYTES + 1)
        if len(content) > _MAX_ITEM_BYTES:
            raise ValueError(f"the file must have at most {_MAX_ITEM_BYTES} bytes")
        item = read_item(content, self.config)
        self._check_record(listed, item)
        item = self._cut(item)
        num_frames = item.num_frames(self.config)
        text_ids = item.filled_in(self.number_tokens, self.config)
        height, width = (side * self.config.spatial_compression for side in item.codes.shape[1:])
        return {
            "codes": item.codes.numpy().astype(np.uint16),
            "text_ids": text_ids,
            "caption": listed.caption,
            "fps": item.fps,
            "num_frames": num_frames,
            "height": height,
            "width": width,
            "length": item.num_tokens(self.config) + len(text_ids) - len(item.text_ids),
            "source": listed.source,
            "source_sha256": hashlib.sha256(content).hexdigest(),
        }

    def _check_record(self, listed: ListedItem, item: OfficialItem) -> None:
        num_tokens = item.num_tokens(self.config)
        if (listed.item_id, listed.num_tokens) != (item.item_id, num_tokens):
            raise ValueError(
                f"the record says item {listed.item_id} of {listed.num_tokens} tokens, the file has item {item.item_id} of "
                f"{num_tokens}"
            )

    def _cut(self, item: OfficialItem) -> OfficialItem:
        if len(item.codes) == 1:
            return item
        if self.fps not in (None, item.fps):
            raise ValueError(
                f"the video must have {self.fps} frames per second, as `fps` says, its header has {item.fps}"
            )
        if self.seconds is None:
            return item
        num_frames = self.seconds * item.fps
        num_latent_frames = math.ceil((num_frames - 1) / self.config.temporal_compression) + 1
        return item.cut_to(num_latent_frames, self.seconds)


def import_tokenized_dataset(
    source: str | Path,
    output: str | Path,
    *,
    seconds: int | None = 2,
    fps: int | None = None,
    captions: Sequence[str | Path] = (),
    caption_column: str = "text",
    model: str | Path | None = None,
    num_proc: int = 0,
    clips_per_shard: int = 256,
    rank: int = 0,
    world_size: int = 1,
    executor: ShardExecutor | None = None,
) -> TokenizationSummary:
    """
    Reads official pre-tokenised sets and writes them as a tokenised set for [`load_tokenized_dataset`], as the official
    training sees them: placeholders in the text are filled in, longer videos are cut. Neither pixels nor a checkpoint are
    needed. An item that cannot be used is left out and told with the reason in `skipped.jsonl`.

    A run that was interrupted goes on when it is started again with the same arguments; `num_proc`, `rank` and
    `world_size` may change.

    Args:
        source: a directory with records in it, a `merge-record.json`, a record in JSONL, or a yaml file of several with
            ratios, see [`list_items`].
        output: directory of the tokenised set; new, empty, or begun with the same arguments.
        seconds: that videos are cut to; images and shorter videos stay as they are. None cuts nothing.
        fps: frames per second that videos must have; by default any.
        captions: tables whose row `id` is the caption of the item `id`, one for each set; by default `captions.csv` beside
            a record, where there is one. The text that is trained on is that of the items, with or without captions.
        caption_column: of these tables.
        model: directory or repository of a [`LumosVideoPipeline`] whose token ids the sets were made with; by default they
            are the official ones.
        num_proc: processes that read items besides this one; 0 reads here.
        clips_per_shard: items per file. This much work at most is lost if the process is killed.
        rank: number of this process among those that share the work.
        world_size: number of these processes.
        executor: does the work instead of this process, such as [`~lumos_hf.cluster.RayExecutor`].

    Raises:
        ValueError: if an argument is not as described, or `output` was begun with other settings or other data.
        OSError: if a file cannot be found.
    """
    for name, value in (("seconds", seconds), ("fps", fps), ("clips_per_shard", clips_per_shard)):
        if value is not None:
            check_integer(name, value)
    check_integer("num_proc", num_proc, minimum=0)
    check_rank(rank, world_size)
    config = LumosConfig() if model is None else LumosConfig.from_pretrained(model, subfolder="transformer")
    number_tokens = NumberTokens.of_model(model)
    items = list_items(source, captions, caption_column)
    directory = TokenizedDirectory(output)
    directory.begin_or_resume(
        {
            "data": str(source),
            "lumos_hf_version": version("lumos_hf"),
            "num_clips": len(items),
            "num_shards": math.ceil(len(items) / clips_per_shard),
            "has_text_ids": True,
            "settings": {
                "seconds": seconds,
                "fps": fps,
                "clips_per_shard": clips_per_shard,
                "visual_token_offset": config.visual_token_offset,
                # The sets do not say which one they were made with.
                "tokenizer_checksum": None,
            },
        },
        items,
    )
    readable_items = _ReadableItems(items, seconds, fps, config, number_tokens)
    work = ShardWork(directory, readable_items, _sort_out, num_proc, "Importing items")
    return write_shards(work, rank=rank, world_size=world_size, executor=executor)


def _sort_out(
    items: Iterable[_Row | SkippedClip], item_done: Callable[[], Any]
) -> tuple[list[_Row], list[SkippedClip]]:
    rows: list[_Row] = []
    skipped: list[SkippedClip] = []
    for item in items:
        if isinstance(item, SkippedClip):
            skipped.append(item)
        else:
            rows.append(item)
        item_done()
    return rows, skipped
