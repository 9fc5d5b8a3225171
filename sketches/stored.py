"""Columns of stored sketches: taken apart without an object for each, and made from one buffer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sketches import stored_kernel, stored_plain
from sketches.base import Sketch
from sketches.envelope import HEADER, MAGIC, NUMBERS
from sketches.errors import SketchError
from sketches.jit import pick

__all__ = ["Blobs", "arrow_of", "blobs_of", "head_of", "seal_all", "spans"]

MOST_BYTES: Final = (1 << 31) - 1  # of an Arrow array of binary
SPAN_BYTES: Final = 1 << 19  # stay in the second cache between one pass and the next

_verify = pick(stored_kernel.verify, stored_plain.verify)
_seal = pick(stored_kernel.seal, stored_plain.seal)
_check_headers = pick(stored_kernel.check_headers, stored_plain.check_headers)
Places = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Blobs:
    """Stored sketches: sketch i is ``data[begins[i]:ends[i]]``.

    Attributes
    ----------
    data : ndarray (bytes,) uint8
    begins, ends : ndarray (n,) int64
    rows : ndarray (n,) int64
        Which row of the column each is; nulls are none.
    """

    data: NDArray[np.uint8]
    begins: Places
    ends: Places
    rows: Places

    def fit(self, head: NDArray[np.uint8], span: slice) -> NDArray[np.bool_]:
        """Say of each of a span whether it is whole and has this header; what is in its payload is not looked at."""
        begins, ends = self.begins[span], self.ends[span]
        fits = np.empty(begins.size, np.bool_)
        _check_headers(self.data, begins, ends, head, fits)
        _verify(self.data, begins, ends, fits)
        return fits


def blobs_of(stored: Any) -> Blobs:
    """Take apart an Arrow array, also a chunked one, of binary; or a list of bytes."""
    if isinstance(stored, list):
        rows = np.array([row for row, data in enumerate(stored) if data is not None], np.int64)
        some = [stored[row] for row in rows.tolist()]
        bounds = np.cumsum([0, *map(len, some)])
        return Blobs(np.frombuffer(b"".join(some), np.uint8), bounds[:-1], bounds[1:], rows)
    import pyarrow as pa  # noqa: PLC0415 (Arrow only where it is asked for)

    if isinstance(stored, pa.ChunkedArray):
        stored = stored.combine_chunks() if stored.num_chunks != 1 else stored.chunk(0)
    if not isinstance(stored, pa.Array) or stored.type not in (pa.binary(), pa.large_binary()):
        got = str(stored.type) if isinstance(stored, pa.Array) else type(stored).__name__
        raise SketchError("merge", "argument", "stored", expected="an Arrow array of binary", got=got, todo="cast it to pyarrow.binary()")
    _, places, data = stored.buffers()
    if places is None or not len(stored):
        empty = np.empty(0, np.int64)
        return Blobs(np.empty(0, np.uint8), empty, empty, empty)
    dtype = np.int32 if stored.type == pa.binary() else np.int64
    bounds = np.frombuffer(places, dtype)[stored.offset : stored.offset + len(stored) + 1].astype(np.int64)
    whole = np.frombuffer(data, np.uint8) if data is not None else np.empty(0, np.uint8)
    whole.flags.writeable = False  # whoever made it, so that kernels are compiled once
    rows = np.flatnonzero(np.asarray(stored.is_valid())) if stored.null_count else np.arange(len(stored))
    return Blobs(whole, bounds[rows], bounds[rows + 1], rows)


def head_of(template: Sketch) -> NDArray[np.uint8]:
    """Return header and parameters of the stored forms of sketches like this, the length of the payload left at 0."""
    parameters, _ = template._pack()  # noqa: SLF001 (the hooks of sketches are for the package)
    return np.frombuffer(HEADER.pack(MAGIC, NUMBERS[template.KIND], template.VERSION, len(parameters), 0) + parameters, np.uint8)


def spans(sizes: Places, most_bytes: int = SPAN_BYTES, start: int = 0) -> Iterator[slice]:
    """Yield rows of some size each, from row `start` on, as spans of about so many bytes; by default what a cache can hold."""
    step = max(1, most_bytes * sizes.size // max(int(sizes.sum()), 1))
    for row in range(start, start + sizes.size, step):
        yield slice(row, min(row + step, start + sizes.size))


def seal_all(data: NDArray[np.uint8], begins: Places, ends: Places) -> None:
    """Write the checksum of each sketch ``data[begins[i]:ends[i]]`` at its end."""
    _seal(data, begins, ends)


def arrow_of(data: NDArray[np.uint8], ends: Places) -> Any:
    """Return an Arrow array of binary, each value from the end of the one before; a list of bytes where there is no Arrow."""
    size = int(ends[-1]) if ends.size else 0
    try:
        import pyarrow as pa  # noqa: PLC0415 (Arrow only where it is asked for)
    except ImportError:
        whole = data[:size].tobytes()
        return [whole[begin:end] for begin, end in zip([0, *ends[:-1].tolist()], ends.tolist(), strict=False)]
    bounds = np.zeros(ends.size + 1, np.int32)
    bounds[1:] = ends
    return pa.Array.from_buffers(pa.binary(), ends.size, [None, pa.py_buffer(bounds), pa.py_buffer(data[:size])])
