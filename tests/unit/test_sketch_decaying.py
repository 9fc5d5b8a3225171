"""Decaying windows against sums of fractions, in any order of arrival; times decades apart; refusals; stored bytes."""

from __future__ import annotations

import math
import struct
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sketches import DecayingWindow
from sketches.envelope import open_envelope, seal
from sketches.errors import SketchBytesError, SketchError
from tests.sketch_laws import SketchLaws

HOUR = 3_600_000_000
NOW = 1_767_225_600_000_000  # 2026-01-01
GOLDEN = Path(__file__).parents[1] / "golden" / "sketches" / "decaying_v1.bin"
TOLERANCE = 2.0**-47


def times_of(values: NDArray[Any]) -> NDArray[np.int64]:
    """A time for each value that depends on the value only, so that a cut of the values cuts the times too."""
    return NOW + (values.astype(np.int64) * 7_919_123_457) % (100 * HOUR)


def exact(values: Any, times: Any, instant: int, half_life: int = HOUR, weights: Any = None) -> tuple[float, float]:
    """Return count and sum by the definition, each term to the last bit and added without rounding."""
    loads = np.ones(len(values)) if weights is None else np.asarray(weights)
    factors = [math.pow(2.0, (int(time) - instant) / half_life) for time in times]
    return (
        math.fsum(w * f for w, f in zip(loads.tolist(), factors, strict=True)),
        math.fsum(w * v * f for w, v, f in zip(loads.tolist(), np.asarray(values, np.float64).tolist(), factors, strict=True)),
    )


class TestDecayingWindow(SketchLaws):
    TAKES_TEXT: ClassVar[bool] = False

    def make(self) -> DecayingWindow:
        return DecayingWindow(timedelta(hours=1))

    def others(self) -> list[DecayingWindow]:
        return [DecayingWindow(timedelta(hours=2))]

    def feed(self, sketch: Any, values: NDArray[Any]) -> Any:
        sketch.update_many(values, times_of(values))
        return sketch

    def assert_same(self, one: Any, other: Any, values: NDArray[Any]) -> None:
        """Rows and newest time are equal, count and sum within the tolerance of the class, on either side."""
        assert (one.rows, one.newest) == (other.rows, other.newest) == (len(values), other.newest)
        for question in ("count_at", "sum_at", "mean_at"):
            if len(values):
                assert getattr(one, question)(NOW) == pytest.approx(getattr(other, question)(NOW), rel=2 * TOLERANCE)
        assert one.variance_at(NOW) == pytest.approx(other.variance_at(NOW), rel=1e-12, nan_ok=True)


rows = st.lists(
    st.tuples(
        st.floats(-1e6, 1e6),
        st.integers(NOW - 500 * HOUR, NOW + 500 * HOUR),
        st.floats(0, 100).filter(lambda weight: weight == 0 or weight > 1e-9),
    ),
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(rows, st.integers(1, 10**12), st.lists(st.integers(0, 60), max_size=4), st.randoms())
def test_it_is_the_sum_by_the_definition_in_any_order_and_partition(given: Any, half_life: int, cuts: Any, dice: Any) -> None:
    window, parts = DecayingWindow(timedelta(microseconds=half_life)), []
    dice.shuffle(given)
    for start, stop in zip([0, *sorted(cuts)], [*sorted(cuts), 60], strict=True):
        values, times, weights = ([row[place] for row in given[start:stop]] for place in range(3))
        part = DecayingWindow(timedelta(microseconds=half_life))
        part.update_many(np.array(values, float), np.array(times, np.int64), np.array(weights, float))
        parts.append(part)
    dice.shuffle(parts)
    window = DecayingWindow.merged(parts)
    taken = [row for row in given if row[2] > 0]
    assert window.rows == len(taken)
    if not taken:
        assert window.is_empty
        return
    values, times, weights = ([row[place] for row in taken] for place in range(3))
    instant = max(times)
    count, total = exact(values, times, instant, half_life, weights)
    _, absolute = exact(np.abs(values), times, instant, half_life, weights)
    far = max((instant - time) / half_life for time in times)
    slack = TOLERANCE + 2.0**-51 + min(far, 1100) * 2.0**-52  # the quotient of the oracle is rounded, relative to its size
    assert abs(window.count_at(instant) - count) <= slack * count
    assert abs(window.sum_at(instant) - total) <= slack * absolute + 1e-300


@pytest.mark.parametrize("size", [10, 8192, 50_000])
def test_sums_keep_to_the_tolerance_for_long_columns_and_rows_one_by_one(size: int) -> None:
    dice = np.random.default_rng(size)
    values, times = dice.lognormal(0, 3, size), NOW + dice.integers(0, 20 * HOUR, size)
    window = DecayingWindow(timedelta(hours=1))
    window.update_many(values[: size // 2], times[: size // 2])
    for value, time in zip(values[size // 2 :][:500].tolist(), times[size // 2 :][:500].tolist(), strict=True):
        window.update(value, time)
    taken = min(size, size // 2 + 500)
    count, total = exact(values[:taken], times[:taken], NOW + 20 * HOUR)
    assert window.rows == taken
    assert abs(window.count_at(NOW + 20 * HOUR) / count - 1) <= TOLERANCE
    assert abs(window.sum_at(NOW + 20 * HOUR) / total - 1) <= TOLERANCE
    weights = np.exp2((times[:taken] - NOW) / HOUR)
    assert window.mean_at(NOW) == pytest.approx(np.average(values[:taken], weights=weights), rel=1e-12)
    spread = np.average((values[:taken] - np.average(values[:taken], weights=weights)) ** 2, weights=weights)
    assert window.variance_at(NOW) == pytest.approx(spread, rel=1e-10)


def test_an_offset_does_not_cancel_in_the_variance() -> None:
    dice = np.random.default_rng(1)
    noise, times = dice.integers(-8, 9, 30_000) / 4, NOW + dice.integers(0, HOUR, 30_000)
    window, plain = DecayingWindow(timedelta(hours=1)), DecayingWindow(timedelta(hours=1))
    for part, moments in zip(np.split(noise, 6), np.split(times, 6), strict=True):
        window.update_many(part + 2.0**40, moments)
        plain.update_many(part, moments)
    assert window.variance_at(NOW) == pytest.approx(plain.variance_at(NOW), rel=1e-3)
    assert 1 < plain.variance_at(NOW) < 10


def test_small_rows_onto_a_large_sum_are_not_lost() -> None:
    """Each is less than half a unit of the sum: one float would stay as it was."""
    window, small = DecayingWindow(timedelta(hours=1)), DecayingWindow(timedelta(hours=1))
    window.update(2.0**60, NOW)
    small.update(1.0, NOW)
    for _ in range(6):  # doubles: 64 rows
        small.merge(small.copy())
    for _ in range(1000):
        window.merge(small)
    assert window.sum_at(NOW // HOUR * HOUR) == pytest.approx((2.0**60 + 64_000) * 2 ** ((NOW % HOUR) / HOUR), rel=2**-50)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0), (1, 0, 2)])
def test_times_decades_apart_neither_overflow_nor_leave_a_trace(order: tuple[int, ...]) -> None:
    times = [NOW - 40 * 365 * 24 * HOUR, NOW, NOW + 60 * 365 * 24 * HOUR]
    window = DecayingWindow(timedelta(hours=1))
    for place in order:
        window.update(10.0 ** (300 - 300 * place), times[place])
    assert window.rows == 3
    assert window.newest == np.datetime64(times[2], "us")
    assert (window.count_at(times[2]), window.sum_at(times[2]), window.mean_at(NOW)) == (1, 1e-300, 1e-300)
    assert window.sum_at(NOW) == math.inf  # rows after the instant weigh more
    assert window.sum_at(times[2] + 100 * 365 * 24 * HOUR) == 0


def test_rows_vanish_beyond_1022_half_lives() -> None:
    for age, left in ((1022, 2.0**-1022), (1023, 0.0)):
        together, apart = DecayingWindow(timedelta(hours=1)), DecayingWindow(timedelta(hours=1))
        together.update_many(np.array([1.0, 0.0]), np.array([0, age * HOUR]))
        apart.update(1.0, 0)
        apart.update(0.0, age * HOUR)
        assert together.sum_at(age * HOUR) == apart.sum_at(age * HOUR) == left
        assert together.rows == apart.rows == 2


def test_rescaling_is_exact() -> None:
    """The landmark moves by whole half-lives: a sum seen later is the same float times a power of two."""
    dice = np.random.default_rng(3)
    window = DecayingWindow(timedelta(seconds=7))
    window.update_many(dice.normal(size=1000), dice.integers(0, 10**8, 1000))
    before = window.sum_at(10**8)
    window.update(0.0, 10**8 + 900 * 7_000_000)
    assert window.sum_at(10**8 + 900 * 7_000_000) == math.ldexp(before, -900)


@pytest.mark.parametrize(
    "instant",
    [
        NOW,
        np.int64(NOW),
        np.datetime64("2026-01-01"),
        np.datetime64("2026-01-01T00:00:00.000000000"),
        datetime(2026, 1, 1, tzinfo=UTC),
        datetime(2026, 1, 1, 5, 30, tzinfo=timezone(timedelta(hours=5, minutes=30))),
        datetime(2026, 1, 1),  # noqa: DTZ001 (without a zone it is in UTC, as NumPy has it)
    ],
)
def test_an_instant_is_the_same_in_all_its_forms(instant: Any) -> None:
    window = DecayingWindow(timedelta(hours=1))
    window.update(3, instant, weight=0.5)
    assert window.newest == np.datetime64(NOW, "us")
    assert (window.count_at(instant), window.sum_at(instant)) == (0.5, 1.5)


@pytest.mark.parametrize(
    "times",
    [
        np.array([NOW, NOW + HOUR]),
        np.array([NOW, NOW + HOUR]).view("M8[us]"),
        np.array(["2026-01-01T00", "2026-01-01T01"], "M8[h]"),
        np.array(["2026-01-01T00", "2026-01-01T01"], "M8[ns]"),
        pa.array([NOW, NOW + HOUR], pa.timestamp("us", "UTC")),
        pa.chunked_array([[NOW // 1000], [NOW // 1000 + HOUR // 1000]], pa.timestamp("ms")),
    ],
)
@pytest.mark.parametrize("values", [np.array([4, 2], np.int16), np.array([4.0, 2.0], np.float32), pa.array([4, 2], pa.uint64())])
def test_columns_are_taken_in_all_their_forms(times: Any, values: Any) -> None:
    window = DecayingWindow(timedelta(hours=1))
    window.update_many(values, times)
    assert (window.count_at(NOW + HOUR), window.sum_at(NOW + HOUR)) == (1.5, 4)


@pytest.mark.parametrize("time", [NOW, np.datetime64(NOW, "us"), datetime(2026, 1, 1, tzinfo=UTC)])
def test_one_time_may_stand_for_all(time: Any) -> None:
    window, empty = DecayingWindow(timedelta(hours=1)), DecayingWindow(timedelta(hours=1))
    window.update_many(np.array([4.0, 2.0]), time)
    empty.update_many(np.empty(0), time)
    assert (window.count_at(NOW), window.sum_at(NOW), empty.is_empty) == (2, 6, True)
    with pytest.raises(SketchError, match=r"'times': expected an instant: .+, got True"):
        window.update_many(np.array([4.0]), True)


def test_null_values_take_their_times_with_them() -> None:
    window = DecayingWindow(timedelta(hours=1))
    window.update_many(pa.array([None, 5.0, None]), np.array([NOW + 9 * HOUR, NOW, NOW]), np.array([1, 2, 1]))
    window.update(None, NOW)
    assert (window.rows, window.count_at(NOW), window.sum_at(NOW)) == (1, 2, 10)


def test_weight_zero_is_no_value() -> None:
    window = DecayingWindow(timedelta(hours=1))
    window.update(5.0, NOW, weight=0)
    window.update_many(np.array([1.0, 2.0]), np.array([NOW + HOUR, NOW]), np.array([0, 1]))
    assert (window.rows, window.newest) == (1, np.datetime64(NOW, "us"))


ONE = np.array([1.0])
AT = np.array([NOW])


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((ONE,), r"cannot use argument 'times': expected 1 instants, .+, got 0; correct them, or leave such rows out"),
        ((ONE, np.array([NOW, NOW])), "'times': expected 1 instants, .+, got 2"),
        ((ONE, np.array(["NaT"], "M8[us]")), "'times': expected 1 instants, .+, got nulls"),
        ((ONE, pa.array([None], pa.timestamp("us"))), "'times': expected 1 instants, .+, got nulls"),
        ((ONE, pa.array([None])), "'times': expected 1 instants, .+, got "),
        ((ONE, np.array(["2026"])), "'times': expected 1 instants, .+, got values of type string"),
        ((ONE, np.array([1.5])), "'times': expected 1 instants, .+, got values of type double"),
        ((ONE, [NOW]), "'times': expected 1 instants, .+, got values of type list"),
        ((ONE, np.array([2**62 + 1])), "'times': expected times within 146,000 years of 1970, got 46116860184273879"),
        (
            (ONE, np.array(["500000-01-01"], "M8[D]")),
            "'times': expected times within 146,000 years of 1970, got days 18190[0-9]+ to 18190[0-9]+",
        ),
        ((ONE, np.array(["500000"], "M8[Y]")), "'times': expected 1 instants, .+, got times whose microseconds are beyond 64 bits"),
        ((np.array([1.0, math.nan]), np.array([NOW, NOW])), "'values': expected finite numbers, got nan"),
        ((np.array([-math.inf]), AT), "'values': expected finite numbers, got -inf"),
        ((np.array(["a"]), AT), "'values': expected finite numbers, got string"),
        ((ONE, AT, [-1.0]), "'weights': expected 1 finite numbers, none below 0, got -1 at 0"),
        ((ONE, AT, [math.nan]), "'weights': expected 1 finite numbers, .+, got nan at 0"),
        ((ONE, AT, [math.inf]), "'weights': expected 1 finite numbers, .+, got inf at 0"),
        ((ONE, AT, [1.0, 1.0]), r"'weights': expected 1 finite numbers, .+ of shape \(2,\)"),
        ((np.array([1.7e308, 1.7e308]), np.array([NOW, NOW])), "'values': expected numbers whose .+ are floats, got larger ones"),
    ],
)
def test_rows_that_cannot_be_taken_are_refused_and_nothing_is_taken(arguments: Any, text: str) -> None:
    window = DecayingWindow(timedelta(hours=1))
    window.update(1.0, NOW)
    before = window.to_bytes()
    with pytest.raises(SketchError, match=text):
        window.update_many(*arguments)
    assert window.to_bytes() == before


@pytest.mark.parametrize("instant", [None, "2026-01-01", 1.5, True, np.datetime64("NaT"), 2**62 + 1])
def test_what_is_no_instant_is_refused(instant: Any) -> None:
    window = DecayingWindow(timedelta(hours=1))
    for ask in (window.count_at, window.sum_at, window.mean_at, window.variance_at, lambda time: window.update(1.0, time)):
        with pytest.raises(SketchError, match=r"cannot use argument 'times': expected .+, got .+; correct them"):
            ask(instant)


@pytest.mark.parametrize("half_life", [timedelta(0), timedelta(seconds=-1), timedelta(days=200_000), 3600, None, "1h"])
def test_what_is_no_half_life_is_refused(half_life: Any) -> None:
    with pytest.raises(SketchError, match="cannot use parameter 'half_life': expected a timedelta from one microsecond to 285 years, got "):
        DecayingWindow(half_life)


def test_sums_that_are_no_floats_any_more_are_not_merged() -> None:
    one = DecayingWindow(timedelta(hours=1))
    one.update(1.7e308, NOW // HOUR * HOUR)
    before = one.to_bytes()
    with pytest.raises(
        SketchError, match="expected numbers whose weighted squares and their sum are floats, got larger ones; scale them down"
    ):
        one.merge(one.copy())
    assert one.to_bytes() == before


def test_an_empty_one_answers() -> None:
    window = DecayingWindow(timedelta(hours=1))
    assert (window.count_at(NOW), window.sum_at(NOW), window.newest, window.rows) == (0, 0, None, 0)
    assert math.isnan(window.mean_at(NOW))
    assert math.isnan(window.variance_at(NOW))


def golden() -> DecayingWindow:
    """Times are whole half-lives and values small, so that no machine's exp2 or order of addition shows."""
    window = DecayingWindow(timedelta(minutes=15))
    places = np.arange(1000)
    window.update_many(places % 17, (places * 7 % 40) * 900_000_000, places % 3)
    return window


def test_stored_bytes_stay_readable() -> None:
    data = GOLDEN.read_bytes()
    assert golden().to_bytes() == data
    window = DecayingWindow.from_bytes(data)
    assert (window.rows, window.newest) == (666, np.datetime64("1970-01-01T09:45"))
    places = np.arange(1000)
    count, total = exact(places % 17, (places * 7 % 40) * 900_000_000, 40 * 900_000_000, 900_000_000, places % 3)
    assert (window.count_at(40 * 900_000_000), window.sum_at(40 * 900_000_000)) == (count, total)


@pytest.mark.parametrize(
    ("place", "form", "value", "text"),
    [
        (0, "<Q", 1 << 63, "a number of rows and their newest time"),
        (8, "<q", -(2**62) - 1, "a number of rows and their newest time"),
        (16, "<d", -1.0, "finite sums, of which count and squares are not negative"),
        (16, "<d", math.nan, "finite sums"),
        (24, "<d", 1.0, "finite sums"),
        (32, "<d", math.inf, "finite sums"),
        (48, "<d", -1.0, "finite sums"),
    ],
)
def test_bytes_that_no_window_has_are_refused(place: int, form: str, value: Any, text: str) -> None:

    found = open_envelope(golden().to_bytes(), "decaying", version=1)
    payload = bytearray(found.payload)
    struct.pack_into(form, payload, place, value)
    with pytest.raises(SketchBytesError, match=f"cannot read bytes of sketch 'decaying': expected {text}.*, got "):
        DecayingWindow.from_bytes(seal("decaying", 1, bytes(found.parameters), bytes(payload)))
    for parameters in (struct.pack("<q", 0), struct.pack("<q", 2**53 + 1), b"\1"):
        with pytest.raises(SketchBytesError, match=r"expected (a half-life from 1 to|8 and 56 bytes)"):
            DecayingWindow.from_bytes(seal("decaying", 1, parameters, bytes(found.payload)))
    with pytest.raises(SketchBytesError, match="a number of rows"):
        DecayingWindow.from_bytes(seal("decaying", 1, bytes(found.parameters), bytes(8) + bytes(found.payload[8:])))
