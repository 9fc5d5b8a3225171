"""One side of a join as rows sorted by hash of key and event time: searched, merged and paired by position."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from spark_ext.joins.layout import HASH, Layout, Side
from spark_ext.state.keys import flat, ints, normalised, whole
from spark_ext.windows.aggregates.reduce import order_of

__all__ = [
    "Mask", "Numbers", "Pairs", "Sorted", "equal_at", "expanded", "has_key",
    "searched", "sorted_rows", "taken",
]  # fmt: skip

Numbers = NDArray[np.int64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Sorted:
    """Rows that ascend by hash of key, then event time.

    Attributes
    ----------
    rows : pa.Table
        Columns of the side, its hash, and whatever the operator notes of a row; one chunk each.
    hashes, times : ndarray (n,) int64
        Hash of the key and event time in microseconds.
    """

    rows: pa.Table
    hashes: Numbers
    times: Numbers

    @classmethod
    def of(cls, rows: pa.Table, time: str) -> Self:
        """Take rows that are sorted already, such as those of a state."""
        return cls(rows, ints(rows.column(HASH)), ints(rows.column(time)))

    def __len__(self) -> int:
        return len(self.hashes)

    def range_of(self, hashes: Numbers, first: Numbers, last: Numbers) -> tuple[Numbers, Numbers]:
        """Return for each question where its partners stand: rows of that hash with event time from `first` to `last`, both included.

        Returns
        -------
        starts, counts : ndarray (m,) int64
            Positions here.
        """
        low, high = np.searchsorted(self.hashes, hashes, "left"), np.searchsorted(self.hashes, hashes, "right")
        starts = searched(self.times, low, high, first, after=False)
        ends = searched(self.times, low, high, last, after=True)
        return starts, np.maximum(ends - starts, 0)

    def merged_order(self, new: Sorted) -> Numbers:
        """Return the order in which these rows, then those of `new`, are sorted: positions in both, one behind the other."""
        low, high = np.searchsorted(self.hashes, new.hashes, "left"), np.searchsorted(self.hashes, new.hashes, "right")
        places = searched(self.times, low, high, new.times, after=True) + np.arange(len(new))
        order = np.empty(len(self) + len(new), np.int64)
        is_new = np.zeros(len(order), bool)
        is_new[places] = True
        order[is_new] = len(self) + np.arange(len(new))
        order[~is_new] = np.arange(len(self))
        return order


@dataclass(frozen=True, slots=True)
class Pairs:
    """Rows that meet: position by position one of the left side and one of the right.

    Attributes
    ----------
    left, right : ndarray (k,) int64
        Positions.
    """

    left: Numbers
    right: Numbers

    @classmethod
    def united(cls, parts: Sequence[Pairs]) -> Self:
        """Return all of them."""
        return cls(np.concatenate([one.left for one in parts]), np.concatenate([one.right for one in parts]))

    def __len__(self) -> int:
        return len(self.left)

    def where(self, mask: Mask) -> Pairs:
        """Return some of them."""
        return self if mask.all() else Pairs(self.left[mask], self.right[mask])

    def with_equal_keys(self, left: pa.Table, right: pa.Table, layout: Layout) -> Pairs:
        """Return those whose keys are equal, not only their hashes."""
        equal = np.ones(len(self), bool)
        for ours, theirs in zip(layout.left.keys, layout.right.keys, strict=True):
            equal &= equal_at(whole(left.column(ours)), self.left, whole(right.column(theirs)), self.right)
        return self.where(equal)


def has_key(rows: pa.Table, side: Side) -> Mask:
    """Tell which rows have a key without a null in it; the others match nothing. What is in a struct may be null, as in Spark."""
    found = np.ones(rows.num_rows, bool)
    for name in side.keys:
        if rows.column(name).null_count:
            found &= rows.column(name).is_valid().to_numpy()
    return found


def sorted_rows(rows: pa.Table, time: str) -> Sorted:
    """Sort rows by hash and event time; equal ones keep their order."""
    hashes, times = ints(rows.column(HASH)), ints(rows.column(time))
    order = order_of([hashes, times, np.arange(len(hashes))])  # a third of the time of numpy.lexsort
    return Sorted(taken(rows, order), hashes[order], times[order])


def searched(times: Numbers, low: Numbers, high: Numbers, wanted: Numbers, *, after: bool) -> Numbers:
    """Search many sorted runs at once: where `wanted` would stand in ``times[low:high]``, before equal ones or after them.

    Parameters
    ----------
    times : ndarray (n,) int64
        Ascending within each run.
    low, high : ndarray (m,) int64
        The run of each question.
    wanted : ndarray (m,) int64
        What is looked for.
    after : bool
        Behind equal ones.

    Returns
    -------
    ndarray (m,) int64
        From `low` to `high`.

    Examples
    --------
    >>> searched(np.array([1, 3, 3, 0, 9]), np.array([0, 0, 3]), np.array([3, 3, 5]), np.array([3, 3, 5]), after=True).tolist()
    [3, 3, 4]
    """
    low, high = low.copy(), high.copy()
    for _ in range(int((high - low).max(initial=0)).bit_length()):
        middle = (low + high) >> 1
        is_open = low < high
        found = times[np.where(is_open, middle, 0)] if len(times) else wanted
        is_behind = is_open & ((found <= wanted) if after else (found < wanted))
        low = np.where(is_behind, middle + 1, low)
        high = np.where(is_open & ~is_behind, middle, high)
    return low


def expanded(starts: Numbers, counts: Numbers) -> Pairs:
    """Return each question with each of its partners: ``left`` is the number of the question, ``right`` the position of the partner."""
    asking = np.repeat(np.arange(len(starts)), counts)
    ends = np.cumsum(counts)
    return Pairs(asking, np.arange(len(asking)) - np.repeat(ends - counts - starts, counts))


def taken(rows: pa.Table, positions: Numbers) -> pa.Table:
    """Return rows by position."""
    return rows.take(pa.array(positions))


def equal_at(left: pa.Array, at_left: Numbers, right: pa.Array, at_right: Numbers) -> Mask:
    """Tell row by row whether two keys are equal: those of one array at these positions, those of another at those."""
    if pa.types.is_integer(left.type) and not left.null_count and not right.null_count:
        return np.asarray(left.to_numpy()[at_left] == right.to_numpy()[at_right])
    found = np.ones(len(at_left), bool)
    for ours, theirs in zip(flat(left.take(pa.array(at_left))), flat(right.take(pa.array(at_right))), strict=True):
        found &= _same(normalised(ours), normalised(theirs))
    return found


def _same(ours: pa.Array, theirs: pa.Array) -> Mask:
    found = pc.equal(ours, theirs)
    if pa.types.is_floating(ours.type):
        found = pc.or_(found, pc.and_(pc.is_nan(ours), pc.is_nan(theirs)))
    if found.null_count:
        found = pc.or_kleene(found, pc.and_(ours.is_null(), theirs.is_null())).fill_null(False)
    return np.asarray(found.to_numpy(zero_copy_only=False))
