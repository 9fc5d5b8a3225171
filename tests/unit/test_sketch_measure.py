"""Sketches as aggregates: the laws of windows hold, and what goes in comes out as one pass would have it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from sketches import (
    BloomFilter,
    ClassicBloomFilter,
    CountMinSketch,
    DecayingTop,
    DecayingWindow,
    HeavyHitters,
    HyperLogLog,
    MisraGries,
    Quantiles,
    ReservoirSample,
    RotatingBloomFilter,
    Sketch,
    SpaceSaving,
    UltraLogLog,
    WeightedReservoirSample,
    hashes,
)
from spark_ext.errors import SchemaError, SettingsError, StateError
from spark_ext.sketching.measure import SketchOf, sketch
from spark_ext.state.segments import Segments
from spark_ext.windows.laws import check_laws

BYTE_EQUAL: list[Sketch] = [
    HyperLogLog(6), HyperLogLog(6, "murmur3"), UltraLogLog(5), BloomFilter(3), ClassicBloomFilter(512, 3), CountMinSketch(3, 16),
]  # fmt: skip
ROOMY: list[Sketch] = [MisraGries(64), SpaceSaving(64), Quantiles(200)]  # never full here: exact, so equal
HALF_LIFE = timedelta(minutes=10)


def rows_of(values: Any, kind: pa.DataType | None = None, **more: Any) -> tuple[dict[str, pa.Array], pa.Array]:
    column = pa.array(values, kind)
    return {"v": column, **{name: pa.array(each) for name, each in more.items()}}, pa.array(np.arange(len(column)) * 1_000_000)


def one_of(aggregate: SketchOf, rows: dict[str, pa.Array], times: pa.Array) -> Any:
    (states,) = aggregate.of_rows(rows, times, Segments(np.zeros(1, np.int64), len(times)))
    return type(aggregate.template).from_bytes(aggregate.finish([states], {})[0].as_py())


@pytest.mark.parametrize("template", [*BYTE_EQUAL, MisraGries(64), SpaceSaving(64)], ids=repr)
def test_the_laws_of_aggregates_hold(template: Sketch) -> None:
    rows = pa.table({"time": pa.array(np.arange(40)), "v": pa.array([*np.repeat(np.arange(13), 3).tolist(), None])})
    check_laws(sketch(template, "v"), rows, time="time", cases=20)


@pytest.mark.parametrize("template", BYTE_EQUAL, ids=repr)
@pytest.mark.parametrize("values", [["a", "", None, "ä" * 20, "a"], [1.5, float("nan"), -0.0, 0.0, None], [1, 2, 2, None, -5]])
def test_the_bytes_are_those_of_one_pass(template: Sketch, values: list[Any]) -> None:
    rows, times = rows_of(values)
    plain = template.copy()
    plain.update_many(rows["v"])
    assert one_of(sketch(template, "v"), rows, times).to_bytes() == plain.to_bytes()


@pytest.mark.parametrize("template", ROOMY, ids=repr)
def test_groups_do_not_mix_and_states_merge(template: Sketch) -> None:
    measure = sketch(template, "v")
    (states,) = measure.of_rows(*rows_of([1.0, 2.0, 2.0, 7.0]), Segments(np.array([0, 3]), 4))
    (more,) = measure.of_rows(*rows_of([1.0, 9.0]), Segments(np.array([0, 1]), 2))
    both = pa.concat_arrays([states, more]).take(pa.array([0, 2, 1, 3]))
    (merged,) = measure.merge([both], Segments(np.array([0, 2]), 4))
    found = [type(template).from_bytes(data.as_py()) for data in merged]
    exact = [[1.0, 1.0, 2.0, 2.0], [7.0, 9.0]]
    for one, values in zip(found, exact, strict=True):
        if isinstance(one, Quantiles):
            assert (one.count, one.minimum, one.maximum, one.quantile(0.5)) == (
                len(values),
                values[0],
                values[-1],
                np.sort(values)[len(values) // 2 - 1],
            )
        else:
            assert {hot.item: hot.lower for hot in one.top(9)} == {value: values.count(value) for value in set(values)}  # type: ignore[attr-defined]


def test_segments_with_one_state_go_through_untouched() -> None:
    measure = sketch(HyperLogLog(6), "v")
    (states,) = measure.of_rows(*rows_of([1, 2, 3, 4]), Segments(np.arange(4), 4))
    (merged,) = measure.merge([states], Segments(np.array([0, 1, 3]), 4))
    assert merged[0] == states[0]
    assert merged[2] == states[3]
    assert HyperLogLog.from_bytes(merged[1].as_py()).estimate() == pytest.approx(2, abs=0.1)


def test_a_group_without_rows_or_of_nulls_has_an_empty_sketch() -> None:
    measure = sketch(HyperLogLog(6), "v")
    (nothing,) = measure.identity({}, 2)
    empty = HyperLogLog(6).to_bytes()
    assert measure.finish([nothing], {}).to_pylist() == [empty, empty]
    assert one_of(measure, *rows_of([None, None], pa.int64())).is_empty


def test_hashed_columns_are_what_their_values_are() -> None:
    words = pa.array(["a", "b", "a"])
    rows = {"v": words, "h": pa.array(hashes(words).view(np.int64))}
    times = pa.array([1, 2, 3])
    assert (
        one_of(sketch(BloomFilter(2), "h", hashed=True), rows, times).to_bytes()
        == one_of(sketch(BloomFilter(2), "v"), rows, times).to_bytes()
    )


def test_a_null_among_hashes_is_no_value() -> None:
    rows, times = rows_of([5, None, 6])
    found = one_of(sketch(CountMinSketch(2, 8), "v", hashed=True), rows, times)
    assert found.total == 2


def test_weights_and_times_are_those_of_their_columns() -> None:
    rows, times = rows_of([1, 2, 1], w=[5, None, 7], t=pa.array([0, 600, 600], pa.timestamp("s", "UTC")))
    counted = one_of(sketch(CountMinSketch(2, 64), "v", weights="w"), rows, times)
    assert (counted.estimate(1), counted.estimate(2), counted.total) == (12, 1, 13)
    window = one_of(sketch(DecayingWindow(HALF_LIFE), "v", times="t"), rows, times)
    assert window.sum_at(600_000_000) == pytest.approx(1 / 2 + 2 + 1)
    top = one_of(sketch(DecayingTop(8, HALF_LIFE), "v"), rows, pa.array([0, 0, 600_000_000]))  # of windows: event time
    assert [item.item for item in top.top(1, 600_000_000)] == [1]


@pytest.mark.parametrize("template", [Quantiles(64), DecayingWindow(HALF_LIFE)], ids=repr)
def test_what_is_no_finite_number_is_no_value(template: Sketch) -> None:
    found = one_of(sketch(template, "v"), *rows_of([1.0, float("nan"), float("inf"), None, 3.0]))
    assert (found.count if isinstance(found, Quantiles) else found.rows) == 2


def test_samples_of_batches_are_no_twins() -> None:
    measure = sketch(ReservoirSample(5), "v")
    chosen = set()
    for start in range(20):
        rows, _ = rows_of(list(range(1000)))
        times = pa.array(np.arange(1000) + start)
        chosen.add(tuple(sorted(one_of(measure, rows, times).sample().tolist())))
    assert len(chosen) > 15


@pytest.mark.parametrize("template", [ReservoirSample(20), WeightedReservoirSample(20)], ids=repr)
def test_rows_that_come_again_at_each_full_second_are_sampled_anew(template: Sketch) -> None:
    measure, chosen = sketch(template, "v"), set()
    for second in range(20):
        rows, _ = rows_of(list(range(1000)))
        chosen.add(tuple(sorted(one_of(measure, rows, pa.array(np.full(1000, 1_000_000 * second))).sample().tolist())))
    assert len(chosen) == 20


def test_samples_and_weighted_samples_know_how_many_they_saw() -> None:
    rows, times = rows_of(list(range(100)), w=list(range(100)))
    assert one_of(sketch(ReservoirSample(5), "v"), rows, times).count == 100
    assert one_of(sketch(WeightedReservoirSample(5), "v", weights="w"), rows, times).count == 99
    assert one_of(sketch(HeavyHitters(0.1, 3, 64), "v"), rows, times).total == 100


def test_measures_are_values() -> None:
    assert sketch(HyperLogLog(12), "v") == sketch(HyperLogLog(12), "v")
    assert hash(sketch(HyperLogLog(12), "v")) == hash(sketch(HyperLogLog(12), "v"))
    assert sketch(HyperLogLog(12), "v") != sketch(HyperLogLog(11), "v")
    assert sketch(ReservoirSample(5, seed=1), "v") == sketch(ReservoirSample(5, seed=1), "v")
    assert (
        repr(sketch(CountMinSketch(2, 8), "v", weights="w"))
        == "sketch(CountMinSketch(depth=2, width=8, conservative=False), 'v', weights='w')"
    )


def full() -> HyperLogLog:
    made = HyperLogLog(6)
    made.update(1)
    return made


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (lambda: sketch(full(), "v"), "an empty one"),
        (lambda: sketch(RotatingBloomFilter(1, 2, 2), "v"), "none that has keys or a clock of its own"),
        (lambda: sketch(HyperLogLog, "v"), "none that has keys"),  # type: ignore[arg-type]
        (lambda: sketch(HyperLogLog(6), "v", weights="w"), "expected no weights, got 'w'"),
        (lambda: sketch(HyperLogLog(6), "v", times="t"), "expected no times"),
        (lambda: sketch(SpaceSaving(6), "v", hashed=True), "needs the values themselves"),
        (lambda: sketch(HyperLogLog(6, "murmur3"), "v", hashed=True), "needs the values themselves"),
        (lambda: sketch(HyperLogLog(6), ""), "the name of a column"),
    ],
)
def test_what_does_not_fit_is_refused(build: Any, text: str) -> None:
    with pytest.raises(SettingsError, match=text):
        build()


@pytest.mark.parametrize(
    ("measure", "types", "text"),
    [
        (sketch(HyperLogLog(6), "v"), {"v": pa.list_(pa.int64())}, "expected plain values"),
        (sketch(HyperLogLog(6), "v"), {"w": pa.int64()}, "a column 'v'"),
        (sketch(HyperLogLog(6), "v", hashed=True), {"v": pa.string()}, "expected bigint"),
        (sketch(DecayingTop(6, HALF_LIFE), "v", times="t"), {"v": pa.int64(), "t": pa.int64()}, "expected a timestamp"),
        (sketch(HyperLogLog(6), "v"), {"v": pa.month_day_nano_interval()}, "expected booleans, integers"),
        (sketch(SpaceSaving(6), "v", weights="w"), {"v": pa.int64(), "w": pa.string()}, "expected integers or floats, got str"),
        (sketch(SpaceSaving(6), "v", weights="w"), {"v": pa.int64(), "w": pa.decimal128(9, 0)}, "cast it to bigint"),
        (sketch(SpaceSaving(6), "v", weights="w"), {"v": pa.int64()}, "a column 'w'"),
    ],
)
def test_types_that_do_not_fit_are_refused(measure: SketchOf, types: dict[str, pa.DataType], text: str) -> None:
    with pytest.raises(SchemaError, match=text):
        measure.result(types)


def test_damaged_state_is_refused() -> None:
    measure = sketch(HyperLogLog(6), "v")
    with pytest.raises(StateError, match="report it"):
        measure.merge([pa.array([HyperLogLog(6).to_bytes(), b"x"], pa.binary())], Segments(np.zeros(1, np.int64), 2))
