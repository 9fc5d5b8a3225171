"""Reading one range: every offset is accounted for, whatever the blocks are."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, fields
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import LongType, StructField, StructType

from spark_ext.errors import QueryError
from spark_ext.ingest.records import Bytes, Headers, Records
from spark_ext.ingest.tags import RANGE_COUNTS
from spark_ext.kafka.fetch import OffsetOutOfRangeError
from spark_ext.kafka.offsets import Range
from spark_ext.kafka.options import SourceOptions
from spark_ext.kafka.ranges import Account, DecodedRows, RawRows, Rows, read_range
from spark_ext.kafka.rows import schema_of

FORMAT = json.dumps({"schema": StructType([StructField("n", LongType(), False)]).jsonValue()})
GIVEN = {"bootstrap_servers": "h:1", "topics": "t"}
DECODED = to_arrow_schema(schema_of(SourceOptions.from_options({**GIVEN, "format": FORMAT})), timezone="UTC")
RAW = to_arrow_schema(schema_of(SourceOptions.from_options({**GIVEN, "headers": "true"})), timezone="UTC")


def records(offsets: list[int], headers: Headers | None = None) -> Records:
    """A record's value is its offset as text; its key is null where the offset is odd; its time is the offset, or none for 0."""
    numbers = np.array(offsets, np.int64)
    keys = Bytes.of([None if n % 2 else b"k%d" % n for n in offsets])
    return Records(numbers, np.where(numbers == 0, -1, numbers), keys, Bytes.of([b"%d" % n for n in offsets]), headers)


class Log:
    """A fetcher of a partition that has only some offsets, from `log_start` on."""

    chosen = "test"

    def __init__(self, offsets: list[int], log_start: int = 0, sizes: Iterator[int] | None = None) -> None:
        self.offsets, self.log_start, self.sizes = sorted(offsets), log_start, sizes
        self.position = 10**9

    def seek(self, offset: int) -> None:
        self.position = offset

    def fetch(self, end: int, max_records: int) -> Records:
        if self.position < self.log_start:
            raise OffsetOutOfRangeError("t", 3, self.position, self.log_start, 1000)
        size = min(max_records, next(self.sizes)) if self.sizes else max_records
        there = [offset for offset in self.offsets if self.position <= offset < end]
        self.position = there[size - 1] + 1 if len(there) > size else end + 7  # gaps are passed over, also beyond the end
        return records(there[:size])

    def close(self) -> None: ...


@dataclass
class Thirds:
    """Of three records one is bad, one is filtered out, one is good."""

    @dataclass
    class Result:
        columns: pa.RecordBatch
        good: np.ndarray
        bad: np.ndarray
        reasons: list[str]
        details: list[str | None]
        drift: int
        filtered: int

    def decode(self, block: Records) -> Result:
        index = np.arange(len(block))
        good, bad, out = (index[block.offsets % 3 == rest] for rest in (0, 1, 2))
        columns = pa.record_batch({"n": pa.array(block.offsets[good])})
        return self.Result(columns, good, bad, ["odd"] * len(bad), [None] * len(bad), 1, len(out))


def read(log: Log, at: Range, rows: Rows, *, may_lose: bool = True, max_rows: int = 100) -> pa.Table:
    batches = list(read_range(log, at, rows, may_lose=may_lose, max_rows=max_rows))
    schema = DECODED if isinstance(rows, DecodedRows) else RAW
    assert all(batch.schema.equals(schema) for batch in batches)
    for batch in batches:
        batch.validate(full=True)
    return pa.Table.from_batches(batches, schema)


@settings(deadline=None)
@given(st.sets(st.integers(0, 300)), st.integers(0, 150), st.integers(0, 50), st.integers(0, 150), st.integers(0, 120), st.randoms())
def test_every_offset_is_accounted_for(present: set[int], start: int, lost: int, more: int, log_start: int, rnd: object) -> None:
    at = Range("t", 3, start, start + lost, start + lost + more)
    begins = max(at.first, min(log_start, at.end))
    expected = [offset for offset in sorted(present) if begins <= offset < at.end]
    sizes = iter(lambda: rnd.randint(1, 40), None)  # type: ignore[attr-defined]
    rows = read(Log(list(present), log_start, sizes), at, DecodedRows(DECODED, Thirds(), place=True)).to_pylist()
    account = rows[-1]["range"]
    assert rows[-1]["source"] == {"topic": "t", "partition": 3, "offset": at.end, "timestamp": None}
    assert [row["range"] for row in rows[:-1]] == [None] * (len(rows) - 1)
    good = [row for row in rows[:-1] if row["dead"] is None]
    dead = [row for row in rows[:-1] if row["dead"] is not None]
    assert [row["n"] for row in good] == [row["source"]["offset"] for row in good] == [n for n in expected if n % 3 == 0]
    assert [row["dead"]["value"] for row in dead] == [b"%d" % n for n in expected if n % 3 == 1]
    assert [row["dead"]["key"] for row in dead] == [None if n % 2 else b"k%d" % n for n in expected if n % 3 == 1]
    assert {row["n"] for row in dead} <= {None}
    assert account["end"] - account["start"] == account["read"] + account["absent"] + account["lost"]
    assert account["lost"] == begins - start
    assert account["read"] == account["decoded"] + account["dead"] == len(expected)
    assert account["decoded"] == len(good) + account["filtered"]
    assert account["bytes"] == sum(len(b"%d" % n) + (0 if n % 2 else len(b"k%d" % n)) for n in expected)


def test_good_rows_without_their_place_and_dead_ones_with_it() -> None:
    table = read(Log([0, 1, 2, 3]), Range("t", 3, 0, 0, 4), DecodedRows(DECODED, Thirds(), place=False))
    assert table["source"].is_valid().to_pylist() == [False, False, True, True]
    assert table["dead"].is_valid().to_pylist() == [False, False, True, False]


def test_raw_rows_have_no_account() -> None:
    table = read(Log([0, 1, 5]), Range("t", 3, 0, 0, 9), RawRows(RAW)).to_pylist()
    assert [(row["key"], row["value"], row["offset"], row["partition"]) for row in table] == [
        (b"k0", b"0", 0, 3),
        (None, b"1", 1, 3),
        (None, b"5", 5, 3),
    ]
    assert [row["timestamp"] and row["timestamp"].timestamp() for row in table] == [None, 0.001, 0.005]
    assert [row["headers"] for row in table] == [None, None, None]


def test_headers_are_pairs_and_none_is_null() -> None:
    headers = Headers(np.array([0, 2, 2, 3]), Bytes.of([b"a", b"b", b"c"]), Bytes.of([b"1", None, b""]))
    (batch,) = RawRows(RAW).of_block(records([1, 2, 3], headers), Range("t", 3, 1, 1, 4), Account(1, 4))
    batch.validate(full=True)
    assert batch["headers"].to_pylist() == [[{"key": "a", "value": b"1"}, {"key": "b", "value": None}], None, [{"key": "c", "value": b""}]]


def test_a_header_name_that_is_no_text_is_shown_as_one() -> None:
    headers = Headers(np.array([0, 2]), Bytes.of([b"\xff\xfe", "ü".encode()]), Bytes.of([b"1", b"2"]))
    (batch,) = RawRows(RAW).of_block(records([1], headers), Range("t", 3, 1, 1, 2), Account(1, 2))
    assert batch["headers"].to_pylist() == [[{"key": "\ufffd\ufffd", "value": b"1"}, {"key": "ü", "value": b"2"}]]


def test_a_time_stamp_that_is_no_time_is_null() -> None:
    found = records([1, 2, 3, 4])
    found.timestamps[:] = [2**63 - 1, 9_223_372_036_854_776, 253_402_300_799_999, -7]
    (batch,) = RawRows(RAW).of_block(found, Range("t", 3, 1, 1, 5), Account(1, 5))
    assert batch["timestamp"].to_pylist() == [None, None, datetime(9999, 12, 31, 23, 59, 59, 999_000, UTC), None]


def test_the_account_is_what_the_range_column_holds() -> None:
    assert tuple(field.name for field in fields(Account)) == RANGE_COUNTS


def test_what_may_not_be_lost_is_an_error_that_names_it() -> None:
    with pytest.raises(QueryError, match=r"cannot read offsets 't\[3\] 2\.\.5'.*got 4 that the broker no longer has"):
        read(Log([], log_start=6), Range("t", 3, 2, 2, 10), RawRows(RAW), may_lose=False)


def test_an_offset_beyond_the_end_is_the_fetchers_error() -> None:
    class Short(Log):
        def fetch(self, end: int, max_records: int) -> Records:
            raise OffsetOutOfRangeError("t", 3, self.position, 0, 1)

    with pytest.raises(OffsetOutOfRangeError, match="expected an offset from 0 to 1, got 2"):
        read(Short([]), Range("t", 3, 2, 2, 10), RawRows(RAW))
