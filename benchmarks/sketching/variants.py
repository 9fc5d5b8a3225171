"""What is compared: ours, Spark's own, a grouped-aggregate pandas UDF, and the floor: rows that cross to Python and are counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.functions import pandas_udf

from sketches import BloomFilter, CountMinSketch, HyperLogLog, Quantiles, ReservoirSample, Sketch, SpaceSaving
from spark_ext.sketching import aggregate, sketch

Variant = Callable[[DataFrame], DataFrame]

TEMPLATES: dict[str, Sketch] = {
    "hll": HyperLogLog(12),
    "count_min": CountMinSketch(4, 256),
    "hot": SpaceSaving(32),
    "bloom": BloomFilter(32),
    "reservoir": ReservoirSample(32),
    "quantiles": Quantiles(200),
}
SPARK: dict[str, Variant] = {
    "hll": lambda frame: frame.groupBy("k").agg(F.hll_sketch_agg("v", 12)),
    "count_min": lambda frame: frame.groupBy("k").agg(F.count_min_sketch("v", F.lit(0.0106), F.lit(0.95), F.lit(1))),
    "quantiles": lambda frame: frame.groupBy("k").agg(F.kll_sketch_agg_bigint("v", 200)),
}


def floor(frame: DataFrame) -> DataFrame:
    """Rows leave the JVM and are counted."""

    def count(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        rows = 0
        for batch in batches:
            rows += batch.num_rows
        yield pa.record_batch([pa.array([rows])], ["n"])

    return frame.mapInArrow(count, "n bigint")


def ours(template: Sketch) -> Variant:
    return lambda frame: aggregate(frame, keys=["k"], aggregates={"s": sketch(template, "v")})


def grouped_udf(template: Sketch) -> Variant:
    """What one writes without us: rows are shuffled, and a function is called for each group."""
    blank, kind = template.to_bytes(), type(template)

    @pandas_udf("binary")  # type: ignore[call-overload,misc]
    def build(values: pd.Series) -> bytes:
        made: Any = kind.from_bytes(blank)
        made.update_many(values.to_numpy(np.int64))
        return bytes(made.to_bytes())

    return lambda frame: frame.groupBy("k").agg(build("v"))
