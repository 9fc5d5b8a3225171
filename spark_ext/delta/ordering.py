"""Versions of rows in Arrow: the last one of each key in a batch, and from when to when each version held."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["closed", "has_duplicates", "latest"]

Bools = npt.NDArray[np.bool_]
NEVER: Final = np.iinfo(np.int64).max  # stands for a null `valid_to`


def has_duplicates(rows: pa.Table, keys: Sequence[str]) -> bool:
    """Tell whether two rows have one key; nulls are equal."""
    return bool(rows.select(list(keys)).group_by(list(keys)).aggregate([]).num_rows < rows.num_rows)


def latest(rows: pa.Table, keys: Sequence[str], sequence: str) -> pa.Table:
    """Return the row with the highest `sequence` of each key, in no order; a null is lower than any value.

    Of rows with an equal sequence the one wins whose other columns are the highest, compared column by column as they stand in the
    table, a null lowest and NaN highest; lists, structs and maps come after the plain columns, compared by their text.
    """
    if not has_duplicates(rows, keys):
        return rows
    rest = [name for name in rows.column_names if name not in {*keys, sequence}]
    order = _order([rows.column(name) for name in [*keys, sequence, *sorted(rest, key=lambda name: _is_nested(rows, name))]])
    ordered = rows.select(list(keys)).take(order)
    return rows.take(pa.array(order.to_numpy()[_ends(ordered, keys)]))


def closed(known: pa.Table, new: pa.Table, keys: Sequence[str], sequence: str, valid_to: str) -> tuple[pa.Array, pa.Table]:
    """Return until when each new version holds, and the known versions that end at another time than before.

    Parameters
    ----------
    known : pyarrow.Table
        `keys`, `sequence` and `valid_to` of all versions of at least the keys of `new`.
    new : pyarrow.Table
        `keys` and `sequence` of versions, one per key and sequence; it replaces a known one.
    keys, sequence, valid_to : str
        Names of columns; `sequence` has no nulls.

    Returns
    -------
    tuple
        An array with a time for each row of `new`, null if nothing follows; and the rows of `known` that change, with their new
        `valid_to`.
    """
    both = pa.concat_tables([known.select([*keys, sequence]), new.select([*keys, sequence])])
    is_new = np.arange(both.num_rows) >= known.num_rows
    order = _order([*(both.column(name) for name in [*keys, sequence]), pa.array(is_new)]).to_numpy()
    both = both.take(pa.array(order))
    stays = _ends(both, [*keys, sequence])  # the new one comes behind the known one that it replaces
    order, both = order[stays], both.filter(pa.array(stays))
    times = _micros(both.column(sequence))
    ends = np.full(len(times), NEVER)
    follows = ~_ends(both, keys)
    ends[follows] = times[np.flatnonzero(follows) + 1]
    found = np.full(len(is_new), NEVER)
    found[order] = ends
    changed = np.zeros(len(is_new), np.bool_)
    changed[order] = True
    changed = changed[: known.num_rows] & (found[: known.num_rows] != _micros(known.column(valid_to)))
    at = known.schema.get_field_index(valid_to)
    closing = known.set_column(at, known.schema.field(at), _times(found[: known.num_rows])).filter(pa.array(changed))
    return _times(found[known.num_rows :]), closing


def _order(columns: Iterable[pa.ChunkedArray]) -> pa.Array:
    """Return the indices that sort by the columns, null before all values and NaN behind, as Spark sorts."""
    keys: list[pa.ChunkedArray] = []
    for column in columns:
        kind = column.type
        if pa.types.is_nested(kind):
            column = pa.array([None if value is None else repr(value) for value in column.to_pylist()], pa.string())  # noqa: PLW2901
        if column.null_count:
            keys.append(pc.is_valid(column))
        if pa.types.is_floating(kind):
            keys.append(pc.fill_null(pc.is_nan(column), False))
        keys.append(column)
    names = [str(number) for number in range(len(keys))]
    return pc.sort_indices(pa.table(keys, names), sort_keys=[(name, "ascending") for name in names])


def _ends(ordered: pa.Table, names: Sequence[str]) -> Bools:
    """Tell of each row of a sorted table whether it is the last of its group."""
    differs = np.ones(ordered.num_rows, np.bool_)
    if ordered.num_rows > 1:
        same = np.ones(ordered.num_rows - 1, np.bool_)
        for name in names:
            column = ordered.column(name).combine_chunks()
            a, b = column[:-1], column[1:]
            equal = pc.fill_null(pc.equal(a, b), False)
            if column.null_count:
                equal = pc.or_(equal, pc.and_(pc.is_null(a), pc.is_null(b)))
            same &= equal.to_numpy(zero_copy_only=False)
        differs[:-1] = ~same
    return differs


def _micros(column: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    found: npt.NDArray[np.int64] = pc.fill_null(column.cast(pa.int64()), NEVER).to_numpy()
    return found


def _times(micros: npt.NDArray[np.int64]) -> pa.Array:
    return pa.array(micros, pa.int64(), mask=micros == NEVER).cast(pa.timestamp("us", "UTC"))


def _is_nested(rows: pa.Table, name: str) -> bool:
    return bool(pa.types.is_nested(rows.schema.field(name).type))
