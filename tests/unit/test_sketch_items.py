"""A list of items of one type: what is put comes back, by values, by column and by bytes; other types and damaged bytes are refused."""

from __future__ import annotations

import datetime as dt
import struct
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sketches.columns import column, hashes, one
from sketches.errors import SketchBytesError, SketchTypeError
from sketches.items import Items

COLUMNS: dict[str, Any] = {
    "bool": np.array([True, False, True]),
    "int": np.array([-5, 2, 2**31 - 1], np.int32),
    "long": np.array([-(2**63), 7, 2**63 - 1]),
    "ulong": np.array([0, 2**64 - 1, 9], np.uint64),
    "float": np.array([1.5, np.nan, -0.0], np.float32),
    "double": np.array([-1e300, np.inf, np.nan]),
    "date": np.array(["2026-11-22", "1969-12-31", "0001-01-01"], "M8[D]"),
    "timestamp": np.array(["2026-11-22T06:05:50.123456", "1969-12-31T23:59:59", "1970-01-01"], "M8[us]"),
    "duration": np.array([1, -1, 10**15], "m8[us]"),
    "decimal": pa.array([Decimal("1.25"), Decimal("-99.99"), Decimal("0.00")]),
    "string": pa.array(["żółw", "", "a\0"]),
    "binary": pa.array([b"\xff\0", b"", b"abc\0"]),
}
EXPECTED = {"decimal": [125, -9999, 0], "string": ["żółw", "", "a\0"], "binary": [b"\xff\0", b"", b"abc\0"]}


def items_of(values: Any) -> Items:
    found = Items()
    taken = column(values)
    found.append(taken, np.arange(len(taken)))
    return found


@pytest.mark.parametrize("kind", COLUMNS)
def test_what_is_put_comes_back_by_values_by_arrow_and_by_hash(kind: str) -> None:
    items = items_of(COLUMNS[kind])
    assert items.kind == kind
    assert len(items) == 3
    values = items.values()
    expected = EXPECTED.get(kind)
    if expected is None:
        assert values.dtype == COLUMNS[kind].dtype
        np.testing.assert_array_equal(values, COLUMNS[kind])
        np.testing.assert_array_equal(items.to_arrow().to_numpy(zero_copy_only=False), COLUMNS[kind])
    else:
        assert values.tolist() == expected
        assert items.to_arrow().to_pylist() == expected
    np.testing.assert_array_equal(hashes(COLUMNS[kind]), hashes_of(items))


def hashes_of(items: Items) -> Any:
    out = np.empty(len(items), np.uint64)
    items.column().hash_into(0, len(items), out)
    return out


@pytest.mark.parametrize("kind", COLUMNS)
def test_bytes_come_back_and_what_follows_them_too(kind: str) -> None:
    items = items_of(COLUMNS[kind])
    data = items.pack()
    found, rest = Items.unpack("reservoir", memoryview(data + b"more"))
    assert bytes(rest) == b"more"
    assert found.kind == kind
    assert found.pack() == data
    np.testing.assert_array_equal(hashes_of(found), hashes_of(items))
    found.put(np.array([1]), column(COLUMNS[kind]), np.array([2]))  # what was read can be written
    assert hashes_of(found).tolist() == hashes_of(items)[[0, 2, 2]].tolist()
    assert items.pack() == data
    assert Items.unpack("reservoir", memoryview(items.take(np.empty(0, np.int64)).pack()))[0].kind == kind


@given(st.lists(st.tuples(st.integers(0, 20), st.text(max_size=40)), max_size=60), st.booleans())
def test_puts_do_what_a_list_does(steps: list[tuple[int, str]], once: bool) -> None:
    model: list[str] = []
    items = Items()
    slots: list[int] = []
    for wanted, text in steps:
        slot = min(wanted, len(model))
        model[slot : slot + 1] = [text]
        slots.append(slot)
        if not once:
            items.put(np.array([slot]), one(text), np.zeros(1, np.int64))
    if once:
        items.put(np.array(slots, np.int64), column(pa.array([text for _, text in steps], pa.string())), np.arange(len(slots)))
    assert items.values().tolist() == model
    fresh = Items()
    fresh.append(column(pa.array(model, pa.string())), np.arange(len(model)))
    assert items.pack() == fresh.pack(), "the bytes do not tell how the list came about"
    assert items.take(np.arange(len(model))[::-1]).values().tolist() == model[::-1]


def test_a_buffer_does_not_keep_what_is_no_longer_an_item() -> None:
    items = Items()
    for _ in range(1000):
        items.put(np.array([0]), one("x" * 100), np.zeros(1, np.int64))
    assert items._data.size < 2000


def test_another_type_is_refused_and_no_values_are_of_any_type() -> None:
    items = items_of(COLUMNS["long"])
    with pytest.raises(
        SketchTypeError,
        match=r"cannot update sketch 'reservoir': expected values of type 'long', got 'double'; .* first values; cast them to 'long'",
    ):
        items.check(column(COLUMNS["double"]), "reservoir")
    with pytest.raises(SketchTypeError, match="cannot merge sketch 'misra_gries': expected values of type 'long', got 'string'"):
        items.check(items_of(COLUMNS["string"]).column(), "misra_gries", action="merge")
    items.check(column(np.empty(0)), "reservoir")
    Items().check(column(COLUMNS["double"]), "reservoir")


def test_an_empty_list_has_no_type() -> None:
    items = Items()
    assert items.kind == ""
    assert items.values().size == 0
    assert len(items.to_arrow()) == 0
    assert items.copy().pack() == items.pack()


def test_strings_that_are_not_utf8_are_given_out_with_marks() -> None:
    wrong = pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(np.array([0, 2], np.int32)), pa.py_buffer(b"a\xff")])
    items = items_of(wrong)
    assert items.values().tolist() == ["a\ufffd"]
    assert items.to_arrow().to_pylist() == ["a\ufffd"]


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"\x03\0\0", "expected 5 bytes of items, got 3"),
        (struct.pack("<BI", 13, 1), "expected items of a type from 1 to 12, got 1 of type 13"),
        (struct.pack("<BI", 0, 1), "expected items of a type from 1 to 12, got 1 of type 0"),
        (struct.pack("<BIq", 3, 2, 1), "expected 16 bytes of items, got 8"),
        (struct.pack("<BI", 3, 2**32 - 1), "bytes of items, got 0"),
        (struct.pack("<BI", 11, 2**32 - 1), "bytes of items, got 0"),
        (struct.pack("<BII", 11, 1, 2**32 - 1), "expected 4294967295 bytes of strings, got 0"),
        (struct.pack("<BII", 1, 1, 2), "expected byte forms of bool, got 0x2"),
        (struct.pack("<BId", 6, 1, -0.0), "expected byte forms of double, got 0x8000000000000000"),
        (struct.pack("<BIQ", 6, 1, 0x7FF8000000000001), "expected byte forms of double, got 0x7ff8000000000001"),
    ],
)
def test_damaged_bytes_are_refused(data: bytes, text: str) -> None:
    with pytest.raises(SketchBytesError, match=text):
        Items.unpack("reservoir", memoryview(data))


def test_nulls_are_not_there() -> None:
    assert items_of(pa.array([1, None, 3])).values().tolist() == [1, 3]
    assert items_of(np.array(["2026-01-01", "NaT"], "M8[D]")).values().tolist() == [dt.date(2026, 1, 1)]
