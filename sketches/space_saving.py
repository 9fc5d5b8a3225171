"""The hot list SpaceSaving, in its mergeable form: a counter for each frequent item that never counts too little."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from sketches.hot_list import HotList

__all__ = ["SpaceSaving"]


class SpaceSaving(HotList):
    """The most frequent items of a stream, counted from above.

    Guarantee: for every item, ``lower_bound <= true count <= upper_bound`` and ``upper_bound - lower_bound = error() <= total /
    capacity``, always: no probability, any order, any merges. `estimate` is the upper bound, so it is `error` for items not in the table.
    Each item that makes up more than a ``1 / capacity`` share is in the table. Hashes: as for `MisraGries`.

    Agarwal and others show that SpaceSaving with m counters and Misra-Gries with m - 1 are one: what the former counts for an item, less
    its smallest counter, is what the latter counts. So one table serves both. Here the smallest counter is kept as `error`, and the other
    m - 1 as what they are above it; this is the form that can be merged.

    Parameters
    ----------
    capacity : int
        Counters m, 2 to 2^24.

    Memory: ``16 * (capacity - 1)`` bytes and the items. While values are taken: as `MisraGries`.

    Not supported: negative weights; rare items; values of several types in one list.
    Equal: by guarantee, as for `MisraGries`.

    References
    ----------
    Metwally, Agrawal, El Abbadi 2005, "Efficient computation of frequent and top-k elements in data streams". Agarwal, Cormode, Huang,
    Phillips, Wei, Yi 2013, "Mergeable summaries", section 3: the isomorphism and the merge.

    Examples
    --------
    >>> hot = SpaceSaving(3)
    >>> hot.update_many(np.array([1, 1, 2, 1, 3, 1, 4, 2]))
    >>> hot.top(1), hot.estimate(7)
    ([Hot(item=1, estimate=4, lower=3, upper=4)], 1)
    """

    __slots__ = ()
    KIND = "space_saving"
    SPARE: ClassVar[int] = 1

    def _estimates(self, lower: NDArray[np.int64]) -> NDArray[np.int64]:
        return lower + np.int64(self._cut)
