"""Read a Delta table into Arrow without Spark.

Local files are read by Arrow alone: through delta-rs's own file system a thread of Arrow calls Python, and now and then aborts a process
that ends right after.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.dataset as ds
from deltalake import DeltaTable
from pyarrow import fs

__all__ = ["arrow_dataset", "read_arrow"]

FILE: Final = "file://"


def read_arrow(
    table: DeltaTable, *, columns: Sequence[str] | None = None, filters: Sequence[tuple[str, str, Any]] | None = None
) -> pa.Table:
    """Return the rows of a table that match all filters."""
    wanted = list(filters) if filters else None
    return table.to_pyarrow_table(columns=None if columns is None else list(columns), filters=wanted, filesystem=_files(table))


def arrow_dataset(table: DeltaTable) -> ds.Dataset:
    """Return a table as a dataset of Arrow, which leaves out files by their statistics."""
    return table.to_pyarrow_dataset(filesystem=_files(table))


def _files(table: DeltaTable) -> fs.FileSystem | None:
    local = table.table_uri.startswith(FILE)
    return fs.SubTreeFileSystem(unquote(table.table_uri.removeprefix(FILE)), fs.LocalFileSystem()) if local else None
