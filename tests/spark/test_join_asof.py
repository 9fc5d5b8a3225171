"""As-of joins and joins by number of rows over two real streams: over restarts the same as the bounded run, and as the definition."""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import DataFrame, SparkSession

from spark_ext import joins
from spark_ext.errors import SettingsError
from spark_ext.joins import join_asof
from spark_ext.state import inspect
from spark_ext.state.kernel import EARLIEST, FOREVER_US, LATEST, NEVER_US
from tests.join_models import EPOCH, LEFT, RIGHT, Batch, Row, at, read
from tests.ordered_join_models import AsOf, asof_join, count_join

pytestmark = pytest.mark.spark

SECOND = 1_000_000
START = 1_356_998_400 * SECOND
SCHEMAS = {"left": LEFT, "right": RIGHT}
BOUNDS = tuple((moment - EPOCH) // timedelta(microseconds=1) for moment in (EARLIEST, LATEST))

Ask = Callable[[DataFrame, DataFrame], DataFrame]


class Streams:
    """Two folders, one file of each is a batch; the watermark is two seconds behind."""

    def __init__(self, spark: SparkSession, path: Path) -> None:
        self.spark, self.path, self._next = spark, path, 0
        for name in SCHEMAS:
            (path / name).mkdir()

    def add(self, **rows: Sequence[Row]) -> None:
        self._next += 1
        for name, given in rows.items():
            columns = zip(*((row[0], at(row[1]), row[2]) for row in given), strict=True)
            file = self.path / name / f"{self._next}.parquet"
            schema = SCHEMAS[name]
            pq.write_table(pa.table([pa.array(one, kind) for one, kind in zip(columns, schema.types, strict=True)], schema=schema), file)
            os.utime(file, (1_600_000_000 + self._next,) * 2)

    def run(self, ask: Ask) -> list[list[tuple[Any, ...]]]:
        """Do all there is, from where the last run ended, and return what each batch gave."""
        frames = {name: self.spark.read.parquet(str(self.path / name)).schema for name in SCHEMAS}
        read_files = self.spark.readStream.option("maxFilesPerTrigger", 1)
        left, right = (
            read_files.schema(schema).parquet(str(self.path / name)).withWatermark("at", "2 seconds") for name, schema in frames.items()
        )
        found: list[list[tuple[Any, ...]]] = []
        writer = ask(left, right).writeStream.foreachBatch(lambda rows, _: found.append(lines(rows)))
        query = writer.option("checkpointLocation", str(self.path / "checkpoint")).trigger(availableNow=True).start()
        try:
            assert query.awaitTermination(200)
        finally:
            query.stop()
        return found


def lines(rows: DataFrame) -> list[tuple[Any, ...]]:
    return [read(row["tag"], row) for row in rows.toArrow().to_pylist()]


def bounded(spark: SparkSession, rows: Sequence[Row], name: str) -> DataFrame:
    value = SCHEMAS[name].names[2]
    return spark.createDataFrame([(row[0], at(row[1]), row[2]) for row in rows], f"k string, at timestamp, {value} long")


def events(seed: int, batches: int) -> list[list[Row]]:
    """Batches of four seconds; some rows are late, some have no key or no time, many have the time of another."""
    draw = random.Random(seed)  # noqa: S311 (no secret)
    found = []
    for batch in range(batches):
        times = [START + round((batch + draw.random() - (2.5 if draw.random() < 0.1 else 0)) * 8) * SECOND // 2 for _ in range(25)]
        found.append([
            (draw.choice(["a", "b", "c", None]), None if draw.random() < 0.03 else time, draw.randrange(10)) for time in times
        ])  # fmt: skip
    return found


ASKED: dict[str, tuple[Ask, Callable[[list[Batch]], list[Any]]]] = {
    "backward": (
        lambda left, right: join_asof(left, right, on="k", event_time="at", buckets=3),
        lambda batches: asof_join(batches, AsOf(), *BOUNDS),
    ),
    "silences": (
        lambda left, right: join_asof(left, right, on="k", event_time="at", ttl=timedelta(seconds=0.5), how="inner", buckets=3),
        lambda batches: asof_join(batches, AsOf(ttl=SECOND // 2, how="inner"), *BOUNDS),
    ),
    "forward": (
        lambda left, right: join_asof(
            left, right, on={"k": "k"}, event_time=("at", "at"), direction="forward", tolerance=timedelta(seconds=1), buckets=3
        ),
        lambda batches: asof_join(batches, AsOf("forward", SECOND), *BOUNDS),
    ),
    "nearest": (
        lambda left, right: join_asof(
            left, right, on=["k"], event_time="at", direction="nearest", allow_exact_matches=False, order=["w"], buckets=3
        ),
        lambda batches: asof_join(batches, AsOf("nearest", exact=False), *BOUNDS),
    ),
    "counts": (
        lambda left, right: joins.join(
            left, right, on="k", event_time="at", within=joins.two_windows(left=2, right=3), how="full", buckets=3
        ),
        lambda batches: count_join(batches, "full", 2, 3, *BOUNDS),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ASKED)
def test_a_restarted_stream_the_bounded_run_and_the_definition_agree(spark: SparkSession, tmp_path: Path, name: str) -> None:
    ask, model = ASKED[name]
    streams, given = Streams(spark, tmp_path), []
    lefts, rights = events(1, 6), events(2, 6)
    for number, (left, right) in enumerate(zip(lefts, rights, strict=True)):
        streams.add(left=left, right=right)
        if number in {2, 5}:
            given += streams.run(ask)
    assert len(given) >= 6
    last = {side: [("end", START + 100 * SECOND, 0), (None, START + 100 * SECOND, 0)] for side in SCHEMAS}
    streams.add(**last)
    given += streams.run(ask)
    rows = Counter(row for batch in given for row in batch)
    late = [row for row in rows.elements() if row[0] == "late"]
    assert {row[1] for row in late} == {"left", "right"}
    kept = {
        side: list((Counter(row for batch in all_rows for row in batch) - Counter(row[at_place] for row in late)).elements())
        for side, all_rows, at_place in (("left", [*lefts, last["left"]], 2), ("right", [*rights, last["right"]], 3))
    }
    once = Counter(lines(ask(bounded(spark, kept["left"], "left"), bounded(spark, kept["right"], "right"))))
    assert once == sum((one.rows for one in model([Batch(kept["left"], kept["right"], NEVER_US), Batch([], [], FOREVER_US)])), Counter())
    end = {row for row in once if "end" in {one[0] for one in row[2:] if one}}  # the watermark has not passed it
    assert rows - Counter(late) == Counter({row: times for row, times in once.items() if row not in end})
    assert sum(row[1] == "both" for row in once) > 20


def test_a_silent_side_holds_back_what_it_may_change_until_it_speaks_or_the_watermark_jumps(spark: SparkSession, tmp_path: Path) -> None:
    streams = Streams(spark, tmp_path)
    ask = ASKED["backward"][0]
    time = lambda seconds: START + seconds * SECOND  # noqa: E731 (short in tables)
    streams.add(left=[("a", time(0), 1)], right=[("a", time(0), 7)])
    for number in (2, 3, 4):
        streams.add(left=[("a", time(10 * number), number)])
    assert streams.run(ask)[-1] == []  # rows of the right side may still come from -2 on
    streams.add(left=[("a", time(45), 5)], right=[("a", time(25), 8)])  # after a restart Spark waits for both once more
    found = [row for batch in streams.run(ask) for row in batch]
    assert found == [
        ("joined", "both", ("a", time(0), 1), ("a", time(0), 7)), ("joined", "both", ("a", time(20), 2), ("a", time(0), 7)),
    ]  # fmt: skip
    streams.add(left=[("b", time(10_000), 6)], right=[("b", time(10_000), 9)])
    found = [row for batch in streams.run(ask) for row in batch]
    assert sorted(found) == [("joined", "both", ("a", time(at_s), v), ("a", time(25), 8)) for at_s, v in ((30, 3), (40, 4), (45, 5))]
    held = inspect.buckets(spark, str(tmp_path / "checkpoint")).selectExpr("sum(rows['left'])", "sum(rows['right'])", "sum(keys)").collect()
    assert [tuple(row) for row in held] == [(1, 2, 2)]  # the last quote of a, and what is not passed of b


def test_a_name_that_both_sides_have_gets_the_suffix_and_settings_are_checked(spark: SparkSession) -> None:
    left = bounded(spark, [("a", START, 1), (None, START, 2)], "left")
    right = bounded(spark, [("a", START, 3)], "right").withColumnRenamed("w", "v").withColumnRenamed("k", "key")
    tagged = join_asof(left, right, on={"k": "key"}, event_time="at", suffix="_then")
    assert joins.joined(tagged).columns == ["k", "at", "v", "at_then", "v_then", "side"]
    assert {(row.v, row.v_then, row.side) for row in joins.joined(tagged).collect()} == {(1, 3, "both"), (2, None, "left")}
    assert joins.late(tagged, "right").columns == ["key", "at", "v", "lateness_ms"]
    assert joins.invalid(tagged, "right").count() == joins.excess(tagged, "left").count() == 0
    for more, match in (({"tolerance": 5}, "setting 'tolerance': expected a timedelta"), ({"how": "full"}, "setting 'how'")):
        with pytest.raises(SettingsError, match=match):
            join_asof(left, right, on={"k": "key"}, event_time="at", **more)  # type: ignore[arg-type]
