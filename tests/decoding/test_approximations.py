# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
import dataclasses

import pytest
import torch

from lumos_hf.decoding.approximations import (
    EXACT,
    PRESETS,
    CompactHistory,
    DecodingApproximations,
    StepShortcuts,
    resolve_approximations,
)


BAD_FIELDS = {
    "order of an interval": (
        {"guidance_interval": (0.5, 0.2)},
        r"`guidance_interval` must be two numbers in \[0, 1\], the smaller one first, got \(0.5, 0.2\)",
    ),
    "interval past the end": ({"guidance_interval": (0, 2)}, r"`guidance_interval` must be .* got \(0, 2\)"),
    "one bound": ({"guidance_interval": (0.5,)}, r"`guidance_interval` must be two numbers .* got \(0.5,\)"),
    "number as interval": ({"guidance_interval": 0.5}, "`guidance_interval` must be two numbers .* got 0.5"),
    "NaN bound": ({"guidance_interval": (0.0, float("nan"))}, "`guidance_interval` must be two numbers"),
    "no skip range": (
        {"unconditional_skip_range": 0},
        "`unconditional_skip_range` must be a positive integer, got 0",
    ),
    "float skip range": (
        {"unconditional_skip_range": 2.0},
        "`unconditional_skip_range` must be a positive integer, got 2.0",
    ),
    "threshold": ({"confidence_threshold": 1.5}, r"`confidence_threshold` must be a number in \[0, 1\], got 1.5"),
    "threshold as text": ({"confidence_threshold": "0.9"}, r"`confidence_threshold` must be .* got '0.9'"),
    "entropy bound": ({"entropy_bound": -0.1}, r"`entropy_bound` must be a finite number of at least 0, got -0.1"),
    "entropy bound as text": ({"entropy_bound": "1"}, r"`entropy_bound` must be a finite number .* got '1'"),
    "order": (
        {"decoding_order": "raster"},
        r"`decoding_order` must be one of \['confidence', 'halton'\], got 'raster'",
    ),
    "negative window": ({"history_window": -1}, "`history_window` must be an integer of at least 0, got -1"),
    "keep ratio": ({"history_keep_ratio": -0.1}, r"`history_keep_ratio` must be a number in \[0, 1\], got -0.1"),
}


@pytest.mark.parametrize("values, message", BAD_FIELDS.values(), ids=BAD_FIELDS.keys())
def test_bad_fields(values, message):
    with pytest.raises(ValueError, match=message):
        DecodingApproximations(**values)


def test_resolving():
    assert resolve_approximations(None) == EXACT == DecodingApproximations()
    assert resolve_approximations("fast") == PRESETS["fast"] != EXACT
    custom = DecodingApproximations(unconditional_skip_range=2)
    assert resolve_approximations(custom) is custom
    for value in ("slow", True, {"unconditional_skip_range": 2}):
        with pytest.raises(ValueError, match=r"`approximations` must be None, .* or one of \['fast'\], got "):
            resolve_approximations(value)


def test_approximations_do_not_change():
    with pytest.raises(dataclasses.FrozenInstanceError):
        EXACT.history_window = 3


def shortcuts(num_steps=8, **values):
    return StepShortcuts(DecodingApproximations(**values), num_steps, h=2, w=2, device=torch.device("cpu"))


@pytest.mark.parametrize(
    "values, steps",
    [
        ({}, range(8)),
        ({"guidance_interval": (0.0, 0.5)}, range(4)),
        ({"guidance_interval": (0.25, 0.7)}, range(2, 6)),
        ({"guidance_interval": (0.5, 0.5)}, []),
        ({"unconditional_skip_range": 3}, [0, 3, 6]),
        ({"unconditional_skip_range": 100}, [0]),
        ({"unconditional_skip_range": 2, "guidance_interval": (0.125, 0.75)}, [1, 3, 5]),
    ],
)
def test_when_the_unconditional_branch_runs(values, steps):
    branches = ["conditional", "unconditional"]
    run = [shortcuts(**values).branches_to_run(branches, torch.tensor(step)) for step in range(8)]
    assert [step for step in range(8) if run[step] == branches] == list(steps)
    assert all(each == branches[:1] for step, each in enumerate(run) if step not in steps)


def test_the_residual_stays_with_its_positions():
    reuse = shortcuts(unconditional_skip_range=2, guidance_interval=(0.0, 0.5))
    everywhere = torch.ones(2, 4, dtype=torch.bool)
    conditional, unconditional = torch.randn(2, 8, 3)
    assert reuse.complete([conditional, unconditional], everywhere, 0)[1] is unconditional

    undecided = torch.tensor([[False, True, False, False], [True, False, True, False]])
    later = torch.randn(3, 3)
    completed = reuse.complete([later], undecided, 1)
    residual = (conditional - unconditional)[[1, 4, 6]]
    torch.testing.assert_close(completed, [later, later - residual])
    # Outside of the interval there is no guidance to complete.
    assert len(reuse.complete([later], undecided, 5)) == 1


def test_without_an_unconditional_branch_there_is_nothing_to_reuse():
    reuse = shortcuts(unconditional_skip_range=2)
    everywhere = torch.ones(1, 4, dtype=torch.bool)
    for step in range(3):
        assert len(reuse.complete([torch.randn(4, 3)], everywhere, step)) == 1


@pytest.mark.parametrize("window", [None, 5])
def test_a_window_that_is_large_enough_forgets_nothing(window):
    history = CompactHistory(DecodingApproximations(history_window=window), frame_length=10)
    assert history.num_forgotten(num_frames=6) == 0
    assert all(history.kept_of(number) is None for number in range(-1, 6))


def test_what_stays_of_older_frames():
    approximations = DecodingApproximations(history_window=2, history_keep_ratio=0.4)
    history = CompactHistory(approximations, frame_length=5)
    # Of 6 frames the first and the last two are whole.
    assert history.num_forgotten(num_frames=6) == 3 * 3
    assert history.kept_of(2) is None
    assert history.kept_of(3).tolist() == [0, 2, *range(5, 15)]
    assert history.kept_of(4).tolist() == [0, 2, 5, 7, *range(10, 20)]


@pytest.mark.parametrize("ratio, kept", [(0.0, []), (1.0, [0, 1, 2, 3])])
def test_bounds_of_the_share_that_stays(ratio, kept):
    approximations = DecodingApproximations(history_window=0, history_keep_ratio=ratio)
    assert CompactHistory(approximations, frame_length=4).kept_of(1).tolist() == kept


@pytest.mark.parametrize("ratio, reduced", [(1.0, 13), (0.5, 6), (0.4, 5), (0.0, 1)])
def test_reduced_steps(ratio, reduced):
    assert DecodingApproximations(step_ratio=ratio).reduced_steps(13) == reduced
