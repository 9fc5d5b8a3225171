"""Quantiles, ranks and decayed sums of columns of stored sketches: as the classes answer, row by row, and true of exact numbers."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import sketches as sk
from sketches import functions as fn
from sketches.errors import SketchError
from tests.stored_sketches import HOUR, MAKERS, START, fed, some, stored

HOUR_US = 3_600_000_000


def triple(answers: pa.Array) -> list[Any]:
    return [None if row is None else tuple(row.values()) for row in answers.to_pylist()]


def quantiles(seed: int, size: int) -> sk.Quantiles:
    return fed(MAKERS["quantiles"](), np.random.default_rng(seed).lognormal(3, 1, size))


@pytest.mark.parametrize("confidence", [0.5, 0.99])
def test_quantiles_are_those_of_the_class(confidence: float) -> None:
    sketches = [quantiles(seed, size) for seed, size in enumerate((1, 50, 20_000, 20_000))]
    sketches.append(sketches[3])
    qs = [0.5, 0.0, 0.25, 1.0, 0.99]
    wanted = [(s.quantile(q), s.lower_bound(q, confidence), s.upper_bound(q, confidence)) for s, q in zip(sketches, qs, strict=True)]
    assert triple(fn.quantile(stored(*sketches), qs[2], confidence))[2] == wanted[2]
    for given in (np.array(qs), pa.array(qs), pa.chunked_array([qs[:2], qs[2:]]), pa.array(qs, pa.float32()).cast(pa.float64())):
        found = triple(fn.quantile(stored(*sketches), given, confidence))
        assert found[:4] == wanted[:4]
    assert triple(fn.quantile(stored(*sketches), np.array(qs), confidence)) == wanted
    assert triple(fn.quantile(stored(*sketches), pa.array([1, None, 0, None, 1], pa.int64()), confidence)) == [
        None if q is None else (s.quantile(q), s.lower_bound(q, confidence), s.upper_bound(q, confidence))
        for s, q in zip(sketches, (1, None, 0, None, 1), strict=True)
    ]


def test_bounds_of_quantiles_and_ranks_hold() -> None:
    values = np.random.default_rng(1).lognormal(3, 1, 50_000)
    column = stored(fed(MAKERS["quantiles"](), values)).take(pa.array(np.zeros(99, np.int64)))
    qs = np.arange(1, 100) / 100
    for exact, (estimate, lower, upper) in zip(np.quantile(values, qs), triple(fn.quantile(column, qs, 0.999)), strict=True):
        assert lower <= exact <= upper
        assert lower <= estimate <= upper
    xs = np.quantile(values, qs)
    for x, (estimate, lower, upper) in zip(xs, triple(fn.rank(column, xs, 0.999)), strict=True):
        assert lower <= np.count_nonzero(values <= x) / 50_000 <= upper
        assert lower <= estimate <= upper


def test_ranks_are_those_of_the_class_and_exact_at_the_ends() -> None:
    sketch = quantiles(1, 20_000)
    xs = [sketch.quantile(0.4), sketch.minimum, math.nextafter(sketch.minimum, -1), sketch.maximum, math.inf, -math.inf]
    found = triple(fn.rank(stored(*([sketch] * 6)), np.array(xs), 0.9))
    error = sketch.rank_error(0.9)
    assert error > 0.005
    assert found[0] == (sketch.rank(xs[0]), sketch.rank(xs[0]) - error, sketch.rank(xs[0]) + error)
    assert found[1] == (sketch.rank(xs[1]), 0.0, sketch.rank(xs[1]) + error)
    assert found[2:] == [(0.0, 0.0, 0.0), (1.0, 1.0, 1.0), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0)]


def test_ranks_take_what_quantiles_take() -> None:
    stamps = np.array(["2026-01-01T10", "2026-01-01T11", "2026-01-01T13"], "M8[h]")
    times = MAKERS["quantiles"]()
    times.update_many(stamps)
    for x in (stamps.astype("M8[us]"), pa.array(stamps.astype("M8[us]"))):
        assert [row[0] for row in triple(fn.rank(stored(*([times] * 3)), x))] == [
            times.rank(float(stamp.astype("M8[us]").astype(int))) for stamp in stamps
        ]
    tenths = pa.array([Decimal("0.5"), None, Decimal("0.9")], pa.decimal128(3, 1))
    sketch = quantiles(1, 50)
    wanted = [(sketch.quantile(q), sketch.lower_bound(q), sketch.upper_bound(q)) if q else None for q in (0.5, None, 0.9)]
    assert triple(fn.quantile(stored(*([sketch] * 3)), tenths)) == wanted
    assert triple(fn.quantile(stored(sketch), tenths[2])) == wanted[2:]


def test_a_sketch_without_values_has_no_number() -> None:
    column = stored(MAKERS["quantiles"]())
    for answers in (fn.quantile(column, 0.5), fn.rank(column, 1)):
        assert answers.null_count == 0
        assert all(math.isnan(number) for number in triple(answers)[0])
    (found,) = triple(fn.decayed(stored(MAKERS["decaying"]()), START))
    assert found[:2] == (0.0, 0.0)
    assert math.isnan(found[2])


def test_what_nobody_can_answer_is_an_error_of_its_row() -> None:
    sketch = quantiles(1, 100)
    column = stored(sketch, sketch, sketch)
    for ask, wrong, expected in ((fn.quantile, 1.5, "numbers from 0 to 1"), (fn.rank, math.nan, "numbers, got nan")):
        assert ask(column, np.array([0.5, wrong, 0.1]), on_error="null").is_valid().to_pylist() == [True, False, True]  # type: ignore[operator]
        with pytest.raises(SketchError, match=rf"cannot answer \w+ for row '1': expected {expected}"):
            ask(column, np.array([0.5, wrong, 0.1]))  # type: ignore[operator]
        for numbers in ("a", np.arange(2.0), pa.array(["a", "b", "c"]), True):
            with pytest.raises(
                SketchError, match=r"cannot use argument '[qx]': expected a number, or 3 of them, got .+; give one for each row"
            ):
                ask(column, numbers, on_error="null")  # type: ignore[operator]
        assert triple(ask(column, None)) == [None] * 3  # type: ignore[operator]


def test_windows_are_those_of_the_class_at_each_instant() -> None:
    windows = [
        fed(sk.DecayingWindow(HOUR), np.arange(size, dtype=np.float64) + seed, seed) for seed, size in enumerate((1, 40, 5000, 5000))
    ]
    instants = [START, START + HOUR_US, START + 30 * HOUR_US, START - HOUR_US]
    wanted = [(w.count_at(t), w.sum_at(t), w.mean_at(t)) for w, t in zip(windows, instants, strict=True)]
    assert triple(fn.decayed(stored(*windows, None), np.array([*instants, 0]))) == [*wanted, None]
    stamps = pa.array([*instants[:3], None], pa.int64()).cast(pa.timestamp("us", "UTC"))
    assert triple(fn.decayed(stored(*windows), stamps)) == [*wanted[:3], None]
    numpy = np.array([*instants[:3], "NaT"], "M8[us]")
    assert triple(fn.decayed(stored(*windows), numpy)) == [*wanted[:3], None]
    for at in (START, datetime.fromtimestamp(START / 1e6, UTC), np.datetime64(START, "us"), pa.scalar(START, pa.timestamp("us"))):
        assert triple(fn.decayed(stored(windows[2]), at)) == [
            (windows[2].count_at(START), windows[2].sum_at(START), windows[2].mean_at(START))
        ]
    for wrong in (None, "now", np.arange(3)):
        with pytest.raises(SketchError, match=r"cannot use argument '(at|times)'"):
            fn.decayed(stored(*windows), wrong, on_error="null")


def test_decayed_sums_are_the_exact_ones() -> None:
    rows = some("decaying", 3000)
    values = np.random.default_rng(0).zipf(1.3, 3000).astype(np.int64) % 10_000
    times = START + np.random.default_rng(1000).integers(0, HOUR_US, 3000)
    weights = np.exp2((times - START) / HOUR_US)
    ((count, total, mean),) = triple(fn.decayed(stored(*rows), START))
    assert (count, total, mean) == pytest.approx(
        (weights.sum(), (weights * values).sum(), (weights * values).sum() / weights.sum()), rel=1e-12
    )
