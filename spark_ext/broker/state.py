"""What ``millrace broker up`` leaves for the commands after it: which processes are the broker's."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from spark_ext.broker.node import Node
from spark_ext.jars import cache_dir

__all__ = ["forget", "load", "save", "state_file"]


def state_file() -> Path:
    """Where the state is kept: one broker per cache folder."""
    return cache_dir() / "broker" / "state.json"


def save(nodes: Sequence[Node]) -> None:
    """Write down the processes of started nodes."""
    entries = [
        {
            "node": node.number,
            "pid": node.process.pid,
            "create_time": node.process.create_time(),
            "port": node.port,
            "directory": str(node.directory),
        }
        for node in nodes
        if node.process is not None
    ]
    state_file().parent.mkdir(parents=True, exist_ok=True)
    state_file().write_text(json.dumps(entries, indent=2) + "\n", encoding="utf-8")


def load() -> list[Node]:
    """Return the nodes that were written down, attached to their processes if those still run; none at first."""
    if not state_file().is_file():
        return []
    nodes = []
    for entry in json.loads(state_file().read_text(encoding="utf-8")):
        node = Node(entry["node"], Path(entry["directory"]), entry["port"])
        node.attach(entry["pid"], entry["create_time"])
        nodes.append(node)
    return nodes


def forget() -> None:
    """Remove what was written down."""
    state_file().unlink(missing_ok=True)
