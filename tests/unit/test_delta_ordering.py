"""Which row of a key is the last, and from when to when versions hold; against the same done one by one."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spark_ext.delta.fit import fit
from spark_ext.delta.ordering import closed, has_duplicates, latest
from spark_ext.delta.types import is_safe, stored_type
from spark_ext.errors import SchemaError
from tests.delta_models import UpsertModel, as_set

START = datetime(2026, 1, 1, tzinfo=UTC)
SCHEMA = pa.schema([("k", pa.string()), ("s", pa.int64()), ("v", pa.int64()), ("w", pa.string())])
ROWS = st.lists(
    st.fixed_dictionaries({
        "k": st.sampled_from(["a", "b", "", None]),
        "s": st.sampled_from([None, 0, 1, 2]),
        "v": st.sampled_from([None, -1, 1]),
        "w": st.sampled_from([None, "x", "y"]),
    }),
    max_size=12,
)  # fmt: skip


@settings(deadline=None)
@given(ROWS)
def test_the_last_row_of_a_key_is_the_one_that_a_plain_sort_puts_last(rows: list[dict[str, Any]]) -> None:
    model = UpsertModel(["k"], "s", ["v", "w"])
    model.add(rows)
    found = latest(pa.Table.from_pylist(rows, schema=SCHEMA), ["k"], "s").to_pylist()
    assert as_set(found) == as_set(model.rows.values())


def test_not_a_number_counts_as_the_highest_and_null_as_the_lowest() -> None:
    rows = pa.table({"k": [1, 1, 1, 2, 2], "s": [1, 1, 1, 1, 1], "v": pa.array([math.inf, math.nan, None, -1.0, None])})
    found = {row["k"]: row["v"] for row in latest(rows, ["k"], "s").to_pylist()}
    assert math.isnan(found[1])
    assert found[2] == -1.0


def test_nested_columns_decide_after_all_others_and_not_by_the_order_of_rows() -> None:
    rows = pa.table({"k": [1, 1, 1], "s": [1, 1, 1], "l": [[9], [2], [1]], "v": [1, 2, 2]})
    for order in ([0, 1, 2], [2, 1, 0], [1, 0, 2]):
        assert latest(rows.take(order), ["k"], "s").to_pylist() == [{"k": 1, "s": 1, "l": [2], "v": 2}]


def test_null_keys_are_duplicates_of_each_other() -> None:
    assert has_duplicates(pa.table({"k": pa.array([None, None], pa.string())}), ["k"])
    assert not has_duplicates(pa.table({"k": ["a", None], "j": [None, None]}), ["k", "j"])


def at(minute: int | None) -> datetime | None:
    return None if minute is None else START + timedelta(minutes=minute)


def test_a_late_version_ends_where_the_next_begins_and_ends_the_one_before() -> None:
    time = pa.timestamp("us", "UTC")
    known = pa.table({"k": ["a", "a", "b"], "s": pa.array([at(0), at(10), at(0)], time), "valid_to": pa.array([at(10), None, None], time)})
    new = pa.table({"k": ["a", "c"], "s": pa.array([at(5), at(1)], time)})
    ends, closing = closed(known, new, ["k"], "s", "valid_to")
    assert ends.to_pylist() == [at(10), None]
    assert closing.to_pylist() == [{"k": "a", "s": at(0), "valid_to": at(5)}]


def test_a_version_that_is_known_ends_where_it_did() -> None:
    time = pa.timestamp("us", "UTC")
    known = pa.table({"k": ["a", "a"], "s": pa.array([at(0), at(10)], time), "valid_to": pa.array([at(10), None], time)})
    ends, closing = closed(known, known.select(["k", "s"]).slice(0, 1), ["k"], "s", "valid_to")
    assert (ends.to_pylist(), closing.num_rows) == ([at(10)], 0)


@pytest.mark.parametrize(
    ("kind", "into", "expected"),
    [
        (pa.int8(), pa.int32(), True),
        (pa.int64(), pa.int32(), False),
        (pa.uint32(), pa.int64(), True),
        (pa.uint64(), pa.int64(), False),
        (pa.int32(), pa.float64(), True),
        (pa.int32(), pa.float32(), False),
        (pa.int64(), pa.float64(), False),
        (pa.float32(), pa.float64(), True),
        (pa.float64(), pa.float32(), False),
        (pa.int32(), pa.decimal128(12, 2), True),
        (pa.int32(), pa.decimal128(11, 2), False),
        (pa.decimal128(10, 2), pa.decimal128(12, 4), True),
        (pa.decimal128(10, 2), pa.decimal128(11, 4), False),
        (pa.timestamp("ns"), pa.timestamp("us", "UTC"), True),
        (pa.timestamp("ms", "Asia/Tokyo"), pa.timestamp("us", "UTC"), True),
        (pa.timestamp("us", "UTC"), pa.timestamp("us"), False),
        (pa.date32(), pa.timestamp("us", "UTC"), False),
        (pa.dictionary(pa.int32(), pa.string()), pa.string(), True),
        (pa.string(), pa.int64(), False),
        (pa.null(), pa.int64(), True),
        (pa.list_(pa.int32()), pa.list_(pa.int64()), True),
        (pa.struct([("a", pa.int32())]), pa.struct([("a", pa.int64())]), True),
        (pa.struct([("a", pa.int32())]), pa.struct([("b", pa.int32())]), False),
        (pa.map_(pa.string(), pa.int32()), pa.map_(pa.string(), pa.int64()), True),
        (pa.time64("us"), pa.int64(), False),
    ],
)
def test_a_column_goes_only_into_a_type_that_holds_all_its_values(kind: pa.DataType, into: pa.DataType, *, expected: bool) -> None:
    assert is_safe(kind, into) is expected


def test_a_stored_type_is_stored_as_itself() -> None:
    for kind in (pa.list_(pa.large_string()), pa.map_(pa.string_view(), pa.uint8()), pa.struct([("t", pa.timestamp("s", "UTC"))])):
        once = stored_type(kind)
        assert once is not None
        assert stored_type(once).equals(once)


def test_every_column_that_does_not_fit_is_named_with_its_type_and_the_tables() -> None:
    table = pa.schema([pa.field("a", pa.int32()), pa.field("must", pa.string(), nullable=False)])
    rows = pa.schema([("A", pa.int64()), ("b", pa.string()), ("B", pa.string())])
    with pytest.raises(SchemaError) as refused:
        fit(rows, table, path="t", evolve=False)
    for part in (
        "column 'A' int64 where the table has int32",
        "no column 'must', which must not be null",
        "column 'B' string, which the table lacks",
        "column 'B' twice",
    ):
        assert part in refused.value.got


@pytest.mark.parametrize("name", ["a b", "a,b", "a\tb", "a=b"])
def test_a_name_that_delta_refuses_is_refused_first(name: str) -> None:
    with pytest.raises(
        SchemaError, match=r"cannot write to table 't': .* a name that Delta refuses; nothing was written; correct the rows"
    ):
        fit(pa.schema([(name, pa.int64())]), None, path="t", evolve=False)
