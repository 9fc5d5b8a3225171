"""Tables that a route reads: every attempt at an epoch joins the same version, and the ledger names it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from spark_ext import epochs
from spark_ext.epochs.lookups import Refresh
from spark_ext.epochs.points import Point, watched
from spark_ext.errors import EpochError, SettingsError
from spark_ext.joins.lookup import lookup
from spark_ext.joins.lookup_keys import lookup_keys
from spark_ext.testing import SimulatedCrashError
from tests.spark.test_epochs import ROWS, Job

pytestmark = pytest.mark.spark


class World(Job):
    """Numbers joined to a table of one row, its version, into two sinks."""

    def __init__(self, spark: SparkSession, root: Path, refresh: Refresh, **settings: object) -> None:
        self.path = str(root / "names")
        self.change()
        sinks = {name: epochs.Append(str(root / name)) for name in ("first", "second")}
        tables = {"names": epochs.Lookup(self.path, refresh=refresh, **settings)}  # type: ignore[arg-type]
        super().__init__(spark, root, sinks, self.both, tables=tables)

    def change(self) -> None:
        """Make a version of the table whose only row says which one it is."""
        version = DeltaTable(self.path).version() + 1 if DeltaTable.is_deltatable(self.path) else 0
        write_deltalake(self.path, pa.table({"name": [f"v{version}"]}), mode="overwrite")

    @staticmethod
    def both(epoch: epochs.Epoch) -> dict[str, DataFrame]:
        joined = epoch.rows.crossJoin(F.broadcast(epoch.table("names")))
        return {"first": joined, "second": joined.where("n % 2 = 0")}

    def versions(self) -> list[int]:
        """Versions that the ledger names, by epoch."""
        return [row.tables[0].version for row in epochs.Ledger(self.pipeline.ledger).rows("numbers")]

    def used(self, sink: str) -> list[set[str]]:
        """What the rows of each batch were joined to."""
        rows = DeltaTable(self.pipeline.sinks[sink].path).to_pyarrow_table().to_pylist()
        assert len({row["n"] for row in rows}) == len(rows), "none twice"
        return [{row["name"] for row in rows if row["n"] // ROWS == batch} for batch in range(self.batches)]


def at(point: Point, batch: int, sink: str, act: Callable[[], object]) -> Callable[[Point, int, str], None]:
    """Act once at a point."""
    left = [act]

    def watch(*reached: object) -> None:
        if reached == (point, batch, sink) and left:
            left.pop()()

    return watch


@pytest.mark.parametrize(
    ("point", "sink"),
    [("after_read", ""), ("before_sink", "first"), ("after_sink", "first"), ("after_sinks", ""), ("after_ledger", "")],
)
def test_a_crash_and_a_table_that_changes_meanwhile_leave_both_sinks_with_one_version(
    spark: SparkSession, tmp_path: Path, point: Point, sink: str
) -> None:
    world = World(spark, tmp_path, epochs.EveryBatch())
    world.feed(3)

    def crash() -> None:
        world.change()
        raise SimulatedCrashError(point)

    with watched(at(point, 1, sink, crash)):
        world.fails(SimulatedCrashError)  # type: ignore[arg-type]
    world.change()
    world.run()
    assert world.versions() == [0, 0, 2], "the epoch that was begun keeps its version, the next one takes the newest"
    for name in ("first", "second"):
        assert world.used(name) == [{"v0"}, {"v0"}, {"v2"}], name


@pytest.mark.parametrize("persist", [False, True])
def test_the_frame_of_a_table_stays_for_as_long_as_its_version_is_in_use(spark: SparkSession, tmp_path: Path, *, persist: bool) -> None:
    world = World(spark, tmp_path, epochs.OnRequest(), persist=persist)
    frames: list[DataFrame] = []

    def keeping(epoch: epochs.Epoch) -> dict[str, DataFrame]:
        frames.append(epoch.table("names"))
        assert epoch.table("names") is frames[-1]
        assert frames[-1].storageLevel.useMemory == persist
        return world.both(epoch)

    def ask() -> None:
        world.change()
        epochs.ask_refresh(epochs.Ledger(world.pipeline.ledger), "numbers", "names")

    world.route = keeping
    world.feed(4)
    with watched(at("after_ledger", 1, "", ask)):
        world.run()
    assert world.versions() == [0, 0, 1, 1]
    assert [frames[0] is frames[1], frames[1] is frames[2], frames[2] is frames[3]] == [True, False, True]
    assert not frames[0].storageLevel.useMemory, "given up"
    frames[-1].unpersist()


def test_by_age_the_time_is_that_of_the_plan(spark: SparkSession, tmp_path: Path) -> None:
    world = World(spark, tmp_path, epochs.ByAge(timedelta(days=1)))
    world.feed(2)
    with watched(at("after_ledger", 0, "", world.change)):
        ledger = world.run()
    assert world.versions() == [0, 0]
    assert {row.tables[0].refreshed_at for row in ledger} == {world.pipeline.checkpoint.batch(0).planned_at}


def test_a_table_that_goes_in_mid_run_stops_the_run_and_when_it_is_back_it_goes_on(spark: SparkSession, tmp_path: Path) -> None:
    world = World(spark, tmp_path, epochs.ByAge(timedelta(days=1)))
    world.feed(2)
    kept = tmp_path / "kept"
    with watched(at("after_ledger", 0, "", lambda: shutil.move(world.path, kept))):
        world.fails(EpochError, match="expected a Delta table at")
    shutil.move(kept, world.path)
    world.run()
    assert world.used("second") == [{"v0"}, {"v0"}]


def test_a_table_that_is_not_declared_is_refused(spark: SparkSession, tmp_path: Path) -> None:
    world = World(spark, tmp_path, epochs.EveryBatch())
    world.route = lambda epoch: {"first": epoch.table("name")}
    world.feed().fails(SettingsError, match="cannot read table 'name': expected one of Pipeline(tables=...): 'names'")


def test_copies_of_versions_that_are_not_in_use_are_destroyed(spark: SparkSession, tmp_path: Path) -> None:
    world = World(spark, tmp_path, epochs.EveryBatch())
    folder = Path(spark.sparkContext._temp_dir)
    seen: list[set[Path]] = []

    def looking_up(epoch: epochs.Epoch) -> dict[str, DataFrame]:
        asked = epoch.rows.withColumn("name", F.lit("v0"))
        seen.append(set(folder.iterdir()))
        inline = spark.createDataFrame([("v0", 1)], "name string, one int")
        first = lookup(lookup(asked, epoch.table("names"), on="name"), inline, on="name").drop("one")
        return {"first": first, "second": lookup_keys(asked, epoch.table("names"), on="name")}

    def change(point: str, batch: int, sink: str) -> None:
        if (point, sink) == ("after_ledger", ""):
            world.change()

    world.route = looking_up
    world.feed(4)
    before = set(folder.iterdir())
    with watched(change):
        world.run()
    made = [len(found - before) for found in seen]
    assert made[0] == 0
    assert max(made) <= 2, "of three copies per epoch the one whose table is still in use stays, and at most the one before"
    assert world.numbers("first") == world.numbers("second") == list(range(4 * ROWS))
