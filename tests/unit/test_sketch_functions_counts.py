"""Numbers that columns of stored sketches stand for, and their unions: as the classes answer, row by row, and true of exact counts."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sketches import HyperLogLog, Sketch, UltraLogLog
from sketches import functions as fn
from sketches.errors import SketchBytesError, SketchError
from sketches.functions import registers
from tests.stored_sketches import MAKERS, damaged, fed, skewed, some, stored

EXACT: dict[str, Callable[[Any], float]] = {
    "count_min": lambda sketch: sketch.total,
    "heavy_hitters": lambda sketch: sketch.total,
    "misra_gries": lambda sketch: sketch.total,
    "space_saving": lambda sketch: sketch.total,
    "reservoir": lambda sketch: sketch.count,
    "weighted_reservoir": lambda sketch: sketch.count,
    "stratified_reservoir": lambda sketch: sum(sketch.counts().values()),
    "quantiles": lambda sketch: sketch.count,
}
ESTIMATED = ("bloom", "classic_bloom", "hyperloglog", "ultraloglog")
COUNTERS = [HyperLogLog(4), HyperLogLog(12), HyperLogLog(9, "murmur3"), HyperLogLog(18), UltraLogLog(3), UltraLogLog(11), UltraLogLog(16)]
SIZES = (0, 1, 2, 30, 500, 3000, 20_000, 300_000)


def triple(answers: pa.Array) -> list[Any]:
    return [None if row is None else tuple(row.values()) for row in answers.to_pylist()]


@pytest.mark.parametrize("kind", EXACT)
def test_exact_numbers_are_exact(kind: str) -> None:
    sketches = some(kind)
    wanted = [float(EXACT[kind](sketch)) for sketch in sketches]
    assert wanted == [0, 1, 40, 3000]
    assert fn.estimate(stored(*sketches, None)).to_pylist() == [*wanted, None]
    assert triple(fn.bounds(stored(*sketches, None), 0.5)) == [*((number, number, number) for number in wanted), None]


@pytest.mark.parametrize("kind", ESTIMATED)
@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
def test_estimates_and_bounds_are_those_of_the_class(kind: str, confidence: float) -> None:
    sketches = some(kind)
    wanted = [(sketch.estimate(), sketch.lower_bound(confidence), sketch.upper_bound(confidence)) for sketch in sketches]
    assert triple(fn.bounds(stored(*sketches), confidence)) == wanted
    assert fn.estimate(stored(*sketches)).to_pylist() == [row[0] for row in wanted]


@pytest.mark.parametrize("template", COUNTERS, ids=repr)
def test_registers_by_the_column_give_the_bits_of_the_class(template: Any) -> None:
    sketches = [fed(template.copy(), np.arange(size) * 7919 + size) for size in SIZES]
    wanted = [(sketch.estimate(), sketch.lower_bound(0.9), sketch.upper_bound(0.9)) for sketch in sketches]
    assert triple(fn.bounds(stored(*sketches), 0.9)) == wanted
    for size, (_, lower, upper) in zip(SIZES, triple(fn.bounds(stored(*sketches), 0.999_99)), strict=True):
        assert lower <= size <= upper


def test_sketches_of_several_kinds_and_parameters_may_stand_in_one_column(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registers, "BLOCK_BYTES", 1 << 10)  # several blocks
    sketches = [fed(template.copy(), skewed(seed, 100 * seed)) for seed in range(5) for template in COUNTERS[:-1]]
    sketches += [sketch for kind in (*EXACT, *ESTIMATED) for sketch in some(kind, 0, 50)]
    order = np.random.default_rng(1).permutation(len(sketches)).tolist()
    wanted = [EXACT[sketch.KIND](sketch) if sketch.KIND in EXACT else sketch.estimate() for sketch in sketches]
    assert fn.estimate(stored(*(sketches[at] for at in order))).to_pylist() == [wanted[at] for at in order]


@given(st.sampled_from([HyperLogLog(4), HyperLogLog(6), UltraLogLog(3), UltraLogLog(6)]), st.lists(st.integers(0, 63), max_size=200))
@settings(max_examples=100, deadline=None)
def test_ranks_of_all_heights_count_alike(template: Any, ranks: list[int]) -> None:
    hashes = np.arange(len(ranks), dtype=np.uint64) << np.uint64(58) | np.uint64(2**57) >> np.array(ranks, np.uint64)
    sketch = template.copy()
    sketch.update_hashes(hashes)
    assert triple(fn.bounds(stored(sketch, sketch.copy(), MAKERS["hyperloglog"]())))[0] == pytest.approx(
        (sketch.estimate(), sketch.lower_bound(), sketch.upper_bound()), rel=1e-12
    )


@pytest.mark.parametrize("confidence", [0, 1, -1, math.nan])
def test_a_confidence_that_is_none_is_refused_whatever_the_policy(confidence: float) -> None:
    column = stored(*some("hyperloglog"))
    for ask in (
        fn.bounds,
        lambda *rest, **more: fn.union_estimate(column, *rest, **more),
        lambda *rest, **more: fn.jaccard(column, *rest, **more),
    ):
        with pytest.raises(SketchError, match="cannot use parameter 'confidence': expected a number between 0 and 1"):
            ask(column, confidence, on_error="null")  # type: ignore[operator]


# Pairs ----------------------------------------------------------------------------------------------------------------

OVERLAPS = [(0, 0, 0), (0, 0, 500), (500, 0, 0), (0, 500, 0), (100, 300, 5), (5000, 2000, 20_000), (0, 4000, 30_000), (3000, 3000, 0)]
PAIRED = [HyperLogLog(11), UltraLogLog(10), HyperLogLog(8, "murmur3")]


def overlapping(template: Any) -> tuple[list[Any], list[Any]]:
    """Return pairs of sketches: so many values in the first alone, in both, in the second alone."""
    ours, theirs = [], []
    for number, (one, both, other) in enumerate(OVERLAPS):
        values = np.arange(one + both + other) + 1_000_000 * number
        ours.append(fed(template.copy(), values[: one + both]))
        theirs.append(fed(template.copy(), values[one:]))
    return ours, theirs


@pytest.mark.parametrize("template", PAIRED, ids=repr)
def test_pairs_are_answered_as_by_the_class(template: Any) -> None:
    ours, theirs = overlapping(template)
    a, b = stored(None, *ours, ours[5]), stored(theirs[5], *theirs, None)
    for name, ask in (("union_estimate", fn.union_estimate), ("intersection_estimate", fn.intersection), ("jaccard", fn.jaccard)):
        wanted = [tuple(getattr(one, name)(other, 0.9)) for one, other in zip(ours, theirs, strict=True)]
        assert triple(ask(a, b, 0.9)) == [None, *wanted, None], name
    unions = fn.union(a, b).to_pylist()
    assert unions == [None, *(type(template).merged(pair).to_bytes() for pair in zip(ours, theirs, strict=True)), None]
    assert fn.union(a, b).type == pa.binary()


@pytest.mark.parametrize("template", PAIRED, ids=repr)
def test_bounds_of_pairs_hold(template: Any) -> None:
    ours, theirs = overlapping(template)
    a, b = stored(*ours), stored(*theirs)
    truths = {
        fn.union_estimate: [sum(sizes) for sizes in OVERLAPS],
        fn.intersection: [both for _, both, _ in OVERLAPS],
        fn.difference: [one for one, _, _ in OVERLAPS],
        fn.jaccard: [both / max(sum(sizes), 1) for sizes in OVERLAPS for both in sizes[1:2]],
    }
    for ask, truth in truths.items():
        for exact, (estimate, lower, upper) in zip(truth, triple(ask(a, b, 0.9999)), strict=True):
            assert lower <= exact <= upper
            assert lower <= estimate <= upper


def test_a_difference_of_large_sets_is_about_right() -> None:
    ours, theirs = overlapping(HyperLogLog(14))
    for (one, _, _), (estimate, _, upper) in zip(OVERLAPS, triple(fn.difference(stored(*ours), stored(*theirs))), strict=True):
        assert abs(estimate - one) <= 0.05 * sum(OVERLAPS[5])
        assert upper <= one + 0.1 * sum(OVERLAPS[6])
    assert triple(fn.difference(stored(ours[5]), stored(HyperLogLog(14))))[0][0] == pytest.approx(7000, rel=0.03)


@pytest.mark.parametrize("kind", MAKERS)
def test_unions_of_all_kinds_merge(kind: str) -> None:
    ours, theirs = some(kind), list(reversed(some(kind)))
    found = fn.union(stored(*ours, None), stored(*theirs, theirs[0])).to_pylist()
    for one, other, data in zip(ours, theirs, found[:-1], strict=True):
        both = type(one).from_bytes(one.to_bytes())
        both.merge(type(one).from_bytes(other.to_bytes()))
        assert data == both.to_bytes()
    assert found[-1] is None


def test_pairs_that_do_not_go_together_are_refused() -> None:
    hll, ull, bloom = some("hyperloglog")[3], some("ultraloglog")[3], some("bloom")[3]
    rows: list[tuple[Sketch | bytes, Sketch | bytes]] = [
        (hll, hll),
        (hll, HyperLogLog(9)),
        (hll, HyperLogLog(8, "murmur3")),
        (ull, hll),
        (bloom, hll),
    ]
    rows += [(damaged(hll), hll), (hll, damaged(hll)), (ull, ull)]
    a, b = stored(*(one for one, _ in rows)), stored(*(other for _, other in rows))
    for ask in (fn.union, fn.union_estimate, fn.intersection, fn.difference, fn.jaccard):
        answers = ask(a, b, on_error="null")  # type: ignore[operator]
        assert answers.is_valid().to_pylist() == [True, *([False] * 6), True]
        for row in range(1, 7):
            with pytest.raises(ValueError, match=r"cannot answer [\w ()]+ for row '0': expected .+, got .+; .*on_error='null'"):
                ask(a.slice(row, 1), b.slice(row, 1))  # type: ignore[operator]
    with pytest.raises(
        SketchError, match=r"row '1': expected precision 8, got 9; sketches merge only with equal precision, hash; rebuild one"
    ):
        fn.union(a.slice(0, 2), b.slice(0, 2))
    with pytest.raises(SketchBytesError, match=r"cannot answer union \(second column\) for row '0': expected checksum"):
        fn.union(a.slice(6, 1), b.slice(6, 1))
    with pytest.raises(SketchError, match="cannot use argument 'b': expected 8 sketches, got 7"):
        fn.union(a, b.slice(1))
