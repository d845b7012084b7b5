# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""Two runs of the same samples, compared in pairs: what one loses and gains against the other, and how sure that is."""

import math
from collections.abc import Mapping
from dataclasses import dataclass


_Z = 1.96


@dataclass(frozen=True)
class PairedComparison:
    """
    Args:
        num_pairs: samples that both runs have, of the same prompt and seed.
        lost: how many came out better in the first run.
        gained: how many came out better in the second run.
        difference: mean of the second minus the first.
        interval: 95% interval of it, normal, over the pairs.
    """

    num_pairs: int
    lost: int
    gained: int
    difference: float
    interval: tuple[float, float]


def compare(first: Mapping[str, float], second: Mapping[str, float]) -> PairedComparison | None:
    """
    Compares the results of samples, by their names; None if there are less than two in common.

    With `d` the differences, the interval is `mean(d) +- 1.96 * sd(d) / sqrt(n)`, with n - 1 in `sd`. Samples of one prompt
    count as independent.
    """
    differences = [second[name] - first[name] for name in first if name in second]
    count = len(differences)
    if count < 2:
        return None
    mean = sum(differences) / count
    variance = sum((difference - mean) ** 2 for difference in differences) / (count - 1)
    reach = _Z * math.sqrt(variance / count)
    return PairedComparison(
        num_pairs=count,
        lost=sum(difference < 0 for difference in differences),
        gained=sum(difference > 0 for difference in differences),
        difference=mean,
        interval=(mean - reach, mean + reach),
    )
