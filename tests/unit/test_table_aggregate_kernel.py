"""Aggregates of rows that come and go: against all rows that are there, gone through anew after each batch."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from decimal import Context, Decimal
from functools import reduce
from operator import add
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spark_ext.errors import QueryError, SchemaError, SettingsError
from spark_ext.state.kernel import NEVER_US, Moment, empty_state
from spark_ext.tables.aggregate_kernel import TableAggregate
from spark_ext.tables.layout import CHANGED, UNKNOWN
from spark_ext.windows.aggregates import count, distinct, first, max, mean, min, sum  # noqa: A004

SCHEMA = pa.schema([("g", pa.string()), ("i", pa.int64()), ("f", pa.float64()), ("d", pa.decimal128(30, 2)), ("t", pa.string())])
AGGREGATES = {
    "n": count(), "n_i": count("i"), "s_i": sum("i"), "m_i": mean("i"), "s_f": sum("f"), "m_f": mean("f"), "s_d": sum("d"),
    "m_d": mean("d"),
    "lo": min("f"), "hi": max("f"), "first": min("t"), "last": max("t"),
}  # fmt: skip
KERNEL = TableAggregate(SCHEMA, ("g",), tuple(AGGREGATES.items()))
EXACT = Context(prec=80)
WORD = Decimal(2**64).scaleb(-2)  # its lower word is nought
SPECIAL = [0.0, -0.0, 0.5, -2.25, 1024.0, float("nan"), float("inf"), float("-inf"), None]  # sums of these are exact
BIG = [2**63 - 1, -(2**63), 1, -1, 0, 77, None]

values_ = st.tuples(
    st.sampled_from(["a", "b", None]),
    st.sampled_from(BIG),
    st.sampled_from(SPECIAL),
    st.sampled_from([Decimal("0.01"), Decimal(-(10**27)), Decimal("12345678901234567890.12"), WORD, None]),
    st.sampled_from(["x", "", "ü", None]),
)
# A step: take the row with this number that is there (moves and deletes), add a row, or both (an update).
steps_ = st.lists(st.lists(st.tuples(st.integers(0, 30) | st.none(), values_ | st.none()), max_size=6), max_size=7)


def table(rows: list[tuple[Any, ...]], signs: list[int], kernel: TableAggregate = KERNEL) -> pa.Table:
    columns = [[row[at] for row in rows] for at in range(len(kernel.schema))]
    hashes = [len(row[0] or "") for row in rows]
    data = [*columns, signs, hashes]
    return pa.table([pa.array(one, field.type) for one, field in zip(data, kernel.in_schema, strict=True)], schema=kernel.in_schema)


def total(values: list[float]) -> float | None:
    if not values:
        return None
    if any(math.isnan(v) for v in values) or (math.inf in values and -math.inf in values):
        return math.nan
    return math.fsum(values)


def place(value: Any) -> tuple[bool, Any]:
    return (isinstance(value, float) and math.isnan(value), value)


def expected(rows: list[tuple[Any, ...]]) -> dict[Any, tuple[Any, ...]]:
    groups = defaultdict(list)
    for row in rows:
        groups[row[0]].append(row)
    found = {}
    for g, members in groups.items():
        i, f, d, t = ([row[at] for row in members if row[at] is not None] for at in (1, 2, 3, 4))
        s_f, s_i = total(f), sum_of(i)
        found[g] = (
            len(members), len(i), s_i, None if not i else s_i / len(i), s_f, None if s_f is None else s_f / len(f), sum_of(d),
            None if not d else float(EXACT.divide(sum_of(d), len(d))), *edges(f), *(edges([v.encode() for v in t])),
        )  # fmt: skip
    return found


def sum_of(values: list[Any]) -> Any:
    if values and isinstance(values[0], Decimal):
        return reduce(EXACT.add, values)
    return reduce(add, values) if values else None


def edges(values: list[Any]) -> tuple[Any, Any]:
    ordered = sorted(values, key=lambda v: place(v if isinstance(v, bytes) else v + 0.0))
    return (ordered[0], ordered[-1]) if ordered else (None, None)


def plain(row: dict[str, Any]) -> tuple[Any, ...]:
    text = [None if row[name] is None else row[name].encode() for name in ("first", "last")]
    m_d = None if row["m_d"] is None else float(row["m_d"])
    return (*(row[name] for name in list(AGGREGATES)[:7]), m_d, row["lo"], row["hi"], *text)


def same(a: Any, b: Any) -> bool:
    return all(x is y or x == y or close(x, y) for x, y in zip(a, b, strict=True))


def close(x: Any, y: Any) -> bool:
    are_floats = isinstance(x, float) and isinstance(y, float)
    return are_floats and ((math.isnan(x) and math.isnan(y)) or math.isclose(x, y, rel_tol=1e-12))


def overflows(rows: list[tuple[Any, ...]]) -> bool:
    found = expected(rows).values()
    return any(one[2] is not None and not -(2**63) <= one[2] < 2**63 for one in found)


@settings(max_examples=80, deadline=None)
@given(steps_)
def test_results_summed_are_the_aggregation_of_what_is_there(steps: list[list[Any]]) -> None:
    state, there, shown = empty_state(KERNEL), [], {}
    for step in steps:
        rows, signs = [], []
        for gone, came in step:
            if gone is not None and there:
                rows.append(there.pop(gone % len(there)))
                signs.append(-1)
            if came is not None:
                there.append(came)
                rows.append(came)
                signs.append(1)
        if overflows(there):
            with pytest.raises(QueryError, match="results that fit"):
                KERNEL.step(state, table(rows, signs), Moment(NEVER_US, 0))
            return
        done = KERNEL.step(state, table(rows, signs), Moment(NEVER_US, 0))
        state = done.state
        for name, schema in KERNEL.state_schema.items():
            assert state[name].schema == schema
        assert done.out.get(UNKNOWN, pa.table({})).num_rows == 0
        for row in sorted(done.out[CHANGED].to_pylist() if CHANGED in done.out else [], key=lambda row: row["sign"]):
            if row["sign"] < 0:
                assert same(plain(row), shown.pop(row["g"]))
            else:
                assert row["g"] not in shown
                shown[row["g"]] = plain(row)
        wanted = expected(there)
        assert set(shown) == set(wanted)
        for g, results in wanted.items():
            assert same(shown[g], results), (g, shown[g], results)
    if not there:
        assert all(table.num_rows == 0 for table in state.values()), "nothing is kept of nothing"


SMALL = TableAggregate(pa.schema([("g", pa.string()), ("i", pa.int64())]), ("g",), (("n", count()), ("s", sum("i")), ("lo", min("i"))))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from([1, 2, None]), st.sampled_from([1, -1])), max_size=8), max_size=5)
)
def test_what_was_never_there_is_unknown_and_changes_nothing(batches: list[list[Any]]) -> None:
    state, there = empty_state(SMALL), Counter()
    for batch in batches:
        step = SMALL.step(state, table([(g, i) for g, i, _ in batch], [s for _, _, s in batch], SMALL), Moment(NEVER_US, 0))
        state = step.state
        there.update((g, i) for g, i, sign in batch if sign > 0)
        wrong = Counter()
        for g, i, sign in batch:
            if sign < 0 and there[g, i]:  # the minimum knows each value
                there[g, i] -= 1
            elif sign < 0:
                wrong[g, i] += 1
        unknown = step.out[UNKNOWN].to_pylist() if UNKNOWN in step.out else []
        assert Counter((row["g"], row["i"]) for row in unknown) == wrong
        assert all(row["sign"] == -1 for row in unknown)
        counts = dict(zip(state["keys"].column("g").to_pylist(), state["counts"].column("rows").to_pylist(), strict=True))
        sizes = Counter()
        for (g, _), n in there.items():
            sizes[g] += n
        assert counts == dict(+sizes)


def test_which_of_several_is_unknown_does_not_depend_on_their_order() -> None:
    kernel = TableAggregate(pa.schema([("g", pa.string()), ("i", pa.int64())]), ("g",), (("s", sum("i")),))
    rows = [("a", 5), ("a", 3), ("a", 4)]
    first_step = kernel.step(empty_state(kernel), table([("a", 12), ("a", 0)], [1, 1], kernel), Moment(NEVER_US, 0))
    for order in ([0, 1, 2], [2, 1, 0], [1, 2, 0]):
        step = kernel.step(first_step.state, table([rows[at] for at in order], [-1] * 3, kernel), Moment(NEVER_US, 0))
        assert step.out[UNKNOWN].to_pylist() == [{"g": "a", "i": 3, "sign": -1}]
        assert step.out[CHANGED].to_pylist() == [{"g": "a", "s": 12, "sign": -1}]


def test_a_sign_that_is_none_is_unknown() -> None:
    data = table([("a", 1), ("a", 2), ("a", 3)], [1, 0, 2], SMALL)
    step = SMALL.step(empty_state(SMALL), data, Moment(NEVER_US, 0))
    assert sorted(row["i"] for row in step.out[UNKNOWN].to_pylist()) == [2, 3]
    assert step.out[CHANGED].to_pylist() == [{"g": "a", "n": 1, "s": 1, "lo": 1, "sign": 1}]


def test_floats_that_were_taken_out_leave_nothing_behind() -> None:
    kernel = TableAggregate(pa.schema([("g", pa.string()), ("f", pa.float64())]), ("g",), (("s", sum("f")),))
    state = empty_state(kernel)
    for rows, signs in (([("a", 0.1), ("a", 1e300)], [1, 1]), ([("a", 0.1), ("a", 1e300)], [-1, -1]), ([("a", None), ("a", 0.1)], [1, 1])):
        step = kernel.step(state, table(rows, signs, kernel), Moment(NEVER_US, 0))
        state = step.state
    assert step.out[CHANGED].to_pylist() == [{"g": "a", "s": 0.1, "sign": 1}]


def test_other_aggregates_are_refused() -> None:
    for one, name in ((distinct("t"), "distinct"), (first("t"), "edge")):
        with pytest.raises(
            SettingsError, match=f"cannot aggregate changes by aggregate 'x': expected count, sum, mean, min or max .* got {name}"
        ):
            TableAggregate(SCHEMA, ("g",), (("x", one),))
    with pytest.raises(SchemaError, match="cannot aggregate column 't': expected integers, floats or decimals"):
        TableAggregate(SCHEMA, ("g",), (("x", sum("t")),))
    with pytest.raises(SettingsError, match="a column to group by"):
        TableAggregate(SCHEMA, (), (("x", count()),))
    with pytest.raises(SchemaError, match="names of their own"):
        TableAggregate(SCHEMA, ("g",), (("G", count()),))
