"""Random numbers of many reservoirs in loops for numba: those of `sketches.draws`, bit for bit, and the jumps of Algorithm L.

A reservoir is a line of eight words, see `COUNT` and the following; ``states``, ``words`` and ``floats`` are views of the same lines.
"""
# mypy: disable-error-code="return-value, assignment, call-arg, no-any-return"
# (numba gives the values of a kernel their types; NumPy's own say too little about scalars)

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sketches.draws import FACTORIALS, HALF_ROOT, LEAST_EXPONENT, LN2_HIGH, LN2_LOW, ODD, ODD_STRIDE, STEP, UNUSED_BITS
from sketches.hash_kernel import P1, P2, P3, P4, P5, U4, U8, U23, U27, U31, avalanche, hash_bytes, rotl
from sketches.jit import njit

__all__ = ["digest", "exps", "hash8", "logs", "schedule", "uniform"]

COUNT = 0  # values seen
DUE = 1  # the number of the next value to be taken; not above COUNT while there are less than `size` items
START = 2  # of the block in the pool
ROOM = 3  # of the block
KEY = 4  # of the random numbers
STEP_AT = 5
LAST = 6
LOG_W = 7
SEED = np.uint64(42)
LONGEST_SKIP = 2.0**51
ROUNDER = 1.5 * 2.0**52  # added and taken off, it leaves the nearest whole number
FRACTION = np.uint64((1 << 52) - 1)
HALF = np.uint64(1022 << 52)  # the exponent of 1/2
HALF_ROOT_BITS = np.float64(HALF_ROOT).view(np.uint64)
U52 = np.uint64(52)
ODD_TERMS = tuple(ODD)
TERMS = tuple(FACTORIALS)


@njit(inline="always")
def hash8(word: np.uint64, seed: np.uint64) -> np.uint64:
    """Return the hash of eight bytes."""
    return avalanche(rotl((seed + P5 + U8) ^ (rotl(word * P2, U31) * P1), U27) * P1 + P4)


@njit(inline="always")
def hash4(word: np.uint64, seed: np.uint64) -> np.uint64:
    return avalanche(rotl((seed + P5 + U4) ^ (word * P1), U23) * P2 + P3)


@njit(inline="always")
def uniform(key: np.uint64, counter: np.uint64) -> float:
    """Return a number of a key, inside (0, 1)."""
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
def digest(
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
