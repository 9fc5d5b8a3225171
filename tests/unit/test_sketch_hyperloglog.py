"""HyperLogLog: its registers against an obvious model, its estimate against the likelihood maximized by search, its bytes and refusals."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sketches import Grouped, HyperLogLog, hashes, hyperloglog_kernel, hyperloglog_plain
from sketches.distinct import Interval
from sketches.envelope import seal
from sketches.errors import SketchBytesError, SketchError
from sketches.likelihood import most_likely
from tests.hash_models import murmur3
from tests.sketch_laws import SketchLaws

GOLDEN = Path(__file__).parents[1] / "golden" / "sketches"
PATHS = [hyperloglog_kernel, hyperloglog_plain]


def model(found: list[int], precision: int) -> list[int]:
    """Return the registers after these hashes, by their binary digits."""
    registers = [0] * (1 << precision)
    for number in found:
        digits = f"{number:064b}"
        rest = digits[precision:]
        at = int(digits[:precision], 2)
        registers[at] = max(registers[at], len(rest) - len(rest.lstrip("0")) + 1)
    return registers


def hard(seed: int, size: int, precision: int) -> NDArray[np.uint64]:
    """Return hashes of all ranks: as many with sixty zeros as with none."""
    dice = np.random.default_rng(seed)
    words = dice.integers(0, 2**64, size, np.uint64) >> dice.integers(0, 64, size).astype(np.uint64)
    places = dice.integers(0, 1 << precision, size).astype(np.uint64) << np.uint64(64 - precision)
    return words & np.uint64((1 << (64 - precision)) - 1) | places


class TestHyperLogLog(SketchLaws):
    def make(self) -> HyperLogLog:
        return HyperLogLog(8)

    def others(self) -> list[Any]:
        return [HyperLogLog(9), HyperLogLog(8, "murmur3")]


class TestHyperLogLogOfDataSketchesHash(SketchLaws):
    def make(self) -> HyperLogLog:
        return HyperLogLog(10, "murmur3")

    def others(self) -> list[Any]:
        return [HyperLogLog(4, "murmur3"), HyperLogLog(10)]


# Registers -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PATHS)
@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 2**64 - 1), max_size=60), st.integers(4, 18))
def test_registers_are_those_of_the_model(path: Any, found: list[int], precision: int) -> None:
    registers = np.zeros(1 << precision, np.uint8)
    path.update(registers, precision, 0, np.array(found, np.uint64))
    assert registers.tolist() == model(found, precision)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("precision", [4, 12, 18])
def test_hard_hashes_in_several_calls_with_floors_give_the_models_registers(path: Any, precision: int) -> None:
    found = [hard(seed, 1500, precision) for seed in range(3)]
    found[1] = np.concatenate([found[1], np.arange(1 << min(precision, 10), dtype=np.uint64) << np.uint64(64 - min(precision, 10))])
    registers = np.zeros(1 << precision, np.uint8)
    for part in found:
        path.update(registers, precision, path.floor_of(registers), part)
        assert path.floor_of(registers) == min(registers.tolist())
    assert registers.tolist() == model(np.concatenate(found).tolist(), precision)
    assert precision != 4 or path.floor_of(registers) > hyperloglog_kernel.WORTH  # so the grouped loop was taken


@pytest.mark.parametrize("path", PATHS)
def test_words_are_hashed_chunk_by_chunk_into_the_same_registers(path: Any) -> None:
    values = np.arange(200_003)
    registers = np.zeros(64, np.uint8)
    for part in np.split(values, [1, 1024, 1025, 100_000]):
        path.update_words8(registers, 6, path.floor_of(registers), part.view(np.uint64), np.uint64(42))
    assert registers.tolist() == model(hashes(values).tolist(), 6)


@pytest.mark.parametrize("path", PATHS)
def test_each_group_gets_its_own(path: Any) -> None:
    found, groups = hard(5, 4000, 6), np.random.default_rng(6).integers(0, 7, 4000)
    states = np.zeros((9, 64), np.uint8)
    path.update_groups(states, 6, groups, found)
    assert states.tolist() == [model(found[groups == group].tolist(), 6) for group in range(9)]


@pytest.mark.parametrize("size", [1, 7, 1024, 70_000])
def test_values_go_in_by_their_hashes_by_all_ways(size: int) -> None:
    values = np.random.default_rng(size).integers(0, 1 << 62, size)
    expected = model(hashes(values).tolist(), 7)
    many, hashed, arrow, parts = (HyperLogLog(7) for _ in range(4))
    many.update_many(values)
    hashed.update_hashes(hashes(values).view(np.int64))
    arrow.update_many(pa.array(values))
    for part in np.array_split(values, 9):
        parts.update_many(part)
    for sketch in (many, hashed, arrow, parts):
        assert sketch.state.tolist() == expected
    texts, one_by_one = HyperLogLog(7), HyperLogLog(7)
    texts.update_many(pa.array([str(value) for value in values[:200]]))
    for value in values[:200].tolist():
        one_by_one.update(str(value))
    assert one_by_one.to_bytes() == texts.to_bytes()


def test_the_murmur_form_has_datasketches_registers() -> None:
    sketch = HyperLogLog(9, "murmur3")
    texts = [f"ü{number}" for number in range(3000)]
    sketch.update_many(np.array(texts))
    expected = [0] * 512
    for text in texts:
        first, second = murmur3(text.encode())
        expected[first % 512] = max(expected[first % 512], 64 - second.bit_length() + 1)
    assert sketch.state.tolist() == expected
    before = sketch.to_bytes()
    sketch.update("")
    assert sketch.to_bytes() == before


def test_grouped_murmur_counts_as_alone() -> None:
    groups = Grouped(HyperLogLog(6, "murmur3"))
    texts = pa.array(["a", "", None, "b", "a", "c"])
    groups.update_grouped(np.array([0, 0, 1, 1, 0, 1]), texts)
    for key, rows in ((0, ["a", "", "a"]), (1, ["b", "c"])):
        alone = HyperLogLog(6, "murmur3")
        alone.update_many(pa.array(rows))
        assert groups[key].to_bytes() == alone.to_bytes()


@pytest.mark.parametrize("hash_name", ["xxh64", "murmur3"])
@pytest.mark.parametrize(("fine", "coarse"), [(18, 4), (12, 11), (12, 12), (9, 4)])
def test_reduced_it_is_what_it_would_have_been(hash_name: str, fine: int, coarse: int) -> None:
    for size in (0, 3, 20_000):
        one, other = HyperLogLog(fine, hash_name), HyperLogLog(coarse, hash_name)
        one.update_many(np.arange(size))
        other.update_many(np.arange(size))
        assert one.reduced(coarse).to_bytes() == other.to_bytes()


def test_reduced_keeps_the_highest_ranks() -> None:
    found = np.arange(1 << 10, dtype=np.uint64) << np.uint64(54) | np.uint64(3)  # rests of nearly only zeros
    one, other = HyperLogLog(10), HyperLogLog(5)
    one.update_hashes(found)
    other.update_hashes(found)
    assert one.reduced(5).to_bytes() == other.to_bytes()


# Estimates -------------------------------------------------------------------------------------------------------------


def likelihood(registers: NDArray[np.uint8], precision: int, rate: float) -> float:
    """Return the logarithm of how likely the registers are, register by register."""
    last = 64 - precision
    total = 0.0
    for rank in registers.tolist():
        share = 2.0 ** -min(rank, last)
        total += -rate if rank == 0 else math.log(-math.expm1(-rate * share)) - (rate * share if rank <= last else 0.0)
    return total


@pytest.mark.parametrize("size", [1, 5, 30, 100, 1000, 100_000])
def test_the_estimate_is_where_the_likelihood_is_highest(size: int) -> None:
    sketch = HyperLogLog(5)
    sketch.update_many(np.arange(size))
    rate, variance = most_likely(*sketch._events())
    best = likelihood(sketch.state, 5, rate)
    for factor in (0.5, 0.9, 0.999, 1.001, 1.1, 2.0):
        assert likelihood(sketch.state, 5, rate * factor) < best
    step = 1e-3  # the curvature on a logarithmic scale is the information
    around = likelihood(sketch.state, 5, rate * math.exp(step)) + likelihood(sketch.state, 5, rate * math.exp(-step)) - 2 * best
    assert variance == pytest.approx(-step * step / around, rel=1e-3)


def test_a_high_saturated_register_counts_as_one_that_ended() -> None:
    sketch = HyperLogLog(4)
    sketch.update_hashes(np.arange(16, dtype=np.uint64) << np.uint64(60) | np.uint64(1))
    rate, _ = most_likely(*sketch._events())
    assert likelihood(sketch.state, 4, rate) > max(likelihood(sketch.state, 4, rate * factor) for factor in (0.99, 1.01))
    full = HyperLogLog(4)
    full.update_hashes(np.arange(16, dtype=np.uint64) << np.uint64(60))
    assert full.estimate() == full.upper_bound() == math.inf
    assert full.lower_bound() == 16.0


def test_nothing_is_nothing() -> None:
    sketch = HyperLogLog(12)
    assert (sketch.estimate(), sketch.lower_bound(), sketch.upper_bound()) == (0.0, 0.0, 0.0)
    assert sketch.jaccard(sketch) == sketch.union_estimate(sketch) == sketch.intersection_estimate(sketch) == Interval(0.0, 0.0, 0.0)


@pytest.mark.parametrize("size", [1, 2, 5, 10, 20])
def test_few_values_are_counted_exactly(size: int) -> None:
    sketch = HyperLogLog(14)
    sketch.update_many(np.arange(size))
    assert round(sketch.estimate()) == size
    assert sketch.lower_bound() <= size <= sketch.upper_bound() < size + 3


def test_bounds_are_wider_the_surer_they_are() -> None:
    sketch = HyperLogLog(10)
    sketch.update_many(np.arange(50_000))
    narrow, wide = [(sketch.lower_bound(confidence), sketch.upper_bound(confidence)) for confidence in (0.5, 0.999)]
    assert wide[0] < narrow[0] < sketch.estimate() < narrow[1] < wide[1]
    for confidence, z in ((0.95, 1.959964), (0.999, 3.290527)):
        expected = math.exp(z * 1.037 / 32)
        assert sketch.upper_bound(confidence) / sketch.estimate() == pytest.approx(expected, rel=0.02)
        assert sketch.estimate() / sketch.lower_bound(confidence) == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("sizes", [(0, 10_000, 0), (20_000, 30_000, 10_000), (5000, 5000, 5000), (10, 100_000, 10), (7, 3, 0)])
def test_sets_are_compared_within_their_bounds(sizes: tuple[int, int, int]) -> None:
    ours, theirs, common = sizes
    one, other = HyperLogLog(14), HyperLogLog(14)
    one.update_many(np.arange(ours))
    other.update_many(np.arange(ours - common, ours - common + theirs))
    before = one.to_bytes(), other.to_bytes()
    union = ours + theirs - common
    for found, exact in (
        (one.union_estimate(other, 0.999), union),
        (one.intersection_estimate(other, 0.999), common),
        (one.jaccard(other, 0.999), common / union),
    ):
        assert found.lower <= exact <= found.upper  # fixed values: a fixed outcome
        assert found.lower <= found.estimate <= found.upper
    error = 4 * 1.037 / 128 * union
    assert abs(one.intersection_estimate(other).estimate - common) < error + 1
    assert (one.to_bytes(), other.to_bytes()) == before


def test_a_small_intersection_cannot_be_told_from_none() -> None:
    one, other = HyperLogLog(10), HyperLogLog(10)
    one.update_many(np.arange(100_000))
    other.update_many(np.arange(99_000, 200_000))
    found = one.intersection_estimate(other)
    assert found.lower == 0.0
    assert found.upper > 5000


# Parameters ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "confidence", "precision"), [(0.02, 0.95, 14), (0.0325, 0.6827, 10), (0.5, 0.95, 5), (0.9, 0.5, 4), (0.004, 0.95, 18)]
)
def test_the_precision_follows_from_the_error(error: float, confidence: float, precision: int) -> None:
    assert HyperLogLog.from_error(relative_error=error, confidence=confidence, hash="murmur3").parameters == {
        "precision": precision,
        "hash": "murmur3",
    }


@pytest.mark.parametrize("precision", [3, 19, 12.0, "12", True, None])
def test_other_precisions_are_refused(precision: Any) -> None:
    with pytest.raises(SketchError, match=f"cannot use parameter 'precision': expected an integer from 4 to 18, got {precision!r}; .+"):
        HyperLogLog(precision)


def test_other_parameters_are_refused() -> None:
    with pytest.raises(SketchError, match=r"cannot use parameter 'hash': expected 'xxh64' or 'murmur3', got 'md5'; .+"):
        HyperLogLog(12, "md5")
    for error in (0.001, 1.0, math.nan, -1):
        with pytest.raises(SketchError, match=r"cannot use parameter 'relative_error': expected a number from 0\.00397 .+, got .+; .+"):
            HyperLogLog.from_error(relative_error=error)
    for confidence in (0.0, 1.0, math.nan, 95):
        for use in (HyperLogLog().lower_bound, HyperLogLog().upper_bound, lambda c: HyperLogLog().jaccard(HyperLogLog(), c)):
            with pytest.raises(SketchError, match=f"'confidence': expected a number between 0 and 1, got {confidence}"):
                use(confidence)
    with pytest.raises(SketchError, match="cannot use parameter 'precision': expected an integer from 4 to 8, that of the sketch, got 9"):
        HyperLogLog(8).reduced(9)


def test_hashes_of_another_kind_are_refused() -> None:
    sketch = HyperLogLog(8, "murmur3")
    with pytest.raises(SketchError, match="cannot update sketch 'hyperloglog': expected hash 'xxh64', got 'murmur3'; hashes of two kinds"):
        sketch.update_hashes(np.arange(3))
    with pytest.raises(SketchError, match=r"cannot merge sketch 'hyperloglog': expected hash 'murmur3', got 'xxh64'; .+"):
        sketch.intersection_estimate(HyperLogLog(8))
    assert sketch.is_empty


# Bytes -----------------------------------------------------------------------------------------------------------------


def test_the_shorter_form_is_stored() -> None:
    sketch, sizes = HyperLogLog(10), []
    for number in range(2000):
        sketch.update(number)
        sizes.append(sketch.serialized_size_bytes)
        used = np.count_nonzero(sketch.state)
        assert sizes[-1] == 16 + 2 + 1 + min(4 * used, 1024)
    assert sizes[0] < 30 < sizes[-1] == 16 + 2 + 1 + 1024


def damaged(parameters: bytes, payload: bytes) -> bytes:
    return seal("hyperloglog", 1, parameters, payload)


@pytest.mark.parametrize(
    ("parameters", "payload", "expected"),
    [
        (b"\4", b"\1", "2 bytes of parameters, got 1"),
        (b"\3\0", b"\1", "precision 4 to 18 and hash 0 or 1, got 3 and 0"),
        (b"\xff\0", b"\1", "precision 4 to 18 and hash 0 or 1, got 255 and 0"),
        (b"\4\2", b"\1", "precision 4 to 18 and hash 0 or 1, got 4 and 2"),
        (b"\4\0", b"", "form 0 or 1, got b''"),
        (b"\4\0", b"\2", r"form 0 or 1, got b'\\x02'"),
        (b"\4\0", b"\0" + b"\1" * 15, "16 registers, got 15 bytes"),
        (b"\4\0", b"\0" + b"\1" * 3 + b"\0" * 13, "the shorter form"),
        (b"\4\0", b"\0" + b"\1" * 15 + b"\x3e", "registers of precision 4, got 62"),
        (b"\4\0", b"\1" + b"\1" * 16, "fewer than 16 bytes of entries, got 16"),
        (b"\4\0", b"\1" + b"\1" * 3, "fewer than 16 bytes of entries, got 3"),
        (b"\4\0", b"\1" + b"\1\x10\0\0", "rising places below 16 with registers above 0"),
        (b"\4\0", b"\1" + b"\0\1\0\0", "rising places below 16 with registers above 0"),
        (b"\4\0", b"\1" + b"\1\2\0\0\1\1\0\0", "rising places below 16 with registers above 0"),
        (b"\4\0", b"\1" + b"\1\2\0\0\2\2\0\0", "rising places below 16 with registers above 0"),
        (b"\4\0", b"\1" + b"\x3e\2\0\0", "registers of precision 4, got 62"),
    ],
)
def test_wrong_content_is_refused(parameters: bytes, payload: bytes, expected: str) -> None:
    with pytest.raises(SketchBytesError, match=f"cannot read bytes of sketch 'hyperloglog': expected {expected}"):
        HyperLogLog.from_bytes(damaged(parameters, payload))


GOLDENS = {
    "hyperloglog_v1": (lambda: fed(HyperLogLog(8), 5000), 5078),
    "hyperloglog_sparse_v1": (lambda: fed(HyperLogLog(12), 20), 20),
    "hyperloglog_murmur3_v1": (lambda: fed(HyperLogLog(8, "murmur3"), 5000), 5147),
}


def fed(sketch: HyperLogLog, size: int) -> HyperLogLog:
    sketch.update_many(np.arange(size) * 3 - 1000)
    return sketch


@pytest.mark.parametrize("name", GOLDENS)
def test_stored_sketches_are_read_for_ever(name: str) -> None:
    make, estimate = GOLDENS[name]
    data = (GOLDEN / f"{name}.bin").read_bytes()
    assert make().to_bytes() == data
    read = HyperLogLog.from_bytes(data)
    assert read.to_bytes() == data
    assert round(read.estimate()) == estimate
