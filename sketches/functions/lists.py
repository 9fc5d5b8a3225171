"""Roll-ups of lists of stored sketches, such as Spark's ``collect_list`` gives: one sketch of each list."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sketches.arrow_columns import to_arrow
from sketches.columns import is_arrow
from sketches.errors import EngineError, SketchBytesError, SketchError, SketchTypeError
from sketches.functions.about import error
from sketches.functions.merging import merge
from sketches.functions.rows import OnError, Rows, refusal, stored_column

__all__ = ["merge_list"]

AFTER_KIND: Final = 4  # where a stored sketch says its kind
AFTER_LENGTHS: Final = 12


def merge_list(lists: Any, *, on_error: OnError = "fail") -> pa.Array:
    """Return for each list the sketch of what all its sketches have taken.

    Guarantee: that of `merge`, for each list alone: two of them may hold sketches of different kinds or parameters.

    Parameters
    ----------
    lists : Arrow array of list<binary> (n,)
        Stored sketches; nulls in a list add nothing. A null gives null, and so does a list that holds nothing.
    on_error : "fail" or "null"
        Whether a sketch that is damaged, or does not go with the first sound one of its list, is an error, or left out.

    Returns
    -------
    pyarrow.Array (n,) binary

    Raises
    ------
    SketchBytesError, SketchError
        By the number of the list, if `on_error` is "fail".
    """
    array = to_arrow(lists) if not isinstance(lists, np.ndarray) and is_arrow(lists) else None
    if array is None or not (pa.types.is_list(array.type) or pa.types.is_large_list(array.type) or pa.types.is_null(array.type)):
        got = type(lists).__name__ if array is None else f"an Arrow array of {array.type}"
        todo = "give lists of what to_bytes returned, such as by collect_list"
        raise SketchTypeError("read", "argument", "lists", expected="an Arrow array of list<binary>", got=got, todo=todo)
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], array.type)
    if pa.types.is_null(array.type):
        return pa.nulls(len(array), pa.binary())
    sizes = pc.fill_null(pc.list_value_length(array), 0).to_numpy()  # nothing is in a null, whatever its offsets say
    sketches, parents = stored_column(pc.list_flatten(array)), np.repeat(np.arange(len(array)), sizes)
    found: list[bytes | None] = [None] * len(array)
    for which in _alike(sketches, parents):
        numbers, groups = np.unique(parents[which], return_inverse=True)
        try:
            merged = merge(sketches.take(pa.array(which)), groups.astype(np.int64), on_error=on_error)
        except (SketchBytesError, SketchError) as wrong:
            cause = wrong.__cause__
            if not isinstance(cause, EngineError):
                raise
            raise refusal("merge_list", int(parents[which[int(wrong.name)]]), cause) from cause
        for number, data in zip(numbers.tolist(), merged, strict=True):
            found[number] = data.as_py()
    return pa.array(found, pa.binary())


def _alike(sketches: pa.Array, parents: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Return sketches in parts that can be merged together: those of lists that begin with equal parameters, others list by list."""
    present = np.flatnonzero(np.asarray(sketches.is_valid()))
    if not present.size:
        return []
    owners, firsts = np.unique(parents[present], return_index=True)
    heads = sketches.take(pa.array(present[firsts]))
    sound = np.asarray(error(heads).is_null())
    rows, keys = Rows(heads, "merge_list", "null", once=False), dict[Any, int]()
    codes = np.empty(owners.size, np.int64)
    for form in range(rows.forms):
        head = bytes(rows.view(form)[AFTER_KIND:AFTER_LENGTHS])
        key: Any = head[:4] + bytes(rows.view(form)[AFTER_LENGTHS : AFTER_LENGTHS + head[2] + (head[3] << 8)]) if sound[form] else form
        codes[form] = keys.setdefault(key, len(keys))
    of_each = codes[np.searchsorted(owners, parents[present])]
    return [present[of_each == code] for code in range(len(keys))]
