"""Windows over streams: every row accounted for, whatever the number of buckets, batches and restarts; bounded runs and Spark agree."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from spark_ext.windows import (
    aggregate,
    assigned,
    calendar,
    count_sliding,
    count_tumbling,
    each_batch,
    global_window,
    keep_last,
    results,
    session,
    sliding,
    tumbling,
)
from spark_ext.windows.aggregates import count, max, mean, min, sum  # noqa: A004
from spark_ext.windows.shapes import Window
from tests.window_queries import (
    DAY,
    EPOCH,
    MINUTE,
    NAMES,
    NEVER,
    CountModel,
    Event,
    LastModel,
    Model,
    SessionModel,
    Sink,
    TimeModel,
    add,
    aligned,
    begin,
    disorder,
    evens,
    everything,
    finish,
    local_days,
    moment,
    play,
    source,
)

pytestmark = pytest.mark.spark

NEW_YORK = "America/New_York"
AGGREGATES = {"rows": count(), "total": sum("v")}
AGGREGATES_L = {"rows": count(), "total": sum("l")}
EVENING = (datetime(2013, 1, 1, 18, tzinfo=UTC) - EPOCH) // timedelta(microseconds=1)
SPRING = (datetime(2013, 3, 8, 12, tzinfo=UTC) - EPOCH) // timedelta(microseconds=1)  # clocks go forward on the 10th
MINUTES = timedelta(minutes=1)
HALF = timedelta(seconds=30)


def every_other_minute(times: Any) -> Any:
    start = times // MINUTE * MINUTE
    even = start // MINUTE % 2 == 0
    return np.where(even, start, -(2**62)), np.where(even, start + MINUTE, -(2**62))


@dataclass(frozen=True)
class Kind:
    """A window, how it is asked for, its model, and the pace of the rows."""

    window: Window
    model: Callable[[], Model]
    unit: int = MINUTE
    origin: int = EVENING
    each_window: int = 1  # how many windows a row is in; 0: as many as it happens
    tags: Sequence[str] = ("late",)
    given: dict[str, Any] = field(default_factory=dict)

    @property
    def delay(self) -> timedelta:
        return timedelta(microseconds=self.unit)

    def events(self) -> list[list[Event]]:
        return disorder(5, origin=self.origin, unit=self.unit)

    def over(self, frame: DataFrame, buckets: int, **more: Any) -> DataFrame:
        return aggregate(
            frame, keys=["k"], event_time="ts", window=self.window, aggregates=AGGREGATES, buckets=buckets, **self.given, **more
        )


KINDS = {
    "tumbling": Kind(tumbling(MINUTES).with_grace(HALF), lambda: TimeModel(aligned(MINUTE, MINUTE), MINUTE // 2)),
    "sliding": Kind(sliding(3 * MINUTES, every=MINUTES).without_grace(), lambda: TimeModel(aligned(3 * MINUTE, MINUTE), 0), each_window=3),
    "session": Kind(session(MINUTES).with_grace(HALF), lambda: SessionModel(MINUTE, MINUTE // 2)),
    "calendar": Kind(
        calendar("day", zone=NEW_YORK).with_grace(timedelta(hours=12)),
        lambda: TimeModel(local_days(NEW_YORK), DAY // 2),
        unit=DAY // 2,
        origin=SPRING,
    ),
    "assigned": Kind(assigned(every_other_minute, name="evens_v1").without_grace(), lambda: TimeModel(evens, 0), tags=("late", "outside")),
    "count_tumbling": Kind(count_tumbling(3).with_grace(HALF), lambda: CountModel(3, 3, MINUTE // 2)),
    "count_sliding": Kind(count_sliding(4, every=2).without_grace(), lambda: CountModel(4, 2, 0), each_window=0),
    "global": Kind(
        global_window().without_grace(), lambda: TimeModel(everything, 0, each_batch=True), tags=(), given={"trigger": each_batch()}
    ),
    "last": Kind(
        global_window().without_grace(), lambda: LastModel(3), each_window=0, given={"trigger": each_batch(), "eviction": keep_last(3)}
    ),
}


@pytest.mark.parametrize("name", KINDS)
def test_each_batch_gives_what_the_model_gives(spark: SparkSession, tmp_path: Path, name: str) -> None:
    kind, folder, sinks = KINDS[name], tmp_path / "in", {1: Sink(), 3: Sink(), 8: Sink()}
    batches = kind.events()
    for number in (0, 1):
        add(folder, number, batches[number])
    rows = source(spark, folder, delay=kind.delay)
    interrupted = play(kind.over(rows, 3), tmp_path / "b3")
    add(folder, 2, batches[2])
    starts = [
        begin(kind.over(source(spark, folder, delay=kind.delay), buckets), sink, tmp_path / f"b{buckets}")
        for buckets, sink in sinks.items()
    ]
    finish(*starts)
    sinks[3].put_behind(interrupted)
    for buckets, sink in sinks.items():
        model, files = kind.model(), batches if buckets != 3 else [*batches[:2], [], batches[2]]
        wanted = expected(model, files, sink)
        assert sorted(wanted) == [*range(len(files) + 1)], "one batch per file, and one without rows for what the last one closed"
        assert {number: sink.lines_of(number) for number in wanted} == wanted
        assert [now > NEVER for now in sink.watermarks.values()] == [False] + [True] * len(files)
        if kind.each_window:
            conserved(sink.lines(), model.held(), batches, kind.each_window)
    found = sinks[1].lines()
    assert {line[0] for line in found} == {"window", "invalid", *kind.tags}
    assert sinks[3].lines() == sinks[8].lines() == found


def expected(model: Model, batches: Sequence[Sequence[Event]], sink: Sink) -> dict[int, Counter[Any]]:
    """What a model gives out, batch by batch, fed with the watermarks that Spark wrote down."""
    return {
        number: Counter(model.step(batches[number] if number < len(batches) else [], now))
        for number, now in sorted(sink.watermarks.items())
    }


def conserved(found: Counter[Any], held: Counter[Event], batches: Sequence[Sequence[Event]], windows: int) -> None:
    """Main, late, invalid, outside and what is still open are the input, row by row where rows can be told, else by number and sum."""
    events = [event for batch in batches for event in batch]
    rows = total = 0
    for line, times in found.items():
        match line:
            case ("window", _, _, _, number, value, True):
                rows, total = rows + times * number, total + times * (value or 0)
            case ("late", event, _, _, _, missed, of):
                assert of == windows
                rows, total = rows + missed, total + missed * (event.v or 0)
            case ("invalid" | "outside", event, *_):
                rows, total = rows + windows, total + windows * (event.v or 0)
    rows += held.total()
    total += int(np.sum([times * (event.v or 0) for event, times in held.items()]))
    assert (rows, total) == (windows * len(events), windows * int(np.sum([event.v or 0 for event in events])))


TYPED = (
    "k string, j int, ts timestamp, s short, i int, l long, f float, d double, m decimal(10,2), t timestamp, w string, b boolean, y date"
)
BOUNDED = {
    "rows": count(), "some": count("i"), "shorts": sum("s"), "ints": sum("i"), "longs": sum("l"), "floats": sum("f"), "doubles": sum("d"),
    "decimals": sum("m"), "mean_i": mean("i"), "mean_d": mean("d"), "mean_m": mean("m"), "least_w": min("w"), "most_w": max("w"),
    "most_t": max("t"), "least_y": min("y"), "most_b": max("b"), "least_m": min("m"), "most_f": max("f"), "least_s": min("s"),
}  # fmt: skip


def typed(spark: SparkSession) -> DataFrame:
    """Rows of many types, with nulls; sums are exact in any order."""
    dice = random.Random(11)  # noqa: S311 (no secret)

    def maybe(value: Any) -> Any:
        return value if dice.randrange(5) else None

    def row(number: int) -> tuple[Any, ...]:
        seconds = dice.randrange(3_000)
        time = dice.choice([None, datetime(1850, 1, 1, tzinfo=UTC), datetime(2250, 1, 1, tzinfo=UTC)])
        ts = moment(EVENING + seconds * 100_000) if number % 10 else time
        n = dice.randrange(-500, 500)
        whole = maybe(n), maybe(n), maybe(n), maybe(n / 4), maybe(n / 8), maybe(Decimal(n) / 4), maybe(moment(EVENING + n))
        return (dice.choice(NAMES), dice.choice([1, None]), ts, *whole, maybe(str(n)), maybe(n > 0), maybe(date(2013, 1, 1 + n % 28)))

    return spark.createDataFrame([row(number) for number in range(300)], TYPED)


def rows_of(frame: DataFrame) -> Counter[str]:
    return Counter(map(repr, frame.toArrow().to_pylist()))


@pytest.mark.parametrize(("window", "keys"), [
    (tumbling(HALF).with_grace(MINUTES), ["k", "j"]),
    (tumbling(HALF, offset=timedelta(seconds=7)).without_grace(), []),
    (sliding(timedelta(seconds=50), every=timedelta(seconds=20)).without_grace(), ["k"]),
])  # fmt: skip
def test_a_bounded_run_is_what_spark_computes(spark: SparkSession, window: Window, keys: list[str]) -> None:
    frame = typed(spark).cache()
    both = [
        aggregate(frame, keys=keys, event_time="ts", window=window, aggregates=BOUNDED, engine=engine, buckets=3)
        for engine in ("millrace", "spark")
    ]
    assert both[0].schema.simpleString() == both[1].schema.simpleString()
    ours = rows_of(both[0])
    assert ours == rows_of(both[1])
    assert len([line for line in ours.elements() if line.startswith("{'tag': 'invalid'")]) == 30
    shape: Any = window.shape
    valid = frame.where("ts BETWEEN '1900-01-01' AND '2200-01-01'")
    spans = [f"{us} microseconds" for us in (shape.length_us, getattr(shape, "every_us", shape.length_us), shape.offset_us)]
    plain = valid.groupBy(*keys, F.window("ts", *spans).alias("window")).agg(F.count("*").alias("rows"), F.sum("l").alias("longs"))
    found = results(both[0]).select(*keys, "window", "rows", "longs")
    assert rows_of(found) == rows_of(plain)
    frame.unpersist()


def test_bounded_sessions_are_those_of_spark(spark: SparkSession) -> None:
    frame = (
        typed(spark).where("ts BETWEEN '1900-01-01' AND '2200-01-01'").withColumn("ts", F.expr("ts + make_dt_interval(0, 0, 0, l / 1000)"))
    )
    ours = aggregate(
        frame, keys=["k"], event_time="ts", window=session(timedelta(seconds=3)).without_grace(), aggregates=AGGREGATES_L, buckets=3
    )
    spark_s = frame.groupBy("k", F.session_window("ts", "3 seconds").alias("window")).agg(
        F.count("*").alias("rows"), F.sum("l").alias("total")
    )
    found = rows_of(results(ours).select("k", "window", "rows", "total"))
    assert found.total() > 50
    assert found == rows_of(spark_s.select("k", "window", "rows", "total"))


def test_spark_merges_sessions_that_are_exactly_the_gap_apart_and_millrace_does_not(spark: SparkSession) -> None:
    frame = spark.createDataFrame([("a", moment(EVENING), 1), ("a", moment(EVENING + 9_000_000), 1)], "k string, ts timestamp, l long")
    window = session(timedelta(seconds=9)).without_grace()
    ours = aggregate(frame, keys=["k"], event_time="ts", window=window, aggregates=AGGREGATES_L)
    assert results(ours).count() == 2
    assert frame.groupBy("k", F.session_window("ts", "9 seconds")).count().count() == 1


KEYED: dict[str, tuple[str, list[Any]]] = {
    "text": ("string", ["é", "e\u0301", "東京", "", None]),
    "truth": ("boolean", [True, False, None]),
    "tiny": ("tinyint", [-128, 0, None]),
    "whole": ("bigint", [-(2**63), 2**63 - 1, None]),
    "single": ("float", [0.0, -0.0, float("nan"), None, 1.5]),
    "double": ("double", [0.0, -0.0, float("nan"), -float("nan"), float("inf"), None]),
    "exact": ("decimal(38,2)", [Decimal("0.00"), Decimal("-1.50"), Decimal(10) ** 35, None]),
    "time": ("timestamp", [datetime(2013, 1, 1, tzinfo=UTC), datetime(1900, 1, 1, 0, 0, 0, 1, tzinfo=UTC), None]),
    "local": ("timestamp_ntz", [datetime(2013, 1, 1), None]),  # noqa: DTZ001 (a type without zone)
    "day": ("date", [date(2013, 1, 1), date(1600, 1, 1), None]),
    "raw": ("binary", [b"", b"\0", b"\xff\0", None]),
    "pair": ("struct<x: double, y: string>", [(0.0, "a"), (-0.0, "a"), (float("nan"), None), (None, None), None]),
    "deep": ("struct<p: struct<x: double>, q: boolean>", [((0.0,), True), ((-0.0,), True), (None, True), None]),
    "odd. `name": ("string", ["a", None]),
    "_bucket": ("int", [1, 2, 3, 4, 5]),  # the plan has columns of these names
    "_FLOOR_us": ("bigint", [7, None]),
}


def keyed_rows(spark: SparkSession) -> DataFrame:
    schema = "ts timestamp, v long, " + ", ".join(f"`{name.replace('`', '``')}` {kind}" for name, (kind, _) in KEYED.items())
    pools = [pool for _, pool in KEYED.values()]
    return spark.createDataFrame([(moment(EVENING), n, *(pool[n % len(pool)] for pool in pools)) for n in range(60)], schema)


def counted(frame: DataFrame, names: Sequence[str], rows: str = "rows") -> DataFrame:
    """Each key as text, and how many rows it has."""
    columns = [F.col(f"`{name.replace('`', '``')}`") for name in names]
    return frame.select(F.to_json(F.struct(*columns), {"ignoreNullFields": "false"}).alias("key"), F.col(rows).alias("rows"))


def by_spark(frame: DataFrame, names: Sequence[str]) -> DataFrame:
    columns = [F.col(f"`{name.replace('`', '``')}`") for name in names]
    return counted(frame.groupBy(*columns).count(), names, "count")


def by_us(frame: DataFrame, names: Sequence[str], **more: Any) -> DataFrame:
    window = global_window().without_grace()
    asked: dict[str, Any] = {"event_time": "ts", "window": window, "aggregates": {"rows": count()}, "columns": [], "buckets": 4}
    return counted(results(aggregate(frame, keys=names, **asked, **more)), names)


def test_keys_of_each_type_group_as_in_sql(spark: SparkSession) -> None:
    frame = keyed_rows(spark).cache()
    keys = [["single"], ["double"], ["pair"], ["deep", "truth"], ["text", "raw"], ["exact", "tiny"], ["time", "local", "day"]]
    keys += [["whole", "odd. `name", "_FLOOR_us"], []]
    ours = reduce(DataFrame.unionAll, [by_us(frame, names) for names in keys])
    theirs = reduce(DataFrame.unionAll, [by_spark(frame, names) for names in keys])
    assert Counter(map(tuple, ours.collect())) == Counter(map(tuple, theirs.collect()))
    frame.unpersist()


def test_keys_of_each_type_come_back_from_the_state(spark: SparkSession, tmp_path: Path) -> None:
    frame = keyed_rows(spark).cache()
    for number in range(2):
        add(tmp_path / "in", number, frame.toArrow())
    found: dict[str, list[Any]] = {"all": [], "none": []}

    def into(name: str) -> Callable[[Any], None]:
        return lambda batch: found[name].append(batch.rows.collect())

    rows = source(spark, tmp_path / "in", delay=MINUTES, schema=frame.schema)
    queries = {name: by_us(rows, keys, trigger=each_batch()) for name, keys in (("all", [*KEYED]), ("none", []))}
    finish(*(begin(query, into(name), tmp_path / name) for name, query in queries.items()))
    wanted = Counter({row.key: row.rows for row in by_spark(frame, [*KEYED]).collect()})
    assert [Counter({row.key: row.rows for row in batch}) for batch in found["all"][:2]] == [wanted, wanted + wanted]
    assert [[row.rows for row in batch] for batch in found["none"][:2]] == [[60], [120]]
    frame.unpersist()


def test_the_zone_of_the_session_changes_nothing(spark: SparkSession, tmp_path: Path) -> None:
    events = disorder(3, origin=SPRING, unit=DAY // 2)
    for number, batch in enumerate(events):
        add(tmp_path / "in", number, batch)
    kind = KINDS["calendar"]
    zone = spark.conf.get("spark.sql.session.timeZone")
    spark.conf.set("spark.sql.session.timeZone", "Asia/Kolkata")
    try:
        sink = play(kind.over(source(spark, tmp_path / "in", delay=kind.delay), 3), tmp_path / "c")
    finally:
        spark.conf.set("spark.sql.session.timeZone", zone or "UTC")
    assert {number: sink.lines_of(number) for number in sink.rows} == expected(kind.model(), events, sink)
