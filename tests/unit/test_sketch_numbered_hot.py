"""Hot lists by number against exact counts: both bounds hold for each list, whatever the order, weights, merges and bytes."""

from __future__ import annotations

import random
import struct
from collections import Counter
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sketches import (
    numbered_hot,
    numbered_hot_bytes,
    numbered_hot_bytes_kernel,
    numbered_hot_bytes_plain,
    numbered_hot_kernel,
    numbered_hot_plain,
    numbered_rows,
    numbered_rows_kernel,
    numbered_rows_plain,
)
from sketches.columns import column, hashes
from sketches.envelope import seal
from sketches.errors import EngineError, SketchBytesError, SketchError, SketchTypeError
from sketches.hot_list import MOST, HotList
from sketches.hyperloglog import HyperLogLog
from sketches.jit import HAS_NUMBA
from sketches.misra_gries import MisraGries
from sketches.numbered import Objects, numbered
from sketches.numbered_hot import NumberedHotLists
from sketches.numbered_hot_bytes import words_of_hashes
from sketches.space_saving import SpaceSaving
from tests.sketch_fuzz import damaged

CLASSES: list[type[HotList]] = [MisraGries, SpaceSaving]
COMPILED = pytest.mark.skipif(not HAS_NUMBA, reason="there is nothing to compare NumPy with")


def assert_bounds(sketch: HotList, truth: Counter[Any]) -> None:
    """Compare with exact counts."""
    total, capacity = sum(truth.values()), int(sketch.parameters["capacity"])
    assert sketch.total == total
    assert 0 <= sketch.error() * (capacity + 1 - sketch.SPARE) <= total
    kept = {hot.item: hot for hot in sketch.top(10**9)}
    assert len(kept) <= capacity - sketch.SPARE
    for value, count in truth.items():
        lower, upper = (kept[value].lower, kept[value].upper) if value in kept else (0, sketch.error())
        assert lower <= count <= upper == lower + sketch.error()
    assert all(truth[value] >= hot.lower > 0 for value, hot in kept.items())
    assert kept.keys() >= {value for value, count in truth.items() if count > sketch.error()}
    if len(truth) <= capacity - sketch.SPARE:
        assert sketch.error() == 0, "few items are counted exactly"


def assert_all_bounds(lists: Any, numbers: Any, values: list[Any], weights: Any = None) -> None:
    truth = [Counter[Any]() for _ in range(len(lists))]
    for number, value, weight in zip(numbers.tolist(), values, [1] * len(values) if weights is None else weights.tolist(), strict=True):
        truth[number][value] += weight
    stored = lists.to_stored()
    for number, form in enumerate(stored.to_pylist()):
        assert_bounds(type(lists.template).from_bytes(form), Counter({value: count for value, count in truth[number].items() if count}))


@pytest.fixture
def small_buffer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Count often, and purge often."""
    monkeypatch.setattr(numbered_hot, "FEWEST", 512)
    monkeypatch.setattr(numbered_hot, "MOST_ROWS", 1024)
    monkeypatch.setattr(numbered_hot, "SEGMENT", 64)


def rows_of(lists: int, rows: int, seed: int = 1) -> tuple[Any, Any]:
    dice = np.random.default_rng(seed)
    return dice.integers(0, lists, rows), dice.zipf(1.3, rows).astype(np.int64) % 1000


@pytest.mark.usefixtures("small_buffer")
@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize(("lists", "capacity"), [(1, 20), (7, 2), (300, 16), (3000, 5)])
def test_the_bounds_of_each_list_hold(kind: type[HotList], lists: int, capacity: int) -> None:
    numbers, values = rows_of(lists, 20_000)
    found = numbered(kind(capacity), lists)
    assert isinstance(found, NumberedHotLists)
    for start in range(0, 20_000, 3000):
        found.update(numbers[start : start + 3000], values[start : start + 3000])
    assert_all_bounds(found, numbers, values.tolist())


@pytest.mark.parametrize("kind", CLASSES)
def test_with_a_large_buffer_too(kind: type[HotList]) -> None:
    numbers, values = rows_of(3, 30_000)
    found = numbered(kind(30), 3)
    found.update(numbers, values)
    assert_all_bounds(found, numbers, values.tolist())


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(CLASSES),
    st.integers(2, 6),
    st.lists(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 12), st.integers(0, 5)), max_size=30), max_size=8),
    st.integers(0, 255),
)
def test_bounds_hold_for_weights_and_merges(kind: type[HotList], capacity: int, calls: list[list[tuple[int, int, int]]], bits: int) -> None:
    parts, seen = [numbered(kind(capacity), 3) for _ in range(2)], [np.empty((0, 3), np.int64)]
    for turn, call in enumerate(calls):
        numbers, values, weights = np.array(call, np.int64).reshape(-1, 3).T.copy()
        is_weighted = len(call) % 3 > 0
        parts[bits >> turn & 1].update(numbers, values, weights if is_weighted else None)
        seen.append(np.stack((numbers, values, weights if is_weighted else np.ones_like(weights)), axis=1))
    whole = numbered(kind(capacity), 3)
    for part in parts:
        assert not whole.merge_stored(np.arange(3), part.to_stored())
    numbers, values, weights = np.concatenate(seen).T.copy()
    assert_all_bounds(whole, numbers, values.tolist(), weights)


@pytest.mark.usefixtures("small_buffer")
def test_weights_count_and_zero_is_no_value() -> None:
    numbers, values = rows_of(50, 10_000)
    weights = np.random.default_rng(2).integers(0, 1 << 30, 10_000)
    found = numbered(SpaceSaving(8), 51)
    found.update(numbers[:5000], values[:5000], weights[:5000])
    found.update(numbers[5000:], values[5000:])
    found.update(np.full(3, 50), np.arange(3), np.zeros(3, np.int64))
    weights[5000:] = 1
    assert_all_bounds(found, numbers, values.tolist(), weights)
    assert found.at(50).is_empty


@pytest.mark.usefixtures("small_buffer")
@pytest.mark.parametrize("kind", CLASSES)
def test_strings_and_nulls(kind: type[HotList]) -> None:
    numbers, values = rows_of(40, 12_000)
    words = [f"słowo {'x' * (value % 40)} {value}" if value % 11 else None for value in values.tolist()]
    found = numbered(kind(9), 40)
    for start in range(0, 12_000, 2500):
        found.update(numbers[start : start + 2500], pa.array(words[start : start + 2500]))
    there = np.array([word is not None for word in words])
    assert_all_bounds(found, numbers[there], [word for word in words if word is not None])
    again = numbered(kind(9), 40)
    assert not again.merge_stored(np.arange(40), found.to_stored())
    assert again.to_stored() == found.to_stored()


@pytest.mark.parametrize(
    "values",
    [
        np.array([1, 2, 1], np.int32),
        np.array([1, 2**64 - 1, 1], np.uint64),
        np.array([1.5, np.nan, -0.0], np.float32),
        np.array([1.5, np.nan, -0.0]),
        np.array([True, False, True]),
        np.array(["2026-01-01", "1969-01-01", "2026-01-01"], "M8[D]"),
        np.array([5, -5, 5], "M8[us]"),
        np.array([5, -5, 5], "m8[us]"),
        np.array([b"", b"\0\xff", b""]),
        pa.array(["", "ä" * 300, ""]),
        pa.array([None, "a", None]),
        pa.array([Decimal(1), Decimal(-2), Decimal(1)], pa.decimal128(9, 0)),
    ],
    ids=lambda values: str(getattr(values, "dtype", getattr(values, "type", ""))),
)
def test_all_types_give_what_one_sketch_gives(values: Any) -> None:
    found, one = numbered(MisraGries(5), 2), MisraGries(5)
    found.update(np.ones(3, np.int64), values)
    one.update_many(values)
    assert found.to_stored().to_pylist() == [MisraGries(5).to_bytes(), one.to_bytes()]
    again = numbered(MisraGries(5), 2)
    assert not again.merge_stored(np.array([0, 1, 1]), pa.array([None, one.to_bytes(), one.to_bytes()], pa.binary()))
    one.merge(one.copy())
    assert again.to_stored().to_pylist() == [MisraGries(5).to_bytes(), one.to_bytes()]


def test_what_is_stored_goes_on() -> None:
    numbers, values = rows_of(10, 5000)
    found = numbered(MisraGries(12), 10)
    found.update(numbers, values)
    one = found.at(3)
    one.update_many(np.array([7, 7, 8]))
    truth = Counter(values[numbers == 3].tolist())
    truth.update([7, 7, 8])
    assert_bounds(one, truth)
    assert found.at(3).total == one.total - 3, "a copy"
    found.update(np.array([3, 3, 3]), np.array([7, 7, 8]))
    assert_bounds(found.at(3), truth)
    with pytest.raises(IndexError):
        found.at(10)


def test_growth_and_slices() -> None:
    found = numbered(MisraGries(4))
    assert len(found) == len(found.to_stored()) == 0
    for count in range(1, 6):
        found.grow(count)
        found.update(np.array([count - 1]), np.array([count]))
    found.grow(3)
    assert len(found) == 5
    whole = found.to_stored().to_pylist()
    assert [MisraGries.from_bytes(form).top(1)[0].item for form in whole] == [1, 2, 3, 4, 5]
    assert found.to_stored(1, 3).to_pylist() == whole[1:3]
    assert found.to_stored(-2).to_pylist() == whole[-2:]
    assert found.to_stored(3, 1).to_pylist() == []
    assert str(found.to_stored().type) == "binary"
    found.to_stored().validate(full=True)


def test_what_is_refused_is_refused_before_anything_is_taken() -> None:
    found = numbered(MisraGries(4), 2)
    found.update(np.array([0]), np.array([1]))
    before = found.to_stored()
    with pytest.raises(SketchTypeError, match="cannot update sketch 'misra_gries': expected values of type 'long', got 'double'"):
        found.update(np.array([1]), np.array([1.0]))
    with pytest.raises(SketchError, match="expected 0 to 1, got 0 to 2"):
        found.update(np.array([0, 2]), np.array([1, 1]))
    with pytest.raises(SketchError, match="got -1 at 1"):
        found.update(np.array([0, 1]), np.array([1, 1]), np.array([1, -1]))
    with pytest.raises(SketchError, match=r"expected a total up to 9,223,372,036,854,775,807, got 9223372036854775808"):
        found.update(np.array([1, 1]), np.array([1, 1]), np.array([MOST, 1]))
    with pytest.raises(SketchError, match="expected values, got hashes"):
        found.update_hashes(np.array([0]), np.array([1]))
    with pytest.raises(SketchError, match="cannot use argument 'times'"):
        found.update(np.array([0]), np.array([1]), times=5)
    assert found.to_stored() == before


def test_totals_up_to_the_last_one_are_exact() -> None:
    found = numbered(MisraGries(4), 3)
    found.update(np.array([0, 1, 2]), np.array([1, 2, 3]), np.array([MOST, MOST - 1, 5]))
    full = found.to_stored()
    found.update(np.array([1, 2]), np.array([2, 3]))
    assert [found.at(number).total for number in range(3)] == [MOST, MOST, 6]
    with pytest.raises(SketchError, match="expected a total up to"):
        found.update(np.array([1, 2]), np.array([2, 3]))
    wrong = found.merge_stored(np.array([2, 2, 1]), full)
    assert sorted(wrong) == [0, 1, 2]
    assert all("expected a total up to" in str(error) for error in wrong.values())
    one = MisraGries(4)
    one.update(3, MOST - 6)
    assert not found.merge_stored(np.array([2]), pa.array([one.to_bytes()]))
    assert [found.at(number).total for number in range(3)] == [MOST, MOST, MOST]


# Stored forms -------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("small_buffer")
@pytest.mark.parametrize("kind", CLASSES)
def test_a_hundred_merges_keep_the_bound_of_one_pass(kind: type[HotList]) -> None:
    dice = np.random.default_rng(3)
    numbers, values = rows_of(30, 40_000)
    cuts = np.sort(dice.integers(0, 40_000, 100))
    whole = numbered(kind(12), 30)
    for some, part in zip(np.split(numbers, cuts), np.split(values, cuts), strict=True):
        sketches = numbered(kind(12), 30)
        sketches.update(some, part)
        order = dice.permutation(30)
        assert not whole.merge_stored(order, sketches.to_stored().take(pa.array(order)))
    assert_all_bounds(whole, numbers, values.tolist())


def good_and_bad() -> tuple[list[bytes | None], list[str]]:
    """Return stored forms, and what is wrong with each."""
    good, text, other = MisraGries(4), MisraGries(4), MisraGries(5)
    good.update_many(np.array([1, 2, 1]))
    text.update_many(np.array(["a"]))
    other.update(1)
    data = good.to_bytes()
    order = np.array([1, 2])[np.argsort(hashes(np.array([1, 2])))]
    head = struct.pack("<QQBI", 4, 0, 3, 2)
    swapped = seal("misra_gries", 1, struct.pack("<I", 4), head + order[::-1].astype("<i8").tobytes() + struct.pack("<qq", 2, 2))
    forms: list[tuple[bytes | None, str]] = [
        (data, ""),
        (None, ""),
        (text.to_bytes(), "cannot merge sketch 'misra_gries': expected values of type 'long', got 'string'"),
        (other.to_bytes(), "cannot merge sketch 'misra_gries': expected capacity 4, got 5"),
        (data[:-1] + bytes([data[-1] ^ 1]), "expected checksum"),
        (swapped, "expected items in the order of their hashes"),
        (HyperLogLog(12).to_bytes(), "expected a sketch of kind 'misra_gries', got one of kind 'hyperloglog'"),
        (SpaceSaving(4).to_bytes(), "got one of kind 'space_saving'"),
        (b"", "expected bytes that begin with"),
        (data[:30], "expected "),
        (MisraGries(4).to_bytes(), ""),
        (data, ""),
    ]
    return [form for form, _ in forms], [text for _, text in forms]


@pytest.mark.parametrize("type_of", [pa.binary(), pa.large_binary()], ids=str)
def test_damaged_and_foreign_forms_are_named_and_all_others_are_taken(type_of: Any) -> None:
    forms, texts = good_and_bad()
    found = numbered(MisraGries(4), 1)
    array = pa.array([b"more", *forms], type_of)[1:]
    wrong = found.merge_stored(np.zeros(len(forms), np.int64), array)
    assert {row for row, text in enumerate(texts) if text} == set(wrong)
    for row, error in wrong.items():
        assert texts[row] in str(error)
        assert isinstance(error, EngineError)
    assert [hot[:2] for hot in found.at(0).top(3)] == [(1, 4), (2, 2)]
    in_chunks = numbered(MisraGries(4), 1)
    assert in_chunks.merge_stored(np.zeros(len(forms), np.int64), pa.chunked_array([array[:4], array[4:]])).keys() == wrong.keys()
    assert in_chunks.to_stored() == found.to_stored()


def test_a_column_in_many_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers, values = rows_of(500, 5000)
    found = numbered(MisraGries(4), 500)
    found.update(numbers, values)
    stored = found.to_stored()
    monkeypatch.setattr("sketches.stored.SPAN_BYTES", 300)
    again = numbered(MisraGries(4), 500)
    with_nulls = pa.array([None if row % 7 == 0 else form for row, form in enumerate(stored.to_pylist())])
    assert again.merge_stored(np.arange(500), with_nulls) == {}
    assert [form for row, form in enumerate(again.to_stored().to_pylist()) if row % 7] == [
        form for row, form in enumerate(stored.to_pylist()) if row % 7
    ]
    monkeypatch.setattr("sketches.numbered_hot_bytes.MOST_BYTES", 3000)
    with pytest.raises(SketchError, match=r"cannot store sketches 'misra_gries': expected up to 3,000 bytes at once, got .+ to_stored"):
        found.to_stored()


@pytest.mark.parametrize("kind", CLASSES)
def test_hostile_forms_are_taken_exactly_where_the_class_takes_them(kind: type[HotList]) -> None:
    dice = random.Random(4)  # noqa: S311 (no secret)
    forms = [damaged(dice, kind.KIND) for _ in range(1500)]
    fast, slow = numbered(kind(20), len(forms)), Objects(kind(20))
    slow.grow(len(forms))
    fast.update(np.array([0]), np.array([5]))  # from now on items are of type long
    slow.update(np.array([0]), np.array([5]))
    wrong, really = fast.merge_stored(np.arange(len(forms)), pa.array(forms)), slow.merge_stored(np.arange(len(forms)), pa.array(forms))
    others = {row for row, error in wrong.items() if isinstance(error, SketchTypeError)}
    assert set(wrong) - others == set(really)
    assert {row: str(wrong[row]) for row in really} == {row: str(error) for row, error in really.items()}
    taken = [row for row in range(1, len(forms)) if row not in wrong]
    assert any(isinstance(error, SketchBytesError) for error in wrong.values())
    mine = fast.to_stored().to_pylist()
    assert [mine[row] for row in taken] == [slow.at(row).to_bytes() for row in taken]


# Both paths ---------------------------------------------------------------------------------------------------------------


def on_path(monkeypatch: pytest.MonkeyPatch, *modules: Any) -> None:
    for home, module, names in zip(
        (numbered_rows, numbered_hot, numbered_hot_bytes),
        modules,
        (("arrange", "gather"), ("_absorb",), ("_heads", "_entries", "_pack")),
        strict=True,
    ):
        for name in names:
            monkeypatch.setattr(home, name, getattr(module, name.lstrip("_")))


PATHS = (
    (numbered_rows_kernel, numbered_hot_kernel, numbered_hot_bytes_kernel),
    (numbered_rows_plain, numbered_hot_plain, numbered_hot_bytes_plain),
)


@COMPILED
@pytest.mark.usefixtures("small_buffer")
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("texts", [False, True])
@pytest.mark.parametrize(("lists", "capacity"), [(1, 1), (3, 50), (300, 8)])
def test_numpy_alone_gives_the_same_bytes(lists: int, capacity: int, texts: bool, weighted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers, values = rows_of(lists, 6000)
    column_of = pa.array([f"w{value}" for value in values.tolist()]) if texts else values
    weights = np.random.default_rng(5).integers(0, 1 << 40, 6000) if weighted else None
    found = []
    for modules in PATHS:
        on_path(monkeypatch, *modules)
        sketches = numbered(MisraGries(capacity), lists)
        for start in range(0, 6000, 900):
            some = slice(start, start + 900)
            sketches.update(numbers[some], column_of[some], None if weights is None else weights[some])
        first = sketches.to_stored()
        assert not sketches.merge_stored(np.arange(lists)[::-1].copy(), first)
        found.append((first, sketches.to_stored()))
    assert found[0] == found[1]


@COMPILED
def test_both_paths_look_at_hostile_forms_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    dice = random.Random(6)  # noqa: S311 (no secret)
    forms = pa.array([damaged(dice, "misra_gries") for _ in range(500)])
    found = []
    for modules in PATHS:
        on_path(monkeypatch, *modules)
        sketches = numbered(MisraGries(20), 500)
        wrong = sketches.merge_stored(np.arange(500), forms)
        found.append(({row: str(error) for row, error in wrong.items()}, sketches.to_stored()))
    assert found[0] == found[1]


@pytest.mark.parametrize("kind", [np.int32, np.int64])
def test_a_word_comes_back_from_its_hash(kind: Any) -> None:
    info = np.iinfo(kind)
    values = np.concatenate([np.random.default_rng(7).integers(info.min, info.max, 20_000, kind), [info.min, -1, 0, 1, info.max]]).astype(
        kind
    )
    words = column(values).words.astype(np.uint64)  # type: ignore[union-attr]
    assert (words_of_hashes(hashes(values), np.dtype(kind).itemsize) == words).all()
