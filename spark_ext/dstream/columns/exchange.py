"""Move pairs to the partition of their key: ``portable_hash(key) % partitions``, as PySpark does."""

from __future__ import annotations

from pyspark import RDD

from spark_ext.dstream.columns.blocks import encode, packed
from spark_ext.dstream.rows import Rows

__all__ = ["placed"]


def placed(rows: Rows, partitions: int) -> RDD[bytes]:
    """Return pairs as encoded blocks, each pair in the partition of its key."""
    return rows.rdd().partitionBy(partitions).mapPartitions(lambda pairs: map(encode, packed(pairs)), True)
