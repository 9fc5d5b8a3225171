"""Odd numbers that make many hashes of one: the upper half of hash times number, mod 2^64, is the hash of that number.

All bits of the hash take part in each, so that two values that agree in one of them agree in another by chance only. With double hashing
(``a + i b``) two agreements mean that all agree; in a small table that is not rare: Bloom filters for ten values at 1e-4 had twice the
false positives that were promised when full, and eleven times those of the formula when half full.
"""

from __future__ import annotations

from typing import Final

import numpy as np

__all__ = ["MOST", "MULTIPLIERS"]

MOST: Final = 32
GOLDEN: Final = 0x9E3779B97F4A7C15
ALL: Final = (1 << 64) - 1


def _split_mix(number: int) -> int:
    """Return an output of SplitMix64 (Steele, Lea, Flood 2014) seeded with 0: numbers that nobody chose."""
    z = (number + 1) * GOLDEN & ALL
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & ALL
    z = (z ^ z >> 27) * 0x94D049BB133111EB & ALL
    return z ^ z >> 31


MULTIPLIERS = np.array([_split_mix(row) | 1 for row in range(MOST)], np.uint64)
