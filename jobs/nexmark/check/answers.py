"""One query, one function: frames of all persons, auctions and bids in, all rows of the answer out, in no order that means anything.

Frames have the columns of `jobs.nexmark.events.SCHEMAS`, times as datetime64 with a time zone; what is not asked about may be missing.
Columns of answers are named as in the SQL of the suite (https://github.com/nexmark/nexmark), in small letters with underscores.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import pandas as pd

__all__ = ["ANSWERS", "q3", "q4", "q8", "q9", "q20", "q23"]

WINDOW: Final = "10s"
CATEGORY: Final = 10
STATES: Final = ["OR", "ID", "CA"]
BID: Final = {"date_time": "bid_date_time", "extra": "bid_extra"}
AUCTION: Final = {"date_time": "auction_date_time", "extra": "auction_extra"}


def q3(persons: pd.DataFrame, auctions: pd.DataFrame, bids: pd.DataFrame) -> pd.DataFrame:
    """Say who sells what in three states: each auction of category 10 with its seller, if the seller's state is OR, ID or CA.

    An auction whose seller is not among the persons is left out; when either came plays no part.

    Returns
    -------
    DataFrame
        One row for each such auction: ``name``, ``city``, ``state`` of the seller, ``id`` of the auction.
    """
    del bids
    local = persons[persons["state"].isin(STATES)]
    chosen = auctions[auctions["category"] == CATEGORY]
    both = chosen[["id", "seller"]].merge(local.rename(columns={"id": "person"}), left_on="seller", right_on="person")
    return both[["name", "city", "state", "id"]]


def q4(persons: pd.DataFrame, auctions: pd.DataFrame, bids: pd.DataFrame) -> pd.DataFrame:
    """Average the closing prices of each category.

    The closing price of an auction is the highest price of its bids with ``auction.date_time <= bid.date_time <= auction.expires``; an
    auction without such a bid has none and does not count. The average is the exact sum of a category's closing prices, divided once.

    Returns
    -------
    DataFrame
        One row for each category with a closing price: ``category``, ``final`` (float64).
    """
    del persons
    closing = _in_time(auctions, bids).groupby(["id", "category"], as_index=False)["price"].max()
    of_category = closing.groupby("category")["price"]
    average: pd.Series = of_category.sum() / of_category.count()
    return average.rename("final").reset_index()


def q8(persons: pd.DataFrame, auctions: pd.DataFrame, bids: pd.DataFrame) -> pd.DataFrame:
    """Say who came and opened an auction in the same window.

    Windows are 10 s long, begin at multiples of 10 s since 1970 and do not hold their end. A person's window is that of its own
    ``date_time``; it is in the answer once, if it is the seller of one or more auctions whose ``date_time`` is in the same window.

    Returns
    -------
    DataFrame
        One row for each such person and window: ``id``, ``name``, ``window_start``.
    """
    del bids
    came = persons[["id", "name"]].assign(window_start=persons["date_time"].dt.floor(WINDOW))
    opened = auctions[["seller"]].assign(window_start=auctions["date_time"].dt.floor(WINDOW))
    both = came.drop_duplicates().merge(opened.drop_duplicates(), left_on=["id", "window_start"], right_on=["seller", "window_start"])
    return both[["id", "name", "window_start"]]


def q9(persons: pd.DataFrame, auctions: pd.DataFrame, bids: pd.DataFrame) -> pd.DataFrame:
    """Find the winning bid of each auction.

    Of an auction's bids with ``auction.date_time <= bid.date_time <= auction.expires`` the one with the highest price wins, of those the
    earliest. (SQL leaves open who wins if these are equal too; here it is the least bidder, then the least ``extra``. No two events of the
    generator have the same time.) An auction without such a bid is left out.

    Returns
    -------
    DataFrame
        One row for each auction with such a bid: its columns, then ``auction``, ``bidder``, ``price``, ``bid_date_time`` and ``bid_extra``.
    """
    del persons
    order = ["price", "bid_date_time", "bidder", "bid_extra"]
    candidates = _in_time(auctions, bids).sort_values(order, ascending=[False, True, True, True], kind="stable")
    return candidates.drop_duplicates("id")[[*auctions.columns, "auction", "bidder", "price", "bid_date_time", "bid_extra"]]


def q20(persons: pd.DataFrame, auctions: pd.DataFrame, bids: pd.DataFrame) -> pd.DataFrame:
    """Put each bid together with its auction, for auctions of category 10; when either came, and when the auction ends, plays no part.

    A bid whose auction is not among the auctions is left out.

    Returns
    -------
    DataFrame
        One row for each such bid: ``auction``, ``bidder``, ``price``, ``channel``, ``url``, ``bid_date_time``, ``bid_extra``, and of the
        auction ``item_name``, ``description``, ``initial_bid``, ``reserve``, ``auction_date_time``, ``expires``, ``seller``, ``category``,
        ``auction_extra``.
    """
    del persons
    chosen = auctions[auctions["category"] == CATEGORY]
    return bids.rename(columns=BID).merge(chosen.rename(columns=AUCTION), left_on="auction", right_on="id").drop(columns="id")


def q23(persons: pd.DataFrame, auctions: pd.DataFrame, bids: pd.DataFrame) -> pd.DataFrame:
    """Put each bid together with its bidder and with each auction that the bidder sells (not the one the bid is for), whenever they came.

    A bid is left out if its bidder is not among the persons, or sells nothing; it is there k times if the bidder has k auctions.

    Returns
    -------
    DataFrame
        One row for each bid and auction of its bidder: ``bidder``, ``price``, ``channel``, ``url``, ``bid_extra``; of the person
        ``person_id``, ``name``, ``email``, ``credit_card``, ``city``, ``state``, ``person_extra``; of the auction ``item_name``,
        ``description``, ``initial_bid``, ``reserve``, ``auction_date_time``, ``expires``, ``seller``, ``category``, ``auction_extra``.
    """
    bidders = persons.drop(columns="date_time").rename(columns={"id": "person_id", "extra": "person_extra"})
    offers = auctions.drop(columns="id").rename(columns=AUCTION)
    made = bids.drop(columns=["auction", "date_time"]).rename(columns=BID)
    return made.merge(bidders, left_on="bidder", right_on="person_id").merge(offers, left_on="bidder", right_on="seller")


def _in_time(auctions: pd.DataFrame, bids: pd.DataFrame) -> pd.DataFrame:
    """Return each bid beside its auction, if it came between the opening of the auction and its end, both included."""
    both = auctions.merge(bids.rename(columns=BID), left_on="id", right_on="auction")
    return both[(both["date_time"] <= both["bid_date_time"]) & (both["bid_date_time"] <= both["expires"])]


ANSWERS: Final[dict[str, Callable[[pd.DataFrame, pd.DataFrame, pd.DataFrame], pd.DataFrame]]] = {
    "q3": q3,
    "q4": q4,
    "q8": q8,
    "q9": q9,
    "q20": q20,
    "q23": q23,
}
