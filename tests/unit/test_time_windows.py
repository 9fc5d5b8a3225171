"""The kernel of time windows against an obvious slow model, over random streams cut into random batches."""

from __future__ import annotations

import builtins
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from spark_ext.state.codec import BucketState, Identity, decode, encode
from spark_ext.state.kernel import FOREVER_US, NEVER_US, Moment, Step, empty_state
from spark_ext.windows.aggregates import count, max, sum  # noqa: A004
from spark_ext.windows.aligned_kernel import AlignedPanes, GlobalPane
from spark_ext.windows.assigned import AssignedPanes
from spark_ext.windows.cover import Cover
from spark_ext.windows.panes import PaneAssigner
from spark_ext.windows.rows import Layout
from spark_ext.windows.time_kernel import TimeWindows
from spark_ext.windows.triggers import Trigger, on_close

Row = tuple[str | None, int, int | None, int | None]  # key, second part of the key, event time, value
STAMP = pa.timestamp("us", "UTC")
ROWS = pa.schema([("k", pa.string()), ("j", pa.int32()), ("ts", STAMP), ("v", pa.int64())])
EARLIEST, LATEST = -1_000, 1_000
BATCH_US = 7
EPOCH, MICROSECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1)

rows = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "é", "", None]),
        st.sampled_from([1, 2]),
        st.one_of(st.integers(-60, 200), st.sampled_from([None, -2_000, 5_000])),
        st.one_of(st.none(), st.integers(-9, 9)),
    ),
    max_size=30,
)
streams = st.lists(rows, min_size=1, max_size=6)


@dataclass(frozen=True)
class Case:
    """A window and its policies, as the kernel and the model take them."""

    length: int
    every: int
    offset: int
    grace: int
    trigger: Trigger

    def kernel(self) -> TimeWindows:
        aggregates = (("n", count()), ("s", sum("v")), ("m", max("v")))
        layout = Layout(ROWS, ("k", "j"), "ts", aggregates, EARLIEST, LATEST)
        cover = None if self.length == self.every else Cover(self.length, self.every, self.offset)
        return TimeWindows(layout, AlignedPanes(self.length, self.every, self.offset), self.grace, self.trigger, "{}", cover)

    def closes(self, window: Any) -> int:
        return FOREVER_US if window[1] == FOREVER_US else int(window[1] + self.grace)

    def windows(self, time: int) -> Iterator[tuple[int, int]]:
        start = (time - self.offset) // self.every * self.every + self.offset
        while start > time - self.length:
            yield start, start + self.length
            start -= self.every


@dataclass
class Model:
    """One row at a time, dictionaries, no cleverness."""

    case: Case
    open: dict[Any, list[int | None]] = field(default_factory=lambda: defaultdict(list))
    fresh: dict[Any, list[int | None]] = field(default_factory=lambda: defaultdict(list))
    out: list[Any] = field(default_factory=list)
    late: list[Any] = field(default_factory=list)
    invalid: list[Any] = field(default_factory=list)
    outside: list[Any] = field(default_factory=list)
    ended: set[Any] = field(default_factory=set)
    fired_us: int | None = None

    def step(self, batch: list[Row], now: int, batch_us: int) -> None:
        case = self.case
        for window in [window for window in self.open if case.closes(window) <= now]:
            values = self.open.pop(window)
            fresh = self.fresh.pop(window, [])
            if case.trigger.accumulating or fresh:
                self.emit(window, values if case.trigger.accumulating else fresh, final=True)
        got = set()
        for key, other, time, value in batch:
            if time is None or not EARLIEST <= time <= LATEST:
                self.invalid.append((key, other, time, value))
                continue
            windows = [(*window, key, other) for window in case.windows(time)]
            if not windows:
                self.outside.append((key, other, time, value))
            missed = [window for window in windows if case.closes(window) <= now]
            if missed:
                last = sorted(missed)[-1]
                self.late.append((key, other, time, value, last[0], last[1], len(missed), len(windows)))
            for window in windows:
                if window not in missed:
                    self.open[window].append(value)
                    self.fresh[window].append(value)
                    got.add(window)
        self.fire(got, now, batch_us)

    def fire(self, got: set[Any], now: int, batch_us: int) -> None:
        trigger, every = self.case.trigger, self.case.trigger.every_us
        if not self.open:
            self.fired_us = None
            return
        due = False
        if every is not None:
            due = self.fired_us is not None and batch_us // every > self.fired_us // every
            self.fired_us = batch_us if due or self.fired_us is None else self.fired_us
        for window in list(self.open):
            fresh = self.fresh.get(window, [])
            ended = trigger.at_end and window[1] <= now
            if self.case.length != self.case.every and not due and not trigger.every_batch:
                # Panes are shared: a window fires as it ends, and then with the batches that bring it rows.
                if ended and (window in got or window not in self.ended):
                    self.emit(window, self.open[window], final=False)
                if ended:
                    self.ended.add(window)
                continue
            if ended:
                self.ended.add(window)
            if fresh and (due or trigger.every_batch or ended or len(fresh) >= (trigger.every_rows or 10**9)):
                self.emit(window, self.open[window] if trigger.accumulating else fresh, final=False)
                self.fresh.pop(window)

    def emit(self, window: Any, values: list[int | None], *, final: bool) -> None:
        there = [value for value in values if value is not None]
        total = builtins.sum(there) if there else None
        self.out.append((*window, len(values), total, sorted(there)[-1] if there else None, final))


def table(batch: list[Row]) -> pa.Table:
    keys, others, times, values = ([row[at] for row in batch] for at in range(4))
    stamps = pa.array(times, pa.int64()).view(STAMP)
    return pa.table([pa.array(keys, pa.string()), pa.array(others, pa.int32()), stamps, pa.array(values, pa.int64())], schema=ROWS)


def us(value: Any, *, otherwise: int = 0) -> int:
    return otherwise if value is None else (value - EPOCH) // MICROSECOND


def bounds(row: dict[str, Any]) -> tuple[int, int]:
    return us(row["window"]["start"], otherwise=NEVER_US), us(row["window"]["end"], otherwise=FOREVER_US)


def event(row: dict[str, Any]) -> Row:
    found = row["event"]
    assert (row["k"], row["j"]) == (found["k"], found["j"])
    return found["k"], found["j"], None if found["ts"] is None else us(found["ts"]), found["v"]


def written(step: Step) -> tuple[list[Any], list[Any], list[Any]]:
    def of(tag: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = step.out[tag].to_pylist() if tag in step.out else []
        return found

    out = [(*bounds(row), row["k"], row["j"], row["n"], row["s"], row["m"], row["is_final"]) for row in of("window")]
    late = [(*event(row), *bounds(row), row["missed"], row["windows"]) for row in of("late")]
    return out, late, [*map(event, of("invalid")), *(("outside", *event(row)) for row in of("outside"))]


def run(case: Case, stream: list[list[Row]], delay: int) -> tuple[list[Any], list[Any], list[Any], Model]:
    kernel, model = case.kernel(), Model(case)
    state: Any = empty_state(kernel)
    out: list[Any] = []
    late: list[Any] = []
    invalid: list[Any] = []
    watermark, newest = NEVER_US, None
    moments = [(batch, None) for batch in stream] + [([], FOREVER_US)]
    for number, (batch, at) in enumerate(moments):
        now = watermark if at is None else at
        step = kernel.step(state, table(batch), Moment(now, number * BATCH_US))
        blob = encode(BucketState(Identity("x", "{}", 1), 0, NEVER_US, step.state))
        state = decode(blob, name="test").tables
        for name, schema in kernel.state_schema.items():
            assert state[name].schema == schema
        found = written(step)
        out, late, invalid = out + found[0], late + found[1], invalid + found[2]
        model.step(batch, now, number * BATCH_US)
        due = [case.closes(window) for window in model.open if case.closes(window) < FOREVER_US]
        assert step.wake_us is None or step.wake_us > now
        assert not due or (step.wake_us is not None and step.wake_us <= sorted(due)[0])
        times = [time for _, _, time, _ in batch if time is not None and EARLIEST <= time <= LATEST]
        newest = sorted([*times, *([] if newest is None else [newest])])[-1] if times or newest is not None else None
        watermark = watermark if newest is None else sorted([watermark, newest - delay])[-1]
    assert all(not tables.num_rows for tables in state.values())
    return out, late, invalid, model


def agree(case: Case, stream: list[list[Row]], delay: int) -> None:
    out, late, invalid, model = run(case, stream, delay)
    assert Counter(out) == Counter(model.out)
    assert Counter(late) == Counter(model.late)
    assert Counter(invalid) == Counter([*model.invalid, *(("outside", *row) for row in model.outside)])
    if case.trigger.only_on_close or not case.trigger.accumulating:
        valid = [row for batch in stream for row in batch if row[2] is not None and EARLIEST <= row[2] <= LATEST]
        belongs = [window for row in valid for window in case.windows(row[2] or 0)]
        counted = [row[4] for row in out]
        assert builtins.sum(counted) + builtins.sum(row[6] for row in late) == len(belongs)


triggers = st.sampled_from(
    [
        on_close(), on_close(), Trigger(every_batch=True, at_end=True), Trigger(every_us=10, at_end=True), Trigger(at_end=True),
        Trigger(every_us=20),
    ]
)  # fmt: skip
more_triggers = st.one_of(triggers, st.just(Trigger(every_rows=2)))
tumbling = st.builds(
    lambda length, offset, grace, trigger, discarding: Case(
        length, length, offset % length, grace, trigger.discarding() if discarding else trigger
    ),
    st.integers(1, 60), st.integers(0, 60), st.integers(0, 40), more_triggers, st.booleans(),
)  # fmt: skip
sliding = st.builds(
    lambda every, more, offset, grace, trigger: Case(every + more, every, offset % every, grace, trigger),
    st.integers(1, 20), st.integers(1, 60), st.integers(0, 20), st.integers(0, 40), triggers,
)  # fmt: skip


@settings(max_examples=2_000, deadline=None)
@given(case=tumbling, stream=streams, delay=st.integers(0, 80))
def test_tumbling_windows_equal_the_model(case: Case, stream: list[list[Row]], delay: int) -> None:
    agree(case, stream, delay)


@settings(max_examples=2_000, deadline=None)
@given(case=sliding, stream=streams, delay=st.integers(0, 80))
def test_sliding_windows_equal_the_model(case: Case, stream: list[list[Row]], delay: int) -> None:
    agree(case, stream, delay)


@settings(max_examples=300, deadline=None)
@given(case=st.one_of(tumbling, sliding), stream=streams)
def test_batches_do_not_matter_when_nothing_is_late(case: Case, stream: list[list[Row]]) -> None:
    closing = replace(case, trigger=on_close())
    pieces, _, _, _ = run(closing, stream, 10_000)
    whole, late, _, _ = run(closing, [[row for batch in stream for row in batch]], 10_000)
    assert not late
    assert Counter(pieces) == Counter(whole)


def evens(times: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Windows of the user's own: twenty long, only around even tens."""
    tens = times // 10
    start = np.where(tens % 2 == 0, tens * 10, NEVER_US)
    return start, np.where(tens % 2 == 0, start + 20, NEVER_US)


@dataclass(frozen=True)
class OwnWindows(Case):
    """As `evens` makes them, or the one window that holds everything."""

    everything: bool = False

    def kernel(self) -> TimeWindows:
        assigner: PaneAssigner = GlobalPane() if self.everything else AssignedPanes(evens, "evens_v1")
        return replace(super().kernel(), assigner=assigner, cover=None)

    def windows(self, time: int) -> Iterator[tuple[int, int]]:
        if self.everything:
            yield NEVER_US, FOREVER_US
        elif time // 10 % 2 == 0:
            yield time // 10 * 10, time // 10 * 10 + 20


own = st.builds(lambda grace, trigger, everything: OwnWindows(20, 20, 0, grace, trigger, everything),
                st.integers(0, 40), more_triggers, st.booleans())  # fmt: skip


@settings(max_examples=4_000, deadline=None)
@given(case=own, stream=streams, delay=st.integers(0, 80))
def test_the_global_window_and_those_of_the_user_equal_the_model(case: OwnWindows, stream: list[list[Row]], delay: int) -> None:
    agree(case, stream, delay)
