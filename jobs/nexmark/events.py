"""The events of the auction site: persons, auctions and bids as Arrow tables.

An event is a function of its number and the settings: any split of a range of numbers gives the same rows, on any number of machines.
After "NEXMark, a benchmark for queries over data streams" (Tucker, Tufte, Papadimos, Maier, 2002), with the ratios, hot spots and sizes
of the generator that Apache Beam made of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.nexmark.draws import Draws, Ints
from jobs.nexmark.numbering import AUCTIONS, CYCLE, DEFAULT, PERSONS, EventSettings, arrivals, latest_auction, latest_person, times_us
from spark_ext.errors import SettingsError

__all__ = ["FIRST_CATEGORY", "FIRST_ID", "MOST_EVENTS", "SCHEMAS", "checksum", "events"]

FIRST_ID: Final = 1_000
FIRST_CATEGORY: Final = 10
CATEGORIES: Final = 5
HOT_STRIDE: Final = 100  # who is hot changes with each so many
MOST_EVENTS: Final = 3_000_000  # of one call: a column of texts has fewer than 2^31 bytes

FIRST_NAMES: Final = ["Ada", "Boris", "Chidi", "Dilnoza", "Edsger", "Fatima", "Grace", "Hedy", "Ivo", "Jun", "Katherine", "Linus"]
LAST_NAMES: Final = ["Abbott", "Brandt", "Costa", "Dvořák", "Eze", "Fournier", "Garcia", "Huang", "Iyer", "Jones", "Kim"]
CITIES: Final = {
    "AZ": ("Phoenix", "Tucson"),
    "CA": ("Los Angeles", "San Francisco"),
    "ID": ("Boise", "Moscow"),
    "OR": ("Portland", "Bend"),
    "WA": ("Seattle", "Kent"),
    "WY": ("Cheyenne", "Casper"),
}
CHANNELS: Final = ["Google", "Facebook", "Baidu", "Apple"]  # of every other bid
OTHER_CHANNELS: Final = 10_000
NOT_SIZED: Final = {"channel", "url"}  # came to Nexmark later, the sizes stayed
LOWER: Final = "abcdefghijklmnop"

TIME: Final = pa.timestamp("us", "UTC")
SCHEMAS: Final = {
    "persons": pa.schema(
        [
            ("id", pa.int64()), ("name", pa.string()), ("email", pa.string()), ("credit_card", pa.string()), ("city", pa.string()),
            ("state", pa.string()), ("date_time", TIME), ("extra", pa.string()),
        ]
    ),
    "auctions": pa.schema(
        [
            ("id", pa.int64()), ("item_name", pa.string()), ("description", pa.string()), ("initial_bid", pa.int64()),
            ("reserve", pa.int64()), ("date_time", TIME), ("expires", TIME), ("seller", pa.int64()), ("category", pa.int64()),
            ("extra", pa.string()),
        ]
    ),
    "bids": pa.schema(
        [
            ("auction", pa.int64()), ("bidder", pa.int64()), ("price", pa.int64()), ("channel", pa.string()), ("url", pa.string()),
            ("date_time", TIME), ("extra", pa.string()),
        ]
    ),
}  # fmt: skip


def events(first: int, count: int, *, settings: EventSettings = DEFAULT) -> dict[str, Any]:
    """Make the events that arrive at the places from `first` on.

    Guarantee: the tables of a range are those of its parts, one behind the other, however it is split. Of each 50 events in a row
    one is a person, three are auctions, 46 are bids; ids count up from 1,000, categories are 10 to 14. An auction expires at the time of
    a later event; bids come before it opens, between, at that very time and after, and some auctions have none in time.

    Parameters
    ----------
    first : int, >= 0
        The first place in the order of arrival; without disorder and lateness it is the number of the event.
    count : int, 0 to 3,000,000
        How many events.
    settings : EventSettings
        What they are like.

    Returns
    -------
    dict of str to pyarrow.Table
        ``persons``, ``auctions`` and ``bids``, each in the order of arrival, by `SCHEMAS`; no value is null.

    Raises
    ------
    SettingsError
        `first` or `count` is out of range.

    Examples
    --------
    >>> made = events(0, 100)
    >>> {name: table.num_rows for name, table in made.items()}
    {'persons': 2, 'auctions': 6, 'bids': 92}
    >>> made["auctions"]["id"].to_pylist()
    [1000, 1001, 1002, 1003, 1004, 1005]
    """
    if first < 0 or not 0 <= count <= MOST_EVENTS:
        expected, got = f"first of 0 or more, count of 0 to {MOST_EVENTS:,}", f"first {first!r}, count {count!r}"
        raise SettingsError("make", "events", "range", expected=expected, got=got, todo="correct it, or make them in parts")
    numbers = arrivals(first, count, settings)
    place = numbers % CYCLE
    is_person, is_bid = place < PERSONS, place >= PERSONS + AUCTIONS
    return {
        "persons": _persons(numbers[is_person], settings),
        "auctions": _auctions(numbers[~is_person & ~is_bid], settings),
        "bids": _bids(numbers[is_bid], settings),
    }


def checksum(tables: Mapping[str, Any]) -> str:
    """Return a checksum of tables, in hex: equal if and only if names, types, rows and their order are (up to SHA-256).

    How a table is cut into chunks does not matter.
    """
    digest = hashlib.sha256()
    for table_name, table in tables.items():
        for name, column in zip(table.column_names, table.columns, strict=True):
            digest.update(f"{table_name} {name} {column.type} {len(column)}\n".encode())
            if pa.types.is_string(column.type):
                digest.update(np.ascontiguousarray(pc.binary_length(column).to_numpy(), "<i4").tobytes())
                for chunk in column.chunks:
                    offsets = np.frombuffer(chunk.buffers()[1] or b"\0" * 4, np.int32)[chunk.offset :][: len(chunk) + 1]
                    digest.update(memoryview(chunk.buffers()[2] or b"")[offsets[0] : offsets[-1]])
            else:
                digest.update(np.ascontiguousarray(column.cast(pa.int64()).to_numpy(), "<i8").tobytes())
    return digest.hexdigest()[:16]


def _persons(numbers: Ints, settings: EventSettings) -> Any:
    draws = settings.draws
    state = draws.below("state", numbers, len(CITIES))
    city = state * 2 + draws.below("city", numbers, 2)
    user = draws.texts("email", numbers, 4 + draws.below("email length", numbers, 8), LOWER)
    host = draws.texts("host", numbers, 3 + draws.below("host length", numbers, 6), LOWER)
    names = [
        _chosen(FIRST_NAMES, draws.below("first name", numbers, len(FIRST_NAMES))),
        _chosen(LAST_NAMES, draws.below("last name", numbers, len(LAST_NAMES))),
    ]
    columns = {
        "id": FIRST_ID + latest_person(numbers),
        "name": pc.binary_join_element_wise(*names, " "),
        "email": pc.binary_join_element_wise(user, pc.binary_join_element_wise(host, "example", "."), "@"),
        "credit_card": _cards(draws.below("card", numbers, 10**16)),
        "city": _chosen([name for pair in CITIES.values() for name in pair], city),
        "state": _chosen([*CITIES], state),
        "date_time": times_us(numbers, settings),
    }
    return _table("persons", columns, numbers, draws, settings.person_bytes)


def _auctions(numbers: Ints, settings: EventSettings) -> Any:
    draws = settings.draws
    newest = latest_person(numbers)
    is_hot = draws.below("hot seller", numbers, settings.hot_sellers) > 0
    price = draws.powers("initial bid", numbers, 6, 100)
    horizon = max(1, settings.auctions_in_flight * CYCLE // AUCTIONS)
    columns = {
        "id": FIRST_ID + latest_auction(numbers),
        "item_name": draws.texts("item", numbers, 3 + draws.below("item length", numbers, 18)),
        "description": draws.texts("description", numbers, 3 + draws.below("description length", numbers, 98)),
        "initial_bid": price,
        "reserve": price + draws.powers("reserve", numbers, 6, 100),
        "date_time": times_us(numbers, settings),
        "expires": times_us(numbers + 1 + draws.below("duration", numbers, 2 * horizon), settings),
        "seller": FIRST_ID + np.where(is_hot, newest // HOT_STRIDE * HOT_STRIDE, _somebody("seller", numbers, settings)),
        "category": FIRST_CATEGORY + draws.below("category", numbers, CATEGORIES),
    }
    return _table("auctions", columns, numbers, draws, settings.auction_bytes)


def _bids(numbers: Ints, settings: EventSettings) -> Any:
    draws = settings.draws
    newest = latest_auction(numbers)
    oldest = np.maximum(newest - settings.auctions_in_flight + 1, 0)
    some_auction = oldest + draws.below("auction", numbers, newest - oldest + 1 + settings.lead)
    is_hot = draws.below("hot auction", numbers, settings.hot_auctions) > 0
    bidder_is_hot = draws.below("hot bidder", numbers, settings.hot_bidders) > 0
    person = latest_person(numbers)
    hot_bidder = np.minimum(person // HOT_STRIDE * HOT_STRIDE + 1, person + settings.lead)  # not the hot seller, if it can be helped
    known = draws.below("known channel", numbers, 2) > 0
    channel = np.where(
        known, draws.below("channel", numbers, len(CHANNELS)), len(CHANNELS) + draws.below("other channel", numbers, OTHER_CHANNELS)
    )
    names, urls = _channels(settings.seed)
    columns = {
        "auction": FIRST_ID + np.where(is_hot, newest // HOT_STRIDE * HOT_STRIDE, some_auction),
        "bidder": FIRST_ID + np.where(bidder_is_hot, hot_bidder, _somebody("bidder", numbers, settings)),
        "price": draws.powers("price", numbers, 6, 100),
        "channel": names.take(pa.array(channel)),
        "url": urls.take(pa.array(channel)),
        "date_time": times_us(numbers, settings),
    }
    return _table("bids", columns, numbers, draws, settings.bid_bytes)


def _somebody(field: str, numbers: Ints, settings: EventSettings) -> Ints:
    """Return one of the active people, or of those who will come soon, as a number from 0."""
    newest = latest_person(numbers)
    active = np.minimum(newest + 1, settings.active_people)
    return newest + 1 - active + settings.draws.below(field, numbers, active + settings.lead)


@lru_cache(maxsize=8)
def _channels(seed: int) -> tuple[Any, Any]:
    """Return the names of all channels and the addresses that their bids come from."""
    draws, numbers = Draws(seed), np.arange(len(CHANNELS) + OTHER_CHANNELS)
    names = [*CHANNELS, *(f"channel-{number}" for number in range(OTHER_CHANNELS))]
    lengths = [3 + draws.below(f"directory length {level}", numbers, 3) for level in range(3)]
    parts = [draws.texts(f"directory {level}", numbers, lengths[level], LOWER) for level in range(3)]
    with_id = draws.below("channel id", numbers, 10) > 0
    ends = [f"item.htm?query=1{f'&channel_id={number}' if with_id[number] else ''}" for number in range(numbers.size)]
    return pa.array(names), pc.binary_join_element_wise("https://auctions.example", *parts, pa.array(ends), "/")


def _cards(numbers: Ints) -> Any:
    """Write numbers below 10^16 as four groups of four digits."""
    digits = (numbers[:, None] // 10 ** np.arange(15, -1, -1)) % 10 + ord("0")
    written = np.full((numbers.size, 19), ord(" "), np.uint8)
    written[:, [at for at in range(19) if at % 5 != 4]] = digits  # noqa: PLR2004
    offsets = np.arange(numbers.size + 1, dtype=np.int32) * 19
    return pa.StringArray.from_buffers(numbers.size, pa.py_buffer(offsets), pa.py_buffer(written))


def _chosen(names: list[str], places: Ints) -> Any:
    return pa.array(names).take(pa.array(places))


def _table(name: str, columns: dict[str, Any], numbers: Ints, draws: Draws, target_bytes: int) -> Any:
    """Add ``extra``, a fifth longer or shorter than what is missing to the size that is aimed at."""
    size = np.zeros(numbers.size, np.int64)
    for column in (columns[field] for field in columns if field not in NOT_SIZED):
        size += 8 if isinstance(column, np.ndarray) else pc.binary_length(column).to_numpy().astype(np.int64)
    missing = np.maximum(target_bytes - size, 0)
    spread = missing // 5
    lengths = missing - spread + draws.below(f"{name} extra length", numbers, 2 * spread + 1)
    columns["extra"] = draws.texts(f"{name} extra", numbers, lengths)
    arrays = [pa.array(columns[field.name]).cast(field.type) for field in SCHEMAS[name]]
    return pa.Table.from_arrays(arrays, schema=SCHEMAS[name])
