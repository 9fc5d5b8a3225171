"""Decaying hot lists against exact decayed weights in a dict: both bounds, any order, merges; items of all types; stored bytes."""

from __future__ import annotations

import math
import struct
from collections import defaultdict
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sketches import DecayingTop
from sketches.envelope import open_envelope, seal
from sketches.errors import SketchBytesError, SketchError, SketchTypeError
from tests.sketch_laws import SketchLaws

HOUR = 3_600_000_000
NOW = 1_767_225_600_000_000  # 2026-01-01
GOLDEN = Path(__file__).parents[1] / "golden" / "sketches" / "decaying_top_v1.bin"
OF_AN_HOUR = timedelta(hours=1)


def times_of(values: NDArray[Any]) -> NDArray[np.int64]:
    """A time for each value that depends on the value only, so that a cut of the values cuts the times too."""
    return NOW + (values.astype(np.int64) * 7_919_123_457) % (20 * HOUR)


def exact(values: Any, times: Any, instant: int, half_life: int = HOUR, weights: Any = None) -> dict[Any, float]:
    """Return the decayed weight of each item by the definition."""
    terms = defaultdict(list)
    loads = np.ones(len(values)) if weights is None else np.asarray(weights, float)
    for value, time, weight in zip(np.asarray(values).tolist(), np.asarray(times).tolist(), loads.tolist(), strict=True):
        terms[value].append(weight * math.pow(2.0, (time - instant) / half_life))
    return {value: math.fsum(parts) for value, parts in terms.items()}


def check(top: DecayingTop, truth: dict[Any, float], instant: int, capacity: int) -> None:
    """Hold a hot list against its guarantee."""
    total = math.fsum(truth.values())
    assert top.total_at(instant) == pytest.approx(total, rel=1e-9)
    assert top.error_at(instant) <= total / (capacity + 1) * (1 + 1e-9)
    for value, weight in truth.items():
        low, high = top.lower_bound(value, instant), top.upper_bound(value, instant)
        assert low <= weight <= high
        assert low <= top.estimate(value, instant) <= high
        assert high - low <= top.error_at(instant) + 2.0**-28 * high
    hots = top.top(capacity + 1, instant)
    assert len(hots) <= capacity
    assert [hot.estimate for hot in hots] == sorted((hot.estimate for hot in hots), reverse=True)
    assert all(hot.lower <= truth[hot.item] <= hot.upper for hot in hots)
    assert {value for value, weight in truth.items() if weight > total / (capacity + 1) * (1 + 1e-9)} <= {hot.item for hot in hots}


class TestDecayingTop(SketchLaws):
    def make(self) -> DecayingTop:
        return DecayingTop(30, OF_AN_HOUR)

    def others(self) -> list[DecayingTop]:
        return [DecayingTop(31, OF_AN_HOUR), DecayingTop(30, timedelta(hours=2))]

    def feed(self, sketch: Any, values: NDArray[Any]) -> Any:
        sketch.update_many(values, times_of(values))
        return sketch

    def assert_same(self, one: Any, other: Any, values: NDArray[Any]) -> None:
        """Both keep to the guarantee for these values."""
        assert one.newest == other.newest
        for sketch in (one, other):
            check(sketch, exact(values, times_of(values), NOW + 20 * HOUR), NOW + 20 * HOUR, 30)


rows = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 40 * HOUR), st.sampled_from([0.0, 0.5, 1.0, 3.0, 1000.0])), max_size=80)


@settings(max_examples=150, deadline=None)
@given(rows, st.integers(1, 12), st.lists(st.integers(0, 80), max_size=4), st.randoms())
def test_bounds_hold_in_any_order_and_partition(given: Any, capacity: int, cuts: Any, dice: Any) -> None:
    parts = []
    dice.shuffle(given)
    for start, stop in zip([0, *sorted(cuts)], [*sorted(cuts), 80], strict=True):
        values, times, weights = ([row[place] for row in given[start:stop]] for place in range(3))
        part = DecayingTop(capacity, OF_AN_HOUR)
        part.update_many(np.array(values, np.int64), np.array(times, np.int64), np.array(weights, float))
        parts.append(DecayingTop.from_bytes(part.to_bytes()))
    dice.shuffle(parts)
    top = DecayingTop.merged(parts)
    values, times, weights = ([row[place] for row in given] for place in range(3))
    check(top, exact(values, times, 40 * HOUR, weights=weights), 40 * HOUR, capacity)


@pytest.mark.parametrize("capacity", [10, 100, 5000])
@pytest.mark.parametrize("order", ["as they come", "newest first", "oldest first", "heavy last"])
def test_bounds_hold_for_long_skewed_columns(capacity: int, order: str) -> None:
    dice = np.random.default_rng(capacity)
    values, times = dice.zipf(1.2, 60_000) % 20_000, NOW + dice.integers(0, 10 * HOUR, 60_000)
    if order != "as they come":
        places = np.argsort({"newest first": -times, "oldest first": times, "heavy last": -values}[order])
        values, times = values[places], times[places]
    top = DecayingTop(capacity, OF_AN_HOUR)
    top.update_many(values[:50_000], times[:50_000])
    for value, time in zip(values[50_000:50_050].tolist(), times[50_000:50_050].tolist(), strict=True):
        top.update(value, time)
    top.update_many(values[50_050:], times[50_050:])
    check(top, exact(values, times, NOW + 10 * HOUR), NOW + 10 * HOUR, capacity)


def test_what_was_frequent_gives_way_to_what_is() -> None:
    top = DecayingTop(3, OF_AN_HOUR)
    top.update_many(np.array(["old"] * 1000), np.full(1000, NOW))
    top.update_many(np.array(["new"] * 10), np.full(10, NOW + 10 * HOUR))
    top.update_many(np.array(["late"] * 6), np.full(6, NOW + 9 * HOUR))  # comes last, is older
    assert [(hot.item, hot.estimate) for hot in top.top(9, NOW + 10 * HOUR)] == [("new", 10), ("late", 3), ("old", 1000 / 1024)]
    assert [(hot.item, hot.estimate) for hot in top.top(1, NOW + 11 * HOUR)] == [("new", 5)]


def test_what_purges_took_off_fades_too() -> None:
    top = DecayingTop(9, OF_AN_HOUR)
    top.update_many(np.arange(1000), np.full(1000, NOW))
    before = top.error_at(NOW)
    assert before > 0
    top.update(0, NOW + 30 * HOUR)
    assert top.error_at(NOW + 30 * HOUR) == math.ldexp(before, -30)
    newer = DecayingTop(9, OF_AN_HOUR)
    newer.update(0, NOW + 40 * HOUR)
    newer.merge(top)
    assert newer.error_at(NOW + 40 * HOUR) == math.ldexp(before, -40)


def test_items_beyond_1022_half_lives_are_gone() -> None:
    top = DecayingTop(3, OF_AN_HOUR)
    top.update("new", 2000 * HOUR)
    top.update("old", 0)
    top.update_many(np.array(["older", "newer"]), np.array([1, 2001 * HOUR]))
    assert [hot.item for hot in top.top(9, NOW)] == ["newer", "new"]
    assert top.upper_bound("old", 2001 * HOUR) == 0
    assert DecayingTop.from_bytes(top.to_bytes()).to_bytes() == top.to_bytes()
    alone, far = DecayingTop(3, OF_AN_HOUR), DecayingTop(3, OF_AN_HOUR)
    alone.update("old", 0)
    far.update("far", 5000 * HOUR)
    alone.merge(far)
    assert [hot.item for hot in alone.top(9, 5000 * HOUR)] == ["far"]


@pytest.mark.parametrize(
    ("values", "first"),
    [
        (np.array([7, 7, 8], np.int32), 7),
        (np.array([2**64 - 1, 2**64 - 1, 8], np.uint64), 2**64 - 1),
        (np.array([1.5, 1.5, math.nan]), 1.5),
        (np.array(["ä", "ä", ""]), "ä"),
        (np.array([True, True, False]), True),
        (pa.array([b"\0x\0", b"\0x\0", b""]), b"\0x\0"),
        (pa.array(["x", None, "x", "y"]), "x"),
    ],
)
def test_items_of_all_types_come_back(values: Any, first: Any) -> None:
    top = DecayingTop(3, OF_AN_HOUR)
    top.update_many(values, np.full(len(values), NOW))
    top = DecayingTop.from_bytes(top.to_bytes())
    assert [(hot.item, hot.estimate) for hot in top.top(1, NOW)] == [(first, 2)]
    value = values[0].as_py() if isinstance(values, pa.Array) else values[0]
    assert top.estimate(value, NOW) == 2


def test_values_of_another_type_are_refused_and_nothing_is_taken() -> None:
    top, other = DecayingTop(3, OF_AN_HOUR), DecayingTop(3, OF_AN_HOUR)
    top.update("a", NOW)
    other.update(1, NOW)
    before = top.to_bytes()
    for act in (lambda: top.update(1, NOW), lambda: top.merge(other), lambda: top.estimate(1, NOW)):
        with pytest.raises(
            SketchTypeError, match=r"cannot (update|merge|ask) sketch 'decaying_top': expected values of type 'string', got 'long'; "
        ):
            act()
    assert top.to_bytes() == before


ONE = np.array([1])
AT = np.array([NOW])


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((ONE,), "'times': expected 1 instants, .+, got 0"),
        ((ONE, np.array(["NaT"], "M8[us]")), "'times': expected 1 instants, .+, got nulls"),
        ((ONE, AT, [-1.0]), "'weights': expected 1 finite numbers, none below 0, got -1 at 0"),
        ((ONE, AT, [math.nan]), "'weights': expected 1 finite numbers, .+, got nan at 0"),
        ((np.array([1, 2]), np.array([NOW, NOW]), [1.7e308, 1.7e308]), "'weights': expected weights whose sum is a float, got larger ones"),
    ],
)
def test_rows_that_cannot_be_taken_are_refused_and_nothing_is_taken(arguments: Any, text: str) -> None:
    top = DecayingTop(3, OF_AN_HOUR)
    top.update(1, NOW)
    before = top.to_bytes()
    with pytest.raises(SketchError, match=f"cannot use argument {text}"):
        top.update_many(*arguments)
    assert top.to_bytes() == before


def test_weights_that_are_no_floats_any_more_are_not_merged() -> None:
    top = DecayingTop(3, OF_AN_HOUR)
    top.update(1, 0, weight=1.7e308)
    with pytest.raises(SketchError, match="expected weights whose sum is a float, got larger ones; scale them down"):
        top.merge(top.copy())


@pytest.mark.parametrize(
    ("act", "text"),
    [
        (lambda: DecayingTop(0, OF_AN_HOUR), "parameter 'capacity': expected an integer from 1 to 16,777,216, got 0"),
        (lambda: DecayingTop(True, OF_AN_HOUR), "parameter 'capacity': expected an integer from 1 to 16,777,216, got True"),
        (lambda: DecayingTop(1, timedelta(0)), "parameter 'half_life': expected a timedelta from one microsecond to 285 years, got "),
        (
            lambda: DecayingTop.from_error(epsilon=0, half_life=OF_AN_HOUR),
            "parameter 'epsilon': expected a number between 6e-08 and 1, got 0",
        ),
        (
            lambda: DecayingTop(1, OF_AN_HOUR).top(1, None) or DecayingTop(1, OF_AN_HOUR).total_at("x"),
            "argument 'times': expected an instant",
        ),
    ],
)
def test_refusals(act: Any, text: str) -> None:
    with pytest.raises(SketchError, match=f"cannot use {text}"):
        act()


def test_from_error_keeps_to_epsilon() -> None:
    top = DecayingTop.from_error(epsilon=0.01, half_life=OF_AN_HOUR)
    top.update_many(np.arange(100_000), np.full(100_000, NOW))
    assert 0 < top.error_at(NOW) <= 0.01 * top.total_at(NOW)
    assert top.parameters["capacity"] == 99


def test_an_empty_one_answers() -> None:
    top = DecayingTop(3, OF_AN_HOUR)
    assert (top.total_at(NOW), top.error_at(NOW), top.estimate("a", NOW), top.top(5, NOW), top.newest) == (0, 0, 0, [], None)


def golden() -> DecayingTop:
    """Times are whole half-lives, so that no machine's exp2 or order of addition shows."""
    top = DecayingTop(20, timedelta(minutes=15))
    places = np.arange(1000)
    top.update_many(np.char.add("page ", (places**2 % 97).astype(str)), (places * 7 % 40) * 900_000_000, places % 3)
    return top


def test_stored_bytes_stay_readable() -> None:
    data = GOLDEN.read_bytes()
    assert golden().to_bytes() == data
    top = DecayingTop.from_bytes(data)
    places = np.arange(1000)
    instant = 40 * 900_000_000
    truth = exact(np.char.add("page ", (places**2 % 97).astype(str)), (places * 7 % 40) * 900_000_000, instant, 900_000_000, places % 3)
    check(top, truth, instant, 20)
    assert top.top(1, instant)[0] == golden().top(1, instant)[0]


def test_bytes_that_no_list_has_are_refused() -> None:
    found = open_envelope(golden().to_bytes(), "decaying_top", version=1)
    end = len(found.payload)
    for place, form, value, text in (
        (0, "<Q", 0, "a number of rows and their newest time"),
        (0, "<Q", 1 << 63, "a number of rows and their newest time"),
        (8, "<q", 2**62 + 1, "a number of rows and their newest time"),
        (16, "<d", math.inf, "counts above 0 within a total"),
        (16, "<d", 0.0, "counts above 0 within a total"),
        (24, "<d", -1.0, "counts above 0 within a total"),
        (24, "<d", math.nan, "counts above 0 within a total"),
        (24, "<d", 1e6, "counts, and what was taken off, within"),
        (end - 8, "<d", math.nan, "counts above 0 within a total"),
        (end - 8, "<d", 0.0, "counts above 0 within a total"),
        (end - 16, "<d", 1e9, "counts above 0 within a total"),
        (end - 8 * 20 - 1, "<B", 0x7F, "items in the order of their hashes"),
        (32, "<B", 99, "items of a type from 1 to"),
    ):
        payload = bytearray(found.payload)
        struct.pack_into(form, payload, place, value)
        with pytest.raises(SketchBytesError, match=f"cannot read bytes of sketch 'decaying_top': expected {text}.*, got "):
            DecayingTop.from_bytes(seal("decaying_top", 1, bytes(found.parameters), bytes(payload)))
    for parameters in (b"", struct.pack("<Iq", 0, 1), struct.pack("<Iq", 1, 0), struct.pack("<Iq", 10, 900_000_000)):
        with pytest.raises(SketchBytesError, match=r"expected (12 bytes of parameters|a capacity from 1 to|up to 10 items)"):
            DecayingTop.from_bytes(seal("decaying_top", 1, parameters, bytes(found.payload)))


def test_a_count_that_rounding_put_above_the_total_is_read_again() -> None:
    random = np.random.default_rng(11)
    above = 0
    for _ in range(300):
        top = DecayingTop(4, timedelta(days=30))
        for _ in range(3):
            top.update_many(np.zeros(57, np.int64), times=random.integers(0, 30 * 86_400_000_000, 57))
        above += bool(top._counts.max() > top._total)
        assert DecayingTop.from_bytes(top.to_bytes()).to_bytes() == top.to_bytes()
    assert above > 10
