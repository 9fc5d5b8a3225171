"""The error of UltraLogLog."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks.sketches.studies.distinct import trials_of
from benchmarks.sketches.studies.trial import Trial
from sketches import UltraLogLog

TITLE = "UltraLogLog, precision 11 (2 KiB): error of the number of distinct values"
UNIT = "share of the distinct values"
PRECISION = 11


def trials(sizes: Sequence[int], seeds: Sequence[int]) -> Iterator[Trial]:
    """Count so many distinct values, once for each seed."""
    return trials_of(lambda: UltraLogLog(PRECISION), sizes, seeds)
