"""Maximum likelihood for sketches of registers: what cardinality makes the registers seen the most likely ones.

With n values spread over m registers, x = n/m, the logarithm of the likelihood of HyperLogLog's and of UltraLogLog's registers is
``-a x + sum of b[u] log(1 - exp(-x / 2**u))`` (Poisson model). Everything here is done in Python's floats: a few dozen terms, and the
same on every machine.

References
----------
O. Ertl (2017), "New cardinality estimation algorithms for HyperLogLog sketches", section 4 (the likelihood and its one root).
O. Ertl (2024), "ExaLogLog: Space-Efficient and Practical Approximate Distinct Counting up to the Exa-Scale", section 4 (the correction
of the bias of first order, for any number of extra bits).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

__all__ = ["most_likely"]

STEPS: Final = 60  # Newton's method takes 4 to 10; it cannot leave its side of the root
EXACT: Final = 1e-13
TINY: Final = 1e-4
HUGE: Final = 700.0


def most_likely(a: float, b: Mapping[int, int]) -> tuple[float, float]:
    """Return the rate that is the most likely, and the relative variance of it.

    Parameters
    ----------
    a : float
        Share of the hash values that nobody can have had, summed over the registers.
    b : mapping of int to int
        How many times an event of probability ``2**-u`` is known to have happened.

    Returns
    -------
    rate : float
        Values for each register; 0 if nothing happened, infinite if everything did.
    variance : float
        Of the rate, relative, by the observed Fisher information; it includes 1/n, the spread of a Poisson number itself.
    """
    happened = sum(b.values())
    if not happened:
        return 0.0, 0.0
    if a <= 0.0:
        return math.inf, math.inf
    terms = [(math.ldexp(1.0, -u), count) for u, count in b.items() if count]
    rate = happened / (a + 0.5 * sum(share * count for share, count in terms))  # below the root, for y/(e^y - 1) is above 1 - y/2
    for _ in range(STEPS):
        excess, slope = a * rate, a
        for share, count in terms:
            value, change = _fall(rate * share)
            excess -= count * value
            slope -= count * change * share
        step = excess / slope
        rate -= step
        if abs(step) <= EXACT * rate:
            break
    information = 0.0
    for share, count in terms:
        y = rate * share
        value, _ = _fall(y)
        information += count * value * (value + y)
    return rate, 1.0 / information if information else math.inf


def _fall(y: float) -> tuple[float, float]:
    """Return y/(e^y - 1) and its derivative."""
    if y < TINY:
        return 1.0 - 0.5 * y + y * y / 12.0, y / 6.0 - 0.5
    if y > HUGE:
        return 0.0, 0.0
    grown = math.expm1(y)
    value = y / grown
    return value, (1.0 - y - value) / grown
