# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""The demo's benchmark, with a checkpoint that knows nothing."""

import json
import shutil

import numpy as np
import PIL.Image
import pytest
import torch
from typer.testing import CliRunner

from lumos_hf import LumosVideoPipeline, demo_checkpoint
from lumos_hf.cli import app
from lumos_hf.evaluation.clips import draw_clip
from lumos_hf.evaluation.demo_benchmark import plan_demo, score_demo
from lumos_hf.evaluation.sample_media import read_strip, write_strip
from lumos_hf.evaluation.score import README_MOVEMENT, README_SPEC, README_STILL, tasks


@pytest.mark.slow
def test_the_plan_has_the_seeds_that_the_figures_of_the_card_come_from():
    samples = plan_demo(tasks())
    assert len(samples) == 200 + 100 + 4 * 100 + 12
    assert len({sample.file for sample in samples}) == len(samples)
    assert all(sample.seed == sample.row for sample in samples)


def test_strips_lose_nothing(tmp_path):
    clip = draw_clip(README_SPEC)
    write_strip(tmp_path / "clip.png", [PIL.Image.fromarray(frame) for frame in clip])
    np.testing.assert_array_equal(read_strip(tmp_path / "clip.png", len(clip[0])), clip)


@pytest.mark.slow
def test_true_clips_are_right_and_the_table_has_the_controls(tmp_path):
    """Without a generator: the clips themselves are the samples."""
    chosen = tasks(share=0.02)
    for sample in plan_demo(chosen):
        specs = {task.title: task.specs for task in chosen}.get(sample.group)
        clip = draw_clip(README_SPEC if specs is None else specs[sample.row])
        write_strip(tmp_path / "samples" / sample.file, [PIL.Image.fromarray(frame) for frame in clip])
    pipe = LumosVideoPipeline.from_pretrained(demo_checkpoint())
    report, num_right = score_demo(pipe, chosen, tmp_path / "samples", tmp_path / "scores")
    assert num_right == 12
    for task in chosen:
        rows = report[task.title]
        assert rows["generated"] == rows["true clips"] and rows["generated"]["all"] == 1
        assert ("last given frame repeated" in rows) == bool(task.num_given)
    verdicts = json.loads((tmp_path / "scores" / "verdicts.json").read_text())
    assert len(verdicts) == len(plan_demo(chosen)) and all(verdicts.values())


@pytest.mark.slow
def test_the_command_goes_on_where_it_was_and_reports(tmp_path, checkpoint):
    command = ["evaluate", "demo", "--model", str(checkpoint), "--limit", "1", "--output", str(tmp_path / "run")]
    first = CliRunner().invoke(app, command)
    assert first.exit_code == 0, first.output
    assert "two characters, 1 prompts" in first.output and "The README's example: right with" in first.output
    samples = tmp_path / "run" / "samples"
    before = {path: path.read_bytes() for path in samples.rglob("*.png")}
    assert len(before) == 6 + 12
    shutil.rmtree(samples / "one_character")
    assert CliRunner().invoke(app, command).exit_code == 0
    assert {path: path.read_bytes() for path in samples.rglob("*.png")} == before

    # An image is made by the same seed, and the video begins with it.
    pipe = LumosVideoPipeline.from_pretrained(checkpoint)
    seeded = [torch.Generator().manual_seed(3) for _ in range(2)]
    (still,) = pipe(README_STILL, num_frames=1, generator=seeded[0]).frames[0]
    (alone, *_) = pipe(README_MOVEMENT, image=still, generator=seeded[1]).frames[0]
    shown = read_strip(samples / "the_READMEs_example" / "00003.png", 128)[0].astype(int)
    assert abs(shown - np.asarray(alone)).max() <= 1

    result = CliRunner().invoke(app, ["evaluate", "report", str(tmp_path / "run"), str(tmp_path / "run")])
    assert result.exit_code == 0, result.output
    text = (tmp_path / "run" / "report.md").read_text(encoding="utf-8")
    assert "| one character |" in text and "by prompt and seed" in text
