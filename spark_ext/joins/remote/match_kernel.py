"""Rows and the answers for their keys: which keys there are, and which row goes with which answer."""

from __future__ import annotations

from typing import Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from spark_ext.state.keys import codes, whole

__all__ = ["How", "distinct", "pairs", "ranges"]

How = Literal["inner", "left", "semi", "anti"]
NONE: Final = -1


def distinct(keys: pa.Table) -> tuple[NDArray[np.int64], pa.Table]:
    """Return the number of each row's key, and the keys by number.

    Parameters
    ----------
    keys : pa.Table (n rows)
        The parts of the key, one or more.

    Returns
    -------
    numbers : ndarray (n,) int64
        Counted up by first appearance; -1 where a part of the key is null, which is not a key.
    keys : pa.Table (k rows)
        Distinct, without nulls.

    Examples
    --------
    >>> numbers, keys = distinct(pa.table({"k": ["b", None, "a", "b"]}))
    >>> numbers.tolist(), keys.to_pydict()
    ([0, -1, 1, 0], {'k': ['b', 'a']})
    """
    there = np.ones(keys.num_rows, np.bool_)
    for column in keys.columns:
        there &= pc.is_valid(whole(column)).to_numpy(zero_copy_only=False)
    valid = keys.filter(pa.array(there))
    numbers = np.full(keys.num_rows, NONE, np.int64)
    found = codes(valid.columns)
    numbers[there] = found
    _, first = np.unique(found, return_index=True)
    return numbers, valid.take(pa.array(first, pa.int64()))


def pairs(
    numbers: NDArray[np.int64], starts: NDArray[np.int64], counts: NDArray[np.int64], failed: NDArray[np.bool_], how: How
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return which rows come out, and with which answers.

    A row whose key failed comes out once, whatever `how`: nobody knows whether it has answers.

    Parameters
    ----------
    numbers : ndarray (n,) int64
        Of each row's key; -1 for a row without one.
    starts, counts : ndarray (k,) int64
        Place of the first answer and number of answers, for each key.
    failed : ndarray (k,) bool
        Keys that could not be looked up.
    how : {"inner", "left", "semi", "anti"}
        As in Spark.

    Returns
    -------
    rows : ndarray (m,) int64
        Places of rows, ascending.
    answers : ndarray (m,) int64
        Places of answers; -1 for a row that comes out without one.

    Examples
    --------
    >>> of = np.array([0, -1, 1, 0]), np.array([5, 0]), np.array([2, 0]), np.array([False, False])
    >>> [part.tolist() for part in pairs(*of, "left")]
    [[0, 0, 1, 2, 3, 3], [5, 6, -1, -1, 5, 6]]
    >>> [part.tolist() for part in pairs(*of, "anti")]
    [[1, 2], [-1, -1]]
    """
    # One more for rows without a key: found nothing, failed at nothing.
    counts, starts = np.append(np.where(failed, 0, counts), 0)[numbers], np.append(starts, 0)[numbers]
    lost = np.append(failed, False)[numbers]
    if how in {"semi", "anti"}:
        rows = np.flatnonzero(((counts > 0) == (how == "semi")) | lost)
        return rows, np.full(len(rows), NONE, np.int64)
    alone = (counts == 0) & (lost | (how == "left"))
    rows = np.repeat(np.arange(len(numbers)), np.where(alone, 1, counts))
    answers = ranges(np.where(alone, NONE, starts), np.where(alone, 1, counts))
    return rows, answers


def ranges(starts: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the numbers of all ranges, one range after the other.

    Examples
    --------
    >>> ranges(np.array([7, 0, 3]), np.array([2, 0, 1])).tolist()
    [7, 8, 3]
    """
    ends = np.cumsum(counts)
    within = np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - counts, counts)
    found: NDArray[np.int64] = np.repeat(starts, counts) + within
    return found
