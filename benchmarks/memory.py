# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
Peak memory above the weights, as videos grow: of decoding codes, against a plain implementation of the official loop, and
of decoding pixels, all at once and as a stream.

    python benchmarks/memory.py
    python benchmarks/memory.py --device cuda --sizes 448x256 672x384

Codes: configuration V of measure.py, one step per latent frame, since no step leaves anything to the next. Pixels: the
Cosmos blocks at a small width, and a stream whose frames are dropped as they come. Rows are added to
benchmarks/RESULTS.md.
"""

import argparse
import datetime
from collections import deque
from pathlib import Path

import torch
from decode import ours, theirs
from measure import CONFIGURATIONS, build_model, device_name, peak_megabytes, prompt
from results import RESULTS, append_rows, table

from lumos_hf import CosmosVideoTokenizer


_HEAD = ("date", "device", "torch")
CODE_COLUMNS = (*_HEAD, "configuration", "size, frames", "reference peak MB", "ours peak MB", "ratio")
PIXEL_COLUMNS = (*_HEAD, "size, latent frames", "at once peak MB", "stream peak MB")


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--configuration", default="V", choices=CONFIGURATIONS)
    parser.add_argument("--sizes", nargs="+", default=["128x128", "256x256"], help="width x height in pixels")
    parser.add_argument("--frames", nargs="+", type=int, default=[1, 5, 9])
    parser.add_argument("--streamed-frames", nargs="+", type=int, default=[10, 30, 100], help="latent frames")
    parser.add_argument("--streamed-size", default="64x64")
    parser.add_argument("--prompt-tokens", type=int, default=200)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--results", type=Path, default=RESULTS)
    return parser.parse_args(arguments)


def width_and_height(size: str) -> tuple[int, int]:
    width, height = (int(side) for side in size.split("x"))
    return width, height


def head(options: argparse.Namespace) -> tuple[str, ...]:
    return datetime.date.today().isoformat(), device_name(options), torch.__version__


def measure_codes(options: argparse.Namespace) -> list[tuple[str, ...]]:
    model = build_model(options.configuration, options.device)
    input_ids = prompt(model.config, options)
    rows = []
    for size in options.sizes:
        width, height = width_and_height(size)
        for num_frames in options.frames:
            each = {
                **vars(options),
                "steps": 1,
                "same_layers": False,
                "width": width,
                "height": height,
                "num_frames": num_frames,
            }
            functions = [
                function(model, input_ids, argparse.Namespace(**each), greedy=False) for function in (theirs, ours)
            ]
            # What is set up once is no part of it.
            for function in functions:
                function()
            reference, own = (peak_megabytes(function, options.device) for function in functions)
            rows.append(
                (
                    *head(options),
                    options.configuration,
                    f"{size}, {num_frames}",
                    f"{reference:.0f}",
                    f"{own:.0f}",
                    f"{reference / max(own, 1e-3):.1f}",
                )
            )
            print(rows[-1], flush=True)
    return rows


@torch.no_grad()
def measure_pixels(options: argparse.Namespace) -> list[tuple[str, ...]]:
    torch.manual_seed(0)
    channels = (32, 64, 128, 128)
    vqvae = CosmosVideoTokenizer(encoder_block_out_channels=channels, decode_block_out_channels=channels)
    vqvae = vqvae.to(options.device).eval()
    width, height = width_and_height(options.streamed_size)
    rows = []
    for num_frames in options.streamed_frames:
        shape = (1, num_frames, height // 8, width // 8)
        codes = torch.randint(vqvae.codebook_size, shape, device=options.device)
        functions = (
            lambda codes=codes: vqvae.decode(codes),
            lambda codes=codes: deque(vqvae.decode_stream(codes.split(1, dim=1)), maxlen=0),
        )
        vqvae.decode(codes[:, :2])
        peaks = [peak_megabytes(function, options.device) for function in functions]
        rows.append((*head(options), f"{options.streamed_size}, {num_frames}", *(f"{peak:.0f}" for peak in peaks)))
        print(rows[-1], flush=True)
    return rows


def main(arguments: list[str] | None = None) -> None:
    options = parse_arguments(arguments)
    torch.set_num_threads(options.threads)
    for title, columns, measure in (
        ("Memory of decoding codes (memory.py)", CODE_COLUMNS, measure_codes),
        ("Memory of decoding pixels (memory.py)", PIXEL_COLUMNS, measure_pixels),
    ):
        rows = measure(options)
        print("\n" + table(columns, rows))
        append_rows(options.results, title, columns, rows)


if __name__ == "__main__":
    main()
