"""What goes wrong around windows: refusals in the house form, and nothing lost once the fault is mended; end of input; timers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from spark_ext.errors import EngineError, QueryError, SchemaError, SettingsError
from spark_ext.queries import Batch
from spark_ext.state.control import Control
from spark_ext.time import with_watermark
from spark_ext.windows import (
    aggregate,
    assigned,
    each_batch,
    global_window,
    keep_last,
    results,
    session,
    sliding,
    tumbling,
)
from spark_ext.windows.aggregates import count, max, sum  # noqa: A004
from tests.window_queries import (
    HOUR,
    LATEST,
    MINUTE,
    NEVER,
    SECOND,
    Event,
    Line,
    Model,
    SessionModel,
    Sink,
    TimeModel,
    add,
    aligned,
    begin,
    evens,
    finish,
    moment,
    play,
    source,
    us,
)

pytestmark = pytest.mark.spark

NOON = us(datetime(2013, 1, 1, 12, tzinfo=UTC)) or 0
MINUTES = timedelta(minutes=1)
AGGREGATES = {"rows": count(), "total": sum("v")}
ASKED: dict[str, Any] = {
    "keys": ["k"], "event_time": "ts", "window": tumbling(MINUTES).without_grace(), "aggregates": AGGREGATES, "buckets": 8,
}  # fmt: skip


def asked(frame: DataFrame, **other: Any) -> DataFrame:
    return aggregate(frame, **{**ASKED, **other})


def events(*timed: tuple[str, float]) -> list[Event]:
    """Rows at seconds from noon; their numbers and values go up."""
    return [Event(number, key, NOON + round(at * SECOND), number + 1) for number, (key, at) in enumerate(timed)]


def fed(model: Model, files: dict[int, Sequence[Event]], sink: Sink, floors: dict[int, int] | None = None) -> Counter[Line]:
    """What a model gives out, fed with batches by number, watermarks as Spark wrote them down, and requests to close."""
    out, floor = Counter[Line](), NEVER
    for number, now in sorted(sink.watermarks.items()):
        floor = (floors or {}).get(number, floor)
        out.update(model.step(files.get(number, []), now if now > floor else floor))
    return out


def minutes() -> TimeModel:
    return TimeModel(aligned(MINUTE, MINUTE), 0)


def test_a_changed_job_is_refused_and_the_old_one_goes_on(spark: SparkSession, tmp_path: Path) -> None:
    folder, checkpoint = tmp_path / "in", tmp_path / "c"
    first, second = events(("a", 0), ("a", 100)), events(("a", 110), ("b", 130), ("c", 10), ("d", 400))
    add(folder, 0, first)
    sink = play(asked(source(spark, folder, delay=MINUTES)), checkpoint)
    add(folder, 1, second)
    changes: list[tuple[dict[str, Any], str]] = [
        (
            {"buckets": 3},
            r"cannot use state 'bucket \d': expected buckets 3, got buckets 8; the checkpoint was made with that; set it back",
        ),
        (
            {"window": tumbling(2 * MINUTES).without_grace()},
            r"expected window.length_us 120000000, got window.length_us 60000000; the",
        ),
        (
            {"window": tumbling(MINUTES).with_grace(MINUTES)},
            r"expected grace_us 60000000, got grace_us 0; the checkpoint was made",
        ),
        (
            {"aggregates": {**AGGREGATES, "most": max("v")}},
            r"expected aggregates.most .*v.*, got aggregates.most None; .*set it back, or give the changed job a new",
        ),
        ({"keys": ["k", "n"]}, r"expected keys \['k', 'n'\], types.n 'int64', got keys \['k'\], types.n None;"),
        (
            {"window": session(MINUTES).without_grace()},
            r"expected operator 'session_windows_v1', .*, got operator 'time_windows_v1', .*window.gap_us None",
        ),
    ]
    for change, message in changes:
        with pytest.raises(QueryError, match=message):
            play(asked(source(spark, folder, delay=MINUTES), **change), checkpoint)
    again = play(asked(source(spark, folder, delay=MINUTES)), checkpoint)
    assert sorted(again.rows) == [2, 3]
    again.put_behind(sink)
    assert again.lines() == fed(minutes(), {0: first, 2: second}, again)
    assert again.lines("window").total() == 4, "a twice in 12:00 and 12:01, b; c is late"


def right(times: Any) -> Any:
    start = times // MINUTE * MINUTE
    even = start // MINUTE % 2 == 0
    return np.where(even, start, -(2**62)), np.where(even, start + MINUTE, -(2**62))


def of_other_shape(times: Any) -> Any:
    return right(times)[0][:1], right(times)[1]


def of_other_type(times: Any) -> Any:
    return tuple(each.astype(float) for each in right(times))


def that_fails(times: Any) -> Any:
    raise KeyError(len(times))


@pytest.mark.parametrize(("wrong", "message"), [
    (of_other_shape, r"assigner 'evens_v1': expected starts as a NumPy array of shape \(\d+,\) and dtype int64, got shape \(1,\)"),
    (of_other_type, r"and dtype int64, got shape \(\d+,\) and dtype float64; floats do not hold microseconds exactly"),
    (that_fails, r"expected windows, got KeyError: \d; .*repair the function; the batch is read again when the query restarts"),
])  # fmt: skip
def test_nothing_is_lost_by_a_wrong_assigner(spark: SparkSession, tmp_path: Path, wrong: Callable[[Any], Any], message: str) -> None:
    folder, checkpoint = tmp_path / "in", tmp_path / "c"
    first, second = events(("a", 0), ("b", 20), ("b", 70)), events(("a", 30), ("b", 10), ("a", 500), ("c", 100))

    def windows(function: Callable[[Any], Any]) -> DataFrame:
        return asked(source(spark, folder, delay=MINUTES), window=assigned(function, name="evens_v1").without_grace(), buckets=1)

    add(folder, 0, first)
    sink = play(windows(right), checkpoint)
    add(folder, 1, second)
    with pytest.raises(QueryError, match=message):
        play(windows(wrong), checkpoint)
    again = play(windows(right), checkpoint)
    again.put_behind(sink)
    found = again.lines()
    assert found == fed(TimeModel(evens, 0), dict(zip(data_batches(again), (first, second), strict=True)), again)
    assert {line[1].n for line in found if line[0] == "outside"} == {2, 3}, "b at 70 s of the first batch, c at 100 s of the second"


def data_batches(sink: Sink) -> list[int]:
    """The numbers of batches with a file each, of a query that was started once per file and closed something each time."""
    numbers = sorted(sink.watermarks)
    return [numbers[0], numbers[-2]]


def test_an_absurd_event_time_is_invalid_and_moves_nothing(spark: SparkSession, tmp_path: Path) -> None:
    first = [*events(("a", 0), ("b", 90)), Event(7, "a", None, 1), Event(8, None, LATEST + 1, 2), Event(9, "a", -(10**16), 3)]
    second = events(("a", 30), ("a", 400))
    for number, batch in enumerate((first, second)):
        add(tmp_path / "in", number, batch)
    rows = with_watermark(source(spark, tmp_path / "in", delay=None), event_time="ts", lateness=MINUTES)
    sink = play(asked(rows, columns=["n", "k", "ts", "v"]), tmp_path / "c")
    assert sink.lines() == fed(minutes(), {0: first, 1: second}, sink)
    assert sorted(line[1].n for line in sink.lines("invalid")) == [7, 8, 9]
    assert sink.watermarks[1] == NOON + 30 * SECOND


def test_one_key_may_have_nine_rows_in_ten(spark: SparkSession, tmp_path: Path) -> None:
    batches = [[Event(n, "a" if n % 10 else f"k{n}", NOON + n * 1_000, 1) for n in range(at, at + 12_000)] for at in (0, 12_000)]
    for number, batch in enumerate(batches):
        add(tmp_path / "in", number, batch)
    sink = play(
        asked(source(spark, tmp_path / "in", delay=timedelta(0)), window=tumbling(timedelta(seconds=1)).without_grace()), tmp_path / "c"
    )
    assert sink.lines() == fed(TimeModel(aligned(SECOND, SECOND), 0), dict(enumerate(batches)), sink)


def test_the_end_of_input_closes_what_ends_by_then_and_the_query_can_go_on(spark: SparkSession, tmp_path: Path) -> None:
    folder, checkpoint, control = tmp_path / "in", tmp_path / "c", Control(str(tmp_path / "control"))
    keys = [*"abcdefgh"]
    first = events(*((key, at) for key in keys for at in (10, 50, 70, 130)))
    later = events(*((key, at) for key in keys for at in (55, 119, 120, 125, 300)))
    lead = timedelta(minutes=10)

    def run() -> Sink:
        return play(asked(source(spark, folder, delay=lead), control=control), checkpoint)

    add(folder, 0, first)
    sink = run()
    assert not sink.lines()
    until = NOON + 2 * MINUTE
    control.close(moment(until) or datetime.now(UTC))
    control.close(moment(until - 1) or datetime.now(UTC))
    control.close(moment(until) or datetime.now(UTC))
    floors = dict.fromkeys(range(len(sink.watermarks), 99), until)
    for _ in range(2):
        more = run()
        more.put_behind(sink)
        sink = more
        assert sink.lines() == fed(minutes(), {0: first}, sink, floors), "closed once; a further start repeats nothing"
    assert {line[1:3] for line in sink.lines()} == {(key, NOON + at * MINUTE) for key in keys for at in (0, 1)}
    asked_at = len(sink.watermarks)
    add(folder, 1, later)
    more = run()
    more.put_behind(sink)
    assert more.lines() == fed(minutes(), {0: first, asked_at: later}, more, floors)
    assert Counter(line[1].ts - NOON for line in more.lines("late")) == {55 * SECOND: 8, 119 * SECOND: 8}
    watermarks = {now for now in more.watermarks.values() if now > NEVER}
    assert watermarks == {NOON + at * SECOND - 10 * MINUTE for at in (130, 300)}, "it is the rows that move it"
    control.close(moment(NOON + HOUR) or datetime.now(UTC))
    last = run()
    assert Counter(line[1:3] + line[4:5] for line in last.lines()) == Counter(
        [(key, NOON + 2 * MINUTE, 3) for key in keys] + [(key, NOON + 5 * MINUTE, 1) for key in keys]
    )


def test_the_bounded_run_is_the_stream_with_nothing_late(spark: SparkSession, tmp_path: Path) -> None:
    folder, control = tmp_path / "in", Control(str(tmp_path / "control"))
    rows = events(*((key, at * 7 % 400) for at in range(60) for key in "aé"[: 1 + at % 2]))
    for number in range(2):
        add(folder, number, rows[number::2])
    kinds = {
        "tumbling": tumbling(MINUTES).without_grace(),
        "sliding": sliding(3 * MINUTES, every=MINUTES).with_grace(MINUTES),
        "session": session(timedelta(seconds=9)).without_grace(),
    }
    sinks: dict[str, list[Sink]] = {name: [Sink(), Sink()] for name in kinds}
    for turn in range(2):
        if turn:
            control.close(datetime(2100, 1, 1, tzinfo=UTC))
        frame = source(spark, folder, delay=timedelta(days=30))
        finish(*(begin(asked(frame, window=kinds[name], control=control), sinks[name][turn], tmp_path / name) for name in kinds))
    for name, window in kinds.items():
        bounded = Sink({0: asked(spark.read.parquet(str(folder)), window=window, engine="millrace").toArrow().to_pylist()})
        assert not sinks[name][0].lines()
        assert sinks[name][1].lines() == bounded.lines()
        model = SessionModel(9 * SECOND, 0) if name == "session" else TimeModel(aligned(3 * MINUTE, MINUTE), MINUTE)
        model = minutes() if name == "tumbling" else model
        assert bounded.lines() == Counter([*model.step(rows, NEVER), *model.step([], 10**18)])


def test_a_bucket_without_rows_gives_out_its_windows_when_they_are_due(spark: SparkSession, tmp_path: Path) -> None:
    batches = [events(("a", 0), ("b", 59.999999), ("c", 1)), events(("a", 119.999)), events(("a", 120)), events(("a", 130))]
    for number, batch in enumerate(batches):
        add(tmp_path / "in", number, batch)
    sink = play(asked(source(spark, tmp_path / "in", delay=MINUTES)), tmp_path / "c")
    by_batch = {number: Counter(line[1] for line in sink.lines_of(number)) for number in sink.rows}
    assert by_batch == {0: {}, 1: {}, 2: {}, 3: {"a": 1, "b": 1, "c": 1}, 4: {}}, "not a millisecond too early, nor late, and once"
    assert sink.watermarks[2] == NOON + 59_999_000
    assert sink.watermarks[3] == NOON + MINUTE


def test_hours_of_minutes_through_a_table(spark: SparkSession, tmp_path: Path) -> None:
    """What Spark refuses in one query: an aggregate of aggregates."""
    rows = events(*(("ab"[at % 3 == 0], at * 37.5) for at in range(240)))
    for number in range(2):
        add(tmp_path / "in", number, rows[number * 120 : number * 120 + 120])
    table = str(tmp_path / "minutes")
    ends = [Control(str(tmp_path / name)) for name in ("end of one", "end of two")]

    def store(batch: Batch) -> None:
        batch_minutes = results(batch.rows).select("k", F.col("window.start").alias("ts"), "rows", "total")
        options = {"txnAppId": batch.app_id, "txnVersion": str(batch.batch_id)}
        batch_minutes.write.format("delta").mode("append").options(**options).save(table)

    for turn in range(2):
        if turn:
            ends[0].close(datetime(2100, 1, 1, tzinfo=UTC))
        finish(begin(asked(source(spark, tmp_path / "in", delay=MINUTES), control=ends[0]), store, tmp_path / "one"))
    stored = spark.readStream.format("delta").load(table).withWatermark("ts", "0 seconds")
    sums = {"rows": sum("rows"), "total": sum("total")}
    found: list[Any] = []
    for _ in range(2):
        hours = asked(stored, window=tumbling(timedelta(hours=1)).without_grace(), aggregates=sums, columns=["ts"], control=ends[1])
        finish(begin(hours, lambda batch: found.extend(batch.rows.toArrow().to_pylist()), tmp_path / "two"))
        ends[1].close(datetime(2100, 1, 1, tzinfo=UTC))
    assert {row["tag"] for row in found} == {"window"}
    wanted: dict[Any, list[int]] = {}
    for event in rows:
        wanted.setdefault((event.k, (event.ts or 0) // HOUR * HOUR), []).append(event.v or 0)
    values = {(row["k"], us(row["window"]["start"])): (row["rows"], row["total"]) for row in found}
    assert values == {key: (len(hour), int(np.sum(hour))) for key, hour in wanted.items()}
    assert len(found) == len(wanted) == 6


def stream(spark: SparkSession) -> DataFrame:
    rows = spark.readStream.format("rate").load().withWatermark("timestamp", "1 minute")
    return rows.selectExpr(
        "timestamp AS ts",
        "value AS v",
        "string(value) AS k",
        "cast(timestamp AS timestamp_ntz) AS local",
        "array(value) AS list",
        "collate(string(value), 'UTF8_LCASE') AS nocase",
    )


@pytest.mark.parametrize(("other", "kind", "message"), [
    ({"keys": ["key"]}, SchemaError, r"cannot read column 'key': expected one of \['ts', .*\], got no such column; correct the name"),
    ({"event_time": "at"}, SchemaError, r"cannot read column 'at': .*no such column"),
    ({"columns": ["w"]}, SchemaError, r"cannot read column 'w': .*no such column"),
    ({"aggregates": {"most": max("w")}}, SchemaError, r"cannot read column 'w': .*no such column"),
    ({"event_time": "v"}, SchemaError, r"cannot use event time 'v': expected type timestamp, got bigint; cast it to timestamp"),
    ({"event_time": "local"}, SchemaError, r"cannot use event time 'local': expected type timestamp, got timestamp_ntz"),
    ({"keys": ["list"]}, SchemaError, r"cannot group by key 'list': expected a plain value or a struct.*to_json"),
    ({"keys": ["nocase"]}, SchemaError, r"cannot group by key 'nocase': expected text that is equal when its bytes are, got string"),
    ({"aggregates": {}}, SettingsError, r"cannot name columns 'of the result': expected results with names of their own"),
    ({"aggregates": {"k": count()}}, SettingsError, r"names of their own, other than keys and tag, window, is_final.*rename them"),
    ({"aggregates": {"Event": count()}}, SettingsError, r"got \['k', 'Event'\]; rename them"),
    ({"keys": ["k", "k"]}, SettingsError, r"got \['k', 'k', 'rows', 'total'\]; rename them"),
    ({"aggregates": {"total": sum("k")}}, SchemaError, r"cannot .*'k'.*string"),
    ({"window": tumbling(MINUTES)}, SettingsError, r"cannot use window 'tumbling': expected a lateness policy, got none"),
    ({"window": global_window().without_grace()}, SettingsError, r"cannot use trigger 'on_close of the global window': .*each_batch\(\)"),
    ({"eviction": keep_last(2)}, SettingsError, r"cannot use eviction 'of tumbling windows': expected keep_all\(\)"),
    ({"ttl": MINUTES}, SettingsError, r"cannot use ttl 'of tumbling windows': expected None, got another; its state goes with"),
    ({"engine": "spark"}, SettingsError, r"cannot use engine 'spark': .*got on a stream Spark's own aggregation drops late rows"),
    ({"engine": "flink"}, SettingsError, r"cannot use engine 'flink': expected auto, millrace or spark"),
    ({"buckets": 0}, SettingsError, r"cannot use number 'buckets': expected 1 to 16384, got 0"),
    ({"earliest": datetime(1900, 1, 1)}, SettingsError, r"cannot use bound 'earliest': expected a time with a zone"),  # noqa: DTZ001 (the fault)
])  # fmt: skip
def test_what_does_not_fit_is_refused_before_it_runs(spark: SparkSession, other: Any, kind: type[EngineError], message: str) -> None:
    with pytest.raises(kind, match=message):
        asked(stream(spark), **other)


def test_a_stream_without_a_watermark_is_refused(spark: SparkSession) -> None:
    rows = spark.readStream.format("rate").load().selectExpr("timestamp AS ts", "value AS v", "string(value) AS k")
    message = r"cannot use stream 'without a watermark': expected .*, got none; nothing would ever close, .*; use spark_ext.time"
    with pytest.raises(SettingsError, match=message):
        asked(rows)


def test_triggers_of_the_global_window_are_taken(spark: SparkSession) -> None:
    assert asked(stream(spark), window=global_window().without_grace(), trigger=each_batch()).isStreaming
