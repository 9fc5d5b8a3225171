"""A table that is brought to the workers once, and searched there by each batch.

The driver reads what is needed of the table, sorts it, and broadcasts it as Arrow's bytes, which a worker opens without reading them. A
copy lives as long as the frame that it was made of: `spark_ext.epochs.Epoch.table` gives the same frame while its version is in use. What
was made in an epoch is destroyed after the epoch in which its frame has gone; outside of epochs copies stay until the session ends, as
nobody knows which plans are still to run.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final
from weakref import WeakKeyDictionary

import pyarrow as pa
from pyspark.core.broadcast import Broadcast
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from spark_ext.epochs.scope import after_epoch
from spark_ext.errors import JoinError
from spark_ext.joins.copy_kernel import HASH, KEY, SINCE, UNTIL, Copy, Overlap, copied, found, held, result
from spark_ext.joins.table_layout import HASHED, TableLayout
from spark_ext.names import column
from spark_ext.state.keys import ints, whole
from spark_ext.workers import settle

__all__ = ["MOST_ROWS", "Interval", "LocalCopy", "copy_of", "joined", "once"]

MOST_ROWS: Final = 5_000_000
SALTS: Final = 8  # hashes that are tried until no two keys of the table have one
PAYLOAD: Final = "p"
SHOWN: Final = 80


@dataclass(frozen=True, slots=True)
class Interval:
    """Between which times a row of a history holds.

    Attributes
    ----------
    since : str
        Column of the table.
    until : str or None
        Column of the table; None if each row holds until the next one.
    overlap : str
        What becomes of intervals that overlap: fail, or latest.
    """

    since: str
    until: str | None
    overlap: Overlap


@dataclass(frozen=True, slots=True)
class LocalCopy:
    """A copy that workers can open."""

    bytes_: Broadcast[bytes]
    salt: int
    rows: int
    most: int
    worst: str


@dataclass(frozen=True, slots=True)
class Moment:
    """When a row of the stream happened, and how old what it meets may be."""

    event_time: str
    tolerance_us: int | None


_copies: WeakKeyDictionary[DataFrame, dict[Any, LocalCopy]] = WeakKeyDictionary()
_gone: deque[Broadcast[bytes]] = deque()  # whose frames are; not destroyed there, as garbage is collected in the middle of anything


def copy_of(table: DataFrame, layout: TableLayout, *, interval: Interval | None = None, most_rows: int = MOST_ROWS) -> LocalCopy:
    """Return the copy of a frame, made at its first use and kept for as long as the frame is.

    Raises
    ------
    JoinError
        The table has too many rows, or says what a history cannot say.
    """
    known = _copies.setdefault(table, {})
    asked = (layout.table_keys, layout.looked_up, interval)
    if asked not in known:
        if table.count() > most_rows:  # of a Delta table as it is the log knows
            raise _too_many(table, most_rows)
        known[asked] = made = sent(table, layout, interval=interval, most_rows=most_rows)
        after_epoch(partial(_let_go, weakref.ref(table), made.bytes_))
    elif known[asked].rows > most_rows:
        raise _too_many(table, most_rows)
    return known[asked]


def once(table: DataFrame, layout: TableLayout, *, most_rows: int = MOST_ROWS) -> LocalCopy:
    """Return a copy for one epoch."""
    # Limited, not counted: what finds these rows is costly, and would run twice.
    made = sent(table.limit(most_rows + 1), layout, most_rows=most_rows)
    after_epoch(made.bytes_.destroy)
    return made


def sent(table: DataFrame, layout: TableLayout, *, interval: Interval | None = None, most_rows: int = MOST_ROWS) -> LocalCopy:
    """Read a table, sort it and send it to the workers."""
    for salt in range(SALTS):
        rows = table.select(*_copied(table, layout, interval, salt)).where(_has_key(len(layout.keys))).toArrow()
        if rows.num_rows > most_rows:
            raise _too_many(table, most_rows)
        copy = copied(rows, name=_name(table), overlap=None if interval is None else interval.overlap)
        if copy is not None:
            return LocalCopy(table.sparkSession.sparkContext.broadcast(_as_bytes(copy)), salt, copy.rows.num_rows, copy.most, copy.worst)
    got = f"equal ones in {SALTS} ways of hashing"
    raise JoinError("copy", "table with", _name(table), expected="keys with hashes of their own", got=got, todo="join it with Spark")


def joined(rows: DataFrame, copy: LocalCopy, layout: TableLayout, moment: Moment | None = None) -> DataFrame:
    """Return the plan: each block of rows is joined where it is."""
    # By place: mapInArrow takes no name with a dot or a backtick in it.
    places = {name: f"c{at}" for at, name in enumerate(rows.columns)}
    own = [column(name).alias(place) for name, place in places.items()]
    asked = rows.select(*own, _hash(layout.keys, copy.salt).alias(HASHED))
    return asked.mapInArrow(_worker(copy.bytes_, places, layout, moment), layout.result)


def _let_go(frame: weakref.ref[DataFrame], held: Broadcast[bytes]) -> None:
    """Destroy what no plan needs any more, and later on what a frame still needs now."""
    table = frame()
    if table is None:
        _gone.append(held)
    else:
        weakref.finalize(table, _gone.append, held).atexit = False
    while _gone:
        _gone.popleft().destroy()


def _worker(
    sent_bytes: Broadcast[bytes], own: Mapping[str, str], layout: TableLayout, moment: Moment | None
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    how, out_names, keys = layout.how, layout.result.names, [own[name] for name in layout.keys]

    def join(blocks: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        copy = _opened(sent_bytes.value)
        payload = [whole(copy.rows.column(name)) for name in copy.rows.column_names if name.startswith(PAYLOAD)]
        for block in blocks:
            starts, counts = found(copy, block.column(HASHED).to_numpy(), [block.column(name) for name in keys])
            if moment is not None:
                times = block.column(own[moment.event_time])
                has_time = times.is_valid().to_numpy(zero_copy_only=False)
                numbers = ints(pa.chunked_array([times]))
                starts, counts = held(copy, starts, counts, numbers, has_time, tolerance_us=moment.tolerance_us)
            at, places = result(how, starts, counts)
            is_all = len(at) == block.num_rows and bool((counts <= 1).all())
            ours = [block.column(name) if is_all else block.column(name).take(pa.array(at)) for name in own.values()]
            yield pa.RecordBatch.from_arrays([*ours, *(one.take(places) for one in payload if places is not None)], out_names)
        settle()

    return join


def _copied(table: DataFrame, layout: TableLayout, interval: Interval | None, salt: int) -> Sequence[Column]:
    found = [column(name).alias(f"{KEY}{at}") for at, name in enumerate(layout.table_keys)]
    found += [column(name).alias(f"{PAYLOAD}{at}") for at, name in enumerate(layout.looked_up)]
    if interval is not None:
        found.append(column(interval.since).alias(SINCE))
        found += [] if interval.until is None else [column(interval.until).alias(UNTIL)]
    return [*found, _hash(layout.table_keys, salt).alias(HASH)]  # last, as the bucket in `spark_ext.state.operator`


def _hash(keys: Sequence[str], salt: int) -> Column:
    return F.xxhash64(F.lit(salt), *(column(name) for name in keys))


def _has_key(count: int) -> str:
    return " AND ".join(f"{KEY}{at} IS NOT NULL" for at in range(count))


def _too_many(table: DataFrame, most_rows: int) -> JoinError:
    return JoinError(
        "copy", "table with", _name(table), expected=f"at most {most_rows:,} rows", got="more", why="each worker holds all of them",
        todo="leave out rows or columns, allow more with most_rows=, or read the keys of each batch only: joins.lookup_keys",
    )  # fmt: skip


def _name(table: DataFrame) -> str:
    return ", ".join(table.columns)[:SHOWN]


def _as_bytes(copy: Copy) -> bytes:
    into = pa.BufferOutputStream()
    rows = copy.rows.replace_schema_metadata({"most": str(copy.most), "worst": copy.worst})
    with pa.ipc.new_stream(into, rows.schema) as stream:
        stream.write_table(rows, max_chunksize=max(1, rows.num_rows))
    made: bytes = into.getvalue().to_pybytes()
    return made


def _opened(data: bytes) -> Copy:
    rows = pa.ipc.open_stream(pa.py_buffer(data)).read_all()
    said = rows.schema.metadata
    return Copy(rows, int(said[b"most"]), said[b"worst"].decode())
