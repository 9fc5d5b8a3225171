"""Of rows that differ only in value the higher one is told as Spark would."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from spark_ext.state.kernel import NEVER_US, Moment, empty_state
from spark_ext.state.signed import ranks
from spark_ext.tables.changes_kernel import TableChanges
from spark_ext.tables.layout import Changelog

ASCENDING: list[tuple[pa.DataType, list[Any]]] = [
    (pa.int64(), [None, -10, -9, 9, 10]),
    (pa.float64(), [None, float("-inf"), -1.5, 0.0, float("inf"), float("nan")]),
    (pa.struct([("a", pa.int64()), ("b", pa.string())]), [None, {"a": None, "b": "z"}, {"a": 9, "b": "z"}, {"a": 10, "b": "a"}]),
    (pa.list_(pa.int64()), [None, [], [9], [9, 0], [10]]),
    (pa.null(), [None]),
]


@pytest.mark.parametrize(("kind", "values"), ASCENDING)
def test_ranks_ascend_with_values(kind: pa.DataType, values: list[Any]) -> None:
    rows = pa.table({"v": pa.array([*reversed(values), *values], kind), "sign": pa.array([1, -1] * len(values), pa.int8())})
    assert ranks(rows).tolist() == [*reversed(range(len(values))), *range(len(values))]


@pytest.mark.parametrize(("kind", "values"), ASCENDING)
def test_of_two_changes_of_one_sequence_the_higher_one_stands(kind: pa.DataType, values: list[Any]) -> None:
    kernel = TableChanges(Changelog(pa.schema([("k", pa.int64()), ("seq", pa.int64()), ("v", kind)]), ("k",), "seq"))
    for low, high in zip(values, values[1:] or values, strict=False):
        for pair in ([low, high], [high, low]):
            columns = [pa.array([1, 1]), pa.array([5, 5]), pa.array(pair, kind), pa.array([False, False]), pa.array([0, 0])]
            step = kernel.step(empty_state(kernel), pa.table(columns, schema=kernel.in_schema), Moment(NEVER_US, 0))
            assert repr(step.out["changed"].column("v").to_pylist()) == repr([high])
