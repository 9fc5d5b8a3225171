"""Rows of a Delta table by key, in this process and without Spark."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from threading import Lock, get_native_id
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
import pyarrow as pa
from deltalake import DeltaTable
from pyarrow import fs

from spark_ext.delta.commits import open_table
from spark_ext.delta.fit import schema_of
from spark_ext.errors import SchemaError, SettingsError, StateError
from spark_ext.joins.sides import Numbers
from spark_ext.paths import absolute, file_system
from spark_ext.state.signed import row_numbers
from spark_ext.tables.key_index import KeyedFile, find, index_file

__all__ = ["TableReader"]

NICE: Final = 10
MAPPING: Final = "delta.columnMapping.mode"
DELETIONS: Final = "deletionVectors"  # stay in the files when the property is taken away, so the protocol tells


class TableReader:
    """Answers which row a key has, in milliseconds.

    Guarantee: an answer is of one committed version of the table, `as_of_version`, whole; a later answer is of the same version or a
    later one. Without `max_age` no call waits for a writer: a new version is looked for in a thread beside, its new files' keys are read
    there, and answers are of it from then on. With `max_age` the version was the newest at most that long before the call, and a call
    may wait for it: about half a second for each million rows in new files.

    Parameters
    ----------
    path : str
        Local path or URI of a Delta table, such as a sink `spark_ext.epochs.Table` writes; no partitions, no deletion vectors.
    keys : str or sequence of str
        Columns that identify a row.
    columns : sequence of str, optional
        What to read beside the keys; default all.
    version : int, optional
        Answer as of this version for ever.
    max_age : timedelta, optional
        See above.
    clock : callable
        Seconds that only grow.

    Raises
    ------
    StateError
        There is no table, or one that cannot be read by key.
    SchemaError
        A column is missing.

    State: 12 bytes for each row of the table, see `KeyedFile`; a thread until `close`.
    """

    def __init__(
        self,
        path: str,
        keys: str | Sequence[str],
        *,
        columns: Sequence[str] | None = None,
        version: int | None = None,
        max_age: timedelta | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = absolute(path)
        self._keys = (keys,) if isinstance(keys, str) else tuple(keys)
        self._columns, self._clock = columns, clock
        self._max_age = None if max_age is None else max_age.total_seconds()
        self._is_pinned = version is not None
        self._seen = clock()
        self._table = _opened(self._path, version)
        self._snapshot = self._indexed(None)
        self._lock = Lock()
        self._pending: Future[None] | None = None
        self._thread = ThreadPoolExecutor(1, "table-reader", initializer=_step_back)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    @property
    def as_of_version(self) -> int:
        """Version of the table that answers are of."""
        return self._snapshot.version

    def get(self, key: Any) -> dict[str, Any] | None:
        """Return the row of a key, None if there is none.

        Parameters
        ----------
        key : value, tuple or mapping
            The key's value; of several columns a tuple in their order, or a mapping.

        Raises
        ------
        SchemaError
            A value that is not of the column's type.
        """
        values = [key[name] for name in self._keys] if isinstance(key, Mapping) else list(key) if len(self._keys) > 1 else [key]
        rows = self.get_many([tuple(values)] if len(self._keys) > 1 else values)
        return rows.to_pylist()[0] if rows.num_rows else None

    def get_many(self, keys: Sequence[Any] | pa.Table) -> pa.Table:
        """Return the rows of keys, in the order of the keys, those that are not there left out; all of one version.

        Parameters
        ----------
        keys : sequence of values or tuples, or pa.Table
            As in `get`; a table has the key columns. A key that comes twice counts once.
        """
        snapshot = self._current()
        asked = self._asked(keys, snapshot.schema)
        try:
            return snapshot.find(asked)
        except FileNotFoundError:  # cleaned up by somebody; a newer version has others
            if self._is_pinned:
                raise
            self.refresh()
            return self._snapshot.find(asked)

    def refresh(self) -> int:
        """Wait until answers are of the newest version, and return it."""
        asked = self._clock()
        while not self._is_pinned and self._seen <= asked:
            self._look().result()
            if self._seen == asked:  # a clock that stands still
                break
        return self.as_of_version

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown(wait=True)

    def _current(self) -> _Snapshot:
        if self._is_pinned:
            return self._snapshot
        now = self._clock()
        if self._max_age is None:
            if self._pending is None or self._pending.done():
                self._raise_failure()
                self._look()
        elif self._seen < now - self._max_age:
            self.refresh()
        return self._snapshot

    def _raise_failure(self) -> None:
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def _look(self) -> Future[None]:
        with self._lock:
            if self._pending is None or self._pending.done():
                self._pending = self._thread.submit(self._check)
            return self._pending

    def _check(self) -> None:
        began = self._clock()
        self._table.update_incremental()
        if int(self._table.version()) != self._snapshot.version:
            self._snapshot = self._indexed(self._snapshot)
        self._seen = began

    def _indexed(self, before: _Snapshot | None) -> _Snapshot:
        """Return the table's version with the keys of its files; those that were there before are not read again."""
        schema = schema_of(self._table) or pa.schema([])
        names = list(dict.fromkeys([*self._keys, *(schema.names if self._columns is None else self._columns)]))
        for name in names:
            if name not in schema.names:
                raise SchemaError("read", "column", name, expected=f"one of {schema.names}", got="no such column", todo="correct the name")
        _check_layout(self._table, self._path)
        files, _ = file_system(self._path)
        known = {} if before is None else {one.path: one for one in before.parts}
        paths = [file_system(uri)[1] for uri in self._table.file_uris()]
        parts = [known.get(path) or index_file(files, path, self._keys, schema) for path in paths]
        return _Snapshot(int(self._table.version()), pa.schema([schema.field(name) for name in names]), files, tuple(parts))

    def _asked(self, keys: Sequence[Any] | pa.Table, schema: pa.Schema) -> pa.Table:
        fields = [schema.field(name) for name in self._keys]
        try:
            if isinstance(keys, pa.Table):
                asked = pa.table([keys.column(field.name).cast(field.type) for field in fields], names=list(self._keys))
            else:
                columns = zip(*keys, strict=True) if len(fields) > 1 else [keys]
                parts = [pa.array(list(column), field.type) for column, field in zip(columns, fields, strict=True)]
                asked = pa.table(parts, names=list(self._keys)) if keys else pa.schema(fields).empty_table()
        except (pa.ArrowInvalid, pa.ArrowTypeError, ValueError, TypeError, KeyError, OverflowError) as error:
            expected = ", ".join(f"{field.name} {field.type}" for field in fields)
            raise SchemaError("look up", "key", repr(keys)[:100], expected=expected, got=str(error), todo="correct it") from error
        numbers = row_numbers(asked)
        _, first = np.unique(numbers, return_index=True)
        return asked if len(first) == asked.num_rows else asked.take(pa.array(np.sort(first)))


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """A version of the table, its columns and files."""

    version: int
    schema: pa.Schema
    files: fs.FileSystem
    parts: tuple[KeyedFile, ...]

    def find(self, asked: pa.Table) -> pa.Table:
        rows, of_key = find(self.files, self.parts, asked, self.schema)
        order: Numbers = np.argsort(of_key, kind="stable")
        return rows.take(pa.array(order))


def _step_back() -> None:
    """Let calls go before this thread where there are too few cores; Linux knows threads by the same numbers as processes."""
    if sys.platform == "linux":
        own = get_native_id()
        os.setpriority(os.PRIO_PROCESS, own, min(19, os.getpriority(os.PRIO_PROCESS, own) + NICE))


def _opened(path: str, version: int | None) -> DeltaTable:
    table = open_table(path)
    if table is None:
        raise StateError("read", "table", path, expected="a Delta table", got="none", todo="correct the path, or wait for the first epoch")
    newest = int(table.version())
    if version is not None:
        if not 0 <= version <= newest:
            raise SettingsError("read", "version", str(version), expected=f"one of 0 to {newest}", got=repr(version), todo="correct it")
        table.load_as_version(version)
    return table


def _check_layout(table: DeltaTable, path: str) -> None:
    metadata = table.metadata()
    found = [MAPPING] if metadata.configuration.get(MAPPING, "none").lower() != "none" else []
    found += [f"the feature {DELETIONS}"] if DELETIONS in (table.protocol().reader_features or ()) else []
    found += [f"partitions by {name}" for name in metadata.partition_columns]
    if found:
        expected, why = "a table whose rows are as they stand in its files", "they would be found wrong"
        todo = "write it with the sink spark_ext.epochs.Table, or rewrite it and drop the feature (ALTER TABLE ... DROP FEATURE)"
        raise StateError("read by key", "table", path, expected=expected, got=", ".join(found), why=why, todo=todo)
