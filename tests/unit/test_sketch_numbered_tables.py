"""Tables by number: weights, totals, counts that are kept conservative, and filters of any size."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from sketches import BloomFilter, ClassicBloomFilter, CountMinSketch, HyperLogLog, numbered_states
from sketches.errors import SketchBytesError, SketchError
from sketches.jit import HAS_NUMBA
from sketches.numbered import Objects, numbered
from tests.unit.test_sketch_numbered_states import HOMES, STORAGES, skewed, store, use_plain

PLAIN, CONSERVATIVE = CountMinSketch(depth=3, width=40), CountMinSketch(depth=3, width=40, conservative=True)
LARGEST = (1 << 63) - 1


@pytest.fixture(params=STORAGES)
def storage(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    store(monkeypatch, request.param)
    return str(request.param)


@pytest.fixture(params=["compiled", "plain"])
def kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "plain":
        for home in HOMES:
            use_plain(monkeypatch, home)
    return str(request.param)


@pytest.mark.usefixtures("kernels", "storage")
def test_weights_go_with_their_values() -> None:
    groups, alone = numbered(PLAIN.copy(), 30), [PLAIN.copy() for _ in range(30)]
    for step in range(4):
        numbers, values = skewed(step, 2000, 30), skewed(step + 9, 2000, 1 << 20)
        weights = None if step in (0, 2) else np.random.default_rng(step).integers(0, 1 << 40, 2000) * (values % 3 > 0)
        groups.update(numbers, values, weights)
        for number in np.unique(numbers).tolist():
            here = numbers == number
            alone[number].update_many(values[here], None if weights is None else weights[here])
    assert groups.to_stored().to_pylist() == [sketch.to_bytes() for sketch in alone]


@pytest.mark.usefixtures("kernels", "storage")
def test_a_weight_of_nothing_leaves_nothing() -> None:
    groups = numbered(PLAIN.copy(), 2)
    groups.update(np.array([0, 1, 1]), np.array([1, 2, 3]), np.array([0, 0, 0]))
    assert groups.to_stored().to_pylist() == [PLAIN.to_bytes()] * 2


@pytest.mark.usefixtures("kernels", "storage")
def test_conservative_counts_are_between_the_truth_and_the_plain_ones() -> None:
    groups, plain = numbered(CONSERVATIVE.copy(), 20), numbered(PLAIN.copy(), 20)
    stock, stock_plain, exact = CONSERVATIVE.copy(), PLAIN.copy(), np.zeros((20, 300), np.int64)
    for sketch in (stock, stock_plain):
        sketch.update_many(np.arange(0, 300, 7))
    for step in range(4):
        numbers, values = skewed(step, 1500, 20), skewed(step + 9, 1500, 300)
        weights = None if step % 2 else values % 5
        for some, stored in ((groups, stock), (plain, stock_plain)):
            some.update(numbers, values, weights)
            assert not some.merge_stored(np.array([step]), pa.array([stored.to_bytes()]))
        np.add.at(exact, (numbers, values), 1 if weights is None else weights)
        exact[step, ::7] += 1
        if step == 1:
            assert groups.to_stored().equals(groups.to_stored())
    for number in range(20):
        found, looser = groups.at(number), plain.at(number)
        assert (found.estimate_many(np.arange(300)) >= exact[number]).all()
        assert (found.estimate_many(np.arange(300)) <= looser.estimate_many(np.arange(300))).all()
        assert found.total == looser.total == exact[number].sum()
        assert found.to_bytes() == groups.to_stored(number, number + 1)[0].as_py()


@pytest.mark.skipif(not HAS_NUMBA, reason="compares with it")
@pytest.mark.parametrize("storage", STORAGES)
def test_conservative_counts_are_the_same_with_plain_kernels(storage: str) -> None:
    found = []
    for plain in (False, True):
        with pytest.MonkeyPatch.context() as monkeypatch:
            store(monkeypatch, storage)
            for home in HOMES if plain else ():
                use_plain(monkeypatch, home)
            groups = numbered(CONSERVATIVE.copy(), 20)
            for step in range(3):
                groups.update(skewed(step, 1500, 20), skewed(step + 9, 1500, 300))
                groups.merge_stored(np.arange(20), groups.to_stored()[::-1])
            found.append(groups.to_stored())
    assert found[0].equals(found[1])


@pytest.mark.usefixtures("kernels", "storage")
@pytest.mark.parametrize("template", [PLAIN, CONSERVATIVE], ids=["plain", "conservative"])
def test_totals_that_do_not_fit_are_refused_and_nothing_is_taken(template: CountMinSketch) -> None:
    groups, heavy = numbered(template.copy(), 3), template.copy()
    heavy.update(1, LARGEST - 10)
    groups.update(np.array([0, 1, 1]), np.array([5, 5, 6]), np.array([LARGEST // 2, LARGEST // 2, LARGEST // 2]))
    groups.update(np.array([2]), np.array([5]), np.array([9]))
    before = groups.to_stored()
    with pytest.raises(SketchError, match=r"cannot update sketch 'count_min': expected a total up to 9,223,372,036,854,775,807, got 9,22"):
        groups.update(np.array([0, 1]), np.array([5, 5]), np.array([1, 3]))
    assert groups.to_stored().equals(before)
    wrong = groups.merge_stored(np.array([0, 2, 2]), pa.array([heavy.to_bytes()] * 3))
    assert set(wrong) == {0, 2}
    assert "expected a total up to" in str(wrong[0])
    assert [groups.at(number).total for number in range(3)] == [LARGEST // 2, LARGEST - 1, LARGEST - 1]
    groups.update(np.array([0, 2]), np.array([5, 5]), np.array([LARGEST // 2, 1]))  # together more, but in each there is room
    assert [groups.at(number).total for number in range(3)] == [LARGEST - 1, LARGEST - 1, LARGEST]


@pytest.mark.usefixtures("kernels", "storage")
@pytest.mark.parametrize(
    ("template", "other", "message"),
    [
        (HyperLogLog(7), HyperLogLog(8), "cannot merge sketch 'hyperloglog': expected precision 7, got 8; sketches merge only with equal"),
        (BloomFilter(9), BloomFilter(10), "cannot merge sketch 'bloom': expected blocks 9, got 10"),
        (ClassicBloomFilter(640, 3), ClassicBloomFilter(640, 4), "cannot merge sketch 'classic_bloom': expected probes 3, got 4"),
        (PLAIN, CONSERVATIVE, "cannot merge sketch 'count_min': expected conservative False, got True"),
    ],
    ids=["hyperloglog", "blocks", "bits", "counts"],
)
def test_other_parameters_are_refused_as_merge_refuses_them(template: Any, other: Any, message: str) -> None:
    groups, own = numbered(template.copy(), 2), template.copy()
    for sketch in (own, other := other.copy()):
        sketch.update_many(np.arange(30))
    wrong = groups.merge_stored(np.array([0, 1, 1, 1]), pa.array([other.to_bytes(), own.to_bytes(), own.to_bytes()[:-1], None]))
    assert list(wrong) == [0, 2]
    assert isinstance(wrong[0], SketchError)
    assert str(wrong[0]).startswith(message)
    assert isinstance(wrong[2], SketchBytesError)
    assert groups.to_stored().to_pylist() == [template.to_bytes(), own.to_bytes()]


@pytest.mark.usefixtures("storage")
@pytest.mark.parametrize(
    "template", [BloomFilter(3000), ClassicBloomFilter(64 * 5000, 4), CountMinSketch(2, 9000)], ids=["blocks", "bits", "counts"]
)
def test_large_tables_with_little_in_them(template: Any) -> None:
    """Of lines that are few among many the places are known; nothing goes through all."""
    groups, alone = numbered(template.copy(), 40), [template.copy() for _ in range(40)]
    for step in range(3):
        numbers, values = skewed(step, 4000, 40), skewed(step + 9, 4000, 1 << 30) * 31
        groups.update(numbers, values)
        for number in np.unique(numbers).tolist():
            alone[number].update_many(values[numbers == number])
        groups.merge_stored(np.arange(40), groups.to_stored()[::-1])
        copies = [sketch.copy() for sketch in alone]
        for number in range(40):
            alone[number].merge(copies[39 - number])
    assert groups.to_stored().to_pylist() == [sketch.to_bytes() for sketch in alone]


def test_states_too_large_for_a_sparse_form_are_objects() -> None:
    assert isinstance(numbered(BloomFilter((32 << 20) // 32 + 1), 0), Objects)
    assert isinstance(numbered(BloomFilter((32 << 20) // 32), 0), numbered_states.States)
