"""Columns of stored sketches and the order of numbers: kernels against Python and against their equals in NumPy."""

from __future__ import annotations

import random
from typing import Any

import google_crc32c
import numpy as np
import pyarrow as pa
import pytest

from sketches import HyperLogLog, by_number_kernel, by_number_plain, machine, numbered_states, stored_kernel, stored_plain
from sketches.envelope import HEADER
from sketches.errors import SketchError
from sketches.jit import HAS_NUMBA
from sketches.numbered import numbered
from sketches.stored import arrow_of, blobs_of, head_of

needs_numba = pytest.mark.skipif(not HAS_NUMBA, reason="kernels need it")
STORED = [stored_plain, *([stored_kernel] if HAS_NUMBA else [])]
BY_NUMBER = [by_number_plain, *([by_number_kernel] if HAS_NUMBA else [])]


def texts(seed: int, count: int) -> tuple[list[bytes], Any, Any, Any]:
    dice = random.Random(seed)  # noqa: S311 (no secret)
    found = [dice.randbytes(dice.randrange(4, dice.choice((5, 20, 400)))) for _ in range(count)]
    ends = np.cumsum([len(one) for one in found], dtype=np.int64)
    return found, np.frombuffer(b"".join(found), np.uint8).copy(), np.concatenate((np.zeros(min(1, count), np.int64), ends[:-1])), ends


@pytest.mark.parametrize("kernels", STORED)
@pytest.mark.parametrize("count", [0, 1, 3, 4, 203])
def test_checksums_are_those_of_google(kernels: Any, count: int) -> None:
    found, data, begins, ends = texts(count, count)
    out = np.empty(count, np.uint32)
    kernels.checksums(data, begins, ends, out)
    assert out.tolist() == [google_crc32c.value(one) for one in found]
    kernels.seal(data, begins, ends)
    for one, begin, end in zip(found, begins, ends, strict=True):
        assert data[begin:end].tobytes() == one[:-4] + google_crc32c.value(one[:-4]).to_bytes(4, "little")
    fits = np.ones(count, np.bool_)
    kernels.verify(data, begins, ends, fits)
    assert fits.all()
    data[ends[::2] - 1] ^= 1
    fits[1:2] = False
    kernels.verify(data, begins, ends, fits)
    assert fits.tolist() == [bool(row % 2 and row != 1) for row in range(count)]


@needs_numba
def test_where_there_is_no_instruction_a_table_does_it() -> None:
    for crc, word in ((0xFFFFFFFF, 0), (0x12345678, 0x0123456789ABCDEF), (0, 2**64 - 1)):
        data = word.to_bytes(8, "little")
        wanted = google_crc32c.extend(crc ^ 0xFFFFFFFF, data) ^ 0xFFFFFFFF
        assert int(machine._crc_word_by_table(np.uint64(crc), np.uint64(word))) == wanted
        for byte in data:
            crc = int(machine._crc_byte_by_table(np.uint64(crc), np.uint64(byte)))  # noqa: PLW2901 (step by step)
        assert crc == wanted


@pytest.mark.parametrize("kernels", STORED)
def test_only_headers_like_the_wanted_one_fit(kernels: Any) -> None:
    sketch = HyperLogLog(7)
    sketch.update_many(np.arange(9))
    good, head = sketch.to_bytes(), head_of(sketch)
    assert head.tobytes()[:8] == good[:8]
    assert head.tobytes()[HEADER.size :] == good[HEADER.size : head.size]
    bad = [good[:place] + bytes([good[place] ^ 255]) + good[place + 1 :] for place in range(head.size)]
    column = [good, *bad, good[:-1], good + b"\0", b"", good[: head.size], good[: head.size + 3], good]
    ends = np.cumsum([len(one) for one in column])
    fits = np.empty(len(column), np.bool_)
    kernels.check_headers(np.frombuffer(b"".join(column), np.uint8), np.concatenate(([0], ends[:-1])), ends, head, fits)
    assert np.flatnonzero(fits).tolist() == [0, len(column) - 1]


@pytest.mark.parametrize("kernels", BY_NUMBER)
@pytest.mark.parametrize("most", [0, 1, 1000, 1025, 100_000, (1 << 31) - 1])
def test_rows_are_sorted_by_number_and_stay_in_order(kernels: Any, most: int) -> None:
    rng = np.random.default_rng(most)
    numbers, hashes = rng.integers(0, most, 3000, endpoint=True).astype(np.uint32), rng.integers(0, 1 << 63, 3000).astype(np.uint64)
    order = np.argsort(numbers, kind="stable")
    for weights in (np.empty(0, np.int64), rng.integers(0, 99, 3000)):
        found = kernels.sort_items(numbers.copy(), hashes.copy(), weights.copy(), most)
        assert [some.tolist() for some in found] == [
            numbers[order].tolist(),
            hashes[order].tolist(),
            weights[order[: weights.size]].tolist(),
        ]
    codes = numbers.astype(np.uint64) << np.uint64(32) | hashes >> np.uint64(32)
    ordered = kernels.sort_codes(codes.copy(), most)
    assert ordered.tolist() == codes[order].tolist()
    if most <= 1025:
        wanted = np.searchsorted(numbers[order], np.arange(most + 3))
        for starts_of, some in ((kernels.starts_of_codes, ordered), (kernels.starts_of_numbers, numbers[order])):
            starts = np.empty(most + 3, np.int64)
            starts_of(some, starts)
            assert starts.tolist() == wanted.tolist()


def test_columns_of_bytes_are_taken_apart_and_made() -> None:
    found = [b"a", None, b"", b"bcd"]
    for column in (found, pa.array(found, pa.binary()), pa.chunked_array([found[:1], found[1:]], pa.large_binary())):
        blobs = blobs_of(column)
        assert blobs.rows.tolist() == [0, 2, 3]
        assert [blobs.data[begin:end].tobytes() for begin, end in zip(blobs.begins, blobs.ends, strict=True)] == [b"a", b"", b"bcd"]
    assert blobs_of(pa.array([], pa.binary())).rows.size == blobs_of([]).rows.size == 0
    assert arrow_of(np.frombuffer(b"abcd", np.uint8), np.array([1, 1, 3])).to_pylist() == [b"a", b"", b"bc"]


def test_more_than_an_array_holds_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numbered_states, "MOST_BYTES", 100)
    groups = numbered(HyperLogLog(7), 10)
    assert len(groups.to_stored(0, 5)) == 5
    with pytest.raises(
        SketchError, match=r"cannot store sketches 'hyperloglog': expected up to 100 bytes at once, got more; ask for fewer"
    ):
        groups.to_stored()
