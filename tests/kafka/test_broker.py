"""The embedded broker against both Kafka clients, whole and broken."""

import re
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import kafka
import psutil
import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from spark_ext.broker import Broker, cluster
from spark_ext.broker.config import Ports
from spark_ext.broker.ports import choose_ports
from spark_ext.errors import BrokerError

pytestmark = pytest.mark.kafka

ROWS = [f"row {n}".encode() for n in range(100)]


@pytest.fixture(scope="module")
def breakable() -> Iterator[Broker]:
    """A broker for the tests that kill and freeze it, each of which leaves it serving."""
    with Broker() as started:
        yield started


def produce(servers: str, topic: str, rows: list[bytes]) -> int:
    """Produce with confluent-kafka and return how many messages were acknowledged by all in-sync copies."""
    acknowledged: list[bytes] = []
    producer = Producer({"bootstrap.servers": servers, "acks": "all", "enable.idempotence": True})
    for row in rows:
        producer.produce(topic, row, on_delivery=lambda error, message: None if error else acknowledged.append(message.value()))
    producer.flush(60)
    return len(acknowledged)


def consume(servers: str, topic: str, count: int) -> list[bytes]:
    """Read a one-partition topic from its start with confluent-kafka."""
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "reader", "enable.auto.commit": False})
    consumer.assign([TopicPartition(topic, 0, 0)])
    messages = consumer.consume(count, timeout=30)
    consumer.close()
    return [message.value() for message in messages]


def test_starts_within_ten_seconds() -> None:
    started = time.monotonic()
    with Broker() as broker:
        assert time.monotonic() - started < 10
        directory = broker.directory
        assert directory.is_dir()
    assert not directory.exists(), "a temporary folder goes with a clean exit"


def test_confluent_kafka_reads_back_what_it_wrote(broker: Broker) -> None:
    broker.create_topic("confluent")
    assert produce(broker.bootstrap_servers, "confluent", ROWS) == len(ROWS)
    assert consume(broker.bootstrap_servers, "confluent", len(ROWS)) == ROWS


def test_kafka_python_reads_back_what_it_wrote(broker: Broker) -> None:
    broker.create_topic("pure")
    with kafka.KafkaProducer(bootstrap_servers=broker.bootstrap_servers) as producer:
        futures = [producer.send("pure", row) for row in ROWS]
        assert [future.get(timeout=30).offset for future in futures] == list(range(len(ROWS)))
    with kafka.KafkaConsumer(
        "pure", bootstrap_servers=broker.bootstrap_servers, auto_offset_reset="earliest", consumer_timeout_ms=30_000
    ) as consumer:
        assert [next(consumer).value for _ in ROWS] == ROWS


def test_a_consumer_group_commits(broker: Broker) -> None:
    broker.create_topic("grouped")
    produce(broker.bootstrap_servers, "grouped", ROWS)
    settings = {"bootstrap.servers": broker.bootstrap_servers, "group.id": "g", "auto.offset.reset": "earliest"}
    consumer = Consumer(settings)
    consumer.subscribe(["grouped"])
    assert len(consumer.consume(len(ROWS), timeout=30)) == len(ROWS)
    committed = consumer.commit(asynchronous=False)
    consumer.close()
    assert [partition.offset for partition in committed] == [len(ROWS)]


def test_a_transaction_is_seen_only_when_it_commits(broker: Broker) -> None:
    broker.create_topic("transactional")
    producer = Producer({"bootstrap.servers": broker.bootstrap_servers, "transactional.id": "t"})
    producer.init_transactions(30)
    for row, end in ((b"gone", producer.abort_transaction), (b"kept", producer.commit_transaction)):
        producer.begin_transaction()
        producer.produce("transactional", row)
        producer.flush(30)
        end(30)
    assert consume(broker.bootstrap_servers, "transactional", 1) == [b"kept"]


def test_a_topic_is_made_as_asked(broker: Broker) -> None:
    broker.create_topic("shaped", partitions=3, config={"retention.ms": "60000"})
    with kafka.KafkaAdminClient(bootstrap_servers=broker.bootstrap_servers) as admin:
        [topic] = admin.describe_topics(["shaped"])
    assert len(topic["partitions"]) == 3


def test_a_topic_that_exists_is_refused(broker: Broker) -> None:
    broker.create_topic("twice")
    with pytest.raises(BrokerError, match=r"cannot create topic 'twice': expected a new topic with .* got .*already exists"):
        broker.create_topic("twice")


def test_no_topic_is_made_by_accident(broker: Broker) -> None:
    producer = Producer({"bootstrap.servers": broker.bootstrap_servers, "allow.auto.create.topics": True})
    answer = producer.list_topics("misspelt", timeout=10).topics["misspelt"]
    assert answer.error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART
    assert "misspelt" not in producer.list_topics(timeout=10).topics


def test_listens_on_the_loopback_only(broker: Broker) -> None:
    listening = [
        connection.laddr
        for node in broker.nodes
        for connection in node.process.net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert len(listening) == 2, "one for clients, one for the controller"
    assert {re.sub("^::ffff:", "", address.ip) for address in listening} == {"127.0.0.1"}


def test_two_brokers_do_not_collide(broker: Broker, breakable: Broker) -> None:
    assert broker.bootstrap_servers != breakable.bootstrap_servers
    broker.create_topic("mine")
    assert "mine" not in AdminClient({"bootstrap.servers": breakable.bootstrap_servers}).list_topics(timeout=10).topics


def test_a_port_lost_to_another_broker_is_tried_again(breakable: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = [Ports(breakable.nodes[0].port, choose_ports(1)[0].controller)]
    attempts = iter([taken, choose_ports(1)])
    monkeypatch.setattr(cluster, "choose_ports", lambda nodes, further: next(attempts))
    with Broker() as second:
        assert next(attempts, None) is None, "it took both"
        assert second.bootstrap_servers != breakable.bootstrap_servers


def test_a_killed_node_comes_back_with_its_data(breakable: Broker) -> None:
    breakable.create_topic("durable")
    assert produce(breakable.bootstrap_servers, "durable", ROWS) == len(ROWS)
    servers = breakable.bootstrap_servers
    breakable.kill()
    assert breakable.nodes[0].state() == "down"
    breakable.restart()
    assert breakable.bootstrap_servers == servers, "clients know it by its address"
    assert consume(servers, "durable", len(ROWS)) == ROWS


def test_a_paused_node_does_not_answer_until_it_is_resumed(breakable: Broker) -> None:
    breakable.create_topic("frozen")
    client = AdminClient({"bootstrap.servers": breakable.bootstrap_servers})
    client.list_topics(timeout=10)
    breakable.pause()
    assert breakable.nodes[0].state() == "paused"
    with pytest.raises(KafkaException, match=r"_TIMED_OUT|_TRANSPORT"):
        client.list_topics(timeout=1)
    breakable.resume()
    assert breakable.nodes[0].state() == "up"
    assert produce(breakable.bootstrap_servers, "frozen", ROWS) == len(ROWS)


def test_a_failed_start_says_why_and_where(tmp_path: Path) -> None:
    broker = Broker(directory=tmp_path, properties={"num.io.threads": "many"})
    with pytest.raises(BrokerError, match=r"cannot format broker 'node 1': (?s:.*)num.io.threads(?s:.*)mend what the log names"):
        broker.start()
    assert broker.nodes == ()
    assert "num.io.threads" in (tmp_path / "node-1" / "kafka.log").read_text(encoding="utf-8")


def test_a_jvm_that_dies_shows_its_log(breakable: Broker) -> None:
    second = Broker(directory=breakable.directory)
    with pytest.raises(BrokerError, match=r"(?s)expected a JVM that stays up, got exit code 1.*lock.*kafka\.log") as caught:
        second.start()
    assert str(breakable.nodes[0].log) in str(caught.value)
    assert breakable.nodes[0].state() == "up", "the owner of the folder goes on"


def test_data_stays_in_a_given_folder(tmp_path: Path) -> None:
    with Broker(directory=tmp_path) as first:
        first.create_topic("kept")
        produce(first.bootstrap_servers, "kept", ROWS)
    with Broker(directory=tmp_path) as second:
        assert consume(second.bootstrap_servers, "kept", len(ROWS)) == ROWS
    with pytest.raises(BrokerError, match=r"expected data of 3 nodes, got data of 1; .*use nodes=1 or another folder"):
        Broker(nodes=3, directory=tmp_path).start()


def test_no_cluster_id_looks_like_an_option(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster.uuid, "uuid4", lambda: uuid.UUID(bytes=b"\xf8" + bytes(15)))
    with Broker(directory=tmp_path) as broker:
        assert broker.nodes[0].state() == "up"


def test_a_failure_keeps_the_folder(caplog: pytest.LogCaptureFixture) -> None:
    broker = Broker()

    def fail() -> None:
        with broker:
            folders.append(broker.directory)
            raise ZeroDivisionError

    folders: list[Path] = []
    with pytest.raises(ZeroDivisionError):
        fail()
    assert (folders[0] / "node-1" / "kafka.log").is_file()
    assert str(folders[0]) in caplog.text
    shutil.rmtree(folders[0])


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="only Linux ends a process with its parent, by setpriv of util-linux")
def test_the_node_dies_with_a_killed_owner() -> None:
    program = (
        "from spark_ext.broker import Broker; b = Broker(); b.start(); print(b.nodes[0].process.pid, b.directory, flush=True); input()"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        pid, directory = owner.stdout.readline().split()
        node = psutil.Process(int(pid))
        owner.kill()
    assert node.wait(10) is None
    shutil.rmtree(directory)
