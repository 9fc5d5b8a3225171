"""Windowed word count, the same program by `pyspark.streaming` and by ours: all functions are known, or none is.

The two take turns in one JVM; each turn is a program of its own with a fresh checkpoint. Batches are all there from the start, so one
follows the other without waiting. Batches count from when rows begin to leave the window.
"""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Callable, Iterator
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Final

import numpy as np
import numpy.typing as npt
import typer
from pyspark import RDD, SparkContext

from benchmarks.dstream.contexts import ENGINES, print_ratios
from benchmarks.dstream.files import GOALS
from benchmarks.dstream.state import INTERVAL_S, Turn
from benchmarks.measure import machine
from spark_ext.session import spark_session

SEED: Final = 1
PARTS: Final = 2
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def drawn(batch: int, part: int, words: int, keys: int) -> npt.NDArray[np.int64]:
    """Numbers of the words of one part of a batch, each as likely as the other."""
    return np.random.default_rng((SEED, batch, part)).integers(0, keys, words // PARTS)


def lines(context: SparkContext, batch: int, words: int, keys: int) -> RDD[str]:
    """A batch of words."""

    def run(part: int, there: Any) -> Iterator[str]:
        for _ in there:  # one number; PySpark gives up a worker that has not read all of its input
            yield from (f"word{number:06d}" for number in drawn(batch, part, words, keys).tolist())

    return context.parallelize(range(PARTS), PARTS).mapPartitionsWithIndex(run)


def known(words: Any, window_s: int) -> Any:
    """Every function is one that has a column form."""
    return words.map(lambda word: (word, 1)).reduceByKeyAndWindow(operator.add, operator.sub, window_s, INTERVAL_S)


def lambdas(words: Any, window_s: int) -> Any:
    """No function is known: a list and branches are beyond what is read."""
    return words.map(lambda word: (word, len([word]))).reduceByKeyAndWindow(
        lambda a, b: a + b if b else a, lambda a, b: a - b if b else a, window_s, INTERVAL_S
    )


PROGRAMS: Final[dict[str, Callable[[Any, int], Any]]] = {"known": known, "lambdas": lambdas}


def expected(batches: int, window: int, words: int, keys: int) -> tuple[list[tuple[int, int]], str]:
    """Number of keys that were ever there and sum of the counts, for each batch, and a checksum of the data."""
    ever, found, digest = np.zeros(keys, bool), [], hashlib.sha256()
    for batch in range(batches):
        for part in range(PARTS):
            numbers = drawn(batch, part, words, keys)
            ever[numbers] = True
            digest.update(numbers.tobytes())
        found.append((int(ever.sum()), min(batch + 1, window) * (words // PARTS * PARTS)))
    return found, digest.hexdigest()[:16]


@app.command()
def main(
    words: Annotated[int, typer.Option(help="Words per batch.")] = 100_000,
    keys: Annotated[int, typer.Option(help="Different words.")] = 100_000,
    window: Annotated[int, typer.Option(min=5, help="Intervals in a window; it slides by one. Below 5 nothing uses the inverse.")] = 30,
    batches: Annotated[int, typer.Option(help="Timed batches per turn, after the window is full.")] = 6,
    turns: Annotated[int, typer.Option(help="Turns of each.")] = 2,
) -> None:
    """Compare."""
    spark = spark_session("windows", master="local[2]", conf={"spark.ui.enabled": "false", "spark.driver.memory": "6g"})
    spark.sparkContext.setLogLevel("OFF")
    count = window + batches
    sums, checksum = expected(count, window, words, keys)
    print(f"{machine()}; {words:,} words per batch, {keys:,} different, window of {window}; seed {SEED}; checksum of the data {checksum}")
    streams = [lines(spark.sparkContext, batch, words, keys) for batch in range(count)]
    for form, program in PROGRAMS.items():
        taken: dict[str, list[tuple[float, float]]] = {who: [] for who in ENGINES}
        for _ in range(turns):
            for who in ENGINES:
                with TemporaryDirectory() as folder:
                    turn = Turn(spark.sparkContext, who, streams, lambda stream, program=program: program(stream, window), folder)  # type: ignore[misc]
                    taken[who] += turn.run()[-batches:]
                    assert turn.sums[:count] == sums, f"{who}: keys and sums {turn.sums[:count]}, expected {sums}"
        print_ratios(form, taken, GOALS[form])
    spark.stop()


if __name__ == "__main__":
    app()
