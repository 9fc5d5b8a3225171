"""The small pairs of streams behind the pictures of docs/joins.md, and what the real kernels make of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

import pyarrow as pa

from spark_ext.joins.asof_kernel import AsOfJoin, Direction
from spark_ext.joins.count_kernel import CountJoin
from spark_ext.joins.interval_kernel import IntervalJoin
from spark_ext.joins.layout import HASH, JOINED, LEFT, RIGHT, How, Layout, Side
from spark_ext.joins.shapes import Interval, Within, interval, one_window, two_windows
from spark_ext.state.kernel import FOREVER_US, NEVER_US, JoinKernel, Moment, State, Step, empty_state

__all__ = ["NOON", "STREAMS", "AsOf", "Lane", "Result", "Row", "Script", "play", "seconds"]

SECOND: Final = timedelta(seconds=1)
NOON: Final = datetime(2025, 1, 1, 12, tzinfo=UTC)
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
STAMP: Final = pa.timestamp("us", "UTC")
SCHEMAS: Final = {
    LEFT: pa.schema([("k", pa.string()), ("at", STAMP), ("v", pa.string())]),
    RIGHT: pa.schema([("k", pa.string()), ("at", STAMP), ("w", pa.string())]),
}
VALUES: Final = {LEFT: "v", RIGHT: "w"}
BOUND_US: Final = 10**17
FAR: Final = 1_000.0  # beyond any picture

Row = tuple[str, float]  # name, event time in seconds behind noon; all of one key


@dataclass(frozen=True)
class AsOf:
    """An as-of join; `tolerance` in seconds."""

    direction: Direction
    tolerance: float | None = None


@dataclass(frozen=True)
class Script:
    """Two streams, and the join that they are played to.

    Attributes
    ----------
    title : str
        How the join is asked for.
    batches : sequence of (sequence of Row, sequence of Row)
        Rows of both sides in each batch.
    ticks : mapping of float to str
        What the axis shows; it goes from the first to the last.
    delay : float
        Seconds that the watermark stays behind the newest event time of the side that is behind.
    """

    title: str
    within: Within | AsOf
    batches: Sequence[tuple[Sequence[Row], Sequence[Row]]]
    ticks: dict[float, str]
    how: How = "inner"
    most_matches: int = 10_000
    delay: float = 10
    ended: bool = False

    @property
    def kernel(self) -> JoinKernel:
        """The kernel that `spark_ext.joins.join` or `join_asof` would run."""
        left, right = (Side(SCHEMAS[name], ("k",), "at") for name in (LEFT, RIGHT))
        layout = Layout(left, right, self.how, "_right", -BOUND_US, BOUND_US * 100, self.most_matches)
        if isinstance(self.within, AsOf):
            tolerance_us = None if self.within.tolerance is None else int(self.within.tolerance * 1e6)
            return AsOfJoin(layout, self.within.direction, tolerance_us)
        return IntervalJoin(layout, self.within) if isinstance(self.within, Interval) else CountJoin(layout, self.within)

    @property
    def reach(self) -> tuple[float, float] | None:
        """From where to where a left row has partners, in seconds around it; None where no time bounds that."""
        if isinstance(self.within, Interval):
            return self.within.lower_us / 1e6, self.within.upper_us / 1e6
        if isinstance(self.within, AsOf):
            far = FAR if self.within.tolerance is None else self.within.tolerance
            return (0 if self.within.direction == "forward" else -far), (0 if self.within.direction == "backward" else far)
        return None


@dataclass(frozen=True)
class Result:
    """What was joined: the names of both rows and their times; None on the side that has none, or is not in the result."""

    left: Row | None
    right: Row | None
    has_right: bool = True

    @property
    def text(self) -> str:
        """As the picture shows it."""
        return "".join("-" if row is None else row[0] for row in (self.left, *([self.right] if self.has_right else [])))


@dataclass(frozen=True)
class Lane:
    """One batch: what came, how far the watermark was, what was given out, how many rows of each side are kept behind it."""

    name: str
    rows: dict[str, Sequence[Row]]
    watermark: float | None
    results: Sequence[Result]
    kept: tuple[int, int]
    aside: dict[str, str] = field(default_factory=dict)  # late or excess, by name


def play(script: Script) -> list[Lane]:
    """Run the kernel of a script over its batches, then over one without rows, as Spark does, if it gives something."""
    kernel = script.kernel
    state: State = empty_state(kernel)
    newest = {LEFT: -FAR, RIGHT: -FAR}
    lanes: list[Lane] = []
    for number, rows in enumerate([*script.batches, ((), ())]):
        watermark = None if min(newest.values()) == -FAR else min(newest.values()) - script.delay
        step = kernel.step(state, _tables(kernel, rows), Moment(NEVER_US if watermark is None else _us(watermark), 0))
        state = step.state
        newest = {side: max([newest[side], *(time for _, time in of)]) for side, of in zip((LEFT, RIGHT), rows, strict=True)}
        lane = _lane(script, f"batch {number}", rows, watermark, step)
        if any(rows) or lane.results:
            lanes.append(lane)
    if script.ended:
        lanes.append(_lane(script, "end of input", ((), ()), None, kernel.step(state, _tables(kernel, ((), ())), Moment(FOREVER_US, 0))))
    return lanes


def _us(time: float) -> int:
    return (NOON - EPOCH + time * SECOND) // timedelta(microseconds=1)


def _tables(kernel: JoinKernel, rows: tuple[Sequence[Row], Sequence[Row]]) -> dict[str, pa.Table]:
    found = {}
    for side, of in zip((LEFT, RIGHT), rows, strict=True):
        times = pa.array([_us(time) for _, time in of], pa.int64()).view(STAMP)
        columns = {"k": pa.array(["k"] * len(of), pa.string()), "at": times, VALUES[side]: pa.array([name for name, _ in of], pa.string())}
        columns[HASH] = pa.array([7] * len(of), pa.int64())
        found[side] = pa.table(columns).select(kernel.in_schemas[side].names)
    return found


def _lane(script: Script, name: str, rows: tuple[Sequence[Row], Sequence[Row]], watermark: float | None, step: Step) -> Lane:
    known = {side: {row[0]: row for batch in script.batches for row in batch[at]} for at, side in enumerate((LEFT, RIGHT))}
    results, aside = [], {}
    for tag, row in ((tag, row) for tag, table in step.out.items() for row in table.to_pylist()):
        both = Result(known[LEFT].get(row["v"]), known[RIGHT].get(row.get("w")), "w" in row)
        if tag == JOINED:
            results.append(both)
        else:
            aside[both.text.strip("-")] = tag
    kept = tuple(sum(len(table) for of, table in step.state.items() if of.startswith(side)) for side in (LEFT, RIGHT))
    shown = dict(zip((LEFT, RIGHT), rows, strict=True))
    return Lane(name, shown, watermark, sorted(results, key=_order), (kept[0], kept[1]), aside)


def _order(result: Result) -> tuple[float, float, str]:
    times = [row[1] for row in (result.left, result.right) if row is not None]
    return min(times), max(times), result.text


def seconds(first: int, last: int) -> dict[float, str]:
    """Return the ticks of an axis, one in ten seconds."""
    return {at: f"{NOON + at * SECOND:%H:%M:%S}" for at in range(first, last + 1, 10)}


PLAIN: Final = [
    ([("1", 4), ("2", 17)], [("a", 9), ("b", 1)]),
    ([("3", 31)], [("c", 22), ("d", 38)]),
    ([("4", 48), ("5", 19)], [("e", 51)]),
]
# Impressions and clicks: 3 is clicked on twice, 2 and 4 never; click d has no impression, f comes late.
CLICKS: Final = [
    ([("1", 3), ("2", 8)], [("a", 6)]),
    ([("3", 25)], [("b", 27)]),
    ([("4", 42)], [("c", 33), ("d", 40)]),
    ([("5", 62)], [("e", 66), ("f", 29)]),
]
COUNTED: Final = [
    ([("1", 4), ("2", 12)], [("a", 2), ("b", 7)]),
    ([("3", 23), ("4", 9)], [("c", 15), ("d", 27)]),
    ([("5", 41)], [("e", 44), ("f", 16)]),
    ([("6", 58)], [("g", 57)]),
]
QUOTES: Final = [
    ([("1", -2), ("2", 8)], [("a", 2), ("b", 12)]),
    ([("3", 25), ("4", 19)], [("c", 6), ("d", 28)]),
    ([("5", 43)], [("e", 45), ("f", 16)]),
    ([("6", 62)], [("g", 61)]),
]
CLICKED: Final = interval(timedelta(0), 10 * SECOND)


def _as_of(direction: Direction) -> Script:
    return Script(f'join_asof(direction="{direction}", tolerance=15 s)', AsOf(direction, 15), QUOTES, seconds(-20, 70), "left")


STREAMS: Final[dict[str, list[Script]]] = {
    "interval": [Script("interval(-5 s, 10 s)", interval(-5 * SECOND, 10 * SECOND), PLAIN, seconds(-10, 60))],
    "one_window": [
        Script('one_window(kept="left", length=15 s)', one_window(kept="left", length=15 * SECOND), PLAIN, seconds(-10, 60)),
    ],
    "two_windows": [
        Script("two_windows(left=15 s, right=5 s)", two_windows(left=15 * SECOND, right=5 * SECOND), PLAIN, seconds(-10, 60)),
    ],
    "outer": [Script('interval(0 s, 10 s), how="full"', CLICKED, CLICKS, seconds(0, 70), "full", delay=5)],
    "semi": [Script('interval(0 s, 10 s), how="semi"', CLICKED, CLICKS, seconds(0, 70), "semi", delay=5)],
    "anti": [Script('interval(0 s, 10 s), how="anti"', CLICKED, CLICKS, seconds(0, 70), "anti", delay=5)],
    "excess": [
        Script(
            'interval(0 s, 10 s), how="left", most_matches=2',
            CLICKED,
            [([], [("a", 9), ("b", 11), ("c", 14)]), ([("1", 6), ("2", 13)], [("d", 16), ("e", 35)]), ([("3", 34)], [])],
            seconds(0, 50),
            "left",
            most_matches=2,
        )
    ],
    "one_window_rows": [Script('one_window(kept="right", rows=2)', one_window(kept="right", rows=2), COUNTED, seconds(0, 70))],
    "two_windows_rows": [Script("two_windows(left=1, right=2)", two_windows(left=1, right=2), COUNTED, seconds(0, 70))],
    "asof_backward": [_as_of("backward")],
    "asof_forward": [_as_of("forward")],
    "asof_nearest": [_as_of("nearest")],
}
