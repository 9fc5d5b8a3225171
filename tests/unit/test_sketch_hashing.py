"""Values are hashed as the sketches' documentation says, whatever array they come in, by both paths, in each process."""

from __future__ import annotations

import math
import os
import struct
import subprocess
import sys
import tracemalloc
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sketches import hash_kernel, hash_plain, hashes, murmur_kernel, murmur_plain
from sketches.base import checked_hashes
from sketches.columns import BLOCK, column, hash_blocks, one
from sketches.errors import SketchError, SketchTypeError
from sketches.murmur import murmured
from tests.hash_models import murmur3, xxh64

GOLDEN = Path(__file__).parents[1] / "golden" / "sketches" / "hashes_v1.txt"
SEED = np.uint64(42)
TEXTS = ["", "a", "abc", "Zürich", "日本語", "🙂 ok", "x" * 31, "y" * 32, "z" * 33, "w" * 300]
LONGS = [0, 1, -1, 2**31, -(2**31), 2**63 - 1, -(2**63), 42]
INTS = [0, 1, -1, 2**31 - 1, -(2**31), 42]
DOUBLES = [0.0, -0.0, 1.5, -1.5, math.inf, -math.inf, math.nan, 5e-324, 1.7976931348623157e308]


def long(value: int) -> int:
    return xxh64(struct.pack("<q", value))


def integer(value: int) -> int:
    return xxh64(struct.pack("<i", value))


def double(value: float) -> int:
    canonical = b"\0\0\0\0\0\0\xf8\x7f"
    return xxh64(canonical if math.isnan(value) else struct.pack("<d", value + 0.0))


def single(value: float) -> int:
    return xxh64(b"\0\0\xc0\x7f" if math.isnan(value) else struct.pack("<f", value + 0.0))


def binary(value: str | bytes) -> int:
    return xxh64(value.encode() if isinstance(value, str) else value)


def layout(values: Sequence[bytes]) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]:
    ends = np.cumsum([len(value) for value in values], dtype=np.int64)
    starts = np.concatenate([[0], ends[:-1]]).astype(np.int64) if values else np.empty(0, np.int64)
    return np.frombuffer(b"".join(values), np.uint8), starts, ends


# The models ------------------------------------------------------------------------------------------------------------


def test_the_models_agree_with_published_vectors() -> None:
    assert xxh64(b"", 0) == 0xEF46DB3751D8E999
    assert xxh64(b"a", 0) == 0xD24EC4F1A98C6E5B
    assert xxh64(b"abc", 0) == 0x44BC2CF5AD770999
    assert xxh64(b"Nobody inspects the spammish repetition", 0) == 0xFBCEA83C8A378BF1
    generated, buffer = 2654435761, bytearray()
    for _ in range(222):  # the buffer of xxHash's own sanity check
        buffer.append(generated >> 56)
        generated = generated * 11400714785074694797 % 2**64
    assert [xxh64(bytes(buffer[:size]), seed) for size in (1, 222) for seed in (0, 2654435761)] == [
        0xE934A84ADB052768,
        0x5014607643A9B4C3,
        0xB641AE8CB691C174,
        0x20CB8AB7AE10C14A,
    ]
    assert murmur3(b"", 0) == (0, 0)
    assert murmur3(b"hello", 0) == (0xCBD8A7B341BD9B02, 0x5B1E906A48AE1D19)
    assert murmur3(b"The quick brown fox jumps over the lazy dog", 0) == (0xE34BBC7BBC071B6C, 0x7A433CA9C49A9347)


# Kernels ---------------------------------------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(st.lists(st.binary(max_size=300), max_size=20), st.integers(0, 2**64 - 1))
def test_byte_strings_hash_as_specified_on_both_paths(values: list[bytes], seed: int) -> None:
    data, starts, ends = layout(values)
    expected = [xxh64(value, seed) for value in values]
    for path in (hash_kernel, hash_plain):
        out = np.empty(len(values), np.uint64)
        path.hash_bytes(data, starts, ends, np.uint64(seed), out)
        assert out.tolist() == expected


def test_byte_strings_of_each_length_hash_as_specified_on_both_paths() -> None:
    source = np.random.default_rng(0).bytes(400)
    values = [source[size % 7 : size % 7 + size] for size in range(301)]
    data, starts, ends = layout(values)
    for path in (hash_kernel, hash_plain):
        out = np.empty(len(values), np.uint64)
        path.hash_bytes(data, starts, ends, SEED, out)
        assert out.tolist() == [xxh64(value) for value in values]


@pytest.mark.parametrize("path", [hash_kernel, hash_plain])
def test_words_hash_as_specified_on_both_paths(path: Any) -> None:
    words = np.random.default_rng(1).integers(0, 2**64, 1000, np.uint64)
    out = np.empty(1000, np.uint64)
    path.hash_words8(words, SEED, out)
    assert out.tolist() == [xxh64(word.to_bytes(8, "little")) for word in words.tolist()]
    short = (words >> np.uint64(32)).astype(np.uint32)
    path.hash_words4(short, SEED, out)
    assert out.tolist() == [xxh64(word.to_bytes(4, "little")) for word in short.tolist()]


def in_our_order(data: bytes, precision: int) -> int:
    first, second = murmur3(data)
    return (first % (1 << precision)) << (64 - precision) | second >> precision


@pytest.mark.parametrize("path", [murmur_kernel, murmur_plain])
@pytest.mark.parametrize("precision", [4, 12, 18])
def test_murmur_hashes_as_specified_on_both_paths(path: Any, precision: int) -> None:
    source = np.random.default_rng(2).bytes(400)
    values = [source[size % 5 : size % 5 + size] for size in range(301)]
    data, starts, ends = layout(values)
    out = np.empty(len(values), np.uint64)
    path.words_of_bytes(data, starts, ends, np.uint64(9001), precision, out)
    assert out.tolist() == [in_our_order(value, precision) for value in values]
    words = np.random.default_rng(3).integers(0, 2**64, 500, np.uint64)
    out = np.empty(500, np.uint64)
    path.words_of_words8(words, np.uint64(9001), precision, out)
    assert out.tolist() == [in_our_order(word.to_bytes(8, "little"), precision) for word in words.tolist()]


# Arrays ----------------------------------------------------------------------------------------------------------------

NUMPY = {
    "int64": (np.array(LONGS), [long(value) for value in LONGS]),
    "int32": (np.array(INTS, np.int32), [integer(value) for value in INTS]),
    "int16": (np.array([0, -1, 32767], np.int16), [integer(value) for value in (0, -1, 32767)]),
    "int8": (np.array([0, -1, 127], np.int8), [integer(value) for value in (0, -1, 127)]),
    "uint8": (np.array([0, 255], np.uint8), [integer(value) for value in (0, 255)]),
    "uint16": (np.array([0, 65535], np.uint16), [integer(value) for value in (0, 65535)]),
    "uint32": (np.array([0, 2**32 - 1], np.uint32), [long(value) for value in (0, 2**32 - 1)]),
    "uint64": (np.array([0, 2**64 - 1], np.uint64), [xxh64(struct.pack("<Q", value)) for value in (0, 2**64 - 1)]),
    "int64 of the other end": (np.array(LONGS).astype(">i8"), [long(value) for value in LONGS]),
    "int32 of the other end": (np.array(INTS).astype(">i4"), [integer(value) for value in INTS]),
    "uint64 of the other end": (np.array([1, 2**63]).astype(">u8"), [xxh64(struct.pack("<Q", value)) for value in (1, 2**63)]),
    "double of the other end": (np.array(DOUBLES).astype(">f8"), [double(value) for value in DOUBLES]),
    "bool": (np.array([True, False]), [integer(1), integer(0)]),
    "double": (np.array(DOUBLES), [double(value) for value in DOUBLES]),
    "float": (np.array(DOUBLES[:7], np.float32), [single(value) for value in DOUBLES[:7]]),
    "half": (np.array([0.5, -0.0, math.nan], np.float16), [single(value) for value in (0.5, -0.0, math.nan)]),
    "another NaN": (np.array([0x7FF8000000000001, 0xFFF8000000000000], np.uint64).view(np.float64), [double(math.nan)] * 2),
    "texts": (np.array(TEXTS), [binary(text) for text in TEXTS]),
    "texts of any length": (np.array(TEXTS, np.dtypes.StringDType()), [binary(text) for text in TEXTS]),
    "empty texts": (np.array(["", ""]), [binary("")] * 2),
    "bytes": (np.array([b"", b"a", b"\xff\x00\xfe"]), [binary(text) for text in (b"", b"a", b"\xff\x00\xfe")]),
    "every second": (np.arange(10)[::2], [long(value) for value in (0, 2, 4, 6, 8)]),
    "every second text": (np.array(TEXTS)[::2], [binary(text) for text in TEXTS[::2]]),
    "backwards": (np.array(DOUBLES)[::-1], [double(value) for value in DOUBLES[::-1]]),
    "days": (np.array(["1970-01-02", "1969-12-31"], "M8[D]"), [integer(1), integer(-1)]),
    "seconds": (np.array(["1970-01-01T00:00:01"], "M8[s]"), [long(1_000_000)]),
    "nanoseconds": (np.array([1999, -1], "M8[ns]"), [long(1), long(-1)]),
    "texts with null": (np.array(["a", None, "b"], np.dtypes.StringDType(na_object=None)), [binary("a"), binary("b")]),
    "texts with NaN": (np.array(["a", math.nan], np.dtypes.StringDType(na_object=math.nan)), [binary("a")]),
    "masked days": (np.ma.MaskedArray(np.array(["NaT", 5, 6], "M8[D]"), [False, True, False]), [integer(6)]),
    "durations": (np.array([2, -3], "m8[ms]"), [long(2000), long(-3000)]),
    "masked": (np.ma.MaskedArray(np.array([1, 2, 3]), [False, True, False]), [long(1), long(3)]),
}


@pytest.mark.parametrize(("values", "expected"), NUMPY.values(), ids=NUMPY)
def test_numpy_arrays_hash_as_documented(values: NDArray[Any], expected: list[int]) -> None:
    assert hashes(values).tolist() == expected
    assert hashes(values[:0]).tolist() == []


MOMENT = datetime(2026, 2, 3, 4, 5, 6, 789_012, UTC)
MICROS = (MOMENT - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
ARROW = {
    "int64": (pa.array(LONGS), [long(value) for value in LONGS]),
    "nulls": (pa.array([None, 1, None, 2]), [long(1), long(2)]),
    "only nulls": (pa.array([None, None], pa.int64()), []),
    "no type": (pa.nulls(3), []),
    "int32": (pa.array(INTS, pa.int32()), [integer(value) for value in INTS]),
    "int16 with null": (pa.array([1, None], pa.int16()), [integer(1)]),
    "uint8": (pa.array([255], pa.uint8()), [integer(255)]),
    "bool": (pa.array([True, None, False]), [integer(1), integer(0)]),
    "double": (pa.array([*DOUBLES, None]), [double(value) for value in DOUBLES]),
    "float": (pa.array(DOUBLES[:7], pa.float32()), [single(value) for value in DOUBLES[:7]]),
    "string": (pa.array([*TEXTS, None]), [binary(text) for text in TEXTS]),
    "large string": (pa.array(TEXTS, pa.large_string()), [binary(text) for text in TEXTS]),
    "string view": (pa.array(TEXTS, pa.string_view()), [binary(text) for text in TEXTS]),
    "binary": (pa.array([b"", b"\xff\0", None]), [binary(b""), binary(b"\xff\0")]),
    "binary of one size": (pa.array([b"ab", None, b"cd"], pa.binary(2)), [binary(b"ab"), binary(b"cd")]),
    "dictionary": (pa.array(["a", "b", None, "a"]).dictionary_encode(), [binary(text) for text in "aba"]),
    "null in a dictionary": (pa.DictionaryArray.from_arrays(pa.array([0, 1, None, 0]), pa.array([7, None])), [long(7)] * 2),
    "sliced": (pa.array(LONGS)[2:5], [long(value) for value in LONGS[2:5]]),
    "sliced strings": (pa.array(TEXTS)[3:6], [binary(text) for text in TEXTS[3:6]]),
    "sliced nulls": (pa.array(["a", None, "b", None, "c"])[1:4], [binary("b")]),
    "sliced booleans": (pa.array([True, None, False, True])[1:], [integer(0), integer(1)]),
    "chunks": (pa.chunked_array([[1, None], [], [3]], pa.int64()), [long(1), long(3)]),
    "no chunks": (pa.chunked_array([], pa.int64()), []),
    "chunks of dictionaries": (
        pa.chunked_array([pa.array(["a", "b"]).dictionary_encode(), pa.array(["b", None, "c"]).dictionary_encode()]),
        [binary(text) for text in "abbc"],
    ),
    "date": (pa.array([date(1970, 1, 2), None]), [integer(1)]),
    "date in milliseconds": (pa.array([date(1969, 12, 31)], pa.date64()), [integer(-1)]),
    "timestamp": (pa.array([MOMENT, None], pa.timestamp("us", "UTC")), [long(MICROS)]),
    "timestamp in nanoseconds": (pa.array([MOMENT], pa.timestamp("ns")), [long(MICROS)]),
    "nanoseconds before 1970": (pa.array([-1, None, -1001], pa.timestamp("ns")), [long(-1), long(-2)]),
    "duration in nanoseconds": (pa.array([-1], pa.duration("ns")), [long(-1)]),
    "timestamp elsewhere": (pa.array([MOMENT], pa.timestamp("us", "Asia/Tokyo")), [long(MICROS)]),
    "duration": (pa.array([timedelta(milliseconds=2)]), [long(2000)]),
    "decimal": (pa.array([Decimal("12.34"), None, Decimal("-0.01")], pa.decimal128(18, 2)), [long(1234), long(-1)]),
    "short decimal": (pa.array([Decimal("1.5")], pa.decimal128(5, 1)), [long(15)]),
    "sliced decimal": (pa.array([Decimal(1), Decimal(2), Decimal(3)], pa.decimal128(9, 0))[1:], [long(2), long(3)]),
}


@pytest.mark.parametrize(("values", "expected"), ARROW.values(), ids=ARROW)
def test_arrow_arrays_hash_as_documented(values: Any, expected: list[int]) -> None:
    assert hashes(values).tolist() == expected
    assert hashes(values[:0]).tolist() == []


def test_rows_say_where_the_values_were() -> None:
    for values in (pa.array([None, 5, None, 6]), np.array(["NaT", 5, "NaT", 6], "M8[us]"), pd.Series([None, "a", None, "b"])):
        assert column(values).rows.tolist() == [1, 3]  # type: ignore[union-attr]
    assert column(pa.array([1, 2])).rows is None


SERIES = {
    "int64": (pd.Series([1, 2]), [long(1), long(2)]),
    "double, NaN is null": (pd.Series([1.0, math.nan]), [double(1.0)]),
    "texts": (pd.Series(["é", None]), [binary("é")]),
    "nullable": (pd.Series([1, None], dtype="Int32"), [integer(1)]),
    "arrow": (pd.Series(["a", None], dtype="string[pyarrow]"), [binary("a")]),
    "category": (pd.Series(["a", "b", None, "a"], dtype="category"), [binary(text) for text in "aba"]),
    "timestamp": (pd.Series([pd.Timestamp(MOMENT), pd.NaT]), [long(MICROS)]),
    "index": (pd.Index([3, 4]), [long(3), long(4)]),
}


@pytest.mark.parametrize(("values", "expected"), SERIES.values(), ids=SERIES)
def test_series_hash_as_their_arrow_arrays(values: Any, expected: list[int]) -> None:
    assert hashes(values).tolist() == expected


SINGLES = [
    (5, long(5)),
    (2**63, xxh64(struct.pack("<Q", 2**63))),
    (True, integer(1)),
    (1.5, double(1.5)),
    (-0.0, double(0.0)),
    ("Zürich", binary("Zürich")),
    (b"\0", binary(b"\0")),
    (bytearray(b"ab"), binary(b"ab")),
    (np.int32(5), integer(5)),
    (np.float32(0.5), single(0.5)),
    (date(1970, 1, 2), integer(1)),
    (MOMENT, long(MICROS)),
]


@pytest.mark.parametrize(("value", "expected"), SINGLES, ids=lambda value: repr(value)[:20])
def test_a_single_value_hashes_as_in_an_array(value: Any, expected: int) -> None:
    found = one(value)
    out = np.empty(len(found), np.uint64)
    found.hash_into(0, len(found), out)
    assert out.tolist() == [expected]
    assert len(one(None)) == 0


def test_a_column_is_hashed_in_blocks_that_join_to_the_whole() -> None:
    for values in (np.arange(2 * BLOCK + 5), pa.array([str(number) for number in range(BLOCK + 1)])):
        blocks = [(start, block.copy()) for start, block in hash_blocks(column(values))]
        assert [start for start, _ in blocks] == list(range(0, len(values), BLOCK))
        assert np.concatenate([block for _, block in blocks]).tolist() == hashes(values).tolist()


def test_values_can_be_taken_by_place() -> None:
    for values in (np.array([10, 20, 30]), pa.array(["a", "", "b", None, "c"])):
        found = column(values)
        for some in (found, murmured(found, 12)):
            whole, part = np.empty(len(some), np.uint64), np.empty(2, np.uint64)
            some.hash_into(0, len(some), whole)
            some.take(np.array([2, 0])).hash_into(0, 2, part)
            assert part.tolist() == whole[[2, 0]].tolist()


def test_murmur_sees_numbers_as_eight_bytes_and_no_empty_strings() -> None:
    def seen(values: Any) -> list[int]:
        found = murmured(column(values), 12)
        out = np.empty(len(found), np.uint64)
        found.hash_into(0, len(found), out)
        return out.tolist()  # type: ignore[no-any-return]  # NumPy says Any

    for values in (np.array([-5]), np.array([-5], np.int32), np.array([-5], np.int8), pa.array([None, -5], pa.int16())):
        assert seen(values) == [in_our_order(struct.pack("<q", -5), 12)]
    for values in (np.array([0.5]), np.array([0.5], np.float32)):
        assert seen(values) == [in_our_order(struct.pack("<d", 0.5), 12)]
    found = murmured(column(pa.array([None, "", "é", "", "b"])), 12)
    assert found.rows is not None
    assert found.rows.tolist() == [2, 4]
    assert seen(pa.array(["", "é", None])) == [in_our_order("é".encode(), 12)]


# Errors ----------------------------------------------------------------------------------------------------------------

REFUSED = {
    "list": ([1, 2], "values of type list"),
    "objects": (np.array([1, None], object), "an array of object"),
    "complex": (np.array([1j]), "an array of complex128"),
    "records": (np.zeros(2, [("a", "i4")]), "an array of "),
    "two dimensions": (np.zeros((2, 2)), "an array of 2 dimensions"),
    "no dimension": (np.array(5), "an array of 0 dimensions"),
    "wide floats": (np.zeros(1, np.longdouble), "an array of float128"),
    "months": (np.array([1], "m8[M]"), r"an array of timedelta64\[M\]"),
    "lists in Arrow": (pa.array([[1]]), "an Arrow array of list"),
    "long decimals": (pa.array([Decimal(1)], pa.decimal128(19, 0)), "decimals of 19 digits, more than 18"),
    "mixed series": (pd.Series([1, "a"]), "a Series of object"),
    "far days": (np.array([2**31], "M8[D]"), "days beyond 32 bits"),
    "far times": (np.array([2**62], "M8[s]"), "times whose microseconds are beyond 64 bits"),
    "far times in Arrow": (pa.array([2**62], pa.timestamp("s")), "times whose microseconds are beyond 64 bits"),
    "half a character": (np.array(["\ud800"]), "text that is not Unicode"),
}


@pytest.mark.parametrize(("values", "got"), REFUSED.values(), ids=REFUSED)
def test_other_values_are_refused(values: Any, got: str) -> None:
    with pytest.raises(SketchTypeError, match=f"cannot hash argument 'values': expected booleans, .+ or decimals, got {got}.*; .+"):
        hashes(values)


@pytest.mark.parametrize(
    ("value", "got"),
    [
        (2**64, "the integer 18446744073709551616"),
        (-(2**63) - 1, "the integer -9223372036854775809"),
        ("\ud800", "text that is not Unicode"),
        (object(), "a value of type object"),
        (1j, "a value of type complex"),
        ([1], "a value of type list"),
    ],
)
def test_other_single_values_are_refused(value: Any, got: str) -> None:
    with pytest.raises(SketchTypeError, match=f"cannot hash argument 'values': expected booleans, .+ or decimals, got {got}.*; .+"):
        one(value)


def test_hashes_given_must_be_64_bits() -> None:
    for wrong, got in ((np.zeros(2, np.int32), "int32, 1 dimensions"), (np.zeros((2, 2), np.int64), "int64, 2 dimensions"), ([1], "list")):
        with pytest.raises(SketchError, match=f"cannot use argument 'hashes': expected a flat array of int64 or uint64, got {got}; .+"):
            checked_hashes(wrong)


# Other processes -------------------------------------------------------------------------------------------------------

SCRIPT = """
import hashlib
import numpy as np
import pyarrow as pa
from sketches import HyperLogLog, UltraLogLog, hashes
from sketches.jit import HAS_NUMBA
values = np.arange(70_000) * 0x9E3779B97F4A % (1 << 40)
texts = pa.array([f"{number:x} é" * (number % 9) for number in range(3000)])
total = hashlib.sha256()
for some in (values, values.astype(np.int32), texts, values / 3):
    total.update(hashes(some).tobytes())
    for sketch in (HyperLogLog(8), HyperLogLog(12, "murmur3"), UltraLogLog(11)):
        sketch.update_many(some)
        total.update(sketch.to_bytes() + repr((sketch.estimate(), sketch.upper_bound())).encode())
print(total.hexdigest(), HAS_NUMBA)
"""


def in_another_process(**environment: str) -> list[str]:
    kept = {name: value for name, value in os.environ.items() if name != "MILLRACE_NO_NUMBA"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=kept | environment, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True
    )
    return done.stdout.split()


def test_each_process_computes_the_same_with_and_without_numba() -> None:
    first = in_another_process(PYTHONHASHSEED="1")
    assert in_another_process(PYTHONHASHSEED="2") == first
    assert in_another_process(PYTHONHASHSEED="1", MILLRACE_NO_NUMBA="1") == [first[0], "False"]
    assert first[1] == "True"


def test_hashes_never_change() -> None:
    """The file was written once. Sketches that are stored somewhere hold such hashes."""
    found = []
    for cases in (NUMPY, ARROW):
        for name, (values, _) in cases.items():
            found.append(" ".join([name, "=", *(f"{number:016x}" for number in hashes(values).tolist())]))
    assert GOLDEN.read_text(encoding="utf-8").splitlines() == found


def test_zeros_at_the_end_of_variable_strings_are_kept() -> None:
    texts = ["a\0", "a", "", "é\0\0", "日本", "\0"]
    variable = np.array(texts, np.dtypes.StringDType())
    assert (hashes(variable) == hashes(pa.array(texts))).all()
    assert hashes(variable)[0] == hashes(pa.array(["a\0"]))[0] != hashes(pa.array(["a"]))[0]
    assert hashes(np.array([], np.dtypes.StringDType())).size == 0


def test_one_long_string_does_not_cost_its_length_for_each() -> None:
    texts = np.array(["short"] * 20_000 + ["x" * 1_000_000], np.dtypes.StringDType())
    tracemalloc.start()
    hashes(texts)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50_000_000


def test_views_with_nulls() -> None:
    assert (hashes(pa.array(["a", None, "b"], pa.string_view())) == hashes(pa.array(["a", "b"]))).all()
