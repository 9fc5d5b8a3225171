"""A service for lookups on the loopback, in a thread: it answers from a dict, or misbehaves as it is told."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

Answering = Callable[["Request", BaseHTTPRequestHandler], None]


@dataclass
class Request:
    """What came in."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any
    connection: int  # port of the other side: the same for requests of one connection

    @property
    def keys(self) -> list[Any]:
        """The keys that were sent."""
        return list(self.body["keys"])


@dataclass
class Service:
    """The server; `answering` may be changed while it runs."""

    url: str
    answering: Answering
    requests: list[Request] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)

    @property
    def asked(self) -> list[Any]:
        """All keys that were sent, in order."""
        return [key for request in self.requests for key in request.keys]


def send(handler: BaseHTTPRequestHandler, body: bytes, status: int = 200, **headers: str) -> None:
    """Answer."""
    handler.send_response(status)
    for name, value in {"Content_Length": str(len(body)), **headers}.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(body)


def from_table(rows: Mapping[Any, Sequence[Mapping[str, Any]]], name: str = "id") -> Answering:
    """Return the answers of a table: rows by key."""

    def answer(request: Request, handler: BaseHTTPRequestHandler) -> None:
        found = [{name: key, **row} for key in request.keys for row in rows.get(key, [])]
        send(handler, json.dumps(found).encode())

    return answer


def always(status: int, body: bytes = b"", **headers: str) -> Answering:
    """Return the same answer to everything."""
    return lambda _request, handler: send(handler, body, status, **headers)


def one_of_path(rows: Mapping[str, Mapping[str, Any]]) -> Answering:
    """Return the answers of a service with an address for each key."""

    def answer(request: Request, handler: BaseHTTPRequestHandler) -> None:
        row = rows.get(unquote(request.path.rpartition("/")[2]))
        send(handler, b"no such thing" if row is None else json.dumps(row).encode(), 404 if row is None else 200)

    return answer


@contextmanager
def service(answering: Answering, *, tls: ssl.SSLContext | None = None) -> Iterator[Service]:
    """Run a service; with `tls` its address starts with https."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self._answer("POST", json.loads(body))

        def do_GET(self) -> None:
            self._answer("GET", None)

        def _answer(self, method: str, body: Any) -> None:
            request = Request(method, self.path, dict(self.headers), body, self.client_address[1])
            running.requests.append(request)
            running.answering(request, self)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the library's name)
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            """Say nothing: clients that go away are what is tested."""

    with Server(("127.0.0.1", 0), Handler) as server:
        if tls is not None:
            # The handshake is the handler's, in its thread: one that fails must not hold the server up.
            server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        running = Service(f"http{'' if tls is None else 's'}://127.0.0.1:{server.server_port}", answering)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield running
        finally:
            running.released.set()
            server.shutdown()
            thread.join()
