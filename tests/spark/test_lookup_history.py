"""Rows meet the version that held at their time: as in a slow loop over the history, and as pandas joins measurements."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from spark_ext.delta import history as write_history
from spark_ext.errors import EngineError, JoinError, SchemaError, SettingsError
from spark_ext.joins.lookup_history import lookup_history

pytestmark = pytest.mark.spark
T0 = datetime(2026, 1, 1, tzinfo=UTC)
PRICES = "item string, price int, valid_from timestamp, valid_to timestamp"


def at(minute: float) -> datetime:
    return T0 + timedelta(minutes=minute)


@pytest.fixture(scope="module")
def prices(spark: SparkSession) -> DataFrame:
    rows = [("a", 1, at(0), at(10)), ("a", 2, at(10), at(20)), ("a", 3, at(30), None), ("b", 9, at(5), None), (None, 0, at(0), None)]
    return spark.createDataFrame(rows, PRICES)


@pytest.fixture(scope="module")
def sold(spark: SparkSession) -> DataFrame:
    minutes = [-1, 0, 9.99, 10, 19, 20, 25, 30, 500, None]
    rows = [(item, None if minute is None else at(minute), n) for item in ("a", "b", "c", None) for n, minute in enumerate(minutes)]
    return spark.createDataFrame(rows, "item string, at timestamp, n int")


def prices_of(frame: DataFrame) -> dict[str | None, list[int | None]]:
    found: dict[str | None, list[int | None]] = {}
    for row in sorted(frame.collect(), key=lambda row: row.n):
        found.setdefault(row.item, []).append(row.price)
    return found


def test_the_version_that_held(sold: DataFrame, prices: DataFrame) -> None:
    joined = lookup_history(sold, prices, on="item", event_time="at", columns=["price"])
    none = [None] * 10
    assert prices_of(joined) == {
        "a": [None, 1, 1, 2, 2, None, None, 3, 3, None],
        "b": [None, None, 9, 9, 9, 9, 9, 9, 9, None],
        "c": none,
        None: none,
    }
    inner = lookup_history(sold, prices, on="item", event_time="at", how="inner", columns=["price"])
    assert sorted(row.price for row in inner.collect()) == [1, 1, 2, 2, 3, 3, *[9] * 7]
    assert lookup_history(sold, prices, on="item", event_time="at", how="anti").count() == 40 - 13
    assert lookup_history(sold, prices, on="item", event_time="at", how="semi").count() == 13


def test_of_the_history_all_but_the_key_comes_out_and_a_name_that_is_taken_gets_the_suffix(sold: DataFrame, prices: DataFrame) -> None:
    renamed = prices.withColumnRenamed("price", "N")
    joined = lookup_history(sold, renamed, on="item", event_time="at", suffix="_then")
    assert joined.columns == ["item", "at", "n", "N_then", "valid_from", "valid_to"]


def test_a_tolerance_counts_from_the_beginning_of_the_version(sold: DataFrame, prices: DataFrame) -> None:
    joined = lookup_history(sold, prices, on="item", event_time="at", columns=["price"], tolerance=timedelta(minutes=15))
    assert prices_of(joined)["b"] == [None, None, 9, 9, 9, 9, None, None, None, None], "20 is the last one"


def test_a_history_that_the_sink_has_written(spark: SparkSession, tmp_path: Path, sold: DataFrame) -> None:
    path = str(tmp_path / "prices")
    for rows in ([("a", 1, at(0)), ("b", 9, at(5))], [("a", 3, at(30))], [("a", 2, at(10))]):  # the last one comes late
        write_history(spark.createDataFrame(rows, "item string, price int, at timestamp"), path, keys=["item"], sequence="at", txn=None)
    table = spark.read.format("delta").load(path)
    joined = lookup_history(sold, table, on="item", event_time="at", columns=["price"])
    assert prices_of(joined)["a"] == [None, 1, 1, 2, 2, 2, 2, 3, 3, None]


def test_many_keys_and_versions_against_pandas(spark: SparkSession) -> None:
    random = np.random.default_rng(1)
    measured = pd.DataFrame(
        {"place": random.integers(0, 300, 20_000), "hour": random.integers(0, 9_000, 20_000)}
    ).drop_duplicates().assign(temp=lambda frame: random.normal(size=len(frame)))  # fmt: skip
    measured["seen"] = pd.Timestamp(T0) + pd.to_timedelta(measured.pop("hour"), unit="h")
    asked = pd.DataFrame({"place": random.integers(0, 310, 30_000), "s": random.integers(0, 9_000 * 3600, 30_000)})
    asked["at"] = pd.Timestamp(T0) + pd.to_timedelta(asked.pop("s"), unit="s")
    asked["n"] = range(len(asked))
    joined = lookup_history(
        spark.createDataFrame(asked).repartition(4), spark.createDataFrame(measured), on="place", event_time="at", valid_from="seen",
        valid_to=None, tolerance=timedelta(hours=200),
    )  # fmt: skip
    got = joined.select("n", F.unix_micros("at").alias("at"), "temp", F.unix_micros("seen").alias("seen")).toPandas().sort_values("n")
    expected = pd.merge_asof(
        asked.sort_values("at"), measured.sort_values("seen"), left_on="at", right_on="seen", by="place", tolerance=pd.Timedelta(hours=200)
    ).sort_values("n")
    assert np.array_equal(got["temp"].to_numpy(), expected["temp"].to_numpy(), equal_nan=True)
    assert 0 < expected["temp"].isna().sum() < len(asked)


def test_the_latest_of_overlapping_versions_wins_where_that_is_asked_for(spark: SparkSession, sold: DataFrame) -> None:
    rows = [("a", 1, at(0), None), ("a", 2, at(10), at(20)), ("a", 7, at(25), at(25))]
    table = spark.createDataFrame(rows, PRICES)
    with pytest.raises(JoinError, match=r"do not overlap, got one from 2026-01-01T00:00:00.000000Z for ever, and one .*, key 'a'"):
        lookup_history(sold, table, on="item", event_time="at")
    joined = lookup_history(sold, table, on="item", event_time="at", overlap="latest", columns=["price"])
    assert prices_of(joined)["a"] == [None, 1, 1, 2, 2, None, None, None, None, None], "the later one has ended the first"


@pytest.mark.parametrize(
    ("options", "kind", "match"),
    [
        ({"event_time": "when"}, SchemaError, "cannot read column for event_time 'when'"),
        ({"event_time": "n"}, SchemaError, "cannot use column for event_time 'n': expected a timestamp, got int"),
        ({"valid_to": "ends"}, SchemaError, "for a table of measurements: valid_to=None"),
        ({"valid_from": "price"}, SchemaError, "cannot use column for valid_from 'price': expected a timestamp, got int"),
        ({"overlap": "first"}, SettingsError, "expected one of fail, latest"),
        ({"tolerance": timedelta(-1)}, SettingsError, "expected a time of zero or more"),
        ({"how": "full"}, SettingsError, "'how': expected one of left, inner, semi, anti"),
    ],
)
def test_what_cannot_be_joined_is_refused(
    sold: DataFrame, prices: DataFrame, options: dict[str, Any], kind: type[EngineError], match: str
) -> None:
    with pytest.raises(kind, match=match):
        lookup_history(sold, prices, **{"on": "item", "event_time": "at", **options})


def test_times_of_two_kinds_are_refused(sold: DataFrame, prices: DataFrame) -> None:
    local = prices.withColumn("valid_from", F.col("valid_from").cast("timestamp_ntz"))
    with pytest.raises(SchemaError, match="expected timestamp, as 'at' is, got timestamp_ntz"):
        lookup_history(sold, local, on="item", event_time="at")
