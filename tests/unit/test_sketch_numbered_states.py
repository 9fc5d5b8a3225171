"""Sketches by number whose content is one array: each is, byte for byte, what it would be alone; with kernels compiled and plain."""

from __future__ import annotations

import random
import sys
from typing import Any

import google_crc32c
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sketches import (
    BloomFilter,
    ClassicBloomFilter,
    CountMinSketch,
    Grouped,
    HyperLogLog,
    MisraGries,
    UltraLogLog,
    numbered_registers,
    numbered_states,
    numbered_tables,
    stored,
)
from sketches.columns import hashes
from sketches.envelope import CHECKSUM
from sketches.errors import SketchBytesError, SketchError
from sketches.jit import HAS_NUMBA
from sketches.numbered import Numbered, numbered
from tests.sketch_fuzz import damaged

TEMPLATES: dict[str, Any] = {
    "hyperloglog": HyperLogLog(7),
    "hyperloglog with another hash": HyperLogLog(6, hash="murmur3"),
    "ultraloglog": UltraLogLog(6),
    "bits in blocks": BloomFilter(9),
    "bits": ClassicBloomFilter(64 * 70, 3),
    "counts": CountMinSketch(depth=3, width=29),
}
HOMES = (numbered_registers, numbered_tables, numbered_states, stored)
STORAGES = {  # bytes of states that may all be rows, bytes of the log
    "rows": (1 << 40, 1 << 20),
    "a log, and sparse": (0, 1 << 20),
    "rows at once, and sparse": (2000, 1 << 20),
    "a short log": (0, 1000),
}


@pytest.fixture(params=["compiled", "plain"])
def kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run with kernels compiled, or with their equals in NumPy."""
    if request.param == "plain":
        for home in HOMES:
            use_plain(monkeypatch, home)
    return str(request.param)


def use_plain(monkeypatch: pytest.MonkeyPatch, home: Any) -> None:
    names = [name for name in vars(home) if name.startswith("_") and hasattr(getattr(home, name), "py_func")]
    assert names or not HAS_NUMBA
    for name in names:
        kernel = getattr(home, name)
        module = kernel.py_func.__module__
        plain = module.replace("tables_stored_kernel", "tables_plain").replace("_kernel", "_plain")
        monkeypatch.setattr(home, name, getattr(__import__(plain, fromlist=["_"]), kernel.py_func.__name__))


def store(monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """Let sketches begin as rows or sparse, and values go to rows at once or by a log."""
    small, log = STORAGES[how]
    monkeypatch.setattr(numbered_states, "SMALL_BYTES", small)
    monkeypatch.setattr(numbered_states, "LOG_BYTES", log)


@pytest.fixture(params=STORAGES)
def storage(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    store(monkeypatch, request.param)
    return str(request.param)


def skewed(seed: int, size: int, most: int) -> NDArray[np.int64]:
    """Return numbers of which the first ones are frequent: some sketches become dense."""
    return np.minimum(np.random.default_rng(seed).zipf(1.4, size), most).astype(np.int64) - 1


def alone(template: Any, count: int) -> list[Any]:
    return [template.copy() for _ in range(count)]


def blobs(sketches: list[Any]) -> list[bytes]:
    return [sketch.to_bytes() for sketch in sketches]


def filled(template: Any, seed: int, values: int) -> Any:
    found = template.copy()
    found.update_many(np.random.default_rng(seed).integers(0, 1 << 40, values))
    return found


@pytest.mark.usefixtures("kernels", "storage")
@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
def test_each_is_what_it_would_be_alone(template: Any) -> None:
    groups, wanted = numbered(template.copy(), 5), alone(template, 5)
    for step, count in enumerate((5, 40, 40, 90)):  # sketches come later
        groups.grow(count)
        wanted += alone(template, count - len(wanted))
        numbers, values = skewed(step, 3000, count), skewed(step + 50, 3000, 1 << 30) * 977
        groups.update(numbers, values)
        for number in np.unique(numbers).tolist():
            wanted[number].update_many(values[numbers == number])
        if step % 2:  # asked in between, and not
            assert groups.to_stored().to_pylist() == blobs(wanted)
    assert groups.to_stored().to_pylist() == blobs(wanted)
    assert groups.to_stored(3, 17).to_pylist() == blobs(wanted[3:17])
    assert groups.to_stored(80).to_pylist() == blobs(wanted[80:])
    assert groups.to_stored(90).to_pylist() == groups.to_stored(4, 4).to_pylist() == []
    assert [groups.at(number).to_bytes() for number in (0, 20, 89)] == [wanted[number].to_bytes() for number in (0, 20, 89)]
    assert len(groups) == 90
    assert groups.template.is_empty


@pytest.mark.usefixtures("kernels", "storage")
@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
def test_stored_ones_of_all_forms_are_merged_into_all_forms(template: Any) -> None:
    sizes = (0, 1, 5, 12, 30, 90, 3000)
    stock = [filled(template, seed, size) for seed, size in enumerate(sizes)]
    groups, wanted = numbered(template.copy(), len(sizes) ** 2 + 1), alone(template, len(sizes) ** 2 + 1)
    for turn in range(3):
        rows = [(len(sizes) * i + j, stock[(i, j, (i + j) % len(sizes))[turn]]) for i in range(len(sizes)) for j in range(len(sizes))]
        column = pa.array([None, *blobs([sketch for _, sketch in rows])], pa.binary())[turn % 2 :]  # with an offset too
        numbers = np.array([0, *(number for number, _ in rows)], np.int64)[turn % 2 :]
        assert not groups.merge_stored(numbers, column)
        for number, sketch in rows:
            wanted[number].merge(sketch)
        if turn == 1:
            groups.update(numbers, numbers)
            for number in numbers.tolist():
                wanted[number].update_many(np.array([number]))
    assert groups.to_stored().to_pylist() == blobs(wanted)


@pytest.mark.usefixtures("kernels", "storage")
@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
def test_kernels_write_only_where_there_is_room(template: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not fit goes the slow way, whatever room was made."""
    monkeypatch.setattr(numbered_states.States, "_payload_room", lambda *_: None)
    stock = [filled(template, seed, size) for seed, size in enumerate((0, 5, 3000, 7, 2000))]
    groups = numbered(template.copy(), 5)
    assert not groups.merge_stored(np.arange(5), pa.array(blobs(stock)))
    assert not groups.merge_stored(np.arange(5), pa.array(blobs([template] * 5)))
    assert groups.to_stored().to_pylist() == blobs(stock)


@pytest.mark.usefixtures("storage")
@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
def test_many_go_into_one(template: Any) -> None:
    groups, wanted = numbered(template.copy(), 3), template.copy()
    stock = [filled(template, seed, seed % 40) for seed in range(300)]
    for start in range(0, 300, 60):
        assert not groups.merge_stored(np.ones(60, np.int64), pa.array(blobs(stock[start : start + 60]), pa.large_binary()))
    for sketch in stock:
        wanted.merge(sketch)
    assert groups.to_stored().to_pylist() == blobs([template, wanted, template])


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
def test_damaged_ones_are_named_and_left_out(template: Any, storage: str, kernels: str) -> None:
    dice = random.Random(f"{storage} {kernels}")  # noqa: S311 (no secret)
    count = 20
    groups, wanted = numbered(template.copy(), count), alone(template, count)
    own = blobs([filled(template, some, size) for some, size in enumerate((0, 3, 20, 2000))])
    for _ in range(4):
        column: list[bytes | None] = [damaged(dice, template.KIND) for _ in range(150)]
        for place in range(0, len(column), 3):
            column[place] = mutated(dice, dice.choice(own))
        column[7] = None
        column[9] = b""
        numbers = np.array([dice.randrange(count) for _ in column], np.int64)
        wrong = groups.merge_stored(numbers, pa.array(column, pa.binary()))
        expected = {}
        for row, data in enumerate(column):
            if data is not None:
                try:
                    wanted[numbers[row]].merge(type(template).from_bytes(data))
                except (SketchError, SketchBytesError) as error:
                    expected[row] = error
        assert {row: (type(error), str(error)) for row, error in wrong.items()} == {
            row: (type(error), str(error)) for row, error in expected.items()
        }
    assert groups.to_stored().to_pylist() == blobs(wanted)


def mutated(dice: random.Random, data: bytes) -> bytes:
    """Return bytes that are valid, or have some wrong bytes and most often a right checksum."""
    body = bytearray(data[: -CHECKSUM.size])
    for _ in range(dice.choice((0, 0, 1, 1, 1, 3))):
        body[dice.randrange(len(body))] = dice.choice((0, 1, 255, dice.randrange(256)))
    return bytes(body) + (CHECKSUM.pack(google_crc32c.value(bytes(body))) if dice.random() < 0.9 else data[-CHECKSUM.size :])


@pytest.mark.usefixtures("kernels", "storage")
@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
def test_nulls_and_nothing_at_all(template: Any) -> None:
    groups = numbered(template.copy(), 2)
    groups.update(np.array([0, 1, 0]), pa.array([None, "a", None], pa.string()))
    groups.update(np.empty(0, np.int64), np.empty(0, np.int64))
    assert groups.merge_stored(np.empty(0, np.int64), pa.array([], pa.binary())) == {}
    assert groups.merge_stored(np.array([0]), pa.array([None], pa.binary())) == {}
    one = template.copy()
    one.update("a")
    assert groups.to_stored().to_pylist() == blobs([template, one])


def test_empty_texts_are_no_values_for_datasketches() -> None:
    groups = numbered(HyperLogLog(6, hash="murmur3"), 3)
    groups.update(np.array([0, 1, 2, 1]), pa.array(["a", "", None, "b"]))
    assert [round(groups.at(number).estimate()) for number in range(3)] == [1, 1, 0]


def test_hashes_are_as_good_as_values() -> None:
    numbers, values = skewed(1, 1000, 30), skewed(2, 1000, 1 << 20)
    one, other = numbered(HyperLogLog(7), 30), numbered(HyperLogLog(7), 30)
    one.update(numbers, values)
    other.update_hashes(numbers, hashes(values).view(np.int64))
    assert one.to_stored().equals(other.to_stored())
    with pytest.raises(SketchError, match="cannot update sketch 'hyperloglog': expected hash 'xxh64', got 'murmur3'"):
        numbered(HyperLogLog(7, hash="murmur3"), 30).update_hashes(numbers, hashes(values))
    with pytest.raises(SketchError, match="cannot use argument 'hashes'"):
        one.update_hashes(numbers, numbers.astype(np.float64))


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
def test_numbers_out_of_range_are_refused_and_nothing_is_taken(template: Any) -> None:
    groups = numbered(template.copy(), 3)
    for numbers in (np.array([0, 3]), np.array([-1, 0])):
        with pytest.raises(SketchError, match=r"cannot use argument 'numbers': expected 0 to 2, got .+; call grow first"):
            groups.update(numbers, np.array([1, 2]))
        with pytest.raises(SketchError, match=r"cannot use argument 'numbers': expected 0 to 2"):
            groups.merge_stored(numbers, pa.array(blobs([filled(template, 1, 9)] * 2)))
    with pytest.raises(SketchError, match=r"cannot use argument 'numbers': expected 2 int64, got int32 of shape \(2,\)"):
        groups.update(np.array([0, 1], np.int32), np.array([1, 2]))
    with pytest.raises(SketchError, match="cannot merge argument 'stored': expected an Arrow array of binary, got string; cast it"):
        groups.merge_stored(np.array([0, 1]), pa.array(["a", "b"]))
    with pytest.raises(IndexError):
        groups.at(3)
    assert groups.to_stored().to_pylist() == blobs([template] * 3)


@pytest.mark.parametrize("template", [HyperLogLog(7), MisraGries(4)], ids=["state", "objects"])
def test_without_arrow_stored_ones_are_a_list(template: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    groups, keyed = numbered(template.copy(), 2), Grouped(template.copy())
    groups.update(np.array([0, 1, 0]), np.array([5, 6, 7]))
    keyed.update_grouped(np.array([0, 1, 0]), np.array([5, 6, 7]))
    stored_ones = groups.to_stored()
    assert isinstance(stored_ones, list)
    assert groups.merge_stored(np.array([1, 0, 0]), [*stored_ones, None]) == {}
    keyed.merge(keyed)
    assert groups.at(0).to_bytes() == groups.to_stored()[0] == groups.to_stored()[1] != keyed.to_bytes()[1]
    assert keyed[0].to_bytes() == keyed.to_bytes()[0]


@st.composite
def walks(draw: st.DrawFn) -> list[tuple[str, int, int, int]]:
    """Draw what is done: how, with which numbers, how much, and a seed."""
    step = st.tuples(st.sampled_from(["update", "merge", "grow", "ask"]), st.integers(0, 11), st.integers(0, 400), st.integers(0, 99))
    return draw(st.lists(step, max_size=12))


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
@settings(max_examples=15, deadline=None)
@given(walk=walks())
def test_any_walk(template: Any, storage: str, walk: list[tuple[str, int, int, int]]) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        store(monkeypatch, storage)
        groups: Numbered[Any] = numbered(template.copy(), 12)
        wanted = alone(template, 12)
        for how, number, size, seed in walk:
            if how == "grow":
                groups.grow(len(wanted) + number)
                wanted += alone(template, number)
            elif how == "ask":
                assert groups.at(number).to_bytes() == wanted[number].to_bytes()
            elif how == "merge":
                stock = [filled(template, seed, size), filled(template, seed + 1, size // 30)]
                assert not groups.merge_stored(np.array([number, 11 - number]), pa.array(blobs(stock)))
                wanted[number].merge(stock[0])
                wanted[11 - number].merge(stock[1])
            else:
                rng = np.random.default_rng(seed)
                numbers, values = rng.integers(0, number + 1, size), rng.integers(0, 300, size)
                groups.update(numbers, values)
                for one in range(number + 1):
                    wanted[one].update_many(values[numbers == one])
        assert groups.to_stored().to_pylist() == blobs(wanted)
