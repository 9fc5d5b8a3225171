"""Three nodes: what was acknowledged survives the loss of one."""

from collections.abc import Iterator

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from spark_ext.broker import Broker

pytestmark = [pytest.mark.kafka, pytest.mark.slow]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Broker]:
    with Broker(nodes=3) as started:
        yield started


@pytest.mark.parametrize("node", [1, 2, 3])
def test_acknowledged_messages_survive_the_loss_of_a_node(cluster: Broker, node: int) -> None:
    topic = f"loss-of-{node}"
    cluster.create_topic(topic)
    acknowledged: list[bytes] = []
    producer = Producer({"bootstrap.servers": cluster.bootstrap_servers, "acks": "all", "enable.idempotence": True})

    def note(error: object, message: object) -> None:
        if error is None:
            acknowledged.append(message.value())

    for number in range(2_000):
        producer.produce(topic, str(number).encode(), on_delivery=note)
        if number == 1_000:
            producer.poll(1)
            cluster.kill(node)
    assert producer.flush(60) == 0
    assert len(acknowledged) == 2_000, "two of three copies are enough to go on"

    consumer = Consumer({"bootstrap.servers": cluster.bootstrap_servers, "group.id": "reader"})
    consumer.assign([TopicPartition(topic, 0, 0)])
    found = [message.value() for message in consumer.consume(2_000, timeout=30)]
    consumer.close()
    assert found == [str(number).encode() for number in range(2_000)], "in order, none twice: the producer is idempotent"
    cluster.restart(node)
    assert cluster.nodes[node - 1].state() == "up"


def test_a_topic_has_three_copies(cluster: Broker) -> None:
    cluster.create_topic("copied")
    producer = Producer({"bootstrap.servers": cluster.bootstrap_servers})
    [partition] = producer.list_topics("copied", timeout=10).topics["copied"].partitions.values()
    assert sorted(partition.replicas) == [1, 2, 3]


def test_the_cluster_goes_on_while_a_node_is_paused(cluster: Broker) -> None:
    cluster.create_topic("paused")
    producer = Producer({"bootstrap.servers": cluster.bootstrap_servers, "acks": "all"})
    cluster.pause(2)
    for number in range(100):
        producer.produce("paused", str(number).encode())
    assert producer.flush(60) == 0
    cluster.resume(2)
