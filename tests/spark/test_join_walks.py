"""Seeded walks of crashes over a join of two streams in epochs: as the run without crashes, and as the definition has it."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from spark_ext import epochs, joins
from spark_ext.queries import Checkpoint, Query
from spark_ext.testing import EVENTS, JobUnderTest, Result, assert_same, random_walk, run_script, without_crashes

pytestmark = pytest.mark.spark

MINUTE = timedelta(minutes=1)
SINKS = ("joined", "late")


def build(spark: SparkSession, stream: DataFrame, folder: Path) -> Query:
    """Even ids with odd ids of their key, up to two minutes before and after."""
    pipeline = epochs.Pipeline(
        checkpoint=Checkpoint.claim(str(folder / "checkpoint"), pipeline="test/joins", sources=["script"]),
        ledger=str(folder / "ledger"),
        sinks={"joined": epochs.Append(str(folder / "joined")), "late": epochs.Append(str(folder / "late"), counts_as="late")},
    )
    rows = stream.where("raw is null").select("id", "key", "at").withWatermark("at", "90 seconds")
    left, right = (rows.where(F.pmod("id", F.lit(2)) == rest) for rest in (0, 1))
    both = joins.join(
        left, right, on="key", event_time="at", within=joins.two_windows(left=2 * MINUTE, right=2 * MINUTE), how="full", buckets=2
    )

    def route(epoch: epochs.Epoch) -> dict[str, DataFrame]:
        tagged = epoch.rows
        late = joins.late(tagged, "left").unionByName(joins.late(tagged, "right"))
        return {"joined": joins.joined(tagged), "late": late}

    return epochs.start(both, route, pipeline=pipeline, every="0 seconds")


JOB = JobUnderTest(EVENTS, build, {name: name for name in SINKS}, ledger="ledger")


def check_definition(result: Result, rows: list[dict[str, object]]) -> None:
    """Pairs are those of all rows that are not late; nothing else was given out as a pair."""
    late = Counter(row["id"] for row in result.rows("late"))
    good = [row for row in rows if row.get("raw") is None]
    kept = []
    for row in good:
        if late[row["id"]]:
            late[row["id"]] -= 1
        else:
            kept.append(row)
    assert not +late
    pairs = Counter(
        (one["id"], other["id"])
        for one in kept
        for other in kept
        if one["id"] % 2 == 0 and other["id"] % 2 == 1  # type: ignore[operator]
        and one["key"] is not None and one["key"] == other["key"] and abs(one["at"] - other["at"]) <= 2 * MINUTE  # type: ignore[operator]
    )  # fmt: skip
    found = result.rows("joined")
    assert Counter((row["id"], row["id_right"]) for row in found if row["side"] == "both") == pairs
    matched = {number for pair in pairs for number in pair}
    alone = [row["id"] if row["side"] == "left" else row["id_right"] for row in found if row["side"] != "both"]
    assert not matched & set(alone)
    assert not Counter(alone) - Counter(row["id"] for row in kept)


@pytest.mark.walks(3)
def test_a_walk_over_a_join_ends_as_without_crashes(spark: SparkSession, walk_seed: int, walk_command: str, tmp_path: Path) -> None:
    walk = random_walk(walk_seed, sinks=SINKS)
    result = run_script(spark, JOB, walk.steps, tmp_path / "crashed")
    check_definition(result, [dict(row) for batch in walk.batches for row in batch])
    assert_same(result, run_script(spark, JOB, without_crashes(walk.steps), tmp_path / "reference"), repeat=walk_command)


@pytest.mark.slow
@pytest.mark.walks(100, first=1000)
def test_no_walk_of_a_hundred_over_a_join_ends_otherwise(spark: SparkSession, walk_seed: int, walk_command: str, tmp_path: Path) -> None:
    test_a_walk_over_a_join_ends_as_without_crashes(spark, walk_seed, walk_command, tmp_path)
