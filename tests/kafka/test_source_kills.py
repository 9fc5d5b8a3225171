"""The source millrace_kafka while its parts are killed without warning: each offset once, whatever dies and whenever."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event
from typing import Any

import psutil
import pyarrow as pa
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ListOffsetsResultInfo  # type: ignore[attr-defined]  # its stubs lack it
from deltalake import DeltaTable
from pyspark.sql import DataFrame, Row, SparkSession
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from spark_ext import kafka
from spark_ext.broker import Broker
from spark_ext.errors import BrokerUnavailableError
from spark_ext.kafka.options import SourceOptions
from spark_ext.kafka.planner import Planner
from spark_ext.kafka.topics import Admin, Topic
from tests.kafka.kill_program import FORMAT, Settings
from tests.kafka_topics import Batches, Message, consume, in_transaction, produce, run_to_end, running
from tests.process_tree import ProcessTree, below, is_daemon, is_planner, is_worker

pytestmark = [pytest.mark.kafka, pytest.mark.spark]

GONE_S = 30  # within which nothing of a killed program may be left
COMPACTED = {"cleanup.policy": "compact", "segment.ms": "100", "min.cleanable.dirty.ratio": "0.01", "max.compaction.lag.ms": "100"}


@pytest.fixture(scope="module")
def own() -> Iterator[Broker]:
    """A broker that may be killed, and that compacts at once."""
    with Broker(properties={"log.cleaner.backoff.ms": "100"}) as started:
        yield started


def wait_until(condition: Callable[[], bool], timeout_s: float = 60) -> None:
    for attempt in Retrying(stop=stop_after_delay(timeout_s), wait=wait_fixed(0.02), retry=retry_if_result(lambda met: not met)):
        with attempt:
            met = condition()
        attempt.retry_state.set_result(met)


def same(found: Iterable[Any], expected: Iterable[Any]) -> None:
    """Assert that two sorted lists are equal, and show no more than where they first differ."""
    lists = list(found), list(expected)
    first = next((at for at, (one, other) in enumerate(zip(*lists, strict=False)) if one != other), min(map(len, lists)))
    assert lists[0][first : first + 2] == lists[1][first : first + 2], f"from row {first} of {len(lists[0])} and {len(lists[1])}"


# What goes in, and what must come out ----------------------------------------------------------------------------------


def value(n: int) -> bytes | None:
    """One record in a hundred is malformed, in one of five ways."""
    if n % 100 != 50:
        return json.dumps({"n": n, "pad": f"{n:x}" * 10}).encode()
    return [b'{"n": %d, "pad"' % n, None, b"", b'{"pad": "%d"}' % n, b'{"n": "%d"}' % n][n // 100 % 5]


def judged(sent: bytes | None) -> tuple[int | None, str | None, str | None]:
    """What Python's own parser makes of a value: n, pad, reason."""
    if not sent:
        return None, None, "tombstone" if sent is None else "empty"
    try:
        found = json.loads(sent)
    except ValueError:
        return None, None, "malformed"
    if "n" not in found:
        return None, None, "required_field"
    return (found["n"], found["pad"], None) if isinstance(found["n"], int) else (None, None, "type")


@dataclass
class Feed:
    """A topic of three partitions with plain records and transactions, and one that was compacted."""

    broker: Broker
    name: str
    partitions: Mapping[str, int] = field(init=False)
    numbers: Iterator[int] = field(default_factory=count)

    def __post_init__(self) -> None:
        self.partitions = {self.name: 3, f"{self.name}-compacted": 1}
        self.broker.create_topic(self.name, partitions=3)
        compact(self.broker, f"{self.name}-compacted", self.values(1200))

    def values(self, many: int) -> list[bytes | None]:
        return [value(next(self.numbers)) for _ in range(many)]

    def more(self, many: int) -> None:
        """Add about as many records, some of them in transactions, half of which are aborted."""
        for commit in (True, False):
            produce(self.broker, self.name, self.values(many * 2 // 5), partitions=3)
            in_transaction(self.broker, self.name, [one or b"" for one in self.values(many // 10)], commit=commit)

    @contextmanager
    def flowing(self) -> Iterator[None]:
        """Add records all the time."""
        stop = Event()

        def flow() -> None:
            settings = {"enable.idempotence": True, "linger.ms": 5, "log_level": 2}
            producer = Producer({"bootstrap.servers": self.broker.bootstrap_servers, **settings})
            while not stop.wait(0.2):
                for at, one in enumerate(self.values(20)):
                    producer.produce(self.name, one, partition=at % 3)
                producer.poll(0)
            assert producer.flush(60) == 0

        with ThreadPoolExecutor(1) as pool:
            done = pool.submit(flow)
            try:
                yield
            finally:
                stop.set()
            done.result(90)

    def records(self) -> list[tuple[Any, ...]]:
        """Every row that must come out: place, n, pad, reason and value of dead ones."""
        rows = []
        for topic, partitions in self.partitions.items():
            for _, partition, offset, _, sent in consume(self.broker, topic, partitions):
                n, pad, reason = judged(sent)
                rows.append((topic, partition, offset, n, pad, reason, sent if reason else None))
        return sorted(rows, key=lambda row: row[:3])

    def ends(self) -> dict[tuple[str, int], int]:
        consumer = Consumer({"bootstrap.servers": self.broker.bootstrap_servers, "group.id": "ends"})
        places = [(topic, number) for topic, partitions in self.partitions.items() for number in range(partitions)]
        ends = {at: consumer.get_watermark_offsets(TopicPartition(*at), 10)[1] for at in places}
        consumer.close()
        return ends


def compact(broker: Broker, topic: str, values: Sequence[bytes | None]) -> None:
    """Fill a topic in which two thirds of the records are replaced by later ones, and wait until those are gone."""
    broker.create_topic(topic, config=COMPACTED)
    producer = Producer({"bootstrap.servers": broker.bootstrap_servers, "log_level": 2})
    for number, one in enumerate(values):
        key = f"once {number}" if number % 3 == 0 else f"again {number * 7 % 50}"
        producer.produce(topic, one, key, partition=0, timestamp=1_000 + number)
    assert producer.flush(30) == 0
    producer.produce(topic, b"", "last", partition=0, timestamp=100_000)  # closes the segment before it
    assert producer.flush(30) == 0
    keys = {f"once {number}".encode() for number in range(0, len(values), 3)} | {f"again {n}".encode() for n in range(50)} | {b"last"}
    wait_until(lambda: sorted(one[3] or b"" for one in consume(broker, topic, 1)) == sorted(keys))


def check(feed: Feed, out: Path) -> None:
    """Each record is in the table once, the accounts add up to the offsets, and the batches had different sizes."""
    tables = {name: DeltaTable(out / name).to_pyarrow_table().to_pylist() for name in ("records", "accounts")}
    names = ("topic", "partition", "offset", "n", "pad", "reason", "value")
    expected = feed.records()
    same(sorted((tuple(row[name] for name in names) for row in tables["records"]), key=lambda row: row[:3]), expected)
    for at, end in feed.ends().items():
        ranges = sorted((one for one in tables["accounts"] if (one["topic"], one["partition"]) == at), key=lambda one: one["start"])
        assert [one["start"] for one in ranges] == [0, *(one["end"] for one in ranges[:-1])], "no gap and nothing twice"
        assert ranges[-1]["end"] == end
        total = {name: sum(one[name] for one in ranges) for name in ("read", "decoded", "dead", "lost", "absent", "filtered")}
        there = [row for row in expected if row[:2] == at]
        dead = sum(row[5] is not None for row in there)
        assert total == {
            "read": len(there),
            "decoded": len(there) - dead,
            "dead": dead,
            "lost": 0,
            "absent": end - len(there),
            "filtered": 0,
        }
        assert dead > 0
        assert total["absent"] > 0 or at[1] != 0, "transactions and compaction have left gaps"
    sizes: Counter[int] = Counter()
    for one in tables["accounts"]:
        sizes[one["batch_id"]] += one["end"] - one["start"]
    assert sorted(sizes) == list(range(logged(out, "commits")))
    assert len(set(sizes.values())) > len(sizes) // 2, "the limits changed"


# Kills of a program of its own ------------------------------------------------------------------------------------------


def logged(out: Path, log: str) -> int:
    """How many batches were planned (``offsets``) or finished (``commits``)."""
    folder = out / "checkpoint" / "spark" / log
    return len([file for file in folder.glob("*") if not file.name.startswith(".")]) if folder.is_dir() else 0


def linger(job: ProcessTree, seconds: float) -> None:
    with pytest.raises(subprocess.TimeoutExpired):  # or it has ended by itself
        job.process.wait(seconds)


VICTIMS: dict[str, Callable[[psutil.Process], bool]] = {
    "jvm": lambda one: one.name() == "java",
    "planner": is_planner,
    "daemon": is_daemon,
    "worker": is_worker,
}


def strike(job: ProcessTree, victim: str, broker: Broker, dice: random.Random) -> None:
    """Kill one thing without which the program goes on, or cannot go on, somewhere in a batch."""
    linger(job, dice.uniform(0, 1.5))
    if victim == "driver":
        job.process.kill()
    elif victim == "broker":
        broker.kill()
        linger(job, dice.uniform(0, 1))
        broker.restart()
    else:

        def killed() -> bool:
            found = [one for one in job.members() if VICTIMS[victim](one)]
            with suppress(psutil.NoSuchProcess, IndexError):  # none is there yet, or it has just ended
                dice.choice(found).kill()
                return True
            return False

        job.wait_until(killed)


@contextmanager
def program(settings: Settings) -> Iterator[ProcessTree]:
    """Start the program with a place of its own for what it leaves behind when it is killed."""
    with (
        TemporaryDirectory(prefix="kills-", ignore_cleanup_errors=True) as folder,
        ProcessTree(settings.command, {"TMPDIR": folder}) as job,
    ):
        yield job


def live(settings: Settings, victims: Sequence[str], broker: Broker, dice: random.Random) -> None:
    """Run the program until the last victim has died, which ends it."""
    out = Path(settings.out)
    with program(settings) as job:
        for victim in victims:
            if ":" not in victim:  # or the program kills itself
                job.wait_until(partial(lambda planned: logged(out, "offsets") > planned, logged(out, "offsets")))
                strike(job, victim, broker, dice)
        assert job.wait_for_end() != 0
        assert job.survivors(GONE_S) == [], "what it started has ended too"


def many_deaths(broker: Broker, out: Path, lives: Sequence[Sequence[str]], seed: int, **given: Any) -> None:
    """Kill a program in many ways, go on adding records between its lives, let it come to the end, and check its tables."""
    dice = random.Random(seed)  # noqa: S311 (a test's moments are no secrets)
    feed = Feed(broker, f"deaths-{seed}")
    patient = {"transactional.id": "unfinished", "transaction.timeout.ms": 900_000, "log_level": 2}
    unfinished = Producer({"bootstrap.servers": broker.bootstrap_servers, **patient})
    unfinished.init_transactions(30)
    unfinished.begin_transaction()
    common = {"servers": broker.bootstrap_servers, "topics": ",".join(feed.partitions), "out": str(out), **given}
    with feed.flowing():
        for number, victims in enumerate(lives):
            feed.more(1_500)
            if number == 0:
                unfinished.produce(feed.name, b"never", partition=2)  # holds its partition up
                assert unfinished.flush(30) == 0
            elif number == len(lives) - 1:
                unfinished.abort_transaction(30)
            die = victims[-1] if ":" in victims[-1] else None
            live(Settings(**common, seed=dice.randrange(1000), most=900, every="0 seconds", die=die), victims, broker, dice)
    with program(Settings(**common, seed=seed, most=20_000)) as last:
        assert last.wait_for_end(240) == 0
        assert last.survivors(GONE_S) == []
    check(feed, out)


@pytest.mark.slow
def test_a_query_that_is_killed_again_and_again_reads_every_offset_once(own: Broker, tmp_path: Path) -> None:
    many_deaths(own, tmp_path, [["worker", "jvm"], ["accounts:driver"]], seed=1)


DEADLY = "jvm", "driver", "planner", *(f"{step}:{who}" for step in ("records", "accounts", "commit") for who in ("jvm", "driver"))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("fetcher", ["librdkafka", "confluent", "kafka-python"])
@pytest.mark.parametrize("seed", [2, 3])
def test_whatever_dies_and_whenever_each_offset_is_read_once(own: Broker, tmp_path: Path, seed: int, fetcher: str) -> None:
    dice = random.Random(f"{seed} {fetcher}")  # noqa: S311 (a test's moments are no secrets)
    lasts = [*dice.sample(DEADLY[:3], 3), *dice.sample(DEADLY[3:], 3)]
    lives = [[last] if ":" in last else [*dice.sample(["worker", "daemon", "broker"], 2), last] for last in lasts]
    dice.shuffle(lives)
    many_deaths(own, tmp_path, lives, seed=dice.randrange(1_000_000), fetcher=fetcher)


# Kills around a query of this process ------------------------------------------------------------------------------------


@dataclass
class Gate:
    """Holds a query up in the middle of a batch, when it has given out a part of it."""

    folder: Path

    def __post_init__(self) -> None:
        self.folder.mkdir()

    def through(self, frame: DataFrame) -> DataFrame:
        reached, opened = self.folder / "reached", self.folder / "opened"

        def hold(blocks: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed  # noqa: PLC0415 (runs in a worker)

            closed = retry_if_result(lambda there: not there)
            for block in blocks:
                yield block
                reached.touch()
                Retrying(stop=stop_after_delay(120), wait=wait_fixed(0.02), retry=closed)(opened.exists)

        return frame.mapInArrow(hold, frame.schema)

    def reached(self) -> bool:
        return (self.folder / "reached").exists()

    def open(self) -> None:
        (self.folder / "opened").touch()


RECORDS, BYTES = 6_000, 4_000  # of a partition: far more than is fetched ahead


@pytest.fixture(scope="module")
def heavy(own: Broker) -> list[Message]:
    own.create_topic("heavy", partitions=2)
    produce(own, "heavy", [b"%d " % n + bytes(BYTES) for n in range(2 * RECORDS)], partitions=2)
    return consume(own, "heavy", 2)


@pytest.fixture
def small_blocks(spark: SparkSession) -> Iterator[None]:
    """Let a gate close after a few records."""
    name = "spark.sql.execution.arrow.maxRecordsPerBatch"
    before = spark.conf.get(name)
    spark.conf.set(name, "200")
    yield
    spark.conf.set(name, before or "")


def read(spark: SparkSession, broker: Broker, topics: Any, **given: Any) -> DataFrame:
    return kafka.read(spark, bootstrap_servers=broker.bootstrap_servers, topics=topics, **given)


def read_heavy(spark: SparkSession, broker: Broker, **options: str) -> DataFrame:
    return read(spark, broker, "heavy", max_offsets_per_trigger=8_000, options={"max_rows_per_block": "200", **options})


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize(("victim", "finished"), [(is_worker, 0), (is_planner, 1)], ids=["workers", "planner"])
def test_a_killed_python_process_ends_the_query_and_the_next_one_goes_on(
    spark: SparkSession, own: Broker, heavy: list[Message], tmp_path: Path, victim: Callable[[psutil.Process], bool], finished: int
) -> None:
    gate, batches = Gate(tmp_path / "gate"), Batches()
    frame = read_heavy(spark, own)
    with running(gate.through(frame), tmp_path / "c", batches) as query:
        wait_until(gate.reached)
        victims = [one for one in below(os.getpid()) if victim(one)]
        for one in victims:
            one.kill()
        gate.open()
        wait_until(lambda: not query.isActive)
        assert victims
        assert query.exception() is not None
    assert len(batches.rows) == finished, "a batch whose worker dies is not given out, one that only loses the planner is"
    run_to_end(frame, tmp_path / "c", batches)
    assert batches.sizes == [8_000, 4_000]
    same(batches.messages, heavy)


@pytest.mark.usefixtures("small_blocks")
def test_a_broker_that_is_killed_in_mid_batch_and_comes_back_changes_nothing(
    spark: SparkSession, own: Broker, heavy: list[Message], tmp_path: Path
) -> None:
    gate, batches = Gate(tmp_path / "gate"), Batches()
    with running(gate.through(read_heavy(spark, own)), tmp_path / "c", batches) as query:
        wait_until(gate.reached)
        own.kill()
        gate.open()
        own.restart()
        query.processAllAvailable()
    assert batches.sizes == [8_000, 4_000]
    same(batches.messages, heavy)


@pytest.mark.slow
@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("reading", [True, False], ids=["reading", "planning"])
def test_a_broker_that_stays_dead_is_named_in_time_and_nothing_is_lost(
    spark: SparkSession, own: Broker, heavy: list[Message], tmp_path: Path, reading: bool
) -> None:
    gate, batches = Gate(tmp_path / "gate"), Batches()
    frame = read_heavy(spark, own, patience_s="5")
    gated = gate.through(frame) if reading else frame
    with running(gated, tmp_path / "c", batches) as query:
        if reading:
            wait_until(gate.reached)
        else:
            query.processAllAvailable()
        own.kill()
        gate.open()
        wait_until(lambda: not query.isActive, 45 if reading else 20)
        assert f"cannot reach broker '{own.bootstrap_servers}'" in str(query.exception())
    own.restart()
    run_to_end(frame, tmp_path / "c", batches)
    assert batches.sizes == [8_000, 4_000]
    same(batches.messages, heavy)


# Batches that are done again ---------------------------------------------------------------------------------------------


@dataclass
class Changing(Batches):
    """Changes the limit after each batch."""

    limits: kafka.ReadLimits = field(default_factory=lambda: kafka.ReadLimits(max_offsets_per_trigger=300))
    dice: random.Random = field(default_factory=lambda: random.Random(1))  # noqa: S311 (as above)

    def take(self, frame: DataFrame, batch_id: int) -> None:
        super().take(frame, batch_id)
        self.limits.set(max_offsets_per_trigger=self.dice.randint(100, 800))


def records_of(batches: Iterable[list[Row]]) -> list[Row]:
    rows = [row for rows in batches for row in rows if row.range is None]
    return sorted(rows, key=lambda row: (row.source.topic, row.source.partition, row.source.offset))


def sums(rows: list[Row]) -> Counter[tuple[str, int, str]]:
    found: Counter[tuple[str, int, str]] = Counter()
    for row in rows:
        for name, many in (row.range.asDict() if row.range else {}).items():
            if name not in ("start", "end"):  # which depend on the cut into tasks
                found[row.source.topic, row.source.partition, name] += many
    return found


def forget(log: Path, first: int) -> None:
    """Remove what a log says of a batch and of those after it."""
    for file in log.iterdir():
        if int(file.name.strip(".").removesuffix(".crc")) >= first:
            file.unlink()


def test_any_batch_of_a_checkpoint_is_read_again_as_it_was(spark: SparkSession, own: Broker, tmp_path: Path) -> None:
    dice = random.Random(6)  # noqa: S311 (a test's moments are no secrets)
    feed = Feed(own, "replays")
    feed.more(2_000)
    batches = Changing()
    topics = list(feed.partitions)
    whole = run_to_end(read(spark, own, topics, format=FORMAT, limits=batches.limits), tmp_path / "c", batches)
    assert len(set(whole.sizes)) >= 6, "the limits changed"
    feed.more(200)
    expected = feed.records()
    for turn, first in enumerate(dice.sample(sorted(whole.rows), 4)):
        planned = turn % 3 > 0  # or the batch is planned anew
        copy = tmp_path / f"copy-{turn}"
        shutil.copytree(tmp_path / "c", copy)
        forget(copy / "commits", first)
        forget(copy / "offsets", first + planned)
        options = {"tasks": str(dice.randint(1, 4)), "min_offsets_per_task": "50", "max_rows_per_block": str(dice.randint(10, 500))}
        fetcher = dice.choice(["librdkafka", "confluent", "kafka-python"])
        again = run_to_end(read(spark, own, topics, format=FORMAT, fetcher=fetcher, options=options), copy)
        assert min(again.rows) == first
        if planned:
            same(records_of([again.rows[first]]), records_of([whole.rows[first]]))
            assert sums(again.rows[first]) == sums(whole.rows[first])
        rows = records_of([*(whole.rows[number] for number in range(first)), *again.rows.values()])
        same([(*row.source[:3], row.n, row.pad, row.dead and row.dead.reason, row.dead and row.dead.value) for row in rows], expected)


# Brokers that go away while they are asked --------------------------------------------------------------------------------


def test_an_offset_that_no_leader_gave_is_asked_for_again(own: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    own.create_topic("unanswered", partitions=2)
    produce(own, "unanswered", [b"a"] * 20, partitions=2)
    options = SourceOptions(bootstrap_servers=own.bootstrap_servers, topics=("unanswered",))
    real, lost, only_times = AdminClient.list_offsets, [0], False

    def lossy(client: AdminClient, asked: dict[TopicPartition, Any], **given: Any) -> dict[TopicPartition, Any]:
        futures = real(client, asked, **given)
        if only_times and next(iter(asked.values()))._value < 0:  # earliest or latest
            return futures
        lost[0] -= 1
        if lost[0] < 0:
            return futures
        answered = {at: future.result(10) for at, future in futures.items()}
        silent: Future[ListOffsetsResultInfo] = Future()
        silent.set_result(ListOffsetsResultInfo(-1001, -1, -1))  # librdkafka's when the connection to a leader breaks
        assert answered[TopicPartition("unanswered", 1)].offset != -1001
        return {**futures, TopicPartition("unanswered", 1): silent}

    monkeypatch.setattr(AdminClient, "list_offsets", lossy)
    planner = Planner(options)
    places = [("unanswered", 0), ("unanswered", 1)]
    for times in (1, 2, 3):
        lost[0] = times
        seen = planner.look()
        assert (seen.first, seen.ends) == (dict.fromkeys(places, 0), dict.fromkeys(places, 10))
    only_times = True
    for year, offset in ((2000, 0), (2100, 10)):  # to "no record is as late" the answer is -1
        lost[0] = 2
        assert Planner(replace(options, starting=datetime(year, 1, 1, tzinfo=UTC))).initial().offsets == dict.fromkeys(places, offset)
        assert lost[0] < 0
    only_times, lost[0] = False, 1_000
    with pytest.raises(
        BrokerUnavailableError, match=r"expected an answer about the offsets of unanswered\[1\], got none from their leaders"
    ):
        Planner(replace(options, patience_s=1)).whole()
    planner.close()


def test_who_waits_for_a_broker_that_is_gone_looks_for_the_others(own: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    own.create_topic("stuck")
    planner = Planner(SourceOptions(bootstrap_servers=own.bootstrap_servers, topics=("stuck",)))
    stuck, real = planner.admin, Admin.describe

    def describe(admin: Admin, names: Sequence[str]) -> dict[str, Topic]:
        if admin is stuck:  # as librdkafka while it waits for a controller that has died
            raise admin.reason(TimeoutError(), "topics", names)
        return real(admin, names)

    monkeypatch.setattr(Admin, "describe", describe)
    assert planner.look().ends == {("stuck", 0): 0}
    planner.close()


# Three brokers -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_leaders_that_die_one_after_the_other_change_nothing(spark: SparkSession, tmp_path: Path) -> None:
    with Broker(nodes=3) as cluster:
        cluster.create_topic("led", partitions=3)
        stop, acknowledged, batches = Event(), Counter[bytes](), Batches()

        def note(error: object, message: Any) -> None:
            if error is None:
                acknowledged[message.value()] += 1

        def write() -> int:
            settings = {"acks": "all", "enable.idempotence": True, "linger.ms": 5, "log_level": 2}
            producer = Producer({"bootstrap.servers": cluster.bootstrap_servers, **settings})
            sent = 0
            while not stop.wait(0.01):
                for _ in range(10):
                    producer.produce("led", b"%d" % sent, partition=sent % 3, on_delivery=note)
                    sent += 1
                producer.poll(0)
            assert producer.flush(60) == 0
            return sent

        def seen() -> int:
            assert query.isActive, query.exception()
            return sum(len(rows) for rows in list(batches.rows.values()))

        with ThreadPoolExecutor(1) as pool, running(read(spark, cluster, "led"), tmp_path / "c", batches) as query:
            writing = pool.submit(write)
            try:
                for turn in range(6):
                    leader = AdminClient({"bootstrap.servers": cluster.bootstrap_servers}).list_topics("led", 10)
                    node = leader.topics["led"].partitions[turn % 3].leader
                    cluster.kill(node)
                    in_transaction(cluster, "led", [b"aborted"] * 20, commit=False)
                    wait_until(partial(lambda before: seen() > before + 1_000, seen()))  # without it
                    cluster.restart(node)
            finally:
                stop.set()
            sent = writing.result(90)
            query.processAllAvailable()
        expected = consume(cluster, "led", 3)
    same(batches.messages, expected)
    assert Counter(one[4] for one in expected) == acknowledged
    assert acknowledged == Counter(b"%d" % n for n in range(sent))
