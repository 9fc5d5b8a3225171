"""What the nodes are told: the text of each ``server.properties``. Pure: no files, no processes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from spark_ext.errors import BrokerError

__all__ = ["LOOPBACK", "ClusterConfig", "Ports"]

LOOPBACK: Final = "127.0.0.1"
NAME: Final = re.compile(r"[A-Za-z0-9._-]+")
CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
SIZES: Final = (1, 3)  # three is the smallest cluster that survives the loss of a node
LISTENER: Final = re.compile(r"(?!(BROKER|CONTROLLER)$)[A-Z][A-Z0-9]*")
PROTOCOLS: Final = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")


@dataclass(frozen=True, slots=True)
class Ports:
    """The ports of one node: for clients and the other brokers, for the KRaft controllers, and of each further listener."""

    broker: int
    controller: int
    further: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class ClusterConfig:
    """One or three nodes on the loopback, each broker and controller in one.

    Guarantee
        The text names 127.0.0.1 for every socket, and `properties` cannot change that: the settings
        that say who a node is and where it listens are refused.

    Parameters
    ----------
    nodes : int
        1 or 3.
    properties : mapping of str to str
        Server properties that replace or add to the defaults.
    listeners : mapping of str to {"PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"}
        Further listeners by name, capital letters and digits; their keys and users are properties.

    Raises
    ------
    BrokerError
        Another number of nodes, a property that is not the caller's to set or does not fit on its line, or a listener
        that Kafka would not take.

    Examples
    --------
    >>> config = ClusterConfig(1, {"log.retention.ms": "1000"})
    >>> text = config.server_properties(1, [Ports(broker=20001, controller=20002)])
    >>> text.splitlines()[0], text.splitlines()[-1]
    ('process.roles=broker,controller', 'log.retention.ms=1000')
    """

    nodes: int
    properties: Mapping[str, str]
    listeners: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.nodes not in SIZES:
            raise BrokerError(
                "start", "broker", "cluster", expected="nodes=1 or nodes=3", got=f"nodes={self.nodes!r}", todo="use one of them"
            )
        refused = sorted(key for key in self.properties if key.strip() in IDENTITY)
        if refused:
            raise BrokerError(
                "set",
                "property",
                refused[0],
                expected="a property that does not say who a node is or where it listens",
                got=repr(self.properties[refused[0]]),
                todo="leave it out, the broker chooses it",
            )
        for key, value in self.properties.items():
            # Whatever ends a key or a line in the file could smuggle in another setting.
            if not NAME.fullmatch(key) or CONTROL.search(value):
                raise BrokerError(
                    "set",
                    "property",
                    key,
                    expected="a key of letters, digits, '.', '_' and '-', and a value on one line",
                    got=f"{key!r} with {value!r}",
                    todo="correct it",
                )
        for name, protocol in self.listeners.items():
            if not LISTENER.fullmatch(name) or protocol not in PROTOCOLS:
                raise BrokerError(
                    "set",
                    "listener",
                    name,
                    expected=f"a name of capital letters and digits, not BROKER or CONTROLLER, and one of {', '.join(PROTOCOLS)}",
                    got=f"{name!r} with {protocol!r}",
                    todo="correct it",
                )

    def server_properties(self, node: int, ports: Sequence[Ports]) -> str:
        """Return the text of ``server.properties`` for one node, counted from 1; `ports` has one entry per node."""
        settings = {**_identity(node, ports, self.listeners), **self._defaults(), **self.properties}
        # A backslash starts an escape in this format.
        return "".join(f"{key}={value}\n" for key, value in settings.items()).replace("\\", "\\\\")

    def _defaults(self) -> dict[str, str]:
        copies = self.nodes
        in_sync = min(copies, 2)  # of three copies, one may be lost and writes still go on
        return {
            "auto.create.topics.enable": "false",  # a misspelt topic is an error, not a new topic
            "num.partitions": "1",
            "default.replication.factor": f"{copies}",
            "min.insync.replicas": f"{in_sync}",
            "unclean.leader.election.enable": "false",
            "offsets.topic.num.partitions": "1",
            "offsets.topic.replication.factor": f"{copies}",
            "transaction.state.log.num.partitions": "1",
            "transaction.state.log.replication.factor": f"{copies}",
            "transaction.state.log.min.isr": f"{in_sync}",
            "share.coordinator.state.topic.num.partitions": "1",
            "share.coordinator.state.topic.replication.factor": f"{copies}",
            "share.coordinator.state.topic.min.isr": f"{in_sync}",
            "group.initial.rebalance.delay.ms": "0",
            # Kafka lets a killed node back in when its old session has ended: 9 s by default.
            "broker.session.timeout.ms": "3000",
            "broker.heartbeat.interval.ms": "500",
            "num.network.threads": "2",
            "num.io.threads": "2",
            "log.segment.bytes": "16777216",
            "log.retention.check.interval.ms": "1000",
            "log.cleaner.dedupe.buffer.size": "2097152",  # 128 MiB of heap otherwise
        }


def _identity(node: int, ports: Sequence[Ports], listeners: Mapping[str, str]) -> dict[str, str]:
    own = ports[node - 1]
    addresses = {"BROKER": own.broker, **dict(zip(listeners, own.further, strict=True))}
    offered = ",".join(f"{name}://{LOOPBACK}:{port}" for name, port in addresses.items())
    protocols = {"BROKER": "PLAINTEXT", "CONTROLLER": "PLAINTEXT", **listeners}
    return {
        "process.roles": "broker,controller",
        "node.id": str(node),
        "controller.quorum.voters": ",".join(f"{number}@{LOOPBACK}:{each.controller}" for number, each in enumerate(ports, start=1)),
        "listeners": f"{offered},CONTROLLER://{LOOPBACK}:{own.controller}",
        "advertised.listeners": offered,
        "listener.security.protocol.map": ",".join(f"{name}:{protocol}" for name, protocol in protocols.items()),
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "BROKER",
        "log.dirs": "data",  # relative to where the node runs, so no path needs quoting
    }


IDENTITY: Final = frozenset(_identity(1, [Ports(broker=0, controller=0)], {}))
