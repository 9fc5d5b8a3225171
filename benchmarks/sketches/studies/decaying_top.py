"""The greatest error of a decaying hot list of 768 counters over all items of a stream, beside its bound, which holds always.

Keys are skewed (zipf, exponent 1.1, over a million ids), times are in any order over ten half-lives.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta

import numpy as np

from benchmarks.sketches.studies.hot_list import IDS, zipf_shares
from benchmarks.sketches.studies.trial import Trial
from sketches import DecayingTop

TITLE = "Decaying hot list of 768 counters: greatest error of a weight"
UNIT = "share of the decayed weight"
CAPACITY = 768
HALF_LIFE_US = 60_000_000
SPAN = 10 * HALF_LIFE_US


def trials(sizes: Sequence[int], seeds: Sequence[int]) -> Iterator[Trial]:
    """Take so many rows, once for each seed; items that are not in the table err by their whole weight."""
    for size in sizes:
        for seed in seeds:
            dice = np.random.default_rng((size, seed))
            keys = np.minimum(np.searchsorted(zipf_shares(), dice.random(size)), IDS - 1)
            times = dice.integers(0, SPAN, size)
            sketch = DecayingTop(CAPACITY, timedelta(microseconds=HALF_LIFE_US))
            for part, moments in zip(np.array_split(keys, 10), np.array_split(times, 10), strict=True):
                sketch.update_many(part, moments)
            truth = np.bincount(keys, np.exp2((times - SPAN) / HALF_LIFE_US), IDS)
            total = truth.sum()
            for hot in sketch.top(CAPACITY, SPAN):
                truth[hot.item] -= hot.estimate
            yield Trial(size, seed, float(truth.max() / total) if size else 0.0, 1 / (CAPACITY + 1))
