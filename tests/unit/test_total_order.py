"""An order by values against Python's own, whatever the type of a column."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spark_ext.windows.total_order import total_order

small = st.integers(-2, 2)
KINDS: list[tuple[pa.DataType, st.SearchStrategy[Any]]] = [
    (pa.int64(), st.sampled_from([-(2**63), -1, 0, 1, 2**63 - 1])),
    (pa.float64(), st.sampled_from([-float("inf"), -1.5, 0.0, 2.5, float("inf")])),
    (pa.string(), st.sampled_from(["", "a", "aa", "é", "z"])),
    (pa.binary(), st.sampled_from([b"", b"a", b"\xff"])),
    (pa.bool_(), st.booleans()),
    (pa.decimal128(38, 0), st.integers(-(10**37), 10**37).map(__import__("decimal").Decimal)),
    (pa.timestamp("us", "UTC"), small),
    (pa.list_(pa.int64()), st.lists(st.one_of(st.none(), small), max_size=3)),
    (pa.list_(pa.list_(pa.string())), st.lists(st.one_of(st.none(), st.lists(st.sampled_from(["a", "b"]), max_size=2)), max_size=2)),
    (pa.struct([("x", pa.int64()), ("y", pa.string())]), st.fixed_dictionaries({"x": small, "y": st.sampled_from(["a", None])})),
    (pa.map_(pa.string(), pa.int64()), st.lists(st.tuples(st.sampled_from("ab"), st.one_of(st.none(), small)), max_size=2)),
    (pa.null(), st.none()),
]


def place(value: Any) -> Any:
    """Nulls first, and parts one after the other."""
    if value is None:
        return (0,)
    if isinstance(value, dict):
        return (1, tuple(place(part) for _, part in sorted(value.items())))
    if isinstance(value, list | tuple):
        return (1, tuple(place(part) for part in value))
    return (1, value)


@pytest.mark.parametrize(("kind", "values"), KINDS, ids=[str(kind) for kind, _ in KINDS])
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_rows_of_one_number_are_ordered_by_value(kind: pa.DataType, values: st.SearchStrategy[Any], data: st.DataObject) -> None:
    found = data.draw(st.lists(st.tuples(st.integers(0, 2), st.one_of(st.none(), values)), max_size=12))
    numbers = np.array([number for number, _ in found], np.int64)
    column = pa.array([None, *(value for _, value in found)], kind)[1:]  # with an offset
    order = total_order([numbers], [column]).tolist()
    assert sorted(order) == list(range(len(found)))
    assert [(found[at][0], place(found[at][1])) for at in order] == sorted((number, place(value)) for number, value in found)


def test_columns_count_one_after_the_other() -> None:
    expected = [(0, "a", 1), (0, "a", 2), (0, "b", 0), (1, None, 5), (1, "a", 0)]
    shuffled = random.Random(5).sample(expected, 5)  # noqa: S311
    numbers, names, values = zip(*shuffled, strict=True)
    order = total_order([np.array(numbers)], [pa.chunked_array([names[:2], names[2:]], pa.string()), pa.array(values)])
    assert [shuffled[at] for at in order] == expected
