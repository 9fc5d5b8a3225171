"""Every record becomes one row or one dead letter with its reason; the model is Python's own json."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import ArrayType, ByteType, DoubleType, IntegerType, StringType, StructField, StructType, TimestampType

from spark_ext.errors import SchemaError
from spark_ext.ingest import JsonFormat, accepted

pytestmark = pytest.mark.spark

SCHEMA = StructType(
    [
        StructField("event", StringType(), nullable=False),
        StructField("event_time", TimestampType(), nullable=False),
        StructField("n", IntegerType()),
        StructField("x", DoubleType()),
    ]
)
EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
RECEIVED = datetime(2026, 1, 1, tzinfo=UTC)
FORMAT = JsonFormat(SCHEMA, event_time="event_time", earliest=EARLIEST)
GOOD = '{"event":"a","event_time":"2013-01-01T10:00:00Z","n":1,"x":1.5}'


def records(spark: SparkSession, values: list[bytes | None]) -> DataFrame:
    rows = [(b"k", value, "t", 0, offset, RECEIVED) for offset, value in enumerate(values)]
    return spark.createDataFrame(rows, "key binary, value binary, topic string, partition int, offset bigint, timestamp timestamp")


def parsed(spark: SparkSession, values: list[bytes | None]) -> DataFrame:
    return FORMAT.parse(records(spark, values))


CASES: dict[str, tuple[bytes | None, str | None]] = {
    "good": (GOOD.encode(), None),
    "newline behind": ((GOOD + "\n").encode(), None),
    "brace in a string": (GOOD.replace('"a"', '"a}b{"').encode(), None),
    "unknown field": (GOOD.replace("{", '{"z":0,', 1).encode(), None),
    "optional missing": (b'{"event":"a","event_time":"2013-01-01T10:00:00Z"}', None),
    "nested value nobody asked for": (GOOD.replace("{", '{"z":{"y":[1,2]},', 1).encode(), None),
    "null": (None, "tombstone"),
    "empty": (b"", "empty"),
    "blanks": (b" \n", "empty"),
    "truncated": (GOOD[:-9].encode(), "malformed"),
    "not json": (b"hello", "malformed"),
    "json null": (b"null", "malformed"),
    "scalar": (b"42", "malformed"),
    "array": (f"[{GOOD}]".encode(), "malformed"),
    "single quotes": (GOOD.replace('"', "'").encode(), "malformed"),
    "trailing comma": (GOOD.replace("1.5}", "1.5,}").encode(), "malformed"),
    "two documents": ((GOOD + GOOD).encode(), "trailing_bytes"),
    "two lines": ((GOOD + "\n" + GOOD).encode(), "trailing_bytes"),
    "garbage behind": ((GOOD + "!").encode(), "trailing_bytes"),
    "comma behind": ((GOOD + ",").encode(), "trailing_bytes"),
    "brace behind": ((GOOD + "}").encode(), "trailing_bytes"),
    "bracket behind": ((GOOD + "]").encode(), "trailing_bytes"),
    "bracket and document behind": ((GOOD + "],[" + GOOD).encode(), "trailing_bytes"),
    "invalid utf-8": (GOOD.encode().replace(b'"a"', b'"\xff\xfe"'), "utf8"),
    "overlong utf-8": (GOOD.encode().replace(b'"a"', b'"\xc0\xaf"'), "utf8"),
    "text for a number": (GOOD.replace('"n":1', '"n":"one"').encode(), "type"),
    "digits in quotes for a number": (GOOD.replace('"n":1', '"n":"1"').encode(), "type"),
    "fraction for an integer": (GOOD.replace('"n":1', '"n":1.5').encode(), "type"),
    "integer too large": (GOOD.replace('"n":1', '"n":2147483648').encode(), "type"),
    "not a number": (GOOD.replace("1.5", "NaN").encode(), "malformed"),
    "number too large": (GOOD.replace("1.5", "1e400").encode(), "range"),
    "30 February": (GOOD.replace("01-01", "02-30").encode(), "type"),
    "no fields": (b"{}", "required_field"),
    "required field null": (GOOD.replace('"a"', "null").encode(), "required_field"),
    "year 9999": (GOOD.replace("2013", "9999").encode(), "range"),
    "tomorrow's tomorrow": (GOOD.replace("2013-01-01", "2026-01-03").encode(), "event_time_range"),
    "milliseconds for a timestamp": (GOOD.replace('"2013-01-01T10:00:00Z"', "1357034400000").encode(), "type"),
    "seconds that wrap around": (GOOD.replace('"2013-01-01T10:00:00Z"', "288230377508746144").encode(), "type"),
    "a time without a date": (GOOD.replace("2013-01-01T", "").encode(), "type"),
    "a time of day": (GOOD.replace("2013-01-01T10", "T10").encode(), "type"),
    "a time without a zone": (GOOD.replace("00Z", "00").encode(), "type"),
    "a year": (GOOD.replace("2013-01-01T10:00:00Z", "2013").encode(), "type"),
    "garbage behind a date": (GOOD.replace("T10:00:00Z", "Tgarbage---Z").encode(), "type"),
    "a zone with an offset": (GOOD.replace("00Z", "00+01:00").encode(), None),
    "a fraction of a second": (GOOD.replace("00Z", "00.123456Z").encode(), None),
    "too early": (GOOD.replace("2013", "1999").encode(), "event_time_range"),
    "2 MB of garbage": (b"\x07\xf3garbage" * 222_223, "too_large"),
    "1.2 million nested arrays": (b"[" * 1_000_000, "malformed"),
}


def test_each_case_gets_its_reason_and_keeps_its_bytes(spark: SparkSession) -> None:
    values = [value for value, _ in CASES.values()]
    frame = parsed(spark, values).persist()
    letters = {row.offset: row for row in FORMAT.dead_letters(frame).collect()}
    good = {row.source.offset for row in accepted(frame).collect()}
    frame.unpersist()
    assert {name: letters[at].reason if at in letters else None for at, name in enumerate(CASES)} == {
        name: reason for name, (_, reason) in CASES.items()
    }
    assert good == {at for at, (_, reason) in enumerate(CASES.values()) if reason is None}, "one place for each record"
    for at, value in enumerate(values):
        if at in letters:
            assert (letters[at].value, bytes(letters[at].key), letters[at].topic, letters[at].partition) == (value, b"k", "t", 0)


def test_the_missing_field_is_named(spark: SparkSession) -> None:
    letters = FORMAT.dead_letters(parsed(spark, [b'{"event":"a"}', b'{"event_time":"2013-01-01T10:00:00Z"}'])).orderBy("offset").collect()
    assert [row.detail for row in letters] == ["event_time", "event"]


def test_bad_rows_have_no_event_time(spark: SparkSession) -> None:
    frame = parsed(spark, [CASES["year 9999"][0], CASES["two documents"][0]])
    assert [row.event_time for row in frame.collect()] == [None, None], "or they would move the watermark"


anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
times = st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1)).map(lambda time: time.replace(microsecond=0).isoformat() + "Z")  # noqa: DTZ001
events = st.fixed_dictionaries(
    {}, optional={"event": st.text(max_size=5) | anything, "event_time": times | anything, "n": anything, "x": anything}
)
raw = st.binary(max_size=30) | events.map(lambda event: json.dumps(event, ensure_ascii=False).encode("utf-8", "surrogatepass"))


def verdict(value: bytes) -> bool:
    """Whether a record is good, as a slow reader of the docstring would decide; only for values without surprises."""
    found = json.loads(value)
    event, time, n, x = (found.get(name) for name in ("event", "event_time", "n", "x"))
    if not isinstance(event, str) or not isinstance(time, str):
        return False
    if not EARLIEST <= datetime.fromisoformat(time) <= RECEIVED + timedelta(days=1):
        return False
    whole = n is None or (isinstance(n, int) and not isinstance(n, bool) and -(2**31) <= n < 2**31)
    number = x is None or (isinstance(x, int | float) and not isinstance(x, bool) and math.isfinite(x))
    return whole and number


typed = st.fixed_dictionaries(
    {},
    optional={
        "event": st.none() | st.text(st.characters(codec="utf-8"), max_size=6),
        "event_time": st.none() | times,
        "n": st.none() | st.integers(-(2**33), 2**33) | st.booleans() | st.lists(st.integers(), max_size=2),
        "x": st.none() | st.floats() | st.booleans(),
        "other": anything,
    },
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(batch=st.lists(raw, min_size=1, max_size=60))
def test_one_row_for_each_record_whatever_it_holds(spark: SparkSession, batch: list[bytes]) -> None:
    frame = parsed(spark, list(batch)).persist()
    places = [row.offset for row in FORMAT.dead_letters(frame).collect()] + [row.source.offset for row in accepted(frame).collect()]
    frame.unpersist()
    assert sorted(places) == list(range(len(batch)))


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(batch=st.lists(typed, min_size=1, max_size=60))
def test_the_verdict_is_that_of_pythons_json(spark: SparkSession, batch: list[dict[str, object]]) -> None:
    values = [json.dumps(event).encode() for event in batch]
    good = sorted(row.source.offset for row in accepted(parsed(spark, list(values))).collect())
    assert good == [at for at, value in enumerate(values) if verdict(value)]


@pytest.mark.parametrize(
    ("schema", "event_time", "message"),
    [
        (SCHEMA, "nowhere", "cannot parse event time 'nowhere'.*got no such field"),
        (SCHEMA, "event", "cannot parse event time 'event'.*expected a field of type timestamp with nullable=False"),
        (StructType([*SCHEMA.fields, StructField("source", StringType())]), "event_time", r"cannot parse schema.*got \['source'\]; rename"),
        (StructType([*SCHEMA.fields, StructField("__x", StringType())]), "event_time", r"got \['__x'\]; rename"),
        (
            StructType([*SCHEMA.fields, StructField("Event", StringType())]),
            "event_time",
            r"differ in more than case.*'event', 'Event'|'Event', 'event'",
        ),
        (StructType([*SCHEMA.fields, StructField("b", ByteType())]), "event_time", "cannot parse field 'b'.*128 becomes -128.*smallint"),
        (
            StructType([*SCHEMA.fields, StructField("a", ArrayType(DoubleType()))]),
            "event_time",
            "cannot parse field 'a.element'.*double inside another",
        ),
        (
            StructType([*SCHEMA.fields, StructField("s", StructType([StructField("r", StringType(), False)]))]),
            "event_time",
            "'s.r'.*required field inside",
        ),
    ],
)
def test_a_schema_that_cannot_work_is_refused(spark: SparkSession, schema: StructType, event_time: str, message: str) -> None:
    with pytest.raises(SchemaError, match=message):
        JsonFormat(schema, event_time=event_time, earliest=EARLIEST).parse(records(spark, [GOOD.encode()]))


def test_names_that_need_quotes_are_fine(spark: SparkSession) -> None:
    schema = StructType(
        [
            StructField("a.b", IntegerType(), nullable=False),
            StructField("c`d e", TimestampType(), nullable=False),
            StructField("value", StringType()),
        ]
    )
    odd = JsonFormat(schema, event_time="c`d e", earliest=EARLIEST, refuse={"negative": [("a.b", "<", 0)]})
    lines = [
        '{"a.b":1,"c`d e":"2013-01-01T10:00:00Z","value":"v"}',
        '{"a.b":-1,"c`d e":"2013-01-01T10:00:00Z"}',
        '{"c`d e":"2013-01-01T10:00:00Z"}',
    ]
    frame = odd.parse(records(spark, [line.encode() for line in lines]))
    assert [(row["a.b"], row["value"]) for row in accepted(frame).collect()] == [(1, "v")]
    assert {(row.reason, row.detail) for row in odd.dead_letters(frame).collect()} == {("negative", None), ("required_field", "a.b")}


@pytest.mark.parametrize("ansi", ["true", "false"])
def test_a_record_timestamp_that_says_nothing_bounds_nothing_and_breaks_nothing(spark: SparkSession, ansi: str) -> None:
    far = '{"event":"a","event_time":"294247-01-10T04:00:54.775000Z"}'
    times = [datetime(1969, 12, 31, 23, 59, 59, 999000, UTC), None]
    rows = [(None, value.encode(), "t", 0, at, time) for at, (value, time) in enumerate((v, t) for v in (far, GOOD) for t in times)]
    frame = spark.createDataFrame(rows, "key binary, value binary, topic string, partition int, offset bigint, timestamp timestamp")
    before = spark.conf.get("spark.sql.ansi.enabled")
    spark.conf.set("spark.sql.ansi.enabled", ansi)
    try:
        reasons = [row.reason for row in FORMAT.dead_letters(FORMAT.parse(frame)).orderBy("offset").collect()]
    finally:
        spark.conf.set("spark.sql.ansi.enabled", str(before))
    assert reasons == ["type", "type", "event_time_range", "event_time_range"]


def test_the_session_zone_does_not_change_the_verdict(spark: SparkSession) -> None:
    values: list[bytes | None] = [value for value, _ in CASES.values()]
    spark.conf.set("spark.sql.session.timeZone", "Asia/Tokyo")
    try:
        good = sorted(row.source.offset for row in accepted(parsed(spark, values)).select("source").collect())
    finally:
        spark.conf.set("spark.sql.session.timeZone", "UTC")
    assert good == [at for at, (_, reason) in enumerate(CASES.values()) if reason is None]
