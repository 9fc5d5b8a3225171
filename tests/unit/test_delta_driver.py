"""Tables written by delta-rs in this process: once, newest row per key, history, columns, other writers in between."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, Field, write_deltalake
from hypothesis import given, settings
from hypothesis import strategies as st
from tenacity import wait_none

from spark_ext.delta import Txn, append, by_driver, commits, conflicts, history, upsert, written_by
from spark_ext.errors import EpochError, SchemaError, SettingsError
from tests.delta_models import HistoryModel, UpsertModel, as_set

START = datetime(2026, 1, 1, tzinfo=UTC)
TIME = pa.timestamp("us", "UTC")


def rows(path: str | Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = DeltaTable(str(path)).to_pyarrow_table().to_pylist()
    return found


def version(path: str | Path) -> int:
    return int(DeltaTable(str(path)).version())


def numbers(*values: int) -> pa.Table:
    return pa.table({"id": pa.array(values, pa.int64())})


def keyed(*values: tuple[str | None, int | None, int | None]) -> pa.Table:
    schema = pa.schema([("k", pa.string()), ("s", pa.int64()), ("v", pa.int64())])
    return pa.Table.from_pylist([dict(zip("ksv", value, strict=True)) for value in values], schema=schema)


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "t")


# once


def test_a_replayed_batch_adds_nothing_and_says_what_the_first_one_did(path: str) -> None:
    first = append(numbers(1, 2), path, txn=Txn("p:1", 0))
    again = append(numbers(1, 2), path, txn=Txn("p:1", 0))
    assert (first.version, first.rows, first.skipped, first.writer) == (0, 2, False, "driver")
    assert (again.version, again.rows, again.skipped) == (0, 2, True)
    assert sorted(row["id"] for row in rows(path)) == [1, 2]


def test_a_batch_before_the_last_one_adds_nothing(path: str) -> None:
    append(numbers(1), path, txn=Txn("p:1", 0))
    append(numbers(2), path, txn=Txn("p:1", 5))
    late = append(numbers(3), path, txn=Txn("p:1", 3))
    assert (late.skipped, late.rows, late.version) == (True, 0, 1)
    assert DeltaTable(path).transaction_version("p:1") == 5


def test_another_writer_and_one_without_a_transaction_are_new(path: str) -> None:
    append(numbers(1), path, txn=Txn("p:1", 0))
    append(numbers(1), path, txn=Txn("p:2", 0))
    for _ in range(2):
        append(numbers(1), path, txn=None)
    assert len(rows(path)) == 4


def test_a_commit_is_found_by_its_transaction_with_rows_and_metadata(path: str) -> None:
    for number in range(4):
        append(numbers(*range(number)), path, txn=Txn("p:1", number, {"pipeline": "p", "epoch": str(number)}))
    found = written_by(path, Txn("p:1", 2))
    assert found is not None
    assert (found.version, found.rows, found.metadata["epoch"], dict(found.txns)) == (2, 2, "2", {"p:1": 2})
    assert written_by(path, Txn("p:1", 9)) is None
    assert written_by(path, Txn("q", 0)) is None
    assert [commit.version for commit in commits(path)] == [3, 2, 1, 0]


def test_an_empty_batch_leaves_its_transaction(path: str) -> None:
    for number in range(2):
        assert append(numbers(), path, txn=Txn("p:1", number)).version == number
    assert (rows(path), DeltaTable(path).transaction_version("p:1")) == ([], 1)


def test_a_uri_is_the_path_it_names(path: str) -> None:
    append(numbers(1), f"file://{path}", txn=Txn("p:1", 0))
    assert append(numbers(1), path, txn=Txn("p:1", 0)).skipped
    assert append(numbers(1), f"file://{path}", txn=Txn("p:1", 0)).rows == 1


# upsert


def test_upsert_replaces_adds_and_keeps(path: str) -> None:
    upsert(keyed(("a", 1, 1), ("b", 1, 2), (None, 1, 3)), path, keys=["k"], txn=Txn("p:1", 0))
    done = upsert(keyed(("b", 1, 20), ("c", 1, 4), (None, 1, 30)), path, keys=["k"], txn=Txn("p:1", 1))
    assert (done.version, done.rows) == (1, 3)
    assert {row["k"]: row["v"] for row in rows(path)} == {"a": 1, "b": 20, None: 30, "c": 4}


def test_a_null_key_is_found_in_whichever_file_it_is(path: str) -> None:
    for values in ([("a", 1, 1)], [(None, 1, 1)], [("x", 1, 1), (None, 2, 2)], [("b", 1, 1), ("y", 1, 1), (None, 3, 3)]):
        upsert(keyed(*values), path, keys=["k"], sequence="s", txn=None)
    found = rows(path)
    assert len(found) == 5
    assert [row["v"] for row in found if row["k"] is None] == [3]


def test_keys_are_compared_in_one_way_or_few_of_them_would_find_rows_by_hash() -> None:
    plain, null = pa.table({"k": ["a"], "j": [1]}), pa.table({"k": pa.array([None], pa.string()), "j": [1]})
    assert by_driver._matches(plain, ["k", "j"]) == '(old."k" = new."k") AND (old."j" = new."j")'
    assert by_driver._matches(null, ["k", "j"]).count("IS NOT DISTINCT FROM") == 2


def test_an_older_row_does_not_replace_a_newer_one_and_its_batch_is_done(path: str) -> None:
    upsert(keyed(("a", 5, 1)), path, keys=["k"], sequence="s", txn=Txn("p:1", 0))
    stale = upsert(keyed(("a", 4, 2), ("a", None, 3)), path, keys=["k"], sequence="s", txn=Txn("p:1", 1))
    assert (stale.rows, stale.skipped, DeltaTable(path).transaction_version("p:1")) == (0, False, 1)
    assert rows(path) == [{"k": "a", "s": 5, "v": 1}]
    assert upsert(keyed(("a", 5, 4)), path, keys=["k"], sequence="s", txn=Txn("p:1", 2)).rows == 1


def test_two_rows_of_a_key_without_a_sequence_are_refused_before_anything_is_written(path: str) -> None:
    with pytest.raises(EpochError, match=r"expected one row per key \(k\), got several; without a sequence nothing says which"):
        upsert(keyed((None, 1, 1), (None, 1, 1)), path, keys=["k"], txn=Txn("p:1", 0))
    assert not Path(path).exists()


def test_names_are_names_whatever_is_in_them(path: str) -> None:
    names = ["A.b", 'q"u`o', "Upper", "select"]
    batch = pa.table([[1, 2], ["x", None], [1, 1], [7, 8]], names)
    append(batch, path, txn=None)
    later = pa.table([[1, 2], ["x", None], [2, 0], [70, 80]], names)
    assert upsert(later, path, keys=names[:2], sequence="Upper", txn=None).rows == 1
    assert {row["select"] for row in rows(path)} == {70, 8}
    with pytest.raises(SchemaError, match=r"cannot use key 'A.b\" = 1 OR true'"):
        upsert(later, path, keys=['A.b" = 1 OR true'], txn=None)


def test_case_does_not_count_in_names(path: str) -> None:
    upsert(pa.table({"Key": [1], "Value": [1]}), path, keys=["key"], txn=None)
    upsert(pa.table({"KEY": [1], "value": [2]}), path, keys=["kEy"], txn=None)
    assert rows(path) == [{"Key": 1, "Value": 2}]


@pytest.mark.parametrize("keys", [[], "k"])
def test_an_upsert_without_a_key_is_refused(path: str, keys: list[str]) -> None:
    with pytest.raises(SettingsError, match=r"cannot upsert table .*expected at least one key, got .*; name the columns"):
        upsert(keyed(), path, keys=keys, txn=None)


def test_a_key_of_a_type_without_one_order_is_refused(path: str) -> None:
    with pytest.raises(SchemaError, match=r"cannot use key 'x': expected integers, .*, got double"):
        upsert(pa.table({"x": [1.0]}), path, keys=["x"], txn=None)


KEYED = st.tuples(st.sampled_from(["a", "b", "c", None]), st.sampled_from([None, 1, 2, 3, 4]), st.integers(0, 2))


@settings(max_examples=40, deadline=None)
@given(batches=st.lists(st.lists(KEYED, max_size=6), min_size=1, max_size=6))
def test_upserts_of_any_batches_leave_what_a_dictionary_holds(
    tmp_path_factory: pytest.TempPathFactory, batches: list[list[tuple[str | None, int | None, int | None]]]
) -> None:
    path = str(tmp_path_factory.mktemp("upsert") / "t")
    model = UpsertModel(["k"], "s", ["v"])
    for number, batch in enumerate(batches):
        table = keyed(*batch)
        for again in (False, True):
            done = upsert(table, path, keys=["k"], sequence="s", txn=Txn("p:1", number))
            assert done.skipped is again
        model.add(table.to_pylist())
    assert as_set(rows(path)) == as_set(model.rows.values())


# history


def versions(*values: tuple[str | None, int, int | None]) -> pa.Table:
    schema = pa.schema([("k", pa.string()), ("at", TIME), ("v", pa.int64())])
    found = [{"k": key, "at": START + timedelta(minutes=minute), "v": value} for key, minute, value in values]
    return pa.Table.from_pylist(found, schema=schema)


def test_a_late_version_stands_between_its_neighbours(path: str) -> None:
    history(versions(("a", 0, 0), ("a", 10, 10)), path, keys=["k"], sequence="at", txn=None)
    done = history(versions(("a", 5, 5)), path, keys=["k"], sequence="at", txn=None)
    assert done.rows == 2  # the late one, and the one before it
    found = sorted((row["valid_from"], row["valid_to"], row["v"], row["is_current"]) for row in rows(path) if row["valid_to"])
    late, ten = START + timedelta(minutes=5), START + timedelta(minutes=10)
    assert found == [(START, late, 0, False), (late, ten, 5, False)]
    assert [row["v"] for row in rows(path) if row["is_current"]] == [10]


def test_the_end_of_a_version_leaves_its_other_columns_alone(path: str) -> None:
    history(versions(("a", 0, 7), ("b", 0, 8)), path, keys=["k"], sequence="at", txn=None)
    history(versions(("a", 1, None)), path, keys=["k"], sequence="at", txn=None)
    assert sorted(((row["k"], row["v"], row["is_current"]) for row in rows(path)), key=repr) == [
        ("a", 7, False), ("a", None, True), ("b", 8, True),
    ]  # fmt: skip


VERSIONS = st.tuples(st.sampled_from(["a", "b", None]), st.integers(0, 6), st.sampled_from([None, 1, 2]))


@settings(max_examples=40, deadline=None)
@given(batches=st.lists(st.lists(VERSIONS, max_size=6), min_size=1, max_size=6))
def test_histories_of_any_batches_are_what_a_dictionary_of_versions_says(
    tmp_path_factory: pytest.TempPathFactory, batches: list[list[tuple[str | None, int, int | None]]]
) -> None:
    path = str(tmp_path_factory.mktemp("history") / "t")
    model = HistoryModel(["k"], "at", ["v"])
    for number, batch in enumerate(batches):
        table = versions(*batch)
        for again in (False, True):
            assert history(table, path, keys=["k"], sequence="at", txn=Txn("p:1", number)).skipped is again
        model.add(table.to_pylist())
        assert as_set(rows(path)) == as_set(model.table())


def test_histories_with_two_keys_of_which_some_are_null(path: str) -> None:
    model = HistoryModel(["k", "j"], "at", ["v"])
    for number in range(6):
        table = versions(("a", 6 - number, 1), (None, number, 2), ("a", 9, number))
        table = table.append_column("j", pa.array([None, number % 2, 1], pa.int64()))
        history(table, path, keys=["k", "j"], sequence="at", txn=Txn("p:1", number))
        model.add(table.to_pylist())
    assert as_set(rows(path)) == as_set(model.table())


def test_a_version_without_a_time_is_refused(path: str) -> None:
    table = versions(("a", 0, 1)).set_column(1, "at", pa.array([None], TIME))
    with pytest.raises(EpochError, match=r"cannot write batch to history .*: expected a time in 'at' in every row, got null"):
        history(table, path, keys=["k"], sequence="at", txn=None)


def test_a_table_that_is_no_history_is_refused(path: str) -> None:
    append(versions(("a", 0, 1)), path, txn=None)
    with pytest.raises(SchemaError, match=r"cannot write to history .*: expected a table with valid_from timestamp"):
        history(versions(("a", 0, 1)), path, keys=["k"], sequence="at", txn=None)
    with pytest.raises(SchemaError, match=r"cannot use sequence 'v': expected a timestamp, got int64"):
        history(versions(("a", 0, 1)), path + "2", keys=["k"], sequence="v", txn=None)


def test_rows_with_the_historys_own_columns_are_refused(path: str) -> None:
    with pytest.raises(SchemaError, match="column 'Is_Current', which the writer makes itself"):
        history(versions(("a", 0, 1)).append_column("Is_Current", pa.array([True])), path, keys=["k"], sequence="at", txn=None)


# columns

WRITERS: dict[str, Callable[..., Any]] = {
    "append": append,
    "upsert": partial(upsert, keys=["k"], sequence="at"),
    "history": partial(history, keys=["k"], sequence="at"),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_new_column_is_refused_unless_the_table_may_evolve(path: str, name: str) -> None:
    write = WRITERS[name]
    write(versions(("a", 0, 1)), path, txn=Txn("p:1", 0))
    wider = versions(("a", 1, 2), ("b", 0, 3)).append_column("w", pa.array(["x", "y"]))
    with pytest.raises(SchemaError, match=r"column 'w' string, which the table lacks; nothing was written; .*evolve=True"):
        write(wider, path, txn=Txn("p:1", 1))
    assert version(path) == 0
    assert not write(wider, path, txn=Txn("p:1", 1), evolve=True).skipped
    write(versions(("c", 0, 4)), path, txn=Txn("p:1", 2))
    found = {(row["k"], row["v"]): row["w"] for row in rows(path)}
    assert found[("a", 2)] == "x"
    assert found[("b", 3)] == "y"
    assert found[("c", 4)] is None
    assert found.get(("a", 1)) is None
    assert [field.name for field in DeltaTable(path).schema().fields][-1] == "w"


def test_a_row_that_is_not_replaced_gets_nothing_from_the_one_that_did_not_replace_it(path: str) -> None:
    write = partial(upsert, path=path, keys=["k"], sequence="s", txn=None)
    write(keyed(("a", 9, 1)))
    write(keyed(("a", 1, 2), ("b", 1, 2)).append_column("w", pa.array(["stale", "new"])), evolve=True)
    assert {row["k"]: row["w"] for row in rows(path)} == {"a": None, "b": "new"}


@pytest.mark.parametrize("name", WRITERS)
def test_a_narrower_type_is_widened_and_a_wider_one_refused(path: str, name: str) -> None:
    write = WRITERS[name]
    write(versions(("a", 0, 1)), path, txn=None)
    narrow = versions(("a", 1, 2)).set_column(2, "v", pa.array([2], pa.int8()))
    write(narrow, path, txn=None)
    with pytest.raises(SchemaError, match="column 'v' double where the table has int64"):
        write(versions(("a", 1, 2)).set_column(2, "v", pa.array([2.0])), path, txn=None, evolve=True)
    assert 2 in {row["v"] for row in rows(path)}


def test_times_are_utc_microseconds_whatever_came(path: str) -> None:
    naive = datetime(2026, 1, 1, 12)  # noqa: DTZ001 (the point)
    append(pa.table({"t": pa.array([naive], pa.timestamp("ms"))}), path, txn=None)
    append(pa.table({"t": pa.array([naive.replace(tzinfo=UTC)], pa.timestamp("ns", "Asia/Tokyo"))}), path, txn=None)
    assert pa.schema(DeltaTable(path).schema()).field("t").type == TIME
    assert {row["t"] for row in rows(path)} == {naive.replace(tzinfo=UTC)}
    with pytest.raises(SchemaError, match="cannot write column 't': expected timestamp"):
        append(pa.table({"t": pa.array([1], pa.timestamp("ns"))}), path, txn=None)


def test_nested_values_come_through(path: str) -> None:
    one = {"k": "a", "s": {"x": 1, "l": [1, None]}, "m": [("q", 1)]}
    nested = pa.struct([("x", pa.int32()), ("l", pa.large_list(pa.int64()))])
    schema = pa.schema([("k", pa.string()), ("s", nested), ("m", pa.map_(pa.string(), pa.int32()))])
    table = pa.Table.from_pylist([one], schema=schema)
    append(table, path, txn=None)
    upsert(table, path, keys=["k"], txn=None)
    assert rows(path) == [one]


# other writers in between


def rival(monkeypatch: pytest.MonkeyPatch, *acts: Callable[[], object]) -> None:
    """Let each act be committed by somebody else after the writer has looked at the table, once per look."""
    monkeypatch.setattr(conflicts, "WAITS", wait_none())
    real, left = by_driver.open_table, list(acts)

    def open_table(path: str) -> DeltaTable | None:
        found = real(path)
        if left:
            act = left.pop(0)
            with monkeypatch.context() as aside:
                aside.setattr(by_driver, "open_table", real)
                act()
        return found

    monkeypatch.setattr(by_driver, "open_table", open_table)


def test_an_append_does_not_mind_another(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    append(numbers(1), path, txn=None)
    rival(monkeypatch, lambda: append(numbers(2), path, txn=None))
    done = append(numbers(3), path, txn=Txn("p:1", 0))
    found = written_by(path, Txn("p:1", 0))
    assert found is not None
    assert done.version == found.version == 2


def test_an_upsert_looks_again_when_its_rows_were_changed(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write = partial(upsert, path=path, keys=["k"], sequence="s", txn=None)
    write(keyed(("a", 1, 1)))
    rival(monkeypatch, lambda: write(keyed(("a", 9, 9), ("n", 9, 9))), lambda: write(keyed(("m", 1, 1))))
    done = write(keyed(("a", 5, 5), ("n", 10, 10), ("m", 0, 0)))
    assert {row["k"]: row["v"] for row in rows(path)} == {"a": 9, "n": 10, "m": 1}
    assert (done.rows, done.version) == (1, 3)


def test_a_history_looks_again_when_a_version_was_put_in(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write = partial(history, path=path, keys=["k"], sequence="at", txn=None)
    model = HistoryModel(["k"], "at", ["v"])
    batches = [versions(("a", 0, 0)), versions(("a", 10, 10), ("n", 3, 3)), versions(("a", 5, 5), ("n", 1, 1))]
    write(batches[0])
    rival(monkeypatch, lambda: write(batches[1]))
    write(batches[2])
    for batch in batches:
        model.add(batch.to_pylist())
    assert as_set(rows(path)) == as_set(model.table())


def test_a_batch_that_its_own_zombie_has_just_written_is_skipped(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    append(numbers(0), path, txn=None)
    rival(monkeypatch, lambda: append(numbers(1), path, txn=Txn("p:1", 3)))
    done = append(numbers(1), path, txn=Txn("p:1", 3))
    assert (done.skipped, done.version, done.rows) == (True, 1, 1)
    assert len(rows(path)) == 2


def test_a_zombie_at_another_batch_is_not_written_over(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    append(numbers(0), path, txn=None)
    rival(monkeypatch, lambda: append(numbers(1), path, txn=Txn("p:1", 3)))
    with pytest.raises(EpochError, match=r"expected one writer with transaction id 'p:1', got another commit with it while version 4"):
        append(numbers(2), path, txn=Txn("p:1", 4))
    assert DeltaTable(path).transaction_version("p:1") == 3


def test_a_column_added_meanwhile_is_seen(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    append(numbers(0), path, txn=None)
    rival(monkeypatch, lambda: DeltaTable(path).alter.add_columns([Field("w", "long")]))
    assert append(numbers(1), path, txn=Txn("p:1", 0)).version == 2
    assert len(rows(path)) == 2


@pytest.mark.parametrize("name", WRITERS)
def test_a_table_made_meanwhile_is_used(path: str, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    write = WRITERS[name]
    rival(monkeypatch, lambda: write(versions(("a", 0, 0)), path, txn=None))
    assert write(versions(("b", 0, 0)), path, txn=Txn("p:1", 0)).version == 1
    assert {row["k"] for row in rows(path)} == {"a", "b"}


def test_conflicts_without_an_end_are_given_up_with_nothing_written(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write = partial(upsert, path=path, keys=["k"], txn=None)
    write(keyed(("a", 0, 0)))
    rival(monkeypatch, *[partial(write, keyed(("a", 0, number))) for number in range(9)])
    with pytest.raises(EpochError, match=r"expected a moment without other writers, got 5 conflicts in a row, the last: .*added new data"):
        write(keyed(("a", 0, 100)))
    assert rows(path)[0]["v"] == 4


def test_any_other_failure_is_not_tried_again(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Path(path).write_text("a file where the table should be")
    looks: list[int] = []
    real = by_driver.open_table
    monkeypatch.setattr(by_driver, "open_table", lambda path: looks.append(1) or real(path))
    with pytest.raises(OSError, match=r"(?i)exist|directory|not"):
        append(numbers(1), path, txn=None)
    assert len(looks) == 1


def test_threads_that_upsert_the_same_keys_all_get_through(path: str) -> None:
    upsert(keyed(("a", 0, 0)), path, keys=["k"], sequence="s", txn=None)
    together, found, failed = threading.Barrier(3), [], []

    def write(who: int) -> None:
        together.wait()
        try:
            for number in range(3):
                batch = keyed(("a", number * 3 + who, who), (f"own{who}", number, number))
                done = upsert(batch, path, keys=["k"], sequence="s", txn=Txn(f"p:{who}", number))
                commit = written_by(path, Txn(f"p:{who}", number))
                found.append(commit is not None and commit.version == done.version)
        except EpochError as error:  # five conflicts in a row are possible, though not likely
            failed.append(error)

    threads = [threading.Thread(target=write, args=(who,)) for who in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert found == [True] * 9
    assert {row["k"]: row["s"] for row in rows(path)} == {"a": 8, "own0": 2, "own1": 2, "own2": 2}


def test_a_table_of_others_is_found_to_have_no_stamp(path: str) -> None:
    write_deltalake(path, numbers(1))
    assert [dict(commit.metadata) for commit in commits(path)] == [{}]
