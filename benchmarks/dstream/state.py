"""State of many keys of which few are touched: `updateStateByKey`, the same program by `pyspark.streaming` and by ours.

The two take turns in one JVM; each turn is a program of its own with a fresh checkpoint: initial state of all keys, then equal batches
that are all there from the start, so that one follows the other without waiting. `mapWithState`, which PySpark does not have, runs last.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from itertools import pairwise
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Final

import numpy as np
import typer
from pyspark import RDD, SparkContext

import spark_ext.dstream
from benchmarks.dstream.contexts import ENGINES, opened, print_ratios
from benchmarks.measure import cpu_seconds, machine
from spark_ext.session import spark_session

SEED: Final = 1
WANTED: Final = 5.0
INTERVAL_S: Final = 1  # less than a batch of pyspark.streaming takes at the sizes that count
LONGEST_S: Final = 600
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def summed(new: list[int], old: int | None) -> int:
    """A function that nobody knows."""
    return sum(new) + (old or 0)


def drawn(batch: int, part: int, keys: int, touched: int) -> tuple[Any, Any]:
    """Keys and values of one of the two parts of a batch; each part has its half of the keys."""
    rng = np.random.default_rng((SEED, batch, part))
    return rng.choice(keys // 2, touched // 2, replace=False) * 2 + part, rng.integers(0, 100, touched // 2)


def named(numbers: Any, strings: bool) -> list[Any]:
    return [f"key-{number}" for number in numbers.tolist()] if strings else list(numbers.tolist())


def pairs(context: SparkContext, batch: int, keys: int, touched: int, strings: bool) -> RDD[Any]:
    """A batch; number 0 is the initial state, all keys with their numbers."""

    def run(part: int, _: Any) -> Iterator[Any]:
        if not batch:
            numbers = values = np.arange(part, keys, 2)
        else:
            numbers, values = drawn(batch, part, keys, touched)
        return zip(named(numbers, strings), values.tolist(), strict=True)

    return context.parallelize(range(2), 2).mapPartitionsWithIndex(run)


def expected(batches: int, keys: int, touched: int) -> tuple[int, int, str]:
    """Number of keys, sum of all states, and a checksum of the data."""
    total, digest = keys * (keys - 1) // 2, hashlib.sha256()
    for batch in range(1, batches + 1):
        for part in range(2):
            numbers, values = drawn(batch, part, keys, touched)
            total += int(values.sum())
            digest.update(numbers.tobytes() + values.tobytes())
    return keys, total, digest.hexdigest()[:16]


class Turn:
    """One program over all batches, timed by its own listener."""

    def __init__(self, context: SparkContext, who: str, batches: list[RDD[Any]], define: Callable[[Any], Any], folder: str) -> None:
        sums: list[tuple[int, int]] = []
        self.sums = sums
        self.done: list[tuple[float, float]] = []
        self._wanted = len(batches)
        self._changed = threading.Condition()
        pace = {"pace": "asap"} if who == "millrace" else {}
        self.ssc = opened(who, context, INTERVAL_S, self._done, **pace)
        self.ssc.checkpoint(folder)
        states = define(self.ssc.queueStream(batches))
        states.mapPartitions(folded).foreachRDD(lambda rdd: sums.append(tuple(map(sum, zip(*rdd.collect(), strict=True)))))

    def run(self) -> list[tuple[float, float]]:
        """Return wall and CPU seconds of each batch but the first, which has the initial state to take in."""
        self.ssc.start()
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.done) >= self._wanted, LONGEST_S), "the batches were not done in time"
        self.ssc.stop(False)
        done = self.done[: self._wanted]
        return [(took_s, cpu_s - before[1]) for before, (took_s, cpu_s) in pairwise(done)]

    def _done(self, info: Any) -> None:
        with self._changed:
            self.done.append((info.processingDelay() / 1000, cpu_seconds()))
            self._changed.notify_all()


def folded(states: Any) -> list[tuple[int, int]]:
    """Number and sum of the states of a partition: what makes both engines read all of them."""
    count = total = 0
    for _, state in states:
        count, total = count + 1, total + state
    return [(count, total)]


def counted(key: Any, value: int, state: Any) -> None:
    state.update(state.getOption() + value)


@app.command()
def main(
    keys: Annotated[int, typer.Option(help="Keys that have a state.")] = 1_000_000,
    touched: Annotated[int, typer.Option(help="Keys with a new value, per batch.")] = 100_000,
    batches: Annotated[int, typer.Option(help="Timed batches per turn; one more comes before them.")] = 4,
    turns: Annotated[int, typer.Option(help="Turns of each.")] = 2,
    strings: Annotated[bool, typer.Option("--strings", help="Keys are strings.")] = False,
) -> None:
    """Compare."""
    spark = spark_session("state", master="local[2]", conf={"spark.ui.enabled": "false", "spark.driver.memory": "6g"})
    spark.sparkContext.setLogLevel("OFF")
    context = spark.sparkContext
    count, total, checksum = expected(batches + 1, keys, touched)
    print(f"{machine()}; {keys:,} {'string' if strings else 'int'} keys, {touched:,} touched per batch; seed {SEED}")
    print(f"checksum of the data {checksum}, sum of the final states {total}")
    streams = [pairs(context, batch, keys, touched, strings) for batch in range(1, batches + 2)]

    def update(stream: Any) -> Any:
        return stream.updateStateByKey(summed, initialRDD=pairs(context, 0, keys, touched, strings))

    def mapped(stream: Any) -> Any:
        spec = spark_ext.dstream.StateSpec.function(counted).initialState(pairs(context, 0, keys, touched, strings)).timeout(3600)
        return stream.mapWithState(spec).stateSnapshots()

    taken: dict[str, list[tuple[float, float]]] = {}
    for _ in range(turns):
        for name, who, define in (*((who, who, update) for who in ENGINES), ("mapWithState", "millrace", mapped)):
            with TemporaryDirectory() as folder:
                turn = Turn(context, who, streams, define, folder)
                taken[name] = taken.get(name, []) + turn.run()
                assert turn.sums[batches] == (count, total), f"{name}: {turn.sums[batches]}, expected {(count, total)}"
    print_ratios("updateStateByKey", taken, WANTED)
    spark.stop()


if __name__ == "__main__":
    app()
