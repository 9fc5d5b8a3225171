"""Panes of windows that lie on a fixed grid: tumbling, sliding and the one window that holds everything.

Sliding windows are cut where any of them starts or ends, so each is whole panes, and a row costs the same however many windows share it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from spark_ext.state.kernel import FOREVER_US, NEVER_US
from spark_ext.windows.panes import Panes

__all__ = ["AlignedPanes", "GlobalPane", "distinct", "window_of_panes"]

TABLE_ROWS = 65_536  # a table of this many flags stays in the second-level cache


@dataclass(frozen=True, slots=True)
class AlignedPanes:
    """Panes of windows of one length that start at regular intervals.

    Guarantee: pure integer arithmetic, exact for all years 1 to 9999, before 1970 too. Windows start at
    ``offset_us + i * every_us`` for all integers i. Where `length_us` is a multiple of `every_us` a pane is one interval;
    else an interval is two panes, cut where a window ends.

    Parameters
    ----------
    length_us : int
        Length of a window in microseconds, > 0.
    every_us : int
        Interval between starts in microseconds, from 1 to `length_us`; equal to it for tumbling windows.
    offset_us : int
        Start of one of the windows, microseconds since 1970, from 0 to `every_us` - 1.

    References
    ----------
    Krishnamurthy, Wu and Franklin, "On-the-Fly Sharing for Streamed Aggregation", SIGMOD 2006, section 3 (paired windows).

    Examples
    --------
    >>> import numpy as np
    >>> panes = AlignedPanes(length_us=10, every_us=10, offset_us=0).panes(np.array([25, -1, 29]))
    >>> panes.index.tolist(), panes.starts.tolist(), panes.ends.tolist()
    ([1, 0, 1], [-10, 20], [0, 30])
    """

    length_us: int
    every_us: int
    offset_us: int

    def panes(self, times_us: NDArray[np.int64]) -> Panes:
        """Return the pane of each event time, see `PaneAssigner.panes`."""
        since = times_us - self.offset_us if self.offset_us else times_us
        interval = since // self.every_us  # NumPy rounds down, so times before 1970 fall into their own pane
        cut = self.length_us % self.every_us
        if not cut:
            index, interval = distinct(interval)
            starts = interval * self.every_us + self.offset_us
            return Panes(index, starts, starts + self.every_us)
        index, half = distinct(2 * interval + (since - interval * self.every_us >= cut))
        starts = half // 2 * self.every_us + half % 2 * cut + self.offset_us
        return Panes(index, starts, starts + np.where(half % 2, self.every_us - cut, cut))


@dataclass(frozen=True, slots=True)
class GlobalPane:
    """The one pane of the global window, from `NEVER_US` to `FOREVER_US`."""

    def panes(self, times_us: NDArray[np.int64]) -> Panes:
        """Return the pane of each event time, see `PaneAssigner.panes`."""
        some = min(len(times_us), 1)
        return Panes(np.zeros(len(times_us), np.int64), np.full(some, NEVER_US, dtype=np.int64), np.full(some, FOREVER_US, dtype=np.int64))


def window_of_panes(
    starts_us: NDArray[np.int64], *, length_us: int, every_us: int, offset_us: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the windows of `AlignedPanes` that contain each pane.

    Window j of a pane, j from 0 to its count - 1, is ``[first + j * every_us, first + j * every_us + length_us)``.

    Parameters
    ----------
    starts_us : ndarray (n,) int64
        Starts of panes, as `AlignedPanes.panes` returned them, any order.
    length_us, every_us, offset_us : int
        As in `AlignedPanes`.

    Returns
    -------
    first : ndarray (n,) int64
        Start of the first window that contains the pane, microseconds since 1970.
    count : ndarray (n,) int64
        How many do, at least 1: ``length_us / every_us`` rounded down or up.

    Examples
    --------
    >>> import numpy as np
    >>> first, count = window_of_panes(np.array([-5, 20]), length_us=15, every_us=5, offset_us=0)
    >>> first.tolist(), count.tolist()
    ([-15, 10], [3, 3])
    """
    since = starts_us - offset_us
    before = (since - length_us) // every_us  # the last window that has ended by then
    return (before + 1) * every_us + offset_us, since // every_us - before


def distinct(codes: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return where each code is among the distinct ones, and those.

    Linear: a table of flags where the codes lie close together, as those of a batch's panes do, else Arrow's hash table. Only the
    distinct codes are sorted.

    Parameters
    ----------
    codes : ndarray (n,) int64
        Any values whose range fits into int64.

    Returns
    -------
    index : ndarray (n,) int64
        ``values[index]`` are the codes.
    values : ndarray (k,) int64
        The distinct codes, ascending.

    Examples
    --------
    >>> import numpy as np
    >>> [each.tolist() for each in distinct(np.array([7, 5, 7]))]
    [[1, 0, 1], [5, 7]]
    """
    if not len(codes):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    least, width = int(codes.min()), int(codes.max()) - int(codes.min()) + 1
    if width == 1:
        return np.zeros(len(codes), np.int64), np.array([least], np.int64)
    if width > max(TABLE_ROWS, 8 * len(codes)):
        encoded = pa.array(codes).dictionary_encode()
        values = encoded.dictionary.to_numpy()
        order = np.argsort(values)
        rank = np.empty(len(values), np.int64)
        rank[order] = np.arange(len(values))
        return rank[encoded.indices.to_numpy()], values[order]
    shifted = codes - least
    seen = np.zeros(width, np.bool_)
    seen[shifted] = True
    found = np.flatnonzero(seen)
    index = shifted if len(found) == width else (np.cumsum(seen) - 1)[shifted]
    return index, found + least
