"""A comparison tells lost, duplicated, altered and unexpected rows apart, and shows what is needed to look into it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from spark_ext.epochs.ledger import EpochRow, RangeRow, SinkRow
from spark_ext.testing import Crash, DifferenceError, Hit, JobUnderTest, Result, Rows, assert_same, differences
from spark_ext.testing.result import ledger_facts, read_tables, sink_fact

NOON = datetime(2025, 1, 1, 12, tzinfo=UTC)
Table = Sequence[Mapping[str, Any]]


def never(*_: Any) -> Any:
    raise NotImplementedError


def result(keys: Mapping[str, Sequence[str]] | None = None, facts: Table = (), **tables: Table) -> Result:
    job = JobUnderTest(schema=pa.schema([]), build=never, tables={name: name for name in tables}, keys=keys or {})
    return Result(
        job=job,
        steps=[Rows([{"id": 1}]), Crash("after_sinks")],
        folder=Path("f"),
        tables={name: pa.Table.from_pylist([dict(row) for row in rows]) for name, rows in tables.items()},
        ledger=[],
        facts=facts,
        hits=[Hit("after_sinks", "", 3)],
        starts=2,
        offsets='{"logOffset": 3}',
        progress='{"batchId": 3}',
        plan="\n".join(f"== plan {line} ==" for line in range(50)),
    )


def rows(*ids: int, **more: Any) -> list[dict[str, Any]]:
    return [{"id": one, "key": "k", **more} for one in ids]


def test_the_same_rows_in_another_order_are_the_same() -> None:
    nested = {"nested": {"a": [1, None], "b": float("nan")}}
    assert differences(result(t=rows(1, 2, 2, **nested)), result(t=rows(2, 1, 2, **nested))) == []
    assert_same(result(t=rows(1)), {"t": rows(1)})
    assert_same(result(t=[]), {"t": []})


def test_lost_duplicated_and_unexpected_rows_are_told_apart() -> None:
    (found,) = differences(result(t=rows(1, 1, 1, 2, 9)), result(t=rows(1, 2, 2, 3)))
    assert found.columns == ("id", "key")
    assert (found.expected, found.found) == (4, 5)
    assert found.lost == [(2, "k"), (3, "k")]
    assert found.duplicated == [((1, "k"), 1, 3)]
    assert found.unexpected == [(9, "k")]
    assert found.altered == []


def test_with_keys_a_row_with_another_content_is_altered() -> None:
    changed = [*rows(1), {"id": 2, "key": "other"}]
    (found,) = differences(result({"t": ["id"]}, t=changed), {"t": rows(1, 2)})
    assert (found.altered, found.lost, found.unexpected) == ([((2, "k"), (2, "other"))], [], [])
    assert found.text.splitlines() == [
        "table 't': 2 rows expected, 2 found; 1 altered",
        "  altered:",
        "             | id | key",
        "    expected | 2  | k",
        "    found    | 2  | *other*",
    ]
    (without,) = differences(result(t=changed), {"t": rows(1, 2)})
    assert (without.altered, without.lost, without.unexpected) == ([], [(2, "k")], [(2, "other")])


def test_a_second_row_of_a_key_is_unexpected() -> None:
    (found,) = differences(result({"t": ["id"]}, t=[*rows(1), {"id": 1, "key": "other"}]), {"t": rows(1)})
    assert (found.altered, found.lost, found.unexpected) == ([], [], [(1, "other")])


def test_a_column_that_one_side_does_not_have_is_a_difference() -> None:
    (found,) = differences(result({"t": ["id"]}, t=rows(1, extra=5)), {"t": rows(1)})
    assert found.altered == [((1, "k", None), (1, "k", 5))]


def test_volatile_columns_are_not_compared() -> None:
    one, other = result(t=rows(1, at=NOON)), result(t=rows(1, at=NOON + timedelta(1)))
    assert differences(one, other)
    loose = replace(one, job=replace(one.job, volatile={"t": ["at"]}))
    assert differences(loose, other) == []


def test_a_failure_shows_twenty_rows_of_each_kind() -> None:
    with pytest.raises(DifferenceError) as raised:
        assert_same(result(t=[]), {"t": rows(*range(100))})
    text = str(raised.value)
    assert "table 't': 100 rows expected, 0 found; 100 lost\n  lost, the first 20 of 100:\n    id | key\n    0  | k\n    1  | k\n" in text
    assert "    19 | k\n" in text
    assert "    20 | k\n" not in text
    assert len(raised.value.differences[0].lost) == 100


def test_a_failure_says_how_to_repeat_it_and_where_the_run_stands() -> None:
    with pytest.raises(DifferenceError) as raised:
        assert_same(result(t=rows(1)), {"t": []}, repeat="pytest tests/x.py --walk-seed=7")
    for part in (
        "repeat with: pytest tests/x.py --walk-seed=7",
        "2 starts; crashes: after_sinks in batch 3",
        'offsets: {"logOffset": 3}',
        'last progress: {"batchId": 3}',
        "plan: == plan 0 ==",
        "== plan 39 ==\n...",
        "steps = [\n    Rows([\n        {'id': 1},\n    ]),\n    Crash('after_sinks'),\n]",
    ):
        assert part in str(raised.value)


def test_a_table_that_the_model_does_not_have_is_not_compared_and_a_name_that_the_job_does_not_have_is_an_error() -> None:
    assert differences(result(t=rows(1), other=rows(2)), {"t": rows(1)}) == []
    with pytest.raises(KeyError):
        differences(result(t=rows(1)), {"tt": rows(1)})


def test_numbers_and_texts_that_look_alike_are_different() -> None:
    (found,) = differences(result(t=[{"a": "1"}]), {"t": [{"a": 1}]})
    assert (found.lost, found.unexpected) == ([(1,)], [("1",)])


# The ledger --------------------------------------------------------------------------------------------------------------


def epoch(path: str, **changed: Any) -> EpochRow:
    given = {
        "pipeline": "p", "checkpoint_id": "c", "epoch": 0, "batch_id": 0, "token": 1, "started_at": NOON, "committed_at": NOON,
        "watermark": NOON, "first_event": NOON, "last_event": NOON, "read": 3, "accepted": 3, "durations_ms": {"read": 5}, "release": "1",
        "ranges": [RangeRow("t", "id", 0, 0, 3, 3)], "sinks": [SinkRow("events", path, "id", "append", "accepted", 3, 0, "driver")],
    }  # fmt: skip
    return EpochRow(**{**given, **changed})


@pytest.fixture
def table(tmp_path: Path) -> str:
    """Version 0 has a row, version 1 two, version 2 the rows of version 1 in other files, version 3 one of them changed."""
    path = str(tmp_path / "events")
    write_deltalake(path, pa.table({"id": [1]}))
    write_deltalake(path, pa.table({"id": [2]}), mode="append")
    write_deltalake(path, pa.table({"id": [2, 1]}), mode="overwrite")
    write_deltalake(path, pa.table({"id": [2, 7]}), mode="overwrite")
    return path


def facts(table: str, **changed: Any) -> list[dict[str, Any]]:
    return ledger_facts([epoch(table, **changed)], compared=[table])


def test_what_belongs_to_a_run_is_no_fact_of_the_ledger(table: str) -> None:
    later = NOON + timedelta(hours=1)
    other = {"checkpoint_id": "d", "token": 3, "started_at": later, "committed_at": later, "durations_ms": {}, "release": "2"}
    assert facts(table, **other) == facts(table)


@pytest.mark.parametrize(
    "changed",
    [
        {"epoch": 1},
        {"batch_id": 1},
        {"watermark": None},
        {"read": 4},
        {"accepted": 2, "late": 1},
        {"ranges": []},
        {"sinks": []},
        {"lost": 1},
    ],
    ids=str,
)
def test_what_an_epoch_says_of_its_rows_is_compared(table: str, changed: dict[str, Any]) -> None:
    due, got = facts(table), facts(table, **changed)
    (found,) = differences(result(facts=got), result(facts=due))
    assert found.table == "ledger"
    assert differences(result(facts=got), result(facts=due), ledger=False) == []


def at(path: str, version: int) -> list[SinkRow]:
    return [SinkRow("events", path, "id", "append", "accepted", 3, version, "driver")]


def test_the_version_of_a_table_counts_by_its_content(table: str) -> None:
    by_version = [facts(table, sinks=at(table, version)) for version in range(4)]
    assert by_version[1] == by_version[2], "compacted"
    assert by_version[0] != by_version[1] != by_version[3]
    assert facts(table, sinks=at(table, -1))[0]["sink events"].startswith("3 of 0 rows"), "not there yet"


def test_a_moment_is_the_same_whatever_its_zone_is_called() -> None:
    other = NOON.astimezone(ZoneInfo("Europe/Berlin"))
    assert sink_fact(1, [{"at": NOON}]) == sink_fact(1, [{"at": other}])
    assert differences(result(t=rows(1, at=NOON)), {"t": rows(1, at=other)}) == []


def test_a_table_that_is_not_compared_is_not_opened(tmp_path: Path) -> None:
    gone = str(tmp_path / "gone")
    assert ledger_facts([epoch(gone, sinks=at(gone, 5))], compared=[])[0]["sink events"] == "3 rows"


def test_a_table_that_is_not_there_is_empty(tmp_path: Path) -> None:
    job = JobUnderTest(schema=pa.schema([]), build=never, tables={"t": "nowhere"})
    assert read_tables(job, tmp_path)["t"].num_rows == 0
