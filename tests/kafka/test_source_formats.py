"""The source millrace_kafka with lines of CSV, and with partial aggregates: the same dead letters and accounts."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import DecimalType, LongType, StringType, StructField, StructType, TimestampType

from spark_ext import kafka
from spark_ext.broker import Broker
from spark_ext.errors import EngineError, SchemaError, SettingsError
from spark_ext.ingest import BytesFormat, CsvFormat, JsonFormat, PartialAggregate, accepted, accounts
from tests.kafka_topics import produce, run_to_end

pytestmark = [pytest.mark.kafka, pytest.mark.spark]

FORMAT = CsvFormat(
    StructType(
        [
            StructField("n", LongType(), False),
            StructField("name", StringType()),
            StructField("at", TimestampType(), False),
            StructField("price", DecimalType(8, 2)),
        ]
    ),
    event_time="at",
    earliest=datetime(2000, 1, 1, tzinfo=UTC),
    delimiter=";",
)
LINES = [
    b"1;a;2020-01-01T00:00:00Z;1.5",
    b'2;"b; ""quoted""\r\n";2020-01-01T01:00:00+01:00;\r\n',
    b"3;;2020-01-01T00:00:00.5Z;-7\n",
    b"x;a;2020-01-01T00:00:00Z;1.5",
    b"4;a;2020-01-01T00:00:00Z",
    None,
    b"5;a;1999-01-01T00:00:00Z;1",
    b'6;"\xff";2020-01-01T00:00:00Z;1',
]


def test_lines_of_csv_are_rows_or_dead(spark: SparkSession, broker: Broker) -> None:
    broker.create_topic("csv")
    produce(broker, "csv", LINES)
    frame = kafka.read(spark, bootstrap_servers=broker.bootstrap_servers, topics="csv", format=FORMAT, streaming=False)
    assert frame.columns == ["n", "name", "at", "price", "source", "dead", "range"]
    good = accepted(frame).selectExpr("n", "name", "unix_micros(at)", "cast(price as string)", "source.offset").collect()
    midnight = 1_577_836_800_000_000
    assert [tuple(row) for row in good] == [
        (1, "a", midnight, "1.50", 0),
        (2, 'b; "quoted"\r\n', midnight, None, 1),
        (3, None, midnight + 500_000, "-7.00", 2),
    ]
    letters = FORMAT.dead_letters(frame).collect()
    assert [(row.offset, row.reason, row.detail) for row in letters] == [
        (3, "type", "n"),
        (4, "malformed", None),
        (5, "tombstone", None),
        (6, "event_time_range", "at"),
        (7, "utf8", None),
    ]
    assert [row.value for row in letters] == LINES[3:]
    (account,) = accounts(frame).collect()
    assert (account.read, account.decoded, account.dead, account.drift) == (8, 3, 5, 0)


def test_bytes_come_as_they_are_and_are_accounted_for(spark: SparkSession, broker: Broker) -> None:
    broker.create_topic("as-bytes")
    values = [b"", None, b"\xff\x00" * 40, b"x" * 101, b"x" * 100]
    produce(broker, "as-bytes", values)
    given = {"bootstrap_servers": broker.bootstrap_servers, "topics": "as-bytes", "streaming": False}
    frame = kafka.read(spark, format=BytesFormat(max_value_bytes=100), **given)
    assert frame.columns == ["key", "value", "source", "dead", "range"]
    raw = kafka.read(spark, **given).orderBy("offset").collect()
    good = accepted(frame).orderBy("source.offset").collect()
    assert [(row.key, row.value, row.source.offset) for row in good] == [(row.key, row.value, row.offset) for row in raw if row.offset != 3]
    (letter,) = BytesFormat().dead_letters(frame).collect()
    assert (letter.offset, letter.key, letter.value, letter.reason) == (3, b"3", values[3], "too_large")
    (account,) = accounts(frame).collect()
    assert (account.read, account.decoded, account.dead) == (5, 4, 1)
    keys = kafka.read(spark, format=BytesFormat(), columns=["key"], **given)
    assert [row.key for row in accepted(keys).orderBy("source.offset").collect()] == [b"0", b"1", b"2", b"3", b"4"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"schema": StructType([StructField("v", StringType())])}, "cannot read schema 'v': expected struct<key:binary,value:binary>"),
        ({"event_time": "at"}, "cannot use format 'bytes': expected no rules on fields"),
    ],
)
def test_bytes_have_no_fields_to_judge(given: dict[str, Any], message: str) -> None:
    with pytest.raises(EngineError, match=message):
        BytesFormat(**given)
    with pytest.raises(SettingsError, match="no condition at all for the field 'value' of type binary"):
        BytesFormat().decoder(where=[("value", "=", b"x")])


def test_spark_s_connector_cannot_read_csv(spark: SparkSession, broker: Broker) -> None:
    with pytest.raises(SettingsError, match="cannot use argument 'format': expected a JsonFormat with engine='spark', got a CsvFormat"):
        kafka.read(spark, bootstrap_servers=broker.bootstrap_servers, topics="csv", format=FORMAT, engine="spark")


CLICK = JsonFormat(
    StructType(
        [
            StructField("ad", StringType()),
            StructField("at", TimestampType(), False, {"epoch": "ms"}),
            StructField("price", DecimalType(8, 2)),
            StructField("n", LongType()),
            StructField("kind", StringType()),
        ]
    ),
    event_time="at",
    earliest=datetime(2000, 1, 1, tzinfo=UTC),
)
PARTIAL = PartialAggregate(
    ["ad"],
    timedelta(seconds=10),
    {
        "events": ("count", None),
        "priced": ("count", "price"),
        "total": ("sum", "price"),
        "sum_n": ("sum", "n"),
        "least": ("min", "price"),
        "last": ("max", "at"),
    },
)
VIEWS = [("kind", "=", "view")]


def click(at: int) -> bytes:
    if at % 50 == 0:
        return b"{"
    ad = None if at % 13 == 0 else f"ad-{at % 7}"
    price = None if at % 5 == 0 else at / 4
    time = str(1_577_836_800_000 + at * 70) if at % 2 else 1_577_836_800_000 + at * 70
    return json.dumps({"ad": ad, "at": time, "price": price, "n": at * 10**12, "kind": "view" if at % 3 else "click"}).encode()


def test_partial_rows_merge_to_what_spark_groups(spark: SparkSession, broker: Broker, tmp_path: Path) -> None:
    broker.create_topic("partial", partitions=3)
    produce(broker, "partial", [click(at) for at in range(3_000)], partitions=3)
    given: dict[str, Any] = {"bootstrap_servers": broker.bootstrap_servers, "topics": "partial", "format": CLICK, "where": VIEWS}
    options = {"tasks": "5", "min_offsets_per_task": "100", "max_rows_per_block": "60"}
    rows = accepted(kafka.read(spark, **given, streaming=False))
    whole = rows.groupBy("ad", F.window("at", "10 seconds").start.alias("pane_start")).agg(
        F.count("*").alias("events"),
        F.count("price").alias("priced"),
        F.sum("price").cast("decimal(38,2)").alias("total"),
        F.sum("n").alias("sum_n"),
        F.min("price").alias("least"),
        F.max("at").alias("last"),
    )
    expected = {(row.ad, row.pane_start): row for row in whole.collect()}
    frame = kafka.read(spark, **given, partial=PARTIAL, streaming=False, options=options)
    assert frame.columns == ["ad", "pane_start", *PARTIAL.aggregates, "source", "dead", "range"]
    assert PARTIAL.merge(frame).dtypes == whole.dtypes
    assert {(row.ad, row.pane_start): row for row in PARTIAL.merge(frame).collect()} == expected
    assert {row.source for row in accepted(frame).collect()} == {None}
    account = accounts(frame).groupBy().sum("read", "decoded", "filtered", "dead").collect()[0]
    assert tuple(account) == (3_000, 2_940, 980, 60)
    assert sum(row.events for row in expected.values()) == 2_940 - 980
    assert frame.where("dead is not null").count() == 60
    batches = run_to_end(kafka.read(spark, **given, partial=PARTIAL, max_offsets_per_trigger=700, options=options), tmp_path / "c")
    assert len(batches.rows) == 5
    groups = [row for found in batches.rows.values() for row in found if row.dead is None and row.range is None]
    assert len(groups) < 2_000
    again = PARTIAL.merge(spark.createDataFrame(groups, frame.schema))
    assert {(row.ad, row.pane_start): row for row in again.collect()} == expected


def test_what_cannot_be_aggregated_is_refused_at_once(spark: SparkSession, broker: Broker) -> None:
    given: dict[str, Any] = {"bootstrap_servers": broker.bootstrap_servers, "topics": "partial", "partial": PARTIAL}
    with pytest.raises(SettingsError, match="cannot use option 'partial': expected a format and no columns, got no format"):
        kafka.read(spark, **given)
    with pytest.raises(SettingsError, match="cannot use option 'partial': expected a format and no columns, got columns too"):
        kafka.read(spark, **given, format=CLICK, columns=["ad"])
    with pytest.raises(SettingsError, match="cannot use argument 'partial': expected its default with engine='spark'"):
        kafka.read(spark, **given, format=CLICK, engine="spark")
    with pytest.raises(SchemaError, match="cannot aggregate field 'ad'"):
        kafka.read(spark, **given, format=FORMAT)
