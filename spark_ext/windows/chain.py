"""Windows over the results of windows in one query, which Structured Streaming refuses: minutes, of which hours, of which days.

    rows --> minutes -- results, as rows of the end of their minute --> hours -- ... --> days --> tagged rows

All stages run in the same bucket in the same call. A stage gets a result in the call in which the stage before it closes the window.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame

from spark_ext.errors import SchemaError, SettingsError
from spark_ext.state.buckets import buckets_for
from spark_ext.state.kernel import EARLIEST, FOREVER_US, LATEST, NEVER_US, Kernel, Moment, State, Step
from spark_ext.state.keys import ints
from spark_ext.state.operator import apply_kernel
from spark_ext.windows.aggregates.aggregate import Aggregate
from spark_ext.windows.evictions import keep_all
from spark_ext.windows.kernels import kernel_for
from spark_ext.windows.plan import OURS, asked_for
from spark_ext.windows.rows import WINDOW, Layout
from spark_ext.windows.shapes import BusinessHours, Calendar, CountSliding, CountTumbling, Session, Shape, Sliding, Tumbling, Window
from spark_ext.windows.states import reached
from spark_ext.windows.triggers import on_close

if TYPE_CHECKING:
    from spark_ext.state.control import Control

__all__ = ["WINDOW_TIME", "Chain", "Stage", "rollup", "stage"]

WINDOW_TIME: Final = "window_time"  # as Spark calls the last instant of a window
STAMP: Final = pa.timestamp("us", "UTC")
FIRST: Final = (Tumbling, Sliding, Calendar, BusinessHours, Session)
LATER: Final = (Tumbling, Sliding, Calendar, Session, CountTumbling, CountSliding)
TABLE: Final = "write results to a table, and aggregate that"


@dataclass(frozen=True, slots=True)
class Stage:
    """Windows over the results of the stage before; made by `stage`.

    Attributes
    ----------
    shape : Shape
        Which results belong together.
    aggregates : tuple of (str, Aggregate)
        Name of each result, and what it is made of.
    keys : tuple of str, optional
        Some of the keys of the stage before; None: all.
    """

    shape: Shape
    aggregates: tuple[tuple[str, Aggregate], ...]
    keys: tuple[str, ...] | None


def stage(shape: Shape, aggregates: Mapping[str, Aggregate], *, keys: Sequence[str] | None = None) -> Stage:
    """Return windows over the results of the stage before, for `rollup`.

    Parameters
    ----------
    shape : Shape
        Tumbling, sliding, calendar, session or count windows, without a lateness policy: no result is late.
    aggregates : mapping of str to Aggregate
        Over the results of the stage before, by their names, its keys and ``window_time``. ``count()`` counts windows, not rows.
    keys : sequence of str, optional
        Some of the keys of the stage before; default all of them.

    Raises
    ------
    SettingsError
        The shape would leave results out, or never close.
    """
    if isinstance(shape, Window):
        todo = "leave out with_grace() and without_grace()"
        raise _refused("later", shape.shape.kind, "a shape without a lateness policy", "one with it", "no result is late", todo)
    if not isinstance(shape, LATER):
        kind, expected = getattr(shape, "kind", type(shape).__name__), "tumbling, sliding, calendar, session or count windows"
        raise _refused("later", kind, expected, "another", "it would leave results out, or never close", TABLE)
    return Stage(shape, tuple(aggregates.items()), None if keys is None else tuple(keys))


def rollup(
    frame: DataFrame,
    *,
    keys: Sequence[str],
    event_time: str,
    window: Window,
    aggregates: Mapping[str, Aggregate],
    then: Sequence[Stage],
    columns: Sequence[str] | None = None,
    expected_keys: int = 100_000,
    buckets: int | None = None,
    earliest: datetime = EARLIEST,
    latest: datetime = LATEST,
    control: Control | None = None,
) -> DataFrame:
    """Aggregate rows by key and window, and the results by longer windows, and so on, in one query.

    Guarantee: the rows of `frame` are accounted for as by `spark_ext.windows.aggregate`: counted in each of their windows of the first
    stage, or given out as ``late``, ``invalid`` or ``outside``. Each result of a stage is in each of its windows of the next one,
    none is late and none is lost; the last stage's results are given out. They do not depend on how rows were cut into batches where
    no row is late.

    A result counts at ``window_time``, the last microsecond of its window: a session or a sliding window that ends exactly with the hour
    belongs to that hour. A window of a later stage closes when the watermark has reached its end and the grace of the first.

    Parameters
    ----------
    frame, keys, event_time, columns, expected_keys, buckets, earliest, latest, control
        As in `spark_ext.windows.aggregate`.
    window : Window
        Of the first stage: tumbling, sliding, calendar, business hours or session windows, with their lateness policy.
    aggregates : mapping of str to Aggregate
        Of the first stage.
    then : sequence of Stage
        The stages behind it, see `stage`; one or more. Rows are in buckets by the keys of the last one: with fewer keys there are
        fewer, and larger, parts to share the work.

    Returns
    -------
    DataFrame
        ``tag``, the keys of the last stage, ``window``, its results, ``is_final``, and for rows of `frame` that are in no window ``event``,
        ``lateness_ms``, ``missed``, ``windows``; `spark_ext.windows.results`, `late`, `invalid` and `outside` take them apart.

    Raises
    ------
    SettingsError, SchemaError
        Something does not fit, with what to do.
    StateError
        In the running query: the checkpoint was made with other settings.

    State: `Chain`, one blob per bucket.

    Examples
    --------
    The busiest minute of each hour and user, and then per day of New York, whoever the user was::

        tagged = rollup(
            clicks, keys=["user"], event_time="at",
            window=tumbling(timedelta(minutes=1)).with_grace(timedelta(seconds=30)), aggregates={"clicks": count()},
            then=[
                stage(tumbling(timedelta(hours=1)), {"busiest": max("clicks"), "clicks": sum("clicks")}),
                stage(calendar("day", zone="America/New_York"), {"busiest": max("busiest"), "hours": count()}, keys=[]),
            ],
        )
    """
    if not then:
        raise SettingsError("roll up", "windows", "once", expected="one later stage or more", got="none", todo="use aggregate(...)")
    asked = asked_for(frame, keys, event_time, window, aggregates, None, None, columns, earliest, latest, None)
    kernel = chain(asked.layout, window, then)
    return apply_kernel(
        frame,
        kernel,
        keys=kernel.keys,
        columns=asked.layout.in_schema.names,
        buckets=buckets_for(expected_keys) if buckets is None else buckets,
        control=control,
    )


def chain(layout: Layout, window: Window, then: Sequence[Stage]) -> Chain:
    """Return the kernel of a chain of windows.

    Raises
    ------
    SettingsError, SchemaError
        The stages do not fit together.
    """
    shape = window.shape
    if not isinstance(shape, FIRST):
        expected, why = (
            "tumbling, sliding, calendar, business hours or session windows",
            "its windows do not close in the order of their ends",
        )
        raise _refused("first", shape.kind, expected, "another", why, TABLE)
    kernels = [kernel_for(layout, window, on_close(), keep_all(), None)]
    layouts = [layout]
    for each in then:
        layouts.append(_next_layout(layouts[-1], each))
        kernels.append(kernel_for(layouts[-1], each.shape.without_grace(), on_close(), keep_all(), None))
    return Chain(tuple(kernels), tuple(layouts), window.grace_us)


@dataclass(frozen=True, slots=True)
class Chain:
    """Window kernels of which each aggregates the results of the one before.

    Guarantee: with the first kernel's lateness, each later one gets every result of the one before, none of them late. For at
    watermark W the first has given out all windows that end by W less its grace, and never gives out such a window again; so W less the
    grace is a watermark of its results, and in turn of theirs. Results of a call come before that: they are counted first, then what
    they complete is closed.

    Parameters
    ----------
    kernels : tuple of Kernel
        Windows that fire on close; those behind the first without grace.
    layouts : tuple of Layout
        Of each.
    grace_us : int >= 0
        Of the first, in microseconds.

    State: the tables of all kernels, ``<number of the kernel>.<table>``.

    References
    ----------
    Akidau et al., "Watermarks in Stream Processing Systems", PVLDB 14(12), 2021, section 3.1 (an operator's output watermark is bounded by
    the state that it holds).
    """

    kernels: tuple[Kernel, ...]
    layouts: tuple[Layout, ...]
    grace_us: int
    operator: str = field(default="window_chain_v1", init=False)

    @property
    def keys(self) -> tuple[str, ...]:
        """Keys of the last stage."""
        return self.layouts[-1].keys

    @property
    def settings(self) -> str:  # noqa: D102
        stages = {str(at): {"operator": kernel.operator, **json.loads(kernel.settings)} for at, kernel in enumerate(self.kernels)}
        return json.dumps({"stages": stages, "keys": list(self.keys), "time": WINDOW_TIME})

    @property
    def in_schema(self) -> pa.Schema:  # noqa: D102
        return self.kernels[0].in_schema

    @property
    def out_schema(self) -> Mapping[str, pa.Schema]:  # noqa: D102
        last = {WINDOW: self.kernels[-1].out_schema[WINDOW]}
        dropped = set(self.layouts[0].keys) - set(self.keys)  # they are in the event
        rejected = {tag: schema for tag, schema in self.kernels[0].out_schema.items() if tag != WINDOW}
        return last | {tag: pa.schema([each for each in schema if each.name not in dropped]) for tag, schema in rejected.items()}

    @property
    def state_schema(self) -> Mapping[str, pa.Schema]:  # noqa: D102
        return {f"{at}.{name}": schema for at, kernel in enumerate(self.kernels) for name, schema in kernel.state_schema.items()}

    def step(self, state: State, rows: pa.Table, moment: Moment) -> Step:  # noqa: D102
        parts = [{name: state[f"{at}.{name}"] for name in kernel.state_schema} for at, kernel in enumerate(self.kernels)]
        done = self.kernels[0].step(parts[0], rows, moment)
        out = {tag: found.select(self.out_schema[tag].names) for tag, found in done.out.items() if tag != WINDOW}
        results, steps = done.out.get(WINDOW), [done]
        over = Moment(max(reached(moment.watermark_us, self.grace_us), NEVER_US), moment.batch_us)
        wakes = [done.wake_us]
        for kernel, layout, part in zip(self.kernels[1:], self.layouts[1:], parts[1:], strict=True):
            held: State = part
            if results is not None and len(results):
                # Nothing has closed that they are in, so the watermark before them need not be known.
                fed = kernel.step(part, _as_rows(results, layout), Moment(NEVER_US, moment.batch_us))
                assert not any(len(table) for table in fed.out.values()), "no result is late or left out"  # noqa: S101
                held = fed.state
            done = kernel.step(held, layout.in_schema.empty_table(), over)
            results = done.out.get(WINDOW)
            steps.append(done)
            wakes.append(None if done.wake_us is None else done.wake_us + self.grace_us)
        if results is not None:
            out[WINDOW] = results
        next_state = {f"{at}.{name}": table for at, each in enumerate(steps) for name, table in each.state.items()}
        return Step(next_state, out, min((wake for wake in wakes if wake is not None and wake < FOREVER_US), default=None))


def _as_rows(results: pa.Table, layout: Layout) -> pa.Table:
    """Return results as rows of the next stage."""
    ends = pa.chunked_array([chunk.field("end") for chunk in results.column(WINDOW).chunks], STAMP)
    times = pa.array(ints(ends) - 1).view(STAMP)
    columns = {name: times if name == WINDOW_TIME else results.column(name) for name in layout.in_schema.names}
    return pa.table(columns, schema=layout.in_schema).combine_chunks()


def _next_layout(before: Layout, each: Stage) -> Layout:
    """Return the layout of a stage; its rows are the columns it needs of the results before."""
    keys = before.keys if each.keys is None else each.keys
    known = {one.name: one.type for one in before.out_schema[WINDOW] if one.name not in OURS}
    clash = WINDOW_TIME in known
    known[WINDOW_TIME] = STAMP
    foreign = [name for name in keys if name not in before.keys]
    if foreign:
        expected = f"some of the keys of the stage before, {list(before.keys)}"
        raise SettingsError(
            "group by", "keys", ", ".join(foreign), expected=expected, got=repr(list(keys)), todo="group the stage before by it too"
        )
    for name in (name for _, aggregate in each.aggregates for name in aggregate.inputs):
        if name not in known:
            expected = f"a key or result of the stage before, or {WINDOW_TIME}: one of {list(known)}"
            raise SchemaError("aggregate", "column", name, expected=expected, got="no such column", todo="correct the name")
    names = [name for name, _ in each.aggregates]
    taken = [*keys, *names, *OURS, WINDOW_TIME]
    if not names or clash or len({name.lower() for name in taken}) != len(taken):
        expected = f"results with names of their own, other than keys and {', '.join((*OURS, WINDOW_TIME))}"
        raise SettingsError("name", "columns", "of a later stage", expected=expected, got=repr([*keys, *names]), todo="rename them")
    needed = dict.fromkeys([*keys, *(name for _, aggregate in each.aggregates for name in aggregate.inputs), WINDOW_TIME])
    schema = pa.schema([(name, known[name]) for name in needed])
    return Layout(schema, keys, WINDOW_TIME, each.aggregates, int(np.iinfo(np.int64).min), int(np.iinfo(np.int64).max))


def _refused(which: str, kind: str, expected: str, got: str, why: str, todo: str) -> SettingsError:
    return SettingsError("use", f"window of the {which} stage", kind, expected=expected, got=got, why=why, todo=todo)
