"""Minutes, of which hours, of which days, in one query that is restarted; the bounded run gives the same."""

from __future__ import annotations

import builtins
import json
import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from pyspark.sql import DataFrame, SparkSession

from spark_ext.errors import SettingsError
from spark_ext.state.control import Control
from spark_ext.windows import calendar, invalid, late, results, rollup, stage, tumbling
from spark_ext.windows.aggregates import count, max, sum  # noqa: A004

pytestmark = pytest.mark.spark

SCHEMA = "user string, at timestamp, n bigint"
START = datetime(2013, 3, 9, 22, tzinfo=UTC)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
NEW_YORK = ZoneInfo("America/New_York")

Row = tuple[str | None, datetime | None, int]


def rows_of(file: int) -> list[Row]:
    """Some hundred rows of twelve hours each, in disorder by at most an hour."""
    found: list[Row] = [
        (["x", "y", None][at % 3], START + file * 12 * HOUR + at * 6 * MINUTE + at % 7 * 8 * MINUTE, at % 5) for at in range(120)
    ]
    return [*found, ("x", None, 1)]


FILES: list[list[Row]] = [rows_of(0), rows_of(1), [("x", START, 1), ("y", START + 36 * HOUR, 4)]]  # the first of the last file is late


def add(folder: Path, number: int) -> None:
    folder.mkdir(exist_ok=True)
    lines = [{"user": user, "at": None if at is None else at.isoformat(), "n": n} for user, at, n in FILES[number]]
    aside = folder.parent / f"{number}.json"
    aside.write_text("\n".join(map(json.dumps, lines)))
    os.utime(aside, (number, number))  # batches in this order
    aside.rename(folder / aside.name)


def rolled(frame: DataFrame, **more: Any) -> DataFrame:
    return rollup(
        frame,
        keys=["user"],
        event_time="at",
        window=tumbling(MINUTE).with_grace(MINUTE),
        aggregates={"clicks": count(), "n": sum("n")},
        then=[
            stage(tumbling(HOUR), {"busiest": max("n"), "minutes": count(), "clicks": sum("clicks")}),
            stage(calendar("day", zone=NEW_YORK.key), {"busiest": max("busiest"), "hours": count(), "clicks": sum("clicks")}, keys=[]),
        ],
        buckets=3,
        **more,
    )


def run(frame: DataFrame, checkpoint: Path) -> list[Any]:
    found: list[Any] = []
    writer = frame.writeStream.foreachBatch(lambda rows, _: found.extend(rows.collect()))
    query = writer.option("checkpointLocation", str(checkpoint)).trigger(availableNow=True).start()
    try:
        assert query.awaitTermination(200)
    finally:
        query.stop()
    return found


def expected(rows: Sequence[Row]) -> Counter[Any]:
    minutes: dict[Any, list[int]] = defaultdict(list)
    for user, at, n in rows:
        if at is not None:
            minutes[user, at.replace(second=0)].append(n)
    hours: dict[Any, list[tuple[int, int]]] = defaultdict(list)
    for (user, minute), values in minutes.items():
        hours[user, minute.replace(minute=0)].append((builtins.sum(values), len(values)))
    days: dict[Any, list[tuple[int, int]]] = defaultdict(list)
    for (_, hour), of_minutes in hours.items():
        days[hour.astimezone(NEW_YORK).date()].append((sorted(of_minutes)[-1][0], builtins.sum(clicks for _, clicks in of_minutes)))
    return Counter((day, sorted(part)[-1][0], len(part), builtins.sum(clicks for _, clicks in part)) for day, part in days.items())


def days(found: Sequence[Any]) -> Counter[Any]:
    return Counter((row.window.start.astimezone(NEW_YORK).date(), row.busiest, row.hours, row.clicks) for row in found)


def test_a_stream_that_is_restarted_and_closed_gives_what_bounded_rows_give(spark: SparkSession, tmp_path: Path) -> None:
    folder, control = tmp_path / "in", Control(str(tmp_path / "control"))

    def stream() -> DataFrame:
        reader = spark.readStream.schema(SCHEMA).option("maxFilesPerTrigger", 1)
        return rolled(reader.json(str(folder)).withWatermark("at", "1 hour"), control=control)

    add(folder, 0)
    begun = run(stream(), tmp_path / "checkpoint")
    add(folder, 1)
    add(folder, 2)
    more = run(stream(), tmp_path / "checkpoint")
    control.close(START + timedelta(days=10))
    ended = run(stream(), tmp_path / "checkpoint")
    assert Counter(row.tag for row in begun) == {"window": 1, "invalid": 1}, "the first day of New York is over"
    found = [*begun, *more, *ended]
    (behind,) = [row for row in found if row.tag == "late"]
    assert (behind.event.user, behind.event.at.astimezone(UTC), behind.missed, behind.windows) == ("x", START, 1, 1)
    in_time = [row for file in FILES for row in file if row != FILES[2][0]]
    assert days([row for row in found if row.tag == "window"]) == expected(in_time)
    assert builtins.sum(row.clicks for row in found if row.tag == "window") == builtins.sum(row[1] is not None for row in in_time)
    assert Counter(row.tag for row in found) == {"window": 3, "late": 1, "invalid": 2}

    tagged = rolled(spark.createDataFrame(in_time, SCHEMA)).persist()
    assert days(results(tagged).collect()) == expected(in_time)
    assert results(tagged).columns == ["window", "busiest", "hours", "clicks", "is_final"]
    assert (late(tagged).count(), invalid(tagged).count()) == (0, 2)
    tagged.unpersist()


def test_a_rollup_needs_a_later_stage_and_a_watermark(spark: SparkSession) -> None:
    rows = spark.createDataFrame([], SCHEMA)
    window = tumbling(MINUTE).without_grace()
    with pytest.raises(SettingsError, match=r"cannot roll up windows 'once': expected one later stage or more, got none; use aggregate"):
        rollup(rows, keys=["user"], event_time="at", window=window, aggregates={"c": count()}, then=[])
    stream = spark.readStream.format("rate-micro-batch").option("rowsPerBatch", 3).load()
    with pytest.raises(SettingsError, match="without a watermark"):
        rollup(
            stream, keys=[], event_time="timestamp", window=window, aggregates={"c": count()}, then=[stage(tumbling(HOUR), {"c": max("c")})]
        )  # fmt: skip
