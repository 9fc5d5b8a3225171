"""What stored samples hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from sketches.functions.kept_items import check_type, in_lists, whole
from sketches.functions.rows import OnError, Rows
from sketches.reservoir import ReservoirSample
from sketches.weighted_reservoir import WeightedReservoirSample

__all__ = ["sample"]


def sample(sketches: Any, *, item_type: pa.DataType | None = None, on_error: OnError = "fail") -> pa.Array:
    """Return the items of each sample.

    Parameters
    ----------
    sketches : Arrow array of binary (n,)
        ReservoirSample, WeightedReservoirSample.
    item_type : pyarrow.DataType, optional
        Of the items. None, the default: texts; numbers in decimal, binary in hexadecimal, dates and times (in UTC) as ISO 8601 has them.
    on_error : "fail" or "null"
        Whether a row is an error or null that is damaged, of another kind, or whose items are not of the type asked for.

    Returns
    -------
    pyarrow.Array (n,) list<string>, or of `item_type`
        In the order of the class's `sample`.
    """
    check_type(item_type)
    rows = Rows(sketches, "sample", on_error)
    answers = rows.answers(lambda sketch: sketch._items, ReservoirSample, WeightedReservoirSample)  # type: ignore[attr-defined]  # noqa: SLF001
    items, valid = whole(answers, item_type, rows)
    sizes = np.array([0 if answer is None else len(answer) for answer in answers], np.int64)
    return in_lists(rows, items, sizes, valid)
