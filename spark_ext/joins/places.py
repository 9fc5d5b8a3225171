"""Key and event time of a row as one number, alike on both sides, so that order and search are those of numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import pyarrow as pa

from spark_ext.joins.layout import Layout
from spark_ext.joins.sides import Mask, Numbers
from spark_ext.state.keys import codes

__all__ = ["key_codes", "last_of_each", "numbered", "split"]

ROOM: Final = 2**62


def key_codes(left: pa.Table, right: pa.Table, layout: Layout) -> tuple[Numbers, Numbers]:
    """Return a number for the key of each row, equal where keys are, counted up from 0; keys themselves are compared, not hashes.

    Returns
    -------
    left, right : ndarray int64
        Of the rows of either side.
    """
    parts = [
        pa.chunked_array([*left.column(ours).chunks, *right.column(theirs).chunks], left.schema.field(ours).type)
        for ours, theirs in zip(layout.left.keys, layout.right.keys, strict=True)
    ]
    found = codes(parts)
    return found[: left.num_rows], found[left.num_rows :]


def numbered(keys: Sequence[Numbers], times: Sequence[Numbers]) -> list[Numbers]:
    """Return numbers that ascend by key, then time; comparable among all parts.

    Parameters
    ----------
    keys : sequence of ndarray (n_i,) int64
        Of the rows of each part, from 0, few.
    times : sequence of ndarray (n_i,) int64
        Event times in microseconds; where they are too far apart their ranks are used.

    Examples
    --------
    >>> [part.tolist() for part in numbered([np.array([1, 0]), np.array([1])], [np.array([5, 9]), np.array([7])])]
    [[5, 4], [7]]
    """
    every = np.concatenate(times)
    if not len(every):
        return [np.empty(0, np.int64) for _ in times]
    most = max(int(part.max(initial=0)) for part in keys) + 1
    low, width = int(every.min()), int(every.max()) - int(every.min()) + 1
    if most * width >= ROOM:
        distinct, every = np.unique(every, return_inverse=True)
        low, width = 0, len(distinct)
    ends = np.cumsum([len(part) for part in times])[:-1]
    return [key * width + (time - low) for key, time in zip(keys, np.split(every, ends), strict=True)]


def last_of_each(sorted_numbers: Numbers) -> Mask:
    """Tell which is the last of a run of equal numbers."""
    found = np.ones(len(sorted_numbers), bool)
    found[:-1] = sorted_numbers[1:] != sorted_numbers[:-1]
    return found


def split(rows: pa.Table, mask: Mask) -> tuple[pa.Table, pa.Table]:
    """Return the rows of a mask, and the others."""
    if mask.all():
        return rows, rows.slice(0, 0)
    if not mask.any():
        return rows.slice(0, 0), rows
    return rows.filter(pa.array(mask)), rows.filter(pa.array(~mask))
