"""Uniform samples: the law of the sample, jumps that do not depend on the cut, merges, estimates with bounds, bytes."""

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
from sketches.envelope import seal
from sketches.errors import SketchBytesError, SketchError, SketchTypeError
from sketches.grouped import Grouped
from sketches.jit import HAS_NUMBA
from sketches.reservoir import ReservoirSample
from sketches.sample_bounds import mean_bounds
from tests.sketch_laws import SketchLaws

GOLDEN = Path(__file__).parent.parent / "golden" / "sketches" / "reservoir_v1.bin"
COMPILED = pytest.mark.skipif(not HAS_NUMBA, reason="there is nothing to compare NumPy with")


def sample_of(values: Any, size: int, seed: int = 0) -> ReservoirSample:
    found = ReservoirSample(size, seed)
    found.update_many(values)
    return found


def chi_square(counts: NDArray[np.float64], size: int, trials: int) -> float:
    """Return a number that has nearly the chi-square law with one degree less than there are places."""
    places = counts.size
    expected = trials * size / places
    return float(((counts - expected) ** 2).sum() / expected) * (places - 1) / (places - size)


def greatest_chi_square(degrees: int) -> float:
    """Return what such a number exceeds with probability 1e-6 (Wilson and Hilferty 1931)."""
    spread = 2 / (9 * degrees)
    return degrees * (1 - spread + 4.753 * math.sqrt(spread)) ** 3


class TestReservoirSample(SketchLaws):
    """Equal is by distribution: samples of the same values have the same count and size, and each item is one of the values."""

    def make(self) -> ReservoirSample:
        return ReservoirSample(40, seed=3)

    def others(self) -> list[ReservoirSample]:
        return [ReservoirSample(41, seed=3)]

    def assert_same(self, one: Any, other: Any, values: NDArray[Any]) -> None:
        there = dict(zip(*np.unique(values, return_counts=True), strict=True))
        for sketch in (one, other):
            assert sketch.count == values.size
            found = sketch.sample()
            assert found.size == min(values.size, 40)
            for value, times in zip(*np.unique(found, return_counts=True), strict=True):
                assert times <= there[value], "without replacement"


# The law ------------------------------------------------------------------------------------------------------------------


def one_pass(seed: int) -> NDArray[Any]:
    return sample_of(np.arange(40), 6, seed).sample()


def unequal_parts(seed: int) -> NDArray[Any]:
    """Merge 33 values with 2 and with none, then go on."""
    found = sample_of(np.arange(33), 6, seed)
    found.merge(sample_of(np.arange(33, 35), 6, seed))
    found.merge(ReservoirSample(6, seed))
    found.update_many(np.arange(35, 40))
    return found.sample()


def parts_of_one_seed(number: int) -> NDArray[Any]:
    """Give all parts one seed: their values tell them apart."""
    parts = [sample_of(part + 1000 * number, 6, 5) for part in np.split(np.arange(40), [10, 30])]
    return ReservoirSample.merged(parts).sample() - 1000 * number


def small_parts(number: int) -> NDArray[Any]:
    """Merge parts of which none is full."""
    parts = [sample_of(part + 1000 * number, 6, 5) for part in np.split(np.arange(40), 10)]
    return ReservoirSample.merged(parts[::-1]).sample() - 1000 * number


@pytest.mark.parametrize("law", [one_pass, unequal_parts, parts_of_one_seed, small_parts])
def test_each_value_is_sampled_alike(law: Any) -> None:
    """False alarm: one in a million for each of the four."""
    trials, counts = 4000, np.zeros(40)
    for seed in range(trials):
        found = law(seed)
        assert np.unique(found).size == 6
        counts[found] += 1
    assert chi_square(counts, 6, trials) < greatest_chi_square(39)


def test_pairs_are_sampled_alike_too() -> None:
    """Pairs of items out of parts that were merged: a merge that takes a fixed share of each part fails. False alarm: 1e-6."""
    trials, from_first = 4000, np.zeros(4)
    for seed in range(trials):
        found = sample_of(np.arange(10), 3, seed)
        found.merge(sample_of(np.arange(10, 15), 3, seed + trials))
        from_first[(found.sample() < 10).sum()] += 1
    law = np.array([math.comb(10, k) * math.comb(5, 3 - k) / math.comb(15, 3) for k in range(4)])  # hypergeometric
    assert ((from_first - trials * law) ** 2 / (trials * law)).sum() < greatest_chi_square(3)


@pytest.mark.parametrize("size", [1, 7, 100])
def test_the_cut_into_calls_does_not_show(size: int) -> None:
    values = np.arange(30_000)
    whole, parts = sample_of(values, size), ReservoirSample(size)
    for part in np.array_split(values[:29_000], 611):
        parts.update_many(part)
    parts = ReservoirSample.from_bytes(parts.to_bytes())
    for value in values[29_000:].tolist():
        parts.update(value)
    assert parts.to_bytes() == whole.to_bytes()


def test_a_stream_that_is_shorter_than_the_sample_is_the_sample() -> None:
    sketch = sample_of(np.arange(10), 10)
    sketch.merge(ReservoirSample(10))
    assert sketch.sample().tolist() == list(range(10))
    assert sample_of(np.arange(3), 10).sample().tolist() == [0, 1, 2]


def test_a_copy_and_what_was_read_go_on_as_the_first_does() -> None:
    first = sample_of(np.arange(5000), 20)
    others = [first.copy(), ReservoirSample.from_bytes(first.to_bytes())]
    for sketch in (first, *others):
        sketch.update_many(np.arange(100_000))
        sketch.merge(sample_of(np.arange(300), 20, 9))
    assert {sketch.to_bytes() for sketch in others} == {first.to_bytes()}


def test_strings_and_nulls() -> None:
    words = pa.array([f"słowo {number}" if number % 3 else None for number in range(3000)])
    sketch = sample_of(words, 50)
    assert sketch.count == 2000
    assert set(sketch.sample_arrow().to_pylist()) <= {word for word in words.to_pylist() if word}
    assert sketch.estimate(lambda texts: np.strings.endswith(texts, "1")) == np.mean([text[-1] == "1" for text in sketch.sample()])


def test_groups_have_samples_of_their_own() -> None:
    groups = Grouped(ReservoirSample(5))
    groups.update_grouped(np.arange(1000) % 2, np.arange(1000))
    assert (groups[0].sample() % 2 == 0).all()
    assert sorted(groups[0].sample() + 1) != sorted(groups[1].sample()), "other places, though of one seed"


# The random numbers -------------------------------------------------------------------------------------------------------


@COMPILED
def test_numpy_alone_gives_the_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for module in (hash_kernel, hash_plain):
        monkeypatch.setattr(draws, "_hash_words8", module.hash_words8)
        sketch = sample_of(np.arange(50_000), 30)
        sketch.merge(sample_of(np.arange(100), 30))
        found.append(sketch.to_bytes())
    assert found[0] == found[1]


def test_functions_that_are_alike_everywhere_are_right() -> None:
    u = np.concatenate([draws.uniforms(1, 0, 100_000), [2.0**-53, 1 - 2.0**-53, 0.5, 2.0**0.5 / 2]])
    x = np.log(u)
    np.testing.assert_allclose(draws.log(u), x, rtol=1e-15, atol=0)
    np.testing.assert_allclose(draws.exp(x * 15), np.exp(x * 15), rtol=4e-16, atol=0)
    small = np.exp(-np.arange(1.0, 600.0))
    np.testing.assert_allclose(draws.log_one_minus(small), np.log1p(-small), rtol=1e-15, atol=0)
    assert draws.log_one_minus(np.array([1.0]))[0] < -37
    assert draws.exp(np.array([-1e300, 0.0])).tolist() == [draws.exp(np.array([-700.0]))[0], 1.0]


def test_random_numbers_are_uniform_and_begin_anywhere() -> None:
    """False alarm: 1e-6."""
    u = draws.uniforms(7, 0, 100_000)
    counts = np.bincount((u * 100).astype(int), minlength=100)
    assert ((counts - 1000.0) ** 2 / 1000).sum() < greatest_chi_square(99)
    assert (draws.uniforms(7, 60_000, 10) == u[60_000:60_010]).all()
    assert not (draws.uniforms(8, 0, 1000) == u[:1000]).any()


# Estimates ----------------------------------------------------------------------------------------------------------------


def test_estimates_are_exact_while_all_values_are_there() -> None:
    sketch = sample_of(np.array([1.0, 2.0, 6.0]), 10)
    assert sketch.estimate() == sketch.lower_bound() == sketch.upper_bound(confidence=0.999) == 3.0
    assert sketch.estimate_sum() == 9.0
    assert sketch.estimate(lambda v: v > 1) == sketch.upper_bound(lambda v: v > 1) == 2 / 3
    empty = ReservoirSample(10)
    assert math.isnan(empty.estimate())
    assert empty.estimate_sum() == 0.0
    assert (empty.lower_bound(), empty.upper_bound()) == (-math.inf, math.inf)
    assert (empty.lower_bound(within=(0, 5)), empty.upper_bound(within=(0, 5))) == (0, 5)


def test_bounds_are_those_of_the_text() -> None:
    truths = np.array([True] * 30 + [False] * 70)
    side = math.sqrt((1 - 99 / 1000) * math.log(2 / 0.05) / 200)
    assert mean_bounds(truths, 1000, 0.95, None) == pytest.approx((0.3 - side, 0.3 + side))
    assert mean_bounds(truths * 10.0, 1000, 0.95, (-10, 10)) == pytest.approx((3 - 20 * side, 3 + 20 * side))
    normal = 1.959964 * truths.std(ddof=1) * math.sqrt((1 - 0.1) / 100)
    assert mean_bounds(truths * 1.0, 1000, 0.95, None) == pytest.approx((0.3 - normal, 0.3 + normal))
    assert mean_bounds(np.array([True]), 2, 0.95, None) == (0.0, 1.0), "not past what is possible"
    assert mean_bounds(np.array([4.0]), 2, 0.95, None) == (-math.inf, math.inf)


def test_bounds_hold_as_often_as_they_say() -> None:
    """The normal bound of a mean over 400 samples of 200: violations are binomial, 5 %; 40 or more have a probability below 3e-5."""
    values = np.random.default_rng(8).exponential(size=5000)
    outside = sound = 0
    for seed in range(400):
        sketch = sample_of(values, 200, seed)
        outside += not sketch.lower_bound() <= values.mean() <= sketch.upper_bound()
        limits = (0.0, values.max())
        sound += not sketch.lower_bound(within=limits) <= values.mean() <= sketch.upper_bound(within=limits)
    assert outside < 40
    assert sound <= 2, "Hoeffding's bound is far wider than it needs to be here"
    assert outside > 2, "and the normal one is not"


@pytest.mark.parametrize(
    ("ask", "text"),
    [
        (lambda s: s.estimate(lambda v: v[:2]), r"cannot use argument 'of': expected .+ for each of 10 items, got int64 of shape \(2,\)"),
        (lambda s: s.estimate(lambda v: v.astype(str)), r"got <U21 of shape \(10,\)"),
        (lambda s: s.lower_bound(confidence=1.0), "parameter 'confidence': expected a number between 0 and 1, got 1.0"),
        (lambda s: s.lower_bound(within=(5, 1)), r"parameter 'within': expected two numbers, the lower one first, got \(5, 1\)"),
        (lambda s: s.upper_bound(within=(0, 1)), "parameter 'within': expected limits around the sample, "),
        (lambda s: s.update_many(np.array([1.5])), "cannot update sketch 'reservoir': expected values of type 'long', got 'double'"),
        (
            lambda s: s.merge(sample_of(np.array(["a"]), 10)),
            "cannot merge sketch 'reservoir': expected .+ 'long', got 'string'",
        ),
        (lambda _: sample_of(pa.array(["a", "b"]), 10).estimate(), "the items are no numbers: give a function of them"),
        (lambda _: ReservoirSample(0), "parameter 'size': expected an integer from 1 to 16,777,216, got 0"),
        (lambda _: ReservoirSample(1.5), "got 1.5"),  # type: ignore[arg-type]
        (lambda _: ReservoirSample(True), "got True"),
        (lambda _: ReservoirSample(5, seed=-1), "parameter 'seed': expected an integer from 0 to 2\\^64 - 1, got -1"),
        (lambda _: ReservoirSample.from_error(0.0), "parameter 'epsilon': expected a number between 0 and 1, got 0.0"),
        (lambda _: ReservoirSample.from_error(0.1, confidence=2), "parameter 'confidence'"),
    ],
)
def test_what_makes_no_sense_is_refused(ask: Any, text: str) -> None:
    sketch = sample_of(np.arange(100), 10)
    before = sketch.to_bytes()
    with pytest.raises((SketchError, SketchTypeError), match=text):
        ask(sketch)
    assert sketch.to_bytes() == before


def test_a_size_from_an_error_keeps_it() -> None:
    size = int(ReservoirSample.from_error(0.05, confidence=0.9).parameters["size"])
    assert size == 600
    low, high = mean_bounds(np.arange(size) % 2 == 0, 10**12, 0.9, None)
    assert high - low == pytest.approx(0.1, rel=1e-2)


# Bytes --------------------------------------------------------------------------------------------------------------------


def test_the_bytes_are_those_of_the_first_release() -> None:
    sketch = sample_of(np.arange(100_000) ** 2, 8, seed=42)
    sketch.merge(sample_of(np.arange(3), 8, seed=43))
    sketch.update_many(np.arange(1000))
    assert sketch.to_bytes() == GOLDEN.read_bytes()
    read = ReservoirSample.from_bytes(GOLDEN.read_bytes())
    assert read.count == 101_003
    assert read.sample().tolist() == GOLDEN_SAMPLE


GOLDEN_SAMPLE: list[int] = [664969369, 333318049, 2876391424, 1038966289, 8303765625, 6084780025, 1927210000, 8787375081]


def payload_of(count: int, step: int, last: int, log_w: float, items: int) -> bytes:
    head = struct.pack("<QQQqd", count, 1, step, last, log_w) + struct.pack("<BI", 3 if items else 0, items)
    return head + np.arange(items, dtype="<i8").tobytes()


@pytest.mark.parametrize(
    ("size", "payload", "text"),
    [
        (0, payload_of(0, 0, 0, 0.0, 0), "expected a size from 1 to 16777216, got 0"),
        (4, b"short", "expected 4 bytes of parameters, got 4, and 5 of payload"),
        (4, payload_of(9, 0, 9, -1.0, 3), "expected 4 items of 9 values, got 3"),
        (4, payload_of(2, 0, 0, 0.0, 3), "expected 2 items of 2 values, got 3"),
        (4, payload_of(2**63, 0, 9, -1.0, 4), "items of 9223372036854775808 values"),
        (4, payload_of(9, 0, 10, -1.0, 4), "expected a state of the random numbers, got step 0 after 10 of 9, -1.0"),
        (4, payload_of(9, 0, 9, 1.0, 4), "expected a state of the random numbers"),
        (4, payload_of(9, 0, 9, math.nan, 4), "expected a state of the random numbers"),
        (4, payload_of(9, 0, 9, -math.inf, 4), "expected a state of the random numbers"),
        (4, payload_of(9, 2**61, 9, -1.0, 4), "expected a state of the random numbers"),
        (4, payload_of(3, 1, 0, 0.0, 3), "expected a state of the random numbers"),
        (4, payload_of(9, 0, 9, -1.0, 4) + b"\0", "expected the end of the bytes, got 1 more"),
    ],
)
def test_hostile_bytes_are_refused(size: int, payload: bytes, text: str) -> None:
    with pytest.raises(SketchBytesError, match=text):
        ReservoirSample.from_bytes(seal("reservoir", 1, struct.pack("<I", size), payload))


@pytest.mark.parametrize("log_w", [0.0, -1e-300, -700.0])
def test_a_strange_state_is_a_sample_that_works(log_w: float) -> None:
    sketch = ReservoirSample.from_bytes(seal("reservoir", 1, struct.pack("<I", 4), payload_of(2**62, 2**60 - 1, 4, log_w, 4)))
    for part in np.array_split(np.arange(5000), 7):
        sketch.update_many(part)
    assert sketch.sample().size == 4
