"""Keys seen of late, in Bloom filters by slice of event time: a slice is forgotten whole, and gets more filters when it is full.

Not `sketches.RotatingBloomFilter`: that one forgets by the newest time that it was given, so that one event ahead of the others would make
it forget keys that still count. Here the watermark alone decides what is forgotten; an event ahead is a slice of its own.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Final, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sketches import ClassicBloomFilter

__all__ = ["LAYERS", "LEAST_RATE", "SCHEMA", "Sizes", "Slices"]

SCHEMA: Final = pa.schema([
    ("first_us", pa.int64()), ("layer", pa.int32()), ("capacity", pa.int64()), ("keys", pa.int64()), ("rate", pa.float64()),
    ("filter", pa.binary()),
])  # fmt: skip
LEAST_RATE: Final = 1e-8  # of one filter
LAYERS: Final = 17  # each half as large as all before it: 656 times what was expected
FIRST_SHARE: Final = 3 / 4  # of what a slice may err, for its first filter; the other 16 share the rest
LATER_SHARE: Final = (1 - FIRST_SHARE) / (LAYERS - 1)
WARN_ABOVE: Final = 2  # filters of a slice
SIGMAS: Final = 4

Hashes = NDArray[np.uint64]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Sizes:
    """How finely time is cut, and how much room there is.

    Parameters
    ----------
    horizon_us : int
        Microseconds.
    generations : int
        Slices of a horizon.
    false_drop_rate : float
        Of one question, over all slices that it looks at.
    expected_keys : int
        Distinct keys within a horizon, over all buckets.
    buckets : int
        By which keys are dealt out.
    """

    horizon_us: int
    generations: int
    false_drop_rate: float
    expected_keys: int
    buckets: int

    @property
    def slice_us(self) -> int:
        """Length of a slice, rounded up."""
        return -(-self.horizon_us // self.generations)

    @property
    def capacity(self) -> int:
        """Keys of a slice and bucket: the mean, and four standard deviations of a hash that deals them out."""
        mean = self.expected_keys / (self.generations * self.buckets)
        return math.ceil(mean + SIGMAS * math.sqrt(mean))

    @property
    def rate_of_a_slice(self) -> float:
        """What a slice may err: a question looks at the row's own slice and at `generations` before and behind it."""
        return self.false_drop_rate / (2 * self.generations + 1)

    def made(self, layers: list[_Layer]) -> _Layer:
        """Return the filter that comes behind these of a slice: half as large as all of them, so that a few keys too many cost little."""
        if not layers:
            return _Layer.empty(self.capacity, self.rate_of_a_slice * FIRST_SHARE)
        return _Layer.empty(-(-sum(layer.capacity for layer in layers) // 2), self.rate_of_a_slice * LATER_SHARE)


@dataclass(slots=True)
class _Layer:
    """One filter of a slice, read when it is needed."""

    capacity: int
    keys: int
    rate: float
    stored: bytes
    opened: ClassicBloomFilter | None = None

    @classmethod
    def empty(cls, capacity: int, rate: float) -> Self:
        return cls(capacity, 0, 0.0, b"", ClassicBloomFilter(*_parameters(capacity, rate)))

    @property
    def filter(self) -> ClassicBloomFilter:
        if self.opened is None:
            self.opened = ClassicBloomFilter.from_bytes(self.stored)
        return self.opened

    @property
    def room(self) -> int:
        return max(self.capacity - self.keys, 0)

    def take(self, hashes: Hashes) -> None:
        self.filter.update_hashes(hashes)
        self.keys += hashes.size
        self.stored = b""

    def close(self) -> None:
        if not self.stored:
            self.rate, self.stored = self.filter.false_positive_rate(), self.filter.to_bytes()
        self.opened = None


@cache
def _parameters(capacity: int, rate: float) -> tuple[int, int]:
    """Return bits and probes of a filter; finding them takes longer than most slices."""
    found = ClassicBloomFilter.from_error(capacity=capacity, false_positive_rate=rate).parameters
    return int(found["bits"]), int(found["probes"])


class Slices:
    """The slices of one bucket during a step.

    Guarantee: a key that was taken at time t is found near every time that is at most a horizon from t. A key that was not taken within
    a horizon and a slice is found with probability at most ``false_drop_rate``, whatever was expected: a slice that is full goes on in
    another filter, up to 656 times what was expected.
    """

    def __init__(self, sizes: Sizes, table: pa.Table, *, forget_before_us: int) -> None:
        self._sizes = sizes
        self._layers: dict[int, list[_Layer]] = {}
        self._open: set[int] = set()
        self._fullest = (1, 0)  # most filters of a slice that got one, and its number
        for first_us, _, capacity, keys, rate, stored in zip(*(column.to_pylist() for column in table.columns), strict=True):
            if first_us + sizes.slice_us > forget_before_us:
                self._layers.setdefault(first_us // sizes.slice_us, []).append(_Layer(capacity, keys, rate, stored))

    @property
    def end_us(self) -> int | None:
        """End of the newest slice, None without one."""
        return (max(self._layers) + 1) * self._sizes.slice_us if self._layers else None

    def near(self, number: int, hashes: Hashes) -> NDArray[np.bool_]:
        """Tell which keys are found in a slice, or in those within a horizon of it, before or after."""
        found = np.zeros(hashes.size, np.bool_)
        for other in range(number - self._sizes.generations, number + self._sizes.generations + 1):
            for layer in self._layers.get(other, ()):
                self._open.add(other)
                found |= layer.filter.contains_hashes(hashes)
        return found

    def take(self, number: int, hashes: Hashes) -> None:
        """Add distinct keys to a slice, in whatever order they come."""
        layers = self._layers.setdefault(number, []) if hashes.size else []
        left = np.sort(hashes)  # the order decides which filter has which
        self._open.add(number)
        while left.size:
            if not layers or (not layers[-1].room and len(layers) < LAYERS):
                layers.append(self._sizes.made(layers))
                self._fullest = max(self._fullest, (len(layers), number))
            room = layers[-1].room if len(layers) < LAYERS else left.size
            layers[-1].take(left[:room])
            left = left[room:]

    def close(self, before: int) -> None:
        """Pack the slices before this one: whoever asks in the order of time holds few of them open."""
        for number in [one for one in self._open if one < before]:
            self._open.remove(number)
            for layer in self._layers.get(number, ()):
                layer.close()

    def table(self) -> pa.Table:
        """Return the state, slices by time; warns if there were more keys than expected."""
        self._warn()
        rows = list(self._rows())
        return pa.table([[row[place] for row in rows] for place in range(len(SCHEMA))], schema=SCHEMA)

    def _rows(self) -> Iterator[tuple[int, int, int, int, float, bytes]]:
        for number, layers in sorted(self._layers.items()):
            for place, layer in enumerate(layers):
                layer.close()
                yield number * self._sizes.slice_us, place, layer.capacity, layer.keys, layer.rate, layer.stored

    def _warn(self) -> None:
        layers, number = self._fullest
        if layers > WARN_ABOVE:
            log.warning(
                "approximate deduplication: the slice from %s has half as many keys again as the %d of a bucket that expected_keys=%d "
                "makes room for, or more; "
                "the stated rate holds and the state grows: give expected_keys=%d, and keep the checkpoint with buckets=%d",
                np.datetime64(number * self._sizes.slice_us, "us"),
                self._sizes.capacity,
                self._sizes.expected_keys,
                math.ceil(self._sizes.expected_keys * 1.5 ** (layers - 1)),
                self._sizes.buckets,
            )
