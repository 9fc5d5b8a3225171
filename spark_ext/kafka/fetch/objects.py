"""What the two slower fetchers share: their clients make an object per record, which go into columns here."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from bisect import bisect_left
from operator import attrgetter
from typing import Final, NamedTuple

import numpy as np

from spark_ext.errors import EngineError
from spark_ext.ingest.records import Bytes, Headers, Records
from spark_ext.kafka.fetch.protocol import FetcherUnusableError, no_strings, unavailable
from spark_ext.kafka.fetch.settings import FetchSettings

__all__ = ["ObjectFetcher", "Record", "header_names"]

MOST: Final = 10_000  # records of one call: these hold objects, so blocks are smaller
FILL_S: Final = 0.01
SLICE_S: Final = 0.2

offset_of: Final = attrgetter("offset")


class Record(NamedTuple):
    """A record as a client delivered it."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[bytes, bytes | None]]


class ObjectFetcher(ABC):
    """Does what `Fetcher` says on top of a client that has `_restart` and `_pull`."""

    def __init__(self, settings: FetchSettings, topic: str, partition: int) -> None:
        self.position = 0
        self._settings, self._topic, self._partition = settings, topic, partition
        self._floor = 0  # nothing lies between it and the position
        self._reached = 0  # where the client stands when it has delivered what is pending
        self._pending: list[Record] = []
        self._error: EngineError | None = None  # comes behind what is pending
        self._running = False
        self._note = ""

    @abstractmethod
    def close(self) -> None:
        """End the client."""

    @abstractmethod
    def _restart(self, offset: int) -> None:
        """Make `offset` the client's next one and forget what it fetched."""

    @abstractmethod
    def _pull(self, wanted: int, wait_s: float) -> None:
        """Move what comes to `_pending`, and set `_reached`, `_error` or `_note`."""

    @abstractmethod
    def _ask_why(self) -> str:
        """Return what the broker says of the partition: of one that it may not see, a consumer hears nothing."""

    def seek(self, offset: int) -> None:  # noqa: D102 (Fetcher's)
        if self._running and self._floor <= offset <= self.position:
            return
        self._stop()
        self.position = self._floor = offset

    def fetch(self, end: int, max_records: int) -> Records:  # noqa: D102 (Fetcher's)
        deadline = time.monotonic() + self._settings.timeout_s
        limit = min(max_records, MOST)
        taken: list[Record] = []
        size = 0
        while self.position < end and len(taken) < limit and size < self._settings.prefetch_bytes:
            if not self._pending and not self._refill(limit - len(taken), FILL_S if taken else SLICE_S):
                if taken:
                    break
                if error := self._error:
                    self._stop()  # a repeated call starts again at the position instead of behind the error
                    raise error
                if time.monotonic() >= deadline and self._reached <= self.position:
                    why = self._note or self._ask_why()
                    raise unavailable(self._settings, self._topic, self._partition, self.position, end, why)
            if self._pending:
                block = self._take(end, limit - len(taken))
                if not block and self._pending:
                    break
                taken += block
                size += sum(len(record.value or b"") + len(record.key or b"") for record in block)
            if not self._pending:
                self.position = max(self.position, self._reached)
        return _columns(taken, self._settings)

    def _take(self, end: int, most: int) -> list[Record]:
        """Take from what is pending, which is in order, what may be delivered now."""
        pending = self._pending
        first = 0 if pending[0].offset >= self.position else bisect_left(pending, self.position, key=offset_of)
        last = len(pending) if pending[-1].offset < end else bisect_left(pending, end, key=offset_of)
        last = min(last, first + most)
        taken, self._pending = pending[first:last], pending[last:]
        if taken:
            self.position = self._floor = taken[-1].offset + 1
        if self._pending:
            self.position = self._pending[0].offset
        return taken

    def _stop(self) -> None:
        self._running = False
        self._pending.clear()
        self._error = None

    def _refill(self, wanted: int, wait_s: float) -> bool:
        if not self._running:
            self._reached = self.position
            self._restart(self.position)
            self._running = True
        if self._error is None:
            self._pull(wanted, wait_s)
        return bool(self._pending)


def header_names(topic: str, partition: int, offset: int) -> FetcherUnusableError:
    """Return the error of a client that cannot show a record whose header names are not text."""
    return FetcherUnusableError(
        "read",
        "record",
        f"{topic}-{partition} at {offset}",
        expected="header names in UTF-8, with this client",
        got="bytes that are none",
        todo="use fetcher='librdkafka', which shows them",
    )


def _columns(records: list[Record], settings: FetchSettings) -> Records:
    return Records(
        np.array([record.offset for record in records], np.int64),
        np.array([record.timestamp for record in records], np.int64),
        Bytes.of([record.key for record in records]) if settings.want_keys else no_strings(len(records)),
        Bytes.of([record.value for record in records]),
        _headers(records) if settings.want_headers else None,
    )


def _headers(records: list[Record]) -> Headers:
    places = np.zeros(len(records) + 1, np.int64)
    np.cumsum([len(record.headers) for record in records], out=places[1:])
    flat = [header for record in records for header in record.headers]
    return Headers(places, Bytes.of([name for name, _ in flat]), Bytes.of([value for _, value in flat]))
