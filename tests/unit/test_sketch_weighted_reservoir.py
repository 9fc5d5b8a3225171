"""Samples by weight: the law of drawing one after the other, merges that keep the least keys, unbiased sums, bytes."""

from __future__ import annotations

import itertools
import math
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from sketches import draws, hash_kernel, hash_plain
from sketches.envelope import seal
from sketches.errors import SketchBytesError, SketchError, SketchTypeError
from sketches.jit import HAS_NUMBA
from sketches.weighted_reservoir import WeightedReservoirSample
from tests.sketch_laws import SketchLaws

GOLDEN = Path(__file__).parent.parent / "golden" / "sketches" / "weighted_reservoir_v1.bin"
COMPILED = pytest.mark.skipif(not HAS_NUMBA, reason="there is nothing to compare NumPy with")
WEIGHTS = np.array([1.0, 2.0, 4.0, 0.5, 8.0, 1.5])
ALARM = 4.9  # standard deviations that are passed with a probability of 1e-6


def sample_of(values: Any, weights: Any, size: int, seed: int = 0) -> WeightedReservoirSample:
    found = WeightedReservoirSample(size, seed)
    found.update_many(values, weights)
    return found


def pairs_of(sketch: WeightedReservoirSample) -> list[tuple[Any, float]]:
    return sorted(zip(sketch.sample().tolist(), sketch.weights.tolist(), strict=True))


class TestWeightedReservoirSample(SketchLaws):
    """Equal is by distribution: count and size are the same, and the items are some of the values, with their weights."""

    def make(self) -> WeightedReservoirSample:
        return WeightedReservoirSample(40, seed=3)

    def others(self) -> list[WeightedReservoirSample]:
        return [WeightedReservoirSample(41, seed=3)]

    def feed(self, sketch: Any, values: NDArray[Any]) -> Any:
        sketch.update_many(values, None if not isinstance(values, np.ndarray) else values % 7 + 1.0)
        return sketch

    def assert_same(self, one: Any, other: Any, values: NDArray[Any]) -> None:
        there = dict(zip(*np.unique(values, return_counts=True), strict=True))
        for sketch in (one, other):
            assert sketch.count == values.size
            found = sketch.sample()
            assert found.size == min(values.size, 40)
            assert (sketch.weights == found % 7 + 1.0).all()
            assert all(times <= there[value] for value, times in zip(*np.unique(found, return_counts=True), strict=True))


# The law ------------------------------------------------------------------------------------------------------------------


def chances(weights: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """Return the probability of each item to be in the sample, by going through all orders of drawing."""
    found = np.zeros(weights.size)
    for drawn in itertools.permutations(range(weights.size), size):
        chance, left = 1.0, weights.sum()
        for item in drawn:
            chance *= weights[item] / left
            left -= weights[item]
        found[list(drawn)] += chance
    return found


def one_pass(size: int, number: int) -> NDArray[Any]:
    return sample_of(np.arange(6), WEIGHTS, size, number).sample()


def merged(size: int, number: int) -> NDArray[Any]:
    """Merge 4 values with 1, under one seed, then go on; the values tell the runs apart."""
    found = sample_of(np.arange(4) + 10 * number, WEIGHTS[:4], size, 5)
    found.merge(sample_of(np.arange(4, 5) + 10 * number, WEIGHTS[4:5], size, 5))
    found.update(5 + 10 * number, WEIGHTS[5])
    return found.sample() - 10 * number


@pytest.mark.parametrize("law", [one_pass, merged])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_items_are_sampled_with_the_probabilities_of_drawing_by_weight(law: Any, size: int) -> None:
    """False alarm: 6 items of 6 cases at 1e-6 each, 4e-5."""
    trials, counts, expected = 3000, np.zeros(6), chances(WEIGHTS, size)
    for number in range(trials):
        counts[law(size, number)] += 1
    assert (np.abs(counts / trials - expected) < ALARM * np.sqrt(expected * (1 - expected) / trials)).all()


def test_the_order_of_the_items_is_that_of_drawing() -> None:
    """The first item of a sample has the probabilities of a sample of one. False alarm: 6e-6."""
    first = np.bincount([one_pass(3, number)[0] for number in range(3000)], minlength=6) / 3000
    expected = chances(WEIGHTS, 1)
    assert (np.abs(first - expected) < ALARM * np.sqrt(expected * (1 - expected) / 3000)).all()


@pytest.mark.parametrize("size", [1, 7, 100])
def test_the_cut_into_calls_does_not_show(size: int) -> None:
    values, weights = np.arange(60_000), np.random.default_rng(1).exponential(size=60_000)
    whole, parts = sample_of(values, weights, size), WeightedReservoirSample(size)
    for some in np.array_split(values[:59_500], 311):
        parts.update_many(some, weights[some])
    parts = WeightedReservoirSample.from_bytes(parts.to_bytes())
    for value in values[59_500:].tolist():
        parts.update(value, weights[value])
    assert parts.to_bytes() == whole.to_bytes()


def test_the_sample_is_that_of_the_least_keys() -> None:
    """A slow model: a key for every value, out of the same random numbers."""
    values, weights = np.arange(20_000), np.random.default_rng(2).exponential(size=20_000) ** 3
    sketch = sample_of(values, weights, 25)
    head = sample_of(values[:25], weights[:25], 25)
    keys = {int(value): key for value, key in zip(head.sample(), head._keys, strict=True)}
    for row in range(25, 20_000):
        keys[row] = -math.log(draws.uniforms(head._key_, row, 1)[0]) / weights[row]
    assert sketch.sample().tolist() == sorted(keys, key=keys.__getitem__)[:25]


def test_full_samples_merge_to_the_least_keys_in_any_order() -> None:
    parts = [sample_of(np.arange(start, start + 500), np.ones(500), 30, seed) for seed, start in enumerate((0, 1000, 2000))]
    a, b, c = parts
    left = WeightedReservoirSample.merged([WeightedReservoirSample.merged([a, b]), c])
    right = WeightedReservoirSample.merged([c, WeightedReservoirSample.merged([b, a])])
    assert left.sample().tolist() == right.sample().tolist()
    least = sorted(key for part in parts for key in part._keys)[:30]
    assert left._keys.tolist() == least


@COMPILED
def test_numpy_alone_gives_the_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for module in (hash_kernel, hash_plain):
        monkeypatch.setattr(draws, "_hash_words8", module.hash_words8)
        sketch = sample_of(np.arange(50_000), np.arange(50_000) % 11, 30)
        sketch.merge(sample_of(np.arange(10), np.ones(10), 30))
        found.append(sketch.to_bytes())
    assert found[0] == found[1]


def test_a_weight_of_zero_is_no_value_and_nulls_are_none() -> None:
    words = pa.array(["a", None, "b", "c"])
    sketch = sample_of(words, np.array([1, 5, 0, 2]), 10)
    assert pairs_of(sketch) == [("a", 1.0), ("c", 2.0)]
    assert sketch.count == 2
    nothing = sample_of(np.arange(5), np.zeros(5), 10)
    assert nothing.is_empty
    nothing.update(None)
    nothing.update("x", 3)
    assert pairs_of(nothing) == [("x", 3.0)]


# Estimates ----------------------------------------------------------------------------------------------------------------


def test_sums_are_exact_while_all_values_are_there() -> None:
    sketch = sample_of(np.array([1, 2, 3]), np.array([0.5, 1, 2]), 3)
    assert sketch.estimate(lambda v: v > 1) == sketch.lower_bound(lambda v: v > 1) == 3.0
    assert sketch.estimate() == 8.5
    assert sketch.estimate_sum() == 6.0
    assert WeightedReservoirSample(3).estimate() == 0.0


def test_sums_are_unbiased_and_their_bounds_hold_as_often_as_they_say() -> None:
    """False alarm: means of 400 at 1e-6 each; violations are binomial, 5 %, and 42 or more of 400 have a probability below 1e-5."""
    weights = np.random.default_rng(3).exponential(size=3000) ** 2
    values, condition = np.arange(3000), lambda v: v % 3 == 0
    weight_found, count_found, outside = [], [], 0
    truth = weights[::3].sum()
    for seed in range(400):
        sketch = sample_of(values, weights, 150, seed)
        weight_found.append(sketch.estimate(condition))
        count_found.append(sketch.estimate_sum(condition))
        outside += not sketch.lower_bound(condition) <= truth <= sketch.upper_bound(condition)
    for found, wanted in ((weight_found, truth), (count_found, 1000)):
        assert abs(np.mean(found) - wanted) < ALARM * np.std(found) / math.sqrt(400)
    assert 2 < outside < 42


# Errors -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ask", "text"),
    [
        (lambda s: s.update_many(np.arange(2), [1, -1]), "argument 'weights': expected 2 finite numbers, none below 0, got -1 at 1"),
        (lambda s: s.update_many(np.arange(2), [1, math.nan]), "got nan at 1"),
        (lambda s: s.update_many(np.arange(2), [1, math.inf]), "got inf at 1"),
        (lambda s: s.update_many(np.arange(2), [1, 1e101]), "parameter 'weights': expected 0, or 1e-100 to 1e\\+100, got 1e\\+101"),
        (lambda s: s.update_many(np.arange(2), [1e-101, 1]), "got 1e-101"),
        (lambda s: s.update_many(np.arange(2), [1]), r"got int64 of shape \(1,\)"),
        (lambda s: s.update(1, -1), "got -1 at 0"),
        (
            lambda s: s.update_many(np.array([1.5])),
            "cannot update sketch 'weighted_reservoir': .+ 'long', got 'double'",
        ),
        (lambda s: s.merge(sample_of(np.array(["a"]), [1], 10)), "cannot merge sketch 'weighted_reservoir': .+ 'long', got 'string'"),
        (lambda s: s.lower_bound(confidence=0), "parameter 'confidence': expected a number between 0 and 1, got 0"),
        (
            lambda _: sample_of(np.arange(9), None, 1).estimate(),
            "'size': expected at least 2 where something is estimated, got 1",
        ),
        (lambda _: WeightedReservoirSample(0), "parameter 'size': expected an integer from 1 to 16,777,216, got 0"),
        (lambda _: WeightedReservoirSample(5, seed=2**64), "parameter 'seed': expected an integer from 0 to 2\\^64 - 1, got"),
    ],
)
def test_what_makes_no_sense_is_refused(ask: Any, text: str) -> None:
    sketch = sample_of(np.arange(100), None, 10)
    before = sketch.to_bytes()
    with pytest.raises((SketchError, SketchTypeError), match=text):
        ask(sketch)
    assert sketch.to_bytes() == before


# Bytes --------------------------------------------------------------------------------------------------------------------


def test_the_bytes_are_those_of_the_first_release() -> None:
    sketch = sample_of(np.arange(50_000) ** 2, np.arange(50_000) % 17, 6, seed=42)
    sketch.merge(sample_of(np.arange(3), np.array([1e9, 1, 1]), 6, seed=43))
    sketch.update_many(np.arange(1000))
    assert sketch.to_bytes() == GOLDEN.read_bytes()
    read = WeightedReservoirSample.from_bytes(GOLDEN.read_bytes())
    assert read.count == 48_061
    assert read.sample().tolist() == GOLDEN_SAMPLE


GOLDEN_SAMPLE: list[int] = [0, 1942870084, 997422724, 99201600, 1219825476, 704530849]


def payload_of(count: int, items: int, weights: list[float], keys: list[float]) -> bytes:
    head = struct.pack("<QQ", count, 1) + struct.pack("<BI", 3 if items else 0, items)
    return head + np.arange(items, dtype="<i8").tobytes() + np.array(weights + keys, "<f8").tobytes()


@pytest.mark.parametrize(
    ("size", "payload", "text"),
    [
        (0, payload_of(0, 0, [], []), "expected a size from 1 to 16777216, got 0"),
        (2, b"short", "expected 4 bytes of parameters, got 4, and 5 of payload"),
        (2, payload_of(3, 1, [1], [1]), "expected 2 items of 3 values, got 1"),
        (2, payload_of(1, 1, [1], [1]), "expected 8 bytes of weights and keys, got 16"),
        (2, payload_of(2, 2, [1, 1], [1]), "expected 32 bytes of weights and keys, got 24"),
        (2, payload_of(2, 2, [1, 0], [1, 2]), "expected weights from 1e-100 to 1e\\+100, got others"),
        (2, payload_of(2, 2, [1, math.nan], [1, 2]), "expected weights from"),
        (2, payload_of(2, 2, [1, 1], [2, 1]), "expected keys above 0 in ascending order, got others"),
        (2, payload_of(2, 2, [1, 1], [0, 1]), "expected keys above 0"),
        (2, payload_of(2, 2, [1, 1], [1, math.nan]), "expected keys above 0"),
        (2, payload_of(2, 2, [1, 1], [1, math.inf]), "expected keys above 0"),
    ],
)
def test_hostile_bytes_are_refused(size: int, payload: bytes, text: str) -> None:
    with pytest.raises(SketchBytesError, match=text):
        WeightedReservoirSample.from_bytes(seal("weighted_reservoir", 1, struct.pack("<I", size), payload))
