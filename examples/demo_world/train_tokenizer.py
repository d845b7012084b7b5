# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""Trains the small video tokenizer of the demo on procedural clips: `python examples/demo_world/train_tokenizer.py`."""

import argparse
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset
from training_run import is_finished, mark_finished, train

from lumos_hf.cosmos_video_tokenizer import CosmosVideoTokenizer
from lumos_hf.evaluation.clips import (
    ClipSpec,
    background_image,
    continued_specs,
    draw_clip,
    is_held_out,
    pair_specs,
    single_specs,
)
from lumos_hf.termination import interrupt_on_termination
from lumos_hf.training.tokenizer_objective import TokenizerObjective
from lumos_hf.video_processor_lumos import pixels_to_input


PAIR_SHARE = 0.25
CONSISTENCY_WEIGHT = 0.2


class TwinClipDataset(Dataset):
    """
    `size` draws of two training clips that share either the scene or the characters; the index fixes a draw.

    Args:
        size: number of draws.
        any_start: whether characters also start where only clips that go on from an image do, in half of the draws.
    """

    def __init__(self, size: int, any_start: bool = False) -> None:
        self.size = size
        self.singles = [spec for spec in single_specs() if not is_held_out(spec)]
        self.continued = [spec for spec in continued_specs() if not is_held_out(spec)] if any_start else []
        self.pairs = [spec for spec in pair_specs() if not is_held_out(spec)]

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> tuple[ClipSpec, ClipSpec]:
        rng = random.Random(index)
        first, other = (rng.choice(self._kind(rng)) for _ in range(2))
        shown, scene = (first, other) if rng.random() < 0.5 else (other, first)
        return first, replace(shown, background=scene.background, mirrored=scene.mirrored)

    def _kind(self, rng: random.Random) -> list[ClipSpec]:
        if rng.random() < PAIR_SHARE:
            return self.pairs
        return self.continued if self.continued and rng.random() < 0.5 else self.singles


def collate_twins(twins: list[tuple[ClipSpec, ClipSpec]]) -> dict[str, torch.Tensor]:
    """Draws clips as `video` `(batch, 3, frames, height, width)` in [-1, 1], with a mask of where characters pass."""
    specs = [spec for twin in twins for spec in twin]
    clips = np.stack([draw_clip(spec) for spec in specs])
    scenes = np.stack([background_image(spec.background, spec.mirrored) for spec in specs])
    # All frames of the place count: scenery that a character has left is where traces of it stay behind.
    passed = (clips != scenes[:, None]).any(axis=(1, -1))
    foreground = torch.from_numpy(passed)[:, None, None].expand(-1, -1, clips.shape[1], -1, -1)
    return {"video": pixels_to_input(torch.from_numpy(clips)), "foreground": foreground}


def demo_tokenizer() -> CosmosVideoTokenizer:
    """The architecture of the demo's tokenizer, with random weights."""
    return CosmosVideoTokenizer(
        levels=(8, 5, 5, 5),
        encoder_block_out_channels=(32, 48, 64, 96),
        decode_block_out_channels=(32, 64, 96, 96),
        layers_per_block=1,
        spatial_compression_ratio=16,
        norm="position",
    )


def joint_objective() -> TokenizerObjective:
    """Encoder and decoder, from random weights."""
    return TokenizerObjective(demo_tokenizer(), consistency_weight=CONSISTENCY_WEIGHT)


def decoder_objective(directory: Path) -> TokenizerObjective:
    """The decoder alone: what a generator learned of the codes stays true."""
    vqvae = CosmosVideoTokenizer.from_pretrained(directory, torch_dtype=torch.float32)
    vqvae.encoder.requires_grad_(False)
    vqvae.quant_conv.requires_grad_(False)
    return TokenizerObjective(vqvae, gradient_weight=2.0)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("outputs/demo-training/vqvae"))
    parser.add_argument("--steps", type=int, default=2200)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument(
        "--refine", type=Path, default=None, help="train the decoder of this tokenizer, keep its codes"
    )
    args = parser.parse_args(arguments)
    if is_finished(args.output, vars(args)):
        return
    torch.manual_seed(0)
    objective = joint_objective() if args.refine is None else decoder_objective(args.refine)
    train(
        objective,
        TwinClipDataset(args.steps * args.batch_size // 2, any_start=args.refine is not None),
        collate_twins,
        args.output,
        steps=args.steps,
        batch_size=args.batch_size // 2,
        learning_rate=args.learning_rate,
    )
    objective.vqvae.to(torch.bfloat16).save_pretrained(args.output)
    mark_finished(args.output, vars(args))


if __name__ == "__main__":
    interrupt_on_termination()
    main()
