"""Windowed aggregation of a DataFrame, streaming or bounded, with every row accounted for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from pyspark.sql import DataFrame
from pyspark.sql.types import TimestampType

from spark_ext.errors import SchemaError, SettingsError
from spark_ext.state.bounds import bounds_us
from spark_ext.state.buckets import buckets_for
from spark_ext.state.engines import Choice, Engine, chosen
from spark_ext.state.kernel import EARLIEST, LATEST, Kernel
from spark_ext.state.operator import apply_kernel, input_schema
from spark_ext.state.packing import TAG
from spark_ext.windows import spark_plan
from spark_ext.windows.aggregates.aggregate import Aggregate
from spark_ext.windows.evictions import Eviction, keep_all
from spark_ext.windows.kernels import kernel_for
from spark_ext.windows.rows import EVENT, FINAL, MISSED, WINDOW, Layout
from spark_ext.windows.shapes import Global, Window, checked_window
from spark_ext.windows.triggers import Trigger, on_close

if TYPE_CHECKING:
    from spark_ext.state.control import Control

__all__ = ["OURS", "Asked", "aggregate", "asked_for", "explain"]

OURS: Final = (TAG, WINDOW, FINAL, EVENT, *MISSED)


def aggregate(
    frame: DataFrame,
    *,
    keys: Sequence[str],
    event_time: str,
    window: Window,
    aggregates: Mapping[str, Aggregate],
    trigger: Trigger | None = None,
    eviction: Eviction | None = None,
    columns: Sequence[str] | None = None,
    expected_keys: int = 100_000,
    buckets: int | None = None,
    earliest: datetime = EARLIEST,
    latest: datetime = LATEST,
    ttl: timedelta | None = None,
    control: Control | None = None,
    engine: Engine = "auto",
) -> DataFrame:
    """Aggregate rows by key and window; rows that are in no window come out as well, tagged with the reason.

    Guarantee: every row is counted in each of its windows, or comes out tagged ``late`` (with the number of windows that had closed),
    ``invalid`` or ``outside``; so windows and tagged rows together account for the input exactly. Rows that an eviction forgets are
    forgotten as asked. A final result does not depend on
    how rows were cut into batches. A replayed batch gives the same rows.

    Parameters
    ----------
    frame : DataFrame
        A stream that has a watermark (``withWatermark``, or `spark_ext.time.with_watermark`), or a bounded frame, where nothing is late.
    keys : sequence of str
        Columns to group by, of any type but array and map; may be empty. Equality as in ``GROUP BY``.
    event_time : str
        Column of type timestamp.
    window : Window
        A shape with its lateness policy: ``tumbling(...).with_grace(...)``, ``.without_grace()``.
    aggregates : mapping of str to Aggregate
        Name of the result, and what it is, such as ``spark_ext.windows.aggregates.sum("price")``.
    trigger : Trigger, optional
        When a window gives out results before it closes; default `on_close`.
    eviction : Eviction, optional
        What the global window forgets; default nothing.
    columns : sequence of str, optional
        Columns that go along, to be shown in ``event`` if a row is in no window; default all. Fewer are faster.
    expected_keys : int
        Order of magnitude of open keys; decides the number of buckets, see `spark_ext.state.buckets_for`.
    buckets : int, optional
        The number of buckets itself, fixed for the life of a checkpoint; at least as many as cores that should work on it.
    earliest, latest : datetime
        Event times outside of these are absurd, their rows ``invalid``.
    ttl : timedelta, optional
        Event time after which a silent key is forgotten; only where state does not end by itself (count windows, evictions).
    control : Control, optional
        Where the end of input is told; see `spark_ext.state.control`.
    engine : {"auto", "millrace", "spark"}
        Who computes; `explain` tells what ``"auto"`` takes and why.

    Returns
    -------
    DataFrame
        ``tag``, the keys, ``window``, the results, ``is_final``, ``event``, ``lateness_ms``, ``missed``, ``windows``;
        `spark_ext.windows.results`, `late`, `invalid` and `outside` take them apart. Append mode on a stream.

    Raises
    ------
    SettingsError, SchemaError
        Something does not fit, with what to do.
    StateError
        In the running query: the checkpoint was made with other settings.

    State: `TimeWindows`, `SessionWindows`, `CountWindows`, `EvictingWindows`, one blob per bucket.
    """
    asked = asked_for(frame, keys, event_time, window, aggregates, trigger, eviction, columns, earliest, latest, ttl)
    choice = _choice(frame, asked, engine)
    if choice.engine == "spark":
        return spark_plan.aggregate(frame, asked.layout, asked.window)
    _check_trigger(frame, asked)
    return apply_kernel(
        frame,
        asked.kernel,
        keys=keys,
        columns=asked.layout.in_schema.names,
        buckets=buckets_for(expected_keys) if buckets is None else buckets,
        control=control,
    )


def explain(
    frame: DataFrame,
    *,
    keys: Sequence[str],
    event_time: str,
    window: Window,
    aggregates: Mapping[str, Aggregate],
    trigger: Trigger | None = None,
    eviction: Eviction | None = None,
    columns: Sequence[str] | None = None,
    expected_keys: int = 100_000,
    buckets: int | None = None,
    earliest: datetime = EARLIEST,
    latest: datetime = LATEST,
    ttl: timedelta | None = None,
    control: Control | None = None,
    engine: Engine = "auto",
) -> str:
    """Tell which engine `aggregate` would take for the same arguments, and why; `control` does not matter.

    Returns
    -------
    str
        ``<engine>: <reason>``, and of ours the number of buckets.
    """
    asked = asked_for(frame, keys, event_time, window, aggregates, trigger, eviction, columns, earliest, latest, ttl)
    return _choice(frame, asked, engine).explained(expected_keys, buckets)


@dataclass(frozen=True, slots=True)
class Asked:
    """A windowed aggregation, checked, and the kernel for it."""

    layout: Layout
    window: Window
    trigger: Trigger
    eviction: Eviction
    kernel: Kernel


def asked_for(
    frame: DataFrame,
    keys: Sequence[str],
    event_time: str,
    window: Window,
    aggregates: Mapping[str, Aggregate],
    trigger: Trigger | None,
    eviction: Eviction | None,
    columns: Sequence[str] | None,
    earliest: datetime,
    latest: datetime,
    ttl: timedelta | None,
) -> Asked:
    """Check what was asked for, and find the kernel; see `aggregate`."""
    checked_window(window)
    needed = [*keys, event_time, *(name for _, one in aggregates.items() for name in one.inputs)]
    names = list(dict.fromkeys([*(frame.columns if columns is None else columns), *needed]))
    for name in names:
        if name not in frame.columns:
            raise SchemaError("read", "column", name, expected=f"one of {frame.columns}", got="no such column", todo="correct the name")
    if not isinstance(frame.schema[event_time].dataType, TimestampType):
        found = frame.schema[event_time].dataType.simpleString()
        raise SchemaError("use", "event time", event_time, expected="type timestamp", got=found, todo="cast it to timestamp")
    taken = [*keys, *aggregates, *OURS]
    if not aggregates or len({name.lower() for name in taken}) != len(taken):
        expected = f"results with names of their own, other than keys and {', '.join(OURS)}"
        raise SettingsError("name", "columns", "of the result", expected=expected, got=repr([*keys, *aggregates]), todo="rename them")
    layout = Layout(
        input_schema(frame, names),
        tuple(keys),
        event_time,
        tuple(aggregates.items()),
        *bounds_us(earliest, latest),
    )
    trigger, eviction = trigger or on_close(), eviction or keep_all()
    kernel = kernel_for(layout, window, trigger, eviction, ttl)
    _ = kernel.out_schema  # asks each aggregate whether it can take its columns
    return Asked(layout, window, trigger, eviction, kernel)


def _choice(frame: DataFrame, asked: Asked, engine: Engine) -> Choice:
    obstacle = spark_plan.obstacle(frame, asked.layout, asked.window, asked.trigger, asked.eviction)
    why = "bounded rows, and Spark's own aggregation gives the same answer faster"
    return chosen(engine, obstacle, works="windows", why=why)


def _check_trigger(frame: DataFrame, asked: Asked) -> None:
    if frame.isStreaming and isinstance(asked.window.shape, Global) and asked.trigger.only_on_close:
        raise SettingsError(
            "use",
            "trigger",
            "on_close of the global window",
            expected="one that fires on a stream",
            got="on_close()",
            why="the global window never closes on a stream",
            todo="use each_batch(), each_rows(...) or early(...)",
        )
