"""Answers of several parts as Arrow's structs, and the arguments that stand beside a column of sketches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sketches.arrow_columns import to_arrow
from sketches.columns import Column, column, is_arrow, one
from sketches.errors import SketchError
from sketches.numeric import as_numbers, instant, instants

__all__ = ["COUNTS", "NUMBERS", "Items", "floats_of", "hashed_items", "instants_of", "struct"]

NUMBERS: Final = pa.struct([("estimate", pa.float64()), ("lower", pa.float64()), ("upper", pa.float64())])
COUNTS: Final = pa.struct([("estimate", pa.int64()), ("lower", pa.int64()), ("upper", pa.int64())])
FOR_EACH: Final = "give one for each row, or one for all"


class Items(NamedTuple):
    """Values that sketches are asked for, one for each row: hashes (n,) uint64, where one is there, and their type if it is known."""

    hashes: NDArray[np.uint64]
    present: NDArray[np.bool_]
    kind: str | None


def struct(kind: pa.StructType, parts: Mapping[str, NDArray[Any]], valid: NDArray[np.bool_]) -> pa.Array:
    """Return an array of structs, null where it is not valid."""
    missing = None if valid.all() else ~valid
    arrays = [pa.array(parts[kind.field(at).name], kind.field(at).type, mask=missing) for at in range(kind.num_fields)]
    return pa.StructArray.from_arrays(arrays, fields=list(kind), mask=None if missing is None else pa.array(missing))


def hashed_items(items: Any, rows: int, *, hashed: bool) -> Items:
    """Return the items of an argument as hashes.

    Parameters
    ----------
    items : array (n,), or one value for all
        Of the types in `sketches.columns`; hashes as int64 or uint64.
    hashed : bool
        Whether they are hashes already, by `sketches.hashes` or Spark SQL's ``xxhash64``.

    Raises
    ------
    SketchTypeError, SketchError
        Items of another type, or of another number.
    """
    if isinstance(items, pa.Scalar):
        found, is_array = column(pa.repeat(items, 1)), False
    else:
        is_array = isinstance(items, np.ndarray) or is_arrow(items)
        found = column(items) if is_array else one(items)
    size = len(items) if is_array else 1
    if is_array and size != rows:
        raise SketchError("use", "argument", "items", expected=f"{rows:,}", got=f"{size:,}", todo=FOR_EACH)
    values = np.zeros(size, np.uint64)
    at = slice(0, len(found)) if found.rows is None else found.rows
    present = np.zeros(size, np.bool_)
    present[at] = True
    values[at] = _words(found) if hashed else _hashes(found)
    kind = None if hashed or found.kind == "null" else found.kind
    return Items(values, present, kind) if is_array else Items(np.repeat(values, rows), np.repeat(present, rows), kind)


def _hashes(found: Column) -> NDArray[np.uint64]:
    out = np.empty(len(found), np.uint64)
    found.hash_into(0, len(found), out)
    return out


def _words(found: Column) -> NDArray[Any]:
    if found.kind not in ("long", "ulong", "null"):
        todo = "give what sketches.hashes or Spark's xxhash64 returned, or leave out hashed=True"
        raise SketchError("use", "argument", "items", expected="hashes as int64 or uint64", got=found.kind, todo=todo)
    return found.words  # type: ignore[union-attr]  # of these kinds it has words


def floats_of(name: str, numbers: Any, rows: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return numbers of an argument, one for each row or one for all, and where one is there.

    As `Quantiles` takes them: times and durations are microseconds, dates days. Decimals are taken too.
    """
    numbers = pa.repeat(numbers, rows) if isinstance(numbers, pa.Scalar) else numbers
    if isinstance(numbers, np.ndarray) or is_arrow(numbers):
        found = column(numbers if isinstance(numbers, np.ndarray) else _plain(to_arrow(numbers)))
        some = np.empty(0) if found.kind == "null" else as_numbers(found)
        if some is not None and len(numbers) == rows:
            answer, present = np.zeros(rows), np.zeros(rows, np.bool_)
            at = slice(0, some.size) if found.rows is None else found.rows
            answer[at], present[at] = some, True
            return answer, present
        got = f"{len(numbers):,} of {found.kind}"
    elif isinstance(numbers, int | float | np.number) and not isinstance(numbers, bool):
        return np.full(rows, float(numbers)), np.ones(rows, np.bool_)
    elif numbers is None:
        return np.zeros(rows), np.zeros(rows, np.bool_)
    else:
        got = repr(numbers)
    raise SketchError("use", "argument", name, expected=f"a number, or {rows:,} of them", got=got, todo=FOR_EACH)


def _plain(array: pa.Array) -> pa.Array:
    """Return decimals as floats; a column does not know where their point is."""
    return array.cast(pa.float64()) if pa.types.is_decimal(array.type) else array


def instants_of(name: str, times: Any, rows: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return instants of an argument as microseconds since 1970, one for each row or one for all, and where one is there."""
    if isinstance(times, pa.Scalar):
        times = pa.repeat(times, rows)
    if not (isinstance(times, np.ndarray) or is_arrow(times)):
        return np.full(rows, instant(times), np.int64), np.ones(rows, np.bool_)
    if len(times) != rows:
        raise SketchError("use", "argument", name, expected=f"{rows:,} instants", got=f"{len(times):,}", todo=FOR_EACH)
    if isinstance(times, np.ndarray):
        present = ~np.isnat(times) if times.dtype.kind == "M" else np.ones(rows, np.bool_)
        some: Any = times[present]
    else:
        array = to_arrow(times)
        present, some = np.asarray(array.is_valid()), array.drop_null()
    found = np.zeros(rows, np.int64)
    found[present] = instants(some, len(some))
    return found, present
