# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
import numpy as np
import PIL.Image
import pytest

from lumos_hf.evaluation.clips import draw_clip, is_held_out, is_known_start, pair_specs, single_specs
from lumos_hf.evaluation.measure import judge, observe
from lumos_hf.evaluation.score import (
    held_out_prompts,
    save_contact_sheet,
    summarise,
    tasks,
    wilson_interval,
)
from lumos_hf.hub.model_card import format_table


@pytest.mark.slow
def test_the_prompts_are_held_out_and_always_the_same():
    for specs, count in ((single_specs(), 200), (pair_specs(), 100)):
        prompts = held_out_prompts(specs, count)
        assert len(prompts) == count
        assert all(is_held_out(spec) for spec, _ in prompts)
        assert prompts == held_out_prompts(specs, count)


def test_the_table_has_a_row_per_kind_of_clip():
    lines = format_table({"generated": {"all": 0.5}, "true clips": {"all": 1.0}}).splitlines()
    assert lines == ["| clips | all |", "| --- | --- |", "| generated | 0.500 |", "| true clips | 1.000 |"]


def test_the_contact_sheet_shows_three_frames_of_every_clip(tmp_path):
    clips = [np.full((9, 16, 16, 3), value, np.uint8) for value in range(0, 240, 40)]
    save_contact_sheet(tmp_path / "sheet.png", clips, rows=2, clips_per_row=3)
    sheet = np.asarray(PIL.Image.open(tmp_path / "sheet.png").convert("RGB"))
    assert sheet.shape == (2 * 20 + 4, 9 * 20 + 4, 3)
    assert {0, 40, 80, 120, 160, 200} <= set(np.unique(sheet))


@pytest.mark.slow
def test_every_task_is_held_out_and_gives_what_its_clips_begin_with():
    chosen = tasks(share=0.05)
    assert [task.title for task in chosen] == [
        "one character",
        "two characters",
        "image, known starts",
        "image, other starts",
        "video, known starts",
        "video, other starts",
    ]
    for task in chosen:
        assert all(is_held_out(spec) for spec in task.specs)
        if "starts" in task.title:
            assert {is_known_start(spec) for spec in task.specs} == {"known" in task.title}
        for spec, frames in zip(task.specs, task.given() or []):
            np.testing.assert_array_equal(frames, draw_clip(spec)[: 1 if "image" in task.title else 5])


@pytest.mark.slow
def test_what_stands_still_after_the_given_frames_does_not_end_right():
    for task in tasks(share=0.1)[2:]:
        truth = [observe(draw_clip(spec)) for spec in task.specs]
        frozen = [
            observe(np.concatenate([frames, np.repeat(frames[-1:], 9 - len(frames), axis=0)]))
            for frames in task.given()
        ]
        assert summarise(task.specs, truth, truth)["all"] == 1
        scores = summarise(task.specs, frozen, truth)
        assert scores["all"] <= 0.5 and scores["shape"] >= 0.8


def test_without_truth_the_end_of_a_clip_does_not_count():
    spec = single_specs()[0]
    seen = observe(draw_clip(spec))
    assert summarise([spec], [seen]).keys() - {"jerk", "background_constancy"} == judge(spec, seen).keys()


def test_the_interval_of_wilson():
    # By the formula of the score interval, at the usual examples.
    np.testing.assert_allclose(wilson_interval(0.5, 10), (0.2366, 0.7634), atol=1e-4)
    np.testing.assert_allclose(wilson_interval(1.0, 100), (0.9630, 1.0), atol=1e-4)
