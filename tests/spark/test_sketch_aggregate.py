"""Sketches per key: the same as one pass in plain Python, for any partitioning, bounded, in windows, and as a running value."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import DoubleType, LongType, StringType, StructField, StructType, TimestampType

from sketches import (
    BloomFilter,
    CountMinSketch,
    DecayingTop,
    DecayingWindow,
    HyperLogLog,
    Quantiles,
    ReservoirSample,
    Sketch,
    SpaceSaving,
    UltraLogLog,
)
from sketches.base import HashSketch
from spark_ext.errors import SchemaError, SettingsError
from spark_ext.sketching import aggregate, sketch
from spark_ext.windows import aggregate as windowed
from spark_ext.windows import aggregates, each_batch, global_window, results, tumbling

pytestmark = pytest.mark.spark

START = datetime(2026, 1, 1, tzinfo=UTC)
SCHEMA = StructType(
    [
        StructField("page", StringType()),
        StructField("visitor", LongType()),
        StructField("agent", StringType()),
        StructField("ms", DoubleType()),
        StructField("at", TimestampType()),
    ]
)


def visits(rows: int = 4000) -> pd.DataFrame:
    random = np.random.default_rng(5)
    pages = np.array(["/", "/a", "/b", None], object)[np.minimum(random.geometric(0.5, rows) - 1, 3)]
    frame = pd.DataFrame(
        {
            "page": pages,
            "visitor": random.zipf(1.5, rows) % 1000,
            "agent": np.array(["firefox", "", "ünï", None], object)[random.integers(0, 4, rows)],
            "ms": random.lognormal(5, 1, rows),
            "at": START + pd.to_timedelta(random.integers(0, 300, rows), unit="s"),
        }
    )
    frame.loc[::97, "ms"] = np.nan
    return frame


@pytest.fixture(scope="module")
def frame(spark: SparkSession) -> DataFrame:
    rows = [
        (row.page, int(row.visitor), row.agent, None if np.isnan(row.ms) else float(row.ms), row.at.to_pydatetime())
        for row in visits().itertuples()
    ]
    return spark.createDataFrame(rows, SCHEMA).persist()


def by_page(spark_rows: list[Any], column: str, kind: type[Sketch]) -> dict[Any, Any]:
    return {row.page: kind.from_bytes(bytes(row[column])) for row in spark_rows}


@pytest.mark.parametrize(
    "template", [HyperLogLog(10), UltraLogLog(9), BloomFilter(16), CountMinSketch(3, 64), HyperLogLog(8, "murmur3")], ids=repr
)
@pytest.mark.parametrize("column", ["visitor", "agent"])
@pytest.mark.parametrize("partitions", [1, 7])
def test_bytes_are_those_of_one_pass(frame: DataFrame, template: HashSketch, column: str, partitions: int) -> None:
    found = aggregate(frame.repartition(partitions), keys=["page"], aggregates={"s": sketch(template, column)}).collect()
    exact = visits()
    assert len(found) == exact.page.nunique(dropna=False)
    for row in found:
        plain = template.copy()
        values = exact[column][exact.page.isna() if row.page is None else exact.page == row.page].dropna()
        plain.update_many(values.to_numpy(np.int64) if column == "visitor" else np.array(values.tolist(), "U8"))
        assert bytes(row.s) == plain.to_bytes()


def test_all_kinds_beside_plain_aggregates(frame: DataFrame) -> None:
    found = aggregate(
        frame,
        keys=["page"],
        aggregates={
            "n": aggregates.count(),
            "longest": aggregates.max("ms"),
            "hot": sketch(SpaceSaving(64), "agent"),
            "some": sketch(ReservoirSample(5), "visitor"),
            "ms": sketch(Quantiles(200), "ms"),
            "decayed": sketch(DecayingWindow(timedelta(minutes=1)), "ms", times="at"),
        },
    )
    assert found.columns == ["page", "n", "longest", "hot", "some", "ms", "decayed"]
    rows = found.collect()
    exact = visits()
    hot, some, ms, decayed = (
        by_page(rows, name, kind)
        for name, kind in (("hot", SpaceSaving), ("some", ReservoirSample), ("ms", Quantiles), ("decayed", DecayingWindow))
    )
    end = START + timedelta(minutes=5)
    for row in rows:
        part = exact[exact.page.isna() if row.page is None else exact.page == row.page]
        assert row.n == len(part)
        assert row.longest == part.ms.max()
        assert {item.item: (item.lower, item.upper) for item in hot[row.page].top(9)} == {
            agent: (count, count) for agent, count in part.agent.value_counts().items()
        }
        assert some[row.page].count == len(part)
        assert set(some[row.page].sample().tolist()) <= set(part.visitor)
        rank = (part.ms.dropna() <= ms[row.page].quantile(0.5)).mean()
        assert abs(rank - 0.5) <= ms[row.page].rank_error(0.999) + 1 / len(part)
        weights = 0.5 ** ((end - part["at"]).dt.total_seconds() / 60)
        assert decayed[row.page].sum_at(end) == pytest.approx((part.ms * weights).sum(), rel=1e-9)


def test_composites_are_hashed_by_spark(frame: DataFrame) -> None:
    pairs = frame.withColumn("pair", F.xxhash64("visitor", "agent"))
    (row,) = aggregate(pairs, keys=[], aggregates={"s": sketch(HyperLogLog(14), "pair", hashed=True)}).collect()
    exact = len(visits()[["visitor", "agent"]].drop_duplicates())
    found = HyperLogLog.from_bytes(bytes(row.s))
    assert found.lower_bound(0.9999) <= exact <= found.upper_bound(0.9999)
    (struct,) = aggregate(
        frame.withColumn("pair", F.struct("visitor", "agent")), keys=[], aggregates={"s": sketch(HyperLogLog(14), "pair")}
    ).collect()
    assert struct.s == row.s


def test_without_rows_there_is_one_empty_sketch_or_no_key(frame: DataFrame) -> None:
    none = frame.where("visitor < 0")
    (row,) = aggregate(none, keys=[], aggregates={"n": aggregates.count(), "s": sketch(HyperLogLog(10), "visitor")}).collect()
    assert (row.n, bytes(row.s)) == (0, HyperLogLog(10).to_bytes())
    assert aggregate(none, keys=["page"], aggregates={"s": sketch(HyperLogLog(10), "visitor")}).count() == 0


@pytest.mark.parametrize("count_first", [False, True])
def test_a_frame_without_a_partition_has_a_row_too(frame: DataFrame, count_first: bool) -> None:
    session = frame.sparkSession
    none = session.createDataFrame(session.sparkContext.emptyRDD(), "page string, visitor bigint")
    measures = {"n": aggregates.count(), "s": sketch(HyperLogLog(10), "visitor")}
    (row,) = aggregate(none, keys=[], aggregates=measures, count_first=count_first).collect()
    assert (row.n, bytes(row.s)) == (0, HyperLogLog(10).to_bytes())
    assert aggregate(none, keys=["page"], aggregates=measures, count_first=count_first).collect() == []


def test_keys_of_several_columns_group_as_spark_does(spark: SparkSession) -> None:
    frame = spark.sql(
        "SELECT * FROM VALUES (0.0D, named_struct('x', 1)), (-0.0D, named_struct('x', 1)), (double('NaN'), NULL), (double('NaN'), NULL), "
        "(NULL, named_struct('x', NULL)), (NULL, NULL), (NULL, NULL) AS t(`a.b`, s)"
    )
    found = aggregate(frame, keys=["a.b", "s"], aggregates={"n.": aggregates.count()})
    expected = frame.groupBy("`a.b`", "s").count()
    assert sorted(map(repr, found.collect())) == sorted(repr(row).replace("count", "n.") for row in expected.collect())


def test_structs_with_fields_that_are_never_null_are_keys_in_any_time_zone(spark: SparkSession) -> None:
    fields = StructType([StructField("x", LongType(), nullable=False), StructField("at", TimestampType())])
    at = datetime(1969, 7, 20, 20, 17, 40, 7, tzinfo=UTC)
    rows = [((1, at), at), ((1, at), at), (None, None), (None, at), ((1, None), at)]
    frame = spark.createDataFrame(rows, StructType([StructField("s", fields), StructField("at", TimestampType())]))
    before = spark.conf.get("spark.sql.session.timeZone")
    spark.conf.set("spark.sql.session.timeZone", "America/New_York")
    try:
        found = aggregate(frame.repartition(2), keys=["s", "at"], aggregates={"count": aggregates.count()}).collect()
        assert sorted(map(repr, found)) == sorted(map(repr, frame.groupBy("s", "at").count().collect()))
    finally:
        spark.conf.set("spark.sql.session.timeZone", str(before))


def test_keys_of_any_plain_type(spark: SparkSession) -> None:
    frame = spark.sql(
        "SELECT decimal(id % 3) * 1e20BD AS d, date_add(DATE'2026-01-01', int(id % 2)) AS t, id % 2 = 0 AS b, float(id % 2) AS f, "
        "encode(string(id % 4), 'utf-8') AS x, timestamp_micros(id % 3) AS s, CAST(NULL AS void) AS v FROM range(60)"
    )
    for key in frame.columns:
        found = aggregate(frame.repartition(3), keys=[key], aggregates={"n": aggregates.count()})
        assert sorted(map(repr, found.collect())) == sorted(repr(row).replace("count", "n") for row in frame.groupBy(key).count().collect())


def test_many_keys(spark: SparkSession) -> None:
    frame = spark.range(0, 60_000, 1, 3).select((F.col("id") % 20_011).alias("k"), (F.col("id") % 5).alias("v"))
    found = aggregate(frame, keys=["k"], aggregates={"n": aggregates.count(), "s": sketch(HyperLogLog(12), "v")}).collect()
    exact = pd.Series(np.arange(60_000) % 5).groupby(np.arange(60_000) % 20_011).agg(["size", "nunique"])
    assert {row.k: row.n for row in found} == exact["size"].to_dict()
    assert {row.k: round(HyperLogLog.from_bytes(bytes(row.s)).estimate()) for row in found} == exact["nunique"].to_dict()


@pytest.mark.parametrize(
    ("ask", "error", "text"),
    [
        (lambda frame: aggregate(frame, keys=["page"], aggregates={}), SettingsError, "at least one result"),
        (lambda frame: aggregate(frame, keys=["page"], aggregates={"PAGE": aggregates.count()}), SettingsError, "a name of its own"),
        (lambda frame: aggregate(frame, keys=["no"], aggregates={"n": aggregates.count()}), SchemaError, "no such column"),
        (lambda frame: aggregate(frame, keys=[], aggregates={"s": sketch(HyperLogLog(8), "no")}), SchemaError, "no such column"),
        (lambda frame: aggregate(frame, keys=[], aggregates={"s": aggregates.first("ms")}), SettingsError, "no event time here"),
        (
            lambda frame: aggregate(frame, keys=[], aggregates={"s": sketch(DecayingTop(8, timedelta(1)), "page")}),
            SettingsError,
            "name the column of times",
        ),
        (
            lambda frame: aggregate(frame.withColumn("m", F.array("page")), keys=["m"], aggregates={"n": aggregates.count()}),
            SchemaError,
            "arrays",
        ),
        (
            lambda frame: aggregate(
                frame.withColumn("page", F.expr("page COLLATE UTF8_LCASE")), keys=["page"], aggregates={"n": aggregates.count()}
            ),
            SchemaError,
            "expected text that is equal when its bytes are",
        ),
    ],
)
def test_what_does_not_fit_is_refused(frame: DataFrame, ask: Callable[[DataFrame], Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        ask(frame)


def test_a_stream_is_sent_to_windows(spark: SparkSession) -> None:
    stream = spark.readStream.format("rate").load()
    with pytest.raises(SettingsError, match=r"use spark_ext\.windows"):
        aggregate(stream, keys=[], aggregates={"n": aggregates.count()})


def test_windows_hold_what_a_bounded_frame_gives(spark: SparkSession, frame: DataFrame, tmp_path: Path) -> None:
    """A stream in three batches, late rows and all, beside `aggregate` of the same rows."""
    measures = {"n": aggregates.count(), "s": sketch(HyperLogLog(10), "visitor"), "c": sketch(CountMinSketch(2, 32), "agent")}
    window = tumbling(timedelta(minutes=1)).without_grace()
    batches = tmp_path / "in"
    for part in range(3):
        frame.where(F.pmod(F.hash("at", "visitor"), F.lit(3)) == part).coalesce(1).write.mode("append").parquet(str(batches))
    stream = spark.readStream.schema(SCHEMA).option("maxFilesPerTrigger", 1).parquet(str(batches)).withWatermark("at", "10 minutes")
    running = windowed(
        stream, keys=["page"], event_time="at", window=global_window().without_grace(), trigger=each_batch(), aggregates=measures, buckets=2
    )
    out: list[pd.DataFrame] = []
    query = (
        running.writeStream.foreachBatch(lambda rows, _: out.append(results(rows).toPandas()))
        .option("checkpointLocation", str(tmp_path / "checkpoint"))
        .trigger(availableNow=True)
        .start()
    )
    query.awaitTermination()
    last = pd.concat([part for part in out if len(part)]).groupby("page", dropna=False).last()
    bounded = aggregate(frame, keys=["page"], aggregates=measures).toPandas().set_index("page")
    for page in bounded.index:
        key = None if pd.isna(page) else page
        mine = last[last.index.isna()].iloc[0] if key is None else last.loc[key]
        theirs = bounded[bounded.index.isna()].iloc[0] if key is None else bounded.loc[key]
        assert mine.n == theirs.n
        assert bytes(mine.s) == bytes(theirs.s)
        assert bytes(mine.c) == bytes(theirs.c)
    at_once = results(windowed(frame, keys=["page"], event_time="at", window=window, aggregates=measures))
    minutes = frame.withColumn("start", F.date_trunc("minute", "at"))
    apart = aggregate(minutes, keys=["page", "start"], aggregates=measures)
    found = {tuple(row) for row in at_once.select("page", "window.start", "n", "s", "c").collect()}
    assert found == {tuple(row) for row in apart.select("page", "start", "n", "s", "c").collect()}
    assert len(found) > 15


def test_counting_first_gives_the_same(frame: DataFrame) -> None:
    same = {
        "n": aggregates.count(),
        "d": sketch(HyperLogLog(10), "agent"),
        "u": sketch(UltraLogLog(9), "visitor"),
        "b": sketch(BloomFilter(16), "visitor"),
        "c": sketch(CountMinSketch(3, 64), "agent"),
        "hot": sketch(SpaceSaving(64), "agent"),
    }
    plain = aggregate(frame, keys=["page"], aggregates=same)
    first = aggregate(frame, keys=["page"], aggregates=same, count_first=True)
    assert {tuple(row) for row in first.collect()} == {tuple(row) for row in plain.collect()}
    (row,) = aggregate(frame.where("visitor < 0"), keys=[], aggregates={"n": aggregates.count()}, count_first=True).collect()
    assert row.n == 0
    (row,) = aggregate(frame, keys=[], aggregates={"n": aggregates.count()}, count_first=True).collect()
    assert row.n == len(visits())


@pytest.mark.parametrize(
    "one",
    [sketch(ReservoirSample(5), "visitor"), sketch(CountMinSketch(2, 8, conservative=True), "visitor"), aggregates.sum("ms")],
    ids=repr,
)
def test_what_counting_first_would_change_is_refused(frame: DataFrame, one: Any) -> None:
    with pytest.raises(SettingsError, match="another answer"):
        aggregate(frame, keys=["page"], aggregates={"x": one}, count_first=True)


def test_columns_say_how_they_are_added_up(frame: DataFrame) -> None:
    measures = {
        "n": aggregates.count(),
        "ms": aggregates.max("ms"),
        "mean": aggregates.mean("ms"),
        "visitors": sketch(HyperLogLog(10), "visitor"),
    }
    fields = aggregate(frame, keys=["page"], aggregates=measures).schema
    assert {field.name: field.metadata for field in fields} == {
        "page": {},
        "n": {"millrace.measure": "sum"},
        "ms": {"millrace.measure": "max"},
        "mean": {},
        "visitors": {"millrace.sketch": '{"kind": "hyperloglog", "parameters": {"precision": 10, "hash": "xxh64"}}'},
    }
