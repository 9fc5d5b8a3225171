"""Windows of the last rows against an obvious slow model, over random streams cut into random batches."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spark_ext.errors import SettingsError
from spark_ext.state.kernel import FOREVER_US
from spark_ext.windows.eviction_kernel import EvictingWindows
from spark_ext.windows.triggers import Trigger, each_batch, each_rows, early, on_close
from tests import window_streams as ws
from tests.window_streams import Key, Row

DELAY = 12


@dataclass(frozen=True)
class Case:
    """A window and its policies, as the kernel and the model take them."""

    keys: tuple[str, ...]
    keep_rows: int | None
    keep: int | None
    ttl: int | None
    grace: int
    trigger: Trigger

    def kernel(self) -> EvictingWindows:
        return EvictingWindows(ws.layout(self.keys), self.keep_rows, self.keep, self.ttl, self.grace, self.trigger, '{"a": 1}')


@dataclass
class Kept:
    """A row that is kept."""

    time: int
    value: int | None
    row: Row
    fresh: bool = True

    @property
    def place(self) -> tuple[int, bool, int]:
        return self.time, self.value is not None, self.value or 0


@dataclass
class Model:
    case: Case
    kept: dict[Key, list[Kept]] = field(default_factory=dict)
    fresh: dict[Key, int] = field(default_factory=dict)
    out: list[Any] = field(default_factory=list)
    late: list[Any] = field(default_factory=list)
    fired_us: int | None = None

    def step(self, batch: list[Row], now: int, batch_us: int) -> None:
        over = now if now == FOREVER_US else now - self.case.grace
        for key, rows in list(self.kept.items()):
            for life in self.closed(rows, over):
                if any(row.fresh for row in life):
                    self.emit(key, life, final=True)
                for row in life:
                    rows.remove(row)
            if not rows:
                del self.kept[key], self.fresh[key]
        before = {key: list(rows) for key, rows in self.kept.items()}
        took = set()
        for key in dict.fromkeys(ws.key_of(row, self.case.keys) for row in batch):
            rows = [row for row in batch if ws.key_of(row, self.case.keys) == key]
            taken = [Kept(row[2] or 0, row[3], row) for row in rows if not self.is_late(row, before.get(key, []))]
            missed = [] if over == FOREVER_US else [row.row for life in self.closed(before.get(key, []) + taken, over) for row in life]
            for row in rows:
                if over == FOREVER_US or row in missed:
                    self.late.append((*row, None, None, (now - (row[2] or 0)) // 1_000))
                elif self.is_late(row, before.get(key, [])):
                    oldest, newest = before[key][0].time, before[key][-1].time
                    self.late.append((*row, oldest, newest, (newest - (row[2] or 0)) // 1_000))
            taken = [row for row in taken if over < FOREVER_US and row.row not in missed]
            if taken:
                took.add(key)
                self.fresh[key] = self.fresh.get(key, 0) + len(taken)
                self.kept[key] = self.evicted(before.get(key, []) + taken)
        self.fire(took, batch_us)

    def is_late(self, row: Row, kept: list[Kept]) -> bool:
        time, case = row[2] or 0, self.case
        by_rows = case.keep_rows is not None and len(kept) == case.keep_rows and time < kept[0].time
        return by_rows or (case.keep is not None and bool(kept) and time < kept[-1].time - case.keep)

    def closed(self, rows: list[Kept], over: int) -> list[list[Kept]]:
        lives: list[list[Kept]] = []
        for row in sorted(rows, key=lambda row: row.place):
            if lives and (self.case.ttl is None or row.time - lives[-1][-1].time < self.case.ttl):
                lives[-1].append(row)
            else:
                lives.append([row])
        return [life for life in lives if over == FOREVER_US or (self.case.ttl is not None and life[-1].time + self.case.ttl <= over)]

    def evicted(self, rows: list[Kept]) -> list[Kept]:
        rows = sorted(rows, key=lambda row: row.place)
        if self.case.keep_rows is not None:
            rows = rows[-self.case.keep_rows :]
        return rows if self.case.keep is None else [row for row in rows if row.time >= rows[-1].time - self.case.keep]

    def fire(self, took: set[Key], batch_us: int) -> None:
        trigger, every, interval = self.case.trigger, self.case.trigger.every_us, False
        if every is not None:
            before = batch_us if self.fired_us is None else self.fired_us
            interval = batch_us // every > before // every
            self.fired_us = (batch_us if interval else before) if self.kept else None
        for key, rows in self.kept.items():
            by_rows = trigger.every_rows is not None and self.fresh[key] >= trigger.every_rows
            if self.fresh[key] and (interval or by_rows or (trigger.every_batch and key in took)):
                self.emit(key, rows, final=False)
                self.fresh[key] = 0
                for row in rows:
                    row.fresh = False

    def emit(self, key: Key, rows: list[Kept], *, final: bool) -> None:
        self.out.append((*key, rows[0].time, rows[-1].time, *ws.results([row.value for row in rows]), final))

    def due(self) -> int | None:
        if self.case.ttl is None:
            return None
        ends = [life[-1].time for rows in self.kept.values() for life in self.closed(rows, FOREVER_US)]
        return sorted(ends)[0] + self.case.ttl + self.case.grace if ends else None


policies = st.one_of(
    st.tuples(st.integers(1, 5), st.none()), st.tuples(st.none(), st.integers(0, 30)), st.tuples(st.integers(1, 5), st.integers(0, 30))
)
triggers = st.sampled_from([each_batch(), each_rows(2), each_rows(3), early(every=timedelta(microseconds=10)), on_close()])
ttls = st.one_of(st.none(), st.integers(1, 30))


def cases(triggers: st.SearchStrategy[Trigger]) -> st.SearchStrategy[Case]:
    return st.builds(
        lambda keys, policy, ttl, grace, trigger: Case(keys, *policy, ttl, grace, trigger),
        st.sampled_from(ws.KEYS),
        policies,
        ttls,
        st.integers(0, 20),
        triggers,
    )


@settings(max_examples=2_000, deadline=None)
@given(case=cases(triggers), stream=ws.streams, delay=st.integers(0, 60), after=st.lists(ws.rows, max_size=2))
def test_windows_of_last_rows_equal_the_model(case: Case, stream: list[list[Row]], delay: int, after: list[Row]) -> None:
    ws.agree(case.kernel(), case.keys, Model(case), stream, delay, after)


@settings(max_examples=500, deadline=None)
@given(case=cases(st.just(on_close())), stream=ws.orderly(DELAY))
def test_batches_do_not_matter_for_what_is_kept(case: Case, stream: list[list[Row]]) -> None:
    pieces = ws.play(case.kernel(), case.keys, Model(case), stream, DELAY)
    whole = ws.play(case.kernel(), case.keys, Model(case), [[row for batch in stream for row in batch]], DELAY)
    if case.ttl is None:
        assert Counter(pieces.out) == Counter(whole.out)
    # A key that was forgotten in between has more to say, but ends alike.
    width = len(case.keys)
    assert newest(pieces.out, width) == newest(whole.out, width)


def newest(out: list[Any], width: int) -> dict[Key, Any]:
    return {window[:width]: window for window in sorted(out, key=lambda window: window[width])}


def only(keep_rows: int | None, keep: int | None, batches: list[list[int]]) -> tuple[list[tuple[int, int, int]], list[int]]:
    case = Case(("k",), keep_rows, keep, None, 0, each_batch())
    played = ws.play(case.kernel(), case.keys, Model(case), [[("a", None, time, 1) for time in batch] for batch in batches], 0)
    return [window[1:4] for window in played.out], [row[2] for row in played.late]


def test_only_the_last_rows_are_kept() -> None:
    assert only(2, None, [[1, 2, 3], [2, 1], [9]]) == ([(2, 3, 2), (2, 3, 2), (3, 9, 2)], [1])


def test_only_rows_close_behind_the_newest_are_kept() -> None:
    assert only(None, 5, [[1, 6, 7], [1, 2], [9]]) == ([(6, 7, 2), (2, 7, 3), (6, 9, 3)], [1])


def test_a_key_that_was_forgotten_counts_its_rows_anew() -> None:
    case = Case(("k",), 9, None, 5, 0, each_rows(3))
    stream: list[list[Row]] = [[("a", 1, 0, 1), ("a", 1, 1, 1), ("b", 1, 10, 1)], [("a", 1, 20, 1)], [("a", 1, 21, 1)]]
    played = ws.agree(case.kernel(), case.keys, Model(case), stream, 0)
    assert [window[1:4] for window in played.out if window[0] == "a"] == [(0, 1, 2), (20, 21, 2)]


@pytest.mark.parametrize(("keep_rows", "keep"), [(None, None), (0, None), (None, -1), (True, None)])
def test_a_window_needs_an_eviction_policy(keep_rows: Any, keep: int | None) -> None:
    with pytest.raises(SettingsError, match="cannot build window 'evicting': expected keep_"):
        Case(("k",), keep_rows, keep, None, 0, each_batch()).kernel()


def test_a_window_of_last_rows_cannot_discard() -> None:
    with pytest.raises(SettingsError, match=r"expected a trigger that accumulates, got Trigger.*; leave out discarding"):
        Case(("k",), 1, None, None, 0, each_batch().discarding()).kernel()


def test_a_kernel_says_what_its_state_is() -> None:
    kernel = Case(("k",), 4, None, None, 0, early(every=timedelta(seconds=1))).kernel()
    assert (kernel.operator, kernel.settings, kernel.in_schema) == ("evicting_windows_v1", '{"a": 1}', ws.ROWS)
    assert set(kernel.state_schema) == {"keys", "counts", "rows", "meta"}
    assert kernel.state_schema["rows"].names == ["key", "time_us", "fresh", "c_v"]
    assert set(kernel.out_schema) == {"window", "late", "invalid"}


def test_of_equal_rows_the_one_that_was_not_given_out_is_kept() -> None:
    case = Case(("k", "j"), 1, None, None, 0, each_rows(2))
    early_on: Row = ("a", 1, 0, None)
    stream: list[list[Row]] = [
        [("é", 1, 0, None), *[early_on] * 7, ("a", 1, 1, None), ("a", None, 0, None)],
        [*[early_on] * 4, ("a", 1, 1, None), ("é", 1, 0, None)],
    ]
    played = ws.agree(case.kernel(), case.keys, Model(case), stream, 0)
    assert ("a", 1, 1, 1, 1, None, None, True) in played.out  # of the second batch: a row that nobody has seen yet
