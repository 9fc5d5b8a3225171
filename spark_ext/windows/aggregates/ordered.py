"""The value of a group that is first in some order: minimum, maximum, first and last by event time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from spark_ext.state.segments import Segments
from spark_ext.windows.aggregates.aggregate import Aggregate, Types
from spark_ext.windows.aggregates.columns import arrow, canonical, column_name, is_fixed, ordered_type, sort_key, valid, view
from spark_ext.windows.aggregates.reduce import any_of, first_rows, narrow, reduce, spread

__all__ = ["Edge", "Extreme", "first", "last", "max", "min"]


def min(column: str) -> Aggregate:  # noqa: A001
    """Find the smallest value of a column; nulls are ignored.

    Guarantee: ordered as in Spark: NaN is the largest number, -0.0 equals 0.0 (and comes out as 0.0), false is before true, text
    and binary go by bytes.

    Returns
    -------
    Aggregate
        Result of the column's type; null without values. State: one value a group.

    Raises
    ------
    SchemaError
        When its types are asked for: values of this type have no order.
    """
    return Extreme(column_name(column, "min"), largest=False)


def max(column: str) -> Aggregate:  # noqa: A001
    """Find the largest value of a column; nulls are ignored. Order, result, state and errors as of `min`."""
    return Extreme(column_name(column, "max"), largest=True)


def first(column: str) -> Aggregate:
    """Find the value of the earliest row by event time; rows where it is null are skipped.

    Guarantee: of several rows of that time the smallest value in the order of `min`, whatever the order of rows.

    Returns
    -------
    Aggregate
        Result of the column's type; null without values. State: one value and 8 bytes a group.

    Raises
    ------
    SchemaError
        When its types are asked for: values of this type have no order.
    """
    return Edge(column_name(column, "first"), latest=False)


def last(column: str) -> Aggregate:
    """Find the value of the latest row by event time; as `first`, but of several rows of that time the largest value."""
    return Edge(column_name(column, "last"), latest=True)


@dataclass(frozen=True, slots=True)
class Extreme(Aggregate):
    """See `min` and `max`. State: the value."""

    column: str
    largest: bool

    @property
    def inputs(self) -> tuple[str, ...]:  # noqa: D102
        return (self.column,)

    def state(self, types: Types) -> list[pa.DataType]:  # noqa: D102
        return [ordered_type(types, self.column, "max" if self.largest else "min")]

    def result(self, types: Types) -> pa.DataType:  # noqa: D102
        return self.state(types)[0]

    def identity(self, types: Types, groups: int) -> list[pa.Array]:  # noqa: D102
        return [pa.nulls(groups, self.result(types))]

    def of_rows(self, rows: Mapping[str, pa.Array], times: pa.Array, segments: Segments) -> list[pa.Array]:  # noqa: D102
        return [canonical(merged) for merged in self.merge([rows[self.column]], segments)]

    def merge(self, states: Sequence[pa.Array], segments: Segments) -> list[pa.Array]:  # noqa: D102
        array = states[0]
        if len(segments) == segments.rows:
            return [array]
        return [self._of_numbers(array, segments) if is_fixed(array.type) else self._of_ranks(array, segments)]

    def finish(self, states: Sequence[pa.Array], types: Types) -> pa.Array:  # noqa: D102
        return states[0]

    def _of_numbers(self, array: pa.Array, segments: Segments) -> pa.Array:
        values, present = view(array), valid(array)
        is_float = pa.types.is_floating(array.type)
        if present is not None:
            if is_float:
                neutral = -np.inf if self.largest else np.nan
            else:
                limits = np.iinfo(values.dtype)
                neutral = limits.min if self.largest else limits.max
            values = np.where(present, values, values.dtype.type(neutral))
        # NaN is the largest: maximum hands it on, fmin passes over it.
        smallest = np.fmin if is_float else np.minimum
        reduced = reduce(np.maximum if self.largest else smallest, values, segments)
        return arrow(reduced, array.type, any_of(present, segments))

    def _of_ranks(self, array: pa.Array, segments: Segments) -> pa.Array:
        present = valid(array)
        groups, known = np.arange(len(segments)), segments
        if present is not None:
            groups, known = narrow(present, segments)
            array = array.filter(pa.array(present))
        key = sort_key(array)
        rows = first_rows([~key if self.largest else key], known)
        return spread(array.take(pa.array(rows)), groups, len(segments))


@dataclass(frozen=True, slots=True)
class Edge(Aggregate):
    """See `first` and `last`. State: the value and its event time (int64, microseconds); both null where there is none."""

    column: str
    latest: bool

    @property
    def inputs(self) -> tuple[str, ...]:  # noqa: D102
        return (self.column,)

    def state(self, types: Types) -> list[pa.DataType]:  # noqa: D102
        return [ordered_type(types, self.column, "last" if self.latest else "first"), pa.int64()]

    def result(self, types: Types) -> pa.DataType:  # noqa: D102
        return self.state(types)[0]

    def identity(self, types: Types, groups: int) -> list[pa.Array]:  # noqa: D102
        return [pa.nulls(groups, kind) for kind in self.state(types)]

    def of_rows(self, rows: Mapping[str, pa.Array], times: pa.Array, segments: Segments) -> list[pa.Array]:  # noqa: D102
        return self._firsts(canonical(rows[self.column]), times, segments)

    def merge(self, states: Sequence[pa.Array], segments: Segments) -> list[pa.Array]:  # noqa: D102
        return self._firsts(states[0], states[1], segments)

    def finish(self, states: Sequence[pa.Array], types: Types) -> pa.Array:  # noqa: D102
        return states[0]

    def _firsts(self, values: pa.Array, times: pa.Array, segments: Segments) -> list[pa.Array]:
        count, groups = len(segments), np.arange(len(segments))
        present = valid(values)
        if present is not None:
            groups, segments = narrow(present, segments)
            values, times = values.filter(pa.array(present)), times.filter(pa.array(present))
        rows = pa.array(first_rows(self._keys(values, view(times), segments), segments))
        return [spread(column.take(rows), groups, count) for column in (values, times)]

    def _keys(self, values: pa.Array, times: NDArray[np.int64], segments: Segments) -> list[NDArray[np.int64]]:
        if len(segments) == segments.rows:
            return [times]  # one row each: no need to order values
        keys = [times, sort_key(values)]
        return [~key for key in keys] if self.latest else keys
