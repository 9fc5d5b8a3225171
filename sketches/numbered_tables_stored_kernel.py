"""Stored tables taken into many sketches, in loops for numba. The equal in NumPy: `sketches.numbered_tables_plain`."""
# mypy: disable-error-code="return-value, assignment, call-arg, no-any-return, arg-type"
# (numba's scalars are wrapped by NumPy's types, which NumPy's stubs see as others)

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sketches.jit import njit
from sketches.machine import load4, load8
from sketches.numbered_tables_kernel import CONSERVATIVE, COUNTS, LOW, U0, U32, U63, is_sparse, scatter

__all__ = ["take_stored"]

LARGEST = (1 << 63) - 1


@njit()
def _full_lines(lanes: int, data: NDArray[np.uint8], at: int, size: int) -> int:
    """Count the lines of a table of so many bytes that hold anything."""
    full = 0
    for line in range(0, size, 8 * lanes):
        found = U0
        for lane in range(lanes):
            found |= load8(data, at + line + 8 * lane)
        full += found != U0
    return full


@njit()
def _counts_fit(kind: int, depth: int, data: NDArray[np.uint8], at: int, cells: int) -> int:
    """Return the total of a whole Count-Min table; -1 if no values can have made it, or more than there can be."""
    width = (cells - 1) // depth
    total = load8(data, at + 8 * (cells - 1))
    signs = total
    wrong = False
    for row in range(depth):
        low = U0
        high = U0
        begin = at + 8 * row * width
        for i in range(width):
            cell = load8(data, begin + 8 * i)
            signs |= cell
            low += cell & LOW
            high += cell >> U32
        high += low >> U32
        wrong |= high >> U32 != U0
        added = high << U32 | low & LOW
        wrong |= added > total if kind == CONSERVATIVE else added != total
    return -1 if wrong or signs >> U63 else np.int64(total)


@njit()
def _sparse_counts_fit(kind: int, depth: int, data: NDArray[np.uint8], at: int, count: int, cells: int) -> int:
    """Return the same of a sparse one whose places are right."""
    width = (cells - 1) // depth
    lines = at + 4 * count
    total = U0
    if count and np.int64(load4(data, at + 4 * (count - 1))) == cells - 1:
        total = load8(data, lines + 8 * (count - 1))
        count -= 1
    signs = total
    wrong = False
    i = 0
    for row in range(depth):
        low = U0
        high = U0
        end = (row + 1) * width
        while i < count and np.int64(load4(data, at + 4 * i)) < end:
            cell = load8(data, lines + 8 * i)
            signs |= cell
            low += cell & LOW
            high += cell >> U32
            i += 1
        high += low >> U32
        wrong |= high >> U32 != U0
        added = high << U32 | low & LOW
        wrong |= added > total if kind == CONSERVATIVE else added != total
    return -1 if wrong or signs >> U63 else np.int64(total)


@njit()
def _lines_fit(lanes: int, data: NDArray[np.uint8], at: int, count: int, most: int) -> bool:
    """Tell whether places rise, below `most`, and each line holds something."""
    wrong = 0
    lines = at + 4 * count
    before = -1
    for i in range(count):
        place = np.int64(load4(data, at + 4 * i))
        wrong += place <= before
        before = place
        found = U0
        for lane in range(lanes):
            found |= load8(data, lines + 8 * (i * lanes + lane))
        wrong += found == U0
    return wrong == 0 and before < most


@njit()
def take_stored(
    kind: int,
    probes: int,
    lanes: int,
    states: NDArray[np.uint64],
    rows: NDArray[np.int64],
    used: int,
    totals: NDArray[np.int64],
    numbers: NDArray[np.int64],
    data: NDArray[np.uint8],
    begins: NDArray[np.int64],
    ends: NDArray[np.int64],
    fits: NDArray[np.bool_],
    arena: NDArray[np.uint8],
    filled: int,
    pieces: NDArray[np.int64],
    known: int,
) -> tuple[int, int, int]:
    """Take payloads, each ``data[begins[i]:ends[i]]``: whole ones into rows, sparse ones too, or as pieces into the arena.

    A payload that no sketch writes, or for which there is no room, is not taken, and its `fits` made false. Returns how many rows, bytes of
    the arena and pieces there are. pieces : ndarray (n, 3), number, place and lines.
    """
    cells = states.shape[1]
    size = 8 * cells
    add = kind >= COUNTS
    for i in range(begins.size):
        if not fits[i]:
            continue
        at = begins[i] + 1
        length = ends[i] - at
        number = numbers[i]
        row = rows[number]
        total = 0
        if length < 0:
            fits[i] = False
        elif data[at - 1] == 0:
            if length != size or (row < 0 and used == len(states)) or is_sparse(lanes, _full_lines(lanes, data, at, size), size):
                fits[i] = False
                continue
            if add:
                total = _counts_fit(kind, probes, data, at, cells)
                if total < 0 or total > LARGEST - totals[number]:
                    fits[i] = False
                    continue
                totals[number] += total
            if row < 0:
                row = used
                rows[number] = row
                used += 1
            state = states[row]
            for cell in range(cells):
                word = load8(data, at + 8 * cell)
                state[cell] = state[cell] + word if add else state[cell] | word
        elif data[at - 1] == 1 and length >= 4:
            count = np.int64(load4(data, at))
            at += 4
            length -= 4
            if row < 0 and (filled + length > arena.size or known == len(pieces)):
                fits[i] = False
                continue
            if (
                length != count * (4 + 8 * lanes)
                or not is_sparse(lanes, count, size)
                or not _lines_fit(lanes, data, at, count, cells // lanes)
            ):
                fits[i] = False
                continue
            if add:
                total = _sparse_counts_fit(kind, probes, data, at, count, cells)
                if total < 0 or total > LARGEST - totals[number]:
                    fits[i] = False
                    continue
                totals[number] += total
            if row >= 0:
                scatter(add, lanes, states[row], data, at, count)
            elif count:
                arena[filled : filled + length] = data[at : at + length]
                pieces[known, 0] = number
                pieces[known, 1] = filled
                pieces[known, 2] = count
                filled += length
                known += 1
        else:
            fits[i] = False
    return used, filled, known
