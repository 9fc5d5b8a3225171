"""A bucket's state as bytes: a header that says whose it is, then Arrow record batches, all under one CRC32C.

Layout, little endian: magic ``MRBS``, format uint16, reserved uint16, CRC32C uint32 of everything behind it, length of the
header uint32, the header (JSON: operator, settings, buckets, bucket, floor_us, tables with name, rows, bytes), zeros up to a
multiple of 64, then each table as one Arrow IPC stream, its buffers LZ4 frames or plain. Format 1 stays readable for ever.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import google_crc32c
import pyarrow as pa

from spark_ext.errors import StateError

__all__ = ["BucketState", "Identity", "decode", "encode", "to_ipc"]

MAGIC: Final = b"MRBS"
FORMAT: Final = 1
PREFIX: Final = struct.Struct("<4sHHII")
SMALL: Final = pa.ipc.IpcWriteOptions(compression="lz4")  # the bytes cross to the JVM and are copied there several times
CHECKED_FROM: Final = 12  # behind the checksum itself
ALIGNMENT: Final = 64
KEEP: Final = "restore this checkpoint's state folder from a copy, or start with a new checkpoint; the tables written so far stay valid"


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose state it is. A checkpoint belongs to one operator, with one number of buckets and one set of settings.

    Attributes
    ----------
    operator : str
        Name and version of the layout.
    settings : str
        What the state depends on, as JSON.
    buckets : int
        Number of buckets of the checkpoint.
    """

    operator: str
    settings: str
    buckets: int


@dataclass(frozen=True, slots=True)
class BucketState:
    """The state of one bucket.

    Attributes
    ----------
    identity : Identity
        Whose it is.
    bucket : int
        Which one, from 0.
    floor_us : int
        Least watermark that was asked for by a control row, microseconds since 1970.
    tables : mapping of str to pa.Table
        The kernel's tables.
    """

    identity: Identity
    bucket: int
    floor_us: int
    tables: Mapping[str, pa.Table]


def encode(state: BucketState) -> bytes:
    """Return the bytes of a bucket's state."""
    parts = {name: to_ipc(table) for name, table in state.tables.items()}
    sizes = [{"name": name, "rows": state.tables[name].num_rows, "bytes": len(part)} for name, part in parts.items()]
    fields = {**asdict(state.identity), "bucket": state.bucket, "floor_us": state.floor_us, "tables": sizes}
    header = json.dumps(fields, separators=(",", ":")).encode()
    padding = -(PREFIX.size + len(header)) % ALIGNMENT
    body = b"".join([struct.pack("<I", len(header)), header, b"\0" * padding, *parts.values()])
    return MAGIC + struct.pack("<HHI", FORMAT, 0, google_crc32c.value(body)) + body


def decode(blob: bytes, *, name: str) -> BucketState:
    """Read what `encode` wrote.

    Parameters
    ----------
    blob : bytes
        As stored.
    name : str
        What to call it in errors.

    Raises
    ------
    StateError
        These are not the bytes of a bucket's state, of a newer format, cut short, or damaged.
    """
    if len(blob) < PREFIX.size or blob[:4] != MAGIC:
        raise _unreadable(name, f"a state that begins with {MAGIC!r}", f"{len(blob)} bytes that begin with {blob[:4]!r}", "it is not ours")
    _, version, reserved, checksum, size = PREFIX.unpack_from(blob)
    if version != FORMAT or reserved:
        got = f"format {version}" + (f" with mark {reserved}" if reserved else "")
        raise _unreadable(
            name, f"format {FORMAT}", got, "another release wrote it, or it is damaged", f"run it with that release, or {KEEP}"
        )
    found = google_crc32c.value(blob[CHECKED_FROM:])  # a copy: it takes no views
    if found != checksum:
        raise _unreadable(name, f"checksum {checksum:#010x}", f"{found:#010x}", "its bytes have changed since they were written")
    try:
        return _parsed(blob, size)
    except (pa.ArrowException, OSError, ValueError, LookupError, TypeError) as error:
        got = f"{type(error).__name__}: {error}"
        raise _unreadable(name, "a header and the tables it names", got, "what wrote it was at fault, as its checksum is right") from error


def _parsed(blob: bytes, size: int) -> BucketState:
    header: dict[str, Any] = json.loads(blob[PREFIX.size : PREFIX.size + size])
    at = -(-(PREFIX.size + size) // ALIGNMENT) * ALIGNMENT
    tables, whole = {}, pa.py_buffer(blob)
    for table in header["tables"]:
        tables[table["name"]] = pa.ipc.open_stream(whole.slice(at, table["bytes"])).read_all()
        at += table["bytes"]
    identity = Identity(header["operator"], header["settings"], header["buckets"])
    return BucketState(identity, header["bucket"], header["floor_us"], tables)


def to_ipc(table: pa.Table) -> pa.Buffer:
    """Write a table as one Arrow stream, in one batch, compressed."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=SMALL) as writer:
        writer.write_table(table.combine_chunks())
    return sink.getvalue()


def _unreadable(name: str, expected: str, got: str, why: str, todo: str = KEEP) -> StateError:
    return StateError("read", "state", name, expected=expected, got=got, why=why, todo=todo)
