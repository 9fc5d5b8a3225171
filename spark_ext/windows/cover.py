"""Which windows a pane belongs to, and the windows put together from their panes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from spark_ext.state.segments import group
from spark_ext.windows.groups import Groups
from spark_ext.windows.rows import Layout

__all__ = ["Cover", "assemble"]

CHUNK_ROWS: Final = 1_000_000  # states of panes that are put together at a time
NOWHERE: Final = np.empty(0, np.int64)


@dataclass(frozen=True, slots=True)
class Cover:
    """Sliding windows over panes: window ``k`` is ``[offset + k * interval, offset + k * interval + length)``.

    No window starts or ends within a pane.

    Attributes
    ----------
    length_us, interval_us, offset_us : int
        In microseconds; length >= interval > 0.
    """

    length_us: int
    interval_us: int
    offset_us: int

    def ends(self, panes: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the end of the first and of the last window that each pane belongs to.

        Parameters
        ----------
        panes : ndarray (k,) int64
            Starts of panes.
        """
        last_start = (panes - self.offset_us) // self.interval_us * self.interval_us + self.offset_us
        earlier = (last_start + self.length_us - panes - 1) // self.interval_us
        last = last_start + self.length_us
        return last - earlier * self.interval_us, last

    def closing(self, panes: NDArray[np.int64], *, after_us: int, until_us: int) -> NDArray[np.int64]:
        """Return the ends, ascending, of all windows over these panes that end in ``(after_us, until_us]``."""
        if not len(panes):
            return NOWHERE
        first, last = self.ends(panes)
        step = self.interval_us
        # Every window from a pane's first to its last, as runs that are cut at both bounds.
        low = np.maximum(first, first + -(-(after_us + 1 - first) // step) * step)
        high = np.minimum(last, first + (until_us - first) // step * step)
        counts = np.maximum((high - low) // step + 1, 0)
        runs = np.repeat(low, counts) + step * _within(counts)
        return np.unique(runs)

    def missed(self, panes: NDArray[np.int64], until_us: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Return for each pane how many of its windows end by `until_us`, of how many, and the end of the last of those."""
        first, last = self.ends(panes)
        windows = (last - first) // self.interval_us + 1
        missed = np.clip((until_us - first) // self.interval_us + 1, 0, windows)
        return missed, windows, first + (missed - 1) * self.interval_us


def assemble(
    layout: Layout, cover: Cover, panes: NDArray[np.int64], groups: Groups, ends: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], Groups]]:
    """Put windows together from the panes they cover, for every key that has one.

    Parameters
    ----------
    panes : ndarray (k,) int64
        Starts of panes, ascending.
    groups : Groups
        What there is per pane and key, ascending.
    ends : ndarray (w,) int64
        Ends of the windows that are wanted, ascending.

    Yields
    ------
    ndarray (w',) int64, Groups
        Some of `ends`, in order, and their groups: `Groups.pane` is the place among them.
    """
    bounds = np.searchsorted(groups.pane, np.arange(len(panes) + 1))
    from_rows = bounds[np.searchsorted(panes, ends - cover.length_us)]
    to_rows = bounds[np.searchsorted(panes, ends)]
    done = np.cumsum(to_rows - from_rows)
    start = 0
    while start < len(ends):
        before = done[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(done, before + CHUNK_ROWS, side="right")))
        yield ends[start:stop], _put_together(layout, groups, from_rows[start:stop], to_rows[start:stop])
        start = stop


def _put_together(layout: Layout, groups: Groups, from_rows: NDArray[np.int64], to_rows: NDArray[np.int64]) -> Groups:
    counts = to_rows - from_rows
    rows = np.repeat(from_rows, counts) + _within(counts)
    window = np.repeat(np.arange(len(counts)), counts)
    keys = int(groups.key.max(initial=0)) + 1
    wanted = window * keys + groups.key[rows]
    order, segments = group(wanted)
    taken = pa.array(rows[order])
    states = layout.merge([state.take(taken) for state in groups.states], segments)
    found = wanted[order][segments.starts]
    fresh = np.add.reduceat(groups.fresh[rows[order]], segments.starts) if len(segments) else NOWHERE
    return Groups(found // keys, found % keys, fresh, states)


def _within(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return 0, 1, ... for each count, one after the other."""
    return np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
