"""Every question, answered exactly from the accepted visits: with memory for all of them, and no hurry.

`visits` is a frame with ``visit_id``, ``visitor``, ``page``, ``section``, ``country``, ``at`` (UTC) and ``duration_ms``.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import numpy as np
import pandas as pd

__all__ = ["bounces", "counts", "decayed", "distinct", "overlap", "quantiles", "sessions", "unlisted", "with_times"]

EXACT = "exact"


def with_times(visits: pd.DataFrame) -> pd.DataFrame:
    """Add ``minute``, ``hour`` and ``day``, the start of each in UTC."""
    return visits.assign(minute=visits["at"].dt.floor("min"), hour=visits["at"].dt.floor("h"), day=visits["at"].dt.floor("D"))


def counts(visits: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """Count the views of each group."""
    found: pd.DataFrame = visits.groupby([*keys], observed=True).size().rename(EXACT).reset_index()
    return found


def distinct(visits: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """Count the distinct visitors of each group."""
    return counts(visits[[*keys, "visitor"]].drop_duplicates(), keys)


def decayed(visits: pd.DataFrame, instants: Sequence[pd.Timestamp], *, half_life: timedelta) -> pd.DataFrame:
    """Weigh the pages at each instant: a view weighs 1 when it comes, and half of that after each `half_life`.

    Views of the minute of an instant, and after it, do not count.
    """
    parts = []
    for instant in instants:
        before = visits[visits["at"] < instant.floor("min")]
        halvings = (instant - before["at"]).dt.total_seconds() / half_life.total_seconds()
        weights = pd.Series(np.exp2(-halvings.to_numpy()), before.index).groupby(before["page"], observed=True).sum()
        parts.append(weights.rename(EXACT).reset_index().assign(instant=instant))
    return pd.concat(parts, ignore_index=True)


def quantiles(visits: pd.DataFrame, keys: Sequence[str], column: str, qs: Sequence[float]) -> pd.DataFrame:
    """Return values of a column that are the least with at least a share of `qs` at or below them, by group."""
    parts = []
    for key, group in visits.groupby([*keys], observed=True)[column]:
        values = np.quantile(group.to_numpy(), qs, method="inverted_cdf")
        parts.append(pd.DataFrame({**dict(zip(keys, key, strict=True)), "q": list(qs), EXACT: values}))
    return pd.concat(parts, ignore_index=True)


def overlap(visits: pd.DataFrame, column: str, pairs: Sequence[tuple[object, object]], *, as_share: bool = False) -> pd.DataFrame:
    """Count the visitors that two groups have in common, or say which share that is of all in either: ``one``, ``other``, ``exact``."""
    groups: dict[object, set[object]] = {key: set(visitors) for key, visitors in visits.groupby(column, observed=True)["visitor"]}
    found = []
    for one, other in pairs:
        a, b = groups.get(one, set()), groups.get(other, set())
        found.append({"one": one, "other": other, EXACT: len(a & b) / max(1, len(a | b)) if as_share else len(a & b)})
    return pd.DataFrame(found)


def sessions(visits: pd.DataFrame, *, gap: timedelta) -> pd.DataFrame:
    """Put the visits of each visitor together that follow each other within less than `gap`.

    Returns
    -------
    DataFrame
        ``visitor``, ``window_start`` (first visit), ``window_end`` (last visit and `gap`), ``views``, ``pages`` (distinct), ``spent_ms``.
    """
    number, names = pd.factorize(visits["visitor"])
    order = visits.assign(visitor=number).sort_values(["visitor", "at"], kind="stable")
    begins = (order["visitor"] != order["visitor"].shift()) | (order["at"].diff() >= pd.Timedelta(gap))
    session = begins.cumsum().rename("of")
    by_session = order.groupby(session)
    found = by_session.agg(
        visitor=("visitor", "first"), window_start=("at", "min"), last=("at", "max"), views=("at", "size"), spent_ms=("duration_ms", "sum")
    )
    pages = order[["page"]].assign(of=session).drop_duplicates().groupby("of").size()
    found = found.assign(visitor=np.asarray(names)[found["visitor"]], window_end=found["last"] + pd.Timedelta(gap), pages=pages)
    return found.drop(columns="last").reset_index(drop=True)


def bounces(sessions: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """Return the share of sessions that are one view."""
    found: pd.DataFrame = (sessions["views"] == 1).groupby([sessions[key] for key in keys]).mean().rename(EXACT).reset_index()
    return found


def unlisted(visits: pd.DataFrame, listed: pd.DataFrame, by: str) -> pd.DataFrame:
    """Return how many views the busiest page has that is not in the list of its group.

    Parameters
    ----------
    visits : DataFrame
        Of the visits.
    listed : DataFrame
        ``page`` by `by`: what is listed.
    by : str
        Column of times that groups.
    """
    every = counts(visits, [by, "page"]).astype({"page": object})
    both = every.merge(listed.astype({"page": object}), how="left", on=[by, "page"], indicator="is_listed")
    rest = both[EXACT].where(both["is_listed"] == "left_only", 0)
    found: pd.DataFrame = rest.groupby(both[by]).max().rename(EXACT).reset_index()
    return found
