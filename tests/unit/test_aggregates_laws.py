"""The battery of laws: it passes what is right, and each law catches what breaks it."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from spark_ext.errors import SettingsError
from spark_ext.state.segments import Segments
from spark_ext.windows import aggregates
from spark_ext.windows.aggregates import Aggregate, NumpyAggregate, Types
from spark_ext.windows.aggregates.basic import Sum
from spark_ext.windows.laws import LAWS, LawBrokenError, check_laws

TIMES = pa.array([0, 1, 1, 5, -3, 2, 2, 9], pa.timestamp("us", "UTC"))
NUMBERS = [3, None, -2, 0, 3, 1, 100, None]
COLUMNS = {
    "int8": pa.array(NUMBERS, pa.int8()),
    "int64": pa.array([2**57, None, -(2**57), 0, 3, 1, 100, None], pa.int64()),
    "float32": pa.array([1.5, None, -0.0, 0.0, float("nan"), 1.5, -7.0, None], pa.float32()),
    "float64": pa.array([1.5, None, -0.0, 0.0, float("inf"), 0.1, 0.2, None]),
    "narrow": pa.array(NUMBERS, pa.decimal128(18, 0)),
    "wide": pa.array([10**30, None, -(10**30), 0, 3, 1, 100, None], pa.decimal128(38, 0)),
    "bool": pa.array([True, None, False, True, True, False, True, None]),
    "string": pa.array(["b", None, "a", "", "b", "\u00e9", "a", None]),
    "binary": pa.array([b"b", None, b"a", b"", b"b", b"\xff", b"a", None]),
    "date": pa.array(NUMBERS, pa.int32()).cast(pa.date32()),
    "time": TIMES,
}
ROWS = pa.table(COLUMNS)
WITH_NUMBERS = ["int8", "int64", "float32", "float64", "narrow", "wide"]


@pytest.mark.parametrize("column", COLUMNS)
def test_aggregates_of_ordered_values_are_lawful(column: str) -> None:
    for aggregate in [
        aggregates.count(column),
        aggregates.min(column),
        aggregates.max(column),
        aggregates.first(column),
        aggregates.last(column),
        aggregates.distinct(column),
        aggregates.distinct_values(column),
        aggregates.top_n(column, 3),
        aggregates.top_n(column, 2, by="float32"),
        aggregates.collect(column, limit=3),
        aggregates.collect("string", column, limit=2, keep="last") if column != "string" else aggregates.count(),
    ]:
        check_laws(aggregate, ROWS, time="time", cases=10)


@pytest.mark.parametrize("column", WITH_NUMBERS)
def test_aggregates_of_numbers_are_lawful(column: str) -> None:
    for aggregate in [aggregates.sum(column), aggregates.mean(column), aggregates.variance(column), aggregates.variance(column, ddof=0)]:
        check_laws(aggregate, ROWS, time="time", cases=20)


@dataclass(frozen=True)
class Total(NumpyAggregate):
    """Lawful; the others break one law each."""

    fields = {"total": np.float64}  # noqa: RUF012

    def neutral(self) -> dict[str, Any]:
        return {"total": 0.0}

    def update(self, values: Any, starts: Any) -> dict[str, Any]:
        return {"total": np.add.reduceat(values, starts).astype(np.float64)}

    def combine(self, states: Any, starts: Any) -> dict[str, Any]:
        return {"total": np.add.reduceat(states["total"], starts)}

    def output(self, states: Any) -> Any:
        return states["total"]


class OtherType(Sum):
    def result(self, types: Types) -> pa.DataType:
        return pa.string()


class TooLong(Sum):
    def identity(self, types: Types, groups: int) -> list[pa.Array]:
        return super().identity(types, groups + 1)


def writable(array: pa.Array) -> Any:
    """Return int64 values as C code would get at them."""
    return np.ctypeslib.as_array((ctypes.c_int64 * len(array)).from_address(array.buffers()[1].address))


class WritesRows(Sum):
    def of_rows(self, rows: Mapping[str, pa.Array], times: pa.Array, segments: Segments) -> list[pa.Array]:
        states = super().of_rows(rows, times, segments)
        writable(rows[self.column])[:] = 7
        return states


class WritesStates(Sum):
    def finish(self, states: Sequence[pa.Array], types: Types) -> pa.Array:
        result = pa.array(super().finish(states, types).to_pylist(), pa.int64())
        writable(states[0])[:] += 1
        return result


class Mixes(Total):
    def update(self, values: Any, starts: Any) -> dict[str, Any]:
        return {"total": np.full(len(starts), values.sum(), np.float64)}


class MixesStates(Total):
    def combine(self, states: Any, starts: Any) -> dict[str, Any]:
        return {"total": np.full(len(starts), states["total"].sum())}


class TakesFirstRow(Total):
    def update(self, values: Any, starts: Any) -> dict[str, Any]:
        return {"total": values[starts].astype(np.float64)}


class StartsAtOne(Total):
    def neutral(self) -> dict[str, Any]:
        return {"total": 1.0}


class _OfSome(Total):
    def neutral(self) -> dict[str, Any]:
        return {"total": np.nan}

    def combine(self, states: Any, starts: Any) -> dict[str, Any]:
        some = [part[~np.isnan(part)] for part in np.split(states["total"], starts[1:])]
        return {"total": np.array([self.of(part) if len(part) else np.nan for part in some])}

    def of(self, states: Any) -> float:
        raise NotImplementedError


class TakesFirstState(_OfSome):
    def of(self, states: Any) -> float:
        return float(states[0])


class MeansOfMeans(_OfSome):
    def of(self, states: Any) -> float:
        return float(states.mean())


class LargestOfSums(_OfSome):
    def of(self, states: Any) -> float:
        return float(states.max())


class ForgetsOffsets(Sum):
    def of_rows(self, rows: Mapping[str, pa.Array], times: pa.Array, segments: Segments) -> list[pa.Array]:
        array = rows[self.column]
        whole = pa.Array.from_buffers(array.type, len(array), array.buffers())
        return super().of_rows({self.column: whole}, times, segments)


class OfThisProcess(Sum):
    """What was read from IPC shares one buffer; states of this process do not."""

    def finish(self, states: Sequence[pa.Array], types: Types) -> pa.Array:
        if states[0].buffers()[1].parent is not None:
            return pa.nulls(len(states[0]), self.result(types))
        return super().finish(states, types)


BROKEN: list[tuple[Aggregate, str]] = [
    (OtherType("x"), "lengths and types as declared"),
    (TooLong("x"), "lengths and types as declared"),
    (WritesRows("x"), "inputs untouched"),
    (WritesStates("x"), "inputs untouched"),
    (Mixes("x"), "groups do not mix"),
    (MixesStates("x"), "groups do not mix"),
    (TakesFirstRow("x"), "the order of rows does not matter"),
    (StartsAtOne("x"), "identity is neutral"),
    (TakesFirstState("x"), "merge is commutative"),
    (MeansOfMeans("x"), "merge is associative"),
    (LargestOfSums("x"), "any split of rows equals one pass"),
    (ForgetsOffsets("x"), "slices equal copies"),
    (OfThisProcess("x"), "states survive Arrow IPC"),
]
PLAIN = pa.table({"time": pa.array(range(8), pa.int64()), "x": pa.array([5, -2, 3, 8, 13, 0, 1, 1], pa.int64())})


@pytest.mark.parametrize(("aggregate", "law"), BROKEN, ids=lambda value: type(value).__name__ if isinstance(value, Aggregate) else "")
def test_each_law_catches_what_breaks_it(aggregate: Aggregate, law: str) -> None:
    with pytest.raises(LawBrokenError, match=f"the law '{law}' is broken by a = ") as caught:
        check_laws(aggregate, PLAIN, time="time")
    assert caught.value.law == law
    assert isinstance(caught.value, AssertionError)


def test_every_law_has_an_aggregate_that_breaks_it() -> None:
    assert {law for _, law in BROKEN} == set(LAWS)


def test_a_lawful_aggregate_of_a_user_passes() -> None:
    check_laws(Total("x"), PLAIN, time="time")
    check_laws(Total("float64"), ROWS, time="time")


def test_the_example_is_small() -> None:
    with pytest.raises(LawBrokenError) as caught:
        check_laws(MeansOfMeans("x"), PLAIN, time="time")
    assert "a = {'x': [" in str(caught.value)
    assert str(caught.value).count(",") < 30, "three rows, one in each part"


@pytest.mark.parametrize(
    "rows",
    [PLAIN.slice(0, 0), PLAIN.select(["time"]), PLAIN.set_column(0, "time", pa.nulls(8, pa.int64()))],
    ids=["no rows", "no column", "null times"],
)
def test_laws_need_rows(rows: pa.Table) -> None:
    with pytest.raises(SettingsError, match=r"expected rows with the columns \['time', 'x'\] and no null in 'time'"):
        check_laws(Total("x"), rows, time="time")
