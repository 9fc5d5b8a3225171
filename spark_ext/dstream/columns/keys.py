"""Keys: which are equal, and to which partition each belongs.

Columns of int, str, bool, bytes and tuples of them, without None, are worked on as they are. Anything else is left to the
objects: a float equals an int, a NaN nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.core.rdd import portable_hash

from spark_ext.dstream.columns.blocks import unpack

__all__ = ["Coded", "coded", "partitions_of", "partitions_of_objects"]

INT_MODULUS: Final = np.int64(2**61 - 1)  # sys.hash_info.modulus
TUPLE_SEED, TUPLE_FACTOR, MAXSIZE = np.uint64(0x345678), np.uint64(1000003), np.uint64(2**63 - 1)


@dataclass(frozen=True, slots=True)
class Coded:
    """Keys as numbers.

    Attributes
    ----------
    codes : ndarray (rows,) int64
        Place of each row's key in `keys`.
    keys : Array
        Distinct keys, in the order of their first rows.
    """

    codes: NDArray[np.int64]
    keys: pa.Array


def coded(keys: pa.Array) -> Coded | None:
    """Tell equal keys by numbers; None if they cannot be told as columns."""
    if keys.null_count or not _is_exact(keys.type):
        return None
    if not pa.types.is_struct(keys.type):
        encoded = keys.dictionary_encode()
        return Coded(encoded.indices.to_numpy().astype(np.int64), encoded.dictionary)
    codes = np.zeros(len(keys), np.int64)
    for field in keys.flatten():
        part = coded(field)
        if part is None:
            return None
        codes, _ = _renumbered(codes * len(part.keys) + part.codes)  # both below the number of rows, so far from overflow
    codes, first = _renumbered(codes)
    return Coded(codes, keys.take(pa.array(first)))


def partitions_of(keys: pa.Array, partitions: int) -> NDArray[np.int64]:
    """Return ``portable_hash(key) % partitions`` of each key; meant for distinct ones."""
    if partitions == 1:
        return np.zeros(len(keys), np.int64)
    return _hashes(keys) % np.int64(partitions)


def partitions_of_objects(keys: Iterable[Any], partitions: int) -> list[int]:
    """Return ``portable_hash(key) % partitions`` of each key."""
    return [portable_hash(key) % partitions for key in keys]


def _is_exact(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return all(_is_exact(kind.field(place).type) for place in range(kind.num_fields))
    return not (pa.types.is_floating(kind) or pa.types.is_null(kind))


def _renumbered(codes: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    encoded = pa.array(codes).dictionary_encode()
    made = encoded.indices.to_numpy().astype(np.int64)
    first = np.empty(len(encoded.dictionary), np.int64)
    first[made[::-1]] = np.arange(len(made) - 1, -1, -1)  # the last one written is the first row
    return made, first


def _hashes(keys: pa.Array) -> NDArray[np.int64]:
    kind = keys.type
    if pa.types.is_int64(kind) and not keys.null_count:
        return _int_hashes(keys.to_numpy())
    if pa.types.is_boolean(kind) and not keys.null_count:
        made: NDArray[np.int64] = keys.cast(pa.int64()).to_numpy()
        return made
    if pa.types.is_struct(kind) and not keys.null_count:
        mixed = np.full(len(keys), TUPLE_SEED)
        for field in keys.flatten():
            mixed = ((mixed ^ _hashes(field).view(np.uint64)) * TUPLE_FACTOR) & MAXSIZE  # wraps as the mask wants it
        return (mixed ^ np.uint64(kind.num_fields)).view(np.int64)
    hash_of = hash if not keys.null_count else portable_hash
    return np.fromiter(map(hash_of, unpack(keys)), np.int64, len(keys))


def _int_hashes(values: NDArray[np.int64]) -> NDArray[np.int64]:
    # hash(n) is n modulo 2**61 - 1 with the sign of n, and -2 for -1.
    made = np.where(values < 0, -(-(values + (values == np.iinfo(np.int64).min)) % INT_MODULUS), values % INT_MODULUS)
    made[values == np.iinfo(np.int64).min] = hash(-(2**63))
    made[made == -1] = -2
    return made.astype(np.int64)
