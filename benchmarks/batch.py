# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
Seconds to decode a batch of videos in one call against as many calls of one.

    python benchmarks/batch.py P --height 128 --width 128 --batch-size 8

Options are those of decode.py; prompts and seeds differ within a batch, lengths do not. On a CPU, one call of a video has as
many rows in a product as it needs to run at full rate, so a batch saves little there.
"""

import argparse
from collections.abc import Callable

import torch
from decode import GUIDANCE_SCALE, HISTORY_MASK_RATIO
from measure import (
    FPS,
    RUN_COLUMNS,
    argument_parser,
    build_model,
    comparison_cells,
    parse_checked,
    run,
    run_cells,
    text_ids,
)

from lumos_hf import LumosForCausalLM, LumosVideoPipeline, MaskDecodingScheduler
from lumos_hf.token_layout import prompt_ids


COLUMNS = (
    *RUN_COLUMNS,
    "size, frames, steps",
    "videos",
    "runs",
    "one by one s",
    "batch s",
    "ratio (range)",
    "one by one peak MB",
    "batch peak MB",
)


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argument_parser(__doc__)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=8)
    return parse_checked(parser, arguments)


def decoding(model: LumosForCausalLM, options: argparse.Namespace) -> Callable[[list[int]], torch.Tensor]:
    """Decodes the videos with these numbers in one call."""
    pipe = LumosVideoPipeline(tokenizer=None, transformer=model, vqvae=None, scheduler=MaskDecodingScheduler())
    pipe.set_progress_bar_config(disable=True)
    text = text_ids(options)
    return lambda numbers: (
        pipe(
            input_ids=[prompt_ids([number, *text[1:]], model.config) for number in numbers],
            height=options.height,
            width=options.width,
            num_frames=options.num_frames,
            temporal_tile_size=max(options.num_frames, 5),
            fps=FPS,
            num_inference_steps=options.steps,
            guidance_scale=GUIDANCE_SCALE,
            history_mask_ratio=HISTORY_MASK_RATIO,
            generator=[torch.Generator().manual_seed(number) for number in numbers],
            output_type="latent",
        ).frames
    )


def measure(name: str, options: argparse.Namespace) -> tuple[str, ...]:
    """One row of results."""
    model = build_model(name, options.device).to(getattr(torch, options.dtype))
    decode = decoding(model, options)
    numbers = list(range(1, options.batch_size + 1))
    return (
        *run_cells(name, options),
        f"{options.width}x{options.height}, {options.num_frames}, {options.steps}",
        str(options.batch_size),
        *comparison_cells(lambda: [decode([number]) for number in numbers], lambda: decode(numbers), options),
    )


def main(arguments: list[str] | None = None) -> None:
    run("A batch against single calls (batch.py)", COLUMNS, measure, parse_arguments(arguments))


if __name__ == "__main__":
    main()
