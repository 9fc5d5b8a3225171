"""Count, sum and mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from spark_ext.errors import QueryError, SchemaError
from spark_ext.state.segments import Segments
from spark_ext.windows.aggregates import totals
from spark_ext.windows.aggregates.aggregate import Aggregate, Types
from spark_ext.windows.aggregates.columns import INT64_DIGITS, arrow, column_name, type_of, valid, view, words
from spark_ext.windows.aggregates.reduce import any_of, reduce

__all__ = ["Count", "Mean", "Sum", "count", "mean", "number_type", "sum"]

MAX_DIGITS = 38


def count(column: str | None = None) -> Aggregate:
    """Count rows; with a column, the rows where it is not null.

    Returns
    -------
    Aggregate
        Result int64, never null; 0 without rows. State: 8 bytes a group.

    Examples
    --------
    >>> count("price").result({"price": pa.float64()})
    DataType(int64)
    """
    return Count(None if column is None else column_name(column, "count"))


def sum(column: str) -> Aggregate:  # noqa: A001
    """Add the values of a column; nulls are ignored.

    Guarantee: exact for integers and decimals. For floats up to rounding, which depends on the order of additions.

    Returns
    -------
    Aggregate
        Result int64 for integers, ``decimal(38, s)`` for ``decimal(p, s)``, float64 for floats; null without values. State: 12
        bytes a group, 20 for decimals of more than 18 digits, 8 for floats.

    Raises
    ------
    SchemaError
        When its types are asked for: the column does not hold numbers.
    QueryError
        When it is finished: a result has no room in int64 or 38 digits. Partial sums may.

    Examples
    --------
    >>> sum("price").result({"price": pa.decimal128(9, 2)})
    Decimal128Type(decimal128(38, 2))
    """
    return Sum(column_name(column, "sum"))


def mean(column: str) -> Aggregate:
    """Average the values of a column; nulls are ignored.

    Guarantee: for integers the exact sum divided once; for decimals the exact quotient, rounded half up; for floats up to rounding.

    Returns
    -------
    Aggregate
        Result float64, but ``decimal(min(38, p + 4), min(38, s + 4))`` for ``decimal(p, s)``, as in Spark; null without values.
        State: that of `sum`, and 8 bytes.

    Raises
    ------
    SchemaError
        When its types are asked for: the column does not hold numbers.
    QueryError
        When it is finished: a decimal result has more digits than its type.

    Examples
    --------
    >>> mean("price").result({"price": pa.int64()})
    DataType(double)
    """
    return Mean(column_name(column, "mean"))


def number_type(types: Types, column: str, aggregate: str) -> pa.DataType:
    """Return the type of a column of numbers.

    Raises
    ------
    SchemaError
        No such column, or not of numbers.
    """
    found = type_of(types, column, aggregate)
    is_float = pa.types.is_float32(found) or pa.types.is_float64(found)
    if pa.types.is_signed_integer(found) or is_float or pa.types.is_decimal128(found):
        return found
    raise SchemaError(
        "aggregate",
        "column",
        column,
        expected="integers, floats or decimals",
        got=str(found),
        why=f"{aggregate} computes with numbers",
        todo="cast the column to a number, or count its values",
    )


@dataclass(frozen=True, slots=True)
class Count(Aggregate):
    """See `count`."""

    column: str | None

    @property
    def inputs(self) -> tuple[str, ...]:  # noqa: D102
        return () if self.column is None else (self.column,)

    def state(self, types: Types) -> list[pa.DataType]:  # noqa: D102
        if self.column is not None:
            type_of(types, self.column, "count")
        return [pa.int64()]

    def result(self, types: Types) -> pa.DataType:  # noqa: D102
        return self.state(types)[0]

    def identity(self, types: Types, groups: int) -> list[pa.Array]:  # noqa: D102
        return [arrow(np.zeros(groups, np.int64), pa.int64())]

    def of_rows(self, rows: Mapping[str, pa.Array], times: pa.Array, segments: Segments) -> list[pa.Array]:  # noqa: D102
        present = None if self.column is None else valid(rows[self.column])
        counts = segments.sizes if present is None else reduce(np.add, present.astype(np.int64), segments)
        return [arrow(counts, pa.int64())]

    def merge(self, states: Sequence[pa.Array], segments: Segments) -> list[pa.Array]:  # noqa: D102
        return [arrow(reduce(np.add, view(states[0]), segments), pa.int64())]

    def finish(self, states: Sequence[pa.Array], types: Types) -> pa.Array:  # noqa: D102
        return states[0]


@dataclass(frozen=True, slots=True)
class Sum(Aggregate):
    """See `sum`.

    State of floats: the sum. Of integers and decimals: the words of `totals` as int64, the carry as int32. The first is null where
    there was no value.
    """

    column: str

    @property
    def inputs(self) -> tuple[str, ...]:  # noqa: D102
        return (self.column,)

    def state(self, types: Types) -> list[pa.DataType]:  # noqa: D102
        found = number_type(types, self.column, "sum")
        if pa.types.is_floating(found):
            return [pa.float64()]
        is_wide = pa.types.is_decimal(found) and found.precision > INT64_DIGITS
        return [pa.int64()] * (2 if is_wide else 1) + [pa.int32()]

    def result(self, types: Types) -> pa.DataType:  # noqa: D102
        found = number_type(types, self.column, "sum")
        if pa.types.is_decimal(found):
            return pa.decimal128(MAX_DIGITS, found.scale)
        return pa.float64() if pa.types.is_floating(found) else pa.int64()

    def identity(self, types: Types, groups: int) -> list[pa.Array]:  # noqa: D102
        first, *others = self.state(types)
        return [pa.nulls(groups, first), *(arrow(np.zeros(groups, other.to_pandas_dtype()), other) for other in others)]

    def of_rows(self, rows: Mapping[str, pa.Array], times: pa.Array, segments: Segments) -> list[pa.Array]:  # noqa: D102
        array = rows[self.column]
        present = valid(array)
        if pa.types.is_floating(array.type):
            return _float_sums(view(array).astype(np.float64, copy=False), present, segments)
        if not pa.types.is_decimal(array.type):
            return _sums_64(view(array).astype(np.int64, copy=False), None, present, segments)
        low, high = words(array).T
        if array.type.precision <= INT64_DIGITS:
            return _sums_64(np.ascontiguousarray(low), None, present, segments)
        return _sums_128(low, high, None, present, segments)

    def merge(self, states: Sequence[pa.Array], segments: Segments) -> list[pa.Array]:  # noqa: D102
        first, *others = [view(state) for state in states]
        present = valid(states[0])
        match others:
            case []:
                return _float_sums(first, present, segments)
            case [carry]:
                return _sums_64(first, carry, present, segments)
            case _:
                return _sums_128(first, others[0], others[1], present, segments)

    def finish(self, states: Sequence[pa.Array], types: Types) -> pa.Array:  # noqa: D102
        to = self.result(types)
        if pa.types.is_floating(to):
            return states[0]
        low, high, carry = self.parts(states)
        fits = carry == 0
        if pa.types.is_decimal(to):
            fits = totals.fits_decimal(low, high, carry)
        elif len(states) == 2:  # noqa: PLR2004
            fits = view(states[1]) == 0
        present = valid(states[0])
        wrong = ~fits if present is None else ~fits & present
        if wrong.any():
            todo = "cast the column to decimal(38, 0) or to double before it is added; the checkpoint can be kept"
            why = f"{int(wrong.sum())} of {len(wrong)} groups overflow"
            raise QueryError("finish", "sum", self.column, expected=f"results that fit {to}", got="a larger one", why=why, todo=todo)
        if not pa.types.is_decimal(to):
            return states[0]
        return _with_nulls(totals.decimals((low, high), to), present)

    @staticmethod
    def parts(states: Sequence[pa.Array]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Return exact sums as ``low, high, carry`` of `totals.sum_128`."""
        first, *others = [view(state) for state in states]
        carry = others[-1].astype(np.int64)
        if len(others) == 1:
            high = carry + (first >> 63)
            return first, high, np.zeros_like(high)
        return first, others[0], carry


@dataclass(frozen=True, slots=True)
class Mean(Aggregate):
    """See `mean`. State: that of `Sum` and that of `Count`."""

    column: str

    @property
    def inputs(self) -> tuple[str, ...]:  # noqa: D102
        return (self.column,)

    def state(self, types: Types) -> list[pa.DataType]:  # noqa: D102
        number_type(types, self.column, "mean")
        return [*Sum(self.column).state(types), pa.int64()]

    def result(self, types: Types) -> pa.DataType:  # noqa: D102
        found = number_type(types, self.column, "mean")
        if pa.types.is_decimal(found):
            return pa.decimal128(min(MAX_DIGITS, found.precision + 4), min(MAX_DIGITS, found.scale + 4))
        return pa.float64()

    def identity(self, types: Types, groups: int) -> list[pa.Array]:  # noqa: D102
        return Sum(self.column).identity(types, groups) + Count(self.column).identity(types, groups)

    def of_rows(self, rows: Mapping[str, pa.Array], times: pa.Array, segments: Segments) -> list[pa.Array]:  # noqa: D102
        return Sum(self.column).of_rows(rows, times, segments) + Count(self.column).of_rows(rows, times, segments)

    def merge(self, states: Sequence[pa.Array], segments: Segments) -> list[pa.Array]:  # noqa: D102
        return Sum(self.column).merge(states[:-1], segments) + Count(self.column).merge(states[-1:], segments)

    def finish(self, states: Sequence[pa.Array], types: Types) -> pa.Array:  # noqa: D102
        to = self.result(types)
        *sums, counts = states
        present = valid(sums[0])
        rows = view(counts)
        divisor = np.maximum(rows, 1)
        if pa.types.is_decimal(to):
            return _with_nulls(self._divided(sums, divisor, types), present)
        total = view(sums[0]).astype(np.float64)
        if len(sums) > 1:
            total += view(sums[1]) * 2.0**64
        return arrow(total / divisor, pa.float64(), present)

    def _divided(self, sums: Sequence[pa.Array], divisor: NDArray[np.int64], types: Types) -> pa.Array:
        to, scale = self.result(types), types[self.column].scale
        low, high, carry = Sum.parts(sums)
        # decimal256 has digits for the exact sum, and behind the point for a quotient that truncation cannot round wrongly.
        exact = totals.decimals((low, high, carry + (high >> 63)), pa.decimal256(MAX_DIGITS + 10, scale))
        quotient = pc.divide(exact, pa.array(divisor).cast(pa.decimal256(19, 0)))
        try:
            return pc.round(quotient, to.scale, "half_towards_infinity").cast(to)
        except pa.ArrowInvalid as error:
            todo = "cast the column to a decimal with fewer digits behind the point, or to double; the checkpoint can be kept"
            raise QueryError("finish", "mean", self.column, expected=f"results that fit {to}", got="a larger one", todo=todo) from error


def _float_sums(values: NDArray[np.float64], present: NDArray[np.bool_] | None, segments: Segments) -> list[pa.Array]:
    known = values if present is None else np.where(present, values, 0.0)
    return [arrow(reduce(np.add, known, segments), pa.float64(), any_of(present, segments))]


def _sums_64(low: NDArray[np.int64], carry: NDArray[Any] | None, present: NDArray[np.bool_] | None, segments: Segments) -> list[pa.Array]:
    known = low if present is None else np.where(present, low, 0)
    sums, carries = totals.sum_64(known, segments)
    return [arrow(sums, pa.int64(), any_of(present, segments)), _carried(carries, carry, segments)]


def _sums_128(
    low: NDArray[np.int64],
    high: NDArray[np.int64],
    carry: NDArray[Any] | None,
    present: NDArray[np.bool_] | None,
    segments: Segments,
) -> list[pa.Array]:
    if present is not None:
        low, high = np.where(present, low, 0), np.where(present, high, 0)
    lows, highs, carries = totals.sum_128(low, high, segments)
    return [arrow(lows, pa.int64(), any_of(present, segments)), arrow(highs, pa.int64()), _carried(carries, carry, segments)]


def _carried(carries: NDArray[np.int64], before: NDArray[Any] | None, segments: Segments) -> pa.Array:
    """Return the carries of a sum as a state: those it made and, in a merge, those of the states."""
    if before is not None:
        carries = carries + reduce(np.add, before, segments)
    return arrow(carries.astype(np.int32), pa.int32())


def _with_nulls(array: pa.Array, present: NDArray[np.bool_] | None) -> pa.Array:
    return array if present is None else pc.if_else(pa.array(present), array, pa.scalar(None, array.type))
