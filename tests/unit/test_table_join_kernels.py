"""Joins of tables that change: against a nested loop over both tables as they are, after each batch."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spark_ext.errors import SchemaError, SettingsError
from spark_ext.joins.layout import LEFT, RIGHT
from spark_ext.state.kernel import NEVER_US, Moment, empty_state
from spark_ext.state.signed import SIGN
from spark_ext.tables.foreign_kernel import TableForeignJoin
from spark_ext.tables.join_kernel import TableJoin
from spark_ext.tables.layout import CHANGED, EXCESS, INVALID, STALE, UNKNOWN, Changelog, Pair

MOMENT = Moment(NEVER_US, 0)
USERS = pa.schema([("id", pa.string()), ("name", pa.string()), ("seq", pa.int64())])
CITIES = pa.schema([("id", pa.string()), ("seq", pa.int64()), ("name", pa.string())])
ids = st.sampled_from(["a", "b", "c", "d"])
change = st.tuples(ids | st.none(), st.integers(0, 8), st.sampled_from(["x", "y"]) | st.none())
HOWS = ["inner", "left", "right", "full"]


def hashed(value: str | None) -> int:
    return 0 if value is None else ord(value) % 3  # two of them share one


def log_rows(log: Changelog, rows: list[Any]) -> pa.Table:
    found = [{"id": k, "seq": s, "name": v, "_deleted": v is None, "_key_hash": hashed(k)} for k, s, v in rows]
    return pa.Table.from_pylist(found, schema=log.in_schema)


def as_table(rows: list[Any]) -> dict[str, tuple[int, str]]:
    """Return the rows that stand; of equal sequences a row before a delete, then the higher value."""
    best: dict[str, Any] = {}
    for k, s, v in rows:
        rank = (s, v is not None, v or "")
        if k is not None and rank > best.get(k, (-1,)):
            best[k] = rank
    return {k: (s, v) for k, (s, there, v) in best.items() if there}


def summed(total: Counter[Any], out: pa.Table) -> Counter[Any]:
    for row in out.to_pylist():
        sign = row.pop(SIGN)
        total[tuple(row.values())] += sign
    assert min(total.values(), default=0) >= 0, "nothing goes that had not come"
    return +total


@pytest.mark.parametrize("how", HOWS)
@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.lists(change, max_size=5), st.lists(change, max_size=5)), max_size=5))
def test_changes_summed_are_the_join_of_both_tables(how: Any, batches: list[tuple[list[Any], list[Any]]]) -> None:
    left, right = Changelog(USERS, ("id",), "seq"), Changelog(CITIES, ("id",), "seq")
    kernel = TableJoin(left, right, Pair(USERS, CITIES, (("id", "id"),), how, "_right"))
    assert kernel.pair.result.names == ["id", "name", "seq", "seq_right", "name_right"]
    state, total, seen = empty_state(kernel), Counter(), ([], [])
    for batch in batches:
        step = kernel.step(state, {LEFT: log_rows(left, batch[0]), RIGHT: log_rows(right, batch[1])}, MOMENT)
        state = step.state
        assert {name: table.schema for name, table in state.items()} == kernel.state_schema
        assert all(found.schema == kernel.out_schema[tag] for tag, found in step.out.items())
        assert step.out[INVALID].num_rows == sum(k is None for side in batch for k, _, _ in side)
        for side, rows in zip(seen, batch, strict=True):
            side.extend(rows)
        a, b = map(as_table, seen)
        wanted = Counter()
        for k in sorted(a.keys() | b.keys()):
            if (k in a or how in {"right", "full"}) and (k in b or how in {"left", "full"}):
                (sa, va), (sb, vb) = a.get(k, (None, None)), b.get(k, (None, None))
                wanted[k, va, sa, sb, vb] += 1
        assert summed(total, step.out[CHANGED]) == wanted


def test_stale_rows_of_a_join_say_whose_they_are() -> None:
    log = Changelog(USERS, ("id",), "seq")
    kernel = TableJoin(log, Changelog(CITIES, ("id",), "seq"), Pair(USERS, CITIES, (("id", "id"),), "inner", "_2"))
    rows = {LEFT: log_rows(log, [("a", 5, "x")]), RIGHT: log_rows(kernel.right, [("a", 5, "y")])}
    state = kernel.step(empty_state(kernel), rows, MOMENT).state
    out = kernel.step(state, {LEFT: log_rows(log, []), RIGHT: log_rows(kernel.right, [("a", 4, "z")])}, MOMENT).out
    found = [{name: value for name, value in row.items() if value is not None} for row in out[STALE].to_pylist()]
    assert found == [{"id": "a", "seq_2": 4, "name_2": "z", "side": "right"}]
    assert out[CHANGED].num_rows == 0


ORDERS = pa.schema([("o", pa.int64()), ("city", pa.string()), ("amount", pa.int64())])
# What happens to the orders: number, its city (None: no city), amount; amount None: it goes.
orders_ = st.tuples(st.integers(0, 5), ids | st.none(), st.integers(1, 3) | st.none())
foreign_ = st.lists(st.tuples(st.lists(orders_, max_size=5), st.lists(change, max_size=4)), max_size=6)


def foreign(how: Any, most: int = 100, *, right: Changelog | None = None) -> TableForeignJoin:
    right = right or Changelog(CITIES, ("id",), "seq")
    return TableForeignJoin(ORDERS, ("o",), right, Pair(ORDERS, CITIES, (("city", "id"),), how, "_2"), most)


def order_rows(kernel: TableForeignJoin, rows: list[tuple[Any, ...]]) -> pa.Table:
    found = [{"o": o, "city": c, "amount": a, SIGN: sign, "_key_hash": hashed(c)} for o, c, a, sign in rows]
    return pa.Table.from_pylist(found, schema=kernel.in_schemas[LEFT])


def moved(there: dict[int, tuple[Any, Any]], steps: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Apply what happens to the orders; return every row that comes and goes, not net."""
    rows = []
    for o, city, amount in steps:
        if o in there:
            rows.append((o, *there.pop(o), -1))
        if amount is not None:
            there[o] = (city, amount)
            rows.append((o, city, amount, 1))
    return rows


@pytest.mark.parametrize("how", ["inner", "left"])
@settings(max_examples=60, deadline=None)
@given(foreign_, st.randoms(use_true_random=False))
def test_foreign_changes_summed_are_the_join_of_both_tables(how: Any, batches: list[Any], random: Any) -> None:
    kernel = foreign(how)
    state, total, there, seen = empty_state(kernel), Counter(), {}, []
    for steps, cities in batches:
        rows = moved(there, steps)
        random.shuffle(rows)
        step = kernel.step(state, {LEFT: order_rows(kernel, rows), RIGHT: log_rows(kernel.right, cities)}, MOMENT)
        state = step.state
        assert {name: table.schema for name, table in state.items()} == kernel.state_schema
        assert all(found.schema == kernel.out_schema[tag] for tag, found in step.out.items())
        assert step.out[UNKNOWN].num_rows == step.out[EXCESS].num_rows == 0
        seen += cities
        names = as_table(seen)
        wanted = Counter()
        for o, (city, amount) in there.items():
            if how == "left" or city in names:
                wanted[o, city, amount, *names.get(city, (None, None))] += 1
        assert summed(total, step.out[CHANGED]) == wanted


def test_a_right_side_with_signs_is_the_table_they_make() -> None:
    kernel = foreign("left", right=Changelog(CITIES, ("id",), is_signed=True))

    def cities(*rows: tuple[str, int, str, int]) -> pa.Table:
        found = [{"id": k, "seq": s, "name": v, SIGN: sign, "_key_hash": hashed(k)} for k, s, v, sign in rows]
        return pa.Table.from_pylist(found, schema=kernel.in_schemas[RIGHT])

    state = kernel.step(empty_state(kernel), {LEFT: order_rows(kernel, [(1, "a", 5, 1)]), RIGHT: cities(("a", 1, "x", 1))}, MOMENT).state
    # Two versions in one batch: the one in between comes and goes.
    step = kernel.step(
        state,
        {LEFT: order_rows(kernel, []), RIGHT: cities(("a", 1, "x", -1), ("a", 2, "y", 1), ("a", 2, "y", -1), ("a", 3, "z", 1))},
        MOMENT,
    )
    assert {(row["name"], row[SIGN]) for row in step.out[CHANGED].to_pylist()} == {("x", -1), ("z", 1)}
    step = kernel.step(step.state, {LEFT: order_rows(kernel, []), RIGHT: cities(("a", 3, "z", -1))}, MOMENT)
    assert {(row["name"], row[SIGN]) for row in step.out[CHANGED].to_pylist()} == {("z", -1), (None, 1)}


def test_more_left_rows_than_allowed_are_excess_whatever_their_order() -> None:
    kernel = foreign("left", 2)
    rows = [(o, "a", 1, 1) for o in (4, 2, 3, 1)]
    for some in (rows, rows[::-1]):
        step = kernel.step(empty_state(kernel), {LEFT: order_rows(kernel, some), RIGHT: log_rows(kernel.right, [("a", 1, "x")])}, MOMENT)
        assert sorted(row["o"] for row in step.out[CHANGED].to_pylist()) == [1, 2]
        assert sorted(row["o"] for row in step.out[EXCESS].to_pylist()) == [3, 4]
    nothing = log_rows(kernel.right, [])
    step = kernel.step(step.state, {LEFT: order_rows(kernel, [(1, "a", 1, -1), (4, "a", 1, -1), (5, "a", 1, 1)]), RIGHT: nothing}, MOMENT)
    assert [(row["o"], row[SIGN]) for row in step.out[CHANGED].to_pylist()] == [(1, -1), (5, 1)]
    assert [(row["o"], row[SIGN], row["side"]) for row in step.out[UNKNOWN].to_pylist()] == [(4, -1, "left")], "it had not come"


def test_left_rows_that_cannot_be_are_unknown_or_invalid() -> None:
    kernel = foreign("inner")
    nothing = log_rows(kernel.right, [])
    rows = [(1, "a", 5, 1), (1, "a", 6, 1), (2, "b", 1, -1), (None, "a", 1, 1)]
    out = kernel.step(empty_state(kernel), {LEFT: order_rows(kernel, rows), RIGHT: nothing}, MOMENT).out
    assert {(row["o"], row["amount"]) for row in out[UNKNOWN].to_pylist()} == {(1, 6), (2, 1)}
    assert [row["o"] for row in out[INVALID].to_pylist()] == [None]


def test_what_cannot_be_joined_is_refused() -> None:
    with pytest.raises(SchemaError, match="cannot join on key 'city': expected one type on both sides, string, got int64"):
        Pair(ORDERS, CITIES, (("city", "seq"),), "inner", "_2")
    with pytest.raises(SchemaError, match="names that differ"):
        Pair(USERS, CITIES, (("id", "id"),), "inner", "")
    with pytest.raises(SettingsError, match="how one of inner, left, right, full, got 'outer'"):
        Pair(USERS, CITIES, (("id", "id"),), "outer", "_2")  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="join by another column with join_foreign"):
        TableJoin(Changelog(USERS, ("id",)), Changelog(CITIES, ("id",)), Pair(USERS, CITIES, (("name", "id"),), "inner", "_2"))
    with pytest.raises(SettingsError, match="how inner or left, got 'full'"):
        foreign("full")
    with pytest.raises(SettingsError, match="most_matches >= 1"):
        foreign("left", 0)
    with pytest.raises(SettingsError, match="name the whole key of the right table"):
        TableForeignJoin(ORDERS, ("o",), Changelog(CITIES, ("id", "seq")), Pair(ORDERS, CITIES, (("city", "id"),), "left", "_2"), 9)
    with pytest.raises(SettingsError, match="cannot use sequence 'of changes'"):
        Changelog(CITIES, ("id",), "seq", is_signed=True)
