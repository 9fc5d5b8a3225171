"""Bytes at machine speed: eight at a time, checked as UTF-8, unescaped as JSON strings; numba kernels without an object per value."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from sketches.jit import njit

__all__ = [
    "BAD_ESCAPE",
    "BAD_UTF8",
    "UNCLOSED",
    "copy_bytes",
    "hash_name",
    "load_word",
    "same_bytes",
    "string_end",
    "trailing_zeros",
    "unescape",
    "utf8_end",
]

UNCLOSED: Final = -1  # no closing quote, or a control character in the string
BAD_UTF8: Final = -2  # bytes or escapes that are no Unicode text
BAD_ESCAPE: Final = -3

QUOTE: Final = 0x22
BACKSLASH: Final = 0x5C
ONES: Final = np.uint64(0x0101010101010101)
HIGH: Final = np.uint64(0x8080808080808080)
QUOTES: Final = np.uint64(0x2222222222222222)
BACKSLASHES: Final = np.uint64(0x5C5C5C5C5C5C5C5C)
SPACES: Final = np.uint64(0x2020202020202020)
WORD: Final = 8

# What stands for a character after a backslash; 0 where nothing may.
_ESCAPES: Final = np.zeros(256, np.uint8)
for _letter, _byte in zip(b'"\\/bfnrt', b'"\\/\b\f\n\r\t', strict=True):
    _ESCAPES[_letter] = _byte
_HEX: Final = np.full(256, 255, np.uint8)
for _value, _letters in enumerate(["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "aA", "bB", "cC", "dD", "eE", "fF"]):
    for _letter in _letters.encode():
        _HEX[_letter] = _value


@intrinsic
def load_word(typing: Any, array: Any, at: Any) -> Any:
    """Read eight bytes that may stand anywhere."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        place = builder.bitcast(builder.gep(data, [arguments[1]]), ir.IntType(64).as_pointer())
        return builder.load(place, align=1)

    return types.uint64(array, types.int64), build


@intrinsic
def _store(typing: Any, array: Any, at: Any, word: Any) -> Any:
    """Write eight bytes anywhere."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        place = builder.bitcast(builder.gep(data, [arguments[1]]), ir.IntType(64).as_pointer())
        builder.store(arguments[2], place, align=1)
        return context.get_dummy_value()

    return types.void(array, types.int64, types.uint64), build


@intrinsic
def trailing_zeros(typing: Any, word: Any) -> Any:
    """Count the zero bits below the lowest set one."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.uint64(types.uint64), build


@njit(forceinline=True)
def _marks(word: np.uint64) -> np.uint64:
    """Return a word whose lowest set bit is in the first byte that is a quote, a backslash, a control character or not ASCII."""
    quotes = word ^ QUOTES
    slashes = word ^ BACKSLASHES
    found = ((quotes - ONES) & ~quotes) | ((slashes - ONES) & ~slashes) | ((word - SPACES) & ~word) | word
    return found & HIGH


@njit()
def utf8_end(data: Any, at: int, end: int) -> int:
    """Return the place behind the character that begins at `at`, or BAD_UTF8."""
    first = data[at]
    if first < 0xC2 or first > 0xF4:
        return BAD_UTF8
    length = 2 if first < 0xE0 else (3 if first < 0xF0 else 4)
    if at + length > end:
        return BAD_UTF8
    second = data[at + 1]
    low, high = 0x80, 0xBF
    if first == 0xE0:
        low = 0xA0  # overlong
    elif first == 0xED:
        high = 0x9F  # surrogates
    elif first == 0xF0:
        low = 0x90  # overlong
    elif first == 0xF4:
        high = 0x8F  # beyond U+10FFFF
    if second < low or second > high:
        return BAD_UTF8
    for i in range(2, length):
        if data[at + i] & 0xC0 != 0x80:
            return BAD_UTF8
    return at + length


@njit()
def _hex4(data: Any, at: int, end: int) -> int:
    """Return the number that four hexadecimal digits spell, or -1."""
    if at + 4 > end:
        return -1
    number = 0
    for i in range(4):
        digit = _HEX[data[at + i]]
        if digit == 255:
            return -1
        number = number * 16 + digit
    return number


@njit()
def _escape_end(data: Any, at: int, end: int) -> int:
    """Return the place behind the escape whose backslash is at `at`; both halves of a surrogate pair count as one."""
    if at + 1 >= end:
        return UNCLOSED
    letter = data[at + 1]
    if _ESCAPES[letter] != 0:
        return at + 2
    if letter != 0x75:
        return BAD_ESCAPE
    unit = _hex4(data, at + 2, end)
    if unit < 0:
        return BAD_ESCAPE
    if unit < 0xD800 or unit > 0xDFFF:
        return at + 6
    if unit > 0xDBFF or at + 8 > end or data[at + 6] != BACKSLASH or data[at + 7] != 0x75:
        return BAD_UTF8
    low = _hex4(data, at + 8, end)
    if low < 0:
        return BAD_ESCAPE
    return at + 12 if 0xDC00 <= low <= 0xDFFF else BAD_UTF8


@njit(forceinline=True)
def string_end(data: Any, at: int, end: int) -> tuple[int, bool]:
    """Find the closing quote of a JSON string.

    Parameters
    ----------
    data : ndarray uint8
    at : int
        The first byte behind the opening quote.
    end : int
        Where the record ends.

    Returns
    -------
    int
        Place of the closing quote, or UNCLOSED, BAD_UTF8, BAD_ESCAPE for the first thing that is wrong.
    bool
        Whether there are escapes.
    """
    escaped = False
    fast_end = min(end, len(data) - WORD + 1)
    while True:
        while at < fast_end:
            marks = _marks(load_word(data, at))
            if marks != 0:
                at += np.int64(trailing_zeros(marks) >> np.uint64(3))
                break
            at += WORD
        if at >= end:
            return UNCLOSED, escaped
        byte = data[at]
        if byte == QUOTE:
            return at, escaped
        if byte == BACKSLASH:
            escaped = True
            at = _escape_end(data, at, end)
            if at < 0:
                return at, escaped
        elif byte < 0x20:
            return UNCLOSED, escaped
        elif byte >= 0x80:
            at = utf8_end(data, at, end)
            if at < 0:
                return at, escaped
        else:
            at += 1  # the last bytes of the buffer


@njit()
def unescape(data: Any, at: int, length: int, out: Any, place: int) -> int:
    """Write a checked JSON string without its escapes to ``out[place:]``, which has room for `length` bytes; return its length."""
    end = at + length
    start = place
    while at < end:
        byte = data[at]
        if byte != BACKSLASH:
            out[place] = byte
            place += 1
            at += 1
            continue
        letter = data[at + 1]
        if letter != 0x75:
            out[place] = _ESCAPES[letter]
            place += 1
            at += 2
            continue
        code = _hex4(data, at + 2, end)
        at += 6
        if 0xD800 <= code <= 0xDBFF:
            code = 0x10000 + ((code - 0xD800) << 10) + (_hex4(data, at + 2, end) - 0xDC00)
            at += 6
        if code < 0x80:
            out[place] = code
            place += 1
        elif code < 0x800:
            out[place] = 0xC0 | (code >> 6)
            out[place + 1] = 0x80 | (code & 0x3F)
            place += 2
        elif code < 0x10000:
            out[place] = 0xE0 | (code >> 12)
            out[place + 1] = 0x80 | ((code >> 6) & 0x3F)
            out[place + 2] = 0x80 | (code & 0x3F)
            place += 3
        else:
            out[place] = 0xF0 | (code >> 18)
            out[place + 1] = 0x80 | ((code >> 12) & 0x3F)
            out[place + 2] = 0x80 | ((code >> 6) & 0x3F)
            out[place + 3] = 0x80 | (code & 0x3F)
            place += 4
    return place - start


@njit(forceinline=True)
def copy_bytes(data: Any, at: int, length: int, out: Any, place: int) -> None:
    """Copy bytes by words; both buffers need eight bytes to spare behind, else the rest is copied one by one."""
    done = 0
    if at + length + WORD <= len(data) and place + length + WORD <= len(out):
        while done < length:
            _store(out, place + done, load_word(data, at + done))
            done += WORD
    else:
        for i in range(length):
            out[place + i] = data[at + i]


@njit()
def same_bytes(data: Any, at: int, other: Any, place: int, length: int) -> bool:
    """Tell whether two stretches of bytes are equal."""
    done = 0
    if at + length + WORD <= len(data) and place + length + WORD <= len(other):
        while done + WORD <= length:
            if load_word(data, at + done) != load_word(other, place + done):
                return False
            done += WORD
        if done == length:
            return True
        shift = np.uint64(8 * (WORD - (length - done)))
        return ((load_word(data, at + done) ^ load_word(other, place + done)) << shift) == 0
    for i in range(length):
        if data[at + i] != other[place + i]:
            return False
    return True


@njit()
def hash_name(data: Any, at: int, length: int) -> np.uint64:
    """Return FNV-1a over bytes; equal names have equal hashes, so unequal hashes spare a comparison."""
    result = np.uint64(0xCBF29CE484222325)
    for i in range(length):
        result = (result ^ np.uint64(data[at + i])) * np.uint64(0x100000001B3)
    return result
