# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""Trains the small generator of the demo on tokenised clips: `python -m lumos_hf.demo.train_generator`."""

import argparse
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset
from tqdm.auto import tqdm

from ..cosmos_video_tokenizer import CosmosVideoTokenizer
from ..modeling_lumos import LumosForCausalLM
from ..training.data_collator import DataCollatorForDiffusionForcing
from .clips import FPS, ClipSpec, caption, draw_clip, is_held_out, pair_specs, single_specs
from .train_tokenizer import pixels_to_video
from .training_run import computed_once, train
from .vocabulary import demo_config, demo_text_tokenizer


PAIR_SHARE = 0.2
NUM_PAIRS = 6000


@torch.no_grad()
def tokenize_clips(specs: list[ClipSpec], vqvae: CosmosVideoTokenizer, batch_size: int = 32) -> np.ndarray:
    """Codes of drawn clips, uint16 `(clips, t, h, w)`."""
    batches = [specs[start : start + batch_size] for start in range(0, len(specs), batch_size)]
    codes = []
    for batch in tqdm(batches, desc="Tokenizing clips"):
        video = pixels_to_video(np.stack([draw_clip(spec) for spec in batch])).to(vqvae.device, vqvae.dtype)
        codes.append(vqvae.encode(video).cpu().numpy().astype(np.uint16))
    return np.concatenate(codes)


class TokenizedClipDataset(Dataset):
    """
    Draws from tokenised clips, each with a newly worded caption; `seed` and index fix a draw. Without `pairs` all are
    of `singles`.
    """

    def __init__(
        self, singles: list[ClipSpec], pairs: list[ClipSpec], codes: np.ndarray, size: int, seed: int = 0
    ) -> None:
        self.singles, self.pairs, self.codes, self.size, self.seed = singles, pairs, codes, size, seed

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> dict[str, np.ndarray | str | int]:
        rng = random.Random(f"{self.seed}/{index}")
        if self.pairs and rng.random() < PAIR_SHARE:
            row = rng.randrange(len(self.pairs))
            spec, row = self.pairs[row], len(self.singles) + row
        else:
            row = rng.randrange(len(self.singles))
            spec = self.singles[row]
        return {"codes": self.codes[row], "caption": caption(spec, rng), "fps": FPS}


def training_specs() -> tuple[list[ClipSpec], list[ClipSpec]]:
    """The clips of the training set: all single characters and a sample of pairs, without held-out combinations."""
    singles = [spec for spec in single_specs() if not is_held_out(spec)]
    pairs = [spec for spec in pair_specs() if not is_held_out(spec)]
    return singles, random.Random(0).sample(pairs, NUM_PAIRS)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vqvae", type=Path, default=Path("outputs/demo-training/vqvae"))
    parser.add_argument("--output", type=Path, default=Path("outputs/demo-training/transformer"))
    parser.add_argument("--steps", type=int, default=4500)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--max-clips", type=int, default=None, help="of one and of two characters each")
    parser.add_argument("--minimum-mask-ratio", type=float, default=0.4)
    args = parser.parse_args(arguments)
    torch.manual_seed(0)
    vqvae = CosmosVideoTokenizer.from_pretrained(args.vqvae).to(torch.float32).eval()
    config = demo_config(vqvae.quantizer.codebook_size, vqvae.config.spatial_compression_ratio)
    model = LumosForCausalLM(config)
    print(f"{model.num_parameters():,} parameters")

    singles, pairs = (specs[: args.max_clips] for specs in training_specs())
    codes = computed_once(args.output / "codes.npy", lambda: tokenize_clips(singles + pairs, vqvae))
    train(
        model,
        TokenizedClipDataset(singles, pairs, codes, args.steps * args.batch_size),
        DataCollatorForDiffusionForcing(config, demo_text_tokenizer(), minimum_mask_ratio=args.minimum_mask_ratio),
        args.output,
        steps=args.steps,
        batch_size=args.batch_size,
        learning_rate=args.learning_rate,
    )
    model.to(torch.bfloat16).save_pretrained(args.output)


if __name__ == "__main__":
    main()
