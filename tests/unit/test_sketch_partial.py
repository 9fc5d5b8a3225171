"""The two stages of `spark_ext.sketching.aggregate` without Spark: what they send stays small, and nothing is lost on the way."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from sketches import BloomFilter, HyperLogLog, ReservoirSample, Sketch, SpaceSaving, WeightedReservoirSample
from spark_ext.sketching import partial
from spark_ext.sketching.measure import sketch
from spark_ext.sketching.partial import Layout, Merged, Partial
from spark_ext.windows.aggregates import count


def rows_of(keys: NDArray[np.int64], values: NDArray[np.int64]) -> pa.RecordBatch:
    return pa.record_batch([pa.array(keys), pa.array(values)], ["k0", "c0"])


@pytest.mark.parametrize("out_bytes", [1, 1 << 14, 1 << 28])
def test_large_sketches_go_out_a_few_keys_at_a_time(out_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partial, "OUT_BYTES", out_bytes)
    bloom = BloomFilter(64)
    monkeypatch.setattr("sketches.numbered_states.MOST_BYTES", max(out_bytes, 2 * bloom.serialized_size_bytes + 2 * bloom.state.nbytes))
    aggregates = (sketch(bloom, "v"), count(), sketch(SpaceSaving(4), "v"), sketch(HyperLogLog(4), "v"))
    layout = Layout(pa.schema([("k0", pa.int64())]), pa.schema([("v", pa.int64())]), aggregates)
    keys, values = np.repeat(np.arange(30), 500), np.arange(15_000)  # full filters
    sent = list(Partial(layout, 2)(iter([rows_of(keys[::2], values[::2]), rows_of(keys[1::2], values[1::2])])))
    found = [row for batch in Merged(layout)(iter(sent)) for row in batch.to_pylist()]
    assert [row["k0"] for row in sorted(found, key=lambda row: row["k0"])] == list(range(30))
    for row in found:
        whole = bloom.copy()
        whole.update_many(values[keys == row["k0"]])
        assert (row["r0"], row["r1"]) == (whole.to_bytes(), 500)


def test_without_keys_there_is_a_row_also_of_nothing() -> None:
    layout = Layout(pa.schema([]), pa.schema([("v", pa.int64())]), (sketch(HyperLogLog(4), "v"), count()))
    (batch,) = Merged(layout)(iter([]))
    assert batch.to_pylist() == [{"r0": HyperLogLog(4).to_bytes(), "r1": 0}]
    keyed = Layout(pa.schema([("k0", pa.int64())]), layout.rows, layout.aggregates)
    assert list(Merged(keyed)(iter([]))) == []


def test_times_of_day_are_keys() -> None:
    layout = Layout(pa.schema([("k0", pa.time64("ns"))]), pa.schema([]), (count(),))
    keys = pa.array([5, None, 5, 0, None, 5], pa.time64("ns"))
    (batch,) = Merged(layout)(Partial(layout, 3)(iter([pa.record_batch([keys], ["k0"])])))
    assert dict(zip(batch["k0"].cast(pa.int64()).to_pylist(), batch["r0"].to_pylist(), strict=True)) == {5: 3, None: 2, 0: 1}


@pytest.mark.parametrize("template", [ReservoirSample(20), WeightedReservoirSample(20)], ids=repr)
def test_samples_of_minutes_with_equal_values_are_no_twins(template: Sketch) -> None:
    """A job that sees the same devices report in each minute merges samples that do not err alike."""
    layout = Layout(pa.schema([("k0", pa.int64())]), pa.schema([("v", pa.int64())]), (sketch(template, "v"),))
    whole: Any = template.copy()
    devices: set[int] = set()
    for minute in range(50):
        rows = rows_of(np.full(1000, minute), np.arange(1000))
        first, again = (next(Merged(layout)(Partial(layout, 2)(iter([rows])))) for _ in range(2))
        assert first.equals(again)
        one: Any = type(template).from_bytes(first["r0"][0].as_py())
        devices.update(one.sample().tolist())
        whole.merge(one)
    assert len(devices) > 500  # 636 are likely
    assert len(set(whole.sample().tolist())) > 15
