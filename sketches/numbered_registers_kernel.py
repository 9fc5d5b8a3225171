"""Registers of many sketches in loops for numba. The equal in NumPy: `sketches.numbered_registers_plain`.

A sketch is a row of `states`, or sparse: entries, place << 8 | register, in its stored form or with its number above them as codes. What a
sketch has in several places is joined in `scratch`, registers of one sketch, with a bit for each that is in use, and a bit for each word of
those: so nothing costs more than the entries there are.
"""
# mypy: disable-error-code="return-value, assignment, call-arg, no-any-return"
# (numba's scalars are wrapped by NumPy's types, which NumPy's stubs see as others)

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sketches.hash_kernel import U1
from sketches.jit import njit
from sketches.machine import leading_zeros, load4, store4, trailing_zeros
from sketches.ultraloglog_kernel import joined

__all__ = ["emit", "settle_codes", "settle_pieces", "take", "take_stored"]

U0 = np.uint64(0)
U2 = np.uint64(2)
U6 = np.uint64(6)
U8 = np.uint64(8)
U12 = np.uint64(12)
U32 = np.uint64(32)
U63 = np.uint64(63)
BYTE = np.uint64(255)
PLACE = np.uint64(0xFFFFFF)


@njit(inline="always")
def _join(ultra: bool, one: np.uint64, other: np.uint64) -> np.uint64:
    return joined(one, other) if ultra else max(one, other)


@njit(inline="always")
def _impossible(ultra: bool, precision: np.uint64, register: np.uint64) -> bool:
    """Tell of a register above 0 whether no values give it."""
    if not ultra:
        return register > np.uint64(65) - precision
    first = (precision - U1) << U2  # rank 1; a first rank has none below it, the second one
    return (register < first) | (register - first - U1 < np.uint64(3)) | ((register - first) | U2 == np.uint64(7))


@njit()
def take(
    states: NDArray[np.uint8],
    rows: NDArray[np.int64],
    precision: int,
    ultra: bool,
    keep: bool,
    numbers: NDArray[np.int64],
    hashes: NDArray[np.uint64],
    codes: NDArray[np.uint64],
    used: int,
) -> int:
    """Take each hash into the row of its number, or, where that has none or all are to be kept, add a code; returns how many there are."""
    bits = np.uint64(precision)
    shift = np.uint64(64 - precision)
    last = U1 << (bits - U1)
    for i in range(hashes.size):
        number = numbers[i]
        row = -1 if keep else rows[number]
        place = hashes[i] >> shift
        register = leading_zeros(hashes[i] << bits | last) + U1
        if ultra:
            register = (register + bits - U2) << U2
        if row >= 0:
            states[row, place] = np.uint8(_join(ultra, np.uint64(states[row, place]), register))
        else:
            codes[used] = np.uint64(number) << U32 | place << U8 | register
            used += 1
    return used


@njit()
def _join_dense(ultra: bool, state: NDArray[np.uint8], found: NDArray[np.uint8]) -> None:
    if ultra:
        for i in range(state.size):
            high = max(state[i], found[i])
            low = min(state[i], found[i])
            apart = (high >> np.uint8(2)) - (low >> np.uint8(2))
            seen = (np.uint8(4) | (low & np.uint8(3))) >> min(apart, np.uint8(7)) & np.uint8(3)
            state[i] = high | seen if low else high
    else:
        for i in range(state.size):
            state[i] = max(state[i], found[i])


@njit()
def _dense_fits(ultra: bool, precision: int, found: NDArray[np.uint8]) -> bool:
    full = 0
    for i in range(found.size):
        full += found[i] != np.uint8(0)
    if full * 4 < found.size:
        return False
    wrong = 0
    if ultra:
        first = np.uint8((precision - 1) << 2)
        for i in range(found.size):
            over = found[i] - first
            low = (found[i] < first) | ((over - np.uint8(1)) & BYTE < np.uint8(3)) | ((over | np.uint8(2)) == np.uint8(7))
            wrong += low & (found[i] != np.uint8(0))
    else:
        most = np.uint8(65 - precision)
        for i in range(found.size):
            wrong += found[i] > most
    return wrong == 0


@njit()
def _entries_fit(ultra: bool, precision: int, data: NDArray[np.uint8], at: int, count: int) -> bool:
    wrong = 0
    bits = np.uint64(precision)
    before = U0
    for i in range(count):
        entry = np.uint64(load4(data, at + 4 * i))
        wrong += (entry & BYTE == U0) | _impossible(ultra, bits, entry & BYTE) | ((entry >> U8) + U1 <= before)
        before = (entry >> U8) + U1
    return wrong == 0 and before <= U1 << bits


@njit()
def take_stored(
    states: NDArray[np.uint8],
    rows: NDArray[np.int64],
    used: int,
    precision: int,
    ultra: bool,
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
    """Take payloads, each ``data[begins[i]:ends[i]]``: dense ones into rows, sparse ones too, or as pieces into the arena.

    A payload that no sketch writes, or for which there is no room, is not taken, and its `fits` made false. Returns how many rows, bytes of
    the arena and pieces there are. pieces : ndarray (n, 3), number, place and entries.
    """
    size = states.shape[1]
    for i in range(begins.size):
        if not fits[i]:
            continue
        at = begins[i] + 1
        length = ends[i] - at
        number = numbers[i]
        row = rows[number]
        if length < 0:
            fits[i] = False
        elif data[at - 1] == 0:
            found = data[at : at + length]
            if length != size or (row < 0 and used == len(states)) or not _dense_fits(ultra, precision, found):
                fits[i] = False
            elif row < 0:
                rows[number] = used
                states[used] = found
                used += 1
            else:
                _join_dense(ultra, states[row], found)
        elif data[at - 1] == 1:
            count = length // 4
            room = row >= 0 or (filled + length <= arena.size and known < len(pieces))
            if length % 4 or length >= size or not room or not _entries_fit(ultra, precision, data, at, count):
                fits[i] = False
            elif row >= 0:
                _scatter(ultra, states[row], data, at, count)
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


@njit()
def _scatter(ultra: bool, state: NDArray[np.uint8], data: NDArray[np.uint8], at: int, count: int) -> None:
    for i in range(count):
        entry = np.uint64(load4(data, at + 4 * i))
        place = entry >> U8
        state[place] = np.uint8(_join(ultra, np.uint64(state[place]), entry & BYTE))


@njit()
def settle_pieces(
    states: NDArray[np.uint8], rows: NDArray[np.int64], ultra: bool, arena: NDArray[np.uint8], pieces: NDArray[np.int64]
) -> None:
    """Take those pieces into rows whose numbers have one."""
    for i in range(len(pieces)):
        row = rows[pieces[i, 0]]
        if row >= 0:
            _scatter(ultra, states[row], arena, pieces[i, 1], pieces[i, 2])


@njit()
def settle_codes(states: NDArray[np.uint8], rows: NDArray[np.int64], ultra: bool, codes: NDArray[np.uint64]) -> None:
    """Take those codes into rows whose numbers have one."""
    for i in range(codes.size):
        row = rows[codes[i] >> U32]
        if row >= 0:
            place = (codes[i] >> U8) & PLACE
            states[row, place] = np.uint8(_join(ultra, np.uint64(states[row, place]), codes[i] & BYTE))


@njit()
def _use(ultra: bool, scratch: NDArray[np.uint8], words: NDArray[np.uint64], tops: NDArray[np.uint64], entry: np.uint64) -> int:
    """Take an entry into the scratch; returns whether its register was empty."""
    place = (entry >> U8) & PLACE
    before = np.uint64(scratch[place])
    scratch[place] = np.uint8(_join(ultra, before, entry & BYTE))
    words[place >> U6] |= U1 << (place & U63)
    tops[place >> U12] |= U1 << ((place >> U6) & U63)
    return np.int64(before == U0)


@njit()
def _drain(scratch: NDArray[np.uint8], words: NDArray[np.uint64], tops: NDArray[np.uint64], out: NDArray[np.uint8], at: int) -> int:
    """Write the entries of the scratch in their order, and empty it; returns where they end."""
    for i in range(tops.size):
        top = tops[i]
        tops[i] = U0
        while top:
            word = (np.uint64(i) << U6) | trailing_zeros(top)
            top &= top - U1
            bits = words[word]
            words[word] = U0
            while bits:
                place = (word << U6) | trailing_zeros(bits)
                bits &= bits - U1
                store4(out, at, np.uint32(place << U8 | np.uint64(scratch[place])))
                scratch[place] = np.uint8(0)
                at += 4
    return at


@njit()
def emit(
    states: NDArray[np.uint8],
    rows: NDArray[np.int64],
    ultra: bool,
    numbers: NDArray[np.int64],
    arena: NDArray[np.uint8],
    pieces: NDArray[np.int64],
    order: NDArray[np.uint64],
    piece_starts: NDArray[np.int64],
    codes: NDArray[np.uint64],
    code_starts: NDArray[np.int64],
    head: NDArray[np.uint8],
    scratch: NDArray[np.uint8],
    words: NDArray[np.uint64],
    tops: NDArray[np.uint64],
    out: NDArray[np.uint8],
    at: int,
    ends: NDArray[np.int64],
) -> int:
    """Write the stored forms of sketches one after the other from `at`, without their checksums; returns where they end.

    Parameters
    ----------
    order, piece_starts : which pieces each number has, by `sketches.by_number_kernel`; so `code_starts`.
    head : header and parameters.
    ends : ndarray (numbers,) int64, is filled.
    """
    size = states.shape[1]
    for i in range(numbers.size):
        number = numbers[i]
        begin = at
        out[at : at + head.size] = head
        at += head.size + 1
        row = rows[number]
        piece, piece_end = piece_starts[number], piece_starts[number + 1]
        code, code_end = code_starts[number], code_starts[number + 1]
        dense = False
        if row >= 0:
            state = states[row]
            full = 0
            for j in range(size):
                full += state[j] != np.uint8(0)
            dense = full * 4 >= size
            if dense:
                out[at : at + size] = state
                at += size
            elif full:
                for j in range(size):
                    if state[j]:
                        store4(out, at, np.uint32(j << 8 | state[j]))
                        at += 4
        elif code == code_end and piece + 1 == piece_end:
            which = order[piece] & np.uint64(0xFFFFFFFF)
            length = pieces[which, 2] * 4
            out[at : at + length] = arena[pieces[which, 1] : pieces[which, 1] + length]
            at += length
        else:
            full = 0
            while piece < piece_end:
                which = order[piece] & np.uint64(0xFFFFFFFF)
                for j in range(pieces[which, 2]):
                    full += _use(ultra, scratch, words, tops, np.uint64(load4(arena, pieces[which, 1] + 4 * j)))
                piece += 1
            while code < code_end:
                full += _use(ultra, scratch, words, tops, codes[code])
                code += 1
            dense = full * 4 >= size
            if dense:
                out[at : at + size] = scratch
                at += size
                scratch[:] = np.uint8(0)
                words[:] = U0
                tops[:] = U0
            else:
                at = _drain(scratch, words, tops, out, at)
        out[begin + head.size] = np.uint8(0) if dense else np.uint8(1)
        store4(out, begin + 8, np.uint32(at - begin - head.size))
        at += 4
        ends[i] = at
    return at
