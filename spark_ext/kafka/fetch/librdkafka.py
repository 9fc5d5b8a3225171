"""The fast fetcher: librdkafka's messages copied into columns by native loops."""

from __future__ import annotations

import os
import time
from typing import Final

import numpy as np
from numpy.typing import NDArray

from spark_ext.errors import EngineError
from spark_ext.ingest.records import Bytes, Headers, Records
from spark_ext.kafka.fetch import gather_kernel
from spark_ext.kafka.fetch.librdkafka_api import Message, address_of, load
from spark_ext.kafka.fetch.librdkafka_client import client_for
from spark_ext.kafka.fetch.protocol import Fetcher, OffsetOutOfRangeError, damaged, no_strings, unavailable
from spark_ext.kafka.fetch.settings import FetchSettings

__all__ = ["LibrdkafkaFetcher"]

POINTERS: Final = 50_000  # most records of one call
FILL_MS: Final = 10  # how long a block that has records waits for more
SLICE_MS: Final = 200  # how long to wait at a time: signals and the library's events are seen in between

PARTITION_EOF: Final = -191
OUT_OF_RANGE: Final = frozenset({-140, -139, 1})  # _AUTO_OFFSET_RESET, _LOG_TRUNCATION, OFFSET_OUT_OF_RANGE
DAMAGED: Final = frozenset({-199, -198, -155, 2})  # _BAD_MSG, _BAD_COMPRESSION, _UNDERFLOW, INVALID_MSG
FINAL: Final = frozenset({-150, 29})  # _FATAL, TOPIC_AUTHORIZATION_FAILED


class LibrdkafkaFetcher(Fetcher):
    """Reads a partition with the simple consumer of librdkafka's C interface.

    One queue per stretch between two seeks: what an old stretch still has goes with its queue, so that nothing
    outdated can be delivered.
    """

    chosen: str = "librdkafka"

    def __init__(self, settings: FetchSettings, topic: str, partition: int) -> None:
        self.position = 0
        self._floor = 0  # nothing lies between it and the position
        self._settings, self._topic, self._partition = settings, topic, partition
        self._library = load()
        self._client = client_for(self._library, settings, topic, partition)
        self._pid = os.getpid()
        self._closed = False
        self._queue: int | None = None
        self._mean_bytes = 0.0  # of the records of the last call
        self._pointers = np.empty(POINTERS, np.int64)
        self._held = 0
        self._note = ""
        self._cell = np.zeros(4, np.int64)  # where C functions write their answers
        self._destroy = address_of(self._library.rd_kafka_message_destroy)
        self._timestamp = address_of(self._library.rd_kafka_message_timestamp)
        self._headers = address_of(self._library.rd_kafka_message_headers)
        self._header_count = address_of(self._library.rd_kafka_header_cnt)
        self._header_get = address_of(self._library.rd_kafka_header_get_all)

    def seek(self, offset: int) -> None:  # noqa: D102 (Fetcher's)
        if self._queue is not None and self._floor <= offset <= self.position:
            return
        if self._queue is None or not self.position < offset <= self.position + self._within_reach():
            self._stop()
        self.position = self._floor = offset
        if self._queue is None:
            self._start()  # records come while the caller does something else

    def _within_reach(self) -> int:
        """Return how many records ahead are about to come anyway: another worker read some of what was prefetched here."""
        return int(self._settings.prefetch_bytes / self._mean_bytes) if self._mean_bytes else 0

    def close(self) -> None:  # noqa: D102 (Fetcher's)
        if self._closed or self._pid != os.getpid():  # a fork has no threads that could stop anything
            return
        self._stop()
        self._client.release(self._topic, self._partition)
        self._closed = True

    def fetch(self, end: int, max_records: int) -> Records:  # noqa: D102 (Fetcher's)
        if self._queue is None:
            self._start()
        sums = np.zeros(2, np.int64)
        limit = min(max_records, POINTERS)
        taken = 0
        deadline = time.monotonic() + self._settings.timeout_s
        while self.position < end and taken < limit and sums[0] + sums[1] < self._settings.prefetch_bytes:
            if taken == self._held and not self._pull(min(limit - taken, end - self.position), FILL_MS if taken else SLICE_MS):
                if taken:
                    break
                if time.monotonic() >= deadline:
                    raise self._unavailable(end)
                continue
            stop, self.position = gather_kernel.measure(self._pointers, taken, min(self._held, limit), self.position, end, sums)
            if stop > taken:
                self._floor = self.position
                taken = stop
            if taken < min(self._held, limit) and not self._pass_over(taken, end):
                break
        if taken:
            self._mean_bytes = max(1.0, float(sums.sum()) / taken)
        return self._gather(taken, sums)

    def _start(self) -> None:
        self._queue = self._client.new_queue()
        if self._library.rd_kafka_consume_start_queue(self._client.topic(self._topic), self._partition, self.position, self._queue) != 0:
            self._note = self._library.rd_kafka_err2str(self._library.rd_kafka_last_error()).decode()
            self._stop()
            raise self._unavailable(self.position + 1)

    def _stop(self) -> None:
        """Drop everything that was prefetched."""
        if self._queue is None:
            return
        self._library.rd_kafka_consume_stop(self._client.topic(self._topic), self._partition)
        gather_kernel.destroy(self._pointers, 0, self._held, self._destroy)
        self._held = 0
        self._library.rd_kafka_queue_destroy(self._queue)
        self._queue = None

    def _pull(self, wanted: int, wait_ms: int) -> int:
        """Take up to `wanted` messages that are there, or wait for one: a batch call with a wait would wait for all of them."""
        self._client.take_events()
        return self._take(wanted, 0) or self._take(1, wait_ms)

    def _take(self, wanted: int, wait_ms: int) -> int:
        place = self._pointers.ctypes.data + 8 * self._held
        count: int = self._library.rd_kafka_consume_batch_queue(self._queue, wait_ms, place, wanted)
        self._held += max(count, 0)
        return max(count, 0)

    def _pass_over(self, index: int, end: int) -> bool:
        """Deal with the held message that cannot be delivered; return False if it ends this call."""
        address = int(self._pointers[index])
        message = Message.from_address(address)
        if message.err == 0 and message.offset >= end:
            self.position = message.offset  # it stays held
            return False
        if message.err == PARTITION_EOF:
            self.position = max(self.position, message.offset)
            self._note = f"the partition ends at {message.offset}"
        elif message.err != 0:
            if index:
                return False  # first the records before it
            code, text = message.err, self._library.rd_kafka_message_errstr(address).decode(errors="replace")
            self._stop()  # a repeated call starts again at the position instead of behind the error
            self._fail(code, text, end)
            self._start()
            return True
        stop = max(index + 1, gather_kernel.outdated(self._pointers, index, self._held, self.position))
        gather_kernel.destroy(self._pointers, index, stop, self._destroy)
        self._pointers[index : self._held - (stop - index)] = self._pointers[stop : self._held].copy()
        self._held -= stop - index
        return True

    def _fail(self, code: int, text: str, end: int) -> None:
        """Raise what an error stands for, or keep its text if it may pass."""
        self._note = text
        if code in OUT_OF_RANGE:
            low, high = self._client.watermarks(self._topic, self._partition)
            if low is None or high is None or not low <= self.position <= high:
                raise OffsetOutOfRangeError(self._topic, self._partition, self.position, low, high)
        elif code in DAMAGED:
            raise damaged(self._topic, self._partition, self.position, text)
        elif code in FINAL:
            raise self._unavailable(end)

    def _unavailable(self, end: int) -> EngineError:
        self._client.take_events()
        if not (self._client.last_error or self._note):
            self._client.watermarks(self._topic, self._partition)  # of what it may not see, a consumer hears nothing
        why = "; ".join(part for part in (self._client.last_error, self._note) if part)
        settings = self._settings
        return unavailable(settings, self._topic, self._partition, self.position, end, why)

    def _gather(self, count: int, sums: NDArray[np.int64]) -> Records:
        offsets, timestamps = np.empty(count, np.int64), np.empty(count, np.int64)
        values = _room(count, sums[0])
        keys = _room(count, sums[1]) if self._settings.want_keys else no_strings(count)
        gather_kernel.gather(
            self._pointers,
            count,
            self._timestamp,
            self._cell.ctypes.data,
            offsets,
            timestamps,
            values.data,
            values.offsets,
            values.valid,
            self._settings.want_keys,
            keys.data,
            keys.offsets,
            keys.valid,
        )
        headers = self._gather_headers(count) if self._settings.want_headers else None
        gather_kernel.destroy(self._pointers, 0, count, self._destroy)
        self._pointers[: self._held - count] = self._pointers[count : self._held].copy()
        self._held -= count
        return Records(offsets, timestamps, keys, values, headers)

    def _gather_headers(self, count: int) -> Headers:
        places, sums = np.empty(count + 1, np.int64), np.zeros(2, np.int64)
        cell = self._cell.ctypes.data
        gather_kernel.measure_headers(self._pointers, count, self._headers, self._header_count, self._header_get, cell, places, sums)
        names, values = _room(int(places[-1]), sums[0]), _room(int(places[-1]), sums[1])
        names.valid[:] = True
        gather_kernel.gather_headers(
            self._pointers,
            count,
            self._headers,
            self._header_get,
            cell,
            places,
            names.data,
            names.offsets,
            values.data,
            values.offsets,
            values.valid,
        )
        return Headers(places, names, values)


def _room(count: int, size: int) -> Bytes:
    return Bytes(np.empty(size, np.uint8), np.empty(count + 1, np.int64), np.empty(count, np.bool_))
