"""Count-Min and heavy hitters keep to their guarantees: on skewed, even and hostile streams, in all orders, after merging 100 parts.

False alarms: violations of a bound that holds with probability 1 - delta are counted over N streams of different values, one value looked
at for each; more than `allowed` of them have a probability below one in a million. The seeds are fixed.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.sketches.studies import count_min
from sketches import CountMinSketch, HeavyHitters

pytestmark = pytest.mark.slow

ALARM = 1e-6
STREAMS = 4000


def allowed(trials: int, chance: float) -> int:
    """Return how many of so many trials may fail: more have a probability below `ALARM`."""
    logs = np.cumsum(np.log(np.arange(1, trials + 1)))
    logs = np.concatenate([[0.0], logs])
    count = np.arange(trials + 1)
    mass = np.exp(logs[trials] - logs[count] - logs[trials - count] + count * math.log(chance) + (trials - count) * math.log1p(-chance))
    tails = np.append(np.cumsum(mass[::-1])[::-1], 0.0)
    return int(np.flatnonzero(tails < ALARM)[0]) - 1


def stream(kind: str, epsilon: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return values, other ones for each seed, and their weights."""
    dice = np.random.default_rng(seed)
    start = int(dice.integers(0, 1 << 60))
    match kind:
        case "zipf":
            return start + np.arange(3000), (1e6 / np.arange(1, 3001) ** 1.1).astype(np.int64)
        case "even":
            return start + np.arange(3000), np.full(3000, 7)
    # As many values as there can be that each have more than epsilon of the total: to share a cell with one of them is to be wrong.
    return start + np.arange(math.ceil(1 / epsilon) - 1), np.full(math.ceil(1 / epsilon) - 1, 1000)


def test_the_alarm_is_the_binomial_one() -> None:
    assert allowed(1, 0.06) == 1
    assert allowed(100, 1e-9) == 0
    assert 40 < allowed(400, 0.06) < 60


@pytest.mark.timeout(900)
@pytest.mark.parametrize("conservative", [False, True])
@pytest.mark.parametrize("kind", ["zipf", "even", "hostile"])
@pytest.mark.parametrize(("epsilon", "delta"), [(0.2, 0.36), (0.05, 0.1), (0.05, 0.01), (0.01, 0.01), (0.003, 0.003)])
def test_an_estimate_is_too_high_as_rarely_as_promised(epsilon: float, delta: float, kind: str, conservative: bool) -> None:
    wrong = above = 0
    for seed in range(STREAMS):
        values, weights = stream(kind, epsilon, seed)
        sketch = CountMinSketch.from_error(epsilon=epsilon, delta=delta, conservative=conservative)
        sketch.update_many(values, weights)
        wrong += sketch.estimate(int(values[-1]) + 1) > epsilon * sketch.total  # one that never came
        above += sketch.lower_bound(int(values[-1]) + 1, 0.9) > 0
    assert wrong <= allowed(STREAMS, sketch.delta)
    assert above <= allowed(STREAMS, 0.1)
    if kind == "hostile":
        # Each row is wrong by a chance that is known, and rows are independent: neither more nor less.
        chance = (1 - (1 - 1 / sketch.counts.shape[1]) ** (math.ceil(1 / epsilon) - 1)) ** len(sketch.counts)
        assert abs(wrong - STREAMS * chance) <= 5 * math.sqrt(STREAMS * chance)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("order", ["random", "rising", "falling", "rare first", "in turns"])
@pytest.mark.parametrize("conservative", [False, True])
def test_a_hundred_merged_parts_of_ten_million_in_any_order(order: str, conservative: bool) -> None:
    dice = np.random.default_rng(5)
    values = np.minimum(dice.zipf(1.15, 10_000_000), 1_000_000).astype(np.int64)
    truth = np.bincount(values, minlength=1_000_001)
    match order:
        case "rising":
            values.sort()
        case "falling":
            values = np.sort(values)[::-1].copy()
        case "rare first":
            values = values[np.argsort(truth[values], kind="stable")]
        case "in turns":
            values = np.sort(values).reshape(1000, -1).T.reshape(-1).copy()
    merged = CountMinSketch.from_error(epsilon=0.001, delta=0.01, conservative=conservative)
    hitters = HeavyHitters.from_error(phi=0.002, epsilon=0.0005, delta=0.01, conservative=conservative)
    for part in np.array_split(values, 100):
        some, often = CountMinSketch(**merged.parameters), HeavyHitters(**hitters.parameters)  # type: ignore[arg-type]
        some.update_many(part)
        often.update_many(part)
        merged.merge(some)
        hitters.merge(often)
    plain = CountMinSketch.from_error(epsilon=0.001, delta=0.01)
    plain.update_many(values)
    came = np.flatnonzero(truth)
    found = merged.estimate_many(came)
    assert (truth[came] <= found).all()
    assert (found <= plain.estimate_many(came)).all()
    if not conservative:
        assert merged.to_bytes() == plain.to_bytes()
    # The values share the table, so their errors are not independent: of 600,000 that came, at most delta, and half of it for chance.
    assert np.count_nonzero(found - truth[came] > 0.001 * values.size) <= 0.015 * came.size
    listed = {hit.item: hit for hit in hitters.items()}
    assert set(np.flatnonzero(truth >= 0.002 * values.size).tolist()) <= set(listed)
    light = [item for item in listed if truth[item] < (0.002 - 0.0005) * values.size]
    assert len(light) <= 0.015 * came.size
    assert hitters.unlisted_bound < 0.002 * values.size
    assert all(truth[item] <= hit.estimate for item, hit in listed.items())
    assert sum(hit.lower_bound > truth[item] for item, hit in listed.items()) <= allowed(len(listed), 0.05)


@pytest.mark.timeout(900)
def test_inner_products_are_too_high_as_rarely_as_promised() -> None:
    epsilon, delta, wrong, streams = 0.05, 0.1, 0, 2000
    for seed in range(streams):
        values, weights = stream("zipf", epsilon, seed)
        one, other = CountMinSketch.from_error(epsilon=epsilon, delta=delta), CountMinSketch.from_error(epsilon=epsilon, delta=delta)
        one.update_many(values, weights)
        other.update_many(values + 1500, weights)
        truth = int((weights[1500:] * weights[:1500]).sum())
        found = one.inner_product(other)
        assert found >= truth
        wrong += found > truth + epsilon * one.total * other.total
    assert wrong <= allowed(streams, one.delta)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("conservative", [False, True])
def test_the_study_keeps_to_its_bound(conservative: bool) -> None:
    found = list(count_min.trials([0, 100, 10_000, 1_000_000], range(5), conservative=conservative))
    assert all(trial.error <= trial.bound for trial in found)
    assert all(trial.error == 0 for trial in found if not trial.size)
