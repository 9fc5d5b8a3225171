"""False-positive rates of Bloom filters and the sizes that keep to them, and how many values are behind a number of set bits."""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist
from typing import Final

__all__ = ["MOST_VALUES", "blocked_rate", "bounds_of", "classic_rate", "filled_planes", "smallest", "values_behind"]

MOST_VALUES: Final = 1 << 62
LANES: Final = 8
LANE_BITS: Final = 32
KEPT: Final = 1 - 1 / LANE_BITS  # chance that a value leaves a given bit of a lane alone


def blocked_rate(values: float, blocks: int) -> float:
    """Return the expected false-positive rate of a split-block filter with so many distinct values.

    A block has J of n values, J binomial with chance 1/B, and is passed with chance ``(1 - (31/32)^J)^8``: the blocks that are fuller than
    most make the rate higher than the classic formula says. Expanded, its mean is a sum of nine terms, exact for every n and B.
    """
    if not values:
        return 0.0
    terms = (
        (-1) ** i * math.comb(LANES, i) * (math.exp(values * math.log1p(-part / blocks)) if part < blocks else 0.0)
        for i, part in enumerate(1 - KEPT**i for i in range(LANES + 1))
    )
    return min(max(math.fsum(terms), 0.0), 1.0)


def classic_rate(values: float, bits: int, probes: int) -> float:
    """Return the expected false-positive rate of a classic filter: the mean of (share of set bits) ** probes, to the second order."""
    balls = values * probes
    clear, both = math.exp(balls * math.log1p(-1 / bits)), math.exp(balls * math.log1p(-2 / bits))
    variance = max(clear / bits + (1 - 1 / bits) * both - clear * clear, 0.0)
    share = 1 - clear
    return share**probes + probes * (probes - 1) / 2 * variance * share ** (probes - 2) if share else 0.0


def smallest(rate_of: Callable[[int], float], rate: float, most: int) -> int | None:
    """Return the smallest size from 1 to `most` at which a falling rate is not above `rate`; None if there is none."""
    if rate_of(most) > rate:
        return None
    low, high = 0, 1
    while rate_of(high) > rate:
        low, high = high, min(2 * high, most)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if rate_of(middle) <= rate else (middle, high)
    return high


def values_behind(clear: float, cells: float) -> float:
    """Return how many balls, thrown into so many cells, leave this share of them clear in the mean (linear counting)."""
    return math.log(clear) / math.log1p(-1 / cells) if clear else math.inf


def filled_planes(values: float, blocks: int) -> float:
    """Return the standard error of `values_behind` for a split-block filter, whose eight lanes are planes of one bit for each value.

    The lanes of a block are as full as each other, so eight planes tell less than eight times what one does: the variance of the clear
    bits is that within lanes, plus that of the blocks' loads, less what knowing the number of values takes away (Poissonisation).
    """
    load = values / blocks
    t = load / LANE_BITS
    if t > 40:
        return math.inf
    one, two, square = math.exp(-t), math.exp(-2 * t), math.exp(-load * (1 - KEPT * KEPT))
    within = LANES * (LANE_BITS * one + LANE_BITS * (LANE_BITS - 1) * two - LANE_BITS**2 * square)
    between = (LANES * LANE_BITS) ** 2 * (square - two) - LANES**2 * load * two
    return math.sqrt(max(blocks * (within + between), 0.0)) / (LANES * one)


def bounds_of(estimate: float, error: float, confidence: float) -> tuple[float, float]:
    """Return the bounds of a normal estimate, not below zero."""
    if math.isinf(estimate) or math.isinf(error):
        return 0.0, math.inf
    reach = NormalDist().inv_cdf((1 + confidence) / 2) * error
    return max(estimate - reach, 0.0), estimate + reach
