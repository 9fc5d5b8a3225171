"""Named state of processors: tables of Arrow columns, one per bucket, found by key."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from spark_ext.errors import SettingsError, StateError
from spark_ext.state.keys import check_key, codes
from spark_ext.streams.ddl import arrow_schema, column_names

__all__ = ["StateStore", "StoreLayout", "StoreSpec", "Stores"]


@dataclass(frozen=True, slots=True)
class StoreSpec:
    """A store: its name, the columns of its rows as DDL, and which of them identify a row."""

    name: str
    columns: str
    keys: tuple[str, ...]

    def layout(self) -> StoreLayout:
        """Return the store with its types; needs a Spark session.

        Raises
        ------
        SchemaError
            A key is of a type that has no equality.
        """
        schema = arrow_schema(self.columns)
        for one in self.keys:
            check_key(one, schema.field(one).type)
        return StoreLayout(self.name, schema, self.keys)


@dataclass(frozen=True, slots=True)
class StoreLayout:
    """A store as workers know it."""

    name: str
    schema: pa.Schema
    keys: tuple[str, ...]


class Stores:
    """Makes stores."""

    @staticmethod
    def keyValueStore(name: str, columns: str, *, keys: Sequence[str] = ("key",)) -> StoreSpec:
        """Return a store with one row per key.

        Parameters
        ----------
        name : str
            Its own in the topology; part of the checkpoint.
        columns : str
            Columns as DDL, such as ``"key string, seen timestamp, n bigint"``.
        keys : sequence of str
            Columns that identify a row. A bucket has the rows of its keys, so the record's key is among them, or they follow from it.

        Raises
        ------
        SettingsError
            A key is no column, or none is given.
        """
        found = StoreSpec(name, columns, tuple(keys))
        names = column_names(columns)
        missing = [one for one in found.keys if one not in names]
        if not name or not found.keys or missing:
            got = f"keys {found.keys!r} of {names}"
            raise SettingsError("make", "store", name, expected="a name, and keys among the columns", got=got, todo="correct it")
        return found


class StateStore:
    """A store as a processor has it: the rows of one bucket. Changes are kept if the batch is committed."""

    def __init__(self, spec: StoreLayout, rows: pa.Table) -> None:
        self._spec, self._rows = spec, rows

    @property
    def name(self) -> str:
        """Its name."""
        return self._spec.name

    def all(self) -> pa.Table:
        """Return all rows, in no order."""
        return self._rows

    def get(self, keys: pa.Table) -> pa.Table:
        """Return for each row of `keys` the row of that key, nulls beside the key where there is none.

        Parameters
        ----------
        keys : pa.Table
            Has the key columns; others do not matter.
        """
        at = self._places(keys)
        found = self._rows.take(pa.array(at, mask=at < 0))
        for name in self._spec.keys:
            place = found.schema.get_field_index(name)
            found = found.set_column(place, found.schema.field(place), self._cast(keys.column(name), name))
        return found

    def contains(self, keys: pa.Table) -> NDArray[np.bool_]:
        """Tell for each row of `keys` whether there is a row of that key."""
        return self._places(keys) >= 0

    def put(self, rows: pa.Table) -> None:
        """Set rows: those of the same keys are replaced, of several rows of a key the last one stays.

        Raises
        ------
        StateError
            The columns are not those of the store.
        """
        rows = self._fitted(rows)
        if not rows.num_rows:
            return
        numbers = self._numbers(rows)
        old, new = numbers[: self._rows.num_rows], numbers[self._rows.num_rows :]
        _, last = np.unique(new[::-1], return_index=True)
        kept = self._rows.filter(pa.array(~np.isin(old, new)))
        self._rows = pa.concat_tables([kept, rows.take(pa.array(np.sort(len(new) - 1 - last)))]).combine_chunks()

    def delete(self, keys: pa.Table) -> None:
        """Remove the rows of these keys."""
        if keys.num_rows and self._rows.num_rows:
            numbers = self._numbers(keys)
            size = self._rows.num_rows
            self._rows = self._rows.filter(pa.array(~np.isin(numbers[:size], numbers[size:]))).combine_chunks()

    def replace(self, rows: pa.Table) -> None:
        """Set all rows at once; keys must be distinct, as in what `all` gave."""
        self._rows = self._fitted(rows).combine_chunks()

    def _places(self, keys: pa.Table) -> NDArray[np.int64]:
        numbers = self._numbers(keys)
        size = self._rows.num_rows
        place = np.full(int(numbers.max(initial=-1)) + 1, -1)
        place[numbers[:size]] = np.arange(size)
        found: NDArray[np.int64] = place[numbers[size:]]
        return found

    def _numbers(self, rows: pa.Table) -> NDArray[np.int64]:
        columns = []
        for name in self._spec.keys:
            if name not in rows.column_names:
                raise self._refused(f"key column {name!r}", f"columns {rows.column_names}")
            chunks = [*self._rows.column(name).chunks, *self._cast(rows.column(name), name).chunks]
            columns.append(pa.chunked_array(chunks, self._spec.schema.field(name).type).combine_chunks())
        return codes(columns)

    def _cast(self, column: pa.ChunkedArray | pa.Array, name: str) -> pa.ChunkedArray:
        chunked = column if isinstance(column, pa.ChunkedArray) else pa.chunked_array([column])
        return chunked.cast(self._spec.schema.field(name).type)

    def _fitted(self, rows: pa.Table) -> pa.Table:
        schema = self._spec.schema
        if set(schema.names) - set(rows.column_names):
            raise self._refused(f"columns {schema.names}", f"{rows.column_names}")
        return rows.select(schema.names).cast(schema)

    def _refused(self, expected: str, got: str) -> StateError:
        return StateError("use", "store", self.name, expected=expected, got=got, why="its columns are fixed", todo="correct the processor")
