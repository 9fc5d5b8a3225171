"""Hot lists on large and on adversarial streams: the bounds hold for every item, always. There are no false alarms: nothing is chance."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.sketches.studies import hot_list as study
from sketches.hot_list import SEGMENT, HotList
from sketches.misra_gries import MisraGries
from sketches.space_saving import SpaceSaving

pytestmark = pytest.mark.slow

CLASSES: list[type[HotList]] = [MisraGries, SpaceSaving]
N = 2_000_000


def zipf() -> NDArray[np.int64]:
    dice = np.random.default_rng(1)
    return np.searchsorted(study.zipf_shares(), dice.random(N)).astype(np.int64)


def zipf_down() -> NDArray[np.int64]:
    return np.sort(zipf())[::-1].copy()


def blocks_that_flush() -> NDArray[np.int64]:
    """Give each block its own favourites, as often as the block before has left room for."""
    blocks = np.arange(N) // SEGMENT
    return blocks * 1000 + np.arange(N) % 777


def just_at_the_share() -> NDArray[np.int64]:
    """Give 11 items their turn: with 10 counters none of them can be kept for certain."""
    return np.arange(N) % 11


STREAMS: dict[str, Callable[[], NDArray[np.int64]]] = {
    "zipf": zipf,
    "zipf sorted": lambda: np.sort(zipf()),
    "zipf sorted down": zipf_down,
    "uniform": lambda: np.random.default_rng(2).integers(0, 1 << 62, N),
    "a tail of new ones": lambda: np.concatenate([zipf()[: N // 2], np.arange(N // 2) + 10**9]),
    "new ones first": lambda: np.concatenate([np.arange(N // 2) + 10**9, zipf()[: N // 2]]),
    "one item and new ones in turn": lambda: np.where(np.arange(N) % 2 == 0, 7, np.arange(N) + 10**9),
    "blocks that flush": blocks_that_flush,
    "just at the share": just_at_the_share,
    "all the same": lambda: np.zeros(N, np.int64),
}


def assert_bounds(sketch: HotList, values: NDArray[np.int64], counts: NDArray[np.int64], total: int) -> None:
    capacity = int(sketch.parameters["capacity"])
    assert sketch.total == total
    assert sketch.error() * (capacity + 1 - sketch.SPARE) <= total
    lower, upper = sketch.bounds_many(values)
    assert (lower <= counts).all()
    assert (counts <= upper).all()
    assert (upper - lower == sketch.error()).all()
    assert len(sketch.top(1 << 30)) <= capacity
    kept = {hot.item for hot in sketch.top(1 << 30)}
    assert set(values[counts * (capacity + 1 - sketch.SPARE) > total].tolist()) <= kept, "those above the share are there"


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("capacity", [2, 10, 768])
@pytest.mark.parametrize("stream", STREAMS)
def test_bounds_hold_for_each_item(stream: str, capacity: int, kind: type[HotList]) -> None:
    values = STREAMS[stream]()
    sketch = kind(capacity)
    sketch.update_many(values)
    found, counts = np.unique(values, return_counts=True)
    assert_bounds(sketch, found, counts, values.size)


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("stream", STREAMS)
def test_bounds_hold_after_a_hundred_unequal_merges(stream: str, kind: type[HotList]) -> None:
    """Merge as a chain, and as a tree."""
    values = STREAMS[stream]()
    cuts = np.sort((np.random.default_rng(3).random(100) ** 3 * values.size).astype(int))
    parts = []
    for part in np.split(values, cuts):
        parts.append(kind(100))
        parts[-1].update_many(part)
    found, counts = np.unique(values, return_counts=True)
    assert_bounds(kind.merged(parts), found, counts, values.size)
    while len(parts) > 1:
        parts = [kind.merged(parts[place : place + 2]) for place in range(0, len(parts), 2)]
    assert_bounds(parts[0], found, counts, values.size)


@pytest.mark.parametrize("kind", CLASSES)
def test_bounds_hold_for_weights_of_all_sizes(kind: type[HotList]) -> None:
    dice = np.random.default_rng(4)
    values = zipf()[:500_000]
    weights = np.floor(2 ** (dice.random(values.size) * 40)).astype(np.int64)
    sketch = kind(300)
    for part in np.array_split(np.arange(values.size), 37):
        sketch.update_many(values[part], weights[part])
    found, groups = np.unique(values, return_inverse=True)
    counts = np.zeros(found.size, np.int64)
    np.add.at(counts, groups, weights)
    assert_bounds(sketch, found, counts, int(weights.sum()))


def test_the_greatest_error_keeps_to_the_bound_up_to_a_hundred_million() -> None:
    for size, seeds in ((0, 1), (1000, 5), (10**5, 5), (10**7, 2), (10**8, 1)):
        for trial in study.trials([size], range(seeds)):
            assert 0 <= trial.error <= trial.bound
