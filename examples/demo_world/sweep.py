# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""Tries decoding settings of a demo checkpoint one at a time: `python examples/demo_world/sweep.py`.

Scores prompts of training combinations, so that the held-out ones stay unseen. The winners are written into
`assemble.py` by hand; the table is printed and saved.
"""

import argparse
import random
from collections.abc import Sequence
from pathlib import Path

from lumos_hf.demo import demo_checkpoint
from lumos_hf.evaluation.clips import ClipSpec, caption, is_held_out, single_specs
from lumos_hf.evaluation.measure import observe
from lumos_hf.evaluation.score import Scores, generate, summarise
from lumos_hf.hub.model_card import format_table
from lumos_hf.pipeline_lumos_video import LumosVideoPipeline
from lumos_hf.scheduling_mask_decoding import MaskDecodingScheduler


CALL_GRID = {
    "guidance_scale": (1.0, 1.5, 2.0, 3.0, 4.0),
    "num_inference_steps": (4, 8, 12, 16, 24),
    "history_mask_ratio": (0.0, 0.3, 0.5, 0.7, 0.9),
}
SCHEDULER_GRID = {
    "token_temperature": (0.0, 0.3, 0.5, 0.7, 1.0),
    "confidence_temperature": (0.0, 0.5, 1.0, 2.0),
}


def score_settings(
    pipe: LumosVideoPipeline, specs: list[ClipSpec], prompts: list[str], settings: dict[str, float]
) -> Scores:
    """Scores of one clip per prompt, made with `settings` of the call or of the scheduler."""
    scheduler_settings = {name: value for name, value in settings.items() if name in SCHEDULER_GRID}
    call_settings = {name: value for name, value in settings.items() if name in CALL_GRID}
    scheduler = MaskDecodingScheduler.from_config(pipe.scheduler.config, **scheduler_settings)
    variant = LumosVideoPipeline(**{**pipe.components, "scheduler": scheduler}, **_defaults(pipe))
    variant.set_progress_bar_config(disable=True)
    return summarise(specs, [observe(clip) for clip in generate(variant, prompts, **call_settings)])


def _defaults(pipe: LumosVideoPipeline) -> dict[str, float]:
    return {name: value for name, value in pipe.config.items() if name.startswith("default_")}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=None, help="a checkpoint directory; default: the packaged one")
    parser.add_argument("--output", type=Path, default=Path("outputs/demo-score/sweep.md"))
    parser.add_argument("--prompts", type=int, default=75)
    parser.add_argument("--only", nargs="*", default=[*CALL_GRID, *SCHEDULER_GRID], help="settings to vary")
    args = parser.parse_args(arguments)
    pipe = LumosVideoPipeline.from_pretrained(args.model or demo_checkpoint())
    rng = random.Random(1)
    specs = rng.sample([spec for spec in single_specs() if not is_held_out(spec)], args.prompts)
    prompts = [caption(spec, rng) for spec in specs]
    scores = {}
    grid = {**CALL_GRID, **SCHEDULER_GRID}
    for setting, value in ((setting, value) for setting in args.only for value in grid[setting]):
        scores[f"{setting} {value}"] = score_settings(pipe, specs, prompts, {setting: value})
        print(format_table(scores))
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(format_table(scores) + "\n")


if __name__ == "__main__":
    main()
