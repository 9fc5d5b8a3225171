"""Versions of tables: what each policy decides, and that the ledger keeps what was decided."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from shutil import move, rmtree
from typing import Any

import pyarrow as pa
import pytest
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError
from hypothesis import given, settings
from hypothesis import strategies as st

from spark_ext.epochs import ByAge, EveryBatch, Lookup, OnRequest, Pinned, ask_refresh
from spark_ext.epochs.ledger import SCHEMA, EpochRow, Ledger, TableRow
from spark_ext.epochs.lookups import Refresh
from spark_ext.epochs.pins import Pins, decide
from spark_ext.errors import EpochError, SettingsError

T0 = datetime(2026, 1, 1, tzinfo=UTC)
NAME, APP = "shop/orders", "shop/orders:abc"


def after(minutes: int) -> datetime:
    return T0 + timedelta(minutes=minutes)


class World:
    """A table that grows by a version at each `grow`, a ledger, and runs of a pipeline that reads the table."""

    def __init__(self, root: Path, refresh: Refresh) -> None:
        self.path, self.ledger = str(root / "airlines"), Ledger(str(root / "ledger"))
        self.refresh = refresh
        self.ledger.create()
        self.make()
        self.start()

    def make(self) -> None:
        write_deltalake(self.path, pa.table({"carrier": ["AA"], "name": ["v0"]}))

    def grow(self) -> int:
        table = DeltaTable(self.path)
        write_deltalake(table, pa.table({"carrier": ["AA"], "name": [f"v{table.version() + 1}"]}), mode="overwrite")
        return int(DeltaTable(self.path).version())

    def start(self) -> None:
        """A run of the pipeline: nothing of the one before is in memory."""
        self.pins = Pins(NAME, APP, Ledger(self.ledger.path), {"airlines": Lookup(self.path, refresh=self.refresh)})

    def attempt(self, batch: int, minutes: int = 0) -> TableRow:
        (row,) = self.pins.of_batch(batch, after(minutes))
        return row

    def commit(self, batch: int, row: TableRow) -> None:
        self.ledger.append(epoch_row(batch, [row]), app_id=APP)


def epoch_row(batch: int, tables: Sequence[TableRow] = ()) -> EpochRow:
    return EpochRow(
        pipeline=NAME, checkpoint_id="abc", epoch=batch, batch_id=batch, token=0, started_at=T0, committed_at=T0, ranges=[], sinks=[],
        tables=tables,
    )  # fmt: skip


def test_a_replay_reads_what_the_first_attempt_decided_whatever_the_table_has_become(tmp_path: Path) -> None:
    world = World(tmp_path, EveryBatch())
    row = world.attempt(0)
    world.grow()
    world.start()
    assert world.attempt(0, minutes=5) == row, "also the time at which it was chosen"
    world.commit(0, row)
    assert world.attempt(1, minutes=6).version == 1


def test_each_row_of_the_ledger_names_path_id_version_and_time(tmp_path: Path) -> None:
    world = World(tmp_path, EveryBatch())
    world.grow()
    world.commit(0, world.attempt(0, minutes=3))
    (row,) = world.ledger.rows(NAME)
    assert row.tables == [TableRow("airlines", world.path, str(DeltaTable(world.path).metadata().id), 1, after(3))]


@pytest.mark.parametrize("restart", [False, True])
def test_by_age_a_version_is_used_until_it_is_old_enough_also_over_a_restart(tmp_path: Path, *, restart: bool) -> None:
    world = World(tmp_path, ByAge(timedelta(minutes=10)))
    used = []
    for batch, minutes in enumerate((0, 4, 9, 10, 15, 19, 20, 45)):
        row = world.attempt(batch, minutes)
        used.append((row.version, row.refreshed_at))
        world.commit(batch, row)
        world.grow()
        if restart:
            world.start()
    assert used == [
        (0, T0), (0, T0), (0, T0), (3, after(10)), (3, after(10)), (3, after(10)), (6, after(20)), (7, after(45)),
    ]  # fmt: skip


def test_on_request_the_next_batch_takes_the_newest_and_the_one_after_stays_there(tmp_path: Path) -> None:
    world = World(tmp_path, OnRequest())
    world.commit(0, world.attempt(0))
    world.grow()
    row = world.attempt(1)
    assert row.version == 0
    assert ask_refresh(Ledger(world.ledger.path), NAME, "airlines") == 1, "in the middle of batch 1: the replay keeps its version"
    world.start()
    assert world.attempt(1).version == 0
    world.commit(1, row)
    row = world.attempt(2, minutes=2)
    assert row == TableRow("airlines", world.path, row.table_id, 1, after(2))
    world.grow()
    world.start()
    assert world.attempt(2, minutes=9) == row
    world.commit(2, row)
    assert world.attempt(3).version == 1, "the request is served"
    assert ask_refresh(world.ledger, NAME, "airlines") == 2


def test_requests_while_the_pipeline_is_down_count_once(tmp_path: Path) -> None:
    world = World(tmp_path, OnRequest())
    world.commit(0, world.attempt(0))
    world.grow()
    assert [ask_refresh(world.ledger, NAME, "airlines") for _ in range(3)] == [1, 2, 3]
    ask_refresh(world.ledger, NAME, "another")
    world.start()
    world.commit(1, world.attempt(1))
    world.grow()
    assert [world.attempt(2).version, world.ledger.rows(NAME)[-1].tables[0].version] == [1, 1]


def test_a_request_in_the_moment_of_the_decision_is_not_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path, OnRequest())
    world.commit(0, world.attempt(0))
    world.grow()
    asked: list[int] = []
    mark = Ledger.mark

    def meanwhile(ledger: Ledger, marks: Any) -> None:
        if not asked:
            asked.append(ask_refresh(Ledger(ledger.path), NAME, "airlines"))
        mark(ledger, marks)

    monkeypatch.setattr(
        Ledger, "mark", lambda ledger, marks: meanwhile(ledger, marks) if ledger is world.pins._ledger else mark(ledger, marks)
    )
    assert world.attempt(1).version == 1
    assert asked == [1]


def test_pinned_to_a_version_it_is_read_whatever_comes_and_another_one_after_a_restart(tmp_path: Path) -> None:
    world = World(tmp_path, Pinned(1))
    world.grow()
    world.grow()
    world.commit(0, world.attempt(0))
    assert world.attempt(1, minutes=9) == world.ledger.rows(NAME)[-1].tables[0], "chosen once"
    world.refresh = Pinned(2)
    world.start()
    assert world.attempt(1).version == 1, "batch 1 was begun with the old one"
    assert world.attempt(2, minutes=11).version == 2


def test_a_second_driver_reads_what_the_first_has_decided(tmp_path: Path) -> None:
    world = World(tmp_path, EveryBatch())
    first = world.pins
    world.start()
    row = world.attempt(0)
    world.grow()
    assert first.of_batch(0, after(1)) == [row]


def test_a_driver_that_was_overtaken_is_told_so(tmp_path: Path) -> None:
    world = World(tmp_path, EveryBatch())
    slow = world.pins
    world.start()
    world.commit(0, world.attempt(0))
    world.attempt(1)
    with pytest.raises(EpochError, match=r"cannot read tables for batch '0': .* another driver of this pipeline is ahead"):
        slow.of_batch(0, T0)


def test_a_table_that_is_gone(tmp_path: Path) -> None:
    world = World(tmp_path, ByAge(timedelta(days=1)))
    world.commit(0, world.attempt(0))
    rmtree(world.path)
    with pytest.raises(EpochError, match=r"cannot read table 'airlines': expected a Delta table at .*airlines, got none"):
        world.attempt(1)


@pytest.mark.parametrize("begun", [False, True], ids=["between two batches", "in the middle of one"])
@pytest.mark.parametrize("restart", [False, True])
def test_a_table_that_was_made_anew(tmp_path: Path, *, begun: bool, restart: bool) -> None:
    world = World(tmp_path, EveryBatch())
    row = world.attempt(0)
    if not begun:
        world.commit(0, row)
    rmtree(world.path)
    world.make()
    if restart:
        world.start()
    with pytest.raises(EpochError, match="it was made anew"):
        world.attempt(0 if begun else 1)


def test_a_schema_that_grew_goes_on_and_one_that_lost_something_does_not(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    world = World(tmp_path, EveryBatch())
    world.commit(0, world.attempt(0))
    write_deltalake(world.path, pa.table({"carrier": ["AA"], "name": ["x"], "alliance": ["one"]}), mode="append", schema_mode="merge")
    row = world.attempt(1)
    assert "new columns in version 1: alliance" in caplog.text
    world.commit(1, row)
    write_deltalake(world.path, pa.table({"carrier": [1], "alliance": ["one"]}), mode="overwrite", schema_mode="overwrite")
    match = r"got column 'carrier' int64 where it was string; no column 'name'; .*refresh=Pinned\(1\)"
    with pytest.raises(EpochError, match=match):
        world.attempt(2)
    world.start()
    assert world.attempt(2).version == 2, "a route that was started again is taken to know it"


@pytest.mark.parametrize("lost", ["file", "log"])
def test_a_version_that_was_cleaned_up_is_refused_and_what_to_do_is_said(tmp_path: Path, lost: str) -> None:
    world = World(tmp_path, Pinned(0) if lost == "log" else EveryBatch())
    world.attempt(0)
    world.grow()
    kept = tmp_path / "kept"
    if lost == "file":
        move(Path(DeltaTable(world.path, version=0).file_uris()[0]), kept)
    else:
        DeltaTable(world.path).create_checkpoint()
        move(Path(world.path, "_delta_log", f"{0:020d}.json"), kept)
    world.start()
    with pytest.raises(EpochError, match=r"expected version 0 at .*, with all its files, got .*deletedFileRetentionDuration"):
        world.attempt(0)


def test_a_version_that_never_was(tmp_path: Path) -> None:
    with pytest.raises(EpochError, match=r"expected version 9 .* got version 0 as the newest one"):
        World(tmp_path, Pinned(9)).attempt(0)


def test_a_ledger_of_a_release_without_tables_is_read_and_gets_the_column_with_the_first_commit(tmp_path: Path) -> None:
    path = str(tmp_path / "old")
    old = pa.schema([field for field in SCHEMA if field.name != "tables"])
    write_deltalake(path, old.empty_table(), name="millrace ledger")
    row = epoch_row(0).to_arrow().drop_columns(["tables"])
    write_deltalake(path, row, mode="append", commit_properties=CommitProperties(app_transactions=[Transaction(APP, 0)]))
    ledger = Ledger(path)
    ledger.create()
    assert [one.tables for one in ledger.rows(NAME)] == [[]]
    assert ledger.last(NAME) == replace(epoch_row(0), tables=[])
    world = World(tmp_path, EveryBatch())
    pins = Pins(NAME, APP, ledger, {"airlines": Lookup(world.path, refresh=EveryBatch())})
    tables = pins.of_batch(1, T0)
    ledger.append(epoch_row(1, tables), app_id=APP)
    assert [one.tables for one in Ledger(path).rows(NAME)] == [[], tables]
    assert Ledger(path).take_lease(NAME) == 1


def test_marks_that_somebody_else_has_set_meanwhile_are_not_overwritten(tmp_path: Path) -> None:
    ours, theirs = Ledger(str(tmp_path / "ledger")), Ledger(str(tmp_path / "ledger"))
    ours.create()
    assert ours.marked(["a", "b"]) == {"a": None, "b": None}
    theirs.marked(["a"])
    theirs.mark({"a": 7})
    with pytest.raises(CommitFailedError):
        ours.mark({"a": 3, "b": 3})
    assert ours.marked(["a", "b"]) == {"a": 7, "b": None}
    ours.mark({"a": 3})
    assert theirs.marked(["a"]) == {"a": 3}, "a number may fall"


@given(
    st.lists(st.tuples(st.integers(0, 30), st.booleans(), st.booleans()), min_size=1, max_size=12),
    st.one_of(st.integers(1, 40), st.sampled_from(["every", "request", "pinned"])),
)
@settings(max_examples=200, deadline=None)
def test_policies_against_a_plain_walk(steps: list[tuple[int, bool, bool]], policy: int | str) -> None:
    words: dict[str, Refresh] = {"every": EveryBatch(), "request": OnRequest(), "pinned": Pinned(2)}
    lookup = Lookup("/t", refresh=words[policy] if isinstance(policy, str) else ByAge(timedelta(minutes=policy)))
    last, minute, newest = None, 0, 3
    version = since = -1
    for wait, grows, asks in steps:
        minute, newest = minute + wait, newest + grows
        got = decide(lookup, last, newest=newest, planned_at=after(minute), is_asked=asks)
        takes = version < 0 or policy == "every" or (policy == "request" and asks) or (isinstance(policy, int) and minute - since >= policy)
        if policy == "pinned":
            version, since = 2, minute if since < 0 else since
        elif takes:
            version, since = newest, minute
        assert got == (version, after(since))
        last = TableRow("t", "/t", "id", got.version, got.refreshed_at)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: ByAge(timedelta(0)), "'by age': expected a time above zero"),
        (lambda: Pinned(-1), "'pinned': expected a version, 0 or more, got -1"),
        (lambda: Lookup("/t", refresh="daily"), "'refresh': expected EveryBatch"),  # type: ignore[arg-type]
    ],
)
def test_settings_that_cannot_be_used(make: Any, match: str) -> None:
    with pytest.raises(SettingsError, match=match):
        make()
