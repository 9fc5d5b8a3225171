"""The exact answer of the query: from what was drawn, not from the JSON, and by another way for a part of it."""

from __future__ import annotations

import json
from collections import Counter
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.ingest.events import FIELDS, Block
from benchmarks.ingest.job import Counts

__all__ = ["Expected"]

WINDOW_MS: Final = 10_000


class Expected:
    """Counts views per campaign and 10 s of event time.

    The first block is also read as a stranger would read it, record by record: what was drawn must be what is sent.
    """

    def __init__(self, campaign_of: dict[str, str]) -> None:
        self._campaign_of = campaign_of
        self._names = sorted(set(campaign_of.values()))
        numbers = {name: number for number, name in enumerate(self._names)}
        self._campaign: NDArray[np.int64] = np.array([numbers[name] for name in campaign_of.values()])
        self._found: Counter[int] = Counter()
        self._first = True
        self.bytes = 0
        self.records = 0

    def add(self, block: Block) -> None:
        """Count one block."""
        self._found.update(self._count(block))
        self.bytes += sum(len(value or b"") for value in block.values)
        self.records += len(block.values)
        if self._first:
            assert self.counts() == _by_reading(block.values, self._campaign_of), "the events are not what was drawn"
            self._first = False

    def counts(self) -> Counts:
        """Return the answer so far."""
        size = len(self._names)
        return {(self._names[key % size], key // size * WINDOW_MS): count for key, count in self._found.items()}

    def views(self) -> int:
        """Return how many events the answer counts."""
        return self._found.total()

    def _count(self, block: Block) -> dict[int, int]:
        taken = block.view & block.good
        keys = block.time_ms[taken] // WINDOW_MS * len(self._names) + self._campaign[block.ad[taken]]
        found, counts = np.unique(keys, return_counts=True)
        return dict(zip(found.tolist(), counts.tolist(), strict=True))


def _by_reading(values: list[bytes | None], campaign_of: dict[str, str]) -> Counts:
    counts: Counter[tuple[str, int]] = Counter()
    for value in values:
        try:
            event = json.loads(value or b"")
        except (ValueError, UnicodeDecodeError):
            continue
        if event.keys() == set(FIELDS) and event["ad_id"] in campaign_of and event["event_type"] == "view":
            counts[campaign_of[event["ad_id"]], int(event["event_time"]) // WINDOW_MS * WINDOW_MS] += 1
    return dict(counts)
