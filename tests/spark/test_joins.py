"""Joins of two real streams: as the bounded join, as Spark's where Spark can, and a restart changes nothing."""

from __future__ import annotations

import json
import os
import random
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F

from spark_ext import joins
from spark_ext.errors import SchemaError, SettingsError, StateError
from spark_ext.joins.layout import HOWS
from spark_ext.state import Control, inspect

pytestmark = pytest.mark.spark

START = datetime(2013, 1, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
WITHIN = joins.interval(-2 * SECOND, 3 * SECOND)
SPARKS = {"semi": "left_semi", "anti": "left_anti"}

Event = tuple[str | None, float | None, int]  # key, seconds, number


def events(seed: int, batches: int, rows: int, span: float) -> list[list[Event]]:
    """Batches of rows of few keys; one in ten is half a batch behind, some have no key or no time."""
    rng = random.Random(seed)  # noqa: S311 (no secret)
    found = []
    for batch in range(batches):
        made: list[Event] = []
        for number in range(rows):
            at = round((batch + rng.random() - (2.5 if rng.random() < 0.1 else 0)) * span, 1)
            key = rng.choice(["a", "b", "c", "d", None])
            made.append((key, at if rng.random() > 0.03 else None, batch * rows + number))
        found.append(made)
    return found


def add(folder: Path, number: int, rows: Sequence[Event], names: tuple[str, str]) -> None:
    folder.mkdir(exist_ok=True)
    key, value = names
    lines = [{key: k, "at": None if at is None else (START + at * SECOND).isoformat(), value: n} for k, at, n in rows]
    aside = folder.parent / f"{folder.name}-{number}.json"
    aside.write_text("\n".join(map(json.dumps, lines)))
    os.utime(aside, (number, number))  # batches in this order
    aside.rename(folder / f"{number}.json")


class Streams:
    """Two folders that are read file by file, both in step."""

    def __init__(self, spark: SparkSession, path: Path) -> None:
        self.spark, self.path = spark, path
        self._next = 0

    def add(self, left: Sequence[Event], right: Sequence[Event]) -> None:
        add(self.path / "left", self._next, left, ("k", "v"))
        add(self.path / "right", self._next, right, ("key", "w"))
        self._next += 1

    def frames(self, delay: str = "2 seconds") -> tuple[DataFrame, DataFrame]:
        return tuple(
            self._read(name, schema, delay)
            for name, schema in (("left", "k string, at timestamp, v int"), ("right", "key string, at timestamp, w int"))
        )  # type: ignore[return-value]

    def bounded(self) -> tuple[DataFrame, DataFrame]:
        read = self.spark.read.schema
        return (
            read("k string, at timestamp, v int").json(str(self.path / "left")),
            read("key string, at timestamp, w int").json(str(self.path / "right")),
        )

    def _read(self, name: str, schema: str, delay: str) -> DataFrame:
        reader = self.spark.readStream.schema(schema).option("maxFilesPerTrigger", 1)
        return reader.json(str(self.path / name)).withWatermark("at", delay)


def run(frame: DataFrame, checkpoint: Path) -> list[list[Row]]:
    """Do all there is, and return the rows of each batch."""
    found: list[list[Row]] = []
    writer = frame.writeStream.foreachBatch(lambda rows, _: found.append(rows.collect()))
    query = writer.option("checkpointLocation", str(checkpoint)).trigger(availableNow=True).start()
    try:
        assert query.awaitTermination(200)
    finally:
        query.stop()
    return found


def tagged(frames: tuple[DataFrame, DataFrame], how: str, **more: Any) -> DataFrame:
    return joins.join(*frames, on={"k": "key"}, event_time="at", within=WITHIN, how=how, buckets=3, **more)  # type: ignore[arg-type]


def values(rows: Sequence[Row], tag: str = "joined") -> Counter[tuple[Any, ...]]:
    return Counter((row.k, row.v, row.w, row.side) for row in rows if row.tag == tag)


@pytest.mark.parametrize("how", HOWS)
def test_a_stream_gives_what_the_bounded_join_of_its_rows_gives(spark: SparkSession, tmp_path: Path, how: str) -> None:
    """Over a restart in the middle; late rows of both sides come out, and the join is that of all others."""
    streams = Streams(spark, tmp_path)
    lefts, rights = events(1, 6, 20, 4.0), events(2, 6, 20, 4.0)
    given: list[list[Row]] = []
    for at, pair in enumerate(zip(lefts, rights, strict=True)):
        streams.add(*pair)
        if at in {2, 5}:
            given += run(tagged(streams.frames(), how), tmp_path / "checkpoint")
    streams.add([("end", 200, -1)], [("end", 200, -2)])
    given += run(tagged(streams.frames(), how), tmp_path / "checkpoint")
    rows = [row for batch in given for row in batch]
    late = {
        side: {(row.v if side == "left" else row.w) for row in rows if row.tag == "late" and row.side == side} for side in ("left", "right")
    }
    assert all(late.values())
    left, right = streams.bounded()
    left, right = left.where(~F.col("v").isin(late["left"])), right.where(~F.col("w").isin(late["right"]))
    once = joins.join(left, right, on={"k": "key"}, event_time="at", within=WITHIN, how=how, engine="spark").collect()  # type: ignore[arg-type]
    ours = joins.join(left, right, on={"k": "key"}, event_time="at", within=WITHIN, how=how, engine="millrace").collect()  # type: ignore[arg-type]
    assert values(once) == values(ours)
    assert values(once, "invalid") == values(ours, "invalid") == values(rows, "invalid")
    assert values(rows) == values(once)


def test_spark_itself_gives_the_same_and_outer_rows_no_sooner(spark: SparkSession, tmp_path: Path) -> None:
    """Of rows that are not late: the full outer join, batch by batch."""
    streams = Streams(spark, tmp_path)
    for left, right in zip(events(3, 5, 12, 15.0), events(4, 5, 12, 15.0), strict=True):
        streams.add([row for row in left if None not in row], [row for row in right if None not in row])
    streams.add([("end", 200, -1)], [("end", 200, -2)])
    streams.add([("end", 300, -3)], [("end", 300, -4)])
    left, right = streams.frames(delay="40 seconds")
    ours = run(tagged((left, right), "full"), tmp_path / "ours")
    theirs_frame = left.alias("l").join(
        right.alias("r"), F.expr("l.k = r.key and r.at between l.at - interval 2 seconds and l.at + interval 3 seconds"), "full"
    )
    theirs = run(theirs_frame.select(F.coalesce("k", "key").alias("k"), "v", "w"), tmp_path / "theirs")

    def first_seen(batches: Sequence[Sequence[Row]]) -> dict[tuple[Any, ...], int]:
        found: dict[tuple[Any, ...], int] = {}
        for at, rows in enumerate(batches):
            for row in rows:
                assert (row.k, row.v, row.w) not in found
                found[row.k, row.v, row.w] = at
        return found

    assert not [row for batch in ours for row in batch if row.tag != "joined"]
    mine, its = first_seen(ours), first_seen(theirs)
    assert mine.keys() == its.keys()
    assert {row: (at, its[row]) for row, at in mine.items() if at > its[row]} == {}
    assert any(row[1] is None for row in mine)
    assert any(row[2] is None for row in mine)


def test_an_idle_side_holds_unmatched_rows_until_it_speaks_or_input_is_said_to_end(spark: SparkSession, tmp_path: Path) -> None:
    streams, control = Streams(spark, tmp_path), Control(str(tmp_path / "control"))
    build = lambda: tagged(streams.frames(), "anti", control=control)  # noqa: E731 (thrice the same)
    streams.add([("a", 1, 1)], [("b", 1, 1)])
    streams.add([("a", 500, 2)], [])
    assert not sum((values(rows) for rows in run(build(), tmp_path / "checkpoint")), Counter())
    shown = inspect.entries(spark, str(tmp_path / "checkpoint"), "left").collect()
    assert {(row.k, row.v) for row in shown} == {("a", 1), ("a", 2)}
    buckets = inspect.buckets(spark, str(tmp_path / "checkpoint")).collect()
    assert sum(row.keys for row in buckets) == 2
    assert min(row.oldest for row in buckets if row.oldest) == (START + SECOND).replace(tzinfo=None)
    streams.add([("a", 501, 3)], [("b", 100, 2)])  # a side that says nothing after a restart holds, as everywhere in Spark
    assert sum((values(rows) for rows in run(build(), tmp_path / "checkpoint")), Counter()) == {("a", 1, None, "left"): 1}
    control.close(START + 600 * SECOND)
    assert sum((values(rows) for rows in run(build(), tmp_path / "checkpoint")), Counter()) == {
        ("a", 2, None, "left"): 1,
        ("a", 3, None, "left"): 1,
    }


def test_rows_are_taken_apart_in_the_columns_they_came_with(spark: SparkSession, tmp_path: Path) -> None:
    left = spark.createDataFrame([("a", START, 1), ("b", None, 2)], "k string, at timestamp, v int")
    right = spark.createDataFrame([("a", START, 3), ("c", START, 4), ("d", None, 5)], "key string, at timestamp, w int")
    both = joins.join(left, right, on={"k": "key"}, event_time="at", within=WITHIN, how="full")
    found = joins.joined(both)
    assert found.columns == ["k", "at", "v", "at_right", "w", "side"]
    assert {tuple(row) for row in found.collect()} == {
        ("a", START.replace(tzinfo=None), 1, START.replace(tzinfo=None), 3, "both"),
        ("c", None, None, START.replace(tzinfo=None), 4, "right"),
    }
    assert joins.invalid(both, "right").columns == ["key", "at", "w"]
    assert [tuple(row) for row in joins.invalid(both, "right").collect()] == [("d", None, 5)]
    assert [tuple(row) for row in joins.invalid(both, "left").collect()] == [("b", None, 2)]
    assert joins.joined(joins.join(left, right, on={"k": "key"}, event_time="at", within=WITHIN, how="semi")).columns == [
        "k",
        "at",
        "v",
        "side",
    ]
    assert joins.late(both, "left").columns == ["k", "at", "v", "lateness_ms"]
    assert joins.excess(both, "left").count() == 0
    with pytest.raises(SchemaError, match="cannot take apart frame 'of a join'"):
        joins.late(left, "left")


def test_a_hot_key_is_refused_and_reported(spark: SparkSession) -> None:
    left = spark.createDataFrame([("a", START, n) for n in range(2)], "k string, at timestamp, v int")
    right = spark.createDataFrame([("a", START, n) for n in range(5)], "key string, at timestamp, w int")
    found = tagged((left, right), "inner", engine="millrace", most_matches=4)
    assert joins.joined(found).count() == 0
    assert joins.excess(found, "left").count() == 2


@pytest.mark.parametrize("engine", ["spark", "millrace"])
def test_columns_may_have_any_name_but_ours(spark: SparkSession, engine: str) -> None:
    names = ("r0", "_r1", "here_left", "_here_right", "c0", "a.b", "it`s")
    left = spark.createDataFrame(
        [("a", START, *range(7))], ", ".join(["k string, at timestamp", *(f"`{n.replace('`', '``')}` int" for n in names)])
    )
    right = spark.createDataFrame([("a", START, 1), ("b", START, 2)], "key string, at timestamp, l0 int")
    found = joins.joined(tagged((left, right), "full", engine=engine))
    assert found.columns == [*left.columns, "at_right", "l0", "side"]
    assert {tuple(row)[2:9] for row in found.collect()} == {tuple(range(7)), (None,) * 7}


@pytest.mark.parametrize(("change", "error", "match"), [
    ({"on": "k"}, SchemaError, "cannot read column of the right side 'k': expected one of"),
    ({"on": {"v": "key"}}, SchemaError, "cannot join on key 'v': expected one type on both sides, int32, got string"),
    ({"on": {}}, SettingsError, "cannot join on keys 'of both sides'"),
    ({"event_time": "v"}, SchemaError, "cannot use event time of the left side 'v': expected type timestamp, got int32"),
    ({"event_time": ("at", "when")}, SchemaError, "cannot read column of the right side 'when'"),
    ({"how": "outer"}, SettingsError, "expected how one of inner, left, right, full, semi, anti, got 'outer'"),
    ({"suffix": ""}, SchemaError, "cannot join columns 'of both sides': expected names that differ"),
    ({"most_matches": 0}, SettingsError, "expected most_matches >= 1, got 0"),
    ({"within": timedelta(1)}, SettingsError, r"expected interval\(...\), one_window\(...\) or two_windows\(...\), got"),
    ({"engine": "flink"}, SettingsError, "expected auto, millrace or spark"),
    ({"earliest": datetime(2000, 1, 1)}, SettingsError, "expected a time with a zone"),  # noqa: DTZ001 (what is tried)
])  # fmt: skip
def test_what_cannot_be_joined_is_refused_by_name(spark: SparkSession, change: dict[str, Any], error: type[Exception], match: str) -> None:
    left = spark.createDataFrame([], "k string, at timestamp, v int")
    right = spark.createDataFrame([], "key string, at timestamp, w int")
    with pytest.raises(error, match=match):
        joins.join(left, right, **{"on": {"k": "key"}, "event_time": "at", "within": WITHIN, **change})


@pytest.mark.parametrize("build", [
    lambda left, right: joins.join(left, right.where("false"), on={"k": "key"}, event_time="at", within=WITHIN, engine="spark"),
    lambda left, right: joins.join(left.drop("v"), right, on={"k": "key"}, event_time="at", within=WITHIN, engine="spark"),
])  # fmt: skip
def test_spark_is_not_taken_where_it_loses_rows(spark: SparkSession, tmp_path: Path, build: Callable[..., DataFrame]) -> None:
    streams = Streams(spark, tmp_path)
    streams.add([("a", 1, 1)], [("b", 1, 1)])
    with pytest.raises(SettingsError, match="drops late rows without a trace"):
        build(*streams.frames())
    assert joins.explain(*streams.bounded(), on={"k": "key"}, event_time="at", within=WITHIN).startswith("spark: bounded rows")


def test_a_stream_and_a_table_are_two_kinds(spark: SparkSession, tmp_path: Path) -> None:
    streams = Streams(spark, tmp_path)
    streams.add([("a", 1, 1)], [("b", 1, 1)])
    with pytest.raises(SettingsError, match="expected all streams, or all bounded, got some of both"):
        joins.join(streams.frames()[0], streams.bounded()[1], on={"k": "key"}, event_time="at", within=WITHIN)


def test_another_interval_is_another_state(spark: SparkSession, tmp_path: Path) -> None:
    streams = Streams(spark, tmp_path)
    streams.add([("a", 1, 1)], [("b", 1, 1)])
    run(tagged(streams.frames(), "left"), tmp_path / "checkpoint")
    streams.add([("a", 2, 1)], [("b", 2, 1)])
    longer = joins.join(
        *streams.frames(), on={"k": "key"}, event_time="at", within=joins.interval(-2 * SECOND, 4 * SECOND), how="left", buckets=3
    )
    with pytest.raises(Exception, match=r"upper_us 4000000.*upper_us 3000000") as raised:
        run(longer, tmp_path / "checkpoint")
    assert StateError.__name__ in str(raised.value)
