"""Keys by number: against a dict of Python objects, in blocks, of all types."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sketches import key_columns
from sketches.errors import SketchError
from sketches.places import Places
from tests.unit.test_sketch_numbered_states import use_plain

TYPES: dict[str, tuple[pa.DataType, list[Any]]] = {
    "int64": (pa.int64(), [0, 1, -1, 2**63 - 1, -(2**63), 1 << 40]),
    "int32": (pa.int32(), [0, 5, -5, 2**31 - 1]),
    "int8": (pa.int8(), [0, 5, -128]),
    "uint64": (pa.uint64(), [0, 2**64 - 1, 2**63]),
    "bool": (pa.bool_(), [True, False]),
    "double": (pa.float64(), [0.0, 1.5, -2.25, math.inf]),
    "float": (pa.float32(), [0.0, 1.5, -2.25, math.inf]),
    "half": (pa.float16(), [np.float16(0.0), np.float16(1.5)]),
    "date": (pa.date32(), [date(1970, 1, 1), date(1960, 2, 29), date(2030, 1, 1)]),
    "date64": (pa.date64(), [date(1970, 1, 1), date(1960, 2, 29)]),
    "timestamp": (pa.timestamp("us", "UTC"), [datetime(2020, 1, 1, tzinfo=UTC), datetime(1950, 1, 1, 1, 1, 1, 7, tzinfo=UTC)]),
    "seconds": (pa.timestamp("s"), [datetime(2020, 1, 1), datetime(1950, 1, 1)]),  # noqa: DTZ001 (no zone, on purpose)
    "duration": (pa.duration("us"), [timedelta(1), timedelta(0), timedelta(microseconds=-7)]),
    "string": (pa.string(), ["", "a", "a\0", "ä" * 20, "abcdefgh", "abcdefgi"]),
    "large string": (pa.large_string(), ["", "a", "b"]),
    "string view": (pa.string_view(), ["", "a", "a long one that is not inline"]),
    "binary": (pa.binary(), [b"", b"\0", b"\0\0", b"\xff" * 9]),
    "fixed": (pa.binary(3), [b"abc", b"abx"]),
    "decimal": (pa.decimal128(20, 2), [Decimal("1.50"), Decimal("-3.00"), Decimal("0.00")]),
    "wide decimal": (pa.decimal256(50, 2), [Decimal("1.50"), Decimal("-3.00"), Decimal(10) ** 40]),
    "small decimal": (pa.decimal32(5, 2), [Decimal("1.50"), Decimal("-3.00")]),
    "time": (pa.time64("us"), [time(1, 2, 3), time(0)]),
    "nothing wide": (pa.binary(0), [b""]),
    "null": (pa.null(), [None]),
}


@pytest.fixture(params=["compiled", "plain"], autouse=True)
def kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "plain":
        use_plain(monkeypatch, key_columns)
    return str(request.param)


@pytest.mark.parametrize(("kind", "values"), TYPES.values(), ids=TYPES)
@pytest.mark.parametrize("nulls", [False, True], ids=["", "nulls"])
def test_keys_of_all_types_are_numbered_as_a_dict_would(kind: pa.DataType, values: list[Any], nulls: bool) -> None:
    dice, places, model = np.random.default_rng(1), Places(), dict[Any, int]()
    stock = [*values, None] if nulls else values
    for size in (1, 0, 5, 40):
        block = [stock[place] for place in dice.integers(0, len(stock), size)]
        column = pa.array([stock[0], *block, stock[-1]], kind)[1:-1]  # with an offset
        wanted = [model.setdefault(value, len(model)) for value in column.to_pylist()]
        assert places.numbers(column).tolist() == wanted
        assert len(places) == len(model)
    assert places.keys().to_pylist() == list(model)
    if "large" not in str(kind) and "view" not in str(kind):
        assert places.keys().type == kind


def test_dictionaries_chunks_and_numpy_are_the_same_keys() -> None:
    places = Places()
    assert places.numbers(pa.array(["b", "a", None])).tolist() == [0, 1, 2]
    assert places.numbers(pa.array(["a", "x", "a"]).dictionary_encode()).tolist() == [1, 3, 1]
    assert places.numbers(pa.chunked_array([pa.array(["y"]).dictionary_encode(), pa.array(["b"]).dictionary_encode()])).tolist() == [4, 0]
    assert places.numbers(pa.chunked_array([["z"], [], ["a"]])).tolist() == [5, 1]
    assert places.numbers(pa.chunked_array([], pa.string())).tolist() == []
    assert places.numbers(np.array(["a", "new", "a\0b", ""])).tolist() == [1, 6, 7, 8]
    assert places.numbers(pa.array(["not", "", "used"])[1:2].dictionary_encode()).tolist() == [8]
    assert places.keys().to_pylist() == ["b", "a", None, "x", "y", "z", "new", "a\0b", ""]
    ints = Places()
    assert ints.numbers(np.array([5, 6, 5])).tolist() == [0, 1, 0]
    assert ints.numbers(np.array([6, 7], ">i8")).tolist() == [1, 2]
    assert ints.numbers(pa.array([7, None, 5])).tolist() == [2, 3, 0]
    times = Places()
    assert times.numbers(np.array(["2020-01-01", "NaT", "2020-01-01"], "M8[us]")).tolist() == [0, 1, 0]
    assert times.keys().to_pylist() == [datetime(2020, 1, 1), None]  # noqa: DTZ001 (NumPy has no zones)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_one_nan_and_one_zero(dtype: Any) -> None:
    places = Places()
    odd = np.array([0x7FC00001, 0xFFC00000], np.uint32).view(np.float32).astype(dtype)
    assert places.numbers(np.array([np.nan, -0.0, 0.0, *odd, 1.0], dtype)).tolist() == [0, 1, 1, 0, 0, 2]
    assert repr(places.keys().to_pylist()) == "[nan, 0.0, 1.0]"


def test_several_columns_are_one_key() -> None:
    dice, places, model = np.random.default_rng(2), Places(), dict[Any, int]()
    for size in (3, 2000, 2000):
        numbers, names = dice.integers(0, 30, size), pa.array(dice.choice(["a", "b", ""], size).tolist())
        days = pa.array([None if day == 3 else day for day in dice.integers(0, 5, size).tolist()], pa.int32())
        rows = zip(numbers.tolist(), names.to_pylist(), days.to_pylist(), strict=True)
        assert places.numbers(numbers, names, days).tolist() == [model.setdefault(row, len(model)) for row in rows]
    assert [tuple(row.values()) for row in places.keys().to_pylist()] == list(model)
    assert [column.type for column in places.columns()] == [pa.int64(), pa.string(), pa.int32()]
    assert list(zip(*(column.to_pylist() for column in places.columns()), strict=True)) == list(model)


@pytest.mark.parametrize("texts", [False, True], ids=["words", "texts"])
def test_tables_grow(texts: bool) -> None:
    dice, places, model = np.random.default_rng(3), Places(), dict[Any, int]()
    for block in range(3):
        keys = dice.integers(0, 4000, 5000) * (1 << 40) * (block or 1)
        column = pa.array([f"key {key}" if key else None for key in keys.tolist()]) if texts else pa.array(keys, mask=keys == 0)
        assert places.numbers(column).tolist() == [model.setdefault(key, len(model)) for key in column.to_pylist()]
    assert places.keys().to_pylist() == list(model)


@given(blocks=st.lists(st.lists(st.none() | st.integers(-3, 3) | st.integers(-(2**63), 2**63 - 1), max_size=30), max_size=5))
@settings(max_examples=50, deadline=None)
def test_any_integers(blocks: list[list[int | None]]) -> None:
    places, model = Places(), dict[Any, int]()
    for block in blocks:
        assert places.numbers(pa.array(block, pa.int64())).tolist() == [model.setdefault(key, len(model)) for key in block]
    assert places.keys().to_pylist() == list(model)


@given(blocks=st.lists(st.lists(st.none() | st.binary(max_size=20) | st.sampled_from([b"12345678", b"12345679"]), max_size=30), max_size=5))
@settings(max_examples=50, deadline=None)
def test_any_bytes(blocks: list[list[bytes | None]]) -> None:
    places, model = Places(), dict[Any, int]()
    for block in blocks:
        assert places.numbers(pa.array(block, pa.binary())).tolist() == [model.setdefault(key, len(model)) for key in block]
    assert places.keys().to_pylist() == list(model)


def test_what_are_no_keys_is_refused_and_nothing_is_numbered() -> None:
    places = Places()
    assert places.keys().to_pylist() == []
    assert places.columns()[0].to_pylist() == []
    with pytest.raises(SketchError, match="cannot use argument 'keys': expected some columns of equal length, got 2 of lengths 2, 1"):
        places.numbers(np.array([1, 2]), np.array([1]))
    for wrong, got in (([1, 2], "list"), (np.array([None]), "an array of object"), (np.array([1j]), "an array of complex128")):
        with pytest.raises(SketchError, match=f"cannot use argument 'keys': expected an array of integers, .+, got {got}"):
            places.numbers(wrong)
    with pytest.raises(SketchError, match=r"expected keys of one value each, got struct<a: int64>; give their fields as columns"):
        places.numbers(pa.array([{"a": 1}]))
    assert len(places) == 0
    places.numbers(np.array([1, 2]), np.array([1, 1]))
    with pytest.raises(SketchError, match="cannot use argument 'keys': expected keys of type int64, got int32; cast them, or take other"):
        places.numbers(np.array([1, 3]), np.array([1, 1], np.int32))
    with pytest.raises(SketchError, match="cannot use argument 'keys': expected 2 columns of equal length, got 1 of lengths 1"):
        places.numbers(np.array([1]))
    with pytest.raises(SketchError, match="cannot use argument 'keys'"):
        places.numbers()
    assert len(places) == 2
