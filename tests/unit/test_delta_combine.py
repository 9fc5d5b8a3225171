"""Rows put together with those of a table by delta-rs: once, no change lost, one row per key."""

from __future__ import annotations

import random
import threading
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from tenacity import wait_none

from spark_ext.delta import Txn, append, by_driver, combine, conflicts, upsert, written_by
from spark_ext.errors import EpochError, SchemaError, SettingsError

START = datetime(2026, 1, 1, tzinfo=UTC)
SCHEMA = pa.schema([("k", pa.string()), ("at", pa.timestamp("us", "UTC")), ("n", pa.int64()), ("names", pa.string())])
KEYS = ["k", "at"]


def add(known: pa.Table, rows: pa.Table) -> pa.Table:
    """Add numbers, and keep which names were put together, in order."""
    found: dict[Any, Any] = {}
    for row in [*known.to_pylist(), *rows.to_pylist()]:
        one = found.setdefault((row["k"], row["at"]), {**row, "n": 0, "names": ""})
        one["n"] += row["n"] or 0
        one["names"] = "".join(sorted(one["names"] + (row["names"] or "")))
    return pa.Table.from_pylist(list(found.values()), schema=rows.schema)


def rows(*values: tuple[str | None, int | None, int, str]) -> pa.Table:
    found = [
        {"k": key, "at": None if minute is None else START + timedelta(minutes=minute), "n": n, "names": names}
        for key, minute, n, names in values
    ]
    return pa.Table.from_pylist(found, schema=SCHEMA)


def batch(seed: int, size: int = 12) -> pa.Table:
    dice = random.Random(seed)  # noqa: S311 (no secrets)
    drawn = [(dice.choice(["a", "b", None]), dice.choice([0, 1, None]), dice.randrange(9), chr(97 + seed % 26)) for _ in range(size)]
    return rows(*drawn)


def content(path: str) -> dict[tuple[Any, Any], tuple[int, str]]:
    found = DeltaTable(path).to_pyarrow_table().to_pylist()
    assert len({(row["k"], row["at"]) for row in found}) == len(found)
    return {(row["k"], row["at"]): (row["n"], row["names"]) for row in found}


def totals(*batches: pa.Table) -> dict[tuple[Any, Any], tuple[int, str]]:
    numbers: dict[tuple[Any, Any], int] = defaultdict(int)
    names: dict[tuple[Any, Any], str] = defaultdict(str)
    for one in batches:
        for row in one.to_pylist():
            numbers[row["k"], row["at"]] += row["n"]
            names[row["k"], row["at"]] += row["names"]
    return {key: (numbers[key], "".join(sorted(names[key]))) for key in numbers}


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "t")


merge = partial(combine, keys=KEYS, with_=add)


def test_batches_with_repeated_and_null_keys_are_added_up_once_each(path: str) -> None:
    batches = [batch(seed) for seed in range(6)]
    for number, one in enumerate(batches):
        first, again = (merge(one, path, txn=Txn("p:1", number)) for _ in range(2))
        assert (first.version, first.skipped, first.rows) == (number, False, len({(r["k"], r["at"]) for r in one.to_pylist()}))
        assert (again.skipped, again.rows) == (True, first.rows)
    assert content(path) == totals(*batches)


def test_without_a_transaction_a_second_call_adds_again(path: str) -> None:
    for _ in range(2):
        merge(rows(("a", 0, 1, "x")), path, txn=None)
    assert content(path) == {("a", START): (2, "xx")}


def test_an_empty_batch_leaves_its_transaction_and_no_row(path: str) -> None:
    merge(batch(1), path, txn=Txn("p:1", 0))
    before = content(path)
    assert merge(batch(1).slice(0, 0), path, txn=Txn("p:1", 1)).rows == 0
    assert (content(path), DeltaTable(path).transaction_version("p:1")) == (before, 1)


def test_rows_alone_are_not_given_to_the_function(path: str) -> None:
    def never(known: pa.Table, rows: pa.Table) -> pa.Table:
        raise AssertionError

    for minute in range(3):
        combine(rows(("a", minute, 1, "x"), (None, minute, 2, "y")), path, keys=KEYS, with_=never, txn=None)
    assert len(content(path)) == 6


def test_only_files_that_may_have_a_key_are_read(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for minute in (0, 100, 200):
        append(rows(("a", minute, 1, "x"), ("b", minute + 1, 1, "y")), path, txn=None)
    read: list[int] = []
    whole = by_driver.rows_where

    def watched(table: DeltaTable, condition: Any) -> Any:
        found = whole(table, condition)
        read.append(len(found.files))
        return found

    monkeypatch.setattr(by_driver, "rows_where", watched)
    merge(rows(("a", 100, 5, "z")), path, txn=None)
    assert read == [1]
    assert content(path)["a", START + timedelta(minutes=100)] == (6, "xz")


def test_a_table_with_two_rows_of_a_key_is_refused(path: str) -> None:
    append(rows(("a", 0, 1, "x"), ("a", 0, 2, "y"), ("b", 0, 1, "z"), ("b", 0, 1, "z")), path, txn=None)
    with pytest.raises(
        EpochError, match=r"expected one row per key \(k, at\) in the table, got several; .* nothing was written; put those"
    ):
        merge(rows(("a", 0, 1, "x")), path, txn=None)
    merge(rows(("c", 0, 1, "x")), path, txn=None)
    assert DeltaTable(path).count() == 5


@pytest.mark.parametrize(
    ("with_", "got"),
    [
        (lambda known, rows: rows, "got 2 rows of 1 keys"),
        (lambda known, rows: rows.slice(0, 0), "got 0 rows of 0 keys"),
        (lambda known, rows: rows.select(["k"]).slice(0, 1), "got columns k"),
    ],
)
def test_a_function_that_returns_something_else_is_refused(path: str, with_: Any, got: str) -> None:
    with pytest.raises(
        SchemaError, match=rf"expected one row for each of 1 keys, .*{got}; that is what with_ returned; nothing was written"
    ):
        combine(rows(("a", 0, 1, "x"), ("a", 0, 1, "y")), path, keys=KEYS, with_=with_, txn=None)
    assert not Path(path).exists()


def test_keys_are_needed_and_columns_fit(path: str) -> None:
    with pytest.raises(SettingsError, match="expected at least one key"):
        combine(batch(0), path, keys=[], with_=add, txn=None)
    merge(batch(0), path, txn=None)
    wider = batch(1).append_column("w", pa.array([1] * 12))
    with pytest.raises(SchemaError, match="column 'w' int64, which the table lacks"):
        merge(wider, path, txn=None)


def test_a_new_column_is_added_and_null_before(path: str) -> None:
    def last(known: pa.Table, rows: pa.Table) -> pa.Table:
        found = {row["k"]: row for row in [*known.to_pylist(), *rows.to_pylist()]}
        return pa.Table.from_pylist(list(found.values()), schema=rows.schema)

    combine(pa.table({"k": ["a", "b"]}), path, keys=["k"], with_=last, txn=None)
    combine(pa.table({"k": ["b", "c"], "w": [1, 2]}), path, keys=["k"], with_=last, txn=Txn("p:1", 0), evolve=True)
    assert {row["k"]: row["w"] for row in DeltaTable(path).to_pyarrow_table().to_pylist()} == {"a": None, "b": 1, "c": 2}


@pytest.mark.parametrize("kind", [pa.int16(), pa.decimal128(9, 2), pa.bool_(), pa.binary(), pa.date32(), pa.large_string()], ids=str)
def test_keys_of_any_type_find_their_row(path: str, kind: pa.DataType) -> None:
    def count(known: pa.Table, rows: pa.Table) -> pa.Table:
        both = pa.concat_tables([known, rows]).group_by("k").aggregate([("n", "sum")])
        return both.rename_columns(["k", "n"])

    values = {pa.int16(): [1, 2], pa.bool_(): [True, False], pa.binary(): [b"\0", b"x"], pa.date32(): [START.date(), None]}
    keys = pa.array(values.get(kind, ["1", "2"])).cast(kind) if kind not in (pa.date32(),) else pa.array(values[kind], kind)
    for _ in range(3):
        combine(pa.table({"k": keys, "n": [1, 1]}), path, keys=["k"], with_=count, txn=None)
    assert [row["n"] for row in DeltaTable(path).to_pyarrow_table().to_pylist()] == [3, 3]


# other writers in between


def rival(monkeypatch: pytest.MonkeyPatch, *acts: Callable[[], object], between: str = "open_table") -> None:
    """Let each act be committed by somebody else after the writer has looked at the table, once per look."""
    monkeypatch.setattr(conflicts, "WAITS", wait_none())
    real, left = getattr(by_driver, between), list(acts)

    def look(*given: Any) -> Any:
        found = real(*given)
        if left:
            act = left.pop(0)
            with monkeypatch.context() as aside:
                aside.setattr(by_driver, between, real)
                act()
        return found

    monkeypatch.setattr(by_driver, between, look)


@pytest.mark.parametrize("between", ["open_table", "_known"])
def test_what_another_writer_adds_meanwhile_is_not_lost(path: str, monkeypatch: pytest.MonkeyPatch, between: str) -> None:
    batches = [batch(seed) for seed in range(4)]
    merge(batches[0], path, txn=None)
    rival(monkeypatch, *(partial(merge, one, path, txn=None) for one in batches[1:3]), between=between)
    merge(batches[3], path, txn=Txn("p:1", 0))
    assert content(path) == totals(*batches)


def test_a_column_is_added_while_another_writer_adds_rows(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    merge(rows(("a", 0, 1, "x")), path, txn=None)
    rival(monkeypatch, lambda: merge(rows(("a", 0, 10, "y")), path, txn=None))
    merge(rows(("a", 0, 100, "z")).append_column("w", pa.array([1])), path, txn=None, evolve=True)
    assert content(path) == {("a", START): (111, "xyz")}


def test_a_batch_that_its_own_zombie_has_just_combined_is_skipped(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    merge(batch(0), path, txn=None)
    rival(monkeypatch, lambda: merge(batch(1), path, txn=Txn("p:1", 3)))
    assert merge(batch(1), path, txn=Txn("p:1", 3)).skipped
    assert content(path) == totals(batch(0), batch(1))


def test_conflicts_without_an_end_are_given_up_with_nothing_of_it_written(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    one = rows(("a", 0, 1, "x"))
    merge(one, path, txn=None)
    rival(monkeypatch, *[partial(merge, one, path, txn=None)] * 9)
    with pytest.raises(EpochError, match="got 5 conflicts in a row"):
        merge(rows(("a", 0, 100, "y")), path, txn=None)
    assert content(path) == {("a", START): (6, "x" * 6)}


def test_an_upsert_of_the_same_row_meanwhile_is_seen(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    merge(rows(("a", 0, 1, "x")), path, txn=None)
    rival(monkeypatch, lambda: upsert(rows(("a", 0, 50, "u")), path, keys=KEYS, txn=None))
    merge(rows(("a", 0, 100, "y")), path, txn=None)
    assert content(path) == {("a", START): (150, "uy")}


def test_threads_that_combine_the_same_keys_lose_nothing(path: str) -> None:
    merge(rows(("a", 0, 0, "")), path, txn=None)
    together, failed = threading.Barrier(3), []

    def write(who: int) -> None:
        together.wait()
        for number in range(3):
            try:
                merge(rows(("a", 0, 1, str(who)), (f"own{who}", 0, 1, "o")), path, txn=Txn(f"p:{who}", number))
                assert written_by(path, Txn(f"p:{who}", number)) is not None
            except EpochError:  # five conflicts in a row are possible, though not likely
                failed.append(who)

    threads = [threading.Thread(target=write, args=(who,)) for who in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert content(path)["a", START][0] == 9 - len(failed)


def test_a_table_of_others_is_combined_with(path: str) -> None:
    write_deltalake(path, rows(("a", 0, 1, "x")), partition_by=["k"])
    merge(rows(("a", 0, 1, "y"), ("b", 0, 1, "z")), path, txn=None)
    assert content(path) == {("a", START): (2, "xy"), ("b", START): (1, "z")}
