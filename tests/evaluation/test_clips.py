# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
import random
from dataclasses import replace

import numpy as np
import pytest

from lumos_hf.evaluation.clips import (
    BACKGROUNDS,
    COLOURS,
    MOTIONS,
    NUM_FRAMES,
    SHAPES,
    SIZE,
    ClipSpec,
    background_image,
    caption,
    continued_specs,
    draw_clip,
    held_out_combinations,
    is_held_out,
    pair_specs,
    room,
    single_specs,
)
from lumos_hf.evaluation.measure import judge, observe


@pytest.mark.parametrize("specs", [single_specs(), pair_specs()], ids=["singles", "pairs"])
def test_clips_are_distinct_and_a_tenth_is_held_out(specs):
    assert len(set(specs)) == len(specs)
    assert np.mean([is_held_out(spec) for spec in specs]) == pytest.approx(0.1, abs=0.02)


def test_every_word_of_a_held_out_combination_is_seen_in_training():
    training = [spec for spec in single_specs() if not is_held_out(spec)]
    assert {spec.characters[0][0] for spec in training} == set(SHAPES)
    assert {spec.characters[0][1] for spec in training} == set(COLOURS)
    assert {spec.motion for spec in training} == set(MOTIONS)
    assert {spec.background for spec in training} == set(BACKGROUNDS)
    seen_triples = {(*spec.characters[0], spec.motion) for spec in training}
    assert not seen_triples & held_out_combinations()


def test_drawing_is_a_function_of_the_spec():
    spec = random.Random(0).choice(single_specs())
    first, second = draw_clip(spec), draw_clip(spec)
    assert first.shape == (NUM_FRAMES, SIZE, SIZE, 3)
    assert first.dtype == np.uint8
    np.testing.assert_array_equal(first, second)


@pytest.mark.slow
def test_still_clips_stand_still_and_others_move():
    for motion in MOTIONS:
        spec = next(spec for spec in single_specs() if spec.motion == motion)
        change = np.abs(np.diff(draw_clip(spec).astype(int), axis=0)).sum()
        assert (change == 0) == (motion == "still")


def test_a_caption_names_everything_that_is_shown():
    rng = random.Random(0)
    for spec in [*rng.sample(single_specs(), 100), *rng.sample(pair_specs(), 100)]:
        text = caption(spec, rng).lower()
        for shape, colour in spec.characters:
            assert f"{colour} {shape}" in text
        assert BACKGROUNDS[spec.background] in text
        assert spec.relation or any(wording in text for wording in MOTIONS[spec.motion])


@pytest.mark.slow
def test_continued_clips_are_new_and_stay_in_the_picture():
    specs = continued_specs()
    assert len(set(specs)) == len(specs)
    assert not set(specs) & set(single_specs())
    for spec in random.Random(0).sample(specs, 200):
        clip, scene = draw_clip(spec), background_image(spec.background, spec.mirrored)
        edge = np.ones((SIZE, SIZE), bool)
        edge[1:-1, 1:-1] = False
        assert (clip == scene).all(axis=-1)[:, edge].all(), spec


@pytest.mark.slow
def test_the_true_continued_clips_read_back_right():
    for spec in random.Random(1).sample(continued_specs(), 60):
        assert judge(spec, observe(draw_clip(spec)))["all"], spec


def test_a_continued_clip_opens_with_its_image():
    spec = ClipSpec((("star", "red"),), "sea", motion="right", start=(80, 48), image="still")
    still = replace(spec, motion="still")
    np.testing.assert_array_equal(draw_clip(spec)[0], draw_clip(still)[0])
    assert room("right", spec.start) == 1 and room("right", (48, 48)) == 2 and room("right", (96, 48)) == 0
