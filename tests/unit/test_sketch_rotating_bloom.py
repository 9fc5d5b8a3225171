"""Membership for a time: found as long as promised, forgotten when promised, first occurrences exactly, late rows as documented."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from sketches import hashes, rotating_bloom_kernel, rotating_bloom_plain
from sketches.bloom_math import blocked_rate
from sketches.bloom_plain import masks_of, places_of
from sketches.envelope import seal
from sketches.errors import SketchBytesError, SketchError, SketchTypeError
from sketches.jit import HAS_NUMBA
from sketches.rotating_bloom import RotatingBloomFilter
from tests.sketch_laws import SketchLaws

GOLDEN = Path(__file__).parents[1] / "golden" / "sketches" / "rotating_bloom_v1.bin"
COMPILED = pytest.mark.skipif(not HAS_NUMBA, reason="there is nothing to compare NumPy with")


class TestRotatingBloomFilter(SketchLaws):
    def make(self) -> RotatingBloomFilter:
        return RotatingBloomFilter(100, 4, 400)

    def others(self) -> list[Any]:
        return [RotatingBloomFilter(101, 4, 400), RotatingBloomFilter(100, 2, 400), RotatingBloomFilter(100, 4, 404)]

    def feed(self, sketch: Any, values: NDArray[Any]) -> Any:
        sketch.update_many(values, values * 7919 % 1000 - 500)  # ten slices, of which five are held
        return sketch


class Model:
    """Row by row: the bits of each block and slice as one number."""

    def __init__(self, blocks: int, generations: int, slice_us: int) -> None:
        self.blocks, self.generations, self.slice_us = blocks, generations, slice_us
        self.bits: dict[tuple[int, int], int] = {}
        self.newest: int | None = None

    def _of(self, values: NDArray[np.int64]) -> list[tuple[int, int]]:
        some = hashes(values)
        masks = [int.from_bytes(row.astype("<u4").tobytes(), "little") for row in masks_of(some)]
        return list(zip(places_of(some, self.blocks).tolist(), masks, strict=True))

    def found(self, block: int, mask: int) -> bool:
        held = range(self.newest - self.generations, self.newest + 1) if self.newest is not None else ()
        return any(self.bits.get((block, number), 0) & mask == mask for number in held)

    def add(self, values: NDArray[np.int64], times: NDArray[np.int64], *, only_new: bool) -> list[bool]:
        answers = []
        for (block, mask), time in zip(self._of(values), times.tolist(), strict=True):
            number = time // self.slice_us
            self.newest = number if self.newest is None else max(number, self.newest)
            is_new = number >= self.newest - self.generations and not self.found(block, mask)
            answers.append(is_new)
            if is_new or not only_new:
                self.bits[block, number] = self.bits.get((block, number), 0) | mask
        return answers


def streams(seed: int) -> tuple[RotatingBloomFilter, Model, NDArray[np.int64], NDArray[np.int64]]:
    """Filters from one block, always full, to hundreds; times from nearly ordered to random, some far behind, before 1970 too."""
    dice = np.random.default_rng(seed)
    blocks, generations, slice_us = int(dice.choice([1, 7, 300])), int(dice.integers(1, 6)), int(dice.integers(1, 200))
    size = int(dice.integers(1, 3000))
    values = dice.integers(0, int(dice.choice([3, 300, 10_000])), size)
    times = np.arange(size) * int(dice.integers(0, 5)) + dice.integers(-3, 3, size) * int(dice.choice([1, 50, 1000])) - 2000
    sketch = RotatingBloomFilter(blocks, generations, slice_us * generations)
    return sketch, Model(blocks, generations, slice_us), values, times


@pytest.mark.parametrize("seed", range(60))
def test_new_values_are_those_of_the_model_row_by_row(seed: int) -> None:
    sketch, model, values, times = streams(seed)
    half = len(values) // 2
    found = np.concatenate([sketch.add_if_new(values[:half], times[:half]), sketch.add_if_new(values[half:], times[half:])])
    assert found.tolist() == model.add(values, times, only_new=True)
    assert sketch.contains_many(values).tolist() == [model.found(*pair) for pair in model._of(values)]


@pytest.mark.parametrize("seed", range(30))
def test_what_was_taken_is_found_as_in_the_model(seed: int) -> None:
    sketch, model, values, times = streams(seed)
    sketch.update_many(values, times)
    model.add(values, times, only_new=False)
    asked = np.arange(-200, 400)
    assert sketch.contains_many(asked).tolist() == [model.found(*pair) for pair in model._of(asked)]
    by_hash = RotatingBloomFilter(**sketch.parameters)  # type: ignore[arg-type]
    by_hash.update_hashes(hashes(values), times)
    assert by_hash.to_bytes() == sketch.to_bytes()
    assert (by_hash.contains_hashes(hashes(asked)) == sketch.contains_many(asked)).all()


@COMPILED
@pytest.mark.parametrize("seed", range(40))
def test_kernels_and_numpy_are_equal_bit_for_bit(seed: int) -> None:
    sketch, model, values, times = streams(seed)
    some, slices = hashes(values), times // model.slice_us
    modules = (rotating_bloom_kernel, rotating_bloom_plain)
    tables = [np.random.default_rng(seed).integers(0, 2**32, sketch._table.shape, np.uint32) for _ in modules]
    tables = [np.where(table % 5 == 0, table, np.uint32(0)) for table in tables]
    masks = [np.zeros(values.size, np.bool_) for _ in modules]
    clocks = [
        module.add_if_new(table, some, slices, int(slices[0]) - 3, mask) for module, table, mask in zip(modules, tables, masks, strict=True)
    ]
    assert clocks[0] == clocks[1]
    assert (masks[0] == masks[1]).all()
    assert (tables[0] == tables[1]).all()
    held = np.array([0, model.generations])
    for module, table, mask in zip(modules, tables, masks, strict=True):
        module.insert(table, some, slices % (model.generations + 1))
        module.contains(table, some + np.uint64(1 << 40), held, mask)
        module.forget(table, 7, 8)
    assert (masks[0] == masks[1]).all()
    assert (tables[0] == tables[1]).all()


@pytest.mark.parametrize("generations", [1, 2, 4, 7])
def test_found_at_least_for_keep_and_forgotten_a_slice_later(generations: int) -> None:
    slice_us = 100
    keep = slice_us * generations
    for time in (-1, 0, 1, 50, 99, 100, 12_345):
        for clock in range(time, time + keep + 2 * slice_us):
            sketch = RotatingBloomFilter(10, generations, keep)
            sketch.update("a", time)
            asked = sketch.contains("a", at=clock)
            sketch.advance(clock)
            assert sketch.contains("a") == asked
            if clock <= time + keep:
                assert asked
            if clock >= time + keep + slice_us:
                assert not asked
                assert sketch.is_empty


def test_duplicates_do_not_make_it_remember_longer() -> None:
    sketch = RotatingBloomFilter(10, 4, 400)
    times = [0, 100, 399, 499, 500, 900, 1000]
    assert [bool(sketch.add_if_new(np.array([5]), time)[0]) for time in times] == [True, False, False, False, True, False, True]
    sketch = RotatingBloomFilter(10, 4, 400)
    assert sketch.add_if_new(np.full(7, 5), np.array(times)).tolist() == [True, False, False, False, True, False, True]


def test_late_rows_are_left_out_and_can_be_told_apart() -> None:
    sketch = RotatingBloomFilter(10, 4, 400)
    assert sketch.oldest is None
    assert sketch.late(np.array([-(10**9), 0])).tolist() == [False, False]
    sketch.advance(1050)
    assert sketch.oldest == np.datetime64(600, "us")
    times = np.array([599, 600, 1050, 0])
    assert sketch.late(times).tolist() == [True, False, False, True]
    assert sketch.add_if_new(np.arange(4), times).tolist() == [False, True, True, False]
    assert sketch.contains_many(np.arange(4)).tolist() == [False, True, True, False]
    sketch.update_many(np.arange(10, 14), times)
    assert sketch.contains_many(np.arange(10, 14)).tolist() == [False, True, True, False]
    sketch.advance(0)  # never back
    assert sketch.oldest == np.datetime64(600, "us")


def test_times_of_all_types_are_the_same() -> None:
    stamps = np.array(["2026-01-01T10:00", "2026-01-01T10:30"], "M8[s]")
    forms: list[Any] = [
        stamps,
        stamps.astype("M8[ns]"),
        stamps.astype("M8[us]").astype(np.int64),
        pa.array(stamps.astype("M8[us]")),
        pa.array(stamps.astype("M8[us]"), pa.timestamp("us", "UTC")),
    ]
    stored = []
    for times in forms:
        sketch = RotatingBloomFilter(10, 4, 4 * 3_600_000_000)
        sketch.update_many(np.arange(2), times)
        stored.append(sketch.to_bytes())
    single = RotatingBloomFilter(10, 4, 4 * 3_600_000_000)
    single.update(0, datetime(2026, 1, 1, 10, tzinfo=UTC))
    single.update(1, stamps[1])
    single.update(None, stamps[1])
    assert set(stored) == {single.to_bytes()}


def test_nulls_are_no_values_and_their_times_are_left_out() -> None:
    sketch = RotatingBloomFilter(100, 4, 400)
    names = pa.array(["a", None, "b", "a", None])
    assert sketch.add_if_new(names, np.array([1, 10_000, 2, 3, 10_000])).tolist() == [True, False, True, False, False]
    assert sketch.contains_many(names).tolist() == [True, False, True, True, False]
    assert None not in sketch
    assert "a" in sketch
    sketch.update_many(pa.array(["c", None]))  # at the newest slice
    assert sketch.contains_many(np.array(["c", "d"])).tolist() == [True, False]
    assert sketch.add_hashes_if_new(hashes(np.array(["c", "e", "e"]))).tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("times", "match"),
    [
        (np.array([1]), r"expected 2 instants, .+, got 1;"),
        (np.array(["2026-01-01", "NaT"], "M8[us]"), r"expected 2 instants, .+, got nulls"),
        (pa.array([1, None]), r"expected 2 instants, .+, got nulls"),
        (np.array([0.5, 1.0]), r"expected 2 instants, as int64 in microseconds or as timestamps, got values of type double"),
        (np.array(["a", "b"]), r"expected 2 instants, .+, got values of type string"),
        (np.array([0, 2**62 + 1]), "expected times within 146,000 years of 1970, got 0 to 4611686018427387905 microseconds"),
        (np.datetime64("NaT", "us"), r"expected 1 instants, .+, got nulls"),
        (None, "expected a time, got None; no time was seen yet; give the times"),
    ],
)
def test_times_that_are_none_are_refused_and_nothing_is_taken(times: Any, match: str) -> None:
    sketch = RotatingBloomFilter(10, 4, 400)
    before = sketch.to_bytes()
    for name in ("update_many", "add_if_new"):
        with pytest.raises(SketchError, match=f"cannot use argument 'times': {match}"):
            getattr(sketch, name)(np.arange(2), times)
    with pytest.raises(SketchTypeError, match="cannot hash argument 'values'"):
        sketch.add_if_new([1, 2], np.arange(2))
    with pytest.raises(SketchError, match=r"cannot use argument 'times': expected 2 instants, .+, got values of type list"):
        sketch.update_many(np.arange(2), [1, 2])
    assert sketch.to_bytes() == before


def test_the_rate_keeps_to_what_was_asked_for() -> None:
    """A full generation each: the sum of five rates, measured on 200,000 strangers."""
    keep, rate, capacity = timedelta(seconds=4), 0.02, 2000
    sketch = RotatingBloomFilter.from_error(capacity=capacity, false_positive_rate=rate, keep=keep)
    blocks = int(sketch.parameters["blocks"])
    assert sketch.parameters["keep_us"] == 4_000_000
    assert blocked_rate(capacity, blocks) <= rate / 5 < blocked_rate(capacity, blocks - 1)
    values = np.arange(20 * capacity)
    sketch.update_many(values, values * (1_000_000 // capacity))
    assert sketch.contains_many(values[-4 * capacity :]).all()
    measured = sketch.contains_many(np.arange(1 << 40, (1 << 40) + 200_000)).mean()
    now = sketch.false_positive_rate()
    assert now <= rate * 1.1  # of this one filter; the mean over filters is what is promised
    assert abs(measured - now) <= 6 * np.sqrt(now / 200_000)  # one false alarm in 10^8, were the inputs not fixed


def test_without_false_positives_it_is_a_dictionary_of_first_times() -> None:
    dice = np.random.default_rng(1)
    values, times = dice.integers(0, 5000, 50_000), np.sort(dice.integers(0, 10_000, 50_000))
    sketch = RotatingBloomFilter.from_error(capacity=5000, false_positive_rate=1e-6, keep=timedelta(microseconds=2000))
    first: dict[int, int] = {}
    wanted = []
    for value, time in zip(values.tolist(), times.tolist(), strict=True):
        fresh = value not in first or first[value] // 500 < time // 500 - 4
        wanted.append(fresh)
        if fresh:
            first[value] = time
    assert sketch.add_if_new(values, times).tolist() == wanted


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ((0, 4, 400), "'blocks': expected from 1 to 13,421,772 for 4 generations, got 0"),
        ((2**26, 4, 400), "'blocks': expected .*, got 67108864"),
        ((10, 0, 400), "'generations': expected from 1 to 64, got 0"),
        ((10, 65, 400), "'generations': expected from 1 to 64, got 65"),
        ((10, 4, 0), r"'keep_us': expected a multiple of 4 from 4 to 2\^62, got 0"),
        ((10, 4, 401), "'keep_us': expected a multiple of 4 .*, got 401"),
    ],
)
def test_parameters_out_of_range_are_refused(arguments: tuple[int, int, int], match: str) -> None:
    with pytest.raises(SketchError, match=f"cannot use parameter {match}"):
        RotatingBloomFilter(*arguments)


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"capacity": 0}, "'capacity': expected at least 1, got 0"),
        ({"capacity": 10**12}, "'capacity': expected what .* can keep at rate 0.01"),
        ({"false_positive_rate": 1.0}, "'false_positive_rate': expected from 5e-08 .*, got 1.0"),
        ({"false_positive_rate": 1e-9}, "'false_positive_rate': expected from 5e-08 .*, got 1e-09"),
        ({"keep": timedelta(0)}, "'keep': expected a time above 0"),
        ({"generations": 0}, "'generations': expected from 1 to 64, got 0"),
    ],
)
def test_guarantees_out_of_range_are_refused(changed: dict[str, Any], match: str) -> None:
    asked: dict[str, Any] = {"capacity": 100, "false_positive_rate": 0.01, "keep": timedelta(hours=1)}
    with pytest.raises(SketchError, match=f"cannot use parameter {match}"):
        RotatingBloomFilter.from_error(**(asked | changed))


def test_a_time_is_rounded_up_to_whole_slices() -> None:
    sketch = RotatingBloomFilter.from_error(capacity=1, false_positive_rate=0.5, keep=timedelta(microseconds=10), generations=3)
    assert sketch.parameters["keep_us"] == 12


PARAMETERS = b"\1\0\0\0" + b"\1" + (100).to_bytes(8, "little")
NO_CLOCK = bytes(9)


@pytest.mark.parametrize(
    ("parameters", "payload"),
    [
        (PARAMETERS[:-1], NO_CLOCK + b"\1\0\0\0\0"),
        (PARAMETERS, NO_CLOCK[:-1]),
        (PARAMETERS, NO_CLOCK + b"\1\1\0\0\0" + bytes(4) + b"\1" * 32),  # values before the first time
        (PARAMETERS, b"\2" + bytes(8) + b"\1\0\0\0\0"),
        (PARAMETERS, b"\0" + b"\1" * 8 + b"\1\0\0\0\0"),
        (PARAMETERS, b"\1" + b"\xff" * 7 + b"\x7f" + b"\1\0\0\0\0"),  # a clock past all times
        (b"\0" * 4 + PARAMETERS[4:], NO_CLOCK + b"\1\0\0\0\0"),
        (PARAMETERS[:4] + b"\0" + PARAMETERS[5:], NO_CLOCK + b"\1\0\0\0\0"),
        (PARAMETERS[:4] + b"\x41" + PARAMETERS[5:], NO_CLOCK + b"\1\0\0\0\0"),
        (PARAMETERS[:5] + bytes(8), NO_CLOCK + b"\1\0\0\0\0"),
        (PARAMETERS[:5] + b"\xff" * 8, NO_CLOCK + b"\1\0\0\0\0"),
        (b"\0\0\0\2" + PARAMETERS[4:], NO_CLOCK + b"\1\0\0\0\0"),  # 2 GiB of zeros in a few bytes
    ],
)
def test_hostile_bytes_are_refused(parameters: bytes, payload: bytes) -> None:
    assert RotatingBloomFilter.from_bytes(seal("rotating_bloom", 1, PARAMETERS, NO_CLOCK + b"\1\0\0\0\0")).is_empty
    with pytest.raises(SketchBytesError, match=r"cannot read bytes of sketch 'rotating_bloom': expected .+, got .+"):
        RotatingBloomFilter.from_bytes(seal("rotating_bloom", 1, parameters, payload))


def test_golden_bytes() -> None:
    """Stored once, read for ever: the same input gives these bytes, and these bytes this answer."""
    sketch = golden()
    data = GOLDEN.read_bytes()
    assert sketch.to_bytes() == data
    read = RotatingBloomFilter.from_bytes(data)
    assert read.oldest == np.datetime64(1600, "us")
    assert read.contains_many(np.array([0, 159, 160, 200, 249])).tolist() == [False, False, True, True, True]


def golden() -> RotatingBloomFilter:
    sketch = RotatingBloomFilter(50, 4, 800)
    sketch.update_many(np.arange(250), np.arange(250) * 10)
    return sketch
