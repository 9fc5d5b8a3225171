"""A changelog as a table: against a dict that is made anew from all rows, whatever the batches and the order."""

from __future__ import annotations

import math
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spark_ext.errors import SchemaError, SettingsError
from spark_ext.joins.layout import HASH
from spark_ext.state.kernel import NEVER_US, Moment, empty_state
from spark_ext.tables.changes_kernel import TableChanges
from spark_ext.tables.layout import CHANGED, DELETED, GONE, INVALID, KEPT, STALE, Changelog

SCHEMA = pa.schema([("k", pa.string()), ("n", pa.float64()), ("seq", pa.int32()), ("v", pa.string()), ("l", pa.list_(pa.int32()))])
Row = tuple[str | None, float | None, int | None, str, bool]  # k, n, seq, v, deleted

keys = st.tuples(st.sampled_from(["a", "ü", None]), st.sampled_from([0.0, -0.0, float("nan")]))
rows_ = st.tuples(keys, st.integers(0, 4) | st.none(), st.sampled_from(["x", "y", "z"]), st.booleans())
batches_ = st.lists(st.lists(rows_, max_size=8), max_size=6)


def table(rows: list[Any]) -> pa.Table:
    ks, seqs, vs, ds = zip(*rows, strict=True) if rows else ((), (), (), ())
    hashes = [len(k[0] or "") % 2 for k in ks]  # many keys share one
    columns = [[k for k, _ in ks], [n for _, n in ks], seqs, vs, [[ord(v)] for v in vs], ds, hashes]
    kernel_schema = Changelog(SCHEMA, ("k", "n"), "seq").in_schema
    return pa.table(
        [pa.array(list(column), field.type) for column, field in zip(columns, kernel_schema, strict=True)], schema=kernel_schema
    )


def plain(row: dict[str, Any]) -> tuple[Any, ...]:
    n = row["n"]
    return (row["k"], "nan" if math.isnan(n) else n + 0.0, row["seq"], row["v"], tuple(row["l"]))


def key(row: Any) -> Any:
    (k, n), *_ = row
    return (k, "nan" if math.isnan(n) else n + 0.0)


def expected_table(rows: list[Any]) -> Counter[Any]:
    best: dict[Any, Any] = {}
    for row in rows:
        (k, _), seq, v, deleted = row
        if k is None or seq is None:
            continue
        rank = (seq, not deleted, "" if deleted else v)
        if key(row) not in best or rank > best[key(row)]:
            best[key(row)] = rank
    return Counter((*k, seq, v, (ord(v),)) for k, (seq, alive, v) in best.items() if alive)


def run(kernel: TableChanges, batches: list[list[Any]], watermarks: list[int] | None = None) -> tuple[Any, list[dict[str, pa.Table]]]:
    state, outs = empty_state(kernel), []
    for at, rows in enumerate(batches):
        moment = Moment(NEVER_US if watermarks is None else watermarks[at], 0)
        step = kernel.step(state, table(rows), moment)
        for name, schema in kernel.state_schema.items():
            assert step.state[name].schema == schema
        for tag, found in step.out.items():
            assert found.schema == kernel.out_schema[tag], tag
        state = step.state
        outs.append(dict(step.out))
    return state, outs


@settings(max_examples=100, deadline=None)
@given(batches_)
def test_changes_summed_are_the_table_after_each_batch(batches: list[list[Any]]) -> None:
    kernel = TableChanges(Changelog(SCHEMA, ("k", "n"), "seq"))
    _, outs = run(kernel, batches)
    total: Counter[Any] = Counter()
    seen: list[Any] = []
    for rows, out in zip(batches, outs, strict=True):
        before = expected_table(seen)
        seen += rows
        for row in out[CHANGED].to_pylist():
            total[plain(row)] += row["sign"]
        assert +total == expected_table(seen)
        assert min(total.values(), default=0) >= 0
        moved = Counter(expected_table(seen))
        moved.subtract(before)
        assert sum(map(abs, moved.values())) == out[CHANGED].num_rows, "net: nothing comes and goes"
        assert out[INVALID].num_rows == sum(k[0] is None or seq is None for k, seq, _, _ in rows)
        assert out[STALE].num_rows == expected_stale(seen[: len(seen) - len(rows)], rows)


def expected_stale(before: list[Any], rows: list[Any]) -> int:
    """Count the rows that are not newer than what was there, or have a newest sequence together with the one that stands."""
    found = 0
    for one in {key(row) for row in rows if row[0][0] is not None}:
        old, new = ([(r[1], not r[3], "" if r[3] else r[2]) for r in some if key(r) == one and r[1] is not None] for some in (before, rows))
        base, top = max(old, default=(-1,)), max(new, default=(-1,))
        found += sum(rank[0] <= base[0] or rank[0] == top[0] for rank in new) - (top > base)
    return found


@settings(max_examples=40, deadline=None)
@given(batches_, st.randoms(use_true_random=False))
def test_order_and_cuts_do_not_matter(batches: list[list[Any]], random: Any) -> None:
    kernel = TableChanges(Changelog(SCHEMA, ("k", "n"), "seq"))
    everything = [row for rows in batches for row in rows]
    state, _ = run(kernel, batches)
    random.shuffle(everything)
    other, _ = run(kernel, [everything[:3], everything[3:]])
    assert Counter(map(plain, state[KEPT].to_pylist())) == Counter(map(plain, other[KEPT].to_pylist()))
    gone = [Counter((row["k"], row["seq"]) for row in one[GONE].to_pylist()) for one in (state, other)]
    assert gone[0] == gone[1]


def test_an_older_change_does_not_bring_a_deleted_key_back_until_it_is_forgotten() -> None:
    kernel = TableChanges(Changelog(SCHEMA, ("k", "n"), "seq", ttl_us=100))
    put, drop = (("a", 1.5), 3, "x", False), (("a", 1.5), 7, "x", True)
    state, outs = run(kernel, [[put], [drop], [put], []], [NEVER_US, 1_000, 1_099, 1_100])
    assert [out[CHANGED].column("sign").to_pylist() for out in outs] == [[1], [-1], [], []]
    assert outs[2][STALE].num_rows == 1
    assert state[GONE].num_rows == 0
    step = kernel.step(kernel.step(empty_state(kernel), table([drop]), Moment(1_000, 0)).state, table([]), Moment(1_050, 0))
    assert step.wake_us == 1_100
    assert step.state[GONE].num_rows == 1
    unknown = kernel.step(empty_state(kernel), table([drop]), Moment(NEVER_US, 0))
    assert unknown.wake_us == 1
    assert kernel.step(unknown.state, table([]), Moment(5_000, 0)).wake_us == 5_100, "counted from the first watermark"


def test_without_a_sequence_the_later_batch_wins() -> None:
    schema = pa.schema([("k", pa.string()), ("v", pa.int64())])
    kernel = TableChanges(Changelog(schema, ("k",)))

    def rows(*found: tuple[str, int | None]) -> pa.Table:
        ks, vs = zip(*found, strict=True)
        return pa.table([list(ks), pa.array(vs, pa.int64()), [v is None for v in vs], [0] * len(ks)], schema=kernel.in_schema)

    one = kernel.step(empty_state(kernel), rows(("a", 9), ("a", 3), ("b", 1)), Moment(NEVER_US, 0))
    assert sorted(one.out[CHANGED].column("v").to_pylist()) == [1, 9]
    assert one.out[STALE].to_pylist() == [{"k": "a", "v": 3}]
    two = kernel.step(one.state, rows(("a", 2), ("b", None)), Moment(NEVER_US, 0))
    assert Counter((row["v"], row["sign"]) for row in two.out[CHANGED].to_pylist()) == Counter([(9, -1), (2, 1), (1, -1)])
    assert two.state[GONE].num_rows == 0
    same = kernel.step(two.state, rows(("a", 2)), Moment(NEVER_US, 0))
    assert same.out[CHANGED].num_rows == 0, "nothing changed"


@pytest.mark.parametrize("kind", [pa.int64(), pa.int16(), pa.date32(), pa.timestamp("us", "UTC")])
def test_what_can_be_a_sequence(kind: pa.DataType) -> None:
    schema = pa.schema([("k", pa.string()), ("s", kind)])
    kernel = TableChanges(Changelog(schema, ("k",), "s"))
    values = pa.array([5, -3, 7], pa.int32() if kind == pa.date32() else pa.int64()).cast(kind)
    rows = pa.table([["a"] * 3, values, [False] * 3, [1] * 3], schema=kernel.in_schema)
    assert kernel.step(empty_state(kernel), rows, Moment(NEVER_US, 0)).out[CHANGED].column("s").combine_chunks() == values[2:]


def test_what_cannot_be_a_table_is_refused() -> None:
    with pytest.raises(SchemaError, match="cannot order changes by column 'v': expected an integer, a date or a timestamp, got string"):
        Changelog(SCHEMA, ("k",), "v")
    with pytest.raises(SchemaError, match="cannot read column 'nope'"):
        Changelog(SCHEMA, ("nope",))
    with pytest.raises(SchemaError, match="cannot group by key 'l'"):
        Changelog(SCHEMA, ("l",))
    with pytest.raises(SettingsError, match="one key or more, each once"):
        Changelog(SCHEMA, ())
    with pytest.raises(SettingsError, match="ttl of 0 to 200 years, together with a sequence"):
        Changelog(SCHEMA, ("k",), ttl_us=5)
    with pytest.raises(SettingsError, match="ttl of 0 to 200 years"):
        Changelog(pa.schema([("k", pa.string()), ("n", pa.int64())]), ("k",), "n", ttl_us=2**62)
    with pytest.raises(SchemaError, match="names of their own"):
        Changelog(pa.schema([("k", pa.string()), ("Sign", pa.int8())]), ("k",))


def test_a_big_batch_over_big_state_takes_no_time_per_key() -> None:
    schema = pa.schema([("k", pa.int64()), ("v", pa.int64()), ("s", pa.int64())])
    kernel = TableChanges(Changelog(schema, ("k",), "s"))

    def rows(first: int, last: int, seq: int) -> pa.Table:
        ks = list(range(first, last))
        return pa.table([ks, ks, [seq] * len(ks), [False] * len(ks), [k * 7919 % 1_000_003 for k in ks]], schema=kernel.in_schema)

    state = kernel.step(empty_state(kernel), rows(0, 100_000, 1), Moment(NEVER_US, 0)).state
    began = datetime.now(UTC)
    out = kernel.step(state, rows(50_000, 60_000, 2), Moment(NEVER_US, 0)).out
    assert out[CHANGED].num_rows == 20_000
    assert (datetime.now(UTC) - began).total_seconds() < 2
    assert HASH in state[KEPT].column_names
    assert DELETED not in state[KEPT].column_names
