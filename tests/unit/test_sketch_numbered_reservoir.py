"""Reservoirs by number: byte for byte what one sketch after the other gives, and so of its law; merges, types, hostile bytes."""

from __future__ import annotations

import math
import random
import struct
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sketches import draws, numbered_reservoir, numbered_reservoir_draws_kernel, numbered_reservoir_merge_kernel
from sketches.envelope import seal
from sketches.errors import EngineError, SketchError, SketchTypeError
from sketches.hyperloglog import HyperLogLog
from sketches.jit import HAS_NUMBA
from sketches.numbered import Numbered, Objects, numbered
from sketches.numbered_reservoir import NumberedReservoirs, ReservoirObjects
from sketches.reservoir import MOST_COUNT, ReservoirSample
from tests.sketch_fuzz import damaged

COMPILED = pytest.mark.skipif(not HAS_NUMBA, reason="there is nothing to compare objects with")
FORMS: list[type[Numbered[ReservoirSample]]] = [ReservoirObjects, *([NumberedReservoirs] if HAS_NUMBA else [])]


def made(form: Any, size: int, count: int, seed: int = 5) -> Numbered[ReservoirSample]:
    found: Numbered[ReservoirSample] = form(ReservoirSample(size, seed))
    found.grow(count)
    return found


def both(size: int, count: int, seed: int = 5) -> tuple[Numbered[ReservoirSample], Numbered[ReservoirSample]]:
    return made(FORMS[-1], size, count, seed), made(Objects, size, count, seed)


def rows_of(samples: int, rows: int, seed: int = 1) -> tuple[Any, Any]:
    dice = np.random.default_rng(seed)
    return dice.integers(0, samples, rows), dice.integers(-(1 << 62), 1 << 62, rows)


@pytest.fixture
def small_buffer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let few rows wait, have little room, and cut columns of stored samples into many spans."""
    monkeypatch.setattr(numbered_reservoir, "MOST_ROWS", 700)
    monkeypatch.setattr(numbered_reservoir, "FEWEST", 16)
    monkeypatch.setattr("sketches.stored.SPAN_BYTES", 1000)


def test_the_fast_form_is_taken() -> None:
    assert type(numbered(ReservoirSample(5), 3)) is FORMS[-1]


# Byte for byte ------------------------------------------------------------------------------------------------------------


@COMPILED
@pytest.mark.usefixtures("small_buffer")
@pytest.mark.parametrize("texts", [False, True])
@pytest.mark.parametrize(("size", "samples"), [(1, 3), (2, 900), (7, 40), (50, 20), (3000, 2), (9, 1)])
def test_updates_and_merges_give_the_bytes_of_objects(size: int, samples: int, texts: bool) -> None:
    numbers, values = rows_of(samples, 6000)
    some: Any = pa.array([f"{value}" * (value % 4) for value in values.tolist()]) if texts else values
    dice = np.random.default_rng(2)
    pair = both(size, samples)
    for start in range(0, 6000, 1100):
        for each in pair:
            each.update(numbers[start : start + 1100], some[start : start + 1100])
        if start % 3 == 0:
            assert pair[0].to_stored() == pair[1].to_stored()
    parts = [both(size, samples, 7)[1] for _ in range(3)]
    parts[0].update(numbers[:50], some[:50])
    parts[1].update(numbers[:2500], some[:2500])
    stored = pa.concat_arrays([part.to_stored() for part in parts] + [pair[1].to_stored()])
    which, where = dice.integers(0, len(stored), 2 * samples), dice.integers(0, samples, 2 * samples)
    for each in pair:
        assert not each.merge_stored(where, stored.take(pa.array(which)))
    assert pair[0].to_stored() == pair[1].to_stored()
    for each in pair:
        each.grow(samples + 2)
        each.update(numbers + 1, some)
    assert pair[0].to_stored() == pair[1].to_stored()
    assert pair[0].at(samples).to_bytes() == pair[1].at(samples).to_bytes()
    empty = both(size, samples)
    for each in empty:
        assert not each.merge_stored(np.arange(samples)[::-1].copy(), pair[1].to_stored()[:samples])
    assert empty[0].to_stored() == empty[1].to_stored()


@COMPILED
@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 5),
    st.lists(st.tuples(st.booleans(), st.lists(st.integers(0, 2), max_size=25)), max_size=8),
)
def test_any_calls_and_merges_give_the_bytes_of_objects(size: int, calls: list[tuple[bool, list[int]]]) -> None:
    pair, value = both(size, 3), 0
    for is_merge, call in calls:
        numbers, values = np.array(call, np.int64), np.arange(value, value + len(call))
        value += len(call)
        if is_merge:
            other = made(Objects, size, 3, 9)
            other.update(numbers, values)
            for each in pair:
                assert not each.merge_stored(np.array([2, 0, 0]), other.to_stored())
        else:
            for each in pair:
                each.update(numbers, values)
    assert pair[0].to_stored() == pair[1].to_stored()


@COMPILED
def test_logarithms_and_exponentials_are_those_of_draws_bit_for_bit() -> None:
    u = np.concatenate([draws.uniforms(1, 0, 100_000), [2.0**-53, 1 - 2.0**-53, 0.5, math.sqrt(0.5), 1.0], draws.exp(-np.arange(700.0))])
    found, room = u.copy(), np.empty((3, u.size))
    numbered_reservoir_draws_kernel.logs(found, u.size, room[0], room[1])
    assert (found == draws.log(u)).all()
    x = np.concatenate([found * 20, [0.0, -0.0, -700.0, -1e300]])
    room = np.empty((2, x.size))
    numbered_reservoir_draws_kernel.exps(x, x.size, room[0], room[1])
    assert (room[0] == draws.exp(x)).all()


@COMPILED
def test_the_nth_least_is_that_of_sorting() -> None:
    dice = np.random.default_rng(6)
    for size in (1, 2, 3, 50, 400):
        for numbers in (dice.random(size), dice.integers(0, 3, size).astype(np.float64)):
            for nth in {1, size // 2 + 1, size}:
                assert numbered_reservoir_merge_kernel._nth_least(numbers.copy(), nth) == np.sort(numbers)[nth - 1]


# The law ------------------------------------------------------------------------------------------------------------------


def chi_square(counts: NDArray[Any], size: int, trials: int) -> float:
    """Return a number that has nearly the chi-square law with one degree less than there are places."""
    places, expected = counts.size, trials * size / counts.size
    return float(((counts - expected) ** 2).sum() / expected) * (places - 1) / (places - size)


def greatest_chi_square(degrees: int) -> float:
    """Return what such a number exceeds with probability 1e-6 (Wilson and Hilferty 1931)."""
    spread = 2 / (9 * degrees)
    return degrees * (1 - spread + 4.753 * math.sqrt(spread)) ** 3


def counts_of(found: Numbered[ReservoirSample], size: int, places: int) -> NDArray[Any]:
    """Return how often each place is in a sample, and see that none is in one sample twice."""
    counts = np.zeros(places, np.int64)
    for number, form in enumerate(found.to_stored().to_pylist()):
        sample = ReservoirSample.from_bytes(form).sample()
        assert np.unique(sample).size == size
        assert (sample // places == number).all(), "of its own values only"
        counts[sample - number * places] += 1
    return counts


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("size", [1, 6])
def test_each_place_is_sampled_alike_over_many_samples(form: Any, size: int) -> None:
    """One seed for all of them: the number makes them differ. False alarm: 1e-6."""
    samples, places = 3000, 40
    found = made(form, size, samples)
    values = np.arange(samples * places).reshape(samples, places)
    for part in np.split(values, [7, 30], axis=1):
        found.update(part.T.ravel() // places, part.T.ravel())
    assert chi_square(counts_of(found, size, places), size, samples) < greatest_chi_square(places - 1)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("size", "cuts"), [(1, [3]), (6, [2, 4]), (6, [33]), (5, [1, 2, 3, 12, 39])])
def test_and_after_merges_of_parts_of_any_length(form: Any, size: int, cuts: list[int]) -> None:
    """As in two stages: each worker has a seed of its own. False alarm: 1e-6."""
    samples, places = 2500, 40
    values = np.arange(samples * places).reshape(samples, places)
    whole, stored, numbers = made(form, size, samples, 100), [], []
    for worker, part in enumerate(np.split(values, cuts, axis=1)):
        found = made(form, size, samples, draws.fold(3, worker))
        found.update(part.ravel() // places, part.ravel())
        stored.append(found.to_stored())
        numbers.append(np.arange(samples))
    assert not whole.merge_stored(np.concatenate(numbers), pa.concat_arrays(stored))
    assert {ReservoirSample.from_bytes(form).count for form in whole.to_stored().to_pylist()} == {places}
    assert chi_square(counts_of(whole, size, places), size, samples) < greatest_chi_square(places - 1)


@pytest.mark.parametrize("form", FORMS)
def test_a_merge_takes_from_each_part_by_the_hypergeometric_law(form: Any) -> None:
    samples = 4000
    first, second = made(form, 3, samples, 1), made(form, 3, samples, 2)
    first.update(np.repeat(np.arange(samples), 10), np.tile(np.arange(10), samples))
    second.update(np.repeat(np.arange(samples), 5), np.tile(np.arange(10, 15), samples))
    first.merge_stored(np.arange(samples), second.to_stored())
    from_first = np.zeros(4)
    for stored in first.to_stored().to_pylist():
        from_first[(ReservoirSample.from_bytes(stored).sample() < 10).sum()] += 1
    law = np.array([math.comb(10, k) * math.comb(5, 3 - k) / math.comb(15, 3) for k in range(4)])
    assert ((from_first - samples * law) ** 2 / (samples * law)).sum() < greatest_chi_square(3)


@pytest.mark.parametrize("form", FORMS)
def test_equal_values_have_other_samples_in_each_number_and_under_each_seed(form: Any) -> None:
    values = np.tile(np.arange(1000), 3)
    found = made(form, 8, 3)
    found.update(np.repeat(np.arange(3), 1000), values)
    other = made(form, 8, 3, 6)
    other.update(np.repeat(np.arange(3), 1000), values)
    assert len({tuple(sorted(each.at(number).sample())) for each in (found, other) for number in range(3)}) == 6
    again = made(form, 8, 3)
    again.update(np.repeat(np.arange(3), 1000), values)
    assert again.to_stored() == found.to_stored(), "and the same again"


# Types --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "values",
    [
        np.array([1, -2, 1], np.int32),
        np.array([1, 2**64 - 1, 1], np.uint64),
        np.array([1.5, np.nan, -0.0], np.float32),
        np.array([1.5, np.nan, -0.0]),
        np.array([True, False, True]),
        np.array(["2026-01-01", "1969-01-01", "2026-01-01"], "M8[D]"),
        np.array([b"", b"\0\xff", b""]),
        pa.array(["", "ä" * 300, None]),
    ],
    ids=lambda values: str(getattr(values, "dtype", getattr(values, "type", ""))),
)
def test_all_types_give_what_one_sketch_gives(form: Any, values: Any) -> None:
    found, one = made(form, 2, 2, 3), ReservoirSample(2, 3)._of_group(1)
    found.update(np.ones(3, np.int64), values)
    one.update_many(values)
    assert found.to_stored().to_pylist() == [made(Objects, 2, 1, 3).at(0).to_bytes(), one.to_bytes()]
    whole, objects = made(form, 2, 2, 3), made(Objects, 2, 2, 3)
    stored = pa.array([None, one.to_bytes(), one.to_bytes()], pa.binary())
    for each in (whole, objects):
        assert not each.merge_stored(np.array([0, 1, 1]), stored)
    assert whole.to_stored() == objects.to_stored()


@pytest.mark.usefixtures("small_buffer")
@pytest.mark.parametrize("form", FORMS)
def test_texts_that_were_replaced_are_let_go(form: Any) -> None:
    found, objects = made(form, 10, 5), made(Objects, 10, 5)
    for turn in range(30):
        words = pa.array([f"{turn}-{row}" * (row % 9) if row % 10 else None for row in range(500)])
        for each in (found, objects):
            each.update(np.arange(500) % 5, words)
    assert found.to_stored() == objects.to_stored()
    if isinstance(found, NumberedReservoirs):
        assert found._texts.size < 40_000
        assert found._text_ends.size < 1500


@pytest.mark.parametrize("form", FORMS)
def test_what_is_refused_is_refused_before_anything_is_taken(form: Any) -> None:
    found = made(form, 4, 2)
    found.update(np.array([0]), np.array([1]))
    before = found.to_stored()
    with pytest.raises(SketchTypeError, match="cannot update sketch 'reservoir': expected values of type 'long', got 'double'"):
        found.update(np.array([1]), np.array([1.0]))
    with pytest.raises(SketchError, match="expected 0 to 1, got 0 to 2"):
        found.update(np.array([0, 2]), np.array([1, 1]))
    with pytest.raises(SketchError, match="cannot use argument 'weights': expected none for 'reservoir'"):
        found.update(np.array([0]), np.array([1]), np.array([1]))
    with pytest.raises(SketchError, match="expected values, got hashes"):
        found.update_hashes(np.array([0]), np.array([1]))
    assert found.to_stored() == before
    found.update(np.empty(0, np.int64), np.empty(0))
    assert found.to_stored() == before


@pytest.mark.parametrize("form", FORMS)
def test_growth_slices_and_copies(form: Any) -> None:
    found = made(form, 3, 0)
    assert len(found) == len(found.to_stored()) == 0
    for count in range(1, 6):
        found.grow(count)
        found.update(np.array([count - 1]), np.array([count]))
    found.grow(3)
    assert len(found) == 5
    whole = found.to_stored().to_pylist()
    assert [ReservoirSample.from_bytes(form).sample().tolist() for form in whole] == [[1], [2], [3], [4], [5]]
    assert found.to_stored(1, 3).to_pylist() == whole[1:3]
    assert found.to_stored(-2).to_pylist() == whole[-2:]
    assert found.to_stored(3, 1).to_pylist() == []
    found.to_stored().validate(full=True)
    one = found.at(2)
    one.update_many(np.arange(100))
    assert found.at(2).count == 1, "a copy"
    with pytest.raises(IndexError):
        found.at(5)


# Stored forms -------------------------------------------------------------------------------------------------------------


def good_and_bad() -> tuple[list[bytes | None], list[str]]:
    """Return stored forms, and what is wrong with each."""
    good, text, other = ReservoirSample(4), ReservoirSample(4), ReservoirSample(5)
    good.update_many(np.arange(9))
    text.update_many(np.array(["a"]))
    other.update(1)
    data = good.to_bytes()
    state = struct.pack("<QQQqd", 9, 1, 0, 10, -1.0) + struct.pack("<BI", 3, 4) + bytes(32)
    forms: list[tuple[bytes | None, str]] = [
        (ReservoirSample(4).to_bytes(), ""),
        (data, ""),
        (None, ""),
        (text.to_bytes(), "cannot merge sketch 'reservoir': expected values of type 'long', got 'string'"),
        (other.to_bytes(), "cannot merge sketch 'reservoir': expected size 4, got 5"),
        (data[:-1] + bytes([data[-1] ^ 1]), "expected checksum"),
        (seal("reservoir", 1, struct.pack("<I", 4), state), "expected a state of the random numbers"),
        (HyperLogLog(12).to_bytes(), "expected a sketch of kind 'reservoir', got one of kind 'hyperloglog'"),
        (b"", "expected bytes that begin with"),
        (data[:30], "expected "),
        (data, ""),
    ]
    return [form for form, _ in forms], [text for _, text in forms]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("type_of", [pa.binary(), pa.large_binary()], ids=str)
def test_damaged_and_foreign_forms_are_named_and_all_others_are_taken(form: Any, type_of: Any) -> None:
    forms, texts = good_and_bad()
    array = pa.array([b"more", *forms], type_of)[1:]
    found = made(form, 4, 1)
    wrong = found.merge_stored(np.zeros(len(forms), np.int64), array)
    assert {row for row, text in enumerate(texts) if text} == set(wrong)
    for row, error in wrong.items():
        assert texts[row] in str(error)
        assert isinstance(error, EngineError)
    assert found.at(0).count == 18
    in_chunks = made(form, 4, 1)
    assert in_chunks.merge_stored(np.zeros(len(forms), np.int64), pa.chunked_array([array[:4], array[4:]])).keys() == wrong.keys()
    assert in_chunks.to_stored() == found.to_stored()


@pytest.mark.parametrize("form", FORMS)
def test_a_count_that_cannot_be_stored_is_not_made(form: Any) -> None:
    def counted(count: int) -> bytes:
        state = struct.pack("<QQQqd", count, 1, 0, count, -1.0) + struct.pack("<BI", 3, 2) + bytes(16)
        return seal("reservoir", 1, struct.pack("<I", 2), state)

    found = made(form, 2, 2)
    forms = [counted(MOST_COUNT - 5), counted(6), counted(5), counted(4), counted(MOST_COUNT)]
    wrong = found.merge_stored(np.array([0, 0, 0, 0, 1]), pa.array(forms))
    assert sorted(wrong) == [1, 3]
    assert "expected a count up to 4,611,686,018,427,387,904, got 4,611,686,018,427,387,905" in str(wrong[1])
    assert [found.at(number).count for number in range(2)] == [MOST_COUNT, MOST_COUNT]


@COMPILED
@pytest.mark.parametrize("first", [None, np.array([5]), np.array([1.5], np.float32), np.array(["a"])], ids=["no", "long", "float", "text"])
def test_hostile_forms_are_taken_exactly_where_objects_take_them(first: Any) -> None:
    dice = random.Random(4)  # noqa: S311 (no secret)
    forms = [damaged(dice, "reservoir") for _ in range(1200)]
    found = []
    for form in FORMS:
        each = made(form, 40, len(forms))
        if first is not None:
            each.update(np.array([0]), first)
        wrong = each.merge_stored(np.arange(len(forms)), pa.array(forms))
        found.append(({row: str(error) for row, error in wrong.items()}, each.to_stored()))
    assert found[0] == found[1]
    assert len(found[0][0]) > 500


@pytest.mark.parametrize("form", FORMS)
def test_a_strange_state_is_a_sample_that_works(form: Any) -> None:
    state = struct.pack("<QQQqd", 1 << 61, 1, (1 << 60) - 1, 4, -1e-300) + struct.pack("<BI", 3, 4) + bytes(32)
    found = made(form, 4, 1)
    assert not found.merge_stored(np.zeros(2, np.int64), pa.array([seal("reservoir", 1, struct.pack("<I", 4), state)] * 2))
    assert found.at(0).count == 1 << 62
    one = made(form, 4, 1)
    assert not one.merge_stored(np.zeros(1, np.int64), pa.array([seal("reservoir", 1, struct.pack("<I", 4), state)]))
    one.update(np.zeros(1000, np.int64), np.arange(1000))
    assert one.at(0).count == (1 << 61) + 1000
