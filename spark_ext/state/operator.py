"""A kernel over a DataFrame: by bucket, on a stream with Spark's state under it, or over a bounded table in one pass.

    rows -- bucket number --> pack -- shuffle of blobs --> one call per bucket -- blobs --> spread --> tagged rows
            xxhash64(keys)   mapInArrow                   applyInPandasWithState           mapInArrow

Spark moves blobs, so a row costs one conversion on the way in and one on the way out, whatever its columns.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema, to_arrow_schema
from pyspark.sql.streaming.state import GroupState, GroupStateTimeout
from pyspark.sql.types import StructType

from spark_ext.errors import SchemaError, SettingsError, StateError
from spark_ext.names import column
from spark_ext.state.buckets import check_buckets, labels
from spark_ext.state.codec import BucketState, Identity, decode, encode
from spark_ext.state.kernel import FOREVER_US, NEVER_US, JoinKernel, Kernel, Moment, State, Step, empty_state
from spark_ext.state.keys import check_key, check_text
from spark_ext.state.packing import BLOB, BUCKET, CONTROL, FLOOR, MARKED, ONLY, TAG, Packer, receive, spread, to_blobs
from spark_ext.workers import settle

if TYPE_CHECKING:
    from spark_ext.state.control import Control

__all__ = ["Input", "apply_kernel", "apply_to_inputs", "has_watermark", "input_schema", "union_schema"]

WATERMARK: Final = "_watermark"
# Spark drops late rows by the column that carries this; a null column with it shows late rows, watermark and timers alike.
WATERMARKED: Final = {"spark.watermarkDelayMs": 0}
MS: Final = 1_000


def input_schema(frame: DataFrame, columns: Sequence[str]) -> pa.Schema:
    """Return what a kernel sees of a frame: these columns, time stamps in UTC."""
    return to_arrow_schema(StructType([frame.schema[name] for name in columns]), timezone="UTC")


def apply_kernel(
    frame: DataFrame, kernel: Kernel, *, keys: Sequence[str], columns: Sequence[str], buckets: int, control: Control | None = None
) -> DataFrame:
    """Run a kernel over a stream or a bounded frame.

    Guarantee: each row reaches the kernel exactly once, with all rows of its key in the same bucket, in the order of batches. Late
    rows reach it too. On a stream the state is Spark's: what a batch did to it is kept if and only if the batch is committed.

    Parameters
    ----------
    frame : DataFrame
        A stream with a watermark, or a bounded frame.
    kernel : Kernel
        What to do; sent to workers.
    keys : sequence of str
        Columns that make the key; none: everything is in one bucket.
    columns : sequence of str
        Columns that the kernel gets.
    buckets : int
        Number of buckets, from 1 to 16,384; fixed for the life of a checkpoint.
    control : Control, optional
        Where a request to close windows comes from; streams only.

    Returns
    -------
    DataFrame
        ``tag`` and the columns of all tags; those that a tag does not have are null.

    Raises
    ------
    SchemaError
        A column is missing, or a key is of a type that cannot be compared.
    SettingsError
        The number of buckets is out of range, or a stream has no watermark.
    StateError
        In the running query: the checkpoint was made with another operator, settings or number of buckets, or is damaged.

    State: one blob per bucket (`spark_ext.state.codec`), rewritten whole when the bucket is called.
    """
    return apply_to_inputs({ONLY: Input(frame, keys, columns)}, _One(kernel), buckets=buckets, control=control)


@dataclass(frozen=True, slots=True)
class Input:
    """One input of an operator that has several.

    Attributes
    ----------
    frame : DataFrame
        As in `apply_kernel`.
    keys : sequence of str
        Columns that make the key: as many, and of the same types in the same order, as those of the other inputs.
    columns : sequence of str
        Columns that the kernel gets.
    """

    frame: DataFrame
    keys: Sequence[str]
    columns: Sequence[str]


def apply_to_inputs(inputs: Mapping[str, Input], kernel: JoinKernel, *, buckets: int, control: Control | None = None) -> DataFrame:
    """Run a kernel over several inputs; rows whose keys are equal meet in a bucket, whichever input they are of.

    Guarantee, parameters, errors and state as in `apply_kernel`. The watermark is the least of those of the inputs; rows of one that is
    late by it reach the kernel too.

    Parameters
    ----------
    inputs : mapping of str to Input
        By the names that the kernel knows them by; all of them streams, or all bounded.

    Raises
    ------
    SettingsError
        Also if some are streams and some are bounded.
    """
    for one in inputs.values():
        _check(one.frame, one.keys, one.columns, buckets)
    streaming = {one.frame.isStreaming for one in inputs.values()}
    if len(streaming) > 1:
        raise SettingsError(
            "join", "inputs", ", ".join(inputs), expected="all streams, or all bounded", got="some of both",
            todo="read a table beside a stream with spark_ext.joins.lookup, or both as streams",
        )  # fmt: skip
    schema = union_schema(kernel.out_schema)
    runner = _Runner(kernel, buckets, schema)
    spark_schema = from_arrow_schema(schema)
    parts = []
    for at, (name, one) in enumerate(inputs.items()):
        rows = _packed(one.frame, one.keys, one.columns, buckets, control if at == 0 else None)
        parts.append(rows.mapInArrow(Packer(buckets, kernel.operator, name), f"{BUCKET} int, {BLOB} binary"))
    packed = reduce(DataFrame.unionAll, parts)
    if streaming == {True}:
        marked = packed.select("*", F.lit(None).cast("timestamp").alias(WATERMARK, metadata=WATERMARKED))
        blobs = marked.groupBy(BUCKET).applyInPandasWithState(
            runner.stream, f"{BLOB} binary", f"{BLOB} binary", "append", GroupStateTimeout.EventTimeTimeout
        )
    else:
        blobs = packed.groupBy(BUCKET).applyInArrow(lambda packed: runner.bounded(packed), f"{BLOB} binary")  # noqa: PLW0108 (it counts a method's self)
    return blobs.mapInArrow(spread, spark_schema)


def has_watermark(frame: DataFrame) -> bool:
    """Tell whether a stream has a watermark."""
    return "EventTimeWatermark" in frame._jdf.queryExecution().analyzed().toString()  # noqa: SLF001 (no public way to ask)


def union_schema(schemas: Mapping[str, pa.Schema]) -> pa.Schema:
    """Return ``tag`` and the columns of all tags, each once."""
    fields: dict[str, pa.Field] = {TAG: pa.field(TAG, pa.string())}
    for schema in schemas.values():
        for field in schema:
            fields.setdefault(field.name, field)
    return pa.schema(list(fields.values()))


def _check(frame: DataFrame, keys: Sequence[str], columns: Sequence[str], buckets: int) -> None:
    for name in (*keys, *columns):
        if name not in frame.columns:
            raise SchemaError("read", "column", name, expected=f"one of {frame.columns}", got="no such column", todo="correct the name")
    for field in input_schema(frame, keys):
        check_key(field.name, field.type)
        check_text(field.name, frame.schema[field.name].dataType.simpleString())
    check_buckets(buckets)
    if frame.isStreaming and not has_watermark(frame):
        raise SettingsError(
            "use",
            "stream",
            "without a watermark",
            expected="a stream with one",
            got="none",
            why="nothing would ever close, and state would be kept for ever",
            todo="use spark_ext.time.with_watermark(stream, ...) or stream.withWatermark(...)",
        )


def _packed(frame: DataFrame, keys: Sequence[str], columns: Sequence[str], buckets: int, control: Control | None) -> DataFrame:
    # By place: mapInArrow takes no name with a dot in it, and a user's name may be one of ours.
    named = {f"c{at}": name for at, name in enumerate(columns)}
    # The bucket is last: Spark looks for constraints through each alias that follows an expression, and finds twice as many each time.
    rows = frame.select(*(column(name).alias(place) for place, name in named.items()), _bucket(keys, buckets).alias(BUCKET))
    if control is None or not frame.isStreaming:
        return rows
    empty = [F.lit(None).cast(frame.schema[name].dataType).alias(place) for place, name in named.items()]
    requests = control.rows(frame.sparkSession).select(*empty, F.lit(CONTROL).alias(BUCKET), F.unix_micros("until").alias(FLOOR))
    return rows.withColumn(FLOOR, F.lit(None).cast("bigint")).unionAll(requests)


def _bucket(keys: Sequence[str], buckets: int) -> Column:
    if not keys:
        return F.lit(0)
    return F.pmod(F.xxhash64(*(column(name) for name in keys)), F.lit(buckets)).cast("int")


@dataclass(frozen=True, slots=True)
class _One:
    """A kernel over one input, as one over several."""

    kernel: Kernel

    @property
    def operator(self) -> str:
        return self.kernel.operator

    @property
    def settings(self) -> str:
        return self.kernel.settings

    @property
    def in_schemas(self) -> Mapping[str, pa.Schema]:
        return {ONLY: self.kernel.in_schema}

    @property
    def state_schema(self) -> Mapping[str, pa.Schema]:
        return self.kernel.state_schema

    @property
    def out_schema(self) -> Mapping[str, pa.Schema]:
        return self.kernel.out_schema

    def step(self, state: State, rows: Mapping[str, pa.Table], moment: Moment) -> Step:
        return self.kernel.step(state, rows[ONLY], moment)


@dataclass(frozen=True, slots=True)
class _Runner:
    """Runs a kernel in a worker, for one bucket at a time."""

    kernel: JoinKernel
    buckets: int
    schema: pa.Schema

    def stream(self, key: tuple[int], frames: Iterator[pd.DataFrame], state: GroupState) -> Iterator[pd.DataFrame]:
        """Do one batch of one bucket: state in, step, state out, and the timer."""
        found = self._load(key[0], state)
        received = receive((blob for frame in frames for blob in frame[BLOB]), self.kernel.in_schemas)
        floor_us = max(found.floor_us, NEVER_US if received.floor_us is None else received.floor_us)
        watermark_ms = state.getCurrentWatermarkMs()
        # Spark's watermark is 0 before any row.
        watermark_us = max(watermark_ms * MS if watermark_ms > 0 else NEVER_US, floor_us)
        step = self.kernel.step(found.tables, received.rows, Moment(watermark_us, state.getCurrentProcessingTimeMs() * MS))
        is_empty = floor_us == NEVER_US and not any(table.num_rows for table in step.state.values())
        if is_empty and key[0] != MARKED:
            state.remove()
        else:
            state.update((encode(BucketState(found.identity, found.bucket, floor_us, step.state)),))
            if step.wake_us is not None:
                # It fires once the watermark is above it; Spark takes nothing below the watermark, nor below 1.
                state.setTimeoutTimestamp(max(-(-step.wake_us // MS) - 1, watermark_ms, 1))
        blobs = list(to_blobs(step.out, self.schema))
        if blobs:
            yield pd.DataFrame({BLOB: blobs})
        settle()

    def bounded(self, packed: pa.Table) -> pa.Table:
        """Do a whole bucket: all rows, then the end of time."""
        received = receive((blob.as_py() for blob in packed.column(BLOB)), self.kernel.in_schemas)
        first = self.kernel.step(empty_state(self.kernel), received.rows, Moment(NEVER_US, 0))
        nothing = {name: schema.empty_table() for name, schema in self.kernel.in_schemas.items()}
        last = self.kernel.step(first.state, nothing, Moment(FOREVER_US, 0))
        blobs = [*to_blobs(first.out, self.schema), *to_blobs(last.out, self.schema)]
        return pa.table({BLOB: pa.array(blobs, pa.binary())})

    def _load(self, label: int, state: GroupState) -> BucketState:
        identity = Identity(self.kernel.operator, self.kernel.settings, self.buckets)
        if not state.exists:
            bucket = int(np.flatnonzero(labels(self.buckets) == label)[0])
            return BucketState(identity, bucket, NEVER_US, empty_state(self.kernel))
        found = decode(bytes(state.get[0]), name=f"of label {label}")
        if found.identity != identity:
            raise _mismatch(identity, found.identity, found.bucket)
        return found


def _mismatch(ours: Identity, theirs: Identity, bucket: int) -> StateError:
    asked, made = _facts(ours), _facts(theirs)
    other = [name for name in {**asked, **made} if asked.get(name) != made.get(name)]
    return StateError(
        "use",
        "state",
        f"bucket {bucket}",
        expected=", ".join(f"{name} {asked.get(name)!r}" for name in other),
        got=", ".join(f"{name} {made.get(name)!r}" for name in other),
        why="the checkpoint was made with that",
        todo="set it back, or give the changed job a new checkpoint; nothing of this batch was kept",
    )


def _facts(identity: Identity) -> dict[str, object]:
    try:
        settings = json.loads(identity.settings)
    except ValueError:
        settings = identity.settings
    facts = _flat(settings) if isinstance(settings, dict) else {"settings": settings}
    return {"operator": identity.operator, "buckets": identity.buckets, **facts}


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Name each setting by itself, so that an error shows what differs and no more."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        found |= {f"{name}.{inner}": each for inner, each in _flat(value).items()} if isinstance(value, dict) else {name: value}
    return found
