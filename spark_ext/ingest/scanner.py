"""What a scanner of a format is told about a block, and what it leaves behind."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from spark_ext.ingest.fields import Fields
from spark_ext.ingest.records import Records

__all__ = ["Found", "Scanner"]


class Found(NamedTuple):
    """What is known of n records and their f declared fields; a scanner fills it in, in this order of arguments.

    Attributes
    ----------
    reasons, details, places : ndarray (n,) int8, int16, int64
        Place in `codes.REASONS`, field of a field reason (-1 if none) and where in the data it was met (-1 if nowhere).
    strange : ndarray (n,) bool
        Whether the record's names are not the declared ones: one more, or one left out.
    spans, lengths, values, flags : ndarray (n, f) int64, int32, int64, uint8
        Where the value is and its length, `codes.ABSENT` for missing and null; the value where it is a number or a time,
        doubles by their bits; flags of `codes`. Meaningless for records that are not good.
    """

    reasons: NDArray[np.int8]
    details: NDArray[np.int16]
    places: NDArray[np.int64]
    strange: NDArray[np.bool_]
    spans: NDArray[np.int64]
    lengths: NDArray[np.int32]
    values: NDArray[np.int64]
    flags: NDArray[np.uint8]

    @classmethod
    def room(cls, count: int, width: int) -> Found:
        """Return uninitialised arrays for `count` records of `width` fields."""
        shape = (count, width)
        return cls(
            np.empty(count, np.int8), np.empty(count, np.int16), np.empty(count, np.int64), np.empty(count, np.bool_),
            np.empty(shape, np.int64), np.empty(shape, np.int32), np.empty(shape, np.int64), np.empty(shape, np.uint8),
        )  # fmt: skip


Scanner: TypeAlias = Callable[[Fields, Records, int, Found], None]
"""Judge each record (of at most so many bytes) and note the values of its declared fields."""
