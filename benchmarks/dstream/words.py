"""Word count over files, the same program by `pyspark.streaming` and by ours: all words are known functions, or none is.

The two take turns in one JVM; each turn is a program of its own that is given one file per batch and timed by its own listener.
"""

from __future__ import annotations

import hashlib
import operator
import statistics
import threading
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Final

import numpy as np
import typer
from pyspark import SparkContext
from rich.progress import track

from benchmarks.dstream.contexts import ENGINES, opened
from benchmarks.measure import cpu_seconds, machine, median_ratio
from spark_ext.session import spark_session

GOALS: Final = {"known": 3.0, "lambdas": 1.0}
INTERVAL_S: Final = 1
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def known(lines: Any) -> Any:
    """Every function is one that has a column form."""
    return lines.flatMap(lambda line: line.split(" ")).map(lambda word: (word, 1)).reduceByKey(operator.add)


def lambdas(lines: Any) -> Any:
    """No function is known."""
    return lines.flatMap(lambda line: [word for word in line.split(" ") if word]).map(lambda word: (word, 2 - 1)).reduceByKey(
        lambda a, b: b + a + 0
    )  # fmt: skip


PROGRAMS: Final[dict[str, Callable[[Any], Any]]] = {"known": known, "lambdas": lambdas}


def write(folder: Path, files: int, rows: int, words: int, keys: int) -> str:
    """Write files of lines of words, each word as likely as the other; return their checksum."""
    rng = np.random.default_rng(1)
    digest = hashlib.sha256()
    vocabulary = np.array([f"word{n:06d}" for n in range(keys)])
    for number in range(files):
        drawn = vocabulary[rng.integers(0, keys, (rows, words))]
        content = "\n".join(map(" ".join, drawn)).encode() + b"\n"
        (folder / f"lines-{number}").write_bytes(content)
        digest.update(content)
    return digest.hexdigest()[:16]


class Turn:
    """One program, started, fed and timed."""

    def __init__(self, context: SparkContext, who: str, program: Callable[[Any], Any], watched: Path) -> None:
        self.counts: dict[int, int] = {}
        self.done: dict[int, tuple[float, float]] = {}
        self._changed = threading.Condition()
        self.ssc = opened(who, context, INTERVAL_S, self._done)
        program(self.ssc.textFileStream(str(watched))).foreachRDD(self._count)
        self._watched = watched

    def _count(self, time: Any, rdd: Any) -> None:
        self.counts[round(time.timestamp() * 1000)] = rdd.count()

    def _done(self, info: Any) -> None:
        time_ms, took_s = info.batchTime().milliseconds(), info.processingDelay() / 1000
        with self._changed:
            if self.counts.get(time_ms):
                self.done[time_ms] = (took_s, cpu_seconds())
                self._changed.notify_all()

    def feed(self, file: Path) -> tuple[float, float]:
        """Move one file in, and return wall and CPU seconds of its batch."""
        before, cpu = len(self.done), cpu_seconds()
        (self._watched / file.name).hardlink_to(file)
        (self._watched / file.name).touch()
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.done) > before, 120), "the batch of the file did not come"
        took_s, cpu_then = list(self.done.values())[-1]
        return took_s, cpu_then - cpu


@app.command()
def main(
    rows: Annotated[int, typer.Option(help="Lines per batch.")] = 300_000,
    words: Annotated[int, typer.Option(help="Words per line.")] = 10,
    keys: Annotated[int, typer.Option(help="Different words.")] = 100_000,
    batches: Annotated[int, typer.Option(help="Timed batches per turn; one more comes before them.")] = 3,
    turns: Annotated[int, typer.Option(help="Turns of each.")] = 2,
) -> None:
    """Compare."""
    spark = spark_session("words", master="local[2]", conf={"spark.ui.enabled": "false", "spark.driver.memory": "6g"})
    spark.sparkContext.setLogLevel("OFF")
    with TemporaryDirectory() as name:
        folder = Path(name)
        print(f"{machine()}; {rows:,} lines of {words} words, {keys:,} different ones, per batch")
        print(f"checksum of the data: {write(folder, batches + 1, rows, words, keys)}")
        taken: dict[tuple[str, str], list[tuple[float, float]]] = {(form, who): [] for form in PROGRAMS for who in ENGINES}
        results: dict[tuple[str, str], list[int]] = {}
        for turn in track(range(turns), "turns"):
            for form, program in PROGRAMS.items():
                for who in ENGINES:
                    watched = folder / f"{turn}-{form}-{who}"
                    watched.mkdir()
                    running = Turn(spark.sparkContext, who, program, watched)
                    running.ssc.start()
                    costs = [running.feed(folder / f"lines-{number}") for number in range(batches + 1)]
                    running.ssc.stop(False)
                    taken[form, who] += costs[1:]
                    results[form, who] = [count for count in running.counts.values() if count]
        for form in PROGRAMS:
            theirs, ours = taken[form, "pyspark.streaming"], taken[form, "millrace"]
            assert results[form, "pyspark.streaming"] == results[form, "millrace"], "different results"
            for who, costs in (("pyspark.streaming", theirs), ("millrace", ours)):
                wall, cpu = (statistics.median(cost[kind] for cost in costs) for kind in (0, 1))
                print(f"{form:8} {who:18} {wall:6.2f} s a batch, {cpu:6.2f} CPU s, {rows * words / wall / 1e6:5.2f} M words/s")
            wall_ratio = median_ratio([cost[0] for cost in theirs], [cost[0] for cost in ours])
            cpu_ratio = median_ratio([cost[1] for cost in theirs], [cost[1] for cost in ours])
            print(f"{form:8} {wall_ratio:.2f} times as fast ({cpu_ratio:.2f} by CPU), wanted {GOALS[form]}")
    spark.stop()


if __name__ == "__main__":
    app()
