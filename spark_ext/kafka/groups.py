"""Committed offsets of consumer groups: a job's position for ordinary Kafka tools, and its lag.

The source `millrace_kafka` commits those of its option ``group`` itself; `commit_offsets` is for queries on Spark's own connector, and for
whoever knows a position otherwise.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeVar, cast

from confluent_kafka import ConsumerGroupTopicPartitions, IsolationLevel, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import OffsetSpec  # type: ignore[attr-defined]  # its stubs lack it
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_exponential

from spark_ext.errors import BrokerError, BrokerUnavailableError
from spark_ext.kafka.publisher import producer_settings
from spark_ext.kafka.topics import Admin

__all__ = ["Lag", "commit_offsets", "committed_offsets", "lag", "partition_errors"]

TIMEOUT_S: Final = 5.0
MOVING_S: Final = 15.0
MOVING: Final = frozenset({
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.NOT_COORDINATOR,
    KafkaError.UNSTABLE_OFFSET_COMMIT,
})  # fmt: skip
SPEC: Final[Any] = OffsetSpec

_Answer = TypeVar("_Answer")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Lag:
    """How far a group is in a partition; `committed` is null where it never committed, and all from `first` on is lag then."""

    topic: str
    partition: int
    committed: int | None
    first: int
    latest: int

    @property
    def records(self) -> int:
        """Offsets that are there and not committed yet."""
        return max(0, self.latest - max(self.first, self.committed or 0))


def commit_offsets(
    bootstrap_servers: str, group: str, offsets: Mapping[tuple[str, int], int], options: Mapping[str, str] | None = None
) -> bool:
    """Let a consumer group show a position, for tools that watch lag; nothing here ever reads it back.

    Guarantee: it never raises for what the broker does or does not do: a broker that is away, a permission that is missing and a group
    whose members consume by themselves are logged, and the position stands where it was. The group is never joined.

    Parameters
    ----------
    bootstrap_servers : str
        Addresses as ``host:port``, separated by commas.
    group : str
        Name of the group.
    offsets : mapping of (topic, partition) to int
        The next offset of each.
    options : mapping of str to str, optional
        Settings of librdkafka, starting with ``kafka.``, secrets as references.

    Returns
    -------
    bool
        Whether all of them are committed.

    Raises
    ------
    SettingsError
        An option cannot be used.
    """
    if not offsets:
        return True
    admin = Admin(bootstrap_servers, producer_settings(options or {}), timeout_s=TIMEOUT_S)
    places = [TopicPartition(topic, partition, offset) for (topic, partition), offset in offsets.items()]
    asked = [ConsumerGroupTopicPartitions(group, places)]

    def commit() -> ConsumerGroupTopicPartitions:
        answer = admin.ask(admin.client.alter_consumer_group_offsets(asked, request_timeout=TIMEOUT_S), "group", [group])[group]
        for one in answer.topic_partitions:
            if one.error is not None and one.error.code() in MOVING:
                error = KafkaException(one.error)
                raise admin.reason(error, "group", [group]) from error
        return cast("ConsumerGroupTopicPartitions", answer)

    try:
        refused = partition_errors(_while_moving(commit))
    except (BrokerError, BrokerUnavailableError) as error:
        refused = str(error)
    if refused:
        _log.warning("the offsets of group %s were not committed: %s", group, refused)
    return not refused


def partition_errors(answer: ConsumerGroupTopicPartitions) -> str:
    """Return what an answer about a group's offsets says of partitions that were refused; empty if none was."""
    errors = {str(one.error): f"{one.topic}[{one.partition}]" for one in answer.topic_partitions or () if one.error is not None}
    return "; ".join(f"{place}: {text}" for text, place in errors.items())


def committed_offsets(admin: Admin, group: str, *, is_stable: bool = False) -> list[TopicPartition]:
    """Return the offsets that a group has committed in topics that are there, with their metadata; a coordinator that moves is asked again.

    Parameters
    ----------
    admin : Admin
        Who asks.
    group : str
        Name of the group.
    is_stable : bool
        Whether to wait for transactions that are being committed or aborted.

    Raises
    ------
    BrokerError, BrokerUnavailableError
    """
    # By a consumer: librdkafka 2.16's admin call for this ends the process where the coordinator is still loading.
    places = [TopicPartition(*at) for at in admin.partitions()]
    if not places:
        return []
    consumer = admin.consumer(group, isolation="read_committed" if is_stable else "read_uncommitted")

    def ask() -> list[TopicPartition]:
        try:
            return [one for one in consumer.committed(places, timeout=TIMEOUT_S) if one.offset >= 0]
        except KafkaException as error:
            if error.args[0].code() == KafkaError._TIMED_OUT:  # noqa: SLF001 (it waits also for what it may not see)
                admin.ask(admin.client.describe_consumer_groups([group], request_timeout=TIMEOUT_S), "group", [group])
            raise admin.reason(error, "group", [group]) from error

    try:
        return _while_moving(ask)
    finally:
        consumer.close()


def _while_moving(question: Callable[[], _Answer]) -> _Answer:
    """Ask again while the group's coordinator is being found or loads its offsets."""
    again = retry_if_exception(_is_moving)
    return Retrying(stop=stop_after_delay(MOVING_S), wait=wait_exponential(0.05, max=1), retry=again, reraise=True)(question)


def _is_moving(error: BaseException) -> bool:
    cause = error.__cause__.args[0] if isinstance(error.__cause__, KafkaException) else None
    return isinstance(cause, KafkaError) and cause.code() in MOVING


def lag(
    bootstrap_servers: str,
    group: str,
    *,
    topics: Sequence[str] = (),
    isolation: Literal["read_committed", "read_uncommitted"] = "read_committed",
    options: Mapping[str, str] | None = None,
) -> list[Lag]:
    """Return the lag of a group, by topic and partition.

    Parameters
    ----------
    bootstrap_servers, group, options
        As for `commit_offsets`.
    topics : sequence of str
        Topics whose partitions are listed in any case; others are those that the group has committed offsets of.
    isolation : {"read_committed", "read_uncommitted"}
        Whether the end is that of finished transactions.

    Raises
    ------
    BrokerUnavailableError
        Nobody answers within 5 s, or a topic does not exist.
    BrokerError
        The broker does not permit it.
    """
    admin = Admin(bootstrap_servers, producer_settings(options or {}), timeout_s=TIMEOUT_S)
    committed = {(one.topic, one.partition): one.offset for one in committed_offsets(admin, group)}
    described = admin.describe(list(topics))
    places = sorted({*committed, *((name, number) for name, topic in described.items() for number in topic.partitions)})
    level = IsolationLevel.READ_COMMITTED if isolation == "read_committed" else IsolationLevel.READ_UNCOMMITTED
    latest, first = (_offsets(admin, places, spec, level) for spec in (SPEC.latest(), SPEC.earliest()))
    return [Lag(*at, committed.get(at), first[at], latest[at]) for at in places]


def _offsets(admin: Admin, places: Sequence[tuple[str, int]], spec: Any, level: IsolationLevel) -> dict[tuple[str, int], int]:
    if not places:
        return {}
    asked = {TopicPartition(*at): spec for at in places}
    futures: Mapping[Any, Future[Any]] = admin.client.list_offsets(asked, isolation_level=level, request_timeout=TIMEOUT_S)
    found = admin.ask(futures, "topics", sorted({topic for topic, _ in places}))
    return {(at.topic, at.partition): answer.offset for at, answer in found.items()}
