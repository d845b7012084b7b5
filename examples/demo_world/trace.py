# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""What stays behind a character that has moved on: `python examples/demo_world/trace.py [CHECKPOINT...]`.

Held-out clips are encoded and decoded. The PSNR is that of all pixels of a kind together: scenery that a character has
just left, scenery that none has touched, and the characters themselves.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import PIL.Image
import torch

from lumos_hf.cosmos_video_tokenizer import CosmosVideoTokenizer
from lumos_hf.demo import demo_checkpoint
from lumos_hf.evaluation.clips import (
    ClipSpec,
    background_image,
    continued_specs,
    draw_clip,
    is_held_out,
    single_specs,
)
from lumos_hf.evaluation.score import reconstruct, sample_prompts
from lumos_hf.hub.model_card import markdown_table
from lumos_hf.media import contact_sheet


KINDS = ("left behind", "untouched", "character")
LEAVING = ("right", "left", "up", "down", "shrink", "jump")
# Every tenth clip, of ten.
IN_PICTURE = slice(0, 100, 10)


def kinds_of_pixels(spec: ClipSpec, clip: np.ndarray) -> dict[str, np.ndarray]:
    """Bool `(frames, height, width)` for each of `KINDS`; `clip` is the true one."""
    shown = (clip != background_image(spec.background, spec.mirrored)).any(-1)
    touched = np.logical_or.accumulate(shown)
    return dict(zip(KINDS, (touched & ~shown, ~touched, shown), strict=True))


def psnr_by_kind(
    specs: Sequence[ClipSpec], clips: Sequence[np.ndarray], results: Sequence[np.ndarray]
) -> dict[str, float]:
    """PSNR in dB of `results` against the true `clips`, uint8 `(frames, height, width, 3)`."""
    errors: dict[str, list[np.ndarray]] = {kind: [] for kind in KINDS}
    for spec, clip, result in zip(specs, clips, results, strict=True):
        squared = np.square(result.astype(np.float64) - clip).mean(-1)
        for kind, chosen in kinds_of_pixels(spec, clip).items():
            errors[kind].append(squared[chosen])
    return {kind: 10 * float(np.log10(255**2 / np.concatenate(parts).mean())) for kind, parts in errors.items()}


def moving_specs(count: int) -> list[ClipSpec]:
    """Held-out clips that leave scenery behind: half of the usual starts, half of any."""
    prompts = []
    for specs in (single_specs(), continued_specs()):
        prompts += sample_prompts([spec for spec in specs if spec.motion in LEAVING], count // 2, is_held_out)
    return [spec for spec, _ in prompts]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoints", nargs="*", type=Path, default=[demo_checkpoint() / "vqvae"])
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument(
        "--picture", type=Path, default=None, help="last frames: the true ones, then each checkpoint's"
    )
    args = parser.parse_args(arguments)
    specs = moving_specs(args.clips)
    clips = [draw_clip(spec) for spec in specs]
    table, shown = [["video tokenizer", *KINDS]], [clips]
    for directory in args.checkpoints:
        vqvae = CosmosVideoTokenizer.from_pretrained(directory, torch_dtype=torch.float32).eval()
        shown.append(reconstruct(vqvae, clips))
        measured = psnr_by_kind(specs, clips, shown[-1])
        table.append([str(directory), *(f"{measured[kind]:.1f} dB" for kind in KINDS)])
    print(markdown_table(table))
    if args.picture is not None:
        last_frames = [[PIL.Image.fromarray(clip[-1]) for clip in clips_of_one[IN_PICTURE]] for clips_of_one in shown]
        contact_sheet(last_frames).save(args.picture)


if __name__ == "__main__":
    main()
