"""The text of server.properties, without a JVM."""

import pytest

from spark_ext.broker import Broker
from spark_ext.broker.config import ClusterConfig, Ports
from spark_ext.broker.ports import choose_ports
from spark_ext.errors import BrokerError

THREE = [Ports(broker=20000 + n, controller=30000 + n) for n in (1, 2, 3)]


def settings(config: ClusterConfig, node: int, ports: list[Ports]) -> dict[str, str]:
    pairs = [line.split("=", 1) for line in config.server_properties(node, ports).splitlines()]
    assert len(dict(pairs)) == len(pairs), "every setting once"
    return dict(pairs)


@pytest.mark.parametrize("nodes", [0, 2, 4, -1])
def test_only_one_or_three_nodes(nodes: int) -> None:
    with pytest.raises(BrokerError, match=f"expected nodes=1 or nodes=3, got nodes={nodes}; use one of them"):
        Broker(nodes=nodes)


def test_every_socket_is_on_the_loopback() -> None:
    got = settings(ClusterConfig(3, {}), 2, THREE)
    assert got["listeners"] == "BROKER://127.0.0.1:20002,CONTROLLER://127.0.0.1:30002"
    assert got["advertised.listeners"] == "BROKER://127.0.0.1:20002"
    assert got["controller.quorum.voters"] == "1@127.0.0.1:30001,2@127.0.0.1:30002,3@127.0.0.1:30003"


def test_further_listeners_are_on_the_loopback_too() -> None:
    ports = [Ports(broker=20001, controller=30001, further=(20002, 20003))]
    got = settings(ClusterConfig(1, {"listener.name.tls.ssl.client.auth": "required"}, {"TLS": "SSL", "LOGIN": "SASL_SSL"}), 1, ports)
    offered = "BROKER://127.0.0.1:20001,TLS://127.0.0.1:20002,LOGIN://127.0.0.1:20003"
    assert got["advertised.listeners"] == offered
    assert got["listeners"] == f"{offered},CONTROLLER://127.0.0.1:30001"
    assert got["listener.security.protocol.map"] == "BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT,TLS:SSL,LOGIN:SASL_SSL"
    assert got["inter.broker.listener.name"] == "BROKER"
    assert got["listener.name.tls.ssl.client.auth"] == "required"


@pytest.mark.parametrize(
    ("name", "protocol"), [("BROKER", "SSL"), ("CONTROLLER", "SSL"), ("tls", "SSL"), ("A:SSL,B", "SSL"), ("", "SSL"), ("TLS", "TLS")]
)
def test_a_listener_that_kafka_would_not_take_is_refused(name: str, protocol: str) -> None:
    with pytest.raises(BrokerError, match=r"cannot set listener '.*': expected a name of capital letters.*; correct it"):
        Broker(listeners={name: protocol})


def test_every_port_of_every_node_is_another_one() -> None:
    chosen = choose_ports(3, further=2)
    assert [len(own.further) for own in chosen] == [2, 2, 2]
    assert len({port for own in chosen for port in (own.broker, own.controller, *own.further)}) == 12


@pytest.mark.parametrize(("nodes", "copies", "in_sync"), [(1, "1", "1"), (3, "3", "2")])
def test_three_nodes_keep_three_copies(nodes: int, copies: str, in_sync: str) -> None:
    got = settings(ClusterConfig(nodes, {}), 1, THREE[:nodes])
    assert {value for key, value in got.items() if key.endswith("replication.factor")} == {copies}
    assert {value for key, value in got.items() if key.endswith(("min.isr", "min.insync.replicas"))} == {in_sync}
    assert got["auto.create.topics.enable"] == "false"


def test_properties_replace_defaults_and_keep_backslashes() -> None:
    got = settings(ClusterConfig(1, {"num.io.threads": "8", "some.pattern": r"a\d"}), 1, THREE[:1])
    assert got["num.io.threads"] == "8"
    assert got["some.pattern"] == r"a\\d", "a single backslash would be read as an escape"


@pytest.mark.parametrize("name", ["listeners", "node.id", "log.dirs", "controller.quorum.voters", " listeners", "listeners\t"])
def test_properties_cannot_move_a_node(name: str) -> None:
    with pytest.raises(BrokerError, match=r"cannot set property '.*': expected .*, got 'x'; leave it out"):
        Broker(properties={name: "x"})


@pytest.mark.parametrize(
    ("key", "value"),
    [("a", "b\nlisteners=x"), ("a", "b\r"), ("a", "\x00"), ("a\nlisteners", "x"), ("listeners =x", ""), ("listeners:x", "")],
)
def test_properties_cannot_smuggle_in_another(key: str, value: str) -> None:
    with pytest.raises(BrokerError, match=r"cannot set property '.*': expected a key of letters.*a value on one line.*; correct it"):
        Broker(properties={key: value})


def test_a_stopped_broker_has_no_address() -> None:
    with pytest.raises(BrokerError, match="expected a node from 1 to 1 of a started broker, got 0 started nodes; start the broker"):
        _ = Broker().bootstrap_servers
    with pytest.raises(BrokerError, match="expected a node from 1 to 1 of a started broker, got 0 started nodes; start the broker"):
        Broker(listeners={"TLS": "SSL"}).servers("TLS")
