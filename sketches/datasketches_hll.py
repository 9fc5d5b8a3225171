"""HyperLogLog in the bytes of Apache DataSketches, as Spark's ``hll_sketch_agg`` makes and ``hll_union_agg`` reads them.

A sketch for exchange hashes as DataSketches does, so it is a ``HyperLogLog(precision, hash="murmur3")`` with the precision that is there
called lgConfigK. Then its registers are those that DataSketches has for the same values, and unions are right in both directions.

The layout, little-endian::

    0  preamble in ints: 2 list, 3 set, 10 registers     5  flags: 4 empty, 8 compact, 16 out of order
    1  version, 1                                        6  values in the list; lowest register
    2  family, 7                                         7  mode: list, set, registers; times 4: HLL_4, HLL_6, HLL_8
    3  lgConfigK                                         8  list: coupons; set: count, then coupons at 12
    4  log2 of the room for coupons                      8  registers: three doubles, counts of lowest and of exceptions, registers at 40

A coupon is a register's index in 26 bits and above them its rank in 6.

References
----------
Apache DataSketches (2024), datasketches-java 6, package org.apache.datasketches.hll: PreambleUtil, HllUtil.
"""

from __future__ import annotations

import struct
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sketches.errors import SketchBytesError, SketchError
from sketches.hyperloglog import HyperLogLog

__all__ = ["from_datasketches", "to_datasketches"]

KIND: Final = "DataSketches HLL"
PREAMBLE: Final = struct.Struct("<8B")
REGISTERS: Final = struct.Struct("<8B3d2I")
COUNT: Final = struct.Struct("<I")
VERSION, FAMILY = 1, 7
EMPTY, COMPACT, OUT_OF_ORDER = 4, 8, 16
LIST, SET, HLL = 0, 1, 2
INTS: Final = {LIST: 2, SET: 3, HLL: 10}
NIBBLES, SIX_BITS, BYTES = 0, 1, 2
EXCEPTION: Final = 15
INDEX_BITS: Final = 26
MOST_ROOM: Final = 26
HALF: Final = 32  # ranks from here on have a sum of their own


def to_datasketches(sketch: HyperLogLog) -> bytes:
    """Return an HLL_8 sketch of DataSketches.

    It is a list if empty, otherwise registers even for few values: DataSketches' lists tell values apart by more bits of the hash than
    are here. It is marked out of order, so readers estimate from the registers.

    Parameters
    ----------
    sketch : HyperLogLog
        Of ``hash="murmur3"``.

    Raises
    ------
    SketchError
        The sketch has another hash: with others of DataSketches it would count each value twice.

    Examples
    --------
    >>> sketch = HyperLogLog(12, hash="murmur3")
    >>> sketch.update_many(np.arange(1000))
    >>> from_datasketches(to_datasketches(sketch)).to_bytes() == sketch.to_bytes()
    True
    """
    if sketch.hash != "murmur3":
        raise SketchError(
            "export",
            "sketch",
            sketch.KIND,
            expected="hash 'murmur3'",
            got=repr(sketch.hash),
            why="a union with sketches of DataSketches would count each value twice",
            todo="build it with hash='murmur3'",
        )
    if sketch.is_empty:
        return PREAMBLE.pack(INTS[LIST], VERSION, FAMILY, sketch.precision, 3, EMPTY | COMPACT, 0, LIST | BYTES << 2)
    counts = np.bincount(sketch.state, minlength=HALF).tolist()
    low = sum(count * 2.0**-rank for rank, count in enumerate(counts[:HALF]))
    high = sum(count * 2.0 ** -(rank + HALF) for rank, count in enumerate(counts[HALF:]))
    head = (INTS[HLL], VERSION, FAMILY, sketch.precision, 0, OUT_OF_ORDER, 0, HLL | BYTES << 2, 0.0, low, high, counts[0], 0)
    return REGISTERS.pack(*head) + sketch.state.tobytes()


def from_datasketches(data: bytes | bytearray | memoryview) -> HyperLogLog:
    """Read a sketch of DataSketches: HLL_4, HLL_6 or HLL_8, in registers, list or set, compact or not.

    Its registers are taken. What DataSketches keeps beside them, for a better estimate of a stream that was never merged, is not.

    Parameters
    ----------
    data : bytes-like
        For example a value of ``hll_sketch_agg``; its values hashed with DataSketches' default seed, which the bytes do not tell.

    Returns
    -------
    HyperLogLog
        With ``hash="murmur3"`` and lgConfigK, which must be 4 to 18, as precision.

    Raises
    ------
    SketchBytesError
        Other bytes, or damaged ones as far as that shows: the form has no checksum.
    """
    if len(data) < PREAMBLE.size:
        raise _refused(f"at least {PREAMBLE.size} bytes", f"{len(data)}")
    raw = bytes(data)
    ints, version, family, precision, room, flags, few, modes = PREAMBLE.unpack_from(raw)
    mode, form = modes & 3, modes >> 2 & 3
    if (version, family) != (VERSION, FAMILY) or INTS.get(mode) != ints or form > BYTES:
        raise _refused("version 1, family 7 and a mode of HLL", f"version {version}, family {family}, mode {modes}, {ints} ints")
    if not HyperLogLog.LEAST <= precision <= HyperLogLog.MOST:
        raise _refused(f"lgConfigK from {HyperLogLog.LEAST} to {HyperLogLog.MOST}", f"{precision}")
    sketch = HyperLogLog(precision, "murmur3")
    if mode == HLL:
        if len(raw) < REGISTERS.size:
            raise _refused(f"at least {REGISTERS.size} bytes", f"{len(raw)}")
        exceptions = REGISTERS.unpack_from(raw)[-1]
        found = _registers(raw, form, 1 << precision, few, _room(room, exceptions, flags) if form == NIBBLES else 0, exceptions)
    else:
        start, count = PREAMBLE.size, few
        if mode == SET:
            if len(raw) < start + COUNT.size:
                raise _refused(f"at least {start + COUNT.size} bytes", f"{len(raw)}")
            (count,) = COUNT.unpack_from(raw, start)
            start += COUNT.size
        if flags & EMPTY and count:
            raise _refused("no values, as it says it is empty", f"{count}")
        found = np.zeros(1 << precision, np.uint8)
        _take(found, _coupons(raw, start, _room(room, count, flags), count))
    # Its ranks end at 63, ours where 64 bits do; one value in 2**(64 - precision) shows the difference.
    np.minimum(found, np.uint8(65 - precision), out=sketch.state)
    return sketch


def _registers(raw: bytes, form: int, size: int, lowest: int, room: int, exceptions: int) -> NDArray[np.uint8]:
    start = REGISTERS.size
    length = {NIBBLES: size // 2, SIX_BITS: size * 3 // 4 + 1, BYTES: size}[form]
    if len(raw) < start + length or (form != NIBBLES and len(raw) != start + length):
        raise _refused(f"{start + length:,} bytes", f"{len(raw):,}")
    packed = np.frombuffer(raw, np.uint8, length, start)
    if form == BYTES:
        return packed & np.uint8(63)
    found = np.empty(size, np.uint8)
    if form == SIX_BITS:
        threes = packed[: size * 3 // 4].reshape(-1, 3).astype(np.uint32)
        words = threes[:, 0] | threes[:, 1] << np.uint32(8) | threes[:, 2] << np.uint32(16)
        for place in range(4):
            found[place::4] = words >> np.uint32(6 * place) & np.uint32(63)
        return found
    found[0::2] = packed & np.uint8(15)
    found[1::2] = packed >> np.uint8(4)
    odd = found == EXCEPTION
    if np.count_nonzero(odd) != exceptions or lowest > 63 - EXCEPTION:
        raise _refused(f"{np.count_nonzero(odd)} exceptions, lowest rank up to 48", f"{exceptions} and {lowest}")
    found += np.uint8(lowest)
    if exceptions:
        coupons = _coupons(raw, start + length, room, exceptions)
        found[odd] = 0
        _take(found, coupons)
        if not found[odd].all():
            raise _refused("each exception for a register that has one", "others")
    return found


def _room(bits: int, count: int, flags: int) -> int:
    """Return how many coupons there is room for, in use or not."""
    if flags & COMPACT:
        return count
    if bits > MOST_ROOM:
        raise _refused(f"room for 2**{MOST_ROOM} coupons at most", f"2**{bits}")
    return 1 << bits


def _coupons(raw: bytes, start: int, room: int, count: int) -> NDArray[np.uint32]:
    if len(raw) < start + 4 * room:
        raise _refused(f"{start + 4 * room:,} bytes", f"{len(raw):,}")
    slots = np.frombuffer(raw, "<u4", room, start)
    coupons: NDArray[np.uint32] = slots[slots != 0]
    if coupons.size != count or not (coupons >> np.uint32(INDEX_BITS)).all():
        raise _refused(f"{count:,} coupons, each of a rank", f"{coupons.size:,}")
    return coupons


def _take(registers: NDArray[np.uint8], coupons: NDArray[np.uint32]) -> None:
    places = coupons & np.uint32(registers.size - 1)
    np.maximum.at(registers, places, (coupons >> np.uint32(INDEX_BITS)).astype(np.uint8))


def _refused(expected: str, got: str) -> SketchBytesError:
    return SketchBytesError("read", "bytes of sketch", KIND, expected=expected, got=got, todo="give the bytes of an HLL sketch, unchanged")
