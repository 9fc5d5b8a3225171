"""Seeded walks of streams and crashes over epochs: no row lost, none twice, and each epoch in all tables or in none.

And the test of that test: with one step of the commit broken on purpose, the walks must fail.
"""

from __future__ import annotations

import inspect
import re
import sys
import textwrap
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession

from spark_ext import epochs
from spark_ext.delta import by_driver
from spark_ext.epochs import commit, guard
from spark_ext.epochs.ledger import Ledger
from spark_ext.epochs.points import POINTS
from spark_ext.errors import EpochError
from spark_ext.queries import Checkpoint, Query
from spark_ext.testing import (
    EVENTS,
    IN_OPERATOR,
    Crash,
    JobUnderTest,
    Result,
    Rows,
    Step,
    Walk,
    assert_same,
    random_walk,
    run_script,
    without_crashes,
)
from tests.epoch_job import JOB, SINKS, expected

pytestmark = pytest.mark.spark

WALKS = 25


def walk_of(seed: int) -> Walk:
    return random_walk(seed, sinks=SINKS)


def go(spark: SparkSession, seed: int, folder: Path, command: str = "") -> Result:
    walk = walk_of(seed)
    result = run_script(spark, JOB, walk.steps, folder)
    assert_same(result, expected(walk.batches), repeat=command)
    assert result.batches == len(walk.batches)
    return result


@pytest.fixture(scope="module")
def hits() -> Counter[str]:
    """How often a walk of this run crashed at each point."""
    return Counter()


@pytest.mark.walks(WALKS)
def test_a_walk_ends_with_the_tables_of_the_model(
    spark: SparkSession, walk_seed: int, walk_command: str, tmp_path: Path, hits: Counter[str]
) -> None:
    result = go(spark, walk_seed, tmp_path, walk_command)
    hits.update([hit.point for hit in result.hits], walks=1)


def test_each_point_was_hit(hits: Counter[str]) -> None:
    if hits["walks"] < WALKS:
        pytest.skip("asks what the walks before it did, and not all were run")
    assert {point for point in (*POINTS, IN_OPERATOR) if not hits[point]} == set()


@pytest.mark.walks(3, first=100)
def test_a_walk_ends_with_the_tables_of_the_run_without_crashes(
    spark: SparkSession, walk_seed: int, walk_command: str, tmp_path: Path
) -> None:
    steps = walk_of(walk_seed).steps
    reference = run_script(spark, JOB, without_crashes(steps), tmp_path / "reference")
    assert reference.hits == []
    assert_same(run_script(spark, JOB, steps, tmp_path / "crashed"), reference, repeat=walk_command)


@pytest.mark.slow
@pytest.mark.walks(200, first=1000)
def test_no_walk_of_two_hundred_loses_or_doubles_a_row(spark: SparkSession, walk_seed: int, walk_command: str, tmp_path: Path) -> None:
    go(spark, walk_seed, tmp_path, walk_command)


def test_a_batch_that_is_in_the_ledger_already_moves_watermark_and_state(spark: SparkSession, tmp_path: Path) -> None:
    """The crash between the ledger and Spark's commit: the replay writes nothing, but later batches go by what it has read."""

    def build(spark: SparkSession, stream: DataFrame, folder: Path) -> Query:
        pipeline = epochs.Pipeline(
            checkpoint=Checkpoint.claim(str(folder / "checkpoint"), pipeline="test/state", sources=["script"]),
            ledger=str(folder / "ledger"),
            sinks={"first": epochs.Append(str(folder / "first"), counts_as="accepted")},
        )
        first = stream.withWatermark("at", "1 hour").dropDuplicatesWithinWatermark(["id"])
        return epochs.start(first, lambda epoch: {"first": epoch.rows.drop("raw")}, pipeline=pipeline, every="0 seconds")

    job = JobUnderTest(EVENTS, build, {"first": "first"}, ledger="ledger")

    def rows(*ids: int) -> Rows:
        return Rows([{"id": one, "at": datetime(2025, 1, 1, 12, one, tzinfo=UTC)} for one in ids])

    steps: list[Step] = [rows(1, 2), Crash("after_ledger"), rows(2, 3, 4), rows(3, 4, 5), Crash("after_ledger"), rows(6), rows(6, 1)]
    reference = run_script(spark, job, without_crashes(steps), tmp_path / "reference")
    result = run_script(spark, job, steps, tmp_path / "crashed")
    assert_same(result, reference)
    assert sorted(row["id"] for row in result.rows("first")) == [1, 2, 3, 4, 5, 6]
    assert len(result.hits) == 2


# The test of the test ----------------------------------------------------------------------------------------------------

Patch = pytest.MonkeyPatch


def rewrite(patch: Patch, change: Callable[[str], str]) -> None:
    """Let the pipelines of this test commit by a changed text of the protocol."""
    made = ModuleType(commit.__name__)
    exec(compile(change(inspect.getsource(commit)), "broken commit", "exec"), made.__dict__)  # noqa: S102 (our own text)
    patch.setattr(sys.modules["spark_ext.epochs.start"], "Committer", made.Committer)


def replaced(old: str, new: str) -> Callable[[str], str]:
    def change(text: str) -> str:
        assert text.count(old) == 1, f"the protocol has another text: {old!r}"
        return text.replace(old, new)

    return change


def no_transaction_id(patch: Patch) -> None:
    rewrite(patch, replaced('None if sink.delivery == "at_least_once" else Txn(', "None if True else Txn("))


def transaction_id_of_the_run(patch: Patch) -> None:
    rewrite(patch, replaced("else Txn(self._app_id, ", 'else Txn(f"{self._app_id}:{self._token}", '))


def asleep(patch: Patch) -> None:
    """Let the guard at the start not notice that tables lack the transaction id."""
    patch.setattr(guard._Guard, "_check_txn", lambda *_: None)


def no_transaction_id_and_no_guard(patch: Patch) -> None:
    no_transaction_id(patch)
    asleep(patch)


def transaction_id_of_the_run_and_no_guard(patch: Patch) -> None:
    transaction_id_of_the_run(patch)
    asleep(patch)


def ledger_before_sinks(patch: Patch) -> None:
    def swap(text: str) -> str:
        before, rest = text.split("            # 5. The sinks.\n")
        sinks, rest = rest.split("        finally:\n", 1)
        cleanup, rest = rest.split("        # 6. The ledger.\n")
        ledger, rest = rest.split("        # 7. Maintenance.\n")
        early = textwrap.indent(ledger.replace("sinks=rows", "sinks=[]"), "    ")
        return f"{before}{early}{sinks}        finally:\n{cleanup}{rest}"

    rewrite(patch, swap)


def versions_of_before_the_epoch(patch: Patch) -> None:
    rewrite(patch, replaced("written.version)", "written.version - 1)"))


def tables_are_not_asked_what_they_have(patch: Patch) -> None:
    patch.setattr(by_driver, "skipped", lambda *_: None)
    patch.setattr(by_driver, "is_done", lambda *_: False)


def ledger_is_not_asked_what_it_has(patch: Patch) -> None:
    patch.setattr(Ledger, "is_committed", lambda *_: False)


def replay_of_a_committed_batch_does_not_read_it(patch: Patch) -> None:
    whole = commit.Committer.__call__

    def call(self: commit.Committer, batch: Any) -> None:
        if not self._ledger.is_committed(self._app_id, batch.batch_id):
            whole(self, batch)

    patch.setattr(commit.Committer, "__call__", call)


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("break_it", "point", "message"),
    [
        (no_transaction_id, "after_sinks", "cannot go on with sink 'events'"),
        (no_transaction_id_and_no_guard, "after_sinks", "duplicated"),
        (transaction_id_of_the_run, "after_sinks", "cannot go on with sink 'events'"),
        (transaction_id_of_the_run_and_no_guard, "after_sinks", "duplicated"),
        (ledger_before_sinks, "before_sink", "lost"),
        (versions_of_before_the_epoch, "after_read", "table 'ledger'"),
        (tables_are_not_asked_what_they_have, "after_sinks", "duplicated"),
        (ledger_is_not_asked_what_it_has, "after_ledger", "table 'ledger'.*(duplicated|unexpected)"),
        (replay_of_a_committed_batch_does_not_read_it, "after_ledger", "watermark"),
    ],
)
def test_walks_find_a_broken_step(
    spark: SparkSession, break_it: Callable[[Patch], None], point: str, message: str, tmp_path: Path, monkeypatch: Patch
) -> None:
    break_it(monkeypatch)
    for seed in range(WALKS):
        if any(isinstance(step, Crash) and step.point == point for step in walk_of(seed).steps):
            try:
                go(spark, seed, tmp_path / str(seed))
            except (AssertionError, EpochError) as error:
                assert re.search(message, str(error), re.DOTALL)  # noqa: PT017 (the first walk that fails is enough)
                return
    pytest.fail("no walk has found it")


def test_walks_pass_with_an_unchanged_text(spark: SparkSession, tmp_path: Path, monkeypatch: Patch) -> None:
    rewrite(monkeypatch, lambda text: text)
    go(spark, 3, tmp_path)
