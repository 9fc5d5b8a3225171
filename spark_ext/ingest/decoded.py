"""What a decoder is, and what it makes of a block of records."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from spark_ext.ingest.records import Records

__all__ = ["Decoded", "Decoder"]


@dataclass(frozen=True, slots=True)
class Decoded:
    """A block of records, judged.

    Attributes
    ----------
    columns : pyarrow.RecordBatch
        The fields that were asked for, one row per good record that matches the filter, in the order of the records.
    good, bad : ndarray int64
        Which records those rows are, and which are bad; both ascending.
    reasons : list of str
        Why, one per bad record.
    details : list of str or None
        The field that a reason is about.
    filtered : int
        Good records that do not match the filter.
    drift : int
        Good records whose names are not the declared ones: one more, or one left out.
    """

    columns: pa.RecordBatch
    good: NDArray[np.int64]
    bad: NDArray[np.int64]
    reasons: list[str]
    details: list[str | None]
    filtered: int
    drift: int


class Decoder(Protocol):
    """Judges and decodes records of one format; made once per worker, used for every block."""

    def decode(self, records: Records) -> Decoded:
        """Judge and decode a block; the result for each record does not depend on the others."""
