"""Sketches by key over blocks of pairs: ``(key, value)`` to ``(key, stored sketch)``, and stored ones merged.

Stored sketches are bytes, so pairs with simple keys travel, and lie in windows, as columns.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sketches import Sketch, hashes
from spark_ext.dstream.columns.blocks import Block, pack, unpack
from spark_ext.sketching import sketch
from spark_ext.sketching.measure import SketchOf

__all__ = ["merged", "salt_of", "sketched"]

VALUE: Final = "value"
OUT_KEYS: Final = 1 << 13  # keys in a block that goes out


def sketched(template: Sketch, blocks: Iterable[Block], *, time_us: int, salt: int) -> Iterator[Block]:
    """Return a sketch of the values of each key.

    Guarantee: each is what `sketches.grouped.Grouped` makes of the values of its key, up to the order of values of several types.

    Parameters
    ----------
    template : Sketch
        An empty sketch.
    blocks : iterable of Block
        Pairs of key and value; keys are equal as in a dict.
    time_us : int
        The batch's time, microseconds since 1970, for sketches that weigh by time.
    salt : int
        Sketches that draw random numbers draw others for another one.

    Yields
    ------
    Block
        Pairs of key and stored sketch, each key once.
    """
    kept = _Kept(sketch(template, VALUE), salt)
    for block in blocks:
        keys, values = _pair(block)
        numbers = kept.numbers(keys)
        for rows, column in _columns(values):
            times = pa.array(np.full(len(column), time_us, np.int64))
            kept.measure.take(kept.made, numbers if rows is None else numbers[rows], {VALUE: column}, times)
    return kept.pairs()


def merged(template: Sketch, blocks: Iterable[Block]) -> Iterator[Block]:
    """Return one stored sketch per key, those of a key merged; a block as `sketched` gives them."""
    kept = _Kept(sketch(template, VALUE), 0)
    for block in blocks:
        keys, stored = _pair(block)
        kept.measure.merge_into(kept.made, kept.numbers(keys), stored if isinstance(stored, pa.Array) else pa.array(stored, pa.binary()))
    return kept.pairs()


class _Kept:
    """Keys, and a sketch of each."""

    def __init__(self, measure: SketchOf, salt: int) -> None:
        self.measure = measure
        self.made = measure.numbered(salt, 0)
        self._places: dict[Any, int] = {}

    def numbers(self, keys: Any) -> NDArray[np.int64]:
        """Return the number of each key; new ones get the next, and empty sketches."""
        if isinstance(keys, pa.Array) and not pa.types.is_nested(keys.type) and not pa.types.is_null(keys.type):
            encoded = keys.dictionary_encode(null_encoding="encode")
            found, at = encoded.dictionary.to_pylist(), encoded.indices.to_numpy(zero_copy_only=False)
        else:
            found, at = keys if isinstance(keys, list) else unpack(keys), None
        places = self._places
        numbers = np.fromiter((places.setdefault(key, len(places)) for key in found), np.int64, len(found))
        self.made.grow(len(places))
        return numbers if at is None else numbers[at]

    def pairs(self) -> Iterator[Block]:
        keys = list(self._places)
        for start in range(0, len(keys), OUT_KEYS):
            some = keys[start : start + OUT_KEYS]
            yield pack(list(zip(some, self.made.to_stored(start, start + len(some)).to_pylist(), strict=True)))


def _pair(block: Block) -> tuple[Any, Any]:
    """Return keys and values as arrays or lists."""
    if not isinstance(block, list):
        return block.field(0), block.field(1)
    keys, values = [], []
    for key, value in block:
        keys.append(key)
        values.append(value)
    return keys, values


def _columns(values: Any) -> Iterator[tuple[NDArray[np.int64] | None, pa.Array]]:
    """Yield the values as arrays, with their rows if several types make several of them."""
    if isinstance(values, pa.Array):
        yield None, values
        return
    by_type: dict[type, list[int]] = {}
    for row, value in enumerate(values):
        by_type.setdefault(type(value), []).append(row)
    for rows in by_type.values():
        yield np.array(rows, np.int64), pa.array([values[row] for row in rows])


def salt_of(time_us: int, partition: int) -> int:
    """Return another number for each batch and partition, the same when a batch is tried again."""
    return int(hashes(np.array([time_us], np.int64))[0]) ^ partition
