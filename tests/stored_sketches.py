"""Stored sketches for the tests of functions on columns: of each kind an empty one, one of few values and one of many."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

import sketches as sk
from sketches.envelope import CHECKSUM, seal
from sketches.timed import TimedSketch

HOUR: Final = timedelta(hours=1)
MAKERS: Final[dict[str, Callable[[], Any]]] = {
    "bloom": lambda: sk.BloomFilter.from_error(capacity=3000, false_positive_rate=0.01),
    "classic_bloom": lambda: sk.ClassicBloomFilter.from_error(capacity=3000, false_positive_rate=0.01),
    "rotating_bloom": lambda: sk.RotatingBloomFilter.from_error(capacity=3000, false_positive_rate=0.01, keep=HOUR),
    "hyperloglog": lambda: sk.HyperLogLog(8),
    "ultraloglog": lambda: sk.UltraLogLog(7),
    "count_min": lambda: sk.CountMinSketch(4, 256),
    "reservoir": lambda: sk.ReservoirSample(50, seed=1),
    "weighted_reservoir": lambda: sk.WeightedReservoirSample(50, seed=1),
    "stratified_reservoir": lambda: sk.StratifiedReservoirSample(50, seed=1),
    "misra_gries": lambda: sk.MisraGries(40),
    "space_saving": lambda: sk.SpaceSaving(40),
    "decaying": lambda: sk.DecayingWindow(HOUR),
    "decaying_top": lambda: sk.DecayingTop(40, HOUR),
    "quantiles": lambda: sk.Quantiles(64, seed=1),
    "heavy_hitters": lambda: sk.HeavyHitters(0.02, 4, 1024),
}
START: Final = 1_800_000_000_000_000  # microseconds
SIZES: Final = (0, 1, 40, 3000)


def skewed(seed: int, size: int) -> NDArray[np.int64]:
    """Return values of which few come often."""
    return np.random.default_rng(seed).zipf(1.3, size).astype(np.int64) % 10_000


def times_of(seed: int, size: int) -> NDArray[np.int64]:
    """Return times within an hour."""
    return START + np.random.default_rng(seed + 1000).integers(0, 3_600_000_000, size)


def fed(sketch: Any, values: Any, seed: int = 0) -> Any:
    """Return the sketch after some values, with times or strata where it has them."""
    if isinstance(sketch, sk.StratifiedReservoirSample):
        sketch.update_many(values, strata=np.asarray(values) % 3)
    elif isinstance(sketch, TimedSketch | sk.RotatingBloomFilter):
        sketch.update_many(values, times_of(seed, len(values)))
    else:
        sketch.update_many(values)
    return sketch


def some(kind: str, *sizes: int) -> list[Any]:
    """Return sketches of a kind, the first of seed 0, and so on."""
    return [fed(MAKERS[kind](), skewed(seed, size), seed) for seed, size in enumerate(sizes or SIZES)]


def stored(*sketches: Any) -> pa.Array:
    """Return a column of sketches, None as null, bytes as they are."""
    rows = [one if one is None or isinstance(one, bytes) else one.to_bytes() for one in sketches]
    return pa.array(rows, pa.binary())


def damaged(sketch: Any) -> bytes:
    """Return its bytes with one bit turned, and the checksum as it was."""
    data = bytearray(sketch.to_bytes())
    data[len(data) // 2] ^= 1
    return bytes(data)


def resealed(data: bytes, at: int, byte: int) -> bytes:
    """Return bytes of a sketch with another byte in the payload, and the checksum that belongs to it."""
    parameters = data[6] | data[7] << 8
    payload = bytearray(data[12 + parameters : -CHECKSUM.size])
    payload[at] = byte
    kind = next(name for name in MAKERS if MAKERS[name]().to_bytes()[4] == data[4])
    return seal(kind, data[5], data[12 : 12 + parameters], bytes(payload))
