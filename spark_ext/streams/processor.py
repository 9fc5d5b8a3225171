"""Processors: any Python over the records of a bucket, with named state, punctuation and several outputs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import Enum
from functools import cached_property
from typing import Final

import numpy as np
import pyarrow as pa

from spark_ext.errors import QueryError, SettingsError
from spark_ext.state.kernel import FOREVER_US, LATEST, NEVER_US, Moment, State, Step
from spark_ext.streams.ddl import column_names
from spark_ext.streams.stores import StateStore, StoreLayout

__all__ = ["Processor", "ProcessorContext", "ProcessorKernel", "PunctuationType", "checked_output", "table_of"]

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND: Final = timedelta(microseconds=1)
STAMP: Final = pa.timestamp("us", "UTC")
REJECTED: Final = "rejected"
REASON: Final = "reason"
DUE: Final = "due"
KEPT: Final = "kept"  # by this name a table of the state is known to have a user's columns
DUE_SCHEMA: Final = pa.schema([("schedule", pa.int32()), ("next_us", pa.int64())])


class PunctuationType(Enum):
    """By which time a callback is called."""

    STREAM_TIME = "stream time"
    WALL_CLOCK_TIME = "wall clock time"


class Processor:
    """Base of a processor; one is made per bucket and batch, so what it has to remember is in its stores."""

    def init(self, context: ProcessorContext) -> None:
        """Keep the context, find stores, schedule callbacks; called first in each batch of a bucket."""
        self.context = context

    def process(self, records: pa.Table) -> None:
        """Take the records of a bucket in a batch.

        Deterministic up to the order of records, which must not matter; order them by ``timestamp`` where it does.

        Parameters
        ----------
        records : pa.Table
            ``key``, ``timestamp`` and the fields of the value, or ``value`` if it is no struct; records of several keys. Late ones too:
            compare with `ProcessorContext.currentStreamTime`.
        """
        raise NotImplementedError


class ProcessorContext:
    """What a processor can do: read and write stores, forward, schedule, reject, ask for the time."""

    def __init__(self, kernel: ProcessorKernel, stores: Mapping[str, StateStore], moment: Moment) -> None:
        self._kernel, self._stores, self._moment = kernel, stores, moment
        self.schedules: list[tuple[int, PunctuationType, Callable[[datetime], None]]] = []
        self.out: dict[str, list[pa.Table]] = {}

    def getStateStore(self, name: str) -> StateStore:
        """Return a store.

        Raises
        ------
        QueryError
            The processor was not connected to one of this name.
        """
        if name not in self._stores:
            raise _refused(name, f"one of the stores {list(self._stores)}", "none", "connect it: process(..., stores=[...])")
        return self._stores[name]

    def forward(self, records: pa.Table, *, to: str = "") -> None:
        """Give records to what follows.

        Parameters
        ----------
        records : pa.Table
            Columns as the output was declared; without ``timestamp`` they get the stream time.
        to : str
            Which output, if there are several.

        Raises
        ------
        QueryError
            No such output, or columns are missing.
        """
        names = list(self._kernel.outputs)
        if to not in names:
            raise _refused("forward", f"an output of {names}", repr(to), "declare it: process(..., output={...})")
        schema = self._kernel.output_schema(to)
        if "timestamp" not in records.column_names:
            now = pa.scalar(_bounded(self._moment.watermark_us), pa.int64()).cast(STAMP)
            records = records.append_column("timestamp", pa.repeat(now, records.num_rows))
        missing = set(schema.names) - set(records.column_names)
        if missing:
            raise _refused("forward", f"columns {schema.names}", f"none of {sorted(missing)}", "add them, or change the declared output")
        self.out.setdefault(to, []).append(records.select(schema.names).cast(schema))

    def reject(self, records: pa.Table, *, reason: str) -> None:
        """Put records that came in aside, into the application's table of rejected rows."""
        kept = records.select(self._kernel.in_schema.names).cast(self._kernel.in_schema)
        self.out.setdefault(REJECTED, []).append(kept.append_column(REASON, pa.repeat(pa.scalar(reason), records.num_rows)))

    def schedule(self, interval: timedelta, type: PunctuationType, callback: Callable[[datetime], None]) -> None:  # noqa: A002
        """Have a function called every `interval`; to be called in `Processor.init`, in the same order each time.

        By stream time it is called once the watermark has passed the next multiple of `interval` since 1970, also without records, and
        gets the watermark. By wall clock it goes by the time at which the batch was planned, so a replay does the same, and is looked at
        when the bucket is called: with records, by stream time, or by the ``ticks`` of `KStream.process`. Multiples that were missed are
        one call.

        Raises
        ------
        QueryError
            `interval` is not above zero.
        """
        if interval <= timedelta(0):
            raise _refused("schedule", "an interval above zero", repr(interval), "correct it")
        self.schedules.append((interval // MICROSECOND, type, callback))

    def currentStreamTime(self) -> datetime | None:
        """Return the watermark at the start of the batch; None before there is one."""
        return None if self._moment.watermark_us <= 0 else _time(self._moment.watermark_us)

    def currentSystemTime(self) -> datetime:
        """Return when the batch was planned."""
        return _time(self._moment.batch_us)


@dataclass(frozen=True)
class ProcessorKernel:
    """A processor as a kernel of `spark_ext.state`.

    Parameters
    ----------
    supplier : callable
        Makes the processor.
    in_schema : pa.Schema
        Records in flat form.
    outputs : mapping of str to pa.Schema
        Columns by output.
    keeps : tuple of StoreLayout
        The stores.

    State: one table per store, and when each schedule is due next.
    """

    supplier: Callable[[], Processor] = field(repr=False)
    in_schema: pa.Schema
    outputs: Mapping[str, pa.Schema]
    keeps: tuple[StoreLayout, ...]
    operator: str = field(default="processor_v1", init=False)

    @property
    def settings(self) -> str:
        """What the state depends on, as JSON: the columns of stores and records, not the code."""
        stores = {
            one.name: {"columns": {field.name: str(field.type) for field in one.schema}, "keys": list(one.keys)} for one in self.keeps
        }
        return json.dumps({"stores": stores, "key": str(self.in_schema.field("key").type)})

    @cached_property
    def state_schema(self) -> Mapping[str, pa.Schema]:
        """The stores, and what is due."""
        return {**{table_of(one.name): one.schema for one in self.keeps}, DUE: DUE_SCHEMA}

    @cached_property
    def out_schema(self) -> Mapping[str, pa.Schema]:
        """Columns of each output, each with a prefix of its own, and of rejected records."""
        found = {}
        for at, name in enumerate(self.outputs):
            found[tag_of(at)] = pa.schema([one.with_name(f"o{at}_{one.name}") for one in self.output_schema(name)])
        found[REJECTED] = pa.schema(
            [*(one.with_name(f"in_{one.name}").with_nullable(True) for one in self.in_schema), (REASON, pa.string())]
        )
        return found

    def output_schema(self, name: str) -> pa.Schema:
        """Return the columns of an output."""
        schema = self.outputs[name]
        return schema if "timestamp" in schema.names else schema.append(pa.field("timestamp", STAMP))

    def step(self, state: State, rows: pa.Table, moment: Moment) -> Step:
        """Run the processor over a bucket; see `spark_ext.state.kernel.Kernel.step`."""
        stores = {one.name: StateStore(one, state[table_of(one.name)]) for one in self.keeps}
        context = ProcessorContext(self, stores, moment)
        processor = self.supplier()
        processor.init(context)
        if rows.num_rows:
            processor.process(rows)
        known = dict(zip(state[DUE].column("schedule").to_pylist(), state[DUE].column("next_us").to_pylist(), strict=True))
        due: dict[int, int] = {}
        wakes = []
        for at, (interval, kind, callback) in enumerate(context.schedules):
            by_stream = kind is PunctuationType.STREAM_TIME
            now = moment.watermark_us if by_stream else moment.batch_us
            following = known.get(at)
            if following is not None and now >= following:
                callback(_time(_bounded(now)))
                following = None
            if NEVER_US < now < FOREVER_US:
                due[at] = following if following is not None else (now // interval + 1) * interval
            elif now == NEVER_US and rows.num_rows:
                due[at] = following if following is not None else _first(rows, interval)
            elif following is not None and now != FOREVER_US:
                due[at] = following
            if by_stream and at in due:
                wakes.append(due[at])
        out = {tag_of(at): _united(context.out.get(name), self.out_schema[tag_of(at)]) for at, name in enumerate(self.outputs)}
        out[REJECTED] = _united(context.out.get(REJECTED), self.out_schema[REJECTED])
        table = pa.table({"schedule": pa.array(list(due), pa.int32()), "next_us": pa.array(list(due.values()), pa.int64())}, DUE_SCHEMA)
        return Step({**{table_of(name): one.all() for name, one in stores.items()}, DUE: table}, out, min(wakes, default=None))


def checked_output(kind: str, schema: str, *, timed: bool) -> None:
    """Refuse an output without the columns that records have.

    Raises
    ------
    SettingsError
        ``key``, or of a `timed` one ``timestamp``, is missing, or there is nothing else.
    """
    names = column_names(schema)
    needed = ["key", *(["timestamp"] if timed else [])]
    if any(one not in names for one in needed) or not set(names) - {"key", "timestamp"} or "sequence" in names:
        expected = f"{' and '.join(needed)}, and columns of the value"
        raise SettingsError(
            "declare", "output of", kind, expected=expected, got=schema, todo="add them, such as 'key string, value bigint'"
        )


def table_of(store: str) -> str:
    """Return the name of a store's table in the state."""
    return f"{store}.{KEPT}"


def tag_of(at: int) -> str:
    """Return the tag of an output by its place."""
    return f"out{at}"


def _first(rows: pa.Table, interval: int) -> int:
    """Return when a schedule is due that began before there was a watermark: behind the earliest record."""
    times = rows.column("timestamp").drop_null()
    if not len(times):
        return 0
    earliest = int(np.asarray(times.combine_chunks().view(pa.int64())).min())
    return (earliest // interval + 1) * interval


def _united(parts: list[pa.Table] | None, schema: pa.Schema) -> pa.Table:
    if not parts:
        return schema.empty_table()
    return pa.concat_tables(parts).rename_columns(schema.names).cast(schema)


def _bounded(us: int) -> int:
    """Return a time that a calendar has; the end of time is the latest event time that is not absurd."""
    return min(max(us, 0), (LATEST - EPOCH) // MICROSECOND)


def _time(us: int) -> datetime:
    return EPOCH + us * MICROSECOND


def _refused(name: str, expected: str, got: str, todo: str) -> QueryError:
    return QueryError("run", "processor at", name, expected=expected, got=got, why="nothing of this batch was kept", todo=todo)
