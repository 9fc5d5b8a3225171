"""Read a whole topic, and tell events from anything else that is in it."""

from __future__ import annotations

import json
from itertools import product
from typing import Any, Final

import pandas as pd
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

__all__ = ["FIELDS", "ProofError", "parse", "read_topic"]

FIELDS: Final = ["event", "event_time", "scheduled_time", "carrier", "flight", "tailnum", "origin", "dest", "delay_minutes"]
KINDS: Final = {"departure", "arrival", "cancellation"}
NONE: Final = type(None)
SHAPES: Final = set(product([str], [str], [str], [str], [int], [str, NONE], [str], [str], [int, NONE]))
FIRST, LAST = pd.Timestamp("2013-01-01T00:00Z"), pd.Timestamp("2014-01-07T00:00Z")
INT32: Final = 1 << 31
TIMEOUT_S: Final = 20
FETCH_ROWS: Final = 20_000
FETCH_S: Final = 0.5  # consume() waits this long if it cannot fill up, as at the end


class ProofError(RuntimeError):
    """The proof cannot even be tried."""


def read_topic(bootstrap_servers: str, topic: str) -> pd.DataFrame:
    """Read every committed record from the first to the present end of each partition.

    Returns
    -------
    DataFrame
        ``partition`` and ``offset`` int64, ``timestamp`` UTC, ``key`` and ``value`` bytes or None.

    Raises
    ------
    ProofError
        No broker, no such topic, or silence for 20 s.
    """
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap_servers,
            "group.id": "flights-check",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "log_level": 0,  # it would write twenty lines a second to stderr; what matters comes as an exception
        }
    )
    try:
        partitions = consumer.list_topics(topic, timeout=TIMEOUT_S).topics[topic].partitions
        if not partitions:
            msg = f"cannot read topic {topic!r}: expected partitions, got none at {bootstrap_servers!r}; publish the events first"
            raise ProofError(msg)
        consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in partitions])
        return _frame(_messages(consumer, len(partitions)))
    except KafkaException as error:
        msg = f"cannot read topic {topic!r}: expected answers from {bootstrap_servers!r}, got {error}; is the broker running?"
        raise ProofError(msg) from error
    finally:
        consumer.close()


def parse(records: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Split records into events and the rest.

    Returns
    -------
    tuple of DataFrame
        The events with `FIELDS` as typed columns after the records' own, and the records that are no events:
        not one JSON object in UTF-8, a field missing or of another type, no known kind, or a time that no flight
        of 2013 can have. A missing ``tailnum`` or ``delay_minutes`` counts as null.
    """
    rows = [_fields(value) for value in records["value"]]
    shaped = pd.Series([row is not None for row in rows], records.index, dtype=bool)
    events = pd.DataFrame.from_records([row for row in rows if row is not None], columns=FIELDS, index=records.index[shaped])
    for name in ("event_time", "scheduled_time"):
        events[name] = pd.to_datetime(events[name], format="%Y-%m-%dT%H:%M:%SZ", utc=True, errors="coerce")
    good = events["event"].isin(KINDS) & events["event_time"].between(FIRST, LAST) & events["scheduled_time"].between(FIRST, LAST)
    events = events[good].astype({"flight": "int64", "delay_minutes": "Int64"})
    return records.drop(columns=["key", "value"]).join(events, how="inner"), records.drop(index=events.index)


def _messages(consumer: Consumer, partitions: int) -> list[Message]:
    messages: list[Message] = []
    ended, quiet_s = 0, 0.0
    while ended < partitions:
        fetched = consumer.consume(FETCH_ROWS, timeout=FETCH_S)
        quiet_s = 0.0 if fetched else quiet_s + FETCH_S
        if quiet_s >= TIMEOUT_S:
            msg = f"cannot read topic: expected its end, got silence for {TIMEOUT_S} s after {len(messages):,} records; is the broker up?"
            raise ProofError(msg)
        for message in fetched:
            error = message.error()
            if error is None:
                messages.append(message)
            elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 (confluent's public name for it)
                ended += 1
            else:
                raise KafkaException(error)
    return messages


def _frame(messages: list[Message]) -> pd.DataFrame:
    stamps = pd.Series([message.timestamp()[1] for message in messages], dtype="int64")
    return pd.DataFrame(
        {
            "partition": pd.Series([message.partition() for message in messages], dtype="int64"),
            "offset": pd.Series([message.offset() for message in messages], dtype="int64"),
            "timestamp": pd.to_datetime(stamps, unit="ms", utc=True),
            "key": pd.Series([message.key() for message in messages], dtype=object),
            "value": pd.Series([message.value() for message in messages], dtype=object),
        }
    )


def _fields(value: bytes | None) -> tuple[object, ...] | None:
    try:
        found: Any = json.loads((value or b"").decode())
    except ValueError:
        return None
    if type(found) is not dict:
        return None
    row = tuple([found.get(name) for name in FIELDS])
    fits = tuple(map(type, row)) in SHAPES and abs(found["flight"]) < INT32 and abs(found.get("delay_minutes") or 0) < INT32
    return row if fits else None
