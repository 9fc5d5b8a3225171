"""DataSketches' bytes of HyperLogLog: they come back, and others are refused. In tests/spark Spark's own are read, and ours by Spark."""

from __future__ import annotations

import numpy as np
import pytest

from sketches import HyperLogLog, from_datasketches, to_datasketches
from sketches.errors import SketchBytesError, SketchError


def fed(sketch: HyperLogLog, size: int) -> HyperLogLog:
    sketch.update_many(np.arange(size) * 3 - 1000)
    return sketch


@pytest.mark.parametrize("size", [0, 1, 100, 100_000])
def test_datasketches_form_comes_back(size: int) -> None:
    sketch = fed(HyperLogLog(11, "murmur3"), size)
    data = to_datasketches(sketch)
    assert len(data) == (40 + 2048 if size else 8)
    assert from_datasketches(data).to_bytes() == sketch.to_bytes()
    assert from_datasketches(bytearray(data)).parameters == sketch.parameters


def test_a_sketch_of_another_hash_is_not_exported() -> None:
    with pytest.raises(SketchError, match=r"cannot export sketch 'hyperloglog': expected hash 'murmur3', got 'xxh64'; .+ twice; .+"):
        to_datasketches(HyperLogLog(12))


LIST = bytes.fromhex("0201070b03080508cbd7c2042bf2fb06862ff90d7581660781bc5d06")  # made by Spark: 0 to 4, compact


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "at least 8 bytes, got 0"),
        (LIST[:7], "at least 8 bytes, got 7"),
        (LIST[:-1], "28 bytes, got 27"),
        (b"\3" + LIST[1:], "version 1, family 7 and a mode of HLL"),
        (LIST[:1] + b"\2" + LIST[2:], "version 1, family 7 and a mode of HLL"),
        (LIST[:2] + b"\3" + LIST[3:], "version 1, family 7 and a mode of HLL"),
        (LIST[:7] + b"\x0c" + LIST[8:], "version 1, family 7 and a mode of HLL"),
        (LIST[:7] + b"\x0b" + LIST[8:], "version 1, family 7 and a mode of HLL"),
        (LIST[:3] + b"\3" + LIST[4:], "lgConfigK from 4 to 18, got 3"),
        (LIST[:3] + b"\x15" + LIST[4:], "lgConfigK from 4 to 18, got 21"),
        (LIST[:5] + b"\x0c" + LIST[6:], "no values, as it says it is empty, got 5"),
        (LIST[:5] + b"\0" + LIST[6:], "40 bytes, got 28"),
        (LIST[:4] + b"\xff\0" + LIST[6:], r"room for 2\*\*26 coupons at most, got 2\*\*255"),
        (LIST[:24] + b"\0\0\0\0", "5 coupons, each of a rank, got 4"),
        (LIST[:24] + b"\1\0\0\0", "5 coupons, each of a rank, got 5"),
        (bytes.fromhex("0301070b07080009"), "at least 12 bytes, got 8"),
        (bytes.fromhex("0301070b07080009ffffffff"), "17,179,869,192 bytes, got 12"),
        (bytes.fromhex("0a01070b0000000a"), "at least 40 bytes, got 8"),
        (bytes.fromhex("0a0107040000000a") + b"\0" * 47, "56 bytes, got 55"),
        (bytes.fromhex("0a0107040000000a") + b"\0" * 49, "56 bytes, got 57"),
        (bytes.fromhex("0a01070400000006") + b"\0" * 44, "53 bytes, got 52"),
        (bytes.fromhex("0a01070400080002") + b"\0" * 32 + b"\xff" * 8, "16 exceptions, lowest rank up to 48, got 0 and 0"),
        (bytes.fromhex("0a01070400083102") + b"\0" * 40, "0 exceptions, lowest rank up to 48, got 0 and 49"),
        (
            bytes.fromhex("0a01070400080002") + b"\0" * 28 + b"\1\0\0\0" + b"\x0f" + b"\0" * 7 + b"\1\0\0\x44",
            "each exception for a register",
        ),
    ],
)
def test_other_bytes_are_not_imported(data: bytes, expected: str) -> None:
    with pytest.raises(SketchBytesError, match=f"cannot read bytes of sketch 'DataSketches HLL': expected {expected}"):
        from_datasketches(data)


def test_damaged_bytes_of_datasketches_are_refused_or_are_a_sketch() -> None:
    assert round(from_datasketches(LIST).estimate()) == 5
    dice = np.random.default_rng(0)
    whole = to_datasketches(fed(HyperLogLog(6, "murmur3"), 100))
    for number in range(2000):
        changed = bytearray(LIST if number % 2 else whole)
        for _ in range(int(dice.integers(1, 4))):
            changed[dice.integers(min(len(changed), 48))] = dice.integers(256)
        try:
            read = from_datasketches(bytes(changed[: dice.integers(len(changed) // 2, len(changed) + 1)]))
        except SketchBytesError:
            continue
        assert HyperLogLog.from_bytes(read.to_bytes()).to_bytes() == read.to_bytes()
