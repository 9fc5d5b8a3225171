"""The site that is visited: a tree of some four hundred pages, the changes of their titles and sections, and where visitors come from.

Nothing here is random but which pages change, and when; that hangs on a seed.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from typing import Final

import numpy as np
import pandas as pd

__all__ = ["AGENTS", "BOTS", "COUNTRIES", "REFERRERS", "SECTIONS", "countries", "page_changes", "pages"]

SECTIONS: Final = {
    "news": ["world", "europe", "local", "weather", "elections"],
    "business": ["markets", "companies", "work", "energy", "money"],
    "sport": ["football", "cycling", "tennis", "sailing", "results"],
    "culture": ["books", "film", "music", "stage", "design"],
    "science": ["space", "climate", "health", "machines", "oceans"],
    "travel": ["cities", "trains", "mountains", "islands", "maps"],
    "food": ["recipes", "baking", "restaurants", "gardens", "wine"],
    "shop": ["paper", "gifts", "tickets", "courses", "offers"],
    "opinion": ["letters", "columns", "debate", "cartoons", "guests"],
    "help": ["account", "delivery", "payment", "apps", "contact"],
}
ARTICLES: Final = [
    ("what-changed", "What changed in {}"),
    ("the-long-read", "The long read: {}"),
    ("in-numbers", "{} in numbers"),
    ("questions", "Ten questions about {}"),
    ("beginners", "{} for beginners"),
    ("in-pictures", "{} in pictures"),
    ("what-next", "What is next for {}?"),
]
ARCHIVE: Final = "archive"  # where pages go when they move
COUNTRIES: Final = pd.DataFrame(
    [
        ("DE", "Germany", "Europe", 1, 0.24), ("AT", "Austria", "Europe", 1, 0.09), ("CH", "Switzerland", "Europe", 1, 0.07),
        ("FR", "France", "Europe", 1, 0.07), ("NL", "Netherlands", "Europe", 1, 0.05), ("PL", "Poland", "Europe", 1, 0.04),
        ("IT", "Italy", "Europe", 1, 0.04), ("ES", "Spain", "Europe", 1, 0.03), ("SE", "Sweden", "Europe", 1, 0.02),
        ("GB", "United Kingdom", "Europe", 0, 0.10), ("US", "United States", "North America", -5, 0.12),
        ("CA", "Canada", "North America", -5, 0.02), ("MX", "Mexico", "North America", -6, 0.01),
        ("BR", "Brazil", "South America", -3, 0.03), ("IN", "India", "Asia", 5, 0.03), ("JP", "Japan", "Asia", 9, 0.02),
        ("SG", "Singapore", "Asia", 8, 0.005), ("AU", "Australia", "Oceania", 10, 0.01), ("ZA", "South Africa", "Africa", 2, 0.005),
    ],
    columns=["country", "name", "continent", "utc_offset_hours", "weight"],
)  # fmt: skip
REFERRERS: Final = {
    None: 0.34, "google.com": 0.33, "bing.com": 0.05, "duckduckgo.com": 0.04, "facebook.com": 0.07, "reddit.com": 0.05,
    "news.ycombinator.com": 0.02, "mastodon.social": 0.02, "newsletter.example.com": 0.08,
}  # fmt: skip
AGENTS: Final = {"Chrome/133": 0.41, "Safari/18": 0.24, "Firefox/135": 0.13, "Edge/133": 0.12, "Samsung/27": 0.06, "Opera/117": 0.04}
BOTS: Final = ["Googlebot/2.1", "bingbot/2.0", "AhrefsBot/7.0", "GPTBot/1.2", "YandexBot/3.0", "Uptime-Kuma/1.23"]
RETITLED, MOVED = 60, 24
FIRST_PUBLISHED: Final = pd.Timedelta(days=30)  # before the day


def pages() -> pd.DataFrame:
    """Return the pages as the day finds them.

    Returns
    -------
    DataFrame
        ``page`` (path), ``section``, ``title``; the front page, then each section with its topics and their articles.
    """
    found = [("/", "home", "The front page")]
    for section, topics in SECTIONS.items():
        found.append((f"/{section}", section, section.capitalize()))
        for topic in topics:
            found.append((f"/{section}/{topic}", section, topic.capitalize()))
            found += [(f"/{section}/{topic}/{slug}", section, title.format(topic).capitalize()) for slug, title in ARTICLES]
    return pd.DataFrame(found, columns=["page", "section", "title"])


def page_changes(day: date, *, seed: int) -> pd.DataFrame:
    """Return every version of every page's title and section, with the time from which it holds.

    Guarantee: a page moves at most once. The newsroom's messages are not all in order: one in ten comes after a later one.

    Returns
    -------
    DataFrame
        ``page``, ``section``, ``title``, ``changed_at`` (UTC, whole seconds), in the order in which the messages are sent.
    """
    random = np.random.default_rng([seed, 1])
    first = pages()
    midnight = pd.Timestamp(datetime.combine(day, time.min, UTC))
    articles = np.flatnonzero(first["page"].str.count("/") == first["page"].str.count("/").max())
    chosen = random.permutation(articles)
    moved = first.iloc[np.sort(chosen[:MOVED])].assign(section=ARCHIVE)
    retitled = first.iloc[np.sort(chosen[MOVED : MOVED + RETITLED])]
    retitled = retitled.assign(title="Updated: " + retitled["title"])
    second = pd.concat([moved, retitled], ignore_index=True)
    second["changed_at"] = midnight + pd.to_timedelta(random.integers(6 * 3_600, 22 * 3_600, len(second)), unit="s")
    # Retitled pages get one more title, later the same day.
    third = second.iloc[MOVED:].copy()
    third["title"] = third["title"].str.replace("Updated: ", "Final: ")
    third["changed_at"] += pd.to_timedelta(random.integers(600, 2 * 3_600, len(third)), unit="s")
    every = pd.concat([first.assign(changed_at=midnight - FIRST_PUBLISHED), second, third], ignore_index=True)
    sent = every["changed_at"] + pd.to_timedelta(np.where(random.random(len(every)) < 0.1, 3 * 3_600, 0), unit="s")  # noqa: PLR2004
    return every.iloc[np.argsort(sent.to_numpy(), kind="stable")].reset_index(drop=True)


def countries() -> pd.DataFrame:
    """Return the dimension of countries: ``country`` (code), ``name``, ``continent``."""
    return COUNTRIES[["country", "name", "continent"]]
