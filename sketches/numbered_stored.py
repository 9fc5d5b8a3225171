"""Columns of stored sketches as one buffer of bytes: to be read and written without an object for each."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, Final, NamedTuple

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from sketches.envelope import CHECKSUM, HEADER, MAGIC, NUMBERS
from sketches.errors import SketchError

__all__ = ["Stored", "prefix", "sealed", "stored_parts"]

PART_BYTES: Final = 1 << 25  # of stored forms that are read at once
MOST_BYTES: Final = (1 << 31) - 1  # what the offsets of an Arrow binary array can say


class Stored(NamedTuple):
    """Some stored forms: that of row ``rows[i]`` is ``data[starts[i]:ends[i]]``; nulls are left out.

    Attributes
    ----------
    data : ndarray (bytes,) uint8
        Read-only.
    starts, ends, rows : ndarray (n,) int64
    """

    data: NDArray[np.uint8]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    rows: NDArray[np.int64]

    def form(self, place: int) -> bytes:
        """Return one of them."""
        return self.data[self.starts[place] : self.ends[place]].tobytes()

    def are_whole(self, places: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Tell for some of them, of at least the checksum's length, whether the checksum is right."""
        starts, stops = self.starts[places], self.ends[places] - CHECKSUM.size
        if not places.size:
            return np.empty(0, np.bool_)
        begin = int(starts.min())
        whole, value = self.data[begin : int(stops.max())].tobytes(), google_crc32c.value  # C takes bytes only, no views
        some = zip((starts - begin).tolist(), (stops - begin).tolist(), strict=True)
        found = np.fromiter((value(whole[start:stop]) for start, stop in some), np.uint32, places.size)
        said = self.data[stops[:, None] + np.arange(CHECKSUM.size)].view("<u4")[:, 0]
        return found == said


def stored_parts(stored: Any) -> Iterator[Stored]:
    """Yield an Arrow array of binary, large or not, in parts of some 32 MB."""
    import pyarrow as pa  # noqa: PLC0415 (Arrow only where it is asked for)

    array = stored.combine_chunks() if isinstance(stored, pa.ChunkedArray) else stored
    if array.type not in {pa.binary(), pa.large_binary()}:
        array = array.cast(pa.large_binary())
    _, places, data = array.buffers()
    if not len(array):
        return
    offsets = np.frombuffer(places, np.int32 if array.type == pa.binary() else np.int64)[array.offset : array.offset + len(array) + 1]
    offsets = offsets.astype(np.int64)
    whole = np.frombuffer(data, np.uint8) if data is not None else np.empty(0, np.uint8)
    whole.flags.writeable = False  # whoever made it, so that kernels are compiled once
    rows = np.flatnonzero(array.is_valid().to_numpy(zero_copy_only=False)) if array.null_count else np.arange(len(array))
    cuts = np.searchsorted(offsets, np.arange(offsets[0] + PART_BYTES, offsets[-1], PART_BYTES))
    for start, stop in zip([0, *cuts.tolist()], [*cuts.tolist(), len(array)], strict=True):
        some = rows[np.searchsorted(rows, start) : np.searchsorted(rows, stop)]
        if some.size:
            yield Stored(whole, offsets[some], offsets[some + 1], some)


def prefix(kind: str, version: int, parameters: bytes) -> NDArray[np.uint8]:
    """Return what all forms of a kind and parameters begin with: the header, with 0 for the length of the payload, and the parameters."""
    return np.frombuffer(HEADER.pack(MAGIC, NUMBERS[kind], version, len(parameters), 0) + parameters, np.uint8)


def sealed(kind: str, data: NDArray[np.uint8], ends: NDArray[np.int64]) -> Any:
    """Write the checksums of forms that stand one after the other, and return them as a pyarrow.BinaryArray.

    Parameters
    ----------
    kind : str
        For the error.
    data : ndarray (bytes,) uint8
        The forms; the last 4 bytes of each are to be written.
    ends : ndarray (n + 1,) int64
        Where each begins, and the end.

    Raises
    ------
    SketchError
        They are more bytes than an Arrow array of this type can have.
    """
    import pyarrow as pa  # noqa: PLC0415

    check_size(kind, int(ends[-1]))
    whole, value, some = data.tobytes(), google_crc32c.value, pairwise(ends.tolist())
    found = np.fromiter((value(whole[start : end - CHECKSUM.size]) for start, end in some), "<u4", ends.size - 1)
    if found.size:
        data[(ends[1:] - CHECKSUM.size)[:, None] + np.arange(CHECKSUM.size)] = found.view(np.uint8).reshape(-1, CHECKSUM.size)
    offsets = ends.astype(np.int32)
    return pa.Array.from_buffers(pa.binary(), ends.size - 1, [None, pa.py_buffer(offsets), pa.py_buffer(data)])


def check_size(kind: str, size: int) -> None:
    """Refuse to make a column of more bytes than its offsets can say."""
    if size > MOST_BYTES:
        raise SketchError(
            "store",
            "sketches",
            kind,
            expected=f"up to {MOST_BYTES:,} bytes at once",
            got=f"{size:,}",
            why="the offsets of an Arrow binary array have 32 bits",
            todo="store some of them at a time: to_stored(start, stop)",
        )
