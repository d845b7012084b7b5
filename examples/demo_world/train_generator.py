# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
Trains the small generator of the demo on tokenised clips: `python examples/demo_world/train_generator.py`.

First on whole clips; then `--refine` goes on from there with clips of which the first frames are given, so that images and
videos are continued from wherever their character stands. Starts that the first stage never showed are only ever given:
from a text alone, the generator goes on choosing among those that it knows.
"""

import argparse
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset
from tqdm.auto import tqdm
from training_run import computed_once, is_finished, mark_finished, train

from lumos_hf.cosmos_video_tokenizer import CosmosVideoTokenizer
from lumos_hf.evaluation.clips import (
    FPS,
    ClipSpec,
    caption,
    continued_specs,
    draw_clip,
    is_held_out,
    pair_specs,
    single_specs,
)
from lumos_hf.evaluation.vocabulary import demo_config, demo_text_tokenizer
from lumos_hf.modeling_lumos import LumosForCausalLM
from lumos_hf.termination import interrupt_on_termination
from lumos_hf.token_layout import frame_ids_from_codes, video_header_ids
from lumos_hf.training.data_collator import IGNORED_LABEL, DataCollatorForDiffusionForcing
from lumos_hf.video_processor_lumos import pixels_to_input


PAIR_SHARE = 0.2
NUM_PAIRS = 6000
NUM_REFINE_PAIRS = 2500
NUM_CONTINUED = 8000
# In refinement: of the clips with one character, how many go on from an image; of the rest, how many have given frames.
CONTINUED_SHARE = 0.7
GIVEN_SHARE = 0.25
# Of the clips with given frames, how many have two latent frames given instead of one.
TWO_GIVEN_SHARE = 0.3


@torch.no_grad()
def tokenize_clips(
    specs: list[ClipSpec],
    vqvae: CosmosVideoTokenizer,
    batch_size: int = 32,
    draw: Callable[[ClipSpec], np.ndarray] = draw_clip,
) -> np.ndarray:
    """Codes of clips as `draw` gives their frames, uint16 `(clips, t, h, w)`."""
    batches = [specs[start : start + batch_size] for start in range(0, len(specs), batch_size)]
    codes = []
    for batch in tqdm(batches, desc="Tokenizing clips"):
        video = pixels_to_input(torch.from_numpy(np.stack([draw(spec) for spec in batch]))).to(
            vqvae.device, vqvae.dtype
        )
        codes.append(vqvae.encode(video).cpu().numpy().astype(np.uint16))
    return np.concatenate(codes)


class TokenizedClipDataset(Dataset):
    """
    Draws from tokenised clips, each with a newly worded caption; `seed` and index fix a draw. Without `pairs` all are
    of `singles`.

    Args:
        singles: clips of one character.
        pairs: clips of two characters.
        codes: of `singles`, `pairs` and `continued` in turn, `(clips, t, h, w)`.
        size: number of draws.
        seed: of the draws.
        continued: clips that go on from an image. With them, items name the latent frames that are given, `num_given`.
        pair_share: of all draws, how many are of `pairs`.
    """

    def __init__(
        self,
        singles: list[ClipSpec],
        pairs: list[ClipSpec],
        codes: np.ndarray,
        size: int,
        seed: int = 0,
        continued: Sequence[ClipSpec] = (),
        pair_share: float = PAIR_SHARE,
    ) -> None:
        self.singles, self.pairs, self.continued = singles, pairs, continued
        self.codes, self.size, self.seed, self.pair_share = codes, size, seed, pair_share

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> dict[str, np.ndarray | str | int]:
        rng = random.Random(f"{self.seed}/{index}")
        num_singles, num_whole = len(self.singles), len(self.singles) + len(self.pairs)
        if self.pairs and rng.random() < self.pair_share:
            row = rng.randrange(num_singles, num_whole)
            spec = self.pairs[row - num_singles]
        elif self.continued and rng.random() < CONTINUED_SHARE:
            row = rng.randrange(num_whole, num_whole + len(self.continued))
            spec = self.continued[row - num_whole]
        else:
            row = rng.randrange(num_singles)
            spec = self.singles[row]
        # With a seed of its own, a clip is masked the same way in a run that was interrupted.
        item = {"codes": self.codes[row], "caption": caption(spec, rng), "fps": FPS, "seed": rng.getrandbits(32)}
        if self.continued and (row >= num_whole or rng.random() < GIVEN_SHARE):
            item["num_given"] = 2 if rng.random() < TWO_GIVEN_SHARE else 1
        return item


@dataclass
class CollatorWithGivenFrames:
    """
    Batches of [`DataCollatorForDiffusionForcing`] in which the first `num_given` latent frames of a feature are neither
    masked nor in the loss: that is how decoding sees frames that a user gives.
    """

    collator: DataCollatorForDiffusionForcing

    def __call__(self, features: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        config = self.collator.config
        batch = self.collator([{key: feature[key] for key in feature if key != "num_given"} for feature in features])
        for feature, input_ids, labels in zip(features, batch["input_ids"], batch["labels"], strict=True):
            num_given = feature.get("num_given", 0)
            codes = torch.from_numpy(feature["codes"][:num_given].astype(np.int64))
            given = frame_ids_from_codes(codes, config).flatten()
            header_length = len(video_header_ids(1, feature["fps"], config))
            start = int((input_ids == config.video_start_token_id).nonzero()[0]) + header_length
            input_ids[start : start + len(given)] = given
            labels[start : start + len(given)] = IGNORED_LABEL
        return batch


def training_specs() -> tuple[list[ClipSpec], list[ClipSpec]]:
    """The clips of the training set: all single characters and a sample of pairs, without held-out combinations."""
    singles = [spec for spec in single_specs() if not is_held_out(spec)]
    pairs = [spec for spec in pair_specs() if not is_held_out(spec)]
    return singles, random.Random(0).sample(pairs, NUM_PAIRS)


def continued_training_specs() -> list[ClipSpec]:
    """A sample of the clips that go on from an image, without held-out combinations; half of the images are stills."""
    specs = [spec for spec in continued_specs() if not is_held_out(spec)]
    stills = [spec for spec in specs if spec.image == "still"]
    others = [spec for spec in specs if spec.image != "still"]
    rng = random.Random(0)
    return rng.sample(stills, NUM_CONTINUED // 2) + rng.sample(others, NUM_CONTINUED // 2)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vqvae", type=Path, default=Path("outputs/demo-training/vqvae"))
    parser.add_argument("--output", type=Path, default=Path("outputs/demo-training/transformer"))
    parser.add_argument("--steps", type=int, default=4500)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--max-clips", type=int, default=None, help="of one and of two characters each")
    parser.add_argument("--minimum-mask-ratio", type=float, default=0.4)
    parser.add_argument(
        "--refine", type=Path, default=None, help="go on from this transformer, on clips with given frames"
    )
    parser.add_argument(
        "--pair-share", type=float, default=PAIR_SHARE, help="of all clips, how many show two characters"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the draws of clips")
    args = parser.parse_args(arguments)
    if is_finished(args.output, vars(args)):
        return
    torch.manual_seed(0)
    vqvae = CosmosVideoTokenizer.from_pretrained(args.vqvae).to(torch.float32).eval()
    config = demo_config(vqvae.quantizer.codebook_size, vqvae.config.spatial_compression_ratio)
    model = LumosForCausalLM(config)
    if args.refine is not None:
        model = LumosForCausalLM.from_pretrained(args.refine, dtype=torch.float32)
    print(f"{model.num_parameters():,} parameters")

    singles, pairs = (specs[: args.max_clips] for specs in training_specs())
    continued = []
    if args.refine is not None:
        pairs, continued = pairs[:NUM_REFINE_PAIRS], continued_training_specs()[: args.max_clips]
    codes = computed_once(args.output / "codes.npy", lambda: tokenize_clips(singles + pairs + continued, vqvae))
    collator = DataCollatorForDiffusionForcing(
        config, demo_text_tokenizer(), minimum_mask_ratio=args.minimum_mask_ratio
    )
    train(
        model,
        TokenizedClipDataset(
            singles, pairs, codes, args.steps * args.batch_size, args.seed, continued, args.pair_share
        ),
        CollatorWithGivenFrames(collator),
        args.output,
        steps=args.steps,
        batch_size=args.batch_size,
        learning_rate=args.learning_rate,
    )
    model.to(torch.bfloat16).save_pretrained(args.output)
    mark_finished(args.output, vars(args))


if __name__ == "__main__":
    interrupt_on_termination()
    main()
