"""A day of visits to a site, made up, but skewed like real ones.

Few pages get most views, few visitors come often, a handful of bots outdo them all at regular intervals; the day has a rhythm in each
country, and each hour a page that everybody reads. What the network does to the records on their way is in `jobs.web_analytics.network`.
Vectorised: a million visits take a second or two.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from jobs.web_analytics.site import AGENTS, ARCHIVE, BOTS, COUNTRIES, REFERRERS, page_changes, pages

__all__ = ["Traffic", "checksum", "visits"]

DAY_MS: Final = 86_400_000
ZIPF: Final = 1.05  # exponent of the pages' popularity
PARETO: Final = 1.3  # tail of how often visitors come
MOST_OFTEN: Final = 30  # times the mean, for a visitor who is no bot
SESSIONS_EACH: Final = 2.2  # mean sessions of a visitor
VIEWS_EACH: Final = 3.2  # mean views of a session
DWELL_MS, DWELL_SIGMA = 35_000, 1.1  # median, and spread of its logarithm
SHORTEST_MS, LONGEST_MS = 300, 1_500_000
STAYS: Final = 0.45  # share of views that stay in the section in which the session began
HOT_SHARE, HOT_MS = 0.12, 2_400_000  # share of views of the page of the moment, and how long a moment is
JITTER_MS: Final = 40  # of a bot's intervals
RHYTHM: Final = [4, 3, 2, 2, 3, 6, 14, 28, 40, 44, 42, 43, 52, 50, 42, 40, 42, 48, 58, 66, 70, 60, 36, 14]  # by local hour

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """How much comes, and when.

    Attributes
    ----------
    visits : int, > 0
        Views of pages.
    day : date
        The UTC day on which sessions begin.
    seed : int
        Of everything that is drawn.
    bot_share : float, 0 to 1
        Share of the views that is by bots.
    """

    visits: int = 1_000_000
    day: date = date(2025, 3, 4)
    seed: int = 7
    bot_share: float = 0.06


def visits(traffic: Traffic = Traffic()) -> pd.DataFrame:
    """Make the visits of a day.

    Guarantee: the same `traffic` gives the same visits. Each ``visit_id`` is there once. A page's ``section`` is the one it has
    at that time, by `jobs.web_analytics.site.page_changes` of the same day and seed.

    Returns
    -------
    DataFrame
        Ordered by ``at``: ``visit_id`` int64 (below 2^52), ``visitor``, ``session``, ``page``, ``section``, ``referrer`` (null if none),
        ``country``, ``agent`` (categorical strings), ``at`` datetime64[ms, UTC], ``duration_ms`` int64.
    """
    random = np.random.default_rng([traffic.seed, 0])
    robots = round(traffic.visits * traffic.bot_share)
    site = pages()
    site["popularity"] = _popularity(len(site), random)
    people = _people(traffic.visits - robots, site, random)
    bots = _bots(robots, site, first_visitor=int(people["visitor"].max(initial=0)) + 1, random=random)
    parts = {name: np.concatenate([people[name], bots[name]]) for name in people}
    order = np.argsort(parts["at"], kind="stable")
    return _named({name: values[order] for name, values in parts.items()}, site, traffic)


def checksum(frame: pd.DataFrame) -> str:
    """Return a checksum of a frame's values, in hex: equal if and only if every value is (up to SHA-256)."""
    digest = hashlib.sha256()
    for name, column in frame.items():
        digest.update(f"{name} {len(column)}\n".encode())
        if isinstance(column.dtype, pd.CategoricalDtype):
            digest.update("\n".join(map(str, column.cat.categories)).encode())
            values: npt.NDArray[Any] = column.cat.codes.to_numpy("int32")
        elif isinstance(column.dtype, pd.DatetimeTZDtype):
            values = column.dt.tz_convert(None).to_numpy("datetime64[ms]").astype("int64")
        else:
            values = column.to_numpy()
        digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()[:16]


def _popularity(number: int, random: np.random.Generator) -> npt.NDArray[np.float64]:
    """Return the weight of each page by Zipf's law; the front page is first, the others are dealt their ranks."""
    ranks = np.append(0, 1 + random.permutation(number - 1))
    return (1.0 + ranks) ** -ZIPF


def _people(number: int, site: pd.DataFrame, random: np.random.Generator) -> dict[str, Ints]:
    """Return the views of people, as numbers; times in milliseconds of the day."""
    lengths = random.geometric(1 / VIEWS_EACH, number // 2 + 1)  # more sessions than needed
    sessions = min(int(np.searchsorted(np.cumsum(lengths), number)) + 1, len(lengths))
    lengths = lengths[:sessions]
    population = max(1, int(sessions / SESSIONS_EACH))
    often = np.minimum(random.pareto(PARETO, population) + 0.2, MOST_OFTEN)
    visitor = _draw(often, sessions, random)
    country = _draw(COUNTRIES["weight"].to_numpy(), population, random)[visitor]
    agent = _draw(np.array(list(AGENTS.values())), population, random)[visitor]
    offset_ms = COUNTRIES["utc_offset_hours"].to_numpy()[country] * 3_600_000
    starts = (_rhythm(sessions, random) - offset_ms) % DAY_MS

    of = np.repeat(np.arange(sessions), lengths)[:number]
    first = np.append(True, of[1:] != of[:-1])
    dwell = np.clip(DWELL_MS * np.exp(DWELL_SIGMA * random.standard_normal(number)), SHORTEST_MS, LONGEST_MS).astype(np.int64)
    before = np.cumsum(dwell) - dwell
    at = starts[of] + before - before[first][of]
    page = _pages(at, of, first, site, random)
    outside = _draw(np.array(list(REFERRERS.values())), sessions, random)[of]
    referrer = np.where(first, outside - 1, len(REFERRERS) - 1 + np.roll(page, 1))  # -1: none; then sites, then our own pages
    return {
        "visitor": visitor[of], "session": of, "page": page, "referrer": referrer, "country": country[of], "agent": agent[of],
        "at": at, "duration_ms": dwell,
    }  # fmt: skip


def _pages(at: Ints, of: Ints, first: npt.NDArray[np.bool_], site: pd.DataFrame, random: np.random.Generator) -> Ints:
    """Return the page of each view: by popularity, often within the section in which the session began, or the page of the moment."""
    sections = site["section"].to_numpy()
    weights = np.cumsum(site["popularity"].to_numpy())
    begins = np.flatnonzero(np.append(True, sections[1:] != sections[:-1]))  # a section's pages stand together
    low = np.append(0.0, weights)[begins]
    high = np.append(low[1:], weights[-1])

    anywhere = random.random(len(at)) * weights[-1]
    landing = np.searchsorted(weights, anywhere)
    home = np.searchsorted(begins, landing[first], side="right")[of] - 1  # the section of the session's first page
    stays = ~first & (random.random(len(at)) < STAYS)
    within = low[home] + random.random(len(at)) * (high - low)[home]
    chosen = np.searchsorted(weights, np.where(stays, within, anywhere))
    moments = random.integers(0, len(site), 2 + int(at.max(initial=0)) // HOT_MS)
    hot = random.random(len(at)) < HOT_SHARE
    return np.minimum(np.where(hot, moments[at // HOT_MS], chosen), len(site) - 1)


def _bots(number: int, site: pd.DataFrame, *, first_visitor: int, random: np.random.Generator) -> dict[str, Ints]:
    """Return the views of bots: each has its share, comes at even intervals all day, and takes any page."""
    of = np.sort(_draw(1.0 / np.arange(1, len(BOTS) + 1), number, random))
    share = np.bincount(of, minlength=len(BOTS))
    turn = np.arange(number) - np.repeat(np.cumsum(share) - share, share)
    at = (turn * DAY_MS) // np.maximum(share, 1)[of] + random.integers(0, JITTER_MS, number)
    return {
        "visitor": first_visitor + of, "session": -1 - of, "page": random.integers(0, len(site), number),
        "referrer": np.full(number, -1), "country": np.full(number, int(np.flatnonzero(COUNTRIES["country"] == "US")[0])),
        "agent": len(AGENTS) + of, "at": at, "duration_ms": random.integers(20, 200, number),
    }  # fmt: skip


def _named(parts: dict[str, Ints], site: pd.DataFrame, traffic: Traffic) -> pd.DataFrame:
    """Give numbers their names, and views their ids."""
    midnight = pd.Timestamp(datetime.combine(traffic.day, time.min, UTC)).as_unit("ms")
    changes = page_changes(traffic.day, seed=traffic.seed)
    moved = changes[changes["section"] == ARCHIVE]
    moves = np.full(len(site), np.iinfo(np.int64).max)
    where = pd.Index(site["page"]).get_indexer(moved["page"])
    moves[where] = (moved["changed_at"] - midnight) // pd.Timedelta(milliseconds=1)
    sections = [*dict.fromkeys(site["section"]), ARCHIVE]
    section = np.array([sections.index(name) for name in site["section"]])[parts["page"]]
    section[parts["at"] >= moves[parts["page"]]] = len(sections) - 1
    referrers = [*[name for name in REFERRERS if name is not None], *site["page"]]
    session = parts["session"] - parts["session"].min(initial=0)
    return pd.DataFrame(
        {
            "visit_id": _ids(len(section), traffic.seed),
            "visitor": _numbered("v", parts["visitor"]),
            "session": _numbered("s", session),
            "page": _category(parts["page"], site["page"]),
            "section": _category(section, sections),
            "referrer": _category(parts["referrer"], referrers),
            "country": _category(parts["country"], COUNTRIES["country"]),
            "agent": _category(parts["agent"], [*AGENTS, *BOTS]),
            "at": midnight + pd.Series(parts["at"]).astype("timedelta64[ms]"),
            "duration_ms": parts["duration_ms"],
        }
    )


def _category(codes: Ints, names: Iterable[str]) -> Any:
    return pd.Categorical.from_codes(codes, pd.Index([*names]))


def _numbered(letter: str, numbers: Ints) -> Any:
    return _category(numbers, [f"{letter}{number:07}" for number in range(int(numbers.max(initial=-1)) + 1)])


def _ids(number: int, seed: int) -> Ints:
    """Return numbers below 2^52 that look random, each once: steps that can each be undone."""
    mask = np.uint64((1 << 52) - 1)
    ids = (np.arange(number, dtype=np.uint64) + np.uint64(seed << 32)) & mask
    for factor in (0x9E3779B97F4A7, 0xD1342543DE82F):  # odd
        ids = (ids * np.uint64(factor)) & mask
        ids ^= ids >> np.uint64(26)
    return ids.astype(np.int64)


def _draw(weights: npt.NDArray[np.float64], number: int, random: np.random.Generator) -> Ints:
    total = np.cumsum(weights)
    found: Ints = np.minimum(np.searchsorted(total, random.random(number) * total[-1], side="right"), len(total) - 1)
    return found


def _rhythm(number: int, random: np.random.Generator) -> Ints:
    """Return times of a day in milliseconds, by its rhythm: even within the hour."""
    hour = _draw(np.array(RHYTHM, dtype=np.float64), number, random)
    found: Ints = hour * 3_600_000 + random.integers(0, 3_600_000, number)
    return found
