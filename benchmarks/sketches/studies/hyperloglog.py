"""The error of HyperLogLog."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks.sketches.studies.distinct import trials_of
from benchmarks.sketches.studies.trial import Trial
from sketches import HyperLogLog

TITLE = "HyperLogLog, precision 12 (4 KiB): error of the number of distinct values"
UNIT = "share of the distinct values"
PRECISION = 12


def trials(sizes: Sequence[int], seeds: Sequence[int]) -> Iterator[Trial]:
    """Count so many distinct values, once for each seed."""
    return trials_of(lambda: HyperLogLog(PRECISION), sizes, seeds)
