# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
import base64
import io
import re

import numpy as np
import PIL.Image
import pytest
import torch

from lumos_hf import LumosPipelineOutput
from lumos_hf.clip_html import clip_html


def frames(count=3, size=(64, 32)):
    return [PIL.Image.new("RGB", size, ("red", "lime", "blue")[index % 3]) for index in range(count)]


@pytest.mark.parametrize("count", [1, 3])
def test_a_shown_clip_has_all_frames_and_no_markup_of_others(count):
    shown = clip_html(frames(count), fps=8, description='"><script>alert(1)</script>')
    assert shown.count("<") == 1 and shown.count(">") == 1
    data = base64.b64decode(re.search(r"base64,([^\"]+)", shown)[1])
    with PIL.Image.open(io.BytesIO(data)) as picture:
        assert (picture.format, picture.size, getattr(picture, "n_frames", 1)) == ("WEBP", (64, 32), count)
        assert np.abs(np.asarray(picture.convert("RGB"), int)[9, 9] - [255, 0, 0]).max() < 12


@pytest.mark.parametrize(
    ("size", "shown"), [((64, 32), (256, 128)), ((300, 200), (300, 200)), ((200, 100), (200, 100))]
)
def test_small_clips_are_enlarged_by_a_whole_factor(size, shown):
    assert f'width="{shown[0]}" height="{shown[1]}"' in clip_html(frames(1, size))


def test_a_clip_has_frames():
    with pytest.raises(ValueError, match="`frames` must hold at least one image"):
        clip_html([])


def test_results_show_themselves_in_notebooks():
    output = LumosPipelineOutput(frames=[frames(3), frames(1)])
    output.shown_fps = 4
    shown = output._repr_html_()
    assert re.findall(r'data-frames="(\d+)"', shown) == ["3", "1"]
    first = base64.b64decode(re.search(r"base64,([^\"]+)", shown)[1])
    with PIL.Image.open(io.BytesIO(first)) as picture:
        picture.load()
        assert picture.info["duration"] == 250
    assert output.to_tuple() == (output.frames,)


def test_what_has_no_pictures_is_shown_as_text():
    assert LumosPipelineOutput(frames=torch.zeros(1, 2, 2, 2))._repr_html_() is None
