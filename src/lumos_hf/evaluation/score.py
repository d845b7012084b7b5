# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""Scores a demo checkpoint on held-out prompts: `python -m lumos_hf.evaluation.score`, or `make demo-score`.

Beside the generated clips stand the tokenizer's ceiling (the true clips, encoded and decoded) and two controls: the true
clips, which must be perfect, and generated clips judged by the wrong prompts, which must be near chance.
"""

import argparse
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
from tqdm.auto import tqdm

from ..cosmos_video_tokenizer import CosmosVideoTokenizer
from ..demo import demo_checkpoint
from ..hub.model_card import format_table
from ..media import contact_sheet, write_media
from ..pipeline_lumos_video import LumosVideoPipeline
from ..video_processor_lumos import LumosVideoProcessor, pixels_to_input
from .clips import FPS, ClipSpec, caption, draw_clip, is_held_out, pair_specs, single_specs
from .measure import Observation, judge, observe


NUM_SINGLES = 200
NUM_PAIRS = 100
BATCH_SIZE = 25
Scores = dict[str, float]


def held_out_prompts(specs: list[ClipSpec], count: int) -> list[tuple[ClipSpec, str]]:
    """The same `count` held-out clips and captions every time."""
    rng = random.Random(0)
    chosen = rng.sample([spec for spec in specs if is_held_out(spec)], count)
    return [(spec, caption(spec, rng)) for spec in chosen]


def generate(
    pipe: LumosVideoPipeline, prompts: list[str], first_seed: int = 0, **call_arguments: Any
) -> list[np.ndarray]:
    """One clip per prompt, uint8 `(frames, height, width, 3)`; clip i is drawn with seed `first_seed + i`."""
    clips = []
    for start in tqdm(range(0, len(prompts), BATCH_SIZE), desc="Generating"):
        batch = prompts[start : start + BATCH_SIZE]
        generators = [torch.Generator().manual_seed(first_seed + start + row) for row in range(len(batch))]
        clips += _videos_to_arrays(pipe(batch, generator=generators, **call_arguments).frames)
    return clips


@torch.no_grad()
def reconstruct(vqvae: CosmosVideoTokenizer, clips: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Clips as they come back from the tokenizer: what a perfect generator could reach."""
    processor = LumosVideoProcessor()
    restored = []
    for clip in tqdm(clips, desc="Reconstructing"):
        video = vqvae.decode(vqvae.encode(pixels_to_input(torch.from_numpy(clip[None])).to(vqvae.dtype))).float()
        restored += _videos_to_arrays(processor.postprocess_video(video, "pil"))
    return restored


def _videos_to_arrays(videos: list[list[PIL.Image.Image]]) -> list[np.ndarray]:
    return [np.stack([np.asarray(frame) for frame in video]) for video in videos]


def summarise(specs: list[ClipSpec], observations: list[Observation]) -> Scores:
    """Share of clips that keep each promise, and the means of the smoothness measures."""
    verdicts = [judge(spec, seen) for spec, seen in zip(specs, observations)]
    scores = {name: float(np.mean([verdict[name] for verdict in verdicts])) for name in verdicts[0]}
    scores["jerk"] = float(np.mean([seen.jerk for seen in observations]))
    scores["background_constancy"] = float(np.mean([seen.background_constancy for seen in observations]))
    return scores


def score(pipe: LumosVideoPipeline, specs: list[ClipSpec], clips: list[np.ndarray]) -> dict[str, Scores]:
    """Scores of generated `clips`, with the ceiling and the controls beside them."""
    truth = [draw_clip(spec) for spec in specs]
    observations = [observe(clip) for clip in clips]
    return {
        "generated": summarise(specs, observations),
        "tokenizer's ceiling": summarise(specs, [observe(clip) for clip in reconstruct(pipe.vqvae, truth)]),
        "true clips": summarise(specs, [observe(clip) for clip in truth]),
        "wrong prompts": summarise(specs, observations[1:] + observations[:1]),
    }


def save_contact_sheet(path: Path, clips: list[np.ndarray], rows: int = 6, clips_per_row: int = 3) -> None:
    """A picture of the first, middle and last frame of the first clips, without choosing among them."""
    strips = [[PIL.Image.fromarray(clip[index]) for index in (0, len(clip) // 2, -1)] for clip in clips]
    groups = [strips[start : start + clips_per_row] for start in range(0, rows * clips_per_row, clips_per_row)]
    contact_sheet([[frame for strip in group for frame in strip] for group in groups]).save(path)


def save_animation(path: Path, clips: list[np.ndarray], rows: int = 3, columns: int = 6) -> None:
    """The first clips side by side, playing."""
    grid = [clips[start : start + columns] for start in range(0, rows * columns, columns)]
    frames = [
        contact_sheet([[PIL.Image.fromarray(clip[time]) for clip in row] for row in grid])
        for time in range(len(clips[0]))
    ]
    write_media(path, frames, fps=FPS)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=None, help="a checkpoint directory; default: the packaged one")
    parser.add_argument("--output", type=Path, default=Path("outputs/demo-score"))
    args = parser.parse_args(arguments)
    args.output.mkdir(parents=True, exist_ok=True)
    pipe = LumosVideoPipeline.from_pretrained(args.model or demo_checkpoint())
    pipe.set_progress_bar_config(disable=True)
    report = {}
    for title, specs, count in (
        ("one character", single_specs(), NUM_SINGLES),
        ("two characters", pair_specs(), NUM_PAIRS),
    ):
        held_out, prompts = zip(*held_out_prompts(specs, count))
        clips = generate(pipe, list(prompts))
        report[title] = score(pipe, list(held_out), clips)
        picture = args.output / f"{title.replace(' ', '_')}.png"
        save_contact_sheet(picture, clips)
        save_animation(picture.with_suffix(".gif"), clips)
        print(f"\n{count} held-out prompts, {title}\n\n{format_table(report[title])}")
    (args.output / "scores.json").write_text(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
