"""The sink of tables that change: current rows after every crash, by both writers, and a chain of queries over its change feed."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from pyspark.sql import SparkSession

from spark_ext import epochs, tables
from spark_ext.delta import Txn, apply_changes
from spark_ext.delta.rules import ROW_GROUP
from spark_ext.epochs.maintenance import Rules, maintain
from spark_ext.epochs.points import watched
from spark_ext.errors import EpochError, QueryError, SchemaError
from spark_ext.queries import Checkpoint
from spark_ext.windows.aggregates import count, min, sum  # noqa: A004
from tests.spark.test_tables import FILES, add, as_counter, newest, run, source, summed

pytestmark = pytest.mark.spark

NOW = datetime(2024, 1, 1, tzinfo=UTC)


class Chain:
    """A changelog as a table in Delta, and behind its change feed a table of groups."""

    def __init__(self, spark: SparkSession, root: Path, *, driver_rows: int) -> None:
        self.spark, self.root = spark, root
        self.table, self.groups = str(root / "table"), str(root / "groups")
        self.first = self._pipeline("first", epochs.Table(self.table, keys=["k"], sequence="seq"), driver_rows)
        self.second = self._pipeline("second", epochs.Table(self.groups, keys=["g"]), driver_rows)

    def _pipeline(self, name: str, sink: epochs.Sink, driver_rows: int) -> epochs.Pipeline:
        checkpoint = Checkpoint.claim(str(self.root / f"checkpoint-{name}"), pipeline=name, sources=["files"])
        return epochs.Pipeline(checkpoint, ledger=str(self.root / f"ledger-{name}"), sinks={"out": sink}, driver_rows=driver_rows)

    def run_first(self) -> None:
        tagged = tables.changes(source(self.spark, self.root / "in"), keys=["k"], sequence="seq", buckets=2)
        epochs.start(tagged, lambda epoch: {"out": tables.changed(epoch.rows)}, pipeline=self.first).await_end()

    def run_second(self) -> None:
        changes = tables.read_changes(self.spark, self.table)
        tagged = tables.aggregate(changes, by=["g"], aggregates={"n": count(), "s": sum("v"), "lo": min("v")}, buckets=2)
        epochs.start(tagged, lambda epoch: {"out": tables.changed(epoch.rows)}, pipeline=self.second).await_end()

    def crash(self, point: str, at: int) -> None:
        def watch(reached: str, batch_id: int, sink: str) -> None:
            del sink
            if (reached, batch_id) == (point, at):
                message = f"crash at {point}"
                raise RuntimeError(message)

        with watched(watch), pytest.raises(QueryError) as caught:
            self.run_first()
        assert f"crash at {point}" in str(caught.value.__cause__)

    def check(self, files: int) -> None:
        wanted = newest([row for rows in FILES[:files] for row in rows])
        assert rows_of(self.table) == as_counter(wanted)
        self.run_second()
        groups = wanted.groupby("g", dropna=False)["v"].agg(["size", "sum", "min"]).reset_index()
        assert rows_of(self.groups) == as_counter(groups.assign(sum=groups["sum"].where(groups["min"].notna())))


def rows_of(path: str) -> Counter[Any]:
    return as_counter(DeltaTable(path).to_pyarrow_table().to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get))


@pytest.mark.parametrize("writer", ["spark", "driver"])
def test_a_chain_of_tables_is_equal_to_pandas_after_each_crash(spark: SparkSession, tmp_path: Path, writer: str) -> None:
    chain = Chain(spark, tmp_path, driver_rows=0 if writer == "spark" else 100_000)
    first = 4 if writer == "spark" else 2
    for number, rows in enumerate(FILES[:first]):
        add(tmp_path / "in", number, rows)
    chain.crash("after_sink", 0)  # the table is made, the ledger does not know it
    if writer == "driver":
        chain.crash("before_ledger", 1)
    chain.run_first()
    chain.check(first)
    if writer == "driver":
        for number, rows in enumerate(FILES[first:], first):
            add(tmp_path / "in", number, rows)
        chain.run_first()
        chain.check(4)
    made = int(writer == "spark")  # Spark makes the table in a commit before
    assert DeltaTable(chain.table).version() == len(FILES) - 1 + made, "a commit for each epoch, none twice"
    assert {one.writer for row in epochs.Ledger(chain.first.ledger).rows("first") for one in row.sinks} == {writer}


def test_both_writers_leave_the_same_table_and_the_same_changes(spark: SparkSession, tmp_path: Path) -> None:
    steps: list[list[tuple[Any, ...]]] = [
        [("a", 1, 1, 1), ("b", None, 1, 1), ("c", 3, 1, 1), ("d", 4, 1, 1), ("d", 4, 1, -1)],
        # An update, a delete, a row that moves twice, an older delete, one that nobody has.
        [
            ("a", 1, 1, -1),
            ("a", 2, 2, 1),
            ("b", None, 1, -1),
            ("c", 3, 1, -1),
            ("c", 5, 2, 1),
            ("c", 5, 2, -1),
            ("c", 6, 3, 1),
            ("z", 0, 0, -1),
        ],
        [("a", 9, 0, -1), ("c", 7, 2, 1), (None, 8, 1, 1)],
    ]
    schema = pa.schema([("k", pa.string()), ("v", pa.int64()), ("s", pa.int64()), ("sign", pa.int8())])
    driver, by_spark = str(tmp_path / "driver"), str(tmp_path / "spark")
    for at, rows in enumerate(steps):
        table = pa.Table.from_pylist([dict(zip(schema.names, row, strict=True)) for row in rows], schema=schema)
        frame = spark.createDataFrame(rows, "k string, v bigint, s bigint, sign tinyint")
        for written in (
            apply_changes(table, driver, keys=["k"], sequence="s", txn=Txn("test", at)),
            apply_changes(frame, by_spark, keys=["k"], sequence="s", txn=Txn("test", at)),
        ):
            assert (written.version - (written.writer == "spark"), written.rows) == (at, [3, 3, 1][at])
        again = [
            apply_changes(one, path, keys=["k"], sequence="s", txn=Txn("test", at)) for one, path in ((table, driver), (frame, by_spark))
        ]
        assert [(one.skipped, one.rows) for one in again] == [(True, [3, 3, 1][at])] * 2
    wanted = Counter([("a", 2, 2), ("c", 6, 3), (None, 8, 1)])
    assert rows_of(driver) == rows_of(by_spark) == wanted
    feeds = [feed(spark, path, first) for path, first in ((driver, 0), (by_spark, 1))]
    assert feeds[0] == feeds[1] == Counter({
        ("a", 1, 1, 1, 0): 1, ("b", None, 1, 1, 0): 1, ("c", 3, 1, 1, 0): 1,
        ("a", 1, 1, -1, 1): 1, ("a", 2, 2, 1, 1): 1, ("b", None, 1, -1, 1): 1, ("c", 3, 1, -1, 1): 1, ("c", 6, 3, 1, 1): 1,
        (None, 8, 1, 1, 2): 1,
    })  # fmt: skip
    streamed = tables.read_changes(spark, driver, starting_version=0)
    assert streamed.columns == ["k", "v", "s", "sign"]
    total: Counter[Any] = Counter()
    for batch in run(streamed, tmp_path / "checkpoint"):
        found = summed(total, batch)
    assert found == wanted


def feed(spark: SparkSession, path: str, first: int) -> Counter[Any]:
    """Return the change feed as Spark reads it: the row, its sign, its version counted from the first with rows."""
    rows = spark.read.format("delta").option("readChangeFeed", "true").option("startingVersion", 0).load(path).collect()
    signs = {"insert": 1, "update_postimage": 1, "delete": -1, "update_preimage": -1}
    return Counter((row["k"], row["v"], row["s"], signs[row["_change_type"]], row["_commit_version"] - first) for row in rows)


def test_rows_that_are_no_changes_are_refused_before_anything_is_written(spark: SparkSession, tmp_path: Path) -> None:
    chain = Chain(spark, tmp_path, driver_rows=100)
    add(tmp_path / "in", 0, FILES[0])
    with pytest.raises(QueryError) as caught:
        epochs.start(source(spark, tmp_path / "in"), lambda epoch: {"out": epoch.rows}, pipeline=chain.first).await_end()
    assert "cannot apply changes 'without a sign': expected a column 'sign' of type tinyint" in str(caught.value.__cause__)
    assert not DeltaTable.is_deltatable(chain.table)
    twice = pa.table({"k": ["a", "a"], "v": [1, 2], "sign": pa.array([1, 1], pa.int8())})
    for rows in (twice, spark.createDataFrame([("a", 1, 1), ("a", 2, 1)], "k string, v bigint, sign tinyint")):
        with pytest.raises(EpochError, match="one row per key"):
            apply_changes(rows, str(tmp_path / "twice"), keys=["k"], txn=None)
    with pytest.raises(SchemaError, match="expected a column 'sign' of type tinyint, got int64"):
        apply_changes(pa.table({"k": ["a"], "sign": [1]}), str(tmp_path / "wide"), keys=["k"], txn=None)


def test_a_reader_answers_from_a_table_that_either_writer_wrote(spark: SparkSession, tmp_path: Path) -> None:
    path = str(tmp_path / "table")
    schema = "k string, d date, v bigint, sign tinyint"
    day = pd.Timestamp("2024-02-29").date()
    apply_changes(spark.createDataFrame([("a", day, 1, 1), (None, day, 2, 1)], schema), path, keys=["k", "d"], txn=None)
    with tables.TableReader(path, ["k", "d"], max_age=timedelta(0)) as reader:
        assert reader.get(("a", day)) == {"k": "a", "d": day, "v": 1}
        assert reader.get({"k": None, "d": day}) == {"k": None, "d": day, "v": 2}
        apply_changes(spark.createDataFrame([("a", day, 1, -1), ("b", day, 3, 1)], schema), path, keys=["k", "d"], txn=None)
        assert reader.get(("a", day)) is None
        assert reader.get(("b", day)) == {"k": "b", "d": day, "v": 3}
        assert reader.as_of_version == 2


def test_both_writers_and_maintenance_write_small_row_groups(spark: SparkSession, tmp_path: Path) -> None:
    for name in ("driver", "spark"):
        path = str(tmp_path / name)
        for first in (0, 9_000):
            rows = spark.range(first, first + 9_000).selectExpr("id AS k", "cast(1 AS tinyint) AS sign")
            apply_changes(rows.toArrow() if name == "driver" else rows, path, keys=["k"], txn=None)
        assert largest_group(path) <= ROW_GROUP
        ledger = epochs.Ledger(str(tmp_path / f"ledger-{name}"))
        ledger.create()
        rules = Rules(small_files=2)
        assert "compact" in [one.work for one in maintain({"out": epochs.Table(path, keys=["k"])}, ledger, rules, pipeline="p", now=NOW)]
        assert largest_group(path) <= ROW_GROUP
        with tables.TableReader(path, "k") as reader:
            assert reader.get_many([0, 17_999, 18_000]).column("k").to_pylist() == [0, 17_999]


def largest_group(path: str) -> int:
    files = [pq.ParquetFile(file).metadata for file in DeltaTable(path).file_uris()]
    return max(one.row_group(at).num_rows for one in files for at in range(one.num_row_groups))
