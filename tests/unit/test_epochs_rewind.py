"""A rewind says what it will do, does it, and the guard lets the pipeline start."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
import typer
from deltalake import DeltaTable
from typer.testing import CliRunner

from spark_ext.epochs import guard, rewind
from spark_ext.epochs.offsets import Span
from spark_ext.epochs.position import starting
from spark_ext.epochs.rewind_cli import rewind as command
from spark_ext.epochs.sinks import Append
from spark_ext.errors import CheckpointMismatchError, EpochError, SettingsError
from spark_ext.queries import owner
from spark_ext.queries.checkpoint import Checkpoint
from tests.epochs_by_hand import PIPELINE, T0, World

APP = typer.Typer()
APP.command()(command)


def do(world: World, to: str, *, restore_tables: bool = False) -> rewind.Plan:
    planned = rewind.plan(Checkpoint.find(world.checkpoint.path, pipeline=PIPELINE), world.ledger, to=to, restore_tables=restore_tables)
    rewind.apply(planned, now=T0)
    world.claim()
    return planned


def check(world: World) -> int:
    try:
        return guard.check(world.checkpoint, world.ledger, PIPELINE, world.sinks)
    finally:
        owner.release(world.checkpoint)


def test_the_plan_says_what_comes_again_to_which_sink(world: World) -> None:
    planned = rewind.plan(world.checkpoint, world.ledger, to="epoch:2")
    assert planned.position == {"t": {0: 30}}
    assert (planned.again, planned.passed_over) == (20, 0)
    assert [(one.sink, one.rows_again) for one in planned.effects] == [("facts", 20), ("late", 10)]
    assert "duplicates" in planned.effects[0].text
    assert check(world) == 0, "a plan changes nothing"


@pytest.mark.parametrize(
    ("to", "again", "passed_over", "rows"),
    [
        ("earliest", 50, 0, [50, 20]),
        ("latest", 0, None, [0, 0]),
        ("2026-01-01T00:00:00+00:00", None, None, [None, None]),
        ('{"t": {"0": 45}}', 5, 0, [10, 0]),
        ('{"t": {"0": 70}}', 0, 20, [0, 0]),
        ('{"t": {"0": -2}}', 50, 0, [50, 20]),
        ('{"t": {"0": -1}}', 0, 0, [0, 0]),
        ("checkpoint", 0, 0, [0, 0]),
        ("epoch:4", 0, 0, [0, 0]),
    ],
)
def test_any_position_can_be_named(world: World, to: str, again: int | None, passed_over: int | None, rows: list[int | None]) -> None:
    planned = rewind.plan(world.checkpoint, world.ledger, to=to)
    assert (planned.again, planned.passed_over) == (again, passed_over)
    assert [one.rows_again for one in planned.effects] == rows
    do(world, to)
    assert starting(world.checkpoint) == planned.position
    assert check(world) == 6


def test_the_pipeline_starts_again_with_the_next_epoch(world: World) -> None:
    do(world, "epoch:2")
    assert world.checkpoint.last_planned() is None, "nothing of the old progress counts"
    assert len(list(Path(world.checkpoint.path).glob("spark-*/offsets/4"))) == 1, "it stays aside"
    assert check(world) == 6
    world.first_epoch, world.token = 6, world.ledger.token(PIPELINE)
    world.epoch(0, begin=30)
    world.epoch(1, begin=30)
    assert check(world) == 6
    assert [row.epoch for row in world.ledger.rows(PIPELINE)] == list(range(8))
    row = world.ledger.rows(PIPELINE)[5]
    assert (row.read, row.is_balanced, row.batch_id) == (0, True, -1)
    assert json.loads((row.replay_of or "").removeprefix("rewind "))["to"] == "epoch:2"
    do(world, "earliest")
    assert check(world) == 9


def test_a_job_that_does_not_ask_where_to_start_is_refused(world: World) -> None:
    do(world, "epoch:2")
    spans = [Span("t", "A", 0, 0, 10, 0)]
    with pytest.raises(CheckpointMismatchError, match=r"expected t\[0\] from 30, as the rewind says, got from 0; .*starting\(checkpoint\)"):
        guard.check_start(world.checkpoint, world.ledger, spans)
    with pytest.raises(CheckpointMismatchError, match=r"expected topic t with id A.*got id B; the topic was made anew"):
        guard.check_start(world.checkpoint, world.ledger, [Span("t", "B", 0, 30, 40, 0)])
    guard.check_start(world.checkpoint, world.ledger, [Span("t", "A", 0, 30, 40, 0), Span("t", "A", 1, 0, 40, 0)])
    world.plan(0)
    with pytest.raises(CheckpointMismatchError, match="as the rewind says"):
        check(world)


def test_tables_go_back_with_it(world: World) -> None:
    counts = {
        name: DeltaTable(sink.path, version=version).count() for (name, sink), version in zip(world.sinks.items(), (3, 1), strict=True)
    }
    world.sinks["new"] = Append(str(world.root / "new"))
    planned = do(world, "epoch:2", restore_tables=True)
    assert {name: DeltaTable(world.sinks[name].path).count() for name in counts} == counts == {"facts": 30, "late": 10}
    assert [one.restored_to for one in planned.effects] == [3, 1]
    assert check(world) == 6


def test_any_damage_is_resolved_by_the_command_that_the_guard_names(world: World) -> None:
    DeltaTable(world.sinks["facts"].path).restore(2)
    with pytest.raises(EpochError, match=r"it was restored.*--to epoch:4"):
        check(world)
    do(world, "epoch:4")
    assert check(world) == 6


@pytest.mark.parametrize("cut", ["renew", "write_starting", "append"])
def test_a_rewind_cut_off_in_the_middle_starts_nothing_and_can_be_repeated(world: World, monkeypatch: pytest.MonkeyPatch, cut: str) -> None:
    def crash(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    owners = {"renew": Checkpoint, "write_starting": rewind, "append": type(world.ledger)}
    with monkeypatch.context() as patch:
        patch.setattr(owners[cut], cut, crash)
        with pytest.raises(KeyboardInterrupt):
            do(world, "epoch:2")
    world.claim()
    if cut == "renew":
        assert check(world) == 0, "nothing has changed yet"
    else:
        with pytest.raises(CheckpointMismatchError, match="one that the ledger does not know"):
            check(world)
    do(world, "epoch:2")
    assert starting(world.checkpoint) == {"t": {0: 30}}
    assert check(world) == 6


def test_a_new_topic_of_the_same_name_is_taken_after_a_rewind(world: World) -> None:
    with pytest.raises(CheckpointMismatchError, match="sources"):
        world.claim(("kafka topic t B",))
    planned = rewind.plan(Checkpoint.find(world.checkpoint.path, pipeline=PIPELINE), world.ledger, to="earliest")
    rewind.apply(planned)
    world.claim(("kafka topic t B",))
    assert check(world) == 6
    with pytest.raises(CheckpointMismatchError, match="sources"):
        world.claim(("kafka topic t A",))


def test_a_ledger_that_is_lost_begins_where_the_checkpoint_ends(world: World) -> None:
    world.ledger = type(world.ledger)(str(world.root / "fresh"))
    with pytest.raises(CheckpointMismatchError, match="--to checkpoint"):
        check(world)
    planned = do(world, "checkpoint")
    assert planned.position == {"t": {0: 50}}
    assert check(world) == 1


def test_a_stale_plan_and_a_living_driver_are_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    planned = rewind.plan(world.checkpoint, world.ledger, to="epoch:2")
    world.epoch(5)
    with pytest.raises(EpochError, match="expected epoch 4 as the last one, got epoch 5; it ran meanwhile"):
        rewind.apply(planned)
    monkeypatch.setattr(owner.Owner, "is_here", lambda _: True)
    Path(world.checkpoint.path, "owner.json").write_text('{"host": "here", "pid": 7, "created": 1}')
    with pytest.raises(EpochError, match="process 7, which is alive"):
        rewind.apply(rewind.plan(world.checkpoint, world.ledger, to="epoch:2"))


@pytest.mark.parametrize("to", ["", "yesterday", "2026-01-01T00:00:00", "{", '{"t": 5}', "epoch:x", "epoch:9"])
def test_a_position_that_cannot_be_used_is_refused(world: World, to: str) -> None:
    with pytest.raises((SettingsError, EpochError), match=r"expected (earliest, latest|an epoch of 'shop/orders' with offsets)"):
        rewind.plan(world.checkpoint, world.ledger, to=to)


def test_tables_go_back_to_epochs_only(world: World) -> None:
    with pytest.raises(SettingsError, match="expected an epoch to go back to, got 'earliest'"):
        rewind.plan(world.checkpoint, world.ledger, to="earliest", restore_tables=True)


def test_the_command_does_nothing_until_told(world: World) -> None:
    line = [PIPELINE, "--ledger", world.ledger.path, "--checkpoint", world.checkpoint.path, "--to", "epoch:2"]
    runner = CliRunner(env={"COLUMNS": "200"})
    said = runner.invoke(APP, line)
    assert said.exit_code == 3
    assert "duplicates" in said.output
    assert "is not carried over" in said.output
    assert "repeat this with --yes" in said.output
    assert check(world) == 0
    done = runner.invoke(APP, [*line, "--yes"])
    assert done.exit_code == 0, done.output
    world.claim()
    assert starting(world.checkpoint, default=datetime(2026, 1, 1, tzinfo=UTC)) == {"t": {0: 30}}
    assert check(world) == 6


def test_without_a_rewind_the_job_says_where_it_starts(world: World) -> None:
    assert starting(world.checkpoint) == "earliest"
    assert starting(world.checkpoint, "latest") == "latest"
