"""Both writers put rows together alike, know each other's batches, and lose no change of a third; read back by delta-rs."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from deltalake import DeltaTable
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from spark_ext.delta import Txn, append, combine, combining, written_by
from spark_ext.errors import EpochError, SchemaError
from tests.unit.test_delta_combine import KEYS, SCHEMA, START, batch, content, rows, totals

pytestmark = pytest.mark.spark

DDL = "k string, at timestamp, n bigint, names string"


def add(known: pa.Table, rows: pa.Table) -> pa.Table:
    """Add numbers and names; here, as workers have no tests to import from."""
    found: dict[Any, Any] = {}
    for row in [*known.to_pylist(), *rows.to_pylist()]:
        one = found.setdefault((row["k"], row["at"]), {**row, "n": 0, "names": ""})
        one["n"] += row["n"] or 0
        one["names"] = "".join(sorted(one["names"] + (row["names"] or "")))
    return pa.Table.from_pylist(list(found.values()), schema=rows.schema)


add.__module__ = "__main__"  # pickled by value
merge = partial(combine, keys=KEYS, with_=add)


def frame(spark: SparkSession, table: pa.Table) -> DataFrame:
    return spark.createDataFrame([tuple(row[name] for name in SCHEMA.names) for row in table.to_pylist()], DDL)


def test_both_writers_leave_the_same_rows_and_honour_each_others_batches(spark: SparkSession, tmp_path: Path) -> None:
    paths = {who: str(tmp_path / who) for who in ("driver", "spark", "turns")}
    batches = [batch(number) for number in range(3)]
    for number, table in enumerate(batches):
        txn = Txn("p:1", number, {"epoch": str(number)})
        done = {
            "driver": merge(table, paths["driver"], txn=txn),
            "spark": merge(frame(spark, table), paths["spark"], txn=txn),
            "turns": merge(frame(spark, table) if number % 2 else table, paths["turns"], txn=txn),
        }
        again = merge(table if number % 2 else frame(spark, table), paths["turns"], txn=txn)
        assert {(one.version, one.rows, one.skipped) for one in done.values()} == {(number, done["driver"].rows, False)}
        assert (again.version, again.rows, again.skipped) == (number, done["turns"].rows, True)
        found = written_by(paths["spark"], txn)
        assert found is not None
        assert found.metadata["epoch"] == str(number)
    for path in paths.values():
        assert content(path) == totals(*batches)


def test_an_empty_frame_leaves_its_transaction(spark: SparkSession, tmp_path: Path) -> None:
    path = str(tmp_path / "t")
    merge(batch(0), path, txn=None)
    assert merge(frame(spark, batch(0)).limit(0), path, txn=Txn("p:1", 3)).rows == 0
    assert (content(path), DeltaTable(path).transaction_version("p:1")) == (totals(batch(0)), 3)


def test_two_rows_of_a_key_in_the_table_and_a_wrong_function_are_refused(spark: SparkSession, tmp_path: Path) -> None:
    path = str(tmp_path / "t")
    append(rows(("a", 0, 1, "x"), ("a", 0, 2, "y"), (None, None, 1, "z")), path, txn=None)
    with pytest.raises(EpochError, match=r"expected one row per key \(k, at\) in the table, got several"):
        merge(frame(spark, rows(("a", 0, 1, "x"))), path, txn=None)
    with pytest.raises(SchemaError, match="column 'w' int32, which the table lacks"):
        merge(frame(spark, rows(("b", 0, 1, "x"))).withColumn("w", F.lit(1)), path, txn=None)
    with pytest.raises(Exception, match=r"expected one row for each of 1 keys, .*got 0 rows of 0 keys"):
        combine(frame(spark, rows((None, None, 1, "x"))), path, keys=KEYS, with_=lambda known, rows: rows.slice(0, 0), txn=None)
    assert DeltaTable(path).version() == 0


def test_names_of_any_form_and_a_new_column(spark: SparkSession, tmp_path: Path) -> None:
    def total(known: pa.Table, rows: pa.Table) -> pa.Table:
        both = pa.concat_tables([known, rows])
        found = both.group_by("a`b.c").aggregate([(name, "sum") for name in both.column_names[1:]])
        return found.rename_columns(both.column_names)

    path = str(tmp_path / "t")
    one = spark.createDataFrame([(1, 2), (None, 3), (1, 4)], "`a``b.c` int, `v w` bigint").withColumnRenamed("v w", "v.w")
    for _ in range(2):
        combine(one, path, keys=["a`b.c"], with_=total, txn=None)
    combine(one.withColumn("z", F.lit(5).cast("bigint")), path, keys=["a`b.c"], with_=total, txn=Txn("p", 0), evolve=True)
    found = {row["a`b.c"]: (row["v.w"], row["z"]) for row in DeltaTable(path).to_pyarrow_table().to_pylist()}
    assert found == {1: (18, 10), None: (9, 5)}


def test_times_finer_than_sparks_statistics_find_their_row(spark: SparkSession, tmp_path: Path) -> None:
    path = str(tmp_path / "t")
    fine = [START + timedelta(microseconds=one) for one in (1, 999)]
    one = rows(("a", 0, 1, "x"), ("b", 0, 1, "y")).set_column(1, SCHEMA.field("at"), pa.array(fine, SCHEMA.field("at").type))
    merge(frame(spark, one), path, txn=None)
    merge(one.slice(0, 1), path, txn=None)
    merge(one.slice(1, 1), path, txn=None)
    merge(frame(spark, one), path, txn=None)
    assert content(path) == {("a", fine[0]): (3, "xxx"), ("b", fine[1]): (3, "yyy")}


def test_a_row_that_another_writer_changed_meanwhile_is_combined_again(spark: SparkSession, tmp_path: Path) -> None:
    path, flag = str(tmp_path / "t"), tmp_path / "flag"
    first, rival = rows(("a", 0, 1, "x"), (None, 0, 1, "y")), rows(("a", 0, 10, "r"), ("n", 0, 1, "n"))
    merge(first, path, txn=None)

    def interrupted(known: pa.Table, rows: pa.Table) -> pa.Table:
        if not flag.exists():
            flag.touch()
            merge(rival, path, txn=None)
        return add(known, rows)

    late = rows(("a", 0, 100, "l"), (None, 0, 100, "l"), ("n", 0, 100, "l"))
    done = combine(frame(spark, late), path, keys=KEYS, with_=interrupted, txn=Txn("p:1", 0))
    assert (done.version, done.rows) == (2, 3)
    assert content(path) == totals(first, rival, late)


def test_what_is_put_together_in_blocks_is_put_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(combining, "BLOCK_BYTES", 200)
    whole = pa.concat_tables([batch(seed) for seed in range(5)]).combine_chunks()
    ordered = whole.take(pc.sort_indices(whole, sort_keys=[("k", "ascending"), ("at", "ascending")]))
    put = combining.ByKey(tuple(SCHEMA.names), tuple(KEYS), add, "t")
    made = [row for one in put(iter(ordered.to_batches(max_chunksize=3))) for row in one.rename_columns(SCHEMA.names).to_pylist()]
    assert {(row["k"], row["at"]): (row["n"], row["names"]) for row in made} == totals(whole)
    assert len(made) == len(totals(whole))
