"""Count windows against an obvious slow model, over random streams cut into random batches."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spark_ext.errors import SettingsError
from spark_ext.state.kernel import FOREVER_US, NEVER_US, Moment, empty_state
from spark_ext.state.segments import Segments
from spark_ext.windows.count_kernel import CountWindows
from spark_ext.windows.spans import merged_spans
from spark_ext.windows.triggers import Trigger, each_batch, each_rows, on_close
from tests import window_streams as ws
from tests.window_streams import Key, Row

DELAY = 12


@dataclass(frozen=True)
class Case:
    """A window and its policies, as the kernel and the model take them."""

    keys: tuple[str, ...]
    rows: int
    every: int
    ttl: int | None
    grace: int

    def kernel(self) -> CountWindows:
        return CountWindows(ws.layout(self.keys), self.rows, self.every, self.ttl, self.grace, on_close(), '{"a": 1}')


@dataclass
class Model:
    case: Case
    waiting: list[Row] = field(default_factory=list)
    lives: dict[Key, list[Row]] = field(default_factory=dict)  # all rows of a key, the given ones too
    given: dict[Key, int] = field(default_factory=dict)
    out: list[Any] = field(default_factory=list)
    late: list[Any] = field(default_factory=list)

    def step(self, batch: list[Row], now: int, batch_us: int) -> None:
        del batch_us
        over = now if now == FOREVER_US else now - self.case.grace
        ready = [row for row in self.waiting if (row[2] or 0) <= over]
        self.waiting = [row for row in self.waiting if row not in ready]
        for row in sorted(ready, key=self.place):
            key = ws.key_of(row, self.case.keys)
            if key in self.lives and self.case.ttl is not None and (row[2] or 0) - (self.lives[key][-1][2] or 0) >= self.case.ttl:
                self.forget(key)
            self.lives.setdefault(key, []).append(row)
            self.given.setdefault(key, 0)
            start = self.given[key] * self.case.every
            if len(self.lives[key]) == start + self.case.rows:
                self.emit(key, start)
        for key, rows in list(self.lives.items()):
            if over == FOREVER_US or (self.case.ttl is not None and (rows[-1][2] or 0) + self.case.ttl <= over):
                self.forget(key)
        for row in batch:
            if (row[2] or 0) <= over:
                self.late.append((*row, None, None, (now - (row[2] or 0)) // 1_000))
            else:
                self.waiting.append(row)

    def place(self, row: Row) -> Any:
        """By time, then by each other column, null first."""
        return (row[2], *((row[at] is not None, row[at] or 0) for at, name in enumerate("kjtv") if name not in {*self.case.keys, "t"}))

    def emit(self, key: Key, start: int) -> None:
        window = self.lives[key][start : start + self.case.rows]
        self.out.append((*key, window[0][2], window[-1][2], *ws.results([row[3] for row in window]), True))
        self.given[key] += 1

    def forget(self, key: Key) -> None:
        while self.given[key] * self.case.every < len(self.lives[key]):
            self.emit(key, self.given[key] * self.case.every)
        del self.lives[key], self.given[key]

    def due(self) -> int | None:
        moments = [(row[2] or 0) + self.case.grace for row in self.waiting]
        if self.case.ttl is not None:
            begun = [rows for key, rows in self.lives.items() if self.given[key] * self.case.every < len(rows)]
            moments += [(rows[-1][2] or 0) + self.case.ttl + self.case.grace for rows in begun]
        return sorted(moments)[0] if moments else None


ttls, graces = st.one_of(st.none(), st.integers(1, 30)), st.integers(0, 20)
tumbling = st.builds(
    lambda keys, rows, ttl, grace: Case(keys, rows, rows, ttl, grace), st.sampled_from(ws.KEYS), st.integers(1, 5), ttls, graces
)
sliding = st.builds(
    lambda keys, every, more, ttl, grace: Case(keys, every + more, every, ttl, grace),
    st.sampled_from(ws.KEYS),
    st.integers(1, 4),
    st.integers(0, 8),
    ttls,
    graces,
)


@settings(max_examples=2_000, deadline=None)
@given(case=tumbling, stream=ws.streams, delay=st.integers(0, 60), after=st.lists(ws.rows, max_size=2))
def test_tumbling_windows_equal_the_model(case: Case, stream: list[list[Row]], delay: int, after: list[Row]) -> None:
    played = ws.agree(case.kernel(), case.keys, Model(case), stream, delay, after)
    ws.conserved(played, stream, after)


@settings(max_examples=2_000, deadline=None)
@given(case=sliding, stream=ws.streams, delay=st.integers(0, 60))
def test_sliding_windows_equal_the_model(case: Case, stream: list[list[Row]], delay: int) -> None:
    ws.agree(case.kernel(), case.keys, Model(case), stream, delay)


@settings(max_examples=500, deadline=None)
@given(case=st.one_of(tumbling, sliding), stream=ws.orderly(DELAY))
def test_batches_do_not_matter_when_nothing_is_late(case: Case, stream: list[list[Row]]) -> None:
    # A row at the watermark itself is late, as its place may have been given out.
    pieces = ws.play(case.kernel(), case.keys, Model(case), stream, DELAY + 1)
    whole = ws.play(case.kernel(), case.keys, Model(case), [[row for batch in stream for row in batch]], DELAY + 1)
    assert not pieces.late
    assert Counter(pieces.out) == Counter(whole.out)


def only(rows: int, every: int, ttl: int | None, times: list[int]) -> list[tuple[int, int, int]]:
    case = Case(("k",), rows, every, ttl, 0)
    played = ws.play(case.kernel(), case.keys, Model(case), [[("a", None, time, 1) for time in times]], 0)
    return [window[1:4] for window in played.out]


def test_windows_that_have_begun_are_given_out_at_the_end() -> None:
    assert only(3, 2, None, [5, 1, 2, 4, 3]) == [(1, 3, 3), (3, 5, 3), (5, 5, 1)]


def test_a_key_that_was_silent_for_its_time_to_live_is_counted_anew() -> None:
    assert sorted(only(2, 2, 10, [0, 9, 10, 20, 21])) == [(0, 9, 2), (10, 10, 1), (20, 21, 2)]


def test_a_key_whose_windows_are_all_full_takes_no_room() -> None:
    kernel = Case(("k",), 2, 2, 10, 0).kernel()
    first = kernel.step(empty_state(kernel), ws.table([("a", 1, 1, 1), ("a", 1, 2, 1), ("b", 1, 1, 1)]), Moment(NEVER_US, 0))
    second = kernel.step(first.state, ws.table([]), Moment(2, 0))
    assert second.out["window"].column("n").to_pylist() == [2]
    assert second.state["keys"].to_pylist() == [{"k": "b"}]
    assert [len(second.state[name]) for name in ("counts", "panes", "waiting")] == [1, 1, 0]
    assert second.wake_us == 11


@settings(max_examples=300, deadline=None)
@given(spans=st.lists(st.tuples(st.integers(0, 60), st.integers(1, 60)), max_size=200))
def test_spans_hold_the_states_that_lie_in_them(spans: list[tuple[int, int]]) -> None:
    values = [7 * at % 11 - 5 for at in range(120)]
    sums = ws.layout(("k",))
    rows = ws.table([("a", 1, at, value) for at, value in enumerate(values)])
    states = sums.of_rows(rows, np.arange(120), np.arange(120), Segments(np.arange(120), 120))
    firsts, lengths = np.array([first for first, _ in spans], np.int64), np.array([length for _, length in spans], np.int64)
    found = sums.results(merged_spans(sums, states, firsts, lengths))
    expected = [ws.results(values[first : first + length]) for first, length in spans]
    assert list(zip(*(found[name].to_pylist() for name in "nsm"), strict=True)) == expected


@pytest.mark.parametrize(
    ("rows", "every", "what"), [(0, 1, "rows"), (2, 3, "every"), (2, 0, "every"), (2.0, 1, "rows"), (2**31, 1, "rows")]
)
def test_a_window_needs_rows(rows: Any, every: int, what: str) -> None:
    with pytest.raises(SettingsError, match=f"cannot build window 'count': expected {what} from 1 to"):
        Case(("k",), rows, every, None, 0).kernel()


@pytest.mark.parametrize("trigger", [each_batch(), each_rows(3), Trigger(at_end=True)])
def test_a_count_window_does_not_fire_early(trigger: Trigger) -> None:
    with pytest.raises(SettingsError, match=r"expected the trigger on_close\(\), got Trigger.*; before the watermark has passed a row"):
        CountWindows(ws.layout(("k",)), 2, 2, None, 0, trigger, "{}")


def test_a_kernel_says_what_its_state_is() -> None:
    kernel = Case(("k",), 4, 2, None, 0).kernel()
    assert (kernel.operator, kernel.settings, kernel.in_schema) == ("count_windows_v1", '{"a": 1}', ws.ROWS)
    assert kernel.state_schema["waiting"] == ws.ROWS
    assert set(kernel.state_schema) == {"waiting", "keys", "counts", "panes"}
    assert set(kernel.out_schema) == {"window", "late", "invalid"}
