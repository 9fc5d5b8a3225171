"""What the sketches say: every question that the proof knows, asked of the job's tables, each answer with its bounds.

Spark is not needed: the tables are read by delta-rs, and `sketches.functions` answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from jobs.web_analytics.check.claims import Answer, shared_confidence
from sketches import ReservoirSample, SpaceSaving, functions

__all__ = ["LISTED", "QS", "answers", "hot_now", "popular_at"]

QS: Final = (0.5, 0.9, 0.99)
CONFIDENCE: Final = 0.95
LISTED: Final = 1 << 20  # more than any list has
START: Final = "window_start"


def answers(out: Path) -> list[Answer]:
    """Ask everything of the tables in ``out/tables``."""
    tables = {name: _read(out, name) for name in ("minute_pages", "minutes", "country_hours", "session_hours")}
    return [
        *_visitors(tables["minute_pages"]),
        *_overlaps(tables["minute_pages"]),
        *_hot(tables["minutes"]),
        *_popular(tables["minutes"]),
        *_time_spent(tables["minutes"]),
        *_countries(tables["country_hours"], sorted(pc.unique(tables["minute_pages"]["page"]).to_pylist())),
        *_sessions(tables["session_hours"]),
    ]


def hot_now(minutes: pa.Table, instant: pd.Timestamp, *, back: pd.Timedelta, n: int) -> pd.DataFrame:
    """Return the pages with most views in the time before an instant: ``page``, ``estimate``, ``lower``, ``upper``."""
    start = minutes.column(START)
    some = minutes.filter(pc.and_(pc.greater_equal(start, _moment(instant - back)), pc.less(start, _moment(instant))))
    merged = functions.merge_by(some, [], ["hot"])
    return _exploded(pd.DataFrame(index=[0]), functions.top(merged["hot"], n))


def popular_at(minutes: pa.Table, instants: Sequence[pd.Timestamp], *, n: int) -> pd.DataFrame:
    """Return the pages that weigh most at each instant: ``instant``, ``page``, ``estimate``, ``lower``, ``upper``.

    Rows of the minute of an instant, and after it, do not count: at their own time they are not known yet.
    """
    stored = [
        functions.merge(minutes.filter(pc.less(minutes.column(START), _moment(instant.floor("min"))))["popular"]) for instant in instants
    ]
    top = functions.top(pa.array(stored, pa.binary()), n, at=pa.array(list(instants), pa.timestamp("us", "UTC")))
    return _exploded(pd.DataFrame({"instant": list(instants)}), top)


def _visitors(minute_pages: pa.Table) -> list[Answer]:
    keys = ["minute", "page", "section"]
    found = [
        _plain("views by minute, page, section", keys, minute_pages, "views"),
        _counted("visitors by minute, page, section", keys, minute_pages),
    ]
    for by, shared in ((["hour", "page"], False), (["hour"], False), (["day"], True), (["section"], True)):
        merged = functions.merge_by(minute_pages, by, ["visitors"])
        found.append(_counted(f"visitors by {', '.join(by)}", by, merged, shared=shared))
    return found


def _overlaps(minute_pages: pa.Table) -> list[Answer]:
    """Ask how many visitors two sections, and two hours that follow each other, have in common."""
    found = []
    for by in ("section", "hour"):
        merged = functions.merge_by(minute_pages, [by], ["visitors"]).sort_by(by)
        groups = merged[by].to_pandas()
        number = np.arange(len(groups))
        one, other = (number[:-1], number[1:]) if by == "hour" else np.triu_indices(len(groups), 1)
        keys = pd.DataFrame({"one": groups.to_numpy(copy=True)[one], "other": groups.to_numpy(copy=True)[other]})
        if by == "hour":
            keys = keys.apply(pd.to_datetime, utc=True)
        a, b = (merged["visitors"].take(pa.array(side)) for side in (one, other))
        for name, ask in [("visitors in common", functions.intersection), ("share of visitors in common", functions.jaccard)]:
            frame = _with_wide_bounds(_with_bounds(keys, ask(a, b, CONFIDENCE)), ask(a, b, shared_confidence(len(keys))))
            found.append(Answer(f"{name} by {by}", ["one", "other"], frame, CONFIDENCE))
    return found


def _hot(minutes: pa.Table) -> list[Answer]:
    """Ask for the hot pages of each minute, hour and day, and how many views another page may have."""
    found = [_plain("views by minute", ["minute"], minutes, "views")]
    for by in ("minute", "hour", "day"):
        merged = functions.merge_by(minutes, [by], ["hot"])
        keys = merged.select([by]).to_pandas()
        listed = _exploded(keys, functions.top(merged["hot"], LISTED))
        errors = [SpaceSaving.from_bytes(stored.as_py()).error() for stored in merged["hot"]]
        unlisted = keys.assign(
            page=listed.groupby(by)["page"].agg(list).reindex(keys[by]).to_numpy(), estimate=errors, lower=0, upper=errors
        )
        found += [
            Answer(f"views of a listed page by {by}, page", [by, "page"], listed),
            Answer(f"most views of an unlisted page by {by}", [by], unlisted),
        ]
    return found


def _popular(minutes: pa.Table) -> list[Answer]:
    """Ask how much pages weigh at six instants of the day."""
    first, last = pc.min_max(minutes.column(START)).as_py().values()
    span = pd.Timestamp(last) - pd.Timestamp(first)
    instants = [(pd.Timestamp(first) + span * part / 6).floor("min") for part in range(1, 7)]
    return [Answer("weight of a listed page by instant, page", ["instant", "page"], popular_at(minutes, instants, n=LISTED))]


def _time_spent(minutes: pa.Table) -> list[Answer]:
    found = []
    for by in ("minute", "hour", "day"):
        merged = functions.merge_by(minutes, [by], ["time_spent"])
        found.append(_quantiles(f"time spent by {by}, q", [by], merged, "time_spent"))
    return found


def _countries(country_hours: pa.Table, pages: Sequence[str]) -> list[Answer]:
    """Ask for each country and hour about every page, seen there or not: the upper bound is sure, the lower one likely."""
    keys = country_hours.select(["hour", "country"]).to_pandas()
    rows = np.repeat(np.arange(len(keys)), len(pages))
    asked = keys.iloc[rows].reset_index(drop=True).assign(page=np.tile(np.array(pages, dtype=object), len(keys)))
    likely = functions.frequency(country_hours["pages"].take(pa.array(rows)), pa.array(asked["page"]), CONFIDENCE)
    found = _with_bounds(asked, likely)
    name, by = "views of any page by hour, country, page", ["hour", "country", "page"]
    return [
        _plain("views by hour, country", ["hour", "country"], country_hours, "views"),
        Answer(name, by, found.assign(lower=0)),
        Answer(name, by, found, CONFIDENCE),
    ]


def _sessions(session_hours: pa.Table) -> list[Answer]:
    """Ask for the number of sessions by hour, their lengths, and what a sample of them says."""
    keys = session_hours.select(["hour"]).to_pandas()
    samples = [ReservoirSample.from_bytes(stored.as_py()) for stored in session_hours["sample"]]
    bounces = [(one.estimate(_is_bounce), one.lower_bound(_is_bounce), one.upper_bound(_is_bounce)) for one in samples]
    told = pd.Series([text for one in samples for text in one.sample()]).str.split("|", expand=True)
    sampled = pd.DataFrame({"visitor": told[0], START: pd.to_datetime(told[1], format="ISO8601", utc=True)})
    return [
        _plain("sessions by hour", ["hour"], session_hours, "sessions"),
        _quantiles("views of a session by hour, q", ["hour"], session_hours, "lengths"),
        Answer("sessions of one view by hour", ["hour"], _numbers(keys, np.array(bounces)), CONFIDENCE),
        Answer("views of a sampled session by visitor, window_start", ["visitor", START], _exactly(sampled, told[2].astype("int64"))),
    ]


def _is_bounce(told: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    return np.array([text.split("|")[2] == "1" for text in told], dtype=bool)


def _plain(name: str, keys: list[str], table: pa.Table, column: str) -> Answer:
    """Return a number of the table itself, which has no bounds but itself."""
    return Answer(name, keys, _exactly(table.select(keys).to_pandas(), table[column].to_pandas()))


def _counted(name: str, keys: list[str], table: pa.Table, *, shared: bool = False) -> Answer:
    """Return how many visitors there are; `shared`: the same ones come in most groups."""
    visitors = table["visitors"]
    frame = _with_bounds(table.select(keys).to_pandas(), functions.bounds(visitors, CONFIDENCE))
    if shared:
        frame = _with_wide_bounds(frame, functions.bounds(visitors, shared_confidence(len(visitors))))
    return Answer(name, keys, frame, CONFIDENCE)


def _quantiles(name: str, keys: list[str], table: pa.Table, column: str) -> Answer:
    rows = np.repeat(np.arange(len(table)), len(QS))
    asked = table.select(keys).to_pandas().iloc[rows].reset_index(drop=True).assign(q=np.tile(QS, len(table)))
    found = functions.quantile(table[column].take(pa.array(rows)), pa.array(asked["q"]), CONFIDENCE)
    return Answer(name, [*keys, "q"], _with_bounds(asked, found), CONFIDENCE)


def _exactly(keys: pd.DataFrame, numbers: pd.Series) -> pd.DataFrame:
    return keys.assign(**dict.fromkeys(("estimate", "lower", "upper"), numbers.to_numpy()))


def _with_bounds(keys: pd.DataFrame, found: pa.Array) -> pd.DataFrame:
    """Put an array of structs of estimate, lower and upper beside keys."""
    names = ("estimate", "lower", "upper")
    return _numbers(keys, np.stack([found.field(name).to_numpy(zero_copy_only=False) for name in names], axis=1))


def _with_wide_bounds(frame: pd.DataFrame, found: pa.Array) -> pd.DataFrame:
    least, most = (found.field(name).to_numpy(zero_copy_only=False) for name in ("lower", "upper"))
    return frame.assign(least=least, most=most)


def _numbers(keys: pd.DataFrame, numbers: npt.NDArray[Any]) -> pd.DataFrame:
    return keys.assign(estimate=numbers[:, 0], lower=numbers[:, 1], upper=numbers[:, 2])


def _exploded(keys: pd.DataFrame, top: pa.Array) -> pd.DataFrame:
    """Put lists of structs beside keys, an entry a row: the keys, ``page`` and its numbers."""
    entries = top.flatten()
    rows = keys.iloc[np.repeat(np.arange(len(keys)), pc.list_value_length(top).to_numpy())].reset_index(drop=True)
    return _with_bounds(rows.assign(page=entries.field("item").to_pandas()), entries)


def _read(out: Path, name: str) -> pa.Table:
    """Return a sketch table, with the minute, hour and day in which its rows begin, as far as they are as fine."""
    table = DeltaTable(str(out / "tables" / name)).to_pyarrow_table()
    starts = table.column(START).cast(pa.timestamp("us", "UTC"))
    table = table.set_column(table.schema.get_field_index(START), START, starts)
    for unit in ("minute", "hour", "day"):
        table = table.append_column(unit, pc.floor_temporal(starts, unit=unit))
    return table


def _moment(instant: pd.Timestamp) -> pa.Scalar:
    return pa.scalar(instant.to_pydatetime(), pa.timestamp("us", "UTC"))
