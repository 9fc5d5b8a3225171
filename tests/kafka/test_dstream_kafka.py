"""Kafka in DStream programs, against a real broker: ranges, restarts, limits, commits, columns."""

from __future__ import annotations

import operator
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewPartitions
from kafka import KafkaConsumer
from kafka import TopicPartition as PythonTopicPartition
from pyspark import RDD
from pyspark.sql import SparkSession
from pyspark.sql.types import DoubleType, IntegerType, StringType, StructField, StructType

from spark_ext.broker import Broker
from spark_ext.dstream import StreamingContext, StreamingListener
from spark_ext.dstream.errors import BatchError, StreamArgumentError
from spark_ext.dstream.kafka import DeadRecord, KafkaDStream, KafkaUtils, OffsetRange, TopicAndPartition
from spark_ext.dstream.ticks import ManualClock
from spark_ext.errors import BrokerUnavailableError, CheckpointMismatchError
from spark_ext.ingest import JsonFormat
from tests.kafka_topics import delete_records, in_transaction, make_again

pytestmark = [pytest.mark.kafka, pytest.mark.spark]

Sent = tuple[int, str | bytes | None, str | bytes | None]  # partition, key, value


def send(broker: Broker, topic: str, *records: Sent, at_ms: int = 0) -> None:
    producer = Producer({"bootstrap.servers": broker.bootstrap_servers, "linger.ms": 5})
    for partition, key, value in records:
        producer.produce(topic, value, key, partition, timestamp=at_ms)
    assert producer.flush(30) == 0


def params(broker: Broker, **more: Any) -> dict[str, Any]:
    return {"bootstrap.servers": broker.bootstrap_servers, "auto.offset.reset": "earliest", **more}


class Program:
    """One start of a program, batch by batch."""

    def __init__(self, ssc: StreamingContext, clock: ManualClock) -> None:
        self.ssc, self._clock, self._batches = ssc, clock, 0

    def batch(self) -> None:
        self._clock.advance(1000)
        self._batches += 1
        assert self.ssc.awaitBatches(self._batches, 100), "no batch came"


@contextmanager
def running(
    spark: SparkSession, define: Callable[[StreamingContext], object], checkpoint: Path | None = None, *, clock: ManualClock | None = None
) -> Iterator[Program]:
    clock = clock or ManualClock()

    def setup() -> StreamingContext:
        ssc = StreamingContext(spark.sparkContext, 1, clock=clock)
        define(ssc)
        return ssc

    ssc = setup() if checkpoint is None else StreamingContext.getOrCreate(str(checkpoint), setup)
    ssc.start()
    try:
        yield Program(ssc, clock)
    finally:
        ssc.stop(False)


@contextmanager
def configured(spark: SparkSession, name: str, value: str) -> Iterator[None]:
    conf: Any = spark.sparkContext._conf
    conf.set(name, value)
    try:
        yield
    finally:
        conf.set(name, "0")


def test_words_are_counted_batch_by_batch_and_ranges_are_those_of_the_partitions(spark: SparkSession, broker: Broker) -> None:
    broker.create_topic("ds-words", partitions=3)
    counted: list[dict[str, int]] = []
    seen: list[tuple[list[OffsetRange], list[list[Any]]]] = []
    told: list[Any] = []

    class Listener(StreamingListener):
        def onBatchCompleted(self, batchCompleted: Any) -> None:  # noqa: N802, N803 (Spark's names)
            told.append(batchCompleted.batchInfo().streamIdToInputInfo()[0])

    def ranged(rdd: Any) -> RDD[Any]:
        ranges = rdd.offsetRanges()
        seen.append((ranges, rdd.glom().collect()))
        return rdd.map(lambda pair: pair[1])  # type: ignore[no-any-return]

    def define(ssc: StreamingContext) -> None:
        lines = KafkaUtils.createDirectStream(ssc, ["ds-words"], params(broker)).transform(ranged)
        words = lines.filter(lambda line: line is not None).flatMap(str.split)
        words.map(lambda word: (word, 1)).reduceByKey(operator.add).foreachRDD(lambda rdd: counted.append(dict(rdd.collect())))
        ssc.addStreamingListener(Listener())

    batches: list[list[Sent]] = [
        [(0, "k", "a b"), (2, None, "b"), (0, None, None)],
        [],
        [(1, "\u00e9", "\u00e9 a"), (0, None, "a a"), (1, None, "")],
    ]
    with running(spark, define) as program:
        for records in batches:
            send(broker, "ds-words", *records)
            program.batch()
    assert counted == [Counter(word for _, _, value in batch for word in str(value or "").split()) for batch in batches]
    ends = [0, 0, 0]
    for (ranges, elements), batch, info in zip(seen, batches, told, strict=True):
        inside = [[(key, value) for at, key, value in batch if at == partition] for partition in range(3)]
        assert elements == inside, "partition i of the RDD is range i, in order, with None for null"
        expected = [OffsetRange("ds-words", at, ends[at], ends[at] + len(inside[at])) for at in range(3)]
        assert ranges == expected
        assert info.metadata()["offsets"] == expected
        assert info.numRecords() == len(batch)
        ends = [at.untilOffset for at in expected]
    assert told[0].metadataDescription() == "topic: ds-words\tpartition: 0\toffsets: 0 to 2\ntopic: ds-words\tpartition: 2\toffsets: 0 to 1"
    assert told[1].metadataDescription() == ""


def test_a_failed_batch_is_tried_again_with_its_ranges_and_no_secret_is_written_down(
    spark: SparkSession, broker: Broker, tmp_path: Path
) -> None:
    broker.create_topic("ds-again", partitions=2)
    send(broker, "ds-again", (0, None, "before"))
    batches: dict[int, tuple[list[OffsetRange], list[Any]]] = {}
    tries: list[int] = []
    broken = [True]

    def define(ssc: StreamingContext) -> None:
        given = params(broker, **{"auto.offset.reset": "largest", "sasl.password": "hunter22hunter"})
        stream = KafkaUtils.createDirectStream(ssc, ["ds-again"], given)

        def out(time: datetime, rdd: Any) -> None:
            at_ms = round(time.timestamp() * 1000)
            tries.append(at_ms)
            batches[at_ms] = rdd.offsetRanges(), rdd.map(lambda pair: pair[1]).collect()
            if broken[0] and at_ms == 2000:
                raise KeyError("lost the database")

        stream.foreachRDD(out)

    clock = ManualClock()
    with running(spark, define, tmp_path / "c", clock=clock) as program:
        send(broker, "ds-again", (0, None, "one"), (1, None, "two"))  # after the start: not before "latest"
        program.batch()
        send(broker, "ds-again", (1, None, "three"))
        with pytest.raises(BatchError, match="KeyError: 'lost the database'"):
            program.batch()
    first = batches[2000]
    send(broker, "ds-again", (0, None, "four"), (1, None, "five"))  # meanwhile
    broken[0] = False
    with running(spark, define, tmp_path / "c", clock=clock) as program:
        program.batch()
        program.batch()
    assert tries == [1000, 2000, 2000, 3000]
    assert batches[2000] == first
    assert [(ranges, sorted(values)) for ranges, values in batches.values()] == [
        ([OffsetRange("ds-again", 0, 1, 2), OffsetRange("ds-again", 1, 0, 1)], ["one", "two"]),
        ([OffsetRange("ds-again", 0, 2, 2), OffsetRange("ds-again", 1, 1, 2)], ["three"]),
        ([OffsetRange("ds-again", 0, 2, 3), OffsetRange("ds-again", 1, 2, 3)], ["five", "four"]),
    ]
    written = [path for path in (tmp_path / "c").rglob("*") if path.is_file()]
    assert any(path.parent.name == "plans" for path in written)
    assert not [path for path in written if b"hunter22" in path.read_bytes()]


def test_a_program_that_ends_before_its_first_batch_begins_where_it_began(spark: SparkSession, broker: Broker, tmp_path: Path) -> None:
    broker.create_topic("ds-first")
    send(broker, "ds-first", (0, None, "old"))
    found: list[Any] = []

    def define(ssc: StreamingContext) -> None:
        stream = KafkaUtils.createDirectStream(ssc, ["ds-first"], params(broker, **{"auto.offset.reset": "latest"}))
        stream.foreachRDD(lambda rdd: found.append(rdd.collect()))

    clock = ManualClock()
    with running(spark, define, tmp_path / "c", clock=clock):
        send(broker, "ds-first", (0, None, "new"))
    with running(spark, define, tmp_path / "c", clock=clock) as program:
        program.batch()
    assert found == [[(None, "new")]]


def test_a_rate_limits_each_partition_and_new_partitions_are_read_from_their_beginning(spark: SparkSession, broker: Broker) -> None:
    broker.create_topic("ds-rate", partitions=2)
    send(broker, "ds-rate", *[(0, None, str(n)) for n in range(10)], *[(1, None, str(n)) for n in range(3)])
    sizes: list[list[int]] = []

    def define(ssc: StreamingContext) -> None:
        stream = KafkaUtils.createDirectStream(ssc, ["ds-rate"], params(broker))
        stream.foreachRDD(lambda rdd: sizes.append([len(part) for part in rdd.glom().collect()]))

    with configured(spark, "spark.streaming.kafka.maxRatePerPartition", "4"), running(spark, define) as program:
        program.batch()
        program.batch()
        client = AdminClient({"bootstrap.servers": broker.bootstrap_servers})
        client.create_partitions([NewPartitions("ds-rate", 3)])["ds-rate"].result(30)
        program.batch()
        send(broker, "ds-rate", *[(2, None, str(n)) for n in range(5)])
        program.batch()
        program.batch()
    assert sizes == [[4, 3], [4, 0], [2, 0, 0], [0, 0, 4], [0, 0, 1]]


def test_a_new_checkpoint_starts_at_times_or_offsets(spark: SparkSession, broker: Broker) -> None:
    broker.create_topic("ds-times", partitions=3, config={"retention.ms": "-1"})
    for at_ms in (1_000_000, 2_000_000, 3_000_000):
        send(broker, "ds-times", *[(partition, None, str(at_ms)) for partition in range(3)], at_ms=at_ms)
    starts: dict[str, dict[str, Any]] = {
        "ms": {"startingTimestamp": 1_000_001},
        "dict": {"startingTimestamp": {TopicAndPartition("ds-times", 1): datetime.fromtimestamp(3000, UTC), "ds-times": 9_000_000}},
        "offsets": {"fromOffsets": {TopicAndPartition("ds-times", 2): 1, TopicAndPartition("ds-times", 0): -1}},
        "reset": {},
    }
    found: dict[str, list[tuple[int, int]]] = {}

    def note(name: str) -> Callable[[Any], None]:
        return lambda rdd: found.update({name: [(one.partition, one.count()) for one in rdd.offsetRanges()]})

    def define(ssc: StreamingContext) -> None:
        for name, start in starts.items():
            KafkaUtils.createDirectStream(ssc, ["ds-times"], params(broker), **start).foreachRDD(note(name))

    with running(spark, define) as program:
        program.batch()
    assert found == {
        "ms": [(0, 2), (1, 2), (2, 2)],
        "dict": [(0, 0), (1, 1), (2, 0)],
        "offsets": [(0, 0), (2, 2)],
        "reset": [(0, 3), (1, 3), (2, 3)],
    }


def committed(broker: Broker, group: str, topic: str, partitions: int) -> list[int | None]:
    consumer = KafkaConsumer(bootstrap_servers=broker.bootstrap_servers, group_id=group, enable_auto_commit=False)
    try:
        return [consumer.committed(PythonTopicPartition(topic, number)) for number in range(partitions)]
    finally:
        consumer.close()


def test_groups_show_finished_batches_or_what_the_program_commits(spark: SparkSession, broker: Broker) -> None:
    broker.create_topic("ds-group", partitions=2)
    streams: list[KafkaDStream] = []

    def define(ssc: StreamingContext) -> None:
        by_itself = params(broker, **{"group.id": "ds-auto", "enable.auto.commit": "true"})
        KafkaUtils.createDirectStream(ssc, ["ds-group"], by_itself).foreachRDD(lambda rdd: None)
        asked = KafkaUtils.createDirectStream(ssc, ["ds-group"], params(broker, **{"group.id": "ds-asked"})).cache()
        streams.append(asked)
        asked.foreachRDD(lambda rdd: asked.commitAsync(rdd.offsetRanges()[:1]))
        streams.append(KafkaUtils.createDirectStream(ssc, ["ds-group"], params(broker)))

    with running(spark, define) as program:
        send(broker, "ds-group", (0, None, "a"), (0, None, "b"), (1, None, "c"))
        program.batch()
        send(broker, "ds-group", (0, None, "d"))
        program.batch()
    assert committed(broker, "ds-auto", "ds-group", 2) == [3, 1]
    assert committed(broker, "ds-asked", "ds-group", 2) == [3, None]
    with pytest.raises(StreamArgumentError, match=r"no group\.id in kafkaParams"):
        streams[1].commitAsync([OffsetRange("ds-group", 0, 0, 1)])


def test_news_begin_a_batch_where_nobody_waits_for_the_clock(spark: SparkSession, broker: Broker) -> None:
    broker.create_topic("ds-news")
    found: list[Any] = []
    ssc = StreamingContext(spark.sparkContext, 3600, pace="asap")
    KafkaUtils.createDirectStream(ssc, ["ds-news"], params(broker)).foreachRDD(lambda rdd: found.append(rdd.values().collect()))
    ssc.start()
    try:
        for n in range(2):
            send(broker, "ds-news", (0, None, str(n)))
            assert ssc.awaitBatches(n + 1, 100)
    finally:
        ssc.stop(False)
    assert found == [["0"], ["1"]]


def test_only_committed_transactions_are_read_unless_asked(spark: SparkSession, broker: Broker) -> None:
    broker.create_topic("ds-transactions")
    in_transaction(broker, "ds-transactions", [b"a", b"b"], commit=True, name="ds")
    in_transaction(broker, "ds-transactions", [b"no"], commit=False, name="ds")
    in_transaction(broker, "ds-transactions", [b"c"], commit=True, name="ds")
    found: dict[str, list[Any]] = {}

    def note(name: str) -> Callable[[Any], None]:
        return lambda rdd: found.update({name: [rdd.values().collect(), rdd.offsetRanges()[0].untilOffset]})

    def define(ssc: StreamingContext) -> None:
        for level in ("read_committed", "read_uncommitted"):
            more = {"isolation.level": level} if level != "read_committed" else {}
            KafkaUtils.createDirectStream(ssc, ["ds-transactions"], params(broker, **more)).foreachRDD(note(level))

    with running(spark, define) as program:
        program.batch()
    assert found == {"read_committed": [["a", "b", "c"], 7], "read_uncommitted": [["a", "b", "no", "c"], 7]}


SHOTS = StructType(
    [
        StructField("player", StringType(), nullable=False),
        StructField("hits", IntegerType()),
        StructField("far", DoubleType()),
    ]
)


def test_typed_columns_come_as_tuples_and_dead_records_beside_them(spark: SparkSession, broker: Broker) -> None:
    broker.create_topic("ds-typed")
    send(broker, "ds-typed", (0, "k", '{"player": "ann", "hits": 3, "far": 1.5}'), (0, "x", "{"), (0, None, '{"player": "bo"}'))
    broker.create_topic("ds-good")
    send(broker, "ds-good", (0, None, '{"player": "cy", "hits": 1}'), (0, None, '{"far": -0.5, "player": "di"}'))
    found: dict[str, list[Any]] = {}

    def note(name: str) -> Callable[[Any], None]:
        return lambda rdd: found.update({name: rdd.collect()})

    def define(ssc: StreamingContext) -> None:
        shots = KafkaUtils.createDirectStream(ssc, ["ds-typed"], params(broker), format=JsonFormat(SHOTS), on_dead="give")
        shots.foreachRDD(note("all"))
        hits = KafkaUtils.createDirectStream(
            ssc, ["ds-typed"], params(broker), format=JsonFormat(SHOTS), columns=["hits"], where=[("hits", ">", 0)], on_dead="give"
        )
        hits.filter(lambda one: isinstance(one, tuple)).foreachRDD(note("hits"))
        good = KafkaUtils.createDirectStream(ssc, ["ds-good"], params(broker), format=JsonFormat(SHOTS))
        good.toDF(SHOTS).foreachBatch(lambda frame: found.update(rows=frame.collect(), types=frame.dtypes))

    with running(spark, define) as program:
        program.batch()
    assert found["all"][:2] == [("ann", 3, 1.5), ("bo", None, None)]
    (dead,) = found["all"][2:]
    assert isinstance(dead, DeadRecord)
    assert (dead.topic, dead.partition, dead.offset, dead.key, dead.value) == ("ds-typed", 0, 1, b"x", b"{")
    assert found["hits"] == [(3,)]
    assert found["rows"] == [("cy", 1, None), ("di", None, -0.5)]
    assert found["types"] == [("player", "string"), ("hits", "int"), ("far", "double")]

    def strict(ssc: StreamingContext) -> None:
        KafkaUtils.createDirectStream(ssc, ["ds-typed"], params(broker), format=JsonFormat(SHOTS)).foreachRDD(lambda rdd: rdd.count())

    with running(spark, strict) as program, pytest.raises(BatchError, match=r"cannot decode record 'ds-typed\[0\] at offset 1'"):
        program.batch()


def test_what_is_no_text_fails_the_batch_by_its_place_and_other_decoders_take_it(spark: SparkSession, broker: Broker) -> None:
    broker.create_topic("ds-bytes")
    send(broker, "ds-bytes", (0, None, "fine"), (0, b"\xff", b"\xfe\x00"))
    found: list[Any] = []

    def define(ssc: StreamingContext) -> None:
        raw = KafkaUtils.createDirectStream(ssc, ["ds-bytes"], params(broker), keyDecoder=None, valueDecoder=lambda one: len(one or b""))
        raw.foreachRDD(lambda rdd: found.extend(rdd.collect()))
        placed = KafkaUtils.createDirectStream(ssc, ["ds-bytes"], params(broker), messageHandler=lambda one: (one.topic, one.offset))
        placed.foreachRDD(lambda rdd: found.extend(rdd.collect()))
        KafkaUtils.createDirectStream(ssc, ["ds-bytes"], params(broker)).foreachRDD(lambda rdd: rdd.count())

    with (
        running(spark, define) as program,
        pytest.raises(BatchError, match=r"cannot decode key 'ds-bytes\[0\] at offset 1': expected UTF-8.*0xff"),
    ):
        program.batch()
    assert found == [(None, 4), (b"\xff", 2), ("ds-bytes", 0), ("ds-bytes", 1)]


def test_an_rdd_of_ranges(spark: SparkSession, broker: Broker) -> None:
    broker.create_topic("ds-rdd", partitions=2)
    send(broker, "ds-rdd", *[(n % 2, str(n), f"v{n}") for n in range(10)])
    ranges = [
        OffsetRange("ds-rdd", 1, 3, 5),
        OffsetRange("ds-rdd", 0, 2, 2),
        OffsetRange("ds-rdd", 0, 0, 2),
        OffsetRange("ds-rdd", 1, 0, 1),
    ]
    rdd: Any = KafkaUtils.createRDD(spark.sparkContext, {"metadata.broker.list": broker.bootstrap_servers}, ranges)
    assert rdd.offsetRanges() == ranges
    assert rdd.glom().collect() == [[("7", "v7"), ("9", "v9")], [], [("0", "v0"), ("2", "v2")], [("1", "v1")]]
    assert rdd.map(lambda pair: pair[1]).cache().filter(lambda value: value > "v1").count() == 3
    with pytest.raises(StreamArgumentError, match=r"ds-rdd\[1\] has: offsets 0 to 5, got 3 to 6"):
        KafkaUtils.createRDD(spark.sparkContext, params(broker), [OffsetRange("ds-rdd", 1, 3, 6)])
    with pytest.raises(StreamArgumentError, match="no such partition"):
        KafkaUtils.createRDD(spark.sparkContext, params(broker), [OffsetRange("ds-rdd", 7, 0, 1)])
    with pytest.raises(TypeError, match="offsetRanges should be list"):
        KafkaUtils.createRDD(spark.sparkContext, params(broker), ())  # type: ignore[arg-type]


def test_records_that_are_gone_fail_the_program_or_are_told(spark: SparkSession, broker: Broker, tmp_path: Path) -> None:
    broker.create_topic("ds-lost")
    send(broker, "ds-lost", *[(0, None, str(n)) for n in range(5)])
    found: list[Any] = []
    told: list[Any] = []

    class Listener(StreamingListener):
        def onBatchCompleted(self, batchCompleted: Any) -> None:  # noqa: N802, N803 (Spark's names)
            told.append(batchCompleted.batchInfo().streamIdToInputInfo()[0].metadata().get("lost"))

    def program_of(**more: Any) -> Callable[[StreamingContext], None]:
        def define(ssc: StreamingContext) -> None:
            stream = KafkaUtils.createDirectStream(ssc, ["ds-lost"], params(broker), **more)
            stream.foreachRDD(lambda rdd: found.append((rdd.offsetRanges()[0].fromOffset, rdd.values().collect())))
            ssc.addStreamingListener(Listener())

        return define

    clock = ManualClock()
    with running(spark, program_of(), tmp_path / "c", clock=clock) as program:
        program.batch()
        send(broker, "ds-lost", *[(0, None, str(n)) for n in range(5, 9)])
        delete_records(broker, "ds-lost", {0: 7})
        with pytest.raises(BatchError, match=r"ds-lost\[0\] 5\.\.6"):
            program.batch()
    with running(spark, program_of(on_lost="record"), tmp_path / "c", clock=clock) as program:
        program.batch()
        program.batch()
    assert found == [(0, list("01234")), (7, ["7", "8"]), (9, [])]
    assert told == [None, [OffsetRange("ds-lost", 0, 5, 7)], None]
    make_again(broker, "ds-lost")
    with pytest.raises(CheckpointMismatchError, match=r"id '.*got id"), running(spark, program_of(), tmp_path / "c", clock=clock):
        pass


def test_topics_may_be_added_and_must_not_be_left_out(spark: SparkSession, broker: Broker, tmp_path: Path) -> None:
    for topic in ("ds-one", "ds-two"):
        broker.create_topic(topic)
        send(broker, topic, (0, None, f"{topic} 0"), (0, None, f"{topic} 1"))
    delete_records(broker, "ds-two", {0: 1})
    found: list[Any] = []

    def program_of(*topics: str) -> Callable[[StreamingContext], None]:
        def define(ssc: StreamingContext) -> None:
            KafkaUtils.createDirectStream(ssc, list(topics), params(broker)).foreachRDD(lambda rdd: found.append(rdd.values().collect()))

        return define

    clock = ManualClock()
    for topics in (["ds-one"], ["ds-one", "ds-two"]):
        with running(spark, program_of(*topics), tmp_path / "c", clock=clock) as program:
            program.batch()
    assert found == [["ds-one 0", "ds-one 1"], ["ds-two 1"]]
    with pytest.raises(CheckpointMismatchError, match="ds-one"), running(spark, program_of("ds-two"), tmp_path / "c", clock=clock):
        pass


def test_mistakes_are_said_where_they_are_made(spark: SparkSession, broker: Broker) -> None:
    ssc = StreamingContext(spark.sparkContext, 1, clock=ManualClock())
    with pytest.raises(TypeError, match="topics should be list"):
        KafkaUtils.createDirectStream(ssc, "ds-words", params(broker))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="kafkaParams should be dict"):
        KafkaUtils.createDirectStream(ssc, ["ds-words"], [])  # type: ignore[arg-type]
    with pytest.raises(StreamArgumentError, match="a format that they are about"):
        KafkaUtils.createDirectStream(ssc, ["ds-words"], params(broker), columns=["a"])
    with pytest.raises(StreamArgumentError, match="no decoders and no messageHandler"):
        KafkaUtils.createDirectStream(ssc, ["ds-words"], params(broker), keyDecoder=None, format=JsonFormat(SHOTS))
    lock = threading.Lock()
    KafkaUtils.createDirectStream(ssc, ["ds-words"], params(broker), valueDecoder=lambda raw: (raw, lock)).pprint()
    with pytest.raises(StreamArgumentError, match="lock"):
        ssc.start()
    ssc = StreamingContext(spark.sparkContext, 1, clock=ManualClock())
    KafkaUtils.createDirectStream(ssc, ["ds-nowhere"], params(broker)).pprint()
    with pytest.raises(BrokerUnavailableError, match="ds-nowhere"):
        ssc.start()
    ssc.stop(False)
