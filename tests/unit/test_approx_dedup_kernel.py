"""Approximate deduplication against a slow exact model: no duplicate passes, mistakes stay below what is stated, load shows."""

from __future__ import annotations

import logging
import math
import pickle
import random
from collections import defaultdict
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sketches import ClassicBloomFilter, hashes
from spark_ext.dedup import ApproxDedup
from spark_ext.dedup.approx_kernel import KEY_HASH
from spark_ext.errors import SchemaError, SettingsError
from spark_ext.state.codec import BucketState, Identity, decode, encode
from spark_ext.state.kernel import FOREVER_US, NEVER_US, Moment, Step, empty_state

STAMP = pa.timestamp("us", "UTC")
SCHEMA = pa.schema([("at", STAMP), ("id", pa.int64()), (KEY_HASH, pa.int64())])
EARLIEST, LATEST = -40, 190
BATCHES = 4

Row = tuple[int, int | None, int]  # key, time, id

streams = st.lists(
    st.tuples(st.integers(0, BATCHES - 1), st.integers(0, 2), st.none() | st.integers(-50, 200)), max_size=24
).map(lambda rows: [[(key, at, 0) for batch, key, at in rows if batch == number] for number in range(BATCHES)])  # fmt: skip


def dedup(horizon: int, *, rate: float = 1e-3, expected: int = 1000, generations: int = 4, buckets: int = 1, **more: Any) -> ApproxDedup:
    bounds = {"earliest_us": EARLIEST, "latest_us": LATEST}
    keys = (("key", "bigint"),)
    return ApproxDedup(
        SCHEMA, keys, "at", timedelta(microseconds=horizon), rate, expected, buckets, generations, ("id",), **{**bounds, **more}
    )


def table(batch: Sequence[Row]) -> pa.Table:
    keys = hashes(np.array([row[0] for row in batch], np.int64)).view(np.int64)
    at = pa.array([row[1] for row in batch], pa.int64()).cast(STAMP)
    return pa.table([at, pa.array([row[2] for row in batch], pa.int64()), keys], schema=SCHEMA)


def columns(times: NDArray[np.int64], keys: NDArray[np.int64]) -> pa.Table:
    return pa.table([pa.array(times).cast(STAMP), np.arange(times.size), keys], schema=SCHEMA)


def numbered(stream: list[list[Row]]) -> list[list[Row]]:
    ids = list(range(sum(map(len, stream))))
    random.Random(len(ids)).shuffle(ids)  # noqa: S311 (a test)
    take = iter(ids)
    return [[(key, at, next(take)) for key, at, _ in batch] for batch in stream]


def watermarks(stream: list[list[Row]], delay: int) -> list[int]:
    marks, mark = [], NEVER_US
    for batch in stream:
        marks.append(mark)
        mark = max([mark, *(at - delay for _, at, _ in batch if sound(at) and at is not None)])
    return marks


def sound(at: int | None) -> bool:
    return at is not None and EARLIEST <= at <= LATEST


def run(kernel: ApproxDedup, stream: Sequence[Sequence[Row]], marks: Sequence[int]) -> list[Step]:
    """Every state goes through its bytes."""
    state: Any = empty_state(kernel)
    steps = []
    for batch, mark in zip(stream, marks, strict=True):
        steps.append(kernel.step(state, table(batch), Moment(mark, 0)))
        stored = BucketState(Identity(kernel.operator, kernel.settings, 1), 0, NEVER_US, steps[-1].state)
        state = decode(encode(stored), name="a bucket").tables
    return steps


def tags(step: Step) -> list[tuple[int, str]]:
    return sorted((found, tag) for tag, out in step.out.items() for found in out["id"].to_pylist())


def slow_model(stream: list[list[Row]], marks: list[int], horizon: int, generations: int) -> list[list[tuple[int, str]]]:
    """One row at a time, with sets of keys for filters."""
    size = -(-horizon // generations)
    kept: dict[int, set[int]] = defaultdict(set)
    said = []
    for batch, mark in zip(stream, marks, strict=True):
        out = [(row[2], "invalid") for row in batch if not sound(row[1])]
        kept = defaultdict(set, {number: keys for number, keys in kept.items() if (number + 1) * size - 1 + horizon >= mark})
        good = sorted((at, found, key) for key, at, found in batch if at is not None and sound(at))
        for at, found, key in sorted(good, key=lambda one: one[0] < mark):
            near = any(key in kept[number] for number in range(at // size - generations, at // size + generations + 1))
            if at >= mark and not near:
                kept[at // size].add(key)
            out.append((found, "duplicate" if near else "unique" if at >= mark else "late"))
        said.append(sorted(out))
    return said


@settings(max_examples=500, deadline=None)
@given(stream=streams, horizon=st.integers(8, 60), delay=st.integers(0, 80), generations=st.integers(1, 8))
def test_with_room_every_row_has_the_tag_of_the_model(stream: list[list[Row]], horizon: int, delay: int, generations: int) -> None:
    stream = numbered(stream)
    marks = watermarks(stream, delay)
    kernel = dedup(horizon, generations=generations)
    steps = run(kernel, [*stream, []], [*marks, FOREVER_US])
    assert [tags(step) for step in steps[:-1]] == slow_model(stream, marks, horizon, generations)
    assert steps[-1].state["slices"].num_rows == 0
    assert steps[-1].wake_us is None


@settings(max_examples=500, deadline=None)
@given(stream=streams, horizon=st.integers(2, 60), delay=st.integers(0, 80), generations=st.integers(1, 2), seed=st.integers(0, 99))
def test_a_filter_that_mistakes_every_other_key_passes_no_duplicate(
    stream: list[list[Row]], horizon: int, delay: int, generations: int, seed: int
) -> None:
    stream = [[(key + 10 * seed, at, found) for key, at, found in batch] for batch in numbered(stream)]
    marks = watermarks(stream, delay)
    steps = run(dedup(horizon, rate=0.9, expected=1, generations=generations), stream, marks)
    unique: dict[int, list[int]] = defaultdict(list)
    for batch, mark, step in zip(stream, marks, steps, strict=True):
        found = dict(tags(step))
        assert sorted(found) == sorted(row[2] for row in batch), "each row once"
        for key, at, number in batch:
            if found[number] == "unique":
                assert at is not None
                assert at >= mark
                unique[key].append(at)
    assert all(b - a > horizon for times in unique.values() for a, b in zip(sorted(times), sorted(times)[1:], strict=False))


@settings(max_examples=200, deadline=None)
@given(stream=streams, horizon=st.integers(8, 60), seed=st.integers(0, 99))
def test_the_order_of_rows_does_not_matter(stream: list[list[Row]], horizon: int, seed: int) -> None:
    stream = numbered(stream)
    marks = watermarks(stream, 20)
    kernel = dedup(horizon, rate=0.5, expected=2)
    chance = random.Random(seed)  # noqa: S311 (a test)
    there, here = run(kernel, stream, marks), run(kernel, [chance.sample(batch, len(batch)) for batch in stream], marks)
    assert [tags(step) for step in there] == [tags(step) for step in here]
    assert [step.state for step in there] == [step.state for step in here]


def mistakes(kernel: ApproxDedup, seed: int, load: float) -> tuple[int, int, Step]:
    """Keys that are all different: how many rows were there, and how many were taken for duplicates when nine slices were full."""
    dice = np.random.default_rng(seed)
    per_slice = int(kernel.expected_keys / kernel.generations * load)
    around = np.repeat(np.delete(np.arange(2 * kernel.generations + 1), kernel.generations), per_slice)
    size = kernel.horizon // timedelta(microseconds=kernel.generations)
    some = dice.integers(-(2**63), 2**63 - 1, around.size)
    step = kernel.step(empty_state(kernel), columns(around * size + dice.integers(0, size, around.size), some), Moment(NEVER_US, 0))
    asked = np.full(per_slice, kernel.generations * size)
    step = kernel.step(step.state, columns(asked, dice.integers(-(2**63), 2**63 - 1, per_slice)), Moment(NEVER_US, 0))
    return per_slice, step.out["duplicate"].num_rows, step


def most(rows: int, rate: float) -> float:
    """A binomial count is above this once in a million tests (Bernstein's bound)."""
    t = math.log(1e6)
    return rows * rate + math.sqrt(2 * rows * rate * (1 - rate) * t) + t / 3


@pytest.mark.parametrize(("rate", "expected", "load"), [(0.1, 400, 1), (0.01, 20_000, 1), (1e-3, 200_000, 1), (0.01, 4000, 10)])
def test_new_keys_are_mistaken_as_seldom_as_stated_in_the_worst_place_under_any_load(rate: float, expected: int, load: float) -> None:
    kernel = dedup(10**6, rate=rate, expected=expected, earliest_us=-(10**9), latest_us=10**9)
    found = [mistakes(kernel, seed, load)[:2] for seed in range(20)]
    rows, wrong = (sum(column) for column in zip(*found, strict=True))
    assert wrong <= most(rows, rate)
    assert wrong >= rows * rate / 20, "a filter that is never wrong is too large"


def test_load_beyond_what_was_expected_shows_in_state_and_log(caplog: pytest.LogCaptureFixture) -> None:
    kernel = dedup(10**6, rate=0.01, expected=4000, earliest_us=-(10**9), latest_us=10**9)
    _, _, step = mistakes(kernel, 1, 1.0)
    assert set(step.state["slices"]["layer"].to_pylist()) == {0}
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        _, _, step = mistakes(kernel, 1, 10.0)
    state = step.state["slices"].to_pandas()
    assert state["layer"].max() == 6, "11 times the room for 10 times the keys"
    assert (state["keys"] <= state["capacity"]).all()
    assert state.groupby("first_us")["rate"].sum().max() <= 0.01 / 9 * 1.3, "a slice: within chance of its part"
    assert "expected_keys=4000 makes room for, or more; the stated rate holds and the state grows: give expected_keys=45563," in caplog.text
    assert len(caplog.records) == 2, "one for each step that was short of room"
    for row in state.itertuples():
        stored = ClassicBloomFilter.from_bytes(row.filter)
        assert stored.false_positive_rate() == row.rate
        assert stored.lower_bound(0.9999) <= row.keys <= stored.upper_bound(0.9999)


def test_a_key_is_new_again_behind_the_horizon_and_a_slice() -> None:
    kernel = dedup(40)
    stream: list[list[Row]] = [[(1, 0, 0), (1, 40, 1)], [(1, 49, 2), (1, 50, 3)], [(1, 90, 4)]]
    assert [tags(step) for step in run(kernel, stream, [NEVER_US] * 3)] == [
        [(0, "unique"), (1, "duplicate")], [(2, "duplicate"), (3, "unique")], [(4, "duplicate")],
    ]  # fmt: skip


def test_an_event_in_the_far_future_makes_nothing_forgotten() -> None:
    kernel = dedup(40, latest_us=10**15)
    steps = run(kernel, [[(1, 0, 0), (2, 10**15, 1)], [(1, 5, 2), (3, 6, 3)]], [NEVER_US, -10])
    assert tags(steps[1]) == [(2, "duplicate"), (3, "unique")]
    assert steps[1].wake_us == 10**15 + 10 + 40
    assert steps[1].state["slices"]["keys"].to_pylist() == [2, 1]


def test_a_row_behind_the_watermark_is_late_unless_its_key_is_known_and_says_how_late() -> None:
    kernel = dedup(40, latest_us=10**9)
    steps = run(kernel, [[(1, 10_000, 0), (9, 10_100, 1)], [(1, 10_001, 2), (2, 10_005, 3), (3, 10_039, 4), (3, 10_041, 5)]], [0, 10_040])
    assert tags(steps[1]) == [(2, "duplicate"), (3, "late"), (4, "duplicate"), (5, "unique")]
    late = kernel.step(empty_state(kernel), table([(7, 1_000, 0)]), Moment(6_000_000, 0)).out["late"]
    assert late.to_pylist() == [{"at": late["at"][0].as_py(), "id": 0, "lateness_ms": 5_999}]


def test_a_slice_goes_when_the_watermark_is_a_horizon_ahead_of_its_end() -> None:
    kernel = dedup(40)
    (step,) = run(kernel, [[(1, 0, 0), (2, 15, 1)]], [NEVER_US])
    assert step.wake_us == 20 + 40
    assert kernel.step(step.state, table([]), Moment(49, 0)).state["slices"]["keys"].to_pylist() == [1, 1]
    assert kernel.step(step.state, table([]), Moment(50, 0)).state["slices"]["keys"].to_pylist() == [1]
    assert kernel.step(step.state, table([]), Moment(60, 0)).state["slices"].num_rows == 0


def test_a_year_of_slices_in_one_step_is_no_more_work_than_its_rows() -> None:
    kernel = dedup(1_000_000, expected=100_000, earliest_us=0, latest_us=10**15)
    times = np.arange(20_000) * 3_000_000
    step = kernel.step(empty_state(kernel), columns(times, hashes(times).view(np.int64)), Moment(NEVER_US, 0))
    assert step.out["unique"].num_rows == 20_000
    assert step.state["slices"].nbytes < 20_000 * 300


def test_tables_are_what_the_kernel_says_and_a_filter_that_may_grow_is_the_same_operator() -> None:
    kernel = dedup(10)
    assert pickle.loads(pickle.dumps(kernel)) == kernel  # noqa: S301 (our own)
    for step in run(kernel, [[], [(1, 30, 1), (2, None, 2)], [(3, 3, 3)]], [NEVER_US, 0, 20]):
        assert {name: found.schema for name, found in step.out.items()}.items() <= dict(kernel.out_schema).items()
        assert {name: found.schema for name, found in step.state.items()} == dict(kernel.state_schema)
    larger = dedup(10, expected=10**6)
    assert larger.settings == kernel.settings
    begun = run(kernel, [[(1, 30, 1)]], [NEVER_US])[0]
    assert tags(larger.step(begun.state, table([(1, 31, 2), (1, 45, 3)]), Moment(NEVER_US, 0))) == [(2, "duplicate"), (3, "unique")]
    for other in (dedup(20), dedup(10, rate=0.01), dedup(10, generations=2)):
        assert other.settings != kernel.settings


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"keys": ()}, SettingsError, "one key or more"),
        ({"keys": (("at", "timestamp"),)}, SettingsError, "at not among them"),
        ({"horizon": timedelta(microseconds=3)}, SettingsError, "a horizon of a microsecond for each, got generations 4"),
        ({"generations": 65}, SettingsError, "generations from 1 to 64"),
        ({"false_drop_rate": 1e-6}, SettingsError, "false_drop_rate from 5.8e-06 up to, not with, 1, .*use drop_duplicates"),
        ({"false_drop_rate": 1.0}, SettingsError, "not with, 1"),
        ({"expected_keys": 0}, SettingsError, "expected_keys from 1, got"),
        ({"time": "id"}, SchemaError, "column 'id': expected event time as timestamp.*, got int64"),
        ({"order": ("gone",)}, SchemaError, "column 'gone': expected one of .* correct the name"),
        ({"in_schema": SCHEMA.append(pa.field("lateness_ms", pa.int64()))}, SchemaError, "rename the column"),
        ({"in_schema": SCHEMA.remove(2)}, SchemaError, "hash the keys"),
    ],
)
def test_what_cannot_be_is_refused(wrong: dict[str, Any], error: type[Exception], message: str) -> None:
    right = {
        "in_schema": SCHEMA, "keys": (("key", "bigint"),), "time": "at", "horizon": timedelta(1), "false_drop_rate": 0.01,
        "expected_keys": 10, "buckets": 1,
    }  # fmt: skip
    with pytest.raises(error, match=message):
        ApproxDedup(**{**right, **wrong})
