"""What Kafka's places, ranges and messages are called in the old `pyspark.streaming.kafka`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["Broker", "DeadRecord", "KafkaMessageAndMetadata", "OffsetRange", "TopicAndPartition", "utf8_decoder"]


def utf8_decoder(s: bytes | None) -> str | None:
    """Return bytes as text; None stays None.

    Raises
    ------
    UnicodeDecodeError
        The bytes are not UTF-8.
    """
    return None if s is None else s.decode("utf-8")


@dataclass(frozen=True, slots=True, order=True)
class TopicAndPartition:
    """A partition of a topic."""

    topic: str
    partition: int


@dataclass(frozen=True, slots=True)
class OffsetRange:
    """Offsets ``[fromOffset, untilOffset)`` of a partition.

    Examples
    --------
    >>> print(OffsetRange("clicks", 0, 5, 9))
    OffsetRange(topic: clicks, partition: 0, range: [5 -> 9])
    """

    topic: str
    partition: int
    fromOffset: int
    untilOffset: int

    def count(self) -> int:
        """Return the number of offsets; the records may be fewer, where a log is compacted or has transactions."""
        return self.untilOffset - self.fromOffset

    def topicPartition(self) -> TopicAndPartition:
        """Return where the range is."""
        return TopicAndPartition(self.topic, self.partition)

    def __str__(self) -> str:
        return f"OffsetRange(topic: {self.topic}, partition: {self.partition}, range: [{self.fromOffset} -> {self.untilOffset}])"


@dataclass(frozen=True, slots=True)
class Broker:
    """Address of a broker."""

    host: str
    port: int


class KafkaMessageAndMetadata:
    """A record with its place, as a `messageHandler` sees it.

    Attributes
    ----------
    topic, partition, offset
        Where it is.
    """

    def __init__(
        self,
        topic: str,
        partition: int,
        offset: int,
        key: bytes | None,
        message: bytes | None,
        *,
        keyDecoder: Callable[[bytes | None], Any] = utf8_decoder,
        valueDecoder: Callable[[bytes | None], Any] = utf8_decoder,
    ) -> None:
        self.topic = topic
        self.partition = partition
        self.offset = offset
        self._raw_key, self._raw_message = key, message
        self._key_decoder, self._value_decoder = keyDecoder, valueDecoder

    @property
    def key(self) -> Any:
        """The key, decoded; None stays what the decoder makes of it."""
        return self._key_decoder(self._raw_key)

    @property
    def message(self) -> Any:
        """The value, decoded."""
        return self._value_decoder(self._raw_message)

    def __repr__(self) -> str:
        return f"KafkaMessageAndMetadata({self.topic}[{self.partition}] at {self.offset})"


@dataclass(frozen=True, slots=True)
class DeadRecord:
    """A record that the declared format does not take, with its bytes and why; `detail` is the field, if it is about one."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    reason: str
    detail: str | None
