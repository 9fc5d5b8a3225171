"""What is timed: for each sketch a call of ours and, where Apache DataSketches' binding has one, the same by the binding."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

import datasketches
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

import sketches

IDS = 1_000_000
COUNTERS = 768
BINDING_ITEMS = 500_000  # it takes items one by one: enough to time it


@dataclass(frozen=True)
class Case:
    """One line of the table: `ours` takes `items` items, `binding` its own; `limit_ns` and `least_ratio` are what must be reached."""

    name: str
    items: int
    ours: Callable[[], object]
    binding: Callable[[], object] | None = None
    binding_items: int = BINDING_ITEMS
    limit_ns: float | None = None
    least_ratio: float | None = None


@dataclass(frozen=True)
class Data:
    """Columns that all cases share."""

    uniform: NDArray[np.int64]
    zipf: NDArray[np.int64]
    doubles: NDArray[np.float64]
    strings: pa.Array

    @classmethod
    def of(cls, items: int, seed: int) -> Data:
        dice = np.random.default_rng(seed)
        ranks = np.minimum((dice.pareto(0.1, items) + 1).astype(np.float64), 1e18).astype(np.int64) % IDS
        texts = pa.array([f"visitor-{number:05d}" for number in range(min(items, 100_000))])
        return cls(
            dice.integers(0, 1 << 62, items),
            ranks * 2_654_435_761 % (1 << 40),  # numbers of visitors are not in the order of their visits
            dice.normal(size=items),
            texts.take(pa.array(dice.integers(0, len(texts), max(1, items // 5)))),
        )


def one_by_one(sketch: Any, values: list[Any]) -> None:
    """Feed the binding as fast as Python can."""
    deque(map(sketch.update, values), maxlen=0)


def warm(make: Callable[[], Any], values: Any) -> Callable[[], object]:
    """Return an update of a sketch that has seen the values already."""
    sketch = make()
    sketch.update_many(values)
    return partial(sketch.update_many, values)


def cold(make: Callable[[], Any], values: Any, times: int) -> Callable[[], object]:
    """Return so many updates of new sketches, each with all values."""

    def run() -> None:
        for _ in range(times):
            make().update_many(values)

    return run


def cases(data: Data) -> Iterator[Case]:
    few = slice(0, BINDING_ITEMS)
    uniform, zipf = data.uniform[few].tolist(), data.zipf[few].tolist()
    items = len(data.uniform)
    hll = partial(sketches.HyperLogLog, 12)
    binding_hll = partial(datasketches.hll_sketch, 12, datasketches.tgt_hll_type.HLL_8)
    yield Case("HyperLogLog(12), int64", items, warm(hll, data.uniform), partial(one_by_one, binding_hll(), uniform), least_ratio=40)
    for size in (1_000, 10_000, 100_000, 1_000_000):
        if size <= items:
            times = max(1, 1_000_000 // size)
            yield Case(f"HyperLogLog(12), int64, from empty, {size:,}", size * times, cold(hll, data.uniform[:size], times))
    texts = data.strings[few].to_pylist()
    yield Case(
        "HyperLogLog(12), strings of 13 bytes", len(data.strings), warm(hll, data.strings),
        partial(one_by_one, binding_hll(), texts), len(texts), limit_ns=15,
    )  # fmt: skip
    yield Case("UltraLogLog(11), int64", items, warm(partial(sketches.UltraLogLog, 11), data.uniform))
    for width, least in ((65_536, 10.0), (2_048, 10.0)):
        make = partial(sketches.CountMinSketch, depth=5, width=width)
        theirs = partial(one_by_one, datasketches.count_min_sketch(5, width), zipf)
        yield Case(f"CountMinSketch(5, {width:,}), zipf", items, warm(make, data.zipf), theirs, least_ratio=least)
    conservative = partial(sketches.CountMinSketch, depth=5, width=2_048, conservative=True)
    yield Case("CountMinSketch(5, 2,048, conservative), zipf", items, warm(conservative, data.zipf))
    yield from _bloom(data)
    for name, column in (("zipf", data.zipf), ("uniform", data.uniform)):
        theirs = partial(one_by_one, datasketches.frequent_items_sketch(10), column[few].tolist())
        for kind in (sketches.MisraGries, sketches.SpaceSaving):
            limit = 18 if kind is sketches.MisraGries else None
            yield Case(f"{kind.__name__}({COUNTERS}), {name}", items, warm(partial(kind, COUNTERS), column), theirs, limit_ns=limit)
    sample = partial(sketches.ReservoirSample, 1_000)
    yield Case("ReservoirSample(1,000), int64, from empty", items, cold(sample, data.uniform, 1), limit_ns=0.5)
    kll = datasketches.kll_doubles_sketch(200)
    yield Case(
        "Quantiles(200), float64", items, warm(partial(sketches.Quantiles, 200), data.doubles), partial(kll.update, data.doubles), items
    )
    times_us = np.arange(items, dtype=np.int64) * 1_000
    window = sketches.DecayingWindow(timedelta(seconds=60))
    yield Case("DecayingWindow(60 s), float64", items, partial(window.update_many, data.doubles, times_us))
    yield from _grouped(data)
    yield from _merges(data)


def _bloom(data: Data) -> Iterator[Case]:
    from sketches.bloom import BloomFilter  # noqa: PLC0415

    cached = BloomFilter(128 * 1024 // 32)  # blocks of 32 bytes: 128 KiB
    some = data.uniform[:50_000]
    times = max(1, 1_000_000 // len(some))
    add, ask = partial(_repeat, partial(cached.update_many, some), times), partial(_repeat, partial(cached.contains_many, some), times)
    yield Case("BloomFilter of 128 KiB, add", len(some) * times, add, limit_ns=20)
    yield Case("BloomFilter of 128 KiB, contains", len(some) * times, ask, limit_ns=20)
    large = BloomFilter.from_error(capacity=len(data.uniform), false_positive_rate=0.01)
    yield Case("BloomFilter of all items at 1 %, add", len(data.uniform), partial(large.update_many, data.uniform))
    yield Case("BloomFilter of all items at 1 %, contains", len(data.uniform), partial(large.contains_many, data.uniform))


def _grouped(data: Data) -> Iterator[Case]:
    rows = min(1_000_000, len(data.uniform))
    keys = data.zipf[:rows] % 10_000
    for name, template in (
        ("HyperLogLog(12)", sketches.HyperLogLog(12)), ("CountMinSketch(4, 256)", sketches.CountMinSketch(depth=4, width=256)),
        ("MisraGries(16)", sketches.MisraGries(16)), ("ReservoirSample(16)", sketches.ReservoirSample(16)),
    ):  # fmt: skip
        groups: sketches.Grouped[Any] = sketches.Grouped(template)
        update = partial(groups.update_grouped, keys, data.uniform[:rows])
        update()
        yield Case(f"Grouped, 10,000 keys, {name}", rows, update)


def _merges(data: Data) -> Iterator[Case]:
    times = 10_000
    for name, make, theirs in (
        ("HyperLogLog(12)", partial(sketches.HyperLogLog, 12), partial(datasketches.hll_sketch, 12, datasketches.tgt_hll_type.HLL_8)),
        ("UltraLogLog(11)", partial(sketches.UltraLogLog, 11), None),
    ):
        one, other = make(), make()
        one.update_many(data.uniform[: len(data.uniform) // 2])
        other.update_many(data.uniform[len(data.uniform) // 2 :])
        binding = None
        if theirs is not None:
            union, sketch = datasketches.hll_union(12), theirs()
            one_by_one(sketch, data.uniform[:BINDING_ITEMS].tolist())
            binding = partial(_repeat, partial(union.update, sketch), times)
        yield Case(f"merge of two {name}", times, partial(_repeat, partial(one.merge, other), times), binding, times, limit_ns=1_000)


def _repeat(work: Callable[[], object], times: int) -> None:
    for _ in range(times):
        work()
