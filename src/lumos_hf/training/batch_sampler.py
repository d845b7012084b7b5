# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
Batches of images and videos: clips of one shape together, with a batch size of its own for each kind.

Notable:

- A stock `transformers.Trainer` takes no batch sampler. It does take a data set whose items are batches.
- Everything random depends on seed, epoch and index alone: not on the number of processes or workers, nor on where a
  run was resumed.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from ..argument_checks import check_minimum


class BucketBatchSampler(Sampler[list[int]]):
    """
    Shuffled batches in which clips have the same number of frames, height and width, so that only prompts of different
    lengths need padding. Every clip comes once in an epoch.

    Images (one frame) and videos never share a batch. At most one batch of each kind is smaller than asked. Where the
    clips of a shape don't fill their last batch, it is filled up with those of the next larger one.

    Call `set_epoch` before each epoch, as with `torch.utils.data.DistributedSampler`; [`BatchedDataset`] sees to it.

    Args:
        dataset: clips as the features of [`DataCollatorForDiffusionForcing`]. A `datasets.Dataset` with the columns
            `num_frames`, `height` and `width` is asked for these only; otherwise the codes of all items are read.
        image_batch_size: images per batch; the official recipe's by default, as for videos.
        video_batch_size: videos per batch.
        seed: of the order, at least 0.

    Raises:
        ValueError: for a batch size below 1, a negative seed, or an empty data set.
    """

    def __init__(
        self,
        dataset: Sequence[Mapping[str, Any]],
        image_batch_size: int = 6,
        video_batch_size: int = 1,
        seed: int = 0,
    ) -> None:
        check_minimum("image_batch_size", image_batch_size, 1)
        check_minimum("video_batch_size", video_batch_size, 1)
        check_minimum("seed", seed, 0)
        if len(dataset) == 0:
            raise ValueError("`dataset` must hold at least one clip, got none.")
        self.seed = seed
        self._batch_sizes = (image_batch_size, video_batch_size)
        self._shapes = _clip_shapes(dataset)
        # Workers that persist over epochs see the changes of shared memory only.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    @property
    def epoch(self) -> int:
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        """Chooses the order of the next iteration."""
        self._epoch.fill_(epoch)

    def __iter__(self) -> Iterator[list[int]]:
        generator = np.random.default_rng([self.seed, self.epoch])
        batches = [
            batch
            for clips, batch_size in zip(self._clips_by_kind(), self._batch_sizes, strict=True)
            for batch in self._batches_of_kind(clips, batch_size, generator)
        ]
        for index in generator.permutation(len(batches)):
            yield batches[index]

    def __len__(self) -> int:
        return sum(
            -(-len(clips) // batch_size)
            for clips, batch_size in zip(self._clips_by_kind(), self._batch_sizes, strict=True)
        )

    def _clips_by_kind(self) -> tuple[np.ndarray, np.ndarray]:
        """Indices of images and of videos."""
        is_image = self._shapes[:, 0] == 1
        return np.flatnonzero(is_image), np.flatnonzero(~is_image)

    def _batches_of_kind(
        self, clips: np.ndarray, batch_size: int, generator: np.random.Generator
    ) -> Iterator[list[int]]:
        clips = generator.permutation(clips)
        frames, height, width = self._shapes[clips].T
        clips = clips[np.lexsort((width, height, frames * height * width))]
        for start in range(0, len(clips), batch_size):
            yield clips[start : start + batch_size].tolist()


class BatchedDataset(Dataset):
    """
    A data set whose items are the batches of a [`BucketBatchSampler`], for a stock `transformers.Trainer` with

        TrainingArguments(
            per_device_train_batch_size=1,           # one of these batches
            train_sampling_strategy="sequential",    # they are in a new order in each epoch already
            remove_unused_columns=False,
            ...
        )

    Sharing batches out to processes, skipping those done when a run is resumed and setting the epoch is then up to the
    Trainer, as with any data set.

    Features get a `seed` that depends on the sampler's seed, the epoch and their index. With it,
    [`DataCollatorForDiffusionForcing`] masks a clip alike in whatever process, worker or batch it comes.

    Args:
        dataset: the clips.
        batch_sampler: made for this data set.
    """

    def __init__(self, dataset: Sequence[Mapping[str, Any]], batch_sampler: BucketBatchSampler) -> None:
        self.dataset = dataset
        self.batch_sampler = batch_sampler
        self._batches: tuple[int, list[list[int]]] | None = None

    def set_epoch(self, epoch: int) -> None:
        """Called by the Trainer."""
        self.batch_sampler.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.batch_sampler)

    def __getitems__(self, indices: list[int]) -> list[dict[str, Any]]:
        """
        The features of one batch, which data loaders take for those of single indices.

        Raises:
            ValueError: for more than one index.
        """
        if len(indices) != 1:
            raise ValueError(
                f"`per_device_train_batch_size` must be 1, for one batch of the sampler, got {len(indices)}."
            )
        epoch, batches = self._batches_of_epoch()
        clips = batches[indices[0]]
        return [{**self.dataset[clip], "seed": self._draw_seed(epoch, clip)} for clip in clips]

    def _batches_of_epoch(self) -> tuple[int, list[list[int]]]:
        epoch = self.batch_sampler.epoch
        if self._batches is None or self._batches[0] != epoch:
            self._batches = epoch, list(self.batch_sampler)
        return self._batches

    def _draw_seed(self, epoch: int, clip: int) -> int:
        return int(np.random.SeedSequence([self.batch_sampler.seed, epoch, clip]).generate_state(1, np.uint64)[0])


def _clip_shapes(dataset: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """Frames, height and width of each clip, in any units, `(len(dataset), 3)`."""
    columns = ["num_frames", "height", "width"]
    if set(columns) <= set(getattr(dataset, "column_names", ())):
        # A `datasets.Dataset`, which gives columns by their names.
        table = cast(Mapping[str, Any], dataset)
        return np.stack([np.asarray(table[column]) for column in columns], axis=1)
    return np.array([np.shape(dataset[index]["codes"]) for index in range(len(dataset))])
