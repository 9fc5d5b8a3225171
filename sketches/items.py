"""Values that a sketch keeps: a growing list of items of one logical type, numbers in one array and strings in one buffer.

The type is that of the first values (`sketches.columns.Column.kind`); others are refused. Stored form, little-endian::

    0   1   type, see `CODES`; 0 while there is none
    1   4   number of items n
    5   n * width      numbers: the words, 4 or 8 bytes each
    5   4 n + lengths  strings and binary: n lengths of 4 bytes, then the bytes of all items
"""

from __future__ import annotations

import struct
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sketches.columns import CANONICAL_NAN, Bytes, Column, Words
from sketches.envelope import damaged
from sketches.errors import SketchTypeError

__all__ = ["Items"]

CODES: Final = {
    "": 0,
    "bool": 1,
    "int": 2,
    "long": 3,
    "ulong": 4,
    "float": 5,
    "double": 6,
    "date": 7,
    "timestamp": 8,
    "duration": 9,
    "decimal": 10,
    "string": 11,
    "binary": 12,
}
NAMES: Final = {code: kind for kind, code in CODES.items()}
NUMPY: Final[dict[str, np.dtype[Any]]] = {
    "bool": np.dtype(np.uint32),  # made booleans when they are given out
    "int": np.dtype(np.int32),
    "long": np.dtype(np.int64),
    "ulong": np.dtype(np.uint64),
    "float": np.dtype(np.float32),
    "double": np.dtype(np.float64),
    "date": np.dtype(np.int32),
    "timestamp": np.dtype("M8[us]"),
    "duration": np.dtype("m8[us]"),
    "decimal": np.dtype(np.int64),
}
TEXTS: Final = ("string", "binary")
HEAD: Final = struct.Struct("<BI")
LEAST: Final = 16  # places that are made at once
NO_WORDS: Final = np.empty(0, np.uint64)
NO_BYTES: Final = np.empty(0, np.uint8)
NO_PLACES: Final = np.empty(0, np.int64)


class Items:
    """A list of values of one type that can be put, taken and stored; no item is a Python object.

    Attributes
    ----------
    kind : str
        Their logical type, ``""`` before the first value. It stays when all items are gone.

    State: 4 or 8 bytes for each number; for a string its bytes, up to as many again that are no longer used, and 16 bytes. Arrays grow by
    doubling.

    Examples
    --------
    >>> from sketches.columns import column
    >>> items = Items()
    >>> items.put(np.array([0, 1]), column(np.array(["b", "a", "c"])), np.array([2, 0]))
    >>> items.values().tolist()
    ['c', 'b']
    """

    __slots__ = ("_data", "_ends", "_size", "_starts", "_used", "_words", "kind")

    def __init__(self) -> None:
        self.kind = ""
        self._size = 0
        self._words: NDArray[Any] = NO_WORDS
        self._data: NDArray[np.uint8] = NO_BYTES
        self._used = 0  # bytes of the buffer
        self._starts: NDArray[np.int64] = NO_PLACES
        self._ends: NDArray[np.int64] = NO_PLACES

    def __len__(self) -> int:
        return self._size

    # Filling ----------------------------------------------------------------------------------------------------------

    def check(self, values: Column, sketch: str, *, action: str = "update") -> None:
        """Refuse values of another type than the items have; call it before anything is taken.

        Parameters
        ----------
        values : Column
            Those that shall be put; none are fine, whatever their type.
        sketch : str
            KIND of the sketch, for the error.
        action : str
            What it is about to do, for the error.

        Raises
        ------
        SketchTypeError
        """
        if self.kind and len(values) and values.kind != self.kind:
            raise mixed(action, sketch, self.kind, values.kind)

    def put(self, slots: NDArray[np.int64], values: Column, places: NDArray[np.int64]) -> None:
        """Set item ``slots[i]`` to value ``places[i]``, of the same type; where a slot comes twice, the later value stays.

        Slots past the end make the list longer; they must leave no gap.
        """
        if not slots.size:
            return
        self.kind = self.kind or values.kind
        size = max(self._size, int(slots.max()) + 1)
        if isinstance(values, Words):
            self._words = _grown(self._words.astype(values.words.dtype, copy=False), self._size, size)
            self._words[slots] = values.words[places]
        else:
            self._put_bytes(slots, values, places, size)
        self._size = size

    def append(self, values: Column, places: NDArray[np.int64]) -> None:
        """Put values at the end."""
        self.put(np.arange(self._size, self._size + places.size), values, places)

    def _put_bytes(self, slots: NDArray[np.int64], values: Bytes, places: NDArray[np.int64], size: int) -> None:
        data, ends = _gathered(values.data, values.starts[places], values.ends[places])
        starts = np.concatenate(([0], ends[:-1]))
        self._starts, self._ends = _grown(self._starts, self._size, size), _grown(self._ends, self._size, size)
        self._starts[self._size : size] = self._ends[self._size : size] = 0
        self._data = _grown(self._data, self._used, self._used + data.size)
        self._data[self._used : self._used + data.size] = data
        self._starts[slots], self._ends[slots] = starts + self._used, ends + self._used
        self._used += data.size
        alive = int((self._ends[:size] - self._starts[:size]).sum())
        if self._used > 2 * alive + LEAST * LEAST:
            self._data, kept = _gathered(self._data, self._starts[:size], self._ends[:size])
            self._starts, self._ends, self._used = np.concatenate(([0], kept[:-1])), kept, alive

    # Reading ----------------------------------------------------------------------------------------------------------

    def column(self) -> Column:
        """Return the items as a column, to be hashed, or put into another list; a view, good until the next `put`."""
        if self.kind in TEXTS:
            return Bytes(self._data[: self._used], self._starts[: self._size], self._ends[: self._size], self.kind)
        return Words(self._words[: self._size], self.kind or "null")

    def take(self, places: NDArray[np.int64]) -> Items:
        """Return another list, of the items at some places in the order asked for."""
        found = Items()
        found.kind = self.kind
        found.append(self.column(), places)
        return found

    def copy(self) -> Items:
        """Return another list of the same items."""
        return self.take(np.arange(self._size))

    def values(self) -> NDArray[Any]:
        """Return the items as an array of their own.

        Returns
        -------
        ndarray (n,)
            bool, int32, int64, uint64, float32, float64, datetime64[D], datetime64[us], timedelta64[us]; decimals as int64, unscaled;
            strings as StringDType; binary as objects, as NumPy has no type for bytes that end with zeros. float64 where there is no item.
        """
        if not self.kind:
            return np.empty(0)
        if self.kind in TEXTS:
            whole, ends = _gathered(self._data, self._starts[: self._size], self._ends[: self._size])
            data, places = whole.tobytes(), [0, *ends.tolist()]
            parts = [data[start:end] for start, end in pairwise(places)]
            if self.kind == "string":
                return np.array([part.decode("utf-8", "replace") for part in parts], np.dtypes.StringDType())
            found = np.empty(len(parts), object)
            found[:] = parts
            return found
        numbers: NDArray[Any] = self._words[: self._size].view(NUMPY[self.kind])
        if self.kind == "bool":
            return numbers.astype(np.bool_)
        return numbers.astype("M8[D]") if self.kind == "date" else numbers.copy()

    def to_arrow(self) -> Any:
        """Return the items as a pyarrow.Array; strings and binary as the large types, decimals as int64, unscaled."""
        import pyarrow as pa  # noqa: PLC0415 (Arrow only where it is asked for)

        if self.kind not in TEXTS:
            return pa.array(self.values()) if self.kind else pa.nulls(0)
        data, ends = _gathered(self._data, self._starts[: self._size], self._ends[: self._size])
        offsets = np.concatenate(([0], ends))
        found = pa.Array.from_buffers(pa.large_binary(), self._size, [None, pa.py_buffer(offsets), pa.py_buffer(data)])
        if self.kind == "binary":
            return found
        try:
            return found.cast(pa.large_string())
        except pa.ArrowInvalid:  # not UTF-8: the array that was given was not checked
            return pa.array(self.values().tolist(), pa.large_string())

    # Bytes ------------------------------------------------------------------------------------------------------------

    def pack(self) -> bytes:
        """Return the stored form: equal lists give equal bytes."""
        head = HEAD.pack(CODES[self.kind], self._size)
        if self.kind in TEXTS:
            data, ends = _gathered(self._data, self._starts[: self._size], self._ends[: self._size])
            return head + np.diff(ends, prepend=0).astype("<u4").tobytes() + data.tobytes()
        words = self._words[: self._size]
        return head + words.astype(words.dtype.newbyteorder("<"), copy=False).tobytes()

    @classmethod
    def unpack(cls, sketch: str, data: memoryview) -> tuple[Items, memoryview]:
        """Read what `pack` gave, and return what follows it; damaged bytes are refused before they cost memory.

        Parameters
        ----------
        sketch : str
            KIND of the sketch, for the error.
        data : memoryview
            Bytes that begin with the items.

        Raises
        ------
        SketchBytesError
        """
        if len(data) < HEAD.size:
            raise damaged(sketch, f"{HEAD.size} bytes of items", f"{len(data)}")
        code, size = HEAD.unpack_from(data)
        rest = data[HEAD.size :]
        found = cls()
        if code not in NAMES or (code == 0 and size):
            raise damaged(sketch, f"items of a type from 1 to {max(NAMES)}", f"{size} of type {code}")
        found.kind = NAMES[code]
        width = 4 if found.kind in TEXTS else NUMPY.get(found.kind, np.dtype(np.int64)).itemsize
        if len(rest) < width * size:
            raise damaged(sketch, f"{width * size} bytes of items", f"{len(rest)}")
        words = np.frombuffer(rest[: width * size], f"<u{width}")
        rest = rest[width * size :]
        found._size = size
        if found.kind not in TEXTS:
            found._words = words.astype(words.dtype.newbyteorder("="))
            found._check_words(sketch)
            return found, rest
        ends = np.cumsum(words, dtype=np.int64)
        total = int(ends[-1]) if size else 0
        if len(rest) < total:
            raise damaged(sketch, f"{total} bytes of strings", f"{len(rest)}")
        found._data, found._used = np.frombuffer(rest[:total], np.uint8).copy(), total
        found._starts, found._ends = ends - words, ends
        return found, rest[total:]

    def _check_words(self, sketch: str) -> None:
        """Refuse byte forms that no value has: they would not be found by their hash."""
        words = self._words
        if self.kind == "bool":
            wrong = words > 1
        elif self.kind in {"float", "double"}:
            numbers = words.view(NUMPY[self.kind])
            wrong = ((numbers == 0) & (words != 0)) | (np.isnan(numbers) & (words != CANONICAL_NAN[numbers.dtype]))
        else:
            return
        if wrong.any():
            raise damaged(sketch, f"byte forms of {self.kind}", f"{int(words[wrong][0]):#x}")


def mixed(action: str, sketch: str, ours: str, theirs: str) -> SketchTypeError:
    """Return the error of values of two types."""
    return SketchTypeError(
        action,
        "sketch",
        sketch,
        expected=f"values of type {ours!r}",
        got=repr(theirs),
        why="it keeps items of one type, that of its first values",
        todo=f"cast them to {ours!r}, or use another sketch",
    )


def _grown(array: NDArray[Any], used: int, size: int) -> NDArray[Any]:
    """Return the array, or a longer one with what is used of it."""
    if size <= array.size:
        return array
    longer = np.empty(max(size, 2 * array.size if array.size else size), array.dtype)
    longer[:used] = array[:used]
    return longer


def _gathered(data: NDArray[np.uint8], starts: NDArray[np.int64], ends: NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the bytes of some items one after the other, and where each ends."""
    sizes = ends - starts
    stops = np.cumsum(sizes)
    total = int(stops[-1]) if stops.size else 0
    return data[np.repeat(starts - stops + sizes, sizes) + np.arange(total)], stops
