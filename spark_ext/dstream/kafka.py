"""The words of Spark 2's `pyspark.streaming.kafka`, which Spark 3 took away; with commits of offsets, starts by time and typed columns."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from pyspark import RDD, SparkContext

from spark_ext.dstream.dstream import DStream
from spark_ext.dstream.errors import StreamArgumentError
from spark_ext.dstream.inputs.kafka import KafkaInput, KafkaRDD, kafka_rows
from spark_ext.dstream.inputs.kafka_params import KafkaParams, begin_at, each_per_batch, read_params
from spark_ext.dstream.inputs.kafka_reading import Elements, Messages, Pairs, Reading, Typed, UndecodableError
from spark_ext.dstream.inputs.kafka_words import (
    Broker,
    DeadRecord,
    KafkaMessageAndMetadata,
    OffsetRange,
    TopicAndPartition,
    utf8_decoder,
)
from spark_ext.ingest.filters import Conditions, conditions_to_json
from spark_ext.ingest.format import Format
from spark_ext.kafka.offsets import Range
from spark_ext.kafka.planner import Planner

if TYPE_CHECKING:
    from spark_ext.dstream.context import StreamingContext

__all__ = [
    "Broker",
    "DeadRecord",
    "KafkaDStream",
    "KafkaMessageAndMetadata",
    "KafkaRDD",
    "KafkaUtils",
    "OffsetRange",
    "TopicAndPartition",
    "TopicPartition",
    "UndecodableError",
    "utf8_decoder",
]

TopicPartition = TopicAndPartition
"""The newer name."""

Decoder = Callable[[bytes | None], Any] | None


class KafkaDStream(DStream[Any]):
    """A stream right out of Kafka: its RDDs are `KafkaRDD`, which know their ranges."""

    _node: KafkaInput

    def commitAsync(self, offsetRanges: Collection[OffsetRange]) -> None:
        """Let the consumer group ``group.id`` show the ends of these ranges, for tools that watch lag; does not wait.

        Call it in `foreachRDD` after the output. Guarantee: the program itself never reads the group; it goes on where its
        checkpoint stands. What the broker refuses, or does not answer, is logged.

        Raises
        ------
        StreamArgumentError
            `kafkaParams` have no ``group.id``.
        """
        offsets: dict[tuple[str, int], int] = {}
        for one in offsetRanges:
            at = (one.topic, one.partition)
            offsets[at] = max(one.untilOffset, offsets.get(at, 0))
        if offsets and not self._node.commit(offsets):
            raise _refused("commitAsync", "a group to commit to", "no group.id in kafkaParams", "name one")


class KafkaUtils:
    """Kafka in programs of discretized streams."""

    @staticmethod
    def createDirectStream(
        ssc: StreamingContext,
        topics: list[str],
        kafkaParams: dict[str, Any],
        fromOffsets: Mapping[TopicAndPartition, int] | None = None,
        keyDecoder: Decoder = utf8_decoder,
        valueDecoder: Decoder = utf8_decoder,
        messageHandler: Callable[[KafkaMessageAndMetadata], Any] | None = None,
        *,
        startingTimestamp: int | datetime | Mapping[Any, int | datetime] | None = None,
        format: Format | None = None,  # noqa: A002 (its name everywhere here)
        columns: Sequence[str] | None = None,
        where: Conditions = (),
        on_dead: Literal["fail", "give"] = "fail",
        on_lost: Literal["fail", "record"] = "fail",
        fetcher: str = "auto",
    ) -> KafkaDStream:
        """Return a stream of the records of topics, (key, value) each.

        Guarantee: each record of the topics is in exactly one batch, in one partition with the other records of its Kafka
        partition, in the order of offsets. The ranges of a batch are written into the checkpoint before anything reads them;
        a batch that is tried again has the same ones. A record that the broker dropped before it was read fails the
        program or is told, never passed over.

        Parameters
        ----------
        topics : list of str
            Topics that exist. New partitions are read from their first offset; a topic that is new to a checkpoint starts
            where a new checkpoint does.
        kafkaParams : dict
            ``bootstrap.servers`` (or ``metadata.broker.list``); ``auto.offset.reset`` (``earliest``/``smallest``,
            ``latest``/``largest``; default latest), for a new checkpoint only; ``isolation.level`` (default read_committed);
            ``group.id`` for `KafkaDStream.commitAsync`; with ``enable.auto.commit`` true each batch is committed to it once
            it is done. All else are settings of librdkafka, such as ``security.protocol``, ``sasl.username``, ``ssl.ca.location``.
            A secret is best a reference, ``${env:NAME}`` or ``${file:/path}``, resolved in each process; one that stands there
            itself stays in memory, and is in no checkpoint, plan or log.
        fromOffsets : dict of TopicAndPartition to int, optional
            First offset of each; then only these partitions are read. Only for a new checkpoint.
        keyDecoder, valueDecoder : callable or None
            Of bytes or None. `utf8_decoder` and None (bytes as they are) work on columns, any other on each record.
        messageHandler : callable, optional
            Makes the element of a `KafkaMessageAndMetadata`.
        startingTimestamp : int (ms since 1970), datetime with a zone, or dict of topic or TopicAndPartition to these, optional
            A new checkpoint starts at the first record of that time or later, at the end where there is none.
        format : JsonFormat, CsvFormat, BytesFormat, optional
            Elements are tuples of its columns instead of pairs, made of blocks without an object per record (whole numbers,
            floats, text, bool and bytes; other types become Python objects).
        columns, where
            Fields to give out (default all), and which good records, as for `spark_ext.kafka.read`.
        on_dead : {"fail", "give"}
            What becomes of records that `format` does not take: an error that names the first, or `DeadRecord` elements.
        on_lost : {"fail", "record"}
            What to do about records that the broker dropped before they were read: stop and name them, or go on; the
            listener is told of those that were gone when the batch was planned.
        fetcher : str
            Client that fetches; see `spark_ext.kafka.fetch.FetchSettings`.

        Notes
        -----
        Spark's ``spark.streaming.kafka.maxRatePerPartition`` (records per second and partition) and ``minRatePerPartition``
        (records per batch) limit batches; without the former a batch has all that is there when it is planned. A broker that
        does not answer is asked again for 60 s, by `start` and by each batch; then the program fails, and goes on where it was
        when it is started again.

        Raises
        ------
        TypeError
            `topics` is no list, or `kafkaParams` no dict.
        StreamArgumentError
            An argument cannot be used.

        State: none beyond the plans. Called: the broker is asked by `start`, then once per batch, by the driver.

        Not supported: Zookeeper, receivers (`createStream`), backpressure.
        """
        if not isinstance(topics, list):
            msg = "topics should be list"
            raise TypeError(msg)
        if not topics or not all(isinstance(topic, str) and topic for topic in topics) or len(set(topics)) < len(topics):
            raise _refused("topics", "different names", repr(topics), "name at least one topic")
        params = _params(kafkaParams)
        begin = begin_at(params.reset, topics, offsets=fromOffsets, timestamp=startingTimestamp)
        elements = _elements(keyDecoder, valueDecoder, messageHandler, format, columns, where, on_dead)
        if on_lost not in ("fail", "record"):
            raise _refused("on_lost", "'fail' or 'record'", repr(on_lost), "choose one")
        interval_ms = ssc._graph.interval_ms
        each = each_per_batch(dict(ssc.sparkContext.getConf().getAll()), interval_ms)
        options = params.options(topics, partitions=begin.partitions(), max_offsets_per_partition=each, on_lost=on_lost, fetcher=fetcher)
        return KafkaDStream(ssc._graph.add(KafkaInput(options, params, begin, elements, interval_ms)), ssc)

    @staticmethod
    def createRDD(
        sc: SparkContext,
        kafkaParams: dict[str, Any],
        offsetRanges: list[OffsetRange],
        leaders: Mapping[TopicAndPartition, Broker] | None = None,
        keyDecoder: Decoder = utf8_decoder,
        valueDecoder: Decoder = utf8_decoder,
        messageHandler: Callable[[KafkaMessageAndMetadata], Any] | None = None,
        *,
        format: Format | None = None,  # noqa: A002 (its name everywhere here)
        columns: Sequence[str] | None = None,
        where: Conditions = (),
        on_dead: Literal["fail", "give"] = "fail",
        fetcher: str = "auto",
    ) -> RDD[Any]:
        """Return the records of ranges; partition ``i`` of the RDD holds range ``i``.

        Parameters
        ----------
        offsetRanges : list of OffsetRange
            What to read; one partition may be there several times.
        leaders
            Not needed any more: the client finds the leaders.
        kafkaParams, keyDecoder, valueDecoder, messageHandler, format, columns, where, on_dead, fetcher
            As for `createDirectStream`.

        Raises
        ------
        TypeError
            `offsetRanges` is no list, or `kafkaParams` no dict.
        StreamArgumentError
            An argument cannot be used, or the broker does not have a range.
        BrokerUnavailableError, BrokerError
            Nobody answers within 60 s, a topic does not exist, or the broker does not permit it.
        """
        if not isinstance(offsetRanges, list):
            msg = "offsetRanges should be list"
            raise TypeError(msg)
        params = _params(kafkaParams)
        elements = _elements(keyDecoder, valueDecoder, messageHandler, format, columns, where, on_dead)
        del leaders
        ranges = [Range(one.topic, one.partition, one.fromOffset, one.fromOffset, one.untilOffset) for one in offsetRanges]
        options = params.options(sorted({at.topic for at in ranges}), fetcher=fetcher)
        if ranges:
            planner = Planner(options)
            try:
                seen = planner.look()
            finally:
                planner.close()
            for at in ranges:
                first, end = seen.first.get((at.topic, at.partition)), seen.ends.get((at.topic, at.partition))
                if first is None or end is None or not first <= at.start <= at.end <= end:
                    there = f"offsets {first} to {end}" if first is not None else "no such partition"
                    wanted = f"one within what {at.topic}[{at.partition}] has: {there}"
                    raise _refused("offsetRanges", wanted, f"{at.start} to {at.end}", "correct the range; records may have expired")
        return kafka_rows(sc, ranges, Reading(options, len(ranges), elements)).rdd()


def _params(given: Any) -> KafkaParams:
    if not isinstance(given, dict):
        msg = "kafkaParams should be dict"
        raise TypeError(msg)
    return read_params(given)


def _elements(
    key: Decoder,
    value: Decoder,
    handler: Callable[[KafkaMessageAndMetadata], Any] | None,
    form: Format | None,
    columns: Sequence[str] | None,
    where: Conditions,
    on_dead: str,
) -> Elements:
    if form is None:
        if columns is not None or where or on_dead != "fail":
            raise _refused("columns, where, on_dead", "a format that they are about", "none", "give a format, or leave them out")
        return Pairs(key, value) if handler is None else Messages(handler, key, value)
    if handler is not None or key is not utf8_decoder or value is not utf8_decoder:
        raise _refused("format", "no decoders and no messageHandler beside it", "both", "leave one of them out")
    if on_dead not in ("fail", "give"):
        raise _refused("on_dead", "'fail' or 'give'", repr(on_dead), "choose one")
    form.decoder(columns, where)  # refuses what it cannot do, here where the user stands
    names = None if columns is None else tuple(columns)
    return Typed(form.to_json(), names, json.dumps(conditions_to_json(where)) if where else "[]", on_dead == "give")


def _refused(name: str, expected: str, got: str, todo: str) -> StreamArgumentError:
    return StreamArgumentError("use", "argument", name, expected=expected, got=got, todo=todo)
