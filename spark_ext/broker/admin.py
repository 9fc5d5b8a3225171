"""What is asked of a running cluster, each question with a time limit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from kafka import KafkaAdminClient
from kafka.errors import KafkaError

from spark_ext.errors import BrokerError

__all__ = ["alive_nodes", "create_topic", "topic_count"]

TIMEOUT_MS: Final = 5_000
BROKER_DEFAULT: Final = -1


@contextmanager
def _client(servers: str) -> Iterator[KafkaAdminClient]:
    client = KafkaAdminClient(bootstrap_servers=servers, bootstrap_timeout_ms=TIMEOUT_MS, request_timeout_ms=TIMEOUT_MS)
    try:
        yield client
    finally:
        client.close()


def alive_nodes(servers: str, cluster_id: str) -> set[int]:
    """Return the nodes that the cluster counts as alive; none if it does not answer within 5 s, or another one does."""
    try:
        with _client(servers) as client:
            cluster = client.describe_cluster()
    except KafkaError:
        return set()
    return {broker["broker_id"] for broker in cluster["brokers"] if cluster["cluster_id"] == cluster_id and not broker["is_fenced"]}


def topic_count(servers: str) -> int | None:
    """Return the number of topics, those of Kafka itself included; None if nothing answers within 5 s."""
    try:
        with _client(servers) as client:
            return len(client.list_topics())
    except KafkaError:
        return None


def create_topic(servers: str, name: str, *, partitions: int, replication: int | None, config: Mapping[str, str]) -> None:
    """Create a topic and return when every partition has a leader.

    Raises
    ------
    BrokerError
        The cluster refused, for example because the topic exists, or did not answer in time.
    """
    wanted = {
        "num_partitions": partitions,
        "replication_factor": BROKER_DEFAULT if replication is None else replication,
        "configs": dict(config),
    }
    try:
        with _client(servers) as client:
            client.create_topics({name: wanted}, timeout_ms=TIMEOUT_MS, wait_for_metadata=True)
    except KafkaError as error:
        raise BrokerError(
            "create",
            "topic",
            name,
            expected=f"a new topic with {wanted}",
            got=repr(error),
            todo="change the request, or see the broker's log",
        ) from error
