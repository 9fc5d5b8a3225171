"""Rows of a range that were added up in the worker: groups instead of good rows, dead ones and accounts as ever."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from spark_ext.ingest.decoded import Decoded, Decoder
from spark_ext.ingest.records import Records
from spark_ext.kafka.offsets import Range
from spark_ext.kafka.ranges import Account, DecodedRows

__all__ = ["AggregatedRows", "Aggregator"]


class Aggregator(Protocol):
    """Groups the good rows of one range after the other."""

    def add(self, columns: pa.RecordBatch, offsets: NDArray[np.int64]) -> Iterator[pa.RecordBatch]:
        """Take good rows, and yield groups if too many are held."""

    def take(self) -> Iterator[pa.RecordBatch]:
        """Yield all groups that are held, and forget them."""


class AggregatedRows(DecodedRows):
    """One row per group of good rows, dead ones with their bytes and the reason, one row for the account of the range.

    Parameters
    ----------
    schema : pa.Schema
        The columns of the groups, ``source`` (null for groups), ``dead``, ``range``.
    decoder : Decoder
        Judges and decodes records.
    aggregator : Aggregator
        Of this task alone.
    """

    def __init__(self, schema: pa.Schema, decoder: Decoder, aggregator: Aggregator) -> None:
        super().__init__(schema, decoder, place=False)
        self._aggregator = aggregator

    def of_account(self, at: Range, account: Account) -> Iterator[pa.RecordBatch]:
        """Yield the groups of the range, then the row that tells that it has been read to its end."""
        yield from map(self._tagged, self._aggregator.take())
        yield from super().of_account(at, account)

    def _of_good(self, decoded: Decoded, records: Records, at: Range) -> Iterator[pa.RecordBatch]:
        del at
        yield from map(self._tagged, self._aggregator.add(decoded.columns, records.offsets[decoded.good]))

    def _tagged(self, groups: pa.RecordBatch) -> pa.RecordBatch:
        return self._batch(len(groups), {name: groups.column(name) for name in groups.schema.names})
