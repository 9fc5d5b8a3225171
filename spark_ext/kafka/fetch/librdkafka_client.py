"""Clients of the C library: one per process and settings, shared by its partitions."""

from __future__ import annotations

import ctypes
import logging
import os
from typing import Final

from spark_ext.errors import SettingsError
from spark_ext.kafka.fetch.librdkafka_api import Library
from spark_ext.kafka.fetch.settings import FetchSettings, librdkafka_properties

__all__ = ["Client", "Watermarks", "client_for"]

CONSUMER: Final = 1
EVENT_LOG: Final = 0x4
EVENT_ERROR: Final = 0x8
NO_CONSUMER_CLOSE: Final = 0x8
TEXT_BYTES: Final = 512
ANSWER_TIMEOUT_MS: Final = 5_000
AFTERWARDS: Final = "brokers are down"  # comes behind the reason
QUIET: Final = 5  # syslog's "notice": what is less urgent is for librdkafka's own debugging

Watermarks = tuple[int, int] | tuple[None, None]

log = logging.getLogger(__name__)

_clients: list[Client] = []


class Client:
    """An ``rd_kafka_t`` with the simple consumer's interface.

    Its threads do not survive a fork: in a child it must be neither used nor destroyed.
    """

    def __init__(self, library: Library, settings: FetchSettings) -> None:
        self.library = library
        self.settings = settings
        self.pid = os.getpid()
        self.partitions: set[tuple[str, int]] = set()
        self.last_error = ""
        self._topics: dict[str, int] = {}
        self._handle = self._new()
        self._events: int = library.rd_kafka_queue_get_main(self._handle)
        library.rd_kafka_set_log_queue(self._handle, self._events)

    def _new(self) -> int:
        library = self.library
        text = ctypes.create_string_buffer(TEXT_BYTES)
        conf = library.rd_kafka_conf_new()
        for name, value in {**librdkafka_properties(self.settings), "log.queue": "true"}.items():
            if library.rd_kafka_conf_set(conf, name.encode(), value.encode(), text, TEXT_BYTES) != 0:
                library.rd_kafka_conf_destroy(conf)
                raise self._refused(name, text.value.decode(errors="replace").replace(value, "..."))
        library.rd_kafka_conf_set_events(conf, EVENT_ERROR | EVENT_LOG)  # no callbacks: nothing of Python in its threads
        handle: int | None = library.rd_kafka_new(CONSUMER, conf, text, TEXT_BYTES)
        if handle is None:
            library.rd_kafka_conf_destroy(conf)
            raise self._refused(",".join(sorted(self.settings.properties)), text.value.decode(errors="replace"))
        return handle

    def _refused(self, name: str, why: str) -> SettingsError:
        return SettingsError("use", "client property", name, expected="what librdkafka takes", got=why, todo="correct it")

    def topic(self, name: str) -> int:
        """Return the handle of a topic."""
        if name not in self._topics:
            self._topics[name] = self.library.rd_kafka_topic_new(self._handle, name.encode(), None)
        return self._topics[name]

    def new_queue(self) -> int:
        """Return a new queue, for one partition from one seek to the next."""
        queue: int = self.library.rd_kafka_queue_new(self._handle)
        return queue

    def take_events(self) -> None:
        """Keep the last error, and pass on what the library logs."""
        library = self.library
        while event := library.rd_kafka_queue_poll(self._events, 0):
            if library.rd_kafka_event_type(event) == EVENT_ERROR:
                text = _text(library.rd_kafka_event_error_string(event))
                if not (self.last_error and text.endswith(AFTERWARDS)):
                    self.last_error = text
            elif library.rd_kafka_event_type(event) == EVENT_LOG:
                facility, line, level = ctypes.c_char_p(), ctypes.c_char_p(), ctypes.c_int()
                library.rd_kafka_event_log(event, ctypes.byref(facility), ctypes.byref(line), ctypes.byref(level))
                log.log(logging.INFO if level.value <= QUIET else logging.DEBUG, "%s: %s", _text(facility.value), _text(line.value))
            library.rd_kafka_event_destroy(event)

    def watermarks(self, topic: str, partition: int) -> Watermarks:
        """Return the first and the next offset of a partition, or None twice if nobody answers."""
        low, high = ctypes.c_int64(), ctypes.c_int64()
        failed = self.library.rd_kafka_query_watermark_offsets(
            self._handle, topic.encode(), partition, ctypes.byref(low), ctypes.byref(high), ANSWER_TIMEOUT_MS
        )
        if failed:
            self.last_error = self.last_error or _text(self.library.rd_kafka_err2str(failed))
            return None, None
        return low.value, high.value

    def release(self, topic: str, partition: int) -> None:
        """Let a partition go, and the client itself with the last one."""
        self.partitions.discard((topic, partition))
        if self.partitions or self not in _clients:
            return
        _clients.remove(self)
        for handle in self._topics.values():
            self.library.rd_kafka_topic_destroy(handle)
        self.library.rd_kafka_queue_destroy(self._events)
        self.library.rd_kafka_destroy_flags(self._handle, NO_CONSUMER_CLOSE)


def client_for(library: Library, settings: FetchSettings, topic: str, partition: int) -> Client:
    """Return a client of this process in which nobody reads that partition yet, and take the partition in it."""
    for client in _clients:
        if client.pid == os.getpid() and client.settings == settings and (topic, partition) not in client.partitions:
            break
    else:
        client = Client(library, settings)
        _clients.append(client)
    client.partitions.add((topic, partition))
    return client


def _text(found: bytes | None) -> str:
    return (found or b"").decode(errors="replace")
