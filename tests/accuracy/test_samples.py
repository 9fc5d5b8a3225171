"""Samples over many seeds: each value is sampled with its probability, after merges of unequal parts too, and bounds hold.

Every test that throws dice has a false-alarm rate of 1e-6 or less; the seeds are fixed, so an alarm stays.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.sketches.studies import reservoir as study
from sketches.reservoir import ReservoirSample
from sketches.stratified_reservoir import StratifiedReservoirSample
from sketches.weighted_reservoir import WeightedReservoirSample

pytestmark = pytest.mark.slow

ALARM = 1e-6


def most_violations(trials: int, chance: float, alarm: float = ALARM) -> int:
    """Return what a binomial number exceeds with a probability of at most `alarm`."""
    above = 1.0
    for number in range(trials + 1):
        log_chance = math.lgamma(trials + 1) - math.lgamma(number + 1) - math.lgamma(trials - number + 1)
        above -= math.exp(log_chance + number * math.log(chance) + (trials - number) * math.log1p(-chance))
        if above <= alarm:
            return number
    return trials


def assert_uniform(counts: NDArray[np.int64], *, picks_without_replacement: float = 0.0) -> None:
    """Compare with equal chances by chi-square; a sample that is a share of all places scatters less, by 1 minus the share."""
    degrees = counts.size - 1
    expected = counts.sum() / counts.size
    found = float(((counts - expected) ** 2).sum() / expected) / (1 - picks_without_replacement) * degrees / counts.size
    spread = 2 / (9 * degrees)
    assert found < degrees * (1 - spread + 4.753 * math.sqrt(spread)) ** 3, "more than chance (1e-6) allows"
    assert found > degrees * max(1 - spread - 4.753 * math.sqrt(spread), 0) ** 3, "less than chance (1e-6) allows"


def sample_of(values: NDArray[np.int64], size: int, seed: int) -> ReservoirSample:
    found = ReservoirSample(size, seed)
    found.update_many(values)
    return found


CUTS: dict[str, Sequence[int]] = {
    "one pass": [],
    "a large and a tiny one": [197],
    "a tiny and a large one": [3],
    "one that is full by one": [20],
    "none is full": list(range(10, 200, 10)),
    "unequal": [1, 2, 4, 8, 16, 32, 64, 128],
    "single values": list(range(1, 200)),
}


@pytest.mark.parametrize("cuts", CUTS.values(), ids=CUTS.keys())
def test_places_are_sampled_alike_after_merges(cuts: Sequence[int]) -> None:
    """10,000 samples of 20 out of 200, over places and over pairs of neighbours, which tells whether parts are sampled in step."""
    trials = 10_000 if len(cuts) < 10 else 2000
    places, pairs = np.zeros(200, np.int64), 0
    for seed in range(trials):
        parts = [sample_of(part, 20, seed + number * trials) for number, part in enumerate(np.split(np.arange(200), cuts))]
        found = np.sort(ReservoirSample.merged(parts).sample())
        places[found] += 1
        pairs += int((np.diff(found) == 1).sum())
    assert_uniform(places, picks_without_replacement=0.1)
    expected = trials * 199 * 20 * 19 / (200 * 199)
    assert abs(pairs - expected) < 4.9 * math.sqrt(expected * 1.2), "neighbours are together as often as others"


@pytest.mark.parametrize("size", [10**4, 10**6])
def test_places_in_long_streams_are_sampled_alike(size: int) -> None:
    """300 samples of 100, by hundredths of the stream; columns of all lengths."""
    values, dice = np.arange(size), np.random.default_rng(size)
    counts = np.zeros(100, np.int64)
    for seed in range(300):
        sketch = ReservoirSample(100, seed)
        for part in np.split(values, np.sort(dice.integers(0, size, 20))):
            sketch.update_many(part)
        counts += np.bincount(sketch.sample() * 100 // size, minlength=100)
    assert_uniform(counts, picks_without_replacement=100 / size)


def test_a_hundred_million_values_are_sampled_alike() -> None:
    """A sample of 10,000, by hundredths."""
    sketch = ReservoirSample(10_000, 1)
    for start in range(0, 10**8, 10**6):
        sketch.update_many(np.arange(start, start + 10**6))
    assert sketch.count == 10**8
    assert_uniform(np.bincount(sketch.sample() // 10**6, minlength=100))


def test_parts_of_a_thousand_to_one_give_their_share() -> None:
    """The number of items from the small part is hypergeometric: mean and variance over 5,000 merges."""
    trials, size, large, small = 5000, 50, 20_000, 400
    found = np.empty(trials)
    for seed in range(trials):
        sketch = sample_of(np.arange(small), size, seed)
        sketch.merge(sample_of(np.arange(small, small + large), size, seed + trials))
        found[seed] = (sketch.sample() < small).sum()
    share = small / (small + large)
    variance = size * share * (1 - share) * (small + large - size) / (small + large - 1)
    assert abs(found.mean() - size * share) < 4.9 * math.sqrt(variance / trials)
    fourth = 3 + 1 / (size * share)  # kurtosis, nearly Poisson
    assert abs(found.var() / variance - 1) < 4.9 * math.sqrt((fourth - 1) / trials)


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("cut", [0, 1, 4, 7])
def test_weighted_samples_have_the_law_of_drawing(size: int, cut: int) -> None:
    """Sets that are drawn, each against its probability by all orders: 20,000 samples; at most 56 sets at 1e-8 each."""
    weights = np.array([0.1, 1.0, 2.0, 4.0, 8.0, 0.5, 3.0, 1.0])
    law: dict[frozenset[int], float] = {}
    for drawn in itertools.permutations(range(8), size):
        chance, left = 1.0, weights.sum()
        for item in drawn:
            chance *= weights[item] / left
            left -= weights[item]
        law[frozenset(drawn)] = law.get(frozenset(drawn), 0.0) + chance
    trials, seen = 20_000, dict.fromkeys(law, 0)
    values = np.arange(8)
    for seed in range(trials):
        first, second = WeightedReservoirSample(size, seed), WeightedReservoirSample(size, seed + trials)
        first.update_many(values[:cut], weights[:cut])
        second.update_many(values[cut:], weights[cut:])
        first.merge(second)
        seen[frozenset(first.sample().tolist())] += 1
    for drawn_set, chance in law.items():
        side = 5.8 * math.sqrt(trials * chance * (1 - chance)) + 10  # 10: rare sets are Poisson
        assert abs(seen[drawn_set] - trials * chance) < side, (drawn_set, seen[drawn_set], trials * chance)


@pytest.mark.parametrize("order", ["as it comes", "heavy first", "heavy last"])
def test_weighted_sums_are_unbiased_in_any_order(order: str) -> None:
    weights = np.random.default_rng(5).pareto(1.2, 20_000) + 0.01
    if order != "as it comes":
        weights = np.sort(weights)[:: -1 if order == "heavy first" else 1].copy()
    values, found, outside = np.arange(weights.size), [], 0
    truth = weights[weights < 5].sum()
    for seed in range(400):
        sketch = WeightedReservoirSample(300, seed)
        sketch.update_many(values, weights)
        found.append(sketch.estimate(lambda places: weights[places] < 5))
        low, high = sketch.lower_bound(lambda places: weights[places] < 5), sketch.upper_bound(lambda places: weights[places] < 5)
        outside += not low <= truth <= high
    assert abs(np.mean(found) - truth) < 4.9 * np.std(found) / 20
    assert outside <= most_violations(400, 0.06), "the normal bound is right in the limit only: 5 % and a little"


def test_the_mean_keeps_to_its_bound() -> None:
    """The study: 300 sorted streams of each size; violations are binomial with 5 %, and a little as the values are skewed."""
    for size in (0, 500, 5000, 10**6):
        found = list(study.trials([size], range(300)))
        outside = sum(abs(trial.error) > trial.bound * (1 + 1e-12) + 1e-12 for trial in found)
        assert outside <= (0 if size <= study.SIZE else most_violations(300, 0.065))
        assert size <= study.SIZE or outside > 0, "the bound is not far too wide"


def test_sound_bounds_hold_for_rare_events() -> None:
    """One value of 2,000 decides the mean, where the normal bound is wrong: Hoeffding's holds at 1e-6 all the more."""
    values = np.zeros(200_000)
    values[::2000] = 1.0
    outside = 0
    for seed in range(300):
        sketch = ReservoirSample(200, seed)
        sketch.update_many(values)
        low, high = sketch.lower_bound(within=(0, 1)), sketch.upper_bound(within=(0, 1))
        outside += not low <= values.mean() <= high
    assert outside <= most_violations(300, 0.05)


def test_strata_of_all_sizes_give_unbiased_totals_after_merges() -> None:
    dice = np.random.default_rng(6)
    keys = np.repeat(np.arange(8), [1, 2, 10, 100, 500, 1000, 5000, 20_000])
    values = dice.lognormal(size=keys.size) * (keys + 1)
    places = dice.permutation(keys.size)
    found, outside = [], 0
    for seed in range(300):
        whole = StratifiedReservoirSample(80, seed=seed)
        for part in np.split(places, [5, 20_000]):
            sketch = StratifiedReservoirSample(80, seed=seed)
            sketch.update_many(values[part], keys[part])
            whole.merge(sketch)
        found.append(whole.estimate())
        outside += not whole.lower_bound() <= values.sum() <= whole.upper_bound()
    assert abs(np.mean(found) - values.sum()) < 4.9 * np.std(found) / math.sqrt(300)
    assert outside <= most_violations(300, 0.08), "80 skewed values: the limit is not reached quite"
