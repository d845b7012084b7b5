# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""The two controls of the scorer, and what each measurement reacts to."""

import random
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from lumos_hf.evaluation.clips import COLOURS, MOTIONS, ClipSpec, background_image, draw_clip, pair_specs, single_specs
from lumos_hf.evaluation.measure import Layout, judge, layout, observe, temporal_flickering
from lumos_hf.evaluation.score import summarise


SPEC = ClipSpec((("star", "red"),), "snow", motion="right", start=(48, 64))


@pytest.fixture(scope="module", params=[single_specs, pair_specs], ids=["singles", "pairs"])
def observed(request):
    specs = random.Random(1).sample(request.param(), 40)
    return specs, [observe(draw_clip(spec)) for spec in specs]


@pytest.mark.slow
def test_true_clips_score_one(observed):
    specs, observations = observed
    scores = summarise(specs, observations)
    assert {
        name: value for name, value in scores.items() if name not in ("jerk", "background_constancy")
    } == dict.fromkeys(judge(specs[0], observations[0]), 1.0)
    assert scores["background_constancy"] > 0.9999


@pytest.mark.slow
def test_wrong_prompts_score_chance(observed):
    specs, observations = observed
    scores = summarise(specs, observations[1:] + observations[:1])
    assert scores["all"] <= 0.05
    assert scores["background"] < 0.45
    assert scores["shape"] < 0.45
    assert scores["colour"] < 0.45


@pytest.mark.slow
@pytest.mark.parametrize("motion", [motion for motion in MOTIONS if motion != "right"])
def test_another_motion_is_told_apart(motion):
    other = next(spec for spec in single_specs() if spec.motion == motion)
    assert not judge(SPEC, observe(draw_clip(other)))["motion"]


@pytest.mark.parametrize("colour", [colour for colour in COLOURS if colour != "red"])
def test_another_colour_is_told_apart(colour):
    verdict = judge(SPEC, observe(draw_clip(replace(SPEC, characters=(("star", colour),)))))
    assert verdict == {
        "background": True, "count": True, "colour": False, "shape": True, "motion": True, "all": False
    }  # fmt: skip


def test_an_empty_scene_has_no_characters():
    clip = np.repeat(background_image("sea", False)[None], 9, axis=0)
    seen = observe(clip)
    assert seen.characters == ()
    assert seen.motion == "none"
    assert not judge(SPEC, seen)["count"]


@pytest.mark.slow
def test_layouts_of_true_clips():
    spec = ClipSpec((("square", "red"),), "sea", motion="still", start=(48, 80))
    for is_mirrored in (False, True):
        for start in ((48, 80), (64, 96)):
            seen = layout(draw_clip(replace(spec, mirrored=is_mirrored, start=start)))
            # A square of 46 pixels with its outline, in steps of 8.
            assert seen == Layout(is_mirrored, (start[0] // 16, start[1] // 16), 6)
    smaller = layout(draw_clip(replace(spec, motion="grow")))
    assert smaller.position == (3, 5) and smaller.size < 6
    empty = np.repeat(background_image("sea", True)[None], 9, axis=0)
    assert layout(empty) == Layout(True, None, 0)


@pytest.mark.slow
def test_noise_does_not_count_as_a_constant_background():
    clip = draw_clip(SPEC)
    noise = np.random.default_rng(0).integers(-20, 20, clip.shape)
    noisy = (clip + noise).clip(0, 255).astype(np.uint8)
    assert observe(noisy).background_constancy < 0.97
    assert observe(noisy).background == "snow"


@pytest.mark.slow
def test_a_jumpy_path_has_more_jerk():
    clip = draw_clip(SPEC)
    assert observe(clip[[0, 4, 1, 5, 2, 6, 3, 7, 8]]).jerk > 10 * observe(clip).jerk


def test_of_two_equal_characters_one_is_followed():
    clip = draw_clip(ClipSpec((("heart", "red"), ("heart", "red")), "sea", relation="left"))
    scene = background_image("sea", False)
    for time, frame in enumerate(clip):
        # The topmost rows of either character in turn, so that the other one is the larger.
        side = slice(0, 64) if time % 2 else slice(64, 128)
        top = np.flatnonzero((frame != scene).any(axis=(1, 2)))[0]
        frame[top : top + 4, side] = scene[top : top + 4, side]
    seen = observe(clip)
    assert seen.motion == "still"
    assert seen.jerk < 10


def test_flickering_by_hand():
    """Changes of 51 and 0 of 255: 1 - (51 + 0) / 2 / 255 = .9."""
    clip = np.stack([np.full((2, 2, 3), value, np.uint8) for value in (200, 149, 149)])
    assert temporal_flickering(clip) == pytest.approx(0.9)


MEDIA = Path(__file__).parents[3] / "shared" / "official" / "media"


@pytest.mark.skipif(not MEDIA.is_dir(), reason="the official videos are not beside the repository")
@pytest.mark.parametrize(("name", "vbench"), [("lumos_t2v_1.mp4", 0.9802143901), ("lumos_t2v_2.mp4", 0.9872436149)])
def test_flickering_is_that_of_vbench(name, vbench):
    """What `vbench` 0.1.5 returned for these videos; it reads frames with OpenCV, whose colours differ by rounding."""
    with av.open(str(MEDIA / name)) as container:
        clip = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    assert temporal_flickering(clip) == pytest.approx(vbench, abs=1e-4)
