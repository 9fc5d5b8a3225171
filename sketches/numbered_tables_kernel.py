"""Tables of many sketches in loops for numba: Bloom filters and Count-Min. The equal in NumPy: `sketches.numbered_tables_plain`.

A table is lines of one or four words of 64 bits, which are joined by or, or added. A sketch is a row of `states`, or sparse: places of the
lines that hold anything, then those, as it is stored; or items of a log, hashes and weights. What a sketch has in several places is joined
in `scratch`, a table of one sketch, with a bit for each line that is in use, and a bit for each word of those.
"""
# mypy: disable-error-code="return-value, assignment, call-arg, no-any-return, arg-type"
# (numba's scalars are wrapped by NumPy's types, which NumPy's stubs see as others)

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sketches import bloom_kernel, classic_bloom_kernel, count_min_kernel
from sketches.jit import njit
from sketches.machine import load4, load8, store4, store8, trailing_zeros
from sketches.multipliers import MULTIPLIERS

__all__ = ["BLOOM", "CLASSIC", "CONSERVATIVE", "COUNTS", "emit", "is_sparse", "scatter", "settle", "split", "tally"]

BLOOM = 0
CLASSIC = 1
COUNTS = 2
CONSERVATIVE = 3
U0 = np.uint64(0)
U1 = np.uint64(1)
U6 = np.uint64(6)
U12 = np.uint64(12)
U32 = np.uint64(32)
U63 = np.uint64(63)
LOW = np.uint64(0xFFFFFFFF)


@njit()
def split(
    rows: NDArray[np.int64],
    keep: bool,
    numbers: NDArray[np.int64],
    hashes: NDArray[np.uint64],
    weights: NDArray[np.int64],
    log_numbers: NDArray[np.uint32],
    log_hashes: NDArray[np.uint64],
    log_weights: NDArray[np.int64],
    used: int,
    direct_rows: NDArray[np.int64],
    direct_hashes: NDArray[np.uint64],
    direct_weights: NDArray[np.int64],
) -> tuple[int, int]:
    """Part items: those whose number has a row, unless all are to be kept, and those for the log; returns how many there are of each.

    `weights`, and those of the log, may have none; then all are 1.
    """
    weighted = weights.size > 0
    logged = log_weights.size > 0
    direct = 0
    for i in range(hashes.size):
        row = rows[numbers[i]]
        weight = weights[i] if weighted else 1
        if row >= 0 and not keep:
            direct_rows[direct] = row
            direct_hashes[direct] = hashes[i]
            direct_weights[direct] = weight
            direct += 1
        elif weight > 0:
            log_numbers[used] = numbers[i]
            log_hashes[used] = hashes[i]
            if logged:
                log_weights[used] = weight
            used += 1
    return used, direct


@njit()
def tally(totals: NDArray[np.int64], numbers: NDArray[np.int64], weights: NDArray[np.int64]) -> None:
    """Add to the total of each number the weights of its items; none is 1 for each."""
    if weights.size:
        for i in range(numbers.size):
            totals[numbers[i]] += weights[i]
    else:
        for i in range(numbers.size):
            totals[numbers[i]] += 1


@njit(inline="always")
def is_sparse(lanes: int, lines: int, size: int) -> bool:
    """Tell whether a table of `size` bytes and so many lines that hold anything is stored sparse."""
    return 4 + lines * (4 + 8 * lanes) < size


@njit()
def scatter(add: bool, lanes: int, table: NDArray[np.uint64], data: NDArray[np.uint8], at: int, count: int) -> None:
    """Take a sparse form of so many lines into a table."""
    lines = at + 4 * count
    for i in range(count):
        place = np.int64(load4(data, at + 4 * i))
        for lane in range(lanes):
            word = load8(data, lines + 8 * (i * lanes + lane))
            table[place * lanes + lane] = table[place * lanes + lane] + word if add else table[place * lanes + lane] | word


@njit()
def _insert(kind: int, probes: int, table: NDArray[np.uint64], hashes: NDArray[np.uint64], weights: NDArray[np.int64]) -> None:
    """Take the items of one sketch into its table."""
    if kind == BLOOM:
        bloom_kernel.insert(table.view(np.uint32).reshape((-1, 8)), hashes)
    elif kind == CLASSIC:
        classic_bloom_kernel.insert(table, hashes, probes)
    elif hashes.size:
        cells = table.view(np.int64)
        counts = cells[:-1].reshape((probes, -1))
        if kind == CONSERVATIVE:
            found, sums = count_min_kernel.count_distinct(hashes, weights if weights.size else np.ones(hashes.size, np.int64))
            least = np.empty(found.size, np.int64)
            count_min_kernel.minima(counts, found, least)
            count_min_kernel.raise_to(counts, found, least + sums)
            cells[-1] += sums.sum()
        elif weights.size:
            count_min_kernel.add_weighted(counts, hashes, weights)
            cells[-1] += weights.sum()
        else:
            count_min_kernel.add(counts, hashes)
            cells[-1] += hashes.size


@njit()
def settle(
    kind: int,
    probes: int,
    lanes: int,
    states: NDArray[np.uint64],
    rows: NDArray[np.int64],
    arena: NDArray[np.uint8],
    pieces: NDArray[np.int64],
    hashes: NDArray[np.uint64],
    weights: NDArray[np.int64],
    item_starts: NDArray[np.int64],
) -> None:
    """Take those pieces and items into rows whose numbers have one."""
    for i in range(len(pieces)):
        row = rows[pieces[i, 0]]
        if row >= 0:
            scatter(kind >= COUNTS, lanes, states[row], arena, pieces[i, 1], pieces[i, 2])
    for number in range(rows.size):
        begin, end = item_starts[number], item_starts[number + 1]
        if rows[number] >= 0 and end > begin:
            _insert(kind, probes, states[rows[number]], hashes[begin:end], weights[begin:end])


@njit(inline="always")
def _mark(words: NDArray[np.uint64], tops: NDArray[np.uint64], place: np.uint64) -> int:
    """Mark a line as in use; returns whether it was not."""
    before = words[place >> U6]
    words[place >> U6] = before | U1 << (place & U63)
    tops[place >> U12] |= U1 << ((place >> U6) & U63)
    return np.int64(U1 - (before >> (place & U63) & U1))


@njit()
def _mark_items(kind: int, probes: int, size: int, words: NDArray[np.uint64], tops: NDArray[np.uint64], hashes: NDArray[np.uint64]) -> int:
    """Mark the lines of items in a table of `size` words; returns how many were not."""
    new = 0
    if kind == BLOOM:
        blocks = np.uint64(size // 4)
        for i in range(hashes.size):
            new += _mark(words, tops, ((hashes[i] >> U32) * blocks) >> U32)
        return new
    count = kind >= COUNTS
    width = np.uint64((size - 1) // probes) if count else np.uint64(size) << U6
    for number in range(probes):
        begin = np.uint64(number) * width
        for i in range(hashes.size):
            place = (((hashes[i] * MULTIPLIERS[number]) >> U32) * width) >> U32
            new += _mark(words, tops, begin + place if count else place >> U6)
    if count and hashes.size:
        new += _mark(words, tops, np.uint64(size - 1))
    return new


@njit()
def _mark_lines(lanes: int, table: NDArray[np.uint64], words: NDArray[np.uint64], tops: NDArray[np.uint64]) -> int:
    """Mark the lines that hold anything; returns how many they are."""
    full = 0
    lines = table.size // lanes
    for word in range(words.size):
        bits = U0
        for line in range(64 * word, min(64 * word + 64, lines)):
            found = U0
            for lane in range(lanes):
                found |= table[line * lanes + lane]
            used = np.uint64(found != U0)
            bits |= used << np.uint64(line & 63)
            full += used
        words[word] = bits
        tops[word >> 6] |= np.uint64(bits != U0) << np.uint64(word & 63)
    return np.int64(full)


@njit()
def _drain(
    clear: bool,
    lanes: int,
    table: NDArray[np.uint64],
    words: NDArray[np.uint64],
    tops: NDArray[np.uint64],
    out: NDArray[np.uint8],
    at: int,
    lines: int,
) -> int:
    """Write the sparse form of a table that has so many lines marked, unmark them, and empty it if asked to; returns where it ends."""
    store4(out, at, np.uint32(lines))
    at += 4
    end = at + lines * (4 + 8 * lanes)
    write = at + 4 * lines
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
                store4(out, at, np.uint32(place))
                at += 4
                for lane in range(lanes):
                    cell = np.int64(place) * lanes + lane
                    store8(out, write, table[cell])
                    if clear:
                        table[cell] = U0
                    write += 8
    return end


@njit()
def emit(
    kind: int,
    probes: int,
    lanes: int,
    states: NDArray[np.uint64],
    rows: NDArray[np.int64],
    numbers: NDArray[np.int64],
    arena: NDArray[np.uint8],
    pieces: NDArray[np.int64],
    order: NDArray[np.uint64],
    piece_starts: NDArray[np.int64],
    hashes: NDArray[np.uint64],
    weights: NDArray[np.int64],
    item_starts: NDArray[np.int64],
    head: NDArray[np.uint8],
    scratch: NDArray[np.uint64],
    words: NDArray[np.uint64],
    tops: NDArray[np.uint64],
    out: NDArray[np.uint8],
    at: int,
    ends: NDArray[np.int64],
) -> int:
    """Write the stored forms of sketches one after the other from `at`, without their checksums; returns where they end.

    Parameters
    ----------
    order, piece_starts : which pieces each number has, by `sketches.by_number_kernel`; so `item_starts`.
    head : header and parameters.
    ends : ndarray (numbers,) int64, is filled.
    """
    size = 8 * states.shape[1]
    entries = 1 if kind == BLOOM else probes  # of an item
    for i in range(numbers.size):
        number = numbers[i]
        begin = at
        out[at : at + head.size] = head
        at += head.size + 1
        row = rows[number]
        piece, piece_end = piece_starts[number], piece_starts[number + 1]
        item, item_end = item_starts[number], item_starts[number + 1]
        sparse = True
        if row >= 0:
            state = states[row]
            full = _mark_lines(lanes, state, words, tops)
            sparse = is_sparse(lanes, full, size)
            if sparse:
                at = _drain(False, lanes, state, words, tops, out, at, full)
            else:
                out[at : at + size] = state.view(np.uint8)
                at += size
                words[:] = U0
                tops[:] = U0
        elif item == item_end and piece + 1 == piece_end:
            which = order[piece] & LOW
            count = pieces[which, 2]
            store4(out, at, np.uint32(count))
            at += 4
            length = count * (4 + 8 * lanes)
            out[at : at + length] = arena[pieces[which, 1] : pieces[which, 1] + length]
            at += length
        else:
            many = (item_end - item) * entries
            for j in range(piece, piece_end):
                many += pieces[order[j] & LOW, 2]
            few = 2 * many < states.shape[1] // lanes
            full = 0
            while piece < piece_end:
                which = order[piece] & LOW
                scatter(kind >= COUNTS, lanes, scratch, arena, pieces[which, 1], pieces[which, 2])
                for j in range(pieces[which, 2] if few else 0):
                    full += _mark(words, tops, np.uint64(load4(arena, pieces[which, 1] + 4 * j)))
                piece += 1
            _insert(kind, probes, scratch, hashes[item:item_end], weights[item:item_end])
            full += (
                _mark_items(kind, probes, scratch.size, words, tops, hashes[item:item_end])
                if few
                else _mark_lines(lanes, scratch, words, tops)
            )
            sparse = is_sparse(lanes, full, size)
            if sparse:
                at = _drain(True, lanes, scratch, words, tops, out, at, full)
            else:
                out[at : at + size] = scratch.view(np.uint8)
                at += size
                scratch[:] = U0
                words[:] = U0
                tops[:] = U0
        out[begin + head.size] = np.uint8(1) if sparse else np.uint8(0)
        store4(out, begin + 8, np.uint32(at - begin - head.size))
        at += 4
        ends[i] = at
    return at
