"""Decaying windows by number: within the guarantee of the class against exact sums, merged to the same bytes, hostile bytes refused."""

from __future__ import annotations

import math
import random
from datetime import timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from sketches import numbered_decaying, numbered_decaying_kernel, numbered_decaying_plain
from sketches.decaying import DecayingWindow
from sketches.errors import SketchBytesError, SketchError
from sketches.jit import HAS_NUMBA
from sketches.numbered import Objects, numbered
from sketches.numbered_decaying import NumberedDecaying
from tests.sketch_fuzz import damaged

HOUR = 3_600_000_000
PLAIN = numbered_decaying_plain.add
PATHS = [PLAIN, *([numbered_decaying_kernel.add] if HAS_NUMBA else [])]


def made(windows: int) -> NumberedDecaying:
    return NumberedDecaying(DecayingWindow(timedelta(hours=1)), windows)


def objects(windows: int) -> Objects[DecayingWindow]:
    found = Objects(DecayingWindow(timedelta(hours=1)))
    found.grow(windows)
    return found


def rows_of(windows: int, rows: int, hours: int = 20) -> tuple[Any, Any, Any, Any]:
    dice = np.random.default_rng(rows)
    return dice.integers(0, windows, rows), dice.normal(5, 10, rows), dice.integers(-HOUR, hours * HOUR, rows), dice.random(rows)


def assert_guarantee(window: DecayingWindow, values: Any, times: Any, weights: Any, now: int) -> None:
    """Compare with sums that are exact but for exp2, which is off by at most 2**-50 of each term here."""
    terms = [weight * 2.0 ** ((time - now) / HOUR) for time, weight in zip(times.tolist(), weights.tolist(), strict=True)]
    whole = math.fsum(abs(term * value) for term, value in zip(terms, values.tolist(), strict=True))
    exact = math.fsum(term * value for term, value in zip(terms, values.tolist(), strict=True))
    count = math.fsum(terms)
    assert window.rows == len(terms)
    assert abs(window.sum_at(now) - exact) <= (2**-47 + 2**-49) * whole
    assert abs(window.count_at(now) - count) <= (2**-47 + 2**-49) * count
    if count:
        variance = math.fsum(term * (value - exact / count) ** 2 for term, value in zip(terms, values.tolist(), strict=True)) / count
        assert window.variance_at(now) == pytest.approx(variance, rel=1e-9, abs=1e-12)


def test_the_fast_form_is_taken() -> None:
    assert type(numbered(DecayingWindow(timedelta(hours=1)), 3)) is NumberedDecaying


@pytest.mark.parametrize("add", PATHS)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("windows", "rows"), [(1, 30_000), (7, 20_000), (400, 2000), (3, 5)])
def test_sums_keep_the_guarantee(windows: int, rows: int, weighted: bool, add: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numbered_decaying, "_add", add)
    monkeypatch.setattr(numbered_decaying, "PART", 9000)
    numbers, values, times, weights = rows_of(windows, rows)
    weights[::7] = 0
    found = made(windows)
    for start in range(0, rows, 12_000):
        part = slice(start, start + 12_000)
        found.update(numbers[part], values[part], weights[part] if weighted else None, times=times[part])
    weights = weights if weighted else np.ones(rows)
    for number in range(windows):
        some = (numbers == number) & (weights > 0)
        assert_guarantee(found.at(number), values[some], times[some], weights[some], 21 * HOUR)


@pytest.mark.skipif(not HAS_NUMBA, reason="there is nothing to compare NumPy with")
def test_both_paths_give_the_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers, values, times, weights = rows_of(50, 9000, hours=3000)
    found = []
    for add in PATHS:
        monkeypatch.setattr(numbered_decaying, "_add", add)
        windows = made(50)
        for part in np.array_split(np.arange(9000), 7):
            windows.update(numbers[part], values[part] * 1e150, weights[part], times=times[part])
        wrong = windows.merge_stored(np.arange(50)[::-1].copy(), windows.to_stored())
        found.append((windows.to_stored(), {row: str(error) for row, error in wrong.items()}))
    assert found[0] == found[1]


@pytest.mark.parametrize("add", PATHS)
def test_merges_give_the_bytes_of_the_class(add: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numbered_decaying, "_add", add)
    numbers, values, times, weights = rows_of(60, 4000, hours=2000)
    parts = []
    for half in (slice(0, 300), slice(300, 4000)):
        one = objects(60)
        one.update(numbers[half], values[half], weights[half], times=times[half])
        parts.append(one.to_stored())
    stored, where = pa.concat_arrays([*parts, pa.array([None], pa.binary())]), np.random.default_rng(3).integers(0, 20, 121)
    fast, slow = made(20), objects(20)
    for each in (fast, slow):
        assert not each.merge_stored(where, stored)
    assert fast.to_stored() == slow.to_stored()
    window = fast.at(4)
    window.update_many(np.array([5.0]), times=np.array([HOUR]))
    assert window.rows == fast.at(4).rows + 1, "a copy, that goes on"


def test_types_nulls_growth_and_slices() -> None:
    found = made(0)
    assert len(found) == len(found.to_stored()) == 0
    found.grow(3)
    found.update(np.array([0, 2, 2, 0]), pa.array([1, None, 3, 5], pa.int32()), times=np.array([0, 0, 0, HOUR]))
    found.update(np.array([0]), np.array([True]), times=HOUR)
    found.grow(5)
    found.grow(2)
    assert [found.at(number).rows for number in range(5)] == [3, 0, 1, 0, 0]
    assert found.at(0).sum_at(HOUR) == 6.5
    whole = found.to_stored().to_pylist()
    assert whole[1] == DecayingWindow(timedelta(hours=1)).to_bytes()
    assert found.to_stored(1, 3).to_pylist() == whole[1:3]
    assert found.to_stored(-2).to_pylist() == whole[-2:]
    assert found.to_stored(3, 1).to_pylist() == []
    found.to_stored().validate(full=True)
    with pytest.raises(IndexError):
        found.at(5)


def test_what_is_refused_is_refused_before_anything_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numbered_decaying, "PART", 2)
    found = made(2)
    found.update(np.array([0]), np.array([1.0]), times=0)
    before = found.to_stored()
    for values, text in (
        (np.array([1.0, math.nan]), "cannot use argument 'values': expected finite numbers, got nan"),
        (np.array(["a", "b"]), "expected finite numbers, got string"),
        (np.array([1.0, 1e200]), "expected numbers whose weighted squares and their sum are floats, got larger ones"),
    ):
        with pytest.raises(SketchError, match=text):
            found.update(np.array([0, 1, 0]), np.concatenate((values[:1], values)), times=np.array([0, 0, 5]))
    with pytest.raises(SketchError, match="cannot use argument 'times'"):
        found.update(np.array([0]), np.array([1.0]))
    with pytest.raises(SketchError, match="expected 1 finite numbers, none below 0, got -1 at 0"):
        found.update(np.array([0]), np.array([1.0]), np.array([-1.0]), times=0)
    assert found.to_stored() == before


@pytest.mark.parametrize("add", PATHS)
def test_hostile_forms_are_taken_exactly_where_the_class_takes_them(add: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numbered_decaying, "_add", add)
    dice = random.Random(4)  # noqa: S311 (no secret)
    forms = [damaged(dice, "decaying") for _ in range(2000)]
    template = next(DecayingWindow.from_bytes(form) for form in forms if is_sound(form))
    empty = DecayingWindow(timedelta(microseconds=template._half_life))
    where, array = np.arange(2000) // 2, pa.array(forms)
    found = []
    for each in (NumberedDecaying(empty), Objects(empty)):
        each.grow(1000)
        wrong = each.merge_stored(where, array)
        found.append(({row: str(error) for row, error in wrong.items()}, each.to_stored()))
    assert found[0] == found[1]
    assert 100 < len(found[0][0]) < 2000


def is_sound(form: bytes) -> bool:
    try:
        return not DecayingWindow.from_bytes(form).is_empty
    except SketchBytesError:
        return False
