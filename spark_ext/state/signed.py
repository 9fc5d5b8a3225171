"""Rows with a sign: +1 for a row that is there from now on, -1 for one that is not any more."""

from __future__ import annotations

from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from spark_ext.state.keys import codes, whole
from spark_ext.windows.total_order import total_order

__all__ = ["SIGN", "difference", "keep", "netted", "numbered", "ranks", "row_numbers", "signed", "signs_of", "surplus"]

SIGN: Final = "sign"

Mask = NDArray[np.bool_]
Numbers = NDArray[np.int64]


def signed(schema: pa.Schema) -> pa.Schema:
    """Return the columns with `sign` behind them, all of them nullable."""
    return pa.schema([*(field.with_nullable(True) for field in schema), pa.field(SIGN, pa.int8())])


def signs_of(rows: pa.Table) -> Numbers:
    """Return the signs of rows, ndarray (n,) int64; 0 where there is none."""
    return np.asarray(whole(rows.column(SIGN)).cast(pa.int64()).fill_null(0))


def difference(before: pa.Table, after: pa.Table) -> pa.Table:
    """Return what changes one table into another: rows that go, with sign -1, and rows that come, with sign +1; equal ones do neither."""
    both = pa.concat_tables([before, after.cast(before.schema)])
    return _net(both, np.repeat([-1, 1], [before.num_rows, after.num_rows]))


def netted(rows: pa.Table) -> pa.Table:
    """Return changes without rows that come and go: the sum of signs of each row, as so many rows.

    Examples
    --------
    >>> rows = pa.table({"v": ["a", "b", "a", "a"], "sign": pa.array([1, -1, -1, 1], pa.int8())})
    >>> netted(rows).to_pydict()
    {'v': ['a', 'b'], 'sign': [1, -1]}
    """
    return _net(rows.drop_columns(SIGN), signs_of(rows))


def row_numbers(rows: pa.Table) -> Numbers:
    """Return a number for each row by the values of all its columns; see `spark_ext.state.keys.codes`."""
    if not rows.num_columns:
        return np.zeros(rows.num_rows, np.int64)
    return codes([_comparable(column) for column in rows.columns])


def numbered(tables: list[tuple[pa.Table, tuple[str, ...]]]) -> list[Numbers]:
    """Return a number for each row of several tables by the values of its key: equal keys get equal ones, whichever table they are of.

    Parameters
    ----------
    tables : list of (pa.Table, tuple of str)
        Rows, and the columns of their key in the order of the others'.
    """
    sizes = [rows.num_rows for rows, _ in tables]
    parts = zip(*([rows.column(name) for name in keys] for rows, keys in tables), strict=True)
    columns = [pa.chunked_array([chunk for one in part for chunk in one.chunks], part[0].type) for part in parts]
    found = codes(columns) if columns else np.zeros(sum(sizes), np.int64)
    return np.split(found, np.cumsum(sizes)[:-1])


def surplus(units: Numbers, signs: Numbers, known: Numbers, rows: pa.Table) -> Mask:
    """Tell which rows take away what is not there: of each unit those that are left when all it had and all that come are taken.

    Parameters
    ----------
    units : ndarray (n,) int64
        What each row counts for; -1: for nothing.
    signs : ndarray (n,) int64
        +1 or -1.
    known : ndarray (k,) int64
        How often each unit is there before.
    rows : pa.Table
        The rows: which of several come out depends on their values, not on their order.
    """
    counts = units >= 0
    total = known + np.bincount(units[counts], signs[counts], len(known)).astype(np.int64)
    wrong = total < 0
    found = np.zeros(len(units), bool)
    if not wrong.any():
        return found
    asked = np.flatnonzero(counts & (signs < 0) & wrong[np.where(counts, units, 0)])
    order = np.lexsort((ranks(rows.take(pa.array(asked))), units[asked]))
    asked = asked[order]
    unit = units[asked]
    place = np.arange(len(asked)) - np.searchsorted(unit, unit, "left")
    found[asked[place < -total[unit]]] = True
    return found


def _net(rows: pa.Table, signs: Numbers) -> pa.Table:
    if not rows.num_rows:
        return rows.append_column(SIGN, pa.array([], pa.int8()))
    numbers = row_numbers(rows)
    sums = np.bincount(numbers, signs).astype(np.int64)
    first = np.empty(len(sums), np.int64)
    first[numbers[::-1]] = np.arange(len(numbers) - 1, -1, -1)
    times = np.abs(sums)
    found = rows.take(pa.array(np.repeat(first, times)))
    return found.append_column(SIGN, pa.array(np.repeat(np.sign(sums), times).astype(np.int8)))


def ranks(rows: pa.Table) -> Numbers:
    """Return numbers that order rows by the values of their columns, one after the other; equal for equal rows, whatever their sign.

    Values ascend as in `spark_ext.windows.total_order`: nulls first, structs field by field.

    Examples
    --------
    >>> ranks(pa.table({"v": [{"a": 10}, {"a": 9}, None]})).tolist()
    [2, 1, 0]
    """
    plain = rows.drop_columns([SIGN] if SIGN in rows.column_names else [])
    numbers = row_numbers(plain)
    order = total_order([np.zeros(rows.num_rows, np.int64)], plain.columns)
    ranks = np.empty(len(order), np.int64)
    ranks[order] = np.cumsum(np.append(True, np.diff(numbers[order]) != 0)) - 1 if len(order) else 0
    return ranks


def _comparable(column: pa.ChunkedArray) -> pa.ChunkedArray | pa.Array:
    """Return lists and maps as their text: they are compared only to see whether a row came and went."""
    kind = column.type
    if pa.types.is_nested(kind) and not (pa.types.is_struct(kind) and not any(pa.types.is_nested(field.type) for field in kind)):
        return pa.array([None if value is None else repr(value) for value in column.to_pylist()], pa.string())
    return column


def keep(rows: pa.Table, mask: Mask) -> pa.Table:
    """Return the rows where `mask` is true."""
    return rows if mask.all() else rows.filter(pa.array(mask))
