"""Python workers ask, next to the rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from time import monotonic
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import StructField, StructType

from spark_ext.joins.remote.asking import SOURCES, Asker, Found, breaker_of
from spark_ext.joins.remote.http import HttpLookup
from spark_ext.joins.remote.layout import Layout
from spark_ext.joins.remote.limits import Cache
from spark_ext.joins.remote.match_kernel import distinct, pairs
from spark_ext.joins.remote.remembered import Remembered
from spark_ext.workers import settle

__all__ = ["Worker", "by_workers"]

OUT_ROWS: Final = 1 << 14  # that are given out at once


def by_workers(rows: DataFrame, source: HttpLookup, layout: Layout) -> DataFrame:
    """Return rows, of a stream or bounded, with their answers."""
    worker = Worker(source, layout, tuple(rows.columns.index(name) for name in layout.on))
    schema = StructType([*(StructField(f"c{at}", one.dataType, one.nullable) for at, one in enumerate(rows.schema)), *layout.added])
    # By place: mapInArrow takes no name with a dot in it. A watermark is lost on the way, and put back with its column.
    joined = rows.toDF(*(f"c{at}" for at in range(len(rows.columns)))).mapInArrow(worker, schema)
    names = [*((one.name, one.metadata) for one in rows.schema), *((one.name, {}) for one in layout.named)]
    return joined.select(*(F.col(at).alias(name, metadata=meta) for at, (name, meta) in zip(joined.columns, names, strict=True)))


@dataclass(frozen=True, slots=True)
class Worker:
    """Joins blocks of rows in a Python worker."""

    source: HttpLookup
    layout: Layout
    places: tuple[int, ...]

    def __call__(self, blocks: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Join one block after the other."""
        asker = _http_asker(self.source, self.layout.keys, self.layout.returns, self.layout.cache)
        for block in blocks:
            parts = [block.column(at).cast(one.type) for at, one in zip(self.places, self.layout.keys, strict=True)]
            numbers, keys = distinct(pa.Table.from_arrays(parts, schema=self.layout.keys))
            found = self.layout.look_up(asker, self.source.name, keys)
            rows, answers = pairs(numbers, found.starts, found.counts, found.failed, self.layout.how)
            for start in range(0, len(rows), OUT_ROWS):
                yield self._joined(block, found, rows[start : start + OUT_ROWS], answers[start : start + OUT_ROWS], numbers)
        settle()

    def _joined(
        self, block: pa.RecordBatch, found: Found, rows: NDArray[np.int64], answers: NDArray[np.int64], numbers: NDArray[np.int64]
    ) -> pa.RecordBatch:
        kept = block.take(pa.array(rows))
        made = self.layout.columns(found, answers, numbers[rows])
        names = [*block.schema.names, *(one.name for one in self.layout.added)]
        return pa.RecordBatch.from_arrays([*kept.columns, *made], names=names)


@lru_cache(SOURCES)
def _http_asker(source: HttpLookup, keys: pa.Schema, returns: pa.Schema, cache: Cache) -> Asker:
    return Asker(source.connect(keys, returns), source.limits, Remembered(returns, cache, monotonic), breaker_of(source))
