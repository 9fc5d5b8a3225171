"""A pipeline starts only if checkpoint, ledger and tables speak of the same past."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from typer.testing import CliRunner

from spark_ext.epochs import guard
from spark_ext.epochs.ledger import Ledger
from spark_ext.epochs.sinks import Append
from spark_ext.errors import CheckpointMismatchError, EpochError
from spark_ext.ops.cli import app as commands
from spark_ext.queries import owner
from tests.epochs_by_hand import PIPELINE, ROWS, World


def check(world: World) -> int:
    try:
        return guard.check(world.checkpoint, world.ledger, PIPELINE, world.sinks)
    finally:
        owner.release(world.checkpoint)


def refused(world: World, match: str, *, error: type[Exception] = CheckpointMismatchError, to: str = "epoch:4") -> None:
    """Check that the start is refused, says why, and names a command that rewinds to where the ledger ends."""
    with pytest.raises(error, match=match) as caught:
        check(world)
    command = command_of(caught.value)
    assert command[:3] == ["millrace", "rewind", PIPELINE]
    # Where the checkpoint is not to be trusted, tables may hold rows of an epoch that was cut off: they would come twice.
    assert ("--restore-tables" in command) == (error is CheckpointMismatchError and to.startswith("epoch:"))
    command = [word for word in command if word != "--restore-tables"]
    assert dict(zip(command[3::2], command[4::2], strict=True)) == {
        "--ledger": world.ledger.path,
        "--checkpoint": world.checkpoint.path,
        "--to": to,
    }
    assert not Path(world.checkpoint.path, "owner.json").exists(), "a refused start drives nothing"


def command_of(error: Exception) -> list[str]:
    return shlex.split(str(error).rpartition(": ")[2])


def test_a_first_start_begins_with_epoch_0(tmp_path: Path) -> None:
    world = World(tmp_path)
    assert check(world) == 0
    world.ledger = Ledger(str(tmp_path / "none"))
    assert check(world) == 0


def test_a_pipeline_goes_on(world: World) -> None:
    assert check(world) == 0


@pytest.mark.parametrize("reached", ["planned", "one sink", "all sinks", "ledger"])
def test_a_crash_at_any_step_of_an_epoch_is_no_reason_to_refuse(world: World, reached: str) -> None:
    world.plan(5)
    if reached != "planned":
        world.write("facts", 5)
    if reached in ("all sinks", "ledger"):
        world.write("late", 5)
    if reached == "ledger":
        world.note(5)
    assert check(world) == 0


@pytest.mark.parametrize("reached", ["planned", "one sink", "ledger"])
def test_nor_is_one_in_the_first_epoch(tmp_path: Path, reached: str) -> None:
    world = World(tmp_path)
    world.plan(0)
    if reached != "planned":
        world.write("facts", 0)
    if reached == "ledger":
        world.write("late", 0)
        world.note(0)
    assert check(world) == 0


def test_a_deleted_checkpoint_is_refused(world: World) -> None:
    shutil.rmtree(world.checkpoint.path)
    world.claim()
    refused(
        world,
        r"cannot go on with checkpoint .*expected checkpoint \w+ of the ledger's last epoch 4, got \w+, one that the ledger does not know",
    )


def test_rows_of_an_epoch_that_was_cut_off_before_its_checkpoint_was_lost_do_not_come_twice(world: World) -> None:
    """All of batch 5 was written but the ledger's row; then somebody deleted the checkpoint. The command that the error names mends it."""
    world.plan(5)
    world.write("facts", 5)
    shutil.rmtree(world.checkpoint.path)
    world.claim()
    with pytest.raises(CheckpointMismatchError) as caught:
        check(world)
    done = CliRunner().invoke(commands, [*command_of(caught.value)[1:], "--yes"])
    assert done.exit_code == 0, done.output
    assert {name: DeltaTable(sink.path).count() for name, sink in world.sinks.items()} == {"facts": 50, "late": 20}


def test_an_emptied_checkpoint_is_refused(world: World) -> None:
    shutil.rmtree(world.checkpoint.spark_location)
    refused(world, "with batch 4, which is in the ledger, got one that ends with no batch")


def test_an_older_checkpoint_that_comes_back_is_refused(world: World) -> None:
    old = world.root / "old"
    shutil.copytree(world.checkpoint.path, old)
    shutil.rmtree(world.checkpoint.path)
    world.claim()
    world.first_epoch = 5
    world.epoch(0)
    assert check(world) == 5
    shutil.rmtree(world.checkpoint.path)
    shutil.copytree(old, world.checkpoint.path)
    world.claim()
    refused(world, "got .*, the one of epochs 0 to 4; another one took its place later", to="epoch:5")


def test_a_checkpoint_from_an_older_copy_is_refused(world: World) -> None:
    for name in ("offsets", "commits"):
        for batch in (3, 4):
            world.file(f"{name}/{batch}").unlink()
    refused(world, "expected a checkpoint with batch 4, which is in the ledger, got one that ends with batch 2")


def test_a_missing_plan_of_an_epoch_in_the_ledger_is_refused(world: World) -> None:
    world.file("offsets/4").unlink()
    world.file("commits/4").unlink()
    refused(world, "expected spark/offsets/4, as the ledger has that batch, got no such file")


def test_a_missing_plan_of_a_batch_that_a_table_has_is_refused(world: World) -> None:
    world.write("facts", 5)
    refused(world, "sink 'facts': expected a table that ends with batch 4.*got batch 5; spark/offsets/5 is gone", error=EpochError)


def test_a_ledger_from_an_older_copy_is_refused(world: World) -> None:
    copy = world.root / "copy"
    shutil.copytree(world.ledger.path, copy)
    world.epoch(5)
    world.epoch(6)
    shutil.rmtree(world.ledger.path)
    shutil.copytree(copy, world.ledger.path)
    world.ledger = Ledger(world.ledger.path)
    refused(world, "expected a ledger with the epoch of batch 6, got one that ends with batch 4; the ledger was restored")


@pytest.mark.parametrize("made", [True, False])
def test_a_deleted_ledger_is_refused(world: World, *, made: bool) -> None:
    shutil.rmtree(world.ledger.path)
    world.ledger = Ledger(world.ledger.path)
    if made:
        world.ledger.create()
    refused(world, "expected a ledger with the epoch of batch 4, got no epoch of 'shop/orders'", to="checkpoint")


def test_a_table_ahead_of_an_empty_ledger_is_refused(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.plan(0)
    world.write("facts", 1)
    refused(world, "sink 'facts': expected a table that ends with no batch", error=EpochError, to="checkpoint")


def test_a_changed_digit_in_the_offset_log_is_refused(world: World) -> None:
    file = world.file("offsets/4")
    file.write_text(file.read_text().replace('"0": 50', '"0": 51'))
    refused(
        world, r"expected t\[0\] up to 50 of id A, as in the ledger's epoch 4, got 51 of id A in spark/offsets/4; one of them was changed"
    )


def test_another_topic_id_in_the_offset_log_is_refused(world: World) -> None:
    world.plan(4, topic_id="B")
    refused(world, "expected .*50 of id A, .*got 50 of id B.*the topic was made anew")


def test_a_topic_made_anew_is_refused_with_the_command(world: World) -> None:
    with pytest.raises(
        CheckpointMismatchError, match=r"sources .*another one.*new, empty folder; .*millrace rewind shop/orders .*--to earliest"
    ):
        world.claim(("kafka topic t B",))


def test_a_deleted_table_is_refused(world: World) -> None:
    shutil.rmtree(world.sinks["late"].path)
    refused(world, "cannot go on with sink 'late': expected table .* at .*, got none; it was deleted", error=EpochError)


def test_a_table_made_anew_is_refused(world: World) -> None:
    shutil.rmtree(world.sinks["facts"].path)
    write_deltalake(world.sinks["facts"].path, pa.table({"n": [1]}))
    refused(world, r"sink 'facts': expected table \S+, got table \S+; it was deleted and made anew", error=EpochError)


def test_a_table_from_an_older_copy_is_refused(world: World) -> None:
    copy = world.root / "copy"
    shutil.copytree(world.sinks["facts"].path, copy)
    world.epoch(5)
    shutil.rmtree(world.sinks["facts"].path)
    shutil.copytree(copy, world.sinks["facts"].path)
    refused(
        world,
        "sink 'facts': expected version 6 or later, got version 5; it was restored from an older copy",
        error=EpochError,
        to="epoch:5",
    )


def test_an_older_copy_that_others_wrote_to_is_refused(world: World) -> None:
    copy = world.root / "copy"
    shutil.copytree(world.sinks["facts"].path, copy)
    world.epoch(5)
    shutil.rmtree(world.sinks["facts"].path)
    shutil.copytree(copy, world.sinks["facts"].path)
    write_deltalake(world.sinks["facts"].path, pa.table({"n": [1]}), mode="append")
    refused(world, "sink 'facts': expected a table with batch 5, got batch 4", error=EpochError, to="epoch:5")


def test_a_table_restored_to_an_older_version_is_refused(world: World) -> None:
    table = DeltaTable(world.sinks["facts"].path)
    table.restore(2)
    assert table.transaction_version(world.checkpoint.app_id) == 4, "RESTORE leaves the transaction ids: they do not tell"
    refused(world, "sink 'facts': expected the rows of version 5, got those of version 2; it was restored", error=EpochError)
    table.restore(5)
    assert check(world) == 0, "restored to where it was"
    write_deltalake(table, pa.table({"n": [1]}), mode="append")
    table.restore(7)
    assert check(world) == 0
    table.restore(6)
    refused(world, "got those of version 2", error=EpochError)


def test_an_overwritten_table_is_refused(world: World) -> None:
    write_deltalake(world.sinks["facts"].path, pa.table({"n": [1]}), mode="overwrite")
    refused(world, "sink 'facts': expected the rows of version 5, got those of version 6; another program replaced them", error=EpochError)


def test_a_table_ahead_of_the_ledger_is_refused(world: World) -> None:
    world.plan(5)
    mark = CommitProperties(app_transactions=[Transaction(world.checkpoint.app_id, 7)])
    write_deltalake(world.sinks["facts"].path, pa.table({"n": [1]}), mode="append", commit_properties=mark)
    refused(world, "sink 'facts': expected a table that ends with batch 4, as the ledger does, got batch 7", error=EpochError)


def test_rows_of_other_programs_and_new_sinks_are_let_through(world: World) -> None:
    write_deltalake(world.sinks["facts"].path, pa.table({"n": [1]}), mode="append")
    DeltaTable(world.sinks["facts"].path).optimize.compact()
    world.sinks["more"] = Append(str(world.root / "more"))
    assert check(world) == 0
    del world.sinks["late"]
    assert check(world) == 0


def test_a_sink_without_transactions_has_none_to_compare(world: World) -> None:
    path = world.sinks["facts"].path
    world.sinks["facts"] = Append(path, delivery="at_least_once")
    mark = CommitProperties(app_transactions=[Transaction(world.checkpoint.app_id, 7)])
    write_deltalake(path, pa.table({"n": [1]}), mode="append", commit_properties=mark)
    assert check(world) == 0


PROGRAM = (
    "import sys; from spark_ext.queries import owner; from spark_ext.queries.checkpoint import Checkpoint\n"
    f"owner.take(Checkpoint.find(sys.argv[1], pipeline={PIPELINE!r})); print('taken', flush=True); input()"
)


@pytest.fixture
def driver(world: World) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, world.checkpoint.path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "taken\n"
    return process


def test_a_second_driver_is_refused_while_the_first_lives(world: World, driver: subprocess.Popen[str]) -> None:
    try:
        with pytest.raises(
            EpochError, match=rf"cannot drive pipeline 'shop/orders'.*process {driver.pid}, which is alive.*kill {driver.pid}"
        ):
            check(world)
        assert Path(world.checkpoint.path, "owner.json").exists(), "it stays the first one's"
    finally:
        driver.kill()
        driver.communicate()
    assert check(world) == 0, "a killed one is overtaken"


def test_a_driver_that_ends_as_it_should_leaves_nothing(world: World, driver: subprocess.Popen[str]) -> None:
    driver.communicate("\n", timeout=30)
    assert not Path(world.checkpoint.path, "owner.json").exists()


@pytest.mark.parametrize("change", [{"created": 1.0}, {"host": "elsewhere"}, None])
def test_a_process_of_the_same_number_is_not_the_driver(world: World, change: dict[str, object] | None) -> None:
    assert guard.check(world.checkpoint, world.ledger, PIPELINE, world.sinks) == 0
    file = Path(world.checkpoint.path, "owner.json")
    file.write_text("{" if change is None else json.dumps(json.loads(file.read_text()) | change))
    assert check(world) == 0


def test_one_process_may_start_twice(world: World) -> None:
    assert guard.check(world.checkpoint, world.ledger, PIPELINE, world.sinks) == 0
    assert guard.check(world.checkpoint, world.ledger, PIPELINE, world.sinks) == 0
    world.file("offsets/4").write_text(world.file("offsets/4").read_text().replace(str(5 * ROWS), "1"))
    with pytest.raises(CheckpointMismatchError):
        guard.check(world.checkpoint, world.ledger, PIPELINE, world.sinks)
    assert Path(world.checkpoint.path, "owner.json").exists(), "the first start of this process may still run"
    owner.release(world.checkpoint)
