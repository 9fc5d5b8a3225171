"""Free ports on the loopback."""

from __future__ import annotations

import contextlib
import random
import socket
from itertools import islice
from typing import Final

from spark_ext.broker.config import LOOPBACK, Ports

__all__ = ["choose_ports", "is_open"]

# Below what systems hand out for outgoing connections: a client that keeps dialling a dead node
# from such a port can connect to itself, and then the node cannot have its port back.
CANDIDATES: Final = range(20_000, 32_000)
CONNECT_TIMEOUT_S: Final = 1.0


def choose_ports(nodes: int, *, further: int = 0) -> list[Ports]:
    """Return ports for each node that nobody listens on at this moment; another process may still be faster."""
    found = iter(_free_ports((2 + further) * nodes))
    return [Ports(next(found), next(found), tuple(islice(found, further))) for _ in range(nodes)]


def is_open(port: int) -> bool:
    """Tell whether something listens on a port; answers within a second."""
    try:
        with socket.create_connection((LOOPBACK, port), timeout=CONNECT_TIMEOUT_S):
            return True
    except OSError:
        return False


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as held:
        found: list[int] = []
        for port in random.SystemRandom().sample(CANDIDATES, len(CANDIDATES)):
            if len(found) == count:
                break
            taken = held.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                taken.bind((LOOPBACK, port))
                found.append(port)
        return found
