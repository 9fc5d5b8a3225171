"""Sliding windows that follow the records, against Kafka Streams' definition gone through window by window."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from spark_ext.state.kernel import FOREVER_US, NEVER_US, Moment, empty_state
from spark_ext.streams.sliding_kernel import RecordWindows
from spark_ext.windows.aggregates import count, sum  # noqa: A004
from spark_ext.windows.rows import INVALID, LATE, WINDOW, Layout

SCHEMA = pa.schema([("k", pa.string()), ("ts", pa.timestamp("us", "UTC")), ("n", pa.int64())])
MS = 1_000
LIMIT = 10**15


@dataclass(frozen=True)
class Record:
    k: str | None
    ms: int | None
    n: int


def kernel(difference: int, grace: int) -> RecordWindows:
    layout = Layout(SCHEMA, ("k",), "ts", (("rows", count()), ("total", sum("n"))), -LIMIT, LIMIT)
    return RecordWindows(layout, difference * MS, grace * MS)


def table(records: Sequence[Record]) -> pa.Table:
    times = pa.array([None if one.ms is None else one.ms * MS for one in records], pa.int64()).cast(SCHEMA.field("ts").type)
    return pa.table(
        [pa.array([one.k for one in records], pa.string()), times, pa.array([one.n for one in records], pa.int64())], schema=SCHEMA
    )


def windows_of(records: Sequence[Record], difference: int) -> Counter[tuple[str | None, int, int, int, int]]:
    """Every window that Kafka's definition has, with what is in it."""
    found = set()
    for one in records:
        assert one.ms is not None
        found.add((one.k, one.ms - difference, one.ms))
        right = (one.ms + 1, one.ms + 1 + difference)
        if any(other.k == one.k and right[0] <= (other.ms or 0) <= right[1] for other in records):
            found.add((one.k, *right))
    out: Counter[tuple[str | None, int, int, int, int]] = Counter()
    for key, start, end in found:
        inside = [one for one in records if one.k == key and one.ms is not None and start <= one.ms <= end]
        out[key, start, end, len(inside), builtins_sum(one.n for one in inside)] += 1
    return out


def builtins_sum(values: object) -> int:
    total = 0
    for one in values:  # type: ignore[attr-defined]
        total += one
    return total


records = st.builds(Record, st.sampled_from(["a", "b", None]), st.one_of(st.none(), st.integers(0, 40)), st.integers(-3, 3))
batches = st.lists(st.tuples(st.lists(records, max_size=6), st.integers(0, 15)), min_size=1, max_size=6)


@settings(max_examples=150, deadline=timedelta(seconds=5))
@given(batches, st.integers(0, 12), st.integers(0, 8))
def test_each_window_comes_out_once_with_all_that_is_not_late(steps: list[tuple[list[Record], int]], difference: int, grace: int) -> None:
    one = kernel(difference, grace)
    state, watermark, seen = empty_state(one), NEVER_US, -1
    accepted: list[Record] = []
    expected_late: list[Record] = []
    out: Counter[tuple[str | None, int, int, int, int]] = Counter()
    late = invalid = 0
    for fresh, forward in steps:
        for record in fresh:
            if record.ms is not None:
                (expected_late if record.ms * MS < watermark - grace * MS and watermark != NEVER_US else accepted).append(record)
        done = one.step(state, table(fresh), Moment(watermark, 0))
        if done.wake_us is not None:
            quiet = one.step(done.state, table([]), Moment(max(watermark, done.wake_us - 1), 0))
            assert not quiet.out.get(WINDOW, table([])).num_rows or watermark > done.wake_us - 1, "nothing is due before it wakes"
        state = done.state
        late += done.out.get(LATE, table([])).num_rows
        invalid += done.out.get(INVALID, table([])).num_rows
        out += lines(done.out.get(WINDOW))
        seen = max(seen, forward, *(record.ms for record in fresh if record.ms is not None), seen)
        watermark = max(watermark, seen * MS)
    last = one.step(state, table([]), Moment(FOREVER_US, 0))
    out += lines(last.out.get(WINDOW))
    assert late == len(expected_late)
    assert invalid == len([record for fresh, _ in steps for record in fresh if record.ms is None])
    assert out == windows_of(accepted, difference)
    assert not any(part.num_rows for part in last.state.values())


def test_a_window_is_due_when_all_its_millisecond_is_late() -> None:
    """Records are put into milliseconds; neither watermark nor grace needs to be whole ones."""
    one = RecordWindows(kernel(1, 0).layout, MS, 500)
    state = empty_state(one)
    for us, watermark in ((19_000, NEVER_US), (19_700, 20_000), (19_600, 20_100), (19_999, 20_499)):
        rows = table([Record("a", 0, 1)])
        done = one.step(state, rows.set_column(1, SCHEMA.field("ts"), pa.array([us]).cast(SCHEMA.field("ts").type)), Moment(watermark, 0))
        assert not done.out
        state = done.state
    assert done.wake_us == 20_500
    done = one.step(state, table([]), Moment(20_500, 0))
    assert lines(done.out[WINDOW]) == {("a", 18, 19, 4, 4): 1}
    assert done.wake_us is not None
    assert not one.step(done.state, table([]), Moment(done.wake_us, 0)).state["kept"].num_rows, "and what nobody needs is given up"


def lines(found: pa.Table | None) -> Counter[tuple[str | None, int, int, int, int]]:
    if found is None:
        return Counter()
    out: Counter[tuple[str | None, int, int, int, int]] = Counter()
    starts, ends = (
        pa.chunked_array([one.field(name).view(pa.int64()) for one in found.column(WINDOW).chunks]) for name in ("start", "end")
    )
    columns = [found.column("k"), starts, ends, found.column("rows"), found.column("total")]
    for key, start, end, rows, total in zip(*(one.to_pylist() for one in columns), strict=True):
        assert start % MS == end % MS == 0
        out[key, start // MS, end // MS, rows, total] += 1
    return out
