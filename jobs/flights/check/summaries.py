"""The weather of departures, the hours and the routes that follow from the accepted events."""

from __future__ import annotations

import pandas as pd

from jobs.flights.check import expected

__all__ = ["departures_weather", "hourly_departures", "routes"]

MEASURED_WITHIN = pd.Timedelta(hours=2)


def departures_weather(events: pd.DataFrame) -> pd.DataFrame:
    """Compute one row per departure with the last weather measured at its origin by then, unless that is more than two hours ago."""
    left = events[events["event"] == "departure"].sort_values("event_time", kind="stable")
    measured = expected.weather().rename(columns={"window_start": "measured_at"}).sort_values("measured_at", kind="stable")
    facts = left[["origin", "dest", "carrier", "flight", "event_time", "delay_minutes", "topic", "partition", "offset", "timestamp"]]
    times = {"event_time": facts["event_time"].astype("datetime64[us, UTC]")}
    measured = measured.assign(measured_at=measured["measured_at"].astype("datetime64[us, UTC]"))
    return pd.merge_asof(
        facts.assign(**times), measured, left_on="event_time", right_on="measured_at", by="origin", tolerance=MEASURED_WITHIN
    )


def hourly_departures(events: pd.DataFrame) -> pd.DataFrame:
    """Compute one row per origin and hour in which a flight left or was cancelled, with the weather at its start."""
    ours = events[events["event"] != "arrival"]
    hour = ours["event_time"].dt.floor("h").rename("window_start")
    left = ours["event"] == "departure"
    facts = pd.DataFrame(
        {
            "origin": ours["origin"],
            "departures": left.astype("int64"),
            "cancelled": (~left).astype("int64"),
            "delay": ours["delay_minutes"].where(left),
            "tailnum": ours["tailnum"].where(left),
        }
    )
    by_hour = facts.groupby([facts["origin"], hour])
    result = pd.DataFrame(
        {
            "departures": by_hour["departures"].sum(),
            "cancelled": by_hour["cancelled"].sum(),
            "mean_delay_minutes": by_hour["delay"].mean().astype("float64"),
            "worst_delay_minutes": by_hour["delay"].max(),
            "distinct_aircraft": by_hour["tailnum"].nunique(),
        }
    ).reset_index()
    result["window_end"] = result["window_start"] + pd.Timedelta(hours=1)
    return result.merge(expected.weather(), how="left", on=["origin", "window_start"], validate="one_to_one")


def routes(events: pd.DataFrame) -> pd.DataFrame:
    """Compute one row per origin, destination and carrier."""
    keys = ["origin", "dest", "carrier"]
    counts = events.groupby([*keys, "event"]).size().unstack("event", fill_value=0)
    result = counts.reindex(columns=["departure", "cancellation", "arrival"], fill_value=0)
    result.columns = pd.Index(["departures", "cancelled", "arrivals"])
    arrived = events[events["event"] == "arrival"]
    result["mean_arrival_delay_minutes"] = arrived.groupby(keys)["delay_minutes"].mean().astype("float64")
    result = result.reset_index()
    result["airline"] = result["carrier"].map(expected.airline_names())
    result["destination"] = result["dest"].map(expected.airport_names())
    return result
