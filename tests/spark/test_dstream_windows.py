"""Windows in running programs: against the model in lists, beside pyspark.streaming, over a restart, and what they cost."""

from __future__ import annotations

import operator
import random
import warnings
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pyspark import Accumulator, SparkContext
from pyspark.sql import SparkSession

from spark_ext.dstream import StreamingContext
from spark_ext.dstream.errors import BatchError
from spark_ext.errors import CheckpointMismatchError
from tests.dstream_programs import Model, reduced_window, window

BATCHES = 12
Found = dict[str, list[tuple[int, list[Any]]]]


def rows(seed: int) -> list[list[tuple[str, int]]]:
    rng = random.Random(seed)  # noqa: S311 (seeded, no secret)
    return [[(rng.choice("vwxyz"), rng.randrange(1, 9)) for _ in range(rng.choice([0, 1, 4, 9]))] for _ in range(BATCHES)]


def put(a: int, b: int) -> int:
    return sum((a, b))


def take(a: int, b: int) -> int:
    return sum((a, -b))


def positive(pair: tuple[str, int]) -> bool:
    return pair[1] > 0


def collected(found: Found, name: str, stream: Any, *, of_partitions: bool = False) -> None:
    """Note for each batch its time in ms and its elements; without `of_partitions` in no order."""

    def note(time: Any, rdd: Any) -> None:
        elements = rdd.glom().collect() if of_partitions else sorted(rdd.collect(), key=repr)
        found.setdefault(name, []).append((round(time.timestamp() * 1000), elements))

    stream.foreachRDD(note)


def by_batch(noted: list[tuple[int, list[Any]]], zero_ms: int) -> dict[int, list[Any]]:
    return {(time_ms - zero_ms) // 1000: elements for time_ms, elements in noted}


def run(ssc: StreamingContext, batches: int) -> int:
    """Run so many batches; return the time before the first, ms."""
    ssc.start()
    try:
        assert ssc.awaitBatches(batches, 300)
        assert ssc._engine is not None
        return ssc._engine.zero_ms
    finally:
        ssc.stop(False)


def context(sc: SparkContext, folder: Path) -> StreamingContext:
    ssc = StreamingContext(sc, 1, pace="asap")
    ssc.checkpoint(str(folder))
    return ssc


def modelled(model: Model) -> dict[int, list[Any]]:
    return {n: sorted(found, key=repr) for n in range(1, BATCHES + 1) if (found := model.at(n)) is not None}


REDUCED: dict[str, tuple[Any, ...]] = {  # function, inverse, window, slide, filter
    "known, by the last result": (operator.add, operator.sub, 6, 1, None),
    "called, by the last result, filtered": (put, take, 10, 2, positive),
    "too short for the last result": (operator.add, operator.sub, 4, 1, None),
    "without inverse": (max, None, 5, 2, None),
}


def test_windows_and_slides_beside_the_model_in_lists(spark: SparkSession, tmp_path: Path) -> None:
    sc, given = spark.sparkContext, rows(1)
    ssc, found = context(sc, tmp_path), {}  # type: tuple[StreamingContext, Found]
    pairs = ssc.queueStream([sc.parallelize(batch, 3) for batch in given])
    calls = {name: sc.accumulator(0) for name in ("map", "put", "take")}
    once = pairs.map(counting(calls["map"], lambda pair: pair))
    for name, (function, inverse, length, slide, keep) in REDUCED.items():
        counted = (counting(calls["put"], put), counting(calls["take"], take)) if function is put else (function, inverse)
        collected(found, name, pairs.reduceByKeyAndWindow(*counted, length, slide, 3, keep))
    windows = once.window(3, 2)
    collected(found, "window", windows)
    remembered: dict[int, list[Any]] = {}
    ssc.remember(20)

    def recall(time: datetime, _: Any) -> None:  # the last call has them all
        remembered.update(enumerate(sorted(rdd.collect(), key=repr) for rdd in windows.slice(time - timedelta(seconds=8), time)))

    windows.foreachRDD(recall)
    collected(found, "with gaps", once.window(1, 3))
    collected(found, "rows", once)
    collected(found, "lists", pairs.groupByKeyAndWindow(5, 1).mapValues(list))
    zero_ms = run(ssc, BATCHES)

    source = Model(1, lambda n: given[n - 1])
    for name, (function, inverse, length, slide, keep) in REDUCED.items():
        assert by_batch(found[name], zero_ms) == modelled(reduced_window(source, function, inverse, length, slide, keep)), name
    assert by_batch(found["window"], zero_ms) == modelled(window(source, 3, 2))
    assert [*remembered.values()] == [*modelled(window(source, 3, 2)).values()][1:-1]
    assert by_batch(found["with gaps"], zero_ms) == modelled(window(source, 1, 3))
    assert by_batch(found["rows"], zero_ms) == modelled(source)
    lists = reduced_window(
        source.each(lambda there: [(key, [value]) for key, value in there]), operator.add, lambda a, b: a[len(b) :], 5, 1
    )
    for n, elements in by_batch(found["lists"], zero_ms).items():  # the order of values within a batch is the shuffle's
        assert {key: sorted(values) for key, values in elements} == {key: sorted(values) for key, values in lists.at(n) or []}

    assert calls["map"].value == sum(map(len, given))  # also of rows that two windows and an output use
    leaving, entering = changes(given, 10, 2)
    assert calls["take"].value == leaving
    assert entering <= calls["put"].value <= entering + sum(map(len, given))  # the rest puts a batch's own rows together


def counting(counter: Accumulator[int], function: Callable[..., Any]) -> Callable[..., Any]:
    def run(*arguments: Any) -> Any:
        counter.add(1)
        return function(*arguments)

    return run


def changes(given: list[list[tuple[str, int]]], length: int, slide: int) -> tuple[int, int]:
    """How often a key of the result before leaves and enters."""
    whole = reduced_window(Model(1, lambda n: given[n - 1]), put, take, length, slide, positive)
    leaving = entering = 0
    for n in range(2 * slide, BATCHES + 1, slide):
        before = {key for key, _ in whole.at(n - slide) or []}
        gone = {key for batch in given[max(0, n - slide - length) : max(0, n - length)] for key, _ in batch}
        leaving += len(before & gone)
        entering += len(before & {key for batch in given[n - slide : n] for key, _ in batch})
    return leaving, entering


def test_a_restart_and_a_batch_that_is_tried_again_change_nothing(spark: SparkSession, tmp_path: Path) -> None:
    sc, given, found = spark.sparkContext, rows(2), {}  # type: tuple[SparkContext, list[list[tuple[str, int]]], Found]
    fails = {3, 8}  # after windows have been kept

    def program(length: int = 6, partitions: int | None = None) -> StreamingContext:
        ssc = StreamingContext(sc, 1, pace="asap")
        pairs = ssc.queueStream([sc.parallelize(batch, 2) for batch in given])
        summed = pairs.reduceByKeyAndWindow(operator.add, operator.sub, length, 1, partitions)

        def fail(rdd: Any) -> None:
            batch = len(found.get("summed", [])) + 1
            if batch in fails:
                fails.remove(batch)
                raise ValueError(batch)

        pairs.foreachRDD(fail)
        collected(found, "summed", summed)
        collected(found, "partitions", summed.transform(lambda rdd: sc.parallelize([rdd.getNumPartitions()])))
        collected(found, "window", pairs.window(3))
        return ssc

    for n, left in enumerate((2, 7, 5)):  # the first two end by a failure; the last finds 7 of 12 done
        ssc = StreamingContext.getOrCreate(str(tmp_path), lambda n=n: program(partitions=3 if n == 0 else None))  # type: ignore[misc]
        ssc.start()
        try:
            if n < 2:
                with pytest.raises(BatchError, match="ValueError"):
                    ssc.awaitTermination(300)
            else:
                assert ssc.awaitBatches(left, 300)
            assert ssc._engine is not None
            zero_ms = ssc._engine.zero_ms
        finally:
            ssc.stop(False)
    source = Model(1, lambda n: given[n - 1])
    assert by_batch(found["summed"], zero_ms) == modelled(reduced_window(source, operator.add, operator.sub, 6, 1))
    assert by_batch(found["window"], zero_ms) == modelled(window(source, 3, 1))
    assert {elements[0] for _, elements in found["partitions"]} == {3}
    assert len(found["summed"]) == BATCHES

    other = StreamingContext.getOrCreate(str(tmp_path), lambda: program(length=7))
    with pytest.raises(CheckpointMismatchError, match=r"'reduceByKeyAndWindow-0' .* had window_ms 6000 and has 7000"):
        other.start()
    other.stop(False)


@pytest.mark.slow
def test_windows_beside_pyspark_streaming(spark: SparkSession, tmp_path: Path) -> None:
    from pyspark.streaming import StreamingContext as SparkStreamingContext  # noqa: PLC0415 (only this test needs it)

    sc, given = spark.sparkContext, rows(3)

    def program(ssc: Any, found: Found) -> None:
        pairs = ssc.queueStream([sc.parallelize(batch, 3) for batch in given])
        for name, (function, inverse, length, slide, keep) in REDUCED.items():
            collected(found, name, pairs.reduceByKeyAndWindow(function, inverse, length, slide, 3, keep))
        collected(found, "window", pairs.window(3, 2), of_partitions=True)
        collected(found, "placed", pairs.reduceByKey(put, 2).window(3).mapPartitions(sorted), of_partitions=True)
        collected(found, "lists", pairs.groupByKeyAndWindow(5, 1).mapValues(sorted))
        collected(found, "values", pairs.countByValueAndWindow(5, 1))
        collected(found, "count", pairs.countByWindow(6, 1))
        collected(found, "sum", pairs.map(lambda pair: pair[1]).reduceByWindow(put, take, 6, 2))

    mine: Found = {}
    ssc = context(sc, tmp_path / "mine")
    program(ssc, mine)
    run(ssc, BATCHES)
    theirs: Found = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        sparks = SparkStreamingContext(sc, 1)  # type: ignore[arg-type]
    sparks.checkpoint(str(tmp_path / "theirs"))
    program(sparks, theirs)
    seen: list[int] = []
    sparks.queueStream([[n] for n in range(BATCHES)]).foreachRDD(lambda rdd: seen.append(rdd.count()))
    sparks.start()
    try:
        for _ in range(1500):
            if len(seen) >= BATCHES or sparks.awaitTerminationOrTimeout(0.2):  # type: ignore[arg-type]
                break
    finally:
        sparks.stop(False, False)
    assert mine.keys() == theirs.keys()
    for name, noted in mine.items():
        batches = [elements for _, elements in noted]
        assert batches == [elements for _, elements in theirs[name]][: len(batches)], name
