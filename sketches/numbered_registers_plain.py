"""Registers of many sketches in NumPy alone, bit for bit what `sketches.numbered_registers_kernel` makes of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sketches.hash_kernel import U1
from sketches.hyperloglog_plain import leading_zeros
from sketches.ultraloglog_plain import merge as join_ultra

__all__ = ["emit", "settle_codes", "settle_pieces", "take", "take_stored"]

U8 = np.uint64(8)
U32 = np.uint64(32)
BYTE = np.uint64(255)
PLACE = np.uint64(0xFFFFFF)
Registers = NDArray[np.uint8]
Codes = NDArray[np.uint64]
Places = NDArray[np.int64]


def take(
    states: Registers, rows: Places, precision: int, ultra: bool, keep: bool, numbers: Places, hashes: Codes, codes: Codes, used: int
) -> int:
    """Take each hash into the row of its number, or, where that has none or all are to be kept, add a code; returns how many there are."""
    bits = np.uint64(precision)
    registers = leading_zeros(hashes << bits | U1 << (bits - U1)).astype(np.uint64) + U1
    if ultra:
        registers = (registers + bits - np.uint64(2)) << np.uint64(2)
    found = numbers.astype(np.uint64) << U32 | hashes >> np.uint64(64 - precision) << U8 | registers
    if not keep:
        settle_codes(states, rows, ultra, found)
        found = found[rows[numbers] < 0]
    codes[used : used + found.size] = found
    return used + int(found.size)


def take_stored(
    states: Registers,
    rows: Places,
    used: int,
    precision: int,
    ultra: bool,
    numbers: Places,
    data: Registers,
    begins: Places,
    ends: Places,
    fits: NDArray[np.bool_],
    arena: Registers,
    filled: int,
    pieces: Places,
    known: int,
) -> tuple[int, int, int]:
    """Take payloads, each ``data[begins[i]:ends[i]]``: dense ones into rows, sparse ones too, or as pieces into the arena."""
    size = states.shape[1]
    for i in np.flatnonzero(fits).tolist():
        payload, number = data[begins[i] : ends[i]], int(numbers[i])
        flag, body = payload[:1].tobytes(), payload[1:]
        entries = _words_of(body)
        if rows[number] < 0 and (used == len(states) if flag == b"\0" else filled + body.size > arena.size or known == len(pieces)):
            fits[i] = False
        elif flag == b"\0" and body.size == size and np.count_nonzero(body) * 4 >= size and _possible(precision, ultra)[body].all():
            if rows[number] < 0:
                rows[number], used = used, used + 1
                states[rows[number]] = 0
            _join(ultra, states[rows[number]], body)
        elif flag == b"\1" and body.size % 4 == 0 and body.size < size and _entries_fit(precision, ultra, entries):
            if rows[number] >= 0:
                _scatter(ultra, states[rows[number]], entries)
            elif entries.size:
                arena[filled : filled + body.size] = body
                pieces[known] = number, filled, entries.size
                filled, known = filled + body.size, known + 1
        else:
            fits[i] = False
    return used, filled, known


def settle_pieces(states: Registers, rows: Places, ultra: bool, arena: Registers, pieces: Places) -> None:
    """Take those pieces into rows whose numbers have one."""
    for number, begin, count in pieces.tolist():
        if rows[number] >= 0:
            _scatter(ultra, states[rows[number]], _words_of(arena[begin : begin + 4 * count]))


def settle_codes(states: Registers, rows: Places, ultra: bool, codes: Codes) -> None:
    """Take those codes into rows whose numbers have one."""
    some = codes[rows[(codes >> U32).astype(np.int64)] >= 0]
    found = _joined(ultra, rows[(some >> U32).astype(np.int64)].astype(np.uint64) << U32 | some & (PLACE << U8 | BYTE))
    at = (found >> U32).astype(np.int64), (found >> U8 & PLACE).astype(np.int64)
    states[at] = _joined_registers(ultra, states[at], (found & BYTE).astype(np.uint8))


def emit(
    states: Registers,
    rows: Places,
    ultra: bool,
    numbers: Places,
    arena: Registers,
    pieces: Places,
    order: Codes,
    piece_starts: Places,
    codes: Codes,
    code_starts: Places,
    head: Registers,
    scratch: Registers,
    words: Codes,
    tops: Codes,
    out: Registers,
    at: int,
    ends: Places,
) -> int:
    """Write the stored forms of sketches one after the other from `at`, without their checksums; returns where they end."""
    del scratch, words, tops  # the kernel's
    size = states.shape[1]
    for i, number in enumerate(numbers.tolist()):
        if rows[number] >= 0:
            state = states[rows[number]]
            found = np.flatnonzero(state).astype(np.uint64) << U8 | state[state > 0]
        else:
            some = (order[piece_starts[number] : piece_starts[number + 1]] & np.uint64(0xFFFFFFFF)).astype(np.int64)
            parts = [_words_of(arena[begin : begin + 4 * count]) for _, begin, count in pieces[some].tolist()]
            found = _joined(ultra, np.concatenate([*parts, codes[code_starts[number] : code_starts[number + 1]] & (PLACE << U8 | BYTE)]))
        if found.size * 4 >= size:
            state = np.zeros(size, np.uint8)
            state[(found >> U8).astype(np.int64)] = (found & BYTE).astype(np.uint8)
            payload = b"\0" + state.tobytes()
        else:
            payload = b"\1" + found.astype("<u4").tobytes()
        blob = head.tobytes()[:8] + len(payload).to_bytes(4, "little") + head.tobytes()[12:] + payload
        out[at : at + len(blob)] = np.frombuffer(blob, np.uint8)
        at += len(blob) + 4
        ends[i] = at
    return at


def _words_of(body: Registers) -> Codes:
    return np.ascontiguousarray(body[: body.size // 4 * 4]).view("<u4").astype(np.uint64)


def _possible(precision: int, ultra: bool) -> NDArray[np.bool_]:
    registers = np.arange(256)
    if not ultra:
        return registers <= 65 - precision
    first = (precision - 1) << 2
    return np.asarray((registers == 0) | ((registers >= first) & ~np.isin(registers - first, (1, 2, 3, 5, 7))))


def _entries_fit(precision: int, ultra: bool, entries: Codes) -> bool:
    places, registers = (entries >> U8).astype(np.int64), (entries & BYTE).astype(np.int64)
    rising = (np.diff(places) > 0).all() and places.max(initial=0) < 1 << precision
    return bool(rising and (registers > 0).all() and _possible(precision, ultra)[registers].all())


def _join(ultra: bool, state: Registers, found: Registers) -> None:
    state[:] = _joined_registers(ultra, state, found)


def _joined_registers(ultra: bool, one: Registers, other: Registers) -> Registers:
    if not ultra:
        return np.maximum(one, other)
    both = one.copy()
    join_ultra(both, other)
    return both


def _scatter(ultra: bool, state: Registers, entries: Codes) -> None:
    """Take entries of places that differ."""
    at = (entries >> U8).astype(np.int64)
    state[at] = _joined_registers(ultra, state[at], (entries & BYTE).astype(np.uint8))


def _joined(ultra: bool, codes: Codes) -> Codes:
    """Return one code for each place there is, in order."""
    codes = np.sort(codes)
    while True:  # each round joins pairs, of which the second ones go
        same = np.flatnonzero(codes[1:] >> U8 == codes[:-1] >> U8)
        if not same.size:
            return codes
        same = same[np.concatenate(([True], np.diff(same) > 1))] if same.size else same
        both = _joined_registers(ultra, (codes[same] & BYTE).astype(np.uint8), (codes[same + 1] & BYTE).astype(np.uint8))
        codes[same] = codes[same] & ~BYTE | both
        codes = np.delete(codes, same + 1)
