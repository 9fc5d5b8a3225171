"""Numbers and texts that depend on a seed, the name of a field and the number of an event, and on nothing else.

XXH64 of the event's number (8 bytes), seeded with a key made of seed and field: no state, so any event can be made without those before it,
with the same bits on each machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sketches import hash_kernel, hash_plain
from sketches.draws import exp, fold
from sketches.jit import pick

__all__ = ["LETTERS", "Draws", "Ints"]

Ints = NDArray[np.int64]

LETTERS: Final = "abcdefghijklmnopqrstuvwxyzaeio  "
SYMBOLS: Final = 256  # values of a byte: the number of letters divides it, so that each is drawn as often
WORD_BYTES: Final = 8
MOST_WORDS: Final = 128  # of one text
LN10: Final = 2.302585092994046

_hash_words8 = pick(hash_kernel.hash_words8, hash_plain.hash_words8)


@dataclass(frozen=True, slots=True)
class Draws:
    """What is drawn for events, field by field.

    Attributes
    ----------
    seed : int, 0 to 2^64 - 1
        Another seed gives other draws.
    """

    seed: int

    def words(self, field: str, numbers: Ints) -> NDArray[np.uint64]:
        """Return a word of 64 bits for each number, the same wherever the number stands."""
        out = np.empty(numbers.size, np.uint64)
        _hash_words8(numbers.astype(np.uint64), _key(self.seed, field), out)
        return out

    def below(self, field: str, numbers: Ints, limit: int | Ints) -> Ints:
        """Return whole numbers from 0 to ``limit - 1``, all equally likely (up to ``limit / 2^64``)."""
        return (self.words(field, numbers) % np.asarray(limit).astype(np.uint64)).astype(np.int64)

    def shares(self, field: str, numbers: Ints) -> NDArray[np.float64]:
        """Return numbers inside (0, 1)."""
        return ((self.words(field, numbers) >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52

    def powers(self, field: str, numbers: Ints, decades: int, unit: int) -> Ints:
        """Return whole numbers from `unit` to ``unit * 10^decades`` whose logarithms are even: many small ones, few large ones."""
        below_one = exp((self.shares(field, numbers) - 1.0) * (decades * LN10))
        return np.rint(below_one * float(unit * 10**decades)).astype(np.int64)

    def texts(self, field: str, numbers: Ints, lengths: Ints, letters: str = LETTERS) -> Any:
        """Return an Arrow array of texts.

        Parameters
        ----------
        field : str
            For which.
        numbers, lengths : ndarray (n,) int64
            Of the events, and how long each text is, 0 to 1,024 letters; together fewer than 2^31.
        letters : str
            ASCII, as many as a power of 2.
        """
        each = -(-int(lengths.max(initial=0)) // WORD_BYTES)
        words = self.words(field, (numbers[:, None] * MOST_WORDS + np.arange(each)).ravel())
        alphabet = np.frombuffer((letters * (SYMBOLS // len(letters))).encode("ascii"), np.uint8)
        drawn = alphabet[words.astype("<u8", copy=False).view(np.uint8)].reshape(numbers.size, each * WORD_BYTES)
        data = drawn[np.arange(each * WORD_BYTES) < lengths[:, None]]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
        return pa.StringArray.from_buffers(numbers.size, pa.py_buffer(offsets), pa.py_buffer(data))


@lru_cache(maxsize=256)
def _key(seed: int, field: str) -> np.uint64:
    return np.uint64(fold(seed, *field.encode()))
