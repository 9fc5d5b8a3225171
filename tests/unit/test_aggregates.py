"""Every aggregate over every type against plain Python, over rows in random groups, cut into random parts."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Callable
from datetime import date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal, localcontext
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spark_ext.errors import QueryError
from spark_ext.state.segments import Segments, group
from spark_ext.windows import aggregates
from spark_ext.windows.aggregates import Aggregate

INT64 = 2**63
Row = tuple[int, int, int, Any]  # part, group, time, value


def whole(bits: int) -> st.SearchStrategy[int]:
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    return st.one_of(st.integers(-2, 2), st.sampled_from([low, high]), st.integers(low, high))


def floats(width: int) -> st.SearchStrategy[float]:
    few = st.sampled_from([0.0, -0.0, math.nan, math.inf, -math.inf, 1.5, -2.0])
    return st.one_of(few, st.floats(width=width, allow_subnormal=False))  # type: ignore[arg-type]


def decimals(digits: int, scale: int) -> st.SearchStrategy[Decimal]:
    largest = 10**digits - 1
    numbers = st.one_of(st.integers(-2, 2), st.sampled_from([largest, -largest]), st.integers(-largest, largest))
    return numbers.map(lambda number: scaled(number, scale))


def scaled(number: int, scale: int) -> Decimal:
    with localcontext() as context:
        context.prec = 100
        return Decimal(number).scaleb(-scale)


INTEGERS: list[tuple[pa.DataType, st.SearchStrategy[Any]]] = [
    (pa.int8(), whole(8)),
    (pa.int16(), whole(16)),
    (pa.int32(), whole(32)),
    (pa.int64(), whole(64)),
]
FLOATS: list[tuple[pa.DataType, st.SearchStrategy[Any]]] = [(pa.float32(), floats(32)), (pa.float64(), floats(64))]
DECIMALS: list[tuple[pa.DataType, st.SearchStrategy[Any]]] = [
    (pa.decimal128(5, 2), decimals(5, 2)),
    (pa.decimal128(18, 0), decimals(18, 0)),
    (pa.decimal128(19, 18), decimals(19, 18)),
    (pa.decimal128(38, 10), decimals(38, 10)),
    (pa.decimal128(38, 37), decimals(38, 37)),
]
NUMBERS = INTEGERS + FLOATS + DECIMALS
OTHERS: list[tuple[pa.DataType, st.SearchStrategy[Any]]] = [
    (pa.bool_(), st.booleans()),
    (pa.string(), st.sampled_from(["", "a", "b", "ab", "\u00e9", "\U0001f600", "\uffff"])),
    (pa.large_string(), st.text(max_size=2)),
    (pa.binary(), st.binary(max_size=2)),
    (pa.date32(), st.dates(date(1900, 1, 1), date(2100, 1, 1))),
    (
        pa.timestamp("us", "UTC"),
        st.integers(-(2**50), 2**50).map(lambda us: datetime(1970, 1, 1, tzinfo=ZoneInfo("UTC")) + timedelta(microseconds=us)),
    ),
]
EVERY = NUMBERS + OTHERS


def rows_of(kinds: list[tuple[pa.DataType, st.SearchStrategy[Any]]]) -> st.SearchStrategy[tuple[pa.DataType, list[Row]]]:
    def of(kind: tuple[pa.DataType, st.SearchStrategy[Any]]) -> st.SearchStrategy[tuple[pa.DataType, list[Row]]]:
        row = st.tuples(st.integers(0, 2), st.integers(0, 3), st.integers(-2, 3), st.none() | kind[1])
        return st.tuples(st.just(kind[0]), st.lists(row, max_size=20))

    return st.sampled_from(kinds).flatmap(of)


def run(aggregate: Aggregate, columns: dict[str, pa.Array], parts: list[int], groups: list[int], times: list[int]) -> dict[int, Any]:
    """Aggregate each part by itself, merge the states of a group, return results by group."""
    types = {name: array.type for name, array in columns.items()}
    states: list[list[pa.Array]] = []
    owners: list[int] = []
    for part in range(3):
        rows = np.flatnonzero(np.array(parts) == part)
        codes = np.array(groups, np.int64)[rows]
        order, segments = group(codes)
        taken = pa.array(rows[order], pa.int64())
        part_times = pa.array(times, pa.int64()).take(taken)
        states.append(aggregate.of_rows({name: array.take(taken) for name, array in columns.items()}, part_times, segments))
        owners += codes[order][segments.starts].tolist()
        # A group that is not in a part at all may also come as an identity.
        states.append(aggregate.identity(types, 1))
        owners.append(part)
    order, segments = group(np.array(owners, np.int64))
    joined = [pa.concat_arrays(list(column)).take(pa.array(order)) for column in zip(*states, strict=True)]
    assert [column.type for column in joined] == aggregate.state(types)
    merged = aggregate.merge(joined, segments)
    assert [column.type for column in merged] == aggregate.state(types)
    for column in merged:
        column.validate(full=True)
    results = aggregate.finish(merged, types)
    results.validate(full=True)
    assert results.type == aggregate.result(types)
    return dict(zip(np.array(owners)[order][segments.starts].tolist(), results.to_pylist(), strict=True))


def model(rows: list[Row], summary: Callable[[list[tuple[int, Any]]], Any]) -> dict[int, Any]:
    by_group: dict[int, list[tuple[int, Any]]] = defaultdict(list)
    for number in range(3):
        by_group[number] = []  # the identities of `run`
    for _, number, time, value in rows:
        by_group[number].append((time, value + 0.0 if isinstance(value, float) else value))
    return {number: summary(found) for number, found in by_group.items()}


def checked(aggregate: Aggregate, data_type: pa.DataType, rows: list[Row], summary: Callable[[list[tuple[int, Any]]], Any]) -> None:
    columns = {"x": pa.array([value for *_, value in rows], data_type)}
    parts, groups, times = ([row[i] for row in rows] for i in range(3))
    try:
        expected = model(rows, summary)
    except OverflowError:
        with pytest.raises(QueryError, match="expected results that fit"):
            run(aggregate, columns, parts, groups, times)
        return
    got = run(aggregate, columns, parts, groups, times)
    assert got.keys() == expected.keys()
    for number, result in got.items():
        assert same(result, expected[number]), f"group {number}: got {result!r}, expected {expected[number]!r}"


def same(got: Any, expected: Any) -> bool:
    if isinstance(expected, Near):
        return expected.holds(got)
    return repr(got) == repr(expected)  # one zero, one NaN, a Decimal with its digits


class Near:
    """A float that may be off in its last bits."""

    def __init__(self, value: float, allowed: float) -> None:
        self.value, self.allowed = value, allowed

    def __repr__(self) -> str:
        return f"{self.value!r} +- {self.allowed!r}"

    def holds(self, got: Any) -> bool:
        if math.isnan(self.value) or math.isinf(self.value):
            return repr(got) == repr(self.value)
        return isinstance(got, float) and abs(got - self.value) <= self.allowed


def known(found: list[tuple[int, Any]]) -> list[Any]:
    return [value for _, value in found if value is not None]


def rank(value: Any) -> Any:
    """Return what Spark orders by."""
    if isinstance(value, float):
        return (math.isnan(value), 0.0 if math.isnan(value) else value)
    return value.encode() if isinstance(value, str) else value


def slow_sum(found: list[tuple[int, Any]]) -> Any:
    values = known(found)
    if not values:
        return None
    if isinstance(values[0], float):
        return near_sum(values)
    if isinstance(values[0], Decimal):
        with localcontext() as context:
            context.prec = 100
            total = sum(values, Decimal(0))
            if len(total.as_tuple().digits) > 38:
                raise OverflowError
            return total
    if not -INT64 <= sum(values) < INT64:
        raise OverflowError
    return sum(values)


def near_sum(values: list[float]) -> Near:
    finite = [value for value in values if math.isfinite(value)]
    if len(finite) < len(values) or sum(abs(Fraction(value)) for value in finite) > Fraction(1e308):
        return Near(math.nan, 0.0) if any(map(math.isnan, values)) or {math.inf, -math.inf} <= set(values) else Unbounded(0.0, 0.0)
    return Near(math.fsum(values), 1e-14 * math.fsum(map(abs, values)))


class Unbounded(Near):
    """Beyond the range of floats, order decides: infinite or NaN or near the limit."""

    def holds(self, got: Any) -> bool:
        return isinstance(got, float) and not abs(got) < 1e300


def slow_mean(found: list[tuple[int, Any]]) -> Any:
    values = known(found)
    if not values:
        return None
    if isinstance(values[0], int):
        exact = sum(values) / len(values)
        return Near(exact, 1e-15 * abs(exact))
    if isinstance(values[0], float):
        total = near_sum(values)
        if isinstance(total, Unbounded):
            return total
        return Near(total.value / len(values), total.allowed + 1e-15 * abs(total.value))
    raise NotImplementedError


def test_of_nothing() -> None:
    """No rows in any part: only identities."""
    nothing = pa.array([], pa.float64())
    results = {
        aggregates.count(): 0,
        aggregates.count("x"): 0,
        aggregates.sum("x"): None,
        aggregates.mean("x"): None,
        aggregates.variance("x"): None,
        aggregates.min("x"): None,
        aggregates.last("x"): None,
        aggregates.distinct("x"): 0,
        aggregates.distinct_values("x"): [],
        aggregates.top_n("x", 2): [],
        aggregates.collect("x", limit=2): [],
    }
    for aggregate, expected in results.items():
        assert run(aggregate, {"x": nothing}, [], [], []) == dict.fromkeys(range(3), expected)


@settings(max_examples=300, deadline=None)
@given(case=rows_of(EVERY))
def test_count(case: tuple[pa.DataType, list[Row]]) -> None:
    checked(aggregates.count("x"), *case, lambda found: len(known(found)))
    checked(aggregates.count(), *case, len)


@settings(max_examples=600, deadline=None)
@given(case=rows_of(NUMBERS))
def test_sum(case: tuple[pa.DataType, list[Row]]) -> None:
    checked(aggregates.sum("x"), *case, slow_sum)


@settings(max_examples=300, deadline=None)
@given(case=rows_of(INTEGERS + FLOATS))
def test_mean(case: tuple[pa.DataType, list[Row]]) -> None:
    checked(aggregates.mean("x"), *case, slow_mean)


@settings(max_examples=300, deadline=None)
@given(case=rows_of(DECIMALS))
def test_mean_of_decimals(case: tuple[pa.DataType, list[Row]]) -> None:
    data_type, _ = case

    def exact(found: list[tuple[int, Any]]) -> Any:
        values = known(found)
        if not values:
            return None
        with localcontext() as context:
            context.prec = 200
            mean = (sum(values, Decimal(0)) / len(values)).quantize(Decimal(1).scaleb(-min(38, data_type.scale + 4)), ROUND_HALF_UP)
            if len(mean.as_tuple().digits) > 38:
                raise OverflowError
            return mean

    checked(aggregates.mean("x"), *case, exact)


@settings(max_examples=300, deadline=None)
@given(case=rows_of([*INTEGERS, (pa.float64(), st.floats(-1e100, 1e100)), *DECIMALS]), ddof=st.integers(0, 2))
def test_variance(case: tuple[pa.DataType, list[Row]], ddof: int) -> None:
    def exact(found: list[tuple[int, Any]]) -> Any:
        values = [Fraction(float(value)) for value in known(found)]
        if len(values) <= ddof:
            return None
        squares = float(statistics.pvariance(values) * len(values) / (len(values) - ddof))
        largest = float(max(map(abs, values)))
        return Near(squares, 1e-12 * squares + 1e-13 * largest * math.sqrt(squares) + 1e-29 * largest**2)

    checked(aggregates.variance("x", ddof=ddof), *case, exact)


def test_variance_keeps_its_digits_beside_a_large_mean() -> None:
    values = [1e9 + offset for offset in (4.0, 7.0, 13.0, 16.0)]
    got = run(aggregates.variance("x"), {"x": pa.array(values)}, [0, 0, 1, 2], [0] * 4, [0] * 4)
    assert got[0] == pytest.approx(30.0, rel=1e-14)


@settings(max_examples=300, deadline=None)
@given(case=rows_of(EVERY))
def test_min_and_max(case: tuple[pa.DataType, list[Row]]) -> None:
    checked(aggregates.min("x"), *case, lambda found: min(known(found), key=rank, default=None))
    checked(aggregates.max("x"), *case, lambda found: max(known(found), key=rank, default=None))


@settings(max_examples=300, deadline=None)
@given(case=rows_of(EVERY))
def test_first_and_last(case: tuple[pa.DataType, list[Row]]) -> None:
    def edge(choose: Callable[..., Any]) -> Callable[[list[tuple[int, Any]]], Any]:
        return lambda found: choose(
            ((time, value) for time, value in found if value is not None), key=lambda row: (row[0], rank(row[1])), default=(0, None)
        )[1]

    checked(aggregates.first("x"), *case, edge(min))
    checked(aggregates.last("x"), *case, edge(max))


@settings(max_examples=300, deadline=None)
@given(case=rows_of(EVERY))
def test_distinct(case: tuple[pa.DataType, list[Row]]) -> None:
    def values(found: list[tuple[int, Any]]) -> list[Any]:
        return [value for _, value in sorted({rank(value): value for value in known(found)}.items())]

    checked(aggregates.distinct_values("x"), *case, values)
    checked(aggregates.distinct("x"), *case, lambda found: len(values(found)))


@settings(max_examples=300, deadline=None)
@given(case=rows_of(EVERY), n=st.integers(1, 4))
def test_top_n(case: tuple[pa.DataType, list[Row]], n: int) -> None:
    checked(aggregates.top_n("x", n), *case, lambda found: sorted(known(found), key=rank, reverse=True)[:n])


@settings(max_examples=300, deadline=None)
@given(case=rows_of(EVERY), limit=st.integers(1, 4))
def test_collect(case: tuple[pa.DataType, list[Row]], limit: int) -> None:
    def ordered(found: list[tuple[int, Any]]) -> list[Any]:
        return [
            value for _, value in sorted(found, key=lambda row: (row[0], row[1] is not None, rank(row[1]) if row[1] is not None else 0))
        ]

    checked(aggregates.collect("x", limit=limit), *case, lambda found: ordered(found)[:limit])
    checked(aggregates.collect("x", limit=limit, keep="last"), *case, lambda found: ordered(found)[-limit:])


PAIRS = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.integers(0, 3),
        st.integers(-2, 3),
        st.none() | st.sampled_from([1.0, -0.0, 0.0, math.nan, 7.5]),
        st.none() | st.sampled_from(["", "a", "b"]),
    ),
    max_size=20,
)


@settings(max_examples=300, deadline=None)
@given(rows=PAIRS, n=st.integers(1, 4))
def test_two_columns(rows: list[tuple[int, int, int, float | None, str | None]], n: int) -> None:
    parts, groups, times, numbers, words = (list(column) for column in zip(*rows, strict=True)) if rows else ([], [], [], [], [])
    columns = {"word": pa.array(words, pa.string()), "number": pa.array(numbers, pa.float64())}

    top: dict[int, list[str | None]] = {0: [], 1: [], 2: []}
    kept: dict[int, list[dict[str, Any]]] = {0: [], 1: [], 2: []}
    for number in set(groups) | {0, 1, 2}:
        own = [(time, x, word) for _, owner, time, x, word in rows if owner == number]
        by = sorted(((rank(x + 0.0), word is not None, word or "") for _, x, word in own if x is not None), reverse=True)
        top[number] = [word if there else None for _, there, word in by[:n]]
        ranked = sorted(
            (time, word is not None, word or "", x is not None, rank(x + 0.0) if x is not None else (False, 0.0)) for time, x, word in own
        )
        kept[number] = [
            {"word": word if there else None, "number": (math.nan if x[0] else x[1]) if some else None}
            for _, there, word, some, x in ranked[:n]
        ]
    assert run(aggregates.top_n("word", n, by="number"), columns, parts, groups, times) == top
    got = run(aggregates.collect("word", "number", limit=n), columns, parts, groups, times)
    assert repr(sorted(got.items())) == repr(sorted(kept.items()))


def test_an_int64_sum_may_leave_its_range_on_the_way_but_not_at_the_end() -> None:
    values = pa.array([INT64 - 1, INT64 - 1, -INT64, 5], pa.int64())
    assert run(aggregates.sum("x"), {"x": values.slice(0, 3)}, [0, 0, 1], [0] * 3, [0] * 3)[0] == INT64 - 2
    with pytest.raises(
        QueryError, match=r"cannot finish sum 'x': expected results that fit int64, got a larger one; 1 of 3 groups overflow"
    ):
        run(aggregates.sum("x"), {"x": values}, [0, 0, 0, 0], [0, 0, 1, 2], [0] * 4)


def test_group_without_values_among_others() -> None:
    segments = Segments(np.array([0, 2], np.int64), 3)
    rows = {"x": pa.array([None, None, 3], pa.int64())}
    aggregate = aggregates.mean("x")
    states = aggregate.of_rows(rows, pa.array([0, 0, 0]), segments)
    assert aggregate.finish(states, {"x": pa.int64()}).to_pylist() == [None, 3.0]


def test_variance_of_what_is_not_finite_is_nan_and_says_nothing() -> None:
    values = pa.array([1.0, math.nan, math.inf, 1.0, math.inf, 3.0])
    got = run(aggregates.variance("x"), {"x": values}, [0, 1, 0, 0, 1, 2], [0, 0, 1, 1, 2, 2], [0] * 6)
    assert all(map(math.isnan, got.values()))


def test_variance_where_the_mean_is_not_a_float() -> None:
    values = [2.0**53, 2.0**53 + 2]
    assert run(aggregates.variance("x"), {"x": pa.array(values)}, [0, 0], [0, 0], [0, 0])[0] == 2.0
    assert run(aggregates.variance("x"), {"x": pa.array(values)}, [0, 1], [0, 0], [0, 0])[0] == 2.0


@settings(max_examples=300, deadline=None)
@given(case=rows_of(FLOATS))
def test_floats_are_ordered_as_in_spark(case: tuple[pa.DataType, list[Row]]) -> None:
    checked(aggregates.top_n("x", 20), *case, lambda found: sorted(known(found), key=rank, reverse=True))
