"""Columns hashed as Apache DataSketches hashes them, for sketches that are to be merged with its own.

That is MurmurHash3 with seed 9001: booleans, integers and times as 8 bytes of the int64, floats as 8 bytes of the double (-0.0 as 0.0, each
NaN as Java's canonical one), strings as UTF-8, binary as it is. So 5 is one value as int32 and as int64; and the empty string, and empty
binary, are no value.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sketches import murmur_kernel, murmur_plain
from sketches.columns import Bytes, Column, Words
from sketches.jit import pick

__all__ = ["MurmurBytes", "MurmurWords", "murmured"]

SEED: Final = np.uint64(9001)
_words_of_words8 = pick(murmur_kernel.words_of_words8, murmur_plain.words_of_words8)
_words_of_bytes = pick(murmur_kernel.words_of_bytes, murmur_plain.words_of_bytes)


@dataclass(frozen=True, slots=True)
class MurmurWords(Words):
    """Values of 8 bytes; `hash_into` gives words as `sketches.murmur_kernel` says."""

    precision: int = 0

    def hash_into(self, start: int, stop: int, out: NDArray[np.uint64]) -> None:
        """Hash the values from `start` up to `stop` into `out`."""
        _words_of_words8(self.words[start:stop], SEED, self.precision, out)

    def take(self, places: NDArray[np.int64]) -> Words:
        """Return the values at some places, in the order asked for."""
        return replace(self, words=self.words[places], rows=None if self.rows is None else self.rows[places])


@dataclass(frozen=True, slots=True)
class MurmurBytes(Bytes):
    """Strings or binary, none of them empty."""

    precision: int = 0

    def hash_into(self, start: int, stop: int, out: NDArray[np.uint64]) -> None:
        """Hash the values from `start` up to `stop` into `out`."""
        _words_of_bytes(self.data, self.starts[start:stop], self.ends[start:stop], SEED, self.precision, out)

    def take(self, places: NDArray[np.int64]) -> Bytes:
        """Return the values at some places, in the order asked for."""
        rows = None if self.rows is None else self.rows[places]
        return replace(self, starts=self.starts[places], ends=self.ends[places], rows=rows)


def murmured(values: Column, precision: int) -> Column:
    """Return the same values, to be hashed in DataSketches' way; no empty strings."""
    if isinstance(values, MurmurWords | MurmurBytes):
        return values
    if isinstance(values, Words):
        return MurmurWords(_eight_bytes(values), values.kind, values.rows, precision)
    full = values.ends > values.starts
    if full.all():
        return MurmurBytes(values.data, values.starts, values.ends, values.kind, values.rows, precision)
    some = np.flatnonzero(full)
    rows = some if values.rows is None else values.rows[some]
    return MurmurBytes(values.data, values.starts[some], values.ends[some], values.kind, rows, precision)


def _eight_bytes(values: Words) -> NDArray[np.uint64]:
    if values.words.dtype == np.uint64:
        return values.words
    if values.kind == "float":
        return values.words.view(np.float32).astype(np.float64).view(np.uint64)
    return values.words.view(np.int32).astype(np.int64).view(np.uint64)
