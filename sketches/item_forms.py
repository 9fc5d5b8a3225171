"""Values as sketches keep them that give them back: the word or the bytes of each, and what it was."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sketches.columns import Bytes, Column, Words
from sketches.envelope import damaged

__all__ = ["KINDS", "column_of", "form_at", "hashes_of", "pack_forms", "unpack_forms", "value_of"]

KINDS: Final = ("bool", "int", "long", "ulong", "float", "double", "date", "timestamp", "duration", "string", "binary")
"""What can be kept, in the order of their stored numbers, from 1; not decimals: their scale is not in the words."""

TYPES: Final = {
    "bool": np.uint32,
    "int": np.int32,
    "long": np.int64,
    "ulong": np.uint64,
    "float": np.float32,
    "double": np.float64,
    "date": np.int32,
    "timestamp": np.int64,
    "duration": np.int64,
}
COUNT: Final = struct.Struct("<I")


def form_at(values: Column, row: int) -> int | bytes:
    """Return the form of one value."""
    if isinstance(values, Words):
        return int(values.words[row])
    return values.data[values.starts[row] : values.ends[row]].tobytes()


def value_of(form: int | bytes, kind: str) -> Any:
    """Return the value: int, float, bool, str, bytes, or NumPy's datetime64 or timedelta64."""
    if isinstance(form, bytes):
        return form.decode() if kind == "string" else form
    number = np.array([form], _word(kind)).view(TYPES[kind])[0]
    match kind:
        case "bool":
            return bool(number)
        case "date":
            return np.datetime64(int(number), "D")
        case "timestamp":
            return np.datetime64(int(number), "us")
        case "duration":
            return np.timedelta64(int(number), "us")
    return number.item()


def column_of(forms: Iterable[int | bytes], kind: str) -> Column:
    """Return the values of some forms, as sketches take them."""
    if kind not in TYPES:
        texts = [form for form in forms if isinstance(form, bytes)]
        ends = np.cumsum([len(text) for text in texts], dtype=np.int64)
        starts = np.concatenate([np.zeros(1, np.int64), ends])[: ends.size]
        return Bytes(np.frombuffer(b"".join(texts), np.uint8), starts, ends, kind)
    return Words(np.array(list(forms), _word(kind)), kind)


def pack_forms(forms: Iterable[Any], kind: str) -> bytes:
    """Return the stored form: how many; then ascending words, or lengths and all bytes in ascending order."""
    some = sorted(forms)
    if kind in TYPES:
        return COUNT.pack(len(some)) + np.array(some, _word(kind)).astype(_word(kind).newbyteorder("<")).tobytes()
    return b"".join((COUNT.pack(len(some)), np.array([len(text) for text in some], "<u4").tobytes(), *some))


def unpack_forms(name: str, payload: memoryview, kind: str, most: int) -> tuple[list[Any], memoryview]:
    """Return the forms and what is behind them; refuses all that `pack_forms` does not give, for the sketch of this name."""
    if len(payload) < COUNT.size:
        raise damaged(name, "a number of values", f"{len(payload)} bytes")
    (count,) = COUNT.unpack_from(payload)
    rest, size = payload[COUNT.size :], _word(kind).itemsize if kind in TYPES else 4
    if count > most or len(rest) < count * size:
        raise damaged(name, f"up to {most:,} values, and their bytes", f"{count:,} in {len(rest):,} bytes")
    words = np.frombuffer(rest, _word(kind).newbyteorder("<") if kind in TYPES else np.dtype("<u4"), count)
    rest = rest[count * size :]
    forms: list[Any] = words.tolist()
    if kind not in TYPES:
        ends = np.cumsum(words, dtype=np.int64)
        if count and ends[-1] > len(rest):
            raise damaged(name, f"{ends[-1]:,} bytes of values", f"{len(rest):,}")
        forms = [bytes(rest[end - length : end]) for end, length in zip(ends.tolist(), words.tolist(), strict=True)]
        rest = rest[int(ends[-1]) if count else 0 :]
        if kind == "string":
            _check_texts(name, forms)
    if any(left >= right for left, right in pairwise(forms)):
        raise damaged(name, "ascending values", "others")
    return forms, rest


def _check_texts(name: str, forms: list[bytes]) -> None:
    for form in forms:
        try:
            form.decode()
        except UnicodeDecodeError as error:
            raise damaged(name, "strings in UTF-8", repr(form[:40])) from error


def _word(kind: str) -> np.dtype[Any]:
    return np.dtype(np.uint32 if np.dtype(TYPES[kind]).itemsize == 4 else np.uint64)


def hashes_of(forms: Iterable[int | bytes], kind: str) -> NDArray[np.uint64]:
    """Return the hash of each form's value."""
    found = column_of(forms, kind)
    out = np.empty(len(found), np.uint64)
    found.hash_into(0, len(found), out)
    return out
