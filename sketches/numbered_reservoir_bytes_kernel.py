"""Stored reservoirs in loops for numba: read out of and written into one buffer; without numba the class does it, one by one."""
# mypy: disable-error-code="return-value, assignment, call-arg, no-any-return"
# (numba gives the values of a kernel their types; NumPy's own say too little about scalars)

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sketches.jit import njit
from sketches.machine import load4, load8, store4, store8
from sketches.numbered_reservoir_draws_kernel import COUNT, KEY, LAST, LOG_W, START, STEP_AT

__all__ = ["heads", "items", "measure", "pack"]

BEGIN = 16  # header and parameters
ITEMS = BEGIN + 40  # after the state
FIRST = ITEMS + 5  # after type and number
SEAL = 4
NUMBERS = np.array([COUNT, KEY, STEP_AT, LAST, LOG_W])  # as they are stored
MOST_COUNT = np.uint64(1 << 62)
MOST_STEP = np.uint64(1 << 60)
LEAST_LOG = -700.0


@njit()
def heads(
    data: NDArray[np.uint8],
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    size: int,
    widths: NDArray[np.int64],
    fits: NDArray[np.bool_],
    codes: NDArray[np.int64],
    states: NDArray[np.int64],
    words: NDArray[np.uint64],
    floats: NDArray[np.float64],
) -> None:
    """Look at stored forms whose header fits: which do in all but the byte forms of their items; and the states that are in them."""
    for i in range(starts.size):
        at, length = starts[i], ends[i] - starts[i]
        if not fits[i] or length < FIRST + SEAL:
            fits[i] = False
            continue
        fits[i] = False
        code = np.int64(data[at + ITEMS])
        number = np.int64(load4(data, at + ITEMS + 1))
        for j in range(NUMBERS.size):
            words[i, NUMBERS[j]] = load8(data, at + BEGIN + 8 * j)
        if code >= widths.size or words[i, COUNT] > MOST_COUNT:
            continue
        count, last = states[i, COUNT], states[i, LAST]
        if number != min(count, size) or (count == 0) != (code == 0):
            continue
        if number == size:
            if not size <= last <= count or words[i, STEP_AT] >= MOST_STEP or not LEAST_LOG <= floats[i, LOG_W] <= 0.0:
                continue
        elif words[i, STEP_AT] != 0 or last != 0 or floats[i, LOG_W] != 0.0:
            continue
        left = length - FIRST - SEAL
        wanted = widths[code] * number
        if widths[code] == 0:
            if left < 4 * number:
                continue
            wanted = 4 * number
            for j in range(number):
                wanted += np.int64(load4(data, at + FIRST + 4 * j))
        if left != wanted:
            continue
        fits[i] = True
        codes[i] = code


@njit()
def items(
    data: NDArray[np.uint8],
    starts: NDArray[np.int64],
    firsts: NDArray[np.int64],
    width: int,
    words: NDArray[np.uint64],
    begins: NDArray[np.int64],
    stops: NDArray[np.int64],
) -> None:
    """Take the items out of forms that fit; those of form i go to ``firsts[i]`` and on. `width` 0: texts, by their places."""
    for i in range(starts.size):
        first, place = firsts[i], starts[i] + FIRST
        size = firsts[i + 1] - first
        if width == 0:
            text = place + 4 * size
            for j in range(size):
                begins[first + j] = text
                text += np.int64(load4(data, place + 4 * j))
                stops[first + j] = text
        elif width == 4:
            for j in range(size):
                words[first + j] = load4(data, place + 4 * j)
        else:
            for j in range(size):
                words[first + j] = load8(data, place + 8 * j)


@njit()
def measure(
    states: NDArray[np.int64], size: int, pool: NDArray[np.uint64], width: int, text_ends: NDArray[np.int64], sizes: NDArray[np.int64]
) -> None:
    """Set `sizes` to the lengths of the stored forms."""
    for g in range(len(states)):
        number = min(states[g, COUNT], size)
        sizes[g] = FIRST + SEAL + (width if width else 4) * number
        if width == 0:
            for j in range(states[g, START], states[g, START] + number):
                text = np.int64(pool[j])
                sizes[g] += text_ends[text + 1] - text_ends[text]


@njit()
def pack(
    states: NDArray[np.int64],
    words: NDArray[np.uint64],
    size: int,
    pool: NDArray[np.uint64],
    texts: NDArray[np.uint8],
    text_ends: NDArray[np.int64],
    code: int,
    width: int,
    head: NDArray[np.uint8],
    out: NDArray[np.uint8],
    out_ends: NDArray[np.int64],
) -> None:
    """Write the forms of reservoirs, all but their checksums: that of reservoir g from ``out_ends[g]`` on."""
    for g in range(len(states)):
        at, start = out_ends[g], states[g, START]
        number = min(states[g, COUNT], size)
        out[at : at + BEGIN] = head
        store4(out, at + 8, np.uint32(out_ends[g + 1] - at - BEGIN - SEAL))
        for j in range(NUMBERS.size):
            store8(out, at + BEGIN + 8 * j, words[g, NUMBERS[j]])
        out[at + ITEMS] = code if number else 0
        store4(out, at + ITEMS + 1, np.uint32(number))
        at += FIRST
        if width == 0:
            place = at + 4 * number
            for j in range(number):
                text = np.int64(pool[start + j])
                begin, stop = text_ends[text], text_ends[text + 1]
                store4(out, at + 4 * j, np.uint32(stop - begin))
                for k in range(begin, stop):
                    out[place] = texts[k]
                    place += 1
        elif width == 4:
            for j in range(number):
                store4(out, at + 4 * j, np.uint32(pool[start + j]))
        else:
            for j in range(number):
                store8(out, at + 8 * j, pool[start + j])
