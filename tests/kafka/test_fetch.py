"""The three fetchers against what was produced: every column, every gap, every failure."""

import gc
import itertools
import logging
import multiprocessing
import random
import re
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from typing import NamedTuple

import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from kafka import KafkaProducer
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from spark_ext.broker import Broker
from spark_ext.errors import BrokerUnavailableError
from spark_ext.ingest.records import Bytes, Records
from spark_ext.kafka.fetch import (
    DamagedRecordsError,
    Fetcher,
    FetcherName,
    FetcherUnusableError,
    FetchSettings,
    OffsetOutOfRangeError,
    choose,
    fetcher_for,
    librdkafka,
    librdkafka_api,
    open_fetcher,
    worker,
)

pytestmark = pytest.mark.kafka

FETCHERS: list[FetcherName] = ["librdkafka", "confluent", "kafka-python"]
MEGABYTE = 1_000_000
ROWS = 3_000
START_MS = 1_700_000_000_000


class Row(NamedTuple):
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()


class Sent(NamedTuple):
    """What goes into a topic; the delivery report adds the offset."""

    value: bytes | None
    key: bytes | None = None
    headers: tuple[tuple[str, bytes | None], ...] = ()


def create(broker: Broker, topic: str, partitions: int = 1, **config: str) -> None:
    """Create a topic that keeps records however old they say they are."""
    broker.create_topic(topic, partitions=partitions, config={"retention.ms": "-1", **config})


def produce(servers: str, topic: str, rows: list[Sent], start_ms: int = START_MS, **properties: str) -> list[Row]:
    """Produce rows in order with times of their own, and return them with the offsets that the broker gave them."""
    producer = Producer({"bootstrap.servers": servers, "enable.idempotence": True, "message.max.bytes": 2 * MEGABYTE, **properties})
    return send(producer, topic, rows, start_ms)


def send(producer: Producer, topic: str, rows: list[Sent], start_ms: int = START_MS) -> list[Row]:
    sent: list[Row] = []

    def note(row: Sent, timestamp: int) -> Callable[..., None]:
        def delivered(error: object, message: object) -> None:
            assert error is None
            sent.append(Row(message.offset(), timestamp, row.key, row.value, row.headers))

        return delivered

    for number, row in enumerate(rows):
        timestamp = start_ms + number
        producer.produce(
            topic, row.value, row.key, partition=0, timestamp=timestamp, headers=list(row.headers), on_delivery=note(row, timestamp)
        )
        producer.poll(0)
    assert producer.flush(60) == 0
    return sent


def numbered(first: int, count: int) -> list[Sent]:
    return [Sent(f"value {n} {'x' * (n % 97)}".encode(), f"key {n}".encode()) for n in range(first, first + count)]


def strings(column: Bytes) -> list[bytes | None]:
    return [
        bytes(column.data[start:end]) if valid else None
        for start, end, valid in zip(column.offsets[:-1], column.offsets[1:], column.valid, strict=True)
    ]


def rows_of(records: Records) -> list[Row]:
    headers: list[tuple[tuple[str, bytes | None], ...]] = [()] * len(records)
    if records.headers is not None:
        flat = list(zip([name.decode() for name in strings(records.headers.names)], strings(records.headers.values), strict=True))
        headers = [tuple(flat[a:b]) for a, b in itertools.pairwise(records.headers.offsets)]
    columns = (records.offsets.tolist(), records.timestamps.tolist(), strings(records.keys), strings(records.values), headers)
    return [Row(*row) for row in zip(*columns, strict=True)]


def read(fetcher: Fetcher, start: int, end: int, max_records: int = 1_000_000) -> list[Row]:
    """Read a range as the source does, and check what every block promises."""
    fetcher.seek(start)
    rows: list[Row] = []
    while fetcher.position < end:
        before = fetcher.position
        block = fetcher.fetch(end, max_records)
        assert len(block) <= max_records
        assert len(block) > 0 or fetcher.position >= end
        assert before <= fetcher.position
        rows += rows_of(block)
    return rows


@pytest.fixture(params=FETCHERS)
def name(request: pytest.FixtureRequest) -> FetcherName:
    return request.param


class Opener:
    """Opens fetchers of one kind and closes them after the test."""

    def __init__(self, servers: str, name: FetcherName) -> None:
        self.servers = servers
        self.name = name
        self.opened: list[Fetcher] = []

    def __call__(self, topic: str, partition: int = 0, **settings: object) -> Fetcher:
        given = {"bootstrap_servers": self.servers, "fetcher": self.name, "want_keys": True, "want_headers": True, **settings}
        fetcher = open_fetcher(FetchSettings(**given), topic, partition)
        self.opened.append(fetcher)
        return fetcher


@pytest.fixture
def opened(broker: Broker, name: FetcherName) -> Iterator[Opener]:
    opener = Opener(broker.bootstrap_servers, name)
    yield opener
    for fetcher in opener.opened:
        fetcher.close()


@pytest.fixture
def _leaky(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """For tests without a broker: kafka-python leaves sockets that could not connect to the garbage collector."""
    caplog.set_level(logging.CRITICAL, logger="kafka")  # a captured record would keep them beyond the test
    yield
    gc.collect()


def leaks_sockets(test: Callable[..., None]) -> Callable[..., None]:
    ignore = "ignore:Exception ignored in. <socket.socket:pytest.PytestUnraisableExceptionWarning"
    return pytest.mark.usefixtures("_leaky")(pytest.mark.filterwarnings(ignore)(test))


@pytest.fixture(scope="module")
def plain(broker: Broker) -> list[Row]:
    """A topic "plain" without gaps in several batches."""
    create(broker, "plain")
    return [
        row
        for first in range(0, ROWS, 500)
        for row in produce(broker.bootstrap_servers, "plain", numbered(first, 500), **{"batch.num.messages": "37"})
    ]


@pytest.fixture(scope="module")
def transactions(broker: Broker) -> list[Row]:
    """A topic "transactions" that starts with an aborted one and ends on a marker; the committed rows."""
    create(broker, "transactions")
    producer = Producer({"bootstrap.servers": broker.bootstrap_servers, "transactional.id": "fetch"})
    producer.init_transactions(30)
    committed: list[Row] = []
    for number, commit in enumerate([False, True, True, False, False, True, False]):
        producer.begin_transaction()
        rows = send(producer, "transactions", numbered(number * 10, 10))
        if commit:
            producer.commit_transaction(30)
            committed += rows
        else:
            producer.abort_transaction(30)
    return committed


def test_every_column_is_what_was_produced(broker: Broker, opened: Opener, name: FetcherName) -> None:
    topic = f"odd-{name}"
    create(broker, topic)
    rows = produce(
        broker.bootstrap_servers,
        topic,
        [
            Sent(b"value", b"key"),
            Sent(None, b"tombstone"),
            Sent(b"", b"empty"),
            Sent(b"null key", None),
            Sent(b"empty key", b""),
            Sent(None, None),
            Sent(bytes(range(256)), b"\xff\x00\xfe"),
            Sent(random.Random(1).randbytes(MEGABYTE), b"large"),  # noqa: S311
            Sent(b"many", None, tuple((f"name {n % 7}", f"{n}".encode()) for n in range(1_000))),
            Sent(b"odd", None, (("null", None), ("empty", b""), ("twice", b"1"), ("twice", b"2"), ("größe", b"\xff\x00"))),
            Sent(b"last", None, (("name", b"value"),)),
        ],
    )
    assert read(opened(topic), 0, len(rows)) == rows
    assert read(opened(topic), 0, len(rows), max_records=1) == rows


def test_columns_that_nobody_wants_are_empty(opened: Opener, plain: list[Row]) -> None:
    fetcher = opened("plain", want_keys=False, want_headers=False)
    block = fetcher.fetch(100, 100)
    assert block.headers is None
    assert len(block.keys) == len(block)
    assert not block.keys.valid.any()
    assert block.keys.data.size == 0
    assert strings(block.values) == [row.value for row in plain[: len(block)]]


def test_append_time_of_the_broker_is_kept(broker: Broker, opened: Opener, name: FetcherName) -> None:
    topic = f"append-time-{name}"
    create(broker, topic, **{"message.timestamp.type": "LogAppendTime"})
    produce(broker.bootstrap_servers, topic, numbered(0, 3))
    with_confluent = Consumer({"bootstrap.servers": broker.bootstrap_servers, "group.id": "times"})
    with_confluent.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
    expected = [message.timestamp()[1] for message in with_confluent.consume(3, 30)]
    with_confluent.close()
    assert len(expected) == 3
    assert [row.timestamp for row in read(opened(topic), 0, 3)] == expected


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
def test_codecs_mix_in_one_partition(broker: Broker, opened: Opener, name: FetcherName, codec: str) -> None:
    topic = f"codecs-{codec}-{name}"
    create(broker, topic)
    rows = [
        row
        for number, kind in enumerate(["none", codec, "none", codec])
        for row in produce(broker.bootstrap_servers, topic, numbered(100 * number, 100), **{"compression.type": kind})
    ]
    if name == "kafka-python" and codec != "gzip" and not python_has(codec):
        with pytest.raises(FetcherUnusableError, match="expected a codec whose Python package is installed"):
            read(opened(topic), 0, 400)
    else:
        assert read(opened(topic), 0, 400) == rows


def python_has(codec: str) -> bool:
    from kafka import codec as codecs  # noqa: PLC0415

    return getattr(codecs, f"has_{codec}")()


def test_all_codecs_mix_in_one_partition(broker: Broker, opened: Opener, name: FetcherName) -> None:
    if name == "kafka-python":
        pytest.skip("its codecs need packages; tested one by one")
    topic = f"codecs-{name}"
    create(broker, topic)
    rows = [
        row
        for number, codec in enumerate(["none", "gzip", "snappy", "lz4", "zstd"] * 2)
        for row in produce(broker.bootstrap_servers, topic, numbered(100 * number, 100), **{"compression.type": codec})
    ]
    assert read(opened(topic), 0, 1_000) == rows


def test_aborted_transactions_are_gaps(opened: Opener, transactions: list[Row]) -> None:
    fetcher = opened("transactions")
    assert read(fetcher, 0, 77) == transactions
    assert fetcher.position == 77, "the last marker is passed"


@pytest.mark.usefixtures("transactions")
def test_read_uncommitted_sees_what_was_aborted(opened: Opener) -> None:
    rows = read(opened("transactions", isolation="read_uncommitted"), 0, 77)
    assert [row.offset for row in rows] == [offset for offset in range(77) if offset % 11 != 10], "all but the markers"


def test_a_range_may_end_anywhere_in_a_gap(opened: Opener, transactions: list[Row]) -> None:
    fetcher = opened("transactions")
    for end in range(1, 78):
        assert read(fetcher, 0, end) == [row for row in transactions if row.offset < end], f"up to {end}"
        assert read(fetcher, end, 77) == [row for row in transactions if row.offset >= end], f"from {end}"


def test_a_record_behind_the_end_stays_for_the_next_call(opened: Opener, transactions: list[Row]) -> None:
    fetcher = opened("transactions")
    rows = [row for start in range(77) for row in read(fetcher, start, start + 1)]
    assert rows == transactions


def test_an_open_transaction_stops_the_reader(broker: Broker, opened: Opener, name: FetcherName) -> None:
    topic = f"open-{name}"
    create(broker, topic)
    rows = produce(broker.bootstrap_servers, topic, numbered(0, 5))
    producer = Producer({"bootstrap.servers": broker.bootstrap_servers, "transactional.id": f"open-{name}"})
    producer.init_transactions(30)
    producer.begin_transaction()
    send(producer, topic, numbered(5, 5))
    fetcher = opened(topic, timeout_s=1.0)
    assert read(fetcher, 0, 5) == rows
    with pytest.raises(BrokerUnavailableError, match=f"expected records 5 to 9 of {topic}-0"):
        fetcher.fetch(10, 100)
    producer.abort_transaction(30)
    assert read(fetcher, 5, 10) == []


@pytest.mark.parametrize("seed", range(5))
def test_splits_anywhere_give_the_same_rows(opened: Opener, plain: list[Row], seed: int) -> None:
    choose = random.Random(seed)  # noqa: S311
    cuts = [0, *sorted(choose.sample(range(1, ROWS), 12)), ROWS]
    one, other = opened("plain"), opened("plain")  # two workers that take turns
    rows = [row for start, end in itertools.pairwise(cuts) for row in read(choose.choice([one, other]), start, end, choose.randint(1, 900))]
    assert rows == plain


def test_seeks_back_and_forth_deliver_nothing_outdated(opened: Opener, plain: list[Row]) -> None:
    fetcher = opened("plain")
    choose = random.Random(7)  # noqa: S311
    for _ in range(100):
        start = choose.randrange(ROWS)
        end = min(ROWS, start + choose.randint(1, 60))
        assert read(fetcher, start, end) == plain[start:end]


def test_a_header_name_that_is_no_text_is_shown_or_refused(broker: Broker, opened: Opener, name: FetcherName) -> None:
    if name == "confluent":
        pytest.skip("confluent-kafka's own code reads memory that is not there: an error, or a crash")

    class Raw(str):
        __slots__ = ()

        def encode(self, *_: object, **__: object) -> bytes:
            return b"\xff\xfe"

    topic = f"raw-names-{name}"
    create(broker, topic)
    producer = KafkaProducer(bootstrap_servers=broker.bootstrap_servers)
    producer.send(topic, b"v", headers=[(Raw("x"), b"1")], partition=0).get(30)
    producer.close()
    fetcher = opened(topic)
    fetcher.seek(0)
    if name == "librdkafka":
        headers = fetcher.fetch(1, 10).headers
        assert headers is not None
        assert strings(headers.names) == [b"\xff\xfe"]
        return
    with pytest.raises(FetcherUnusableError, match=f"cannot read record '{topic}-0 at 0'.*use fetcher='librdkafka', which shows them"):
        fetcher.fetch(1, 10)


def test_the_same_place_is_no_seek(opened: Opener, plain: list[Row]) -> None:
    fetcher = opened("plain")
    assert read(fetcher, 10, 20) == plain[10:20]
    fetcher.seek(20)
    assert fetcher.position == 20
    assert read(fetcher, 20, 30) == plain[20:30]
    assert read(fetcher, 20, 30) == plain[20:30]


def test_offsets_that_are_gone_or_not_there_yet_are_an_error(broker: Broker, opened: Opener, name: FetcherName) -> None:
    topic = f"short-{name}"
    create(broker, topic)
    rows = produce(broker.bootstrap_servers, topic, numbered(0, 50))
    client = AdminClient({"bootstrap.servers": broker.bootstrap_servers})
    client.delete_records([TopicPartition(topic, 0, 20)])[TopicPartition(topic, 0, 20)].result(30)
    fetcher = opened(topic)
    for offset in (5, 51, 0):
        with pytest.raises(OffsetOutOfRangeError, match=f"partition '{topic}-0': expected an offset from 20 to 50, got {offset}") as caught:
            read(fetcher, offset, 60)
        error = caught.value
        assert (error.topic, error.partition, error.offset, error.log_start, error.log_end) == (topic, 0, offset, 20, 50)
    assert read(fetcher, 20, 50) == rows[20:]


def test_a_damaged_batch_is_an_error_every_time(broker: Broker, opened: Opener, name: FetcherName) -> None:
    topic = f"damaged-{name}"
    create(broker, topic)
    rows = produce(broker.bootstrap_servers, topic, numbered(0, 10))
    produce(broker.bootstrap_servers, topic, [Sent(b"to be damaged")])
    produce(broker.bootstrap_servers, topic, numbered(11, 10))
    [segment] = broker.directory.glob(f"node-1/**/{topic}-0/*.log")
    with segment.open("r+b") as file:
        file.seek(segment.read_bytes().index(b"to be damaged"))
        file.write(b"TO")
    fetcher = opened(topic)
    assert read(fetcher, 0, 10) == rows
    for _ in range(2):
        with pytest.raises(DamagedRecordsError, match=rf"cannot read partition '{topic}-0': expected whole records from offset 10 on"):
            read(fetcher, 10, 21)
    unchecked = read(opened(topic, check_crcs=False), 0, 21)
    assert [row.offset for row in unchecked] == list(range(21))
    assert unchecked[10].value == b"TO be damaged"


@leaks_sockets
def test_a_missing_broker_is_named_in_time(name: FetcherName) -> None:
    opener = Opener("127.0.0.1:1", name)
    fetcher = opener("any", timeout_s=2.0)
    with pytest.raises(BrokerUnavailableError, match=r"cannot reach broker '127.0.0.1:1': .*within 2 s, got no answer: \S+"):
        fetcher.fetch(10, 10)
    fetcher.close()


def test_a_missing_topic_is_named_in_time(opened: Opener) -> None:
    with pytest.raises(BrokerUnavailableError, match="expected records 0 to 9 of nowhere-0"):
        opened("nowhere", timeout_s=2.0).fetch(10, 10)


@pytest.fixture(scope="module")
def own() -> Iterator[Broker]:
    """A broker that may be killed, and that compacts at once."""
    with Broker(properties={"log.cleaner.backoff.ms": "100"}) as started:
        yield started


@leaks_sockets
def test_a_broker_that_restarts_is_ridden_out(own: Broker, name: FetcherName) -> None:
    topic = f"restarted-{name}"
    create(own, topic)
    rows = produce(own.bootstrap_servers, topic, [Sent(bytes(2_000), f"{n}".encode()) for n in range(4_000)])
    fetcher = Opener(own.bootstrap_servers, name)(topic, prefetch_bytes=64 * 1024)
    seen = read(fetcher, 0, 100, 50)
    own.kill()
    with ThreadPoolExecutor(1) as pool:
        restarted = pool.submit(own.restart)
        seen += read(fetcher, 100, len(rows), 50)
        restarted.result(60)
    assert [row.offset for row in seen] == list(range(len(rows)))
    assert seen == rows
    fetcher.close()


@leaks_sockets
def test_a_broker_that_stays_away_is_an_error_that_can_be_repeated(own: Broker, name: FetcherName) -> None:
    topic = f"away-{name}"
    create(own, topic)
    rows = produce(own.bootstrap_servers, topic, [Sent(bytes(2_000), f"{n}".encode()) for n in range(4_000)])
    fetcher = Opener(own.bootstrap_servers, name)(topic, prefetch_bytes=64 * 1024, timeout_s=1.0)
    seen = rows_of(fetcher.fetch(len(rows), 10))
    own.kill()
    with pytest.raises(BrokerUnavailableError, match=rf"cannot reach broker '{own.bootstrap_servers}': .* within 1 s"):  # noqa: PT012
        while True:
            seen += rows_of(fetcher.fetch(len(rows), 1_000))
    assert len(seen) < len(rows)
    own.restart()
    for attempt in Retrying(stop=stop_after_delay(30), retry=retry_if_exception_type(BrokerUnavailableError)):
        with attempt:
            while fetcher.position < len(rows):
                seen += rows_of(fetcher.fetch(len(rows), 1_000))
    assert seen == rows
    fetcher.close()


def test_compaction_leaves_gaps(own: Broker, name: FetcherName) -> None:
    topic = f"compacted-{name}"
    create(
        own,
        topic,
        **{"cleanup.policy": "compact", "segment.ms": "100", "min.cleanable.dirty.ratio": "0.01", "max.compaction.lag.ms": "100"},
    )
    rows = produce(own.bootstrap_servers, topic, [Sent(f"{n}".encode(), f"key {n % 7}".encode()) for n in range(700)])
    fetcher = Opener(own.bootstrap_servers, name)(topic)
    for attempt in Retrying(stop=stop_after_delay(60), wait=wait_fixed(0.2)):
        with attempt:
            later = START_MS + 1_000 * len(rows)  # closes the segment before it
            rows += produce(own.bootstrap_servers, topic, [Sent(b"", b"last")], later)
            assert len(read(fetcher, 0, 700)) <= 7
    found = read(fetcher, 0, len(rows))
    assert set(found) <= set(rows)
    assert {row.key: row for row in found} == {row.key: row for row in rows}, "the last of every key is there"
    assert read(fetcher, 300, 600) == []
    pieces = [row for start in range(0, 700, 50) for row in read(fetcher, start, start + 50)]
    assert pieces == [row for row in found if row.offset < 700]
    fetcher.close()


@pytest.mark.parametrize("name", ["librdkafka"])
def test_a_new_leader_is_followed(name: FetcherName) -> None:
    with Broker(nodes=3) as cluster:
        create(cluster, "moved")
        rows = produce(cluster.bootstrap_servers, "moved", [Sent(bytes(2_000), f"{n}".encode()) for n in range(4_000)])
        fetcher = Opener(cluster.bootstrap_servers, name)("moved", prefetch_bytes=64 * 1024)
        seen = read(fetcher, 0, 100, 50)
        client = AdminClient({"bootstrap.servers": cluster.bootstrap_servers})
        cluster.kill(client.list_topics("moved", timeout=10).topics["moved"].partitions[0].leader)
        seen += read(fetcher, 100, len(rows), 50)
        assert seen == rows
        fetcher.close()


def test_auto_takes_the_fastest(broker: Broker, plain: list[Row], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="spark_ext.kafka.fetch")
    choose._tell.cache_clear()
    opener = Opener(broker.bootstrap_servers, "auto")
    fetcher = opener("plain")
    assert fetcher.chosen == "librdkafka"
    assert read(fetcher, 0, 10) == plain[:10]
    fetcher.close()
    opener("plain").close()
    assert [record.getMessage() for record in caplog.records if record.name == choose.__name__] == ["reading Kafka with librdkafka"]


def test_the_one_that_was_asked_for_is_taken(opened: Opener, name: FetcherName) -> None:
    assert opened("plain").chosen == name


def test_a_broken_library_falls_back(
    broker: Broker, plain: list[Row], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(librdkafka_api, "_candidates", lambda: iter(["/nowhere/librdkafka.so"]))
    monkeypatch.setattr(librdkafka, "load", librdkafka_api.load.__wrapped__)
    fetcher = Opener(broker.bootstrap_servers, "auto")("plain")
    assert fetcher.chosen == "confluent"
    assert read(fetcher, 0, 10) == plain[:10]
    fetcher.close()
    assert re.search(r"reading Kafka with confluent because of librdkafka: cannot load library 'librdkafka': .*nowhere", caplog.text)
    with pytest.raises(FetcherUnusableError, match=r"cannot open fetcher 'librdkafka': .*nowhere.*use fetcher='auto'"):
        Opener(broker.bootstrap_servers, "librdkafka")("plain")

    monkeypatch.setitem(sys.modules, "confluent_kafka", None)
    monkeypatch.delitem(sys.modules, "spark_ext.kafka.fetch.confluent")
    fetcher = Opener(broker.bootstrap_servers, "auto")("plain")
    assert fetcher.chosen == "kafka-python"
    assert read(fetcher, 0, 10) == plain[:10]
    fetcher.close()


@pytest.fixture
def _clean_worker() -> Iterator[None]:
    worker.close_all()
    yield
    worker.close_all()


@pytest.mark.usefixtures("_clean_worker")
def test_a_worker_keeps_its_fetchers(broker: Broker, plain: list[Row], name: FetcherName) -> None:
    settings = FetchSettings(bootstrap_servers=broker.bootstrap_servers, fetcher=name, want_keys=True)
    first = fetcher_for(settings, "plain", 0, 100)
    assert read(first, 100, 200) == plain[100:200]
    again = fetcher_for(FetchSettings(bootstrap_servers=broker.bootstrap_servers, fetcher=name, want_keys=True), "plain", 0, 200)
    assert again is first
    assert again.position == 200
    assert fetcher_for(settings, "plain", 0, 5).position == 5
    assert fetcher_for(FetchSettings(bootstrap_servers=broker.bootstrap_servers, fetcher=name), "plain", 0, 5) is not first


@pytest.mark.usefixtures("_clean_worker")
def test_a_worker_closes_what_it_used_least_recently(broker: Broker, plain: list[Row], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "MOST", 2)
    monkeypatch.setattr(worker, "MOST_SHARED", 2)
    create(broker, "many", partitions=3)
    settings = FetchSettings(bootstrap_servers=broker.bootstrap_servers, want_keys=True)
    zero, one = (fetcher_for(settings, "many", partition, 0) for partition in (0, 1))
    assert fetcher_for(settings, "many", 0, 0) is zero
    fetcher_for(settings, "many", 2, 0)
    assert fetcher_for(settings, "many", 0, 0) is zero
    assert fetcher_for(settings, "many", 1, 0) is not one
    assert read(fetcher_for(settings, "plain", 0, 0), 0, 10) == plain[:10]


@pytest.mark.usefixtures("_clean_worker")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_has_fetchers_of_its_own(broker: Broker, plain: list[Row], name: FetcherName) -> None:
    settings = FetchSettings(bootstrap_servers=broker.bootstrap_servers, fetcher=name, want_keys=True)
    parents = fetcher_for(settings, "plain", 0, 0)
    assert read(parents, 0, 100) == plain[:100]

    def work(pipe: Connection) -> None:
        childs = fetcher_for(settings, "plain", 0, 50)
        pipe.send((childs is not parents, read(childs, 50, 150)))
        worker.close_all()

    here, there = multiprocessing.get_context("fork").Pipe()
    child = multiprocessing.get_context("fork").Process(target=work, args=(there,))
    child.start()
    assert here.poll(60)
    assert here.recv() == (True, plain[50:150])
    child.join(60)
    assert child.exitcode == 0
    assert fetcher_for(settings, "plain", 0, 100) is parents
    assert read(parents, 100, ROWS) == plain[100:]
