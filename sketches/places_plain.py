"""Tables of keys in NumPy alone: the numbers that `sketches.places_kernel` finds, by sorting instead of by slots."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["find_bytes", "find_words", "refill_bytes", "refill_words"]

Places = NDArray[np.int64]
Slots = NDArray[np.int32] | NDArray[np.uint64]


def find_words(
    keys: Places, valid: NDArray[np.bool_], slots: Slots, seed: np.uint64, known: Places, count: int, null: int, out: Places
) -> tuple[int, int, int]:
    """Find the number of each key; new ones are added to `known`. Returns how many there are, the number of null, and the rows found."""
    del seed
    rows = np.flatnonzero(valid) if valid.size else np.arange(keys.size)
    fresh, firsts, which = np.unique(keys[rows], return_index=True, return_inverse=True)
    old = np.delete(np.arange(count), null) if null >= 0 else np.arange(count)
    old = old[np.argsort(known[old])]
    numbers = _numbers_of(fresh, known[old], old)
    events = [(int(rows[firsts[new]]), int(new)) for new in np.flatnonzero(numbers < 0)]
    if null < 0 and rows.size < keys.size:
        events.append((int(np.flatnonzero(~valid)[0]), -1))
    if count + len(events) > slots.size // 2:
        return count, null, 0
    for _, new in sorted(events):
        known[count] = fresh[new] if new >= 0 else 0
        if new >= 0:
            numbers[new] = count
        else:
            null = count
        count += 1
    out[: keys.size] = null
    out[rows] = numbers[which]
    return count, null, keys.size


def refill_words(slots: Slots, seed: np.uint64, known: Places, count: int, null: int) -> None:
    """Do nothing: there are no slots here."""
    del slots, seed, known, count, null


def find_bytes(
    data: NDArray[np.uint8],
    starts: Places,
    ends: Places,
    hashes: NDArray[np.uint64],
    valid: NDArray[np.bool_],
    slots: Slots,
    known: NDArray[np.uint64],
    bounds: Places,
    pool: NDArray[np.uint8],
    count: int,
    null: int,
    out: Places,
) -> tuple[int, int, int]:
    """Find the number of each byte string, as `find_words`; it ends also where the pool has no room."""
    held = pool[: bounds[count]].tobytes()
    index = {held[bounds[number] : bounds[number + 1]]: number for number in range(count) if number != null}
    for row in range(hashes.size):
        missing = bool(valid.size) and not valid[row]
        key = data[starts[row] : ends[row]].tobytes() if not missing else b""
        number = null if missing else index.get(key, -1)
        if number < 0:
            begin = int(bounds[count])
            if count >= slots.size // 2 or begin + len(key) > pool.size:
                return count, null, row
            pool[begin : begin + len(key)] = np.frombuffer(key, np.uint8)
            known[count], bounds[count + 1], number = 0 if missing else hashes[row], begin + len(key), count
            count += 1
            if missing:
                null = number
            else:
                index[key] = number
        out[row] = number
    return count, null, hashes.size


def refill_bytes(slots: Slots, known: NDArray[np.uint64], count: int, null: int) -> None:
    """Do nothing: there are no slots here."""
    del slots, known, count, null


def _numbers_of(keys: Places, known: Places, numbers: Places) -> Places:
    """Return the numbers of keys among sorted ones, -1 for those that are not."""
    if not known.size:
        return np.full(keys.size, -1, np.int64)
    at = np.minimum(np.searchsorted(known, keys), known.size - 1)
    return np.where(known[at] == keys, numbers[at], -1)
