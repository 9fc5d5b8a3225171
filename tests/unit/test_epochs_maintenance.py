"""Tables and ledger stay small, and every epoch that the ledger has can be read."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake

from spark_ext.epochs import guard
from spark_ext.epochs.ledger import TableRow
from spark_ext.epochs.maintenance import Done, Rules, maintain
from spark_ext.epochs.points import watched
from spark_ext.epochs.reading import versions
from spark_ext.errors import SettingsError
from spark_ext.queries import owner
from tests.epochs_by_hand import PIPELINE, World

NOW = datetime.now(UTC)  # delta-rs has its own clock
FEW = Rules(every=2, keep=timedelta(days=3), keep_epochs=2, small_files=4, log_commits=5)


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Ten epochs, one a day, the last one now."""
    found = World(tmp_path)
    for batch in range(10):
        found.epoch(batch, at=NOW - timedelta(days=9 - batch))
    return found


def look(world: World, rules: Rules = FEW, *, now: datetime = NOW, looked: dict[str, datetime] | None = None) -> list[Done]:
    return maintain(world.sinks, world.ledger, rules, pipeline=PIPELINE, now=now, looked=looked)


def files(world: World, name: str) -> list[Path]:
    return list((world.root / name).glob("*.parquet"))


def readable(world: World) -> dict[int, dict[str, int]]:
    found = {}
    for row in world.ledger.rows(PIPELINE):
        tables = versions(world.ledger, PIPELINE, as_of_epoch=row.epoch)
        found[row.epoch] = {name: DeltaTable(one.path, version=one.version).to_pyarrow_table().num_rows for name, one in tables.items()}
    return found


def wanted(epochs: range) -> dict[int, dict[str, int]]:
    return {epoch: {"facts": 10 * (epoch + 1), "late": 10 * (epoch // 3 + 1)} for epoch in epochs}


def test_small_files_become_one_and_rows_stay(world: World) -> None:
    done = look(world)
    assert Done("facts", "compact", "10 files are 1 now") in done
    assert not any(one.work == "skipped" for one in done)
    assert len(DeltaTable(world.sinks["facts"].path).file_uris()) == 1
    assert readable(world) == wanted(range(6, 10))


def test_few_files_are_compacted_once_they_fill_one(world: World) -> None:
    sizes = [file.stat().st_size for file in files(world, "facts")]
    more = replace(FEW, small_files=1_000, target_bytes=sum(sizes) + 1)
    assert not [one for one in look(world, more) if one.work == "compact"]
    assert Done("facts", "compact", "10 files are 1 now") in look(world, replace(more, target_bytes=sum(sizes)))
    world.epoch(10, at=NOW)
    alone = replace(more, target_bytes=1, small_bytes=min(sizes) + 1)
    assert not [one for one in look(world, alone) if one.work == "compact"], "one small file beside a large one stays"


def test_nothing_is_due_twice(world: World) -> None:
    look(world)
    before = {name: DeltaTable(sink.path).version() for name, sink in world.sinks.items()}
    assert look(world) == []
    assert {name: DeltaTable(sink.path).version() for name, sink in world.sinks.items()} == before


def test_old_epochs_leave_the_ledger_but_the_last_ones(world: World) -> None:
    assert Done("ledger", "retain epochs", "6 epochs up to 5 left") in look(world)
    assert [row.epoch for row in world.ledger.rows(PIPELINE)] == [6, 7, 8, 9]
    look(world, now=NOW + timedelta(days=400))
    assert [row.epoch for row in world.ledger.rows(PIPELINE)] == [8, 9]
    assert world.ledger.token(PIPELINE) == 1


def test_epochs_of_other_pipelines_stay(world: World) -> None:
    for row in world.ledger.rows(PIPELINE):
        world.ledger.append(replace(row, pipeline="it's another", token=0), app_id="another:1")
    maintain({}, world.ledger, FEW, pipeline="it's another", now=NOW)
    assert [len(world.ledger.rows(name)) for name in (PIPELINE, "it's another")] == [10, 4]


def test_files_that_no_epoch_needs_go_and_the_others_stay(world: World) -> None:
    look(world)
    later = NOW + timedelta(days=400)
    look(world, now=later)
    assert readable(world) == wanted(range(8, 10)), "the last epochs are kept, however old they are"
    many = len(files(world, "facts"))
    for batch in (10, 11):
        world.epoch(batch, at=later)
    done = look(world, now=later + timedelta(days=30))
    assert Done("facts", "vacuum", "10 files taken away") in done, done
    assert len(files(world, "facts")) == many + 2 - 10
    assert readable(world) == wanted(range(10, 12))


def test_a_version_that_another_pipeline_reads_stays(world: World) -> None:
    facts = world.sinks["facts"].path
    for reader, version in (("reader", 4), ("old reader", None)):
        tables = () if version is None else (TableRow("facts", facts, str(DeltaTable(facts).metadata().id), version, NOW),)
        row = replace(world.ledger.rows(PIPELINE)[-1], pipeline=reader, token=0, tables=tables)
        world.ledger.append(row, app_id=f"{reader}:1")
    look(world)
    rows = DeltaTable(facts, version=4).to_pyarrow_table().num_rows
    later = NOW + timedelta(days=400)
    look(world, now=later)
    for batch in (10, 11):
        world.epoch(batch, at=later)
    look(world, now=later + timedelta(days=30))
    assert DeltaTable(facts, version=4).to_pyarrow_table().num_rows == rows
    with pytest.raises(FileNotFoundError):
        DeltaTable(facts, version=6).to_pyarrow_table()  # or this shows nothing


def test_files_within_retention_are_not_taken(world: World) -> None:
    look(world)
    many = len(files(world, "facts"))
    look(world, now=NOW + timedelta(days=2))
    assert len(files(world, "facts")) == many
    assert set(readable(world)) == {8, 9}


def test_looking_for_files_waits_its_time(world: World) -> None:
    looked: dict[str, datetime] = {}
    later = NOW + timedelta(days=400)
    look(world, now=later, looked=looked)
    assert set(looked.values()) == {later}
    look(world, now=later + timedelta(hours=23), looked=looked)
    assert set(looked.values()) == {later}
    look(world, now=later + timedelta(hours=25), looked=looked)
    assert set(looked.values()) == {later + timedelta(hours=25)}


def test_tables_say_themselves_how_long_they_keep(world: World) -> None:
    look(world, Rules(keep=timedelta(days=45)))
    known = DeltaTable(world.sinks["facts"].path).metadata().configuration
    assert known == {"delta.logRetentionDuration": "interval 46 days", "delta.deletedFileRetentionDuration": "interval 46 days"}
    look(world, Rules(keep=timedelta(days=10)))
    assert DeltaTable(world.sinks["facts"].path).metadata().configuration == known, "longer is left as it is"


def test_the_log_is_written_down(world: World) -> None:
    assert any(one.name == "facts" and one.work == "log checkpoint" for one in look(world))
    assert (world.root / "facts" / "_delta_log" / "_last_checkpoint").exists()
    assert DeltaTable(world.sinks["facts"].path).transaction_version(world.checkpoint.app_id) == 9


def test_the_pipeline_goes_on_after_it(world: World) -> None:
    look(world)
    look(world, now=NOW + timedelta(days=400))
    assert guard.check(world.checkpoint, world.ledger, PIPELINE, world.sinks) == 0
    owner.release(world.checkpoint)
    world.epoch(10)
    assert readable(world)[10]["facts"] == 110


def test_another_writer_wins_and_it_is_tried_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    path = world.sinks["facts"].path
    opened = DeltaTable(path)
    real = type(opened.optimize).compact

    def meanwhile(self: object, **options: object) -> object:
        DeltaTable(path).delete("n = 1")  # rewrites the files that are being compacted
        return real(self, **options)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(type(opened.optimize), "compact", meanwhile)
        done = look(world)
    assert any(one.name == "facts" and one.work == "skipped" and "commit" in one.text.lower() for one in done), done
    assert DeltaTable(path).count() == 90


def test_a_crash_in_the_middle_leaves_everything_readable(world: World) -> None:
    def crash(point: str, _: int, name: str) -> None:
        if (point, name) == ("in_maintenance", "facts"):
            raise KeyboardInterrupt

    with watched(crash), pytest.raises(KeyboardInterrupt):
        look(world)
    assert readable(world) == wanted(range(6, 10))
    assert any(one.name == "late" for one in look(world))


def test_transaction_ids_survive(world: World) -> None:
    look(world)
    mark = CommitProperties(app_transactions=[Transaction("x", 1)])
    write_deltalake(world.sinks["facts"].path, pa.table({"n": [1]}), mode="append", commit_properties=mark)
    assert DeltaTable(world.sinks["facts"].path).transaction_version(world.checkpoint.app_id) == 9


@pytest.mark.parametrize("wrong", [{"every": 0}, {"keep": timedelta(0)}, {"small_files": 1}, {"keep_epochs": 0}])
def test_rules_that_cannot_be_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(SettingsError, match="cannot use rules 'maintenance'"):
        Rules(**wrong)  # type: ignore[arg-type]
