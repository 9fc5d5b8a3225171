"""Tables are read with conditions, whoever has written their files."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from spark_ext.delta.arrow import read_arrow, rows_where


@pytest.fixture
def rewritten(tmp_path: Path) -> DeltaTable:
    """Return a table of whose rows some were deleted; delta-rs calls the strings of what is left string_view."""
    path = str(tmp_path / "t")
    kinds = pa.schema([("k", pa.string()), ("b", pa.binary()), ("n", pa.int64())])
    write_deltalake(path, pa.table({"k": ["a"] * 5 + ["b"] * 5 + [None], "b": [b"x"] * 5 + [b"y"] * 6, "n": list(range(11))}, schema=kinds))
    DeltaTable(path).delete("n < 3")
    (file,) = DeltaTable(path).file_uris()
    assert pq.read_schema(file).field("k").type == pa.string_view()
    return DeltaTable(path)


@pytest.mark.parametrize(
    ("filters", "count"),
    [
        ([("k", "=", "a")], 2), ([("k", "=", "b")], 5), ([("k", "=", "aa")], 0), ([("k", "=", "z")], 0), ([("k", "!=", "a")], 5),
        ([("k", "<=", "a"), ("n", ">", 3)], 1), ([("b", "=", b"y")], 6), ([("n", "<", 5), ("n", ">=", 4)], 1), ([("k", ">", "a")], 5),
        ([], 8), (None, 8),
    ],
)  # fmt: skip
def test_rows_of_rewritten_files_are_found(rewritten: DeltaTable, filters: list[tuple[str, str, object]] | None, count: int) -> None:
    found = read_arrow(rewritten, columns=["n"], filters=filters)
    assert (found.num_rows, found.column_names) == (count, ["n"])


def test_files_are_left_out_by_the_log(tmp_path: Path) -> None:
    for number in range(3):
        write_deltalake(str(tmp_path / "t"), pa.table({"k": [f"k{number}"], "p": [number]}), mode="append", partition_by=["p"])
    table = DeltaTable(str(tmp_path / "t"))
    found = rows_where(table, lambda field: (field("k") >= "k1") & (field("k") <= "k1"))
    assert [len(found.files), found.to_table().to_pylist()] == [1, [{"k": "k1", "p": 1}]]
    assert read_arrow(table, filters=[("p", "=", 2)]).to_pylist() == [{"k": "k2", "p": 2}]
    assert read_arrow(table, filters=[("k", "=", "none")]).num_rows == 0
