"""The Nexmark queries on streams, batch by batch and over a restart, and on bounded frames: what pandas makes of the same events."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from deltalake import DeltaTable
from pyspark.sql import DataFrame, SparkSession

from jobs.nexmark import queries
from jobs.nexmark.batches import append, batches, frames
from jobs.nexmark.check import ANSWERS
from jobs.nexmark.numbering import EventSettings
from jobs.nexmark.queries import Spans
from jobs.nexmark.tables import QUERIES, Place, close_auctions, start
from spark_ext import joins
from spark_ext.delta.arrow import read_arrow
from spark_ext.queries import run

pytestmark = pytest.mark.spark

# Few people, so that they meet; bids before their auction is opened and after it has ended; a tenth of all arrives 3 s behind.
SETTINGS = EventSettings(
    rate=100, hot_sellers=1, hot_bidders=2, active_people=30, auctions_in_flight=30, person_bytes=0, auction_bytes=0, bid_bytes=40,
    out_of_order=300, late_share=0.1, late_by=timedelta(seconds=3),
)  # fmt: skip
SIZES = [900, 500, 0, 600]  # batches; after the second the queries are restarted
FIRST = 2
LATENESS = timedelta(seconds=2)
# The events that a join reads, left and right, and what it calls their time, which tells them apart.
TIMES = {
    "q8": {"persons": "date_time", "auctions": "date_time_right"},
    "q20": {"bids": "bid_date_time", "auctions": "auction_date_time"},
    "in_time": {"auctions": "date_time", "bids": "bid_date_time"},
    "pairs": {"bids": "bid_date_time", "auctions": "auction_date_time"},
}


@pytest.fixture(scope="module")
def made() -> list[dict[str, Any]]:
    return list(batches(SIZES, settings=SETTINGS))


def whole(made: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {name: pa.concat_tables([part[name] for part in made]) for name in made[0]}


def counted(frame: pd.DataFrame) -> Counter[Any]:
    """Return how often each row is there, times in microseconds."""
    plain = pd.DataFrame({
        name: column.astype("datetime64[us, UTC]").astype("int64") if isinstance(column.dtype, pd.DatetimeTZDtype) else column
        for name, column in frame.items()
    })  # fmt: skip
    return Counter(plain.itertuples(index=False, name=None))


def run_stages(spark: SparkSession, query: str, place: Place) -> None:
    for stage in QUERIES[query]:
        run([start(spark, stage, place)])


def kept(place: Place, table: str) -> pd.DataFrame:
    found: pd.DataFrame = read_arrow(DeltaTable(place.table(table))).to_pandas()
    return found


def without_late(events: Mapping[str, pd.DataFrame], query: str, place: Place) -> tuple[dict[str, pd.DataFrame], int]:
    """Leave out what came too late for the join of a query, and say how much that was; nothing else may have been refused anywhere."""
    left, late = dict(events), 0
    for stage in QUERIES[query]:
        if not DeltaTable.is_deltatable(place.table(f"{stage}_refused")):
            continue
        refused = kept(place, f"{stage}_refused")
        assert set(refused["tag"]) <= ({"late"} if stage in TIMES else set()), stage
        for (name, time), side in zip(TIMES.get(stage, {}).items(), ("left", "right"), strict=False):
            times = refused.loc[refused["side"] == side, time].astype("datetime64[us, UTC]")
            is_late = left[name]["date_time"].isin(times)
            assert is_late.sum() == len(times), (stage, name)
            left[name], late = left[name][~is_late], late + len(times)
    return left, late


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_over_streams_and_a_restart_gives_what_pandas_gives(
    spark: SparkSession, made: list[dict[str, Any]], tmp_path: Path, query: str
) -> None:
    place = Place(str(tmp_path), Spans.of(SETTINGS), LATENESS)
    for part in made[:FIRST]:
        append(part, str(tmp_path / "events"))
    run_stages(spark, query, place)
    for part in made[FIRST:]:
        append(part, str(tmp_path / "events"))
    run_stages(spark, query, place)
    if query == "q9":
        close_auctions(spark, place)
        run_stages(spark, query, place)
    events, late = without_late({name: table.to_pandas() for name, table in whole(made).items()}, query, place)
    assert (late > 0) == (query != "q3")
    expected = ANSWERS[query](**events)
    assert len(expected) > 3
    assert counted(kept(place, query)[[*expected.columns]]) == counted(expected)


def test_bounded_frames_give_what_pandas_gives(spark: SparkSession, made: list[dict[str, Any]]) -> None:
    events = whole(made[:FIRST])
    given, spans = frames(spark, events), Spans.of(SETTINGS)
    persons, auctions, bids = given["persons"], given["auctions"], given["bids"]
    valid = queries.valid_bids(queries.in_time(auctions, bids, spans=spans)).localCheckpoint()
    answers: dict[str, DataFrame] = {
        "q3": queries.q3_answer(queries.q3(persons, auctions)),
        "q4": queries.q4_answer(queries.q4(queries.closing_changes(queries.closing(valid)))),
        "q8": queries.q8_answer(queries.q8(persons, auctions)),
        "q9": queries.q9_answer(queries.q9(valid)),
        "q20": queries.q20_answer(queries.q20(bids, auctions, spans=spans)),
        "q23": queries.q23_answer(queries.q23(joins.joined(queries.pairs(bids, auctions, spans=spans)), persons)),
    }
    for query, answer in answers.items():
        found = (answer.where("sign = 1") if "sign" in answer.columns else answer).toArrow().to_pandas()
        expected = ANSWERS[query](**{name: table.to_pandas() for name, table in events.items()})
        assert counted(found[[*expected.columns]]) == counted(expected), query


def test_spans_hold_for_all_events(made: list[dict[str, Any]]) -> None:
    events, spans = {name: table.to_pandas() for name, table in whole(made).items()}, Spans.of(SETTINGS)
    auctions = events["auctions"]
    assert (auctions["expires"] - auctions["date_time"]).max() <= spans.auction
    for ours, theirs, span in (("auction", "id", spans.bids), ("bidder", "seller", spans.activity)):
        both = events["bids"].merge(auctions, left_on=ours, right_on=theirs)
        apart = (both["date_time_x"] - both["date_time_y"]).abs().max()
        assert span / 4 < apart <= span
