# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""Programs stand in for the scorers, which need a GPU; VBench's own is run in docs/evaluation.md."""

import json
import os
import sys

import pytest

from lumos_hf.evaluation.scorers import Scorer


EVALUATE_I2V = """
import json, sys
options = dict(zip(sys.argv[1::2], sys.argv[2::2]))
if options["--dimension"] == "camera_motion":
    print("no such weights")
    sys.exit(7)
results = {options["--dimension"]: [0.5, [{"video_path": options["--videos_path"], "video_results": 0.5}]]}
with open(options["--output_path"] + "/results_2026_eval_results.json", "w") as file:
    json.dump(results, file)
"""
EVALUATE_IMAGES = """
import sys
folder, _, outfile, _, detector = sys.argv[1:]
with open(outfile, "w") as file:
    file.write(f"{folder} {detector}\\n")
"""


@pytest.fixture
def repository(tmp_path):
    (tmp_path / "repository" / "evaluation").mkdir(parents=True)
    (tmp_path / "repository" / "evaluate_i2v.py").write_text(EVALUATE_I2V)
    (tmp_path / "repository" / "evaluation" / "evaluate_images.py").write_text(EVALUATE_IMAGES)
    return tmp_path / "repository"


@pytest.mark.slow
def test_a_scorer_that_dies_leaves_what_others_wrote(tmp_path, repository):
    samples, scores = tmp_path / "samples", tmp_path / "scores"
    samples.mkdir()
    scorer = Scorer("vbench-i2v", sys.executable, repository)
    scorer.check_installed()
    with pytest.raises(
        OSError, match="The scorer of camera_motion died with status 7; the end of .*\n.*no such weights"
    ):
        scorer.score(samples, scores, ["camera_motion", "i2v_subject"])
    assert sorted(path.name for path in scores.iterdir()) == [
        "camera_motion.log",
        "i2v_subject.log",
        "i2v_subject_eval_results.json",
    ]
    content = json.loads((scores / "i2v_subject_eval_results.json").read_text())
    assert content["i2v_subject"][0] == 0.5
    # What was measured is not measured again.
    (repository / "evaluate_i2v.py").write_text("raise SystemExit(1)")
    scorer.score(samples, scores, ["i2v_subject"])
    # Unless samples were made since.
    sample, results = samples / "a star-0.mp4", scores / "i2v_subject_eval_results.json"
    sample.touch()
    os.utime(sample, ns=(0, results.stat().st_mtime_ns + 1))
    with pytest.raises(OSError, match="The scorer of i2v_subject died with status 1"):
        scorer.score(samples, scores, ["i2v_subject"])


def test_a_scorer_that_writes_nothing_is_an_error(tmp_path, repository):
    (repository / "evaluate_i2v.py").write_text("")
    (tmp_path / "samples").mkdir()
    with pytest.raises(OSError, match="The scorer of i2v_subject ended without results"):
        Scorer("vbench-i2v", sys.executable, repository).score(
            tmp_path / "samples", tmp_path / "scores", ["i2v_subject"]
        )


def test_the_scorer_of_geneval(tmp_path, repository):
    samples, scores = tmp_path / "samples", tmp_path / "scores"
    samples.mkdir()
    scorer = Scorer("geneval", sys.executable, repository, tmp_path / "detector")
    scorer.check_installed()
    scorer.score(samples, scores, [])
    assert (scores / "results.jsonl").read_text() == f"{samples} {tmp_path / 'detector'}\n"
    (repository / "evaluation" / "evaluate_images.py").write_text("raise SystemExit(3)")
    scorer.score(samples, scores, [])
    (scores / "results.jsonl").unlink()
    with pytest.raises(OSError, match="The scorer of GenEval died with status 3"):
        scorer.score(samples, scores, [])
    assert not list(scores.glob("results*"))


@pytest.mark.parametrize("benchmark", ["geneval", "vbench-t2v", "vbench-i2v"])
def test_three_lines_say_what_to_install(tmp_path, benchmark):
    with pytest.raises(ValueError, match="is needed: `") as error:
        Scorer(benchmark, str(tmp_path / "no-python"), tmp_path).check_installed()
    assert len(str(error.value).splitlines()) == 3
    assert "--scorer-python" in str(error.value)
