"""Blocks give back exactly the objects that went in."""

from __future__ import annotations

import math
import struct
from collections import namedtuple
from enum import IntEnum
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spark_ext.dstream.columns.blocks import BLOCK_ROWS, OBJECT_ROWS, cut, decode, encode, pack, packed, unpack

Point = namedtuple("Point", ["x", "y"])


class Word(str):
    __slots__ = ()


class Colour(IntEnum):
    RED = 1


NASTY = [0, -1, 2**63 - 1, -(2**63), 2**63, 10**40, True, False, 0.0, -0.0, math.nan, math.inf, 1.5, "", "a", "ß", "\0", "\ud800", "😀",
         b"", b"\0\xff", None, (), (1,), (1, 2), ("a", 1), ("a", None), (None, None), (1, (2, 3)), (1, None), ((), 1), Point(1, 2),
         Word("w"), Colour.RED, np.int64(1), np.float64(1.5), np.str_("n"), [1], {"a": 1}, frozenset({1}), 1j]  # fmt: skip


def same(one: Any, other: Any) -> bool:
    if type(one) is not type(other):
        return False
    if isinstance(one, float):
        return struct.pack("<d", one) == struct.pack("<d", other)
    if isinstance(one, tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def all_same(some: list[Any], others: list[Any]) -> bool:
    return len(some) == len(others) and all(map(same, some, others))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(NASTY), max_size=6))
def test_any_mixture_comes_back(elements: list[Any]) -> None:
    block = pack(elements)
    assert all_same(unpack(block), elements)
    assert all_same(unpack(decode(encode(block))), elements)


SIMPLE = [st.integers(-(2**64), 2**64), st.integers(-(2**63), 2**63 - 1), st.floats(), st.text(), st.booleans(), st.binary()]
FIELD = st.sampled_from(SIMPLE).flatmap(lambda one: st.sampled_from([one, st.none() | one, st.none()]))
NESTED = st.lists(FIELD, min_size=1, max_size=3).map(lambda fields: st.tuples(*fields))
COLUMN = st.one_of(
    st.sampled_from(SIMPLE), NESTED, st.tuples(st.sampled_from(SIMPLE), NESTED).map(lambda two: st.tuples(two[0], st.none() | two[1]))
)


@settings(max_examples=200, deadline=None)
@given(COLUMN.flatmap(lambda one: st.lists(one, max_size=20)), st.data())
def test_columns_come_back_and_slices_of_them(elements: list[Any], data: st.DataObject) -> None:
    block = pack(elements)
    assert all_same(unpack(block), elements)
    start = data.draw(st.integers(0, len(elements)))
    end = data.draw(st.integers(start, len(elements)))
    part = block[start:end]
    assert all_same(unpack(part), elements[start:end])
    assert all_same(unpack(decode(encode(part))), elements[start:end])


@pytest.mark.parametrize(
    ("elements", "kind"),
    [
        ([1, 2], pa.int64()),
        ([1.0, math.nan], pa.float64()),
        (["a", ""], pa.string()),
        ([True, False], pa.bool_()),
        ([b"a"], pa.binary()),
        ([("a", 1)], pa.struct({"0": pa.string(), "1": pa.int64()})),
        ([("a", None), ("b", 1)], pa.struct({"0": pa.string(), "1": pa.int64()})),
        ([("a", None), ("b", ("c", 1))], pa.struct({"0": pa.string(), "1": pa.struct({"0": pa.string(), "1": pa.int64()})})),
    ],
)
def test_simple_types_are_columns(elements: list[Any], kind: pa.DataType) -> None:
    block = pack(elements)
    assert isinstance(block, pa.Array)
    assert block.type == kind


@pytest.mark.parametrize(
    "elements",
    [[], [None], [1, None], [1, True],
     [1, 1.0], [2**63], ["\ud800"], [()], [(1,), (1, 2)], [(1, 2), (1, "a")], [Point(1, 2)], [np.int64(1)],
     [Word("w")], [Colour.RED], [[1]], [(1, [2])], [(1, (2, ()))], [1, "a"], [(1, 2), [1, 2]]],
)  # fmt: skip
def test_anything_else_is_a_list(elements: list[Any]) -> None:
    assert isinstance(pack(elements), list)


def test_a_slice_is_encoded_without_its_parent() -> None:
    block = pack([(f"word {n}", n) for n in range(100_000)])
    assert len(encode(block[:10])) < 2_000


def test_numbers_lie_aligned_after_decoding() -> None:
    made = decode(encode(pack(list(range(1000)))))
    assert made.buffers()[1].address % 8 == 0
    assert made.to_numpy(zero_copy_only=True).sum() == 499_500


def test_blocks_are_cut_by_rows_and_by_bytes() -> None:
    sizes = [len(block) for block in packed(range(2 * BLOCK_ROWS))]
    assert sum(sizes) == 2 * BLOCK_ROWS
    assert max(sizes) == BLOCK_ROWS
    assert [unpack(block) for block in packed(range(5), rows=2)] == [[0, 1], [2, 3], [4]]
    large = [len(block) for block in packed(bytes(1 << 20) for _ in range(100))]
    assert max(large) == 16
    small = [len(some) for some in cut((bytes(1 << 20) for _ in range(100)), OBJECT_ROWS)]
    assert max(small) == 16
    assert list(packed([])) == []


def test_blocks_are_made_one_by_one() -> None:
    taken = []

    def elements() -> Any:
        for n in range(10_000_000):
            taken.append(n)
            yield n

    next(packed(elements()))
    assert len(taken) <= 1000
