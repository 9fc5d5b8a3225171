"""One program over text files by `pyspark.streaming` and by ours: fed one file per stream and batch, timed by its own listener.

The two take turns in one JVM; each turn is a program of its own.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from pyspark import SparkContext
from rich.progress import track

from benchmarks.dstream.contexts import ENGINES, opened, print_ratios
from benchmarks.measure import cpu_seconds

INTERVAL_S: Final = 1
AHEAD_S: Final = 0.2
LONGEST_S: Final = 120
GOALS: Final = {"known": 3.0, "lambdas": 1.0}


class FedTurn:
    """One turn of one engine.

    Attributes
    ----------
    counts : dict of int to int
        Number of the program's results in each batch, by its time in ms.
    """

    def __init__(self, context: SparkContext, who: str, program: Callable[..., Any], watched: Sequence[Path]) -> None:
        self.counts: dict[int, int] = {}
        self._done: list[tuple[float, float]] = []
        self._changed = threading.Condition()
        self._watched = watched
        self.ssc = opened(who, context, INTERVAL_S, self._heard)
        for folder in watched:
            folder.mkdir(parents=True)
        program(*(self.ssc.textFileStream(str(folder)) for folder in watched)).foreachRDD(self._count)

    def feed(self, *files: Path) -> tuple[float, float]:
        """Move one file into each folder, and return wall and CPU seconds of their batch."""
        before, cpu = len(self._done), cpu_seconds()
        seen_at = time.time() + AHEAD_S  # so that one batch takes them all
        for folder, file in zip(self._watched, files, strict=True):
            os.utime(file, (seen_at, seen_at))
            (folder / file.name).hardlink_to(file)
        with self._changed:
            assert self._changed.wait_for(lambda: len(self._done) > before, LONGEST_S), "the batch of the files did not come"
        took_s, cpu_then = self._done[-1]
        return took_s, cpu_then - cpu

    def _count(self, time: Any, rdd: Any) -> None:
        self.counts[round(time.timestamp() * 1000)] = rdd.count()

    def _heard(self, info: Any) -> None:
        with self._changed:
            if self.counts.get(info.batchTime().milliseconds()):
                self._done.append((info.processingDelay() / 1000, cpu_seconds()))
                self._changed.notify_all()


def compare(
    context: SparkContext, programs: Mapping[str, Callable[..., Any]], batches: Sequence[Sequence[Path]], warm: int, turns: int
) -> None:
    """Time each form of a program by both engines, and print how they compare.

    The first `warm` batches of a turn are not counted. Both engines must have the same number of results in each batch.
    """
    taken: dict[str, dict[str, list[tuple[float, float]]]] = {form: {who: [] for who in ENGINES} for form in programs}
    for turn in track(range(turns), "turns"):
        for form, program in programs.items():
            results = []
            for who in ENGINES:
                home = batches[0][0].parent / f"{turn}-{form}-{who}"
                running = FedTurn(context, who, program, [home / str(place) for place in range(len(batches[0]))])
                running.ssc.start()
                costs = [running.feed(*files) for files in batches]
                running.ssc.stop(False)
                taken[form][who] += costs[warm:]
                results.append([count for count in running.counts.values() if count])
            assert results[0] == results[1], f"{form}: different results, {results}"
    for form, costs_by_engine in taken.items():
        print_ratios(form, costs_by_engine, GOALS[form])
