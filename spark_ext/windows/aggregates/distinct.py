"""Distinct values, exactly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from spark_ext.state.segments import Segments
from spark_ext.windows.aggregates.aggregate import Aggregate, Types
from spark_ext.windows.aggregates.columns import arrow, canonical, column_name, ordered_type, sort_key, valid
from spark_ext.windows.aggregates.reduce import flatten, lists, order_of

__all__ = ["Distinct", "distinct", "distinct_values"]


def distinct(column: str) -> Aggregate:
    """Count the distinct values of a column, exactly; nulls are ignored.

    Guarantee: -0.0 equals 0.0, NaN equals NaN.

    Returns
    -------
    Aggregate
        Result int64, never null. State: every distinct value once, and 4 bytes a group; it is not bounded by a number.

    Raises
    ------
    SchemaError
        When its types are asked for: values of this type have no order, by which they are compared.
    """
    return Distinct(column_name(column, "distinct"), values=False)


def distinct_values(column: str) -> Aggregate:
    """List the distinct values of a column in the order of `min`; nulls are ignored.

    Result a list of the column's type, empty without values. State and errors as of `distinct`.
    """
    return Distinct(column_name(column, "distinct_values"), values=True)


@dataclass(frozen=True, slots=True)
class Distinct(Aggregate):
    """See `distinct` and `distinct_values`. State: the list of values, ascending."""

    column: str
    values: bool

    @property
    def inputs(self) -> tuple[str, ...]:  # noqa: D102
        return (self.column,)

    def state(self, types: Types) -> list[pa.DataType]:  # noqa: D102
        return [pa.list_(ordered_type(types, self.column, "distinct"))]

    def result(self, types: Types) -> pa.DataType:  # noqa: D102
        listed = self.state(types)[0]
        return listed if self.values else pa.int64()

    def identity(self, types: Types, groups: int) -> list[pa.Array]:  # noqa: D102
        return [lists(pa.array([], self.state(types)[0].value_type), np.empty(0, np.int64), groups)]

    def of_rows(self, rows: Mapping[str, pa.Array], times: pa.Array, segments: Segments) -> list[pa.Array]:  # noqa: D102
        array, ids = rows[self.column], segments.ids
        present = valid(array)
        if present is not None:
            array, ids = array.filter(pa.array(present)), ids[present]
        return [_distinct(canonical(array), ids, len(segments))]

    def merge(self, states: Sequence[pa.Array], segments: Segments) -> list[pa.Array]:  # noqa: D102
        if len(segments) == segments.rows:
            return list(states)
        return [_distinct(*flatten(states[0], segments), len(segments))]

    def finish(self, states: Sequence[pa.Array], types: Types) -> pa.Array:  # noqa: D102
        if self.values:
            return states[0]
        return arrow(np.diff(states[0].offsets.to_numpy()).astype(np.int64), pa.int64())


def _distinct(values: pa.Array, ids: NDArray[np.int64], count: int) -> pa.Array:
    key = sort_key(values)
    order = order_of([ids, key])
    ids, key = ids[order], key[order]
    is_first = np.ones(len(ids), np.bool_)
    is_first[1:] = (ids[1:] != ids[:-1]) | (key[1:] != key[:-1])
    return lists(values.take(pa.array(order[is_first])), ids[is_first], count)
