"""Each operation by key beside PySpark's own on the same data: equal elements, in the same partitions."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import pytest
from pyspark import RDD
from pyspark.resultiterable import ResultIterable
from pyspark.sql import SparkSession

from spark_ext.dstream.columns.cogroup import How, cogrouped, joined
from spark_ext.dstream.columns.combine import combined, counted, counted_by_value, grouped, reduced, reduced_to_one
from spark_ext.dstream.columns.exchange import placed
from spark_ext.dstream.columns.steps import FilterStep, FlatMapStep, FlatMapValuesStep, MapStep, MapValuesStep, PartitionStep, Step
from spark_ext.dstream.rows import Rows, of_blocks, of_rdd, union

pytestmark = pytest.mark.spark

COLUMNS = [(f"key {n % 7}", n % 5) for n in range(60)]
TUPLES = [((n % 3 - 1, "ab"[n % 2]), -n) for n in range(60)]
OBJECTS = [([1, True, 1.0, None, "a", (None, 2), 2**70][n % 7], n) for n in range(60)]
MIXED = [*COLUMNS, *OBJECTS]  # some blocks are columns, some are not
OTHERS = [("key 1", "x"), ("key 1", "y"), ("key 9", "z")]
DATA = {"columns": COLUMNS, "tuples": TUPLES, "mixed": MIXED, "nothing": []}


def plain(value: Any) -> Any:
    if isinstance(value, ResultIterable):
        return ("iterable", sorted(map(repr, value)))
    return tuple(map(plain, value)) if isinstance(value, tuple) else value


def by_partition(rdd: RDD[Any]) -> list[list[str]]:
    return [sorted(repr(plain(element)) for element in part) for part in rdd.glom().collect()]


def odd_sum(a: Any, b: Any) -> Any:
    return sum([a, b], type(a)()) if isinstance(a, tuple) else a + b  # its branch is not known


ByKey = tuple[Callable[[Rows], Rows], Callable[[RDD[Any]], RDD[Any]]]
BY_KEY: dict[str, ByKey] = {
    "known": (lambda rows: reduced(rows, operator.add, 3), lambda rdd: rdd.reduceByKey(operator.add, 3)),
    "unknown": (lambda rows: reduced(rows, odd_sum, 3), lambda rdd: rdd.reduceByKey(odd_sum, 3)),
    "greatest": (lambda rows: reduced(rows, max, 2), lambda rdd: rdd.reduceByKey(max, 2)),
    "combined": (
        lambda rows: combined(rows, lambda v: (v, 1), lambda c, v: (c[0] + v, c[1] + 1), lambda c, d: (c[0] + d[0], c[1] + d[1]), 3),
        lambda rdd: rdd.combineByKey(lambda v: (v, 1), lambda c, v: (c[0] + v, c[1] + 1), lambda c, d: (c[0] + d[0], c[1] + d[1]), 3),
    ),
    "grouped": (lambda rows: grouped(rows, 3), lambda rdd: rdd.groupByKey(3)),
    "placed": (lambda rows: of_blocks(placed(rows, 5)), lambda rdd: rdd.partitionBy(5)),
    "twice": (
        lambda rows: reduced(reduced(rows, operator.add, 3).then(MapValuesStep(str), keeps_places=True), odd_sum, 3),
        lambda rdd: rdd.reduceByKey(operator.add, 3).mapValues(str).reduceByKey(odd_sum, 3),
    ),
    "counted": (lambda rows: counted_by_value(rows, 2), lambda rdd: rdd.map(lambda e: (e, 1)).reduceByKey(operator.add, 2)),
}


@pytest.mark.parametrize("kind", BY_KEY)
def test_by_key(spark: SparkSession, kind: str) -> None:
    ours, theirs = BY_KEY[kind]
    for name, data in DATA.items():
        rdd = spark.sparkContext.parallelize(data, 2)
        expected = by_partition(theirs(rdd))
        for rows in (of_rdd(rdd), of_blocks(of_rdd(rdd).blocks())) if name == "mixed" else (of_rdd(rdd),):
            assert by_partition(ours(rows).rdd()) == expected, name


HOWS: dict[How, Callable[[RDD[Any], RDD[Any]], RDD[Any]]] = {
    "inner": lambda a, b: a.join(b, 3),
    "left": lambda a, b: a.leftOuterJoin(b, 3),
    "right": lambda a, b: a.rightOuterJoin(b, 3),
    "full": lambda a, b: a.fullOuterJoin(b, 3),
}


@pytest.mark.parametrize("how", HOWS)
def test_joins(spark: SparkSession, how: How) -> None:
    context = spark.sparkContext
    for left, right in [(COLUMNS, OTHERS), (OBJECTS, MIXED[::9]), (COLUMNS, []), ([], TUPLES[::7])]:
        a, b = context.parallelize(left, 2), context.parallelize(right, 2)
        assert by_partition(joined(of_rdd(a), of_rdd(b), 3, how).rdd()) == by_partition(HOWS[how](a, b))


def test_sides_that_are_in_their_place_stay_there(spark: SparkSession) -> None:
    a, b = spark.sparkContext.parallelize(COLUMNS, 2), spark.sparkContext.parallelize(OTHERS, 2)
    in_place = reduced(of_rdd(a), operator.add, 3)
    made = joined(in_place, of_rdd(b), 3, "inner").rdd()
    assert by_partition(made) == by_partition(a.reduceByKey(operator.add, 3).join(b, 3))
    both = joined(in_place, reduced(of_rdd(b), operator.add, 3), 3, "full").rdd()
    assert by_partition(both) == by_partition(a.reduceByKey(operator.add, 3).fullOuterJoin(b.reduceByKey(operator.add, 3), 3))
    assert made.toDebugString().count(b"ShuffledRDD") == 2  # none on top of the two sides' own
    together = union(spark.sparkContext, [in_place, of_blocks(placed(of_rdd(b), 3))])
    assert by_partition(together.rdd()) == by_partition(a.reduceByKey(operator.add, 3).union(b.partitionBy(3)))


def test_cogroup(spark: SparkSession) -> None:
    a, b = spark.sparkContext.parallelize(COLUMNS, 2), spark.sparkContext.parallelize([*OTHERS, (None, 1)], 2)
    assert by_partition(cogrouped(of_rdd(a), of_rdd(b), 3).rdd()) == by_partition(a.cogroup(b, 3))


def test_a_batch_as_a_whole(spark: SparkSession) -> None:
    context = spark.sparkContext
    for data in (["a", "b"], [1, 2.5, True], [2**62] * 4, []):
        rdd = context.parallelize(data, 3)
        assert by_partition(counted(of_rdd(rdd)).rdd()) == [[repr(len(data))]]
        for function in (operator.add, odd_sum):
            if data != [1, 2.5, True] or function is odd_sum:
                expected = rdd.map(lambda e: (None, e)).reduceByKey(function, 1).map(lambda pair: pair[1])
                assert by_partition(reduced_to_one(of_rdd(rdd), function).rdd()) == by_partition(expected)
    assert by_partition(counted(of_rdd(context.emptyRDD())).rdd()) == [[]]


STEPS: list[tuple[Step, Callable[[RDD[Any]], RDD[Any]]]] = [
    (FlatMapStep(lambda line: line.split(" ")), lambda rdd: rdd.flatMap(lambda line: line.split(" "))),
    (FilterStep(lambda word: word != "b"), lambda rdd: rdd.filter(lambda word: word != "b")),
    (MapStep(lambda word: (word, 1)), lambda rdd: rdd.map(lambda word: (word, 1))),
    (MapValuesStep(lambda n: n + 1), lambda rdd: rdd.mapValues(lambda n: n + 1)),
    (MapStep(lambda pair: (pair[0] + "!", {"n": pair[1]})), lambda rdd: rdd.map(lambda pair: (pair[0] + "!", {"n": pair[1]}))),
    (FlatMapValuesStep(lambda d: [d, d]), lambda rdd: rdd.flatMapValues(lambda d: [d, d])),
    (MapValuesStep(lambda d: d["n"]), lambda rdd: rdd.mapValues(lambda d: d["n"])),
    (PartitionStep(lambda index, pairs: ((index, key, n) for key, n in pairs)),
     lambda rdd: rdd.mapPartitionsWithIndex(lambda index, pairs: ((index, key, n) for key, n in pairs))),
    (MapStep(lambda three: three[2]), lambda rdd: rdd.map(lambda three: three[2])),
]  # fmt: skip


def test_steps_known_and_unknown_one_after_the_other(spark: SparkSession) -> None:
    rdd = spark.sparkContext.parallelize(["a b  c", "", "é b", "x"], 2)
    for base in (of_rdd(rdd), of_blocks(of_rdd(rdd).blocks())):
        rows, theirs = base, rdd
        for step, operation in STEPS:
            rows, theirs = rows.then(step), operation(theirs)
            expected = theirs.glom().collect()
            assert rows.rdd().glom().collect() == expected
        assert of_blocks(rows.blocks()).rdd().glom().collect() == expected


def test_an_error_of_a_known_function_is_the_users(spark: SparkSession) -> None:
    rows = of_rdd(spark.sparkContext.parallelize([1, 0], 1)).then(MapStep(lambda n: 1 // n)).then(MapStep(lambda n: (n, 1)))
    with pytest.raises(Exception, match="ZeroDivisionError"):
        reduced(rows, operator.add, 1).rdd().collect()
