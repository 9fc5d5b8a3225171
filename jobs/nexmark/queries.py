"""The Nexmark queries that join: q3, q4, q8, q9, q20 and q23, each a function of DataFrames, the same for streams and bounded frames.

The question: who sells what to whom, and what does it cost in the end? Shown here: which join fits what is known of both sides.

    persons, auctions -- q3 --------------------------- two tables that grow, joined by foreign key
    persons, auctions -- q8 --------------------------- semi join in a window of time
    bids, auctions ----- q20 -------------------------- join within a time, many to one
    auctions, bids ----- in_time --+-- q9 ------------- join within a time, then a window that ends when the auction does
                                   +-- closing -- q4 -- maximum by auction, mean by category, taken back when a higher bid comes
    bids, auctions ----- pairs ------- q23 ------------ join within a time, many to many, then one by foreign key

A query has one operator with state, so each function here has one; what stands behind another in the picture reads it from a table. Answers
have the columns of `jobs.nexmark.check`. SQL asks q20 and q23 without a bound of time, so that all rows would have to be kept for ever;
`Spans` says what is known here.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Self

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.nexmark.events import HOT_STRIDE, SCHEMAS
from jobs.nexmark.numbering import AUCTIONS, CYCLE, SECOND_US, EventSettings
from spark_ext import joins, tables, windows
from spark_ext.state.control import Control
from spark_ext.windows import aggregates

__all__ = [
    "BUCKETS",
    "Q23_KEYS",
    "TICK",
    "Spans",
    "closing",
    "closing_changes",
    "in_time",
    "pairs",
    "q3",
    "q3_answer",
    "q4",
    "q4_answer",
    "q8",
    "q8_answer",
    "q9",
    "q9_answer",
    "q20",
    "q20_answer",
    "q23",
    "q23_answer",
    "valid_bids",
]

BUCKETS: Final = 4  # said here so that it does not follow the size of a cluster
WINDOW: Final = timedelta(seconds=10)
CATEGORY: Final = 10
STATES: Final = ("OR", "ID", "CA")
MOST_OF_ONE: Final = 10_000_000  # one person makes three in four bids for a while
BID: Final = {"date_time": "bid_date_time", "extra": "bid_extra"}
AUCTION: Final = {"date_time": "auction_date_time", "extra": "auction_extra"}
AUCTION_COLUMNS: Final = tuple(SCHEMAS["auctions"].names)
PERSON: Final = ["name", "email", "credit_card", "city", "state"]
OFFER: Final = ["item_name", "description", "initial_bid", "reserve", "auction_date_time", "expires"]
Q23_KEYS: Final = ("auction", "bidder", "bid_date_time", "offer")  # the bid, and the auction that its bidder sells
TICK: Final = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class Spans:
    """How far apart in event time rows are that belong together; what is further apart is not joined.

    Attributes
    ----------
    auction : timedelta
        From the opening of an auction to its end, at most.
    bids : timedelta
        Between the opening of an auction and a bid for it, whichever comes first.
    activity : timedelta
        Between a bid and an auction of the same person, whichever comes first.
    """

    auction: timedelta
    bids: timedelta
    activity: timedelta

    @classmethod
    def of(cls, settings: EventSettings) -> Self:
        """Return what is true of all generated events with these settings.

        Examples
        --------
        >>> Spans.of(EventSettings()).auction
        datetime.timedelta(microseconds=333200)
        """
        lasts = 2 * max(1, settings.auctions_in_flight * CYCLE // AUCTIONS)
        auctions = max(settings.auctions_in_flight, HOT_STRIDE, settings.lead) // AUCTIONS + 2
        persons = max(settings.active_people, HOT_STRIDE) + settings.lead + 1
        events = (lasts, auctions * CYCLE, persons * CYCLE)
        return cls(*(timedelta(microseconds=-(-each * SECOND_US // settings.rate)) for each in events))


def q3(persons: DataFrame, auctions: DataFrame, *, buckets: int = BUCKETS) -> DataFrame:
    """Say who sells what in three states: each auction of category 10 with its seller, if the seller's state is OR, ID or CA.

    Either may come first, by any time, so both are tables: an auction names its seller, and waits for it as long as need be.

    Returns
    -------
    DataFrame
        Tagged rows, for `q3_answer`.

    State: all such persons and auctions, for ever.
    """
    local = persons.where(F.col("state").isin(*STATES)).select("id", "name", "city", "state")
    offered = auctions.where(F.col("category") == CATEGORY).select("id", "seller")
    return tables.join_foreign(tables.inserts(offered), local, on={"seller": "id"}, keys="id", buckets=buckets)


def q3_answer(tagged: DataFrame) -> DataFrame:
    """Return the changes of the answer: ``name``, ``city``, ``state``, ``id`` of the auction, ``sign``."""
    return tables.changed(tagged).select("name", "city", "state", "id", "sign")


def in_time(auctions: DataFrame, bids: DataFrame, *, spans: Spans, buckets: int = BUCKETS) -> DataFrame:
    """Put the bids together with their auctions, from the opening of each on for as long as an auction may last.

    Returns
    -------
    DataFrame
        Tagged rows, for `valid_bids`.

    State: auctions and bids of the last ``spans.auction``.
    """
    bid = bids.select("auction", "bidder", "price", F.col("date_time").alias("bid_date_time"), F.col("extra").alias("bid_extra"))
    return joins.join(
        _columns(auctions),
        bid,
        on={"id": "auction"},
        event_time=("date_time", "bid_date_time"),
        within=joins.interval(timedelta(0), spans.auction),
        buckets=buckets,
    )


def valid_bids(tagged: DataFrame) -> DataFrame:
    """Return the bids that came before their auction ended, or as it did, with the auction's columns."""
    return joins.joined(tagged).where("bid_date_time <= expires").drop("side")


def closing(valid: DataFrame, *, buckets: int = BUCKETS) -> DataFrame:
    """Say how high each auction stands: its highest bid in time, replaced as soon as there is a higher one.

    Nothing waits for the end of an auction. Who wants to know what it cost in the end reads the same column when it has ended.

    Returns
    -------
    DataFrame
        Tagged rows, for `closing_changes`.

    State: of each auction the distinct prices of its bids, for ever.
    """
    bid = valid.select("id", "category", "price")
    return tables.aggregate(tables.inserts(bid), by=["id", "category"], aggregates={"price": aggregates.max("price")}, buckets=buckets)


def closing_changes(tagged: DataFrame) -> DataFrame:
    """Return the changes of what auctions stand at: ``id``, ``category``, ``price``, ``sign``."""
    return tables.changed(tagged)


def q4(prices: DataFrame, *, buckets: int = BUCKETS) -> DataFrame:
    """Average the closing prices of each category.

    An auction that stands higher than before leaves its category with the old price and enters it with the new one.

    Parameters
    ----------
    prices : DataFrame
        `closing_changes`.

    Returns
    -------
    DataFrame
        Tagged rows, for `q4_answer`.

    State: a sum and a number per category.
    """
    return tables.aggregate(prices, by=["category"], aggregates={"final": aggregates.mean("price")}, buckets=buckets)


def q4_answer(tagged: DataFrame) -> DataFrame:
    """Return the changes of the answer: ``category``, ``final`` (double), ``sign``."""
    return tables.changed(tagged)


def q8(persons: DataFrame, auctions: DataFrame, *, buckets: int = BUCKETS) -> DataFrame:
    """Say who came and opened an auction in the same window of 10 s.

    The window is part of the key, and no two rows of one are further apart than it is long: a semi join, as each person is told once,
    with the first auction that comes.

    Returns
    -------
    DataFrame
        Tagged rows, for `q8_answer`.

    State: persons and auctions of the last 10 s.
    """
    start = F.window("date_time", f"{WINDOW.seconds} seconds")["start"].alias("window_start")
    return joins.join(
        persons.select("id", "name", "date_time", start),
        auctions.select("seller", "date_time", start),
        on={"id": "seller", "window_start": "window_start"},
        event_time="date_time",
        within=joins.two_windows(left=WINDOW, right=WINDOW),
        how="semi",
        buckets=buckets,
    )


def q8_answer(tagged: DataFrame) -> DataFrame:
    """Return the answer: ``id``, ``name``, ``window_start``."""
    return joins.joined(tagged).select("id", "name", "window_start")


def q9(valid: DataFrame, *, control: Control | None = None, buckets: int = BUCKETS) -> DataFrame:
    """Find the winning bid of each auction: of those in time the one with the highest price, of these the earliest.

    It is told once, when it can no longer change. The time of a bid here is when its auction ends, so all of an auction are in one window,
    which closes when no valid bid can come any more.

    Parameters
    ----------
    valid : DataFrame
        `valid_bids`: a stream whose watermark is not ahead of that of `in_time`, or a table.
    control : Control, optional
        Where the end of input is told, so that the last auctions close.

    Returns
    -------
    DataFrame
        Tagged rows, for `q9_answer`.

    State: the best bid of each open auction, with the auction's columns.
    """
    rows = valid.withColumn("rank", -F.col("price"))
    others = [name for name in rows.columns if name in {*AUCTION_COLUMNS, "price"} and name != "id"]
    return windows.aggregate(
        rows.select("id", "rank", "bid_date_time", "bidder", "bid_extra", *others),
        keys=["id"],
        event_time="expires",
        window=windows.tumbling(TICK).without_grace(),  # the watermark waits for late rows already
        aggregates={"winner": aggregates.collect("rank", "bid_date_time", "bidder", "bid_extra", *others, limit=1)},
        columns=[],
        control=control,
        buckets=buckets,
    )


def q9_answer(tagged: DataFrame) -> DataFrame:
    """Return the answer: the columns of the auction, ``auction``, ``bidder``, ``price``, ``bid_date_time``, ``bid_extra``."""
    won = windows.results(tagged).select("id", F.col("winner")[0].alias("winner"))
    auction = [F.col("id") if name == "id" else F.col(f"winner.{name}") for name in AUCTION_COLUMNS]
    return won.select(
        *auction, F.col("id").alias("auction"), *(f"winner.{name}" for name in ("bidder", "price", "bid_date_time", "bid_extra"))
    )


def q20(bids: DataFrame, auctions: DataFrame, *, spans: Spans, buckets: int = BUCKETS) -> DataFrame:
    """Put each bid together with its auction, for auctions of category 10.

    A bid may come before its auction opens and after it ends, so the time goes both ways. Auctions are filtered first: four in five go
    nowhere.

    Returns
    -------
    DataFrame
        Tagged rows, for `q20_answer`.

    State: bids and such auctions of the last ``spans.bids``.
    """
    return joins.join(
        bids.select("auction", "bidder", "price", "channel", "url", *BID).withColumnsRenamed(BID),
        _columns(auctions).where(F.col("category") == CATEGORY).withColumnsRenamed(AUCTION),
        on={"auction": "id"},
        event_time=("bid_date_time", "auction_date_time"),
        within=joins.interval(-spans.bids, spans.bids),
        buckets=buckets,
    )


def q20_answer(tagged: DataFrame) -> DataFrame:
    """Return the answer: the columns of the bid, then those of the auction without its id."""
    return joins.joined(tagged).drop("side")


def pairs(bids: DataFrame, auctions: DataFrame, *, spans: Spans, buckets: int = BUCKETS) -> DataFrame:
    """Put each bid together with each auction that its bidder sells.

    Many to many, so neither side is the other's table: what bounds it is how long a person is active.

    Returns
    -------
    DataFrame
        Tagged rows, for `spark_ext.joins.joined`: the columns of the bid and of the auction, its ``id`` as ``offer``.

    State: bids and auctions of the last ``spans.activity``.
    """
    return joins.join(
        bids.select("auction", "bidder", "price", "channel", "url", *BID).withColumnsRenamed(BID),
        _columns(auctions).withColumnsRenamed({**AUCTION, "id": "offer"}),
        on={"bidder": "seller"},
        event_time=("bid_date_time", "auction_date_time"),
        within=joins.interval(-spans.activity, spans.activity),
        buckets=buckets,
    )


def q23(paired: DataFrame, persons: DataFrame, *, buckets: int = BUCKETS) -> DataFrame:
    """Put each bid together with its bidder and with each auction that the bidder sells.

    Persons are a table that the pairs name by foreign key: this half asks nothing about time, so it does not matter when pairs come.

    Parameters
    ----------
    paired : DataFrame
        The result of `pairs`.
    persons : DataFrame
        Who they are.

    Returns
    -------
    DataFrame
        Tagged rows, for `q23_answer`.

    State: all persons and all pairs, for ever.
    """
    bidder = persons.select("id", *PERSON, F.col("extra").alias("person_extra"))
    return tables.join_foreign(
        tables.inserts(paired.drop("side")),
        bidder,
        on={"bidder": "id"},
        keys=Q23_KEYS,
        most_matches=MOST_OF_ONE,
        buckets=buckets,
    )


def q23_answer(tagged: DataFrame) -> DataFrame:
    """Return the changes of the answer: columns of the bid, the person and the auction; behind them what else `Q23_KEYS` need; ``sign``."""
    bid = [F.col(name) for name in ("bidder", "price", "channel", "url", "bid_extra")]
    person = [F.col("bidder").alias("person_id"), *map(F.col, PERSON), F.col("person_extra")]
    offer = [*map(F.col, OFFER), F.col("bidder").alias("seller"), F.col("category"), F.col("auction_extra")]
    keys = [F.col(name) for name in Q23_KEYS if name != "bidder"]
    return tables.changed(tagged).select(*bid, *person, *offer, *keys, "sign")


def _columns(auctions: DataFrame) -> DataFrame:
    """Return the columns that the answers speak of."""
    return auctions.select(*AUCTION_COLUMNS)
