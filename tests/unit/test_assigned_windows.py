"""Windows that a user's function assigns: what comes out, and what is refused before anything is built on it."""

import pickle
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spark_ext.errors import SettingsError
from spark_ext.state.kernel import FOREVER_US, NEVER_US
from spark_ext.windows.assigned import AssignedPanes
from spark_ext.windows.panes import OUTSIDE
from spark_ext.windows.shapes import assigned

Ints = np.ndarray
Pair = tuple[Ints, Ints]


def panes(function: Callable[[Ints], object], times: list[int]) -> list[tuple[int, int] | None]:
    found = assigned(function, name="shifts_v1").assigner().panes(np.array(times, np.int64))  # type: ignore[arg-type]
    pairs = list(zip(found.starts.tolist(), found.ends.tolist(), strict=True))
    assert {found.index.dtype, found.starts.dtype, found.ends.dtype} == {np.dtype(np.int64)}
    assert pairs == sorted(set(pairs)), "distinct and ascending"
    assert sorted({*found.index.tolist()} - {OUTSIDE}) == list(range(len(pairs))), "each has a row"
    return [None if at == OUTSIDE else pairs[at] for at in found.index.tolist()]


@settings(max_examples=2000, deadline=None)
@given(
    times=st.lists(st.one_of(st.integers(-40, 40), st.integers(-(2**55), 2**55)), max_size=40),
    tables=st.dictionaries(
        st.integers(0, 6), st.one_of(st.none(), st.tuples(st.integers(0, 30), st.integers(1, 30)), st.just((2**62, 2**62)))
    ),
)
def test_rows_are_where_the_function_puts_them(times: list[int], tables: dict[int, tuple[int, int] | None]) -> None:
    def window(time: int) -> tuple[int, int] | None:
        choice = tables.get(time % 7, (time % 3, 5))
        if choice is None:
            return None
        before, after = choice
        return max(time - before, NEVER_US), min(time + after, FOREVER_US)

    def function(times_us: Ints) -> Pair:
        both = [window(time) or (NEVER_US, NEVER_US) for time in times_us.tolist()]
        return np.array([start for start, _ in both], np.int64), np.array([end for _, end in both], np.int64)

    assert panes(function, times) == [window(time) for time in times]


def tens(times_us: Ints) -> Pair:
    starts = times_us // 10 * 10
    return starts, starts + 10


def test_the_function_is_not_called_without_rows() -> None:
    assert panes(lambda _: 1 / 0, []) == []


def test_all_rows_may_be_outside() -> None:
    assert panes(lambda times: (np.full_like(times, NEVER_US), np.full_like(times, NEVER_US)), [3, 4]) == [None, None]


def test_windows_of_one_batch_may_overlap() -> None:
    assert panes(lambda times: (times - 5, times + 5), [3, 4, 3]) == [(-2, 8), (-1, 9), (-2, 8)]


def test_the_assigner_can_be_sent() -> None:
    assigner = AssignedPanes(tens, "tens")
    assert pickle.loads(pickle.dumps(assigner)) == assigner  # noqa: S301 - our own bytes
    assert AssignedPanes(tens, "tens") != AssignedPanes(tens, "tens_v2")


def overwrite(times_us: Ints) -> Pair:
    times_us += 1
    return tens(times_us)


def fail(times_us: Ints) -> Pair:
    raise KeyError(int(times_us[0]))


def aligned_with_the_batch(times_us: Ints) -> Pair:
    starts = times_us - (times_us - times_us.min()) % 10
    return starts, starts + 10


def counting(times_us: Ints) -> Pair:
    return times_us, times_us + len(times_us)


def second_is(start: int, end: int) -> Callable[[Ints], Pair]:
    def function(times_us: Ints) -> Pair:
        starts, ends = tens(times_us)
        return np.where(times_us == 21, start, starts), np.where(times_us == 21, end, ends)

    return function


ARRAYS = r"expected starts as a NumPy array of shape \(3,\) and dtype int64, got "
ENDS = r"expected ends as a NumPy array of shape \(3,\) and dtype int64, got "


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (fail, "expected windows, got KeyError: 13; it was given 3 event times, the first 13; repair the function"),
        (overwrite, "expected windows, got ValueError: .*read-only"),
        (lambda _: None, r"expected a tuple \(starts, ends\), got NoneType; return two arrays"),
        (lambda times: (times, times, times), r"expected a tuple \(starts, ends\), got tuple of 3"),
        (lambda times: [times, times], r"expected a tuple \(starts, ends\), got list of 2"),
        (lambda times: tens(times)[0], r"expected a tuple \(starts, ends\), got ndarray"),
        (lambda times: ([0] * len(times), times), ARRAYS + "list; return arrays, not lists or scalars"),
        (lambda times: (tens(times)[0], 10), ENDS + "int"),
        (
            lambda times: (times[:-1], times),
            ARRAYS + r"shape \(2,\) and dtype int64; each row has one window or none; give -4611686018427387904",
        ),
        (lambda times: (times, times[:, None]), ENDS + r"shape \(3, 1\)"),
        (
            lambda times: (times / 1, times),
            ARRAYS + r"shape \(3,\) and dtype float64; floats do not hold microseconds exactly, and may be NaN; ",
        ),
        (lambda times: (times, times.astype(np.int32)), ENDS + r"shape \(3,\) and dtype int32; compute in int64"),
        (lambda times: (times.astype("datetime64[us]"), times), ARRAYS + r".*datetime64\[us\]; compute in int64 .*\.astype\('int64'\)"),
        (second_is(22, 22), r"expected start < end, got \[22, 22\) for row 1 with time 21; .*; 1 rows are wrong; return a window"),
        (second_is(30, 20), r"expected start < end, got \[30, 20\) for row 1 with time 21"),
        (second_is(22, 32), r"expected start <= time < end, got \[22, 32\) for row 1 with time 21"),
        (second_is(11, 21), r"expected start <= time < end, got \[11, 21\) for row 1 with time 21"),
        (second_is(NEVER_US - 1, 30), "expected a window from -4611686018427387904 to 4611686018427387904, got"),
        (second_is(20, FOREVER_US + 1), "expected a window from -4611686018427387904 to 4611686018427387904, got"),
        (second_is(FOREVER_US, FOREVER_US), "expected start < end"),
        (
            aligned_with_the_batch,
            r"expected the same window for the same time in every batch, got .* when asked with 1 rows; results would",
        ),
        (
            counting,
            r"expected the same window for the same time in every batch, got \[13, 16\) for row 0 with time 13, and \[13, 29\) when asked",
        ),
    ],
)
def test_what_makes_no_windows_is_refused(function: Callable[[Ints], object], message: str) -> None:
    with pytest.raises(SettingsError, match="cannot use window assigner 'shifts_v1': " + message):
        panes(function, [13, 21, 9])


def test_the_functions_own_error_is_the_cause() -> None:
    with pytest.raises(SettingsError) as refused:
        panes(fail, [13])
    assert isinstance(refused.value.__cause__, KeyError)
    assert refused.value.name == "shifts_v1"
