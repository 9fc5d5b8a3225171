"""The events of the Yahoo Streaming Benchmark: seeded, as JSON of about 257 bytes, into a topic of four partitions.

Seven text fields; 1000 ads of 100 campaigns; ad, ad type and event type uniform; 50 events per millisecond of event
time, in order. Some of the records can be made malformed, in ways that every system has to leave out of its counts.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from confluent_kafka import Producer
from numpy.typing import NDArray

__all__ = ["FIELDS", "PARTITIONS", "SEED", "Block", "blocks", "campaign_of", "produce"]

SEED: Final = 7
PARTITIONS: Final = 4
FIELDS: Final = ("user_id", "page_id", "ad_id", "ad_type", "event_type", "event_time", "ip_address")

ADS: Final = 1_000
CAMPAIGNS: Final = 100
AD_TYPES: Final = (b"banner", b"modal", b"sponsored-search", b"mail", b"mobile")
EVENT_TYPES: Final = (b"view", b"click", b"purchase")
START_MS: Final = 1_700_000_000_000
EVENTS_PER_MS: Final = 50
POOL: Final = 100_000  # distinct users, and pages: enough that no compression finds them again
BLOCK: Final = 20_000
QUEUE: Final = 400_000


@dataclass(frozen=True, slots=True)
class Block:
    """Some consecutive events: as they are sent, and as they were drawn.

    Attributes
    ----------
    values : list of bytes or None
        Values of the records.
    ad : ndarray (n,) int64
        Number of the ad.
    view, good : ndarray (n,) bool
        Whether it is a view, and whether the record can be read.
    time_ms : ndarray (n,) int64
        Event time.
    """

    values: list[bytes | None]
    ad: NDArray[np.int64]
    view: NDArray[np.bool_]
    time_ms: NDArray[np.int64]
    good: NDArray[np.bool_]


SPOIL: Final[tuple[Callable[[bytes], bytes | None], ...]] = (
    lambda _: None,  # a tombstone
    lambda _: b"",
    lambda _: b"GET / HTTP/1.1",
    lambda value: value[:70],  # cut before the ad
    lambda value: value.replace(b'"ad_id": "', b'"ad_id": "\xff', 1),  # not UTF-8
    lambda value: value.replace(b'"ad_id"', b'"add_id"', 1),  # a field is missing
    lambda value: value[: value.index(b'"ad_id"')] + b'"ad_id": 17, ' + value[value.index(b'"ad_type"') :],  # of the wrong type
)


def campaign_of(seed: int) -> dict[str, str]:
    """Return the campaign of each ad, in the order of their numbers."""
    names = _uuids(np.random.default_rng([seed, 0]), ADS + CAMPAIGNS)
    return {ad: names[ADS + number % CAMPAIGNS] for number, ad in enumerate(names[:ADS])}


def blocks(events: int, seed: int, malformed: float) -> Iterator[Block]:
    """Yield events; fewer of them are the beginning of more.

    Parameters
    ----------
    events : int
        A multiple of 20,000.
    seed : int
        Another seed, other events.
    malformed : float in [0, 1)
        Share of the records that are spoiled, in several ways.
    """
    assert events % BLOCK == 0, f"a multiple of {BLOCK} events"
    ads = [b'"ad_id": "%b", ' % ad.encode() for ad in campaign_of(seed)]
    pool = _uuids(np.random.default_rng([seed, 1]), 2 * POOL)
    users = [b'{"user_id": "%b", ' % user.encode() for user in pool[:POOL]]
    pages = [b'"page_id": "%b", ' % page.encode() for page in pool[POOL:]]
    kinds = [b'"ad_type": "%b", "event_type": "%b", ' % (ad_type, event_type) for event_type in EVENT_TYPES for ad_type in AD_TYPES]
    for first in range(0, events, BLOCK):
        draw = np.random.default_rng([seed, 2, first])
        user, page = draw.integers(POOL, size=(2, BLOCK))
        ad, kind = draw.integers(ADS, size=BLOCK), draw.integers(len(kinds), size=BLOCK)
        time_ms = START_MS + np.arange(first, first + BLOCK) // EVENTS_PER_MS
        ends = [b'"event_time": "%d", "ip_address": "10.11.12.13"}' % time for time in time_ms.tolist()]
        drawn = zip(user.tolist(), page.tolist(), ad.tolist(), kind.tolist(), ends, strict=True)
        values: list[bytes | None] = [users[u] + pages[p] + ads[a] + kinds[k] + end for u, p, a, k, end in drawn]
        good = draw.random(BLOCK) >= malformed
        for index, how in zip(np.flatnonzero(~good).tolist(), draw.integers(len(SPOIL), size=BLOCK).tolist(), strict=False):
            value = values[index]
            assert value is not None
            values[index] = SPOIL[how](value)
        yield Block(values, ad, kind < len(AD_TYPES), time_ms, good)


def produce(servers: str, topic: str, source: Iterator[Block], *, compression: str, seen: Callable[[Block], None]) -> str:
    """Send all blocks, event by event over the partitions in turn; return the checksum of the values.

    Parameters
    ----------
    seen : callable
        Is shown each block: for whoever works out the answer.
    """
    producer = Producer(
        {
            "bootstrap.servers": servers,
            "acks": "all",
            "enable.idempotence": True,
            "log_level": 3,  # a coordinator that still starts is no news
            "compression.type": compression,
            "linger.ms": 50,
            "batch.size": 1_000_000,
            "batch.num.messages": 100_000,
            "queue.buffering.max.messages": 2 * QUEUE,
            "queue.buffering.max.kbytes": 1_048_576,
        }
    )
    digest = hashlib.sha256()
    for block in source:
        for partition in range(PARTITIONS):
            for value in block.values[partition::PARTITIONS]:
                producer.produce(topic, value, partition=partition)
        digest.update(b"\n".join(value or b"" for value in block.values))
        seen(block)
        producer.poll(0)
        while len(producer) > QUEUE:
            producer.poll(0.01)
    assert producer.flush(60) == 0, "the broker did not take all events"
    return digest.hexdigest()[:16]


def _uuids(draw: np.random.Generator, count: int) -> list[str]:
    return [str(uuid.UUID(bytes=draw.bytes(16), version=4)) for _ in range(count)]
