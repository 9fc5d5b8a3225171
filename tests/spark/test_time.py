"""Watermarks of real streams over several sources: the slowest holds, the silent is let go, the absurd moves nothing."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.streaming.query import StreamingQuery
from tenacity import retry, retry_if_result, stop_after_delay, wait_fixed

from spark_ext.errors import SchemaError, SettingsError
from spark_ext.time import IdleWatch, guarded, lateness_histogram, skew, union, with_watermark
from spark_ext.time.idle import Seen, silent

pytestmark = pytest.mark.spark

START = datetime(2013, 1, 1, tzinfo=UTC)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SCHEMA = "at timestamp, n bigint"
LATENESS = timedelta(seconds=5)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


@dataclass
class Script:
    """A query over folders of files; each step is one file in one of them, and so one batch."""

    folder: Path
    query: StreamingQuery | None = None
    rows: dict[int, list[Row]] = field(default_factory=dict)
    files: int = 0

    def source(self, spark: SparkSession, name: str, schema: str = SCHEMA) -> DataFrame:
        (self.folder / name).mkdir(exist_ok=True)
        return spark.readStream.schema(schema).json(str(self.folder / name))

    @contextmanager
    def running(self, frame: DataFrame) -> Any:
        writer = frame.writeStream.foreachBatch(self._take).option("checkpointLocation", str(self.folder / "checkpoint"))
        self.query = writer.start()
        try:
            self.query.processAllAvailable()
            yield
        finally:
            self.query.stop()

    def step(self, name: str, *rows: Mapping[str, Any]) -> datetime:
        """Bring rows from one source; return the watermark that their batch was run with."""
        assert self.query is not None
        self.files += 1
        aside = self.folder / f"{self.files}.json"
        aside.write_text("\n".join(json.dumps(row, default=datetime.isoformat) for row in rows))
        aside.rename(self.folder / name / aside.name)
        self.query.processAllAvailable()
        return self.watermark()

    def watermark(self) -> datetime:
        """Of the last batch, from what Spark wrote down when it planned it."""
        offsets = self.folder / "checkpoint" / "offsets"
        last = max(int(file.name) for file in offsets.iterdir() if file.name.isdigit())
        metadata = json.loads((offsets / str(last)).read_text().splitlines()[1])
        return EPOCH + timedelta(milliseconds=metadata["batchWatermarkMs"])

    def _take(self, frame: DataFrame, batch_id: int) -> None:
        self.rows[batch_id] = frame.collect()

    @property
    def numbers(self) -> list[int]:
        return [row.n for number in sorted(self.rows) for row in self.rows[number]]


def event(seconds: float, n: int = 0) -> dict[str, Any]:
    return {"at": at(seconds), "n": n}


@pytest.fixture
def script(tmp_path: Path) -> Script:
    return Script(tmp_path)


def both(spark: SparkSession, script: Script, **more: Any) -> DataFrame:
    return union({"a": script.source(spark, "a"), "b": script.source(spark, "b")}, event_time="at", lateness=LATENESS, **more)


def test_the_slowest_source_holds_the_watermark(spark: SparkSession, script: Script) -> None:
    with script.running(both(spark, script)):
        assert script.step("a", event(100, 1)) == EPOCH
        assert script.step("b", event(50, 2)) == EPOCH, "b has said nothing"
        assert script.step("a", event(200, 3)) == at(45)
        assert script.step("a", event(300, 4)) == at(45), "b has said nothing since"
        assert script.step("b", event(40, 5), event(120, 6)) == at(45)
        assert script.step("b", event(500, 7)) == at(115)
        assert script.step("b", event(0, 8)) == at(295), "now a is the slowest"
    assert sorted(script.numbers) == list(range(1, 9))
    names = {row.n: row.source_name for rows in script.rows.values() for row in rows}
    assert names == {1: "a", 3: "a", 4: "a", 2: "b", 5: "b", 6: "b", 7: "b", 8: "b"}


def test_each_source_may_have_its_own_lateness(spark: SparkSession, script: Script) -> None:
    sources = {"a": script.source(spark, "a"), "b": script.source(spark, "b")}
    frame = union(sources, event_time="at", lateness={"a": timedelta(seconds=50), "b": timedelta(milliseconds=1500)})
    with script.running(frame):
        script.step("a", event(100))
        script.step("b", event(100))
        assert script.step("a", event(200)) == at(50)
        assert script.step("a", event(0)) == at(98.5)


def test_absurd_event_times_move_nothing_and_their_rows_go_on(spark: SparkSession, script: Script) -> None:
    frame = with_watermark(script.source(spark, "a"), event_time="at", lateness=LATENESS, earliest=START)
    with script.running(frame):
        future = {"at": datetime(2999, 1, 1, tzinfo=UTC), "n": 2}
        script.step("a", event(100, 1), future, {"at": None, "n": 3}, event(-1, 4))
        assert script.step("a", {"at": datetime.now(UTC) + timedelta(minutes=11), "n": 5}) == at(95)
        assert script.step("a", event(60, 6)) == at(95)
    assert sorted(script.numbers) == [1, 2, 3, 4, 5, 6]
    marked = {row.n for rows in script.rows.values() for row in rows if row.watermark_time is not None}
    assert marked == {1, 6}


def test_a_source_with_a_clock_is_watermarked_on_that(spark: SparkSession, script: Script) -> None:
    sources = {"a": script.source(spark, "a", f"{SCHEMA}, event_clock timestamp"), "b": script.source(spark, "b")}
    frame = union(sources, event_time="at", lateness=LATENESS)
    # The clock comes in a row that no filter on events lets through; Spark would move this one in front of the watermark.
    with script.running(frame.where("n > 0").drop("watermark_time")):
        script.step("a", event(900, 1), {"event_clock": at(20)})
        script.step("b", event(800, 2))
        assert script.step("a", event(900, 3), {"event_clock": at(30)}) == at(15)
        assert script.step("a", event(900, 4)) == at(25)
    assert "event_clock" not in frame.columns
    assert sorted(script.numbers) == [1, 2, 3, 4]


def test_a_silent_source_is_let_go_and_holds_again_when_it_speaks(spark: SparkSession, script: Script) -> None:
    now = [START]
    watch = IdleWatch(str(script.folder / "idle"), timedelta(minutes=5), clock=lambda: now[0])
    frame = both(spark, script, idle=watch)
    listener = watch.start(spark)
    try:
        with script.running(frame):
            script.step("b", event(10, 1))
            script.step("a", event(100, 2))
            wait_until(lambda: watch.seen("a").newest == at(100))  # reports come a little later than batches
            now[0] += timedelta(minutes=4)
            assert script.step("a", event(200, 3)) == at(5)
            wait_until(lambda: watch.seen("a").newest == at(200))
            assert not list((script.folder / "idle" / "b").glob("*.json")), "4 minutes are not enough"
            now[0] += timedelta(minutes=1)
            script.step("a", event(300, 4))
            wait_until(lambda: watch.seen("b").newest == at(300))
            assert script.step("a", event(310, 5)) in {at(5), at(295)}  # what was said and this row come in one batch, or in two
            assert script.step("a", event(320, 6)) == at(295)
            wait_until(lambda: watch.seen("a").newest == at(320))
            assert watch.seen("b").newest == at(300), "it is moved once a minute"
            now[0] += timedelta(minutes=1)
            script.step("a", event(330, 7))
            wait_until(lambda: watch.seen("b").newest == at(330))
            assert script.step("b", event(100, 8)) in {at(295), at(325)}, "it is late, and back"
            wait_until(lambda: watch.seen("b").heard == now[0])
            assert script.step("a", event(900, 9)) == at(325)
            assert script.step("b", event(400, 10)) == at(325), "it holds again"
            assert script.step("a", event(901, 11)) == at(395)
    finally:
        spark.streams.removeListener(listener)
    assert sorted(script.numbers) == list(range(1, 12)), "what was said is no row"


@retry(retry=retry_if_result(lambda done: not done), stop=stop_after_delay(60), wait=wait_fixed(0.02))
def wait_until(condition: Callable[[], bool]) -> bool:
    return condition()


def test_a_restart_keeps_the_watermark_and_a_replay_repeats_its_batch(spark: SparkSession, script: Script) -> None:
    with script.running(both(spark, script)):
        script.step("a", event(100, 1))
        script.step("b", event(50, 2))
        script.step("a", event(200, 3))
    last = max(script.rows)
    before = sorted(map(str, script.rows[last]))
    (script.folder / "checkpoint" / "commits" / str(last)).unlink()
    (script.folder / "checkpoint" / "commits" / f".{last}.crc").unlink(missing_ok=True)
    assert script.watermark() == at(45)
    with script.running(both(spark, script)):
        assert script.watermark() == at(45)
        assert sorted(map(str, script.rows[last])) == before
        assert script.step("a", event(300, 4)) == at(45)
        assert script.step("b", event(150, 5)) == at(45), "never back, though b has not spoken since"
        assert script.step("a", event(0, 6)) == at(145)
    assert sorted(script.numbers) == [1, 2, 3, 4, 5, 6]


def test_bounded_frames_are_joined_alike(spark: SparkSession) -> None:
    a = spark.createDataFrame([(at(1), 1, "x")], "at timestamp, n int, only_a string")
    b = spark.createDataFrame([(2, at(2))], "n int, at timestamp")
    joined = union({"a": a, "b": b}, event_time="at", lateness=LATENESS)
    assert joined.columns == ["at", "n", "only_a", "source_name", "watermark_time"]
    assert sorted((row.n, row.only_a, row.source_name) for row in joined.collect()) == [(1, "x", "a"), (2, None, "b")]


def test_what_cannot_be_is_refused(spark: SparkSession, script: Script) -> None:
    a, given = script.source(spark, "a"), {"event_time": "at", "lateness": LATENESS}
    with pytest.raises(SettingsError, match="one or more"):
        union({}, **given)  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="all streams or all bounded"):
        union({"a": a, "b": spark.createDataFrame([], SCHEMA)}, **given)  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match=r"source 'a': expected its lateness.*name every source"):
        union({"a": a}, event_time="at", lateness={"b": LATENESS})
    with pytest.raises(SchemaError, match="column 'n': expected a column of type timestamp, got bigint"):
        with_watermark(a, event_time="n", lateness=LATENESS)
    with pytest.raises(SchemaError, match=r"column 'gone'.*name the column of event time"):
        with_watermark(a, event_time="gone", lateness=LATENESS)
    with pytest.raises(SchemaError, match=r"column 'watermark_time'.*its watermark once"):
        with_watermark(with_watermark(a, **given), **given)  # type: ignore[arg-type]
    with pytest.raises(SchemaError, match=r"column 'source_name'.*rename"):
        union({"a": a.withColumn("source_name", F.lit(""))}, **given)  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="lateness '-1 day, 0:00:00'"):
        with_watermark(a, event_time="at", lateness=timedelta(days=-1))
    with pytest.raises(SettingsError, match="earliest with a zone"):
        guarded("at", earliest=datetime(2013, 1, 1))  # noqa: DTZ001 (what is refused)
    with pytest.raises(SettingsError, match="after above 0"):
        IdleWatch(str(script.folder), timedelta(0))
    with pytest.raises(SettingsError, match=r"source 'a/b'.*it names a folder"):
        union({"a/b": a}, idle=IdleWatch(str(script.folder), LATENESS), **given)  # type: ignore[arg-type]
    spark.conf.set("spark.sql.streaming.multipleWatermarkPolicy", "max")
    try:
        with pytest.raises(SettingsError, match="multipleWatermarkPolicy': expected 'min', got 'max'; the fastest"):
            union({"a": a}, **given)  # type: ignore[arg-type]
    finally:
        spark.conf.unset("spark.sql.streaming.multipleWatermarkPolicy")


MINUTE = timedelta(minutes=1)


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        ({"a": Seen(at(0), at(9))}, {}),
        ({"a": Seen(at(60), at(9)), "b": Seen(at(0), at(5))}, {"b": at(9)}),
        ({"a": Seen(at(60), at(9)), "b": Seen(at(1), at(5))}, {}),
        ({"a": Seen(at(60), at(9)), "b": Seen(at(0), at(9))}, {}),
        ({"a": Seen(at(60), at(9)), "b": Seen(at(0), None), "c": Seen(at(60), at(7))}, {"b": at(7)}),
        ({"a": Seen(at(60), at(9)), "b": Seen(at(0), at(5)), "c": Seen(at(60), None)}, {}),
        ({"a": Seen(at(0), at(9)), "b": Seen(at(0), at(5))}, {}),
    ],
    ids=["alone", "silent", "not yet", "as far", "slowest of the others", "unknown how far", "all silent"],
)
def test_who_is_silent_follows_the_slowest_that_is_not(seen: dict[str, Seen], expected: dict[str, datetime]) -> None:
    assert silent(seen, now=at(60), after=MINUTE) == expected


def test_a_report_is_taken_in_and_a_silent_source_moved_once_in_a_while(tmp_path: Path) -> None:
    now = [START]
    watch = IdleWatch(str(tmp_path), MINUTE, every=MINUTE, clock=lambda: now[0])
    watch.listen("a")
    watch.listen("b")

    def report(minutes: float, **newest: int | None) -> dict[str, datetime]:
        now[0] = START + minutes * MINUTE
        rows = {name: {"rows": int(one is not None), "newest_us": one and micros(at(one))} for name, one in newest.items()}
        return watch.note({watch.metric(name): row for name, row in rows.items()} | {"another": {"rows": 1, "newest_us": 0}})

    assert report(0.5, a=100, b=None) == {}
    assert report(1.1, a=200, b=None) == {"b": at(200)}, "b was silent since it was first looked at"
    assert report(1.9, a=300) == {}, "not yet again"
    assert report(2.1, a=250) == {"b": at(300)}, "what is newest does not go back"
    assert report(2.2, b=10) == {}
    assert report(3.3, a=400) == {"b": at(400)}
    assert report(4.0, b=500) == {}
    assert report(4.9) == {"a": at(500)}, "each may be the silent one"
    assert report(9.0) == {}, "all are"
    said = sorted(int(file.stem.removeprefix("until-")) for file in (tmp_path / "b").iterdir())
    assert said == [micros(at(seconds)) for seconds in (200, 300, 400)]


def class_of(behind_us: int) -> tuple[int, int]:
    """The class by counting up from the smallest."""
    low, high = (0, 1) if behind_us >= 0 else (-1, 0)
    while not low * 1_000_000 <= behind_us < high * 1_000_000:
        low, high = (high, 2 * high) if behind_us >= 0 else (2 * low, low)
    return low, high


def test_lateness_is_counted_in_its_classes(spark: SparkSession) -> None:
    mark = START - timedelta(days=3, microseconds=17)
    behind = [0, 1, *(2**power * 1_000_000 + off for power in range(36) for off in (-1, 0, 1))]
    ahead = [micros(mark) + off + (2**power * 1_000_000 if power >= 0 else 0) for power in range(-1, 18) for off in (-1, 0, 1)]
    records = [("ab"[at % 2], time) for at, time in enumerate([*(micros(START) - one for one in behind), *ahead, None])]
    frame = spark.createDataFrame(records, "source string, t bigint").select("source", F.timestamp_micros("t").alias("at"))
    wanted = Counter(
        (source, name, *((None, None) if t is None else class_of(micros(reference) - t)))
        for name, reference in (("newest", START), ("watermark", mark))
        for source, t in records
    )
    found = lateness_histogram(frame, event_time="at", watermark=mark, source="source").collect()
    assert {tuple(row)[:4]: row.rows for row in found} == wanted
    alone = lateness_histogram(frame, event_time="at").agg(F.sum("rows"), F.count_distinct("reference")).first()
    assert alone is not None
    assert tuple(alone) == (len(records), 1)


def micros(time: datetime) -> int:
    return (time - EPOCH) // timedelta(microseconds=1)


def test_skew_is_how_far_each_is_behind_the_furthest(spark: SparkSession) -> None:
    records: Sequence[tuple[Any, ...]] = [("a", 0, at(1)), ("a", 0, at(90.5)), ("a", 1, at(100)), ("b", 0, at(40)), ("c", 0, None)]
    frame = spark.createDataFrame(records, "topic string, partition int, at timestamp")
    found = skew(
        frame.select(F.struct("topic", "partition").alias("source"), "at"), event_time="at", by=["source.topic", "source.partition"]
    )
    assert found.columns == ["topic", "partition", "rows", "newest", "behind_s"]
    known = {(row.topic, row.partition): (row.rows, row.behind_s) for row in found.collect()}
    assert known == {("a", 0): (2, 9.5), ("a", 1): (1, 0.0), ("b", 0): (1, 60.0), ("c", 0): (1, None)}
