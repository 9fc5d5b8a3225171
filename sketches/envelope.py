"""The bytes of a stored sketch: one header for all kinds, parameters, payload, checksum. Stable: a change makes a new version.

All numbers are little-endian::

    0   4   magic "MLSK"
    4   1   kind, see `KINDS`
    5   1   version of this kind's layout
    6   2   length P of the parameters
    8   4   length N of the payload
    12  P   parameters
    12+P  N  payload
    12+P+N  4  CRC32C of all before it

Reading costs time and memory in proportion to the bytes given: no length in them is believed before it was compared with what is there.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

import google_crc32c

from sketches.errors import SketchBytesError

__all__ = ["KINDS", "OVERHEAD", "Envelope", "kind_of", "open_envelope", "seal"]

MAGIC: Final = b"MLSK"
HEADER: Final = struct.Struct("<4sBBHI")
CHECKSUM: Final = struct.Struct("<I")
OVERHEAD: Final = HEADER.size + CHECKSUM.size
KINDS: Final = {
    1: "bloom",
    2: "classic_bloom",
    3: "rotating_bloom",
    4: "hyperloglog",
    5: "ultraloglog",
    6: "count_min",
    7: "reservoir",
    8: "weighted_reservoir",
    9: "stratified_reservoir",
    10: "misra_gries",
    11: "space_saving",
    12: "decaying",
    13: "decaying_top",
    14: "quantiles",
    15: "heavy_hitters",
}
NUMBERS: Final = {name: number for number, name in KINDS.items()}


@dataclass(frozen=True, slots=True)
class Envelope:
    """What is in the bytes: `parameters` and `payload` are views into them."""

    kind: str
    version: int
    parameters: memoryview
    payload: memoryview


def seal(kind: str, version: int, parameters: bytes, payload: bytes | memoryview) -> bytes:
    """Return the bytes of a sketch."""
    body = b"".join((HEADER.pack(MAGIC, NUMBERS[kind], version, len(parameters), len(payload)), parameters, payload))
    return body + CHECKSUM.pack(google_crc32c.value(body))


def kind_of(data: bytes | bytearray | memoryview) -> str:
    """Return which kind of sketch the bytes begin as; says nothing about the rest of them."""
    if len(data) < OVERHEAD or bytes(data[:4]) != MAGIC:
        raise _refused("sketch", f"bytes that begin with {MAGIC!r}", f"{len(data)} bytes that begin with {bytes(data[:4])!r}")
    if data[4] not in KINDS:
        raise _refused("sketch", f"a kind from 1 to {max(KINDS)}", f"kind {data[4]}")
    return KINDS[data[4]]


def open_envelope(data: bytes | bytearray | memoryview, kind: str, *, version: int) -> Envelope:
    """Check the bytes of a sketch and return what is in them.

    Parameters
    ----------
    data : bytes-like
        From `seal`.
    kind : str
        The kind that is wanted.
    version : int
        The newest version that the reader knows.

    Raises
    ------
    SketchBytesError
        Other bytes, damaged ones, another kind, a version that is not known.
    """
    found = kind_of(data)
    if found != kind:
        raise _refused(kind, f"a sketch of kind {kind!r}", f"one of kind {found!r}")
    _, _, stored, parameters, payload = HEADER.unpack_from(data)
    if len(data) != OVERHEAD + parameters + payload:
        raise _refused(kind, f"{OVERHEAD + parameters + payload} bytes", f"{len(data)}")
    body, (wanted,) = bytes(data[: -CHECKSUM.size]), CHECKSUM.unpack_from(data, len(data) - CHECKSUM.size)
    if google_crc32c.value(body) != wanted:
        raise _refused(kind, f"checksum {wanted:08x}", f"{google_crc32c.value(body):08x}")
    if not 1 <= stored <= version:
        raise _refused(
            kind, f"a version from 1 to {version}", f"version {stored}", todo="read it with the release that wrote it, or a newer one"
        )
    view, middle = memoryview(body), HEADER.size + parameters
    return Envelope(found, stored, view[HEADER.size : middle], view[middle:])


def _refused(kind: str, expected: str, got: str, *, todo: str = "give the bytes that to_bytes returned, unchanged") -> SketchBytesError:
    return SketchBytesError("read", "bytes of sketch", kind, expected=expected, got=got, todo=todo)


def damaged(kind: str, expected: str, got: str) -> SketchBytesError:
    """Return the error of a sketch whose checksum is right and whose content is not."""
    return _refused(kind, expected, got)
