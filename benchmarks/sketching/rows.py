"""The data of the benchmarks: two bigint columns, `k` uniform over the groups, `v` by a Zipf-like law; in memory, with a checksum."""

from __future__ import annotations

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

SEED = 20261129
ITEMS = 1_000_000


def rows_of(spark: SparkSession, rows: int, groups: int) -> DataFrame:
    """`rows` rows in memory, two partitions; the same for the same numbers."""
    ids = spark.range(0, rows, 1, 2)
    u = (F.pmod(F.xxhash64("id", F.lit(SEED)), F.lit(1 << 52)) + F.lit(0.5)) / F.lit(float(1 << 52))
    key = F.pmod(F.xxhash64("id", F.lit(SEED + 1)), F.lit(groups))
    value = F.floor(F.exp(u * F.log(F.lit(float(ITEMS))))).cast("bigint")  # P(v <= x) = log(x) / log(ITEMS)
    frame = ids.select(key.alias("k"), value.alias("v")).persist()
    frame.count()
    return frame


def checksum(frame: DataFrame) -> str:
    """A number that follows from all rows, in any order."""
    (row,) = frame.select(F.bit_xor(F.xxhash64("k", "v")).alias("c")).collect()
    return f"{row.c & (1 << 64) - 1:016x}"
