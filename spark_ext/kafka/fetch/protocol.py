"""What a fetcher is, and how it fails."""

from __future__ import annotations

import re
from typing import Final, Protocol

import numpy as np

from spark_ext.errors import BrokerUnavailableError, EngineError
from spark_ext.ingest.records import Bytes, Records
from spark_ext.kafka.fetch.settings import FetchSettings
from spark_ext.kafka.refusals import forbidden, login_refused, without_secrets

__all__ = ["DamagedRecordsError", "Fetcher", "FetcherUnusableError", "OffsetOutOfRangeError", "damaged", "no_strings", "unavailable"]

FORBIDDEN: Final = re.compile(r"Topic authorization failed|TopicAuthorization")  # librdkafka's words, kafka-python's


class OffsetOutOfRangeError(EngineError, LookupError):
    """The broker has no such offset (any more), so records between it and `log_start` are lost.

    Attributes
    ----------
    topic : str
    partition : int
    offset : int
        The offset that was wanted.
    log_start, log_end : int or None
        What the partition has, as far as the broker could be asked.
    """

    def __init__(self, topic: str, partition: int, offset: int, log_start: int | None, log_end: int | None) -> None:
        self.topic = topic
        self.partition = partition
        self.offset = offset
        self.log_start = log_start
        self.log_end = log_end
        known = log_start is not None and log_end is not None
        super().__init__(
            "read",
            "partition",
            f"{topic}-{partition}",
            expected=f"an offset from {log_start} to {log_end}" if known else "an offset that the broker has",
            got=str(offset),
            why="retention or a new topic of the same name took the records away" if known else "",
            todo="count the range as lost, or start a new checkpoint",
        )


class DamagedRecordsError(EngineError, RuntimeError):
    """The bytes of a batch are not those that were produced."""


class FetcherUnusableError(EngineError, RuntimeError):
    """A fetcher cannot work in this installation; "auto" takes the next one."""


class Fetcher(Protocol):
    """Reads one topic partition forwards; kept by a worker between batches.

    Guarantee: from `seek` on, every record that the isolation level shows comes exactly once, in offset order, with
    the bytes that were produced; what cannot be read raises.

    Attributes
    ----------
    position : int
        No record before it is still to come; it moves over gaps (compaction, transaction markers), also beyond `end`.
    chosen : str
        Name of the fetcher, as in `FetchSettings.fetcher`.
    """

    position: int
    chosen: str

    def seek(self, offset: int) -> None:
        """Make `offset` the next one; what was prefetched is kept if that is where the fetcher stands."""

    def fetch(self, end: int, max_records: int) -> Records:
        """Return the next records with offset < `end`, in order, at most `max_records` and about `prefetch_bytes`.

        Called in a loop while ``position < end``; no records means that `end` is reached. A record at or behind
        `end` that came already stays for the next call.

        Raises
        ------
        BrokerUnavailableError
            Nothing came for `timeout_s`.
        BrokerError
            The broker does not permit it, or for `timeout_s` did not let us in.
        OffsetOutOfRangeError
            The broker has no records at `position`.
        DamagedRecordsError
            A batch is damaged.
        """

    def close(self) -> None:
        """Give connections and memory back; the fetcher cannot be used afterwards."""


def unavailable(settings: FetchSettings, topic: str, partition: int, position: int, end: int, why: str) -> EngineError:
    """Return the error of a fetcher that cannot go on, by what the client last said."""
    client = settings.properties
    if FORBIDDEN.search(why):
        return forbidden("topic", topic, "READ on the topic", client, why)
    if refused := login_refused(settings.bootstrap_servers, client, why):
        return refused
    return BrokerUnavailableError(
        "reach",
        "broker",
        settings.bootstrap_servers,
        expected=f"records {position} to {end - 1} of {topic}-{partition}, or their gap, within {settings.timeout_s:g} s",
        got=f"no answer: {without_secrets(why, client) or 'no reason known'}",
        todo="start the broker, or correct bootstrap_servers, the topic, or the user and its permissions; the batch can be repeated",
    )


def damaged(topic: str, partition: int, position: int, why: str) -> DamagedRecordsError:
    """Return the error of a batch whose checksum or shape is wrong."""
    return DamagedRecordsError(
        "read",
        "partition",
        f"{topic}-{partition}",
        expected=f"whole records from offset {position} on",
        got=why,
        todo="repair the broker's log from another copy; the batch can be repeated, or the range counted as lost",
    )


def no_strings(count: int) -> Bytes:
    """Return as many nulls, for a column that nobody wants."""
    return Bytes(np.empty(0, np.uint8), np.zeros(count + 1, np.int64), np.zeros(count, np.bool_))
