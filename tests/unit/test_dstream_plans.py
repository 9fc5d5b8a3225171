"""The log of plans: whole or not there, as many as Spark keeps of its own log."""

from __future__ import annotations

from pathlib import Path

import pytest

from spark_ext.dstream.plans import KEPT, Plan, PlanLog
from spark_ext.errors import CheckpointMismatchError


def test_a_plan_is_read_as_it_was_written(tmp_path: Path) -> None:
    log = PlanLog(str(tmp_path / "plans"))
    plan = Plan(7, 1_700_000_000_500, {"queueStream-0": {"from": 1, "to": 2}, "kafka": {"ranges": [["t", 0, 5, 9]]}, "none": None})
    log.write(plan)
    assert log.read(7) == plan
    assert log.read(6) is None


def test_writing_again_replaces(tmp_path: Path) -> None:
    log = PlanLog(str(tmp_path))
    log.write(Plan(0, 1000, {"a": 1}))
    log.write(Plan(0, 1000, {"a": 1, "b": 2}))
    assert log.read(0) == Plan(0, 1000, {"a": 1, "b": 2})


def test_only_so_many_are_kept_and_no_other_file_is_left(tmp_path: Path) -> None:
    log = PlanLog(str(tmp_path))
    for number in range(KEPT + 3):
        log.write(Plan(number, number * 1000))
    assert sorted(int(file.stem) for file in tmp_path.iterdir()) == list(range(3, KEPT + 3))


def test_what_a_kill_left_of_a_plan_is_no_plan(tmp_path: Path) -> None:
    (tmp_path / ".3.json.c0ffee").write_text('{"time_ms": 30')
    log = PlanLog(str(tmp_path))
    assert log.read(3) is None
    log.write(Plan(3, 3000))
    assert log.read(3) == Plan(3, 3000)
    assert [file.name for file in tmp_path.iterdir() if not file.name.startswith(".")] == ["3.json"]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"inputs": {}}', '{"time_ms": "x", "inputs": {}}'])
def test_a_damaged_plan_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "3.json").write_text(content)
    with pytest.raises(CheckpointMismatchError, match=r"cannot read plan of batch '3'.*3\.json is damaged.*restore the file"):
        PlanLog(str(tmp_path)).read(3)
