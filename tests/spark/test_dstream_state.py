"""updateStateByKey beside pyspark.streaming; state by key through failures, retries and restarts; mapWithState in time."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pyspark import SparkContext
from pyspark.sql import SparkSession

from spark_ext.dstream import State, StateSpec, StreamingContext
from spark_ext.dstream.errors import BatchError, StreamArgumentError
from spark_ext.errors import CheckpointMismatchError, StateError

QUEUE = [
    [("a", 1), ("b", 2), ("a", 3)],
    [("b", 4), (None, 1), (2, 1), (True, 5)],
    [],
    [("c", 7), ("a", 9), (1.0, 1), (("t", 1), 1)],
]
TIMEOUT_S = 120


@pytest.fixture
def sc(spark: SparkSession) -> SparkContext:
    return spark.sparkContext


def total(new: list[int], old: Any) -> Any:
    """Sum; what had nothing new three times is removed."""
    sum_, idle = old or (0, 0)
    return None if not new and idle == 2 else (sum_ + sum(new), 0 if new else idle + 1)


def told(pairs: Any) -> list[str]:
    return sorted(map(repr, pairs))


def define(ssc: Any, sc: SparkContext, seen: list[Any]) -> None:
    """Two programs: a given number of partitions; a parent that has no RDD in the first batch and in the empty one."""
    pairs = ssc.queueStream([sc.parallelize(batch, 2) for batch in QUEUE])
    initial = sc.parallelize([("z", (9, 0)), ("a", (100, 0)), ("z", (8, 0)), ("n", None)], 2)
    numbered = pairs.updateStateByKey(total, 3, initial)
    numbered.foreachRDD(lambda rdd: seen.append(("numbered", [told(one) for one in rdd.glom().collect()])))
    halting = pairs.transform(lambda rdd: None if rdd.count() in {0, 3} else rdd)
    halting.updateStateByKey(total, initialRDD=[("z", (9, 0))]).foreachRDD(lambda rdd: seen.append(("halting", told(rdd.collect()))))


def run(ssc: StreamingContext, batches: int) -> None:
    ssc.start()
    try:
        assert ssc._engine is not None
        if not ssc._engine.await_batches(batches, TIMEOUT_S):
            ssc.awaitTermination(1)
    finally:
        ssc.stop(False)


def test_each_batch_is_that_of_pyspark_streaming(sc: SparkContext, tmp_path: Path) -> None:
    from pyspark.streaming import StreamingContext as SparkStreamingContext  # noqa: PLC0415 (a deprecated import)

    theirs: list[Any] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        other = SparkStreamingContext(sc, 1)  # type: ignore[arg-type]
    other.checkpoint(str(tmp_path / "spark"))
    define(other, sc, theirs)
    other.start()
    wanted = 2 * len(QUEUE) - 1
    for _ in range(TIMEOUT_S):
        if len(theirs) >= wanted or other.awaitTerminationOrTimeout(1):  # type: ignore[arg-type]
            break
    other.stop(False, False)

    ours: list[Any] = []
    ssc = StreamingContext(sc, 1, pace="asap")
    ssc.checkpoint(str(tmp_path / "ours"))
    define(ssc, sc, ours)
    run(ssc, len(QUEUE))
    assert len(ours) >= wanted
    for program, batches in (("numbered", len(QUEUE)), ("halting", len(QUEUE) - 1)):
        seen = [[got for name, got in told if name == program][:batches] for told in (ours, theirs)]
        assert seen[0] == seen[1]
        assert len(seen[0]) == batches


def collected(new: list[Any], old: list[Any] | None) -> list[Any]:
    found = [] if old is None else old
    found.extend(new)
    return found


def counted(time: Any, key: Any, value: Any, state: State[list[Any]]) -> Any:
    if not state.exists():
        state.update([])
    state.get().append(value)
    return key, len(state.get())


class Once:
    """Fails while a file is there, in a worker or on the driver."""

    def __init__(self, flag: Path) -> None:
        self.flag = str(flag)

    def check(self) -> None:
        if Path(self.flag).exists():
            msg = "not yet"
            raise ValueError(msg)


@pytest.mark.parametrize("where", ["in the function", "in an output"])
def test_a_failed_batch_is_tried_again_with_the_state_before_it(sc: SparkContext, tmp_path: Path, where: str) -> None:
    queue = [[("a", 1)], [("a", 2), ("b", 1)], [("a", 3), ("stop", 1)], [("b", 2)]]
    states: list[Any] = []
    counts: list[Any] = []
    snapshots: list[Any] = []
    flag = tmp_path / "flag"
    flag.touch()
    once = Once(flag)

    def update(new: list[Any], old: Any) -> Any:
        if where == "in the function" and len(old or ()) == 2 and new == [3]:
            once.check()
        return collected(new, old)

    def output(rdd: Any) -> None:
        found = told(rdd.collect())
        if where == "in an output" and len(states) == 2:
            once.check()
        states.append(found)

    def program() -> StreamingContext:
        ssc = StreamingContext(sc, 1, pace="asap")
        pairs = ssc.queueStream([sc.parallelize(batch, 2) for batch in queue])
        mapped = pairs.mapWithState(StateSpec.function(counted).initialState([("i", [0])]))
        pairs.updateStateByKey(update, initialRDD=[("i", [0])]).foreachRDD(output)
        mapped.foreachRDD(lambda rdd: counts.append(told(rdd.collect())))
        mapped.stateSnapshots().foreachRDD(lambda rdd: snapshots.append(told(rdd.collect())))
        return ssc

    with pytest.raises(BatchError, match="ValueError: not yet") as failed:
        run(StreamingContext.getOrCreate(str(tmp_path / "checkpoint"), program), 4)
    assert failed.value.batch == 2
    assert len(states) == 2
    flag.unlink()
    run(StreamingContext.getOrCreate(str(tmp_path / "checkpoint"), program), 2)
    whole = [
        ["('a', [1])", "('i', [0])"],
        ["('a', [1, 2])", "('b', [1])", "('i', [0])"],
        ["('a', [1, 2, 3])", "('b', [1])", "('i', [0])", "('stop', [1])"],
        ["('a', [1, 2, 3])", "('b', [1, 2])", "('i', [0])", "('stop', [1])"],
    ]
    assert states[:4] == whole
    assert snapshots[:4] == whole
    assert counts[:4] == [["('a', 1)"], ["('a', 2)", "('b', 1)"], ["('a', 3)", "('stop', 1)"], ["('b', 2)"]]


def test_the_number_of_partitions_is_the_checkpoints_unless_given(sc: SparkContext, tmp_path: Path) -> None:
    parts: list[int] = []

    def program(partitions: int | None, queue: Any = ((1, 1),)) -> Callable[[], StreamingContext]:
        def define() -> StreamingContext:
            ssc = StreamingContext(sc, 1, pace="asap")
            stream = ssc.queueStream([sc.parallelize([pair]) for pair in queue])
            spec = StateSpec.function(counted)
            mapped = stream.mapWithState(spec.numPartitions(partitions) if partitions else spec)
            states = stream.updateStateByKey(collected, partitions).setName("totals")
            states.foreachRDD(lambda rdd: parts.extend((rdd.getNumPartitions(), rdd.count())))
            mapped.stateSnapshots().foreachRDD(lambda rdd: parts.extend((rdd.getNumPartitions(), rdd.count())))
            return ssc

        return define

    path = str(tmp_path / "checkpoint")
    run(StreamingContext.getOrCreate(path, program(3)), 1)
    assert parts[:4] == [3, 1, 3, 1]
    parts.clear()
    run(StreamingContext.getOrCreate(path, program(None, ((1, 1), (2, 1)))), 1)
    assert parts[:4] == [3, 2, 3, 2]
    with pytest.raises(CheckpointMismatchError, match=r"'totals' .* had partitions 3 and has 4"):
        StreamingContext.getOrCreate(path, program(4)).start()


def last_words(key: Any, value: Any, state: State[int]) -> Any:
    if state.isTimingOut():
        return "gone", key, state.get()
    if value == "remove":
        state.remove()
        return None
    state.update((state.getOption() or 0) + 1)
    return key, value, state.get()


def test_mapping_with_initial_state_removal_and_timeout(sc: SparkContext, tmp_path: Path) -> None:
    queue: list[Any] = [[("a", 1), ("b", 2), ("a", 3)], [("b", "remove"), ((1, "x"), 0)], [("b", 4)], [], []]
    out: list[Any] = []
    held: list[Any] = []
    ssc = StreamingContext(sc, 1, pace="asap")
    ssc.checkpoint(str(tmp_path / "checkpoint"))
    initial = sc.parallelize([("z", 5), ("a", 7), ("z", 6)], 2)
    pairs = ssc.queueStream([sc.parallelize(batch, 2) for batch in queue])
    mapped = pairs.mapWithState(StateSpec.function(last_words).initialState(initial).numPartitions(3).timeout(1.5))
    mapped.foreachRDD(lambda rdd: out.append(told(rdd.collect())))
    mapped.stateSnapshots().foreachRDD(lambda rdd: held.append(told(rdd.collect())))
    run(ssc, len(queue))
    assert out[: len(queue)] == [
        ["('a', 1, 8)", "('a', 3, 9)", "('b', 2, 1)"],
        ["((1, 'x'), 0, 1)"],
        ["('b', 4, 1)", "('gone', 'a', 9)", "('gone', 'z', 6)"],
        ["('gone', (1, 'x'), 1)"],
        ["('gone', 'b', 1)"],
    ]
    assert held[: len(queue)] == [
        ["('a', 9)", "('b', 1)", "('z', 6)"],
        ["('a', 9)", "('z', 6)", "((1, 'x'), 1)"],
        ["('b', 1)", "((1, 'x'), 1)"],
        ["('b', 1)"],
        [],
    ]


def test_what_cannot_run_is_refused_with_sparks_words(sc: SparkContext, tmp_path: Path) -> None:
    for stream in (
        lambda pairs: pairs.updateStateByKey(total),
        lambda pairs: pairs.mapWithState(StateSpec.function(last_words)),
    ):
        ssc = StreamingContext(sc, 1, pace="asap")
        stream(ssc.queueStream([[(1, 1)]])).pprint()
        with pytest.raises(
            StreamArgumentError, match=r"The checkpoint directory has not been set. Please set it by StreamingContext.checkp"
        ):
            ssc.start()
    ssc = StreamingContext(sc, 1)
    pairs = ssc.queueStream([[(1, 1)]])
    for into_none in (
        lambda: pairs.updateStateByKey(total, 0),
        lambda: pairs.reduceByKey(max, 0),
        lambda: pairs.join(pairs, 0),
        lambda: pairs.repartition(0),
    ):
        with pytest.raises(StreamArgumentError, match="expected one partition or more, got 0"):
            into_none()
    with pytest.raises(StreamArgumentError, match="expected a StateSpec"):
        ssc.queueStream([[(1, 1)]]).mapWithState(last_words)  # type: ignore[arg-type]


def test_an_rdd_of_state_that_is_gone_says_so(sc: SparkContext, tmp_path: Path) -> None:
    kept: list[Any] = []
    ssc = StreamingContext(sc, 1, pace="asap")
    ssc.checkpoint(str(tmp_path / "checkpoint"))
    ssc.queueStream([sc.parallelize([(n, n)]) for n in range(5)]).updateStateByKey(total).foreachRDD(lambda rdd: kept.append(rdd))  # noqa: PLW0108 (as Spark: no built-in)
    run(ssc, 5)
    with pytest.raises(Exception, match=StateError.__name__):
        kept[0].collect()
