"""`millrace ledger` and `millrace dead-letters list`: what they print, and what they return to a script."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
import typer
from deltalake import DeltaTable, write_deltalake
from typer.testing import CliRunner

from spark_ext.epochs import dead_letters_cli, ledger_cli, outbox_cli
from spark_ext.epochs.ledger import RangeRow, TableRow
from spark_ext.epochs.pins import ask_refresh
from spark_ext.epochs.reading import versions
from spark_ext.epochs.rewind_cli import rewind
from spark_ext.errors import EpochError, SettingsError
from tests.epochs_by_hand import PIPELINE, T0, World, row_of

RUNNER = CliRunner(env={"COLUMNS": "250"})
REWIND = typer.Typer()
REWIND.command()(rewind)


def test_show_has_the_last_epochs(world: World) -> None:
    found = json.loads(RUNNER.invoke(ledger_cli.app, ["show", world.ledger.path, "--last", "2", "--json"]).output)
    assert [(row["epoch"], row["read"], row["is_balanced"]) for row in found] == [(3, 10, True), (4, 10, True)]
    said = RUNNER.invoke(ledger_cli.app, ["show", world.ledger.path, "--pipeline", PIPELINE, "--by-sink"], env={"COLUMNS": "160"}).output
    assert "facts 10, late 10" in said
    assert said.count("yes") == 5


def test_lag_is_what_the_ledger_saw_last(world: World) -> None:
    found = json.loads(RUNNER.invoke(ledger_cli.app, ["lag", world.ledger.path, "--json"]).output)
    assert found == [{"pipeline": PIPELINE, "topic": "t", "partition": 0, "epoch": 4, "end": 50, "latest": 70, "lag": 20}]
    assert "70" in RUNNER.invoke(ledger_cli.app, ["lag", world.ledger.path]).output


def test_lag_of_a_partition_comes_from_the_last_epoch_that_names_it() -> None:
    rows = [
        row_of("c", 0, 0, ranges=[RangeRow("t", None, 0, 0, 5, 5, latest=9), RangeRow("t", None, 1, 0, 3, 3)], sinks=[]),
        row_of("c", 1, 1, ranges=[RangeRow("t", None, 0, 5, 8, 3, latest=8)], sinks=[]),
    ]
    assert [(one.partition, one.epoch, one.lag) for one in ledger_cli.lags(rows)] == [(0, 1, 0), (1, 0, None)]
    assert [one.lag for one in ledger_cli.lags(rows, {("t", 0): 10, ("t", 1): 4})] == [2, 1]


def test_check_fails_when_the_tables_differ(world: World) -> None:
    assert RUNNER.invoke(ledger_cli.app, ["check", world.ledger.path]).exit_code == 0
    row = world.ledger.rows(PIPELINE)[-1]
    wrong = row_of(world.checkpoint.checkpoint_id, 5, 5, ranges=[RangeRow("t", "A", 0, 60, 70, 10)], sinks=list(row.sinks), token=1)
    world.ledger.append(wrong, app_id=world.checkpoint.app_id)
    found = RUNNER.invoke(ledger_cli.app, ["check", world.ledger.path, "--json"])
    assert found.exit_code == 1
    assert "continuity" in {one["kind"] for one in json.loads(found.output)}


def test_refresh_asks_for_a_table_that_the_pipeline_reads(world: World) -> None:
    last = world.ledger.rows(PIPELINE)[-1]
    row = replace(last, epoch=last.epoch + 1, batch_id=last.batch_id + 1, tables=(TableRow("airlines", "/airlines", "id", 3, T0),))
    world.ledger.append(row, app_id=world.checkpoint.app_id)
    result = RUNNER.invoke(ledger_cli.app, ["refresh", world.ledger.path, PIPELINE, "airlines"])
    assert (result.exit_code, result.stderr.strip()) == (0, "request 1: airlines is at version 3 now")
    assert ask_refresh(world.ledger, PIPELINE, "airlines") == 2
    wrong = RUNNER.invoke(ledger_cli.app, ["refresh", world.ledger.path, PIPELINE, "airports"])
    assert isinstance(wrong.exception, EpochError)
    assert "expected one that 'shop/orders' reads, got 'airlines'" in str(wrong.exception)


def test_an_unknown_pipeline_is_named(world: World) -> None:
    result = RUNNER.invoke(ledger_cli.app, ["show", world.ledger.path, "--pipeline", "other"])
    assert isinstance(result.exception, EpochError)
    assert "cannot find pipeline 'other'" in str(result.exception)
    assert "got 'shop/orders'" in str(result.exception)


def test_versions_are_those_of_the_epoch(world: World) -> None:
    assert {name: one.version for name, one in versions(world.ledger, PIPELINE).items()} == {"facts": 5, "late": 2}
    for epoch in range(5):
        found = versions(world.ledger, PIPELINE, as_of_epoch=epoch)
        counts = {name: DeltaTable(one.path, version=one.version).count() for name, one in found.items()}
        assert counts == {"facts": 10 * (epoch + 1), "late": 10 * (epoch // 3 + 1)}


def test_an_epoch_that_is_not_there_cannot_be_read(world: World) -> None:
    with pytest.raises(EpochError, match=r"cannot read pipeline 'shop/orders': expected epoch 5 in .*, got epochs 0 to 4"):
        versions(world.ledger, PIPELINE, as_of_epoch=5)
    with pytest.raises(EpochError, match=r"cannot read pipeline 'x': expected an epoch in .*, got none yet"):
        versions(world.ledger, "x")


def test_letters_are_listed_and_control_no_terminal(tmp_path: Path) -> None:
    table = pa.table(
        {
            "topic": ["t[red]\x1b[31m"] * 3,
            "partition": pa.array([0, 0, 1], pa.int32()),
            "offset": pa.array([5, 6, 7], pa.int64()),
            "reason": ["bad_value", "bad_value", "not_json"],
            "detail": ["price", "price", None],
            "value": [b"\x1b]0;title\x07\x1b[2J[bold]{\xff", b"x" * 500, None],
        }
    )
    path = str(tmp_path / "letters")
    write_deltalake(path, table)
    write_deltalake(f"{path}_replayed", table.select(["topic", "partition", "offset"]).slice(2))
    said = RUNNER.invoke(dead_letters_cli.app, ["list", path, "--samples", "2"]).output
    assert "3 dead letters" in said
    assert all(one.isprintable() or one == "\n" for one in said)
    assert r"\x1b]0;title\x07\x1b[2J[bold]{\xff" in said
    found = json.loads(RUNNER.invoke(dead_letters_cli.app, ["list", path, "--json"]).output)
    assert [(one["reason"], one["detail"], one["count"], one["replayed"]) for one in found] == [
        ("bad_value", "price", 2, 0),
        ("not_json", None, 1, 1),
    ]


@pytest.mark.parametrize(
    ("app", "command"),
    [
        (ledger_cli.app, ["lag", "LEDGER", "--bootstrap-servers", "localhost:1"]),
        (ledger_cli.app, ["check", "LEDGER"]),
        (REWIND, [PIPELINE, "--ledger", "LEDGER", "--checkpoint", "CHECKPOINT", "--to", "latest"]),
        (
            outbox_cli.app,
            ["move", PIPELINE, "--ledger", "LEDGER", "--outbox", "x", "--bootstrap-servers", "localhost:1", "--to-epoch", "0"],
        ),
    ],
)
def test_a_setting_without_a_value_is_refused_by_each_command(world: World, app: typer.Typer, command: list[str]) -> None:
    paths = {"LEDGER": world.ledger.path, "CHECKPOINT": world.checkpoint.path}
    given = [paths.get(word, word) for word in command]
    result = RUNNER.invoke(app, [*given, "--option", "kafka.security.protocol"])
    assert isinstance(result.exception, SettingsError)
    assert "cannot use option 'kafka.security.protocol': expected kafka.name=value, got no value" in str(result.exception)
