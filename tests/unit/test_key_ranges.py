"""Ranges hold all keys, are as few as asked for, and leave the widest gaps out."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spark_ext.joins.key_ranges import key_ranges


@given(st.lists(st.integers(-(2**40), 2**40), max_size=40), st.integers(1, 8))
@settings(max_examples=300, deadline=None)
def test_numbers_against_a_loop(values: list[int], most: int) -> None:
    ranges = key_ranges(pa.array(values, pa.int64()), most=most)
    assert ranges is not None
    ordered = sorted(set(values))
    assert len(ranges) == min(most, len(ordered))
    assert all(sum(low <= one <= high for low, high in ranges) == 1 for one in ordered), "each key in one range"
    assert all(low in ordered and high in ordered for low, high in ranges)
    gaps = sorted(b - a for a, b in pairwise(ordered))
    if len(ordered) > most:
        covered = sum(high - low for low, high in ranges)
        assert covered == ordered[-1] - ordered[0] - sum(gaps[len(gaps) - (most - 1) :]), "the widest gaps are left out"


@pytest.mark.parametrize(
    "values",
    [
        ["b", "a", "é", "z", "a"], [date(2026, 1, day) for day in (1, 2, 9, 30)], [datetime(2026, 1, 1, hour) for hour in range(9)],  # noqa: DTZ001
        [Decimal("1.5"), Decimal("-2.0"), Decimal("7.0")],
    ],
)  # fmt: skip
def test_other_types(values: list[Any]) -> None:
    ranges = key_ranges(pa.array(values), most=2)
    assert ranges is not None
    assert len(ranges) == 2
    assert all(sum(low <= one <= high for low, high in ranges) == 1 for one in values)


@pytest.mark.parametrize("values", [pa.array([1.5]), pa.array([True]), pa.array([b"a"]), pa.array([{"a": 1}])])
def test_types_whose_order_does_not_help(values: pa.Array) -> None:
    assert key_ranges(values, most=2) is None
