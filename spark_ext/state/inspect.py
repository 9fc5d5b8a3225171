"""Look into a checkpoint: what each bucket holds, and its entries as rows, at any batch that is still there.

Nothing of the query is touched; it may be running. State is read with Spark's own reader and decoded in workers.

A bucket's state does not say what its tables mean, so kernels keep to these names, and here they are read by them:

- tables ``keys``, ``waiting``, ``pending``, ``kept`` and ``gone`` have columns of the user's rows, others have columns of the operator's;
- tables ``left`` and ``right``, also with an underscore and more behind it, have columns of that side's rows, and the settings have the
  side's ``keys`` and ``time`` under its name;
- a column ``key`` is a place in ``keys``, and ``counts`` has one row for each of its rows; ``pane`` in ``groups`` is a place in ``panes``;
- columns ``end``, ``first_us`` and ``time_us`` are event times of entries, and so is the user's column that the settings call
  ``event_time`` or ``time``; a column that ends in ``_us`` is some time;
- column ``a<i>_<j>``: state column j of aggregate i;
- operators made of several kernels put the number of the kernel and a point before the name of each table,
  and have each kernel's settings in ``stages`` by that number.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import fs
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema

from spark_ext.errors import StateError
from spark_ext.paths import absolute, file_system
from spark_ext.state.codec import BucketState, decode, encode
from spark_ext.state.keys import codes
from spark_ext.state.packing import BLOB, BUCKET

__all__ = ["buckets", "entries"]

OPERATOR: Final = "applyInPandasWithState"
TIMEOUT: Final = "timeout_ms"
USERS: Final = {"keys", "waiting", "pending", "kept", "gone"}
SIDES: Final = ("left", "right")
KEY: Final = "key"
PANE: Final = "pane"
FIRST_US: Final = -62_135_596_800_000_000  # the years 1 to 9999; what lies beyond is no time
LAST_US: Final = 253_402_300_799_999_999
STAMP: Final = pa.timestamp("us", "UTC")
WINDOW: Final = pa.struct([("start", STAMP), ("end", STAMP)])
WINDOW_NAMES: Final = ("start", "end")
ENTRY_TIMES: Final = ("end", "first_us", "time_us")
STATE_COLUMN: Final = re.compile(r"a(\d+)_(\d+)")
MS: Final = 1_000
BUCKET_COLUMNS: Final = pa.schema([
    ("bucket", pa.int32()), ("bytes", pa.int64()), ("rows", pa.map_(pa.string(), pa.int64())), ("keys", pa.int64()), ("oldest", STAMP),
    ("floor", STAMP), ("timeout", STAMP), ("buckets", pa.int32()), ("operator", pa.string()), ("settings", pa.string()),
])  # fmt: skip


def buckets(spark: SparkSession, checkpoint_path: str, *, batch_id: int | None = None) -> DataFrame:
    """Return what each bucket of a query's state holds.

    Parameters
    ----------
    spark : SparkSession
        Need not be the one that runs the query.
    checkpoint_path : str
        What was given to Spark as ``checkpointLocation``, or the path of a `spark_ext.queries` checkpoint.
    batch_id : int, optional
        State as this batch left it; default the last one that was committed.

    Returns
    -------
    DataFrame
        A row for each bucket that has a state, which may be one without entries. ``bucket`` int; ``bytes`` of its state; ``rows`` of each
        of its tables, map; ``keys``, distinct ones, null where the operator does not say which columns they are; ``oldest``, least event
        time of its entries (of a window in panes, the end of its first pane), null without any; ``floor``, up to where a control has
        closed, null without; ``timeout``, watermark at which it is called next, null for never; ``buckets``, how many the checkpoint
        has; ``operator`` and ``settings``, what made it.

    Raises
    ------
    StateError
        There is no such checkpoint, no state of ours in it, or the batch is not retained. While the frame is read: damaged state.
    """
    return _blobs(spark, checkpoint_path, batch_id).mapInArrow(_describe, from_arrow_schema(BUCKET_COLUMNS))


def entries(spark: SparkSession, checkpoint_path: str, table: str | None = None, *, batch_id: int | None = None) -> DataFrame:
    """Return one table of the state, of all buckets, as rows that can be read.

    Parameters
    ----------
    spark, checkpoint_path, batch_id
        As in `buckets`.
    table : str, optional
        Name of the table, see column ``rows`` of `buckets`; default the first that has entries per key.

    Returns
    -------
    DataFrame
        ``_bucket``; ``key``, struct, and ``window``, struct of start and end, where the table refers to them; its other columns, times
        as timestamps (null: beyond all time); ``state``, struct of the aggregates' state columns, ``<result>`` or
        ``<result>_<number>`` where there are several.

    Raises
    ------
    StateError
        As in `buckets`; also: no bucket has a state, or the operator has no such table.
    """
    blobs = _blobs(spark, checkpoint_path, batch_id)
    found = blobs.mapInArrow(_emptied, f"{BLOB} binary").first()
    if found is None:
        raise _unreadable(checkpoint_path, "a bucket that has a state", "none", "nothing has come yet", "wait for rows")
    empty = decode(bytes(found[0]), name=checkpoint_path)
    name = _main_table(empty) if table is None else table
    if name not in empty.tables:
        raise _unreadable(checkpoint_path, f"one of the tables {sorted(empty.tables)}", repr(name), "its operator has no other", "name one")
    return blobs.mapInArrow(_Entries(name), from_arrow_schema(_readable(empty, name).schema))


@dataclass(frozen=True, slots=True)
class _Entries:
    """Reads one table, in a worker."""

    table: str

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for state, _, _ in _states(batches):
            yield from _readable(state, self.table).combine_chunks().to_batches()


def _describe(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for state, size, timeout_ms in _states(batches):
        identity = state.identity
        oldest = min((int(times.min()) for times in _entry_times(state) if len(times)), default=None)
        timeout_us = timeout_ms * MS if timeout_ms >= 0 else FIRST_US - 1
        floor, timeout = (time if FIRST_US <= time <= LAST_US else None for time in (state.floor_us, timeout_us))
        rows = [(name, len(table)) for name, table in state.tables.items()]
        of_all = [identity.buckets, identity.operator, identity.settings]
        values = [state.bucket, size, rows, _distinct_keys(state), oldest, floor, timeout, *of_all]
        yield pa.record_batch(
            [pa.array([value], field.type) for value, field in zip(values, BUCKET_COLUMNS, strict=True)], schema=BUCKET_COLUMNS
        )


def _emptied(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Yield one state without its rows, for the schemas."""
    for state, _, _ in _states(batches):
        tables = {name: table.schema.empty_table() for name, table in state.tables.items()}
        yield pa.record_batch([pa.array([encode(replace(state, tables=tables))], pa.binary())], [BLOB])
        return


def _states(batches: Iterable[pa.RecordBatch]) -> Iterator[tuple[BucketState, int, int]]:
    for batch in batches:
        for label, blob, timeout_ms in zip(*(column for column in batch.columns), strict=True):
            data = blob.as_py()
            yield decode(data, name=f"of label {label.as_py()}"), len(data), timeout_ms.as_py()


def _distinct_keys(state: BucketState) -> int | None:
    tables = []
    keys = None
    for name, table in state.tables.items():
        found = _of_rows(state, name).get("keys")
        if found is not None and set(found) <= set(table.column_names):
            tables.append(table.select(found).rename_columns([str(place) for place in range(len(found))]))
        keys = keys if found is None else [str(place) for place in range(len(found))]
    if keys is None:
        return None
    if not keys:
        return int(any(len(table) for table in state.tables.values()))
    if not any(len(table) for table in tables):
        return 0
    numbers = codes([pa.chunked_array([chunk for table in tables for chunk in table.column(name).chunks]) for name in keys])
    return int(numbers.max()) + 1


def _entry_times(state: BucketState) -> Iterator[NDArray[np.int64]]:
    for name, table in state.tables.items():
        settings = _of_rows(state, name)
        wanted, kind = ({settings.get("event_time"), settings.get("time")}, STAMP) if _is_users(name) else (ENTRY_TIMES, pa.int64())
        for field in table.schema:
            if field.name in wanted and field.type == kind:
                times = table.column(field.name).drop_null().cast(pa.int64()).to_numpy()
                yield times[(times >= FIRST_US) & (times <= LAST_US)]


def _main_table(state: BucketState) -> str:
    refers = (name for name, table in state.tables.items() if KEY in table.column_names and not _is_users(name))
    return next(refers, next(iter(state.tables)))


def _readable(state: BucketState, name: str) -> pa.Table:
    """Return a table with what it refers to in place."""
    table, prefix, kind = state.tables[name], name.removesuffix(_last(name)), _last(name)
    columns = {BUCKET: pa.repeat(pa.scalar(state.bucket, pa.int32()), len(table))}
    if _is_users(name):
        return pa.table({**columns, **dict(zip(table.column_names, table.columns, strict=True))})
    names, keys = list(table.column_names), state.tables.get(f"{prefix}keys", pa.table({}))
    if KEY in names:
        places = table.column(KEY)
        names.remove(KEY)
        if keys.num_columns:
            columns[KEY] = _struct(keys.take(places))
    elif kind == "counts" and keys.num_columns:
        columns[KEY] = _struct(keys)
    if kind == "groups" and PANE in names:
        columns["window"] = _window(state.tables[f"{prefix}panes"].take(table.column(PANE)))
        names.remove(PANE)
    aggregates = list(_settings(state, prefix).get("aggregates", {}))
    states: dict[str, pa.Array] = {}
    for column in names:
        part = STATE_COLUMN.fullmatch(column)
        is_time = column.endswith("_us") or (kind == "panes" and column in WINDOW_NAMES)
        if part and int(part[1]) < len(aggregates):
            several = f"a{part[1]}_1" in names
            states[aggregates[int(part[1])] + (f"_{part[2]}" if several else "")] = table.column(column)
        elif is_time and table.schema.field(column).type == pa.int64():
            columns[column.removesuffix("_us")] = _stamps(table.column(column))
        else:
            columns[column] = table.column(column)
    if states:
        columns["state"] = _struct(pa.table(states))
    return pa.table(columns)


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def _is_users(name: str) -> bool:
    return _last(name) in USERS or _side(name) in SIDES


def _side(name: str) -> str:
    return _last(name).partition("_")[0]


def _of_rows(state: BucketState, name: str) -> Mapping[str, Any]:
    """Return what the settings say of the rows of a table: of one side, or of all."""
    settings = _settings(state)
    found: Mapping[str, Any] = settings.get(_side(name), settings) if _side(name) in SIDES else settings
    return found


def _struct(table: pa.Table) -> pa.Array:
    return pa.StructArray.from_arrays([_whole(column) for column in table.columns], fields=list(table.schema))


def _window(panes: pa.Table) -> pa.Array:
    return pa.StructArray.from_arrays([_stamps(panes.column(name)) for name in WINDOW_NAMES], fields=list(WINDOW))


def _stamps(column: pa.ChunkedArray) -> pa.Array:
    whole = _whole(column)
    known = pc.and_(pc.greater_equal(whole, FIRST_US), pc.less_equal(whole, LAST_US))
    return pc.if_else(known, whole, pa.scalar(None, pa.int64())).view(STAMP)


def _whole(column: pa.ChunkedArray) -> pa.Array:
    return pa.concat_arrays([pa.array([], column.type), *column.chunks])


def _settings(state: BucketState, prefix: str = "") -> Mapping[str, Any]:
    """Return what the state was made with; of one kernel of several, by the number in `prefix`."""
    found: Mapping[str, Any] = json.loads(state.identity.settings)
    stage: Mapping[str, Any] = found["stages"][prefix[:-1]] if prefix else found
    return stage


def _blobs(spark: SparkSession, checkpoint_path: str, batch_id: int | None) -> DataFrame:
    """Return label of a bucket, its state and its timeout, once it is sure that they are there."""
    folder = _spark_folder(checkpoint_path)
    _ = spark.streams.active  # SPARK-58973: without it a session that has run no stream cannot read state
    operators = spark.read.format("state-metadata").load(folder).collect()
    ours = next((row for row in operators if row.operatorName == OPERATOR), None)
    if ours is None:
        raise _foreign(checkpoint_path, [row.operatorName for row in operators])
    if batch_id is not None and not ours.minBatchId <= batch_id <= ours.maxBatchId:
        kept = f"one of the batches {ours.minBatchId} to {ours.maxBatchId}"
        raise _unreadable(checkpoint_path, kept, f"batch {batch_id}", "these are retained", "choose one of them")
    reader = spark.read.format("statestore").option("operatorId", ours.operatorId)
    state = reader.option("batchId", ours.maxBatchId if batch_id is None else batch_id).load(folder)
    if state.select("key.*").columns != [BUCKET] or state.select("value.*").columns != ["groupState", "timeoutTimestamp"]:
        raise _foreign(checkpoint_path, [OPERATOR])
    return state.select(f"key.{BUCKET}", f"value.groupState.{BLOB}", F.col("value.timeoutTimestamp").alias(TIMEOUT))


def _spark_folder(checkpoint_path: str) -> str:
    path = absolute(checkpoint_path)
    files, root = file_system(path)
    for folder in ("/spark", ""):
        if files.get_file_info(f"{root}{folder}/commits").type == fs.FileType.Directory:
            return path + folder
    why = "the path is wrong, or no batch was committed yet"
    raise _unreadable(
        checkpoint_path, "the folder of a checkpoint", "one without commits/ or spark/commits/", why, "correct the path, or wait"
    )


def _foreign(checkpoint_path: str, operators: list[str]) -> StateError:
    expected, why = "state of an operator of Millrace", "what Spark's own operators keep is read with spark.read.format('statestore')"
    return _unreadable(checkpoint_path, expected, ", ".join(map(repr, operators)) or "no state at all", why, "name another checkpoint")


def _unreadable(checkpoint_path: str, expected: str, got: str, why: str, todo: str) -> StateError:
    return StateError("read", "state of checkpoint", checkpoint_path, expected=expected, got=got, why=why, todo=todo)
