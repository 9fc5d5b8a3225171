"""The hot list of Misra and Gries: a counter for each frequent item that never counts too much."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from sketches.hot_list import HotList

__all__ = ["MisraGries"]


class MisraGries(HotList):
    """The most frequent items of a stream, counted from below.

    Guarantee: for every item, ``lower_bound <= true count <= upper_bound`` and ``upper_bound - lower_bound = error() <= total / (capacity
    + 1)``, always: no probability, any order, any merges. `estimate` is the lower bound. So each item that makes up more than a
    ``1 / (capacity + 1)`` share is in the table. One exception: items are told apart by 64-bit hashes; among d distinct items, one of the
    capacity in the table shares its hash with another one with a probability below ``capacity * d / 2^64`` (768 and 10^9: 4e-8), and then
    the two are counted as one.

    Values are counted exactly over blocks of 16,384 (or the capacity, if that is more) and at the end of each call; a table that then has
    more than `capacity` entries is purged: the greatest count c but `capacity` is taken off all of them, and entries with nothing left go.
    Each purge takes c from at least ``capacity + 1`` counts, and nothing else is ever taken off, so the sum of all c, which is `error`,
    is at most ``(total - sum of the counts) / (capacity + 1)``. A merge adds tables and purges once: the same argument holds.

    Parameters
    ----------
    capacity : int
        Items in the table, 1 to 2^24.

    Memory: ``16 * capacity`` bytes and the items (8 bytes for an int64). While values are taken, 32 to 64 bytes for each of up to
    ``capacity + 16,384`` entries (``2 * capacity`` if that is more); tables of up to 4 MiB stay with the thread for its next call.

    Not supported: negative weights; rare items; values of several types in one list (integers of 32 and of 64 bits are two).
    Equal: by guarantee. Where a stream is cut into calls or parts decides when the table is purged, so that counters may differ, within
    their bounds; the same calls give the same bytes.

    References
    ----------
    Misra, Gries 1982, "Finding repeated elements". Agarwal, Cormode, Huang, Phillips, Wei, Yi 2013, "Mergeable summaries", section 3: the
    purge and its bound. Anderson, Bevan, Lang, Liberty, Rhodes, Thaler 2017, "A high-performance algorithm for identifying frequent items
    in data streams": purging once in a while instead of decrementing.

    Examples
    --------
    >>> hot = MisraGries(2)
    >>> hot.update_many(np.array([1, 1, 2, 1, 3, 1, 4, 2]))
    >>> hot.top(1), hot.error()
    ([Hot(item=1, estimate=3, lower=3, upper=4)], 1)
    """

    __slots__ = ()
    KIND = "misra_gries"
    SPARE: ClassVar[int] = 0

    def _estimates(self, lower: NDArray[np.int64]) -> NDArray[np.int64]:
        return lower
