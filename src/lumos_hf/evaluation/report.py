# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
One Markdown table and one picture of the runs of a benchmark: dimensions, totals and time, beside what others published.

The first run is what the others are compared with, sample by sample.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..files import whole_file, write_text
from ..hub.model_card import code_span, markdown_table, plain_text
from .benchmark_scores import BenchmarkScores, normalised, read_geneval_results, read_vbench_results
from .benchmarks import BENCHMARKS, GENEVAL, VBENCH_I2V
from .demo_benchmark import DEMO, SCORES_FILE, VERDICTS_FILE
from .paired_comparison import compare
from .published_scores import PUBLISHED
from .run_record import RunRecord


REPORT_FILE, PICTURE_FILE = "report.md", "report.png"
_I2V_NAMING = (
    "What is published as I2VBench at 24 frames, subject consistency 97.3 and background consistency 97.4, are these two "
    "dimensions of VBench-I2V."
)


@dataclass(frozen=True)
class ScoredRun:
    """
    Args:
        name: of its directory.
        made_by: what decides on its samples.
        made_on: devices and times.
        num_samples: that the run has.
        scores: of its samples.
    """

    name: str
    made_by: dict[str, Any]
    made_on: list[dict[str, Any]]
    num_samples: int
    scores: BenchmarkScores

    @property
    def seconds_per_sample(self) -> float | None:
        """Over all machines; None if nothing was measured."""
        count = sum(machine["num_samples"] for machine in self.made_on)
        return sum(machine["seconds"] for machine in self.made_on) / count if count else None


def read_runs(directories: Sequence[Path]) -> list[ScoredRun]:
    """
    Scored runs of one benchmark.

    Raises:
        ValueError: if there is none, one has no scores yet, or they are of several benchmarks.
    """
    if not directories:
        raise ValueError("`directories` must name at least one run, got none.")
    runs = [_read_run(directory) for directory in directories]
    benchmarks = sorted({run.scores.benchmark for run in runs})
    if len(benchmarks) > 1:
        raise ValueError(f"`directories` must hold runs of one benchmark, got {', '.join(benchmarks)}.")
    return runs


def _read_run(directory: Path) -> ScoredRun:
    record = RunRecord(directory)
    content = record.read()
    benchmark = content["made_by"]["benchmark"]
    if benchmark == DEMO:
        scores = _read_demo_scores(record.scores_directory)
    elif benchmark == GENEVAL:
        scores = read_geneval_results(record.scores_directory)
    else:
        scores = read_vbench_results(benchmark, record.scores_directory)
    return ScoredRun(directory.resolve().name, content["made_by"], content["made_on"], len(content["seeds"]), scores)


def _read_demo_scores(directory: Path) -> BenchmarkScores:
    try:
        tables = json.loads((directory / SCORES_FILE).read_text(encoding="utf-8"))
        verdicts = json.loads((directory / VERDICTS_FILE).read_text(encoding="utf-8"))
        dimensions = {title: table["generated"]["all"] for title, table in tables.items()}
    except FileNotFoundError:
        raise ValueError(f"'{directory}' must hold the scores of a demo run, but does not.") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"'{directory}' must hold the scores of a demo run, but is damaged: {error!r}.") from error
    samples: dict[str, dict[str, float]] = {}
    for file, is_right in verdicts.items():
        samples.setdefault(file.split("/")[0].replace("_", " "), {})[file] = float(is_right)
    return BenchmarkScores(DEMO, dimensions, {}, samples)


def write_report(runs: Sequence[ScoredRun], output: Path) -> Path:
    """
    Writes `report.md` and `report.png` into `output`.

    Args:
        runs: of [`read_runs`].
        output: directory.

    Returns:
        the path of the text.
    """
    with whole_file(output / PICTURE_FILE) as partial:
        _save_picture(runs, partial)
    write_text(output / REPORT_FILE, format_report(runs))
    return output / REPORT_FILE


def format_report(runs: Sequence[ScoredRun]) -> str:
    """The report as Markdown."""
    benchmark = runs[0].scores.benchmark
    title = "The demo's benchmark" if benchmark == DEMO else BENCHMARKS[benchmark].title
    parts = [f"# {title}", _format_runs(runs), _format_scores(runs), *_format_notes(runs)]
    parts += [_format_comparison(runs[0], run) for run in runs[1:]]
    published = _format_published(benchmark)
    if published:
        parts.append(published)
    return "\n\n".join([*parts, f"![Scores]({PICTURE_FILE})"]) + "\n"


def _format_runs(runs: Sequence[ScoredRun]) -> str:
    header = ["run", "checkpoint", "prompts", "samples", "settings", "device", "seconds per sample"]
    return markdown_table([header, *(_run_row(run, runs[0]) for run in runs)])


def _run_row(run: ScoredRun, first: ScoredRun) -> list[str]:
    seconds, baseline = run.seconds_per_sample, first.seconds_per_sample
    time = "" if seconds is None else f"{seconds:.2f}"
    if run is not first and seconds and baseline:
        time += f" (x{seconds / baseline:.2f})"
    settings = ", ".join(f"{name} {value}" for name, value in run.made_by.get("settings", {}).items())
    return [
        plain_text(run.name),
        code_span(str(run.made_by.get("revision", ""))[:19]),
        plain_text(run.made_by.get("protocol", "")),
        f"{run.num_samples:,}",
        plain_text(settings),
        plain_text(", ".join(dict.fromkeys(machine["device"] for machine in run.made_on))),
        time,
    ]


def _format_scores(runs: Sequence[ScoredRun]) -> str:
    """Dimensions as measured and, where totals take them so, normalised; then the totals."""
    benchmark = runs[0].scores.benchmark
    is_vbench = benchmark not in (GENEVAL, DEMO)
    header = ["", *(plain_text(run.name) for run in runs)]
    if is_vbench:
        header += [f"{plain_text(run.name)}, normalised" for run in runs]
    rows = [
        [plain_text(name.replace("_", " ")), *_cells(runs, name)]
        + ([_percent(_normalised_of(run, name)) for run in runs] if is_vbench else [])
        for name in dict.fromkeys(name for run in runs for name in run.scores.dimensions)
    ]
    rows += [
        [f"**{name}**", *(_percent(run.scores.totals.get(name)) for run in runs)] + [""] * (len(runs) * is_vbench)
        for name in dict.fromkeys(name for run in runs for name in run.scores.totals)
    ]
    return markdown_table([header, *rows])


def _cells(runs: Sequence[ScoredRun], name: str) -> list[str]:
    return [_percent(run.scores.dimensions.get(name)) for run in runs]


def _normalised_of(run: ScoredRun, name: str) -> float | None:
    value = run.scores.dimensions.get(name)
    return None if value is None else normalised(name, value)


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.2f}"


def _format_notes(runs: Sequence[ScoredRun]) -> list[str]:
    notes = [f"{plain_text(run.name)}: {note}" for run in runs for note in run.scores.notes]
    if runs[0].scores.benchmark != DEMO:
        notes += [
            f"{plain_text(run.name)}: no total, since these are missing: {', '.join(run.scores.missing)}."
            for run in runs
            if run.scores.missing
        ]
    if runs[0].scores.benchmark == VBENCH_I2V:
        notes.append(_I2V_NAMING)
    return notes


def _format_comparison(first: ScoredRun, second: ScoredRun) -> str:
    """What the second run loses and gains, sample by sample."""
    rows = [["", "pairs", "lost", "gained", "difference", "95% interval"]]
    for name, results in first.scores.samples.items():
        pair = compare(results, second.scores.samples.get(name, {}))
        if pair is not None:
            low, high = (f"{100 * bound:+.2f}" for bound in pair.interval)
            counts = [str(pair.num_pairs), str(pair.lost), str(pair.gained)]
            rows.append(
                [plain_text(name.replace("_", " ")), *counts, f"{100 * pair.difference:+.2f}", f"{low} to {high}"]
            )
    heading = f"{plain_text(second.name)} against {plain_text(first.name)}, by prompt and seed"
    return f"{heading}:\n\n{markdown_table(rows)}" if len(rows) > 1 else f"{heading}: no samples in common."


def _format_published(benchmark: str) -> str:
    published = [one for one in PUBLISHED if one.benchmark == benchmark]
    if not published:
        return ""
    names = list(dict.fromkeys(name for one in published for name in one.scores))
    header = ["published", *names, "prompts", "source"]
    rows = [
        [one.model, *(_percent(one.scores.get(name)) for name in names), one.prompts, one.source] for one in published
    ]
    return "Published figures, which hold for the prompts that were used:\n\n" + markdown_table([header, *rows])


def _save_picture(runs: Sequence[ScoredRun], path: Path) -> None:
    """Bars by dimension, normalised where totals take them so."""
    import numpy as np
    from matplotlib.figure import Figure

    is_vbench = runs[0].scores.benchmark not in (GENEVAL, DEMO)
    names = list(dict.fromkeys(name for run in runs for name in run.scores.dimensions))
    figure = Figure(figsize=(9, 1.2 + 0.3 * len(names) * max(1, len(runs) / 2)), layout="constrained")
    axes = figure.subplots()
    height = 0.8 / len(runs)
    for index, run in enumerate(runs):
        values = [
            (_normalised_of(run, name) if is_vbench else run.scores.dimensions.get(name)) or 0.0 for name in names
        ]
        axes.barh(np.arange(len(names)) + index * height, values, height, label=run.name)
    axes.set_yticks(np.arange(len(names)) + height * (len(runs) - 1) / 2, [name.replace("_", " ") for name in names])
    axes.invert_yaxis()
    axes.set(xlim=(0, 1), xlabel="normalised score" if is_vbench else "share that is right")
    axes.grid(axis="x", alpha=0.3)
    axes.legend(loc="lower right")
    figure.savefig(path, dpi=120, format="png")
