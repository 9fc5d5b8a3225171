"""What is published to Kafka, and the errors of what cannot be."""

from __future__ import annotations

from typing import Final, NamedTuple

from confluent_kafka import KafkaError

from spark_ext.errors import EpochError

__all__ = [
    "FENCED",
    "NO_TOPIC",
    "PURGED",
    "FencedError",
    "Message",
    "UndeliverableError",
    "fenced",
    "no_mark",
    "no_partition",
    "no_topic",
    "undeliverable",
]

FENCED: Final = frozenset({KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH})  # noqa: SLF001
NO_TOPIC: Final = frozenset({KafkaError._UNKNOWN_TOPIC, KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.TOPIC_EXCEPTION})  # noqa: SLF001
TOO_LARGE: Final = frozenset({KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE})
REFUSED: Final = frozenset({KafkaError.INVALID_MSG, KafkaError.INVALID_RECORD, KafkaError.POLICY_VIOLATION, KafkaError._INVALID_ARG})  # noqa: SLF001
PURGED: Final = frozenset({KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT})  # noqa: SLF001
CORRECT: Final = "correct what writes the rows"


class FencedError(EpochError):
    """Another producer has taken this one's transactional id; what this one had open is aborted."""


class UndeliverableError(EpochError):
    """A message that no further attempt would deliver as things are."""


class Message(NamedTuple):
    """What is published; `name` says in errors which one it is."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, str | bytes | None]] | None
    partition: int | None
    name: str

    @property
    def size_bytes(self) -> int:
        """Bytes of key and value."""
        return len(self.key or b"") + len(self.value or b"")


def fenced(name: str, got: str) -> FencedError:
    """Return the error of a producer that was overtaken."""
    return FencedError(
        "publish as",
        "producer",
        name,
        expected="to be the only one of this name",
        got=got,
        why="another one was started, or this one stood still for longer than transaction.timeout.ms",
        todo="nothing of it was published: let the other one run, or stop it and start this one again",
    )


def undeliverable(message: Message, cause: KafkaError, servers: str) -> UndeliverableError | None:
    """Return the error of a message whose delivery failed; None if another attempt may succeed."""
    if cause.code() in NO_TOPIC:
        return no_topic(message, cause.str(), servers)
    if cause.code() in TOO_LARGE:
        expected = f"at most message.max.bytes of this client, and max.message.bytes of topic {message.topic!r} per batch"
        todo = f"raise them (kafka.message.max.bytes here), lower kafka.batch.size to the topic's, or {CORRECT}"
        return _undeliverable(message, expected, f"{message.size_bytes} bytes", todo)
    return _undeliverable(message, "what the broker takes", cause.str(), CORRECT) if cause.code() in REFUSED else None


def no_topic(message: Message, got: str, servers: str) -> UndeliverableError:
    """Return the error of a message for a topic that is not there."""
    return _undeliverable(message, f"topic {message.topic!r} at {servers}", got, f"create the topic, or {CORRECT}")


def no_partition(message: Message, count: int) -> UndeliverableError:
    """Return the error of a message for a partition that is not there."""
    expected, got = f"a partition of topic {message.topic!r}, one of 0 to {count - 1}", str(message.partition)
    return _undeliverable(message, expected, got, f"add partitions to the topic, or {CORRECT}")


def no_mark(topic: str, got: str, servers: str) -> UndeliverableError:
    """Return the error of a mark at a topic that is not there."""
    return UndeliverableError(
        "publish to", "topic", topic, expected=f"it at {servers}, for the mark", got=got, todo="create the topic, or name another one"
    )


def _undeliverable(message: Message, expected: str, got: str, todo: str) -> UndeliverableError:
    why = "it and what follows are kept, and published once that is done"
    return UndeliverableError("publish", "row", message.name, expected=expected, got=got, why=why, todo=todo)
