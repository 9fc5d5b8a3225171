"""Counters of distinct values: the estimate of so many values, each two times."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from benchmarks.sketches.studies.trial import Trial
from sketches.distinct import DistinctSketch

__all__ = ["counted", "trials_of"]

PIECE = 1 << 22
SPREAD = 0x9E3779B97F4A7C15  # seeds are far apart, so no two of them share a value


def counted(sketch: DistinctSketch, size: int, seed: int) -> Trial:
    """Give `size` integers in a row, some of them again, and compare; the bound is that of the side where the error is."""
    begin = np.int64(seed * SPREAD % (1 << 62))
    for start in range(0, size, PIECE):
        values = np.arange(start, min(start + PIECE, size), dtype=np.int64) + begin
        sketch.update_many(values)
        sketch.update_many(values[: 1 << 12])
    estimate, whole = sketch.estimate(), max(size, 1)
    side = sketch.upper_bound() - estimate if estimate < size else estimate - sketch.lower_bound()
    return Trial(size, seed, (estimate - size) / whole, side / whole)


def trials_of(make: Callable[[], DistinctSketch], sizes: Sequence[int], seeds: Sequence[int]) -> Iterator[Trial]:
    for size in sizes:
        for seed in seeds:
            yield counted(make(), size, seed)
