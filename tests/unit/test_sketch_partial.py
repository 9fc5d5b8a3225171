"""The two stages of `spark_ext.sketching.aggregate` without Spark: what they send stays small, and nothing is lost on the way."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from sketches import BloomFilter, HyperLogLog, SpaceSaving
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
