"""Stored bytes: what is in them, and what is refused."""

from __future__ import annotations

import struct

import google_crc32c
import pytest

from sketches.envelope import KINDS, OVERHEAD, kind_of, open_envelope, seal
from sketches.errors import SketchBytesError

DATA = seal("bloom", 1, b"PAR", b"payload")


def test_the_layout_is_the_documented_one() -> None:
    body = b"MLSK" + bytes([1, 1]) + struct.pack("<HI", 3, 7) + b"PAR" + b"payload"
    assert body + struct.pack("<I", google_crc32c.value(body)) == DATA
    assert len(DATA) == OVERHEAD + 3 + 7


def test_what_went_in_comes_out() -> None:
    for data in (DATA, bytearray(DATA), memoryview(DATA)):
        found = open_envelope(data, "bloom", version=3)
        assert (found.kind, found.version, bytes(found.parameters), bytes(found.payload)) == ("bloom", 1, b"PAR", b"payload")
        assert kind_of(data) == "bloom"
    assert bytes(open_envelope(seal("quantiles", 9, b"", b""), "quantiles", version=9).payload) == b""


def test_kinds_have_numbers_of_their_own_that_fit_a_byte() -> None:
    assert len(set(KINDS.values())) == len(KINDS)
    assert all(0 < number < 256 for number in KINDS)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", r"cannot read bytes of sketch 'sketch': expected bytes that begin with b'MLSK', got 0 bytes"),
        (b"PAR1" + DATA[4:], "expected bytes that begin with b'MLSK', got 26 bytes that"),
        (DATA[:4] + b"\xff" + DATA[5:], r"expected a kind from 1 to \d+, got kind 255"),
        (
            seal("count_min", 1, b"", b""),
            "cannot read bytes of sketch 'bloom': expected a sketch of kind 'bloom', got one of kind 'count_min'",
        ),
        (DATA[:-1], r"expected 26 bytes, got 25"),
        (DATA + b"\0", r"expected 26 bytes, got 27"),
        (DATA[:8] + struct.pack("<I", 2**32 - 1) + DATA[12:], "expected 4294967314 bytes, got 26"),
        (DATA[:-6] + b"X" + DATA[-5:], r"expected checksum [0-9a-f]{8}, got [0-9a-f]{8}"),
        (seal("bloom", 2, b"", b""), "expected a version from 1 to 1, got version 2; read it with the release that wrote it"),
        (seal("bloom", 0, b"", b""), "expected a version from 1 to 1, got version 0"),
    ],
)
def test_anything_else_is_refused(data: bytes, text: str) -> None:
    with pytest.raises(SketchBytesError, match=text):
        open_envelope(data, "bloom", version=1)


def test_each_single_bit_counts() -> None:
    for at in range(8 * len(DATA)):
        changed = bytearray(DATA)
        changed[at // 8] ^= 1 << (at % 8)
        with pytest.raises(SketchBytesError):
            open_envelope(changed, "bloom", version=1)
