"""Both writers leave the same tables and know each other's batches; read back by delta-rs, which is not Spark."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from spark_ext.delta import Txn, append, create_table, history, upsert, written_by
from spark_ext.errors import EpochError, SchemaError, SettingsError
from tests.delta_models import HistoryModel, UpsertModel, as_set

pytestmark = pytest.mark.spark

START = datetime(2026, 1, 1, tzinfo=UTC)
SCHEMA = pa.schema([
    ("k", pa.string()), ("J.j", pa.int32()), ("at", pa.timestamp("us", "UTC")), ("v", pa.float64()), ("l", pa.list_(pa.int64())),
])  # fmt: skip
DDL = "k string, `J.j` int, at timestamp, v double, l array<bigint>"
PLAIN = ["k", "j", "at", "v", "l"]  # `mapInArrow` does not take a name with a dot
KEYS = ["k", "J.j"]
WRITERS: dict[str, Callable[..., Any]] = {
    "append": append,
    "upsert": partial(upsert, keys=KEYS, sequence="at"),
    "history": partial(history, keys=KEYS, sequence="at"),
}


def rows(path: str | Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = DeltaTable(str(path)).to_pyarrow_table().to_pylist()
    return found


def batch(seed: int, size: int = 12) -> pa.Table:
    """Rows of few keys, out of order, with nulls and equal sequences."""
    dice = random.Random(seed)  # noqa: S311 (no secrets)
    drawn = [
        {
            "k": dice.choice(["a", "b", None]),
            "J.j": dice.choice([1, None]),
            "at": START + timedelta(minutes=dice.randrange(9)),
            "v": dice.choice([None, -1.5, 0.0, float(seed)]),
            "l": [seed],  # so that equal rows of a batch are equal throughout
        }
        for _ in range(size)
    ]
    return pa.Table.from_pylist(drawn, schema=SCHEMA)


def frame(spark: SparkSession, table: pa.Table) -> DataFrame:
    columns = table.column_names
    found = [tuple(row[name] for name in columns) for row in table.to_pylist()]
    return spark.createDataFrame(found, DDL)


@pytest.fixture
def two(spark: SparkSession) -> tuple[DataFrame, DataFrame]:
    return spark.createDataFrame([(1, "a"), (2, "b")], "id long, v string"), spark.createDataFrame([(9,)], "id long")


def test_a_replayed_batch_adds_nothing(tmp_path: Path, two: tuple[DataFrame, DataFrame]) -> None:
    done = [append(two[0], str(tmp_path / "one"), txn=Txn("p:1", 0)) for _ in range(3)]
    assert [(one.version, one.rows, one.skipped, one.writer) for one in done] == [
        (0, 2, False, "spark"), (0, 2, True, "spark"), (0, 2, True, "spark"),
    ]  # fmt: skip
    assert as_set(rows(tmp_path / "one")) == as_set([{"id": 1, "v": "a"}, {"id": 2, "v": "b"}])


def test_the_next_batch_and_another_writer_and_none_are_new(tmp_path: Path, two: tuple[DataFrame, DataFrame]) -> None:
    path = str(tmp_path / "two")
    for txn in (Txn("p:1", 0), Txn("p:1", 1), Txn("p:2", 0), None, None):
        assert append(two[1], path, txn=txn).rows == 1
    assert rows(path) == [{"id": 9}] * 5


@pytest.mark.parametrize("name", WRITERS)
def test_both_writers_leave_the_same_rows_and_honour_each_others_batches(spark: SparkSession, tmp_path: Path, name: str) -> None:
    write = WRITERS[name]
    paths = {who: str(tmp_path / who) for who in ("driver", "spark", "turns")}
    for number in range(3):
        table = batch(number)
        txn = Txn("p:1", number, {"pipeline": "p", "epoch": str(number)})
        done = {
            "driver": write(table, paths["driver"], txn=txn),
            "spark": write(frame(spark, table), paths["spark"], txn=txn),
            "turns": write(frame(spark, table) if number % 2 else table, paths["turns"], txn=txn),
        }
        again = write(table if number % 2 else frame(spark, table), paths["turns"], txn=txn)
        assert {(one.version, one.rows, one.skipped) for one in done.values()} == {(number, done["driver"].rows, False)}
        assert (again.version, again.rows, again.skipped) == (number, done["turns"].rows, True)
        assert len({str(as_set(rows(path))) for path in paths.values()}) == 1
        found = [written_by(path, txn) for path in paths.values()]
        assert {(one and (one.version, one.metadata["epoch"], one.metadata["pipeline"])) for one in found} == {(number, str(number), "p")}
    for path in paths.values():
        read = spark.read.format("delta").load(path)
        assert read.count() == len(rows(path))
        assert dict(read.dtypes)["at"] == "timestamp"
    if name == "upsert":
        upserted = UpsertModel(KEYS, "at", ["v"])
        for number in range(3):
            upserted.add(batch(number).to_pylist())
        assert as_set(rows(paths["spark"])) == as_set(upserted.rows.values())
    if name == "history":
        versions = HistoryModel(KEYS, "at", ["v"])
        for number in range(3):
            versions.add(batch(number).to_pylist())
        assert as_set(rows(paths["spark"])) == as_set(versions.table())


def test_a_merge_that_changes_nothing_leaves_its_transaction(spark: SparkSession, tmp_path: Path) -> None:
    path = str(tmp_path / "t")
    upsert(frame(spark, batch(1)), path, keys=KEYS, sequence="at", txn=Txn("p:1", 0))
    stale = batch(1).set_column(2, SCHEMA.field("at"), pa.array([None] * 12, SCHEMA.field("at").type))
    done = upsert(frame(spark, stale), path, keys=KEYS, sequence="at", txn=Txn("p:1", 1))
    assert (done.skipped, done.rows) == (False, 0)
    assert DeltaTable(path).transaction_version("p:1") == 1


@pytest.mark.parametrize("name", WRITERS)
def test_columns_are_refused_added_and_left_out_alike(spark: SparkSession, tmp_path: Path, name: str) -> None:
    write, said = WRITERS[name], []
    for who in ("driver", "spark"):
        path = str(tmp_path / who)
        made = {0: batch(0), 1: batch(1).append_column("w", pa.array([7] * 12, pa.int32())), 2: batch(2).drop_columns(["l"])}
        given: dict[int, Any] = made
        if who == "spark":
            given = {
                0: frame(spark, made[0]),
                1: frame(spark, batch(1)).withColumn("w", F.lit(7)),
                2: frame(spark, batch(2)).drop("l"),
            }
        write(given[0], path, txn=Txn("p:1", 0))
        with pytest.raises(SchemaError, match="column 'w' int32, which the table lacks") as refused:
            write(given[1], path, txn=Txn("p:1", 1))
        said.append(refused.value.got)
        assert DeltaTable(path).version() == 0
        write(given[1], path, txn=Txn("p:1", 1), evolve=True)
        write(given[2], path, txn=Txn("p:1", 2))
    assert said[0] == said[1]
    assert as_set(rows(tmp_path / "driver")) == as_set(rows(tmp_path / "spark"))
    assert rows(tmp_path / "spark")[0].keys() == rows(tmp_path / "driver")[0].keys()


def test_types_are_widened_and_refused_alike(spark: SparkSession, tmp_path: Path) -> None:
    path = str(tmp_path / "t")
    create_table(spark, path, "i bigint, d decimal(10, 2), t timestamp")
    narrow = spark.sql("SELECT CAST(1 AS SMALLINT) AS i, CAST(1.5 AS DECIMAL(5, 1)) AS d, TIMESTAMP_NTZ'2026-01-01 12:00:00' AS t")
    append(narrow, path, txn=None)
    append(narrow.toArrow(), path, txn=None)
    assert rows(path)[0] == rows(path)[1]
    assert rows(path)[0]["t"] == datetime(2026, 1, 1, 12, tzinfo=UTC)
    with pytest.raises(SchemaError, match=r"column 'i' double where the table has int64"):
        append(spark.sql("SELECT 1D AS i"), path, txn=None)
    with pytest.raises(SchemaError, match=r"cannot write rows .*: expected types that Arrow has"):
        append(spark.sql("SELECT parse_json('1') AS i, INTERVAL '1' MONTH AS m"), path, txn=None)


def test_two_rows_of_a_key_without_a_sequence_are_refused(spark: SparkSession, tmp_path: Path) -> None:
    path = str(tmp_path / "t")
    double = spark.createDataFrame([(None, 1), (None, 2)], "k string, v int")
    with pytest.raises(EpochError, match=r"expected one row per key \(k\), got several"):
        upsert(double, path, keys=["k"], txn=None)
    with pytest.raises(EpochError, match=r"expected a time in 'at' in every row, got null"):
        history(double.withColumn("at", F.lit(None).cast("timestamp")), path, keys=["k"], sequence="at", txn=None)
    assert not Path(path).exists()


def test_a_key_is_a_name_and_nothing_else(spark: SparkSession, tmp_path: Path) -> None:
    one = spark.createDataFrame([(1, 2)], "`a``b.c` int, v int")
    for _ in range(2):
        upsert(one, str(tmp_path / "t"), keys=["a`b.c"], txn=None)
    assert rows(tmp_path / "t") == [{"a`b.c": 1, "v": 2}]
    with pytest.raises(SchemaError, match=r"cannot use key 'v` <=> new.`v` OR true"):
        upsert(one, str(tmp_path / "t"), keys=["v` <=> new.`v` OR true"], txn=None)
    with pytest.raises(SettingsError, match=r"cannot upsert table .*expected at least one key, got \[\]; name the columns"):
        upsert(spark.range(1), str(tmp_path), keys=[], txn=None)


def test_creating_a_table_twice_keeps_its_rows(spark: SparkSession, tmp_path: Path, two: tuple[DataFrame, DataFrame]) -> None:
    path = str(tmp_path / "t")
    create_table(spark, path, "id long")
    append(two[1], path, txn=Txn("p:1", 0))
    create_table(spark, path, "id long")
    assert rows(path) == [{"id": 9}]


def test_a_merges_transaction_reaches_no_other_write(spark: SparkSession, tmp_path: Path) -> None:
    merged = [str(tmp_path / f"merged{who}") for who in range(2)]
    plain = str(tmp_path / "plain")
    for path in merged:
        upsert(batch(0), path, keys=KEYS, sequence="at", txn=None)
    append(batch(0), plain, txn=None)
    together = threading.Barrier(3)

    def merge(who: int) -> None:
        together.wait()
        for number in range(2):
            upsert(frame(spark, batch(number + 1)), merged[who], keys=KEYS, sequence="at", txn=Txn(f"p:{who}", number))

    def write() -> None:
        together.wait()
        for _ in range(4):
            frame(spark, batch(0)).write.format("delta").mode("append").save(plain)

    threads = [threading.Thread(target=merge, args=(0,)), threading.Thread(target=merge, args=(1,)), threading.Thread(target=write)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for who, path in enumerate(merged):
        found = DeltaTable(path)
        assert [found.transaction_version(f"p:{one}") for one in range(2)] == ([1, None] if who == 0 else [None, 1])
    assert [DeltaTable(plain).transaction_version(f"p:{who}") for who in range(2)] == [None, None]
    assert DeltaTable(plain).count() == 5 * 12
    settings = ("write.txnAppId", "write.txnVersion", "commitInfo.userMetadata")
    for session in (spark, spark.sparkContext.parallelize([(1,)]).toDF(["x"]).sparkSession):
        assert [session.conf.get(f"spark.databricks.delta.{name}", None) for name in settings] == [None] * 3


def intruder(path: str, flag: Path, act: str) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """Return a function for `mapInArrow` that lets somebody else write to the table while Spark's merge reads its source."""

    def read(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for one in batches:
            if one.num_rows and not flag.exists():
                flag.touch()
                rival = pa.Table.from_batches([one]).rename_columns(SCHEMA.names)
                late = pa.array([START + timedelta(days=1)] * one.num_rows, pa.timestamp("us", "UTC"))
                rival = rival.set_column(rival.schema.get_field_index("at"), "at", late)
                txn = {"same": Txn("p:1", 7), "before": Txn("p:1", 6)}.get(act)
                upsert(rival, path, keys=["k", "J.j"], sequence="at", txn=txn)
            yield one

    return read


def conflicted(spark: SparkSession, tmp_path: Path, act: str) -> tuple[str, DataFrame]:
    path = str(tmp_path / "t")
    upsert(batch(0), path, keys=KEYS, sequence="at", txn=None)
    one = frame(spark, batch(1).slice(0, 1)).coalesce(1).toDF(*PLAIN)
    return path, one.mapInArrow(intruder(path, tmp_path / "flag", act), DDL)


def test_a_merge_whose_rows_were_changed_meanwhile_is_done_again(spark: SparkSession, tmp_path: Path) -> None:
    path, one = conflicted(spark, tmp_path, "other")
    done = upsert(one, path, keys=KEYS, sequence="at", txn=Txn("p:1", 7))
    assert (done.skipped, done.rows, done.version) == (False, 0, 2)  # the rival's row is newer
    assert START + timedelta(days=1) in {row["at"] for row in rows(path)}
    assert DeltaTable(path).transaction_version("p:1") == 7


def test_a_merge_that_its_own_zombie_has_just_made_is_skipped(spark: SparkSession, tmp_path: Path) -> None:
    path, one = conflicted(spark, tmp_path, "same")
    done = upsert(one, path, keys=KEYS, sequence="at", txn=Txn("p:1", 7))
    assert (done.skipped, done.rows, done.version) == (True, 1, 1)


def test_a_zombie_at_another_batch_stops_a_merge(spark: SparkSession, tmp_path: Path) -> None:
    path, one = conflicted(spark, tmp_path, "before")
    with pytest.raises(EpochError, match="expected one writer with transaction id 'p:1'"):
        upsert(one, path, keys=KEYS, sequence="at", txn=Txn("p:1", 7))
    assert DeltaTable(path).transaction_version("p:1") == 6


def test_a_history_in_which_a_version_was_put_meanwhile_is_whole(spark: SparkSession, tmp_path: Path) -> None:
    path = str(tmp_path / "t")
    model = HistoryModel(KEYS, "at", ["v"])
    batches = [batch(0), batch(1), batch(2)]
    history(batches[0], path, keys=KEYS, sequence="at", txn=None)
    flag = tmp_path / "flag"

    def read(found: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for one in found:
            if not flag.exists():
                flag.touch()
                history(batches[1], path, keys=KEYS, sequence="at", txn=None)
            yield one

    late = frame(spark, batches[2]).coalesce(1).toDF(*PLAIN).mapInArrow(read, DDL)
    history(late, path, keys=KEYS, sequence="at", txn=Txn("p:1", 0))
    for one in batches:
        model.add(one.to_pylist())
    assert as_set(rows(path)) == as_set(model.table())
