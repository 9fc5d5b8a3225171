"""Session windows against an obvious slow model, over random streams cut into random batches."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spark_ext.errors import SettingsError
from spark_ext.state.kernel import FOREVER_US, NEVER_US, Moment, empty_state
from spark_ext.windows.session_kernel import SessionWindows
from spark_ext.windows.triggers import Trigger, each_batch, each_rows, early, on_close
from tests import window_streams as ws
from tests.window_streams import Key, Row

DELAY = 12


@dataclass(frozen=True)
class Case:
    """A window and its policies, as the kernel and the model take them."""

    keys: tuple[str, ...]
    gap: int
    maximum: int | None
    grace: int
    trigger: Trigger

    def kernel(self) -> SessionWindows:
        return SessionWindows(ws.layout(self.keys), self.gap, self.maximum, self.grace, self.trigger, '{"a": 1}')


@dataclass
class Session:
    key: Key
    rows: list[Row]
    fresh: list[Row]
    is_new: bool
    gap: int
    maximum: int | None

    @property
    def first(self) -> int:
        return sorted(row[2] or 0 for row in self.rows)[0]

    @property
    def end(self) -> int:
        end = sorted(row[2] or 0 for row in self.rows)[-1] + self.gap
        return end if self.maximum is None else sorted([end, (self.first // self.maximum + 1) * self.maximum])[0]

    def meets(self, other: Session) -> bool:
        same_cell = self.maximum is None or self.first // self.maximum == other.first // self.maximum
        return self.key == other.key and same_cell and self.first < other.end and other.first < self.end


@dataclass
class Model:
    case: Case
    open: list[Session] = field(default_factory=list)
    out: list[Any] = field(default_factory=list)
    late: list[Any] = field(default_factory=list)
    fired_us: int | None = None

    def step(self, batch: list[Row], now: int, batch_us: int) -> None:
        case = self.case
        for session in [session for session in self.open if session.end + case.grace <= now]:
            self.open.remove(session)
            if case.trigger.accumulating or case.trigger.only_on_close or session.fresh:
                self.emit(session, final=True)
        for session in self.open:
            session.is_new = False
        found = list(self.open)
        for row in batch:
            session = Session(ws.key_of(row, case.keys), [row], [row], is_new=True, gap=case.gap, maximum=case.maximum)
            while True:
                other = next((each for each in found if each.meets(session)), None)
                if other is None:
                    break
                found.remove(other)
                session = replace(session, rows=session.rows + other.rows, fresh=session.fresh + other.fresh)
            found.append(session)
        self.open = []
        for session in found:
            if session.end + case.grace > now:
                self.open.append(session)
            else:
                self.late += [(*row, session.first, session.end, (now - (row[2] or 0)) // 1_000) for row in session.rows]
        self.fire(now, batch_us)

    def fire(self, now: int, batch_us: int) -> None:
        trigger, every, over = self.case.trigger, self.case.trigger.every_us, False
        if every is not None:
            before = batch_us if self.fired_us is None else self.fired_us
            over = batch_us // every > before // every
            self.fired_us = (batch_us if over else before) if self.open else None
        for session in self.open:
            by_rows = trigger.every_rows is not None and len(session.fresh) >= trigger.every_rows
            by_end = trigger.at_end and session.end <= now
            if session.fresh and (over or by_rows or by_end or (trigger.every_batch and session.is_new)):
                self.emit(session, final=False)
                session.fresh = []

    def emit(self, session: Session, *, final: bool) -> None:
        everything = self.case.trigger.accumulating or self.case.trigger.only_on_close
        values = [row[3] for row in (session.rows if everything else session.fresh)]
        self.out.append((*session.key, session.first, session.end, *ws.results(values), final))

    def due(self) -> int | None:
        ends = [session.end + self.case.grace for session in self.open]
        if self.case.trigger.at_end:
            # What has fired at its end has nothing fresh: whoever ended and waits is not due before it closes.
            ends += [session.end for session in self.open if session.fresh]
        return sorted(ends)[0] if ends else None


def cases(triggers: st.SearchStrategy[Trigger]) -> st.SearchStrategy[Case]:
    maximum = st.one_of(st.none(), st.integers(1, 40))
    return st.builds(Case, st.sampled_from(ws.KEYS), st.integers(1, 25), maximum, st.integers(0, 20), triggers)


closing = cases(st.just(on_close()))
firing = cases(
    st.sampled_from(
        [
            trigger if accumulating else trigger.discarding()
            for trigger in (each_batch(), each_rows(2), each_rows(3), early(every=timedelta(microseconds=10)), Trigger(at_end=True))
            for accumulating in (True, False)
        ]
    )
)


@settings(max_examples=2_000, deadline=None)
@given(case=closing, stream=ws.streams, delay=st.integers(0, 60), after=st.lists(ws.rows, max_size=2))
def test_sessions_equal_the_model(case: Case, stream: list[list[Row]], delay: int, after: list[Row]) -> None:
    played = ws.agree(case.kernel(), case.keys, Model(case), stream, delay, after)
    ws.conserved(played, stream, after)


@settings(max_examples=2_000, deadline=None)
@given(case=firing, stream=ws.streams, delay=st.integers(0, 60))
def test_triggers_of_sessions_equal_the_model(case: Case, stream: list[list[Row]], delay: int) -> None:
    played = ws.agree(case.kernel(), case.keys, Model(case), stream, delay)
    if not case.trigger.accumulating:
        ws.conserved(played, stream)


@settings(max_examples=500, deadline=None)
@given(case=closing, stream=ws.orderly(DELAY))
def test_batches_do_not_matter_when_nothing_is_late(case: Case, stream: list[list[Row]]) -> None:
    pieces = ws.play(case.kernel(), case.keys, Model(case), stream, DELAY)
    whole = ws.play(case.kernel(), case.keys, Model(case), [[row for batch in stream for row in batch]], DELAY)
    assert not pieces.late
    assert Counter(pieces.out) == Counter(whole.out)


def only(gap: int, maximum: int | None, times: list[int]) -> list[tuple[int, int, int]]:
    case = Case(("k",), gap, maximum, 0, on_close())
    played = ws.play(case.kernel(), case.keys, Model(case), [[("a", None, time, 1) for time in times]], 0)
    return sorted(window[1:4] for window in played.out)


def test_rows_exactly_a_gap_apart_are_in_two_sessions() -> None:
    assert only(10, None, [0, 10, 19]) == [(0, 10, 1), (10, 29, 2)]


def test_a_session_ends_at_a_multiple_of_its_maximum() -> None:
    assert only(10, 20, [-1, 15, 19, 20, 29]) == [(-1, 0, 1), (15, 20, 2), (20, 39, 2)]


def test_the_first_rows_wait_for_the_next_interval_of_processing_time() -> None:
    kernel = Case(("k",), 1_000, None, 0, early(every=timedelta(microseconds=10))).kernel()
    state, fired = empty_state(kernel), []
    for batch_us in (25, 29, 30, 39, 51):
        step = kernel.step(state, ws.table([("a", 1, 5, 1)]), Moment(NEVER_US, batch_us))
        state = ws.stored(kernel, step)
        fired.append(step.out["window"].column("n").to_pylist() if "window" in step.out else [])
    assert fired == [[], [], [3], [], [5]]


def test_rows_of_the_widest_times_and_many_keys_do_not_overflow() -> None:
    far = 253_402_300_799_999_999  # the last microsecond of 9999
    case = Case(("k",), 2**60, None, 2**60, on_close())
    kernel = replace(case.kernel(), layout=replace(ws.layout(("k",)), earliest_us=-62_135_596_800_000_000, latest_us=far))
    rows = ws.table([("a", 1, far, 1), ("a", 1, -62_135_596_800_000_000, 1)])
    first = kernel.step(empty_state(kernel), rows, Moment(NEVER_US, 0))
    assert first.wake_us == far + 2**61
    last = kernel.step(first.state, rows.slice(0, 0), Moment(FOREVER_US, 0))
    assert last.out["window"].column("n").to_pylist() == [2]


@pytest.mark.parametrize(("gap", "maximum", "grace"), [(0, None, 0), (1.5, None, 0), (True, None, 0), (1, 0, 0), (1, None, -1)])
def test_a_session_needs_a_gap(gap: Any, maximum: int | None, grace: int) -> None:
    with pytest.raises(SettingsError, match=r"cannot build window 'session': expected .*_us from [01] to .*, got"):
        SessionWindows(ws.layout(("k",)), gap, maximum, grace, on_close(), "{}")


def test_a_kernel_says_what_its_state_is() -> None:
    kernel = Case(("k",), 1, None, 0, early(every=timedelta(seconds=1))).kernel()
    assert (kernel.operator, kernel.settings, kernel.in_schema) == ("session_windows_v1", '{"a": 1}', ws.ROWS)
    assert set(kernel.state_schema) == {"keys", "sessions", "meta"}
    assert kernel.state_schema["sessions"].field("first_us").type == pa.int64()
    assert set(kernel.out_schema) == {"window", "late", "invalid"}
