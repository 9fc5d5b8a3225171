"""Between Spark and a kernel: what of Spark's behaviour is relied on, buckets, timers, floors, and state that is somebody else's."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.streaming.state import GroupStateTimeout

from spark_ext.errors import StateError
from spark_ext.state.buckets import labels
from spark_ext.state.codec import decode
from spark_ext.state.kernel import NEVER_US, Moment, State, Step
from spark_ext.state.operator import WATERMARKED, _One, _packed, _Runner, apply_kernel, union_schema
from spark_ext.state.packing import BLOB, BUCKET, CONTROL, FLOOR, MARKED, Packer, receive
from tests.window_queries import SECOND, Event, add, begin, finish, source

pytestmark = pytest.mark.spark

ROWS = pa.schema([("k", pa.string()), ("n", pa.int64())])
OUT = pa.schema([("k", pa.string()), ("n", pa.int64()), ("watermark", pa.int64())])


@dataclass(frozen=True)
class Kept:
    """Keeps every row up to a watermark, and says when it was called."""

    wake_us: int | None = None
    operator: str = "kept_v1"
    settings: str = "{}"
    forgets: bool = False

    @property
    def in_schema(self) -> pa.Schema:
        return ROWS

    @property
    def state_schema(self) -> Mapping[str, pa.Schema]:
        return {"rows": ROWS}

    @property
    def out_schema(self) -> Mapping[str, pa.Schema]:
        return {"call": OUT}

    def step(self, state: State, rows: pa.Table, moment: Moment) -> Step:
        kept = pa.concat_tables([state["rows"], rows])
        if self.forgets:
            kept = kept.slice(0, 0)
        out = pa.table([["call"], [rows.num_rows], [moment.watermark_us]], schema=OUT)
        return Step({"rows": kept}, {"call": out}, self.wake_us)


@dataclass
class FakeState:
    """What Spark keeps of a group, as far as the operator uses it."""

    watermark_ms: int = 0
    value: tuple[bytes] | None = None
    timeout_ms: int | None = None

    @property
    def exists(self) -> bool:
        return self.value is not None

    @property
    def get(self) -> tuple[bytes]:
        assert self.value is not None
        return self.value

    def update(self, value: tuple[bytes]) -> None:
        self.value = value

    def remove(self) -> None:
        self.value = None

    def getCurrentWatermarkMs(self) -> int:  # noqa: N802 (Spark's name)
        return self.watermark_ms

    def getCurrentProcessingTimeMs(self) -> int:  # noqa: N802 (Spark's name)
        return 1_357_000_000_000

    def setTimeoutTimestamp(self, at: int) -> None:  # noqa: N802 (Spark's name)
        assert at > 0, "as Spark asks"
        assert at >= self.watermark_ms, "as Spark asks"
        self.timeout_ms = at


def batch(buckets: int, rows: list[tuple[int, str, int]], floor: int | None = None) -> Iterator[tuple[int, bytes]]:
    """Pack rows, given with their bucket, and maybe a request to close."""
    given_rows = [*rows, *([] if floor is None else [(CONTROL, None, None)])]
    columns = [pa.array([row[at] for row in given_rows], kind) for at, kind in enumerate((pa.int32(), pa.string(), pa.int64()))]
    floors = pa.array([*(None for _ in rows), *([] if floor is None else [floor])], pa.int64())
    packed = Packer(buckets, "kept_v1")(iter([pa.record_batch([*columns, floors], [BUCKET, "k", "n", FLOOR])]))
    for each in packed:
        yield from zip(each.column(BUCKET).to_pylist(), each.column(BLOB).to_pylist(), strict=True)


def call(kernel: Kept, state: FakeState, blobs: list[bytes], *, buckets: int = 4, label: int | None = None) -> list[tuple[int, int]]:
    """Call the runner as Spark does; return how many rows the kernel got, and at what watermark."""
    runner = _Runner(_One(kernel), buckets, union_schema(kernel.out_schema))
    key = int(labels(buckets)[2]) if label is None else label
    out = [blob for frame in runner.stream((key,), iter([pd.DataFrame({BLOB: blobs})]), state) for blob in frame[BLOB]]  # type: ignore[arg-type]
    rows = pa.concat_tables([pa.ipc.open_stream(blob).read_all() for blob in out]).to_pylist()
    return [(row["n"], row["watermark"]) for row in rows]


def blobs_of(bucket: int, packed: Iterator[tuple[int, bytes]], *, buckets: int = 4) -> list[bytes]:
    return [blob for label, blob in packed if label == labels(buckets)[bucket]]


SOME = [(2, "a", 1), (2, "é", 2), (0, "b", 3)]


@settings(max_examples=500, deadline=None)
@given(watermark_ms=st.integers(1, 10**6), ahead_us=st.integers(1, 10**7), about_ms=st.integers(-3, 3))
def test_a_timer_fires_when_the_watermark_has_reached_the_moment_and_not_before(watermark_ms: int, ahead_us: int, about_ms: int) -> None:
    wake_us = watermark_ms * 1_000 + ahead_us
    state = FakeState(watermark_ms)
    call(Kept(wake_us), state, blobs_of(2, batch(4, SOME)))
    assert state.timeout_ms is not None
    later_ms = wake_us // 1_000 + about_ms
    if later_ms > watermark_ms:
        assert (state.timeout_ms < later_ms) == (later_ms * 1_000 >= wake_us), "Spark fires those that are below the watermark"


def test_a_timer_before_1970_does_not_stop_the_query() -> None:
    state = FakeState(0)
    call(Kept(-5 * SECOND), state, blobs_of(2, batch(4, SOME)))
    assert state.timeout_ms == 1


def test_before_any_row_there_is_no_watermark() -> None:
    state = FakeState(0)
    assert call(Kept(), state, blobs_of(2, batch(4, SOME))) == [(2, NEVER_US)]
    state.watermark_ms = 5
    assert call(Kept(), state, []) == [(0, 5_000)]


def test_a_floor_reaches_each_bucket_stays_and_never_goes_back() -> None:
    packed = list(batch(4, SOME, floor=7 * SECOND))
    for bucket in range(4):
        state = FakeState(1_000)
        rows = sum(row[0] == bucket for row in SOME)
        key = int(labels(4)[bucket])
        assert call(Kept(forgets=True), state, [blob for label, blob in packed if label == key], label=key) == [(rows, 7 * SECOND)]
        assert state.exists, "a floor is state, even where there are no rows"
        assert call(Kept(forgets=True), state, [], label=key) == [(0, 7 * SECOND)]
        earlier = [blob for label, blob in batch(4, [], floor=3 * SECOND) if label == key]
        assert call(Kept(forgets=True), state, earlier, label=key) == [(0, 7 * SECOND)]
        state.watermark_ms = 9_000
        assert call(Kept(forgets=True), state, [], label=key) == [(0, 9 * SECOND)]
        assert decode(state.get[0], name="x").floor_us == 7 * SECOND


def test_the_highest_of_several_floors_counts() -> None:
    both = [*batch(4, [], floor=SECOND), *batch(4, [], floor=9 * SECOND), *batch(4, [], floor=5 * SECOND)]
    assert call(Kept(), FakeState(), blobs_of(2, iter(both))) == [(0, 9 * SECOND)]


def test_a_bucket_with_nothing_in_it_is_forgotten_but_the_one_that_says_whose_the_state_is() -> None:
    state = FakeState()
    call(Kept(), state, blobs_of(2, batch(4, SOME)))
    assert state.exists
    call(Kept(forgets=True), state, [])
    assert not state.exists
    call(Kept(forgets=True), state, [], label=MARKED)
    assert state.exists


@pytest.mark.parametrize(("kernel", "buckets", "message"), [
    (Kept(operator="other_v1"), 4, r"cannot use state 'bucket 2': expected operator 'other_v1', got operator 'kept_v1'; the"),
    (Kept(settings='{"a": {"b": 1}}'), 4, r"expected a\.b 1, got a\.b None; .*set it back, or give the changed job a new checkpoint"),
    (Kept(), 8, r"expected buckets 8, got buckets 4; .*nothing of this batch was kept"),
])  # fmt: skip
def test_state_of_others_is_refused_and_left_alone(kernel: Kept, buckets: int, message: str) -> None:
    state = FakeState()
    call(Kept(), state, blobs_of(2, batch(4, SOME)))
    before = state.get
    with pytest.raises(StateError, match=message):
        call(kernel, state, [], buckets=buckets, label=int(labels(4)[2]))
    assert state.get is before


def test_damaged_state_is_refused_and_left_alone() -> None:
    state = FakeState()
    call(Kept(), state, blobs_of(2, batch(4, SOME)))
    whole = state.get[0]
    state.value = (whole[:-9] + bytes([whole[-9] ^ 4]) + whole[-8:],)
    with pytest.raises(StateError, match=r"cannot read state 'of label \d+': expected checksum 0x.*restore this checkpoint's state folder"):
        call(Kept(), state, [])
    state.value = (whole,)
    assert call(Kept(), state, []) == [(0, NEVER_US)]


@pytest.mark.parametrize("one", [1, 2, 3, 7, 8, 16, 100, 1_000, 16_384])
def test_each_batch_with_rows_asks_the_marked_bucket(one: int) -> None:
    """It is in every number of buckets: a changed number meets state of the old one in its first batch."""
    assert MARKED in labels(one)
    for rows in ([(0, "a", 1)], [(one - 1, "a", 1), (0, "b", 2)]):
        found = list(batch(one, rows))
        assert [label for label, _ in found].count(MARKED) == 1
        assert sum(receive([blob], {"": ROWS}).rows[""].num_rows for _, blob in found) == len(rows)


buckets_and_rows = st.integers(1, 20).flatmap(
    lambda buckets: st.tuples(
        st.just(buckets),
        st.lists(st.tuples(st.integers(0, buckets - 1), st.sampled_from(["a", "é", None]), st.integers(-9, 9)), max_size=40),
    )
)


@settings(max_examples=300, deadline=None)
@given(drawn=buckets_and_rows, cut=st.integers(0, 40))
def test_packing_keeps_rows_their_bucket_and_their_order(drawn: tuple[int, list[tuple[int, str, int]]], cut: int) -> None:
    buckets, rows = drawn
    packed = [*batch(buckets, rows[:cut]), *batch(buckets, rows[cut:])] if rows else []
    for bucket, label in enumerate(labels(buckets).tolist()):
        found = receive([blob for each, blob in packed if each == label], {"": ROWS})
        assert found.floor_us is None
        assert found.rows[""].schema == ROWS
        assert [tuple(row.values()) for row in found.rows[""].to_pylist()] == [row[1:] for row in rows if row[0] == bucket]


@pytest.mark.parametrize(("buckets", "dominant", "rows", "warned"), [
    (8, 0.9, 20_000, True), (8, 0.45, 20_000, False), (8, 0.9, 5_000, False), (1, 0.9, 20_000, False),
])  # fmt: skip
def test_skew_is_warned_about(caplog: pytest.LogCaptureFixture, buckets: int, dominant: float, rows: int, warned: bool) -> None:
    many = round(rows * dominant)
    given_rows = [(0, "a", 1)] * many + [(n % (buckets - 1) + 1 if buckets > 1 else 0, "b", 1) for n in range(rows - many)]
    with caplog.at_level(logging.WARNING, logger="spark_ext.state.packing"):
        list(batch(buckets, given_rows))
    text = f"kept_v1: one bucket of {buckets} has {many} of {rows} rows: one key, or few, dominate, and one core does most of the work; "
    assert [record.getMessage() for record in caplog.records] == (
        [text + "see `millrace state show`, and aggregate such a key in parts first"] if warned else []
    )


def test_labels_are_dealt_out_by_sparks_own_hash(spark: SparkSession) -> None:
    sizes = (1, 2, 3, 16, 1_000)
    rows = [(size, bucket, int(label)) for size in sizes for bucket, label in enumerate(labels(size))]
    frame = spark.createDataFrame(rows, "size int, bucket int, label int")
    wrong = frame.where(F.pmod(F.hash("label"), "size") != F.col("bucket"))
    assert wrong.count() == 0
    tasks = frame.where("size = 1000").repartition(500, "label").groupBy(F.spark_partition_id().alias("task")).count()
    assert Counter(row["count"] for row in tasks.collect()) == {2: 500}
    smaller = spark.range(2_000).selectExpr("cast(id AS int) AS label", "pmod(hash(cast(id AS int)), 16) AS bucket")
    assert [row[1] for row in smaller.groupBy("bucket").agg(F.min("label")).orderBy("bucket").collect()] == labels(16).tolist()


def seen(key: tuple[str], frames: Iterator[pd.DataFrame], state: Any) -> Iterator[pd.DataFrame]:
    """Give out the numbers of rows that came, -1 when woken, each with the watermark; want to be woken at 150 s."""
    numbers = [number for frame in frames for number in frame["n"].tolist()]
    watermark = state.getCurrentWatermarkMs()
    if not state.hasTimedOut:
        state.update((1,))
        state.setTimeoutTimestamp(watermark if watermark > 150_000 else 150_000)
    else:
        state.remove()
    found = numbers or [-1]
    yield pd.DataFrame({"k": [key[0]] * len(found), "n": found, "watermark": [watermark] * len(found)})


def grouped(rows: DataFrame) -> DataFrame:
    return rows.groupBy("k").applyInPandasWithState(
        seen, "k string, n long, watermark long", "x long", "append", GroupStateTimeout.EventTimeTimeout
    )


def test_spark_shows_late_rows_watermark_and_timers_by_a_null_column_with_the_mark_of_a_watermark(
    spark: SparkSession, tmp_path: Path
) -> None:
    """The operator rests on this. If it fails with another Spark, late rows are lost or buckets are not woken."""
    times = [[(0, "a", 100), (1, "b", 100)], [(2, "b", 200)], [(3, "b", 50), (4, "b", 210)]]  # Spark's filter is one batch behind
    files = [[Event(n, key, seconds * SECOND, 1) for n, key, seconds in rows] for rows in times]
    for number, events in enumerate(files):
        add(tmp_path / "in", number, events)
    rows = source(spark, tmp_path / "in", delay=timedelta(0))
    marked = rows.select("k", "n", F.lit(None).cast("timestamp").alias("_watermark", metadata=WATERMARKED))
    found: dict[str, list[Any]] = {"by time": [], "marked": []}

    def into(name: str) -> Any:
        return lambda batch: found[name].extend((batch.batch_id, *row) for row in batch.rows.collect())

    finish(begin(grouped(rows), into("by time"), tmp_path / "t"), begin(grouped(marked), into("marked"), tmp_path / "m"))
    always = [(0, "a", 0, 0), (0, "b", 1, 0), (1, "b", 2, 100_000), (2, "a", -1, 200_000), (2, "b", 4, 200_000), (3, "b", -1, 210_000)]
    assert sorted(found["by time"]) == always, "Spark removes the late row itself"
    assert sorted(found["marked"]) == sorted([*always, (2, "b", 3, 200_000)]), "and here it does not"


def test_a_kernel_gets_each_row_once_with_all_of_its_key(spark: SparkSession, tmp_path: Path) -> None:
    """Batches, restarts and labels: what the kernel keeps of a key is all of it, in one bucket."""
    numbers = iter(range(10**6))
    files = [[Event(next(numbers), f"k{n % 40}", n * SECOND, 1) for n in range(100)] for _ in range(2)]
    found: list[list[Any]] = []
    for number, events in enumerate(files):
        add(tmp_path / "in", number, events)
        rows = source(spark, tmp_path / "in", delay=timedelta(0))
        sink: list[Any] = []
        frame = apply_kernel(rows, Kept(), keys=["k"], columns=["k", "n"], buckets=8)
        finish(begin(frame, lambda batch, sink=sink: sink.extend(batch.rows.collect()), tmp_path / "c"))  # type: ignore[misc]
        found.append(sink)
    assert [int(np.sum([row.n for row in sink])) for sink in found] == [100, 100]
    states = spark.read.format("statestore").load(str(tmp_path / "c" / "spark")).select("key._bucket", "value.groupState.blob").collect()
    tables = [decode(bytes(row.blob), name="x") for row in states]
    assert sorted(table.bucket for table in tables) == sorted(np.flatnonzero(np.isin(labels(8), [row._bucket for row in states])).tolist())
    keys = [set(table.tables["rows"].column("k").to_pylist()) for table in tables]
    assert sum(map(len, keys)) == len(set().union(*keys)) == 40
    assert sorted(n for table in tables for n in table.tables["rows"].column("n").to_pylist()) == list(range(200))


def test_many_keys_are_planned_as_few_are(spark: SparkSession) -> None:
    names = [f"k{n}" for n in range(12)]
    frame = spark.createDataFrame([tuple(names)], names)
    planned: Any = _packed(frame, names, names, 8, None)._jdf.queryExecution().optimizedPlan()
    assert planned.constraints().size() <= 2 * len(names)
