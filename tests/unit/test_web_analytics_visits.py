"""The visits are the same for the same seed, and skewed the way that sketches are for."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from jobs.web_analytics.network import DAMAGES, Network
from jobs.web_analytics.site import BOTS, COUNTRIES, page_changes, pages
from jobs.web_analytics.visits import Traffic, checksum, visits

TRAFFIC = Traffic(visits=60_000)
CHECKSUM = "4d8c3a32b10c8ebb"


@pytest.fixture(scope="module")
def day() -> pd.DataFrame:
    return visits(TRAFFIC)


@pytest.fixture(scope="module")
def arrivals(day: pd.DataFrame) -> pd.DataFrame:
    return Network(damaged=0.001).carry(day)


def test_the_checksum_of_a_seed_is_pinned(arrivals: pd.DataFrame) -> None:
    assert checksum(arrivals) == CHECKSUM
    assert checksum(Network(damaged=0.001).carry(visits(TRAFFIC))) == CHECKSUM


def test_another_seed_is_another_day(day: pd.DataFrame) -> None:
    assert checksum(visits(Traffic(visits=60_000, seed=8))) != checksum(day)


@pytest.mark.parametrize("change", [{"visit_id": 1}, {"at": pd.Timedelta(milliseconds=1)}, {"duration_ms": 1}])
def test_one_changed_value_changes_the_checksum(day: pd.DataFrame, change: dict[str, object]) -> None:
    [(name, by)] = change.items()
    other = day.copy()
    other.loc[5, name] = other.loc[5, name] + by
    assert checksum(other) != checksum(day)
    swapped = day.copy()
    swapped["page"] = day["page"].cat.rename_categories({"/": "//"})
    assert checksum(swapped) != checksum(day)


def test_there_are_as_many_visits_as_asked_for_in_order_each_with_its_id(day: pd.DataFrame) -> None:
    assert len(day) == TRAFFIC.visits
    assert day["at"].is_monotonic_increasing
    assert day["visit_id"].is_unique
    assert day["visit_id"].between(0, 2**52 - 1).all()
    assert (day.drop(columns="referrer").notna()).all().all()
    assert (day["duration_ms"] > 0).all()


@pytest.mark.parametrize("number", [1, 20, 333])
def test_small_days_work(number: int) -> None:
    made = visits(Traffic(visits=number))
    assert len(made) == number
    assert len(Network().carry(made)) >= number


def test_few_pages_get_most_views(day: pd.DataFrame) -> None:
    counts = day["page"].value_counts()
    assert len(pages()) == 411
    assert counts.index[0] == "/"
    assert counts.iloc[:20].sum() > 0.4 * len(day)
    assert (counts > 0).sum() > 0.98 * len(pages()), "but hardly any gets none"


def test_few_visitors_come_often_and_most_once_or_twice(day: pd.DataFrame) -> None:
    people = day[~day["agent"].isin(BOTS)]
    sessions = people.groupby("visitor", observed=True)["session"].nunique().sort_values(ascending=False)
    assert sessions.median() <= 3
    assert sessions.iloc[0] > 15
    assert sessions.iloc[: len(sessions) // 10].sum() > 0.25 * sessions.sum()


def test_bots_are_few_and_view_very_much_at_even_intervals(day: pd.DataFrame) -> None:
    bots = day[day["agent"].isin(BOTS)]
    assert bots["visitor"].nunique() == len(BOTS)
    assert len(bots) == round(TRAFFIC.visits * TRAFFIC.bot_share)
    busiest = bots[bots["agent"] == BOTS[0]]
    intervals = busiest["at"].diff().dropna() / pd.Timedelta(milliseconds=1)
    assert len(busiest) > 1_000
    assert intervals.std() < 0.01 * intervals.mean()
    assert day["visitor"].value_counts().index[: len(BOTS)].isin(bots["visitor"]).all()


def test_sessions_are_of_one_visitor_with_geometric_lengths_and_no_long_pause(day: pd.DataFrame) -> None:
    people = day[~day["agent"].isin(BOTS)]
    by_session = people.groupby("session", observed=True)
    assert (by_session["visitor"].nunique() == 1).all()
    lengths = by_session.size()
    assert lengths.mean() == pytest.approx(3.2, rel=0.05)
    assert (lengths == 1).mean() == pytest.approx(1 / 3.2, abs=0.02)
    pauses = by_session["at"].diff().dropna()
    assert pauses.max() < pd.Timedelta(minutes=30)
    followed = by_session["at"].shift(-1)
    assert ((followed - people["at"]).dropna() == pd.to_timedelta(people["duration_ms"], unit="ms")[followed.notna()]).all()


def test_dwell_times_are_log_normal(day: pd.DataFrame) -> None:
    logarithms = np.log(day.loc[~day["agent"].isin(BOTS), "duration_ms"])
    assert np.exp(logarithms.median()) == pytest.approx(35_000, rel=0.05)
    assert logarithms.std() == pytest.approx(1.1, rel=0.05)


def test_the_day_has_a_rhythm_in_each_country(day: pd.DataFrame) -> None:
    people = day[~day["agent"].isin(BOTS)]
    hours = people.assign(hour=people["at"].dt.hour).groupby(["country", "hour"], observed=True).size().unstack(fill_value=0)
    for country, offset in [("DE", 1), ("US", -5)]:
        evening, night = (20 - offset) % 24, (3 - offset) % 24
        assert hours.loc[country, evening] > 5 * hours.loc[country, night]
    shares = people["country"].value_counts(normalize=True)
    assert shares.reindex(COUNTRIES["country"]).to_numpy() == pytest.approx(COUNTRIES["weight"] / COUNTRIES["weight"].sum(), abs=0.02)


def test_there_is_a_page_of_the_moment(day: pd.DataFrame) -> None:
    usual = day["page"].value_counts(normalize=True)
    slots = day.groupby([day["at"].dt.floor("40min"), "page"], observed=True).size()
    busy = slots[slots.groupby(level=0).transform("sum") > 500]
    top = busy[[page != "/" for _, page in busy.index]].groupby(level=0).idxmax()
    shares = [busy[key] / busy[key[0]].sum() for key in top]
    assert min(shares) > 0.08
    assert len({page for _, page in top}) > 10, "another one each time"
    assert np.median([usual[page] for _, page in top]) < 0.05


def test_a_section_is_the_one_of_that_time(day: pd.DataFrame) -> None:
    changes = page_changes(TRAFFIC.day, seed=TRAFFIC.seed).sort_values("changed_at", kind="stable")
    changes["changed_at"] = changes["changed_at"].dt.as_unit("ms")
    plain = day.assign(page=day["page"].astype(str))
    then = pd.merge_asof(plain, changes, left_on="at", right_on="changed_at", by="page", suffixes=("", "_then"))
    assert (then["section"].astype(str) == then["section_then"]).all()
    assert (then["section_then"] == "archive").any()
    assert changes.duplicated(["page", "changed_at"]).sum() == 0
    assert not page_changes(TRAFFIC.day, seed=TRAFFIC.seed)["changed_at"].is_monotonic_increasing, "some come late"


def test_most_come_within_seconds_some_in_minutes_few_in_hours(day: pd.DataFrame, arrivals: pd.DataFrame) -> None:
    first = arrivals.drop_duplicates("visit_id")
    assert len(first) == len(day), "none is lost"
    behind = (first["arrives"] - first["at"]) / pd.Timedelta(seconds=1)
    assert arrivals["arrives"].is_monotonic_increasing
    assert behind.min() > 0
    assert behind.median() < 2
    assert (behind > 60).mean() == pytest.approx(0.02, abs=0.005)
    assert 10 < (behind > 3_600).sum() < 0.002 * len(first)
    assert behind.max() < 9 * 3_600


def test_some_come_again_and_are_the_same(arrivals: pd.DataFrame) -> None:
    again = arrivals[arrivals.duplicated("visit_id")]
    assert len(again) == pytest.approx(0.01 * TRAFFIC.visits, rel=0.2)
    sent = [name for name in arrivals if name not in {"arrives", "damage"}]
    assert len(arrivals[sent].drop_duplicates()) == TRAFFIC.visits


def test_every_kind_of_damage_is_there_and_rare(arrivals: pd.DataFrame) -> None:
    counts = arrivals["damage"].value_counts()
    assert set(counts.index) == set(range(len(DAMAGES)))
    assert counts.drop(0).sum() == pytest.approx(0.001 * len(arrivals), rel=0.5)


def test_nobody_is_disturbed_without_a_network(day: pd.DataFrame) -> None:
    calm = Network(slow=0, very_slow=0, resent=0, damaged=0).carry(day)
    assert len(calm) == len(day)
    assert ((calm["arrives"] - calm["at"]) < pd.Timedelta(minutes=3)).all()
