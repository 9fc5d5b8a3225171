"""Serialisation, pacing and counting, without a broker."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace

import pandas as pd
import pytest
from confluent_kafka import KafkaError
from rich.console import Console

from jobs.flights import publish
from jobs.flights.check.broker import FIELDS, parse
from jobs.flights.events import events
from spark_ext.errors import BrokerUnavailableError


@pytest.fixture(scope="module")
def january() -> pd.DataFrame:
    return events().head(12_000)


@dataclass
class FakeClock:
    """Time passes only while somebody waits."""

    now: float = 1_000.0
    waits: list[float] = field(default_factory=list)
    stop_after: int | None = None

    def read(self) -> float:
        return self.now

    def wait(self, seconds: float) -> bool:
        self.now += seconds
        if seconds:
            self.waits.append(seconds)
        return self.stop_after is not None and len(self.waits) >= self.stop_after


@dataclass
class FakeProducer:
    """A broker that refuses the record with the number `refuse`, and answers nobody while it is `silent`."""

    refuse: int | None = None
    silent: bool = False
    sent: list[tuple[bytes | None, bytes]] = field(default_factory=list)
    waiting: list[tuple[Callable[..., None], KafkaError | None]] = field(default_factory=list)
    purged: bool = False

    def list_topics(self, topic: str, timeout: float) -> SimpleNamespace:
        assert timeout > 0, "never wait without a limit"
        return SimpleNamespace(topics={topic: SimpleNamespace(error=None)})

    def produce(self, topic: str, value: bytes, key: bytes | None, on_delivery: Callable[..., None]) -> None:
        assert topic == "flights"
        wrong = KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED, "refused") if len(self.sent) == self.refuse else None
        self.sent.append((key, value))
        self.waiting.append((on_delivery, wrong))

    def flush(self, timeout: float) -> int:
        assert timeout > 0, "never wait without a limit"
        if self.silent:
            return len(self.waiting)
        for tell, wrong in self.waiting:
            tell(wrong, None)
        self.waiting.clear()
        return 0

    def purge(self) -> None:
        self.purged = True


@pytest.fixture
def producer(monkeypatch: pytest.MonkeyPatch) -> FakeProducer:
    fake = FakeProducer()
    monkeypatch.setattr(publish, "Producer", lambda _: fake)
    return fake


def test_a_record_reads_as_specified(january: pd.DataFrame) -> None:
    key, value = next(publish.records(january))
    assert key == b"N14228"
    assert value == (
        b'{"event":"departure","event_time":"2013-01-01T10:17:00Z","scheduled_time":"2013-01-01T10:15:00Z","carrier":"UA",'
        b'"flight":1545,"tailnum":"N14228","origin":"EWR","dest":"IAH","delay_minutes":2}'
    )


def test_unknown_aircraft_have_no_key_and_json_nulls(january: pd.DataFrame) -> None:
    unknown = january[january["tailnum"].isna()]
    for key, value in publish.records(unknown):
        assert key is None
        assert json.loads(value)["tailnum"] is json.loads(value)["delay_minutes"] is None


def test_records_parse_back_to_the_events(january: pd.DataFrame) -> None:
    values = [value for _, value in publish.records(january)]
    rows = pd.DataFrame({"partition": 0, "offset": range(len(values)), "key": None, "value": values})
    good, bad = parse(rows)
    assert bad.empty
    pd.testing.assert_frame_equal(good[FIELDS], january[FIELDS])


def slices(scheduled: pd.Series, speed_up: float | None, clock: FakeClock) -> Iterator[slice]:
    return publish.due_slices(scheduled, speed_up=speed_up, clock=clock.read, wait=clock.wait)


def test_full_speed_never_waits_and_sends_everything_once(january: pd.DataFrame) -> None:
    clock = FakeClock()
    found = list(slices(january["scheduled_time"], None, clock))
    assert [(part.start, part.stop) for part in found] == [(0, 5_000), (5_000, 10_000), (10_000, 12_000)]
    assert clock.waits == []


def test_paced_rows_are_sent_when_they_are_due_and_never_before(january: pd.DataFrame) -> None:
    clock = FakeClock()
    seconds = (january["scheduled_time"] - january["scheduled_time"].iloc[0]).dt.total_seconds()
    sent = 0
    for part in slices(january["scheduled_time"], 86_400.0, clock):
        assert part.start == sent
        sent = part.stop
        timetable = (clock.now - 1_000.0) * 86_400
        assert seconds.iloc[part.stop - 1] <= timetable + 1e-3
        # Behind the timetable by no more than the shortest wait.
        assert seconds.iloc[part.start] >= timetable - publish.SHORTEST_WAIT_S * 86_400 - 1e-3
    assert sent == len(january)
    assert sum(clock.waits) == pytest.approx(seconds.iloc[-1] / 86_400, abs=publish.SHORTEST_WAIT_S)


def test_a_night_without_flights_is_one_wait() -> None:
    clock = FakeClock()
    scheduled = pd.Series(pd.to_datetime(["2013-01-01T00:00Z", "2013-01-01T06:00Z"]))
    assert list(slices(scheduled, 3_600.0, clock)) == [slice(0, 1), slice(1, 2)]
    assert clock.waits == [6.0]


def test_stop_ends_the_wait(january: pd.DataFrame) -> None:
    clock = FakeClock(stop_after=3)
    found = list(slices(january["scheduled_time"], 86_400.0, clock))
    assert found
    assert found[-1].stop < len(january)


@pytest.mark.parametrize("speed_up", [0.0, -1.0])
def test_time_must_go_forward(january: pd.DataFrame, speed_up: float) -> None:
    with pytest.raises(ValueError, match="expected speed_up > 0, got"):
        list(slices(january["scheduled_time"], speed_up, FakeClock()))


def test_acknowledged_rows_are_counted_and_shown(january: pd.DataFrame, producer: FakeProducer) -> None:
    screen = io.StringIO()
    with publish.progress_bar(Console(file=screen, force_terminal=True, width=120)) as progress:
        assert publish.publish("broker:9092", "flights", january, progress=progress) == len(january)
    assert [value for _, value in producer.sent] == [value for _, value in publish.records(january)]
    assert producer.purged
    for text in ("Jan 2013", "12000/12000", "rows/s"):
        assert text in screen.getvalue()


def test_a_stopped_publisher_reports_what_it_sent(january: pd.DataFrame, producer: FakeProducer) -> None:
    stop = threading.Event()
    stop.set()
    assert publish.publish("broker:9092", "flights", january, stop=stop) == 0
    assert producer.purged


def test_one_refused_record_is_an_error_not_a_smaller_number(january: pd.DataFrame, producer: FakeProducer) -> None:
    producer.refuse = 6_000
    with pytest.raises(BrokerUnavailableError, match=r"cannot reach broker 'broker:9092'.*topic 'flights'.*refused.*create the topic"):
        publish.publish("broker:9092", "flights", january)
    assert producer.purged


def test_a_broker_that_falls_silent_is_an_error(january: pd.DataFrame, producer: FakeProducer) -> None:
    producer.silent = True
    with pytest.raises(BrokerUnavailableError, match="no acknowledgement"):
        publish.publish("broker:9092", "flights", january)


def test_no_broker_is_an_error_that_names_the_address(january: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publish, "CONNECT_TIMEOUT_S", 1)
    with pytest.raises(BrokerUnavailableError, match=r"'127.0.0.1:1': expected an answer within 1 s, got .*start the broker"):
        publish.publish("127.0.0.1:1", "flights", january)
