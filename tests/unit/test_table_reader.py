"""Rows by key out of a Delta table: equal to a dict of its rows, of one version, while it is written to."""

from __future__ import annotations

import json
import threading
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from hypothesis import given, settings
from hypothesis import strategies as st

from spark_ext.delta import apply_changes
from spark_ext.errors import SchemaError, SettingsError, StateError
from spark_ext.tables import key_index, reader
from spark_ext.tables.reader import TableReader

NOW = timedelta(0)


def changes(rows: list[tuple[Any, ...]], names: list[str], types: list[pa.DataType]) -> pa.Table:
    schema = pa.schema([*zip(names, types, strict=True), ("sign", pa.int8())])
    return pa.Table.from_pylist([dict(zip(schema.names, row, strict=True)) for row in rows], schema=schema)


def put(path: str, *rows: tuple[str | None, int, int]) -> None:
    apply_changes(changes(list(rows), ["k", "v"], [pa.string(), pa.int64()]), path, keys=["k"], txn=None)


KINDS: list[tuple[pa.DataType, Any, Any]] = [
    (pa.int64(), 5, -5), (pa.int32(), 5, 6), (pa.string(), "ü", ""), (pa.binary(), b"\x00", b""), (pa.bool_(), True, False),
    (pa.date32(), date(2024, 2, 29), date(1970, 1, 1)), (pa.decimal128(9, 2), Decimal("1.50"), Decimal("15.00")),
    (pa.decimal128(38, 2), Decimal("123456789012345678901234567890.12"), Decimal("0.01")),
    (pa.timestamp("us", "UTC"), datetime(2024, 1, 1, 1, 2, 3, 4, UTC), datetime(1969, 1, 1, tzinfo=UTC)),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "one", "other"), KINDS, ids=[str(kind) for kind, _, _ in KINDS])
def test_keys_of_each_type(tmp_path: Path, kind: pa.DataType, one: Any, other: Any) -> None:
    path = str(tmp_path / "table")
    apply_changes(changes([(one, 1, 1), (None, 2, 1)], ["k", "v"], [kind, pa.int64()]), path, keys=["k"], txn=None)
    apply_changes(changes([(other, 3, 1), (None, 2, -1)], ["k", "v"], [kind, pa.int64()]), path, keys=["k"], txn=None)
    with TableReader(path, "k") as table:
        assert table.get(one) == {"k": one, "v": 1}
        assert table.get(other) == {"k": other, "v": 3}
        assert table.get(None) is None
        found = table.get_many([other, None, one, other])
        assert found.schema == pa.schema([("k", kind), ("v", pa.int64())])
        assert found.to_pylist() == [{"k": other, "v": 3}, {"k": one, "v": 1}]
        assert table.get_many([]).num_rows == 0


@settings(max_examples=15, deadline=None)
@given(st.lists(st.dictionaries(st.integers(0, 40), st.integers(0, 9) | st.none(), min_size=1), min_size=1, max_size=5))
def test_every_version_is_the_dict_of_its_rows(tmp_path_factory: pytest.TempPathFactory, steps: list[dict[int, int | None]]) -> None:
    path, there, versions = str(tmp_path_factory.mktemp("reader") / "table"), {}, []
    live = None
    for step in steps:
        rows = []
        for k, v in step.items():
            rows += [(f"k{k}", there[k], -1)] if k in there else []
            there.pop(k, None)
            if v is not None:
                there[k] = v
                rows.append((f"k{k}", v, 1))
        put(path, *rows)
        versions.append(dict(there))
        live = live or TableReader(path, "k", max_age=NOW)
        assert {k for k in range(41) if live.get(f"k{k}")} == set(there)
        assert live.as_of_version == len(versions) - 1
    asked = [f"k{k}" for k in range(41)]
    for version, wanted in enumerate(versions):
        with TableReader(path, ["k"], version=version) as table:
            assert {row["k"]: row["v"] for row in table.get_many(asked).to_pylist()} == {f"k{k}": v for k, v in wanted.items()}
            assert table.get_many(pa.table({"k": asked})).num_rows == len(wanted)
    if live:
        live.close()


def test_keys_whose_hashes_are_equal_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_index, "key_hashes", lambda columns: np.full(len(columns[0]), 7, np.uint64))
    path = str(tmp_path / "table")
    put(path, ("a", 1, 1), ("b", 2, 1))
    put(path, ("c", 3, 1))
    with TableReader(path, "k") as table:
        assert [table.get(k) for k in ("a", "b", "c", "d")] == [{"k": "a", "v": 1}, {"k": "b", "v": 2}, {"k": "c", "v": 3}, None]
        assert table.get_many(["c", "x", "a"]).column("v").to_pylist() == [3, 1]


def test_rows_of_many_row_groups(tmp_path: Path) -> None:
    path = str(tmp_path / "table")
    size = 40_000
    rows = pa.table({"k": np.arange(size), "v": np.arange(size) * 2, "sign": pa.array(np.ones(size), pa.int8())})
    apply_changes(rows, path, keys=["k"], txn=None)
    apply_changes(rows.slice(5, 1), path, keys=["k"], txn=None)
    with TableReader(path, "k", columns=["v"]) as table:
        asked = [39_999, 0, 16_384, 16_383, 5, 40_000]
        assert table.get_many(asked).column("v").to_pylist() == [2 * k for k in asked[:-1]]
        assert table.get(17_000) == {"k": 17_000, "v": 34_000}


def test_a_column_that_was_added_is_null_in_older_files(tmp_path: Path) -> None:
    path = str(tmp_path / "table")
    put(path, ("a", 1, 1))
    more = changes([("zz", 2, "new", 1)], ["k", "v", "w"], [pa.string(), pa.int64(), pa.string()])
    apply_changes(more, path, keys=["k"], txn=None, evolve=True)
    with TableReader(path, "k") as table:
        assert table.get("a") == {"k": "a", "v": 1, "w": None}
        assert table.get("zz") == {"k": "zz", "v": 2, "w": "new"}


def test_without_max_age_no_call_waits_and_only_new_files_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "table")
    put(path, ("a", 1, 1))
    read: list[str] = []
    go = threading.Event()

    def slow(files: Any, path: str, *others: Any) -> Any:
        read.append(path)
        assert go.wait(60)
        return key_index.index_file(files, path, *others)

    with TableReader(path, "k") as table:
        put(path, ("b", 2, 1))
        monkeypatch.setattr(reader, "index_file", slow)
        assert table.get("b") is None, "the new version is only looked for"
        assert table.get("a") == {"k": "a", "v": 1}
        assert table.as_of_version == 0
        go.set()
        assert table.refresh() == 1
        assert table.get("b") == {"k": "b", "v": 2}
        assert len(read) == 1


def test_with_max_age_a_call_waits_only_when_the_answer_may_be_too_old(tmp_path: Path) -> None:
    path, now = str(tmp_path / "table"), [0.0]
    put(path, ("a", 1, 1))
    with TableReader(path, "k", max_age=timedelta(seconds=10), clock=lambda: now[0]) as table:
        put(path, ("b", 2, 1))
        now[0] = 10.0
        assert table.get("b") is None
        now[0] = 10.5
        assert table.get("b") == {"k": "b", "v": 2}


def test_files_that_were_cleaned_up_are_no_error_while_there_is_a_newer_version(tmp_path: Path) -> None:
    path, now = str(tmp_path / "table"), [0.0]
    put(path, ("a", 1, 1))
    with TableReader(path, "k", max_age=timedelta(days=1), clock=lambda: now[0]) as table:
        put(path, ("a", 1, -1), ("a", 5, 1))
        DeltaTable(path).vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)
        now[0] = 1.0
        assert table.get("a") == {"k": "a", "v": 5}


def test_a_table_that_is_taken_away_is_an_error_of_the_next_call(tmp_path: Path) -> None:
    path = str(tmp_path / "table")
    put(path, ("a", 1, 1))
    with TableReader(path, "k", max_age=NOW) as table:
        (tmp_path / "table").rename(tmp_path / "gone")
        with pytest.raises(Exception, match=r"(?i)not found|no such file|does not exist"):
            table.get("a")


def test_what_cannot_be_read_by_key_is_refused(tmp_path: Path) -> None:
    path = str(tmp_path / "table")
    with pytest.raises(StateError, match="expected a Delta table, got none"):
        TableReader(path, "k")
    put(path, ("a", 1, 1))
    with pytest.raises(SchemaError, match="cannot read column 'nope'"):
        TableReader(path, "nope")
    with pytest.raises(SettingsError, match="one of 0 to 0, got 3"):
        TableReader(path, "k", version=3)
    with TableReader(path, "k") as table, pytest.raises(SchemaError, match="cannot look up key '\\[5\\]': expected k string"):
        table.get(5)
    write_deltalake(str(tmp_path / "parts"), pa.table({"k": ["a"], "p": ["x"]}), partition_by=["p"])
    with pytest.raises(StateError, match="partitions by p"):
        TableReader(str(tmp_path / "parts"), "k")


@pytest.mark.parametrize(
    ("feature", "properties", "match"),
    [
        ("deletionVectors", {"delta.enableDeletionVectors": "true"}, "got the feature deletionVectors; they would be found wrong"),
        ("deletionVectors", {"delta.enableDeletionVectors": "false"}, "got the feature deletionVectors"),
        ("columnMapping", {"delta.columnMapping.mode": "id"}, "got delta.columnMapping.mode"),
        ("columnMapping", {"delta.columnMapping.mode": "name"}, "got delta.columnMapping.mode"),
    ],
)
def test_files_whose_rows_or_columns_are_not_the_tables_are_refused(
    tmp_path: Path, feature: str, properties: dict[str, str], match: str
) -> None:
    path = tmp_path / "table"
    put(str(path), ("a", 1, 1))
    log = path / "_delta_log"
    (first,) = log.glob("*.json")
    actions = [json.loads(line) for line in first.read_text().splitlines()]
    protocol = {"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": [feature], "writerFeatures": [feature]}
    metadata = next(one["metaData"] for one in actions if "metaData" in one)
    schema = json.loads(metadata["schemaString"])
    for at, field in enumerate(schema["fields"] if feature == "columnMapping" else [], start=1):
        field["metadata"] = {"delta.columnMapping.id": at, "delta.columnMapping.physicalName": f"col-{at}"}
    made = [{"protocol": protocol}, {"metaData": {**metadata, "schemaString": json.dumps(schema), "configuration": properties}}]
    (log / f"{1:020}.json").write_text("\n".join(map(json.dumps, made)))
    with pytest.raises(StateError, match=match):
        TableReader(str(path), "k")
