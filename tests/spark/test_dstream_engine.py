"""The running program: batch times, stops, failures, what is remembered. Clocks stand still unless a test lets them go on."""

from __future__ import annotations

import logging
import os
import signal
import stat
import threading
import warnings
from collections.abc import Iterator
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from pyspark import SparkContext, StorageLevel
from pyspark.sql import SparkSession

from spark_ext.dstream import StreamingContext, StreamingListener
from spark_ext.dstream.errors import BatchError, StreamArgumentError, StreamStateError
from spark_ext.dstream.ticks import ManualClock
from tests.dstream_hand import by_hand

pytestmark = pytest.mark.spark

START_MS = 1_700_000_000_700
ZERO_MS = 1_700_000_000_000
WAIT_S = 200  # a machine may be slow; nobody waits longer than it takes


@pytest.fixture
def sc(spark: SparkSession) -> Iterator[SparkContext]:
    yield spark.sparkContext
    active = StreamingContext.getActive()
    if active is not None:
        active.stop(False)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(START_MS)


def seconds(time: datetime) -> float:
    return time.timestamp() - ZERO_MS / 1000


def failure(ssc: StreamingContext) -> BatchError:
    with pytest.raises(BatchError) as caught:
        ssc.awaitTermination(WAIT_S)
    return caught.value


# Times --------------------------------------------------------------------------------------------------------------------


def test_batches_have_the_multiples_of_the_interval_when_the_clock_is_there_with_or_without_rows(
    sc: SparkContext, clock: ManualClock
) -> None:
    ssc = StreamingContext(sc, 1, clock=clock)
    hand, stream = by_hand(ssc)
    seen: list[Any] = []
    stream.foreachRDD(lambda time, rdd: seen.append((seconds(time), rdd.collect())))
    ssc.start()
    hand.given.append("a")
    clock.advance(299)
    assert seen == []
    clock.advance(1)
    assert ssc.awaitBatches(1, WAIT_S)
    clock.advance(1000)
    assert ssc.awaitBatches(2, WAIT_S)
    hand.given.append("b")
    clock.advance(3500)  # it lags: each interval that it missed is run
    assert ssc.awaitBatches(5, WAIT_S)
    ssc.stop(False)
    assert seen == [(1, ["a"]), (2, []), (3, ["b"]), (4, []), (5, [])]
    assert [call for call in hand.calls if call[0] == "finished"] == [("finished", [n, m]) for n, m in [(0, 1), (1, 1), (1, 2), (2, 2)]] + (
        [("finished", [2, 2])] if hand.calls.count(("finished", [2, 2])) > 1 else []
    )


def test_as_soon_as_there_is_something_with_the_times_of_the_intervals(sc: SparkContext, clock: ManualClock) -> None:
    ssc = StreamingContext(sc, 0.5, pace="asap", clock=clock)
    hand, stream = by_hand(ssc)
    seen: list[Any] = []
    stream.foreachRDD(lambda time, rdd: seen.append((seconds(time), rdd.collect())))
    hand.given.append("a")
    ssc.start()
    assert ssc.awaitBatches(1, WAIT_S)
    hand.given.append("b")
    assert ssc.awaitBatches(2, WAIT_S)
    clock.advance(1300)  # nothing has come, but the third one's time
    assert ssc.awaitBatches(3, WAIT_S)
    ssc.stop(False)
    assert seen == [(1.0, ["a"]), (1.5, ["b"]), (2.0, [])]


# Stops --------------------------------------------------------------------------------------------------------------------


def test_a_graceful_stop_runs_what_has_been_received_without_waiting_for_its_time(sc: SparkContext, clock: ManualClock) -> None:
    ssc = StreamingContext(sc, 1, clock=clock)
    hand, stream = by_hand(ssc)
    seen: list[Any] = []
    stream.foreachRDD(lambda time, rdd: seen.append((seconds(time), rdd.collect())))
    ssc.start()
    clock.advance(300)
    assert ssc.awaitBatches(1, WAIT_S)
    hand.given += ["a", "b"]
    ssc.stop(False, stopGraceFully=True)
    assert seen == [(1, []), (2, ["a", "b"])]
    assert hand.calls[0] == ("start", None)
    assert [call for call in hand.calls if call[0] == "stop"] == [("stop", True)]
    assert ssc.awaitTerminationOrTimeout(0) is True
    assert StreamingContext.getActive() is None


def test_a_stop_from_a_function_of_the_program_comes_after_its_batch(sc: SparkContext, clock: ManualClock) -> None:
    ssc = StreamingContext(sc, 1, clock=clock)
    hand, stream = by_hand(ssc)
    seen: list[Any] = []

    def end(rdd: Any) -> None:
        with pytest.raises(StreamStateError, match="it would wait for itself"):
            ssc.awaitTermination()
        ssc.stop(False)
        seen.append("after the call")

    stream.foreachRDD(end)
    stream.foreachRDD(lambda rdd: seen.append("second output"))
    ssc.start()
    clock.advance(5000)
    assert ssc.awaitTerminationOrTimeout(WAIT_S) is True
    assert seen == ["after the call", "second output"]
    ssc.stop(False)
    assert hand.calls.count(("stop", False)) == 1


def test_a_stop_from_a_listener_and_from_several_threads(sc: SparkContext, clock: ManualClock) -> None:
    ssc = StreamingContext(sc, 1, clock=clock)

    class Ends(StreamingListener):
        def onStreamingStarted(self, streamingStarted: Any) -> None:  # noqa: N802, N803 (Spark's)
            ssc.stop(False)

    by_hand(ssc)[1].pprint()
    ssc.addStreamingListener(Ends())
    ssc.start()
    threads = [threading.Thread(target=ssc.stop, args=(False,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
        assert not thread.is_alive()
    assert ssc.awaitTerminationOrTimeout(1) is True


def test_a_stop_with_the_wall_clock_in_the_middle_of_an_interval_does_not_wait_for_it(sc: SparkContext) -> None:
    ssc = StreamingContext(sc, 3600)
    by_hand(ssc)[1].pprint()
    ssc.start()
    assert ssc.awaitTerminationOrTimeout(0.1) is False
    assert ssc.awaitTerminationOrTimeout(0) is False
    assert StreamingContext.getActive() is ssc
    ssc.stop(False)
    assert ssc.awaitTerminationOrTimeout(WAIT_S) is True


def test_an_interrupt_reaches_who_awaits_the_end(sc: SparkContext) -> None:
    ssc = StreamingContext(sc, 3600)
    by_hand(ssc)[1].pprint()
    ssc.start()
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        ssc.awaitTermination()
    ssc.stop(False)
    assert ssc.awaitTerminationOrTimeout(WAIT_S) is True


# What is refused ----------------------------------------------------------------------------------------------------------


def test_mistakes_are_refused_in_sparks_words(sc: SparkContext, clock: ManualClock, caplog: pytest.LogCaptureFixture) -> None:
    for duration in (None, 0, -1, 0.0001, float("nan"), "1", True):
        with pytest.raises(StreamArgumentError, match="expected batchDuration in seconds"):
            StreamingContext(sc, duration)  # type: ignore[arg-type]
    ssc = StreamingContext(sc, 1, clock=clock)
    _, stream = by_hand(ssc)
    with pytest.raises(StreamArgumentError, match="requirement failed: No output operations registered, so nothing to execute"):
        ssc.start()
    with pytest.raises(StreamStateError, match="has not been initialized"):
        stream.slice(0, 1)
    with pytest.raises(StreamStateError, match="has not been started"):
        ssc.awaitTermination(1)
    stream.pprint()
    ssc.start()
    with caplog.at_level(logging.WARNING):
        ssc.start()
    assert "StreamingContext has already been started" in caplog.text
    other = StreamingContext(sc, 1)
    by_hand(other)[1].pprint()
    assert StreamingContext.getActiveOrCreate("nowhere", lambda: other) is ssc
    with pytest.raises(TypeError, match="setupFunc should be callable"):
        StreamingContext.getActiveOrCreate(None, None)  # type: ignore[arg-type]
    with pytest.raises(
        StreamStateError,
        match=r"Only one StreamingContext may be started in this JVM\. Currently running StreamingContext was started at "
        r"test_dstream_engine\.py:\d+",
    ):
        other.start()
    adding = "Adding new inputs, transformations, and output operations after {} a context is not supported"
    for words in ("starting", "stopping"):
        for change in (stream.pprint, lambda: stream.map(str), lambda: ssc.queueStream([[1]]), lambda: stream.setName("x")):
            with pytest.raises(StreamStateError, match=adding.format(words)):
                change()
        with pytest.raises(StreamStateError, match="Cannot change storage level of a DStream after streaming context has started"):
            stream.cache()
        ssc.stop(False)
    with pytest.raises(StreamStateError, match="StreamingContext has already been stopped"):
        ssc.start()
    other.stop(False)  # never started
    assert other.awaitTerminationOrTimeout(1) is True
    with pytest.raises(StreamStateError, match="StreamingContext has already been stopped"):
        other.start()


def test_an_input_that_cannot_start_leaves_nothing_behind(sc: SparkContext, clock: ManualClock) -> None:
    ssc = StreamingContext(sc, 1, clock=clock)
    hand, stream = by_hand(ssc)
    stream.pprint()
    hand.fails_in = "start"
    with pytest.raises(OSError, match="the hand fails in start"):
        ssc.start()
    assert StreamingContext.getActive() is None
    hand.fails_in = ""
    ssc.start()  # the context is as it was
    clock.advance(300)
    assert ssc.awaitBatches(1, WAIT_S)


def test_a_spark_streaming_context_may_run_beside(sc: SparkContext, clock: ManualClock) -> None:
    from pyspark.streaming import StreamingContext as Theirs  # noqa: PLC0415 (only here)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        theirs = Theirs(sc, 3600)
    theirs.queueStream([[1]]).pprint()
    theirs.start()
    try:
        ssc = StreamingContext(sc, 1, clock=clock)
        by_hand(ssc)[1].pprint()
        ssc.start()
        clock.advance(300)
        assert ssc.awaitBatches(1, WAIT_S)
        ssc.stop(False)
    finally:
        theirs.stop(False)


# Failures -----------------------------------------------------------------------------------------------------------------


def fails_in_a_worker(x: Any) -> Any:
    return 1 // x


def test_a_function_that_raises_in_batch_7_is_named_and_retried_with_the_same_input(sc: SparkContext, tmp_path: Path) -> None:
    seen: list[Any] = []
    is_mended = False

    def program() -> StreamingContext:
        ssc = StreamingContext(sc, 1, pace="asap")
        stream = ssc.queueStream([[n, n + 1] for n in range(10, 20)])

        def see(time: datetime, rdd: Any) -> None:
            rows = rdd.collect()
            seen.append((time, rows))
            if rows[0] == 17 and not is_mended:
                raise ValueError(f"no {rows[0]} today")

        stream.foreachRDD(see)
        return ssc

    ssc = StreamingContext.getOrCreate(str(tmp_path), program)
    ssc.start()
    error = failure(ssc)
    lines = str(error).splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert __file__ in lines[1]
    assert lines[1].endswith("in see")
    assert 'raise ValueError(f"no {rows[0]} today")' in lines[2]
    assert "ValueError: no 17 today" in lines
    assert lines[-1].startswith(f"cannot finish batch '7 of {seen[-1][0]}")
    assert "expected foreachRDD at test_dstream_engine.py:" in lines[-1]
    assert "the batch is retried with the same input" in lines[-1]
    assert (error.batch, error.time_ms) == (7, int(seen[-1][0].timestamp() * 1000))
    assert isinstance(error.__cause__, ValueError)
    assert failure(ssc) is error, "it is raised again, also after the stop"
    ssc.stop(False)
    assert failure(ssc) is error
    assert [rows for _, rows in seen] == [[n, n + 1] for n in range(10, 18)]
    is_mended = True
    again = StreamingContext.getOrCreate(str(tmp_path), program)
    again.start()
    assert again.awaitBatches(3, WAIT_S)
    again.stop(False)
    assert seen[8] == seen[7]
    assert [rows for _, rows in seen[8:]] == [[n, n + 1] for n in range(17, 20)]
    assert [round((b[0] - a[0]).total_seconds(), 3) for a, b in pairwise(seen)] == [1.0] * 7 + [0.0, 1.0, 1.0]


def test_the_workers_traceback_comes_first_and_a_context_can_be_made_anew(
    sc: SparkContext, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    ssc = StreamingContext(sc, 1, clock=clock)
    hand, stream = by_hand(ssc)
    hand.given.append(0)
    stream.map(fails_in_a_worker).pprint()
    ssc.start()
    clock.advance(300)
    error = failure(ssc)
    lines = str(error).splitlines()
    assert __file__ in lines[1]
    assert lines[1].endswith("in fails_in_a_worker")
    assert lines[2].strip() == "return 1 // x"
    assert "ZeroDivisionError: integer division or modulo by zero" in error.traceback
    assert "org.apache" not in str(error)
    assert "pyspark" not in str(error)
    assert error.where.startswith("pprint at test_dstream_engine.py:")
    assert ("stop", False) in hand.calls, "nothing is received any more"
    assert "BatchError" not in caplog.text, "it is raised, not logged as well"
    with pytest.raises(BatchError):
        ssc.awaitBatches(1, WAIT_S)
    ssc.stop(False, stopGraceFully=True)
    after = StreamingContext(sc, 1, clock=clock)
    by_hand(after)[1].pprint()
    after.start()
    clock.advance(1000)
    assert after.awaitBatches(1, WAIT_S)


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
def test_a_function_that_wants_to_end_the_program_fails_its_batch(sc: SparkContext, clock: ManualClock, error: BaseException) -> None:
    ssc = StreamingContext(sc, 1, clock=clock)

    def end(rdd: Any) -> None:
        raise error

    by_hand(ssc)[1].foreachRDD(end)
    ssc.start()
    clock.advance(300)
    found = failure(ssc)
    assert found.got.startswith(type(error).__name__)
    assert found.__cause__ is error


@pytest.mark.parametrize(("where", "pace"), [("plan", "interval"), ("has_news", "asap")])
def test_an_input_that_fails_fails_the_batch(sc: SparkContext, clock: ManualClock, where: str, pace: Any) -> None:
    ssc = StreamingContext(sc, 1, pace=pace, clock=clock)
    hand, stream = by_hand(ssc)
    stream.pprint()
    ssc.start()
    hand.fails_in = "plan"
    clock.advance(300)
    error = failure(ssc)
    assert error.where.startswith("hand at ")
    assert "OSError: the hand fails in plan" in error.traceback
    assert error.time_ms == ZERO_MS + 1000


def test_a_failed_batch_is_not_counted_and_a_temporary_folder_is_private_and_goes_with_the_program(
    sc: SparkContext, clock: ManualClock
) -> None:
    ssc = StreamingContext(sc, 1, clock=clock)
    hand, stream = by_hand(ssc)
    stream.map(fails_in_a_worker).foreachRDD(lambda rdd: rdd.collect())
    hand.given.append(1)
    ssc.start()
    assert ssc._engine is not None
    folder = Path(ssc._engine._folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    clock.advance(300)
    assert ssc.awaitBatches(1, WAIT_S)
    hand.given.append(0)
    clock.advance(1000)
    assert failure(ssc).batch == 1
    assert ssc._engine._done_count == 1
    ssc.stop(False)
    assert not folder.exists()


def test_what_cannot_be_pickled_is_found_before_anything_runs(sc: SparkContext, clock: ManualClock) -> None:
    ssc = StreamingContext(sc, 1, clock=clock)
    hand, stream = by_hand(ssc)
    lock = threading.Lock()
    keyed = stream.map(lambda x: (x, 1))
    keyed.reduceByKey(lambda a, b: (lock, a + b)[1]).pprint()
    with pytest.raises(StreamArgumentError, match=r"cannot start stream '.* at test_dstream_engine\.py:\d+'.*got 'lock' \(lock\)"):
        ssc.start()
    assert hand.calls == []


# What is remembered -------------------------------------------------------------------------------------------------------


def test_slice_gives_what_is_remembered_and_spark_lets_go_of_the_rest(sc: SparkContext, clock: ManualClock) -> None:
    ssc = StreamingContext(sc, 1, clock=clock)
    ssc.remember(3)
    hand, stream = by_hand(ssc)
    kept = stream.map(lambda x: x * 10).persist(StorageLevel.MEMORY_ONLY)
    assert kept.is_cached
    unused = stream.map(str)
    seen: list[Any] = []
    kept.foreachRDD(lambda rdd: seen.append(rdd.collect()))
    kept.foreachRDD(lambda rdd: seen.append(rdd.collect()))
    before = len(sc._jsc.getPersistentRDDs())  # type: ignore[union-attr]
    ssc.start()
    for number in range(5):
        hand.given.append(number)
        clock.advance(1000)
        assert ssc.awaitBatches(number + 1, WAIT_S)
    assert seen == [[n * 10] for n in range(5) for _ in range(2)]
    zero = ZERO_MS / 1000

    def sliced(begin: Any, end: Any) -> list[Any]:
        return [rdd.collect() for rdd in kept.slice(begin, end)]

    assert sliced(zero, zero + 100) == [[20], [30], [40]]
    assert sliced(zero + 4, zero + 4) == [[30]]
    assert sliced(zero + 4.7, zero + 5.2) == [[30], [40]], "the begin is taken down to the slide, as Spark does"
    assert sliced(datetime.fromtimestamp(zero + 4), datetime.fromtimestamp(zero + 5)) == [[30], [40]]  # noqa: DTZ006 (Spark's form)
    with pytest.raises(StreamStateError, match="has not been initialized"):
        unused.slice(0, 1)
    assert len(sc._jsc.getPersistentRDDs()) - before == 3  # type: ignore[union-attr]
    ssc.stop(False)
    assert len(sc._jsc.getPersistentRDDs()) == before  # type: ignore[union-attr]


# Listeners ----------------------------------------------------------------------------------------------------------------


class Notes:
    """What a listener hears, in words that ours and Spark's have in common."""

    def __init__(self) -> None:
        self.by_time: dict[int, list[Any]] = {}
        self.began: list[int] = []

    def batch(self, method: str, event: Any) -> None:
        info = event.batchInfo()
        outputs = {int(number): self.output(one) for number, one in dict(info.outputOperationInfos()).items()}
        after = (info.processingStartTime() >= info.submissionTime(), info.processingEndTime() >= info.processingStartTime())
        known = [value == -1 for value in (info.schedulingDelay(), info.processingDelay(), info.totalDelay())]
        sums = info.totalDelay() == -1 or info.totalDelay() == info.schedulingDelay() + info.processingDelay()
        inputs = {int(number): one.numRecords() for number, one in dict(info.streamIdToInputInfo()).items()}
        self.note(info.batchTime(), (method, info.numRecords(), inputs, outputs, after, known, sums))

    def output(self, one: Any) -> Any:
        return (one.id(), one.startTime() == -1, one.endTime() == -1, one.failureReason())

    def note(self, time: Any, what: Any) -> None:
        self.by_time.setdefault(time.milliseconds(), []).append(what)


def listening(base: type) -> Any:
    class Listens(base):
        def __init__(self) -> None:
            super().__init__()
            self.notes = Notes()

        def onStreamingStarted(self, event: Any) -> None:  # noqa: N802 (Spark's)
            self.notes.began.append(event.time())

        def onBatchSubmitted(self, event: Any) -> None:  # noqa: N802 (Spark's)
            self.notes.batch("submitted", event)

        def onBatchStarted(self, event: Any) -> None:  # noqa: N802 (Spark's)
            self.notes.batch("started", event)

        def onBatchCompleted(self, event: Any) -> None:  # noqa: N802 (Spark's)
            self.notes.batch("completed", event)

        def onOutputOperationStarted(self, event: Any) -> None:  # noqa: N802 (Spark's)
            info = event.outputOperationInfo()
            self.notes.note(info.batchTime(), ("output started", self.notes.output(info)))

        def onOutputOperationCompleted(self, event: Any) -> None:  # noqa: N802 (Spark's)
            info = event.outputOperationInfo()
            self.notes.note(info.batchTime(), ("output completed", self.notes.output(info)))

    return Listens()


def test_a_listener_hears_what_sparks_hears_in_the_same_order(sc: SparkContext) -> None:
    from pyspark.streaming import StreamingContext as Theirs  # noqa: PLC0415 (only here)
    from pyspark.streaming import StreamingListener as TheirListener  # noqa: PLC0415 (only here)

    def listened(ssc: Any, listener: Any, wait: Any) -> list[list[Any]]:
        stream = ssc.queueStream([[1], [2, 3], []])
        stream.foreachRDD(lambda rdd: rdd.foreach(str))  # Spark minds what is returned
        stream.map(str).pprint()
        ssc.addStreamingListener(listener)
        ssc.start()
        try:
            wait(ssc, lambda: [heard for heard in list(listener.notes.by_time.values()) if heard[-1][0] == "completed"])
        finally:
            ssc.stop(False)
        assert len(listener.notes.began) == 1
        return [heard for _, heard in sorted(listener.notes.by_time.items())][:2]

    def wait_for_theirs(ssc: Any, completed: Any) -> None:
        while len(completed()) < 2:
            ssc.awaitTerminationOrTimeout(0.1)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        theirs = Theirs(sc, 1)
    expected = listened(theirs, listening(TheirListener), wait_for_theirs)
    ours = listened(StreamingContext(sc, 1), listening(StreamingListener), lambda ssc, _: ssc.awaitBatches(3, WAIT_S))
    assert len(expected) == 2
    assert ours == expected


def test_delays_are_counted_from_when_a_batch_could_have_begun_and_a_failure_is_told(sc: SparkContext, clock: ManualClock) -> None:
    ssc = StreamingContext(sc, 1, clock=clock)
    hand, stream = by_hand(ssc)
    stream.foreachRDD(lambda rdd: clock.advance(3000) or rdd.count())
    stream.map(fails_in_a_worker).pprint()
    heard: list[Any] = []

    class Hears(StreamingListener):
        def onBatchCompleted(self, batchCompleted: Any) -> None:  # noqa: N802, N803 (Spark's)
            heard.append(batchCompleted.batchInfo())

    ssc.addStreamingListener(Hears())
    ssc.start()
    hand.given.append(1)
    clock.advance(300)
    assert ssc.awaitBatches(1, WAIT_S)
    hand.given.append(0)
    with pytest.raises(BatchError):
        ssc.awaitBatches(50, WAIT_S)
    first, second = heard[0], heard[1]
    assert (first.schedulingDelay(), first.processingDelay(), first.totalDelay()) == (0, 3000, 3000)
    assert (second.schedulingDelay(), second.processingDelay(), second.totalDelay()) == (2000, 3000, 5000)
    assert first.streamIdToInputInfo()[0].metadataDescription() == "rows 0 to 1"
    last = heard[-1].outputOperationInfos()
    assert last[0].failureReason() is None
    assert last[1].failureReason().startswith("Traceback (most recent call last):")
    assert "ZeroDivisionError" in last[1].failureReason()
    assert last[1].name().startswith("pprint at test_dstream_engine.py:")
