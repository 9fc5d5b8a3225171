"""False positives of split-block Bloom filters made for 1 %, filled to capacity.

The promise is for the mean over filters: a trial of few values fills several filters, with other values each. Its bound is the promise
and what chance adds to the mean of so many filters (95 %, one-sided).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from benchmarks.sketches.studies.trial import Trial
from sketches import BloomFilter, ClassicBloomFilter

TITLE = "Split-block Bloom filter for 1 %: false positives at capacity"
UNIT = "share of values that were not taken"
RATE = 0.01
STRANGERS = 20_000
VALUES = 20_000
CHUNK = 1 << 20

Filter = BloomFilter | ClassicBloomFilter


def rates_of(make: Callable[[], Filter], size: int, filters: int, seed: int, strangers: int = STRANGERS) -> NDArray[np.float64]:
    """Fill so many filters with `size` distinct values each, and return the share of strangers that each of them takes for members."""
    found = np.empty(filters)
    for number in range(filters):
        start = int(np.random.default_rng((seed, number, size)).integers(0, 1 << 60))
        sketch = make()
        for begin in range(0, size, CHUNK):
            sketch.update_many(np.arange(start + begin, start + min(begin + CHUNK, size)))
        found[number] = sketch.contains_many(np.arange(start + size, start + size + strangers)).mean()
    return found


def trials(sizes: Sequence[int], seeds: Sequence[int]) -> Iterator[Trial]:
    for size in sizes:
        filters = min(max(2, VALUES // max(size, 1)), 100)
        for seed in seeds:
            rates = rates_of(lambda: BloomFilter.from_error(capacity=max(size, 1), false_positive_rate=RATE), size, filters, seed)  # noqa: B023 (called at once)
            chance = math.sqrt(max(rates.var(ddof=1), RATE / STRANGERS) / filters)
            yield Trial(size, seed, float(rates.mean()), RATE + 1.645 * chance)
