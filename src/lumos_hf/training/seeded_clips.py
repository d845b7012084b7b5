# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
Masks that follow from seed, epoch and clip alone.

A random collator and a stock `Trainer` do not resume to the masks of an unbroken run: batches are fetched one ahead of
the step whose generator states are saved, and are fetched before those states are restored. Nor do two processes draw
what one would. With a seed for each clip both come out the same.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch.utils.data import Dataset
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


class SeededClips(Dataset):
    """
    Features for [`DataCollatorForDiffusionForcing`], each with a `seed` of its own, another one in every epoch.

    The epoch is told by [`EpochCallback`].

    Args:
        clips: features without seeds.
        seed: of the run, at least 0.
    """

    def __init__(self, clips: Sequence[Mapping[str, Any]], seed: int) -> None:
        self.clips = clips
        self.seed = seed
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> dict[str, Any]:
        (seed,) = np.random.SeedSequence((self.seed, self.epoch, index)).generate_state(1)
        return {**self.clips[index], "seed": int(seed)}


class EpochCallback(TrainerCallback):
    """
    Tells [`SeededClips`] which epoch begins; processes of the data loader get to know it if they are not persistent.

    `set_epoch` of the data set would not do: accelerate calls it for one process only.
    """

    def __init__(self, clips: SeededClips) -> None:
        self.clips = clips

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.clips.epoch = int(state.epoch or 0)
