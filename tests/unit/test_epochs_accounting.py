"""The equations of the ledger: an epoch is balanced only if every row that was read is somewhere, once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from spark_ext.epochs.accounting import AccountedFor, account_for
from spark_ext.epochs.counting import Account, Counted
from spark_ext.epochs.ledger import COUNTS, EpochRow, Ledger, RangeRow
from spark_ext.epochs.ledger_cli import lags
from spark_ext.epochs.offsets import Span
from spark_ext.epochs.pipeline import Pipeline
from spark_ext.epochs.recount import Finding, check_continuity
from spark_ext.epochs.sinks import Append
from spark_ext.queries.checkpoint import Checkpoint
from tests.epochs_by_hand import PIPELINE, ROWS, World, row_of

SPANS = [Span("t", "A", 0, 0, ROWS, 0)]
RANGES = [RangeRow("t", "A", 0, 0, ROWS, ROWS)]


def derived(root: Path, **rows: int) -> AccountedFor:
    """Account for ten rows of a pipeline without a sink for accepted ones."""
    sinks = {name: Append(str(root / name), counts_as=name) for name in ("late", "dead")}
    pipeline = Pipeline(Checkpoint.claim(str(root), pipeline=PIPELINE, sources=[]), str(root / "ledger"), sinks)
    counts = dict.fromkeys(("read", "decoded", "filtered", "dead", "lost", "absent"), 0) | {"read": ROWS, "filtered": 1}
    return account_for(Counted(None, rows, [Account("t", 0, counts)], None, None), SPANS, pipeline)


def written(root: Path, account: AccountedFor) -> EpochRow:
    """Return the epoch as the ledger gives it back."""
    world = World(root)
    counts: dict[str, Any] = dict(account.counts)
    row = replace(row_of("c", 0, 0, token=world.token, ranges=list(account.ranges), sinks=[]), is_derived=True, **counts)
    world.ledger.append(row, app_id="a")
    assert world.ledger.table().to_pyarrow_table().column("is_balanced").to_pylist() == [row.is_balanced]
    (found,) = Ledger(world.ledger.path).rows(PIPELINE)
    return found


def test_accepted_is_what_is_left(tmp_path: Path) -> None:
    account = derived(tmp_path, late=3, dead=2)
    row = written(tmp_path / "world", account)
    assert {name: getattr(row, name) for name in COUNTS if getattr(row, name)} == {
        "read": 10, "accepted": 4, "filtered": 1, "late": 3, "dead": 2,
    }  # fmt: skip
    assert (account.is_balanced, row.is_balanced) == (True, True)
    assert list(check_continuity([row])) == []


def test_more_rows_than_were_read_do_not_balance_though_the_sum_is_right(tmp_path: Path) -> None:
    account = derived(tmp_path, late=7, dead=5)
    row = written(tmp_path / "world", account)
    assert (row.read, row.accepted) == (10, -3)
    assert (account.is_balanced, row.is_balanced) == (False, False)
    assert list(check_continuity([row])) == [
        Finding(0, "balance", "ledger", "10 read", "-3 accepted, 1 filtered, 7 late, 5 dead, 0 duplicate, 0 shed")
    ]


@pytest.mark.parametrize(("changed", "ranges"), [({"late": 1}, RANGES), ({}, [replace(RANGES[0], read=9)])])
def test_a_row_too_many_and_a_torn_range_do_not_balance(changed: dict[str, Any], ranges: list[RangeRow]) -> None:
    row = row_of("c", 0, 0, ranges=RANGES, sinks=[])
    assert row.is_balanced
    assert not replace(row, ranges=ranges, **changed).is_balanced


def test_the_ends_of_partitions_come_through_also_of_those_that_were_not_read(tmp_path: Path) -> None:
    spans = [Span("t", "A", 0, 0, ROWS, 0, 25), Span("t", "A", 1, 7, 7, 0, 9), Span("u", None, 0, 3, 3, 0)]
    pipeline = Pipeline(Checkpoint.claim(str(tmp_path), pipeline=PIPELINE, sources=[]), str(tmp_path), {"x": Append(str(tmp_path / "x"))})
    counts = {"read": ROWS, "filtered": 0, "dead": 0, "lost": 0, "absent": 0}
    account = account_for(Counted(None, {}, [Account("t", 0, counts)], None, None), spans, pipeline)
    row = written(tmp_path / "world", account)
    assert [(one.topic, one.partition, one.end, one.latest) for one in row.ranges] == [("t", 0, 10, 25), ("t", 1, 7, 9), ("u", 0, 3, None)]
    assert [(one.partition, one.lag) for one in lags([row])] == [(0, 15), (1, 2), (0, None)]
