"""Offsets of consumer groups as ordinary tools see them, and what happens when they cannot be committed."""

from __future__ import annotations

import logging

import pytest
from confluent_kafka import Consumer
from kafka import KafkaAdminClient

from spark_ext.broker import Broker
from spark_ext.errors import BrokerUnavailableError, SettingsError
from spark_ext.kafka.groups import Lag, commit_offsets, lag
from tests.kafka_topics import delete_records, in_transaction, produce

pytestmark = pytest.mark.kafka


def test_a_position_is_shown_to_other_tools_and_lag_is_what_is_left(broker: Broker) -> None:
    broker.create_topic("groups-lag", partitions=3)
    produce(broker, "groups-lag", [b"x"] * 10, partitions=2)
    assert commit_offsets(broker.bootstrap_servers, "groups-job", {("groups-lag", 0): 2, ("groups-lag", 1): 5})
    admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)
    found = admin.list_group_offsets("groups-job")
    admin.close()
    assert "groups-lag" in str(found)
    found_lag = lag(broker.bootstrap_servers, "groups-job", topics=["groups-lag"])
    assert found_lag == [Lag("groups-lag", 0, 2, 0, 5), Lag("groups-lag", 1, 5, 0, 5), Lag("groups-lag", 2, None, 0, 0)]
    assert [one.records for one in found_lag] == [3, 0, 0]
    assert [one.partition for one in lag(broker.bootstrap_servers, "groups-job")] == [0, 1]
    assert commit_offsets(broker.bootstrap_servers, "groups-job", {("groups-lag", 0): 4})
    assert [one.committed for one in lag(broker.bootstrap_servers, "groups-job")] == [4, 5]


def test_lag_counts_what_is_there_and_may_be_read(broker: Broker) -> None:
    broker.create_topic("groups-gone")
    produce(broker, "groups-gone", [b"x"] * 10)
    delete_records(broker, "groups-gone", {0: 6})
    commit_offsets(broker.bootstrap_servers, "groups-late", {("groups-gone", 0): 1})
    assert [one.records for one in lag(broker.bootstrap_servers, "groups-late")] == [4]
    assert [one.records for one in lag(broker.bootstrap_servers, "groups-none", topics=["groups-gone"])] == [4]
    in_transaction(broker, "groups-gone", [b"x"] * 2, commit=True, name="groups-one")
    assert [one.latest for one in lag(broker.bootstrap_servers, "groups-late")] == [13]


def test_a_group_with_members_is_left_alone(broker: Broker, caplog: pytest.LogCaptureFixture) -> None:
    broker.create_topic("groups-active")
    produce(broker, "groups-active", [b"x"] * 3)
    member = Consumer({"bootstrap.servers": broker.bootstrap_servers, "group.id": "groups-members", "auto.offset.reset": "earliest"})
    member.subscribe(["groups-active"])
    assert member.consume(3, 30)
    with caplog.at_level(logging.WARNING):
        assert not commit_offsets(broker.bootstrap_servers, "groups-members", {("groups-active", 0): 2})
    assert "offsets of group groups-members were not committed" in caplog.text
    member.close()


def test_a_topic_that_is_not_there_and_nobody_at_the_address_are_only_logged(broker: Broker, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert not commit_offsets("127.0.0.1:1", "groups-x", {("groups-nowhere", 0): 2})
        assert "127.0.0.1:1" in caplog.text
        caplog.clear()
        assert not commit_offsets(broker.bootstrap_servers, "groups-x", {("groups-nowhere", 0): 2})
        assert "groups-nowhere[0]" in caplog.text
    assert commit_offsets(broker.bootstrap_servers, "groups-x", {})
    with pytest.raises(BrokerUnavailableError, match="groups-nowhere"):
        lag(broker.bootstrap_servers, "groups-x", topics=["groups-nowhere"])
    with pytest.raises(SettingsError, match="expected a reference"):
        lag(broker.bootstrap_servers, "groups-x", options={"kafka.sasl.password": "hunter2"})
