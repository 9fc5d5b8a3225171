"""How many records the ranges of the ledger hold, counted by a plain consumer."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource  # type: ignore[attr-defined]  # its stubs lack it

from spark_ext.epochs.ledger import EpochRow, RangeRow
from spark_ext.epochs.recount_finding import UNCHECKED, Finding
from spark_ext.errors import BrokerUnavailableError, SettingsError
from spark_ext.kafka.references import CLIENT, resolve

__all__ = ["recount_ranges"]

ANSWER_S: Final = 10.0
SILENCE_S: Final = 30.0
AT_ONCE: Final = 10_000
GONE: Final = frozenset({KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE})  # noqa: SLF001
END: Final = KafkaError._PARTITION_EOF  # noqa: SLF001
GONE_TEXT: Final = "deleted by the broker meanwhile"


class _Range(NamedTuple):
    epoch: int
    row: RangeRow


def recount_ranges(rows: Sequence[EpochRow], servers: str, options: Mapping[str, str]) -> Iterator[Finding]:
    """Yield the ranges that hold another number of committed records than were read.

    Each partition is read once, from the first offset that is still there to the last end. A range that the broker has deleted since,
    wholly or in part, cannot be checked, nor can one of a compacted topic that holds less by now: one finding per partition.

    Parameters
    ----------
    rows : sequence of EpochRow
        Of one pipeline, in order.
    servers : str
        Addresses as ``host:port``, separated by commas.
    options : mapping of str to str
        Settings of librdkafka, starting with ``kafka.``.
    """
    ranges: dict[tuple[str, int], list[_Range]] = defaultdict(list)
    for row in rows:
        for one in row.ranges:
            if one.end > one.start:
                ranges[one.topic, one.partition].append(_Range(row.epoch, one))
    if not ranges:
        return
    client = resolve({name.removeprefix(CLIENT): value for name, value in options.items()})
    own: dict[str, Any] = {"bootstrap.servers": servers, "log_level": 2}
    try:
        admin = AdminClient({**client, **own})
        topics = {name: _Topic.of(admin, name, servers) for name in sorted({topic for topic, _ in ranges})}
        reading: dict[str, Any] = {"group.id": "millrace-recount", "enable.auto.commit": False, "isolation.level": "read_committed"}
        consumer = Consumer({**client, **own, **reading, "enable.partition.eof": True, "auto.offset.reset": "error"})
    except KafkaException as error:
        todo = "correct it"
        raise SettingsError(
            "use", "client settings", ", ".join(options), expected="librdkafka's", got=error.args[0].name(), todo=todo
        ) from None
    try:
        for (topic, partition), held in sorted(ranges.items()):
            yield from _recount(consumer, topics[topic], TopicPartition(topic, partition), held)
    finally:
        consumer.close()


class _Topic(NamedTuple):
    """A topic as it is now; without an id it is gone."""

    id: str | None
    is_compacted: bool

    @classmethod
    def of(cls, admin: AdminClient, name: str, servers: str) -> _Topic:
        try:
            found = admin.describe_topics(TopicCollection([name]), request_timeout=ANSWER_S)[name].result(ANSWER_S)
        except (KafkaException, TimeoutError) as error:
            cause = error.args[0] if error.args else None
            if isinstance(cause, KafkaError) and cause.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                return cls(None, is_compacted=False)
            got, todo = cause.str() if isinstance(cause, KafkaError) else "no answer", "start the broker, or correct the address"
            raise BrokerUnavailableError("recount", "topic", name, expected=f"an answer of {servers}", got=got, todo=todo) from error
        resource = ConfigResource(ConfigResource.Type.TOPIC, name)
        try:
            config = admin.describe_configs([resource], request_timeout=ANSWER_S)[resource].result(ANSWER_S)
            policy = str(config["cleanup.policy"].value)
        except (KafkaException, TimeoutError, KeyError):  # it may not be told
            policy = "compact"
        text = str(found.topic_id).rstrip("=").translate(str.maketrans("+/", "-_"))
        return cls(text, is_compacted="compact" in policy)


def _recount(consumer: Consumer, topic: _Topic, at: TopicPartition, held: Sequence[_Range]) -> Iterator[Finding]:
    where = f"{at.topic}[{at.partition}]"
    same = [one for one in held if topic.id is not None and one.row.topic_id in (None, topic.id)]
    if len(same) < len(held):
        others = [one for one in held if one not in same]
        got = "no such topic now" if topic.id is None else f"topic id {topic.id} now"
        yield _unchecked(others, where, f"topic id {others[-1].row.topic_id}", got)
    if not same:
        return
    try:
        low, _ = consumer.get_watermark_offsets(at, ANSWER_S)
    except KafkaException as error:
        yield _unchecked(same, where, "an answer of the partition", error.args[0].str())
        return
    # What was lost before it was read is at the front, and is not counted among the read.
    kept = [one for one in same if low <= one.row.start + one.row.lost]
    gone = [one for one in same if low > one.row.start + one.row.lost]
    if gone:
        yield _unchecked(gone, where, f"offsets from {gone[0].row.start} on", f"from {low} on: {GONE_TEXT}")
    if not kept:
        return
    counts, reached, why = _count(consumer, at, kept, max(low, kept[0].row.start))
    open_ended = [one for one in kept if one.row.end > reached]
    if open_ended:
        yield _unchecked(open_ended, where, f"records up to offset {open_ended[-1].row.end}", f"up to {reached}: {why}")
    fewer = []
    for number, one in enumerate(kept):
        if one.row.end > reached or counts[number] == one.row.read:
            continue
        if topic.is_compacted and counts[number] < one.row.read:
            fewer.append(one)
        else:
            yield Finding(one.epoch, "records", f"{where} {one.row.start} to {one.row.end}", f"{one.row.read} read", str(counts[number]))
    if fewer:
        yield _unchecked(fewer, where, "as many records as were read", "fewer: the topic is compacted")


def _count(consumer: Consumer, at: TopicPartition, held: Sequence[_Range], start: int) -> tuple[Counter[int], int, str]:
    """Return how many records each range holds, up to which offset was looked, and why not further."""
    bounds = [one.row.start for one in held]
    counts: Counter[int] = Counter()
    reached, end = start, max(one.row.end for one in held)
    is_sorted = bounds == sorted(bounds)  # a rewound pipeline has ranges that overlap
    consumer.assign([TopicPartition(at.topic, at.partition, start)])
    try:
        while reached < end:
            found = consumer.consume(AT_ONCE, 1.0) or consumer.consume(1, SILENCE_S)
            if not found:
                return counts, reached, f"nothing came for {SILENCE_S:g} s"
            for message in found:
                error, offset = message.error(), message.offset()
                if error is None and offset is not None:
                    _note(counts, held, bounds, offset, is_sorted=is_sorted)
                    reached = offset + 1
                elif error is not None and error.code() == END and offset is not None:
                    if offset < end:
                        return counts, offset, "the partition ends there"
                    reached = offset
                elif error is not None and error.code() in GONE:
                    return counts, reached, GONE_TEXT
                elif error is not None and not error.retriable():
                    return counts, reached, error.str()
    finally:
        consumer.unassign()
    return counts, reached, ""


def _note(counts: Counter[int], held: Sequence[_Range], bounds: Sequence[int], offset: int, *, is_sorted: bool) -> None:
    numbers = (bisect_right(bounds, offset) - 1,) if is_sorted else range(len(held))
    for number in numbers:
        if number >= 0 and held[number].row.start <= offset < held[number].row.end:
            counts[number] += 1


def _unchecked(held: Sequence[_Range], where: str, expected: str, got: str) -> Finding:
    epochs = f"epoch {held[0].epoch}" if len(held) == 1 else f"{len(held)} epochs from {held[0].epoch} to {held[-1].epoch}"
    return Finding(held[-1].epoch, UNCHECKED, f"{where}, {epochs}", expected, got)
