"""Programs that end anywhere and go on: each batch once more with the same input, state of the last one that was finished."""

from __future__ import annotations

import logging
import operator
import shutil
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from pyspark import SparkContext
from pyspark.sql import SparkSession

from spark_ext.dstream import StreamingContext
from spark_ext.dstream.errors import BatchError
from spark_ext.dstream.points import POINTS, Point, watched
from spark_ext.dstream.ticks import ManualClock
from spark_ext.errors import CheckpointMismatchError, QueryError
from spark_ext.testing import kill_cycles
from spark_ext.testing.crashes import SimulatedCrashError
from tests.dstream_hand import by_hand
from tests.dstream_recovery import GIVEN, by_batch, expected, program, read_notes

pytestmark = pytest.mark.spark

WAIT_S = 200  # a machine may be slow; nobody waits longer than it takes
TIMEOUT_S = 300


@pytest.fixture
def sc(spark: SparkSession) -> Iterator[SparkContext]:
    yield spark.sparkContext
    active = StreamingContext.getActive()
    if active is not None:
        active.stop(False)


class Crashes:
    """Ends the query at one point of one batch, so many times."""

    def __init__(self, point: str, batch: int, times: int = 1) -> None:
        self.point, self.batch, self.left = point, batch, times

    def __call__(self, point: Point, number: int) -> None:
        if (point, number) == (self.point, self.batch) and self.left:
            self.left -= 1
            raise SimulatedCrashError(point)


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("batch", [0, 3])
def test_a_crash_at_any_point_of_a_batch_changes_nothing(
    sc: SparkContext, tmp_path: Path, point: str, batch: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "py4j.clientserver")
    noted: list[Any] = []
    crashes = Crashes(point, batch, times=2 if batch and point != "after_plan" else 1)  # a plan is made once
    starts, wanted = 0, crashes.left + 1
    with watched(crashes):
        while True:
            ssc = StreamingContext.getOrCreate(str(tmp_path), lambda: program(sc, lambda *what: noted.append(what)))
            ssc.start()
            starts += 1
            left = crashes.left
            if left == 0:
                assert ssc.awaitBatches(len(GIVEN) - batch, WAIT_S)
                ssc.stop(False)
                break
            with pytest.raises(QueryError, match=point):
                ssc.awaitTermination(WAIT_S)
            ssc.stop(False)
    assert starts == wanted
    assert by_batch(noted) == expected()
    tries = [what for what in noted if what[0] == "totals" and what[1] == noted[0][1] + batch * 1000]
    if point in ("after_output", "after_outputs"):
        assert len(tries) == starts, "it was tried again"


def run_killed(folder: Path, kills: list[tuple[str, int]]) -> list[str]:
    def command(life: int) -> list[str]:
        point, batch = kills[life] if life < len(kills) else ("", 0)
        return [sys.executable, "-m", "tests.dstream_recovery", str(folder), point, str(batch)]

    within = (TIMEOUT_S, TIMEOUT_S)  # it kills itself before
    lives = kill_cycles(command, cycles=len(kills), seed=0, within=within, timeout_s=TIMEOUT_S)
    assert by_batch(read_notes(str(folder))) == expected()
    return [life.victim for life in lives]


@pytest.mark.timeout(600)
def test_a_driver_that_is_killed_goes_on_with_the_state_of_the_last_finished_batch(tmp_path: Path) -> None:
    assert run_killed(tmp_path, [("in_keep", 2)]) == ["itself", "none"]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_driver_that_is_killed_at_every_point_of_every_batch(tmp_path: Path) -> None:
    kills = [(point, batch) for batch in range(len(GIVEN)) for point in POINTS]
    assert run_killed(tmp_path, kills) == ["itself"] * len(kills) + ["none"]


# Restarts -----------------------------------------------------------------------------------------------------------------


def test_after_a_pause_each_missed_interval_is_run_and_an_unused_checkpoint_begins_now(sc: SparkContext, tmp_path: Path) -> None:
    clock = ManualClock(10_700)
    seen: list[Any] = []
    rows: list[str] = []
    inputs: list[Any] = []

    def make() -> StreamingContext:
        ssc = StreamingContext(sc, 1, clock=clock)
        hand, stream = by_hand(ssc)
        hand.given = rows
        inputs.append(hand)
        stream.foreachRDD(lambda time, rdd: seen.append((time.timestamp(), rdd.collect())))
        return ssc

    def start() -> StreamingContext:
        ssc = StreamingContext.getOrCreate(str(tmp_path), make)
        ssc.start()
        return ssc

    start().stop(False)
    assert seen == []
    clock.advance(1_000_000)
    ssc = start()
    clock.advance(1_300)
    assert ssc.awaitBatches(2, WAIT_S)
    ssc.stop(False)
    assert [time for time, _ in seen] == [1011, 1012]
    rows.append("x")
    clock.advance(3_000)
    ssc = start()
    assert ssc.awaitBatches(3, WAIT_S)
    ssc.stop(False)
    assert [time for time, _ in seen] == [1011, 1012, 1013, 1014, 1015]
    assert [rows for _, rows in seen] == [[], [], ["x"], [], []]
    assert inputs[-1].calls[0] == ("start", [0, 0]), "an input hears where it was"
    assert inputs[-1].calls[1] == ("finished", [0, 0]), "and of the last batch once more: it may not have heard before the end"


def test_without_get_or_create_a_checkpoint_begins_a_new_run(sc: SparkContext, tmp_path: Path) -> None:
    for _ in range(2):
        noted: list[Any] = []
        ssc = program(sc, lambda *what, noted=noted: noted.append(what))  # type: ignore[misc]
        ssc.checkpoint(str(tmp_path))
        ssc.start()
        assert ssc.awaitBatches(2, WAIT_S)
        ssc.stop(False)
        assert by_batch(noted)[:2] == expected()[:2]


class Changing:
    """A program whose code changes between two starts; its first life ends in batch 2."""

    def __init__(self, sc: SparkContext, folder: Path) -> None:
        self.sc, self.folder = sc, str(folder)
        self.seen: list[tuple[str, datetime, Any]] = []

    def note(self, stream: Any, name: str) -> None:
        stream.foreachRDD(lambda time, rdd: self.seen.append((name, time, sorted(rdd.collect()))))

    def rows(self, name: str) -> list[Any]:
        return [rows for found, _, rows in self.seen if found == name]

    def first(self, ssc: StreamingContext) -> Any:
        pairs = ssc.queueStream([[("a", number)] for number in range(1, 7)])
        self.note(pairs.updateStateByKey(lambda values, state: sum(values) + (state or 0), 2), "totals")
        return pairs

    def start(self, *parts: Any, duration: float = 1, **how: Any) -> StreamingContext:
        def make() -> StreamingContext:
            ssc = StreamingContext(self.sc, duration, pace="asap")
            for part in parts:
                part(ssc)
            return ssc

        ssc = StreamingContext.getOrCreate(self.folder, make, **how)
        ssc.start()
        return ssc

    def end_in_batch_2(self, *parts: Any) -> None:
        def fails(ssc: StreamingContext) -> None:
            def check(rdd: Any) -> None:
                if len(self.rows("totals")) == 3:
                    msg = "the first life ends"
                    raise ValueError(msg)

            for part in parts or (self.first,):
                part(ssc).foreachRDD(check)

        ssc = self.start(fails)
        with pytest.raises(BatchError, match="the first life ends"):
            ssc.awaitTermination(WAIT_S)
        ssc.stop(False)
        assert self.rows("totals") == [[("a", 1)], [("a", 3)], [("a", 6)]]


@pytest.fixture
def changing(sc: SparkContext, tmp_path: Path) -> Changing:
    return Changing(sc, tmp_path)


def test_a_program_with_new_streams_goes_on_and_they_begin_empty(changing: Changing) -> None:
    changing.end_in_batch_2()

    def more(ssc: StreamingContext) -> None:
        pairs = changing.first(ssc)
        changing.note(pairs.mapValues(lambda value: value * 100).updateStateByKey(lambda new, old: sum(new) + (old or 0)), "new state")
        changing.note(ssc.queueStream([["x"], ["y"], ["z"]]), "new input")

    ssc = changing.start(more)
    assert ssc.awaitBatches(4, WAIT_S)
    ssc.stop(False)
    assert changing.rows("totals")[3:] == [[("a", 6)], [("a", 10)], [("a", 15)], [("a", 21)]], "batch 2 once more, and on"
    assert changing.rows("new state") == [[("a", 300)], [("a", 700)], [("a", 1200)], [("a", 1800)]]
    assert changing.rows("new input") == [["x"], ["y"], ["z"], []]


def test_a_stateful_stream_that_is_gone_is_named_and_may_be_given_up(changing: Changing) -> None:
    changing.end_in_batch_2()

    def less(ssc: StreamingContext) -> None:
        changing.note(ssc.queueStream([[("a", number)] for number in range(1, 7)]).reduceByKey(operator.add), "sums")

    def renamed(ssc: StreamingContext) -> None:
        pairs = ssc.queueStream([[("a", number)] for number in range(1, 7)])
        changing.note(pairs.updateStateByKey(lambda values, state: sum(values) + (state or 0), 2).setName("counts"), "totals")

    for part in (less, renamed):
        with pytest.raises(CheckpointMismatchError, match=r"'updateStateByKey-0' \(updateStateByKey at test_dstream_recovery\.py:\d+\)"):
            changing.start(part)
        assert StreamingContext.getActive() is None
    with pytest.raises(CheckpointMismatchError, match="the batch interval was 1000 ms and is 2000 ms"):
        changing.start(changing.first, duration=2)
    ssc = changing.start(less, forget=["updateStateByKey-0"])
    assert ssc.awaitBatches(2, WAIT_S)
    ssc.stop(False)
    assert changing.rows("sums") == [[("a", 3)], [("a", 4)]], "the input goes on where it was"
    ssc = changing.start(changing.first)
    assert ssc.awaitBatches(1, WAIT_S)
    ssc.stop(False)
    assert changing.rows("totals")[-1] == [("a", 5)], "what was given up begins empty"


def test_state_that_somebody_removed_is_missed(changing: Changing) -> None:
    """Another program of the same checkpoint that is ahead removes it as well."""
    changing.end_in_batch_2()
    (removed,) = Path(changing.folder).glob("*/store/updateStateByKey-0")
    shutil.rmtree(removed)
    ssc = changing.start(changing.first)
    with pytest.raises(BatchError, match=r"cannot continue stream 'updateStateByKey-0'.* left in the checkpoint, got nothing"):
        ssc.awaitTermination(WAIT_S)
    assert len(changing.rows("totals")) == 3, "nothing went out"
