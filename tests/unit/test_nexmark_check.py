"""The pandas answers to Nexmark against loops over rows, on rows nobody would generate and on generated ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.nexmark.check import ANSWERS, q4, q8, q9, q20, q23
from jobs.nexmark.events import SCHEMAS, events
from jobs.nexmark.numbering import EventSettings

Row = dict[str, Any]
Rows = list[Row]
Model = Callable[[Rows, Rows, Rows], Rows]

START = datetime(2025, 3, 4, tzinfo=UTC)


def in_time(auction: Row, bid: Row) -> bool:
    return bid["auction"] == auction["id"] and auction["date_time"] <= bid["date_time"] <= auction["expires"]


def slow_q3(persons: Rows, auctions: Rows, bids: Rows) -> Rows:
    return [
        {"name": person["name"], "city": person["city"], "state": person["state"], "id": auction["id"]}
        for auction in auctions
        for person in persons
        if auction["seller"] == person["id"] and auction["category"] == 10 and person["state"] in {"OR", "ID", "CA"}
    ]


def slow_q4(persons: Rows, auctions: Rows, bids: Rows) -> Rows:
    closing: dict[int, list[int]] = {}
    for auction in auctions:
        prices = [bid["price"] for bid in bids if in_time(auction, bid)]
        if prices:
            closing.setdefault(auction["category"], []).append(max(prices))
    return [{"category": category, "final": float(Fraction(sum(prices), len(prices)))} for category, prices in closing.items()]


def slow_q8(persons: Rows, auctions: Rows, bids: Rows) -> Rows:
    found: Rows = []
    for person in persons:
        start = datetime.fromtimestamp(person["date_time"].timestamp() // 10 * 10, UTC)
        if any(auction["seller"] == person["id"] and start <= auction["date_time"] < start + timedelta(seconds=10) for auction in auctions):
            found.append({"id": person["id"], "name": person["name"], "window_start": start})
    return found


def slow_q9(persons: Rows, auctions: Rows, bids: Rows) -> Rows:
    found: Rows = []
    for auction in auctions:
        best: Row | None = None
        for bid in bids:
            if not in_time(auction, bid):
                continue
            if best is None or _rank(bid) < _rank(best):
                best = bid
        if best is not None:
            won = {"bid_date_time": best["date_time"], "bid_extra": best["extra"]}
            found.append({**auction, **{name: best[name] for name in ("auction", "bidder", "price")}, **won})
    return found


def _rank(bid: Row) -> tuple[Any, ...]:
    return (-bid["price"], bid["date_time"], bid["bidder"], bid["extra"])


def slow_q20(persons: Rows, auctions: Rows, bids: Rows) -> Rows:
    return [
        {
            **{name: bid[name] for name in ("auction", "bidder", "price", "channel", "url")},
            "bid_date_time": bid["date_time"], "bid_extra": bid["extra"],
            **{name: auction[name] for name in ("item_name", "description", "initial_bid", "reserve", "expires", "seller", "category")},
            "auction_date_time": auction["date_time"], "auction_extra": auction["extra"],
        }
        for bid in bids
        for auction in auctions
        if bid["auction"] == auction["id"] and auction["category"] == 10
    ]  # fmt: skip


def slow_q23(persons: Rows, auctions: Rows, bids: Rows) -> Rows:
    return [
        {
            **{name: bid[name] for name in ("bidder", "price", "channel", "url")}, "bid_extra": bid["extra"],
            "person_id": person["id"], **{name: person[name] for name in ("name", "email", "credit_card", "city", "state")},
            "person_extra": person["extra"],
            **{name: auction[name] for name in ("item_name", "description", "initial_bid", "reserve", "expires", "seller", "category")},
            "auction_date_time": auction["date_time"], "auction_extra": auction["extra"],
        }
        for person in persons
        for bid in bids if bid["bidder"] == person["id"]
        for auction in auctions if auction["seller"] == person["id"]
    ]  # fmt: skip


MODELS: dict[str, Model] = {"q3": slow_q3, "q4": slow_q4, "q8": slow_q8, "q9": slow_q9, "q20": slow_q20, "q23": slow_q23}


def frame(name: str, rows: Rows) -> pd.DataFrame:
    schema = SCHEMAS[name]
    types = {field.name: field.type.to_pandas_dtype() if str(field.type) == "int64" else object for field in schema}
    made = pd.DataFrame(rows, columns=schema.names).astype(types)
    return made.assign(**{column: pd.to_datetime(made[column], utc=True) for column in schema.names if column in {"date_time", "expires"}})


def counted(rows: Rows) -> Counter[tuple[Any, ...]]:
    return Counter(tuple(sorted(row.items())) for row in rows)


def answered(name: str, *frames: pd.DataFrame) -> Rows:
    found = ANSWERS[name](*frames)
    columns = [str(column) for column in found.columns]
    values = [[value.to_pydatetime() if isinstance(value, pd.Timestamp) else value for value in found[column]] for column in columns]
    return [dict(zip(columns, row, strict=True)) for row in zip(*values, strict=True)]


# Few ids, few prices and few times, so that everything meets, ties and touches.
ids = st.integers(0, 4)
times = st.integers(-3, 6).map(lambda step: START + timedelta(seconds=5 * step))
words = st.sampled_from(["", "a", "b"])
persons_rows = st.lists(
    st.fixed_dictionaries(
        {
            "id": ids, "name": words, "email": words, "credit_card": words, "city": words,
            "state": st.sampled_from(["OR", "ID", "CA", "WA", "or"]), "date_time": times, "extra": words,
        }
    ), unique_by=lambda row: row["id"],
)  # fmt: skip
auctions_rows = st.lists(
    st.fixed_dictionaries(
        {
            "id": ids, "item_name": words, "description": words, "initial_bid": st.just(1), "reserve": st.just(2), "date_time": times,
            "expires": times, "seller": ids, "category": st.integers(10, 12), "extra": words,
        }
    ), unique_by=lambda row: row["id"],
)  # fmt: skip
bids_rows = st.lists(
    st.fixed_dictionaries(
        {"auction": ids, "bidder": ids, "price": st.integers(1, 3), "channel": words, "url": words, "date_time": times, "extra": words}
    ),
    max_size=14,
)


@settings(max_examples=150, deadline=None)
@given(persons=persons_rows, auctions=auctions_rows, bids=bids_rows)
def test_each_answer_is_that_of_a_loop_over_rows(persons: Rows, auctions: Rows, bids: Rows) -> None:
    frames = frame("persons", persons), frame("auctions", auctions), frame("bids", bids)
    for name, model in MODELS.items():
        assert counted(answered(name, *frames)) == counted(model(persons, auctions, bids)), name


@pytest.mark.parametrize("shuffled", [False, True])
def test_generated_events_have_the_answers_of_a_loop_over_rows_in_any_order(shuffled: bool) -> None:
    made = events(0, 3_000, settings=EventSettings(rate=100, out_of_order=20, hot_sellers=1))
    rows = [table.to_pylist() for table in made.values()]
    frames = [table.to_pandas() for table in made.values()]
    if shuffled:
        frames = [frame.sample(frac=1, random_state=1) for frame in frames]
    for name, model in MODELS.items():
        expected = model(*rows)
        assert len(expected) >= 5, name
        assert counted(answered(name, *frames)) == counted(expected), name


def test_every_query_has_an_answer_of_its_own() -> None:
    assert [*ANSWERS] == [*MODELS]
    assert [answer.__name__ for answer in ANSWERS.values()] == [*ANSWERS]


# The rules, one by one -----------------------------------------------------------------------------------------------------

NOBODY = frame("persons", [])
AUCTION: Row = {
    "id": 1, "item_name": "", "description": "", "initial_bid": 1, "reserve": 1, "date_time": START,
    "expires": START + timedelta(seconds=5), "seller": 1, "category": 10, "extra": "",
}  # fmt: skip
BID: Row = {"auction": 1, "bidder": 2, "price": 5, "channel": "", "url": "", "date_time": START, "extra": ""}
PERSON: Row = {"id": 1, "name": "", "email": "", "credit_card": "", "city": "", "state": "OR", "date_time": START, "extra": ""}


@pytest.mark.parametrize(("second", "counts"), [(-1, False), (0, True), (3, True), (5, True), (6, False)])
def test_a_bid_counts_from_the_opening_to_the_end_both_included(second: int, counts: bool) -> None:
    bid = {**BID, "date_time": START + timedelta(seconds=second)}
    frames = NOBODY, frame("auctions", [AUCTION]), frame("bids", [bid])
    assert len(q9(*frames)) == len(q4(*frames)) == counts
    assert len(q20(*frames)) == 1


def test_the_highest_price_wins_and_of_equal_ones_the_earliest() -> None:
    bids = [
        {**BID, "price": 7, "date_time": START + timedelta(seconds=2), "bidder": 3},
        {**BID, "price": 7, "date_time": START + timedelta(seconds=1), "bidder": 4},
        {**BID, "price": 6, "bidder": 5},
        {**BID, "price": 9, "date_time": START + timedelta(seconds=6), "bidder": 6},
    ]
    assert q9(NOBODY, frame("auctions", [AUCTION]), frame("bids", bids))["bidder"].tolist() == [4]
    ties = [{**BID, "bidder": 4, "extra": "a"}, {**BID, "bidder": 3, "extra": "c"}, {**BID, "bidder": 3, "extra": "b"}]
    assert q9(NOBODY, frame("auctions", [AUCTION]), frame("bids", ties))[["bidder", "bid_extra"]].to_numpy().tolist() == [[3, "b"]]


def test_an_auction_without_a_bid_in_time_does_not_lower_the_average() -> None:
    auctions = [AUCTION, {**AUCTION, "id": 2}, {**AUCTION, "id": 3}]
    bids = [{**BID, "price": 4}, {**BID, "auction": 2, "price": 9}, {**BID, "auction": 2, "price": 1}]
    assert q4(NOBODY, frame("auctions", auctions), frame("bids", bids))["final"].tolist() == [6.5]


def test_a_window_does_not_hold_its_end_and_a_person_is_there_once() -> None:
    persons = frame("persons", [PERSON])
    within = [{**AUCTION, "id": at, "date_time": START + timedelta(seconds=9, microseconds=999_999)} for at in range(3)]
    assert len(q8(persons, frame("auctions", within), frame("bids", []))) == 1
    outside = [{**AUCTION, "date_time": START + timedelta(seconds=second)} for second in (10, -1)]
    assert len(q8(persons, frame("auctions", outside), frame("bids", []))) == 0


def test_a_bid_goes_with_each_auction_that_its_bidder_sells_and_not_with_the_one_it_is_for() -> None:
    auctions = [{**AUCTION, "id": at, "seller": 2, "extra": f"{at}"} for at in (7, 8)] + [AUCTION]
    found = q23(frame("persons", [{**PERSON, "id": 2}]), frame("auctions", auctions), frame("bids", [BID]))
    assert sorted(found["auction_extra"]) == ["7", "8"]
