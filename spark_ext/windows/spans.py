"""States of neighbours put together, for many spans that overlap."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from spark_ext.state.segments import Segments
from spark_ext.windows.rows import Layout
from spark_ext.windows.states import pick

__all__ = ["merged_spans", "within"]

FEW: Final = 4  # states of spans per state there is, below which they are merged one by one


def merged_spans(layout: Layout, states: Sequence[pa.Array], firsts: NDArray[np.int64], lengths: NDArray[np.int64]) -> list[pa.Array]:
    """Return for each span the merged states of the rows in it.

    Costs a logarithm of the longest span per state and span, not its length: spans are made of parts whose lengths are powers of two,
    each made of two of half its length.

    Parameters
    ----------
    states : sequence of pa.Array (n,)
        State columns.
    firsts, lengths : ndarray (k,) int64
        Span ``i`` is ``[firsts[i], firsts[i] + lengths[i])``; no length is 0.

    References
    ----------
    Bender and Farach-Colton, "The LCA Problem Revisited", LATIN 2000, section 3 (sparse table), here without overlap.
    """
    count = len(states[0]) if states else 0
    if int(lengths.max(initial=1)) == 1:
        return pick(states, firsts)
    if int(lengths.sum()) <= FEW * count:
        rows = np.repeat(firsts, lengths) + within(lengths)
        return layout.merge(pick(states, rows), Segments(np.cumsum(lengths) - lengths, len(rows)))
    parts: list[list[pa.Array]] = []
    owners: list[NDArray[np.int64]] = []
    level, width, at, left = list(states), 1, firsts.copy(), lengths.copy()
    while True:
        odd = np.flatnonzero(left & 1)
        parts.append(pick(level, at[odd]))
        owners.append(odd)
        at[odd] += width
        left >>= 1
        if not left.any():
            break
        level = _doubled(layout, level, width)
        width *= 2
    owner = np.concatenate(owners)
    order = np.argsort(owner, kind="stable")
    columns = [pa.concat_arrays(list(column)) for column in zip(*parts, strict=True)]
    starts = np.searchsorted(owner[order], np.arange(len(firsts)))
    return layout.merge(pick(columns, order), Segments(starts, len(order)))


def within(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return 0, 1, ... for each count, one after the other.

    Examples
    --------
    >>> within(np.array([2, 0, 3])).tolist()
    [0, 1, 0, 1, 2]
    """
    return np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)


def _doubled(layout: Layout, level: Sequence[pa.Array], width: int) -> list[pa.Array]:
    """Return states of spans twice as long as those of `level`, which have this width, where they fit."""
    count = len(level[0]) - width
    pairs = np.empty(2 * count, np.int64)
    pairs[::2] = np.arange(count)
    pairs[1::2] = pairs[::2] + width
    return layout.merge(pick(level, pairs), Segments(np.arange(0, 2 * count, 2), 2 * count))
