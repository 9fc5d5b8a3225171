"""Hot lists: both bounds hold against the exact counts, whatever the order, the weights, the cuts and the merges; both paths are one."""

from __future__ import annotations

import struct
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sketches import hot_list, hot_list_kernel, hot_list_plain
from sketches.columns import hashes
from sketches.envelope import open_envelope, seal
from sketches.errors import SketchBytesError, SketchError, SketchTypeError
from sketches.grouped import Grouped
from sketches.hot_list import Hot, HotList
from sketches.jit import HAS_NUMBA
from sketches.misra_gries import MisraGries
from sketches.space_saving import SpaceSaving
from tests.sketch_laws import SketchLaws

CLASSES: list[type[HotList]] = [MisraGries, SpaceSaving]
GOLDEN = Path(__file__).parent.parent / "golden" / "sketches"
COMPILED = pytest.mark.skipif(not HAS_NUMBA, reason="there is nothing to compare NumPy with")


def assert_bounds(sketch: HotList, truth: Counter[Any], others: tuple[Any, ...] = ()) -> None:
    """Compare with the exact counts, of what is in the table and of what is not."""
    total = sum(truth.values())
    capacity = int(sketch.parameters["capacity"])
    share = capacity + 1 if isinstance(sketch, MisraGries) else capacity
    assert sketch.total == total
    assert 0 <= sketch.error() * share <= total
    for value in (*truth, *others):
        lower, upper = sketch.lower_bound(value), sketch.upper_bound(value)
        assert 0 <= lower <= truth[value] <= upper
        assert upper - lower == sketch.error()
        assert sketch.estimate(value) == (lower if isinstance(sketch, MisraGries) else upper)
    kept = sketch.top(10**9)
    assert len(kept) <= capacity
    assert {hot.item for hot in kept} >= {value for value, count in truth.items() if count > sketch.error()}


def assert_bounds_fast(sketch: HotList, values: NDArray[np.int64]) -> None:
    """The same for integers by columns."""
    found, counts = np.unique(values, return_counts=True)
    capacity = int(sketch.parameters["capacity"])
    assert sketch.total == values.size
    assert sketch.error() * (capacity + 1 if isinstance(sketch, MisraGries) else capacity) <= values.size
    lower, upper = sketch.bounds_many(found)
    assert (lower <= counts).all()
    assert (counts <= upper).all()
    assert (upper - lower == sketch.error()).all()


class HotListLaws(SketchLaws):
    """Equal is by guarantee: the bounds of both hold for the values seen. The cut into calls decides when a table is purged."""

    CLASS: type[HotList]

    def make(self) -> HotList:
        return self.CLASS(20)

    def others(self) -> list[HotList]:
        return [self.CLASS(21)]

    def assert_same(self, one: Any, other: Any, values: NDArray[Any]) -> None:
        for sketch in (one, other):
            assert_bounds_fast(sketch, values)


class TestMisraGries(HotListLaws):
    CLASS = MisraGries


class TestSpaceSaving(HotListLaws):
    CLASS = SpaceSaving


@pytest.mark.parametrize("kind", CLASSES)
def test_a_table_with_room_for_all_is_exact(kind: type[HotList]) -> None:
    sketch = kind(100)
    values = np.random.default_rng(1).integers(0, 90, 50_000)
    sketch.update_many(values)
    truth = Counter(values.tolist())
    assert sketch.error() == 0
    top = sketch.top(90)
    assert {hot.item: hot.estimate for hot in top} == dict(truth)
    assert [hot.lower for hot in top] == sorted(truth.values(), reverse=True)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(CLASSES),
    st.integers(2, 8),
    st.lists(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 5)), max_size=30), max_size=12),
    st.lists(st.integers(0, 2), min_size=12, max_size=12),
)
def test_bounds_hold_for_weighted_calls_and_merges(
    kind: type[HotList], capacity: int, calls: list[list[tuple[int, int]]], homes: list[int]
) -> None:
    parts = [kind(capacity) for _ in range(3)]
    truth: Counter[int] = Counter()
    for call, home in zip(calls, homes, strict=False):
        items, weights = [item for item, _ in call], [weight for _, weight in call]
        parts[home].update_many(np.array(items, np.int64), np.array(weights, np.int64))
        for item, weight in call:
            truth[item] += weight
    assert_bounds(kind.merged(parts), truth, others=(99,))


@pytest.mark.parametrize("kind", CLASSES)
def test_one_by_one_the_bounds_hold_too(kind: type[HotList]) -> None:
    sketch, truth = kind(5), Counter[str]()
    for value in np.random.default_rng(2).zipf(1.5, 500).tolist():
        text = f"word {value % 40}"
        sketch.update(text)
        truth[text] += 1
    sketch.update(None)
    sketch.update("word 1", 1000)
    sketch.update("word 2", 0)
    truth["word 1"] += 1000
    assert_bounds(sketch, truth)
    assert sketch.top(1)[0].item == "word 1"


@pytest.mark.parametrize("kind", CLASSES)
def test_after_a_hundred_merges_the_bound_is_that_of_one_pass(kind: type[HotList]) -> None:
    dice = np.random.default_rng(3)
    parts = [dice.zipf(1.2, int(size)) % 5000 for size in dice.integers(1, 3000, 101)]
    whole = kind(50)
    for part in parts:
        sketch = kind(50)
        sketch.update_many(part)
        whole.merge(sketch)
    assert_bounds_fast(whole, np.concatenate(parts))


@pytest.mark.parametrize("kind", CLASSES)
def test_items_are_guaranteed_or_possible_and_none_is_missed(kind: type[HotList]) -> None:
    values = np.random.default_rng(4).zipf(1.2, 100_000) % 10_000
    sketch = kind(200)
    sketch.update_many(values)
    truth = Counter(values.tolist())
    for threshold in (sketch.error() + 1, 500, 2000, 10**6):
        guaranteed, possible = sketch.items(threshold)
        frequent = {value for value, count in truth.items() if count >= threshold}
        sure, maybe = {hot.item for hot in guaranteed}, {hot.item for hot in possible}
        assert sure <= frequent <= sure | maybe
        assert not sure & maybe
    assert sketch.items(sketch.error() + 1)[1], "a threshold near the error leaves some in doubt"
    with pytest.raises(SketchError, match=f"cannot use parameter 'threshold': expected a number above {sketch.error()}, the error, got 1"):
        sketch.items(1)


def test_a_large_capacity_costs_what_is_used_of_it() -> None:
    sketch = MisraGries(1 << 24)
    tracemalloc.start()
    sketch.update_many(np.arange(1000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20
    assert len(sketch.to_bytes()) < 1 << 15


def test_top_is_in_order_and_as_long_as_asked() -> None:
    sketch = MisraGries(50)
    sketch.update_many(np.repeat(np.arange(20), np.arange(20)))
    assert [hot.item for hot in sketch.top(3)] == [19, 18, 17]
    assert sketch.top(0) == sketch.top(-1) == []
    assert len(sketch.top(100)) == 19, "item 0 came never"


# Both paths ---------------------------------------------------------------------------------------------------------------


def on_path(module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("add", "index", "purge"):
        monkeypatch.setattr(hot_list, f"_{name}", getattr(module, name))


@COMPILED
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("capacity", [1, 20, 768, 20_000])
def test_numpy_alone_gives_the_same_bytes(capacity: int, weighted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    dice = np.random.default_rng(5)
    values = np.concatenate([dice.zipf(1.1, 60_000) % 100_000, dice.integers(0, 1 << 62, 5000)])
    weights = dice.integers(0, 1 << 40, values.size) if weighted else None
    found = []
    for module in (hot_list_kernel, hot_list_plain):
        on_path(module, monkeypatch)
        sketch = MisraGries(capacity)
        sketch.update_many(values, weights)
        sketch.update_many(values[:100], None if weights is None else weights[:100])
        sketch.merge(sketch.copy())
        found.append(sketch.to_bytes())
    assert found[0] == found[1]


@pytest.mark.parametrize("top", [3, 300, 1 << 20, 1 << 62])
def test_the_nth_greatest_count_is_that_of_sorting(top: int) -> None:
    dice = np.random.default_rng(6)
    counts = dice.integers(1, top, 1000)
    for nth in (1, 2, 500, 1000):
        assert hot_list_kernel.nth_greatest(counts, nth) == np.sort(counts)[-nth]


# Types --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", CLASSES)
def test_strings_are_counted_from_arrow_without_nulls(kind: type[HotList]) -> None:
    words = [f"wörd-{number}" for number in np.random.default_rng(7).zipf(1.4, 30_000) % 3000]
    array = pa.array([word if place % 7 else None for place, word in enumerate(words)])
    sketch = kind(64)
    sketch.update_many(array, np.ones(len(array), np.int64))
    assert_bounds(sketch, Counter(word for place, word in enumerate(words) if place % 7))
    again = kind.from_bytes(sketch.to_bytes())
    assert again.top(5) == sketch.top(5)
    assert (sketch.estimate_many(array[:50]) == again.estimate_many(array[:50])).all()


def test_groups_have_their_own_list() -> None:
    groups = Grouped(MisraGries(10))
    groups.update_grouped(np.array(["a", "b", "a"]), np.array([1, 2, 1]), np.array([2, 1, 3]))
    assert groups["a"].top(1) == [Hot(1, 5, 5, 5)]


def test_another_type_is_refused_and_nothing_is_taken() -> None:
    sketch, other = MisraGries(5), MisraGries(5)
    sketch.update_many(np.array([1, 2]))
    other.update_many(np.array([1.0]))
    before = sketch.to_bytes()
    with pytest.raises(SketchTypeError, match="cannot update sketch 'misra_gries': expected values of type 'long', got 'double'"):
        sketch.update_many(np.array([1.0]))
    with pytest.raises(SketchTypeError, match="cannot merge sketch 'misra_gries': expected values of type 'long', got 'double'"):
        sketch.merge(other)
    with pytest.raises(SketchTypeError, match="cannot ask sketch 'misra_gries': expected values of type 'long', got 'string'"):
        sketch.estimate("1")
    assert sketch.to_bytes() == before


@pytest.mark.parametrize(
    ("weights", "text"),
    [
        ([1, -1], r"expected 2 whole numbers from 0 to 2\^63 - 1 .as floats: to 2\^53., got -1 at 1"),
        ([1.0, np.nan], "got nan at 1"),
        ([np.inf, 1.0], "got inf at 0"),
        ([1.5, 1.0], "got 1.5 at 0"),
        (np.array([1, 2**64 - 1], np.uint64), "got 18446744073709551615 at 1"),
        ([1, 2, 3], r"got int64 of shape \(3,\)"),
        (["1", "2"], r"got <U1 of shape \(2,\)"),
        ([2**63 - 1, 1], r"cannot use parameter 'weights': expected a total up to 9,223,372,036,854,775,807, got 9223372036854775808"),
    ],
)
def test_wrong_weights_are_refused_and_nothing_is_taken(weights: Any, text: str) -> None:
    sketch = SpaceSaving(5)
    with pytest.raises(SketchError, match=text):
        sketch.update_many(np.array([1, 2]), np.array(weights))
    assert sketch.is_empty
    assert sketch.to_bytes() == SpaceSaving(5).to_bytes()


def test_weights_that_are_whole_floats_are_fine_and_zero_is_no_value() -> None:
    sketch = SpaceSaving(5)
    sketch.update_many(np.array(["a", "b"]), np.array([0, 0]))
    assert sketch.is_empty
    sketch.update_many(np.array([1, 2, 3]), np.array([2.0, 0.0, 1.0]))
    assert [hot[:2] for hot in sketch.top(5)] == [(1, 2), (3, 1)]
    full = SpaceSaving(5)
    full.update(1, 2**63 - 1)
    with pytest.raises(SketchError, match="expected a total up to"):
        full.merge(sketch)
    with pytest.raises(SketchError, match="expected a total up to"):
        full.update(1)
    assert full.estimate(1) == 2**63 - 1


@pytest.mark.parametrize("kind", CLASSES)
def test_a_capacity_or_an_error_out_of_range_is_refused(kind: type[HotList]) -> None:
    for wrong in (0, -1, (1 << 24) + 1, 1.5, True, "8", None):
        with pytest.raises(SketchError, match=r"cannot use parameter 'capacity': expected an integer from . to 16,777,216, got "):
            kind(wrong)  # type: ignore[arg-type]
    for epsilon in (0.0, 1.0, -1.0, float("nan"), 1e-9):
        with pytest.raises(SketchError, match=f"cannot use parameter 'epsilon': expected a number between 6e-08 and 1, got {epsilon}"):
            kind.from_error(epsilon)


@pytest.mark.parametrize("epsilon", [0.9, 0.5, 0.3, 0.01, 0.001])
def test_a_capacity_from_an_error_is_the_least_that_promises_it(epsilon: float) -> None:
    counters = int(MisraGries.from_error(epsilon).parameters["capacity"])
    assert 1 / (counters + 1) <= epsilon
    assert counters == 1 or 1 / counters > epsilon
    assert int(SpaceSaving.from_error(epsilon).parameters["capacity"]) == counters + 1


# Bytes --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", CLASSES)
def test_the_bytes_are_those_of_the_first_release(kind: type[HotList]) -> None:
    sketch = kind(8)
    steps = np.arange(40_000, dtype=np.int64)
    sketch.update_many(steps * steps % 101 % (steps % 13 + 1), steps % 5)
    data = (GOLDEN / f"{kind.KIND}_v1.bin").read_bytes()
    assert sketch.to_bytes() == data
    assert [hot[:2] for hot in kind.from_bytes(data).top(3)] == GOLDEN_TOP[kind.KIND]


GOLDEN_TOP: dict[str, list[tuple[int, int]]] = {
    "misra_gries": [(0, 17968), (1, 13693), (4, 6011)],
    "space_saving": [(0, 20266), (1, 15991), (4, 8309)],
}


def payload_of(total: int, cut: int, items: list[int], counts: list[int]) -> bytes:
    head = struct.pack("<QQ", total, cut) + struct.pack("<BI", 3 if total else 0, len(items))
    return head + np.array(items, "<i8").tobytes() + np.array(counts, "<i8").tobytes()


def in_order(*items: int) -> list[int]:
    return np.array(items)[np.argsort(hashes(np.array(items)))].tolist()


@pytest.mark.parametrize(
    ("capacity", "payload", "text"),
    [
        (0, payload_of(0, 0, [], []), "expected a capacity from 1 to 16777216, got 0"),
        (2**32 - 1, payload_of(0, 0, [], []), "expected a capacity from 1 to 16777216, got 4294967295"),
        (2, b"short", "expected 4 bytes of parameters, got 4, and 5 of payload"),
        (2, payload_of(6, 0, in_order(1, 2, 3), [2, 2, 2]), "expected up to 2 items and 8 bytes for each, got 3 and 24"),
        (2, payload_of(2, 0, [1], [2]) + b"\0", "got 1 and 9"),
        (2, payload_of(2, 0, [1], [3]), "within the total, got 3 of 2"),
        (2, payload_of(4, 1, [1], [2]), "within the total, got 5 of 4"),
        (2, payload_of(2, 0, [1], [0]), "expected counts from 1"),
        (2, payload_of(2, 0, [1], [-1]), "expected counts from 1"),
        (2, payload_of(2**63, 0, [1], [1]), "within the total"),
        (2, struct.pack("<QQ", 5, 0) + struct.pack("<BI", 0, 0), "within the total"),
        (2, payload_of(4, 0, in_order(1, 2)[::-1], [2, 2]), "expected items in the order of their hashes"),
        (2, payload_of(4, 0, [1, 1], [2, 2]), "expected items in the order of their hashes"),
    ],
)
def test_hostile_bytes_are_refused(capacity: int, payload: bytes, text: str) -> None:
    with pytest.raises(SketchBytesError, match=text):
        MisraGries.from_bytes(seal("misra_gries", 1, struct.pack("<I", capacity), payload))


def test_bytes_do_not_tell_the_order_of_the_table() -> None:
    one, other = MisraGries(5), MisraGries(5)
    one.update_many(np.array([3, 1, 2]))
    other.update_many(np.array([2, 3, 1]))
    assert one.to_bytes() == other.to_bytes()
    assert open_envelope(one.to_bytes(), "misra_gries", version=1).parameters == struct.pack("<I", 5)


@pytest.mark.parametrize("kind", CLASSES)
def test_a_list_whose_purge_left_nothing_is_read_again_and_goes_on(kind: type[HotList]) -> None:
    hot = kind(20)
    hot.update_many(np.arange(3572).astype("U8"))
    assert hot.top(1) == []
    again = kind.from_bytes(hot.to_bytes())
    assert (again.total, again.error()) == (3572, 1)
    again.update_many(np.array(["x"] * 10))
    assert again.lower_bound("x") <= 10 <= again.upper_bound("x")
    with pytest.raises(SketchTypeError):
        again.update_many(np.arange(3))
