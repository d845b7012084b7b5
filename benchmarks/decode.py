# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
Seconds and memory to decode one video: this package against a plain implementation of the official loop.

    python benchmarks/decode.py                      # configurations V and P, float32
    python benchmarks/decode.py P --dtype bfloat16

The two must give the same greedy codes in float32 first. What is compared, as measure.py says, is sampling as it is done
by default.
"""

import argparse
from collections.abc import Callable

import reference
import torch
from measure import (
    COMPARISON_COLUMNS,
    FPS,
    RUN_COLUMNS,
    argument_parser,
    build_model,
    comparison_cells,
    parse_checked,
    prompt,
    reference_model,
    run,
    run_cells,
)

from lumos_hf import LumosForCausalLM, LumosVideoPipeline, MaskDecodingScheduler
from lumos_hf.token_layout import grid_size, num_latent_frames


GUIDANCE_SCALE = 15.0
HISTORY_MASK_RATIO = 0.7
COLUMNS = (*RUN_COLUMNS, "size, frames, steps", "prompt tokens", *COMPARISON_COLUMNS)


def decoding_parser(description: str | None) -> argparse.ArgumentParser:
    parser = argument_parser(description)
    parser.add_argument("--steps", type=int, default=10)
    return parser


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    return parse_checked(decoding_parser(__doc__), arguments)


def size_cell(options: argparse.Namespace) -> str:
    return f"{options.width}x{options.height}, {options.num_frames}, {options.steps}"


def ours(
    model: LumosForCausalLM,
    input_ids: list[int] | list[list[int]],
    options: argparse.Namespace,
    greedy: bool,
    guidance_scale: float = GUIDANCE_SCALE,
) -> Callable[[], torch.Tensor]:
    temperature = 0.0 if greedy else 1.0
    scheduler = MaskDecodingScheduler(token_temperature=temperature, confidence_temperature=temperature)
    pipe = LumosVideoPipeline(tokenizer=None, transformer=model, vqvae=None, scheduler=scheduler)
    pipe.set_progress_bar_config(disable=True)
    return lambda: (
        pipe(
            input_ids=input_ids,
            height=options.height,
            width=options.width,
            num_frames=options.num_frames,
            # As one sequence, which rolling would cut.
            temporal_tile_size=max(options.num_frames, 5),
            fps=FPS,
            num_inference_steps=options.steps,
            guidance_scale=guidance_scale,
            history_mask_ratio=HISTORY_MASK_RATIO,
            output_type="latent",
        ).frames
    )


def theirs(
    model: LumosForCausalLM, input_ids: list[int], options: argparse.Namespace, greedy: bool
) -> Callable[[], torch.Tensor]:
    h, w = grid_size(options.height, options.width, model.config)
    model = reference_model(model, options)
    return lambda: reference.decode(
        model,
        input_ids,
        h=h,
        w=w,
        num_latent_frames=num_latent_frames(options.num_frames, model.config),
        fps=FPS,
        num_inference_steps=options.steps,
        guidance_scale=GUIDANCE_SCALE,
        history_mask_ratio=HISTORY_MASK_RATIO,
        greedy=greedy,
    )


def measure(name: str, options: argparse.Namespace) -> tuple[str, ...]:
    """One row of results."""
    model = build_model(name, options.device)
    input_ids = prompt(model.config, options)
    greedy_codes = [each(model, input_ids, options, greedy=True)() for each in (theirs, ours)]
    if not torch.equal(*greedy_codes):
        raise RuntimeError(f"{name}: greedy codes differ from the reference, so there is nothing to compare.")

    model = model.to(getattr(torch, options.dtype))
    functions = [each(model, input_ids, options, greedy=False) for each in (theirs, ours)]
    return (
        *run_cells(name, options),
        size_cell(options),
        str(options.prompt_tokens),
        *comparison_cells(*functions, options),
    )


def main(arguments: list[str] | None = None) -> None:
    run("Decoding (decode.py)", COLUMNS, measure, parse_arguments(arguments))


if __name__ == "__main__":
    main()
