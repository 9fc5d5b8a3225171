"""An order of rows that does not depend on how they arrived: by numbers such as key and time, and where these are equal by values.

Rows that are equal in every column may change places; nobody can tell.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from spark_ext.windows.aggregates.columns import sort_key
from spark_ext.windows.aggregates.reduce import order_of
from spark_ext.windows.states import changes

__all__ = ["total_order"]

Keys = list[NDArray[np.int64]]


def total_order(numbers: Sequence[NDArray[np.int64]], columns: Sequence[pa.Array | pa.ChunkedArray]) -> NDArray[np.int64]:
    """Return the order in which rows ascend by `numbers`, the most significant first, then by the values of `columns`.

    Values ascend as in Spark, nulls first; structs field by field, lists and maps element by element, the shorter one first. Columns
    are looked at where the numbers are equal, nowhere else.

    Parameters
    ----------
    numbers : sequence of ndarray (n,) int64
        One or more.
    columns : sequence of pa.Array (n,)
        Of any type that Spark has, except calendar intervals.

    Returns
    -------
    ndarray (n,) int64

    Examples
    --------
    >>> total_order([np.array([2, 1, 1])], [pa.array(["a", "c", "b"])]).tolist()
    [2, 1, 0]
    """
    order = order_of(numbers)
    same = ~changes(*(each[order] for each in numbers))
    for column in columns:
        if not same.any():
            break
        # Runs of rows that are equal so far: all that are like the row before, and that one.
        places = np.flatnonzero(same | np.append(same[1:], False))
        tied = order[places]
        run = np.cumsum(~same, dtype=np.int64)[places]
        keys = [run, *_keys(_whole(column.take(pa.array(tied))))]
        by = order_of(keys)
        order[places] = tied[by]
        same[places] = ~changes(*(key[by] for key in keys))
    return order


def _keys(column: pa.Array) -> Keys:
    kind = column.type
    if pa.types.is_null(kind):
        return []
    present: NDArray[np.bool_] = column.is_valid().to_numpy(zero_copy_only=False)
    parts: Keys
    if pa.types.is_struct(kind):
        parts = [key for child in column.flatten() for key in _keys(child)]
    elif pa.types.is_map(kind) or pa.types.is_list(kind) or pa.types.is_large_list(kind):
        parts = [_of_lists(column)]
    else:
        parts = [np.where(present, sort_key(column), 0)]
    return parts if present.all() else [present.astype(np.int64), *parts]


def _of_lists(column: pa.Array) -> NDArray[np.int64]:
    """Return the places of lists in their order, by one position after the other until they all differ."""
    lengths = np.where(column.is_valid().to_numpy(zero_copy_only=False), np.diff(column.offsets.to_numpy()), 0)
    starts = column.offsets.to_numpy()[:-1]
    entries = [column.keys, column.items] if pa.types.is_map(column.type) else [column.values]
    keys = [key for entry in entries for key in _keys(entry)]
    elements = _ranks(keys) if keys else np.zeros(len(entries[0]), np.int64)
    ranks = np.zeros(len(column), np.int64)
    for position in range(int(lengths.max(initial=0))):
        longer = lengths > position
        part = np.zeros(len(column), np.int64)
        part[longer] = elements[starts[longer] + position] + 1
        ranks = _ranks([ranks, part])
        if int(ranks.max()) == len(ranks) - 1:
            break
    return ranks


def _ranks(keys: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Return places in the order of rows from 0, equal ones alike."""
    order = order_of(keys)
    ranks = np.empty(len(order), np.int64)
    ranks[order] = np.cumsum(changes(*(key[order] for key in keys))) - 1
    return ranks


def _whole(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
