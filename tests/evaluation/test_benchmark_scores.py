# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
import json

import pytest

from lumos_hf.evaluation.benchmark_scores import (
    normalised,
    read_geneval_results,
    read_vbench_results,
    vbench_totals,
)
from lumos_hf.evaluation.benchmarks import BENCHMARKS
from lumos_hf.evaluation.paired_comparison import compare

from .benchmark_files import GENEVAL_LINES


T2V = {
    "subject_consistency": 0.9,
    "background_consistency": 0.95,
    "temporal_flickering": 0.98,
    "motion_smoothness": 0.99,
    "dynamic_degree": 0.6,
    "aesthetic_quality": 0.6,
    "imaging_quality": 0.65,
    "object_class": 0.9,
    "multiple_objects": 0.6,
    "human_action": 0.95,
    "color": 0.85,
    "spatial_relationship": 0.7,
    "scene": 0.4111,
    "appearance_style": 0.1432,
    "temporal_style": 0.182,
    "overall_consistency": 0.273,
}
I2V = {
    "camera_motion": 0.5,
    "i2v_subject": 0.97,
    "i2v_background": 0.98,
    "subject_consistency": 0.95,
    "background_consistency": 0.96,
    "motion_smoothness": 0.98,
    "dynamic_degree": 0.4,
    "aesthetic_quality": 0.6,
    "imaging_quality": 0.7,
}


def test_the_totals_of_vbench_t2v_by_hand():
    """
    Normalised: (.9 - .1462) / .8538 = .88288, (.95 - .2615) / .7385 = .93230, (.98 - .6293) / .3707 = .94605,
    (.99 - .706) / .2915 = .97427, .6 (weight .5), .6, .65.
    Quality: (.88288 + .93230 + .94605 + .97427 + .5 * .6 + .6 + .65) / 6.5 = 5.28550 / 6.5 = .81315.
    Normalised: .9, .6, .95, .85, .7, .4111 / .8222 = .5, (.1432 - .0009) / .2846 = .5, .182 / .364 = .5, .273 / .364 = .75.
    Semantic: 6.25 / 9 = .69444. Total: (4 * .81315 + .69444) / 5 = 3.94706 / 5 = .78941.
    """
    totals = vbench_totals("vbench-t2v", T2V)
    assert totals["quality"] == pytest.approx(0.81315, abs=1e-5)
    assert totals["semantic"] == pytest.approx(0.69444, abs=1e-5)
    assert totals["total"] == pytest.approx(0.78941, abs=1e-5)


def test_the_totals_of_vbench_i2v_by_hand():
    """
    Normalised: .5 (weight .1), (.97 - .1462) / .8538 = .96486, (.98 - .2615) / .7385 = .97292.
    I2V: (.05 + .96486 + .97292) / 2.1 = 1.98778 / 2.1 = .94656.
    Normalised: (.95 - .1462) / .8538 = .94144, (.96 - .2615) / .7385 = .94584, (.98 - .706) / .2915 = .93997,
    .4 (weight .5), .6, .7.
    Quality: (.94144 + .94584 + .93997 + .2 + .6 + .7) / 5.5 = 4.32725 / 5.5 = .78677. Total: (.94656 + .78677) / 2 = .86667.
    """
    totals = vbench_totals("vbench-i2v", {**I2V, "temporal_flickering": 0.1})
    assert totals["i2v"] == pytest.approx(0.94656, abs=1e-5)
    assert totals["quality"] == pytest.approx(0.78677, abs=1e-5)
    assert totals["total"] == pytest.approx(0.86667, abs=1e-5)


def geneval_line(tag, is_correct, number, index, metadata=None, found=None):
    return {
        "filename": f"run/samples/{number:05d}/samples/{index:05d}.png",
        "tag": tag,
        "prompt": "a photo",
        "correct": is_correct,
        "reason": "",
        "metadata": json.dumps(metadata or {"tag": tag, "include": [], "exclude": []}),
        "details": json.dumps(found or {}),
    }


def write_geneval_results(directory, lines):
    directory.mkdir(exist_ok=True)
    (directory / "results.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return directory


# How many of how many images are right, by task.
COUNTS = {
    "single_object": (4, 4),
    "two_object": (3, 4),
    "counting": (2, 4),
    "colors": (7, 8),
    "position": (1, 4),
    "color_attr": (1, 2),
}


def test_the_overall_score_of_geneval_by_hand(tmp_path):
    """(4/4 + 3/4 + 2/4 + 7/8 + 1/4 + 1/2) / 6 = 3.875 / 6 = .64583, and not 18 of 26 images = .69231."""
    lines = [
        geneval_line(tag, index < right, number, index)
        for number, (tag, (right, count)) in enumerate(COUNTS.items())
        for index in range(count)
    ]
    scores = read_geneval_results(write_geneval_results(tmp_path / "scores", lines))
    assert scores.dimensions == {tag: right / count for tag, (right, count) in COUNTS.items()}
    assert scores.totals["overall"] == pytest.approx(0.64583, abs=1e-5)
    assert scores.notes == () and scores.missing == []


def test_counting_is_scored_by_the_metadata_of_the_benchmark(tmp_path):
    """The official metadata takes three hearts for two; the objects that the scorer found tell them apart."""
    metadata, box = GENEVAL_LINES[1], [0, 0, 1, 1, 0.9]
    lines = [
        geneval_line("counting", True, 1, index, metadata, {"heart": [box] * count})
        for index, count in enumerate((2, 3, 4))
    ]
    lines.append(geneval_line("counting", False, 1, 3, metadata, {"heart": [box]}))
    scores = read_geneval_results(write_geneval_results(tmp_path / "scores", lines))
    assert scores.dimensions == {"counting": 0.25}
    assert scores.samples["counting"]["00001/samples/00000.png"] == 1
    assert "4 counting images were scored without what their prompt excludes" in scores.notes[0]
    assert "2 of them are wrong that were right" in scores.notes[0]


def write_vbench_results(directory, dimensions):
    directory.mkdir(parents=True, exist_ok=True)
    for name, value in dimensions.items():
        videos = [{"video_path": f"samples/a star-{index}.mp4", "video_results": value} for index in range(2)]
        (directory / f"{name}_eval_results.json").write_text(json.dumps({name: [value, videos]}))
    return directory


def test_results_that_lack_a_dimension_give_no_total(tmp_path):
    directory = write_vbench_results(tmp_path / "scores", {k: v for k, v in T2V.items() if k != "color"})
    scores = read_vbench_results("vbench-t2v", directory)
    assert scores.missing == ["color"]
    assert scores.totals.keys() == {"quality"}
    assert list(scores.dimensions) == [name for name in BENCHMARKS["vbench-t2v"].dimensions if name != "color"]
    assert scores.samples["scene"] == {"a star-0.mp4": 0.4111, "a star-1.mp4": 0.4111}


def test_what_is_measured_on_clips_of_a_video_counts_by_its_mean(tmp_path):
    (tmp_path / "x_eval_results.json").write_text(
        json.dumps({"i2v_subject": [0.5, [{"video_path": "a.mp4", "video_results": [0.25, 0.75]}]]})
    )
    assert read_vbench_results("vbench-i2v", tmp_path).samples == {"i2v_subject": {"a.mp4": 0.5}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "must be a result file of VBench"),
        ('{"scene": 0.5}', "must be a result file of VBench"),
        ('{"i2v_subject": [0.5, []]}', "must hold dimensions of vbench-t2v, got 'i2v_subject'"),
        ('{"color": [0.5, []]}', "results of 'color', which another file beside it has as well"),
    ],
)
def test_result_files_that_cannot_be_used_are_refused(tmp_path, content, message):
    write_vbench_results(tmp_path, {"color": 0.5})
    (tmp_path / "other_eval_results.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        read_vbench_results("vbench-t2v", tmp_path)


def test_no_results_are_refused(tmp_path):
    with pytest.raises(ValueError, match="must hold results of a scorer"):
        read_vbench_results("vbench-t2v", tmp_path)
    with pytest.raises(ValueError, match="must hold results of GenEval's scorer"):
        read_geneval_results(tmp_path)
    (tmp_path / "results.jsonl").write_text('{"tag": "counting"}\n')
    with pytest.raises(ValueError, match="must be a result file of GenEval"):
        read_geneval_results(tmp_path)


def test_the_ends_of_the_ranges():
    assert normalised("appearance_style", 0.0009) == 0 and normalised("appearance_style", 0.2855) == 1
    assert normalised("color", 0.3) == 0.3


def test_pairs_by_hand():
    """Differences -1, 0, 0, 1, 1: mean .2, squares 1.44 + .04 + .04 + .64 + .64 = 2.8, / 4 = .7; 1.96 * sqrt(.7 / 5) = .73336."""
    first = {"a": 1, "b": 1, "c": 0, "d": 0, "e": 0, "only here": 1}
    second = {"a": 0, "b": 1, "c": 0, "d": 1, "e": 1, "only there": 0}
    pair = compare(first, second)
    assert (pair.num_pairs, pair.lost, pair.gained) == (5, 1, 2)
    assert pair.difference == pytest.approx(0.2)
    assert pair.interval == pytest.approx((0.2 - 0.73336, 0.2 + 0.73336), abs=1e-5)
    assert compare(first, {"a": 1}) is None
