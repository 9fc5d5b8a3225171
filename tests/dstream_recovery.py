"""A program with state and windows that is stopped anywhere, its model, and the same as a process of its own that kills itself."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pyspark import SparkContext

from spark_ext.dstream import StreamingContext
from spark_ext.dstream.points import Point, watched

Pairs = list[tuple[str, int]]
GIVEN: list[Pairs] = [[("a", 1), ("b", 2)], [("a", 1)], [], [("b", 5), ("c", 1)], [("a", -2), ("c", 4)]]
WINDOW = 2


def update(values: Sequence[int], before: int | None) -> int | None:
    total = (before or 0) + sum(values)
    return total or None


def add(a: int, b: int) -> int:
    return a + b


def program(sc: SparkContext, note: Callable[[str, int, Any], None], *, given: Sequence[Pairs] = GIVEN) -> StreamingContext:
    """Two outputs of one queue: totals by key, and sums by key over two batches."""
    ssc = StreamingContext(sc, 1, pace="asap")
    pairs = ssc.queueStream([list(batch) for batch in given])

    def noting(name: str) -> Callable[[Any, Any], None]:
        return lambda time, rdd: note(name, round(time.timestamp() * 1000), sorted(rdd.collect()))

    pairs.updateStateByKey(update, 2).foreachRDD(noting("totals"))
    pairs.reduceByKeyAndWindow(add, None, WINDOW, 1, 2).foreachRDD(noting("windows"))
    return ssc


def expected(given: Sequence[Pairs] = GIVEN) -> list[tuple[str, int, Any]]:
    """What a run without an end in the middle notes: name, batch and rows."""
    found: list[tuple[str, int, Any]] = []
    totals: Counter[str] = Counter()
    for number, batch in enumerate(given):
        for key, value in batch:
            totals[key] += value
        totals = Counter({key: value for key, value in totals.items() if value})
        found.append(("totals", number, sorted(totals.items())))
        window: Counter[str] = Counter()
        for past in given[max(0, number - WINDOW + 1) : number + 1]:
            for key, value in past:
                window[key] += value
        found.append(("windows", number, sorted(window.items())))
    return found


def by_batch(noted: Sequence[tuple[str, int, Any]]) -> list[tuple[str, int, Any]]:
    """Return what was noted without repetition, batches counted from the first; all tries of a batch must have noted the same.

    Raises
    ------
    AssertionError
        Two tries differ, or a batch time is missing.
    """
    first = noted[0][1]
    found: dict[tuple[int, str], Any] = {}
    for name, time_ms, rows in noted:
        number, rest = divmod(time_ms - first, 1000)
        assert rest == 0
        assert found.setdefault((number, name), rows) == rows, f"{name} of batch {number} had {found[number, name]} and has {rows}"
    return [(name, number, rows) for (number, name), rows in sorted(found.items())]


def main(folder: str, point: str, batch: int) -> None:
    """Run until the queue is empty, or until the point of a batch; notes go to a file."""
    from spark_ext.session import spark_session  # noqa: PLC0415 (only the process of its own)

    spark = spark_session("recovery", master="local[2]", conf={"spark.ui.enabled": "false"})
    notes = Path(folder) / "notes"

    def note(name: str, time_ms: int, rows: Any) -> None:
        with notes.open("a") as opened:
            opened.write(json.dumps([name, time_ms, rows]) + "\n")

    def kill(reached: Point, number: int) -> None:
        if (reached, number) == (point, batch):
            os.kill(os.getpid(), signal.SIGKILL)

    with watched(kill):
        ssc = StreamingContext.getOrCreate(f"{folder}/checkpoint", lambda: program(spark.sparkContext, note))
        ssc.start()
        count = 0
        while not read_notes(folder) or by_batch(read_notes(folder))[-1][:2] != ("windows", len(GIVEN) - 1):
            count += 1
            ssc.awaitBatches(count, 60)
        ssc.stop()


def read_notes(folder: str) -> list[tuple[str, int, Any]]:
    path = Path(folder) / "notes"
    lines = path.read_text().splitlines() if path.exists() else []
    return [(name, time_ms, [tuple(row) for row in rows]) for name, time_ms, rows in map(json.loads, lines)]


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
