# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
import PIL.Image
import pytest
from typer.testing import CliRunner

from lumos_hf.cli import app
from lumos_hf.evaluation.report import read_runs
from lumos_hf.files import write_json

from .test_benchmark_scores import COUNTS, I2V, T2V, geneval_line, write_geneval_results, write_vbench_results


def make_run(directory, benchmark, seconds=2.0):
    machine = {"device": "a card", "versions": {}, "num_samples": 4, "seconds": 4 * seconds}
    made_by = {"benchmark": benchmark, "protocol": "official", "revision": "abc", "settings": {"height": 384}}
    write_json(directory / "run.json", {"made_by": made_by, "made_on": [machine], "seeds": {}})
    return directory


def report(*directories, output=None):
    options = [] if output is None else ["--output", str(output)]
    result = CliRunner().invoke(app, ["evaluate", "report", *map(str, directories), *options])
    assert result.exit_code == 0, result.output
    return ((output or directories[0]) / "report.md").read_text(encoding="utf-8")


def cells(text, beginning):
    line = next(line for line in text.splitlines() if line.startswith(f"| {beginning} |"))
    return [cell.strip() for cell in line.split("|")[2:-1]]


@pytest.mark.slow
def test_the_report_of_vbench_t2v(tmp_path):
    first, second = (
        make_run(tmp_path / name, "vbench-t2v", seconds) for name, seconds in (("exact", 2.0), ("fast", 1.0))
    )
    write_vbench_results(first / "scores", T2V)
    write_vbench_results(second / "scores", {**T2V, "color": 0.75})
    text = report(first, second)
    assert cells(text, "subject consistency") == ["90.00", "90.00", "88.29", "88.29"]
    assert cells(text, "color")[:2] == ["85.00", "75.00"]
    assert cells(text, "\\*\\*total\\*\\*".replace("\\", ""))[0] == "78.94"
    assert cells(text, "fast")[-1] == "1.00 (x0.50)"
    comparison = text[text.index("fast against exact, by prompt and seed") :]
    assert cells(comparison, "color") == ["2", "2", "0", "-10.00", "-10.00 to -10.00"]
    assert cells(text, "InfinityStar 8B") == ["83.74", "not said", "README of FoundationVision/InfinityStar"]
    with PIL.Image.open(first / "report.png") as picture:
        assert picture.width > 500


@pytest.mark.slow
def test_the_report_of_vbench_i2v_names_the_dimensions_of_i2vbench(tmp_path):
    run = make_run(tmp_path / "run", "vbench-i2v")
    write_vbench_results(run / "scores", {k: v for k, v in I2V.items() if k != "camera_motion"})
    text = report(run, output=tmp_path / "report")
    assert "subject consistency 97.3 and background consistency 97.4, are these two dimensions of VBench-I2V" in text
    assert "no total, since these are missing: camera_motion, temporal_flickering." in text
    assert "**quality**" in text and "**total**" not in text


@pytest.mark.slow
def test_the_report_of_geneval(tmp_path):
    run = make_run(tmp_path / "run", "geneval")
    lines = [
        geneval_line(tag, index < right, number, index, {"tag": tag, "include": [{"class": "heart", "count": 2}]})
        for number, (tag, (right, count)) in enumerate(COUNTS.items())
        for index in range(count)
    ]
    write_geneval_results(run / "scores", lines)
    text = report(run)
    assert cells(text, "**overall**") == ["64.58"]
    assert "were scored without what their prompt excludes" in text
    assert cells(text, "URSA 1.7B")[1] == "original"


def test_runs_that_cannot_be_reported_are_refused(tmp_path):
    runs = [make_run(tmp_path / name, name) for name in ("vbench-t2v", "vbench-i2v", "geneval")]
    write_vbench_results(runs[0] / "scores", T2V)
    write_vbench_results(runs[1] / "scores", I2V)
    with pytest.raises(ValueError, match="runs of one benchmark, got vbench-i2v, vbench-t2v"):
        read_runs(runs[:2])
    with pytest.raises(ValueError, match="must hold results of GenEval's scorer"):
        read_runs(runs[2:])
    with pytest.raises(ValueError, match="must be the directory of a run, but has no run.json"):
        read_runs([tmp_path])
    (runs[0] / "run.json").write_text("{}")
    with pytest.raises(ValueError, match="must describe samples of `lumos-hf evaluate`"):
        read_runs(runs[:1])
