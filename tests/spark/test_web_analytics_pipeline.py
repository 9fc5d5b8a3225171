"""The functions of the web analytics job on a table: exact numbers equal pandas', and sketches keep to their bounds."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pandas as pd
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.web_analytics import pipeline
from jobs.web_analytics.answers import answers
from jobs.web_analytics.check import exact
from jobs.web_analytics.check.claims import hold
from jobs.web_analytics.check.proof import Promise, hold_against
from jobs.web_analytics.network import Network
from jobs.web_analytics.site import page_changes
from jobs.web_analytics.visits import Traffic, visits
from spark_ext import dedup
from tests.web_analytics_tables import as_rows, sketch_tables

pytestmark = pytest.mark.spark

TRAFFIC = Traffic(visits=20_000)


@pytest.fixture(scope="module")
def day() -> pd.DataFrame:
    return visits(TRAFFIC)


@pytest.fixture(scope="module")
def rows(spark: SparkSession, day: pd.DataFrame) -> DataFrame:
    return as_rows(spark, day)


@pytest.fixture(scope="module")
def closed(rows: DataFrame) -> DataFrame:
    return pipeline.sessions(pipeline.by_session(rows)).persist()


@pytest.fixture(scope="module")
def out(rows: DataFrame, closed: DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tables of two batches, of which none is the earlier one."""
    folder = tmp_path_factory.mktemp("web")
    odd = F.col("visit_id") % 2 == 1
    sketch_tables([rows.where(odd), rows.where(~odd)], closed, folder)
    return folder


def test_sessions_are_those_of_pandas(closed: DataFrame, day: pd.DataFrame) -> None:
    expected = exact.sessions(day, gap=pipeline.GAP)
    found = closed.drop("agent").toPandas()
    for name in ("window_start", "window_end"):
        found[name] = found[name].dt.tz_localize("UTC")
    keys = ["visitor", "window_start"]
    both = [frame[sorted(frame)].sort_values(keys, ignore_index=True) for frame in (expected, found)]
    pd.testing.assert_frame_equal(*both, check_dtype=False)


def test_every_answer_keeps_its_promise(out: Path, day: pd.DataFrame) -> None:
    facts = exact.with_times(day)
    began = exact.sessions(facts, gap=pipeline.GAP)
    began["hour"] = began["window_start"].dt.floor("h")
    claims = {answer.name: hold_against(facts, began, answer, promise=Promise()) for answer in answers(out) if not _is_summed(answer.name)}
    assert [text for claim in claims.values() for text in claim.mismatches] == []
    assert len(claims) >= 20
    assert all(claim.rows for claim in claims.values())
    assert claims["visitors by day"].worst_error < 0.06


def _is_summed(name: str) -> bool:
    """Tell whether it is about numbers that a table has once, and two batches twice."""
    return (
        name.startswith("views by")
        or name in {"visitors by minute, page, section", "time spent by minute, q"}
        or name.startswith("views of any")
    )


def test_plain_numbers_add_up(out: Path, day: pd.DataFrame) -> None:
    facts = exact.with_times(day)
    for answer in answers(out):
        if answer.name.startswith("views by"):
            keys = list(answer.keys)
            summed = answer.frame.groupby(keys, as_index=False)[["estimate", "lower", "upper"]].sum()
            assert hold(type(answer)(answer.name, keys, summed), exact.counts(facts, keys)).mismatches == ()


def test_the_list_of_a_minute_is_that_of_its_pages(out: Path, day: pd.DataFrame) -> None:
    """A day has more pages than a list has room, so that the test above is about something."""
    listed = [answer for answer in answers(out) if answer.name == "views of a listed page by day, page"]
    assert len(listed[0].frame) < 0.5 * day["page"].nunique()
    assert (listed[0].frame["upper"] > listed[0].frame["lower"]).any()


def test_resends_are_told_from_visits(spark: SparkSession, day: pd.DataFrame) -> None:
    arrivals = Network(resent=0.05, damaged=0).carry(day)
    source = "struct(cast('visits' as string) as topic, 0 as partition, monotonically_increasing_id() as offset, at as timestamp) as source"
    none = [F.lit(None).cast(f"struct<{name}: bigint>").alias(name) for name in ("dead", "range")]
    records = as_rows(spark, arrivals).selectExpr("*", source).select("*", *none)
    told = pipeline.told_apart(records, lateness=timedelta(hours=2)).persist()
    assert dedup.unique(told).count() == len(day) == dedup.unique(told).select("visit_id").distinct().count()
    assert dedup.duplicates(told).count() == len(arrivals) - len(day)
    assert dedup.late(told).count() == 0, "nothing is late on a table"


def test_a_visit_gets_the_title_of_its_time(spark: SparkSession, rows: DataFrame, day: pd.DataFrame) -> None:
    versions = page_changes(TRAFFIC.day, seed=TRAFFIC.seed).sort_values(["page", "changed_at"])
    versions["valid_to"] = versions.groupby("page")["changed_at"].shift(-1)
    history = spark.createDataFrame(
        versions.rename(columns={"changed_at": "valid_from"}).astype({"valid_to": object}).where(lambda some: some.notna(), None)
    )
    found = pipeline.with_page(rows, history).select("visit_id", "title").toPandas().set_index("visit_id")["title"]
    assert len(found) == len(day)
    expected = pd.merge_asof(
        day.assign(page=day["page"].astype(str), at=day["at"].dt.as_unit("us")),
        versions.sort_values("changed_at").assign(changed_at=lambda some: some["changed_at"].dt.as_unit("us")),
        left_on="at",
        right_on="changed_at",
        by="page",
    ).set_index("visit_id")["title"]
    assert found.sort_index().equals(expected.sort_index())
    assert found.str.startswith("Final: ").any()
