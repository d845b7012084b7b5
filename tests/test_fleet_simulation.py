# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""benchmarks/fleet_simulation.py, against what can be told without it."""

from pathlib import Path

import pytest


@pytest.fixture
def simulation(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    import fleet_simulation

    return fleet_simulation


def test_an_idle_fleet_answers_at_once(simulation):
    fleet = simulation.Fleet(50, clips_per_day=8640, seconds_per_clip=10.0, hours=1.0)
    outcome = simulation.Simulation(fleet).run()
    assert fleet.load == pytest.approx(0.02)
    assert set(map(round, outcome.latencies)) == {10}
    assert len(outcome.latencies) == outcome.num_asked == pytest.approx(360, abs=60)


@pytest.mark.slow
def test_one_worker_waits_as_theory_says(simulation):
    """M/D/1: the mean wait is load / (2 * (1 - load)) times the service."""
    fleet = simulation.Fleet(1, clips_per_day=4320, seconds_per_clip=10.0, hours=400.0)
    outcome = simulation.Simulation(fleet).run()
    assert fleet.load == pytest.approx(0.5)
    assert sum(outcome.latencies) / len(outcome.latencies) == pytest.approx(15.0, rel=0.03)


def test_clips_of_lost_workers_are_made_by_others(simulation):
    fleet = simulation.Fleet(20, clips_per_day=100_000, seconds_per_clip=10.0, hours_between_losses=0.5, hours=1.0)
    outcome = simulation.Simulation(fleet).run()
    assert len(outcome.latencies) == outcome.num_asked
    assert outcome.num_again > 5
    assert max(outcome.latencies) > fleet.lease


def test_batches_shorten_a_burst(simulation):
    fleet = simulation.Fleet(10, clips_per_day=60_000, seconds_per_clip=10.0, burst=3.0, hours=1.0)
    alone = simulation.Simulation(fleet).run()
    batches = simulation.Simulation(simulation.replace(fleet, max_batch_size=4, marginal_cost=0.5)).run()
    assert batches.percentile(99) < alone.percentile(99) / 2
