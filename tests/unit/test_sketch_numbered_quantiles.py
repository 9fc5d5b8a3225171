"""Quantiles by number: exact and in the bytes of the class while there are few, within the bound when there are many; hostile bytes."""

from __future__ import annotations

import math
import random
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from sketches import numbered_quantiles, numbered_rows, numbered_rows_kernel, numbered_rows_plain
from sketches.errors import SketchError
from sketches.jit import HAS_NUMBA
from sketches.numbered import Objects, numbered
from sketches.numbered_quantiles import NumberedQuantiles
from sketches.quantiles import Quantiles
from tests.sketch_fuzz import damaged

PATHS = [numbered_rows_plain, *([numbered_rows_kernel] if HAS_NUMBA else [])]


@pytest.fixture(params=PATHS, ids=lambda module: module.__name__.rpartition("_")[2], autouse=True)
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Go both ways, and sort often."""
    for name in ("arrange", "gather"):
        monkeypatch.setattr(numbered_rows, name, getattr(request.param, name))
    monkeypatch.setattr(numbered_quantiles, "gather", request.param.gather)
    monkeypatch.setattr(numbered_quantiles, "FEWEST", 1500)


def pair(count: int, k: int = 16) -> tuple[NumberedQuantiles, Objects[Quantiles]]:
    fast, slow = NumberedQuantiles(Quantiles(k, seed=7), count), Objects(Quantiles(k, seed=7))
    slow.grow(count)
    return fast, slow


def rows_of(count: int, rows: int) -> tuple[Any, Any]:
    dice = np.random.default_rng(rows)
    return dice.integers(0, count, rows), dice.normal(0, 100, rows).round(dice.integers(0, 3))


def assert_bound(sketch: Quantiles, values: Any) -> None:
    """Compare ranks at many values with the exact ones; at 1 - 1e-9 none may be off by more."""
    assert sketch.count == values.size
    if not values.size:
        return
    assert (sketch.minimum, sketch.maximum) == (values.min(), values.max())
    asked = np.quantile(values, np.linspace(0, 1, 21))
    exact = np.searchsorted(np.sort(values), asked, side="right") / values.size
    assert (np.abs(sketch.cdf(asked) - exact) <= sketch.rank_error(1 - 1e-9)).all()


def test_the_fast_form_is_taken() -> None:
    assert type(numbered(Quantiles(), 3)) is NumberedQuantiles


@pytest.mark.parametrize(("count", "rows"), [(1, 5), (50, 300), (2000, 9000)])
def test_few_values_have_the_bytes_of_the_class(count: int, rows: int) -> None:
    numbers, values = rows_of(count, rows)
    fast, slow = pair(count, 64)
    for part in np.array_split(np.arange(rows), 3):
        for each in (fast, slow):
            each.update(numbers[part], values[part])
    assert fast.to_stored() == slow.to_stored()
    assert not fast._sketches
    again, other = pair(count, 64)
    for each in (again, other):
        assert not each.merge_stored(np.arange(count)[::-1].copy(), slow.to_stored())
    assert again.to_stored() == other.to_stored()


@pytest.mark.parametrize(("count", "rows"), [(1, 30_000), (9, 20_000), (150, 9000)])
def test_many_values_keep_the_bound_also_after_merges(count: int, rows: int) -> None:
    numbers, values = rows_of(count, rows)
    fast, half = pair(count)[0], pair(count)[0]
    for part in np.array_split(np.arange(rows), 7):
        fast.update(numbers[part], values[part])
    middle = fast.to_stored()
    half.update(numbers[: rows // 2], values[: rows // 2])
    assert not fast.merge_stored(np.arange(count), half.to_stored())
    fast.update(numbers[:50], values[:50])
    values = np.concatenate((values, values[: rows // 2], values[:50]))
    numbers = np.concatenate((numbers, numbers[: rows // 2], numbers[:50]))
    for number in range(count):
        assert_bound(fast.at(number), values[numbers == number])
        assert_bound(Quantiles.from_bytes(middle[number].as_py()), values[:rows][numbers[:rows] == number])
    one = fast.at(0)
    one.update_many(np.arange(1000))
    assert fast.at(0).count == one.count - 1000, "a copy"


def test_few_and_many_stand_side_by_side() -> None:
    fast, _ = pair(4)
    fast.update(np.repeat(np.arange(4), [3, 0, 500, 40]), np.arange(543))
    found = [Quantiles.from_bytes(form) for form in fast.to_stored().to_pylist()]
    assert [sketch.count for sketch in found] == [3, 0, 500, 40]
    assert [sketch._seed for sketch in found] == [7, 8, 9, 10]
    assert sorted(fast._sketches) == [2, 3]
    assert fast.to_stored(1, 3).to_pylist() == fast.to_stored().to_pylist()[1:3]
    assert fast.to_stored(3, 1).to_pylist() == []
    fast.grow(6)
    fast.grow(2)
    assert len(fast) == 6
    fast.update(np.array([5, 0]), pa.array([2, None], pa.int32()))
    assert [Quantiles.from_bytes(form).count for form in fast.to_stored().to_pylist()] == [3, 0, 500, 40, 0, 1]
    fast.to_stored().validate(full=True)
    with pytest.raises(IndexError):
        fast.at(6)
    assert len(NumberedQuantiles(Quantiles()).to_stored()) == 0


def test_what_is_refused_is_refused_before_anything_is_taken() -> None:
    fast, _ = pair(2)
    fast.update(np.array([0]), np.array([1.0]))
    before = fast.to_stored()
    with pytest.raises(SketchError, match="expected numbers, got nan; it has no rank"):
        fast.update(np.array([0, 1]), np.array([1.0, math.nan]))
    with pytest.raises(SketchError, match="expected numbers, got string"):
        fast.update(np.array([0]), np.array(["a"]))
    with pytest.raises(SketchError, match="cannot use argument 'weights': expected none for 'quantiles'"):
        fast.update(np.array([0]), np.array([1.0]), np.array([1]))
    assert fast.to_stored() == before


@pytest.mark.parametrize("k", [8, 100])
def test_hostile_forms_are_taken_exactly_where_the_class_takes_them(k: int) -> None:
    """Most of the damaged ones are of k = 100, as the laws of the class have it."""
    dice = random.Random(k)  # noqa: S311 (no secret)
    good = Quantiles(k)
    good.update_many(np.arange(5.0))
    forms = [damaged(dice, "quantiles") if row % 3 else good.to_bytes() for row in range(1500)] + [None]
    found = []
    for each in pair(len(forms), k):
        wrong = each.merge_stored(np.arange(len(forms)), pa.array(forms, pa.binary()))
        found.append(({row: str(error) for row, error in wrong.items()}, each.to_stored()))
    assert found[0] == found[1]
    assert 500 < len(found[0][0]) <= 1000
