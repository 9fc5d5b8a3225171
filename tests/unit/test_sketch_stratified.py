"""Stratified samples: a uniform sample for each key, small strata too, unbiased totals, no more strata than there may be."""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from sketches import draws, hash_kernel, hash_plain
from sketches.columns import hashes
from sketches.envelope import seal
from sketches.errors import SketchBytesError, SketchError, SketchTypeError
from sketches.jit import HAS_NUMBA
from sketches.stratified_reservoir import StratifiedReservoirSample
from tests.sketch_laws import SketchLaws

GOLDEN = Path(__file__).parent.parent / "golden" / "sketches" / "stratified_reservoir_v1.bin"
COMPILED = pytest.mark.skipif(not HAS_NUMBA, reason="there is nothing to compare NumPy with")
ALARM = 4.9  # standard deviations that are passed with a probability of 1e-6


def sample_of(values: Any, strata: Any, size: int, seed: int = 0) -> StratifiedReservoirSample:
    found = StratifiedReservoirSample(size, seed=seed)
    found.update_many(values, strata)
    return found


class TestStratifiedReservoirSample(SketchLaws):
    """Equal is by distribution: strata, counts and sizes are the same, and each item is a value of its stratum."""

    def make(self) -> StratifiedReservoirSample:
        return StratifiedReservoirSample(10, 20, seed=3)

    def others(self) -> list[StratifiedReservoirSample]:
        return [StratifiedReservoirSample(11, 20, 3), StratifiedReservoirSample(10, 21, 3), StratifiedReservoirSample(10, 20, 4)]

    def feed(self, sketch: Any, values: NDArray[Any]) -> Any:
        sketch.update_many(values, values % 5)
        return sketch

    def assert_same(self, one: Any, other: Any, values: NDArray[Any]) -> None:
        for sketch in (one, other):
            counts = sketch.counts()
            assert counts == {stratum: int((values % 5 == stratum).sum()) for stratum in set((values % 5).tolist())}
            for stratum, count in counts.items():
                found = sketch.sample(stratum)
                assert found.size == min(count, 10)
                assert (found % 5 == stratum).all()
                assert np.isin(found, values).all()


def test_each_value_of_each_stratum_is_sampled_alike_also_after_a_merge() -> None:
    """False alarm: 30 values at 1e-6 each."""
    trials, counts = 3000, np.zeros(30)
    strata = np.where(np.arange(30) < 20, "large", "small")
    for seed in range(trials):
        found = sample_of(np.arange(25), strata[:25], 4, seed)
        found.merge(sample_of(np.arange(25, 30), strata[25:], 4, seed))
        for name in ("large", "small"):
            counts[found.sample(name)] += 1
    chance = np.where(np.arange(30) < 20, 4 / 20, 4 / 10)
    assert (np.abs(counts / trials - chance) < ALARM * np.sqrt(chance * (1 - chance) / trials)).all()


def test_the_cut_into_calls_does_not_show() -> None:
    values = np.arange(20_000)
    keys = np.random.default_rng(1).zipf(1.5, 20_000) % 50
    whole, parts = sample_of(values, keys, 20), StratifiedReservoirSample(20)
    for part in np.array_split(values[:19_900], 97):
        parts.update_many(part, keys[part])
    parts = StratifiedReservoirSample.from_bytes(parts.to_bytes())
    for value in values[19_900:].tolist():
        parts.update(value, keys[value])
    assert parts.to_bytes() == whole.to_bytes()


@COMPILED
def test_numpy_alone_gives_the_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for module in (hash_kernel, hash_plain):
        monkeypatch.setattr(draws, "_hash_words8", module.hash_words8)
        found.append(sample_of(np.arange(50_000), np.arange(50_000) % 11, 30).to_bytes())
    assert found[0] == found[1]


def test_keys_are_strings_and_nulls_are_no_values() -> None:
    values = pa.array([1.0, None, 3.0, 4.0])
    sketch = sample_of(values, pa.array(["ä", None, "b", "ä"]), 5)
    assert sketch.strata() == ["ä", "b"]
    assert sketch.counts() == {"ä": 2, "b": 1}
    assert sorted(sketch.sample("ä").tolist()) == [1.0, 4.0]
    assert sketch.sample("c").size == 0
    sketch.update(None, "d")
    sketch.update(None)
    sketch.update(9.0, "d")
    reservoir = sketch.reservoir("d")
    assert reservoir is not None
    assert reservoir.estimate() == 9.0
    assert sketch.reservoir("e") is None
    reservoir.update(10.0)
    assert sketch.counts()["d"] == 1, "it is a copy"


def test_a_value_that_is_null_takes_its_key_with_it() -> None:
    sketch = sample_of(pa.array([1, None, 3, 4]), pa.array(["a", "b", "c", "a"]), 5)
    assert sketch.counts() == {"a": 2, "c": 1}
    assert sketch.sample("c").tolist() == [3]
    sketch.update_many(pa.array([None, 5]), pa.array([None, "c"]))
    assert sketch.sample("c").tolist() == [3, 5]


def test_many_strata_in_many_blocks_are_told_apart() -> None:
    keys = np.random.default_rng(2).integers(0, 900, 50_000)
    sketch = sample_of(np.arange(50_000), keys, 5)
    found, first, counts = np.unique(keys, return_index=True, return_counts=True)
    assert sketch.counts() == dict(zip(found.tolist(), counts.tolist(), strict=True))
    assert sketch.strata() == found[np.argsort(first)].tolist(), "in the order in which they came"
    assert all((keys[sketch.sample(stratum)] == stratum).all() for stratum in found)


def test_strata_that_come_too_late_are_taken_back() -> None:
    sketch = small(np.arange(3), np.arange(3))
    before = sketch.to_bytes()
    with pytest.raises(SketchError, match="expected at most 4 strata, got "):
        sketch.update_many(np.arange(30_000), np.arange(30_000) // 6000)  # two more, in blocks of their own
    assert sketch.to_bytes() == before
    sketch.update(7, 3)
    assert sketch.strata() == [0, 1, 2, 3]


def test_strata_are_independent_though_they_came_at_once() -> None:
    sketch = sample_of(np.arange(2000), np.repeat([0, 1], 1000), 10)
    assert sorted(sketch.sample(0) + 1000) != sorted(sketch.sample(1))


# Estimates ----------------------------------------------------------------------------------------------------------------


def test_sums_are_exact_while_all_values_are_there() -> None:
    sketch = sample_of(np.array([1.0, 2.0, 6.0]), np.array([1, 1, 2]), 5)
    assert sketch.estimate() == sketch.lower_bound() == sketch.upper_bound() == 9.0
    assert sketch.estimate_mean(lambda v: v > 1) == 2 / 3
    empty = StratifiedReservoirSample(5)
    assert empty.estimate() == 0.0
    assert math.isnan(empty.estimate_mean())


def test_sums_are_unbiased_and_their_bounds_hold_as_often_as_they_say() -> None:
    """False alarm: 1e-6 for the mean; violations are binomial, 5 %, and 42 or more of 400 have a probability below 1e-5."""
    dice = np.random.default_rng(3)
    keys = np.repeat([0, 1, 2], [5000, 500, 60])
    values = dice.exponential(size=keys.size) + 10 * keys
    found, outside = [], 0
    for seed in range(400):
        sketch = sample_of(values, keys, 100, seed)
        found.append(sketch.estimate())
        outside += not sketch.lower_bound() <= values.sum() <= sketch.upper_bound()
    assert abs(np.mean(found) - values.sum()) < ALARM * np.std(found) / 20
    assert 2 < outside < 42
    alone = StratifiedReservoirSample(1)
    alone.update_many(values, keys)
    assert alone.upper_bound() == math.inf, "of one item nobody knows how far it is from the others"


# Errors -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ask", "text"),
    [
        (lambda s: s.update_many(np.arange(2)), "cannot use argument 'strata': expected a key for each value, got none; give one"),
        (lambda s: s.update_many(np.arange(2), np.arange(3)), "argument 'strata': expected 2 keys, got 3"),
        (lambda s: s.update_many(np.arange(2), pa.array([1, None])), "expected a key for each value, got null"),
        (lambda s: s.update_many(np.arange(2), np.array(["a", "b"])), "expected values of type 'long', got 'string'"),
        (lambda s: s.update_many(np.array([1.5]), np.array([1])), "cannot update sketch 'stratified_reservoir': .+ 'long', got 'double'"),
        (lambda s: s.update_many(np.arange(9), np.arange(9)), "expected at most 4 strata, got 9; each takes the memory of a sample; give"),
        (lambda s: s.update(1), "expected a key for each value, got None"),
        (lambda s: s.sample("a"), "cannot ask sketch 'stratified_reservoir': expected values of type 'long', got 'string'"),
        (lambda s: s.sample(None), "expected a key for each value, got None"),
        (lambda s: s.merge(small(np.array([1.5]), np.array([1]))), "cannot merge sketch 'stratified_reservoir': .+ 'long', got 'double'"),
        (lambda s: s.merge(small(np.array([1]), np.array(["a"]))), "cannot merge sketch 'stratified_reservoir': .+ 'long', got 'string'"),
        (lambda s: s.merge(small(np.arange(3), np.arange(7, 10))), "expected at most 4 strata, got 6"),
        (lambda s: s.upper_bound(confidence=7), "parameter 'confidence'"),
        (lambda _: StratifiedReservoirSample(0), "parameter 'size': expected an integer from 1 to 16,777,216, got 0"),
        (lambda _: StratifiedReservoirSample(5, 0), "parameter 'most_strata': expected an integer from 1 to 1,048,576, got 0"),
        (lambda _: StratifiedReservoirSample(5, seed=-1), "parameter 'seed': expected an integer from 0 to 2\\^64 - 1, got -1"),
    ],
)
def test_what_makes_no_sense_is_refused(ask: Any, text: str) -> None:
    sketch = small(np.arange(100), np.arange(100) % 3)
    before = sketch.to_bytes()
    with pytest.raises((SketchError, SketchTypeError), match=text):
        ask(sketch)
    assert sketch.to_bytes() == before


def small(values: Any, strata: Any) -> StratifiedReservoirSample:
    found = StratifiedReservoirSample(10, 4)
    found.update_many(values, strata)
    return found


# Bytes --------------------------------------------------------------------------------------------------------------------


def test_the_bytes_are_those_of_the_first_release() -> None:
    sketch = sample_of(np.arange(10_000) ** 2, np.array(["a", "b", "c"])[np.arange(10_000) % 3], 4, seed=42)
    sketch.update_many(np.arange(3), np.array(["d", "d", "a"]))
    assert sketch.to_bytes() == GOLDEN.read_bytes()
    read = StratifiedReservoirSample.from_bytes(GOLDEN.read_bytes())
    assert read.counts() == {"a": 3335, "b": 3333, "c": 3333, "d": 2}
    assert read.sample("a").tolist() == GOLDEN_SAMPLE


GOLDEN_SAMPLE: list[int] = [3538161, 90497169, 67469796, 43322724]


def part_of(items: list[Any], kind: str = "<i8") -> bytes:
    return struct.pack("<QQQqdBI", len(items), 1, 0, 0, 0.0, 3 if kind == "<i8" else 6, len(items)) + np.array(items, kind).tobytes()


def names_of(*names: int) -> bytes:
    return struct.pack("<BI", 3 if names else 0, len(names)) + np.array(names, "<i8").tobytes()


def in_order(*names: int) -> list[int]:
    found: list[int] = np.array(names)[np.argsort(hashes(np.array(names)))].tolist()
    return found


@pytest.mark.parametrize(
    ("parameters", "payload", "text"),
    [
        ((5, 2), b"", "expected 5 bytes of items, got 0"),
        ((0, 2), names_of(), "expected a size up to 16777216 and up to 1048576 strata, both from 1, got 0 and 2"),
        ((5, 2**21), names_of(), "got 5 and 2097152"),
        ((5, 2), names_of(*in_order(1, 2, 3)), "expected up to 2 keys, got 3 of type 'long'"),
        ((5, 2), struct.pack("<BI", 3, 0), "expected up to 2 keys, got 0 of type 'long'"),
        ((5, 2), names_of(*in_order(1, 2)[::-1]), "expected keys in the order of their hashes"),
        ((5, 2), names_of(1, 1), "expected keys in the order of their hashes"),
        ((5, 2), names_of(1), "expected 40 bytes of state, got 0"),
        ((5, 2), names_of(1) + struct.pack("<QQQqdBI", 0, 1, 0, 0, 0.0, 0, 0), "in each stratum, got 0 of ''"),
        ((5, 2), names_of(*in_order(1, 2)) + part_of([1]) + part_of([1.5], "<f8"), "expected values of type 'long' in each stratum, got"),
        ((5, 2), names_of(1) + part_of([1]) + b"\0", "expected the end of the bytes, got 1 more"),
    ],
)
def test_hostile_bytes_are_refused(parameters: tuple[int, int], payload: bytes, text: str) -> None:
    with pytest.raises(SketchBytesError, match=text):
        StratifiedReservoirSample.from_bytes(seal("stratified_reservoir", 1, struct.pack("<IIQ", *parameters, 1), payload))


def test_parameters_of_another_length_are_refused() -> None:
    with pytest.raises(SketchBytesError, match="expected 16 bytes of parameters, got 4"):
        StratifiedReservoirSample.from_bytes(seal("stratified_reservoir", 1, b"1234", names_of()))
