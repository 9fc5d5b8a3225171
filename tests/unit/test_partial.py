"""Partial aggregates: however rows are cut into blocks and ranges, the parts add up to what one pass over all rows gives."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date, timedelta
from decimal import Decimal, localcontext
from itertools import pairwise
from typing import Any, cast

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import (
    ArrayType,
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    IntegerType,
    LongType,
    StringType,
    StructField,
    StructType,
    TimestampType,
)

from spark_ext.errors import QueryError, SchemaError, SettingsError
from spark_ext.ingest import PartialAggregate
from spark_ext.ingest.aggregator import Aggregator

QUICK = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
SCHEMA = StructType(
    [
        StructField("ad", StringType()),
        StructField("shop", IntegerType()),
        StructField("at", TimestampType(), nullable=False),
        StructField("n", LongType()),
        StructField("small", IntegerType()),
        StructField("price", DecimalType(12, 2)),
        StructField("big", DecimalType(38, 10)),
        StructField("x", DoubleType()),
        StructField("name", StringType()),
        StructField("flag", BooleanType()),
        StructField("day", DateType()),
        StructField("tags", ArrayType(StringType())),
    ]
)
TYPES = to_arrow_schema(SCHEMA, timezone="UTC")
NEEDED = ["ad", "shop", "at", "n", "small", "price", "big", "x", "name", "flag", "day"]
WHOLE = PartialAggregate(
    ["ad", "shop"],
    timedelta(seconds=10),
    {
        "events": ("count", None), "named": ("count", "name"), "total": ("sum", "price"), "sum of n": ("sum", "n"),
        "small_sum": ("sum", "small"), "big_sum": ("sum", "big"), "least": ("min", "price"), "most": ("max", "price"),
        "first": ("min", "at"), "last_name": ("max", "name"), "first_name": ("min", "name"), "least_x": ("min", "x"),
        "any": ("max", "flag"), "last_day": ("max", "day"), "least_big": ("min", "big"),
    },
)  # fmt: skip
FUNCTIONS = {"min": min, "max": max}

Row = dict[str, Any]


def total(numbers: Sequence[Any]) -> Any:
    with localcontext(prec=100):
        return sum(numbers)


def values(kind: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | kind


rows = st.fixed_dictionaries(
    {
        "ad": values(st.sampled_from(["a", "b", "", "é"])),
        "shop": values(st.integers(0, 1)),
        "at": st.integers(-30_000_000, 30_000_000) | st.integers(-9_214_560_000_000_000, 9_214_646_399_999_999),
        "n": values(st.integers(-(2**55), 2**55)),
        "small": values(st.integers(-(2**31), 2**31 - 1)),
        "price": values(st.decimals(-(10**9), 10**9, places=2)),
        "big": values(st.decimals(-(10**26), 10**26, places=10)),
        "x": values(st.floats(allow_nan=False, allow_infinity=False).filter(lambda one: one != 0)),
        "name": values(st.text(max_size=3)),
        "flag": values(st.booleans()),
        "day": values(st.dates(date(1700, 1, 1), date(2200, 1, 1))),
    }
)


def columns(found: Sequence[Row], names: Sequence[str] = NEEDED) -> pa.RecordBatch:
    arrays = []
    for name in names:
        kind = TYPES.field(name).type
        plain = pa.array([row[name] for row in found], pa.int64() if pa.types.is_timestamp(kind) else kind)
        arrays.append(plain.cast(kind))
    return pa.RecordBatch.from_arrays(arrays, names=list(names))


def parts_of(found: Sequence[Row], ranges: Sequence[int], blocks: Sequence[int], **limits: int) -> list[list[Row]]:
    """What each range gives out, the rows of which come in blocks; row ``i`` is at offset ``3 i``."""
    aggregator = Aggregator(WHOLE, SCHEMA, "at", **limits)
    given_out = []
    for start, stop in pairwise(sorted({0, len(found), *ranges})):
        out: list[pa.RecordBatch] = []
        for first, last in pairwise(sorted({start, stop, *(one for one in blocks if start < one < stop)})):
            out += aggregator.add(columns(found[first:last]), np.arange(first, last) * 3)
        out += aggregator.take()
        assert not list(aggregator.take()), "and forgets"
        for batch in out:
            batch.validate(full=True)
        given_out.append([row for batch in out for row in plain(batch)])
    return given_out


def plain(batch: pa.RecordBatch) -> list[Row]:
    kinds = [pa.field(one.name, pa.int64() if pa.types.is_timestamp(one.type) else one.type) for one in batch.schema]
    found: list[Row] = batch.cast(pa.schema(kinds)).to_pylist()
    return found


def grouped(found: Sequence[Row], pairs: Sequence[tuple[str, str, str | None]], start: str) -> dict[tuple[Any, ...], Row]:
    """One row per group, by pandas and plain Python: `pairs` are name, function and column."""
    keys = ["ad", "shop", start]
    frame = pd.DataFrame({name: pd.Series([row[name] for row in found], dtype=object) for name in (found[0] if found else keys)})
    whole = {}
    for key, group in frame.groupby(keys, dropna=False):
        row: Row = {}
        for name, function, column in pairs:
            some = [one for one in group[column] if one is not None] if column else list(group.index)
            if function == "count":
                row[name] = len(some)
            elif function == "sum":
                row[name] = total(some) if some else None
            else:
                row[name] = FUNCTIONS[function](some, key=lambda one: one.encode() if isinstance(one, str) else one) if some else None
        whole[tuple(None if pd.isna(one) else one for one in cast(tuple[Any, ...], key))] = row
    return whole


def expected(found: Sequence[Row]) -> dict[tuple[Any, ...], Row]:
    paned = [{**row, "pane_start": row["at"] // 10_000_000 * 10_000_000} for row in found]
    return grouped(paned, [(name, function, field) for name, (function, field) in WHOLE.aggregates.items()], "pane_start")


def merged(parts: Sequence[Row]) -> dict[tuple[Any, ...], Row]:
    again = [(name, "sum" if function == "count" else function, name) for name, (function, _) in WHOLE.aggregates.items()]
    return grouped(parts, again, "pane_start")


@settings(QUICK, max_examples=300)
@given(
    found=st.lists(rows, max_size=40),
    ranges=st.lists(st.integers(0, 40), max_size=3),
    blocks=st.lists(st.integers(0, 40), max_size=6),
    most_groups=st.integers(1, 30),
    stretch=st.integers(1, 60),
)
def test_parts_add_up_to_the_whole(found: list[Row], ranges: list[int], blocks: list[int], most_groups: int, stretch: int) -> None:
    ranges = [one for one in ranges if one <= len(found)]
    limits = {"most_groups": most_groups, "stretch": stretch}
    given_out = parts_of(found, ranges, blocks, **limits)
    assert merged([row for part in given_out for row in part]) == expected(found)
    assert given_out == parts_of(found, ranges, [], **limits), "what a range gives does not depend on its blocks"
    for part in parts_of(found, ranges, blocks):
        groups = [(row["ad"], row["shop"], row["pane_start"]) for row in part]
        assert len(set(groups)) == len(groups), "one row per group where there are few"


def test_many_groups_are_given_out_early_and_held_ones_are_bounded() -> None:
    partial = PartialAggregate(["n"], None, {"events": ("count", None)})
    aggregator = Aggregator(partial, SCHEMA, None, most_groups=1_000, stretch=100)
    numbers = np.arange(10_000)
    sizes = []
    for start in range(0, 10_000, 70):
        stop = min(start + 70, 10_000)
        block = pa.RecordBatch.from_arrays([pa.array(numbers[start:stop])], names=["n"])
        sizes += [len(batch) for batch in aggregator.add(block, numbers[start:stop])]
        assert aggregator._held <= 1_100
    sizes += [len(batch) for batch in aggregator.take()]
    assert sizes == [1_100] * 9 + [100]


def test_many_small_blocks_are_put_together() -> None:
    partial = PartialAggregate(["ad"], None, {"events": ("count", None)})
    aggregator = Aggregator(partial, SCHEMA, None)
    for at in range(1_000):
        assert not list(aggregator.add(pa.RecordBatch.from_arrays([pa.array(["a"])], names=["ad"]), np.array([at])))
        assert len(aggregator._pieces) <= 65
    (batch,) = aggregator.take()
    assert batch.to_pylist() == [{"ad": "a", "events": 1_000}]


@pytest.mark.parametrize(
    ("at", "start"),
    [(0, 0), (9_999_999, 0), (10_000_000, 10_000_000), (-1, -10_000_000), (-10_000_000, -10_000_000), (-10_000_001, -20_000_000)],
)
def test_panes_begin_before_their_events(at: int, start: int) -> None:
    partial = PartialAggregate([], timedelta(seconds=10), {"events": ("count", None)})
    aggregator = Aggregator(partial, SCHEMA, "at")
    times = pa.RecordBatch.from_arrays([pa.array([at], pa.int64()).cast(pa.timestamp("us", tz="UTC"))], names=["at"])
    assert not list(aggregator.add(times, np.array([0])))
    (batch,) = aggregator.take()
    assert plain(batch) == [{"pane_start": start, "events": 1}]


def summed(field: str, numbers: Sequence[Any]) -> Any:
    aggregator = Aggregator(PartialAggregate(["ad"], None, {"total": ("sum", field)}), SCHEMA, None)
    names = ["ad", field]
    for at, number in enumerate(numbers):
        assert not list(aggregator.add(columns([{"ad": "a", field: number}], names), np.array([at])))
    (batch,) = aggregator.take()
    return batch.to_pylist()[0]["total"]


def test_sums_are_exact_up_to_the_last_digit() -> None:
    most, least = Decimal("9" * 28 + "." + "9" * 10), Decimal("-" + "9" * 28 + "." + "9" * 10)
    assert summed("n", [2**63 - 1, 2**63 - 1, -(2**63), -(2**63) + 3]) == 1
    assert summed("n", [-(2**63), 0]) == -(2**63)
    assert summed("small", [2**31 - 1] * 3) == 3 * (2**31 - 1)
    assert summed("price", [Decimal("9999999999.99")] * 200) == 200 * Decimal("9999999999.99")
    assert summed("big", [most, most, least]) == most
    assert summed("big", [None, None]) is None


@pytest.mark.parametrize(("field", "number"), [("n", 2**63 - 1), ("n", -(2**63)), ("big", Decimal("9" * 28)), ("big", -Decimal("9" * 28))])
def test_a_sum_beyond_its_type_is_an_error(field: str, number: Any) -> None:
    with pytest.raises(QueryError, match=r"cannot sum aggregate 'total': expected a sum that fits .*; no digit may be lost; declare"):
        summed(field, [number, number])


def test_there_and_back_as_text() -> None:
    assert PartialAggregate.from_json(WHOLE.to_json()) == WHOLE
    without = PartialAggregate(["ad"], None, {"events": ("count", None)})
    assert PartialAggregate.from_json(without.to_json()) == without


def test_columns_and_what_is_needed() -> None:
    assert WHOLE.needed("at") == ["ad", "shop", "at", "name", "price", "n", "small", "big", "x", "flag", "day"]
    found = {one.name: one.dataType.simpleString() for one in WHOLE.columns(SCHEMA, "at").fields}
    assert found == {
        "ad": "string", "shop": "int", "pane_start": "timestamp", "events": "bigint", "named": "bigint", "total": "decimal(38,2)",
        "sum of n": "bigint", "small_sum": "bigint", "big_sum": "decimal(38,10)", "least": "decimal(12,2)", "most": "decimal(12,2)",
        "first": "timestamp", "last_name": "string", "first_name": "string", "least_x": "double", "any": "boolean", "last_day": "date",
        "least_big": "decimal(38,10)",
    }  # fmt: skip


COUNT: dict[str, tuple[str, str | None]] = {"events": ("count", None)}


@pytest.mark.parametrize(
    ("keys", "pane", "aggregates", "message"),
    [
        ([], None, COUNT, "expected keys or a pane, and one aggregate or more of count, sum, min, max"),
        (["ad"], None, {}, "expected keys or a pane, and one aggregate"),
        (["ad"], None, {"x": ("avg", "n")}, "expected keys or a pane, and one aggregate"),
        (["ad"], None, {"x": ("sum", None)}, "expected keys or a pane, and one aggregate"),
        (["ad"], None, {"AD": ("count", None)}, "expected names that differ in more than case"),
        (["ad"], None, {"pane_start": ("count", None)}, "expected names that differ in more than case"),
        (["ad"], None, {"Dead": ("count", None)}, "expected names that differ in more than case"),
        (["ad"], timedelta(0), COUNT, "expected a length above zero and up to 31 days"),
        (["ad"], timedelta(days=32), COUNT, "expected a length above zero and up to 31 days"),
    ],
)
def test_what_makes_no_sense_is_refused(keys: list[str], pane: timedelta | None, aggregates: Any, message: str) -> None:
    with pytest.raises(SettingsError, match=f"cannot use partial aggregate '.*': {message}"):
        PartialAggregate(keys, pane, aggregates)


@pytest.mark.parametrize(
    ("keys", "pane", "aggregates", "message"),
    [
        (["nobody"], None, COUNT, "field 'nobody': .*no such field"),
        (["ad"], None, {"m": ("min", "nobody")}, "field 'nobody': .*no such field"),
        (["tags"], None, COUNT, "field 'tags': .*type array<string>"),
        (["ad"], None, {"m": ("max", "tags")}, "field 'tags': .*type array<string>"),
        (["x"], None, COUNT, "field 'x': .*a key of type double"),
        (
            ["ad"],
            None,
            {"s": ("sum", "x")},
            "field 'x': .*a sum of double; its sum would depend on the order of the rows; declare",
        ),
        (["ad"], None, {"s": ("sum", "name")}, "field 'name': .*a sum of string"),
        (["ad"], None, {"s": ("sum", "flag")}, "field 'flag': .*a sum of boolean"),
    ],
)
def test_what_a_schema_cannot_give_is_refused(keys: list[str], pane: timedelta | None, aggregates: Any, message: str) -> None:
    with pytest.raises(SchemaError, match=f"cannot aggregate {message}"):
        PartialAggregate(keys, pane, aggregates).columns(SCHEMA, "at")


def test_a_pane_needs_an_event_time() -> None:
    with pytest.raises(SchemaError, match=re.escape("got a format without event time; name the event_time of the format")):
        WHOLE.columns(SCHEMA, None)
