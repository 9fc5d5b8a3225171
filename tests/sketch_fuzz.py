"""Damaged and hostile bytes of every kind of sketch: how they are made from valid ones, and what reading them must come to.

Nothing is listed here: kinds are those that `sketches` gives out, and each is filled as its laws (`tests.sketch_laws`) fill it.
"""

from __future__ import annotations

import importlib
import inspect
import random
import resource
import struct
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import google_crc32c
import pytest

import sketches
from sketches.base import Sketch
from sketches.envelope import CHECKSUM, HEADER, NUMBERS
from sketches.errors import SketchBytesError
from tests.sketch_laws import SketchLaws

__all__ = ["Outcome", "attack", "damaged", "kinds", "samples"]

SIZES: Final = (0, 1, 12, 300, 5000)
LARGEST: Final = 1 << 16  # of the bytes that are damaged: longer ones tell nothing new
MOST_BYTES: Final = 64 << 20
MOST_SECONDS: Final = 0.1
EXTREMES: Final = (
    b"\0",
    b"\xff",
    b"\0\0\0\x80",
    b"\xff\xff\xff\x7f",
    b"\0\0\0\0\0\0\xf8\x7f",
    b"\0\0\0\0\0\0\xf0\x7f",
    b"\1\0\0\0\0\0\0\0",
    b"\0" * 8,
)


@cache
def kinds() -> dict[str, type[Sketch]]:
    """Return every kind of sketch that `sketches` gives out."""
    found = [getattr(sketches, name) for name in sketches.HOMES]
    return {one.KIND: one for one in found if inspect.isclass(one) and issubclass(one, Sketch) and not inspect.isabstract(one)}


@cache
def _laws() -> list[Any]:
    """Return one of each battery of laws."""
    found = []
    for path in sorted((Path(__file__).parent / "unit").glob("test_sketch_*.py")):
        if "SketchLaws" in path.read_text("utf-8"):
            module = importlib.import_module(f"tests.unit.{path.stem}")
            classes = [one for one in vars(module).values() if inspect.isclass(one) and issubclass(one, SketchLaws)]
            found += [one() for one in classes if not inspect.isabstract(one) and one.__name__.startswith("Test")]
    return found


@cache
def samples(kind: str) -> tuple[bytes, ...]:
    """Return valid bytes of a kind, from empty to full."""
    laws = [one for one in _laws() if kind == one.make().KIND]
    assert laws, f"tests/unit has no laws for {kind!r}: derive a class from tests.sketch_laws.SketchLaws"
    found = {one.of(one.values(size, size)).to_bytes() for one in laws for size in SIZES}
    return tuple(sorted(data for data in found if len(data) <= LARGEST) or sorted(found)[:1])


def damaged(dice: random.Random, kind: str) -> bytes:
    """Return bytes that are not those of a sketch, or those of a hostile one: every other time with a right checksum."""
    data = bytearray(dice.choice(samples(kind)))
    _, _, _, parameters, payload = HEADER.unpack_from(data)
    if dice.random() < 0.5:
        _change(dice, data, kind)
        return bytes(data)
    head, body = data[HEADER.size : HEADER.size + parameters], data[HEADER.size + parameters : HEADER.size + parameters + payload]
    for _ in range(dice.choice((1, 1, 1, 2, 5))):
        _change(dice, head if head and dice.random() < 0.4 else body, kind)
    lengths = (len(head), len(body)) if dice.random() < 0.95 else (dice.getrandbits(16), dice.getrandbits(32))
    whole = HEADER.pack(b"MLSK", NUMBERS[kind], 1 if dice.random() < 0.98 else dice.getrandbits(8), *lengths) + head + body
    return whole + CHECKSUM.pack(google_crc32c.value(bytes(whole)))


def _change(dice: random.Random, data: bytearray, kind: str) -> None:
    at = dice.randrange(len(data) + 1)
    match dice.randrange(9):
        case 0 | 1:
            for _ in range(dice.choice((1, 1, 2, 8))):
                if data:
                    data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
        case 2:
            del data[at:]
        case 3:
            data += dice.randbytes(dice.choice((1, 4, 8, 100)))
        case 4:
            other = dice.choice(samples(dice.choice(list(kinds()))))
            data[: HEADER.size] = other[: HEADER.size]
        case 5:
            head = HEADER.pack(b"MLSK", NUMBERS[kind], 1, dice.randrange(64), dice.choice((0, 8, 1000, 2**32 - 1)))
            data[:] = (head if dice.random() < 0.5 else b"") + dice.randbytes(dice.choice((0, 9, 30, 200)))
        case 6:
            extreme = dice.choice(EXTREMES)
            data[at : at + len(extreme)] = extreme
        case 7:
            other = dice.choice(samples(kind))
            data[at:] = other[at:]
        case 8:
            stop = dice.randrange(len(data) + 1)
            data[min(at, stop) : max(at, stop)] = dice.choice((b"", struct.pack("<Q", dice.getrandbits(64)), data[:at]))


@dataclass
class Outcome:
    """What came of an attack: how many were tried, how many with a right checksum, how many of those are sketches; the slowest one."""

    tried: int = 0
    sealed: int = 0
    accepted: int = 0
    slowest: float = 0.0


@contextmanager
def _little_memory() -> Iterator[None]:
    """Let the process take 64 MB more than it has; beyond them memory is refused, and what asked for it fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MOST_BYTES, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def attack(kind: str, times: int, seed: int) -> Outcome:
    """Read damaged bytes and fail where that ends in anything but a refusal or a sketch whose bytes come back."""
    dice, one, outcome = random.Random(seed), kinds()[kind], Outcome()  # noqa: S311 (no secret)
    valid = frozenset(samples(kind))
    for other in kinds():
        samples(other)  # made before memory is short
    with warnings.catch_warnings(), _little_memory():
        warnings.simplefilter("error")
        for number in range(times):
            data = damaged(dice, kind)
            if data in valid:
                continue
            right = len(data) >= CHECKSUM.size and google_crc32c.value(data[: -CHECKSUM.size]) == CHECKSUM.unpack(data[-CHECKSUM.size :])[0]
            outcome.tried += 1
            outcome.sealed += right
            start = time.thread_time()
            try:
                found = one.from_bytes(data)
            except SketchBytesError:
                found = None
            except Exception as error:  # noqa: BLE001 (whatever it is, it must not be)
                pytest.fail(f"{kind}, seed {seed}, number {number}: {error!r} for {data[:200]!r}")
            took = time.thread_time() - start
            outcome.slowest = max(outcome.slowest, took)
            assert took < MOST_SECONDS, f"{kind}, seed {seed}, number {number}: {took * 1e3:.0f} ms for {data[:200]!r}"
            if found is not None:
                assert right, f"{kind}, seed {seed}, number {number}: taken in spite of its checksum: {data[:200]!r}"
                outcome.accepted += 1
                again = found.to_bytes()
                del found  # only one at a time has room
                assert one.from_bytes(again).to_bytes() == again, f"{kind}, seed {seed}, number {number}: other bytes for {data[:200]!r}"
    return outcome
