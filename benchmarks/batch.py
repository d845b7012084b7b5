# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
Seconds to decode a batch of videos in one call against as many calls of one.

    python benchmarks/batch.py P --height 128 --width 128 --batch-size 8

Options are those of decode.py; prompts differ within a batch, their lengths do not. On a CPU, one call of a video has as
many rows in a product as it needs to run at full rate, so a batch saves little there.
"""

import argparse

import torch
from decode import decoding_parser, ours, size_cell
from measure import RUN_COLUMNS, build_model, comparison_cells, parse_checked, run, run_cells, text_ids

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


def measure(name: str, options: argparse.Namespace) -> tuple[str, ...]:
    """One row of results."""
    model = build_model(name, options.device).to(getattr(torch, options.dtype))
    text = text_ids(options)
    prompts = [prompt_ids([number, *text[1:]], model.config) for number in range(1, options.batch_size + 1)]
    singles = [ours(model, prompt, options, greedy=False) for prompt in prompts]
    return (
        *run_cells(name, options),
        size_cell(options),
        str(options.batch_size),
        *comparison_cells(
            lambda: [decode() for decode in singles], ours(model, prompts, options, greedy=False), options
        ),
    )


def main(arguments: list[str] | None = None) -> None:
    parser = decoding_parser(__doc__)
    parser.add_argument("--batch-size", type=int, default=8)
    run("A batch against single calls (batch.py)", COLUMNS, measure, parse_checked(parser, arguments))


if __name__ == "__main__":
    main()
