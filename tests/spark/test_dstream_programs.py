"""Random programs: ours beside pyspark.streaming, and beside a model in lists."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from spark_ext.dstream import StreamingContext
from tests.dstream_programs import Program, expected, random_inputs, run

BATCHES = 8


def ours(spark: SparkSession, programs: list[Program], inputs: dict[str, list[list[Any]]], folder: Path) -> dict[int, list[Any]]:
    ssc = StreamingContext(spark.sparkContext, 1, pace="asap")
    ssc.checkpoint(str(folder / "ours"))

    def wait() -> None:
        engine = ssc._engine
        assert engine is not None
        if not engine.await_batches(BATCHES, 300):
            ssc.awaitTerminationOrTimeout(1)

    try:
        return run(ssc, programs, inputs, wait)
    finally:
        ssc.stop(False)


def sparks(spark: SparkSession, programs: list[Program], inputs: dict[str, list[list[Any]]], folder: Path) -> dict[int, list[Any]]:
    from pyspark.streaming import StreamingContext as SparkStreamingContext  # noqa: PLC0415 (only the slow tests need it)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        ssc = SparkStreamingContext(spark.sparkContext, 1)  # type: ignore[arg-type]
    ssc.checkpoint(str(folder / "spark"))
    seen: list[Any] = []

    def wait() -> None:
        for _ in range(600):
            if len(seen) >= BATCHES or ssc.awaitTerminationOrTimeout(0.2):  # type: ignore[arg-type]
                return

    def count_batches() -> None:
        ssc.queueStream([[n] for n in range(BATCHES)]).foreachRDD(lambda rdd: seen.append(rdd.count()))

    try:
        return run(Before(ssc, count_batches), programs, inputs, wait)
    finally:
        ssc.stop(False, False)


class Before:
    """A context that does one thing more right before it starts."""

    def __init__(self, ssc: Any, extra: Any) -> None:
        self._ssc, self._extra = ssc, extra

    def queueStream(self, rdds: Any) -> Any:  # noqa: N802 (Spark's)
        return self._ssc.queueStream(rdds)

    def start(self) -> None:
        self._extra()
        self._ssc.start()


def without_times(found: list[Any]) -> list[list[Any]]:
    return [elements for _, elements in found]


def check(programs: list[Program], found: dict[int, list[Any]], who: str) -> None:
    wrong = []
    for program in programs:
        wanted = expected(program, BATCHES)
        got = without_times(found[program.seed])[: len(wanted)]
        if got != wanted:
            wrong.append(f"{program}\n  {who}: {got}\n  model: {wanted}")
    assert not wrong, "\n".join(wrong)


def test_random_programs_give_what_the_model_gives(spark: SparkSession, tmp_path: Path) -> None:
    inputs = random_inputs(1, BATCHES)
    programs = [Program(seed, inputs, 1) for seed in range(10)]
    check(programs, ours(spark, programs, inputs, tmp_path), "millrace")


@pytest.mark.slow
@pytest.mark.parametrize("first", range(100, 400, 10))
def test_random_programs_give_what_pyspark_streaming_gives(spark: SparkSession, tmp_path: Path, first: int) -> None:
    inputs = random_inputs(first, BATCHES)
    programs = [Program(seed, inputs, 1) for seed in range(first, first + 10)]
    theirs = sparks(spark, programs, inputs, tmp_path)
    check(programs, theirs, "pyspark.streaming")
    mine = ours(spark, programs, inputs, tmp_path)
    check(programs, mine, "millrace")
