# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
Seconds and memory to make a video with the demo checkpoint, pixels included: this package against a plain implementation
of the official loop.

    python benchmarks/demo.py

Before, that is the reference's loop over codes and the same tokenizer; both sample at temperature 1 here. They are
compared as measure.py says, but with two threads and by wall-clock time, which is what a user waits for.
"""

import argparse
from collections.abc import Callable

import reference
import torch
from measure import (
    COMPARISON_COLUMNS,
    RUN_COLUMNS,
    argument_parser,
    comparison_cells,
    reference_model,
    run,
    run_cells,
)

from lumos_hf import LumosVideoPipeline, MaskDecodingScheduler, demo_checkpoint
from lumos_hf.token_layout import num_latent_frames, prompt_ids, prompt_text, video_duration


PROMPT = "A purple heart floats up by the sea."
COLUMNS = (*RUN_COLUMNS, "size, frames, steps", *COMPARISON_COLUMNS)


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argument_parser(__doc__)
    parser.set_defaults(configurations=["demo"], threads=2, wall_clock=True)
    return parser.parse_args(arguments)


def theirs(pipe: LumosVideoPipeline, options: argparse.Namespace) -> Callable[[], torch.Tensor]:
    defaults = {name.removeprefix("default_"): value for name, value in pipe.config.items() if "default_" in name}
    model, side = reference_model(pipe.transformer, options), pipe.transformer.config.spatial_compression
    size = {"height": defaults["height"], "width": defaults["width"]}
    text = prompt_text(
        PROMPT, **size, duration=video_duration(defaults["num_frames"], defaults["fps"]), fps=defaults["fps"]
    )
    input_ids = prompt_ids(pipe.tokenizer(text, add_special_tokens=False).input_ids, model.config)

    @torch.no_grad()
    def make_video() -> torch.Tensor:
        codes = reference.decode(
            model,
            input_ids,
            h=size["height"] // side,
            w=size["width"] // side,
            num_latent_frames=num_latent_frames(defaults["num_frames"], model.config),
            fps=defaults["fps"],
            num_inference_steps=defaults["num_inference_steps"],
            guidance_scale=defaults["guidance_scale"],
            history_mask_ratio=defaults["history_mask_ratio"],
            greedy=False,
        )
        return pipe.vqvae.decode(codes)

    return make_video


def measure(name: str, options: argparse.Namespace) -> tuple[str, ...]:
    """One row of results."""
    pipe = LumosVideoPipeline.from_pretrained(demo_checkpoint(), scheduler=MaskDecodingScheduler())
    pipe.set_progress_bar_config(disable=True)
    config = pipe.config
    return (
        *run_cells(name, options),
        f"{config.default_width}x{config.default_height}, {config.default_num_frames}, {config.default_num_inference_steps}",
        *comparison_cells(theirs(pipe, options), lambda: pipe(PROMPT, output_type="pt"), options),
    )


def main(arguments: list[str] | None = None) -> None:
    run("Demo video (demo.py)", COLUMNS, measure, parse_arguments(arguments))


if __name__ == "__main__":
    main()
