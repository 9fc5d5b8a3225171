"""A bucket's state as bytes: what was written comes back, and whatever else the bytes may be is refused in the house form."""

from __future__ import annotations

import base64
import struct
import zlib
from typing import Any

import google_crc32c
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spark_ext.errors import StateError
from spark_ext.state.codec import BucketState, Identity, decode, encode
from spark_ext.state.kernel import FOREVER_US, NEVER_US

SCHEMAS = {
    "keys": pa.schema([("k", pa.string()), ("s", pa.struct([("f", pa.float64()), ("d", pa.decimal128(38, 4))]))]),
    "groups": pa.schema([("pane", pa.int32()), ("list", pa.list_(pa.timestamp("us", "UTC"))), ("b", pa.binary()), ("t", pa.bool_())]),
    "nothing": pa.schema([]),
}
SMALL = BucketState(
    Identity("sums_v1", '{"key": "é"}', 8),
    5,
    1_357_000_000_000_000,
    {"keys": pa.table({"k": ["a", None, "東京"]}), "sums": pa.table({"n": pa.array([1, 2, None], pa.int64())})},
)
# The bytes of SMALL, as format 1 had them when it was made.
FORMAT_1 = """
eNrzDXIKZmRgYFDxN/96EEhXK+UXpBYlluQXKVkpFZfmFseXGSrpKBWnlpRk5qUXAwWrY5SyUytjlKwUYpRiSg0MUi1jlGqBSpJKk7NTS4AqLGBsJStTHaW0
nPz8ovhSoLihsam5ARLQUSpJTMpJBcpEVyvlJeamAg0HmlwMNKsovxwobAw0qLIEpMDYyKBWB64I5CxsigyNamNrGUgD/4GgAEgLgHlcDDwMbAysDBxAFhAw
sgD5DEAeB5BkgZJAYSAWAesRAYqxMbCDVQlAzWBkBdESULUMUPXZYD4LXAxk7wyoOSDAwyAGtZkHbBoDMwvYDAW4S7mAfB6wK0Bu84G6mRnJL8hsRijNAaUF
oLQElGZHU8uMpo8VTZ4Rqifx2dyNT3atAbsf5o8K6oYfE4iWQQu/PLA5PEDMDvMTowPU/g4KwtEGSzgy4QlHCQLhhs5nwpLeQDQAfbRkUw==
"""

rows = st.integers(0, 5)
texts = st.text(max_size=20)


@st.composite
def states(draw: st.DrawFn) -> BucketState:
    def table(name: str) -> pa.Table:
        schema, size = SCHEMAS[name], draw(rows)
        column = {
            "k": st.none() | texts,
            "s": st.none() | st.fixed_dictionaries({"f": st.none() | st.floats(allow_nan=False), "d": st.none()}),
            "pane": st.integers(-(2**31), 2**31 - 1),
            "list": st.none() | st.lists(st.none() | st.integers(0, 2**50), max_size=3),
            "b": st.binary(max_size=9),
            "t": st.none() | st.booleans(),
        }
        whole = pa.Table.from_arrays(
            [pa.array(draw(st.lists(column[field.name], min_size=size, max_size=size)), field.type) for field in schema], schema=schema
        )
        return pa.concat_tables([whole.slice(0, size // 2), whole.slice(size // 2)])

    identity = Identity(draw(texts), draw(texts), draw(st.integers(1, 16_384)))
    floor = draw(st.sampled_from([NEVER_US, -1, 0, 1, FOREVER_US]))
    return BucketState(
        identity, draw(st.integers(0, 16_383)), floor, {name: table(name) for name in draw(st.sets(st.sampled_from([*SCHEMAS])))}
    )


@settings(max_examples=500, deadline=None)
@given(state=states())
def test_what_was_written_comes_back(state: BucketState) -> None:
    found = decode(encode(state), name="x")
    assert (found.identity, found.bucket, found.floor_us) == (state.identity, state.bucket, state.floor_us)
    assert list(found.tables) == list(state.tables)
    for name, table in state.tables.items():
        assert found.tables[name].schema == table.schema
        assert found.tables[name].equals(table)


def test_a_slice_of_a_large_table_is_stored_by_itself() -> None:
    large = pa.table({"k": [str(number) * 9 for number in range(10_000)]})
    small = BucketState(Identity("x", "{}", 1), 0, NEVER_US, {"keys": large.slice(5_000, 3)})
    assert len(encode(small)) < 2_000
    assert decode(encode(small), name="x").tables["keys"].equals(large.slice(5_000, 3))


def test_format_1_stays_readable() -> None:
    found = decode(zlib.decompress(base64.b64decode(FORMAT_1)), name="x")
    assert (found.identity, found.bucket, found.floor_us) == (SMALL.identity, SMALL.bucket, SMALL.floor_us)
    assert {name: table.to_pydict() for name, table in found.tables.items()} == {
        name: table.to_pydict() for name, table in SMALL.tables.items()
    }


def refused(blob: bytes) -> str:
    with pytest.raises(StateError) as found:
        decode(blob, name="bucket 5")
    text = str(found.value)
    assert text.startswith("cannot read state 'bucket 5': expected ")
    assert "restore this checkpoint's state folder from a copy, or start with a new checkpoint" in text
    return text


def test_no_bit_may_change() -> None:
    blob = encode(SMALL)
    for place in range(8 * len(blob)):
        changed = bytearray(blob)
        changed[place // 8] ^= 1 << place % 8
        refused(bytes(changed))


def test_no_byte_may_be_missing() -> None:
    blob = encode(SMALL)
    for size in range(len(blob)):
        refused(blob[:size])
    refused(blob + b"\0")


@settings(max_examples=500, deadline=None)
@given(data=st.data())
def test_runs_of_bytes_may_not_change(data: st.DataObject) -> None:
    blob = encode(SMALL)
    start = data.draw(st.integers(0, len(blob) - 1))
    junk = data.draw(st.binary(min_size=1, max_size=64))
    changed = blob[:start] + junk + blob[start + len(junk) :]
    if changed != blob:
        refused(changed)


@pytest.mark.parametrize(("blob", "message"), [
    (b"", r"expected a state that begins with b'MRBS', got 0 bytes"),
    (b"PK\3\4" + bytes(60), r"got 64 bytes that begin with b'PK\\x03\\x04'; it is not ours; restore this checkpoint's state folder"),
    (b"MRBS" + struct.pack("<HH", 2, 0) + bytes(80), r"expected format 1, got format 2; another release wrote it, .*; run it"),
])  # fmt: skip
def test_what_is_not_ours_or_newer_is_named(blob: bytes, message: str) -> None:
    with pytest.raises(StateError, match=message):
        decode(blob, name="bucket 5")


@pytest.mark.parametrize("body", [
    struct.pack("<I", 2**31) + b"{}",  # a header longer than all there is
    struct.pack("<I", 2) + b"{]" + bytes(60),
    struct.pack("<I", 2) + b"{}" + bytes(60),
    struct.pack("<I", 4) + b"\xff\xff\xff\xff" + bytes(60),
])  # fmt: skip
def test_a_header_that_makes_no_sense_is_refused_though_its_checksum_is_right(body: bytes) -> None:
    assert "its checksum is right" in refused(b"MRBS" + struct.pack("<HHI", 1, 0, google_crc32c.value(body)) + body)


def test_a_table_that_is_none_is_refused_though_its_checksum_is_right() -> None:
    blob = encode(SMALL)
    at = blob.rindex(b"\xff\xff\xff\xff", 0, len(blob) - 8)
    body = blob[12:at] + b"\x7f" * 8 + blob[at + 8 :]
    refused(blob[:8] + struct.pack("<I", google_crc32c.value(body)) + body)


def test_what_is_alike_takes_few_bytes() -> None:
    times: Any = pa.array(range(1_700_000_000_000_000, 1_700_000_000_000_000 + 100_000), pa.int64())
    state = BucketState(Identity("x", "{}", 1), 0, NEVER_US, {"t": pa.table({"at": times})})
    blob = encode(state)
    assert len(blob) < 0.7 * times.nbytes
    assert decode(blob, name="x") == state
