"""DStreams as DataFrames, Delta tables, epochs, sketches and streaming DataFrames."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable
from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F

from sketches import HyperLogLog, Quantiles
from spark_ext import queries, windows
from spark_ext.delta import commits
from spark_ext.delta.arrow import read_arrow
from spark_ext.dstream import StreamingContext
from spark_ext.dstream.errors import BatchError, StreamArgumentError
from spark_ext.epochs import Append, Ledger, Outbox, Upsert
from spark_ext.queries import Checkpoint
from spark_ext.time import with_watermark
from spark_ext.windows.aggregates import count

pytestmark = pytest.mark.spark

WAIT_S = 250
Pairs = list[list[tuple[str, int]]]
WORDS: Pairs = [[("a", 1), ("b", 2)], [("a", 3)], [("c", 4), ("a", 5), ("c", 6)]]
MINUTE = timedelta(minutes=1)


def run(spark: SparkSession, build: Callable[[StreamingContext], None], batches: int, folder: Path) -> None:
    """Run a program for so many batches, or on from where its checkpoint in `folder` ends."""

    def program() -> StreamingContext:
        ssc = StreamingContext(spark.sparkContext, 1, pace="asap")
        build(ssc)
        return ssc

    ssc = StreamingContext.getOrCreate(str(folder), program)
    try:
        ssc.start()
        assert ssc.awaitBatches(batches, WAIT_S)
    finally:
        ssc.stop(False)


def rows_of(path: Path) -> list[tuple[Any, ...]]:
    return sorted(tuple(row.values()) for row in read_arrow(DeltaTable(str(path))).to_pylist())


def test_frames_are_what_create_data_frame_makes_and_tuples_what_its_rdd_has(spark: SparkSession, tmp_path: Path) -> None:
    ddl = (
        "t timestamp, l timestamp_ntz, d decimal(6,2), day date, b binary, x double, small smallint, "
        "list array<string>, map map<string,int>, part struct<p: int, q: string>"
    )
    at = datetime(2024, 3, 31, 1, 30, 0, 123456)  # noqa: DTZ001 (local, as Spark takes it)
    zoned = at.replace(tzinfo=timezone(timedelta(hours=5)))
    full = (at, at, Decimal("12.30"), date(2024, 2, 29), b"\x00\xff", 0.1, 7, ["a", None], {"k": 1}, (1, "ü"))
    elements = [full, (zoned, *full[1:]), (None,) * 10, Row(*full), (*full[:9], {"p": 2, "q": None})]
    simple = [("ä", 1, 0.5, True, b"z"), ("", -(2**31), float("inf"), False, b"")]
    seen: list[list[Row]] = []
    tuples: list[list[Any]] = []

    def build(ssc: StreamingContext) -> None:
        typed = ssc.queueStream([elements]).toDF(ddl)
        typed.foreachBatch(lambda frame: seen.append(frame.collect()))
        typed.toDStream().foreachRDD(lambda rdd: tuples.append(rdd.collect()))
        named = ssc.queueStream([simple]).toDF(["s", "n", "x", "is", "b"])
        named.foreachBatch(lambda frame, _: seen.append(frame.collect()))
        named.transform(lambda frame: frame.select("s", F.col("n").cast("int").alias("i"), "b", F.lit(None).cast("double"))).toDStream(
        ).foreachRDD(lambda rdd: tuples.append(rdd.collect()))  # fmt: skip
        ssc.queueStream([[5, 6]]).foreachBatch(lambda frame: seen.append(frame.collect()))

    run(spark, build, 1, tmp_path)
    expected = spark.createDataFrame(elements, ddl)
    assert seen[0] == expected.collect()
    assert tuples[0] == [tuple(row) for row in expected.collect()]
    assert seen[1] == spark.createDataFrame(simple, "s string, n long, x double, is boolean, b binary").collect()
    assert tuples[1] == [("ä", 1, b"z", None), ("", -(2**31), b"", None)]
    assert seen[2] == [Row(value=5), Row(value=6)]


def test_each_batch_has_one_frame_also_without_rows_its_time_and_its_view(spark: SparkSession, tmp_path: Path) -> None:
    told: list[Any] = []

    def build(ssc: StreamingContext) -> None:
        frames = ssc.queueStream([[], *WORDS[:2], []]).toDF(["word", "n"])
        timed = frames.transform(lambda frame, time: frame.withColumn("at", F.lit(time)))
        frames.createOrReplaceTempView("words_of_batch")
        timed.foreachBatch(lambda frame, time: told.append((time, frame.dtypes, [tuple(row) for row in frame.collect()])))
        frames.foreachBatch(lambda _: told.append(spark.sql("SELECT sum(length(word) * 10) FROM words_of_batch").first()))

    run(spark, build, 4, tmp_path)
    times = [time for time, *_ in told[::2]]
    assert [later - earlier for earlier, later in pairwise(times)] == [timedelta(seconds=1)] * 3
    assert told[0][1] == [("word", "void"), ("n", "void"), ("at", "timestamp")]  # nothing is known of the types yet
    assert [kinds for _, kinds, _ in told[2::2]] == [[("word", "string"), ("n", "bigint"), ("at", "timestamp")]] * 3
    assert [rows for *_, rows in told[::2]] == [
        [(*pair, time) for pair in batch] for time, batch in zip(times, [[], *WORDS[:2], []], strict=True)
    ]
    assert [row[0] for row in told[1::2]] == [None, 20, 10, None]


def test_a_value_that_does_not_fit_fails_its_batch_by_name(spark: SparkSession, tmp_path: Path) -> None:
    stream: list[list[Any]] = [[("a", 1)], [("b", 1), ("c", "x")]]
    with pytest.raises(
        BatchError, match=r"data frame of 'batch 1 of queueStream at test_dstream_bridges.py:\d+'.*column 'n' int, got 'x' \(str\)"
    ):
        run(spark, lambda ssc: ssc.queueStream(stream).toDF("word string, n int").foreachBatch(lambda frame: frame.collect()), 2, tmp_path)


def test_a_schema_that_is_none_and_saves_that_clash_are_refused(spark: SparkSession, tmp_path: Path) -> None:
    ssc = StreamingContext(spark.sparkContext, 1)
    stream = ssc.queueStream(WORDS)
    for schema, text in (
        ("word words words", "expected a StructType, a DDL"),
        (["a", "a"], "a name of its own"),
        ([], "at least one"),
        ("a void", "void"),
    ):
        with pytest.raises(StreamArgumentError, match=text):
            stream.toDF(schema)
    with pytest.raises(StreamArgumentError, match="before any element has come"):
        stream.toStreamingDF(str(tmp_path / "s"), ["a"])  # type: ignore[arg-type]
    stream.saveToDelta(str(tmp_path / "t"))
    with pytest.raises(StreamArgumentError, match="Delta would take the second for a replay"):
        stream.saveToDelta(str(tmp_path / "t"))
    with pytest.raises(StreamArgumentError, match="expected a ledger for such a sink"):
        stream.saveToDelta(Outbox(str(tmp_path / "o")))
    with pytest.raises(StreamArgumentError, match="an epoch for each batch, got one each 2000 ms"):
        stream.window(4, 2).saveToDelta(str(tmp_path / "w"), ledger=str(tmp_path / "ledger"))
    stream.saveToDelta(str(tmp_path / "e"), ledger=str(tmp_path / "ledger"), pipeline="p")
    with pytest.raises(StreamArgumentError, match="a pipeline's name for each output"):
        stream.saveToDelta(str(tmp_path / "e2"), ledger=str(tmp_path / "ledger"), pipeline="p")


def test_a_batch_that_is_tried_again_is_in_each_table_once(spark: SparkSession, tmp_path: Path) -> None:
    fails = {1: True}  # batch 1, after it has been written everywhere

    def build(ssc: StreamingContext) -> None:
        stream = ssc.queueStream([*WORDS, []])
        stream.saveToDelta(str(tmp_path / "plain"), "word string, n bigint")
        stream.saveToDelta(Upsert(str(tmp_path / "latest"), keys=["word"], sequence="n"), ["word", "n"])
        stream.toDF("word string, n int").saveToDelta(str(tmp_path / "epochs"), ledger=str(tmp_path / "ledger"), pipeline="words")

        def once(time: datetime, rdd: Any) -> None:
            del time
            if fails.pop(len(rows_of(tmp_path / "plain")) - 2, False):  # three rows: batches 0 and 1
                raise RuntimeError("after the save")

        stream.foreachRDD(once)

    with pytest.raises(BatchError, match="after the save"):
        run(spark, build, 4, tmp_path / "checkpoint")
    assert rows_of(tmp_path / "plain") == [("a", 1), ("a", 3), ("b", 2)]
    run(spark, build, 3, tmp_path / "checkpoint")
    everything = sorted(pair for batch in WORDS for pair in batch)
    assert rows_of(tmp_path / "plain") == rows_of(tmp_path / "epochs") == everything
    assert rows_of(tmp_path / "latest") == sorted(dict(everything).items())
    assert [commit.rows for commit in commits(str(tmp_path / "plain"))] == [3, 1, 2]  # one for each batch with rows
    ledger = Ledger(str(tmp_path / "ledger")).rows("words")
    assert [(row.epoch, row.batch_id, row.read, row.accepted, row.is_balanced) for row in ledger] == [
        (0, 0, 2, 2, True), (1, 1, 1, 1, True), (2, 2, 3, 3, True), (3, 3, 0, 0, True)
    ]  # fmt: skip


def test_a_new_run_writes_its_own_batches_and_many_rows_go_by_spark(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spark_ext.dstream.bridges.tables.DRIVER_ROWS", 2)
    for folder in ("first", "second"):
        run(spark, lambda ssc: ssc.queueStream(WORDS).saveToDelta(Append(str(tmp_path / "t")), "word string, n long"), 3, tmp_path / folder)
    assert rows_of(tmp_path / "t") == sorted(2 * [pair for batch in WORDS for pair in batch])
    assert [commit.rows for commit in commits(str(tmp_path / "t"))] == [3, 1, 2, 3, 1, 2]


def test_sketches_per_batch_and_window_are_within_their_bounds(spark: SparkSession, tmp_path: Path) -> None:
    # Key k of batch b sees visitors 100 b ... 100 b + 300 k: windows overlap, so counts do not simply add up.
    batches = [[(f"k{key}", 100 * b + visitor) for key in (1, 2, 3) for visitor in range(300 * key)] for b in range(4)]
    by_batch: list[dict[str, HyperLogLog]] = []
    by_window: list[dict[str, HyperLogLog]] = []
    whole: list[list[Quantiles]] = []

    def build(ssc: StreamingContext) -> None:
        stream = ssc.queueStream([ssc.sparkContext.parallelize(batch, 3) for batch in batches])
        stream.sketchByKey(HyperLogLog(12)).foreachRDD(lambda rdd: by_batch.append(dict(rdd.collect())))
        stream.sketchByKeyAndWindow(HyperLogLog(12), 3, 1, 2).foreachRDD(lambda rdd: by_window.append(dict(rdd.collect())))
        stream.map(lambda pair: float(pair[1])).sketch(Quantiles()).foreachRDD(lambda rdd: whole.append(rdd.collect()))

    run(spark, build, 4, tmp_path)
    for at in range(4):
        for made, first in ((by_batch[at], at), (by_window[at], max(0, at - 2))):
            values: dict[str, set[int]] = defaultdict(set)
            for key, value in (pair for batch in batches[first : at + 1] for pair in batch):
                values[key].add(value)
            assert made.keys() == values.keys()
            for key, found in made.items():
                alone = HyperLogLog(12)
                for value in sorted(values[key]):
                    alone.update(value)
                assert found.to_bytes() == alone.to_bytes()
                assert found.lower_bound(0.999) <= len(values[key]) <= found.upper_bound(0.999)
        (quantiles,) = whole[at]
        ordered = sorted(value for _, value in batches[at])
        assert quantiles.count == len(ordered)
        rank = sum(value <= quantiles.quantile(0.5) for value in ordered) / len(ordered)
        assert abs(rank - 0.5) <= 3 * quantiles.rank_error()


def test_windows_of_ours_run_on_a_stream(spark: SparkSession, tmp_path: Path) -> None:
    zero = datetime(2024, 1, 1, tzinfo=UTC)
    batches = [[("a", zero + timedelta(seconds=s)) for s in some] for some in ([0, 20, 61], [30, 70, 125], [3600])]
    frames: list[DataFrame] = []

    def build(ssc: StreamingContext) -> None:
        frames.append(ssc.queueStream(batches).toStreamingDF(str(tmp_path / "events"), "word string, at timestamp"))

    run(spark, build, 3, tmp_path / "program")
    timed = with_watermark(frames[0], event_time="at", lateness=timedelta(minutes=5))
    shape = windows.tumbling(MINUTE).with_grace(timedelta(0))
    counted = windows.aggregate(timed, keys=["word"], event_time="at", window=shape, aggregates={"n": count()})
    got: list[Row] = []
    checkpoint = Checkpoint.claim(str(tmp_path / "query"), pipeline="windows", sources=["events"])

    def take(batch: queries.Batch) -> None:
        got.extend(windows.results(batch.rows).where("is_final").collect())

    for _ in range(2):  # the second time nothing is new
        queries.start(counted, take, checkpoint=checkpoint).await_end(WAIT_S)
    begun = zero.astimezone().replace(tzinfo=None)
    by_minute = {begun: 3, begun + MINUTE: 2, begun + 2 * MINUTE: 1}
    assert {row["window"]["start"]: row["n"] for row in got} == by_minute
    assert len(got) == 3
