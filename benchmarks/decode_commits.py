# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
Processor time to decode one video: an earlier commit against the working tree, in one run.

    python benchmarks/decode_commits.py 7e968a1          # configurations V and P, float32
    python benchmarks/decode_commits.py 7e968a1 P --height 128 --width 128 --runs 7

Options after the commit are those of decode.py; CPU only. Each side is a process of its own, and the two take turns. Before
anything is timed, both decode the same video greedily and once more with drawn codes from the same seed; how many codes are
equal is part of the row.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from decode import ours, parse_arguments, size_cell
from measure import RUN_COLUMNS, build_model, median_and_range, prompt, run_cells, seconds
from results import append_rows, table


ROOT = Path(__file__).parents[1]
COLUMNS = (
    *RUN_COLUMNS,
    "size, frames, steps",
    "before",
    "runs",
    "before s",
    "now s",
    "ratio (range)",
    "equal greedy codes",
    "equal drawn codes",
)


def serve(options: argparse.Namespace) -> None:
    """Decodes for the process that started this one: a line with a configuration and a way in, a line of results out."""
    torch.set_num_threads(options.threads)
    models = {name: build_model(name, "cpu").to(getattr(torch, options.dtype)) for name in options.configurations}
    for line in sys.stdin:
        name, way = line.split()
        decode = ours(models[name], prompt(models[name].config, options), options, greedy=way == "greedy")
        torch.manual_seed(0)
        result = seconds(decode, "cpu") if way == "timed" else decode().flatten().tolist()
        print(json.dumps(result), flush=True)


class Side:
    """A process that decodes with the package of a source tree."""

    def __init__(self, source: Path, arguments: Sequence[str]):
        self._process = subprocess.Popen(
            [sys.executable, __file__, "serve", *arguments],
            env={**os.environ, "PYTHONPATH": str(source)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def decode(self, name: str, way: str) -> Any:
        """Codes, or seconds if the way is "timed"."""
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("The process has no pipes.")
        print(name, way, file=self._process.stdin, flush=True)
        return json.loads(self._process.stdout.readline())

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


@contextmanager
def sides(commit: str, arguments: Sequence[str]) -> Iterator[tuple[Side, Side]]:
    with TemporaryDirectory() as folder:
        archive = subprocess.run(["git", "-C", ROOT, "archive", commit, "src"], check=True, capture_output=True).stdout
        subprocess.run(["tar", "-x", "-C", folder], input=archive, check=True)
        before, now = (Side(root / "src", arguments) for root in (Path(folder), ROOT))
        try:
            yield before, now
        finally:
            before.stop()
            now.stop()


def share_of_equal(before: list[int], now: list[int]) -> str:
    return f"{sum(x == y for x, y in zip(before, now, strict=True))} of {len(before)}"


def measure(name: str, commit: str, before: Side, now: Side, options: argparse.Namespace) -> tuple[str, ...]:
    """One row of results."""
    equal = [share_of_equal(*(side.decode(name, way) for side in (before, now))) for way in ("greedy", "drawn")]
    times = [[side.decode(name, "timed") for side in (before, now)] for _ in range(options.runs)]
    ratios = [old / new for old, new in times]
    medians = [statistics.median(column) for column in zip(*times, strict=True)]
    return (
        *run_cells(name, options),
        size_cell(options),
        commit,
        str(options.runs),
        *(f"{median:.2f}" for median in medians),
        median_and_range(ratios),
        *equal,
    )


def main(arguments: list[str] | None = None) -> None:
    commit, *rest = sys.argv[1:] if arguments is None else arguments
    options = parse_arguments(rest)
    if commit == "serve":
        serve(options)
        return
    with sides(commit, rest) as (before, now):
        rows = [measure(name, commit, before, now, options) for name in options.configurations]
    print(table(COLUMNS, rows))
    append_rows(options.results, "Decoding, against an earlier commit (decode_commits.py)", COLUMNS, rows)


if __name__ == "__main__":
    main()
