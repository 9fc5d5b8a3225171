"""Keys as numbers, groups of them, and the numbers of buckets, each against a plain Python model."""

from __future__ import annotations

import math
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spark_ext.errors import SchemaError, SettingsError
from spark_ext.state.buckets import MOST_BUCKETS, buckets_for, check_buckets, labels
from spark_ext.state.keys import check_key, codes, normalised
from spark_ext.state.segments import Segments, group

PAIR = pa.struct([("x", pa.float64()), ("y", pa.string())])
POOLS: dict[pa.DataType, list[Any]] = {
    pa.string(): ["", "a", "é", "e\u0301", "東京", "\U0001f600", "a\0", "A"],
    pa.large_string(): ["", "é"],
    pa.binary(): [b"", b"\0", b"\0\0", b"\xff"],
    pa.bool_(): [True, False],
    pa.int8(): [-128, 0, 127],
    pa.int32(): [-1, 0, 1],
    pa.int64(): [-(2**63), 0, 2**63 - 1, 2**53, 2**53 + 1],
    pa.float32(): [0.0, -0.0, math.nan, math.inf, -math.inf, 1.5],
    pa.float64(): [0.0, -0.0, math.nan, -math.nan, math.inf, 5e-324, 1.5],
    pa.decimal128(38, 2): [Decimal("0.00"), Decimal("-0.00"), Decimal("1.50"), Decimal(10) ** 35],
    pa.date32(): [date(1970, 1, 1), date(1969, 12, 31)],
    pa.timestamp("us", "UTC"): [datetime(2013, 1, 1, tzinfo=UTC), datetime(1900, 1, 1, 0, 0, 0, 1, tzinfo=UTC)],
    pa.timestamp("us"): [datetime(2013, 1, 1), datetime(2013, 1, 1, 0, 0, 0, 1)],  # noqa: DTZ001 (a type without zone)
    pa.duration("us"): [timedelta(0), timedelta(microseconds=1)],
    PAIR: [{"x": 0.0, "y": "a"}, {"x": -0.0, "y": "a"}, {"x": math.nan, "y": None}, {"x": None, "y": None}, {"x": 1.0, "y": ""}],
    pa.struct([("p", PAIR), ("q", pa.bool_())]): [
        {"p": None, "q": None}, {"p": {"x": None, "y": None}, "q": None}, {"p": {"x": math.nan, "y": "a"}, "q": True},
    ],
    pa.null(): [],
}  # fmt: skip


def same(value: Any) -> Any:
    """What two equal keys have in common."""
    if isinstance(value, dict):
        return tuple(same(child) for child in value.values())
    if isinstance(value, float):
        return "NaN" if math.isnan(value) else value + 0.0
    return value


@st.composite
def keyed(draw: st.DrawFn) -> tuple[list[Any], list[list[Any]]]:
    """Some columns, whole, in chunks or as slices, and their values."""
    size = draw(st.integers(0, 30))
    columns, values = [], []
    for kind in draw(st.lists(st.sampled_from([*POOLS]), min_size=1, max_size=3)):
        around = draw(st.lists(st.sampled_from([*POOLS[kind], None]), min_size=size + 4, max_size=size + 4))
        start = draw(st.integers(0, 4))
        column = pa.array(around, kind).slice(start, size)
        cut = draw(st.integers(0, size))
        columns.append(draw(st.sampled_from([column, pa.chunked_array([column.slice(0, cut), column.slice(cut)], kind)])))
        values.append(around[start : start + size])
    return columns, values


@settings(max_examples=500, deadline=None)
@given(drawn=keyed())
def test_equal_rows_have_one_number_in_order_of_appearance(drawn: tuple[list[Any], list[list[Any]]]) -> None:
    columns, values = drawn
    numbers: dict[Any, int] = {}
    wanted = [numbers.setdefault(tuple(map(same, row)), len(numbers)) for row in zip(*values, strict=True)]
    found = codes(columns)
    assert found.dtype == np.int64
    assert found.tolist() == wanted


@settings(max_examples=500, deadline=None)
@given(drawn=keyed())
def test_equal_keys_have_one_form(drawn: tuple[list[Any], list[list[Any]]]) -> None:
    for column, values in zip(*drawn, strict=True):
        whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
        found = normalised(whole)
        assert found.type == whole.type
        assert [same(value) for value in found.to_pylist()] == [same(value) for value in values]
        assert "-0.0" not in str(found.to_pylist())


def test_many_wide_columns_do_not_overflow() -> None:
    """256 values in each of nine columns: of 64 bits, the first column would have those behind the last."""
    same_in_all, first_differs = range(256), [1, *[0] * 8]
    columns = [pa.array([*same_in_all, other, other]) for other in first_differs]
    assert codes(columns).tolist() == [*same_in_all, 256, 256]


@pytest.mark.parametrize("kind", [
    pa.list_(pa.int32()), pa.map_(pa.string(), pa.string()), pa.struct([("a", pa.struct([("b", pa.list_(pa.string()))]))]),
])  # fmt: skip
def test_arrays_and_maps_are_no_keys(kind: pa.DataType) -> None:
    with pytest.raises(
        SchemaError, match=r"cannot group by key 'k.*expected a plain value.*arrays and maps are not compared; group by a part"
    ):
        check_key("k", kind)


@pytest.mark.parametrize("kind", POOLS)
def test_all_else_is(kind: pa.DataType) -> None:
    check_key("k", kind)


numbers = [
    st.integers(0, 5), st.integers(0, 70_000), st.integers(0, 2**40), st.integers(0, 2**60), st.integers(-(2**63), 2**63 - 1),
]  # fmt: skip


@settings(max_examples=500, deadline=None)
@given(given_codes=st.sampled_from(numbers).flatmap(lambda some: st.lists(some, max_size=60)), runs=st.booleans())
def test_groups_are_those_of_a_stable_sort(given_codes: list[int], runs: bool) -> None:
    half = len(given_codes) // 2
    values = sorted(given_codes[:half]) + sorted(given_codes[half:]) if runs else given_codes
    order, segments = group(np.array(values, np.int64))
    assert order.tolist() == sorted(range(len(values)), key=values.__getitem__)
    sizes = Counter(values)
    assert segments.sizes.tolist() == [sizes[code] for code in sorted(sizes)]
    assert [values[order[start]] for start in segments.starts] == sorted(sizes)
    assert not values or segments.ends.tolist() == np.cumsum(segments.sizes).tolist()
    assert segments.ids.tolist() == [at for at, code in enumerate(sorted(sizes)) for _ in range(sizes[code])]
    assert (len(segments), segments.rows) == (len(sizes), len(values))


def test_no_rows_are_no_segments() -> None:
    order, segments = group(np.empty(0, np.int64))
    assert (len(order), len(segments), segments.sizes.tolist(), segments.ids.tolist()) == (0, 0, [], [])
    assert Segments(np.array([0, 2], np.int64), 5).ends.tolist() == [2, 5]


@pytest.mark.parametrize("buckets", [1, 2, 3, 7, 16, 1_000, MOST_BUCKETS])
def test_each_bucket_has_a_label_of_its_own(buckets: int) -> None:
    found = labels(buckets)
    assert found.dtype == np.int32
    assert len(found) == len(set(found.tolist())) == buckets
    assert (found >= 0).all()
    assert 0 in found, "whatever the number of buckets: this one is asked whose the state is"


@pytest.mark.parametrize("wrong", [0, -1, MOST_BUCKETS + 1, True, 2.0, "4", None])
def test_what_is_no_number_of_buckets_is_refused(wrong: object) -> None:
    with pytest.raises(SettingsError, match=r"cannot use number 'buckets': expected 1 to 16384, got .*; use buckets_for"):
        check_buckets(wrong)


@settings(max_examples=500, deadline=None)
@given(keys=st.integers(0, 10**10), parallelism=st.integers(1, 512))
def test_the_rule_gives_a_power_of_two_that_keeps_all_tasks_busy(keys: int, parallelism: int) -> None:
    found = buckets_for(keys, parallelism=parallelism)
    check_buckets(found)
    assert found & (found - 1) == 0
    assert found >= parallelism
    assert keys / found <= 65_536 or found == MOST_BUCKETS
    assert found == 1 or found // 2 < parallelism or found // 2 < keys / 65_536
    assert buckets_for(keys) == buckets_for(keys, parallelism=8), "the same on every machine"
