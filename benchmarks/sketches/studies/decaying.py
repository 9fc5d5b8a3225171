"""The rounding error of a decayed sum, beside the tolerance that is promised; the oracle adds in floats of 80 bits.

Rows come in any order, over a hundred half-lives, half of them one call, the others in parts that are merged.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta

import numpy as np

from benchmarks.sketches.studies.trial import Trial
from sketches import DecayingWindow

TITLE = "Decaying window: rounding error of a sum"
UNIT = "share of the sum"
HALF_LIFE_US = 60_000_000
TOLERANCE = 2.0**-47
PARTS = 20


def trials(sizes: Sequence[int], seeds: Sequence[int]) -> Iterator[Trial]:
    """Take so many lognormal values, once for each seed."""
    for size in sizes:
        for seed in seeds:
            dice = np.random.default_rng((size, seed))
            values, times = dice.lognormal(0, 2, size), dice.integers(0, 100 * HALF_LIFE_US, size)
            window = DecayingWindow(timedelta(microseconds=HALF_LIFE_US))
            window.update_many(values[: size // 2], times[: size // 2])
            for some, moments in zip(np.array_split(values[size // 2 :], PARTS), np.array_split(times[size // 2 :], PARTS), strict=True):
                part = DecayingWindow(timedelta(microseconds=HALF_LIFE_US))
                part.update_many(some, moments)
                window.merge(part)
            ages = (100 * HALF_LIFE_US - times).astype(np.longdouble) / HALF_LIFE_US
            truth = (np.exp2(-ages) * values).sum()
            error = float(np.longdouble(window.sum_at(100 * HALF_LIFE_US)) / truth - 1) if size else 0.0
            yield Trial(size, seed, error, TOLERANCE)
