"""Count-Min: never too low, too high as rarely as promised, plain equal to a dict of cells, conservative between the truth and plain."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from sketches import count_min_kernel, count_min_plain, hashes
from sketches.columns import BLOCK
from sketches.count_min import CountMinSketch
from sketches.envelope import seal
from sketches.errors import SketchBytesError, SketchError
from sketches.grouped import Grouped
from sketches.jit import HAS_NUMBA
from sketches.multipliers import MULTIPLIERS
from tests.sketch_laws import SketchLaws

GOLDEN = Path(__file__).parents[1] / "golden" / "sketches" / "count_min_v1.bin"
COMPILED = pytest.mark.skipif(not HAS_NUMBA, reason="there is nothing to compare NumPy with")
EITHER = pytest.mark.parametrize("conservative", [False, True])
LARGEST = 2**63 - 1


class TestCountMinSketch(SketchLaws):
    def make(self) -> CountMinSketch:
        return CountMinSketch(4, 300)

    def others(self) -> list[Any]:
        return [CountMinSketch(3, 300), CountMinSketch(4, 301), CountMinSketch(4, 300, conservative=True)]


class TestConservativeCountMinSketch(SketchLaws):
    """Equal by guarantee: neither below the truth nor above the plain sketch of the same values."""

    def make(self) -> CountMinSketch:
        return CountMinSketch(4, 300, conservative=True)

    def others(self) -> list[Any]:
        return [CountMinSketch(3, 300, conservative=True), CountMinSketch(4, 301, conservative=True), CountMinSketch(4, 300)]

    def assert_same(self, one: Any, other: Any, values: NDArray[Any]) -> None:
        plain = CountMinSketch(4, 300)
        plain.update_many(values)
        asked, truth = np.unique(values, return_counts=True)
        for sketch in (one, other):
            assert sketch.total == values.size
            assert (truth <= sketch.estimate_many(asked)).all()
            assert (sketch.estimate_many(asked) <= plain.estimate_many(asked)).all()


def cells_of(h: int, depth: int, width: int) -> list[int]:
    return [((((h * int(MULTIPLIERS[row])) & 2**64 - 1) >> 32) * width) >> 32 for row in range(depth)]


def model(values: NDArray[np.int64], weights: list[int], depth: int, width: int, conservative: bool) -> dict[tuple[int, int], int]:
    """Value by value over dicts; conservative by blocks, as the class says."""
    table: dict[tuple[int, int], int] = {}
    every = hashes(values).tolist()
    if not conservative:
        for h, weight in zip(every, weights, strict=True):
            for place in enumerate(cells_of(h, depth, width)):
                table[place] = table.get(place, 0) + weight
        return table
    for start in range(0, len(every), BLOCK):
        counted: Counter[int] = Counter()
        for h, weight in zip(every[start : start + BLOCK], weights[start : start + BLOCK], strict=True):
            counted[h] += weight
        before = dict(table)
        for h, count in counted.items():
            places = list(enumerate(cells_of(h, depth, width)))
            wanted = min(before.get(place, 0) for place in places) + count
            for place in places:
                table[place] = max(table.get(place, 0), wanted)
    return table


@EITHER
@pytest.mark.parametrize(("depth", "width"), [(1, 1), (1, 50), (5, 64), (7, 1000)])
@pytest.mark.parametrize("weighted", [False, True])
def test_cells_are_those_of_the_model(depth: int, width: int, conservative: bool, weighted: bool) -> None:
    dice = np.random.default_rng(depth)
    values = dice.zipf(1.2, 20_000) % 3000
    weights = dice.integers(0, 100, values.size) if weighted else np.ones(values.size, np.int64)
    sketch = CountMinSketch(depth, width, conservative)
    sketch.update_many(values, weights if weighted else None)
    wanted = model(values, weights.tolist(), depth, width, conservative)
    assert all(sketch.counts[row, cell] == wanted.get((row, cell), 0) for row in range(depth) for cell in range(width))
    assert sketch.total == weights.sum()


@COMPILED
@pytest.mark.parametrize("seed", range(10))
def test_kernels_and_numpy_are_equal_bit_for_bit(seed: int) -> None:
    dice = np.random.default_rng(seed)
    depth, width, size = int(dice.integers(1, 33)), int(dice.integers(1, 2000)), int(dice.integers(0, 3000))
    some = dice.integers(0, 2**64, 5000, np.uint64)[dice.integers(0, 5000, size)]
    weights, groups = dice.integers(0, 2**40, size), dice.integers(0, 6, size)
    modules = (count_min_kernel, count_min_plain)
    for name, arguments in (("add", (some,)), ("add_weighted", (some, weights)), ("raise_to", (some, weights))):
        tables = [np.arange(depth * width).reshape(depth, width) for _ in modules]
        for module, table in zip(modules, tables, strict=True):
            getattr(module, name)(table, *arguments)
        assert (tables[0] == tables[1]).all()
        found = [np.empty(size, np.int64) for _ in modules]
        for module, out in zip(modules, found, strict=True):
            module.minima(tables[0], some, out)
        assert (found[0] == found[1]).all()
    counted = [dict(zip(*(part.tolist() for part in module.count_distinct(some, weights)), strict=True)) for module in modules]
    assert counted[0] == counted[1]
    for name in ("add_grouped", "raise_grouped"):
        states = [np.arange(6 * (depth * width + 1)).reshape(6, -1) for _ in modules]
        places = (
            np.arange(size) if name == "add_grouped" else np.unique(np.stack([groups, some.view(np.int64)]), axis=1, return_index=True)[1]
        )
        for module, state in zip(modules, states, strict=True):
            getattr(module, name)(state, depth, groups[places], some[places], weights[places])
        assert (states[0] == states[1]).all()


@EITHER
def test_estimates_are_never_below_the_count_and_bounds_hold(conservative: bool) -> None:
    values = np.random.default_rng(3).zipf(1.2, 100_000) % 20_000
    asked, truth = np.unique(values, return_counts=True)
    sketch = CountMinSketch.from_error(epsilon=0.002, delta=0.01, conservative=conservative)
    sketch.update_many(values)
    found = sketch.estimate_many(asked)
    assert (found >= truth).all()
    # P(one value's error above epsilon * total) <= 0.01: of 20,000 values 300 are far beyond a binomial's bound
    assert np.count_nonzero(found > truth + sketch.epsilon * sketch.total) <= 300
    for value, count in zip(asked[:200].tolist(), truth[:200].tolist(), strict=True):
        assert sketch.estimate(value) == found[asked == value][0] == sketch.upper_bound(value)
        assert sketch.lower_bound(value, 0.99) <= sketch.lower_bound(value, 0.9) <= sketch.estimate(value)
        assert sketch.lower_bound(value, 0.999_999) <= count
    assert sketch.estimate_hashes(hashes(asked)).tolist() == found.tolist()


def test_the_bound_at_the_own_confidence_is_that_of_the_guarantee() -> None:
    sketch = CountMinSketch(5, 2000)
    sketch.update_many(np.arange(100_000))
    assert sketch.error(1 - sketch.delta) == int(sketch.epsilon * sketch.total)
    assert sketch.epsilon == pytest.approx(np.e / 2000)
    assert sketch.delta == pytest.approx(np.exp(-5))


def test_parameters_follow_from_the_guarantee() -> None:
    sketch = CountMinSketch.from_error(epsilon=0.001, delta=0.01)
    assert sketch.parameters == {"depth": 5, "width": 2719, "conservative": False}
    assert sketch.epsilon <= 0.001
    assert sketch.delta <= 0.01
    assert CountMinSketch.from_error(epsilon=0.5, delta=0.99, conservative=True).parameters == {
        "depth": 1,
        "width": 6,
        "conservative": True,
    }


def test_rows_are_as_independent_as_the_guarantee_needs() -> None:
    """Two values share the cells of all rows with probability width ** -depth, of two rows width ** -2: double hashing does not do that."""
    width, size = 12, 200_000
    cells = count_min_plain.cells_of(hashes(np.arange(2 * size)), 4, width)
    same = cells[:, :size] == cells[:, size:]
    for rows in ([0, 1], [0, 3], [1, 2], [2, 3], [0, 1, 2], [0, 1, 2, 3]):
        count, chance = int(same[rows].all(axis=0).sum()), width ** -len(rows)
        assert abs(count - size * chance) <= 5 * np.sqrt(size * chance)  # one false alarm in 10^6, were the inputs not fixed


@EITHER
def test_weights_are_repetitions(conservative: bool) -> None:
    values, weights = np.arange(50), np.arange(50) * 3
    one, other = CountMinSketch(4, 100, conservative), CountMinSketch(4, 100, conservative)
    one.update_many(values, weights)
    other.update_many(np.repeat(values, weights))
    assert one.to_bytes() == other.to_bytes()
    third = CountMinSketch(4, 100, conservative)
    third.update_hashes(hashes(values).view(np.int64), weights.astype(np.float64))
    assert third.to_bytes() == one.to_bytes()
    fourth = CountMinSketch(4, 100)
    for value, weight in zip(values.tolist(), weights.tolist(), strict=True):
        fourth.update(value, weight)
    assert fourth.total == one.total


def test_nulls_are_no_values_and_their_weights_are_left_out() -> None:
    sketch = CountMinSketch(4, 100)
    names = pa.array(["a", None, "b", "a", None])
    sketch.update_many(names, np.array([1, 100, 2, 3, 100]))
    sketch.update(None, 7)
    assert (sketch.total, sketch.estimate("a"), sketch.estimate(None)) == (6, 4, 0)
    assert sketch.estimate_many(names).tolist() == [4, 0, 2, 4, 0]


@EITHER
@pytest.mark.parametrize(
    ("weights", "got"),
    [
        ([1, -1], "-1 at 1"),
        ([1.0, 0.5], "0.5 at 1"),
        ([1.0, np.nan], "nan at 1"),
        ([np.inf, 1.0], "inf at 0"),
        ([1, 2, 3], r"int64 of shape \(3,\)"),
        (["a", "b"], r"<U1 of shape \(2,\)"),
        (np.array([1, 2**63], np.uint64), "9223372036854775808 at 1"),
        ([2.0**60, 1.0], r"1.152921504606847e\+18 at 0"),
    ],
)
def test_weights_that_are_no_counts_are_refused(weights: Any, got: str, conservative: bool) -> None:
    sketch = CountMinSketch(2, 10, conservative)
    sketch.update(1)
    before = sketch.to_bytes()
    with pytest.raises(SketchError, match=rf"cannot use argument 'weights': expected 2 whole numbers .*, got {got}; give one count"):
        sketch.update_many(np.arange(2), weights)
    assert sketch.to_bytes() == before


@EITHER
def test_a_total_that_does_not_fit_is_refused_and_nothing_is_taken(conservative: bool) -> None:
    sketch = CountMinSketch(2, 10, conservative)
    sketch.update(1, LARGEST - 10)
    sketch.update(2, 9)
    before = sketch.to_bytes()
    match = r"cannot update sketch 'count_min': expected a total up to 9,223,372,036,854,775,807, got [\d,]+; start a new sketch"
    with pytest.raises(SketchError, match=match):
        sketch.update(3, 2)
    with pytest.raises(SketchError, match=match):
        sketch.update_many(np.arange(2))
    with pytest.raises(SketchError, match=match):
        sketch.update_many(np.arange(3), np.full(3, LARGEST))  # the sum itself has more than 64 bits
    with pytest.raises(SketchError, match=match):
        sketch.update_hashes(np.arange(2))
    with pytest.raises(SketchError, match=match):
        sketch.merge(sketch.copy())
    assert sketch.to_bytes() == before
    sketch.update(3)
    assert (sketch.total, sketch.estimate(1) >= LARGEST - 10) == (LARGEST, True)
    assert CountMinSketch.from_bytes(sketch.to_bytes()).to_bytes() == sketch.to_bytes()


def test_inner_products_are_never_below_the_truth() -> None:
    dice = np.random.default_rng(8)
    left, right = dice.zipf(1.3, 30_000) % 5000, dice.zipf(1.5, 20_000) % 5000
    one, other = CountMinSketch(5, 2000), CountMinSketch(5, 2000)
    one.update_many(left)
    other.update_many(right)
    truth = int((np.bincount(left, minlength=5000) * np.bincount(right, minlength=5000)).sum())
    found = one.inner_product(other)
    assert truth <= found <= truth + one.epsilon * one.total * other.total
    assert one.inner_product_lower_bound(other, 0.99) <= truth
    assert found == other.inner_product(one)
    large, huge = CountMinSketch(2, 10), CountMinSketch(2, 10)
    large.update(1, 2**40)
    huge.update(1, 2**50)
    assert large.inner_product(huge) == 2**90  # more than 64 bits
    with pytest.raises(SketchError, match="cannot merge sketch 'count_min': expected depth 5, got 2"):
        one.inner_product(large)
    careful = CountMinSketch(2, 10, conservative=True)
    with pytest.raises(SketchError, match=r"cannot multiply sketch 'count_min': expected conservative False, got True; .*; use sketches"):
        careful.inner_product(careful)


def test_grouped_sketches_are_those_of_each_key_alone() -> None:
    dice = np.random.default_rng(5)
    keys, values, weights = dice.integers(0, 50, 20_000), dice.zipf(1.3, 20_000) % 5000, dice.integers(0, 9, 20_000)
    for some in (None, weights):
        grouped = Grouped(CountMinSketch(3, 100))
        grouped.update_grouped(keys, values, some)
        for key, sketch in grouped.items():
            alone = CountMinSketch(3, 100)
            alone.update_many(values[keys == key], None if some is None else some[keys == key])
            assert sketch.to_bytes() == alone.to_bytes()
    with pytest.raises(SketchError, match=r"cannot use argument 'weights': expected .* whole numbers"):
        grouped.update_grouped(keys, values, weights / 2)


def test_grouped_conservative_sketches_keep_their_guarantee() -> None:
    dice = np.random.default_rng(6)
    keys, values = dice.integers(0, 20, 40_000), dice.zipf(1.3, 40_000) % 5000
    grouped = Grouped(CountMinSketch(3, 100, conservative=True))
    grouped.update_grouped(keys, values)
    above = 0
    for key, sketch in grouped.items():
        plain = CountMinSketch(3, 100)
        plain.update_many(values[keys == key])
        asked, truth = np.unique(values[keys == key], return_counts=True)
        assert (truth <= sketch.estimate_many(asked)).all()
        assert (sketch.estimate_many(asked) <= plain.estimate_many(asked)).all()
        above += int((plain.estimate_many(asked) - sketch.estimate_many(asked)).sum())
        assert sketch.total == plain.total
    assert above > 0


def test_conservative_is_tighter_than_plain() -> None:
    values = np.random.default_rng(4).zipf(1.1, 100_000) % 50_000
    plain, careful = CountMinSketch(4, 1000), CountMinSketch(4, 1000, conservative=True)
    plain.update_many(values)
    careful.update_many(values)
    asked, truth = np.unique(values, return_counts=True)
    errors = [(sketch.estimate_many(asked) - truth).mean() for sketch in (plain, careful)]
    assert errors[1] < 0.7 * errors[0]


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ((0, 10), "'depth': expected from 1 to 32, got 0"),
        ((33, 10), "'depth': expected from 1 to 32, got 33"),
        ((4, 0), "'width': expected from 1 to 67,108,864 for a depth of 4, got 0"),
        ((4, 2**26 + 1), "'width': expected .*, got 67108865"),
    ],
)
def test_sizes_out_of_range_are_refused(arguments: tuple[int, int], match: str) -> None:
    with pytest.raises(SketchError, match=f"cannot use parameter {match}"):
        CountMinSketch(*arguments)


@pytest.mark.parametrize(
    ("epsilon", "delta", "name"),
    [
        (0.0, 0.1, "epsilon"),
        (1.0, 0.1, "epsilon"),
        (float("nan"), 0.1, "epsilon"),
        (1e-9, 0.1, "epsilon"),
        (0.1, 0.0, "delta"),
        (0.1, 1.0, "delta"),
        (0.1, 1e-20, "delta"),
    ],
)
def test_guarantees_out_of_range_are_refused(epsilon: float, delta: float, name: str) -> None:
    with pytest.raises(SketchError, match=f"cannot use parameter '{name}': expected .*, got"):
        CountMinSketch.from_error(epsilon=epsilon, delta=delta)
    with pytest.raises(SketchError, match="cannot use parameter 'confidence'"):
        CountMinSketch(2, 2).lower_bound(1, 1.5)
    with pytest.raises(SketchError, match="cannot use parameter 'confidence'"):
        CountMinSketch(2, 2).upper_bound(1, 0)


def small(*cells: int) -> bytes:
    return b"\0" + np.array(cells, "<i8").tobytes()


@pytest.mark.parametrize(
    ("parameters", "payload"),
    [
        (b"\2\2\0\0\0", small(1, 2, 2, 1, 3)),  # a byte is missing
        (b"\0\2\0\0\0\0", small(3)),
        (b"\x21\2\0\0\0\0", small(3)),
        (b"\2\0\0\0\0\0", small(3)),
        (b"\2\2\0\0\0\2", small(1, 2, 2, 1, 3)),
        (b"\2\2\0\0\0\0", small(1, 2, 2, 1)),
        (b"\2\2\0\0\0\0", small(1, 2, 2, 2, 3)),  # rows of different sums
        (b"\2\2\0\0\0\0", small(4, -1, 2, 1, 3)),
        (b"\2\2\0\0\0\1", small(2, 2, 2, 1, 3)),  # more in a row than came
        (b"\2\2\0\0\0\0", small(LARGEST, LARGEST, LARGEST, LARGEST, -2)),  # sums that would fit after 64 bits ran over
        (b"\4\0\0\0\4\0", b"\1\0\0\0\0"),  # 2 GiB of zeros in a few bytes
    ],
)
def test_hostile_bytes_are_refused(parameters: bytes, payload: bytes) -> None:
    assert CountMinSketch.from_bytes(seal("count_min", 1, b"\2\2\0\0\0\0", small(1, 2, 2, 1, 3))).total == 3
    with pytest.raises(SketchBytesError, match=r"cannot read bytes of sketch 'count_min': expected .+, got .+"):
        CountMinSketch.from_bytes(seal("count_min", 1, parameters, payload))


def test_a_nearly_empty_sketch_is_short() -> None:
    sketch = CountMinSketch(5, 100_000)
    sketch.update(1)
    assert sketch.serialized_size_bytes < 120


def test_golden_bytes() -> None:
    """Stored once, read for ever: the same input gives these bytes, and these bytes this answer."""
    sketch = CountMinSketch(3, 97)
    sketch.update_many(np.arange(300) % 101, np.arange(300))
    sketch.update_many(np.array(["a", "", "grün"]))
    data = GOLDEN.read_bytes()
    assert sketch.to_bytes() == data
    read = CountMinSketch.from_bytes(data)
    assert (read.total, read.estimate(7), read.estimate("grün")) == (44853, 7 + 108 + 209, 1)
