# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
import numpy as np
import PIL.Image

from lumos_hf.evaluation.clips import is_held_out, pair_specs, single_specs
from lumos_hf.evaluation.score import format_table, held_out_prompts, save_contact_sheet


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
