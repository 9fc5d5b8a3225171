"""The same windowed aggregation by four engines: ours, Spark's own, and Spark's two Python operators per key."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pandas as pd
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.streaming.state import GroupState, GroupStateTimeout
from pyspark.sql.streaming.stateful_processor import StatefulProcessor, StatefulProcessorHandle
from pyspark.sql.types import LongType, StructField, StructType

from spark_ext import windows
from spark_ext.windows import aggregates

COUNTED = StructType([StructField("k", LongType()), StructField("n", LongType())])


@dataclass(frozen=True, slots=True)
class Task:
    """What to aggregate: ``count`` and ``sum(v)`` by ``k`` and window."""

    length: timedelta
    every: timedelta
    keys: int
    buckets: int | None


def millrace(rows: DataFrame, task: Task) -> DataFrame:
    shape = windows.tumbling(task.length) if task.every == task.length else windows.sliding(task.length, every=task.every)
    return windows.aggregate(
        rows,
        keys=["k"],
        event_time="ts",
        window=shape.without_grace(),
        aggregates={"n": aggregates.count(), "s": aggregates.sum("v")},
        expected_keys=task.keys,
        buckets=task.buckets,
    )


def spark(rows: DataFrame, task: Task) -> DataFrame:
    span = F.window("ts", f"{task.length.total_seconds()} seconds", f"{task.every.total_seconds()} seconds")
    return rows.groupBy("k", span).agg(F.count(F.lit(1)).alias("n"), F.sum("v").alias("s"))


def _add(key: tuple[Any, ...], frames: Iterator[pd.DataFrame], state: GroupState) -> Iterator[pd.DataFrame]:
    counted = state.get[0] if state.exists else 0
    counted += sum(len(frame) for frame in frames)
    state.update((counted,))
    yield pd.DataFrame({"k": [key[0]], "n": [counted]})


def pandas_per_key(rows: DataFrame, task: Task) -> DataFrame:
    """A count per key, no windows: less work than the others do."""
    return rows.select("k", "v").groupBy("k").applyInPandasWithState(_add, COUNTED, "n bigint", "append", GroupStateTimeout.NoTimeout)


class _Counter(StatefulProcessor):
    def init(self, handle: StatefulProcessorHandle) -> None:
        self._count = handle.getValueState("n", StructType([StructField("n", LongType())]))

    def handleInputRows(self, key: Any, rows: Iterator[pd.DataFrame], timerValues: Any) -> Iterator[pd.DataFrame]:  # noqa: N802, N803
        counted = self._count.get()[0] if self._count.exists() else 0
        counted += sum(len(frame) for frame in rows)
        self._count.update((counted,))
        yield pd.DataFrame({"k": [key[0]], "n": [counted]})

    def close(self) -> None:
        pass


def transform_per_key(rows: DataFrame, task: Task) -> DataFrame:
    """A count per key, no windows: less work than the others do. Spark needs the package protobuf for it, which we do not."""
    grouped = rows.select("k", "v").groupBy("k")
    return grouped.transformWithStateInPandas(statefulProcessor=_Counter(), outputStructType=COUNTED, outputMode="Append", timeMode="None")


VARIANTS: dict[str, Callable[[DataFrame, Task], DataFrame]] = {
    "spark": spark,
    "millrace": millrace,
    "apws-per-key": pandas_per_key,
    "tws-per-key": transform_per_key,
}
