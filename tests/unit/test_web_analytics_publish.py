"""Visits as JSON, whole and damaged, without a broker."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field

import pandas as pd
import pytest

from jobs.web_analytics import publish
from jobs.web_analytics.network import DAMAGES, Network
from jobs.web_analytics.site import page_changes
from jobs.web_analytics.visits import Traffic, visits
from spark_ext.kafka.messages import Message


@pytest.fixture(scope="module")
def arrivals() -> pd.DataFrame:
    return Network(damaged=0.003).carry(visits(Traffic(visits=12_000)))


@dataclass
class FakePublisher:
    """A broker that takes everything."""

    calls: list[list[Message]] = field(default_factory=list)
    is_closed: bool = False

    def publish(self, messages: list[Message]) -> None:
        self.calls.append(messages)

    def close(self) -> None:
        self.is_closed = True


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> FakePublisher:
    fake = FakePublisher()
    monkeypatch.setattr(publish, "_opened", lambda _: fake)
    return fake


def test_records_read_back_as_the_visits(arrivals: pd.DataFrame) -> None:
    whole = arrivals[arrivals["damage"] == 0]
    keys, values = publish.visit_records(whole)
    read = pd.DataFrame([json.loads(value) for value in values])
    assert keys == [visitor.encode() for visitor in read["visitor"]]
    assert list(read) == [name for name in whole if name not in {"arrives", "damage"}]
    for name in read:
        if name != "at":
            assert (
                read[name].where(read[name].notna(), None).tolist() == whole[name].astype(object).where(whole[name].notna(), None).tolist()
            )
    assert (pd.to_datetime(read["at"], utc=True).to_numpy() == whole["at"].to_numpy()).all()
    assert read["at"].str.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z").all()


@pytest.mark.parametrize("damage", range(1, len(DAMAGES)))
def test_damaged_records_are_damaged_as_said(arrivals: pd.DataFrame, damage: int) -> None:
    hit = arrivals[arrivals["damage"] == damage]
    assert len(hit)
    for value in publish.visit_records(hit)[1]:
        if DAMAGES[damage] == "torn":
            with pytest.raises(ValueError, match=r"."):
                json.loads(value)
            continue
        read = json.loads(value)
        assert ("visitor" not in read) == (DAMAGES[damage] == "no_visitor")
        assert isinstance(read["duration_ms"], str) == (DAMAGES[damage] == "text_duration")
        assert read["at"].startswith("at ") == (DAMAGES[damage] == "no_time")


def test_changes_of_pages_read_back() -> None:
    changes = page_changes(Traffic().day, seed=7)
    keys, values = publish.change_records(changes)
    read = pd.DataFrame([json.loads(value) for value in values])
    assert read.drop(columns="changed_at").equals(changes.drop(columns="changed_at"))
    assert (pd.to_datetime(read["changed_at"], utc=True).to_numpy() == changes["changed_at"].to_numpy()).all()
    assert keys == [page.encode() for page in changes["page"]]


def test_everything_is_sent_in_the_order_of_arrival(arrivals: pd.DataFrame, broker: FakePublisher) -> None:
    assert publish.publish_visits("broker:9092", "visits", arrivals) == len(arrivals)
    sent = [message for call in broker.calls for message in call]
    assert [message.value for message in sent] == publish.visit_records(arrivals)[1]
    assert {message.topic for message in sent} == {"visits"}
    assert broker.is_closed


def test_a_stopped_publisher_says_what_it_has_sent(arrivals: pd.DataFrame, broker: FakePublisher) -> None:
    stop = threading.Event()
    stop.set()
    assert publish.publish_visits("broker:9092", "visits", arrivals, stop=stop) == 0
    assert broker.is_closed
