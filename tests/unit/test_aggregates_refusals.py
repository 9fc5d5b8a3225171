"""What aggregates do not take, and what the errors say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from spark_ext.errors import QueryError, SchemaError, SettingsError
from spark_ext.state.segments import Segments
from spark_ext.windows import aggregates
from spark_ext.windows.aggregates import Aggregate, NumpyAggregate

LISTS = pa.list_(pa.int64())


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (lambda: aggregates.sum(""), "cannot build aggregate 'sum': expected the name of a column, got ''"),
        (lambda: aggregates.min(3), "cannot build aggregate 'min': expected the name of a column, got 3"),  # type: ignore[arg-type]
        (lambda: aggregates.variance("x", ddof=-1), "cannot build aggregate 'variance': expected ddof to be a whole number >= 0, got -1"),
        (lambda: aggregates.variance("x", ddof=True), "expected ddof to be a whole number >= 0, got True"),
        (lambda: aggregates.top_n("x", 0), "cannot build aggregate 'top_n': expected n to be a whole number >= 1, got 0; state is bounded"),
        (lambda: aggregates.top_n("x", 2, by=""), "cannot build aggregate 'top_n': expected the name of a column, got ''"),
        (lambda: aggregates.collect("x", limit=0), "cannot build aggregate 'collect': expected limit to be a whole number >= 1, got 0"),
        (lambda: aggregates.collect(limit=1), r"cannot build aggregate 'collect': expected one or more different columns, got \(\)"),
        (lambda: aggregates.collect("x", "x", limit=1), r"expected one or more different columns, got \('x', 'x'\)"),
        (lambda: aggregates.collect("x", limit=1, keep="best"), "expected keep 'first' or 'last', got 'best'"),
    ],
)
def test_arguments(build: Callable[[], Aggregate], expected: str) -> None:
    with pytest.raises(SettingsError, match=expected):
        build()


@pytest.mark.parametrize("aggregate", [aggregates.sum("x"), aggregates.mean("x"), aggregates.variance("x")])
@pytest.mark.parametrize("data_type", [pa.string(), pa.bool_(), pa.timestamp("us"), LISTS, pa.uint64()])
def test_types_that_are_not_numbers(aggregate: Aggregate, data_type: pa.DataType) -> None:
    with pytest.raises(SchemaError, match=r"cannot aggregate column 'x': expected integers, floats or decimals, got .*; cast the column"):
        aggregate.state({"x": data_type})
    with pytest.raises(SchemaError, match="computes with numbers"):
        aggregate.result({"x": data_type})


@pytest.mark.parametrize(
    "aggregate",
    [
        aggregates.min("x"),
        aggregates.max("x"),
        aggregates.first("x"),
        aggregates.last("x"),
        aggregates.distinct("x"),
        aggregates.top_n("x", 1),
        aggregates.top_n("y", 1, by="x"),
        aggregates.collect("y", "x", limit=1),
    ],
)
@pytest.mark.parametrize("data_type", [LISTS, pa.struct([("a", pa.int64())]), pa.map_(pa.string(), pa.int64()), pa.null()])
def test_types_without_order(aggregate: Aggregate, data_type: pa.DataType) -> None:
    with pytest.raises(
        SchemaError, match=r"cannot aggregate column 'x': expected numbers, booleans, .*has to order values; select the field"
    ):
        aggregate.state({"x": data_type, "y": pa.int64()})


def test_a_column_that_is_not_there() -> None:
    with pytest.raises(SchemaError, match=r"cannot aggregate column 'x': expected a column 'x' for count, got columns \['y'\]"):
        aggregates.count("x").state({"y": pa.int64()})


@dataclass(frozen=True)
class Peak(NumpyAggregate):
    """Returns what a test wants."""

    fields = {"peak": np.float32}  # noqa: RUF012
    found: Any = None
    nothing: Any = None
    merged: Any = None
    finished: Any = None

    def neutral(self) -> Any:
        return {"peak": -np.inf} if self.nothing is None else self.nothing

    def update(self, values: Any, starts: Any) -> Any:
        return {"peak": np.maximum.reduceat(values, starts).astype(np.float32)} if self.found is None else self.found

    def combine(self, states: Any, starts: Any) -> Any:
        return {"peak": np.maximum.reduceat(states["peak"], starts)} if self.merged is None else self.merged

    def output(self, states: Any) -> Any:
        return states["peak"] if self.finished is None else self.finished


TYPES = {"x": pa.float64()}
ONE = Segments(np.zeros(1, np.int64), 2)


def whole_way(aggregate: Aggregate) -> list[Any]:
    states = aggregate.of_rows({"x": pa.array([1.0, 2.0])}, pa.array([0, 0]), ONE)
    joined = [pa.concat_arrays(pair) for pair in zip(states, aggregate.identity(TYPES, 1), strict=True)]
    found: list[Any] = aggregate.finish(aggregate.merge(joined, ONE), TYPES).to_pylist()
    return found


def test_a_user_aggregate_goes_the_whole_way() -> None:
    assert whole_way(Peak("x")) == [2.0]
    assert Peak("x").state(TYPES) == [pa.float32()]
    assert Peak("x").result(TYPES) == pa.float64()


def test_masked_results_are_null() -> None:
    assert whole_way(Peak("x", finished=np.ma.array([1.0], mask=[True]))) == [None]


@pytest.mark.parametrize(
    ("aggregate", "expected"),
    [
        (Peak("x", found=[1.0]), r"update\(\) to be a mapping with the fields \['peak'\], got list"),
        (Peak("x", found={"height": np.zeros(1)}), r"update\(\) to be a mapping with the fields \['peak'\], got \['height'\]"),
        (Peak("x", found={"peak": np.zeros(2, np.float32)}), r"update\(\)\['peak'\] to be an array of shape \(1,\).*got shape \(2,\)"),
        (Peak("x", found={"peak": np.float32(1)}), r"update\(\)\['peak'\] to be an array of shape \(1,\).*got float32"),
        (
            Peak("x", found={"peak": np.zeros(1)}),
            r"update\(\)\['peak'\] to be dtype float32, or one that it holds safely, got dtype float64",
        ),
        (Peak("x", merged={"peak": np.zeros((1, 1))}), r"combine\(\)\['peak'\] to be an array of shape \(1,\).*got shape \(1, 1\)"),
        (Peak("x", merged={}), r"combine\(\) to be a mapping with the fields \['peak'\], got \[\]"),
        (Peak("x", nothing={"peak": "a"}), r"neutral\(\)\['peak'\] to be dtype float32, or one that it holds safely, got dtype <U1"),
        (Peak("x", nothing={"peak": [1.0, 2.0]}), r"neutral\(\)\['peak'\] to be a number, got \[1.0, 2.0\]"),
        (Peak("x", nothing={"peak": 1e99}), r"neutral\(\)\['peak'\] to be a number that float32 holds, got 1e\+99"),
        (Peak("x", finished=np.array(["a"])), "output to be dtype float64, or one that it holds safely, got dtype <U1"),
        (Peak("x", finished=np.zeros(3)), r"output to be an array of shape \(1,\), one value a group, got shape \(3,\)"),
    ],
)
def test_what_a_user_returns_is_checked(aggregate: Aggregate, expected: str) -> None:
    with pytest.raises(
        QueryError, match=rf"cannot use aggregate 'Peak': expected {expected}; correct the class, .* checkpoint can be kept"
    ):
        whole_way(aggregate)


def test_a_user_cannot_write_into_the_states() -> None:
    class Writes(Peak):
        def combine(self, states: Any, starts: Any) -> Any:
            states["peak"][:] = 0
            return super().combine(states, starts)

    with pytest.raises(ValueError, match="read-only"):
        whole_way(Writes("x"))


def test_a_user_cannot_write_into_the_rows() -> None:
    class Writes(Peak):
        def update(self, values: Any, starts: Any) -> Any:
            values[:] = 0
            return super().update(values, starts)

    with pytest.raises(ValueError, match="read-only"):
        whole_way(Writes("x"))


@pytest.mark.parametrize("data_type", [pa.string(), pa.decimal128(5, 2), LISTS])
def test_types_that_numpy_lacks(data_type: pa.DataType) -> None:
    with pytest.raises(SchemaError, match="cannot aggregate column 'x': expected numbers, booleans, dates or timestamps, got"):
        Peak("x").state({"x": data_type})


def test_fields_must_be_declared_with_plain_dtypes() -> None:
    class NoFields(Peak):
        fields: Any = None

    class Text(Peak):
        fields: Any = {"peak": "U3"}  # noqa: RUF012

    class Unsigned(Peak):
        output_dtype = np.uint64

    with pytest.raises(
        SettingsError, match="cannot build aggregate 'NoFields': expected a class attribute 'fields' that maps names to dtypes"
    ):
        NoFields("x")
    with pytest.raises(SettingsError, match="expected 'peak' of a boolean, integer or float dtype that Spark has, got <U3"):
        Text("x")
    with pytest.raises(SettingsError, match=r"expected 'output_dtype' of a boolean, .* got uint64"):
        Unsigned("x")
