"""A batch without rows: what each operation gives, and that it costs no job."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from pyspark import RDD
from pyspark.sql import SparkSession

from spark_ext.dstream import StreamingContext
from spark_ext.dstream.ticks import ManualClock

pytestmark = pytest.mark.spark
BATCHES = 3


def noting(of: Callable[[Any], Any], to: list[Any]) -> Callable[[Any], None]:
    return lambda rdd: to.append(of(rdd))


def sum_of(elements: Iterable[Any]) -> list[Any]:
    return [sum(elements)]


def test_batches_without_rows_run_no_job_and_have_sparks_partitions(
    spark: SparkSession, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sc = spark.sparkContext
    clock = ManualClock(0)
    ssc = StreamingContext(sc, 1, clock=clock)
    (tmp_path / "files").mkdir()
    files, queue = ssc.textFileStream(str(tmp_path / "files")), ssc.queueStream([])
    pairs = queue.map(lambda word: (word, 1))
    streams = {
        "files": files,
        "files.map": files.map(lambda line: line.split(" ")),
        "queue": queue.filter(lambda word: word != ""),
        "reduceByKey": pairs.reduceByKey(operator.add, 3),
        "countByValue": queue.countByValue(),
        "groupByKey": pairs.groupByKey(5),
        "reduce": queue.reduce(max),
        "join": pairs.join(pairs, 3),
        "fullOuterJoin": pairs.fullOuterJoin(pairs, 4),
        "cogroup": pairs.cogroup(pairs, 4),
        "union": queue.union(queue),
        "cache": queue.cache(),
        "window": queue.window(2),
    }
    partitions: dict[str, list[int]] = {name: [] for name in streams}
    for name, stream in streams.items():
        stream.foreachRDD(noting(RDD.getNumPartitions, partitions[name]))
    pairs.reduceByKey(operator.add).pprint()
    before = len(sc.statusTracker().getJobIdsForGroup())
    ssc.start()
    try:
        for n in range(1, BATCHES + 1):
            clock.advance(1000)
            assert ssc.awaitBatches(n, 60)
        assert len(sc.statusTracker().getJobIdsForGroup()) == before
    finally:
        ssc.stop(False)
    wanted = {"files": 0, "files.map": 0, "queue": 1, "reduceByKey": 3, "countByValue": sc.defaultParallelism, "groupByKey": 5, "reduce": 1}
    wanted |= {"join": 3, "fullOuterJoin": 4, "cogroup": 4, "union": 2, "cache": 1}
    assert {name: found for name, found in partitions.items() if name != "window"} == {name: [n] * BATCHES for name, n in wanted.items()}
    assert capsys.readouterr().out.count("Time:") == BATCHES


def test_what_counts_and_what_sees_partitions_still_gives_something(spark: SparkSession, tmp_path: Path) -> None:
    clock = ManualClock(0)
    ssc = StreamingContext(spark.sparkContext, 1, clock=clock)
    (tmp_path / "files").mkdir()
    queue, files = ssc.queueStream([]), ssc.textFileStream(str(tmp_path / "files"))
    streams = {"count": queue.count(), "no partitions": files.count(), "glom": queue.glom(), "sum": queue.mapPartitions(sum_of)}
    found: dict[str, list[Any]] = {name: [] for name in streams}
    for name, stream in streams.items():
        stream.foreachRDD(noting(RDD.collect, found[name]))
    ssc.start()
    try:
        clock.advance(1000)
        assert ssc.awaitBatches(1, 60)
    finally:
        ssc.stop(False)
    # As pyspark.streaming: an exhausted queue has one empty partition, a folder without files none.
    assert found == {"count": [[0]], "no partitions": [[]], "glom": [[[]]], "sum": [[0]]}
