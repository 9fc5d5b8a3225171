"""Scripts say what they do as Python; the crash-free script has the same batches; crashes happen where and when they should."""

from __future__ import annotations

import datetime
import subprocess
import sys
from datetime import UTC, timedelta
from pathlib import Path

import pytest

import spark_ext.testing as kit
from spark_ext.epochs import points
from spark_ext.errors import SettingsError
from spark_ext.testing import (
    At,
    Check,
    Clock,
    Crash,
    CrashInOperator,
    Restart,
    Result,
    Rows,
    ScriptError,
    SimulatedCrashError,
    Start,
    Step,
    Stop,
    as_python,
    random_walk,
    without_crashes,
)
from spark_ext.testing.crashes import KillPoint, Watch

NOON = datetime.datetime(2025, 1, 1, 12, tzinfo=UTC)
EVERY_STEP: list[Step] = [
    Rows(),
    At(NOON),
    Crash("after_read"),
    Rows([{"id": 1, "at": NOON, "text": "it's \n"}, {"id": 2}]),
    Stop(),
    Crash("before_sink", "latest", hits=2, optional=True),
    CrashInOperator(),
    CrashInOperator("windows", optional=True),
    Start(),
    Restart(),
]


def test_steps_come_back_from_their_python() -> None:
    names = {**vars(kit), "datetime": datetime}
    exec(as_python(EVERY_STEP), names)  # noqa: S102 (our own text)
    assert names["steps"] == EVERY_STEP


def test_walks_come_back_from_their_python() -> None:
    steps = random_walk(3, sinks=["a", "b"]).steps
    names = {**vars(kit), "datetime": datetime}
    exec(as_python(steps), names)  # noqa: S102 (our own text)
    assert names["steps"] == steps


def test_a_check_is_named() -> None:
    def all_is_well(result: Result) -> None: ...

    assert "Check(all_is_well)" in as_python([Check(all_is_well)])


def test_the_crash_free_script_keeps_batches_clock_and_stops() -> None:
    assert [type(step) for step in without_crashes([*EVERY_STEP, Check(lambda _: None)])] == [Rows, At, Rows, Stop, Start]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Crash("before_lunch"), "cannot use step setting 'point': expected one of after_read, .*, got 'before_lunch'"),  # type: ignore[arg-type]
        (lambda: Crash("after_read", hits=0), "cannot use step setting 'hits': expected 1 or more, got 0"),
        (lambda: At(datetime.datetime(2025, 1, 1)), "cannot use step setting 'time': expected a time with a time zone"),  # noqa: DTZ001 (that is it)
    ],
)
def test_a_step_that_cannot_be_is_refused(make: object, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        make()  # type: ignore[operator]


def test_the_clock_is_the_same_for_all_who_know_its_file(tmp_path: Path) -> None:
    assert Clock.of(tmp_path).now() == datetime.datetime(2025, 1, 1, tzinfo=UTC)
    Clock.of(tmp_path).set(NOON + timedelta(microseconds=1))
    assert Clock.of(str(tmp_path)).now() == NOON + timedelta(microseconds=1)


# What sees the points ----------------------------------------------------------------------------------------------------


def batch(number: int) -> None:
    """The points of a batch with two sinks."""
    points.reach("after_read", number)
    for sink in "ab":
        points.reach("before_sink", number, sink)
        points.reach("after_sink", number, sink)
    points.reach("after_ledger", number)


def test_a_crash_comes_at_its_point_and_sink_so_often(tmp_path: Path) -> None:
    watch = Watch(tmp_path)
    watch.arm(Crash("after_sink", "b", hits=2))
    with watch.watching():
        for _ in range(2):
            watch.started()
            with pytest.raises(SimulatedCrashError, match="after_sink of 'b'"):
                batch(7)
            assert watch.has_crashed(error="")
            watch.check_death(is_active=False)
        watch.started()
        batch(7)
        assert not watch.has_crashed(error="")
    assert [(hit.point, hit.sink, hit.batch_id) for hit in watch.hits] == [("after_sink", "b", 7)] * 2
    assert [(one.run, one.batch_id, len(one.reached)) for one in watch.attempts] == [(1, 7, 5), (2, 7, 5), (3, 7, 6)]
    assert watch.settled() == []
    batch(8)
    assert len(watch.attempts) == 3, "nothing is watched any more"


def test_a_crash_without_a_sink_comes_at_the_first(tmp_path: Path) -> None:
    watch = Watch(tmp_path)
    watch.arm(Crash("before_sink"))
    with watch.watching(), pytest.raises(SimulatedCrashError, match="before_sink of 'a'"):
        batch(0)


def test_two_crashes_may_meet_in_one_batch(tmp_path: Path) -> None:
    watch = Watch(tmp_path)
    watch.arm(Crash("after_ledger"))
    watch.arm(Crash("after_read"))
    with watch.watching():
        for point in ("after_read", "after_ledger"):
            watch.started()
            with pytest.raises(SimulatedCrashError, match=point):
                batch(0)
        watch.started()
        batch(0)


def test_a_crash_that_did_not_happen_is_told_and_forgotten(tmp_path: Path) -> None:
    watch = Watch(tmp_path)
    watch.arm(Crash("in_maintenance"))
    watch.arm(CrashInOperator())
    switch = tmp_path / "crash-in-input"
    assert switch.exists()
    with watch.watching():
        watch.started()
        batch(0)
        assert watch.settled() == [Crash("in_maintenance"), CrashInOperator()]
        assert not switch.exists()
        points.reach("in_maintenance", 1)


def test_a_driver_that_lives_on_after_its_crash_is_found(tmp_path: Path) -> None:
    watch = Watch(tmp_path)
    watch.arm(Crash("after_read"))
    with watch.watching():
        watch.started()
        with pytest.raises(SimulatedCrashError):
            points.reach("after_read", 0)
        with pytest.raises(SimulatedCrashError):
            points.reach("after_sinks", 0)
    with pytest.raises(
        ScriptError, match="expected nothing after the crash at after_read, got point after_sinks; the job caught the crash"
    ):
        watch.check_death(is_active=False)


def test_a_query_that_goes_on_after_its_crash_is_found(tmp_path: Path) -> None:
    watch = Watch(tmp_path)
    watch.arm(Crash("after_sinks"))
    with watch.watching(), pytest.raises(SimulatedCrashError):
        points.reach("after_sinks", 0)
    with pytest.raises(ScriptError, match="got a query that goes on"):
        watch.check_death(is_active=True)


def test_a_kill_point_kills_its_process() -> None:
    program = (
        "from spark_ext.epochs import points\n"
        "from spark_ext.testing import KillPoint\n"
        "with points.watched(KillPoint('after_sink', 'b', skip=1)):\n"
        "    for number in range(3):\n"
        "        points.reach('before_sink', number, 'b')\n"
        "        points.reach('after_sink', number, 'a')\n"
        "        print(number, flush=True)\n"
        "        points.reach('after_sink', number, 'b')\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (-9, "0\n1\n")
    assert KillPoint("after_sink").victim == "driver"


def test_the_kit_needs_no_pytest() -> None:
    program = "import sys\nsys.modules['pytest'] = None\nimport spark_ext.testing\nassert len(spark_ext.testing.__all__) > 30"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
