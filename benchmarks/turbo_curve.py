# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
The picture of docs/speed.md: time against score of the lossy options, from the rows that approximations.py wrote.

    python benchmarks/turbo_curve.py --since 2026-12-01

Of each option the last row counts that scored all held-out prompts since the given day. Scores have 95% intervals.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

from results import RESULTS

from lumos_hf.evaluation.score import NUM_PAIRS, NUM_SINGLES, wilson_interval


PICTURE = Path(__file__).parents[1] / "docs" / "assets" / "turbo.png"
PROMPTS = f"held-out, {NUM_SINGLES} + {NUM_PAIRS}"
ALLOWED_LOSS, ALLOWED_TIME = 0.01, 1 / 6


@dataclass(frozen=True)
class Point:
    """An option: its time relative to exact decoding, and its share of clips that are right in everything."""

    option: str
    time: float
    score: float


def read_points(results: Path, since: str) -> list[Point]:
    """
    The options that were scored on all held-out prompts since a day, `YYYY-MM-DD`.

    Raises:
        ValueError: if exact decoding, which the others are compared with, is not among them.
    """
    points = {}
    for line in results.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 9 and cells[2] == PROMPTS and cells[0] >= since:
            right = NUM_SINGLES * float(cells[4]) + NUM_PAIRS * float(cells[5])
            points[cells[3]] = Point(cells[3], float(cells[7].split()[0]), right / (NUM_SINGLES + NUM_PAIRS))
    if "exact" not in points:
        raise ValueError(f"`since` must leave a row of exact decoding in '{results}', got {since!r}.")
    return list(points.values())


def save_picture(points: list[Point], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot(
        xlabel="time of transformer and scheduler, exact = 1", ylabel="clips right in everything"
    )
    for point in points:
        low, high = wilson_interval(point.score, NUM_SINGLES + NUM_PAIRS)
        axes.errorbar(point.time, point.score, [[point.score - low], [high - point.score]], fmt="o", capsize=3)
        axes.annotate(point.option, (point.time, point.score), xytext=(6, 4), textcoords="offset points", fontsize=8)
    exact = next(point for point in points if point.option == "exact")
    axes.axhline(exact.score - ALLOWED_LOSS, color="grey", linestyle=":")
    axes.axvline(ALLOWED_TIME, color="grey", linestyle=":")
    axes.set_xlim(0, 1.25)
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--since", required=True, help="YYYY-MM-DD: the day of the first row")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--output", type=Path, default=PICTURE)
    options = parser.parse_args(arguments)
    save_picture(read_points(options.results, options.since), options.output)


if __name__ == "__main__":
    main()
