"""The fetcher on confluent-kafka's own consumer, where the C functions below it cannot be reached."""

from __future__ import annotations

import logging
from typing import Any, Final

from confluent_kafka import TIMESTAMP_NOT_AVAILABLE as NO_TIMESTAMP
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from spark_ext.errors import EngineError, SettingsError
from spark_ext.kafka.fetch.objects import ObjectFetcher, Record, header_names
from spark_ext.kafka.fetch.protocol import OffsetOutOfRangeError, damaged, unavailable
from spark_ext.kafka.fetch.settings import FetchSettings, librdkafka_properties

__all__ = ["ConfluentFetcher"]

OUT_OF_RANGE: Final = frozenset({KafkaError._AUTO_OFFSET_RESET, KafkaError._LOG_TRUNCATION, KafkaError.OFFSET_OUT_OF_RANGE})  # noqa: SLF001
DAMAGED: Final = frozenset({KafkaError._BAD_MSG, KafkaError._BAD_COMPRESSION, KafkaError._UNDERFLOW, KafkaError.INVALID_MSG})  # noqa: SLF001
FINAL: Final = frozenset({KafkaError._FATAL, KafkaError.TOPIC_AUTHORIZATION_FAILED})  # noqa: SLF001
BROKERS_DOWN: Final = KafkaError._ALL_BROKERS_DOWN  # noqa: SLF001
GROUP_FORBIDDEN: Final = KafkaError.GROUP_AUTHORIZATION_FAILED
PARTITION_EOF: Final = KafkaError._PARTITION_EOF  # noqa: SLF001
ANSWER_TIMEOUT_S: Final = 5.0

log = logging.getLogger(__name__)


class ConfluentFetcher(ObjectFetcher):
    """Reads a partition with `confluent_kafka.Consumer`, one consumer per partition."""

    chosen: str = "confluent"

    def __init__(self, settings: FetchSettings, topic: str, partition: int) -> None:
        super().__init__(settings, topic, partition)
        # the group is never joined and nothing is committed, but the consumer asks for a name
        given: dict[str, Any] = {"group.id": "millrace", **librdkafka_properties(settings), "error_cb": self._hear}
        try:
            self._consumer = Consumer(given, logger=log)
        except KafkaException as error:
            raise SettingsError(
                "use",
                "client property",
                ",".join(sorted(settings.properties)),
                expected="what librdkafka takes",
                got=error.args[0].name(),  # its text may have the value
                todo="correct it",
            ) from None

    def close(self) -> None:  # noqa: D102 (Fetcher's)
        self._consumer.close()

    def _hear(self, error: KafkaError) -> None:
        if error.code() != BROKERS_DOWN or not self._note:  # which comes behind the reason
            self._note = error.str()

    def _restart(self, offset: int) -> None:
        self._consumer.unassign()
        self._consumer.assign([TopicPartition(self._topic, self._partition, offset)])

    def _pull(self, wanted: int, wait_s: float) -> None:
        # with a wait the call would wait for all that is wanted
        message: Any  # its stubs allow for messages that were never fetched
        for message in self._consumer.consume(wanted, 0) or self._consumer.consume(1, wait_s):
            error = message.error()
            if error is None:
                self._pending.append(self._record(message))
                self._reached = message.offset() + 1
            elif error.code() == PARTITION_EOF:
                self._reached = max(self._reached, message.offset())
            elif error.code() != GROUP_FORBIDDEN:  # the group is never used
                self._error = self._error or self._failure(error)

    def _record(self, message: Any) -> Record:
        kind, timestamp = message.timestamp()
        try:
            headers = [(name.encode(), value) for name, value in message.headers() or ()] if self._settings.want_headers else []
        except SystemError as error:  # a name that is not UTF-8, if the client survives it
            raise header_names(self._topic, self._partition, message.offset()) from error
        return Record(message.offset(), -1 if kind == NO_TIMESTAMP else timestamp, message.key(), message.value(), headers)

    def _failure(self, error: KafkaError) -> EngineError | None:
        self._note = error.str()
        if error.code() in OUT_OF_RANGE:
            low, high = self._watermarks()
            if low is not None and high is not None and low <= self._reached <= high:
                self._running = False  # it passed: start again
                return None
            return OffsetOutOfRangeError(self._topic, self._partition, self._reached, low, high)
        if error.code() in DAMAGED:
            return damaged(self._topic, self._partition, self._reached, error.str())
        if error.code() in FINAL:
            return unavailable(self._settings, self._topic, self._partition, self._reached, self._reached + 1, error.str())
        return None

    def _ask_why(self) -> str:
        try:
            error = self._consumer.list_topics(self._topic, ANSWER_TIMEOUT_S).topics[self._topic].error
        except KafkaException as failure:
            error = failure.args[0]
        return error.str() if error is not None else ""

    def _watermarks(self) -> tuple[int, int] | tuple[None, None]:
        try:
            low, high = self._consumer.get_watermark_offsets(TopicPartition(self._topic, self._partition), ANSWER_TIMEOUT_S)
        except KafkaException:
            return None, None
        return low, high
