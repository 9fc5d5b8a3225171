"""Many reservoirs in loops for numba: Algorithm L for each, its items in a block of a pool.

They give the bytes that `sketches.reservoir.ReservoirSample` gives, which is their equal without numba. Lines are as in
`sketches.numbered_reservoir_draws_kernel`. Items are words in the pool; of texts a word says which of those that were kept it is.
"""
# mypy: disable-error-code="return-value, assignment, call-arg, no-any-return"
# (numba gives the values of a kernel their types; NumPy's own say too little about scalars)

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sketches.jit import njit
from sketches.numbered_reservoir_draws_kernel import COUNT, DUE, KEY, LAST, ROOM, START, STEP_AT, digest, hash8, schedule, uniform

__all__ = ["compact", "keep", "move", "prepare", "take", "widen"]

FIRST_ROOM = 8
POOL, TEXTS, BYTES = 0, 1, 2  # what is used of pool, texts and their bytes
FIRST = np.uint64(1 << 62)
BATCH = 128
TILE = 512  # runs


@njit()
def keep(
    source: NDArray[np.uint8], begin: int, end: int, data: NDArray[np.uint8], text_ends: NDArray[np.int64], marks: NDArray[np.int64]
) -> np.uint64:
    """Keep a text, and return which it is."""
    which, at = marks[TEXTS], marks[BYTES]
    for j in range(begin, end):
        data[at] = source[j]
        at += 1
    marks[TEXTS] = which + 1
    marks[BYTES] = at
    text_ends[which + 1] = at
    return np.uint64(which)


@njit()
def widen(states: NDArray[np.int64], g: int, room: int, pool: NDArray[np.uint64], marks: NDArray[np.int64]) -> bool:
    """Move items to a larger block; returns whether there was one."""
    if marks[POOL] + room > pool.size:
        return False
    start, to = states[g, START], marks[POOL]
    for j in range(states[g, ROOM]):
        pool[to + j] = pool[start + j]
    states[g, START] = to
    states[g, ROOM] = room
    marks[POOL] = to + room
    return True


@njit()
def take(
    states: NDArray[np.int64],
    words: NDArray[np.uint64],
    floats: NDArray[np.float64],
    runs: NDArray[np.int64],
    first: int,
    values: NDArray[np.uint64],
    source: NDArray[np.uint8],
    begins: NDArray[np.int64],
    ends: NDArray[np.int64],
    size: int,
    width: int,
    pool: NDArray[np.uint64],
    data: NDArray[np.uint8],
    text_ends: NDArray[np.int64],
    marks: NDArray[np.int64],
) -> int:
    """Give runs of values to reservoirs, from run `first` on; returns the run for which there is no room, or their number.

    In rounds, over as many runs as a cache can hold: each goes on to the next value that is taken, and then it is found for many at once
    what comes after that.

    Parameters
    ----------
    runs : ndarray (n, 3) int64
        Reservoir, first and end of its values, in the order of the reservoirs; the first moves on.
    width : int
        4 or 8: `values` are words of so many bytes; 0: texts, from ``begins[i]`` up to ``ends[i]`` in `source`.
    """
    some, counters, room = np.empty(BATCH, np.int64), np.empty(BATCH, np.uint64), np.empty((6, 2 * BATCH), np.float64)
    waiting = np.empty(TILE, np.int64)
    for tile in range(first // TILE * TILE, len(runs), TILE):
        left = min(TILE, len(runs) - tile)
        for j in range(left):
            waiting[j] = tile + j
        while left:
            number, left = left, 0
            drawn = 0
            missing = -1
            for j in range(number):
                run = waiting[j]
                g, i, end = runs[run, 0], runs[run, 1], runs[run, 2]
                count = states[g, COUNT]
                if count < size:
                    i, is_full = _add(states, g, i, end, values, source, begins, ends, size, width, pool, data, text_ends, marks)
                    runs[run, 1] = i
                    if is_full:
                        missing = run
                        break
                    if states[g, COUNT] == size:
                        start = states[g, START]
                        words[g, KEY] = digest(words[g, KEY], pool[start : start + size], width, data, text_ends)
                        states[g, LAST] = size
                        some[drawn], counters[drawn] = g, FIRST
                        drawn += 1
                else:
                    skip = states[g, DUE] - count
                    if skip >= end - i:
                        states[g, COUNT] = count + end - i
                        runs[run, 1] = end
                        continue
                    i += skip
                    if width == 0 and (marks[TEXTS] + 2 > text_ends.size or marks[BYTES] + ends[i] - begins[i] > data.size):
                        missing = run
                        break
                    step = np.uint64(3) * words[g, STEP_AT]
                    place = states[g, START] + np.int64(uniform(words[g, KEY], step + np.uint64(2)) * np.float64(size))
                    pool[place] = values[i] if width else keep(source, begins[i], ends[i], data, text_ends, marks)
                    i += 1
                    runs[run, 1] = i
                    states[g, STEP_AT] += 1
                    states[g, LAST] = states[g, COUNT] = count + skip + 1
                    some[drawn], counters[drawn] = g, step + np.uint64(1)
                    drawn += 1
                if i < end:
                    waiting[left] = run
                    left += 1
                if drawn == BATCH:
                    schedule(states, words, floats, some, drawn, counters, size, room)
                    drawn = 0
            schedule(states, words, floats, some, drawn, counters, size, room)
            if missing >= 0:
                return missing
    return len(runs)


@njit()
def _add(
    states: NDArray[np.int64],
    g: int,
    first: int,
    end: int,
    values: NDArray[np.uint64],
    source: NDArray[np.uint8],
    begins: NDArray[np.int64],
    ends: NDArray[np.int64],
    size: int,
    width: int,
    pool: NDArray[np.uint64],
    data: NDArray[np.uint8],
    text_ends: NDArray[np.int64],
    marks: NDArray[np.int64],
) -> tuple[int, bool]:
    """Add values to a sample that is not full yet; returns the first value that was not, and whether that is for want of room."""
    count = states[g, COUNT]
    stop = min(end, first + size - count)
    wanted = count + stop - first
    if wanted > states[g, ROOM] and not widen(states, g, min(size, max(FIRST_ROOM, wanted + wanted // 2)), pool, marks):
        return first, True
    start = states[g, START] + count - first
    for i in range(first, stop):
        if width == 0 and (marks[TEXTS] + 2 > text_ends.size or marks[BYTES] + ends[i] - begins[i] > data.size):
            states[g, COUNT] = count + i - first
            return i, True
        pool[start + i] = values[i] if width else keep(source, begins[i], ends[i], data, text_ends, marks)
    states[g, COUNT] = count + stop - first
    return stop, False


@njit()
def move(states: NDArray[np.int64], pool: NDArray[np.uint64], larger: NDArray[np.uint64]) -> int:
    """Move all blocks to another pool, one after the other; returns how much of it is used."""
    to = 0
    for g in range(len(states)):
        start = states[g, START]
        for j in range(states[g, ROOM]):
            larger[to + j] = pool[start + j]
        states[g, START] = to
        to += states[g, ROOM]
    return to


@njit()
def compact(
    states: NDArray[np.int64],
    size: int,
    pool: NDArray[np.uint64],
    data: NDArray[np.uint8],
    text_ends: NDArray[np.int64],
    new_data: NDArray[np.uint8],
    new_ends: NDArray[np.int64],
    marks: NDArray[np.int64],
) -> None:
    """Leave out the texts that are in no sample any more."""
    marks[TEXTS] = marks[BYTES] = 0
    new_ends[0] = 0
    for g in range(len(states)):
        for j in range(states[g, START], states[g, START] + min(states[g, COUNT], size)):
            text = np.int64(pool[j])
            pool[j] = keep(data, text_ends[text], text_ends[text + 1], new_data, new_ends, marks)


@njit()
def prepare(keys: NDArray[np.uint64], key: np.uint64, first: int) -> None:
    """Give reservoirs their keys, each made of one key and its number; that of the first is `first`."""
    for i in range(keys.size):
        keys[i] = hash8(np.uint64(first + i), key)
