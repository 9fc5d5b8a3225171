"""The fetcher in pure Python, on kafka-python: slow, for platforms without librdkafka."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from kafka import KafkaConsumer, TopicPartition
from kafka import errors as kafka_errors

from spark_ext.errors import EngineError, SettingsError
from spark_ext.kafka.fetch.objects import ObjectFetcher, Record, header_names
from spark_ext.kafka.fetch.protocol import FetcherUnusableError, OffsetOutOfRangeError, damaged, unavailable
from spark_ext.kafka.fetch.settings import FETCH_WAIT_MS, FetchSettings

__all__ = ["KafkaPythonFetcher"]

NAMES: Final = {
    "client.id": "client_id",
    "client.rack": "client_rack",
    "sasl.mechanism": "sasl_mechanism",
    "sasl.mechanisms": "sasl_mechanism",
    "sasl.password": "sasl_plain_password",
    "sasl.username": "sasl_plain_username",
    "security.protocol": "security_protocol",
    "ssl.ca.location": "ssl_cafile",
    "ssl.certificate.location": "ssl_certfile",
    "ssl.key.location": "ssl_keyfile",
    "ssl.key.password": "ssl_password",
}
ANSWER_TIMEOUT_MS: Final = 5_000


class KafkaPythonFetcher(ObjectFetcher):
    """Reads a partition with `kafka.KafkaConsumer`, one consumer per partition.

    Not supported: client properties beyond those in `NAMES`; snappy, lz4 and zstd where their packages are not installed.
    """

    chosen: str = "kafka-python"

    def __init__(self, settings: FetchSettings, topic: str, partition: int) -> None:
        super().__init__(settings, topic, partition)
        self._place = TopicPartition(topic, partition)
        self._config = _config(settings)
        self._consumer: Any = None

    def close(self) -> None:  # noqa: D102 (Fetcher's)
        if self._consumer is not None:
            self._consumer.close(autocommit=False)
            self._consumer = None

    def _restart(self, offset: int) -> None:
        if self._consumer is None:  # only now: its constructor waits for a broker
            try:
                with _overheard() as said:
                    self._consumer = KafkaConsumer(**self._config)
            except kafka_errors.KafkaError as error:
                raise self._unavailable(said.reason or error) from error
            self._consumer.assign([self._place])
        self._consumer.seek(self._place, offset)

    def _pull(self, wanted: int, wait_s: float) -> None:
        try:
            found = self._consumer.poll(int(wait_s * 1000), wanted).get(self._place, ())
            # asked without waiting: only what is known of markers and compacted records counts
            self._reached = max(self._reached, self._consumer.position(self._place, 0) or 0)
        except kafka_errors.KafkaError as error:
            self._error = self._failure(error)
            if self._error is not None:
                self.close()  # after an error in a batch kafka-python goes round in it for ever, even after a seek
            return
        self._pending.extend(
            Record(
                record.offset,
                record.timestamp,
                record.key,
                record.value,
                [(name.encode(), value) for name, value in record.headers] if self._settings.want_headers else [],
            )
            for record in found
        )

    def _failure(self, error: Exception) -> EngineError | None:
        self._note = f"{type(error).__name__}: {error}"
        if isinstance(error, kafka_errors.OffsetOutOfRangeError | kafka_errors.LogTruncationError):
            return OffsetOutOfRangeError(self._topic, self._partition, self._reached, *self._watermarks())
        if isinstance(error, kafka_errors.CorruptRecordError) and "UnicodeDecodeError" in str(error):
            return header_names(self._topic, self._partition, self._reached)
        if isinstance(error, kafka_errors.CorruptRecordError):
            return damaged(self._topic, self._partition, self._reached, self._note)
        if isinstance(error, kafka_errors.UnsupportedCodecError):
            return FetcherUnusableError(
                "read",
                "partition",
                f"{self._topic}-{self._partition}",
                expected="a codec whose Python package is installed",
                got=str(error),
                todo="install kafka-python with its snappy, lz4 and zstd extras, or use fetcher='auto'",
            )
        return None if isinstance(error, kafka_errors.RetriableError) else self._unavailable(error)

    def _ask_why(self) -> str:
        try:
            self._consumer.beginning_offsets([self._place], ANSWER_TIMEOUT_MS)
        except kafka_errors.KafkaError as error:
            return f"{type(error).__name__}: {error}"
        return ""

    def _unavailable(self, error: Exception) -> EngineError:
        why = f"{type(error).__name__}: {error}"
        return unavailable(self._settings, self._topic, self._partition, self.position, self.position + 1, why)

    def _watermarks(self) -> tuple[int | None, int | None]:
        try:
            low = self._consumer.beginning_offsets([self._place], ANSWER_TIMEOUT_MS)[self._place]
            high = self._consumer.end_offsets([self._place], ANSWER_TIMEOUT_MS)[self._place]
        except kafka_errors.KafkaError:
            return None, None
        return low, high


class _Overheard(logging.Handler):
    """The last error that kafka-python logged, of logins rather than of connections: what it raises after them has no reason."""

    reason: Exception | None = None

    def emit(self, record: logging.LogRecord) -> None:
        for said in record.args if isinstance(record.args, tuple) else ():
            late = isinstance(said, kafka_errors.KafkaTimeoutError) or isinstance(self.reason, kafka_errors.SaslAuthenticationFailedError)
            if isinstance(said, Exception) and not late:
                self.reason = said


@contextmanager
def _overheard() -> Iterator[_Overheard]:
    ear, log = _Overheard(logging.WARNING), logging.getLogger("kafka.net.manager")
    log.addHandler(ear)
    try:
        yield ear
    finally:
        log.removeHandler(ear)


def _config(settings: FetchSettings) -> dict[str, Any]:
    if unknown := sorted(settings.properties.keys() - NAMES.keys()):
        raise SettingsError(
            "use",
            "client property",
            unknown[0],
            expected=f"one of {sorted(NAMES)!r}",
            got=repr(unknown),
            why="kafka-python has no such property",
            todo="leave it out, or use a fetcher that has librdkafka",
        )
    timeout_ms = int(settings.timeout_s * 1000)
    return {
        "client_id": "millrace",
        **{NAMES[name]: value for name, value in settings.properties.items()},
        "auto_offset_reset": "none",
        "bootstrap_servers": settings.bootstrap_servers.split(","),
        "bootstrap_timeout_ms": timeout_ms,
        "check_crcs": settings.check_crcs,
        "enable_auto_commit": False,
        "fetch_max_wait_ms": FETCH_WAIT_MS,
        "fetch_max_bytes": settings.prefetch_bytes,
        "isolation_level": settings.isolation,
        "metrics_enabled": False,
        "reconnect_backoff_max_ms": 1000,
    }
