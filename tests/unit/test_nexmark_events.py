"""Events are a function of their numbers: the same however a range is cut; with Nexmark's ratios, references and hot spots."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from deltalake import DeltaTable
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.nexmark.batches import append, batches
from jobs.nexmark.draws import LETTERS, Draws
from jobs.nexmark.events import CITIES, SCHEMAS, checksum, events
from jobs.nexmark.numbering import EventSettings, arrivals, latest_auction, latest_person, times_us
from spark_ext.errors import SettingsError
from tests.hash_models import xxh64

CHECKSUM = "4b66aaa4e26a1492"
MANY = 100_000
FEW_BYTES = EventSettings(person_bytes=0, auction_bytes=0, bid_bytes=0)
UNTIDY = EventSettings(rate=100, out_of_order=30, late_share=0.05, late_by=timedelta(seconds=3))

some_settings = st.builds(
    EventSettings,
    seed=st.integers(0, 2**64 - 1),
    rate=st.sampled_from([1, 7, 100, 10_000, 1_000_000]),
    hot_auctions=st.integers(1, 4),
    auctions_in_flight=st.sampled_from([1, 5, 100]),
    active_people=st.sampled_from([1, 10, 1_000]),
    lead=st.sampled_from([0, 1, 10]),
    bid_bytes=st.sampled_from([0, 100, 512]),
    auction_bytes=st.sampled_from([0, 512]),
    out_of_order=st.sampled_from([1, 2, 7, 100]),
    late_share=st.sampled_from([0.0, 0.1, 1.0]),
).map(lambda made: replace(made, late_by=timedelta(seconds=40 / made.rate)))  # 40 events


@pytest.fixture(scope="module")
def many() -> dict[str, pd.DataFrame]:
    return {name: table.to_pandas() for name, table in events(0, MANY).items()}


@pytest.fixture(scope="module")
def with_auction(many: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Each bid with its auction, if that is there."""
    opened = many["auctions"].rename(columns={"date_time": "opens"})
    return many["bids"].merge(opened, left_on="auction", right_on="id", suffixes=("", "_auction"))


def joined(parts: list[dict[str, Any]]) -> dict[str, Any]:
    return {name: pa.concat_tables([part[name] for part in parts]) for name in SCHEMAS}


# The same rows, however they are made --------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(made=some_settings, first=st.integers(0, 700), sizes=st.lists(st.integers(0, 300), min_size=1, max_size=5))
def test_any_split_of_a_range_gives_the_same_rows(made: EventSettings, first: int, sizes: list[int]) -> None:
    whole = events(first, sum(sizes), settings=made)
    parts = list(batches(sizes, first=first, settings=made))
    assert len(parts) == len(sizes)
    assert [sum(table.num_rows for table in part.values()) for part in parts] == sizes
    together = joined(parts)
    for name, schema in SCHEMAS.items():
        assert whole[name].schema == together[name].schema == schema
        assert whole[name].equals(together[name])
        assert all(column.null_count == 0 for column in whole[name].columns)
    assert checksum(whole) == checksum(together)


def test_an_event_far_out_needs_none_before_it() -> None:
    far = events(10**12, 100)
    assert far["persons"]["id"].to_pylist() == [1_000 + 10**12 // 50, 1_001 + 10**12 // 50]
    assert far["bids"]["date_time"].to_numpy()[0] == np.datetime64("2025-03-04") + np.timedelta64((10**12 + 4) * 100, "us")


def test_the_checksum_of_a_seed_is_pinned() -> None:
    assert checksum(events(0, 5_000, settings=UNTIDY)) == CHECKSUM


def test_another_seed_is_other_events_at_the_same_times_with_the_same_ids() -> None:
    one, other = events(0, 5_000), events(0, 5_000, settings=EventSettings(seed=8))
    assert checksum(one) != checksum(other)
    drawn = {"persons": "name state email extra", "auctions": "seller category expires", "bids": "auction bidder price url"}
    for name, columns in drawn.items():
        for column in columns.split():
            assert one[name][column] != other[name][column], column
    assert one["auctions"]["id"] == other["auctions"]["id"]
    assert one["bids"]["date_time"] == other["bids"]["date_time"]


@pytest.mark.parametrize("name", [*SCHEMAS])
def test_one_changed_value_name_or_order_changes_the_checksum(name: str) -> None:
    made = events(0, 500)
    table = made[name]
    rows = table.to_pylist()
    for column in table.column_names:
        value = rows[1][column]
        changed = value + (timedelta(microseconds=1) if isinstance(value, datetime) else "x" if isinstance(value, str) else 1)
        other = pa.Table.from_pylist([rows[0], {**rows[1], column: changed}, *rows[2:]], table.schema)
        assert checksum({**made, name: other}) != checksum(made), column
    assert checksum({**made, name: pa.Table.from_pylist(rows[::-1], table.schema)}) != checksum(made)
    assert checksum({**made, name: pa.Table.from_pylist(rows, table.schema)}) == checksum(made)
    assert checksum({name: table.slice(3, 4)}) == checksum({name: pa.Table.from_pylist(rows[3:7], table.schema)})


def test_draws_are_the_documented_hash() -> None:
    key = 12
    for byte in b"price":
        key = xxh64(byte.to_bytes(8, "little"), key)
    numbers = np.array([0, 1, 77, 2**40])
    expected = [xxh64(int(number).to_bytes(8, "little"), key) for number in numbers]
    draws = Draws(12)
    assert draws.words("price", numbers).tolist() == expected
    assert draws.below("price", numbers, 10).tolist() == [word % 10 for word in expected]
    assert draws.below("price", numbers, np.array([1, 2, 3, 4])).tolist() == [word % (at + 1) for at, word in enumerate(expected)]
    first = xxh64((77 * 128).to_bytes(8, "little"), key).to_bytes(8, "little")
    text = "".join(LETTERS[byte % 32] for byte in first)
    assert draws.texts("price", np.array([77, 77, 77]), np.array([8, 0, 3])).to_pylist() == [text, "", text[:3]]


# What there is, and when ---------------------------------------------------------------------------------------------------


def test_of_50_events_one_is_a_person_three_are_auctions_46_bids() -> None:
    for first in (0, 50, 5_000):
        made = events(first, 50)
        assert [table.num_rows for table in made.values()] == [1, 3, 46]
        assert made["persons"]["id"].to_pylist() == [1_000 + first // 50]
        assert made["auctions"]["id"].to_pylist() == [1_000 + first // 50 * 3 + auction for auction in range(3)]


def test_times_and_newest_ids_are_those_of_counting_along() -> None:
    made = EventSettings(rate=7, start=datetime(1999, 12, 31, 23, tzinfo=UTC))
    persons, auctions = 0, 0
    numbers = np.arange(300)
    found = zip(latest_person(numbers), latest_auction(numbers), times_us(numbers, made), strict=True)
    start_us = round(datetime(1999, 12, 31, 23, tzinfo=UTC).timestamp()) * 1_000_000
    for number, (person, auction, time_us) in enumerate(found):
        persons += number % 50 == 0
        auctions += number % 50 in {1, 2, 3}
        assert (person, auction, time_us) == (persons - 1, auctions - 1, start_us + number * 1_000_000 // 7)


def test_no_two_events_have_the_same_time(many: dict[str, pd.DataFrame]) -> None:
    times = pd.concat([frame["date_time"] for frame in many.values()])
    assert times.is_unique
    assert times.max() - times.min() == pd.Timedelta(microseconds=(MANY - 1) * 100)


def test_texts_look_like_what_they_stand_for(many: dict[str, pd.DataFrame]) -> None:
    persons, bids = many["persons"], many["bids"]
    assert persons["email"].str.fullmatch(r"[a-p]{4,11}@[a-p]{3,8}\.example").all()
    assert persons["credit_card"].str.fullmatch(r"\d{4} \d{4} \d{4} \d{4}").all()
    assert persons["credit_card"].is_unique
    assert persons["name"].str.fullmatch(r"\w+ \w+").all()
    assert set(zip(persons["state"], persons["city"], strict=True)) == {(state, city) for state, pair in CITIES.items() for city in pair}
    assert bids["url"].str.fullmatch(r"https://auctions\.example(/[a-p]{3,5}){3}/item\.htm\?query=1(&channel_id=\d+)?").all()
    assert bids.groupby("channel")["url"].nunique().max() == 1
    assert bids["channel"].isin(["Google", "Facebook", "Baidu", "Apple"]).mean() == pytest.approx(0.5, abs=0.01)


def test_rows_have_the_sizes_asked_for(many: dict[str, pd.DataFrame]) -> None:
    for name, mean in {"persons": 200, "auctions": 500, "bids": 100}.items():
        frame = many[name].drop(columns=["channel", "url"], errors="ignore")
        size = sum(frame[column].str.len() if frame[column].dtype == object else 8 for column in frame)
        assert size.mean() == pytest.approx(mean, rel=0.03)
    assert many["auctions"]["extra"].str.len().std() > 10
    for table in events(0, 5_000, settings=FEW_BYTES).values():
        assert set(table["extra"].to_pylist()) == {""}


def test_prices_and_categories_are_spread_as_in_nexmark(many: dict[str, pd.DataFrame]) -> None:
    price = many["bids"]["price"]
    assert price.between(100, 10**8).all()
    decades = np.histogram(np.log10(price), bins=np.arange(2, 9))[0] / len(price)
    assert decades == pytest.approx(1 / 6, abs=0.01)
    auctions = many["auctions"]
    assert auctions["category"].value_counts(normalize=True).reindex(range(10, 15)).to_numpy() == pytest.approx(0.2, abs=0.03)
    assert (auctions["reserve"] >= auctions["initial_bid"] + 100).all()
    assert many["persons"]["state"].value_counts(normalize=True).to_numpy() == pytest.approx(1 / 6, abs=0.04)


# Who refers to what --------------------------------------------------------------------------------------------------------


def test_without_a_lead_everything_referred_to_is_there_before() -> None:
    made = {name: table.to_pandas() for name, table in events(0, 20_000, settings=replace(FEW_BYTES, lead=0)).items()}
    persons, auctions = made["persons"].set_index("id")["date_time"], made["auctions"].set_index("id")["date_time"]
    assert (made["bids"]["date_time"].to_numpy() > auctions.loc[made["bids"]["auction"]].to_numpy()).all()
    assert (made["bids"]["date_time"].to_numpy() > persons.loc[made["bids"]["bidder"]].to_numpy()).all()
    assert (made["auctions"]["date_time"].to_numpy() > persons.loc[made["auctions"]["seller"]].to_numpy()).all()


@pytest.mark.parametrize(("lead", "flight", "active"), [(10, 100, 1_000), (1, 5, 10), (0, 1, 1)])
def test_bids_and_sellers_are_among_the_newest_or_those_soon_to_come(lead: int, flight: int, active: int) -> None:
    cold = replace(FEW_BYTES, lead=lead, auctions_in_flight=flight, active_people=active, hot_auctions=1, hot_sellers=1, hot_bidders=1)
    made = {name: table.to_pandas() for name, table in events(0, MANY, settings=cold).items()}
    number = ((made["bids"]["date_time"] - pd.Timestamp(cold.start)) // pd.Timedelta(microseconds=100)).to_numpy()
    ahead = made["bids"]["auction"].to_numpy() - 1_000 - (number // 50 * 3 + np.minimum(number % 50 - 1, 2))
    assert (ahead.min(), ahead.max()) == (-flight + 1, lead)
    assert np.bincount(ahead[number > 10_000] + flight - 1) / (number > 10_000).sum() == pytest.approx(1 / (flight + lead), abs=0.005)
    ahead = made["bids"]["bidder"].to_numpy() - 1_000 - number // 50
    assert (ahead.min(), ahead.max()) == (-active + 1, lead)
    number = ((made["auctions"]["date_time"] - pd.Timestamp(cold.start)) // pd.Timedelta(microseconds=100)).to_numpy()
    ahead = made["auctions"]["seller"].to_numpy() - 1_000 - number // 50
    assert ahead.min() <= -active * 0.9 + 1
    assert (ahead.min() > -active, ahead.max()) == (True, lead)


@pytest.mark.parametrize(("name", "column", "option", "offset", "ratio"), [
    ("bids", "auction", "hot_auctions", 0, 2), ("auctions", "seller", "hot_sellers", 0, 4), ("bids", "bidder", "hot_bidders", 1, 4),
    ("bids", "auction", "hot_auctions", 0, 10),
])  # fmt: skip
def test_all_but_one_in_so_many_are_hot(name: str, column: str, option: str, offset: int, ratio: int) -> None:
    made = events(0, MANY, settings=replace(FEW_BYTES, **{option: ratio}))[name].to_pandas()
    hot = (made[column] - 1_000) % 100 == offset
    assert hot.mean() == pytest.approx(1 - 1 / ratio + 0.01 / ratio, abs=0.02)
    assert made.loc[hot, column].nunique() >= (19 if column != "auction" else 60)  # others with time


def test_bids_come_before_their_auction_opens_between_at_its_end_and_after(with_auction: pd.DataFrame) -> None:
    rest = len(with_auction)
    before = (with_auction["date_time"] < with_auction["opens"]).sum() / rest
    after = (with_auction["date_time"] > with_auction["expires"]).sum() / rest
    assert 0.02 < before < 0.1
    assert 0.1 < after < 0.4
    assert (with_auction["date_time"] == with_auction["expires"]).sum() > 5


def test_auctions_last_up_to_twice_as_long_as_those_in_flight_take(many: dict[str, pd.DataFrame], with_auction: pd.DataFrame) -> None:
    auctions = many["auctions"]
    length = (auctions["expires"] - auctions["date_time"]) // pd.Timedelta(microseconds=100)
    horizon = 100 * 50 // 3
    assert (length.min() >= 1, length.max() <= 2 * horizon) == (True, True)
    assert length.mean() == pytest.approx(horizon, rel=0.03)
    in_time = with_auction["date_time"].between(with_auction["opens"], with_auction["expires"])
    none = ~auctions["id"].isin(with_auction.loc[in_time, "auction"])
    assert 0.03 < none.mean() < 0.15
    assert not auctions["id"].isin(with_auction["auction"]).all()


# In which order they arrive ------------------------------------------------------------------------------------------------


def slow_order(numbers: list[int], made: EventSettings) -> list[int]:
    """Deal whole blocks of events as the settings say: shuffle, then hold late ones back; with Python's sort and the documented hash."""

    def draw(field: str, number: int) -> int:
        key = made.seed
        for byte in field.encode():
            key = xxh64(byte.to_bytes(8, "little"), key)
        return xxh64(number.to_bytes(8, "little"), key)

    groups = [numbers[at : at + made.out_of_order] for at in range(0, len(numbers), made.out_of_order)]
    if made.out_of_order > 1:
        groups = [sorted(group, key=lambda number: draw("order", number)) for group in groups]
    shuffled = [number for group in groups for number in group]
    size = made.late_events * 8
    order: list[int] = []
    for block in range(0, len(numbers), size):
        places = range(numbers[block], numbers[block] + size)
        held = [
            place for place in places
            if ((draw("late", place) >> 12) + 0.5) / 2**52 < made.late_share and place % size < size - made.late_events
        ]  # fmt: skip
        order += sorted(places, key=lambda place: place + made.late_events * (place in held))
    return [shuffled[place - numbers[0]] for place in order]


@pytest.mark.parametrize("group", [1, 5, 40])
@pytest.mark.parametrize("share", [0.0, 0.2, 1.0])
def test_the_order_of_arrival_is_that_of_a_slow_model(group: int, share: float) -> None:
    made = EventSettings(seed=3, rate=10, out_of_order=group, late_share=share, late_by=timedelta(seconds=2))
    assert made.late_events == 20
    assert arrivals(480, 640, made).tolist() == slow_order([*range(480, 1_120)], made)


def test_shuffled_events_stay_within_their_group() -> None:
    made = EventSettings(out_of_order=16)
    order = arrivals(0, 16_000, made)
    assert (order // 16 == np.arange(16_000) // 16).all()
    assert sorted(order) == [*range(16_000)]
    assert (order == np.arange(16_000)).mean() < 0.1
    assert arrivals(0, 16_000, replace(made, seed=8)).tolist() != order.tolist()
    assert arrivals(5, 100, EventSettings()).tolist() == [*range(5, 105)]


def test_late_events_arrive_behind_those_that_happen_so_much_later() -> None:
    made = EventSettings(rate=100, late_share=0.02, late_by=timedelta(seconds=10))
    order = arrivals(0, 80_000, made)
    assert sorted(order) == [*range(80_000)]
    behind = np.maximum.accumulate(order) - order  # the watermark's point of view
    late = behind > 0
    assert late.mean() == pytest.approx(0.02 * 7 / 8, rel=0.1)
    assert behind[late].min() > 1_000 - 20
    assert behind.max() <= 1_000


def test_disorder_and_lateness_change_the_order_of_rows_and_nothing_else() -> None:
    tidy = replace(UNTIDY, out_of_order=1, late_share=0.0)
    count = UNTIDY.late_events * 8 * 5
    ordered, arrived = events(0, count, settings=tidy), events(0, count, settings=UNTIDY)
    for name in SCHEMAS:
        assert not ordered[name].equals(arrived[name])
        assert ordered[name].equals(arrived[name].sort_by("date_time"))


# As batches, and what is refused -------------------------------------------------------------------------------------------


def test_each_batch_is_one_commit_of_each_table_also_without_rows(tmp_path: Path) -> None:
    sizes = [1, 3, 0, 500]
    for made in batches(sizes, settings=UNTIDY):
        append(made, str(tmp_path))
    expected = events(0, sum(sizes), settings=UNTIDY)
    for name in SCHEMAS:
        table = DeltaTable(tmp_path / name)
        assert table.version() == len(sizes) - 1
        found = table.to_pyarrow_table().sort_by("date_time")
        assert found.cast(SCHEMAS[name]).equals(expected[name].sort_by("date_time"))


@pytest.mark.parametrize(("change", "text"), [
    ({"seed": -1}, "cannot make events 'seed': expected 0 to 18,446,744,073,709,551,615, got -1; correct it"),
    ({"rate": 0}, "cannot make events 'rate': expected 1 to 1,000,000, got 0; correct it"),
    ({"rate": 1_000_001}, "'rate': expected 1 to 1,000,000"),
    ({"hot_auctions": 0}, "'hot_auctions': expected 1 to"),
    ({"lead": -1}, "'lead': expected 0 to"),
    ({"bid_bytes": 513}, "'bid_bytes': expected 0 to 512, got 513"),
    ({"late_share": 1.5}, "'late_share': expected 0 to 1, got 1.5"),
    ({"late_by": timedelta(0)}, "'late_by': expected more than 0"),
    ({"start": datetime(2025, 1, 1)}, "'start': expected a time zone"),  # noqa: DTZ001
])  # fmt: skip
def test_settings_that_cannot_be_are_refused(change: dict[str, Any], text: str) -> None:
    with pytest.raises(SettingsError) as refused:
        EventSettings(**change)
    assert text in str(refused.value)


@pytest.mark.parametrize(("first", "count"), [(-1, 10), (0, -1), (0, 3_000_001)])
def test_ranges_that_cannot_be_are_refused(first: int, count: int) -> None:
    with pytest.raises(SettingsError, match=r"cannot make events 'range': expected first of 0 or more, count of 0 to 3,000,000, got first"):
        events(first, count)
