# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
From what the benchmarks' scorers wrote to the figures that are published: means of tasks, normalised dimensions, totals.

The formulas and their constants are those of VBench (scripts/constant.py, cal_final_score.py, cal_i2v_final_score.py) and
of GenEval (evaluation/summary_scores.py). All figures are shares from 0 to 1.
"""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .benchmarks import BENCHMARKS, FLICKERING, GENEVAL, VBENCH_I2V, VBENCH_T2V, geneval_metadata


GENEVAL_RESULTS = "results.jsonl"
VBENCH_RESULTS_SUFFIX = "_eval_results.json"

# Dimensions are normalised from this range to [0, 1]; those that are not named lie in it as they are.
_RANGES = {
    "subject_consistency": (0.1462, 1.0),
    "background_consistency": (0.2615, 1.0),
    FLICKERING: (0.6293, 1.0),
    "motion_smoothness": (0.706, 0.9975),
    "scene": (0.0, 0.8222),
    "appearance_style": (0.0009, 0.2855),
    "temporal_style": (0.0, 0.364),
    "overall_consistency": (0.0, 0.364),
    "i2v_subject": (0.1462, 1.0),
    "i2v_background": (0.2615, 1.0),
}
_WEIGHTS = {"dynamic_degree": 0.5, "camera_motion": 0.1}
_PARTS = {
    VBENCH_T2V: {"quality": BENCHMARKS[VBENCH_T2V].dimensions[:7], "semantic": BENCHMARKS[VBENCH_T2V].dimensions[7:]},
    # Flickering is measured, but in no total.
    VBENCH_I2V: {"i2v": BENCHMARKS[VBENCH_I2V].dimensions[:3], "quality": BENCHMARKS[VBENCH_I2V].dimensions[3:9]},
}
_PART_WEIGHTS = {VBENCH_T2V: {"quality": 4.0, "semantic": 1.0}, VBENCH_I2V: {"i2v": 1.0, "quality": 1.0}}


@dataclass(frozen=True)
class BenchmarkScores:
    """
    Args:
        benchmark: its name.
        dimensions: as the scorer gives them, in the benchmark's order; missing ones are left out.
        totals: `"overall"` of GenEval; `"quality"`, `"semantic"` or `"i2v"`, and `"total"` of VBench; only those for
            which nothing is missing.
        samples: the result of each sample, by dimension and file name.
        notes: what a reader must know.
    """

    benchmark: str
    dimensions: Mapping[str, float]
    totals: Mapping[str, float]
    samples: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def missing(self) -> list[str]:
        return [name for name in BENCHMARKS[self.benchmark].dimensions if name not in self.dimensions]


def normalised(dimension: str, value: float) -> float:
    """A dimension of VBench from the range of its published results to [0, 1]."""
    low, high = _RANGES.get(dimension, (0.0, 1.0))
    return (value - low) / (high - low)


def vbench_totals(benchmark: str, dimensions: Mapping[str, float]) -> dict[str, float]:
    """
    The totals of VBench-T2V or VBench-I2V.

    `part = sum(weight * normalised) / sum(weight)` over the dimensions of a part; T2V: `(4 quality + semantic) / 5`, I2V:
    `(i2v + quality) / 2`. A part that lacks a dimension is left out, and the total with it; the scripts of VBench would
    count 0 for it.
    """
    totals = {}
    for part, names in _PARTS[benchmark].items():
        if all(name in dimensions for name in names):
            weights = {name: _WEIGHTS.get(name, 1.0) for name in names}
            weighted = sum(weights[name] * normalised(name, dimensions[name]) for name in names)
            totals[part] = weighted / sum(weights.values())
    part_weights = _PART_WEIGHTS[benchmark]
    if len(totals) == len(part_weights):
        totals["total"] = sum(part_weights[part] * totals[part] for part in part_weights) / sum(part_weights.values())
    return totals


def read_vbench_results(benchmark: str, scores_directory: Path) -> BenchmarkScores:
    """
    Puts together what VBench wrote, one or more `*_eval_results.json`.

    Raises:
        ValueError: if there is no result, one is damaged, of another benchmark, or there twice.
    """
    dimensions: dict[str, float] = {}
    samples: dict[str, dict[str, float]] = {}
    for path in sorted(scores_directory.glob(f"*{VBENCH_RESULTS_SUFFIX}")):
        for name, (value, videos) in _read_results(path).items():
            if name not in BENCHMARKS[benchmark].dimensions:
                raise ValueError(f"'{path}' must hold dimensions of {benchmark}, got {name!r}.")
            if name in dimensions:
                raise ValueError(f"'{path}' has results of {name!r}, which another file beside it has as well.")
            dimensions[name] = value
            samples[name] = videos
    if not dimensions:
        raise ValueError(
            f"'{scores_directory}' must hold results of a scorer, *{VBENCH_RESULTS_SUFFIX}, but has none."
        )
    ordered = {name: dimensions[name] for name in BENCHMARKS[benchmark].dimensions if name in dimensions}
    return BenchmarkScores(benchmark, ordered, vbench_totals(benchmark, ordered), samples)


def _read_results(path: Path) -> dict[str, tuple[float, dict[str, float]]]:
    """By dimension, the mean and the result of each video, by its name."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {
            name: (
                float(value),
                {Path(video["video_path"]).name: _video_result(video["video_results"]) for video in videos},
            )
            for name, (value, videos, *_) in content.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"'{path}' must be a result file of VBench, but cannot be read as one: {error!r}.") from error


def _video_result(value: Any) -> float:
    """Of a dimension that measures clips of a video, the mean."""
    return float(sum(value) / len(value)) if isinstance(value, list) else float(value)


def read_geneval_results(scores_directory: Path) -> BenchmarkScores:
    """
    Reads what GenEval's evaluate_images.py wrote.

    Where the scorer read the official release's metadata, which lack what counting prompts exclude, the found objects
    are compared with the benchmark's own; a note says so.

    Raises:
        ValueError: if there is no such file, or it is damaged.
    """
    path = scores_directory / GENEVAL_RESULTS
    if not path.is_file():
        raise ValueError(
            f"'{scores_directory}' must hold results of GenEval's scorer, {GENEVAL_RESULTS}, but does not."
        )
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        verdicts = [_judged_by_the_standard(line) for line in lines]
        samples: dict[str, dict[str, float]] = defaultdict(dict)
        for line, (is_correct, _) in zip(lines, verdicts, strict=True):
            samples[line["tag"]]["/".join(Path(line["filename"]).parts[-3:])] = float(is_correct)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"'{path}' must be a result file of GenEval, but cannot be read as one: {error!r}."
        ) from error
    tasks = BENCHMARKS[GENEVAL].dimensions
    dimensions = {tag: _mean(list(samples[tag].values())) for tag in tasks if samples.get(tag)}
    totals = {"overall": _mean(list(dimensions.values()))} if len(dimensions) == len(tasks) else {}
    changed = sum(is_changed for _, is_changed in verdicts)
    lenient = sum("exclude" not in json.loads(line["metadata"]) for line in lines if line["tag"] == "counting")
    notes = (
        (
            f"{lenient} counting images were scored without what their prompt excludes, as in the official metadata: judged "
            f"by GenEval's own, {changed} of them are wrong that were right.",
        )
        if lenient
        else ()
    )
    return BenchmarkScores(GENEVAL, dimensions, totals, samples, notes)


def _judged_by_the_standard(line: Mapping[str, Any]) -> tuple[bool, bool]:
    """Whether an image is right, and whether the scorer thought otherwise."""
    scored_by = json.loads(line["metadata"])
    found = json.loads(line["details"])
    excluded = geneval_metadata({**scored_by, "prompt": line["prompt"]}).get("exclude", [])
    has_too_many = any(len(found.get(one["class"], [])) >= one["count"] for one in excluded)
    return bool(line["correct"]) and not has_too_many, bool(line["correct"]) and has_too_many


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
