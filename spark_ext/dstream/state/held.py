"""Keys and states of one partition of `mapWithState` as columns, so that what a batch does not touch is never made an object.

Pictured: ``keys | hashes | states | times``. A column is plain (an Arrow array of a simple type) or pickled (one pickle per element).
Pickled keys are looked up by a column of their hashes; only those with a hash that is looked for are unpickled and compared.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyspark import cloudpickle
from pyspark.core.rdd import portable_hash

from spark_ext.dstream.columns.blocks import Block, pack, unpack
from spark_ext.dstream.state.update_kernel import SOUGHT, paired

__all__ = ["Column", "Held", "Keys"]

FIELDS: Final = ("keys", "hashes", "states", "times")


@dataclass(frozen=True, slots=True)
class Column:
    """Python objects, plain or pickled.

    Attributes
    ----------
    array : pa.Array
        Of a simple type without nulls, or binary.
    is_pickled : bool
        Which of the two.
    """

    array: pa.Array
    is_pickled: bool

    @classmethod
    def of(cls, objects: list[Any], *, pickled: bool = False) -> Column:
        """Return objects as a column, plain if they can be."""
        block = [] if pickled else pack(objects)
        return cls(pa.array(map(_pickle, objects), pa.binary()), True) if isinstance(block, list) else cls(block, False)

    def objects(self) -> list[Any]:
        """Return the objects, made anew."""
        return list(map(pickle.loads, unpack(self.array))) if self.is_pickled else unpack(self.array)

    def block(self) -> Block:
        """Return the objects as a block."""
        return self.objects() if self.is_pickled else self.array

    def take(self, rows: npt.NDArray[np.intp]) -> Column:
        """Return the objects of some rows."""
        return Column(self.array.take(pa.array(rows)), self.is_pickled)

    def then(self, objects: list[Any]) -> Column:
        """Return this column with more objects at its end; plain only if all of it can be."""
        if not objects:
            return self
        more = Column.of(objects, pickled=self.is_pickled and len(self.array) > 0)
        if not len(self.array):
            return more
        if self.is_pickled == more.is_pickled and self.array.type == more.array.type:
            return Column(pa.concat_arrays([self.array, more.array]), self.is_pickled)
        return self.pickled().then(objects)

    def pickled(self) -> Column:
        """Return the same objects as pickles."""
        return self if self.is_pickled else Column.of(self.objects(), pickled=True)


@dataclass(frozen=True, slots=True)
class Keys:
    """A column of keys, and the hashes of pickled ones (int64); plain keys have a type of `SOUGHT`."""

    column: Column
    hashes: pa.Array | None

    @classmethod
    def of(cls, keys: list[Any]) -> Keys:
        """Return keys as columns."""
        column = Column.of(keys)
        return cls(column, None) if column.array.type in SOUGHT and not column.is_pickled else cls(column.pickled(), _hashes(keys))

    def hashed(self) -> Keys:
        """Return the same keys, pickled and with hashes."""
        objects = self.column.objects()
        return self if self.hashes is not None else Keys(Column.of(objects, pickled=True), _hashes(objects))

    def fit(self, sought: list[Any]) -> Keys:
        """Return these keys in a form in which `sought` can be found: as they are, or hashed."""
        if self.hashes is not None or not len(self.column.array):
            return self
        block = pack(sought)
        return self if isinstance(block, pa.Array) and block.type == self.column.array.type else self.hashed()

    def rows_of(self, sought: list[Any]) -> npt.NDArray[np.intp]:
        """Return the row of each of some keys, -1 for none; `sought` are different keys that fit."""
        rows = np.full(len(sought), -1, np.intp)
        if not sought or not len(self.column.array):
            return rows
        if self.hashes is None:
            where = pc.index_in(self.column.array, value_set=pack(sought))
            rows[where.drop_null().to_numpy()] = np.flatnonzero(where.is_valid().to_numpy(zero_copy_only=False))
            return rows
        candidates = np.flatnonzero(pc.is_in(self.hashes, value_set=_hashes(sought)).to_numpy(zero_copy_only=False))
        places = {key: place for place, key in enumerate(sought)}
        for row, key in zip(candidates.tolist(), self.column.take(candidates).objects(), strict=True):
            place = places.get(key)
            if place is not None:
                rows[place] = row
        return rows

    def take(self, rows: npt.NDArray[np.intp]) -> Keys:
        """Return the keys of some rows."""
        return Keys(self.column.take(rows), None if self.hashes is None else self.hashes.take(pa.array(rows)))

    def then(self, keys: list[Any]) -> Keys:
        """Return these keys with more at their end."""
        if not keys:
            return self
        if not len(self.column.array):
            return Keys.of(keys)
        fit = self.fit(keys)
        hashes = None if fit.hashes is None else pa.concat_arrays([fit.hashes, _hashes(keys)])
        return Keys(fit.column.then(keys), hashes)


@dataclass(frozen=True, slots=True)
class Held:
    """All keys of a partition, each once, with their states, and when they last had data (ms since 1970, int64)."""

    keys: Keys
    states: Column
    times: npt.NDArray[np.int64]

    @classmethod
    def of(cls, pairs: Iterable[tuple[Any, Any]], time_ms: int) -> Held:
        """Return pairs as of a time; of a key that is there twice the last one counts."""
        found = dict(pairs)
        return cls(Keys.of(list(found)), Column.of(list(found.values())), np.full(len(found), time_ms, np.int64))

    def snapshot(self) -> Block:
        """Return the block of pairs ``(key, state)``."""
        return paired(self.keys.column.block(), self.states.block())

    def to_bytes(self) -> bytes:
        """Return it as bytes: an Arrow stream; pickled columns say so in the metadata of their field."""
        hashes = pa.nulls(len(self.times)) if self.keys.hashes is None else self.keys.hashes
        columns = [self.keys.column, Column(hashes, False), self.states, Column(pa.array(self.times), False)]
        fields = [
            pa.field(name, one.array.type, metadata={"pickled": "1"} if one.is_pickled else None)
            for name, one in zip(FIELDS, columns, strict=True)
        ]
        batch = pa.record_batch([one.array for one in columns], schema=pa.schema(fields))
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, batch.schema) as writer:
            writer.write_batch(batch)
        return bytes(sink.getvalue().to_pybytes())

    @classmethod
    def from_bytes(cls, content: bytes | memoryview) -> Held:
        """Return what `to_bytes` wrote; it looks into `content`."""
        batch = pa.ipc.open_stream(pa.py_buffer(content)).read_next_batch()
        keys, hashes, states, times = (
            Column(array, bool(field.metadata)) for array, field in zip(batch.columns, batch.schema, strict=True)
        )
        return cls(Keys(keys, hashes.array if keys.is_pickled else None), states, times.array.to_numpy())


def _pickle(found: Any) -> bytes:
    try:
        return pickle.dumps(found, protocol=5)
    except (pickle.PicklingError, AttributeError, TypeError):
        return bytes(cloudpickle.dumps(found, protocol=5))  # type: ignore[no-untyped-call]  # of a class of the main program


def _hashes(keys: list[Any]) -> pa.Array:
    return pa.array([portable_hash(key) for key in keys], pa.int64())
