"""The greatest error of a Misra-Gries list of 768 counters over all items of a stream, beside its bound.

Keys are skewed (zipf, exponent 1.1, over a million ids). The bound holds always, and for each item: the greatest error keeps to it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from benchmarks.sketches.studies.trial import Trial
from sketches.misra_gries import MisraGries

TITLE = "Hot list of 768 counters: greatest error of a count"
UNIT = "share of the stream"
CAPACITY = 768
IDS = 1_000_000
CHUNK = 1 << 20


@cache
def zipf_shares() -> NDArray[np.float64]:
    shares: NDArray[np.float64] = np.cumsum(1 / np.arange(1, IDS + 1) ** 1.1)
    shares /= shares[-1]
    return shares


def trials(sizes: Sequence[int], seeds: Sequence[int]) -> Iterator[Trial]:
    for size in sizes:
        for seed in seeds:
            dice = np.random.default_rng((size, seed))
            sketch, truth = MisraGries(CAPACITY), np.zeros(IDS, np.int64)
            for start in range(0, size, CHUNK):
                keys = np.minimum(np.searchsorted(zipf_shares(), dice.random(min(CHUNK, size - start))), IDS - 1)
                sketch.update_many(keys)
                truth += np.bincount(keys, minlength=IDS)
            greatest = int((truth - sketch.estimate_many(np.arange(IDS))).max())
            yield Trial(size, seed, greatest / max(size, 1), 1 / (CAPACITY + 1))
