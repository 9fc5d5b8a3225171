"""Decode blocks of records into Arrow columns: good rows, and a reason for each of the others.

Flows in: `Records`. Flows out: `Decoded`. The scanner of a format judges every record in one pass; columns are made only of those
that are good, match the filter, and for the fields that are asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np
import pyarrow as pa
from pyspark.sql.types import StructType

from spark_ext.ingest.block import BEHIND_ALL, Block
from spark_ext.ingest.codes import GOOD, REASONS
from spark_ext.ingest.decoded import Decoded
from spark_ext.ingest.fields import Fields
from spark_ext.ingest.filters import Conditions
from spark_ext.ingest.records import Records
from spark_ext.ingest.scanner import Scanner

__all__ = ["ScanningDecoder"]

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class ScanningDecoder:
    """Decode records of a format whose values a scanner judges.

    Parameters
    ----------
    schema : StructType
        Declared fields; every one is checked, asked for or not, so that the verdict depends on the record alone.
    scan : Scanner
        Judges blocks of this format.
    columns : sequence of str, optional
        Fields to make columns of; all by default.
    event_time, earliest, ahead, max_value_bytes, refuse
        As for `Format`.
    where : conditions
        Which good rows to give out, see `spark_ext.ingest.filters`.
    """

    def __init__(
        self,
        schema: StructType,
        scan: Scanner,
        *,
        columns: Sequence[str] | None = None,
        event_time: str | None = None,
        earliest: datetime | None = None,
        ahead: timedelta = timedelta(days=1),
        max_value_bytes: int = 1_048_576,
        refuse: Mapping[str, Conditions] | None = None,
        where: Conditions = (),
    ) -> None:
        self._fields, self._scan = Fields(schema), scan
        self._columns = list(self._fields.names if columns is None else columns)
        types = dict(zip(self._fields.names, self._fields.types, strict=True))
        self._schema = pa.schema([(name, types[name]) for name in self._columns])  # all nullable: bad rows have none of them
        self._event_time = None if event_time is None else self._fields.names.index(event_time)
        self._earliest_us = 0 if earliest is None else (earliest - EPOCH) // timedelta(microseconds=1)
        self._ahead_us = min(ahead // timedelta(microseconds=1), BEHIND_ALL // 2)
        self._max_value_bytes = max_value_bytes
        self._refuse = dict(refuse or {})
        self._where = tuple(where)

    def decode(self, records: Records) -> Decoded:
        """Judge and decode a block; the result for each record does not depend on the others."""
        block = Block(self._scan, self._fields, records, self._max_value_bytes)
        if self._event_time is not None:
            stamps, known = records.times_us()
            block.check_event_time(self._event_time, self._earliest_us, np.where(known, stamps + self._ahead_us, BEHIND_ALL))
        good = np.flatnonzero(block.reasons == GOOD)
        refused: dict[int, str] = {}
        for reason, conditions in self._refuse.items():
            mask = block.matching(conditions, good)
            refused.update(dict.fromkeys(good[mask].tolist(), reason))
            good = good[~mask]
        kept = good[block.matching(self._where, good)] if self._where else good
        is_bad = block.reasons != GOOD
        is_bad[list(refused)] = True
        bad = np.flatnonzero(is_bad)
        names = self._fields.names
        return Decoded(
            columns=pa.RecordBatch.from_arrays([block.column(name, kept) for name in self._columns], schema=self._schema),
            good=kept,
            bad=bad,
            reasons=[refused.get(row) or REASONS[block.reasons[row]] for row in bad.tolist()],
            details=[None if row in refused or block.details[row] < 0 else names[block.details[row]] for row in bad.tolist()],
            filtered=len(good) - len(kept),
            drift=int(block.strange[good].sum()),
        )
