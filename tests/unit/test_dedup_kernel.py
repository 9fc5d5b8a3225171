"""Deduplication against an obvious slow model: every row under one tag, whatever the batches are."""

from __future__ import annotations

import math
import pickle
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from spark_ext.dedup import Dedup
from spark_ext.dedup.dedup_kernel import _greedy
from spark_ext.errors import SchemaError, SettingsError
from spark_ext.state.kernel import FOREVER_US, NEVER_US, Moment, Step, empty_state

STAMP = pa.timestamp("us", "UTC")
SCHEMA = pa.schema([("word", pa.string()), ("number", pa.float64()), ("at", STAMP), ("id", pa.int64())])
EARLIEST, LATEST = -40, 190

Row = tuple[str | None, float, int | None, int]  # word, number, time, id
Keep = Literal["first", "arrived"]
KEEPS: tuple[Keep, ...] = ("first", "arrived")

WORDS, NUMBERS = ("a", "b", None), (0.0, -0.0, math.nan)
TIMES = (None, *range(-50, 201))
BATCHES = 4


def row(number: int) -> tuple[int, Row]:
    """Return the batch and the row that a number stands for: drawing one number per row is what makes 2,000 examples cheap."""
    number, time = divmod(number, len(TIMES))
    number, word = divmod(number, len(WORDS))
    batch, value = divmod(number, len(NUMBERS))
    return batch, (WORDS[word], NUMBERS[value], TIMES[time], 0)


def batches(found: list[int]) -> list[list[Row]]:
    stream: list[list[Row]] = [[] for _ in range(BATCHES)]
    for batch, one in map(row, found):
        stream[batch].append(one)
    return stream


streams = st.lists(st.integers(0, BATCHES * len(NUMBERS) * len(WORDS) * len(TIMES) - 1), max_size=24).map(batches)
rows = streams.map(lambda stream: [one for batch in stream for one in batch])
words = st.sampled_from(WORDS)


def dedup(horizon: int, keep: Keep, order: tuple[str, ...] = ("id",)) -> Dedup:
    return Dedup(SCHEMA, ("word", "number"), "at", timedelta(microseconds=horizon), keep, order, EARLIEST, LATEST)


def table(batch: Sequence[Row]) -> pa.Table:
    columns: Sequence[Sequence[Any]] = list(zip(*batch, strict=True)) or [[]] * 4
    arrays = [pa.array(columns[at], kind).cast(field.type) for at, (field, kind) in enumerate(zip(SCHEMA, KINDS, strict=True))]
    return pa.Table.from_arrays(arrays, schema=SCHEMA)


KINDS = (pa.string(), pa.float64(), pa.int64(), pa.int64())


def numbered(stream: list[list[Row]]) -> list[list[Row]]:
    """Every row with an id of its own, ids in no order of time or arrival."""
    ids = list(range(sum(map(len, stream))))
    random.Random(len(ids)).shuffle(ids)  # noqa: S311 (a test)
    take = iter(ids)
    return [[(word, number, time, next(take)) for word, number, time, _ in batch] for batch in stream]


def watermarks(stream: list[list[Row]], delay: int) -> list[int]:
    """Of each batch, as of its start."""
    marks, mark = [], NEVER_US
    for batch in stream:
        marks.append(mark)
        mark = max([mark, *(time_of(row) - delay for row in batch if sound(row[2]))])
    return marks


def sound(time: int | None) -> bool:
    return time is not None and EARLIEST <= time <= LATEST


def run(kernel: Dedup, stream: Iterable[Sequence[Row]], marks: Iterable[int]) -> list[Step]:
    state: Any = empty_state(kernel)
    steps = []
    for batch, mark in zip(stream, marks, strict=True):
        steps.append(kernel.step(state, table(batch), Moment(mark, 0)))
        state = steps[-1].state
    return steps


def tagged(steps: Sequence[Step]) -> list[tuple[int, str]]:
    return sorted((found, tag) for step in steps for tag, out in step.out.items() for found in out["id"].to_pylist())


def slow_model(stream: list[list[Row]], marks: list[int], horizon: int, keep: Keep) -> list[list[tuple[int, str]]]:
    """One row at a time; nothing is forgotten but what the rule says. By step, the end of time last."""
    kept: dict[Any, list[int]] = defaultdict(list)
    pending: list[Row] = []
    said: list[list[tuple[int, str]]] = []
    for batch, mark in zip([*stream, []], [*marks, FOREVER_US], strict=True):
        out = [(row[3], "invalid") for row in batch if not sound(row[2])]
        good = [row for row in batch if sound(row[2])]
        on_time = [row for row in good if time_of(row) >= mark]
        if keep == "first":
            judged = [row for row in pending if time_of(row) < mark]
            pending = [row for row in pending if time_of(row) >= mark] + on_time
        else:
            judged = on_time
        for row in sorted(judged, key=lambda one: (time_of(one), one[3])):
            near = any(abs(time_of(row) - time) <= horizon for time in kept[key_of(row)])
            out.append((row[3], "duplicate" if near else "unique"))
            if not near:
                kept[key_of(row)].append(time_of(row))
        for row in good:
            if time_of(row) < mark:
                known = [time for time in kept[key_of(row)] if time + horizon >= mark]
                out.append((row[3], "duplicate" if any(abs(time_of(row) - time) <= horizon for time in known) else "late"))
        said.append(out)
    return said


def key_of(row: Row) -> Any:
    return row[0], "nan" if math.isnan(row[1]) else row[1] + 0.0


def time_of(row: Row) -> int:
    assert row[2] is not None
    return row[2]


@pytest.mark.parametrize("keep", KEEPS)
@settings(max_examples=2000, deadline=None)
@given(stream=streams, horizon=st.integers(0, 60), delay=st.integers(0, 80))
def test_every_row_has_the_tag_that_the_model_gives_it(keep: Keep, stream: list[list[Row]], horizon: int, delay: int) -> None:
    stream = numbered(stream)
    marks = watermarks(stream, delay)
    kernel = dedup(horizon, keep)
    steps = run(kernel, [*stream, []], [*marks, FOREVER_US])
    expected = slow_model(stream, marks, horizon, keep)
    assert tagged(steps) == sorted(one for out in expected for one in out), "a list: a row that comes out twice must show"
    for step, out in zip(steps, expected, strict=True):
        assert [one for one in tagged([step]) if one[1] != "duplicate"] == sorted(one for one in out if one[1] != "duplicate")
    if keep == "arrived":
        assert [tagged([step]) for step in steps] == [sorted(out) for out in expected]
    assert not any(found.num_rows for found in steps[-1].state.values()), "nothing is kept for ever"
    assert steps[-1].wake_us is None


@settings(max_examples=2000, deadline=None)
@given(batch=rows, horizon=st.integers(0, 60), seed=st.integers(0, 2**32), cuts=st.integers(1, 6), ordered=st.booleans())
def test_first_depends_on_the_rows_alone(batch: list[Row], horizon: int, seed: int, cuts: int, ordered: bool) -> None:
    whole = [row for row in numbered([batch])[0] if sound(row[2])]
    kernel = dedup(horizon, "first", ("id",) if ordered else ())
    bounded = run(kernel, [whole, []], [NEVER_US, FOREVER_US])
    stream, marks = cut(whole, seed, cuts)
    streamed = run(kernel, [*stream, []], [*marks, FOREVER_US])
    if ordered:
        assert tagged(streamed) == tagged(bounded)
    else:  # which of two rows with one time is kept is open, how many and when is not
        times = {row[3]: (key_of(row), row[2]) for row in whole}
        both = [Counter((times[found], tag) for found, tag in tagged(steps)) for steps in (streamed, bounded)]
        assert both[0] == both[1]


@settings(max_examples=500, deadline=None)
@given(
    bursts=st.lists(st.tuples(words, st.integers(0, 3), st.lists(st.integers(0, 9), min_size=1, max_size=5)), max_size=6),
    seed=st.integers(0, 2**32),
    cuts=st.integers(1, 6),
)
def test_both_keep_one_per_burst(bursts: list[tuple[str | None, int, list[int]]], seed: int, cuts: int) -> None:
    """Bursts of a key are at most 9 long and at least 11 apart, the horizon is 9 and 10."""
    whole = numbered([[(word, 0.0, slot * 20 + time, 0) for word, slot, times in bursts for time in times]])[0]
    expected = Counter((word, slot) for word, slot in {(word, slot) for word, slot, _ in bursts})
    stream, marks = cut(whole, seed, cuts)
    for keep in KEEPS:
        for horizon in (9, 10):
            steps = run(dedup(horizon, keep), [*stream, []], [*marks, FOREVER_US])
            place = {row[3]: (row[0], time_of(row) // 20) for row in whole}
            assert Counter(place[found] for found, tag in tagged(steps) if tag == "unique") == expected


def cut(whole: list[Row], seed: int, cuts: int) -> tuple[list[list[Row]], list[int]]:
    """Rows in any order in any batches, and the highest watermarks that make none of them late."""
    chance = random.Random(seed)  # noqa: S311 (a test)
    shuffled = chance.sample(whole, len(whole))
    if chance.random() < 0.5:  # nearly in order, so that the watermark moves
        shuffled.sort(key=lambda row: time_of(row) + chance.randrange(20))
    at = sorted(chance.randrange(len(whole) + 1) for _ in range(cuts - 1))
    stream = [shuffled[low:high] for low, high in zip([0, *at], [*at, len(whole)], strict=True)]
    marks, mark = [], FOREVER_US
    for batch in reversed(stream):
        mark = min([mark, *map(time_of, batch)])
        marks.append(mark)
    return stream, marks[::-1]


@settings(max_examples=300, deadline=None)
@example(keyed=[(0, 0), (32, 5), (0, 10), (32, 2**58 - 1)], horizon=2**58)  # 32 times the span is 2**64
@given(
    keyed=st.lists(st.tuples(st.integers(0, 2), st.integers(-(2**57), 2**57) | st.integers(0, 20)), max_size=30),
    horizon=st.integers(0, 12) | st.integers(0, 2**58),
)
def test_keeping_greedily_at_any_distance(keyed: list[tuple[int, int]], horizon: int) -> None:
    key = np.array([one for one, _ in keyed], np.int64)
    times = np.array([one for _, one in keyed], np.int64)
    last: dict[int, int] = {}
    expected = set()
    for at in sorted(range(len(keyed)), key=lambda at: keyed[at]):
        one, time = keyed[at]
        if one not in last or time - last[one] > horizon:
            last[one] = time
            expected.add(at)
    assert set(np.flatnonzero(_greedy(key, times, horizon)).tolist()) == expected


def test_a_long_chain_of_kept_rows() -> None:
    times = np.arange(5000) * 3
    assert np.flatnonzero(_greedy(np.zeros(5000, np.int64), times, 5)).tolist() == list(range(0, 5000, 2))


@pytest.mark.parametrize("keep", KEEPS)
def test_the_bucket_asks_to_be_woken_when_there_is_something_to_do(keep: Keep) -> None:
    kernel = dedup(10, keep)
    step = run(kernel, [[("a", 0.0, 30, 1), ("a", 0.0, 35, 2), ("b", 0.0, 40, 3)]], [NEVER_US])[0]
    if keep == "first":
        assert step.wake_us == 31
        assert tagged([kernel.step(step.state, table([]), Moment(30, 0))]) == []
        step = kernel.step(step.state, table([]), Moment(31, 0))
        assert tagged([step]) == [(1, "unique"), (2, "duplicate")]
        assert step.wake_us == 41
        step = kernel.step(step.state, table([]), Moment(41, 0))
        assert tagged([step]) == [(3, "unique")]
    assert step.wake_us == 51
    assert kernel.step(step.state, table([]), Moment(50, 0)).state["kept"]["word"].to_pylist() == ["b"], "a can have no more duplicates"
    assert kernel.step(step.state, table([]), Moment(51, 0)).state["kept"].num_rows == 0


def test_a_repetition_of_what_is_out_does_not_wait() -> None:
    kernel = dedup(10, "first")
    steps = run(kernel, [[("a", 0.0, 30, 1)], [], [("a", 0.0, 40, 2), ("a", 0.0, 41, 3)]], [NEVER_US, 31, 31])
    assert tagged([steps[2]]) == [(2, "duplicate")]
    assert steps[2].state["pending"]["id"].to_pylist() == [3]


def test_a_late_row_says_how_late_it_is() -> None:
    schema = SCHEMA.remove(1)
    kernel = Dedup(schema, ("word",), "at", timedelta(seconds=1), "arrived")
    late = pa.table({"word": ["a"], "at": pa.array([1_000], pa.int64()).cast(STAMP), "id": [1]}, schema=schema)
    step = kernel.step(empty_state(kernel), late, Moment(6_000_000, 0))
    assert step.out["late"].to_pylist()[0]["lateness_ms"] == 5_999


@pytest.mark.parametrize("keep", KEEPS)
def test_tables_are_what_the_kernel_says(keep: Keep) -> None:
    kernel = dedup(10, keep)
    assert pickle.loads(pickle.dumps(kernel)) == kernel  # noqa: S301 (our own)
    for step in run(kernel, [[], [("a", 0.0, 30, 1), (None, 0.0, None, 2)], [("a", 0.0, 3, 3)]], [NEVER_US, 0, 20]):
        assert {name: found.schema for name, found in step.out.items()}.items() <= dict(kernel.out_schema).items()
        assert {name: found.schema for name, found in step.state.items()} == dict(kernel.state_schema)
        assert all(column.num_chunks <= 1 for found in step.state.values() for column in found.columns)


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"keys": ()}, SettingsError, "one key or more"),
        ({"horizon": timedelta(microseconds=-1)}, SettingsError, "horizon >= 0"),
        ({"keep": "last"}, SettingsError, "keep 'first' or 'arrived', got .*'last'"),
        ({"keys": ("gone",)}, SchemaError, "column 'gone': expected one of .* correct the name"),
        ({"keys": ("at",)}, SchemaError, "not among the keys, got a key"),
        ({"time": "id"}, SchemaError, "column 'id': expected event time as timestamp.*, got int64"),
        ({"in_schema": SCHEMA.append(pa.field("lateness_ms", pa.int64()))}, SchemaError, "rename the column"),
        ({"in_schema": SCHEMA.set(0, pa.field("word", pa.list_(pa.int8())))}, SchemaError, "arrays and maps are not compared"),
        ({"in_schema": SCHEMA.set(3, pa.field("id", pa.list_(pa.int8())))}, SchemaError, "a plain value to order by"),
    ],
)
def test_what_cannot_be_is_refused(wrong: dict[str, Any], error: type[Exception], message: str) -> None:
    right = {"in_schema": SCHEMA, "keys": ("word",), "time": "at", "horizon": timedelta(1), "keep": "first", "order": ("id",)}
    with pytest.raises(error, match=message):
        Dedup(**{**right, **wrong})
