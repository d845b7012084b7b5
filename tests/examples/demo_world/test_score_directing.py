# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
import json

import pytest
import score_directing
from PIL import Image


@pytest.mark.slow
def test_true_clips_are_right_and_a_prompt_that_is_not_switched_is_not(tmp_path, capsys):
    score_directing.main(["--clips=2", "--only", "switch", f"--output={tmp_path}"])
    report = json.loads((tmp_path / "switch.json").read_text())
    assert report["control: the true clips"]["both"] == 1
    assert report["control: the true clips"]["jump at the join"] == 0
    assert report["control: not switched"]["after it"] == 0
    assert "switched, both" in capsys.readouterr().out
    assert Image.open(tmp_path / "switch.png").width > 9 * 128
