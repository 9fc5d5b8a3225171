"""Requests to close reach a query once, whole, whenever they were made."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import TimestampType

from spark_ext.errors import SettingsError
from spark_ext.state.control import Control

pytestmark = pytest.mark.spark

FIRST = datetime(2013, 1, 1, 12, tzinfo=UTC)


def read(spark: SparkSession, control: Control, checkpoint: Path) -> dict[int, list[datetime]]:
    """What a run over everything there is gets, by batch."""
    found: dict[int, list[datetime]] = {}

    def take(frame: DataFrame, batch_id: int) -> None:
        found[batch_id] = sorted(row.until.astimezone(UTC) for row in frame.collect())

    writer = control.rows(spark).writeStream.foreachBatch(take).option("checkpointLocation", str(checkpoint))
    query = writer.trigger(availableNow=True).start()
    try:
        assert query.awaitTermination(60)
    finally:
        query.stop()
    return found


def test_a_request_arrives_once_and_a_restart_does_not_repeat_it(spark: SparkSession, tmp_path: Path) -> None:
    control = Control(str(tmp_path / "made" / "here"))
    assert control.rows(spark).schema["until"].dataType == TimestampType()
    assert read(spark, control, tmp_path / "c") == {}
    control.close(FIRST)
    assert read(spark, control, tmp_path / "c") == {0: [FIRST]}
    assert read(spark, control, tmp_path / "c") == {}
    later = FIRST + timedelta(microseconds=1)
    control.close(later)
    control.close(FIRST.astimezone(timezone(timedelta(hours=5))))
    assert read(spark, control, tmp_path / "c") == {1: [later]}, "asking again changes nothing"
    (tmp_path / "c" / "commits" / "1").unlink()
    (tmp_path / "c" / "commits" / ".1.crc").unlink(missing_ok=True)
    assert read(spark, control, tmp_path / "c") == {1: [later]}, "a replay sees it again"
    assert read(spark, control, tmp_path / "another") == {0: [FIRST, later]}, "each query gets it"


def test_half_a_file_is_never_read(spark: SparkSession, tmp_path: Path) -> None:
    control = Control(str(tmp_path / "control"))
    control.close(FIRST)
    names = sorted(file.name for file in (tmp_path / "control").iterdir())
    assert names == ["until-001357041600000000.json"], "nothing is left beside it"
    (tmp_path / "control" / ".0123").write_text('{"unti')
    (tmp_path / "control" / "note.txt").write_text("not a request")
    assert read(spark, control, tmp_path / "c") == {0: [FIRST]}


def test_a_file_with_an_old_date_is_not_left_out(spark: SparkSession, tmp_path: Path) -> None:
    control = Control(str(tmp_path / "control"))
    control.close(FIRST + timedelta(days=1))
    assert read(spark, control, tmp_path / "c") == {0: [FIRST + timedelta(days=1)]}
    control.close(FIRST)
    old = min((tmp_path / "control").iterdir())
    os.utime(old, (0, FIRST.timestamp()))
    assert read(spark, control, tmp_path / "c") == {1: [FIRST]}


def test_a_request_that_was_damaged_stops_the_query(spark: SparkSession, tmp_path: Path) -> None:
    control = Control((tmp_path / "control").as_uri())
    control.close(FIRST)
    (file,) = (tmp_path / "control").iterdir()
    file.write_text("{")
    with pytest.raises(Exception, match="MALFORMED_RECORD"):
        read(spark, control, tmp_path / "c")


@pytest.mark.parametrize("until", [datetime(2013, 1, 1), datetime(1969, 12, 31, tzinfo=UTC)])  # noqa: DTZ001 (what is refused)
def test_a_time_without_a_zone_is_refused(tmp_path: Path, until: datetime) -> None:
    with pytest.raises(SettingsError, match=r"cannot close windows until '.*': expected a time with a zone"):
        Control(str(tmp_path / "control")).close(until)
    assert not (tmp_path / "control").exists()
