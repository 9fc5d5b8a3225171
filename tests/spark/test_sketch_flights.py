"""Every question to sketches of a year of real flights, beside pandas: inside the bounds as often as was said, and alike from all sides."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.flights.events import events
from sketches import (
    BloomFilter,
    CountMinSketch,
    DecayingTop,
    DecayingWindow,
    HyperLogLog,
    MisraGries,
    Quantiles,
    ReservoirSample,
    SpaceSaving,
    UltraLogLog,
)
from sketches import functions as plain
from spark_ext.sketching import aggregate, functions, register, rollup, sketch
from spark_ext.windows import aggregates

pytestmark = pytest.mark.spark

ONE_IN_A_MILLION = 4.9  # standard deviations
END = pd.Timestamp("2014-01-01", tz="UTC")
MEASURES = {
    "flights": aggregates.count(),
    "tails": sketch(HyperLogLog(10), "tailnum"),
    "ultra": sketch(UltraLogLog(9), "tailnum"),
    "seen": sketch(BloomFilter.from_error(capacity=3000, false_positive_rate=0.01), "tailnum"),
    "to": sketch(CountMinSketch.from_error(epsilon=0.01, delta=0.02), "dest"),
    "hot": sketch(SpaceSaving(40), "dest"),
    "low": sketch(MisraGries(40), "dest"),
    "delays": sketch(Quantiles(200), "dep_delay"),
    "some": sketch(ReservoirSample(400), "dep_delay"),
    "recent": sketch(DecayingWindow(timedelta(days=30)), "dep_delay", times="at"),
    "trend": sketch(DecayingTop(40, timedelta(days=30)), "dest", times="at"),
}
KEYS = ["carrier", "month"]


@pytest.fixture(scope="module")
def flights() -> pd.DataFrame:
    """Departures and cancellations, with the delay of those that left."""
    found = events()
    found = found[found.event != "arrival"]
    return pd.DataFrame(
        {
            "carrier": found.carrier,
            "month": found.scheduled_time.dt.month.astype("int64"),
            "tailnum": found.tailnum,
            "dest": found.dest,
            "dep_delay": found.delay_minutes.astype("float64"),
            "at": found.scheduled_time.astype("datetime64[us, UTC]"),
        }
    )


@pytest.fixture(scope="module")
def table(spark: SparkSession, flights: pd.DataFrame) -> DataFrame:
    frame = spark.createDataFrame(pa.Table.from_pandas(flights, preserve_index=False)).repartition(3)
    return aggregate(frame, keys=KEYS, aggregates=MEASURES).persist()


@pytest.fixture(scope="module")
def rows(table: DataFrame) -> pa.Table:
    return table.toArrow()


def holds(inside: list[bool], confidence: float) -> None:
    """Require that answers are inside as often as was said, unless luck is one in a million."""
    allowed = len(inside) * (1 - confidence)
    assert len(inside) - sum(inside) <= allowed + ONE_IN_A_MILLION * np.sqrt(allowed * confidence) + 1


def exact_of(flights: pd.DataFrame, rows: pa.Table, what: Any) -> list[Any]:
    groups = dict(list(flights.groupby(KEYS)))
    return [what(groups[key]) for key in zip(rows["carrier"].to_pylist(), rows["month"].to_pylist(), strict=True)]


def test_counts_are_exact(flights: pd.DataFrame, rows: pa.Table) -> None:
    assert rows["flights"].to_pylist() == exact_of(flights, rows, len)
    assert len(rows) == flights.groupby(KEYS).ngroups


@pytest.mark.parametrize("column", ["tails", "ultra"])
def test_distinct_tails(flights: pd.DataFrame, rows: pa.Table, column: str) -> None:
    exact = exact_of(flights, rows, lambda part: part.tailnum.nunique())
    found = plain.bounds(rows[column], 0.95).to_pylist()
    holds([one["lower"] <= true <= one["upper"] for one, true in zip(found, exact, strict=True)], 0.95)


def test_seen_tails_are_found_and_others_rarely(flights: pd.DataFrame, rows: pa.Table) -> None:
    parts = exact_of(flights, rows, lambda part: part.tailnum.dropna().unique())
    others = np.array([f"X{number}" for number in range(2000)])
    for filter_, tails in zip(rows["seen"].to_pylist(), parts, strict=True):
        seen = BloomFilter.from_bytes(filter_)
        assert seen.contains_many(tails.astype("U8")).all()
        assert seen.contains_many(others).mean() < 0.01 + ONE_IN_A_MILLION * np.sqrt(0.01 / 2000)
    asked = plain.contains(rows["seen"], pa.array([tails[0] if len(tails) else None for tails in parts])).to_pylist()
    assert all(answer is not False for answer in asked)


def test_how_often_a_destination(flights: pd.DataFrame, rows: pa.Table) -> None:
    for dest in ("ORD", "ATL", "HNL", "nowhere"):
        exact = exact_of(flights, rows, lambda part, dest=dest: int((part.dest == dest).sum()))
        for column, confidence in (("to", 0.95), ("hot", 1.0), ("low", 1.0)):
            found = plain.frequency(rows[column], dest, 0.95).to_pylist()
            inside = [one["lower"] <= true <= one["upper"] for one, true in zip(found, exact, strict=True)]
            assert all(one["upper"] >= true for one, true in zip(found, exact, strict=True))
            holds(inside, confidence) if confidence < 1 else pytest.fail(dest) if not all(inside) else None


def test_the_hottest_destinations(flights: pd.DataFrame, rows: pa.Table) -> None:
    exact = exact_of(flights, rows, lambda part: part.dest.value_counts())
    for found, counts in zip(plain.top(rows["hot"], 3).to_pylist(), exact, strict=True):
        for hot in found:
            assert hot["lower"] <= counts[hot["item"]] <= hot["upper"]
            if hot["guaranteed"]:
                assert (counts > counts[hot["item"]]).sum() < 3


def test_quantiles_of_delays(flights: pd.DataFrame, rows: pa.Table) -> None:
    for q in (0.1, 0.5, 0.99):
        found = plain.quantile(rows["delays"], q, 0.95).to_pylist()
        exact = exact_of(flights, rows, lambda part: np.sort(part.dep_delay.dropna().to_numpy()))
        inside = []
        for one, values in zip(found, exact, strict=True):
            true = values[max(0, int(np.ceil(q * len(values))) - 1)]
            inside.append(one["lower"] <= true <= one["upper"])
        holds(inside, 0.95)


def test_a_sample_has_the_mean(flights: pd.DataFrame, rows: pa.Table) -> None:
    exact = exact_of(flights, rows, lambda part: part.dep_delay.mean())
    samples = [ReservoirSample.from_bytes(data) for data in rows["some"].to_pylist()]
    bounds = [(one.lower_bound(confidence=0.95), one.upper_bound(confidence=0.95)) for one in samples]
    # The bound is the normal distribution's, and delays are skewed.
    holds([lower <= true <= upper for (lower, upper), true in zip(bounds, exact, strict=True)], 0.9)
    drawn = plain.sample(rows["some"], item_type=pa.float64()).to_pylist()
    assert all(set(some) <= set(values) for some, values in zip(drawn, exact_of(flights, rows, lambda part: part.dep_delay), strict=True))


def test_what_decays(flights: pd.DataFrame, rows: pa.Table) -> None:
    def weights(part: pd.DataFrame) -> pd.Series:
        return 0.5 ** ((END - part["at"]) / pd.Timedelta(days=30))

    some = flights.dropna(subset=["dep_delay"])
    sums = exact_of(some, rows, lambda part: float((part.dep_delay * weights(part)).sum()))
    assert plain.decayed(rows["recent"], END.to_pydatetime()).field("sum").to_pylist() == pytest.approx(sums, rel=1e-9, abs=1e-6)
    tops = exact_of(flights, rows, lambda part: weights(part).groupby(part.dest).sum())
    for found, exact in zip(plain.top(rows["trend"], 3, at=END.to_pydatetime()).to_pylist(), tops, strict=True):
        assert all(hot["lower"] * (1 - 1e-9) <= exact[hot["item"]] <= hot["upper"] * (1 + 1e-9) for hot in found)


def test_in_both_of_two_months(spark: SparkSession, flights: pd.DataFrame, table: DataFrame) -> None:
    months = rollup(table, keys=["month"]).select("month", "tails").toArrow().sort_by("month")
    tails = {month: set(part.tailnum.dropna()) for month, part in flights.groupby("month")}
    first, later = months["tails"].slice(0, 11), months["tails"].slice(1)
    for name, exact in (
        ("intersection", lambda a, b: len(a & b)),
        ("difference", lambda a, b: len(a - b)),
        ("union_estimate", lambda a, b: len(a | b)),
        ("jaccard", lambda a, b: len(a & b) / len(a | b)),
    ):
        found = getattr(plain, name)(first, later, 0.95).to_pylist()
        holds([one["lower"] <= exact(tails[month], tails[month + 1]) <= one["upper"] for month, one in enumerate(found, 1)], 0.95)


def test_sql_frames_and_arrow_say_the_same(spark: SparkSession, table: DataFrame, rows: pa.Table) -> None:
    register(spark)
    table.createOrReplaceTempView("sketched_flights")
    asked = {
        "bounds": ("sketch_bounds(tails)", functions.bounds("tails"), plain.bounds(rows["tails"])),
        "often": ("sketch_frequency(to, 'ORD')", functions.frequency("to", F.lit("ORD")), plain.frequency(rows["to"], "ORD")),
        "top": ("sketch_top(hot, 3)", functions.top("hot", 3), plain.top(rows["hot"], 3)),
        "median": ("sketch_quantile(delays, 0.5D)", functions.quantile("delays", 0.5), plain.quantile(rows["delays"], 0.5)),
        "both": ("sketch_jaccard(tails, tails)", functions.jaccard("tails", "tails"), plain.jaccard(rows["tails"], rows["tails"])),
    }
    by_sql = spark.table("sketched_flights").selectExpr(*(f"{sql} AS {name}" for name, (sql, _, _) in asked.items())).toArrow()
    by_frame = table.select(*(column.alias(name) for name, (_, column, _) in asked.items())).toArrow()
    for name, (_, _, answers) in asked.items():
        assert by_sql[name].to_pylist() == by_frame[name].to_pylist() == answers.to_pylist()
