"""Reservoirs merged into many in loops for numba: each item gets the key that it might have had, and the least ones stay."""
# mypy: disable-error-code="return-value, assignment, call-arg, no-any-return"
# (numba gives the values of a kernel their types; NumPy's own say too little about scalars)

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sketches.draws import ODD_STRIDE
from sketches.hash_kernel import hash_bytes
from sketches.jit import njit
from sketches.numbered_reservoir_draws_kernel import (
    COUNT,
    KEY,
    LAST,
    LOG_W,
    ROOM,
    SEED,
    START,
    STEP_AT,
    digest,
    hash8,
    logs,
    schedule,
    uniform,
)
from sketches.numbered_reservoir_kernel import BYTES, FIRST_ROOM, TEXTS, keep, widen

__all__ = ["merge"]


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
        if ours + theirs > states[g, ROOM] and states[g, ROOM] < size and not widen(states, g, block, pool, marks):
            return i
        start = states[g, START]
        if ours + theirs < size:
            for j in range(theirs):
                at = begin + j
                pool[start + ours + j] = values[at] if width else keep(source, begins[at], ends[at], data, text_ends, marks)
            states[g, COUNT] = count + more
            continue
        key = words[g, KEY] if ours == size else digest(words[g, KEY], pool[start : start + ours], width, data, text_ends)
        other = head_words[i, KEY]
        if theirs < size:
            other = _digest_of(other, width, values[begin : begin + theirs] if width else values, source, begins, ends, begin, theirs)
        key = hash8(np.uint64(more), hash8(other, hash8(np.uint64(count), key)))
        log_w = head_floats[i, LOG_W]
        if ours == 0:
            for j in range(size):
                at = begin + j
                pool[start + j] = values[at] if width else keep(source, begins[at], ends[at], data, text_ends, marks)
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
                    pool[start + kept] = values[at] if width else keep(source, begins[at], ends[at], data, text_ends, marks)
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
        return digest(key, values, width, source, begins)
    total = np.uint64(0)
    hashes = np.empty(items, np.uint64)
    hash_bytes(source, begins[begin : begin + items], ends[begin : begin + items], SEED, hashes)
    for i in range(items):
        total += hash8(hashes[i] + np.uint64(i) * ODD_STRIDE, key)
    return hash8(total, key)
