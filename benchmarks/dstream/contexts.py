"""The two engines by name, opened alike, heard alike, and compared."""

from __future__ import annotations

import statistics
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import pyspark.streaming
from pyspark import SparkContext

import spark_ext.dstream
from benchmarks.measure import median_ratio

ENGINES: Final[dict[str, Any]] = {"pyspark.streaming": pyspark.streaming, "millrace": spark_ext.dstream}


def opened(who: str, context: SparkContext, interval_s: float, on_batch: Callable[[Any], None], **given: Any) -> Any:
    """Return a StreamingContext that tells of each batch that is done."""

    class Listener(ENGINES[who].StreamingListener):  # type: ignore[misc]
        def onBatchCompleted(self, batchCompleted: Any) -> None:  # noqa: N802, N803 (Spark's)
            on_batch(batchCompleted.batchInfo())

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # Spark deprecates its own
        ssc = ENGINES[who].StreamingContext(context, interval_s, **given)
    ssc.addStreamingListener(Listener())
    return ssc


def print_ratios(name: str, taken: Mapping[str, Sequence[tuple[float, float]]], goal: float) -> None:
    """Print medians of wall and CPU seconds of a batch by variant, and how ours compare; variants beside the engines have no ratio."""
    for who, costs in taken.items():
        wall, cpu = (statistics.median(cost[kind] for cost in costs) for kind in (0, 1))
        print(f"{name:16} {who:18} {wall:7.2f} s a batch, {cpu:7.2f} CPU s")
    theirs, ours = (taken[who] for who in ENGINES)
    wall_ratio, cpu_ratio = (median_ratio([cost[kind] for cost in theirs], [cost[kind] for cost in ours]) for kind in (0, 1))
    print(f"{name:16} {wall_ratio:.1f} times as fast ({cpu_ratio:.1f} by CPU), wanted {goal:g}; all results equal")
