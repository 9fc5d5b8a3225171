"""What a batch without rows costs: from the start of one batch to that of the next, as fast as they go.

Ours: an input that always says it has something and gives nothing, pace ``asap``, so that Spark's log of the tick, the plan and
the commit are in it. `pyspark.streaming`: processing time of its batches by its listener, at an interval that it keeps up with; it
logs nothing. The two take turns in one JVM.
"""

from __future__ import annotations

import contextlib
import io
import operator
import statistics
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Annotated, Any, Final

import typer
from pyspark import SparkContext

import spark_ext.dstream
from benchmarks.dstream.contexts import opened
from benchmarks.measure import cpu_seconds, machine
from spark_ext.dstream.inputs.queue import QueueInput
from spark_ext.session import spark_session

GOAL_MS: Final = 150
FIRST: Final = 10  # batches before the timed ones
INTERVAL_S: Final = 0.5
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def nothing_done(stream: Any) -> None:
    """A shuffle that nobody asks for."""
    stream.map(lambda word: (word, 1)).reduceByKey(operator.add).foreachRDD(lambda _: None)


def printed(stream: Any) -> None:
    """A shuffle, and a job for its first rows."""
    stream.map(lambda word: (word, 1)).reduceByKey(operator.add).pprint()


PROGRAMS: Final[dict[str, Callable[[Any], None]]] = {"foreachRDD": nothing_done, "pprint": printed}


class Idle(QueueInput):
    """A queue that is empty and does not say so."""

    def has_news(self, planned: Any | None) -> bool:
        return True


def of_ours(context: SparkContext, program: Callable[[Any], None], batches: int) -> tuple[list[float], float]:
    """Return ms from batch to batch, and CPU ms of one."""
    ssc = spark_ext.dstream.StreamingContext(context, INTERVAL_S, pace="asap")
    graph = ssc._graph  # noqa: SLF001 (an input of this file)
    idle = graph.add(Idle([], graph.interval_ms, one_at_a_time=True, default=None))
    stream = spark_ext.dstream.DStream(idle, ssc)
    begun: list[tuple[float, float]] = []
    stream.foreachRDD(lambda _: begun.append((time.perf_counter(), cpu_seconds())))
    program(stream)
    ssc.start()
    assert ssc.awaitBatches(batches + FIRST + 1, 300)
    ssc.stop(False)
    timed = begun[FIRST : FIRST + batches + 1]
    return [(b[0] - a[0]) * 1000 for a, b in pairwise(timed)], (timed[-1][1] - timed[0][1]) * 1000 / batches


def of_sparks(context: SparkContext, program: Callable[[Any], None], batches: int) -> tuple[list[float], float]:
    """Return ms that batches took, and CPU ms of one."""
    took: list[float] = []

    ssc = opened("pyspark.streaming", context, INTERVAL_S, lambda info: took.append(info.processingDelay()))
    stream = ssc.queueStream([[]])
    stream.foreachRDD(lambda _: None)
    program(stream)
    ssc.start()
    while len(took) < FIRST:
        ssc.awaitTerminationOrTimeout(0.1)  # type: ignore[arg-type]
    cpu = cpu_seconds()
    while len(took) < FIRST + batches:
        ssc.awaitTerminationOrTimeout(0.1)  # type: ignore[arg-type]
    cpu = cpu_seconds() - cpu
    ssc.stop(False)
    return took[FIRST : FIRST + batches], cpu * 1000 / batches


@app.command()
def main(
    batches: Annotated[int, typer.Option(help="Timed batches per turn.")] = 40,
    turns: Annotated[int, typer.Option(help="Turns of each.")] = 2,
) -> None:
    """Compare."""
    spark = spark_session("empty", master="local[2]", conf={"spark.ui.enabled": "false"})
    spark.sparkContext.setLogLevel("OFF")
    print(f"{machine()}; {batches} batches a turn")
    found: dict[tuple[str, str], list[tuple[list[float], float]]] = {}
    for _ in range(turns):
        for name, program in PROGRAMS.items():
            for who, run in (("pyspark.streaming", of_sparks), ("millrace", of_ours)):
                with contextlib.redirect_stdout(io.StringIO()):  # what pprint prints
                    costs = run(spark.sparkContext, program, batches)
                found.setdefault((name, who), []).append(costs)
    for (name, who), costs in found.items():
        took = sorted(ms for one, _ in costs for ms in one)
        cpu = statistics.median(one for _, one in costs)
        goal = f", wanted {GOAL_MS}" if who == "millrace" else ""
        half, most = statistics.median(took), took[len(took) * 9 // 10]
        print(f"{name:11} {who:18} {half:6.0f} ms a batch, nine of ten below {most:4.0f}; {cpu:5.0f} CPU ms{goal}")
    spark.stop()


if __name__ == "__main__":
    app()
