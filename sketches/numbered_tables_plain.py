"""Tables of many sketches in NumPy alone, bit for bit what `sketches.numbered_tables_kernel` makes of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sketches import bloom_plain, classic_bloom_plain, count_min_plain
from sketches.errors import SketchBytesError
from sketches.numbered_tables_kernel import BLOOM, CLASSIC, CONSERVATIVE, COUNTS
from sketches.payload import COUNT, SPARSE, pack_table, unpack_table
from sketches.whole_weights import LARGEST, sum_of

__all__ = ["emit", "settle", "split", "take_stored", "tally"]

Words = NDArray[np.uint64]
Counts = NDArray[np.int64]
Data = NDArray[np.uint8]


def split(
    rows: Counts,
    keep: bool,
    numbers: Counts,
    hashes: Words,
    weights: Counts,
    log_numbers: NDArray[np.uint32],
    log_hashes: Words,
    log_weights: Counts,
    used: int,
    direct_rows: Counts,
    direct_hashes: Words,
    direct_weights: Counts,
) -> tuple[int, int]:
    """Part items: those whose number has a row, unless all are to be kept, and those for the log; returns how many there are of each."""
    ones = weights if weights.size else np.ones(hashes.size, np.int64)
    has_row = (rows[numbers] >= 0) & (not keep)
    direct, logged = np.flatnonzero(has_row), np.flatnonzero(~has_row & (ones > 0))
    direct_rows[: direct.size], direct_hashes[: direct.size] = rows[numbers[direct]], hashes[direct]
    direct_weights[: direct.size] = ones[direct]
    log_numbers[used : used + logged.size], log_hashes[used : used + logged.size] = numbers[logged], hashes[logged]
    if log_weights.size:
        log_weights[used : used + logged.size] = ones[logged]
    return used + logged.size, direct.size


def tally(totals: Counts, numbers: Counts, weights: Counts) -> None:
    """Add to the total of each number the weights of its items; none is 1 for each."""
    np.add.at(totals, numbers, weights if weights.size else np.int64(1))


def take_stored(
    kind: int,
    probes: int,
    lanes: int,
    states: Words,
    rows: Counts,
    used: int,
    totals: Counts,
    numbers: Counts,
    data: Data,
    begins: Counts,
    ends: Counts,
    fits: NDArray[np.bool_],
    arena: Data,
    filled: int,
    pieces: Counts,
    known: int,
) -> tuple[int, int, int]:
    """Take payloads, each ``data[begins[i]:ends[i]]``: whole ones into rows, sparse ones too, or as pieces into the arena."""
    lines = states.shape[1] // lanes
    for i in np.flatnonzero(fits).tolist():
        payload, number = data[begins[i] : ends[i]].tobytes(), int(numbers[i])
        try:
            table = unpack_table("sketch", memoryview(payload), lines, lanes, np.uint64).reshape(-1)
        except SketchBytesError:
            fits[i] = False
            continue
        sparse = payload[:1] == SPARSE
        if rows[number] < 0 and (filled + len(payload) - 5 > arena.size or known == len(pieces) if sparse else used == len(states)):
            fits[i] = False
            continue
        if kind >= COUNTS:
            counts = table.view(np.int64)
            total, sums = int(counts[-1]), [sum_of(row) for row in counts[:-1].reshape(probes, -1)]
            right = max(sums) <= total if kind == CONSERVATIVE else all(some == total for some in sums)
            if counts.min() < 0 or not right or total > LARGEST - int(totals[number]):
                fits[i] = False
                continue
            totals[number] += total
        if rows[number] < 0 and not sparse:
            rows[number], used = used, used + 1
        if rows[number] >= 0:
            _join(kind, states[rows[number]], table)
        elif table.any():
            body = np.frombuffer(payload, np.uint8, offset=1 + COUNT.size)
            arena[filled : filled + body.size] = body
            pieces[known] = number, filled, body.size // (4 + 8 * lanes)
            filled, known = filled + body.size, known + 1
    return used, filled, known


def settle(
    kind: int,
    probes: int,
    lanes: int,
    states: Words,
    rows: Counts,
    arena: Data,
    pieces: Counts,
    hashes: Words,
    weights: Counts,
    item_starts: Counts,
) -> None:
    """Take those pieces and items into rows whose numbers have one."""
    for number, begin, count in pieces.tolist():
        if rows[number] >= 0:
            _use_piece(kind, lanes, states[rows[number]], arena, begin, count)
    for number in np.flatnonzero((rows >= 0) & (np.diff(item_starts) > 0)).tolist():
        items = slice(item_starts[number], item_starts[number + 1])
        _use_items(kind, probes, states[rows[number]], hashes[items], weights[items])


def emit(
    kind: int,
    probes: int,
    lanes: int,
    states: Words,
    rows: Counts,
    numbers: Counts,
    arena: Data,
    pieces: Counts,
    order: Words,
    piece_starts: Counts,
    hashes: Words,
    weights: Counts,
    item_starts: Counts,
    head: Data,
    scratch: Words,
    words: Words,
    tops: Words,
    out: Data,
    at: int,
    ends: Counts,
) -> int:
    """Write the stored forms of sketches one after the other from `at`, without their checksums; returns where they end."""
    del words, tops  # the kernel's
    for i, number in enumerate(numbers.tolist()):
        table = np.zeros_like(scratch)
        if rows[number] >= 0:
            table[:] = states[rows[number]]
        some = (order[piece_starts[number] : piece_starts[number + 1]] & np.uint64(0xFFFFFFFF)).astype(np.int64)
        for _, begin, count in pieces[some].tolist():
            _use_piece(kind, lanes, table, arena, begin, count)
        items = slice(item_starts[number], item_starts[number + 1])
        _use_items(kind, probes, table, hashes[items], weights[items])
        payload = pack_table(table.reshape(-1, lanes))
        blob = head.tobytes()[:8] + len(payload).to_bytes(4, "little") + head.tobytes()[12:] + payload
        out[at : at + len(blob)] = np.frombuffer(blob, np.uint8)
        at += len(blob) + 4
        ends[i] = at
    return at


def _join(kind: int, table: Words, other: Words) -> None:
    if kind >= COUNTS:
        table += other
    else:
        table |= other


def _use_piece(kind: int, lanes: int, table: Words, data: Data, begin: int, count: int) -> None:
    """Take a sparse form into a table."""
    places = np.frombuffer(data[begin : begin + 4 * count].tobytes(), "<u4").astype(np.int64)
    lines = np.frombuffer(data[begin + 4 * count : begin + (4 + 8 * lanes) * count].tobytes(), "<u8").reshape(count, lanes)
    whole = np.zeros((table.size // lanes, lanes), np.uint64)
    whole[places] = lines
    _join(kind, table, whole.reshape(-1))


def _use_items(kind: int, probes: int, table: Words, hashes: Words, weights: Counts) -> None:
    """Take the items of one sketch into its table."""
    if kind == BLOOM:
        bloom_plain.insert(table.view(np.uint32).reshape(-1, 8), hashes)
    elif kind == CLASSIC:
        classic_bloom_plain.insert(table, hashes, probes)
    elif hashes.size:
        some = weights if weights.size else np.ones(hashes.size, np.int64)
        counts = table[:-1].view(np.int64).reshape(probes, -1)
        if kind == CONSERVATIVE:
            found, sums = count_min_plain.count_distinct(hashes, some)
            least = np.empty(found.size, np.int64)
            count_min_plain.minima(counts, found, least)
            count_min_plain.raise_to(counts, found, least + sums)
        else:
            count_min_plain.add_weighted(counts, hashes, some)
        table[-1] += np.uint64(some.sum())
