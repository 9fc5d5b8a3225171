"""The small streams behind the pictures of docs/windows.md, and what the real kernels make of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import numpy as np
import pyarrow as pa

from spark_ext.state.kernel import FOREVER_US, NEVER_US, Kernel, Moment, State, Step, empty_state
from spark_ext.windows import (
    assigned,
    business_hours,
    calendar,
    count_sliding,
    count_tumbling,
    each_batch,
    each_rows,
    early,
    global_window,
    keep_all,
    keep_for,
    keep_last,
    on_close,
    session,
    sliding,
    tumbling,
)
from spark_ext.windows.aggregates import sum  # noqa: A004
from spark_ext.windows.evictions import Eviction
from spark_ext.windows.kernels import kernel_for
from spark_ext.windows.rows import Layout
from spark_ext.windows.shapes import Window
from spark_ext.windows.triggers import Trigger

__all__ = ["STREAMS", "Bar", "Lane", "Row", "Script", "play"]

SECOND: Final = timedelta(seconds=1)
HOUR: Final = timedelta(hours=1)
NOON: Final = datetime(2025, 1, 1, 12, tzinfo=UTC)
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
NEW_YORK: Final = "America/New_York"
ROWS: Final = pa.schema([("k", pa.string()), ("at", pa.timestamp("us", "UTC")), ("v", pa.int64())])
LAYOUT: Final = Layout(ROWS, ("k",), "at", (("total", sum("v")),), -(10**17), 10**17)

Row = tuple[str, float, int]  # key, event time in units of the picture, value


@dataclass(frozen=True)
class Script:
    """A stream, and the window that it is played to.

    Attributes
    ----------
    title : str
        How the window is asked for.
    batches : sequence of sequence of Row
        The rows of each batch.
    ticks : mapping of float to str
        What the axis shows; it goes from the first to the last.
    delay : float
        How far the watermark stays behind the newest event time, in units.
    ended : bool
        Whether the input ends behind the last batch.
    shows_panes : int, optional
        Show the panes as this batch has left them.
    """

    title: str
    window: Window
    batches: Sequence[Sequence[Row]]
    ticks: dict[float, str]
    trigger: Trigger = field(default_factory=on_close)
    eviction: Eviction = field(default_factory=keep_all)
    delay: float = 10
    origin: datetime = NOON
    unit: timedelta = SECOND
    every_s: int = 10  # processing time between batches
    ended: bool = False
    shows_panes: int | None = None

    @property
    def kernel(self) -> Kernel:
        """The kernel that `spark_ext.windows.aggregate` would run."""
        return kernel_for(LAYOUT, self.window, self.trigger, self.eviction, None)

    def us(self, time: float) -> int:
        """Return event time in microseconds since 1970."""
        return (self.origin - EPOCH + time * self.unit) // timedelta(microseconds=1)

    def place(self, time: datetime | None, unbounded: float) -> float:
        """Return event time in units of the picture."""
        return unbounded if time is None else (time - self.origin) / self.unit


@dataclass(frozen=True)
class Bar:
    """A window that was given out, or a pane that is kept; bounds in units, infinite where there are none."""

    key: str
    start: float
    end: float
    total: int
    is_final: bool


@dataclass(frozen=True)
class Lane:
    """One batch: what came, how far the watermark was, what was given out."""

    name: str
    rows: Sequence[Row]
    watermark: float | None
    bars: Sequence[Bar] = ()
    aside: dict[Row, str] = field(default_factory=dict)  # rows that are late or outside
    panes: Sequence[Bar] = ()


def play(script: Script) -> list[Lane]:
    """Run the kernel of a script over its batches, then over one without rows, as Spark does, if it asks for that."""
    kernel, newest = script.kernel, -np.inf
    state: State = empty_state(kernel)
    lanes: list[Lane] = []
    for number, rows in enumerate([*script.batches, ()]):
        watermark = None if newest == -np.inf else newest - script.delay
        moment = Moment(NEVER_US if watermark is None else script.us(watermark), script.us(0) + (number + 1) * script.every_s * 1_000_000)
        step = kernel.step(state, _table(script, rows), moment)
        state, newest = step.state, max([newest, *(time for _, time, _ in rows)])
        lane = _lane(script, f"batch {number}", rows, watermark, step)
        if rows or lane.bars:
            lanes.append(lane)
    if script.ended:
        step = kernel.step(state, _table(script, ()), Moment(FOREVER_US, 0))
        lanes.append(_lane(script, "end of input", (), None, step))
    return lanes


def _table(script: Script, rows: Sequence[Row]) -> pa.Table:
    times = pa.array([script.us(time) for _, time, _ in rows], pa.int64()).view(ROWS.field("at").type)
    return pa.table([pa.array([row[0] for row in rows], pa.string()), times, pa.array([row[2] for row in rows], pa.int64())], schema=ROWS)


def _lane(script: Script, name: str, rows: Sequence[Row], watermark: float | None, step: Step) -> Lane:
    bars, aside = [], {}
    for tag, row in ((tag, row) for tag, table in step.out.items() for row in table.to_pylist()):
        if tag == "window":
            bars.append(_bar(script, row["k"], row["window"], row["total"], is_final=row["is_final"]))
        else:
            event = row["event"]
            several = row.get("windows", 1) > 1
            aside[event["k"], script.place(event["at"], 0), event["v"]] = f"{tag} {row['missed']}/{row['windows']}" if several else tag
    shown = name == f"batch {script.shows_panes}"
    return Lane(name, rows, watermark, sorted(bars, key=_order), aside, _panes(script, step) if shown else ())


def _bar(script: Script, key: str, window: dict[str, Any], total: int, *, is_final: bool) -> Bar:
    return Bar(key, script.place(window["start"], -np.inf), script.place(window["end"], np.inf), total, is_final)


def _panes(script: Script, step: Step) -> list[Bar]:
    """Return what the state of a sliding window holds: one sum per pane and key."""
    panes, keys = step.state["panes"].to_pylist(), step.state["keys"].column("k").to_pylist()
    bars = []
    for row in step.state["groups"].to_pylist():
        bounds = {name: EPOCH + timedelta(microseconds=us) for name, us in panes[row["pane"]].items()}
        bars.append(_bar(script, keys[row["key"]], bounds, row["a0_0"], is_final=False))
    return sorted(bars, key=_order)


def _order(bar: Bar) -> tuple[str, float, float]:
    return bar.key, bar.start, bar.end


def _seconds(first: int, last: int) -> dict[float, str]:
    return {at: f"{NOON + at * SECOND:%H:%M:%S}" for at in range(first, last + 1, 10)}


def shifts(times_us: Any) -> Any:
    """Assign an early shift, 06:00 to 14:00 UTC, and a late one, to 22:00; at night there is none."""
    hour = 3_600_000_000
    day = times_us // (24 * hour) * (24 * hour)
    number = (times_us - day - 6 * hour) // (8 * hour)
    works = (number == 0) | (number == 1)
    starts = np.where(works, day + (6 + 8 * number) * hour, NEVER_US)
    return starts, np.where(works, starts + 8 * hour, NEVER_US)


PLAIN: Final = [
    [("a", 4, 3), ("b", 9, 2), ("a", 16, 5)],
    [("b", 14, 4), ("a", 27, 1), ("b", 33, 6)],
    [("a", 12, 2), ("a", 38, 7), ("b", 45, 3)],
    [("a", 52, 4)],
]
VISITS: Final = [
    [("a", 4, 3), ("b", 6, 1), ("a", 11, 5), ("b", 13, 2)],
    [("a", 17, 2), ("b", 20, 3), ("b", 26, 4), ("b", 33, 5)],
    [("a", 41, 4), ("b", 39, 6)],
    [("a", 8, 9), ("b", 57, 1)],
    [("a", 66, 2)],
]
COUNTED: Final = [
    [("a", 12, 5), ("a", 4, 3), ("b", 9, 2)],
    [("a", 8, 1), ("b", 17, 4), ("a", 21, 2), ("a", 29, 6)],
    [("b", 14, 3), ("b", 27, 6), ("a", 36, 4), ("b", 43, 1)],
    [("a", 18, 9), ("a", 47, 7), ("b", 56, 2)],
]
FIRED: Final = [
    [("a", 2, 3), ("b", 6, 2), ("a", 9, 5)],
    [("b", 12, 4), ("a", 13, 1), ("a", 18, 2)],
    [("a", 24, 7), ("b", 29, 1)],
    [("b", 17, 6), ("a", 36, 4)],
    [("a", 15, 9), ("a", 49, 2)],
    [("b", 56, 3)],
]
LASTING: Final = [
    [("a", 4, 3), ("b", 7, 2), ("a", 12, 5)],
    [("a", 9, 1), ("b", 18, 4), ("a", 21, 2)],
    [("a", 2, 9), ("b", 5, 6), ("a", 33, 7)],
]
SECONDS: Final = _seconds(0, 60)


def _fired(trigger: Trigger, shown: str) -> Script:
    title = f"tumbling(20 s).with_grace(10 s), {shown}"
    return Script(title, tumbling(20 * SECOND).with_grace(10 * SECOND), FIRED, SECONDS, trigger, delay=5)


def _kept(eviction: Eviction, shown: str) -> Script:
    title = f"global_window().without_grace(), each_batch(), {shown}"
    return Script(title, global_window().without_grace(), LASTING, _seconds(0, 40), each_batch(), eviction)


def _days(title: str, first: datetime, hours: Sequence[float], midnights: Sequence[int]) -> Script:
    rows = [[("a" if at % 2 else "b", time, at + 1) for at, time in enumerate(hours)]]
    ticks = {float(at): f"{first + at * HOUR:%d %b %H:%M}Z" for at in midnights}
    return Script(title, calendar("day", zone=NEW_YORK).with_grace(HOUR), rows, ticks, origin=first, unit=HOUR, delay=0, ended=True)


STREAMS: Final[dict[str, list[Script]]] = {
    "tumbling": [Script("tumbling(20 s).without_grace()", tumbling(20 * SECOND).without_grace(), PLAIN, SECONDS)],
    "sliding": [
        Script(
            "sliding(20 s, every=10 s).without_grace()",
            sliding(20 * SECOND, every=10 * SECOND).without_grace(),
            PLAIN,
            _seconds(-10, 60),
            shows_panes=1,
        )
    ],
    "session": [
        Script(
            "session(10 s, maximum=30 s).without_grace()",
            session(10 * SECOND, maximum=30 * SECOND).without_grace(),
            VISITS,
            _seconds(0, 80),
            delay=5,
        )
    ],
    "count_tumbling": [Script("count_tumbling(3).without_grace()", count_tumbling(3).without_grace(), COUNTED, SECONDS)],
    "count_sliding": [Script("count_sliding(3, every=1).without_grace()", count_sliding(3, every=1).without_grace(), COUNTED, SECONDS)],
    "calendar": [
        _days(
            'calendar("day", zone="America/New_York"), clocks go forward',
            datetime(2013, 3, 9, 0, tzinfo=UTC),
            [6, 13, 27, 30, 37, 50, 53, 62],
            [5, 29, 52, 76],
        ),
        _days(
            'calendar("day", zone="America/New_York"), clocks go back',
            datetime(2013, 11, 2, 0, tzinfo=UTC),
            [6, 13, 27, 30, 37, 50, 54, 62],
            [4, 28, 53, 77],
        ),
    ],
    "business_hours": [
        Script(
            'business_hours("America/New_York"), Friday to Monday',
            business_hours(NEW_YORK).without_grace(),
            [[("a", 15, 3), ("b", 17, 2), ("a", 21, 4), ("b", 24, 1), ("a", 41, 5), ("b", 86, 6), ("a", 90, 2)]],
            {at: f"{datetime(2013, 3, 8, tzinfo=UTC) + at * HOUR:%a %H:%M}Z" for at in (14, 22, 38, 62, 85, 93)},
            origin=datetime(2013, 3, 8, tzinfo=UTC),
            unit=HOUR,
            delay=0,
            ended=True,
        )
    ],
    "global": [Script("global_window().without_grace(), bounded", global_window().without_grace(), PLAIN, SECONDS, ended=True)],
    "assigned": [
        Script(
            'assigned(shifts, name="shifts_v1").without_grace()',
            assigned(shifts, name="shifts_v1").without_grace(),
            [[("a", 4, 1), ("a", 7, 3), ("b", 12, 2)], [("b", 15, 4), ("a", 16, 5), ("a", 23, 6)], [("b", 10, 7), ("a", 28, 2)]],
            {at: f"{at % 24:02}:00" for at in (0, 6, 14, 22, 30)},
            origin=datetime(2025, 1, 1, tzinfo=UTC),
            unit=HOUR,
            delay=2,
        )
    ],
    "on_close": [_fired(on_close(), "on_close()")],
    "each_batch": [_fired(each_batch(), "each_batch()")],
    "discarding": [_fired(each_batch().discarding(), "each_batch().discarding()")],
    "each_rows": [_fired(each_rows(2), "each_rows(2)")],
    "early": [_fired(early(every=20 * SECOND), "early(every=20 s)")],
    "grace": [_fired(early(every=HOUR), "early(every=1 h)")],
    "keep_all": [_kept(keep_all(), "keep_all()")],
    "keep_last": [_kept(keep_last(3), "keep_last(3)")],
    "keep_for": [_kept(keep_for(15 * SECOND), "keep_for(15 s)")],
}
