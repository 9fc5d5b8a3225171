"""The report reads tables and draws; the numbers of the plot by hand."""

from __future__ import annotations

import io
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
from deltalake import write_deltalake
from rich.console import Console

from jobs.flights.report import FEWEST_FLIGHTS, _late_table, delay_by_hour, report


def departures(scheduled: str, origin: str, delays: list[int | None], event: str = "departure") -> pd.DataFrame:
    time = pd.Timestamp(scheduled)
    return pd.DataFrame({"event": event, "scheduled_time": time, "origin": origin, "delay_minutes": pd.array(delays, dtype="Int64")})


@pytest.fixture
def events() -> pd.DataFrame:
    return pd.concat(
        [
            departures("2013-01-01T13:00Z", "EWR", [10, 20] * FEWEST_FLIGHTS),  # 8 in winter
            departures("2013-07-01T12:30Z", "EWR", [30, 60] * FEWEST_FLIGHTS),  # 8 in summer
            departures("2013-07-01T13:30Z", "JFK", [500] * (FEWEST_FLIGHTS - 1)),
            departures("2013-07-01T12:30Z", "EWR", [900] * FEWEST_FLIGHTS, event="arrival"),
            departures("2013-07-01T12:30Z", "EWR", [None] * FEWEST_FLIGHTS, event="cancellation"),
        ],
        ignore_index=True,
    )


def test_delays_count_by_local_hour_of_the_timetable(events: pd.DataFrame) -> None:
    means = delay_by_hour(events)
    assert means.to_dict("index") == {8: {"EWR": 30.0, "JFK": pytest.approx(float("nan"), nan_ok=True)}}


def test_the_report_prints_its_tables_and_saves_a_plot(events: pd.DataFrame, tmp_path: Path) -> None:
    start = pd.Timestamp("2013-02-08T22:00Z")
    tables = {
        "flight_events": events,
        "hourly_departures": pd.DataFrame(
            {
                "origin": ["EWR", "EWR"], "window_start": [start, start + pd.Timedelta(hours=1)], "departures": [3, 1],
                "cancelled": [27, 0], "mean_delay_minutes": [10.0, 50.0], "worst_delay_minutes": [1126, 50],
            }
        ),
        "routes": pd.DataFrame(
            {
                "origin": ["EWR"] * 11, "dest": [f"A{n:02d}" for n in range(11)], "airline": "United", "destination": "Somewhere",
                "departures": range(100, 111), "cancelled": 0, "mean_arrival_delay_minutes": [None, *[1.5] * 10],
            }
        ),
        "late_for_days": pd.DataFrame(
            {
                "origin": ["JFK", "JFK", "LGA"], "event": ["departure", "cancellation", "departure"],
                "lateness_ms": [3_600_000, 9_000_000, 60_000], "day": pd.to_datetime(["2013-11-03", "2013-11-02", "2013-11-03"]).date,
            }
        ),
        "ledger": pd.DataFrame(
            {
                "pipeline": ["flights/days", "flights/events", "flights/events"], "read": [9, 4, 5], "accepted": [9, 3, 5],
                "late": [0, 1, 0], "dead": 0, "lost": 0, "is_balanced": True,
            }
        ),
    }  # fmt: skip
    for name, table in tables.items():
        write_deltalake(str(tmp_path / "tables" / name), pa.Table.from_pandas(table, preserve_index=False))
    screen = io.StringIO()
    report(tmp_path, console=Console(file=screen, width=120))
    text = screen.getvalue()
    assert "EWR-A10" in text
    assert "EWR-A00" not in text, "the eleventh"
    late = [line.split() for line in text.splitlines() if line.split()[:1] in (["JFK"], ["LGA"])]
    assert late == [["JFK", "2", "1", "1", "2.5", "h", "02", "Nov"], ["LGA", "1", "1", "0", "0.0", "h", "03", "Nov"]]
    kept = [line.split() for line in text.splitlines() if line.split()[:1] == ["flights/events"]]
    assert kept == [["flights/events", "2", "9", "8", "1", "0", "2"]]
    for number in ("20.0 min", "1,126 min", "08 Feb 17:00 (27)", "87.1%"):
        assert number in text
    assert (tmp_path / "delays_by_hour.png").read_bytes().startswith(b"\x89PNG")


def test_without_late_rows_it_says_so() -> None:
    table = _late_table(pd.DataFrame({"origin": [], "event": [], "lateness_ms": [], "day": []}))
    assert table.row_count == 0
    assert "none" in str(table.caption)
