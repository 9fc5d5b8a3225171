"""How far the mean of a uniform sample is from the mean of the stream, beside half the width of its bounds.

The values are lognormal, and come sorted, as the worst order would be for a sample that is not uniform.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from benchmarks.sketches.studies.trial import Trial
from sketches.reservoir import ReservoirSample

TITLE = "Reservoir sample of 1,000: error of the mean"
UNIT = "share of the mean"
SIZE = 1000
CHUNK = 1 << 20


def trials(sizes: Sequence[int], seeds: Sequence[int]) -> Iterator[Trial]:
    for size in sizes:
        values = np.sort(np.random.default_rng(size).lognormal(size=size))
        mean = values.mean() if size else 1.0
        for seed in seeds:
            sketch = ReservoirSample(SIZE, seed)
            for start in range(0, size, CHUNK):
                sketch.update_many(values[start : start + CHUNK])
            if size == 0:
                yield Trial(0, seed, 0.0, 0.0)
                continue
            low, high = sketch.lower_bound(), sketch.upper_bound()
            yield Trial(size, seed, float((sketch.estimate() - mean) / mean), (high - low) / 2 / mean)
