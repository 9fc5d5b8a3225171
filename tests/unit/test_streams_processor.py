"""Processors without Spark: stores against a dictionary, punctuation by both clocks, what is forwarded and rejected."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spark_ext.errors import QueryError, StateError
from spark_ext.state.kernel import FOREVER_US, NEVER_US, Moment, empty_state
from spark_ext.state.segments import Segments
from spark_ext.streams import Processor, ProcessorContext, PunctuationType
from spark_ext.streams.processor import ProcessorKernel
from spark_ext.streams.reduced import Reduced
from spark_ext.streams.stores import StateStore, StoreLayout

STAMP = pa.timestamp("us", "UTC")
IN = pa.schema([("key", pa.string()), ("timestamp", STAMP), ("n", pa.int64())])
STORE = StoreLayout("totals", pa.schema([("key", pa.string()), ("total", pa.int64())]), ("key",))
SECOND = 1_000_000


def records(*rows: tuple[str | None, int | None, int]) -> pa.Table:
    times = pa.array([None if s is None else s * SECOND for _, s, _ in rows], pa.int64()).cast(STAMP)
    return pa.table([pa.array([k for k, _, _ in rows], pa.string()), times, pa.array([n for _, _, n in rows], pa.int64())], schema=IN)


keys = st.one_of(st.none(), st.sampled_from(["a", "b", "é", ""]))
rows_of_store = st.lists(st.tuples(keys, st.integers(-5, 5)), max_size=6)
changes = st.lists(st.tuples(st.sampled_from(["put", "delete"]), rows_of_store), max_size=8)


@settings(max_examples=100, deadline=timedelta(seconds=5))
@given(changes, rows_of_store)
def test_a_store_is_a_dictionary(steps: list[tuple[str, list[tuple[str | None, int]]]], asked: list[tuple[str | None, int]]) -> None:
    store, model = StateStore(STORE, STORE.schema.empty_table()), dict[str | None, int]()

    def table(rows: list[tuple[str | None, int]]) -> pa.Table:
        return pa.table({"total": pa.array([n for _, n in rows], pa.int64()), "key": pa.array([k for k, _ in rows], pa.string())})

    for kind, rows in steps:
        if kind == "put":
            store.put(table(rows))
            model.update(rows)
        else:
            store.delete(table(rows))
            for key, _ in rows:
                model.pop(key, None)
        assert sorted(map(repr, (tuple(row.values()) for row in store.all().to_pylist()))) == sorted(map(repr, model.items()))
    found = store.get(table(asked)).to_pylist()
    assert found == [{"key": key, "total": model.get(key)} for key, _ in asked]
    assert store.contains(table(asked)).tolist() == [key in model for key, _ in asked]


def test_a_store_wants_its_own_columns() -> None:
    store = StateStore(STORE, STORE.schema.empty_table())
    with pytest.raises(StateError, match="store 'totals': expected columns"):
        store.put(pa.table({"key": ["a"]}))
    with pytest.raises(StateError, match="key column 'key'"):
        store.get(pa.table({"total": [1]}))


class Totals(Processor):
    """Adds up by key, tells all totals each ten seconds, sets records without time aside."""

    def init(self, context: ProcessorContext) -> None:
        super().init(context)
        self.store = context.getStateStore("totals")
        context.schedule(timedelta(seconds=10), PunctuationType.STREAM_TIME, self.tell)
        context.schedule(timedelta(seconds=60), PunctuationType.WALL_CLOCK_TIME, self.clear)

    def process(self, records: pa.Table) -> None:
        timeless = records.filter(pc.is_null(records.column("timestamp")))
        if timeless.num_rows:
            self.context.reject(timeless, reason="no time")
        good = records.filter(pc.is_valid(records.column("timestamp")))
        sums = good.group_by("key").aggregate([("n", "sum")]).rename_columns({"n_sum": "n"})
        before = self.store.get(sums).column("total").fill_null(0)
        self.store.put(pa.table({"key": sums.column("key"), "total": pc.add(before, sums.column("n"))}))

    def tell(self, now: datetime) -> None:
        self.context.forward(self.store.all(), to="totals")
        self.context.forward(pa.table({"key": ["now"], "value": [now.isoformat()]}), to="times")

    def clear(self, now: datetime) -> None:
        self.store.replace(self.store.all().slice(0, 0))


OUTPUTS = {"totals": STORE.schema, "times": pa.schema([("key", pa.string()), ("value", pa.string())])}


def kernel(supplier: Callable[[], Processor] = Totals) -> ProcessorKernel:
    return ProcessorKernel(supplier, IN, OUTPUTS, (STORE,))


class Bucket:
    """A bucket that is called as the runtime does."""

    def __init__(self) -> None:
        self.kernel = kernel()
        self.state: Any = empty_state(self.kernel)
        self.wake: int | None = None

    def __call__(self, rows: pa.Table, *, watermark: float | None, wall: float = 0) -> tuple[list[Any], list[Any], list[Any]]:
        moment = Moment(NEVER_US if watermark is None else int(watermark * SECOND), int(wall * SECOND))
        done = self.kernel.step(self.state, rows, moment)
        self.state, self.wake = done.state, done.wake_us
        out = {tag: table.to_pylist() for tag, table in done.out.items()}
        totals = sorted((row["o0_key"], row["o0_total"], row["o0_timestamp"].timestamp()) for row in out["out0"])
        return totals, [row["o1_value"][14:19] for row in out["out1"]], [(row["in_key"], row["reason"]) for row in out["rejected"]]


def test_stream_time_calls_once_a_multiple_has_passed_with_or_without_records() -> None:
    bucket = Bucket()
    assert bucket(records(("a", 3, 1), ("b", 4, 2), ("a", None, 9)), watermark=None) == ([], [], [("a", "no time")])
    assert bucket.wake == 10 * SECOND
    assert bucket(records(("a", 5, 5)), watermark=9.5) == ([], [], [])
    totals, times, _ = bucket(records(), watermark=12)
    assert (totals, times) == ([("a", 6, 12.0), ("b", 2, 12.0)], ["00:12"])
    assert bucket.wake == 20 * SECOND
    assert bucket(records(("a", 15, 1)), watermark=15)[1] == []
    assert bucket(records(), watermark=47)[1] == ["00:47"], "missed multiples are one call"
    assert bucket.wake == 50 * SECOND


def test_wall_clock_goes_by_when_the_batch_was_planned() -> None:
    bucket = Bucket()
    bucket(records(("a", 3, 1)), watermark=None, wall=30)
    assert bucket(records(("a", 3, 1)), watermark=11, wall=59)[0] == [("a", 2, 11.0)]
    bucket(records(("a", 4, 1)), watermark=11, wall=61)
    assert bucket(records(("a", 5, 4)), watermark=22, wall=70)[0] == [("a", 4, 22.0)], "it was cleared"


def test_a_bounded_run_ends_with_a_last_call() -> None:
    bucket = Bucket()
    bucket(records(("a", 3, 1)), watermark=None)
    totals, times, _ = bucket(records(), watermark=FOREVER_US / SECOND)
    assert len(totals) == len(times) == 1
    assert bucket.wake is None


class Wrong(Processor):
    """Does what cannot be done."""

    def __init__(self, act: Callable[[ProcessorContext], object]) -> None:
        self.act = act

    def process(self, records: pa.Table) -> None:
        self.act(self.context)


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda context: context.getStateStore("other"), "one of the stores"),
        (lambda context: context.forward(pa.table({"key": ["a"]}), to="nowhere"), "an output of"),
        (lambda context: context.forward(pa.table({"key": ["a"]}), to="totals"), "none of \\['total'\\]"),
        (lambda context: context.schedule(timedelta(0), PunctuationType.STREAM_TIME, print), "an interval above zero"),
    ],
)
def test_what_a_processor_cannot_do_is_an_error(act: Callable[[ProcessorContext], object], message: str) -> None:
    one = kernel(lambda: Wrong(act))
    with pytest.raises(QueryError, match=message):
        one.step(empty_state(one), records(("a", 1, 1)), Moment(NEVER_US, 0))


@settings(max_examples=100, deadline=timedelta(seconds=5))
@given(st.lists(st.lists(st.one_of(st.none(), st.text("xyz", min_size=1, max_size=2)), min_size=1, max_size=9), min_size=1, max_size=5))
def test_a_reducer_puts_the_values_of_each_group_together_in_order(groups: list[list[str | None]]) -> None:
    calls: list[int] = []

    def put_together(left: pa.Array, right: pa.Array) -> pa.Array:
        calls.append(len(left))
        return pc.binary_join_element_wise(left, right, "")

    values = [value for group in groups for value in group]
    starts = np.cumsum([0, *map(len, groups)])[:-1].astype(np.int64)
    times = pa.array(range(len(values)), pa.int64())
    found = Reduced(put_together, "joined").of_rows({"value": pa.array(values, pa.string())}, times, Segments(starts, len(values)))
    expected = [[value for value in group if value is not None] for group in groups]
    assert found[0].to_pylist() == ["".join(group) if group else None for group in expected]
    most = max(map(len, expected))
    assert len(calls) == (max(most, 1) - 1).bit_length(), "one call per round, whatever the number of groups"


def test_a_reducer_that_makes_something_else_is_refused() -> None:
    reduced = Reduced(lambda left, right: left.slice(0, 0), "bad")
    with pytest.raises(QueryError, match="values by 'bad': expected an Arrow array of 1 int64"):
        reduced.merge([pa.array([1, 2])], Segments(np.array([0]), 2))
