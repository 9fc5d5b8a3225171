"""Whether stored filters hold values."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pyarrow as pa

from sketches.bloom import BloomFilter
from sketches.classic_bloom import ClassicBloomFilter
from sketches.errors import EngineError
from sketches.functions.rows import OnError, Rows
from sketches.functions.structs import hashed_items
from sketches.rotating_bloom import RotatingBloomFilter

__all__ = ["contains"]

FILTERS: Final = (BloomFilter, ClassicBloomFilter, RotatingBloomFilter)


def contains(sketches: Any, items: Any, *, hashed: bool = False, on_error: OnError = "fail") -> pa.Array:
    """Return for each row whether its item may have been taken by its filter.

    Guarantee: False is sure; of items that were not taken, True at the filter's rate. A filter that rotates is asked as of its own clock.

    Parameters
    ----------
    sketches : Arrow array of binary (n,)
        Bloom filters: split-block, classic or rotating. Equal neighbours are read once.
    items : array (n,), or one value for all
        Of the types in `sketches.columns`, and of the type that the filter was given: 5 as int32 and as int64 are two values, and an int of
        Python is an int64. Null gives null.
    hashed : bool
        Whether items are hashes already, by `sketches.hashes` or Spark SQL's ``xxhash64``, as int64 or uint64.
    on_error : "fail" or "null"
        Whether a row that is damaged, or of another kind, is an error or null.

    Returns
    -------
    pyarrow.Array (n,) bool
    """
    rows = Rows(sketches, "contains", on_error)
    found = hashed_items(items, len(rows), hashed=hashed)
    answers, valid = np.zeros(len(rows), np.bool_), np.zeros(len(rows), np.bool_)
    for form, which in rows.groups():
        try:
            sketch: Any = rows.read(form, *FILTERS)
        except EngineError as error:
            rows.refuse(form, error)
            continue
        answers[which] = sketch.contains_hashes(found.hashes[which])
        valid[which] = found.present[which]
    return pa.array(answers, mask=~valid)
