"""Stores that are asked: point lookups by key, without Spark."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from deltalake import DeltaTable
from pyspark.sql.types import DataType

from spark_ext.delta.arrow import read_arrow
from spark_ext.streams.records import VALUE
from spark_ext.streams.store_table import key_values

__all__ = ["QueryableStore"]


class QueryableStore:
    """The table of a store as it is now; each call reads the newest version.

    Parameters
    ----------
    path : str
        Of the table.
    kind : DataType
        Of the key.
    """

    def __init__(self, path: str, kind: DataType) -> None:
        self.path, self._kind = path, kind

    def get(self, key: Any) -> Any:
        """Return the value of a key; None if it is not there. A key that is a struct is given as a mapping."""
        found = read_arrow(DeltaTable(self.path), filters=[(name, "=", value) for name, value in key_values(key, self._kind).items()])
        return found.column(VALUE)[0].as_py() if found.num_rows else None

    def all(self) -> pa.Table:
        """Return all rows: the key's columns, ``value``, ``timestamp``, ``sequence``."""
        found = read_arrow(DeltaTable(self.path))
        return found.filter(found.column(VALUE).is_valid())

    def approximateNumEntries(self) -> int:
        """Return how many keys there are."""
        return int(self.all().num_rows)
