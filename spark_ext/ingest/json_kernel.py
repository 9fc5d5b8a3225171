"""One pass over a block of JSON records: a verdict for each, and where the value of each declared field is.

Flows in: the bytes of a block and the declared fields. Flows out: per record a reason (GOOD or why not), per record and
field a span of bytes and, for numbers and times, the value itself. Strings are not copied here: columns are made of good
records only, and of the fields that are asked for.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from sketches.jit import njit
from spark_ext.ingest.bytes_kernel import BAD_UTF8, hash_name, same_bytes, string_end, unescape
from spark_ext.ingest.codes import (
    ABSENT,
    ARRAY,
    BOOLEAN,
    DATE,
    DUPLICATE,
    EMPTY,
    ESCAPED,
    GOOD,
    MALFORMED,
    OBJECT,
    REQUIRED,
    STRING,
    TIMESTAMP,
    TOMBSTONE,
    TOO_DEEP,
    TOO_LARGE,
    TOO_MANY,
    TRAILING,
    TYPE,
    UTF8,
)  # fmt: skip
from spark_ext.ingest.number_kernel import number_at
from spark_ext.ingest.values_kernel import number_value, time_value

__all__ = ["MAX_DEPTH", "MAX_FIELDS", "scan"]

MAX_DEPTH: Final = 64
MAX_FIELDS: Final = 1000


@njit(forceinline=True)
def _skip_blanks(data: Any, at: int, end: int) -> int:
    while at < end and (data[at] == 0x20 or data[at] == 0x0A or data[at] == 0x0D or data[at] == 0x09):
        at += 1
    return at


@njit()
def _word_end(data: Any, at: int, end: int) -> int:
    """Return the place behind true, false or null, or -1."""
    first = data[at]
    if first == 0x74 and at + 4 <= end and data[at + 1] == 0x72 and data[at + 2] == 0x75 and data[at + 3] == 0x65:
        return at + 4
    if first == 0x6E and at + 4 <= end and data[at + 1] == 0x75 and data[at + 2] == 0x6C and data[at + 3] == 0x6C:
        return at + 4
    if first == 0x66 and at + 5 <= end and data[at + 1] == 0x61 and data[at + 2] == 0x6C and data[at + 3] == 0x73 and data[at + 4] == 0x65:
        return at + 5
    return -1


@njit()
def _value_end(data: Any, at: int, end: int, depth: int) -> tuple[int, int]:
    """Check any JSON value and return the place behind it, or a reason; `depth` brackets are open around it."""
    objects = np.uint64(0)  # bit d: the bracket at depth d is that of an object
    base = depth
    while True:
        at = _skip_blanks(data, at, end)
        if at >= end:
            return at, MALFORMED
        byte = data[at]
        opened = False
        if byte == 0x7B or byte == 0x5B:
            depth += 1
            if depth > MAX_DEPTH:
                return at, TOO_DEEP
            bit = np.uint64(1) << np.uint64(depth - base - 1)
            objects = objects | bit if byte == 0x7B else objects & ~bit
            at = _skip_blanks(data, at + 1, end)
            if at < end and data[at] == (0x7D if byte == 0x7B else 0x5D):
                at += 1
                depth -= 1
            else:
                opened = True
        elif byte == 0x22:
            at, _escaped = string_end(data, at + 1, end)
            if at < 0:
                return at, UTF8 if at == BAD_UTF8 else MALFORMED
            at += 1
        elif byte == 0x2D or 0x30 <= byte <= 0x39:
            at = number_at(data, at, end)[0]
            if at < 0:
                return at, MALFORMED
        else:
            at = _word_end(data, at, end)
            if at < 0:
                return at, MALFORMED
        # Behind a value: close what ends here, until another value must follow.
        while not opened:
            if depth == base:
                return at, GOOD
            at = _skip_blanks(data, at, end)
            if at >= end:
                return at, MALFORMED
            in_object = (objects >> np.uint64(depth - base - 1)) & np.uint64(1) == 1
            if data[at] == 0x2C:
                at += 1
                break
            if data[at] != (0x7D if in_object else 0x5D):
                return at, MALFORMED
            at += 1
            depth -= 1
        if (objects >> np.uint64(depth - base - 1)) & np.uint64(1) == 1:  # a name comes first
            at = _skip_blanks(data, at, end)
            if at >= end or data[at] != 0x22:
                return at, MALFORMED
            at, _escaped = string_end(data, at + 1, end)
            if at < 0:
                return at, UTF8 if at == BAD_UTF8 else MALFORMED
            at = _skip_blanks(data, at + 1, end)
            if at >= end or data[at] != 0x3A:
                return at, MALFORMED
            at += 1


@njit()
def _find_field(data: Any, at: int, length: int, names: Any, name_offsets: Any) -> int:
    """Return which declared field has this name, or -1."""
    for field in range(len(name_offsets) - 1):
        start = name_offsets[field]
        if name_offsets[field + 1] - start == length and same_bytes(data, at, names, start, length):
            return field
    return -1


@njit(forceinline=True)
def _field(
    data: Any, at: int, end: int, row: int, field: int, kind: int, low: int, high: int, spans: Any, lengths: Any, values: Any, flags: Any
) -> tuple[int, int, int]:
    """Read the value of a declared field: place behind it, structural reason, reason of the field."""
    byte = data[at]
    if byte == 0x6E:
        behind = _word_end(data, at, end)
        return behind, GOOD if behind > 0 else MALFORMED, GOOD
    if byte == 0x22:
        behind, escaped = string_end(data, at + 1, end)
        if behind < 0:
            return behind, UTF8 if behind == BAD_UTF8 else MALFORMED, GOOD
        if kind >= OBJECT:
            return behind + 1, GOOD, TYPE
        spans[row, field] = at + 1
        lengths[row, field] = behind - at - 1
        if kind == STRING:
            flags[row, field] = ESCAPED if escaped else 0
            return behind + 1, GOOD, GOOD
        if kind != TIMESTAMP and kind != DATE:
            return behind + 1, GOOD, TYPE
        if escaped:
            plain = np.empty(behind - at, np.uint8)
            length = unescape(data, at + 1, behind - at - 1, plain, 0)
            reason, time = time_value(plain, 0, length, kind, low)
        else:
            reason, time = time_value(data, at + 1, behind, kind, low)
        values[row, field] = time
        return behind + 1, GOOD, reason
    if byte == 0x2D or 0x30 <= byte <= 0x39:
        behind, reason, value, hard = number_value(data, at, end, kind, low, high)
        if behind < 0:
            return behind, MALFORMED, GOOD
        if kind < OBJECT:
            spans[row, field] = at
            lengths[row, field] = behind - at
            values[row, field] = value
            flags[row, field] = hard
        return behind, GOOD, reason
    if byte == 0x74 or byte == 0x66:
        behind = _word_end(data, at, end)
        if behind < 0:
            return behind, MALFORMED, GOOD
        if kind >= OBJECT:
            return behind, GOOD, TYPE
        spans[row, field] = at
        lengths[row, field] = behind - at
        values[row, field] = 1 if byte == 0x74 else 0
        return behind, GOOD, GOOD if kind == BOOLEAN else TYPE
    behind, reason = _value_end(data, at, end, 1)
    if reason != GOOD or not ((kind == OBJECT and byte == 0x7B) or (kind == ARRAY and byte == 0x5B)):
        return behind, reason, TYPE
    spans[row, field] = at
    lengths[row, field] = behind - at
    return behind, GOOD, GOOD


@njit()
def _seen_before(data: Any, starts: Any, sizes: Any, fields: Any, hashes: Any, count: int) -> bool:
    """Tell whether the unknown name number `count` was met before in its record; fills in hashes as needed."""
    for i in range(count + 1):
        if fields[i] == -1 and hashes[i] == 0:
            plain = np.empty(sizes[i] + 1, np.uint8)
            length = unescape(data, starts[i], sizes[i], plain, 0)
            hashes[i] = hash_name(plain, 0, length)
    for i in range(count):
        if fields[i] == -1 and hashes[i] == hashes[count]:
            one = np.empty(sizes[i] + 1, np.uint8)
            two = np.empty(sizes[count] + 1, np.uint8)
            length = unescape(data, starts[i], sizes[i], one, 0)
            if length == unescape(data, starts[count], sizes[count], two, 0) and same_bytes(one, 0, two, 0, length):
                return True
    return False


@njit()
def scan(
    data: Any,
    offsets: Any,
    valid: Any,
    names: Any,
    name_offsets: Any,
    kinds: Any,
    lows: Any,
    highs: Any,
    required: Any,
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
    """Judge each record and note the values of its declared fields.

    Parameters
    ----------
    data, offsets, valid : ndarray uint8, int64 (n + 1,), bool (n,)
        The records, as in `Bytes`.
    names, name_offsets : ndarray uint8, int64 (f + 1,)
        Names of the declared fields.
    kinds, required : ndarray (f,) int8, bool
        What each field holds, as a place in KINDS, and whether it must be there.
    lows, highs : ndarray (f,) int64
        Bounds of a type, as `Fields` gives them.
    max_bytes : int
        Longest record that is read.
    reasons, details, places, strange, spans, lengths, values, flags : ndarray
        Out: as in `scanner.Found`.
    """
    fields = len(kinds)
    starts = np.zeros((2, MAX_FIELDS), np.int64)  # names of this record and of the last one that was sound
    sizes = np.zeros((2, MAX_FIELDS), np.int64)
    found = np.zeros((2, MAX_FIELDS), np.int64)
    hashes = np.zeros(MAX_FIELDS, np.uint64)
    met = np.full(fields, -1, np.int64)  # the record in which a field was met last
    mine, last, last_count = 0, 1, 0
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
        at = _skip_blanks(data, at, end)
        if at >= end:
            reasons[row] = EMPTY
            continue
        if data[at] != 0x7B:
            reasons[row] = MALFORMED
            continue
        structural, trouble = GOOD, GOOD
        count, guess, strayed, unknown = 0, 0, False, False
        at = _skip_blanks(data, at + 1, end)
        closed = at < end and data[at] == 0x7D
        while not closed:
            if at >= end or data[at] != 0x22:
                structural = MALFORMED
                break
            at += 1
            if count == MAX_FIELDS:
                structural = TOO_MANY
                break
            size = sizes[last, guess] if guess < last_count else -1
            if size >= 0 and at + size < end and data[at + size] == 0x22 and same_bytes(data, at, data, starts[last, guess], size):
                field = found[last, guess]
                guess += 1
                starts[mine, count], sizes[mine, count] = at, size
                at += size + 1
            else:
                behind, escaped = string_end(data, at, end)
                if behind < 0:
                    structural = UTF8 if behind == BAD_UTF8 else MALFORMED
                    break
                size = behind - at
                if escaped:
                    plain = np.empty(size + 1, np.uint8)
                    field = _find_field(plain, 0, unescape(data, at, size, plain, 0), names, name_offsets)
                else:
                    field = _find_field(data, at, size, names, name_offsets)
                starts[mine, count], sizes[mine, count] = at, size
                at = behind + 1
                if not strayed:
                    strayed = True
                    hashes[:] = 0
                for ahead in range(guess, last_count):  # an optional field was left out
                    if field >= 0 and found[last, ahead] == field:
                        guess = ahead + 1
                        break
            found[mine, count] = field
            if field >= 0:
                if met[field] == row:
                    structural = DUPLICATE
                    break
                met[field] = row
            else:
                unknown = True
                if strayed and _seen_before(data, starts[mine], sizes[mine], found[mine], hashes, count):
                    structural = DUPLICATE
                    break
            count += 1
            at = _skip_blanks(data, at, end)
            if at >= end or data[at] != 0x3A:
                structural = MALFORMED
                break
            at = _skip_blanks(data, at + 1, end)
            if at >= end:
                structural = MALFORMED
                break
            if field >= 0 and kinds[field] == STRING and data[at] == 0x22:  # the common case, spared a call
                behind, escaped = string_end(data, at + 1, end)
                if behind < 0:
                    structural = UTF8 if behind == BAD_UTF8 else MALFORMED
                    break
                spans[row, field] = at + 1
                lengths[row, field] = behind - at - 1
                flags[row, field] = ESCAPED if escaped else 0
                at = behind + 1
            elif field >= 0:
                place = at
                at, structural, reason = _field(
                    data, at, end, row, field, kinds[field], lows[field], highs[field], spans, lengths, values, flags
                )
                if reason != GOOD and trouble == GOOD:
                    trouble = reason
                    details[row] = field
                    places[row] = place
            else:
                at, structural = _value_end(data, at, end, 1)
            if structural != GOOD:
                break
            at = _skip_blanks(data, at, end)
            if at < end and data[at] == 0x2C:
                at = _skip_blanks(data, at + 1, end)
            elif at < end and data[at] == 0x7D:
                closed = True
            else:
                structural = MALFORMED
                break
        if structural == GOOD and _skip_blanks(data, at + 1, end) != end:
            structural = TRAILING
        if structural != GOOD:
            reasons[row] = structural
            details[row] = -1
            continue
        mine, last, last_count = last, mine, count
        if trouble == GOOD:
            for field in range(fields):
                if required[field] and lengths[row, field] == ABSENT:
                    trouble = REQUIRED
                    details[row] = field
                    break
        reasons[row] = trouble
        strange[row] = unknown or count != fields
