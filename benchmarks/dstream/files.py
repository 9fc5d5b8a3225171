"""One program over text files by `pyspark.streaming` and by ours: fed one file per stream and batch, timed by its own listener.

The two take turns in one JVM; each turn is a program of its own.
"""

from __future__ import annotations

import os
import statistics
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from pyspark import SparkContext
from rich.progress import track

from benchmarks.dstream.contexts import ENGINES, opened
from benchmarks.measure import cpu_seconds, median_ratio

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
    taken: dict[tuple[str, str], list[tuple[float, float]]] = {(form, who): [] for form in programs for who in ENGINES}
    results: dict[tuple[str, str], list[int]] = {}
    for turn in track(range(turns), "turns"):
        for form, program in programs.items():
            for who in ENGINES:
                home = batches[0][0].parent / f"{turn}-{form}-{who}"
                running = FedTurn(context, who, program, [home / str(place) for place in range(len(batches[0]))])
                running.ssc.start()
                costs = [running.feed(*files) for files in batches]
                running.ssc.stop(False)
                taken[form, who] += costs[warm:]
                results[form, who] = [count for count in running.counts.values() if count]
    for form in programs:
        theirs, ours = (taken[form, who] for who in ENGINES)
        assert results[form, "pyspark.streaming"] == results[form, "millrace"], "different results"
        for who in ENGINES:
            wall, cpu = (statistics.median(cost[kind] for cost in taken[form, who]) for kind in (0, 1))
            print(f"{form:8} {who:18} {wall:6.2f} s a batch, {cpu:6.2f} CPU s")
        found = sum(results[form, who])
        wall_ratio, cpu_ratio = (median_ratio([cost[kind] for cost in theirs], [cost[kind] for cost in ours]) for kind in (0, 1))
        print(f"{form:8} {wall_ratio:.2f} times as fast ({cpu_ratio:.2f} by CPU), wanted {GOALS[form]}; {found:,} results, equal")
