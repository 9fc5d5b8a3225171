"""Rows of equal keys put together by a function of the caller; the same in the driver and in workers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from spark_ext.errors import EpochError, SchemaError
from spark_ext.state.keys import codes

__all__ = ["ByKey", "Combine", "Pairs", "several_rows", "united"]

Combine = Callable[[pa.Table, pa.Table], pa.Table]
BLOCK_BYTES: Final = 64 << 20  # of rows that are put together at once


def united(known: pa.Table, rows: pa.Table, keys: Sequence[str], with_: Combine, path: str) -> pa.Table:
    """Return one row per key of `rows`, each put together with the known one of its key.

    Parameters
    ----------
    known : pyarrow.Table
        One row per key at most, all of keys that `rows` has.
    rows : pyarrow.Table
        Same columns; a key any number of times.
    keys, with_
        As for `spark_ext.delta.combine`.
    path : str
        For messages.
    """
    groups = codes([pa.chunked_array([*known.column(key).chunks, *rows.column(key).chunks], known.column(key).type) for key in keys])
    counts = np.bincount(groups)
    if groups.size == counts.size:
        return rows
    several = pa.array(counts[groups] > 1)
    before, after = several[: known.num_rows], several[known.num_rows :]
    some = with_(known.filter(before), rows.filter(after))
    checked = _checked(some, rows.schema, keys, expected=int((counts > 1).sum()), path=path)
    return pa.concat_tables([rows.filter(pc.invert(after)), checked])


def several_rows(path: str, keys: Sequence[str]) -> EpochError:
    """Return the error of a table in which a key has two rows: what comes would be added to both."""
    return EpochError(
        "combine",
        "rows with table",
        path,
        expected=f"one row per key ({', '.join(keys)}) in the table",
        got="several",
        why="another program has added them; nothing was written",
        todo="put those rows together, or write to a table that only combine writes to",
    )


@dataclass(frozen=True, slots=True)
class ByKey:
    """Puts rows of equal keys together that come one behind the other; for `mapInArrow`, with columns by place.

    State: rows of one block, and of one key that goes on.
    """

    names: tuple[str, ...]
    keys: tuple[str, ...]
    with_: Combine
    path: str

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Return rows with other keys than those before."""
        held: list[pa.Table] = []
        size = 0
        for batch in batches:
            held.append(pa.Table.from_arrays(batch.columns, names=list(self.names)))
            size += batch.nbytes
            if size > BLOCK_BYTES:
                whole = pa.concat_tables(held)
                groups = codes([whole.column(key) for key in self.keys])
                last = int(np.flatnonzero(groups == groups[-1])[0])  # its key may go on in the next batch
                yield from self._united(whole.slice(0, last))
                goes_on = self._one(whole.slice(last))
                held, size = [goes_on], 0
        if held:
            yield from self._united(pa.concat_tables(held))

    def _one(self, rows: pa.Table) -> pa.Table:
        return united(rows.slice(0, 0), rows, self.keys, self.with_, self.path)

    def _united(self, rows: pa.Table) -> Iterator[pa.RecordBatch]:
        if rows.num_rows:
            done = self._one(rows)
            yield from done.rename_columns([f"c{at}" for at in range(len(self.names))]).to_batches()


@dataclass(frozen=True, slots=True)
class Pairs:
    """Puts old rows and new ones together that are side by side; for an Arrow UDF over two structs, with columns by place."""

    schema: pa.Schema
    keys: tuple[str, ...]
    with_: Combine
    path: str

    def __call__(self, old: pa.StructArray, new: pa.StructArray) -> pa.StructArray:
        """Return the combination of each pair, null where one of the two is."""
        pairs = np.flatnonzero((old.is_valid().to_numpy(zero_copy_only=False)) & (new.is_valid().to_numpy(zero_copy_only=False)))
        places: np.ndarray[tuple[int], np.dtype[np.int64]] = np.full(len(old), -1)
        known, rows = (self._table(side.take(pa.array(pairs))) for side in (old, new))
        done = rows.slice(0, 0)
        if pairs.size:
            done = united(known, rows, self.keys, self.with_, self.path)
            both = [pa.chunked_array([*rows.column(key).chunks, *done.column(key).chunks], rows.column(key).type) for key in self.keys]
            places[pairs[codes(both)[rows.num_rows :]]] = np.arange(done.num_rows)  # keys of `rows` are distinct: the first numbers
        made = pa.StructArray.from_arrays([one.combine_chunks() for one in done.columns], [f"c{at}" for at in range(len(self.schema))])
        return made.take(pa.array(places, mask=places < 0))

    def _table(self, side: pa.StructArray) -> pa.Table:
        columns = [part.cast(field.type) for part, field in zip(side.flatten(), self.schema, strict=True)]
        return pa.Table.from_arrays(columns, schema=self.schema)


def _checked(found: pa.Table, schema: pa.Schema, keys: Sequence[str], *, expected: int, path: str) -> pa.Table:
    if set(found.column_names) == set(schema.names):
        found = found.select(schema.names).cast(schema)
        distinct = found.select(list(keys)).group_by(list(keys)).aggregate([]).num_rows
        if distinct == found.num_rows == expected:
            return found
        got = f"{found.num_rows} rows of {distinct} keys"
    else:
        got = f"columns {', '.join(found.column_names)}"
    raise SchemaError(
        "combine",
        "rows with table",
        path,
        expected=f"one row for each of {expected} keys, with columns {', '.join(schema.names)}",
        got=got,
        why="that is what with_ returned; nothing was written",
        todo="correct with_",
    )
