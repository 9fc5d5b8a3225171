"""What aggregates are made of: sorting by several keys, first rows, sums of words."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spark_ext.state.segments import Segments, group
from spark_ext.windows.aggregates.columns import sort_key, words
from spark_ext.windows.aggregates.reduce import first_rows, flatten, lists, narrow, order_of, spread
from spark_ext.windows.aggregates.totals import decimals, fits_decimal, sum_64, sum_128

INT64 = 2**63
NEAR = [*range(-2, 3), *range(INT64 - 3, INT64), *range(-INT64, -INT64 + 3)]
number = st.one_of(st.sampled_from(NEAR), st.integers(-INT64, INT64 - 1), st.integers(0, 2**57))


@settings(max_examples=500, deadline=None)
@given(rows=st.integers(1, 4).flatmap(lambda columns: st.lists(st.tuples(*[number] * columns), min_size=1, max_size=20)))
def test_rows_are_sorted_by_all_keys(rows: list[tuple[int, ...]]) -> None:
    keys = [np.array(key, np.int64) for key in zip(*rows, strict=True)]
    order = order_of(keys)
    assert sorted(order.tolist()) == list(range(len(rows)))
    assert [rows[i] for i in order] == sorted(rows)


def test_more_keys_than_one_number_has_room_for() -> None:
    pairs = np.arange(150_000) // 2
    mixed = np.random.default_rng(1).permutation(pairs[::2])[pairs]
    keys = [mixed * (2**62 // 150_000) for _ in range(7)]
    keys.append(np.arange(150_000)[::-1].copy())
    assert order_of(keys).tolist() == np.lexsort(keys[::-1]).tolist()


@settings(max_examples=300, deadline=None)
@given(rows=st.lists(st.tuples(st.integers(0, 3), st.integers(-2, 2), number), max_size=20))
def test_first_rows_are_the_smallest_of_their_segment(rows: list[tuple[int, int, int]]) -> None:
    rows = sorted(rows, key=lambda row: row[0])
    groups, *keys = (np.array([row[i] for row in rows], np.int64) for i in range(3))
    _, segments = group(groups)
    smallest: dict[int, tuple[int, int]] = {}
    for owner, *key in rows:
        smallest[owner] = min(smallest.get(owner, (9, 0)), (key[0], key[1]))
    assert [rows[i][1:] for i in first_rows(keys, segments)] == list(smallest.values())


@settings(max_examples=500, deadline=None)
@given(rows=st.lists(st.tuples(st.integers(0, 2), number, number), max_size=20))
def test_sums_of_words_are_exact(rows: list[tuple[int, int, int]]) -> None:
    rows = sorted(rows, key=lambda row: row[0])
    groups, low, high = (np.array([row[i] for row in rows], np.int64) for i in range(3))
    _, segments = group(groups)
    of_low: dict[int, int] = defaultdict(int)
    of_both: dict[int, int] = defaultdict(int)
    for owner, small, large in rows:
        of_low[owner] += small
        of_both[owner] += small % 2**64 + large * 2**64
    assert [int(a) + int(b) * 2**64 for a, b in zip(*sum_64(low, segments), strict=True)] == list(of_low.values())
    found = zip(*(part.tolist() for part in sum_128(low, high, segments)), strict=True)
    assert [a % 2**64 + (b + c * 2**64) * 2**64 for a, b, c in found] == list(of_both.values())


def test_high_words_wrap_by_the_carry_of_low_words() -> None:
    low, high = np.array([-1, 1], np.int64), np.array([INT64 - 1, 0], np.int64)
    assert [part.tolist() for part in sum_128(low, high, Segments(np.zeros(1, np.int64), 2))] == [[0], [-INT64], [1]]


@pytest.mark.parametrize(
    "value", [10**38 - 1, 10**38, 10**38 + 1, 10**38 + 2**64, 0, -1, 1 - 10**38, -(10**38), -1 - 10**38, -(10**38) - 2**64]
)
def test_38_digits_fit(value: int) -> None:
    low = np.array([value % 2**64], np.uint64).view(np.int64)
    high = np.array([value >> 64], np.int64)
    assert fits_decimal(low, high, np.zeros(1, np.int64)).tolist() == [abs(value) < 10**38]
    assert fits_decimal(low, high, np.ones(1, np.int64)).tolist() == [False]
    if abs(value) < 10**38:
        array = decimals((low, high), pa.decimal128(38, 0))
        assert int(array[0].as_py()) == value
        assert words(array).tolist() == [[int(low[0]), int(high[0])]]


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_floats_have_keys_in_the_order_of_spark(kind: type) -> None:
    other_nan = np.array([-1], f"i{np.dtype(kind).itemsize}").view(kind)  # its sign bit is set
    values = np.concatenate([np.array([-np.inf, -2, -1e-30, -0.0, 0.0, 1e-30, 2, np.inf, np.nan], kind), other_nan])
    keys = sort_key(pa.array(values))
    assert np.sign(np.diff(keys)).tolist() == [1, 1, 1, 0, 1, 1, 1, 1, 0]


def test_lists_are_opened_with_the_segment_of_each_value() -> None:
    array = lists(pa.array(["a", "b", "c", "d"]), np.array([1, 1, 3, 4]), 5)
    assert array.to_pylist() == [[], ["a", "b"], [], ["c"], ["d"]]
    values, ids = flatten(array.slice(1), Segments(np.array([0, 2]), 4))
    assert values.to_pylist() == ["a", "b", "c", "d"]
    assert ids.tolist() == [0, 0, 1, 1]


def test_segments_are_narrowed_and_spread_again() -> None:
    groups, segments = narrow(np.array([False, False, True, True, False, True]), Segments(np.array([0, 2, 4, 5]), 6))
    assert groups.tolist() == [1, 3]
    assert segments.starts.tolist() == [0, 2]
    assert segments.rows == 3
    assert spread(pa.array([7, 8]), groups, 4).to_pylist() == [None, 7, None, 8]
