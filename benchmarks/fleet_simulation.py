# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
How long clips wait for a fleet of workers that take jobs from one store: bursts, batches, machines that are lost.

    python benchmarks/fleet_simulation.py [--clips-per-day 1000000] [--seconds-per-clip 12.9]

writes the table of docs/scale.md. Nothing is measured here: times of clips, and what a batch gives, are arguments.
"""

import argparse
import math
import random
import statistics
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import simpy


@dataclass(frozen=True)
class Fleet:
    """
    Args:
        num_workers: each with one model.
        clips_per_day: that are asked for, at random times.
        seconds_per_clip: of a worker, for one clip alone.
        max_batch_size: clips that a worker makes together, of those that wait.
        marginal_cost: of each further clip of a batch, as a share of one alone; 1 gives nothing.
        burst: so many times as many clips come during the burst.
        burst_seconds: from the middle of the simulated time on.
        hours_between_losses: of one worker, on average; infinity for none.
        lease: seconds until others take the clips of a lost worker.
        repair_seconds: until a lost worker is back.
        hours: that are simulated.
    """

    num_workers: int
    clips_per_day: float = 1e6
    seconds_per_clip: float = 12.9
    max_batch_size: int = 1
    marginal_cost: float = 1.0
    burst: float = 1.0
    burst_seconds: float = 600.0
    hours_between_losses: float = math.inf
    lease: float = 30.0
    repair_seconds: float = 600.0
    hours: float = 2.0

    @property
    def load(self) -> float:
        """Work that comes without a burst, as a share of what the workers can do one by one."""
        return self.clips_per_day / 86400 * self.seconds_per_clip / self.num_workers


@dataclass
class Outcome:
    """Seconds from asking to having, of every clip; how many clips were begun twice; the longest queue."""

    latencies: list[float] = field(default_factory=list)
    num_again: int = 0
    longest_queue: int = 0
    num_asked: int = 0

    def percentile(self, percent: int) -> float:
        return statistics.quantiles(self.latencies, n=100)[percent - 1]


class Simulation:
    """One run of a fleet; clips that were asked for are made to the last one."""

    def __init__(self, fleet: Fleet, seed: int = 0) -> None:
        self.fleet = fleet
        self.outcome = Outcome()
        self._random = random.Random(seed)
        self._environment = simpy.Environment()
        # When they were asked for.
        self._waiting: deque[float] = deque()
        self._idle: deque[simpy.Event] = deque()

    def run(self) -> Outcome:
        for _ in range(self.fleet.num_workers):
            self._environment.process(self._work())
        self._environment.run(self._environment.process(self._ask()))
        while len(self.outcome.latencies) < self.outcome.num_asked:
            self._environment.step()
        return self.outcome

    def _ask(self) -> Iterator[simpy.Event]:
        fleet, end = self.fleet, self.fleet.hours * 3600
        while self._environment.now < end:
            is_burst = 0 <= self._environment.now - end / 2 < fleet.burst_seconds
            rate = fleet.clips_per_day / 86400 * (fleet.burst if is_burst else 1.0)
            yield self._environment.timeout(self._random.expovariate(rate))
            self.outcome.num_asked += 1
            self._waiting.append(self._environment.now)
            self._wake()

    def _work(self) -> Iterator[simpy.Event]:
        fleet = self.fleet
        while True:
            while not self._waiting:
                event = self._environment.event()
                self._idle.append(event)
                yield event
            batch = [self._waiting.popleft() for _ in range(min(fleet.max_batch_size, len(self._waiting)))]
            seconds = fleet.seconds_per_clip * (1 + fleet.marginal_cost * (len(batch) - 1))
            lost_after = self._random.expovariate(1.0) * fleet.hours_between_losses * 3600
            if lost_after < seconds:
                yield self._environment.timeout(lost_after)
                self._environment.process(self._give_back(batch))
                yield self._environment.timeout(fleet.repair_seconds)
                continue
            yield self._environment.timeout(seconds)
            self.outcome.latencies += [self._environment.now - asked for asked in batch]

    def _give_back(self, batch: Sequence[float]) -> Iterator[simpy.Event]:
        """To the front of the queue, when the lease of a lost worker has run out."""
        yield self._environment.timeout(self.fleet.lease)
        self.outcome.num_again += len(batch)
        self._waiting.extendleft(reversed(batch))
        for _ in batch:
            self._wake()

    def _wake(self) -> None:
        self.outcome.longest_queue = max(self.outcome.longest_queue, len(self._waiting))
        if self._idle:
            self._idle.popleft().succeed()


def scenarios(fleet: Fleet) -> dict[str, Fleet]:
    burst = replace(fleet, burst=2.0)
    return {
        "steady": fleet,
        "twice as many for 10 minutes": burst,
        "the same, batches of 4 at 0.8": replace(burst, max_batch_size=4, marginal_cost=0.8),
        "steady, a worker lost every 50 h each": replace(fleet, hours_between_losses=50.0),
    }


def table(fleet: Fleet, headrooms: Sequence[float]) -> str:
    """Markdown: a row for each number of workers and scenario."""
    least = fleet.clips_per_day / 86400 * fleet.seconds_per_clip
    lines = [
        "| workers | load | what happens | p50, s | p99, s | longest queue | begun again |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for headroom in headrooms:
        of_size = replace(fleet, num_workers=math.ceil(least * headroom))
        for name, scenario in scenarios(of_size).items():
            outcome = Simulation(scenario).run()
            lines.append(
                f"| {scenario.num_workers} | {scenario.load:.0%} | {name} | {outcome.percentile(50):.0f} | "
                f"{outcome.percentile(99):.0f} | {outcome.longest_queue:,} | {outcome.num_again} |"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips-per-day", type=float, default=1e6)
    parser.add_argument("--seconds-per-clip", type=float, default=12.9)
    parser.add_argument("--headroom", type=float, nargs="+", default=[1.05, 1.25, 1.5])
    options = parser.parse_args()
    fleet = Fleet(1, clips_per_day=options.clips_per_day, seconds_per_clip=options.seconds_per_clip)
    print(table(fleet, options.headroom))


if __name__ == "__main__":
    main()
