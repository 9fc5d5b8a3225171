"""Registers of many stored sketches in loops for numba; without it each sketch is read and asked by its class."""
# mypy: disable-error-code="assignment"
# (numba gives the values of a kernel their types; NumPy's own say too little about scalars)

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from sketches.jit import njit

__all__ = ["rates", "read"]

ENTRY = 4  # bytes of a register that is stored with its place
WAYS = 4  # counters for each register, so that equal neighbours need not wait for each other
STEPS = 60  # as in `sketches.likelihood`, and the next three
EXACT = 1e-13
TINY = 1e-4
HUGE = 700.0


@njit()
def read(
    data: NDArray[np.uint8],
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    possible: NDArray[np.bool_],
    sound: NDArray[np.bool_],
    states: NDArray[np.uint8],
) -> None:
    """Read payloads as `DistinctSketch._read_registers` does into states of zeros; what is not exactly so is not sound."""
    size = states.shape[1]
    top = possible.size - 1
    while not possible[top]:
        top -= 1
    low = top
    while low > 1 and possible[low - 1]:
        low -= 1
    least, most = np.uint8(low), np.uint8(top)
    for i in range(starts.size):
        if not sound[i]:
            continue
        length, begin, used, fits = ends[i] - starts[i] - 1, starts[i] + 1, 0, True
        if data[starts[i]] == 0 and length == size:
            for j in range(size):
                states[i, j] = data[begin + j]
            for j in range(size):
                used += states[i, j] != 0
            fits = used * ENTRY >= size
        elif data[starts[i]] == 1 and length % ENTRY == 0 and length < size:
            before = -1
            for at in range(begin, ends[i], ENTRY):
                place = np.int64(data[at + 1]) | np.int64(data[at + 2]) << 8 | np.int64(data[at + 3]) << 16
                if place <= before or place >= size or data[at] == 0:
                    fits = False
                    break
                states[i, place] = data[at]
                before = place
        else:
            fits = False
        if fits:
            outside = 0
            for j in range(size):  # a loop that LLVM makes vectors of; most sketches end here
                outside += ((states[i, j] < least) & (states[i, j] != 0)) | (states[i, j] > most)
            if outside:
                for j in range(size):
                    fits &= possible[states[i, j]]
        sound[i] = fits


@njit()
def rates(
    states: NDArray[np.uint8],
    never: NDArray[np.float64],
    happened: NDArray[np.int64],
    found: NDArray[np.float64],
    variances: NDArray[np.float64],
) -> None:
    """Do for each sketch what `sketches.likelihood.most_likely` does, in the same order of operations.

    never : ndarray (256,), happened : ndarray (256, 65): what a register says, see `registers`.
    """
    counts, events = np.empty((WAYS, never.size), np.int64), np.empty(happened.shape[1], np.int64)
    shares = np.array([math.ldexp(1.0, -rank) for rank in range(events.size)])
    for i in range(states.shape[0]):
        counts[:] = 0
        for j in range(states.shape[1]):
            counts[j % WAYS, states[i, j]] += 1
        a, events[:] = 0.0, 0
        for register in range(never.size):
            count = counts[0, register] + counts[1, register] + counts[2, register] + counts[3, register]
            if count:
                a += count * never[register]
                for rank in range(1, events.size):
                    events[rank] += count * happened[register, rank]
        found[i], variances[i] = most_likely(a, events, shares)


@njit()
def most_likely(a: float, events: NDArray[np.int64], shares: NDArray[np.float64]) -> tuple[float, float]:
    """See `sketches.likelihood.most_likely`."""
    total, shared = 0, 0.0
    for rank in range(1, events.size):
        total += events[rank]
        shared += shares[rank] * events[rank]
    if total == 0:
        return 0.0, 0.0
    if a <= 0.0:
        return math.inf, math.inf
    rate = total / (a + 0.5 * shared)
    for _ in range(STEPS):
        excess, slope = a * rate, a
        for rank in range(1, events.size):
            if events[rank]:
                share = shares[rank]
                value, change = fall(rate * share)
                excess -= events[rank] * value
                slope -= events[rank] * change * share
        step = excess / slope
        rate -= step
        if abs(step) <= EXACT * rate:
            break
    information = 0.0
    for rank in range(1, events.size):
        if events[rank]:
            y = rate * shares[rank]
            value, _ = fall(y)
            information += events[rank] * value * (value + y)
    return rate, 1.0 / information if information else math.inf


@njit()
def fall(y: float) -> tuple[float, float]:
    """See `sketches.likelihood`."""
    if y < TINY:
        return 1.0 - 0.5 * y + y * y / 12.0, y / 6.0 - 0.5
    if y > HUGE:
        return 0.0, 0.0
    grown = math.expm1(y)
    value = y / grown
    return value, (1.0 - y - value) / grown
