"""Membership for a time: a Bloom filter in generations, of which the oldest is forgotten as time goes on."""

from __future__ import annotations

import struct
from datetime import timedelta
from typing import Any, ClassVar, Final, Self

import numpy as np
from numpy.typing import NDArray

from sketches import rotating_bloom_kernel, rotating_bloom_plain
from sketches.base import Sketch, checked_hashes, is_whole, out_of_range
from sketches.bloom import LANE_BITS, LANES, LEAST_RATE, MOST_BLOCKS
from sketches.bloom_math import MOST_VALUES, blocked_rate, smallest
from sketches.columns import BLOCK, Column, column, hash_blocks, one
from sketches.envelope import damaged
from sketches.errors import SketchError
from sketches.jit import pick
from sketches.numeric import LATEST, instant, instants
from sketches.payload import empty_lines, pack_table, unpack_table

__all__ = ["RotatingBloomFilter"]

MOST_GENERATIONS: Final = 64
MICROSECOND: Final = timedelta(microseconds=1)
PARAMETERS: Final = struct.Struct("<IBq")  # blocks, generations, microseconds of a slice
CLOCK: Final = struct.Struct("<Bq")  # whether it has a clock, number of the newest slice

_forget = pick(rotating_bloom_kernel.forget, rotating_bloom_plain.forget)
_insert = pick(rotating_bloom_kernel.insert, rotating_bloom_plain.insert)
_contains = pick(rotating_bloom_kernel.contains, rotating_bloom_plain.contains)
_add_if_new = pick(rotating_bloom_kernel.add_if_new, rotating_bloom_plain.add_if_new)


class RotatingBloomFilter(Sketch):
    """A set of what came within the last time; it may take a stranger for a member.

    Time is that of the events, injected; the clock is the latest that was seen. Time is cut in slices of ``keep / generations``, beginning
    at 1970; the slice of the clock and the `generations` slices before it are held, each in a filter of its own.

    Guarantee: a value that was taken with time t is found for sure as long as the clock is not above ``t + keep``, and is forgotten before
    the clock is above ``t + keep + keep / generations``. Another value is found with probability at most the sum of the rates of the
    filters that are held (`BloomFilter` has the formula): below the rate asked for as long as no slice has more distinct values than the
    capacity asked for.

    A time that is below `oldest` is late: the value is not taken, and `add_if_new` says that it is not new, because what would tell is
    forgotten. (`late` tells such rows apart.) A time far in the future makes it forget all else: refuse such times before.

    Memory: ``32 * blocks * (generations + 1)`` bytes.

    Parameters
    ----------
    blocks : int
        Of the filter of a slice, at least 1; all of them up to 2^26.
    generations : int
        From 1 to 64: how finely time is cut. More of them forget more exactly, and cost time: each is looked at.
    keep_us : int
        Microseconds, a multiple of `generations`.

    Equal: byte for byte, whatever the order and grouping of `update_many`, `advance` and `merge`. What `add_if_new` takes depends on the
    order of the values.

    Not supported: `Grouped` (it has no times), taking values out, finding out when a value came.

    References
    ----------
    Putze, Sanders, Singler: Cache-, Hash- and Space-Efficient Bloom Filters (2007). Chang, Li, Feng: Approximate Caches for Packet
    Classification (2004), section 3.3 (filters that age in turn).

    Examples
    --------
    >>> hour = timedelta(hours=1)
    >>> seen = RotatingBloomFilter.from_error(capacity=1000, false_positive_rate=1e-4, keep=hour)
    >>> times = np.array(["2026-01-01T10:00", "2026-01-01T10:30", "2026-01-01T10:59", "2026-01-01T12:00"], "M8[us]")
    >>> seen.add_if_new(np.array([7, 8, 7, 7]), times).tolist()
    [True, True, False, True]
    """

    __slots__ = ("_key_parts", "_newest", "_table")
    KIND: ClassVar[str] = "rotating_bloom"

    def __init__(self, blocks: int, generations: int, keep_us: int) -> None:
        if not is_whole(generations, 1, MOST_GENERATIONS):
            raise out_of_range("generations", f"from 1 to {MOST_GENERATIONS}", generations)
        if not is_whole(blocks, 1, MOST_BLOCKS // (generations + 1)):
            most = MOST_BLOCKS // (generations + 1)
            raise out_of_range("blocks", f"from 1 to {most:,} for {generations} generations", blocks)
        if not is_whole(keep_us, 1, LATEST) or keep_us % generations:
            raise out_of_range("keep_us", f"a multiple of {generations} from {generations} to 2^62", keep_us)
        self._key_parts = (int(blocks), int(generations), int(keep_us))
        self._newest: int | None = None
        self._table = _room(blocks, generations)

    @classmethod
    def from_error(cls, *, capacity: int, false_positive_rate: float, keep: timedelta, generations: int = 4) -> Self:
        """Make the smallest filter that keeps a rate.

        Parameters
        ----------
        capacity : int
            The most distinct values of one slice, that is within ``keep / generations``; at least 1.
        false_positive_rate : float
            Of a value that was not taken within the time that is held, over all generations, each filled to capacity; below 1, and above
            1e-8 for each generation.
        keep : timedelta
            How long a value is found for sure; rounded up to a multiple of `generations` microseconds.
        generations : int
            As for the class.
        """
        if not is_whole(capacity, 1, MOST_VALUES):
            raise out_of_range("capacity", "at least 1", capacity)
        if keep <= timedelta(0):
            raise out_of_range("keep", "a time above 0", keep)
        if not is_whole(generations, 1, MOST_GENERATIONS):
            raise out_of_range("generations", f"from 1 to {MOST_GENERATIONS}", generations)
        least = LEAST_RATE * (generations + 1)
        if not least <= false_positive_rate < 1:
            raise out_of_range("false_positive_rate", f"from {least:g} up to, not with, 1", false_positive_rate)
        each, most = false_positive_rate / (generations + 1), MOST_BLOCKS // (generations + 1)
        blocks = smallest(lambda some: blocked_rate(capacity, some), each, most)
        if blocks is None:
            raise out_of_range("capacity", f"what {MOST_BLOCKS * 32 >> 30} GiB can keep at rate {false_positive_rate!r}", capacity)
        return cls(blocks, generations, -(-(keep // MICROSECOND) // generations) * generations)

    @property
    def parameters(self) -> dict[str, int | float | str]:
        """What two filters must have in common to be merged."""
        return dict(zip(("blocks", "generations", "keep_us"), self._key_parts, strict=True))

    @property
    def is_empty(self) -> bool:
        """Whether it holds nothing: it has taken nothing yet, or has forgotten all."""
        return not self._table.any()

    @property
    def oldest(self) -> np.datetime64 | None:
        """The earliest time that is not late; None before the first time was seen."""
        return None if self._newest is None else np.datetime64((self._newest - self._key_parts[1]) * self._slice_us, "us")

    def update(self, value: Any, time: Any = None) -> None:
        """Take one value at a time: int (microseconds), datetime or datetime64; None is the newest slice."""
        found = one(value)
        self._take(found, self._slices(time, len(found), None))

    def update_many(self, values: Any, times: Any = None) -> None:
        """Take all values of an array, whether new or not; nulls are no values, late ones are left out.

        Parameters
        ----------
        values : array (n,)
            NumPy or Arrow, of the types in `sketches.columns`.
        times : array (n,), or one for all
            int64 microseconds or timestamps, without nulls; None is the newest slice, and refused before there is one.

        Raises
        ------
        SketchTypeError, SketchError
            Values or times of other types; nothing was taken.
        """
        found = column(values)
        self._take(found, self._slices(times, len(values), found.rows))

    def update_hashes(self, hashes: NDArray[np.int64] | NDArray[np.uint64], times: Any = None) -> None:
        """Take values that were hashed already, by `sketches.hashes` or by Spark SQL's ``xxhash64`` of one column."""
        some = checked_hashes(hashes)
        slices = self._slices(times, some.size, None)
        self._rotate(slices)
        for start in range(0, some.size, BLOCK):
            self._take_block(some[start : start + BLOCK], slices[start : start + BLOCK])

    def add_if_new(self, values: Any, times: Any = None) -> NDArray[np.bool_]:
        """Take the values that are not found, one after the other, and say which they were.

        What is found is not taken again: a value is new again once its first time is forgotten. Exact within the array: its second row of
        a value is not new.

        Parameters
        ----------
        values, times
            As for `update_many`; the clock goes on row by row.

        Returns
        -------
        ndarray (n,) bool
            Two rows of a value are True only where, at the second, the clock was above the first one's time plus `keep`. A stranger that
            is taken for a member is False. So are nulls and late rows.
        """
        found = column(values)
        slices = self._slices(times, len(values), found.rows)
        fresh = np.empty(len(found), np.bool_)
        for start, part in hash_blocks(found):
            self._add_block(part, slices[start : start + part.size], fresh[start : start + part.size])
        if found.rows is None:
            return fresh
        answer = np.zeros(len(values), np.bool_)
        answer[found.rows] = fresh
        return answer

    def add_hashes_if_new(self, hashes: NDArray[np.int64] | NDArray[np.uint64], times: Any = None) -> NDArray[np.bool_]:
        """Do as `add_if_new` with values that were hashed already."""
        some = checked_hashes(hashes)
        slices = self._slices(times, some.size, None)
        fresh = np.empty(some.size, np.bool_)
        for start in range(0, some.size, BLOCK):
            stop = start + BLOCK
            self._add_block(some[start:stop], slices[start:stop], fresh[start:stop])
        return fresh

    def contains(self, value: Any, at: Any = None) -> bool:
        """Return whether a value may have been taken within the time that is held; False is sure.

        Parameters
        ----------
        value
            As for `update`; None is not in any filter.
        at : int, datetime or datetime64, optional
            As if the clock were there, if it is above the clock: what would be forgotten then is not found.
        """
        found = one(value)
        return bool(len(found)) and bool(self._contains_column(found, self._held(at))[0])

    __contains__ = contains

    def contains_many(self, values: Any, at: Any = None) -> NDArray[np.bool_]:
        """Return `contains` for each row, as an array (n,) bool; False for nulls."""
        found, held = column(values), self._held(at)
        if found.rows is None:
            return self._contains_column(found, held)
        answer = np.zeros(len(values), np.bool_)
        answer[found.rows] = self._contains_column(found, held)
        return answer

    def contains_hashes(self, hashes: NDArray[np.int64] | NDArray[np.uint64], at: Any = None) -> NDArray[np.bool_]:
        """Return `contains` for values that were hashed already."""
        some, held = checked_hashes(hashes), self._held(at)
        answer = np.empty(some.size, np.bool_)
        for start in range(0, some.size, BLOCK):
            _contains(self._table, some[start : start + BLOCK], held, answer[start : start + BLOCK])
        return answer

    def late(self, times: Any) -> NDArray[np.bool_]:
        """Return for each time whether it is late."""
        some = instants(times, len(times)) // self._slice_us
        return some < (self._newest - self._key_parts[1]) if self._newest is not None else np.zeros(some.size, np.bool_)

    def advance(self, time: Any) -> None:
        """Set the clock on to a time, such as a watermark, so that what is too old then is forgotten; never back."""
        self._rotate(np.array([instant(time) // self._slice_us]))

    def false_positive_rate(self) -> float:
        """Return the probability that a value that was not taken is found now."""
        total = 0.0
        for start in range(0, len(self._table), BLOCK):
            passed = np.prod(np.bitwise_count(self._table[start : start + BLOCK]) / LANE_BITS, axis=2)
            total += float((1 - np.prod(1 - passed, axis=1)).sum())
        return total / len(self._table)

    def copy(self) -> Self:
        """Return another one with the same content."""
        made = object.__new__(type(self))
        made._key_parts, made._newest = self._key_parts, self._newest
        made._table = _room(*self._key_parts[:2])
        np.copyto(made._table, self._table)
        return made

    # Inside -----------------------------------------------------------------------------------------------------------

    @property
    def _slice_us(self) -> int:
        return int(self._key_parts[2] // self._key_parts[1])

    def _slices(self, times: Any, count: int, rows: NDArray[np.int64] | None) -> NDArray[np.int64]:
        if times is not None:
            given = instants(times, count)
            return (given if rows is None else given[rows]) // self._slice_us
        if self._newest is None and count:
            raise SketchError("use", "argument", "times", expected="a time", got="None", why="no time was seen yet", todo="give the times")
        return np.full(count if rows is None else len(rows), self._newest or 0)

    def _held(self, at: Any) -> NDArray[np.int64]:
        """Return the places of the generations that count at a time."""
        if self._newest is None:
            return np.empty(0, np.int64)
        generations = self._key_parts[1]
        now = self._newest if at is None else max(self._newest, instant(at) // self._slice_us)
        return np.arange(now - generations, self._newest + 1, dtype=np.int64) % (generations + 1)

    def _rotate(self, slices: NDArray[np.int64]) -> None:
        """Set the clock on to the newest of some slices."""
        if slices.size:
            newest = int(slices.max())
            if self._newest is not None and newest > self._newest:
                _forget(self._table, self._newest, newest)
            self._newest = newest if self._newest is None else max(newest, self._newest)

    def _take(self, values: Column, slices: NDArray[np.int64]) -> None:
        self._rotate(slices)
        for start, part in hash_blocks(values):
            self._take_block(part, slices[start : start + part.size])

    def _take_block(self, hashes: NDArray[np.uint64], slices: NDArray[np.int64]) -> None:
        held = slices >= (self._newest or 0) - self._key_parts[1]
        if not held.all():
            hashes, slices = hashes[held], slices[held]
        _insert(self._table, hashes, slices % (self._key_parts[1] + 1))

    def _add_block(self, hashes: NDArray[np.uint64], slices: NDArray[np.int64], fresh: NDArray[np.bool_]) -> None:
        self._newest = int(slices[0]) if self._newest is None else self._newest
        self._newest = int(_add_if_new(self._table, hashes, slices, self._newest, fresh))

    def _contains_column(self, values: Column, held: NDArray[np.int64]) -> NDArray[np.bool_]:
        answer = np.empty(len(values), np.bool_)
        for start, part in hash_blocks(values):
            _contains(self._table, part, held, answer[start : start + part.size])
        return answer

    def _update_column(self, values: Column, weights: NDArray[Any] | None) -> None:
        self._take(values, self._slices(None, len(values), None))

    def _merge(self, other: Self) -> None:
        if other._newest is None:
            return
        self._rotate(np.array([other._newest]))
        newest = other._newest if self._newest is None else self._newest
        for number in range(newest - self._key_parts[1], other._newest + 1):
            place = number % (self._key_parts[1] + 1)
            self._table[:, place] |= other._table[:, place]

    def _key(self) -> Any:
        return self._key_parts

    def _pack(self) -> tuple[bytes, bytes | memoryview]:
        blocks, generations, _ = self._key_parts
        clock = CLOCK.pack(self._newest is not None, self._newest or 0)
        return PARAMETERS.pack(blocks, generations, self._slice_us), clock + pack_table(self._table.reshape(-1, LANES))

    @classmethod
    def _unpack(cls, version: int, parameters: memoryview, payload: memoryview) -> Self:
        if len(parameters) != PARAMETERS.size or len(payload) < CLOCK.size:
            raise damaged(cls.KIND, f"{PARAMETERS.size} bytes of parameters, and a clock", f"{len(parameters)} and {len(payload)}")
        blocks, generations, slice_us = PARAMETERS.unpack(parameters)
        has_clock, newest = CLOCK.unpack_from(payload)
        most = MOST_BLOCKS // (generations + 1)
        if not (1 <= generations <= MOST_GENERATIONS and 1 <= blocks <= most and 1 <= slice_us <= LATEST // generations):
            raise damaged(cls.KIND, "blocks, generations and slices in their ranges", f"{blocks}, {generations}, {slice_us}")
        if not (has_clock == 1 and abs(newest) <= LATEST // slice_us + 1) and (has_clock, newest) != (0, 0):
            raise damaged(cls.KIND, "a clock, or none", f"{has_clock}, {newest}")
        made = object.__new__(cls)
        made._key_parts, made._newest = (blocks, generations, slice_us * generations), newest if has_clock else None
        table = unpack_table(cls.KIND, payload[CLOCK.size :], blocks * (generations + 1), LANES, np.uint32)
        made._table = table.reshape(blocks, generations + 1, LANES)
        if not has_clock and made._table.any():
            raise damaged(cls.KIND, "nothing before the first time", "values")
        return made.copy()


def _room(blocks: int, generations: int) -> NDArray[np.uint32]:
    return empty_lines(blocks * (generations + 1), LANES, np.uint32).reshape(blocks, generations + 1, LANES)
