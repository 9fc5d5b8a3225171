"""One pass over a block of CSV records: a verdict for each, and where the value of each declared field is.

The same in and out as for JSON, but fields go by their place in the line.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from sketches.jit import njit
from spark_ext.ingest.bytes_kernel import load_word, same_bytes, trailing_zeros, utf8_end
from spark_ext.ingest.codes import (
    ABSENT,
    BOOLEAN,
    DATE,
    DOUBLED,
    EMPTY,
    GOOD,
    MALFORMED,
    REQUIRED,
    STRING,
    TIMESTAMP,
    TOMBSTONE,
    TOO_LARGE,
    TRAILING,
    TYPE,
    UTF8,
)  # fmt: skip
from spark_ext.ingest.values_kernel import number_value, time_value

__all__ = ["scan"]

WORD: Final = 8
ONES: Final = np.uint64(0x0101010101010101)
HIGH: Final = np.uint64(0x8080808080808080)
LF: Final = 0x0A
CR: Final = 0x0D
CONTROLS: Final = np.uint64(0x1010101010101010)  # below: CR, LF and others that are rare


@njit(forceinline=True)
def _plain_marks(word: np.uint64, delimiters: np.uint64, quotes: np.uint64) -> np.uint64:
    """Return a word whose lowest set bit is in the first byte that may end a plain field, or is not ASCII."""
    one, two = word ^ delimiters, word ^ quotes
    return (((one - ONES) & ~one) | ((two - ONES) & ~two) | ((word - CONTROLS) & ~word) | word) & HIGH


@njit(forceinline=True)
def _quote_marks(word: np.uint64, quotes: np.uint64) -> np.uint64:
    """Return a word whose lowest set bit is in the first byte that is a quote, or not ASCII."""
    one = word ^ quotes
    return (((one - ONES) & ~one) | word) & HIGH


@njit(forceinline=True)
def _plain_end(data: Any, at: int, end: int, delimiter: int, quote: int) -> int:
    """Return the place of the first byte that ends a field without quotes or may not be in it, or `end`; -1 if that is no UTF-8."""
    delimiters, quotes = ONES * np.uint64(delimiter), ONES * np.uint64(quote)
    fast_end = min(end, len(data) - WORD + 1)
    while True:
        while at < fast_end:
            marks = _plain_marks(load_word(data, at), delimiters, quotes)
            if marks != 0:
                at += np.int64(trailing_zeros(marks) >> np.uint64(3))
                break
            at += WORD
        if at >= end:
            return end
        byte = data[at]
        if byte in (delimiter, quote, LF, CR):
            return at
        at = utf8_end(data, at, end) if byte >= 0x80 else at + 1
        if at < 0:
            return -1


@njit(forceinline=True)
def _quote_at(data: Any, at: int, end: int, quote: int) -> int:
    """Return the place of the next quote, or `end`; -1 if there is no UTF-8 before it."""
    quotes = ONES * np.uint64(quote)
    fast_end = min(end, len(data) - WORD + 1)
    while True:
        while at < fast_end:
            marks = _quote_marks(load_word(data, at), quotes)
            if marks != 0:
                at += np.int64(trailing_zeros(marks) >> np.uint64(3))
                break
            at += WORD
        if at >= end:
            return end
        byte = data[at]
        if byte == quote:
            return at
        at = utf8_end(data, at, end) if byte >= 0x80 else at + 1
        if at < 0:
            return -1


@njit()
def _value(data: Any, at: int, end: int, kind: int, low: int, high: int) -> tuple[int, np.int64, int]:
    """Read a text as a value that is no string: GOOD or the reason, the value (a double by its bits), HARD or 0."""
    if kind in (TIMESTAMP, DATE):
        reason, time = time_value(data, at, end, kind, low)
        return reason, time, 0
    if kind == BOOLEAN:
        if end - at == 4 and data[at] == 0x74 and data[at + 1] == 0x72 and data[at + 2] == 0x75 and data[at + 3] == 0x65:
            return GOOD, 1, 0
        false = end - at == 5 and data[at] == 0x66 and data[at + 1] == 0x61 and data[at + 2] == 0x6C
        return GOOD if false and data[at + 3] == 0x73 and data[at + 4] == 0x65 else TYPE, 0, 0
    behind, reason, value, hard = number_value(data, at, end, kind, low, high)
    if behind != end:
        return TYPE, 0, 0
    return reason, value, hard


@njit()
def scan(
    data: Any,
    offsets: Any,
    valid: Any,
    kinds: Any,
    lows: Any,
    highs: Any,
    required: Any,
    delimiter: int,
    quote: int,
    null: Any,
    max_bytes: int,
    reasons: Any,
    details: Any,
    places: Any,
    strange: Any,
    spans: Any,
    lengths: Any,
    values: Any,
    flags: Any,
) -> None:
    """Judge each record and note the values of its fields.

    Parameters
    ----------
    data, offsets, valid : ndarray uint8, int64 (n + 1,), bool (n,)
        The records, as in `Bytes`.
    kinds, required, lows, highs : ndarray (f,)
        The declared fields, as in `Fields`.
    delimiter, quote : int
        Two different ASCII characters.
    null : ndarray uint8
        What stands for null where it is not quoted; it has a byte to spare.
    max_bytes : int
        Longest record that is read.
    reasons, details, places, strange, spans, lengths, values, flags : ndarray
        Out: as in `scanner.Found`.
    """
    fields = len(kinds)
    null_length = len(null) - 1
    for row in range(len(valid)):
        details[row] = -1
        places[row] = -1
        strange[row] = False
        for field in range(fields):
            lengths[row, field] = ABSENT
            flags[row, field] = 0
        if not valid[row]:
            reasons[row] = TOMBSTONE
            continue
        at, end = offsets[row], offsets[row + 1]
        if end - at > max_bytes:
            reasons[row] = TOO_LARGE
            continue
        if end - at >= 3 and data[at] == 0xEF and data[at + 1] == 0xBB and data[at + 2] == 0xBF:
            at += 3
        if end > at and data[end - 1] == LF:  # of the line; one that belongs to a quoted field has a quote behind it
            end -= 2 if end - at >= 2 and data[end - 2] == CR else 1
        if at >= end:
            reasons[row] = EMPTY
            continue
        structural, trouble, field = GOOD, GOOD, 0
        while True:
            if field == fields:
                structural = MALFORMED
                break
            place, doubled = at, False
            quoted = at < end and data[at] == quote
            if quoted:
                at += 1
                start = at
                while True:
                    at = _quote_at(data, at, end, quote)
                    if at < 0 or at == end:
                        structural = UTF8 if at < 0 else MALFORMED
                        break
                    if at + 1 == end or data[at + 1] != quote:
                        break
                    doubled = True
                    at += 2
                if structural != GOOD:
                    break
                stop = at
                at += 1
            else:
                start = at
                at = _plain_end(data, at, end, delimiter, quote)
                if at < 0:
                    structural = UTF8
                    break
                stop = at
            if at < end and data[at] != delimiter:  # a line that ends here, or what may not stand here
                ended = data[at] == LF or (data[at] == CR and at + 1 < end and data[at + 1] == LF)
                structural = TRAILING if ended and field == fields - 1 else MALFORMED
                break
            if quoted or stop - start != null_length or not same_bytes(data, start, null, 0, null_length):
                spans[row, field] = start
                lengths[row, field] = stop - start
                kind = kinds[field]
                reason = GOOD
                if kind == STRING:
                    flags[row, field] = DOUBLED if doubled else 0
                elif doubled:
                    reason = TYPE
                else:
                    reason, values[row, field], flags[row, field] = _value(data, start, stop, kind, lows[field], highs[field])
                if reason != GOOD and trouble == GOOD:
                    trouble = reason
                    details[row] = field
                    places[row] = place
            field += 1
            if at == end:
                structural = GOOD if field == fields else MALFORMED
                break
            at += 1
        if structural != GOOD:
            reasons[row] = structural
            details[row] = -1
            continue
        if trouble == GOOD:
            for field in range(fields):
                if required[field] and lengths[row, field] == ABSENT:
                    trouble = REQUIRED
                    details[row] = field
                    break
        reasons[row] = trouble
