"""Rows of a group in order, up to a limit: top n by value, rows collected by event time."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from spark_ext.errors import SettingsError
from spark_ext.state.segments import Segments
from spark_ext.windows.aggregates.aggregate import Aggregate, Types
from spark_ext.windows.aggregates.columns import canonical, column_name, ordered_type, positive, sort_key, valid
from spark_ext.windows.aggregates.reduce import flatten, lists, order_of

__all__ = ["Collect", "TopN", "collect", "top_n"]

TIME = "event_time_us"
Key = NDArray[np.int64]


def top_n(column: str, n: int, *, by: str | None = None) -> Aggregate:
    """Keep the n largest values of a column, or its values in the rows where another column is largest.

    Guarantee: descending in the order of `min`. Of rows with equal `by` those with the larger value come first, nulls last; so the
    result does not depend on the order of rows. A value that occurs twice counts twice.

    Parameters
    ----------
    column : str
        What is kept. Without `by`, nulls are ignored; with it, a null is kept as the value of its row.
    n : int, >= 1
        How many rows of a group.
    by : str, optional
        What rows are ordered by; rows where it is null are ignored.

    Returns
    -------
    Aggregate
        Result a list of the column's type, of at most `n`; empty without values. State: at most `n` values, and as many of `by`,
        and 4 bytes a group.

    Raises
    ------
    SettingsError
        `n` is not a whole number >= 1.
    SchemaError
        When its types are asked for: values of this type have no order.
    """
    positive(n, "top_n", "n")
    return TopN(column_name(column, "top_n"), n, None if by is None else column_name(by, "top_n"))


def collect(*columns: str, limit: int, keep: str = "first") -> Aggregate:
    """Collect the rows of a group, sorted by event time, up to a limit.

    This is `limit` per window and sorting within a window. Rows are sorted by event time, then by `columns` as given, ascending in
    the order of `min`, nulls first; so the result does not depend on the order in which they came. Nulls are kept: what is
    collected is rows.

    Parameters
    ----------
    columns : str
        At least one; all different.
    limit : int, >= 1
        How many rows of a group are kept. Must be given: state is bounded by it.
    keep : "first" or "last", default "first"
        Which rows are kept where there are more: the earliest or the latest.

    Returns
    -------
    Aggregate
        Result a list of the column's type, or of structs of several columns; empty without rows. State: at most `limit` rows of
        these columns and 8 bytes each, and 4 bytes a group.

    Raises
    ------
    SettingsError
        No column, one twice, a limit below 1, or another word for `keep`.
    SchemaError
        When its types are asked for: values of this type have no order.
    """
    positive(limit, "collect", "limit")
    for column in columns:
        column_name(column, "collect")
    if not columns or len(set(columns)) < len(columns):
        expected = "one or more different columns"
        raise SettingsError("build", "aggregate", "collect", expected=expected, got=repr(columns), todo="name each column to keep once")
    if keep not in ("first", "last"):
        raise SettingsError("build", "aggregate", "collect", expected="keep 'first' or 'last'", got=repr(keep), todo="give one of these")
    return Collect(columns, limit, latest=keep == "last")


class _Ranked(Aggregate):
    """State: one list per group, of structs, sorted and no longer than the limit."""

    __slots__ = ()

    @abstractmethod
    def _fields(self, types: Types) -> list[pa.Field]:
        """Return the fields of a struct."""

    @abstractmethod
    def _bounded(self, rows: Sequence[pa.Array], ids: Key, count: int) -> list[pa.Array]:
        """Return the states of `count` groups, made of the fields of rows and the group of each."""

    @abstractmethod
    def _output(self, rows: pa.StructArray) -> pa.Array:
        """Return what a result lists for each row of the state."""

    def state(self, types: Types) -> list[pa.DataType]:
        return [pa.list_(pa.struct(self._fields(types)))]

    def identity(self, types: Types, groups: int) -> list[pa.Array]:
        item = pa.array([], pa.struct(self._fields(types)))
        return [lists(item, np.empty(0, np.int64), groups)]

    def merge(self, states: Sequence[pa.Array], segments: Segments) -> list[pa.Array]:
        if len(segments) == segments.rows:
            return list(states)
        rows, ids = flatten(states[0], segments)
        return self._bounded(rows.flatten(), ids, len(segments))

    def finish(self, states: Sequence[pa.Array], types: Types) -> pa.Array:
        count = len(states[0])
        rows, ids = flatten(states[0], Segments(np.arange(count), count))
        return lists(self._output(rows), ids, count)


@dataclass(frozen=True, slots=True)
class TopN(_Ranked):
    """See `top_n`. State: a list of structs of the value and, if another column orders them, that."""

    column: str
    n: int
    by: str | None

    @property
    def inputs(self) -> tuple[str, ...]:  # noqa: D102
        return (self.column,) if self.by in (None, self.column) else (self.column, self.by)

    def result(self, types: Types) -> pa.DataType:  # noqa: D102
        return pa.list_(ordered_type(types, self.column, "top_n"))

    def of_rows(self, rows: Mapping[str, pa.Array], times: pa.Array, segments: Segments) -> list[pa.Array]:  # noqa: D102
        ids, columns = segments.ids, [rows[name] for name in self.inputs]
        present = valid(columns[-1])
        if present is not None:
            ids, columns = ids[present], [column.filter(pa.array(present)) for column in columns]
        return self._bounded([canonical(column) for column in columns], ids, len(segments))

    def _fields(self, types: Types) -> list[pa.Field]:
        return [pa.field(name, ordered_type(types, column, "top_n")) for name, column in zip(("value", "by"), self.inputs, strict=False)]

    def _bounded(self, rows: Sequence[pa.Array], ids: Key, count: int) -> list[pa.Array]:
        keys = [~key for column in reversed(rows) for key in _keys(column)]
        return [_limited(rows, ("value", "by")[: len(rows)], [ids, *keys], self.n, count)]

    def _output(self, rows: pa.StructArray) -> pa.Array:
        return rows.field(0)


@dataclass(frozen=True, slots=True)
class Collect(_Ranked):
    """See `collect`. State: a list of structs of the event time (int64, microseconds) and the columns."""

    columns: tuple[str, ...]
    limit: int
    latest: bool

    @property
    def inputs(self) -> tuple[str, ...]:  # noqa: D102
        return self.columns

    def result(self, types: Types) -> pa.DataType:  # noqa: D102
        _, *fields = self._fields(types)
        return pa.list_(fields[0].type if len(fields) == 1 else pa.struct(fields))

    def of_rows(self, rows: Mapping[str, pa.Array], times: pa.Array, segments: Segments) -> list[pa.Array]:  # noqa: D102
        return self._bounded([times, *(canonical(rows[column]) for column in self.columns)], segments.ids, len(segments))

    def _fields(self, types: Types) -> list[pa.Field]:
        columns = [pa.field(column, ordered_type(types, column, "collect")) for column in self.columns]
        return [pa.field(TIME, pa.int64()), *columns]

    def _bounded(self, rows: Sequence[pa.Array], ids: Key, count: int) -> list[pa.Array]:
        keys = [key for column in rows for key in _keys(column)]
        return [_limited(rows, (TIME, *self.columns), [ids, *keys], self.limit, count, latest=self.latest)]

    def _output(self, rows: pa.StructArray) -> pa.Array:
        _, *columns = rows.flatten()
        return columns[0] if len(columns) == 1 else pa.StructArray.from_arrays(columns, list(self.columns))


def _keys(column: pa.Array) -> list[Key]:
    """Return sort keys of a column, nulls first."""
    present, key = valid(column), sort_key(column)
    return [key] if present is None else [present.astype(np.int64), np.where(present, key, 0)]


def _limited(
    rows: Sequence[pa.Array], names: Sequence[str], keys: Sequence[Key], limit: int, count: int, *, latest: bool = False
) -> pa.Array:
    """Return a list for each of `count` groups: its rows sorted by `keys`, of which the first is the group; not more than `limit`."""
    order = order_of(keys)
    ids = keys[0][order]
    sizes = np.bincount(ids, minlength=count)
    ends = np.cumsum(sizes)
    if sizes.max(initial=0) > limit:
        place = np.arange(len(ids))
        keep = place >= (ends - limit)[ids] if latest else place < (ends - sizes + limit)[ids]
        order, ids = order[keep], ids[keep]
    taken = pa.array(order)
    return lists(pa.StructArray.from_arrays([row.take(taken) for row in rows], list(names)), ids, count)
