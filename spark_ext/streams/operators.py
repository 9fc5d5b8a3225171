"""Operators that have state, over records: what runs in the query, what comes out of a batch, and what was not accepted.

An operator is made for one run of one node. `plan` is called once, with the records of each input as streams; the other functions get the
rows of a batch, or an empty frame of the same columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import reduce
from typing import Final, Generic, TypeVar

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, DataType, MapType, StructType

from spark_ext import joins, windows
from spark_ext.errors import SchemaError
from spark_ext.joins.plan import join
from spark_ext.joins.shapes import interval
from spark_ext.joins.tagged import SideName
from spark_ext.names import column
from spark_ext.state.buckets import buckets_for
from spark_ext.state.control import UNTIL, Control
from spark_ext.state.kernel import EARLIEST, LATEST, Kernel
from spark_ext.state.operator import apply_kernel, has_watermark, input_schema
from spark_ext.state.packing import TAG
from spark_ext.streams.ddl import arrow_schema
from spark_ext.streams.nodes import Fold, Node, Process, Slide, Stateful, StreamJoin
from spark_ext.streams.processor import REASON, REJECTED, ProcessorKernel, tag_of
from spark_ext.streams.records import FINAL, KEY, SEQUENCE, TIMESTAMP, VALUE, flat, nested
from spark_ext.streams.sliding_kernel import RecordWindows
from spark_ext.windows.aggregates import Aggregate, max  # noqa: A004
from spark_ext.windows.rows import WINDOW, Layout

__all__ = [
    "REJECTED_COLUMNS",
    "FoldOperator",
    "JoinOperator",
    "Operator",
    "ProcessOperator",
    "Settings",
    "SlideOperator",
    "rejected_rows",
    "sequenced",
]

KEY_IN: Final = "_key"
TIME_IN: Final = "_time"
LAST: Final = "_last"
NO_TIME: Final = "_no_time"
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND: Final = timedelta(microseconds=1)
REJECTED_COLUMNS: Final = ("input", "reason", KEY, VALUE, TIMESTAMP, "lateness_ms", "missed", "windows")
PARTLY: Final = "late in part"

N = TypeVar("N", bound=Stateful)


@dataclass(frozen=True, slots=True)
class Settings:
    """How operators run: number of buckets, and where the end of input is told."""

    buckets: int | None = None
    expected_keys: int = 100_000
    control: Control | None = None

    @property
    def number(self) -> int:
        """Number of buckets."""
        return buckets_for(self.expected_keys) if self.buckets is None else self.buckets


class Operator(Generic[N]):
    """Base of operators."""

    def __init__(self, node: N, settings: Settings) -> None:
        self.node, self.settings = node, settings

    @property
    def hold(self) -> timedelta:
        """How far behind the watermark a batch's records may be, by their timestamps."""
        return timedelta(0)

    def plan(self, inputs: Sequence[DataFrame]) -> DataFrame:
        """Return tagged rows."""
        raise NotImplementedError

    def outputs(self, tagged: DataFrame, epoch: int) -> Mapping[Node | str, DataFrame]:
        """Return the records of a batch: by the node, or by the name of its output."""
        raise NotImplementedError

    def rejected(self, tagged: DataFrame) -> DataFrame | None:
        """Return the rows of a batch that were not accepted, columns `REJECTED_COLUMNS`."""
        raise NotImplementedError


class FoldOperator(Operator[Fold]):
    """Aggregation by key, running or by window."""

    @property
    def hold(self) -> timedelta:
        """A window's record may be as old as the window is long, and its grace."""
        window = self.node.window
        return timedelta(0) if window is None else (self.node.length_us + window.grace_us) * MICROSECOND

    def plan(self, inputs: Sequence[DataFrame]) -> DataFrame:
        """Run `spark_ext.windows.aggregate`."""
        (rows,) = inputs
        node = self.node
        window = windows.global_window().without_grace() if node.window is None else node.window
        frame = fold_input(rows, node.aggregates)
        if not has_watermark(frame):  # a running aggregate that nobody asks for the time: one that stands still will do
            frame = frame.withColumn(NO_TIME, F.timestamp_seconds(F.lit(0))).withWatermark(NO_TIME, "0 seconds")
        return windows.aggregate(
            frame,
            columns=[name for name in frame.columns if name != NO_TIME],
            keys=[KEY_IN],
            event_time=TIME_IN,
            window=window,
            aggregates={**node.aggregates, LAST: max(TIME_IN)},
            trigger=windows.on_close() if node.only_final else windows.each_batch(),
            buckets=self.settings.number,
            control=self.settings.control,
            engine="millrace",
        )

    @property
    def is_windowed(self) -> bool:
        """Tell whether there are windows."""
        return self.node.window is not None or isinstance(self.node, Slide)

    def outputs(self, tagged: DataFrame, epoch: int) -> Mapping[Node | str, DataFrame]:
        """Make records of results: of windows the key is key and window, the timestamp that of the newest record in it."""
        node, results = self.node, windows.results(tagged)
        key, more = F.col(KEY_IN), []
        if self.is_windowed:
            bounds = F.col(WINDOW)
            if node.gap_us is not None:
                # Kafka's session ends with its last record.
                bounds = F.struct(bounds.getField("start").alias("start"), _earlier(bounds.getField("end"), node.gap_us).alias("end"))
            key, more = F.struct(key.alias(KEY), bounds.alias(WINDOW)), [F.col(FINAL)]
        value = column(node.result) if node.result else F.struct(*map(column, node.aggregates))
        return {node: results.select(key.alias(KEY), value.alias(VALUE), F.col(LAST).alias(TIMESTAMP), at_epoch(epoch), *more)}

    def rejected(self, tagged: DataFrame) -> DataFrame | None:
        """Return late, invalid and outside rows; one that is late for some of its windows only is marked so."""
        late = windows.late(tagged).withColumn(REASON, F.when(F.col("missed") == F.col("windows"), F.lit("late")).otherwise(F.lit(PARTLY)))
        others = {"invalid": windows.invalid(tagged), "outside": windows.outside(tagged)}
        frames = [late, *(frame.withColumn(REASON, F.lit(reason)) for reason, frame in others.items())]
        return reduce(DataFrame.unionAll, [event_rejected(frame) for frame in frames])


class SlideOperator(FoldOperator):
    """Aggregation by key over windows that follow the records."""

    @property
    def hold(self) -> timedelta:
        """As of any window."""
        return (self.sliding.difference_us + self.sliding.grace_us) * MICROSECOND

    @property
    def sliding(self) -> Slide:
        """The node."""
        assert isinstance(self.node, Slide)  # noqa: S101
        return self.node

    def plan(self, inputs: Sequence[DataFrame]) -> DataFrame:
        """Run `RecordWindows`."""
        (rows,) = inputs
        node = self.sliding
        frame = fold_input(rows, node.aggregates)
        layout = Layout(input_schema(frame, frame.columns), (KEY_IN,), TIME_IN, (*node.aggregates.items(), (LAST, max(TIME_IN))),
                        (EARLIEST - EPOCH) // MICROSECOND, (LATEST - EPOCH) // MICROSECOND)  # fmt: skip
        kernel = RecordWindows(layout, node.difference_us, node.grace_us)
        return apply_kernel(
            frame, kernel, keys=[KEY_IN], columns=frame.columns, buckets=self.settings.number, control=self.settings.control
        )


class JoinOperator(Operator[StreamJoin]):
    """A join of two streams."""

    @property
    def hold(self) -> timedelta:
        """A record without a partner comes out when none can come any more."""
        return abs_max(self.node.before, self.node.after)

    def plan(self, inputs: Sequence[DataFrame]) -> DataFrame:
        """Run `spark_ext.joins.join`."""
        sides = [
            rows.select(KEY, F.col(VALUE).alias(f"{side}_value"), F.col(TIMESTAMP).alias(f"{side}_time"))
            for side, rows in zip(("left", "right"), inputs, strict=True)
        ]
        return join(
            sides[0],
            sides[1],
            on=KEY,
            event_time=("left_time", "right_time"),
            within=interval(-self.node.before, self.node.after),
            how="full" if self.node.how == "outer" else self.node.how,
            buckets=self.settings.number,
            control=self.settings.control,
            engine="millrace",
        )

    def outputs(self, tagged: DataFrame, epoch: int) -> Mapping[Node | str, DataFrame]:
        """Make a record of each pair: the later timestamp, the value that the joiner makes."""
        value = self.node.joiner(F.col("left_value"), F.col("right_value"))
        found = joins.tagged.joined(tagged).select(KEY, value.alias(VALUE), F.greatest("left_time", "right_time").alias(TIMESTAMP))
        return {self.node: sequenced(found)}

    def rejected(self, tagged: DataFrame) -> DataFrame | None:
        """Return late, invalid and excess rows of both sides."""
        sides: tuple[SideName, SideName] = ("left", "right")
        parts = []
        for side in sides:
            taken = {"late": joins.tagged.late, "invalid": joins.tagged.invalid, "excess": joins.tagged.excess}
            for reason, take in taken.items():
                rows = take(tagged, side)
                lateness = F.col("lateness_ms") if reason == "late" else None
                parts.append(rejected_rows(rows, side, F.lit(reason), KEY, f"{side}_value", f"{side}_time", lateness))
        return reduce(DataFrame.unionAll, parts)


class ProcessOperator(Operator[Process]):
    """A user's processor."""

    def plan(self, inputs: Sequence[DataFrame]) -> DataFrame:
        """Run a `ProcessorKernel`."""
        (rows,) = inputs
        plain = flat(rows.select(KEY, VALUE, TIMESTAMP))
        node = self.node
        outputs = {name: arrow_schema(columns) for name, columns in node.outputs.items()}
        kernel: Kernel = ProcessorKernel(
            node.supplier, input_schema(plain, plain.columns), outputs, tuple(one.layout() for one in node.keeps)
        )
        ticks = None if node.ticks is None else Ticks("", node.ticks)
        return apply_kernel(plain, kernel, keys=[KEY], columns=plain.columns, buckets=self.settings.number, control=ticks)

    def outputs(self, tagged: DataFrame, epoch: int) -> Mapping[Node | str, DataFrame]:
        """Make records of what was forwarded, by output."""
        found: dict[Node | str, DataFrame] = {}
        for at, name in enumerate(self.node.outputs):
            prefix = f"o{at}_"
            own = [one for one in tagged.columns if one.startswith(prefix)]
            rows = tagged.where(F.col(TAG) == tag_of(at)).select(*(column(one).alias(one.removeprefix(prefix)) for one in own))
            found[name] = sequenced(nested(rows))
        return found

    def rejected(self, tagged: DataFrame) -> DataFrame | None:
        """Return what the processor rejected."""
        own = [one for one in tagged.columns if one.startswith("in_")]
        rows = tagged.where(F.col(TAG) == REJECTED).select(REASON, *(column(one).alias(one.removeprefix("in_")) for one in own))
        fields = [one for one in rows.columns if one not in {REASON, KEY, TIMESTAMP}]
        value = F.col(VALUE) if fields == [VALUE] else F.struct(*map(column, fields))
        made = rows.select(REASON, KEY, TIMESTAMP, value.alias(VALUE))
        return rejected_rows(made, "", F.col(REASON), KEY, VALUE, TIMESTAMP)


class Ticks(Control):
    """A clock that calls every bucket each so many seconds: control rows that ask for nothing."""

    __slots__ = ("every",)

    def __init__(self, path: str, every: timedelta) -> None:
        super().__init__(path)
        object.__setattr__(self, "every", every)

    def rows(self, spark: SparkSession) -> DataFrame:
        """Return ticks as a stream; the first time that there is stands for no time."""
        every: timedelta = self.every  # type: ignore[attr-defined]
        seconds = int(every.total_seconds())
        ticks = spark.readStream.format("rate").option("rowsPerSecond", 1).option("numPartitions", 1).load()
        return ticks.where(F.col("value") % seconds == 0).select(F.lit(datetime(1900, 1, 1, tzinfo=UTC)).alias(UNTIL))


def fold_input(rows: DataFrame, aggregates: Mapping[str, Aggregate], *more: str) -> DataFrame:
    """Return records with the columns that aggregates read, by the names they use, and `more` columns."""
    kind = rows.schema[VALUE].dataType
    fields = {name: F.col(VALUE).getField(name) for name in kind.names} if isinstance(kind, StructType) else {VALUE: F.col(VALUE)}
    known = {VALUE: F.col(VALUE), KEY: F.col(KEY), TIMESTAMP: F.col(TIMESTAMP), **fields}
    needed = dict.fromkeys([*fields, *(name for one in aggregates.values() for name in one.inputs)])
    for name in needed:
        if name not in known:
            todo = "correct the name, or make the field with mapValues"
            raise SchemaError("aggregate", "field", name, expected=f"one of {list(known)}", got="no such field", todo=todo)
    return rows.select(F.col(KEY).alias(KEY_IN), F.col(TIMESTAMP).alias(TIME_IN), *(known[name].alias(name) for name in needed), *more)


def event_rejected(rows: DataFrame) -> DataFrame:
    """Return rows that a window did not take, which are in ``event``."""
    kind = rows.schema["event"].dataType
    assert isinstance(kind, StructType)  # noqa: S101
    fields = [name for name in kind.names if name not in {KEY_IN, TIME_IN}]
    event = F.col("event")
    value = event.getField(VALUE) if VALUE in fields else F.struct(*(event.getField(name).alias(name) for name in fields))
    numbers = [F.col(name) if name in rows.columns else None for name in ("lateness_ms", "missed", "windows")]
    made = rows.select(event.getField(KEY_IN).alias(KEY_IN), value.alias(VALUE), event.getField(TIME_IN).alias(TIME_IN), REASON,
                       *(name for name in ("lateness_ms", "missed", "windows") if name in rows.columns))  # fmt: skip
    return rejected_rows(made, "", F.col(REASON), KEY_IN, VALUE, TIME_IN, *numbers)


def rejected_rows(
    rows: DataFrame,
    side: str,
    reason: Column,
    key: str,
    value: str,
    time: str,
    lateness: Column | None = None,
    missed: Column | None = None,
    of: Column | None = None,
) -> DataFrame:
    """Return rows that were not accepted, as text: one table takes those of any operator."""
    numbers = zip((lateness, missed, of), ("bigint", "int", "int"), ("lateness_ms", "missed", "windows"), strict=True)
    return rows.select(
        F.lit(side).alias("input"),
        reason.alias("reason"),
        as_text(rows, key).alias(KEY),
        as_text(rows, value).alias(VALUE),
        column(time).cast("timestamp").alias(TIMESTAMP),
        *((F.lit(None) if one is None else one).cast(kind).alias(name) for one, kind, name in numbers),
    )


def as_text(rows: DataFrame, name: str) -> Column:
    """Return a column as text: JSON of what has parts, base64 of bytes."""
    kind: DataType = rows.schema[name].dataType
    if isinstance(kind, StructType | ArrayType | MapType):
        return F.to_json(column(name))
    return F.base64(column(name)) if kind.simpleString() == "binary" else column(name).cast("string")


def sequenced(rows: DataFrame) -> DataFrame:
    """Return records of events, of which the newer in time is the newer."""
    return rows.withColumn(SEQUENCE, F.unix_micros(F.col(TIMESTAMP)))


def at_epoch(epoch: int) -> Column:
    """Return the sequence of a table's updates: the epoch that made them."""
    return F.lit(epoch).cast("bigint").alias(SEQUENCE)


def abs_max(*times: timedelta) -> timedelta:
    """Return the longest of some times, whatever their signs."""
    return sorted(abs(one) for one in times)[-1]


def _earlier(time: Column, by_us: int) -> Column:
    return F.timestamp_micros(F.unix_micros(time) - by_us)
