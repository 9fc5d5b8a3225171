"""Joins by number of rows against one that goes through the rows one by one."""

from __future__ import annotations

from collections import Counter

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spark_ext.errors import SettingsError
from spark_ext.joins.count_kernel import CountJoin
from spark_ext.joins.layout import HOWS, Layout, Side
from spark_ext.joins.shapes import Counts, one_window, two_windows
from spark_ext.state.kernel import FOREVER_US, NEVER_US, Moment, empty_state
from tests.join_models import LEFT, RIGHT, STAMP, Batch, run, table
from tests.ordered_join_models import count_join

BOUNDS = (-1_000, 1_000)
SIDES = ("left", "right")


def kernel(how: str, left: int, right: int, most_matches: int = 1_000) -> CountJoin:
    layout = Layout(Side(LEFT, ("k",), "at"), Side(RIGHT, ("k",), "at"), how, "_right", *BOUNDS, most_matches)  # type: ignore[arg-type]
    return CountJoin(layout, Counts(left, right))


keys = st.sampled_from(["a", "a", "b", "b", "b", None])
# From where the watermark is; some are behind it, some have no time, or one out of bounds.
offsets = st.integers(-3, 14).map(lambda at: {-3: None, -2: 10**6}.get(at, at))
rows = st.lists(st.tuples(keys, offsets, st.integers(0, 3)), max_size=8)
windows = st.tuples(st.integers(0, 3), st.integers(0, 3)).filter(any)


@st.composite
def streams(draw: st.DrawFn) -> list[Batch]:
    """Watermarks stand still, or jump; the last batch proves everything."""
    watermark, batches = NEVER_US, []
    for _ in range(draw(st.integers(1, 7))):
        left, right = ([(k, None if at is None else at + max(watermark, 0), v) for k, at, v in draw(rows)] for _ in SIDES)
        batches.append(Batch(left, right, watermark))
        step = draw(st.sampled_from([0, 1, 2, 3, 5, 8, 40]))
        watermark = max(0, watermark) + step if step else watermark
    return [*batches, Batch([], [], watermark), Batch([], [], FOREVER_US)]


@settings(max_examples=300, deadline=None)
@given(batches=streams(), how=st.sampled_from(HOWS), sizes=windows)
def test_each_batch_gives_what_the_definition_says_and_keeps_no_more(batches: list[Batch], how: str, sizes: tuple[int, int]) -> None:
    for one, other in zip(run(kernel(how, *sizes), batches, {}), count_join(batches, how, *sizes, *BOUNDS), strict=True):
        assert one.rows == other.rows
        assert one.kept == other.kept


@settings(max_examples=200, deadline=None)
@given(batches=streams(), how=st.sampled_from(HOWS), sizes=windows, data=st.data())
def test_batches_do_not_matter(batches: list[Batch], how: str, sizes: tuple[int, int], data: st.DataObject) -> None:
    many = sum((one.rows for one in run(kernel(how, *sizes), batches, {})), Counter())
    late = Counter({row: times for row, times in many.items() if row[0] == "late"})
    gone = {side: Counter(row[at] for row in late.elements() if row[1] == side) for side, at in (("left", 2), ("right", 3))}
    lefts = list((Counter(row for one in batches for row in one.left) - gone["left"]).elements())
    rights = list((Counter(row for one in batches for row in one.right) - gone["right"]).elements())
    once = [Batch(data.draw(st.permutations(lefts)), data.draw(st.permutations(rights)), NEVER_US), Batch([], [], FOREVER_US)]
    assert sum((one.rows for one in run(kernel(how, *sizes), once, {})), Counter()) == many - late


def test_a_bucket_is_woken_when_the_next_row_is_due_and_not_for_its_windows() -> None:
    join = kernel("full", 1, 1)
    given = {"left": [("a", 5, 1), ("b", 9, 2)], "right": [("a", 6, 3)]}
    tables = {"left": table(given["left"], LEFT, {}).select(LEFT.names), "right": table(given["right"], RIGHT, {}).select(RIGHT.names)}
    step = join.step(empty_state(join), tables, Moment(NEVER_US, 0))
    woken = []
    while step.wake_us is not None:
        woken.append(step.wake_us)
        step = join.step(step.state, {name: one.slice(0, 0) for name, one in tables.items()}, Moment(step.wake_us, 0))
    assert woken == [6, 7, 10]
    assert {name: one.num_rows for name, one in step.state.items()} == {"left": 2, "right": 1, "left_waiting": 0, "right_waiting": 0}


def test_windows_are_those_of_the_last_rows_by_event_time_whatever_came_first() -> None:
    """The picture in words: three quotes by time, one row is kept, so each trade meets the last one before it."""
    right = pa.schema([("k", pa.string()), ("at", STAMP), ("w", pa.int64())])
    layout = Layout(Side(LEFT, ("k",), "at"), Side(right, ("k",), "at"), "left", "_right", *BOUNDS, 10)
    join = CountJoin(layout, one_window(kept="right", rows=1))
    lefts, rights = [("a", 9, 2), ("a", 1, 0), ("a", 5, 1)], [("a", 7, 30), ("a", 5, 20), ("a", 2, 10)]
    found = run(join, [Batch(lefts, rights, NEVER_US), Batch([], [], 100)], {})
    pairs = sorted((row[2][2], None if row[3] is None else row[3][2]) for row in found[1].rows)
    assert pairs == [(0, None), (1, 10), (2, 30)]  # of one time the left row goes first: it does not see the quote of 5


@pytest.mark.parametrize(("left", "right"), [(0, 0), (4, 1), (-1, 2)])
def test_windows_that_hold_nothing_or_too_much_are_refused(left: int, right: int) -> None:
    with pytest.raises(
        SettingsError, match=r"cannot join by number of rows '': expected 0 to 3 rows \(most_matches\) of each side, not 0 of both"
    ):
        kernel("inner", left, right, most_matches=3)


def test_another_number_of_rows_is_another_state() -> None:
    layout = kernel("inner", 1, 1).layout
    assert CountJoin(layout, two_windows(left=2, right=1)).settings != CountJoin(layout, two_windows(left=1, right=2)).settings  # type: ignore[arg-type]
