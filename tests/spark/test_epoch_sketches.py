"""Sketch tables in Spark and in epochs: who keeps what the fields say, both writers, and what is refused before anything is written."""

from __future__ import annotations

import os
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from delta.tables import DeltaTable as SparkTable
from deltalake import DeltaTable, write_deltalake
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from sketches import HyperLogLog, MisraGries
from spark_ext import epochs
from spark_ext.delta import Txn, combine
from spark_ext.errors import QueryError, SchemaError
from spark_ext.queries import Checkpoint
from spark_ext.sketching.checks import fields_of_frame
from spark_ext.sketching.combiner import Combiner
from spark_ext.sketching.compaction import compact
from spark_ext.sketching.table_schema import measure_of, schema_of_fields, sketch_schema
from spark_ext.sketching.tables import create_sketch_table

pytestmark = pytest.mark.spark

START = datetime(2026, 3, 1, tzinfo=UTC)
HLL, TOP = HyperLogLog(8), MisraGries(16)
MINUTE = timedelta(minutes=1)
KEYS = ("window_start", "window_end", "page")
SCHEMA = pa.schema([
    ("window_start", pa.timestamp("us", "UTC")), ("window_end", pa.timestamp("us", "UTC")), ("page", pa.string()),
    ("visitors", pa.binary()), ("top", pa.binary()), ("views", pa.int64()),
])  # fmt: skip


def stored(template: Any, values: Sequence[int]) -> bytes:
    sketch = template.copy()
    sketch.update_many(np.array(values, np.int64))
    return bytes(sketch.to_bytes())


def table(path: str) -> str:
    create_sketch_table(
        path,
        keys={"window_start": "timestamp", "window_end": "timestamp", "page": "string"},
        measures={"visitors": HLL, "top": TOP, "views": "sum"},
    )
    return path


class Visits:
    """Batches of rows, several of a key in each, and what they come to."""

    def __init__(self) -> None:
        self.counted: dict[Any, list[int]] = defaultdict(list)

    def batch(self, seed: int, size: int = 12) -> pa.Table:
        dice = random.Random(seed)  # noqa: S311 (no secrets)
        rows = []
        for _ in range(size):
            at, page = START + timedelta(minutes=dice.randrange(3)), dice.choice(["a", "b", None])
            values = [dice.randrange(200) for _ in range(dice.randint(1, 9))]
            self.counted[at, page] += values
            found = {"window_start": at, "window_end": at + timedelta(minutes=1), "page": page, "views": len(values)}
            rows.append({**found, "visitors": stored(HLL, values), "top": stored(TOP, values)})
        return pa.Table.from_pylist(rows, schema=SCHEMA)

    def compare(self, path: str) -> None:
        rows = DeltaTable(path).to_pyarrow_table().to_pylist()
        assert len(rows) == len(self.counted)
        for row in rows:
            values = self.counted[row["window_start"], row["page"]]
            assert row["visitors"] == stored(HLL, values)
            assert row["views"] == MisraGries.from_bytes(row["top"]).total == len(values)

    def compare_hour(self, path: str) -> None:
        """After a compaction of the one hour that all of it is in."""
        rows = {row["page"]: row for row in DeltaTable(path).to_pyarrow_table().to_pylist()}
        for page in {page for _, page in self.counted}:
            values = [value for (_, of), some in self.counted.items() if of == page for value in some]
            assert rows.pop(page)["visitors"] == stored(HLL, values)
        assert rows == {}


def frame(spark: SparkSession, rows: pa.Table) -> DataFrame:
    return spark.createDataFrame(rows)


def test_spark_keeps_what_the_fields_say_and_reads_it(spark: SparkSession, tmp_path: Path) -> None:
    path = table(str(tmp_path / "t"))
    schema, visits = sketch_schema(path), Visits()
    combine(frame(spark, visits.batch(0)), path, keys=KEYS, with_=Combiner(schema, path), txn=None)
    rows = spark.read.format("delta").load(path)
    assert schema_of_fields(fields_of_frame(rows), name="t") == schema
    rows.limit(0).write.format("delta").mode("append").save(path)
    rows.limit(0).withColumn("note", F.lit("")).write.format("delta").mode("append").option("mergeSchema", True).save(path)
    SparkTable.forPath(spark, path).optimize().executeCompaction()
    SparkTable.forPath(spark, path).delete("page = 'b'")
    SparkTable.forPath(spark, path).restoreToVersion(1)
    rows.where("page = 'a'").write.format("delta").mode("overwrite").option("replaceWhere", "page = 'a'").save(path)
    assert sketch_schema(path) == schema
    rows.write.format("delta").save(str(tmp_path / "copy"))
    assert sketch_schema(str(tmp_path / "copy")) == schema, "a copy of the table is a sketch table"
    visits.compare(path)


class Job:
    """A stream of rows of sketches, a file per batch."""

    def __init__(self, spark: SparkSession, root: Path, sinks: Mapping[str, epochs.Sink], route: epochs.Route, **settings: Any) -> None:
        self.spark, self.root, self.route = spark, root, route
        root.mkdir(exist_ok=True)
        checkpoint = Checkpoint.claim(str(root / "checkpoint"), pipeline="sketches", sources=["files"])
        self.pipeline = epochs.Pipeline(checkpoint, ledger=str(root / "ledger"), sinks=sinks, **settings)
        self.batches = 0

    def feed(self, *batches: pa.Table) -> Job:
        (self.root / "input").mkdir(exist_ok=True)
        for one in batches:
            file = self.root / "input" / f"{self.batches:03d}.parquet"
            pq.write_table(one, file)
            os.utime(file, (1_700_000_000 + self.batches, 1_700_000_000 + self.batches))
            self.batches += 1
        return self

    def run(self) -> list[epochs.EpochRow]:
        ddl = "window_start timestamp, window_end timestamp, page string, visitors binary, top binary, views bigint"
        rows = self.spark.readStream.schema(ddl).option("maxFilesPerTrigger", 1).parquet(str(self.root / "input"))
        epochs.start(rows, self.route, pipeline=self.pipeline).await_end()
        return epochs.Ledger(self.pipeline.ledger).rows("sketches")

    def fails(self, match: str) -> None:
        with pytest.raises(QueryError) as caught:
            self.run()
        assert match in str(caught.value.__cause__), str(caught.value.__cause__)


def both(root: Path, **more: Any) -> dict[str, epochs.Sink]:
    return {
        "rows": epochs.Append(str(root / "rows"), counts_as="accepted"),
        "sketches": epochs.Sketches(str(root / "t"), keys=KEYS, **more),
    }


def to_both(epoch: epochs.Epoch) -> dict[str, DataFrame]:
    return {"rows": epoch.rows.select("page"), "sketches": epoch.rows}


@pytest.mark.parametrize("driver_rows", [0, 100_000], ids=["by spark", "by the driver"])
def test_epochs_merge_late_rows_into_what_is_there(spark: SparkSession, tmp_path: Path, driver_rows: int) -> None:
    visits = Visits()
    table(str(tmp_path / "t"))
    batches = [visits.batch(seed) for seed in range(3)]
    job = Job(spark, tmp_path, both(tmp_path), to_both, driver_rows=driver_rows).feed(*batches[:2], batches[0].slice(0, 0), batches[2])
    ledger = job.run()
    visits.compare(str(tmp_path / "t"))
    told = [next(one for one in row.sinks if one.name == "sketches") for row in ledger]
    assert [(one.kind, one.rows, one.writer) for one in told] == [
        ("sketches", count, None if not count else "spark" if driver_rows == 0 else "driver") for count in (12, 12, 0, 12)
    ]
    assert [one.version for one in told] == [1, 2, 2, 3]


def other(rows: pa.Table, name: str, data: bytes) -> pa.Table:
    values = rows[name].to_pylist()
    values[5] = data
    return rows.set_column(rows.schema.get_field_index(name), SCHEMA.field(name), pa.array(values, pa.binary()))


@pytest.mark.parametrize("driver_rows", [0, 100_000], ids=["by spark", "by the driver"])
@pytest.mark.parametrize(
    ("data", "message"),
    [
        (stored(HyperLogLog(9), [1]), "cannot write column 'visitors': expected HyperLogLog(precision=8, hash='xxh64'), as the table"),
        (b"MLSK damaged", "cannot write column 'visitors': expected stored sketches of HyperLogLog(precision=8"),
    ],
    ids=["parameters", "damage"],
)  # fmt: skip
def test_an_epoch_with_sketches_that_do_not_fit_is_refused_before_any_sink_is_written(
    spark: SparkSession, tmp_path: Path, driver_rows: int, data: bytes, message: str
) -> None:
    path, visits = table(str(tmp_path / "t")), Visits()
    job = Job(spark, tmp_path, both(tmp_path), to_both, driver_rows=driver_rows).feed(
        visits.batch(0), other(Visits().batch(1), "visitors", data)
    )
    job.fails(message)
    visits.compare(path)
    assert DeltaTable(str(tmp_path / "rows")).version() == 0, "only the first epoch's rows"
    assert len(epochs.Ledger(job.pipeline.ledger).rows("sketches")) == 1


def test_columns_that_say_they_are_other_sketches_and_other_keys_are_refused_first(spark: SparkSession, tmp_path: Path) -> None:
    table(str(tmp_path / "t"))

    def told(epoch: epochs.Epoch) -> dict[str, DataFrame]:
        return {"sketches": epoch.rows.withMetadata("visitors", measure_of(HyperLogLog(9)).metadata)}

    job = Job(spark, tmp_path, both(tmp_path), told).feed(Visits().batch(0))
    job.fails("cannot write column 'visitors': expected HyperLogLog(precision=8, hash='xxh64'), as the table says, got hyperloglog with")
    sinks = {"sketches": epochs.Sketches(str(tmp_path / "t"), keys=["page"])}
    with pytest.raises(SchemaError, match="expected keys window_start, window_end, page, as the table has them, got page"):
        Job(spark, tmp_path / "other", sinks, to_both).feed(Visits().batch(0)).run()


def test_a_table_is_made_if_the_rows_say_enough(spark: SparkSession, tmp_path: Path) -> None:
    visits = Visits()
    job = Job(spark, tmp_path, both(tmp_path), to_both).feed(visits.batch(0), visits.batch(1))
    job.fails(
        "the rows do not say how it adds up visitors, top, views; nothing was written; make it first: spark_ext.sketching.tables.create"
    )
    assert not Path(tmp_path / "rows").exists()

    def told(epoch: epochs.Epoch) -> dict[str, DataFrame]:
        rows = epoch.rows.withMetadata("visitors", measure_of(HLL).metadata).withMetadata("top", measure_of(TOP).metadata)
        return {"rows": epoch.rows.select("page"), "sketches": rows.withMetadata("views", {"millrace.measure": "sum"})}

    job.route = told
    job.run()
    visits.compare(str(tmp_path / "t"))
    assert sketch_schema(str(tmp_path / "t")).templates["visitors"].parameters == HLL.parameters


@pytest.mark.parametrize("driver_rows", [0, 100_000], ids=["by spark", "by the driver"])
def test_damage_in_the_table_stops_the_epoch_or_is_replaced(spark: SparkSession, tmp_path: Path, driver_rows: int) -> None:
    path, visits = table(str(tmp_path / "t")), Visits()
    first = visits.batch(0, 1)
    write_deltalake(path, first.set_column(3, SCHEMA.field("visitors"), pa.array([b"MLSK damaged"], pa.binary())), mode="append")
    job = Job(spark, tmp_path, both(tmp_path), to_both, driver_rows=driver_rows).feed(first)
    job.fails("on_damage='replace'")
    assert DeltaTable(path).version() == 1
    again = Job(spark, tmp_path / "again", both(tmp_path, on_damage="replace"), to_both, driver_rows=driver_rows).feed(first)
    again.run()
    (row,) = DeltaTable(path).to_pyarrow_table().to_pylist()
    assert (row["visitors"], row["views"]) == (first["visitors"][0].as_py(), 2 * first["views"][0].as_py())


def test_an_old_row_that_a_rival_changes_while_spark_merges_is_merged_again(spark: SparkSession, tmp_path: Path) -> None:
    path, visits, flag = table(str(tmp_path / "t")), Visits(), tmp_path / "flag"
    schema = sketch_schema(path)
    whole = Combiner(schema, path)
    first, rival, late = (visits.batch(seed) for seed in range(3))
    combine(first, path, keys=KEYS, with_=whole, txn=None)

    def interrupted(known: pa.Table, rows: pa.Table) -> pa.Table:
        if known.num_rows and not flag.exists():
            flag.touch()
            combine(rival, path, keys=KEYS, with_=whole, txn=None)
        return whole(known, rows)

    done = combine(frame(spark, late), path, keys=KEYS, with_=interrupted, txn=None)
    assert flag.exists()
    assert done.version == 3
    visits.compare(path)


def test_a_compaction_while_spark_merges_loses_nothing(spark: SparkSession, tmp_path: Path) -> None:
    path, visits, flag = table(str(tmp_path / "t")), Visits(), tmp_path / "flag"
    whole = Combiner(sketch_schema(path), path)
    combine(visits.batch(0), path, keys=KEYS, with_=whole, txn=None)

    def interrupted(known: pa.Table, rows: pa.Table) -> pa.Table:
        if known.num_rows and not flag.exists():
            flag.touch()
            compact(path, to="hour", older_than=START + timedelta(days=1))
        return whole(known, rows)

    done = combine(frame(spark, visits.batch(1)), path, keys=KEYS, with_=interrupted, txn=Txn("p:1", 0))
    assert (flag.exists(), done.version) == (True, 3)
    assert {row["window_end"] - row["window_start"] for row in DeltaTable(path).to_pyarrow_table().to_pylist()} == {MINUTE, 60 * MINUTE}
    compact(path, to="hour", older_than=START + timedelta(days=1))
    visits.compare_hour(path)


@pytest.mark.parametrize("driver_rows", [0, 100_000], ids=["by spark", "by the driver"])
def test_a_table_is_compacted_between_the_epochs_of_its_pipeline(spark: SparkSession, tmp_path: Path, driver_rows: int) -> None:
    path, visits = table(str(tmp_path / "t")), Visits()
    job = Job(spark, tmp_path, both(tmp_path), to_both, driver_rows=driver_rows)
    for seed in range(2):
        job.feed(visits.batch(seed)).run()
        compact(path, to="hour", older_than=START + timedelta(days=1))
        visits.compare_hour(path)
    assert DeltaTable(path).transaction_version(job.pipeline.checkpoint.app_id) == 1
    assert DeltaTable(path).version() == 4
