# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
What holds of a grid of `ablate.py`: differences of two arms, paired by seed, with 95% intervals.

    python examples/demo_world/ablation_differences.py outputs/ablation

Arms of one seed share initial weights, clips and captions. The interval is that of a t test over the seeds; many rows are
shown, so that one in twenty may miss zero by chance.
"""

import argparse
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from ablate import PROMISES, SEEN_LAYOUT, UNSEEN_LAYOUT
from scipy import stats


BASE = "mm_rope-tube"
# As the pipeline masks by default, and not at all.
MASKED, UNMASKED = "0.7", "0.0"
HEADER = ("compared", "figure", "difference", "95% interval", "seeds that agree", "decided")

Result = dict[str, Any]
Figure = Callable[[Result], float]


def figures(history: str) -> dict[str, Figure]:
    """Figures of a run whose history is masked at this ratio in generation; losses in nats, scores as shares."""
    return {
        "loss": lambda run: fmean(run["losses"][history]),
        f"loss, {SEEN_LAYOUT}": lambda run: fmean(run["layout_losses"][SEEN_LAYOUT][history]),
        f"loss, {UNSEEN_LAYOUT}": lambda run: fmean(run["layout_losses"][UNSEEN_LAYOUT][history]),
        "loss, last frame": lambda run: run["losses"][history][-1],
        "mean of the promises": lambda run: fmean(run["scores"][history][name] for name in PROMISES),
        "shape": lambda run: run["scores"][history]["shape"],
        "motion": lambda run: run["scores"][history]["motion"],
        "all": lambda run: run["scores"][history]["all"],
    }


def read_runs(folder: Path) -> dict[str, dict[int, Result]]:
    """Finished runs by arm and seed."""
    runs: dict[str, dict[int, Result]] = {}
    for file in sorted(folder.glob("*_rope-*-*.json")) + sorted(folder.glob("rope_*-*-*.json")):
        arm, _, seed = file.stem.rpartition("-")
        runs.setdefault(arm, {})[int(seed)] = json.loads(file.read_text(encoding="utf-8"))
    return runs


def difference_row(compared: str, figure: str, differences: list[float]) -> tuple[str, ...]:
    """Cells of `HEADER`; differences are one per seed, at least two."""
    mean, count = fmean(differences), len(differences)
    reach = float(stats.t.ppf(0.975, count - 1)) * stdev(differences) / math.sqrt(count)
    agreeing = sum(difference * mean > 0 for difference in differences)
    is_decided = abs(mean) > reach
    return (
        compared,
        figure,
        f"{mean:+.3f}",
        f"±{reach:.3f}",
        f"{agreeing} of {count}",
        "yes" if is_decided else "no",
    )


def rows_between_arms(runs: dict[str, dict[int, Result]]) -> Iterator[tuple[str, ...]]:
    """Every other arm minus the base, over the seeds that both have."""
    for arm, by_seed in runs.items():
        shared = sorted(by_seed.keys() & runs[BASE].keys())
        if arm == BASE or len(shared) < 2:
            continue
        for name, figure in _known(figures(MASKED), by_seed[shared[0]]):
            differences = [figure(by_seed[seed]) - figure(runs[BASE][seed]) for seed in shared]
            yield difference_row(f"{arm} minus {BASE}", name, differences)


def rows_of_the_history(runs: dict[str, dict[int, Result]]) -> Iterator[tuple[str, ...]]:
    """Generation with the whole history minus generation with a masked one, within each arm."""
    for arm, by_seed in runs.items():
        if len(by_seed) < 2:
            continue
        masked = dict(_known(figures(MASKED), next(iter(by_seed.values()))))
        for name, figure in figures(UNMASKED).items():
            if name in masked:
                differences = [figure(run) - masked[name](run) for run in by_seed.values()]
                yield difference_row(f"{arm}: history whole minus masked at {MASKED}", name, differences)


def _known(named: dict[str, Figure], run: Result) -> list[tuple[str, Figure]]:
    """Without those of layouts that the grid does not have."""
    return [(name, figure) for name, figure in named.items() if run["layout_losses"] or "latent frames" not in name]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="output of ablate.py")
    runs = read_runs(parser.parse_args(arguments).folder)
    if len(runs.get(BASE, {})) < 2:
        parser.error(f"there must be runs of {BASE} with two seeds at least")
    for cells in (HEADER, ["---"] * len(HEADER), *rows_between_arms(runs), *rows_of_the_history(runs)):
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
