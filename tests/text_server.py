"""A server of text on this machine, as `nc -lk` is: who connects gets what is sent from then on."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterable
from typing import Self

__all__ = ["TextServer"]


class TextServer:
    """Sends lines to the client that is connected; `send` waits for one."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        self._client: socket.socket | None = None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)  # which `accept` hears; a mere close leaves it waiting
        self._thread.join()
        self._listening.close()
        self.drop()

    def send(self, lines: Iterable[str], timeout_s: float = 200) -> None:
        """Send lines to the client."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._client is not None, timeout_s), "nobody connected"
            assert self._client is not None
            self._client.sendall("".join(f"{line}\n" for line in lines).encode())

    def drop(self) -> None:
        """Let go of the client; the next to connect takes its place."""
        with self._changed:
            if self._client is not None:
                self._client.close()
            self._client = None

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:  # closed
                return
            with self._changed:
                if self._client is not None:
                    self._client.close()
                self._client = client
                self._changed.notify_all()
