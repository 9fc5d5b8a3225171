"""Stores that are asked: point lookups by key, without Spark."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
from deltalake import DeltaTable
from pyspark.sql.types import DataType

from spark_ext.delta.arrow import read_arrow
from spark_ext.streams.records import VALUE
from spark_ext.streams.store_table import key_columns, key_values
from spark_ext.tables import TableReader

__all__ = ["QueryableStore"]


class QueryableStore:
    """The table of a store, by key; answers are of a committed epoch.

    Parameters
    ----------
    path : str
        Of the table.
    kind : DataType
        Of the key.
    max_age : timedelta, optional
        See `spark_ext.tables.TableReader`: how old the version may be that answers are of; None: no call waits for a newer one.

    State: 12 bytes per key, and a thread, from the first lookup until `close`.
    """

    def __init__(self, path: str, kind: DataType, *, max_age: timedelta | None = None) -> None:
        self.path, self._kind, self._max_age = path, kind, max_age
        self._keys = key_columns(kind)
        self._reader: TableReader | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def get(self, key: Any) -> Any:
        """Return the value of a key; None if it is not there. A key that is a struct is given as a mapping."""
        row = self._opened().get(key_values(key, self._kind))
        return None if row is None else row[VALUE]

    def getMany(self, keys: Sequence[Any]) -> pa.Table:
        """Return the rows of keys that are there, in the order of the keys, all of one version: the key's columns and ``value``."""
        asked = [key_values(key, self._kind) for key in keys]
        rows = [tuple(one.values()) if len(self._keys) > 1 else next(iter(one.values())) for one in asked]
        found = self._opened().get_many(rows).select([*self._keys, VALUE])
        return found.filter(found.column(VALUE).is_valid())

    def all(self) -> pa.Table:
        """Return all rows of the newest version: the key's columns, ``value``, ``timestamp``, ``sequence``."""
        found = read_arrow(DeltaTable(self.path))
        return found.filter(found.column(VALUE).is_valid())

    def approximateNumEntries(self) -> int:
        """Return how many keys there are."""
        return int(self.all().num_rows)

    def close(self) -> None:
        """Let the reader go; a later lookup opens it anew."""
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()

    def _opened(self) -> TableReader:
        if self._reader is None:
            self._reader = TableReader(self.path, self._keys, columns=[VALUE], max_age=self._max_age)
        return self._reader
