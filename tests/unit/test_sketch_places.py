"""Numbers of keys: a dict over the rows, call by call, says the same; compiled or not, whatever the types."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sketches import places, places_kernel, places_plain
from sketches.jit import HAS_NUMBA
from sketches.places import Places

KINDS: dict[str, tuple[pa.DataType, list[Any]]] = {
    "int64": (pa.int64(), [0, -1, 2**63 - 1, -(2**63), 7]),
    "int8": (pa.int8(), [0, -128, 127]),
    "bool": (pa.bool_(), [True, False]),
    "double": (pa.float64(), [0.0, -0.0, float("nan"), float("inf"), 1e-320]),
    "float": (pa.float32(), [0.0, -0.0, float("nan"), 1.5]),
    "date": (pa.date32(), [date(1969, 12, 31), date(2026, 1, 1)]),
    "timestamp": (pa.timestamp("us", "UTC"), [datetime(1970, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, 1, tzinfo=UTC)]),
    "string": (pa.string(), ["", "a", "a\0", "ä", "long" * 9]),
    "binary": (pa.binary(), [b"", b"a", b"\xff"]),
    "decimal": (pa.decimal128(38, 2), [Decimal("1.00"), Decimal("-1.00"), Decimal(10) ** 30]),
    "struct": (pa.struct([("x", pa.int32()), ("y", pa.string())]), [{"x": 1, "y": "a"}, {"x": None, "y": None}, {"x": 1, "y": "b"}]),
    "null": (pa.null(), []),
}


def plain(value: Any) -> Any:
    """Return what is equal where the keys are."""
    if isinstance(value, dict):
        return tuple(map(plain, value.values()))
    if isinstance(value, float):
        return "nan" if math.isnan(value) else value + 0.0
    return value


def check(kinds: list[str], calls: list[list[tuple[Any, ...]]]) -> None:
    types = [KINDS[kind][0] for kind in kinds]
    found, known = Places(types), dict[Any, int]()
    for rows in calls:
        columns = [pa.array([row[at] for row in rows], kind) for at, kind in enumerate(types)]
        expected = [known.setdefault(tuple(map(plain, row)), len(known)) for row in rows]
        assert found.numbers(columns).tolist() == expected
    assert len(found) == len(known)
    keys = list(zip(*(column.to_pylist() for column in found.distinct()), strict=True))
    assert [tuple(map(plain, key)) for key in keys] == list(known)
    assert all(math.copysign(1, part) == 1 for key in keys for part in key if isinstance(part, float) and part == 0)


@settings(max_examples=120, deadline=None)
@given(st.data())
def test_numbers_are_those_of_a_dict(data: st.DataObject) -> None:
    kinds = data.draw(st.lists(st.sampled_from(sorted(KINDS)), min_size=1, max_size=3))
    row = st.tuples(*(st.sampled_from([None, *KINDS[kind][1]]) for kind in kinds))
    check(kinds, data.draw(st.lists(st.lists(row, max_size=12), min_size=1, max_size=4)))


@pytest.mark.parametrize("kind", ["int64", "string"])
def test_many_keys_over_many_calls(kind: str) -> None:
    random = np.random.default_rng(3)
    found, known = Places([KINDS[kind][0]]), dict[Any, int]()
    for _ in range(4):
        rows = random.integers(0, 30_000, 40_000).tolist()
        values = rows if kind == "int64" else [str(row) for row in rows]
        assert found.numbers([pa.chunked_array([values[:10], values[10:]], KINDS[kind][0])]).tolist() == [
            known.setdefault(value, len(known)) for value in values
        ]
    assert found.distinct()[0].to_pylist() == list(known)


def test_values_of_one_hash_are_two_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "hashes", lambda values: np.zeros(len(values), np.uint64))
    found, seen = Places([pa.string()]), list[str | None]()
    for call in (["a", "b", None, "a"], ["c", "b", "a", None, "d"]):
        numbers = found.numbers([pa.array(call)])
        seen = found.distinct()[0].to_pylist()
        assert [seen[number] for number in numbers] == call
    assert sorted(map(str, seen)) == ["None", "a", "b", "c", "d"]


@pytest.mark.skipif(not HAS_NUMBA, reason="there is nothing to compare NumPy with")
@pytest.mark.parametrize("nulls", [False, True])
def test_numpy_alone_gives_the_same(nulls: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(4)
    calls = [pa.array(random.integers(0, 3_000, 20_000), mask=random.random(20_000) < 0.1 if nulls else None) for _ in range(3)]
    compiled, other = Places([pa.int64()]), Places([pa.int64()])
    ours = [compiled.numbers([call]) for call in calls]
    assert places._place is places_kernel.place
    monkeypatch.setattr(places, "_place", places_plain.place)
    monkeypatch.setattr(places, "_index", places_plain.index)
    for call, expected in zip(calls, ours, strict=True):
        np.testing.assert_array_equal(other.numbers([call]), expected)
    assert other.distinct()[0].equals(compiled.distinct()[0])


def test_slices_and_no_rows() -> None:
    found = Places([pa.int64()])
    assert found.numbers([pa.array([1, None, 2]).slice(1)]).tolist() == [0, 1]
    assert found.numbers([pa.array([], pa.int64())]).tolist() == []
    assert found.distinct()[0].to_pylist() == [None, 2]
