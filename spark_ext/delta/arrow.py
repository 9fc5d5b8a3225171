"""Read a Delta table into Arrow without Spark.

Local files are read by Arrow alone: through delta-rs's own file system a thread of Arrow calls Python, and now and then aborts a process
that ends right after.

Files that delta-rs has rewritten (merges, deletes) call their strings ``string_view``, and Arrow cannot compare the statistics inside
such a file with a string. So a condition leaves out files by the statistics in Delta's log, and rows by the values themselves.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any, Final
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from deltalake import DeltaTable
from pyarrow import fs

__all__ = ["arrow_dataset", "read_arrow", "rows_where"]

FILE: Final = "file://"
COMPARISONS: Final[Mapping[str, Callable[[Any, Any], Any]]] = {
    "=": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip

Condition = Callable[[Callable[[str], Any]], Any]


def read_arrow(
    table: DeltaTable, *, columns: Sequence[str] | None = None, filters: Sequence[tuple[str, str, Any]] | None = None
) -> pa.Table:
    """Return the rows of a table that match all filters: (column, comparison, value)."""
    wanted = None if columns is None else list(columns)
    if not filters:
        return arrow_dataset(table).to_table(columns=wanted)
    found = rows_where(table, lambda field: reduce(operator.and_, (COMPARISONS[how](field(name), value) for name, how, value in filters)))
    return found.to_table(columns=wanted)


def rows_where(table: DeltaTable, condition: Condition) -> ds.Dataset:
    """Return the rows of a table that match a condition, as a dataset of the files that may have some.

    Parameters
    ----------
    condition : callable
        Gets a function from the name of a column to its expression, and returns an expression.
    """
    dataset = arrow_dataset(table)
    files = list(dataset.get_fragments(filter=condition(pc.field)))
    some = ds.FileSystemDataset(files, dataset.schema, dataset.format, dataset.filesystem)
    return some.filter(condition(lambda name: _by_value(dataset.schema, name)))


def arrow_dataset(table: DeltaTable) -> ds.Dataset:
    """Return a table as a dataset of Arrow, which leaves out files by their statistics."""
    return table.to_pyarrow_dataset(filesystem=_files(table))


def _by_value(schema: pa.Schema, name: str) -> pc.Expression:
    kind = schema.field(name).type
    is_text = pa.types.is_string(kind) or pa.types.is_binary(kind)
    return pc.field(name).cast(kind) if is_text else pc.field(name)


def _files(table: DeltaTable) -> fs.FileSystem | None:
    local = table.table_uri.startswith(FILE)
    return fs.SubTreeFileSystem(unquote(table.table_uri.removeprefix(FILE)), fs.LocalFileSystem()) if local else None
