"""Sketches by key: each is what it would be alone."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from sketches import (
    CountMinSketch,
    DecayingTop,
    DecayingWindow,
    Grouped,
    HyperLogLog,
    MisraGries,
    ReservoirSample,
    RotatingBloomFilter,
    StratifiedReservoirSample,
    UltraLogLog,
    WeightedReservoirSample,
)
from sketches.bloom import BloomFilter
from sketches.errors import SketchError, SketchTypeError

TEMPLATES = {
    "states": HyperLogLog(6),
    "sparse states": UltraLogLog(6),
    "states of two dimensions": CountMinSketch(depth=3, width=16),
    "bits": BloomFilter(4),
    "sorted": MisraGries(8),
}
ROWS = 20_000


def column(seed: int, size: int = ROWS) -> NDArray[np.int64]:
    return np.random.default_rng(seed).zipf(1.5, size).astype(np.int64)


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
def test_each_group_is_what_its_sketch_would_be_alone(template: Any) -> None:
    keys, values = column(1) % 300, column(2)
    groups = Grouped(template.copy())
    alone: dict[int, Any] = {}
    for part in np.split(np.arange(ROWS), [1, 7000, 7001]):  # several calls: groups come later, room grows
        groups.update_grouped(keys[part], values[part])
        for key in np.unique(keys[part]).tolist():
            alone.setdefault(key, template.copy()).update_many(values[part][keys[part] == key])
    assert set(groups) == set(alone)
    assert {key: sketch.to_bytes() for key, sketch in groups.items()} == {key: sketch.to_bytes() for key, sketch in alone.items()}
    assert groups.to_bytes() == [alone[key].to_bytes() for key in groups.keys()]  # noqa: SIM118 (the method)
    assert len(groups) == len(alone)


def test_conservative_counts_by_key_keep_their_guarantee() -> None:
    """What is counted together is a block of rows, of all keys: other counts than alone, within the same bounds."""
    keys, values = column(1) % 30, column(2) % 500
    groups, plain = Grouped(CountMinSketch(depth=3, width=32, conservative=True)), Grouped(CountMinSketch(depth=3, width=32))
    groups.update_grouped(keys, values)
    plain.update_grouped(keys, values)
    for key, sketch in groups.items():
        some, exact = np.unique(values[keys == key], return_counts=True)
        assert (sketch.estimate_many(some) >= exact).all()
        assert (sketch.estimate_many(some) <= plain[key].estimate_many(some)).all()
        assert sketch.total == exact.sum()


def test_weights_go_with_their_values() -> None:
    keys, values, weights = column(3) % 50, column(4), column(5) % 7
    groups = Grouped(CountMinSketch(depth=3, width=64))
    groups.update_grouped(keys, values, weights)
    for key, sketch in groups.items():
        alone = CountMinSketch(depth=3, width=64)
        alone.update_many(values[keys == key], weights[keys == key])
        assert sketch.to_bytes() == alone.to_bytes()


@pytest.mark.parametrize("template", [DecayingWindow(timedelta(hours=1)), DecayingTop(4, timedelta(hours=1))], ids=["sums", "top"])
def test_times_go_with_their_values(template: Any) -> None:
    keys, values, times = column(3) % 50, pa.array([None, *column(4).tolist()[1:]]), column(5) * 1_000_000
    groups = Grouped(template.copy())
    groups.update_grouped(keys, values, times=times)
    for key, sketch in groups.items():
        alone = template.copy()
        alone.update_many(values.filter(pa.array(keys == key)), times[keys == key])
        assert sketch.to_bytes() == alone.to_bytes()
    with pytest.raises(SketchError, match=r"cannot use argument 'times': expected 20,000 instants, .+, got 0"):
        groups.update_grouped(keys, values)
    with pytest.raises(SketchError, match="cannot use argument 'times': expected none for 'hyperloglog', got ndarray; leave them out"):
        Grouped(HyperLogLog(8)).update_grouped(keys, values, times=times)


def test_samples_by_key_hold_values_of_their_key() -> None:
    keys, values = column(6) % 20, column(7)
    groups = Grouped(ReservoirSample(5, seed=1))
    groups.update_grouped(keys, values)
    for key, sketch in groups.items():
        assert sketch.count == int((keys == key).sum())
        assert set(sketch.sample().tolist()) <= set(values[keys == key].tolist())


@pytest.mark.parametrize(
    "keys",
    [
        np.array(["a", "b", "a", "c"]),
        np.array([b"a", b"b", b"a", b"c"]),
        np.array([True, False, True, True]),
        pa.array(["a", None, "a", "c"]),
        pa.chunked_array([["a", "b"], ["a", "c"]]),
        pa.chunked_array([pa.array(["a", "b"]).dictionary_encode(), pa.array(["a", "c"]).dictionary_encode()]),
        pd.Series(["a", "b", "a", "c"]),
    ],
    ids=["str", "bytes", "bool", "null", "chunks", "dictionaries", "pandas"],
)
def test_keys_of_all_kinds(keys: Any) -> None:
    listed = keys.tolist() if isinstance(keys, np.ndarray | pd.Series) else keys.to_pylist()
    groups = Grouped(HyperLogLog(8))
    groups.update_grouped(keys, np.array([1, 2, 3, 4]))
    wanted = {key: len([one for one in listed if one == key]) for key in listed}
    assert {key: round(sketch.estimate()) for key, sketch in groups.items()} == wanted
    assert all(key in groups and groups[key].estimate() > 0 for key in listed)
    assert list(groups) == list(dict.fromkeys(listed))


def test_keys_that_arrow_or_python_would_confuse_stay_apart() -> None:
    groups = Grouped(HyperLogLog(8))
    groups.update_grouped(np.array(["a\0b", "a", "a\0c", "a\0b"]), np.arange(4))
    assert {key: round(sketch.estimate()) for key, sketch in groups.items()} == {"a\0b": 2, "a": 1, "a\0c": 1}
    numbers = Grouped(HyperLogLog(8))
    for start in (0, 10):
        numbers.update_grouped(pa.array([1.0, float("nan"), float("nan")]), np.arange(start, start + 3))
    assert len(numbers) == 2
    assert round(numbers[float("nan")].estimate()) == 4
    big = Grouped(HyperLogLog(8))
    big.update_grouped(np.array([1, 258], ">i8"), np.arange(2))
    assert list(big) == [1, 258]


def test_a_sketch_that_was_handed_out_is_a_copy() -> None:
    for template in (HyperLogLog(8), MisraGries(4)):
        groups = Grouped(template)
        groups.update_grouped(np.array([0]), np.array([1]))
        before = groups.to_bytes()
        for taken in (groups[0], groups.values()[0], groups.items()[0][1]):
            taken.update_many(np.arange(100))
        assert groups.to_bytes() == before


def test_groups_with_equal_values_have_samples_of_their_own() -> None:
    keys, values = np.repeat(np.arange(50), 1000), np.tile(np.arange(1000), 50)
    for template in (ReservoirSample(10), WeightedReservoirSample(10)):
        groups: Grouped[Any] = Grouped(template)
        groups.update_grouped(keys, values)
        assert len({tuple(sketch.sample().tolist()) for sketch in groups.values()}) == 50


def test_large_weights_are_exact_and_sketches_without_weights_refuse_them() -> None:
    for template in (MisraGries(10), CountMinSketch(depth=2, width=8)):
        groups: Grouped[Any] = Grouped(template)
        groups.update_grouped(np.array(["a"]), np.array([5]), weights=np.array([2**53 + 1]))
        assert groups["a"].upper_bound(5) == 2**53 + 1
    with pytest.raises(SketchError, match="cannot use argument 'weights': expected none for 'hyperloglog', got ndarray; leave them out"):
        Grouped(HyperLogLog(8)).update_grouped(np.array([1]), np.array([1]), weights=np.array([1]))


@pytest.mark.parametrize("template", [HyperLogLog, RotatingBloomFilter(10, 4, 400), StratifiedReservoirSample(4)])
def test_what_cannot_be_a_template_is_refused(template: Any) -> None:
    with pytest.raises(
        SketchError, match="cannot group template 'sketch': expected a sketch, and none that has keys or a clock of its own"
    ):
        Grouped(template)


def test_null_values_are_left_out_but_make_their_group() -> None:
    groups = Grouped(HyperLogLog(8))
    groups.update_grouped(pa.array(["a", "b", "a"]), pa.array([None, None, 7]))
    assert {key: round(sketch.estimate()) for key, sketch in groups.items()} == {"a": 1, "b": 0}


@pytest.mark.parametrize("name", ["states", "sorted"])
def test_merging_goes_key_by_key(name: str) -> None:
    keys, values, half = column(8) % 100, column(9), ROWS // 2
    one, other, whole = (Grouped(TEMPLATES[name].copy()) for _ in range(3))
    one.update_grouped(keys[:half] + 50, values[:half])
    other.update_grouped(keys[half:], values[half:])
    before = other.to_bytes()
    one.merge(other)
    assert other.to_bytes() == before
    for key in np.union1d(keys[:half] + 50, keys[half:]).tolist():
        alone = TEMPLATES[name].copy()
        alone.update_many(values[:half][keys[:half] + 50 == key])
        more = TEMPLATES[name].copy()
        more.update_many(values[half:][keys[half:] == key])
        alone.merge(more)
        assert one[key].to_bytes() == alone.to_bytes()
    del whole


def test_what_does_not_fit_is_refused_and_nothing_is_taken() -> None:
    groups = Grouped(HyperLogLog(8))
    groups.update_grouped(np.array([1, 2]), np.array([1, 2]))
    before = groups.to_bytes()
    with pytest.raises(SketchError, match=r"cannot use argument 'keys': expected 3 keys, got 2; give a key for each value"):
        groups.update_grouped(np.array([1, 5]), np.array([1, 2, 3]))
    with pytest.raises(SketchError, match="cannot use argument 'keys': expected an array of integers"):
        groups.update_grouped([1, 5], np.array([1, 2]))
    with pytest.raises(SketchError, match=r"cannot use argument 'keys': .*got an array of object"):
        groups.update_grouped(np.array([1, "a"], object), np.array([1, 2]))
    with pytest.raises(SketchTypeError, match="cannot hash argument 'values'"):
        groups.update_grouped(np.array([1, 5]), [1, 2])
    with pytest.raises(SketchError, match=r"cannot merge sketch 'hyperloglog': expected precision 8, got 9"):
        groups.merge(Grouped(HyperLogLog(9)))
    full = HyperLogLog(8)
    full.update(1)
    with pytest.raises(SketchError, match="cannot group sketch 'hyperloglog': expected an empty one"):
        Grouped(full)
    assert groups.to_bytes() == before
    assert list(groups) == [1, 2]
