"""Tell visits and versions of pages from anything else in their topics."""

from __future__ import annotations

import json
from itertools import product
from typing import Any, Final

import pandas as pd

__all__ = ["VISIT", "parse_changes", "parse_visits"]

VISIT: Final = ["visit_id", "visitor", "session", "page", "section", "referrer", "country", "agent", "at", "duration_ms"]
CHANGE: Final = ["page", "section", "title", "changed_at"]
Shapes = frozenset[tuple[type, ...]]
NULLABLE: Final = (str, type(None))
INT32: Final = 1 << 31


def _shapes(*kinds: tuple[type, ...]) -> Shapes:
    return frozenset(product(*kinds))


VISIT_SHAPES: Final = _shapes((int,), (str,), (str,), (str,), (str,), NULLABLE, (str,), (str,), (str,), (int,))
CHANGE_SHAPES: Final = _shapes(*[(str,)] * len(CHANGE))


def parse_visits(records: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Split records into visits and the rest.

    Parameters
    ----------
    records : DataFrame
        As `jobs.flights.check.broker.read_topic` returns them.

    Returns
    -------
    tuple of DataFrame
        The visits with `VISIT` as typed columns after the records' own, and the records that are none: not one JSON object in UTF-8, a
        field missing or of another type, a time that is none, or a duration below 0.
    """
    good, bad = _parse(records, VISIT, VISIT_SHAPES, "at")
    fine = good["duration_ms"].between(0, INT32 - 1)
    if fine.all():
        return good, bad
    return good[fine], records.loc[records.index.difference(good.index[fine])]


def parse_changes(records: pd.DataFrame) -> pd.DataFrame:
    """Return the versions of pages in a topic, with ``changed_at`` as a time; records that are none are left out."""
    return _parse(records, CHANGE, CHANGE_SHAPES, "changed_at")[0]


def _parse(records: pd.DataFrame, fields: list[str], shapes: Shapes, time: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    rows = [_fields(value, fields, shapes) for value in records["value"]]
    shaped = pd.Series([row is not None for row in rows], records.index, dtype=bool)
    found = pd.DataFrame.from_records([row for row in rows if row is not None], columns=fields, index=records.index[shaped])
    found[time] = pd.to_datetime(found[time], format="ISO8601", utc=True, errors="coerce").astype("datetime64[us, UTC]")
    found = found[found[time].notna()]
    return records.drop(columns=["key", "value"]).join(found, how="inner"), records.drop(index=found.index)


def _fields(value: bytes | None, fields: list[str], shapes: Shapes) -> tuple[object, ...] | None:
    try:
        found: Any = json.loads((value or b"").decode())
    except ValueError:
        return None
    if type(found) is not dict:
        return None
    row = tuple([found.get(name) for name in fields])
    return row if tuple(map(type, row)) in shapes else None
