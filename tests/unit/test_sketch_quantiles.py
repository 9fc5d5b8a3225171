"""Quantiles: exact while small, within the proved bound afterwards, the same bytes for the same input, refusals, stored bytes.

Statistical tests have fixed seeds; the false-alarm rate stands with each.
"""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sketches import Grouped, Quantiles
from sketches.envelope import open_envelope, seal
from sketches.errors import SketchBytesError, SketchError
from sketches.quantiles import HEAD
from tests.sketch_laws import SketchLaws

GOLDEN = Path(__file__).parents[1] / "golden" / "sketches" / "quantiles_v1.bin"
QS = np.linspace(0.01, 0.99, 99)


class TestQuantiles(SketchLaws):
    TAKES_TEXT: ClassVar[bool] = False

    def make(self) -> Quantiles:
        return Quantiles(k=100)

    def others(self) -> list[Quantiles]:
        return [Quantiles(k=101)]

    def assert_same(self, one: Any, other: Any, values: NDArray[Any]) -> None:
        """Count, minimum and maximum are equal; ranks are right within the bound (one in 10^9 fails by chance)."""
        for sketch in (one, other):
            assert sketch.count == len(values)
            if len(values):
                assert (sketch.minimum, sketch.maximum) == (values.min(), values.max())
                truth = np.searchsorted(np.sort(values), values[:50], side="right") / len(values)
                assert np.abs(sketch.cdf(values[:50]) - truth).max() <= sketch.rank_error(1 - 1e-9) + 1e-12


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(allow_nan=False), min_size=1, max_size=50), st.floats(0, 1))
def test_it_is_exact_while_it_holds_all_values(values: list[float], q: float) -> None:
    sketch, ordered = Quantiles(k=50), sorted(values)
    for value in values:
        sketch.update(value)
    assert sketch.rank_error() == 0
    expected = ordered[max(0, math.ceil(q * len(values)) - 1)]
    assert sketch.quantile(q) == sketch.lower_bound(q) == sketch.upper_bound(q) == expected
    for value in values:
        assert sketch.rank(value) == sum(other <= value for other in values) / len(values)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 20_000), max_size=8), st.integers(8, 300), st.integers(0, 2**64 - 1))
def test_weights_of_what_is_kept_sum_to_the_count(sizes: list[int], k: int, seed: int) -> None:
    dice = np.random.default_rng(seed)
    sketch, other = Quantiles(k, seed), Quantiles(k, seed ^ 1)
    for place, size in enumerate(sizes):
        (other if place % 3 == 2 else sketch).update_many(dice.normal(size=size))
    sketch.merge(other)
    _, ranks = sketch._ranked()
    assert sketch.count == sum(sizes) == (ranks[-1] if ranks.size else 0)
    assert ranks.size <= 3 * k + 8 * 20 + 8
    assert sketch._variance <= (1.1 * sketch.count / k) ** 2
    assert all((level[1:] >= level[:-1]).all() for level in sketch._levels)


@pytest.mark.parametrize("size", [1000, 10_000, 100_000])
@pytest.mark.parametrize("order", ["random", "up", "down", "zigzag", "few", "pieces"])
def test_ranks_are_within_the_bound(size: int, order: str) -> None:
    """99 ranks of 40 seeds at 95 %: one sketch errs with one coin at all of them, so a sketch is the trial. The bound is an upper one: 40
    trials with at most 5 % each exceed 8 at a rank by chance once in 3500; each rank is looked at, the bound's slack keeps them far off."""
    values = np.arange(size, dtype=np.float64)
    outside = np.zeros(QS.size)
    for seed in range(40):
        dice = np.random.default_rng(seed)
        match order:
            case "random" | "pieces":
                values = dice.permutation(values)
            case "down":
                values = np.arange(size, 0.0, -1)
            case "zigzag":
                values = np.where(np.arange(size) % 2, np.arange(size), -np.arange(size)).astype(float)
            case "few":
                values = dice.zipf(1.5, size).clip(1, 30).astype(float)
        sketch = Quantiles(k=64, seed=seed)
        for part in np.split(values, range(0, size, 997)) if order == "pieces" else [values]:
            sketch.update_many(part)
        asked = np.quantile(values, QS, method="inverted_cdf")
        truth = np.searchsorted(np.sort(values), asked, side="right") / size
        outside += np.abs(sketch.cdf(asked) - truth) > sketch.rank_error(0.95)
    assert outside.max() <= 8


def test_the_error_is_not_biased_and_half_the_bound() -> None:
    """The mean of 200 errors, of standard deviation s, is within 4 s / sqrt(200) but for one in 16,000; and they are not zero."""
    errors = []
    for seed in range(200):
        sketch = Quantiles(k=64, seed=seed)
        sketch.update_many(np.random.default_rng(seed).permutation(160_000).astype(float))  # most of them by thinned blocks
        errors.append(sketch.rank(79_999.0) - 0.5)
    assert abs(np.mean(errors)) <= 4 * np.std(errors) / math.sqrt(200)
    assert 0.1 < np.std(errors) / sketch.rank_error(0.95) < 0.5


def test_coins_come_in_pairs_that_cancel() -> None:
    """What the first of two compactions leaves out the second keeps, so that both together err by no more than one."""
    firsts = set()
    for seed in range(20):
        sketch = Quantiles(k=8, seed=seed)
        for _ in range(2):
            sketch._halve(0, np.arange(10.0))
            firsts.add(sketch._levels[0][0])
            assert sketch._variance == 1
        assert sketch._levels[0].tolist() == list(range(10))
    assert firsts == {0.0, 1.0}


def test_merged_parts_are_within_the_bound_and_seeds_make_them_differ() -> None:
    """400 parts of the same values: with a seed each their errors cancel. One in 10^6 fails by chance."""
    values = np.arange(5000, dtype=np.float64)
    parts = []
    for seed in range(400):
        part = Quantiles(k=64, seed=seed)
        part.update_many(values)
        parts.append(part)
    whole = Quantiles.merged(parts)
    assert whole.count == 400 * 5000
    asked = np.arange(100.0, 5000, 100)
    assert np.abs(whole.cdf(asked) - (asked + 1) / 5000).max() <= whole.rank_error(1 - 1e-6 / asked.size)
    assert len({part.to_bytes() for part in parts}) == 400


def test_bounds_enclose_the_quantile() -> None:
    """100 sketches at 90 %: more than 25 misses happen by chance once in 10^5."""
    misses = 0
    for seed in range(100):
        values = np.random.default_rng(seed).exponential(size=30_000)
        sketch = Quantiles(k=32, seed=seed)
        sketch.update_many(values)
        truth = np.quantile(values, 0.9, method="inverted_cdf")
        low, high = sketch.lower_bound(0.9, 0.9), sketch.upper_bound(0.9, 0.9)
        assert sketch.minimum <= low < sketch.quantile(0.9) < high <= sketch.maximum
        misses += not low <= truth <= high
    assert misses <= 25


@pytest.mark.parametrize(("epsilon", "confidence"), [(0.1, 0.95), (0.015, 0.95), (0.01, 0.99), (0.001, 0.9)])
def test_from_error_keeps_to_epsilon_at_each_size(epsilon: float, confidence: float) -> None:
    sketch = Quantiles.from_error(epsilon=epsilon, confidence=confidence)
    values = np.random.default_rng(1).random(3 * sketch.k)
    for _ in range(60):
        sketch.update_many(values)
        assert sketch.rank_error(confidence) <= epsilon
    single = Quantiles(sketch.k)
    for value in values[: sketch.k + 40].tolist():
        single.update(value)
        assert single.rank_error(confidence) <= epsilon
    assert Quantiles(sketch.k // 3).k < sketch.k  # and it is no larger than it must be:
    assert single.rank_error(confidence) == 0 or epsilon / 4 < single.rank_error(confidence)


def test_the_same_input_gives_the_same_bytes_and_goes_on_so_after_storing() -> None:
    values = np.random.default_rng(2).normal(size=40_000)
    one, other = Quantiles(seed=7), Quantiles(seed=7)
    one.update_many(values)
    other.update_many(values)
    assert one.to_bytes() == other.to_bytes() != Quantiles(seed=8).to_bytes()
    stored = Quantiles.from_bytes(one.to_bytes())
    for sketch in (one, stored):
        sketch.update_many(values[:12_345])
    assert one.to_bytes() == stored.to_bytes()


@pytest.mark.parametrize(
    "values",
    [
        np.array([3, 1, 2], np.int8),
        np.array([3, 1, 2], np.uint64),
        np.array([3, 1, 2], np.float16),
        np.array([3, 1, 2], "m8[us]"),
        np.array([3, 1, 2], "M8[D]"),
        np.array([3000, 1000, 2000], "M8[ns]"),
        pa.array([3, None, 1, 2]),
        pa.chunked_array([[3.0], [1.0, None, 2.0]]),
    ],
)
def test_columns_are_taken_in_all_their_forms(values: Any) -> None:
    sketch = Quantiles()
    sketch.update_many(values)
    assert (sketch.count, sketch.minimum, sketch.quantile(0.5), sketch.maximum) == (3, 1, 2, 3)


def test_truths_and_infinities_have_ranks() -> None:
    sketch = Quantiles(k=8)
    sketch.update_many(np.array([True, False, True, True]))
    assert sketch.rank(0) == 0.25
    for _ in range(40):
        sketch.update_many(np.array([math.inf, -math.inf, -0.0, 0.0]))
    assert (sketch.minimum, sketch.maximum, sketch.quantile(0.5)) == (-math.inf, math.inf, 0.0)
    assert Quantiles.from_bytes(sketch.to_bytes()).to_bytes() == sketch.to_bytes()


def test_groups_have_a_sketch_each() -> None:
    dice = np.random.default_rng(5)
    keys, values = dice.integers(0, 5, 50_000), dice.normal(size=50_000)
    groups = Grouped(Quantiles(k=100))
    groups.update_grouped(keys, values)
    for key, sketch in groups.items():
        assert sketch.count == (keys == key).sum()
        assert abs(sketch.rank(0.0) - (values[keys == key] <= 0).mean()) <= sketch.rank_error(1 - 1e-6)


@pytest.mark.parametrize(
    ("act", "text"),
    [
        (lambda: Quantiles(7), "parameter 'k': expected a whole number from 8 to 65536, got 7; correct it"),
        (lambda: Quantiles(65_537), "parameter 'k': expected a whole number from 8 to 65536, got 65537"),
        (lambda: Quantiles(True), "parameter 'k': expected a whole number from 8 to 65536, got True"),
        (lambda: Quantiles(200.0), "parameter 'k': expected a whole number from 8 to 65536, got 200.0"),  # type: ignore[arg-type]
        (lambda: Quantiles(seed=-1), r"parameter 'seed': expected a whole number from 0 to 2\*\*64 - 1, got -1"),
        (lambda: Quantiles.from_error(epsilon=0), "parameter 'epsilon': expected a number between 0 and 1, got 0"),
        (lambda: Quantiles.from_error(epsilon=1e-6), r"parameter 'epsilon': expected at least 4.6e-05 at confidence 0.95, got 1e-06"),
        (lambda: Quantiles.from_error(epsilon=0.1, confidence=1), "parameter 'confidence': expected a number between 0 and 1, got 1"),
        (lambda: Quantiles().rank_error(0), "parameter 'confidence': expected a number between 0 and 1, got 0"),
        (lambda: Quantiles().quantile(1.5), "parameter 'q': expected numbers from 0 to 1, got "),
        (lambda: Quantiles().quantiles([0.5, math.nan]), "parameter 'q': expected numbers from 0 to 1, got "),
        (lambda: Quantiles().lower_bound(-1), "parameter 'q': expected numbers from 0 to 1, got -1"),
        (lambda: Quantiles().rank(math.nan), "argument 'values': expected numbers, got nan; it has no rank; leave it out"),
        (lambda: Quantiles().update(math.nan), "argument 'values': expected numbers, got nan; it has no rank; leave it out"),
        (lambda: Quantiles().update("a"), "argument 'values': expected numbers, got string; leave them out, or cast them"),
        (lambda: Quantiles().update_many(pa.array([1]).cast(pa.decimal128(19, 0)).cast(pa.decimal128(5, 0))), "got decimal"),
        (
            lambda: Grouped(Quantiles()).update_grouped(np.array([1]), np.array([1]), np.array([2])),
            "'weights': expected none for 'quantiles', got ndarray",
        ),
    ],
)
def test_refusals(act: Any, text: str) -> None:
    with pytest.raises(SketchError, match=f"cannot use .*{text}"):
        act()


def test_nan_among_numbers_is_refused_and_nothing_is_taken() -> None:
    sketch = Quantiles()
    sketch.update_many(np.arange(1000.0))
    before = sketch.to_bytes()
    values = np.arange(30_000.0)
    values[29_999] = math.nan
    with pytest.raises(SketchError, match="expected numbers, got nan"):
        sketch.update_many(values)
    assert sketch.to_bytes() == before


def test_an_empty_one_answers() -> None:
    sketch = Quantiles()
    answers = [sketch.minimum, sketch.maximum, sketch.quantile(0.5), sketch.rank(1.0), sketch.lower_bound(0.1), sketch.upper_bound(0.1)]
    assert all(map(math.isnan, answers))
    assert (sketch.count, sketch.rank_error()) == (0, 0)


def golden() -> Quantiles:
    sketch = Quantiles(k=32, seed=2026)
    sketch.update_many(np.arange(20_000, dtype=np.int64) * 7919 % 20_011)
    return sketch


def test_stored_bytes_stay_readable() -> None:
    data = GOLDEN.read_bytes()
    assert golden().to_bytes() == data
    sketch = Quantiles.from_bytes(data)
    assert (sketch.count, sketch.minimum, sketch.maximum, sketch.k) == (20_000, 0, 20_010, 32)
    assert abs(sketch.quantile(0.5) / 20_011 - 0.5) <= sketch.rank_error(0.95) < 0.06


def test_bytes_that_no_sketch_has_are_refused() -> None:
    found = open_envelope(golden().to_bytes(), "quantiles", version=1)
    levels = found.payload[HEAD.size - 1]
    values = HEAD.size + 5 * levels
    changes: list[tuple[int, str, Any, str]] = [
        (8, "<Q", 19_999, "levels that stand for 19999 values"),
        (16, "<d", 15_000.0, "sorted values between minimum and maximum"),
        (24, "<d", 5_000.0, "sorted values between minimum and maximum"),
        (24, "<d", math.nan, "sorted values between minimum and maximum"),
        (32, "<d", -1.0, "a lowest level, coins and a variance that can be"),
        (32, "<d", math.nan, "a lowest level, coins and a variance that can be"),
        (32, "<d", 4.1e8, "a lowest level, coins and a variance that can be"),
        (48, "<B", 0, "1 to 63 levels"),
        (48, "<B", 64, "1 to 63 levels"),
        (48, "<B", levels + 1, "levels that stand for 20000 values"),
        (HEAD.size, "<I", 2**32 - 1, "levels that stand for 20000 values"),
        (HEAD.size + 4, "<B", 3, "a lowest level, coins"),
        (values + 16, "<d", math.nan, "sorted values"),
        (len(found.payload) - 8, "<d", 5.0, "sorted values"),
    ]
    for place, form, value, text in changes:
        payload = bytearray(found.payload)
        struct.pack_into(form, payload, place, value)
        with pytest.raises(SketchBytesError, match=f"cannot read bytes of sketch 'quantiles': expected {text}.*, got "):
            Quantiles.from_bytes(seal("quantiles", 1, bytes(found.parameters), bytes(payload)))
    for parameters in (b"", struct.pack("<I", 7), struct.pack("<I", 65_537)):
        with pytest.raises(SketchBytesError, match="expected k from 8 to 65536 and a head of 49 bytes, got "):
            Quantiles.from_bytes(seal("quantiles", 1, parameters, bytes(found.payload)))


def test_more_values_than_can_be_counted_are_not_merged() -> None:
    head = HEAD.pack(0, 1 << 62, 1.0, 1.0, 0.0, 0, 62) + struct.pack("<IB", 0, 2) * 61 + struct.pack("<IB", 2, 2)
    half = Quantiles.from_bytes(seal("quantiles", 1, struct.pack("<I", 8), head + struct.pack("<2d", 1.0, 1.0)))
    assert half.count == 1 << 62
    with pytest.raises(SketchError, match=r"cannot merge sketch 'quantiles': expected at most 2\*\*62 values, got more; merge fewer"):
        half.merge(half.copy())
