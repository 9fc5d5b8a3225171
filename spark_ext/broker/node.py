"""One node: a JVM, its folder, its log, and the signals it is sent."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

import psutil
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from spark_ext.errors import BrokerError
from spark_ext.jars import cache_dir, jars
from spark_ext.java import find_java
from spark_ext.versions import conf_file

__all__ = ["LostRaceError", "Node", "NodeState", "java_command", "stop_nodes"]

NodeState = Literal["up", "paused", "down"]

FORMAT_TIMEOUT_S: Final = 60
SIGNAL_TIMEOUT_S: Final = 15.0
POLL_EVERY_S: Final = 0.05
CLOCK_SLACK_S: Final = 2.0  # a start time is computed from the wall clock, which may be set meanwhile
LOG_LINES: Final = 40
# Measured: with C1 only (TieredStopAtLevel=1) a node starts no sooner and takes in a third less.
JVM_FLAGS: Final = ("-Xms128m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:+ExitOnOutOfMemoryError", "-XX:-UsePerfData")


class LostRaceError(BrokerError):
    """Another process took the port first, or the quorum did not form in time: other ports may do."""


class Node:
    """One Kafka process, broker and controller in one.

    Guarantee
        Signals go only to the process that this object started or was attached to: the process id and
        the time it was started have to agree, so a recycled id is never hit.

    Parameters
    ----------
    number : int
        Kafka's ``node.id``, from 1.
    directory : Path
        Folder of this node, which exists: ``server.properties``, ``kafka.log`` and ``data/``.
    port : int
        Where it listens for clients.
    """

    def __init__(self, number: int, directory: Path, port: int) -> None:
        self.number = number
        self.directory = directory
        self.port = port
        self.log = directory / "kafka.log"
        self.process: psutil.Process | None = None

    def attach(self, pid: int, create_time: float) -> None:
        """Take over a process that an earlier command started; if it has ended since, the node is down."""
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            if abs(process.create_time() - create_time) < CLOCK_SLACK_S:
                self.process = process

    def format(self, java: Sequence[str], cluster_id: str) -> None:
        """Prepare the data folder for the cluster; one that is prepared already stays as it is.

        Raises
        ------
        BrokerError
            Kafka's own tool refused; its words are in the error.
        """
        arguments = ["format", "--ignore-formatted", f"--cluster-id={cluster_id}", "--config", "server.properties"]
        with self.log.open("ab") as log:
            done = subprocess.run(
                [*java, "kafka.tools.StorageTool", *arguments],
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                timeout=FORMAT_TIMEOUT_S,
                check=False,
            )
        if done.returncode != 0:
            raise self.error("format", expected="exit code 0", got=f"exit code {done.returncode}")

    def start(self, java: Sequence[str], *, detached: bool) -> None:
        """Start the JVM and return at once.

        A detached node outlives this process. Another one is killed by Linux when the main thread of this
        process ends, however it ends; on other systems it is left to whoever calls `stop_nodes`.
        """
        with self.log.open("ab") as log:
            self.process = psutil.Popen(
                [*([] if detached else _leash()), *java, "kafka.Kafka", "server.properties"],
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C in the terminal is for us, not for the node
            )

    def state(self) -> NodeState:
        """Tell whether the process runs, is held by a SIGSTOP, or is gone."""
        status = psutil.STATUS_DEAD
        with contextlib.suppress(psutil.NoSuchProcess):
            if self.process is not None and self.process.is_running():
                status = self.process.status()
        if status in {psutil.STATUS_DEAD, psutil.STATUS_ZOMBIE}:
            return "down"
        return "paused" if status == psutil.STATUS_STOPPED else "up"

    def check_running(self) -> None:
        """Raise if the process has ended: LostRaceError for a taken port, else BrokerError; both show the log."""
        if self.process is not None and self.state() == "down":
            sort = LostRaceError if "Address already in use" in self.log_tail() else BrokerError
            raise self.error("start", expected="a JVM that stays up", got=f"exit code {self.process.wait()}", sort=sort)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; nothing happens if the process is gone."""
        with contextlib.suppress(psutil.NoSuchProcess):
            if self.process is not None:
                self.process.send_signal(number)

    def kill(self) -> None:
        """End the process without warning (SIGKILL) and return when it is gone."""
        self.signal(signal.SIGKILL)
        _wait_for("down", [self])

    def pause(self) -> None:
        """Freeze the process (SIGSTOP) and return when it stands still."""
        self.signal(signal.SIGSTOP)
        _wait_for("paused", [self])

    def resume(self) -> None:
        """Let a paused process go on (SIGCONT)."""
        self.signal(signal.SIGCONT)
        _wait_for("up", [self])

    def log_tail(self, lines: int = LOG_LINES) -> str:
        """Return the last lines of the log."""
        if not self.log.is_file():
            return ""
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])

    def error(self, action: str, *, expected: str, got: str, sort: type[BrokerError] = BrokerError) -> BrokerError:
        """Build an error that shows the end of the log and says where all of it is."""
        why = f"the end of its log:\n{self.log_tail()}\n"
        todo = f"mend what the log names and start again; all of it is in {str(self.log)!r}"
        return sort(action, "broker", f"node {self.number}", expected=expected, got=got, why=why, todo=todo)


def java_command() -> list[str]:
    """Return the command that runs a class of Kafka, up to and without the name of the class."""
    java = find_java(cache=cache_dir()).executable
    logging = f"-Dlog4j2.configurationFile={conf_file('log4j2-broker.properties').as_uri()}"
    return [str(java), *JVM_FLAGS, logging, "-cp", os.pathsep.join(str(jar) for jar in jars("broker"))]


def stop_nodes(nodes: Sequence[Node]) -> None:
    """Ask all nodes to shut down, and kill those that have not within 15 s; returns when all are gone."""
    for node in nodes:
        node.signal(signal.SIGTERM)
        node.signal(signal.SIGCONT)  # a paused one could not hear it
    if not _wait_for("down", nodes):
        for node in nodes:
            node.kill()


def _wait_for(wanted: NodeState, nodes: Sequence[Node]) -> bool:
    """Wait for signals to have their effect, which they do a little later, a node that is down included; False after 15 s."""
    # Not psutil.wait_procs: where process 1 reaps nobody, a node of an earlier command stays a zombie for ever.
    patience = Retrying(
        retry=retry_if_result(lambda done: not done),
        stop=stop_after_delay(SIGNAL_TIMEOUT_S),
        wait=wait_fixed(POLL_EVERY_S),
        retry_error_callback=lambda _: False,
    )
    done: bool = patience(lambda: all(node.state() in {wanted, "down"} for node in nodes))
    for node in nodes:
        if isinstance(node.process, psutil.Popen) and node.state() == "down":
            node.process.wait()  # a child of ours leaves the process table only so
    return done


def _leash() -> list[str]:
    # Linux ends the child with the thread that started it, so only the main thread may hold the leash.
    setpriv = shutil.which("setpriv")
    if setpriv is None or threading.current_thread() is not threading.main_thread():
        return []
    return [setpriv, "--pdeathsig", "KILL"]
