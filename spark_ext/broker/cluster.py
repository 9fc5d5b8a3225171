"""The broker as its users see it: one or three nodes that start, fail and come back on request."""

from __future__ import annotations

import base64
import logging
import re
import shutil
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Final, Self

from tenacity import RetryError, Retrying, retry, retry_if_exception_type, retry_if_result, stop_after_attempt, stop_after_delay, wait_fixed

from spark_ext.broker import admin
from spark_ext.broker.config import LOOPBACK, ClusterConfig, Ports
from spark_ext.broker.node import LostRaceError, Node, java_command, stop_nodes
from spark_ext.broker.ports import choose_ports, is_open
from spark_ext.errors import BrokerError

__all__ = ["Broker", "servers_of"]

START_ATTEMPTS: Final = 3
READY_TIMEOUT_S: Final = 30.0
PROBE_EVERY_S: Final = 0.1
NO_PROPERTIES: Final[Mapping[str, str]] = MappingProxyType({})

log = logging.getLogger(__name__)


class Broker:
    """A real Kafka in KRaft mode on 127.0.0.1, every node a JVM of its own.

    Guarantee
        `start` returns when every node listens and the cluster counts it as alive. Nothing listens beyond
        the loopback. Only processes started here are ever signalled. On Linux they also die with this
        process, if it is killed, unless `detached`. Topics are never made by accident. With three nodes
        a topic has three copies, and a message acknowledged by ``acks=all`` survives the loss of one node.

    Parameters
    ----------
    nodes : int
        1 (default) or 3. Nodes are numbered from 1, as Kafka's ``node.id``.
    directory : Path, optional
        Where data and logs stay; a later broker with the same number of nodes goes on with that data, on
        new ports. Without it a temporary folder is used, which is removed by `stop` and at the end of a
        ``with`` block, and kept, with its path in the error or the log, after a failure.
    properties : mapping of str to str
        Server properties beside or instead of the defaults.
    listeners : mapping of str to {"PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"}
        Further listeners beside the plain one, by name in capital letters. Keys and users are `properties`, such as
        ``listener.name.<name>.ssl.keystore.location``, the name in small letters.
    detached : bool
        Let the nodes outlive this process; off by default.

    Not supported
        TLS and passwords between the nodes, clients on other machines, adding nodes later.

    Examples
    --------
    >>> with Broker() as broker:  # doctest: +SKIP
    ...     broker.create_topic("flights", partitions=4)
    ...     connect(broker.bootstrap_servers)
    """

    def __init__(
        self,
        *,
        nodes: int = 1,
        directory: Path | None = None,
        properties: Mapping[str, str] = NO_PROPERTIES,
        listeners: Mapping[str, str] = NO_PROPERTIES,
        detached: bool = False,
    ) -> None:
        self._config = ClusterConfig(nodes, properties, listeners)
        self._given = directory
        self._detached = detached
        self._nodes: list[Node] = []
        self._ports: list[Ports] = []
        self._java: list[str] = []
        self._cluster_id = ""

    @property
    def bootstrap_servers(self) -> str:
        """Addresses of all nodes, ``127.0.0.1:port[,...]``, for any Kafka client."""
        self._node(1)
        return servers_of(self._nodes)

    def servers(self, listener: str) -> str:
        """Return the addresses of all nodes at a further listener.

        Raises
        ------
        BrokerError
            The broker is stopped, or has no such listener.
        """
        self._node(1)
        names = list(self._config.listeners)
        if listener not in names:
            raise BrokerError(
                "use",
                "listener",
                listener,
                expected=f"one of {names!r}",
                got="another name",
                todo="give it to Broker as one of `listeners`",
            )
        return ",".join(f"{LOOPBACK}:{own.further[names.index(listener)]}" for own in self._ports)

    @property
    def directory(self) -> Path:
        """The folder of data and logs; node 1 has ``node-1`` in it."""
        return self._node(1).directory.parent

    @property
    def nodes(self) -> Sequence[Node]:
        """The nodes, in order; none while the broker is stopped."""
        return tuple(self._nodes)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is not None and self._nodes and self._given is None:
            log.warning("kept the broker's data and logs in %s", self.directory)
        self._stop(keep=error is not None)

    def start(self) -> None:
        """Start all nodes and return when they serve; about two seconds for one node on two free cores.

        Raises
        ------
        BrokerError
            It runs already, a JVM died (with the end of its log), the folder belongs to another number of
            nodes, or three attempts to get ports and form a quorum failed.
        """
        if self._nodes:
            raise BrokerError(
                "start",
                "broker",
                str(self.directory),
                expected="a stopped broker",
                got="a started one",
                todo="call stop() or restart() first",
            )
        self._java = java_command()  # first: without Java or jars no folder is left behind
        directory = self._given or Path(tempfile.mkdtemp(prefix="millrace-broker-"))
        try:
            self._start(directory.absolute())
        except BaseException:
            self._kill_all()
            raise

    def stop(self) -> None:
        """Stop all nodes: cleanly, by force after 15 s, where the data stays; at once, with the folder, where it is temporary."""
        self._stop(keep=False)

    def kill(self, node: int = 1) -> None:
        """End a node without warning (SIGKILL); returns when it is gone, its data stays."""
        self._node(node).kill()

    def restart(self, node: int = 1) -> None:
        """Stop a node if it runs, start it with the same data on the same ports, and wait until it serves.

        Raises
        ------
        BrokerError
            The JVM died, for example because another process has the port now, or the nodes that run do
            not form a quorum within 30 s.
        """
        chosen = self._node(node)
        others = [each for each in self._nodes if each is not chosen and each.state() == "up"]
        stop_nodes([chosen])
        self._write_properties(chosen)  # another broker may have tried this folder meanwhile
        chosen.start(self._java, detached=self._detached)
        self._wait_until_ready([chosen, *others])

    def pause(self, node: int = 1) -> None:
        """Freeze a node (SIGSTOP), as a long garbage collection would: connections stay, answers do not come."""
        self._node(node).pause()

    def resume(self, node: int = 1) -> None:
        """Let a paused node go on (SIGCONT); clients recover by themselves."""
        self._node(node).resume()

    def create_topic(
        self, name: str, *, partitions: int = 1, replication: int | None = None, config: Mapping[str, str] = NO_PROPERTIES
    ) -> None:
        """Create a topic and return when every partition has a leader.

        Parameters
        ----------
        name : str
            A name that is not in use.
        partitions : int
            At least 1.
        replication : int, optional
            Copies of each partition; as many as there are nodes by default.
        config : mapping of str to str
            Topic settings, for example ``{"retention.ms": "60000"}``.

        Raises
        ------
        BrokerError
            The cluster refused or did not answer within 5 s.
        """
        admin.create_topic(self.bootstrap_servers, name, partitions=partitions, replication=replication, config=config)

    def logs(self, node: int = 1) -> str:
        """Return the last lines of a node's log."""
        return self._node(node).log_tail()

    @retry(retry=retry_if_exception_type(LostRaceError), stop=stop_after_attempt(START_ATTEMPTS), reraise=True)
    def _start(self, directory: Path) -> None:
        self._kill_all()  # what an earlier attempt left
        self._cluster_id = _cluster_id(directory, self._config.nodes)
        self._ports = choose_ports(self._config.nodes, further=len(self._config.listeners))
        for number, own in enumerate(self._ports, start=1):
            node = Node(number, directory / f"node-{number}", own.broker)
            node.directory.mkdir(parents=True, exist_ok=True)
            self._write_properties(node)
            self._nodes.append(node)
        with ThreadPoolExecutor() as pool:  # half a second each, side by side
            list(pool.map(lambda node: node.format(self._java, self._cluster_id), self._nodes))
        for node in self._nodes:
            node.start(self._java, detached=self._detached)
        self._wait_until_ready(self._nodes)

    def _write_properties(self, node: Node) -> None:
        text = self._config.server_properties(node.number, self._ports)
        (node.directory / "server.properties").write_text(text, encoding="utf-8")

    def _wait_until_ready(self, nodes: Sequence[Node]) -> None:
        patience = Retrying(
            retry=retry_if_result(lambda ready: not ready), stop=stop_after_delay(READY_TIMEOUT_S), wait=wait_fixed(PROBE_EVERY_S)
        )
        try:
            patience(self._ready, nodes)
        except RetryError:
            expected = f"{len(nodes)} nodes that serve within {READY_TIMEOUT_S:.0f} s"
            raise nodes[0].error("start", expected=expected, got="fewer", sort=LostRaceError) from None

    def _ready(self, nodes: Sequence[Node]) -> bool:
        for node in nodes:
            node.check_running()
        # Ports first: a cluster may still count a node as alive that was killed a moment ago.
        ports = [port for node in nodes for port in (node.port, *self._ports[node.number - 1].further)]
        if not all(is_open(port) for port in ports):
            return False
        return {node.number for node in nodes} <= admin.alive_nodes(servers_of(nodes), self._cluster_id)

    def _node(self, number: int) -> Node:
        if not 1 <= number <= len(self._nodes):
            raise BrokerError(
                "use",
                "broker",
                f"node {number}",
                expected=f"a node from 1 to {self._config.nodes} of a started broker",
                got=f"{len(self._nodes)} started nodes",
                todo="start the broker, or use one of its nodes",
            )
        return self._nodes[number - 1]

    def _stop(self, *, keep: bool) -> None:
        if not self._nodes:
            return
        directory = self.directory
        if keep or self._given is not None:
            stop_nodes(self._nodes)
            self._nodes = []
        else:
            self._kill_all()  # nobody will read this data again
            shutil.rmtree(directory)

    def _kill_all(self) -> None:
        for node in self._nodes:
            node.kill()
        self._nodes = []


def servers_of(nodes: Sequence[Node]) -> str:
    """Return the addresses of nodes as Kafka clients want them."""
    return ",".join(f"{LOOPBACK}:{node.port}" for node in nodes)


def _cluster_id(directory: Path, size: int) -> str:
    """Return the id of the cluster whose data is in a folder, or a new one for an empty folder."""
    written = sorted(directory.glob("node-*/data/meta.properties"))
    if not written:
        # As Kafka does, no id that begins with a dash: its own tool would take that for an option.
        return base64.urlsafe_b64encode(b"\x00" + uuid.uuid4().bytes[1:]).decode().rstrip("=")
    if len(written) != size:
        raise BrokerError(
            "start",
            "broker",
            str(directory),
            expected=f"data of {size} nodes",
            got=f"data of {len(written)}",
            why="a cluster keeps the number of nodes it was made with",
            todo=f"use nodes={len(written)} or another folder",
        )
    found = re.search(r"^cluster\.id=(.+)$", written[0].read_text(encoding="utf-8"), re.MULTILINE)
    return found.group(1) if found else ""
