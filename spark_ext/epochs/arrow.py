"""Read a Delta table into Arrow without Spark."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import unquote

import pyarrow as pa
from deltalake import DeltaTable
from pyarrow import fs

__all__ = ["read_arrow"]

FILE: Final = "file://"


def read_arrow(
    table: DeltaTable, *, columns: Sequence[str] | None = None, filters: Sequence[tuple[str, str, Any]] | None = None
) -> pa.Table:
    """Return the rows of a table that match all filters.

    Local files are read by Arrow alone: through delta-rs's own file system a thread of Arrow calls Python, and now and then aborts a
    process that ends right after.
    """
    local = table.table_uri.startswith(FILE)
    files = fs.SubTreeFileSystem(unquote(table.table_uri.removeprefix(FILE)), fs.LocalFileSystem()) if local else None
    return table.to_pyarrow_table(
        columns=None if columns is None else list(columns), filters=list(filters) if filters else None, filesystem=files
    )
