"""Many reservoirs in loops for numba: Algorithm L for each, its items in a block of a pool.

They give the bytes that `sketches.reservoir.ReservoirSample` gives, which is their equal without numba; random numbers and logarithms are
those of `sketches.draws`, bit for bit.

A reservoir is a line of eight words, see `COUNT` and the following; ``states``, ``words`` and ``floats`` are views of the same lines. Its
items are words in the pool; for texts a word says which of the texts that were kept it is.
"""
# mypy: disable-error-code="return-value, assignment, call-arg, no-any-return"
# (numba gives the values of a kernel their types; NumPy's own say too little about scalars)

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sketches.draws import FACTORIALS, HALF_ROOT, LEAST_EXPONENT, LN2_HIGH, LN2_LOW, ODD, ODD_STRIDE, STEP, UNUSED_BITS
from sketches.hash_kernel import P1, P2, P3, P4, P5, U4, U8, U23, U27, U31, avalanche, hash_bytes, rotl
from sketches.jit import njit

__all__ = ["compact", "exps", "logs", "merge", "move", "prepare", "take"]

COUNT = 0  # values seen
DUE = 1  # the number of the next value to be taken; not above COUNT while there are less than `size` items
START = 2  # of the block in the pool
ROOM = 3  # of the block
KEY = 4  # of the random numbers
STEP_AT = 5
LAST = 6
LOG_W = 7
FIRST_ROOM = 8
POOL, TEXTS, BYTES = 0, 1, 2  # what is used of pool, texts and their bytes
FIRST = np.uint64(1 << 62)
SEED = np.uint64(42)
LONGEST_SKIP = 2.0**51
BATCH = 128
TILE = 512  # runs
ROUNDER = 1.5 * 2.0**52  # added and taken off, it leaves the nearest whole number
FRACTION = np.uint64((1 << 52) - 1)
HALF = np.uint64(1022 << 52)  # the exponent of 1/2
HALF_ROOT_BITS = np.float64(HALF_ROOT).view(np.uint64)
U52 = np.uint64(52)
ODD_TERMS = tuple(ODD)
TERMS = tuple(FACTORIALS)


@njit(inline="always")
def hash8(word: np.uint64, seed: np.uint64) -> np.uint64:
    return avalanche(rotl((seed + P5 + U8) ^ (rotl(word * P2, U31) * P1), U27) * P1 + P4)


@njit(inline="always")
def hash4(word: np.uint64, seed: np.uint64) -> np.uint64:
    return avalanche(rotl((seed + P5 + U4) ^ (word * P1), U23) * P2 + P3)


@njit(inline="always")
def uniform(key: np.uint64, counter: np.uint64) -> float:
    return (np.float64(hash8(counter, key) >> UNUSED_BITS) + 0.5) * STEP


@njit(error_model="numpy")  # no division raises: LLVM makes vectors of them
def logs(x: NDArray[np.float64], n: int, mantissas: NDArray[np.float64], powers: NDArray[np.float64]) -> None:
    """Put natural logarithms in the place of the first n numbers, positive and normal; the others are room."""
    bits, parts = x.view(np.uint64), mantissas.view(np.uint64)
    for i in range(n):
        part = (bits[i] & FRACTION) | HALF
        low = np.uint64(part < HALF_ROOT_BITS)
        parts[i] = part + (low << U52)
        powers[i] = np.float64(np.int64((bits[i] >> U52) - low) - 1022)
    for i in range(n):
        s = (mantissas[i] - 1.0) / (mantissas[i] + 1.0)
        z = s * s
        series = ODD_TERMS[0]
        for term in ODD_TERMS[1:]:
            series = series * z + term
        x[i] = powers[i] * LN2_HIGH + (powers[i] * LN2_LOW + (2.0 * s + 2.0 * s * (z * series)))


@njit(error_model="numpy")
def exps(x: NDArray[np.float64], n: int, out: NDArray[np.float64], powers: NDArray[np.float64]) -> None:
    """Set `out` to the exponentials of the first n numbers, none above 0."""
    scale = powers.view(np.int64)
    for i in range(n):
        bounded = max(x[i], LEAST_EXPONENT)
        power = (bounded / (LN2_HIGH + LN2_LOW) + ROUNDER) - ROUNDER
        rest = (bounded - power * LN2_HIGH) - power * LN2_LOW
        series = TERMS[0]
        for term in TERMS[1:]:
            series = series * rest + term
        out[i] = series
        scale[i] = (np.int64(power) + 1023) << 52
    for i in range(n):
        out[i] *= powers[i]


@njit(error_model="numpy")
def schedule(
    states: NDArray[np.int64],
    words: NDArray[np.uint64],
    floats: NDArray[np.float64],
    some: NDArray[np.int64],
    n: int,
    counters: NDArray[np.uint64],
    size: int,
    room: NDArray[np.float64],
) -> None:
    """Find the next value to be taken by each of the first n of some reservoirs.

    Where ``counters[i]`` is not 0, LOG_W takes a step first, by the random number of that counter. `room` is (6, 2 n).
    """
    steps, gaps, least, lost = room[0], room[1], room[2], room[3]
    for i in range(n):
        g = some[i]
        steps[i] = uniform(words[g, KEY], counters[i])
        steps[n + i] = uniform(words[g, KEY], np.uint64(3) * words[g, STEP_AT])
    logs(steps, 2 * n, room[4], room[5])
    for i in range(n):
        g = some[i]
        least[i] = floats[g, LOG_W] + steps[i] / np.float64(size) if counters[i] else floats[g, LOG_W]
        floats[g, LOG_W] = least[i]
    exps(least, n, gaps, room[4])
    for i in range(n):
        gaps[n + i] = -gaps[i]
        gaps[i] = max(1.0 + gaps[n + i], STEP / 4.0)
        lost[i] = gaps[i] - 1.0
    logs(gaps, n, room[4], room[5])
    for i in range(n):
        g, w = some[i], gaps[n + i]
        one = w if lost[i] == 0.0 else gaps[i] * (w / lost[i])
        states[g, DUE] = max(states[g, LAST] + np.int64(min(steps[n + i] / one, LONGEST_SKIP)), states[g, COUNT])


@njit()
def _digest(
    key: np.uint64,
    items: NDArray[np.uint64],
    width: int,
    data: NDArray[np.uint8],
    text_ends: NDArray[np.int64],
) -> np.uint64:
    """Return a key made of one and of items in their order; `width` 0: texts, items say which."""
    total = np.uint64(0)
    if width == 0:
        begins, ends = np.empty(items.size, np.int64), np.empty(items.size, np.int64)
        hashes = np.empty(items.size, np.uint64)
        for i in range(items.size):
            begins[i], ends[i] = text_ends[items[i]], text_ends[items[i] + np.uint64(1)]
        hash_bytes(data, begins, ends, SEED, hashes)
    for i in range(items.size):
        if width == 8:
            h = hash8(items[i], SEED)
        elif width == 4:
            h = hash4(items[i], SEED)
        else:
            h = hashes[i]
        total += hash8(h + np.uint64(i) * ODD_STRIDE, key)
    return hash8(total, key)


@njit()
def _keep(
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
def _widen(states: NDArray[np.int64], g: int, room: int, pool: NDArray[np.uint64], marks: NDArray[np.int64]) -> bool:
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
                        words[g, KEY] = _digest(words[g, KEY], pool[start : start + size], width, data, text_ends)
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
                    pool[place] = values[i] if width else _keep(source, begins[i], ends[i], data, text_ends, marks)
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
    if wanted > states[g, ROOM] and not _widen(states, g, min(size, max(FIRST_ROOM, wanted + wanted // 2)), pool, marks):
        return first, True
    start = states[g, START] + count - first
    for i in range(first, stop):
        if width == 0 and (marks[TEXTS] + 2 > text_ends.size or marks[BYTES] + ends[i] - begins[i] > data.size):
            states[g, COUNT] = count + i - first
            return i, True
        pool[start + i] = values[i] if width else _keep(source, begins[i], ends[i], data, text_ends, marks)
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
            pool[j] = _keep(data, text_ends[text], text_ends[text + 1], new_data, new_ends, marks)


@njit()
def prepare(keys: NDArray[np.uint64], key: np.uint64, first: int) -> None:
    """Give reservoirs their keys, each made of one key and its number; that of the first is `first`."""
    for i in range(keys.size):
        keys[i] = hash8(np.uint64(first + i), key)


@njit()
def _log_keys(key: np.uint64, items: int, size: int, log_w: float, out: NDArray[np.float64], room: NDArray[np.float64]) -> None:
    """Draw logarithms of keys for items, from what is known of them."""
    for i in range(items):
        out[i] = uniform(key, np.uint64(i))
    logs(out, items, room[0], room[1])
    if items == size:
        for i in range(items):
            out[i] += log_w
        out[np.int64(uniform(key, np.uint64(items)) * np.float64(items))] = log_w


@njit()
def _nth_least(some: NDArray[np.float64], nth: int) -> float:
    """Return the nth least of some numbers, which are brought into another order."""
    low, high, wanted = 0, some.size - 1, nth - 1
    while low < high:
        middle = (low + high) // 2
        pivot = max(min(some[low], some[middle]), min(max(some[low], some[middle]), some[high]))
        i, j = low, high
        while i <= j:
            while some[i] < pivot:
                i += 1
            while some[j] > pivot:
                j -= 1
            if i <= j:
                some[i], some[j] = some[j], some[i]
                i += 1
                j -= 1
        if wanted <= j:
            high = j
        elif wanted >= i:
            low = i
        else:
            break
    return some[wanted]


@njit()
def merge(
    states: NDArray[np.int64],
    words: NDArray[np.uint64],
    floats: NDArray[np.float64],
    numbers: NDArray[np.int64],
    heads: NDArray[np.int64],
    head_words: NDArray[np.uint64],
    head_floats: NDArray[np.float64],
    firsts: NDArray[np.int64],
    values: NDArray[np.uint64],
    source: NDArray[np.uint8],
    begins: NDArray[np.int64],
    ends: NDArray[np.int64],
    first: int,
    size: int,
    width: int,
    pool: NDArray[np.uint64],
    data: NDArray[np.uint8],
    text_ends: NDArray[np.int64],
    marks: NDArray[np.int64],
) -> int:
    """Merge other reservoirs in, from `first` on; returns the one for which there is no room, or their number.

    Parameters
    ----------
    heads : ndarray (n, 8) int64
        Lines as in `states`, of the others; `head_words` and `head_floats` are views of them.
    firsts : ndarray (n + 1,) int64
        Items of reservoir i stand in `values`, or as texts in `source`, from ``firsts[i]`` up to ``firsts[i + 1]``.
    """
    most = 0
    for i in range(numbers.size):
        most = max(most, firsts[i + 1] - firsts[i])
    log_keys, spare = np.empty(size + most, np.float64), np.empty(size + most, np.float64)
    room, line = np.empty((2, size), np.float64), np.empty((6, 2), np.float64)
    one, none = np.empty(1, np.int64), np.zeros(1, np.uint64)
    for i in range(first, numbers.size):
        g, begin = numbers[i], firsts[i]
        theirs = firsts[i + 1] - begin
        if theirs == 0:
            continue
        count, more = states[g, COUNT], heads[i, COUNT]
        ours = min(count, size)
        block = size if ours + theirs >= size else min(size, max(FIRST_ROOM, 2 * (ours + theirs)))
        if width == 0:
            text_bytes = np.int64(0)
            for j in range(begin, begin + theirs):
                text_bytes += ends[j] - begins[j]
            if marks[TEXTS] + theirs + 1 > text_ends.size or marks[BYTES] + text_bytes > data.size:
                return i
        if ours + theirs > states[g, ROOM] and states[g, ROOM] < size and not _widen(states, g, block, pool, marks):
            return i
        start = states[g, START]
        if ours + theirs < size:
            for j in range(theirs):
                at = begin + j
                pool[start + ours + j] = values[at] if width else _keep(source, begins[at], ends[at], data, text_ends, marks)
            states[g, COUNT] = count + more
            continue
        key = words[g, KEY] if ours == size else _digest(words[g, KEY], pool[start : start + ours], width, data, text_ends)
        other = head_words[i, KEY]
        if theirs < size:
            other = _digest_of(other, width, values[begin : begin + theirs] if width else values, source, begins, ends, begin, theirs)
        key = hash8(np.uint64(more), hash8(other, hash8(np.uint64(count), key)))
        log_w = head_floats[i, LOG_W]
        if ours == 0:
            for j in range(size):
                at = begin + j
                pool[start + j] = values[at] if width else _keep(source, begins[at], ends[at], data, text_ends, marks)
        else:
            both = ours + theirs
            _log_keys(hash8(np.uint64(1), key), ours, size, floats[g, LOG_W], log_keys, room)
            _log_keys(hash8(np.uint64(2), key), theirs, size, log_w, log_keys[ours:], room)
            spare[:both] = log_keys[:both]
            log_w = _nth_least(spare[:both], size)
            equal = size
            for j in range(both):
                equal -= log_keys[j] < log_w
            kept = 0
            for j in range(both):
                if log_keys[j] > log_w:
                    continue
                if log_keys[j] == log_w:
                    if equal == 0:
                        continue
                    equal -= 1
                if j < ours:
                    pool[start + kept] = pool[start + j]
                else:
                    at = begin + j - ours
                    pool[start + kept] = values[at] if width else _keep(source, begins[at], ends[at], data, text_ends, marks)
                kept += 1
        words[g, KEY] = hash8(np.uint64(3), key)
        floats[g, LOG_W] = log_w
        states[g, COUNT] = states[g, LAST] = count + more
        states[g, STEP_AT] = 0
        one[0] = g
        schedule(states, words, floats, one, 1, none, size, line)
    return numbers.size


@njit()
def _digest_of(
    key: np.uint64,
    width: int,
    values: NDArray[np.uint64],
    source: NDArray[np.uint8],
    begins: NDArray[np.int64],
    ends: NDArray[np.int64],
    begin: int,
    items: int,
) -> np.uint64:
    """Return a key made of one and of items that are not in the pool."""
    if width:
        return _digest(key, values, width, source, begins)
    total = np.uint64(0)
    hashes = np.empty(items, np.uint64)
    hash_bytes(source, begins[begin : begin + items], ends[begin : begin + items], SEED, hashes)
    for i in range(items):
        total += hash8(hashes[i] + np.uint64(i) * ODD_STRIDE, key)
    return hash8(total, key)
