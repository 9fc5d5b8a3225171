"""Spark hashes as the sketches do, and exchanges HyperLogLog with them in both directions."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from sketches import HyperLogLog, UltraLogLog, from_datasketches, hashes, to_datasketches

COLUMNS: dict[str, list[Any]] = {
    "boolean": [True, False, None],
    "byte": [0, -1, 127, -128, None],
    "short": [0, -1, 32767, None],
    "int": [0, 1, -1, 2**31 - 1, -(2**31), None],
    "bigint": [0, 1, -1, 2**63 - 1, -(2**63), 2**31, None],
    "float": [0.0, -0.0, 1.5, math.nan, math.inf, -math.inf, None],
    "double": [0.0, -0.0, 1.5, math.nan, math.inf, 5e-324, None],
    "decimal(18,2)": [Decimal("12.34"), Decimal("-0.01"), Decimal("9999999999999999.99"), None],
    "decimal(5,1)": [Decimal("1.5"), None],
    "date": [date(1970, 1, 1), date(2026, 2, 3), date(1900, 1, 1), None],
    "timestamp": [datetime(2026, 2, 3, 4, 5, 6, 789_012, UTC), datetime(1969, 12, 31, 23, 59, 59, 999_999, UTC), None],
    "string": ["", "a", "Zürich", "日本語", "🙂", "x" * 31, "y" * 32, "z" * 333, None],
    "binary": [b"", b"\0", b"\xff\xfe", b"b" * 40, None],
}


@pytest.mark.parametrize("kind", COLUMNS)
def test_xxhash64_of_a_column_is_the_hash_of_the_sketches(spark: SparkSession, kind: str) -> None:
    frame = spark.createDataFrame([(value,) for value in COLUMNS[kind]], f"value {kind}").coalesce(1)
    table = frame.select("value", F.xxhash64("value").alias("hash")).toArrow()
    present = table.filter(table["value"].is_valid())
    assert hashes(table["value"]).view(np.int64).tolist() == present["hash"].to_pylist()
    assert len(present) == len(COLUMNS[kind]) - 1


def test_a_sketch_of_hashes_made_in_spark_is_the_sketch_of_the_values(spark: SparkSession) -> None:
    hashed = spark.range(20_000).select(F.xxhash64("id").alias("hash")).toArrow()["hash"]
    for make in (HyperLogLog, UltraLogLog):
        there, here = make(10), make(10)
        there.update_hashes(hashed.to_numpy())
        here.update_many(np.arange(20_000))
        assert there.to_bytes() == here.to_bytes()


# Sketches of DataSketches ----------------------------------------------------------------------------------------------

SIZES = (0, 1, 5, 50, 400, 30_000)  # nothing, lists, sets, registers
VALUES = {
    "bigint": ("id * 7919 - 1000", lambda size: np.arange(size) * 7919 - 1000),
    "int": ("cast(id as int) - 1000", lambda size: (np.arange(size) - 1000).astype(np.int32)),
    "string": ("concat('é', id)", lambda size: pa.array([f"é{number}" for number in range(size)])),
    "string with empty ones": (
        "if(id % 3 = 0, '', cast(id as string))",
        lambda size: pa.array(["" if number % 3 == 0 else str(number) for number in range(size)]),
    ),
    "binary with nulls": (
        "if(id % 3 = 0, null, cast(cast(id as string) as binary))",
        lambda size: pa.array([None if number % 3 == 0 else str(number).encode() for number in range(size)]),
    ),
}


def here(values: Any, precision: int) -> HyperLogLog:
    sketch = HyperLogLog(precision, "murmur3")
    sketch.update_many(values)
    return sketch


def there(spark: SparkSession, expression: str, size: int, precision: int) -> bytes:
    return bytes(spark.range(0, size, 1, 2).selectExpr(f"hll_sketch_agg({expression}, {precision})").head()[0])  # type: ignore[index]


def in_spark(spark: SparkSession, *sketches: bytes) -> DataFrame:
    return spark.createDataFrame([(bytearray(sketch),) for sketch in sketches], "sketch binary")


@pytest.mark.parametrize("kind", VALUES)
def test_registers_of_spark_and_ours_are_equal(spark: SparkSession, kind: str) -> None:
    expression, make = VALUES[kind]
    for size, precision in [*((size, 12) for size in SIZES), (30_000, 4), (30_000, 18)]:
        read = from_datasketches(there(spark, expression, size, precision))
        assert read.to_bytes() == here(make(size), precision).to_bytes(), (size, precision)


def test_spark_estimates_from_our_bytes(spark: SparkSession) -> None:
    sizes = (0, 1, 10, 1000, 30_000, 1_000_000)
    frame = in_spark(spark, *(to_datasketches(here(np.arange(size), 12)) for size in sizes))
    found = [row[0] for row in frame.selectExpr("hll_sketch_estimate(sketch)").collect()]
    for size, count in zip(sizes, found, strict=True):  # 1.04 / sqrt(4096) = 1.6 %; the values are fixed, so is the outcome
        assert abs(count - size) <= 0.05 * size


@pytest.mark.parametrize("kind", ["bigint", "string"])
@pytest.mark.parametrize("size", [5, 400, 30_000])
def test_a_union_with_ours_counts_as_one_with_sparks_own(spark: SparkSession, kind: str, size: int) -> None:
    expression, make = VALUES[kind]
    one, other, both = (there(spark, expression, number, 12) for number in (size, 20_000, max(size, 20_000)))
    mixed = in_spark(spark, one, to_datasketches(here(make(20_000), 12)))
    own = in_spark(spark, one, other)
    union = "hll_union_agg(sketch)"
    with_ours, with_own = (frame.selectExpr(f"hll_sketch_estimate({union})", union).head() for frame in (mixed, own))
    assert with_ours is not None
    assert with_own is not None
    assert with_ours[0] == with_own[0]
    for sketch in (with_ours[1], with_own[1], both):  # the same values: nothing is counted twice
        assert from_datasketches(sketch).to_bytes() == here(make(max(size, 20_000)), 12).to_bytes()
    in_python = from_datasketches(one)
    in_python.merge(here(make(20_000), 12))
    assert in_python.to_bytes() == from_datasketches(with_ours[1]).to_bytes()


@pytest.mark.parametrize("form", ["HLL_4", "HLL_6", "HLL_8"])
@pytest.mark.parametrize("size", [0, 5, 50, 5000, 300_000])  # the last one gives HLL_4 a lowest rank above 0, and exceptions
def test_all_forms_are_read(spark: SparkSession, form: str, size: int) -> None:
    library: Any = spark._jvm.org.apache.datasketches  # type: ignore[union-attr]
    made = library.hll.HllSketch.heapify(library.memory.Memory.wrap(bytearray(there(spark, "id", size, 11))))
    sketch = made.copyAs(getattr(library.hll.TgtHllType, form))
    for data in (sketch.toCompactByteArray(), sketch.toUpdatableByteArray()):
        assert from_datasketches(bytes(data)).to_bytes() == here(np.arange(size), 11).to_bytes()
