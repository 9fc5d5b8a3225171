"""Which event a number is, when it happens, and in which order events arrive.

Of each 50 events in a row one is a person, three are auctions and 46 are bids. Ids count up with the events, so that the newest person and
the newest auction at any event are known from its number alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np
from numpy.typing import NDArray

from jobs.nexmark.draws import Draws, Ints
from spark_ext.errors import SettingsError

__all__ = ["AUCTIONS", "BIDS", "CYCLE", "DEFAULT", "PERSONS", "EventSettings", "arrivals", "latest_auction", "latest_person", "times_us"]

PERSONS, AUCTIONS, BIDS = 1, 3, 46
CYCLE: Final = PERSONS + AUCTIONS + BIDS
SECOND_US: Final = 1_000_000
LATE_BLOCK: Final = 8  # times `late_by`
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MOST_SEED: Final = (1 << 64) - 1


def _between(name: str, got: float, least: int, most: int) -> None:
    if not least <= got <= most:
        raise _refused(name, f"{least:,} to {most:,}", got)


def _refused(name: str, expected: str, got: object) -> SettingsError:
    return SettingsError("make", "events", name, expected=expected, got=repr(got), todo="correct it")


@dataclass(frozen=True, slots=True, kw_only=True)
class EventSettings:
    """What the events are like. The defaults of ratios, people, auctions and sizes are Nexmark's.

    Attributes
    ----------
    seed : int, 0 to 2^64 - 1
        Of everything that is drawn.
    rate : int, 1 to 1,000,000
        Events per second of event time, at even intervals: no two events have the same time.
    start : datetime
        Time of event 0, with a time zone.
    hot_auctions, hot_sellers, hot_bidders : int, > 0
        All but one in so many bids are for the hot auction, of the hot bidder, all but one in so many auctions of the hot seller; 1:
        none is hot. Who is hot changes with each 100 new ones.
    auctions_in_flight : int, > 0
        A bid that is not for the hot auction is for one of so many newest. Auctions last up to twice the time in which so many come.
    active_people : int, > 0
        Sellers and bidders that are not hot are among so many newest.
    lead : int, >= 0
        How far ahead of the newest person or auction they may be: some bids come before their auction is opened, some sellers before
        they are known. With 0 everybody and everything referred to is there before.
    person_bytes, auction_bytes, bid_bytes : int, 0 to 512
        Mean size, numbers and times taken as 8 bytes, channel and address of a bid not counted; ``extra`` fills up to it. 0:
        ``extra`` is empty.
    out_of_order : int, > 0
        Events arrive shuffled within groups of so many; 1: in order.
    late_share : float, 0 to 1
        Share of the events that arrive late.
    late_by : timedelta
        They arrive behind the events that happen up to so much later.
    """

    seed: int = 7
    rate: int = 10_000
    start: datetime = datetime(2025, 3, 4, tzinfo=UTC)
    hot_auctions: int = 2
    hot_sellers: int = 4
    hot_bidders: int = 4
    auctions_in_flight: int = 100
    active_people: int = 1_000
    lead: int = 10
    person_bytes: int = 200
    auction_bytes: int = 500
    bid_bytes: int = 100
    out_of_order: int = 1
    late_share: float = 0.0
    late_by: timedelta = timedelta(seconds=10)

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        _between("seed", self.seed, 0, MOST_SEED)
        _between("rate", self.rate, 1, SECOND_US)
        for name in ("hot_auctions", "hot_sellers", "hot_bidders", "auctions_in_flight", "active_people", "out_of_order"):
            _between(name, getattr(self, name), 1, SECOND_US)
        _between("lead", self.lead, 0, SECOND_US)
        for name in ("person_bytes", "auction_bytes", "bid_bytes"):
            _between(name, getattr(self, name), 0, 512)
        _between("late_share", self.late_share, 0, 1)
        if self.start.tzinfo is None:
            raise _refused("start", "a time zone", self.start)
        if self.late_by <= timedelta(0):
            raise _refused("late_by", "more than 0", self.late_by)

    @property
    def draws(self) -> Draws:
        """Draws by `seed`."""
        return Draws(self.seed)

    @property
    def late_events(self) -> int:
        """How many events happen in `late_by`, at least 1."""
        return max(1, self.late_by // timedelta(microseconds=1) * self.rate // SECOND_US)


DEFAULT: Final = EventSettings()


def latest_person(numbers: Ints) -> Ints:
    """Return how many persons come before the newest one at each event, the event itself included."""
    return numbers // CYCLE


def latest_auction(numbers: Ints) -> Ints:
    """Return how many auctions come before the newest one at each event, the event itself included; -1 at event 0."""
    return numbers // CYCLE * AUCTIONS + np.minimum(numbers % CYCLE - PERSONS, AUCTIONS - 1)


def times_us(numbers: Ints, settings: EventSettings) -> Ints:
    """Return when events happen, in microseconds since 1970."""
    return (settings.start - EPOCH) // timedelta(microseconds=1) + numbers * SECOND_US // settings.rate


def arrivals(first: int, count: int, settings: EventSettings) -> Ints:
    """Return the numbers of the events that arrive at the places from `first` on.

    Guarantee: every event arrives once. Without disorder and lateness it arrives at the place of its number. Places of the same multiple of
    `out_of_order` (with lateness: of 8 `late_by`) have the same events, whatever seed and share.

    Parameters
    ----------
    first, count : int, >= 0
        Which places.
    settings : EventSettings
        The order depends on `seed`, `out_of_order`, `late_share` and `late_by`.
    """
    stop = first + count
    if settings.late_share > 0:
        block = settings.late_events * LATE_BLOCK
        low, high = first // block * block, -(-stop // block) * block
        places = _within(block, first, stop, lambda numbers: _arrival(numbers, block, settings))
    else:
        low, high = first, stop
        places = np.arange(first, stop)
    if settings.out_of_order == 1:
        return places
    shuffled = _within(settings.out_of_order, low, high, lambda numbers: settings.draws.words("order", numbers))
    return shuffled[places - low]


def _arrival(numbers: Ints, block: int, settings: EventSettings) -> Ints:
    """Return a number beside which each event arrives; the last of a block are not late, as they had to leave it."""
    late = settings.draws.shares("late", numbers) < settings.late_share
    late &= numbers % block < block - settings.late_events
    return numbers + late * settings.late_events


def _within(size: int, first: int, stop: int, order: Callable[[Ints], NDArray[np.int64] | NDArray[np.uint64]]) -> Ints:
    """Return the numbers at places from `first` up to `stop`, if those of each `size` in a row are put into an order."""
    low, high = first // size * size, -(-stop // size) * size
    numbers = np.arange(low, high)
    by = np.argsort(order(numbers).reshape(-1, size), axis=1, kind="stable")
    ordered = np.take_along_axis(numbers.reshape(-1, size), by, axis=1).ravel()
    return ordered[first - low : stop - low]
