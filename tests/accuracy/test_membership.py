"""Bloom filters keep to the rates that they promise: over many filters, at all loads, for each size, and after merges.

False alarms: a filter's rate is measured on strangers, and the mean over F filters compared with the promise. The mean may be above by
five of its standard errors (from the sample): one false alarm in three million for a test, one in ten thousand for all of them.
The seeds are fixed. Where the formula itself is tested, the mean must also not be below it by more.
"""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from benchmarks.sketches.studies import bloom
from benchmarks.sketches.studies.bloom import rates_of
from sketches import BloomFilter, ClassicBloomFilter, RotatingBloomFilter
from sketches.bloom_math import blocked_rate, classic_rate

pytestmark = pytest.mark.slow

KINDS = [BloomFilter, ClassicBloomFilter]
SIGMAS = 5


def expected(sketch: Any, size: int) -> float:
    if isinstance(sketch, BloomFilter):
        return blocked_rate(size, len(sketch.state))
    return classic_rate(size, int(sketch.parameters["bits"]), int(sketch.parameters["probes"]))


@pytest.mark.timeout(900)
@pytest.mark.parametrize("load", [0.25, 0.5, 1.0, 1.5])
@pytest.mark.parametrize("rate", [0.1, 0.01, 0.001, 1e-4])
@pytest.mark.parametrize(("capacity", "filters", "strangers"), [(10, 2000, 5000), (1000, 400, 50_000), (100_000, 20, 500_000)])
@pytest.mark.parametrize("kind", KINDS)
def test_rates_are_those_of_the_formula_and_below_the_promise(
    kind: Any, capacity: int, filters: int, strangers: int, rate: float, load: float
) -> None:
    def make() -> Any:
        return kind.from_error(capacity=capacity, false_positive_rate=rate)

    size = int(capacity * load)
    rates, formula = rates_of(make, size, filters, 1, strangers), expected(make(), size)
    chance = math.sqrt(max(rates.var(ddof=1), formula / strangers) / filters)
    assert abs(rates.mean() - formula) <= SIGMAS * chance + 0.02 * formula  # the salts' and the probes' own share: below 2 %
    if load <= 1:
        assert rates.mean() <= rate + SIGMAS * chance
    if load == 1:
        assert formula > 0.8 * rate or capacity < 1000  # no larger than it must be


@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", KINDS)
def test_rare_false_positives_are_as_rare_as_promised(kind: Any) -> None:
    """At 1e-6, in 10^8 strangers: 100 are promised; the salts of the lanes are no random functions, and may not be far from them."""
    sketch = kind.from_error(capacity=50_000, false_positive_rate=1e-6)
    sketch.update_many(np.arange(50_000) * 3)
    count = sum(int(sketch.contains_many(np.arange(start, start + 10_000_000)).sum()) for start in range(1 << 40, (1 << 40) + 10**8, 10**7))
    assert count <= 100 + SIGMAS * math.sqrt(100)
    assert count >= 100 - SIGMAS * math.sqrt(100)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", KINDS)
def test_ten_million_values_in_a_hundred_merged_parts(kind: Any) -> None:
    whole = kind.from_error(capacity=10_000_000, false_positive_rate=0.01)
    merged = whole.copy()
    for part in np.array_split(np.arange(10_000_000), 100):
        other = kind(**whole.parameters)
        other.update_many(part)
        merged.merge(other)
    whole.update_many(np.arange(10_000_000)[::-1].copy())
    assert merged.to_bytes() == whole.to_bytes()
    assert whole.contains_many(np.arange(10_000_000)).all()
    rate = whole.contains_many(np.arange(1 << 40, (1 << 40) + 5_000_000)).mean()
    assert rate <= 0.01 + SIGMAS * math.sqrt(0.01 / 5_000_000)
    assert whole.lower_bound(0.999_999) <= 10_000_000 <= whole.upper_bound(0.999_999)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("size", [1, 10, 100, 1000, 10_000, 100_000])
@pytest.mark.parametrize("kind", KINDS)
def test_how_many_there_are_lies_in_the_bounds(kind: Any, size: int) -> None:
    """A filter for 100,000 at 1 %; bounds of 95 %: at least 93 % of 400 filters less 5 standard errors of that (false alarm: 3e-7)."""
    filters, inside = 400, 0
    errors = np.empty(filters)
    for seed in range(filters):
        sketch = kind.from_error(capacity=100_000, false_positive_rate=0.01)
        start = int(np.random.default_rng(seed).integers(0, 1 << 60))
        sketch.update_many(np.arange(start, start + size))
        inside += sketch.lower_bound() - 1e-6 <= size <= sketch.upper_bound() + 1e-6
        errors[seed] = sketch.estimate() / size - 1
    assert inside >= filters * 0.93 - SIGMAS * math.sqrt(filters * 0.93 * 0.07)
    assert abs(errors.mean()) <= SIGMAS * errors.std() / math.sqrt(filters) + 0.002


@pytest.mark.timeout(900)
@pytest.mark.parametrize("rate", [0.05, 0.001])
@pytest.mark.parametrize("generations", [1, 4, 12])
def test_a_filter_that_forgets_keeps_to_its_rate_with_all_generations_full(generations: int, rate: float) -> None:
    capacity, slice_us, filters, strangers = 2000, 1000, 50, 200_000
    rates = np.empty(filters)
    for seed in range(filters):
        keep = timedelta(microseconds=slice_us * generations)
        sketch = RotatingBloomFilter.from_error(capacity=capacity, false_positive_rate=rate, keep=keep, generations=generations)
        start = int(np.random.default_rng(seed).integers(0, 1 << 60))
        values = np.arange(capacity * (generations + 4))
        sketch.update_many(start + values, values // 2)  # each slice has as many as it may
        assert sketch.contains_many(start + values[-capacity * (generations + 1) :]).all()
        rates[seed] = sketch.contains_many(np.arange(start + values.size, start + values.size + strangers)).mean()
        assert abs(rates[seed] - sketch.false_positive_rate()) <= SIGMAS * math.sqrt(rate / strangers)
    chance = math.sqrt(max(rates.var(ddof=1), rate / strangers) / filters)
    assert rates.mean() <= rate + SIGMAS * chance
    assert rates.mean() >= 0.9 * rate - SIGMAS * chance


@pytest.mark.timeout(900)
def test_first_occurrences_in_ten_million_events() -> None:
    """At most the promised share of first occurrences is lost, and none is told twice within the time."""
    rate, size = 0.001, 10_000_000
    dice = np.random.default_rng(3)
    times = np.arange(size)
    fresh_value = np.cumsum(dice.random(size) < 0.5)
    values = np.maximum(fresh_value - np.where(dice.random(size) < 0.5, 0, dice.integers(0, 10_000, size)), 0)
    sketch = RotatingBloomFilter.from_error(capacity=130_000, false_positive_rate=rate, keep=timedelta(seconds=1))
    told = np.concatenate(
        [sketch.add_if_new(values[start : start + 100_000], times[start : start + 100_000]) for start in range(0, size, 100_000)]
    )
    distinct, firsts = np.unique(values, return_index=True)
    lost = np.count_nonzero(~np.isin(distinct, values[told]))
    assert lost <= rate * distinct.size + SIGMAS * math.sqrt(rate * distinct.size)
    assert np.unique(values[told]).size == np.count_nonzero(told)  # a value comes within 50,000 or so of its first time
    assert firsts.size > 4_000_000


@pytest.mark.timeout(900)
def test_the_study_keeps_to_its_bound() -> None:
    found = [trial for size in (0, 10, 1000, 100_000) for trial in bloom.trials([size], range(20))]
    above = sum(trial.error > trial.bound for trial in found)
    assert above <= 18  # binomial(80, 0.05): more in one of 10^7 choices of the seeds
    assert all(trial.error == 0 for trial in found if not trial.size)
