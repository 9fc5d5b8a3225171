"""Heavy hitters: none is missed, counts are never too low, values come back as they were."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from sketches import heavy_hitters_kernel, heavy_hitters_plain
from sketches.count_min import CountMinSketch
from sketches.envelope import open_envelope, seal
from sketches.errors import SketchBytesError, SketchError
from sketches.grouped import Grouped
from sketches.heavy_hitters import HeavyHitter, HeavyHitters
from sketches.jit import HAS_NUMBA
from tests.sketch_laws import SketchLaws

GOLDEN = Path(__file__).parents[1] / "golden" / "sketches" / "heavy_hitters_v1.bin"
COMPILED = pytest.mark.skipif(not HAS_NUMBA, reason="there is nothing to compare NumPy with")


def check(sketch: HeavyHitters, values: Any, weights: Any = None) -> None:
    """All that the guarantee says for sure."""
    truth: Counter[Any] = Counter()
    for value, weight in zip(values, np.ones(len(values), int) if weights is None else weights, strict=True):
        truth[value] += int(weight)
    assert sketch.total == sum(truth.values())
    found = {hit.item: hit for hit in sketch.items()}
    phi = float(sketch.parameters["phi"])
    assert len(found) == len(sketch.items()) <= max(64, 4 / phi)
    for item, count in truth.items():
        assert item in found or count <= sketch.unlisted_bound
    for item, hit in found.items():
        assert truth[item] <= hit.estimate == hit.upper_bound == sketch.estimate(item) == sketch.upper_bound(item)
        assert hit.estimate >= phi * sketch.total
        assert hit.lower_bound == sketch.lower_bound(item)
        assert hit.guaranteed == (hit.lower_bound >= max(1, phi * sketch.total))
    counts = [hit.estimate for hit in sketch.items()]
    assert counts == sorted(counts, reverse=True)


class TestHeavyHitters(SketchLaws):
    """Equal by guarantee: the same table and total, and each value listed that must be."""

    def make(self) -> HeavyHitters:
        return HeavyHitters(0.01, 4, 500)

    def others(self) -> list[Any]:
        return [HeavyHitters(0.02, 4, 500), HeavyHitters(0.01, 3, 500), HeavyHitters(0.01, 4, 501), HeavyHitters(0.01, 4, 500, True)]

    def assert_same(self, one: Any, other: Any, values: NDArray[Any]) -> None:
        assert one._table.to_bytes() == other._table.to_bytes()
        check(one, values.tolist())
        check(other, values.tolist())


class TestConservativeHeavyHitters(TestHeavyHitters):
    def make(self) -> HeavyHitters:
        return HeavyHitters(0.01, 4, 500, conservative=True)

    def others(self) -> list[Any]:
        return [
            HeavyHitters(0.02, 4, 500, True),
            HeavyHitters(0.01, 3, 500, True),
            HeavyHitters(0.01, 4, 501, True),
            HeavyHitters(0.01, 4, 500),
        ]

    def assert_same(self, one: Any, other: Any, values: NDArray[Any]) -> None:
        check(one, values.tolist())
        check(other, values.tolist())


class TestNarrowHeavyHitters(TestHeavyHitters):
    """A table in which hundreds of values seem to be heavy: values are dropped, and the bound says how heavy they may be."""

    def make(self) -> HeavyHitters:
        return HeavyHitters(0.09, 1, 5)

    def others(self) -> list[Any]:
        return [HeavyHitters(0.08, 1, 5), HeavyHitters(0.09, 2, 5), HeavyHitters(0.09, 1, 6), HeavyHitters(0.09, 1, 5, True)]


def test_values_are_dropped_where_too_many_seem_to_be_heavy() -> None:
    sketch = HeavyHitters(0.09, 1, 5)
    sketch.update_many(np.arange(10_000))
    assert len(sketch.items()) == 64
    assert sketch.unlisted_bound > 0.09 * sketch.total
    check(sketch, range(10_000))


@pytest.mark.parametrize("order", ["random", "rising", "heavy last", "heavy first", "in turns"])
@pytest.mark.parametrize("conservative", [False, True])
def test_no_heavy_value_is_missed_in_any_order(order: str, conservative: bool) -> None:
    dice = np.random.default_rng(7)
    heavy, light = np.repeat(np.arange(30), 1000), dice.integers(1000, 40_000, 70_000)
    values = np.concatenate([heavy, light])
    match order:
        case "random":
            dice.shuffle(values)
        case "rising":
            values.sort()
        case "heavy last":
            values = np.concatenate([light, heavy])
        case "in turns":
            values = np.concatenate([light, np.tile(np.arange(30), 1000)])
    sketch = HeavyHitters.from_error(phi=0.01, epsilon=0.001, delta=0.001, conservative=conservative)
    sketch.update_many(values)
    check(sketch, values.tolist())
    assert {hit.item for hit in sketch.items()} == set(range(30))
    assert all(hit.guaranteed == (hit.lower_bound >= 1000) for hit in sketch.items())
    assert [hit.item for hit in sketch.items(0.02)] == []


def test_one_by_one_it_lists_the_same_as_in_one_go() -> None:
    values = np.random.default_rng(2).zipf(1.4, 3000) % 500
    one, other = HeavyHitters(0.02, 4, 1000), HeavyHitters(0.02, 4, 1000)
    one.update_many(values)
    for value in values.tolist():
        other.update(value)
    check(other, values.tolist())
    assert one.items() == other.items()


def test_weights_and_nulls() -> None:
    sketch = HeavyHitters(0.2, 4, 100)
    sketch.update_many(pa.array(["a", None, "b", "a", "c"]), np.array([5, 100, 3, 5, 1]))
    sketch.update(None, 50)
    sketch.update("d", 20)
    check(sketch, ["a", "b", "c", "d"], [10, 3, 1, 20])
    assert [(hit.item, hit.estimate) for hit in sketch.items()] == [("d", 20), ("a", 10)]
    assert [hit.item for hit in sketch.items(0.5)] == ["d"]
    assert sketch.estimate_many(pa.array(["a", None, "x"])).tolist() == [10, 0, 0]
    before = sketch.to_bytes()
    refused: list[Any] = [-1, 0.5, 2**64]
    for weight in refused:
        with pytest.raises(SketchError, match="cannot use argument 'weights'"):
            sketch.update("e", weight)
    with pytest.raises(SketchError, match="cannot update sketch 'count_min': expected a total up to"):
        sketch.update("e", 2**63 - 2)
    assert sketch.to_bytes() == before


@pytest.mark.parametrize(
    ("values", "item"),
    [
        (np.array([True, True, False]), True),
        (np.array([-5, -5, 1], np.int8), -5),
        (np.array([-5, -5, 1], np.int64), -5),
        (np.array([2**64 - 1, 2**64 - 1, 1], np.uint64), 2**64 - 1),
        (np.array([1.5, 1.5, 0.1], np.float32), 1.5),
        (np.array([-1e300, -1e300, 0.1]), -1e300),
        (np.array(["2026-01-01", "2026-01-01", "2025-01-01"], "M8[D]"), np.datetime64("2026-01-01")),
        (np.array(["1960-01-01", "1960-01-01", "2025-01-01"], "M8[s]"), np.datetime64("1960-01-01", "us")),
        (np.array([-7, -7, 1], "m8[us]"), np.timedelta64(-7, "us")),
        (np.array(["grün", "grün", ""]), "grün"),
        (pa.array([b"\xff\0", b"\xff\0", b""]), b"\xff\0"),
    ],
)
def test_values_come_back_as_they_were(values: Any, item: Any) -> None:
    sketch = HeavyHitters(0.5, 3, 50)
    sketch.update_many(values)
    read = HeavyHitters.from_bytes(sketch.to_bytes())
    assert read.items() == sketch.items()
    assert read.to_bytes() == sketch.to_bytes()
    (hit,) = read.items()
    assert (hit.item, type(hit.item), hit.estimate) == (item, type(item), 2)
    read.update_many(values)
    assert [(hit.item, hit.estimate) for hit in read.items()] == [(item, 4)]


def test_values_of_another_type_are_refused_and_nothing_is_taken() -> None:
    sketch = HeavyHitters(0.5, 3, 50)
    with pytest.raises(SketchError, match=r"cannot update sketch 'heavy_hitters': expected values of a type of bool, .*, got 'decimal'"):
        sketch.update_many(pa.array([1], pa.decimal128(10, 2)))
    sketch.update_many(np.array([], "U1"))
    sketch.update(5)
    before = sketch.to_bytes()
    text = HeavyHitters(0.5, 3, 50)
    text.update("a")
    for wrong in (np.array(["a"]), np.array([1.0]), np.array([5], np.int32)):
        with pytest.raises(SketchError, match=r"cannot update sketch 'heavy_hitters': expected values of type 'long', got '\w+'; it gives"):
            sketch.update_many(wrong)
    with pytest.raises(SketchError, match="cannot merge sketch 'heavy_hitters': expected values of type 'long', got 'string'"):
        sketch.merge(text)
    assert sketch.to_bytes() == before
    assert sketch.items() == [HeavyHitter(5, 1, 1, 1, True)]


@pytest.mark.parametrize("parts", [2, 7, 40])
def test_merging_misses_nothing(parts: int) -> None:
    values = np.random.default_rng(parts).zipf(1.2, 60_000) % 20_000
    values[::9] = values[0]
    merged = HeavyHitters.merged(HeavyHitters.from_error(phi=0.005, epsilon=0.001, delta=0.01) for _ in range(1))
    for part in np.array_split(np.sort(values), parts):
        sketch = HeavyHitters.from_error(phi=0.005, epsilon=0.001, delta=0.01)
        sketch.update_many(part)
        merged.merge(sketch)
    check(merged, values.tolist())
    whole = HeavyHitters.from_error(phi=0.005, epsilon=0.001, delta=0.01)
    whole.update_many(values)
    assert merged._table.to_bytes() == whole._table.to_bytes()


def test_what_was_dropped_is_in_the_bound_after_merging() -> None:
    parts = []
    for seed in range(3):
        part = HeavyHitters(0.09, 1, 5)
        part.update_many(np.random.default_rng(seed).integers(0, 3000, 5000))
        parts.append(part)
    bounds = [part.unlisted_bound for part in parts]
    merged = HeavyHitters.merged(parts)
    assert merged.unlisted_bound >= sum(bounds)
    check(merged, np.concatenate([np.random.default_rng(seed).integers(0, 3000, 5000) for seed in range(3)]).tolist())


@COMPILED
@pytest.mark.parametrize("seed", range(20))
def test_kernel_and_numpy_find_the_same_rows(seed: int) -> None:
    dice = np.random.default_rng(seed)
    some = dice.integers(0, 2**64, 2000, np.uint64)[dice.zipf(1.3, 5000) % 2000]
    some[::500] = 0
    table = CountMinSketch(int(dice.integers(1, 6)), int(dice.integers(1, 500)))
    table.update_hashes(some)
    known = np.unique(some[: int(dice.integers(0, 1000))])
    found = []
    for module in (heavy_hitters_kernel, heavy_hitters_plain):
        rows = np.empty(some.size, np.int64)
        count = module.candidates(table.counts, some, 20, module.lookup_of(known), rows)
        found.append(rows[:count].tolist())
    assert found[0] == found[1]
    wanted = (table.estimate_hashes(some) >= 20) & (~np.isin(some, known) | (some == 0))
    assert found[0] == np.flatnonzero(wanted).tolist()


def test_grouped_hitters_are_those_of_each_key() -> None:
    dice = np.random.default_rng(5)
    keys, values, weights = dice.integers(0, 5, 20_000), dice.zipf(1.5, 20_000) % 500, dice.integers(0, 4, 20_000)
    grouped = Grouped(HeavyHitters(0.05, 3, 200))
    grouped.update_grouped(keys, values, weights)
    for key, sketch in grouped.items():
        check(sketch, values[keys == key].tolist(), weights[keys == key])


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ((0.0, 4, 100), "'phi': expected from 1e-06 up to, not with, 1, got 0.0"),
        ((1.0, 4, 100), "'phi': expected .*, got 1.0"),
        ((float("nan"), 4, 100), "'phi': expected .*, got nan"),
        ((0.1, 0, 100), "'depth': expected from 1 to 32, got 0"),
        ((0.1, 4, 0), "'width': expected .*, got 0"),
    ],
)
def test_parameters_out_of_range_are_refused(arguments: Any, match: str) -> None:
    with pytest.raises(SketchError, match=f"cannot use parameter {match}"):
        HeavyHitters(*arguments)


def test_guarantees_out_of_range_are_refused() -> None:
    with pytest.raises(SketchError, match=r"cannot use parameter 'epsilon': expected above 0, below phi 0.1, got 0.1"):
        HeavyHitters.from_error(phi=0.1, epsilon=0.1, delta=0.1)
    with pytest.raises(SketchError, match="cannot use parameter 'delta'"):
        HeavyHitters.from_error(phi=0.1, epsilon=0.01, delta=0)
    sketch = HeavyHitters(0.1, 4, 100)
    for wrong in (0.05, 1.1, float("nan")):
        with pytest.raises(SketchError, match=r"cannot use parameter 'phi': expected from 0.1, that of the sketch, to 1, got"):
            sketch.items(wrong)
    with pytest.raises(SketchError, match="cannot use parameter 'confidence'"):
        sketch.items(confidence=0)
    assert sketch.items() == []
    assert sketch.unlisted_bound == 0


def hostile(head: bytes, forms: bytes, table: CountMinSketch) -> bytes:
    return seal("heavy_hitters", 1, np.array([0.5]).tobytes(), head + forms + table.to_bytes())


def test_hostile_bytes_are_refused() -> None:
    table = CountMinSketch(2, 50)
    table.update_many(np.array(["a", "a", "b", "b"]))
    head = b"\x0a" + bytes(8)
    good = b"\2\0\0\0" + b"\1\0\0\0\1\0\0\0" + b"ab"
    assert [hit.item for hit in HeavyHitters.from_bytes(hostile(head, good, table)).items()] in (["a", "b"], ["b", "a"])
    for wrong in (
        hostile(b"\x0c" + bytes(8), good, table),  # a kind that is none
        hostile(b"\x0a" + b"\xff" * 8, good, table),  # a bound below zero
        hostile(b"\x0a" + b"\x05" + bytes(7), good, table),  # one above the total
        hostile(bytes(9), b"", table),  # counts without values
        hostile(head, b"\xff\xff\xff\xff", table),
        hostile(head, b"\2\0\0\0" + b"\1\0\0\0\xff\xff\xff\xff" + b"ab", table),
        hostile(head, b"\2\0\0\0" + b"\1\0\0\0\1\0\0\0" + b"ba", table),
        hostile(head, b"\2\0\0\0" + b"\1\0\0\0\1\0\0\0" + b"aa", table),
        hostile(head, b"\2\0\0\0" + b"\1\0\0\0\1\0\0\0" + b"ac", table),  # one that is not heavy
        hostile(head, b"\1\0\0\0" + b"\1\0\0\0" + b"\xff", table),  # no UTF-8
        seal("heavy_hitters", 1, np.array([np.nan]).tobytes(), head + good + table.to_bytes()),
        seal("heavy_hitters", 1, b"", head + good + table.to_bytes()),
        seal("heavy_hitters", 1, np.array([0.5]).tobytes(), head + good),
        seal("heavy_hitters", 1, np.array([0.5]).tobytes(), b"\0"),
    ):
        with pytest.raises(SketchBytesError, match=r"cannot read bytes of sketch '?\w+'?: expected .+, got .+"):
            HeavyHitters.from_bytes(wrong)


def golden() -> HeavyHitters:
    sketch = HeavyHitters(0.05, 3, 200)
    sketch.update_many(np.array(["grün", "", "a", "b", "a"] * 20))
    sketch.update_many(np.arange(100).astype("U3"))
    return sketch


def test_golden_bytes() -> None:
    """Stored once, read for ever: the same input gives these bytes, and these bytes this answer."""
    data = GOLDEN.read_bytes()
    assert golden().to_bytes() == data
    read = HeavyHitters.from_bytes(data)
    assert open_envelope(data, "heavy_hitters", version=1).version == 1
    assert {hit.item: hit.estimate // 10 for hit in read.items()} == {"a": 4, "": 2, "grün": 2, "b": 2}
