"""Many keys as few ranges, so that files and row groups without any of them are left out."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["key_ranges"]

MICROSECONDS: Final = pa.timestamp("us")


def key_ranges(values: pa.Array, *, most: int) -> list[tuple[Any, Any]] | None:
    """Return ranges, both ends included, that hold all values, and few others.

    Whole numbers, dates and times are cut at their widest gaps, other values into parts of as many.

    Parameters
    ----------
    values : pa.Array
        No nulls, in any order.
    most : int
        As many ranges at most.

    Returns
    -------
    list of pairs, or None
        None for types whose order does not help: floats, booleans, bytes, structs.

    Examples
    --------
    >>> key_ranges(pa.array([900, 3, 1, 2, 901]), most=2)
    [(1, 3), (900, 901)]
    """
    kind = values.type
    is_number = pa.types.is_integer(kind) or pa.types.is_temporal(kind)
    if not (is_number or pa.types.is_string(kind) or pa.types.is_decimal(kind)):
        return None
    ordered = pc.unique(values).take(pc.sort_indices(pc.unique(values)))
    count = len(ordered)
    if count <= most:
        return [(one, one) for one in ordered.to_pylist()]
    if is_number:
        numbers = ordered.view(pa.int32() if pa.types.is_date32(kind) else pa.int64() if pa.types.is_temporal(kind) else kind).to_numpy()
        gaps = np.diff(numbers.astype(np.float64))
        cuts = np.sort(np.argpartition(gaps, -(most - 1))[len(gaps) - (most - 1) :] + 1) if most > 1 else np.empty(0, np.int64)
    else:
        cuts = np.arange(1, most) * count // most
    begins, ends = np.r_[0, cuts], np.r_[cuts, count] - 1
    return list(zip(ordered.take(pa.array(begins)).to_pylist(), ordered.take(pa.array(ends)).to_pylist(), strict=True))
