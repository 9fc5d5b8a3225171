"""Tables that change, over real streams: equal to pandas after every batch, over restarts, crashes and a chain of queries."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from spark_ext import tables
from spark_ext.errors import SchemaError, SettingsError
from spark_ext.state import inspect
from spark_ext.windows.aggregates import count, max, mean, sum  # noqa: A004

pytestmark = pytest.mark.spark

SCHEMA = "k string, g string, v bigint, seq bigint"
Row = tuple[str | None, str | None, int | None, int]
FILES: list[list[Row]] = [
    [("a", "x", 1, 1), ("b", "x", 2, 2), ("c", "y", 3, 3), (None, "y", 9, 4)],
    [("a", "y", 4, 10), ("b", None, None, 11), ("b", "x", 7, 5), ("d", "z", None, 12)],
    [("b", "z", 5, 9), ("c", "y", 8, 2), ("a", "y", 6, 13), ("a", "x", 5, 12)],
    [("b", "z", 5, 20), ("d", None, None, 21), ("c", "y", 3, 22)],
]


def add(folder: Path, number: int, rows: Sequence[Sequence[Any]], names: Sequence[str] = ("k", "g", "v", "seq")) -> None:
    folder.mkdir(exist_ok=True)
    aside = folder.parent / f"{folder.name}-{number}.json"
    aside.write_text("\n".join(json.dumps(dict(zip(names, row, strict=True))) for row in rows))
    os.utime(aside, (number, number))  # batches in this order
    aside.rename(folder / aside.name)


def source(spark: SparkSession, folder: Path, schema: str = SCHEMA) -> DataFrame:
    return spark.readStream.schema(schema).option("maxFilesPerTrigger", 1).json(str(folder))


def run(frame: DataFrame, checkpoint: Path) -> list[list[Any]]:
    """Do all there is, one batch after the other, and return the rows of each."""
    found: list[list[Any]] = []
    writer = frame.writeStream.foreachBatch(lambda rows, _: found.append(rows.collect()))
    query = writer.option("checkpointLocation", str(checkpoint)).trigger(availableNow=True).start()
    try:
        assert query.awaitTermination(200)
        assert query.exception() is None
    finally:
        query.stop()
    return found


def newest(rows: Sequence[Row]) -> pd.DataFrame:
    """Return the table by pandas: the row with the highest sequence of each key, unless it is a delete."""
    frame = pd.DataFrame(rows, columns=["k", "g", "v", "seq"]).dropna(subset=["k"]).astype({"v": "Int64"})
    last = frame.sort_values("seq").drop_duplicates("k", keep="last")
    return last[last["g"].notna() | last["v"].notna()]


def as_counter(frame: pd.DataFrame) -> Counter[Any]:
    return Counter(tuple(None if pd.isna(v) else v for v in row) for row in frame.itertuples(index=False))


def summed(total: Counter[Any], rows: Sequence[Any]) -> Counter[Any]:
    for row in rows:
        total[tuple(row[name] for name in row.asDict() if name not in {"sign", "side"})] += row["sign"]
    return Counter({row: number for row, number in total.items() if number})


def test_changes_are_the_table_by_pandas_after_each_batch_and_over_a_restart(spark: SparkSession, tmp_path: Path) -> None:
    folder, checkpoint = tmp_path / "in", tmp_path / "checkpoint"
    for number, rows in enumerate(FILES[:2]):
        add(folder, number, rows)
    tagged = tables.changes(source(spark, folder), keys=["k"], sequence="seq", buckets=2)
    total: Counter[Any] = Counter()
    batches = run(tagged, checkpoint)
    for number, rows in enumerate(FILES[2:], 2):
        add(folder, number, rows)
    batches += run(tagged, checkpoint)
    assert len(batches) == len(FILES), "no batches without rows"
    for number, batch in enumerate(batches):
        found = [row for row in batch if row["tag"] == "changed"]
        changes = [{name: row[name] for name in ("k", "g", "v", "seq", "sign")} for row in found]
        for row in changes:
            total[row["k"], row["g"], row["v"], row["seq"]] += row["sign"]
        wanted = as_counter(newest([row for rows in FILES[: number + 1] for row in rows]))
        assert Counter({row: n for row, n in total.items() if n}) == wanted, number
    tags = Counter((row["tag"], row["k"], row["seq"]) for batch in batches for row in batch if row["tag"] != "changed")
    assert tags == Counter({("invalid", None, 4): 1, ("stale", "b", 9): 1, ("stale", "c", 2): 1})
    kept = tables.current(spark, str(checkpoint))
    assert kept.columns == ["k", "g", "v", "seq"]
    assert Counter(map(tuple, kept.collect())) == wanted


def test_a_bounded_frame_gives_the_table_in_one_go(spark: SparkSession, tmp_path: Path) -> None:
    for number, rows in enumerate(FILES):
        add(tmp_path / "in", number, rows)
    tagged = tables.changes(spark.read.schema(SCHEMA).json(str(tmp_path / "in")), keys=["k"], sequence="seq", buckets=2)
    wanted = as_counter(newest([row for rows in FILES for row in rows]))
    changed = tables.changed(tagged)
    assert changed.columns == ["k", "g", "v", "seq", "sign"]
    assert dict(changed.dtypes)["sign"] == "tinyint"
    assert Counter(tuple(row)[:-1] for row in changed.where("sign = 1").collect()) == wanted
    assert tables.invalid(tagged).columns == tables.stale(tagged).columns == ["k", "g", "v", "seq"]
    assert tables.invalid(tagged).collect()[0]["seq"] == 4
    by_group = tables.aggregate(changed, by=["g"], aggregates={"n": count(), "s": sum("v"), "m": mean("v"), "hi": max("v")}, buckets=2)
    table = newest([row for rows in FILES for row in rows])
    groups = table.groupby("g", dropna=False)["v"].agg(["size", "sum", "mean", "max"]).reset_index()
    assert Counter(tuple(row)[:-1] for row in tables.changed(by_group).collect()) == as_counter(groups)
    assert tables.unknown(by_group).columns == ["g", "v", "sign"]
    assert tables.unknown(by_group).count() == 0


def test_rows_that_only_come_are_changes_too(spark: SparkSession) -> None:
    rows = spark.createDataFrame([("a", 1), ("a", 2), (None, 3)], "k string, v bigint")
    totals = tables.changed(tables.aggregate(tables.inserts(rows), by=["k"], aggregates={"n": count(), "total": sum("v")}))
    assert {tuple(row) for row in totals.collect()} == {("a", 2, 3, 1), (None, 1, 3, 1)}
    with pytest.raises(SchemaError, match="expected no column 'sign'"):
        tables.inserts(totals)


def test_a_delete_is_what_the_caller_says(spark: SparkSession) -> None:
    rows = spark.createDataFrame([("a", "put", 1, 1), ("a", "drop", 1, 2), ("b", "put", 2, 1)], SCHEMA)
    found = tables.changed(tables.changes(rows, keys=["k"], sequence="seq", deleted=F.col("g") == "drop")).collect()
    assert [row["k"] for row in found] == ["b"]


def test_two_tables_joined_by_key_and_by_foreign_key(spark: SparkSession, tmp_path: Path) -> None:
    left, right = tmp_path / "left", tmp_path / "right"
    names = ("k", "g", "v", "seq")
    for number, rows in enumerate(FILES[:3]):
        add(left, number, rows, names)
    for number, rows in enumerate([[("a", "red", 1, 1), ("z", "blue", 2, 2)], [("a", None, None, 9)], [("d", "green", 3, 3)]]):
        add(right, number, rows, names)
    joined = tables.join(source(spark, left), source(spark, right), keys="k", how="full", sequence="seq", buckets=2)
    total: Counter[Any] = Counter()
    for batch in run(tables.changed(joined), tmp_path / "by-key"):
        found = summed(total, batch)
    table = newest([row for rows in FILES[:3] for row in rows])
    other = newest([("z", "blue", 2, 2), ("d", "green", 3, 3)])
    assert found == as_counter(table.merge(other, on="k", how="outer")[["k", "g_x", "v_x", "seq_x", "g_y", "v_y", "seq_y"]])
    assert tables.stale(joined, "right").columns == list(names)
    with pytest.raises(SettingsError, match="'left' or 'right'"):
        tables.stale(joined)


def test_a_row_that_moves_to_another_partner_leaves_the_first(spark: SparkSession, tmp_path: Path) -> None:
    left, right = tmp_path / "left", tmp_path / "right"
    names = ("k", "g", "v", "seq", "sign")
    steps = [
        [("a", "x", 1, 1, 1), ("b", "x", 2, 2, 1), ("c", None, 3, 3, 1)],
        [("a", "x", 1, 1, -1), ("a", "y", 1, 4, 1)],
        [("b", "x", 2, 2, -1)],
    ]
    for number, rows in enumerate(steps):
        add(left, number, rows, names)
    for number, rows in enumerate([[("x", "X", 1)], [("y", "Y", 2), ("x", "XX", 3)]]):
        add(right, number, rows, ("g", "name", "seq"))
    changes = source(spark, left, SCHEMA + ", sign tinyint")
    other = source(spark, right, "g string, name string, seq bigint")
    tagged = tables.join_foreign(changes, other, on={"g": "g"}, keys=["k"], how="left", sequence="seq", buckets=2)
    total: Counter[Any] = Counter()
    for batch in run(tables.changed(tagged), tmp_path / "checkpoint"):
        found = summed(total, batch)
    assert found == Counter([("a", "y", 1, 4, "Y", 2), ("c", None, 3, 3, None, None)])
    assert tables.changed(tagged).columns == ["k", "g", "v", "seq", "name", "seq_right", "sign"]
    assert tables.excess(tagged).columns == tables.unknown(tagged).columns == [*names]


def test_what_cannot_be_read_is_refused(spark: SparkSession, tmp_path: Path) -> None:
    rows = spark.createDataFrame([("a", "x", 1, 1)], SCHEMA)
    with pytest.raises(SchemaError, match="cannot read changes from frame '': expected a column 'sign' of type tinyint"):
        tables.aggregate(rows, by=["g"], aggregates={"n": count()})
    with pytest.raises(SchemaError, match="of type tinyint, got int"):
        tables.aggregate(rows.withColumn("sign", F.lit(1)), by=["g"], aggregates={"n": count()})
    with pytest.raises(SchemaError, match="cannot read column 'nope'"):
        tables.changes(rows, keys=["nope"])
    folder = tmp_path / "in"
    add(folder, 0, FILES[0])
    with pytest.raises(SettingsError, match="a stream with a watermark"):
        tables.changes(source(spark, folder), keys=["k"], sequence="seq", ttl=pd.Timedelta("1h").to_pytimedelta())
    with pytest.raises(SettingsError, match="a table with change data feed"):
        tables.read_changes(spark, str(tmp_path / "nothing"))


def test_the_state_of_each_operator_can_be_shown(spark: SparkSession, tmp_path: Path) -> None:
    left, right, changes = tmp_path / "left", tmp_path / "right", tmp_path / "changes"
    add(left, 0, FILES[0])
    add(right, 0, [("a", 7), ("q", 8)], ("g", "w"))
    add(changes, 0, [("a", "x", 1, 1, 1), ("b", "y", 2, 2, 1)], ("k", "g", "v", "seq", "sign"))
    signed = source(spark, changes, SCHEMA + ", sign tinyint")
    other = source(spark, right, "g string, w bigint")
    asked = {
        "join": tables.join(source(spark, left), source(spark, right, "k string, w bigint"), keys="k", sequence=("seq", None), buckets=1),
        "foreign": tables.join_foreign(signed, other, on={"g": "g"}, keys="k", buckets=1),
        "aggregate": tables.aggregate(signed, by=["g"], aggregates={"n": count(), "s": sum("v"), "hi": max("v")}, buckets=1),
    }
    rows = {"join": {"left_kept": 3}, "foreign": {"left": 2, "right_kept": 2}, "aggregate": {"keys": 2, "counts": 2, "values0": 2}}
    for name, tagged in asked.items():
        run(tagged, tmp_path / name)
        (bucket,) = inspect.buckets(spark, str(tmp_path / name)).collect()
        assert {table: number for table, number in bucket["rows"].items() if number and table in rows[name]} == rows[name]
        assert bucket["keys"] == {"join": 3, "foreign": 4, "aggregate": 2}[name]
    shown = inspect.entries(spark, str(tmp_path / "aggregate"), "values0").select("key.g", "value", "count").collect()
    assert sorted(map(tuple, shown)) == [("x", 1, 1), ("y", 2, 1)]
    counts = inspect.entries(spark, str(tmp_path / "aggregate"), "counts").select("key.g", "rows", "state.s_0").collect()
    assert sorted(map(tuple, counts)) == [("x", 1, 1), ("y", 1, 2)]
