"""Rows in groups, as segments: group by sorting, then reduce each run of rows that belong together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Segments", "group"]

DIGIT = 16  # bits
MOST_BY_DIGITS = 1 << 48  # beyond it comparing is as fast


@dataclass(frozen=True, slots=True)
class Segments:
    """Runs of neighbouring rows: segment ``i`` is ``[starts[i], starts[i + 1])``, the last one ends at `rows`.

    Attributes
    ----------
    starts : ndarray (k,) int64
        Ascending, the first is 0; no segment is empty.
    rows : int
        How many rows there are.
    """

    starts: NDArray[np.int64]
    rows: int

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def ends(self) -> NDArray[np.int64]:
        """End of each segment, not included; ndarray (k,) int64."""
        return np.append(self.starts, self.rows)[1:]

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Rows of each segment, ndarray (k,) int64."""
        return np.diff(self.starts, append=self.rows)

    @property
    def ids(self) -> NDArray[np.int64]:
        """The segment of each row, ndarray (rows,) int64."""
        return np.repeat(np.arange(len(self.starts)), self.sizes)


def group(codes: NDArray[np.int64]) -> tuple[NDArray[np.int64], Segments]:
    """Return an order that brings equal codes together, ascending, and the segments of that order.

    Rows of one code keep their order. Near linear where `codes` are a few sorted runs.

    Parameters
    ----------
    codes : ndarray (n,) int64
        What rows are grouped by.

    Returns
    -------
    order : ndarray (n,) int64
        ``codes[order]`` ascends.
    segments : Segments
        One per distinct code.
    """
    order = _order(codes)
    ordered = codes[order]
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1])) if len(codes) else np.empty(0, np.int64)
    return order, Segments(starts.astype(np.int64), len(codes))


def _order(codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Sort by 16 bits at a time, which NumPy does in one pass each; sorted runs are merged faster as they are."""
    most = int(codes.max(initial=0))
    descents = np.count_nonzero(codes[1:] < codes[:-1])
    if descents <= 1 or most >= MOST_BY_DIGITS or codes.min(initial=0) < 0:
        return np.argsort(codes, kind="stable")
    order = np.argsort(codes.astype(np.uint16), kind="stable")
    for shift in range(DIGIT, most.bit_length(), DIGIT):
        order = order[np.argsort((codes[order] >> shift).astype(np.uint16), kind="stable")]
    return order
