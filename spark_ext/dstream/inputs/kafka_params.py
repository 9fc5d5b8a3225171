"""What a program says of Kafka, read and checked: `kafkaParams`, where to start, how much per batch. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeAlias

from spark_ext.dstream.errors import StreamArgumentError
from spark_ext.dstream.inputs.kafka_words import TopicAndPartition
from spark_ext.kafka.fetch.settings import OWNED
from spark_ext.kafka.options import EARLIEST, LATEST, Place, SourceOptions

__all__ = ["Begin", "KafkaParams", "begin_at", "each_per_batch", "read_params"]

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
SERVERS: Final = ("bootstrap.servers", "metadata.broker.list")
RESETS: Final = {"smallest": "earliest", "earliest": "earliest", "largest": "latest", "latest": "latest"}
NOT_LIMITED: Final = 2**62  # offsets of one batch
OTHERS: Final = {  # of clients that this one is not: programs say them, and nothing depends on them here
    "auto.commit.enable",
    "auto.commit.interval.ms",
    "key.deserializer",
    "max.poll.records",
    "value.deserializer",
}
ZOOKEEPER: Final = "zookeeper."

Time: TypeAlias = int | datetime


@dataclass(frozen=True, slots=True)
class KafkaParams:
    """What `kafkaParams` say.

    Attributes
    ----------
    servers : str
        Addresses as ``host:port``, separated by commas.
    reset : {"earliest", "latest"}
        Where partitions start of which nothing else is said.
    isolation : {"read_committed", "read_uncommitted"}
    group : str or None
        Consumer group that shows how far the program is.
    commits : bool
        Whether finished batches are committed to it without being asked.
    client : mapping of str to str
        All else: settings of librdkafka. Never written down or shown.
    """

    servers: str
    reset: str
    isolation: str
    group: str | None
    commits: bool
    client: Mapping[str, str] = field(repr=False)

    def options(self, topics: Sequence[str], *, partitions: Mapping[str, Sequence[int]] | None = None, **others: Any) -> SourceOptions:
        """Return the options of a source that reads topics, or only some of their partitions, without a limit on a batch."""
        return SourceOptions(
            bootstrap_servers=self.servers,
            topics=tuple(topics),
            partitions={topic: tuple(numbers) for topic, numbers in partitions.items()} if partitions else None,
            isolation=self.isolation,
            max_offsets_per_trigger=NOT_LIMITED,
            client=self.client,
            **others,
        )


def read_params(given: Mapping[str, Any]) -> KafkaParams:
    """Read `kafkaParams`.

    Raises
    ------
    StreamArgumentError
        No broker is named, a value is not one that Kafka knows, or a setting is one that the stream sets itself.
    """
    texts = {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in given.items()}
    servers = next((texts[name] for name in SERVERS if texts.get(name)), "")
    if not servers:
        raise _refused("bootstrap.servers", "addresses of brokers", "none", "name them; metadata.broker.list is taken too")
    reset = RESETS.get(texts.get("auto.offset.reset", "largest"))
    if reset is None:
        expected = f"one of {', '.join(RESETS)}"
        raise _refused("auto.offset.reset", expected, repr(texts["auto.offset.reset"]), "choose one; it counts for a new checkpoint only")
    isolation = _one_of(texts, "isolation.level", "read_committed", "read_uncommitted")
    commits = _one_of(texts, "enable.auto.commit", "false", "true") == "true"
    group = texts.get("group.id") or None
    if commits and group is None:
        raise _refused("enable.auto.commit", "a group to commit to", "no group.id", "name a group.id, or leave enable.auto.commit out")
    read = {*SERVERS, "auto.offset.reset", "isolation.level", "enable.auto.commit", "group.id"}
    client = {name: text for name, text in texts.items() if name not in read | OTHERS and not name.startswith(ZOOKEEPER)}
    if taken := sorted(OWNED & client.keys()):
        raise _refused(taken[0], "settings that the stream leaves to you", "one that it sets itself", "leave it out")
    return KafkaParams(servers, reset, isolation, group, commits, client)


@dataclass(frozen=True, slots=True)
class Begin:
    """Where a new checkpoint starts: each partition at its offset, else at its time, else at `reset`.

    Attributes
    ----------
    reset : {"earliest", "latest"}
    offsets : mapping of place to offset; the only partitions to read, if there are any
    times : mapping of topic or place to time
    time : datetime or None, of all other partitions
    """

    reset: str
    offsets: Mapping[Place, int] = field(default_factory=dict)
    times: Mapping[str | Place, datetime] = field(default_factory=dict)
    time: datetime | None = None

    def time_of(self, at: Place) -> datetime | None:
        """Return the time at which a partition starts, None if it starts elsewhere."""
        return self.times.get(at, self.times.get(at[0], self.time))

    def partitions(self) -> dict[str, list[int]] | None:
        """Return the only partitions to read, None: all."""
        found: dict[str, list[int]] = {}
        for topic, number in sorted(self.offsets):
            found.setdefault(topic, []).append(number)
        return found or None


def begin_at(
    reset: str,
    topics: Sequence[str],
    *,
    offsets: Mapping[Any, int] | None = None,
    timestamp: Time | Mapping[Any, Time] | None = None,
) -> Begin:
    """Read `fromOffsets` and `startingTimestamp`.

    Raises
    ------
    StreamArgumentError
        Both are given, topics are not those of the offsets, or a value is neither an offset nor a time.
    """
    if offsets and timestamp is not None:
        raise _refused("startingTimestamp", "no fromOffsets beside it", "both", "give one of the two")
    if offsets:
        known = {_place(at): offset for at, offset in offsets.items()}
        named = {topic for topic, _ in known}
        if named != set(topics):
            raise _refused("fromOffsets", f"partitions of each of {sorted(topics)}", f"those of {sorted(named)}", "correct one of the two")
        for at, offset in known.items():
            if not isinstance(offset, int) or isinstance(offset, bool) or offset < EARLIEST:
                todo = f"give the first offset to read, {LATEST} for the end or {EARLIEST} for the beginning"
                raise _refused("fromOffsets", f"an offset of {at[0]}[{at[1]}]", repr(offset), todo)
        return Begin(reset, known)
    if isinstance(timestamp, Mapping):
        times = {at if isinstance(at, str) else _place(at): _time(time) for at, time in timestamp.items()}
        strange = sorted({at if isinstance(at, str) else at[0] for at in times} - set(topics))
        if strange:
            raise _refused("startingTimestamp", f"times of some of {sorted(topics)}", f"those of {strange}", "correct one of the two")
        return Begin(reset, times=times)
    return Begin(reset, time=None if timestamp is None else _time(timestamp))


def each_per_batch(settings: Mapping[str, str], interval_ms: int) -> int | None:
    """Return how many offsets of one partition a batch may have; None is no limit.

    Parameters
    ----------
    settings : mapping
        Spark's: ``spark.streaming.kafka.maxRatePerPartition`` (records per second; 0 or none: no limit) and
        ``minRatePerPartition`` (records per batch, in spite of its name; 1).
    interval_ms : int
        Batch interval.

    Examples
    --------
    >>> each_per_batch({"spark.streaming.kafka.maxRatePerPartition": "10"}, 500)
    5
    """
    most = _rate(settings, "maxRatePerPartition", 0)
    least = _rate(settings, "minRatePerPartition", 1)
    return max(most * interval_ms // 1000, least, 1) if most > 0 else None


def _rate(settings: Mapping[str, str], name: str, default: int) -> int:
    text = settings.get(f"spark.streaming.kafka.{name}")
    if text is None:
        return default
    if not text.strip().isdecimal():
        raise _refused(f"spark.streaming.kafka.{name}", "a whole number, 0 or more", repr(text), "correct it in Spark's configuration")
    return int(text)


def _place(given: Any) -> Place:
    if isinstance(given, TopicAndPartition):
        return given.topic, given.partition
    if isinstance(given, tuple) and [type(part) for part in given] == [str, int]:
        return given[0], given[1]
    raise _refused("topic and partition", "TopicAndPartition(topic, partition)", repr(given), "give one")


def _time(given: Time) -> datetime:
    if isinstance(given, datetime) and given.tzinfo is not None:
        return given
    if isinstance(given, int) and not isinstance(given, bool) and given >= 0:
        return EPOCH + timedelta(milliseconds=given)
    raise _refused("startingTimestamp", "ms since 1970, or a datetime with its zone", repr(given), "give one of these")


def _one_of(texts: Mapping[str, str], name: str, *words: str) -> str:
    text = texts.get(name, words[0]).lower()
    if text not in words:
        raise _refused(name, " or ".join(words), repr(text), "correct it")
    return text


def _refused(name: str, expected: str, got: str, todo: str) -> StreamArgumentError:
    return StreamArgumentError("read", "argument", name, expected=expected, got=got, todo=todo)
