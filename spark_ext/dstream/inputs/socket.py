"""`socketTextStream`: the lines that a TCP server sends, received by the driver and written down before a batch has them."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from pyspark import SparkContext

from spark_ext.dstream.batch import Batch
from spark_ext.dstream.events import ReceiverInfo
from spark_ext.dstream.inputs.lines import Allowance, Lines
from spark_ext.dstream.inputs.received import ReceivingInput, Segments, segment_rows
from spark_ext.dstream.listener import ListenerBus
from spark_ext.dstream.rows import Rows

__all__ = ["Receiver", "SocketInput"]

PIECE_BYTES: Final = 1 << 16
SEGMENT_LINES: Final = 100_000  # written down without waiting for the interval
FLUSH_MS: Final = 200
CONNECT_S: Final = 5.0
FIRST_DELAY_S: Final = 0.1
FAILURES: Final = 10  # 2**10 is beyond any delay
LEAST_S: Final = 0.001  # 0 would not wait at all

_log = logging.getLogger(__name__)


class Receiver:
    """Reads lines from a server until it is stopped, and connects again as often as the connection is lost.

    Parameters
    ----------
    host, port : str, int
        The server.
    segments : Segments
        Where lines go; they are written down at most `flush_s` after they came.
    per_second : float
        At most so many lines per second; 0: no limit. The server waits meanwhile.
    delay_s : float
        Longest wait before it connects again; the first is 0.1 s, each next one twice as long.
    told : callable
        Hears ``onReceiverStarted`` before each attempt to connect, ``onReceiverError`` with the error and ``onReceiverStopped``.
    wait : callable, optional
        Waits so many seconds, or until the receiver is stopped.
    """

    def __init__(
        self,
        host: str,
        port: int,
        segments: Segments,
        *,
        flush_s: float,
        per_second: float,
        delay_s: float,
        told: Callable[[str, str], None],
        wait: Callable[[float], Any] | None = None,
    ) -> None:
        self._host = host
        self._port = port
        self._segments = segments
        self._flush_s = flush_s
        self._allowance = Allowance(per_second, time.monotonic())
        self._delay_s = delay_s
        self._told = told
        self._stopped = threading.Event()
        self._wait = wait or self._stopped.wait
        self._flushed_s = time.monotonic()
        self._failures = 0  # since the last line
        self._thread = threading.Thread(target=self._run, name=f"receiver of {host}:{port}", daemon=True)

    def start(self) -> None:
        """Begin to receive, in a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """Receive no more; what has come is written down."""
        self._stopped.set()
        if self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        while not self._stopped.is_set():
            self._told("onReceiverStarted", "")
            try:
                self._receive()
                error = "" if self._stopped.is_set() else "Socket data stream had no more data"
            except Exception as caught:  # noqa: BLE001 (whatever it is, a receiver that is silent for ever is worse)
                error = f"Error receiving from {self._host}:{self._port}: {caught!r}"
            if error:
                _log.warning("%s; it is tried again", error)
                self._told("onReceiverError", error)
            self._told("onReceiverStopped", error)
            if error:
                self._wait(min(self._delay_s, FIRST_DELAY_S * 2**self._failures))
                self._failures = min(self._failures + 1, FAILURES)

    def _receive(self) -> None:
        lines = Lines()
        with socket.create_connection((self._host, self._port), CONNECT_S) as connection:
            try:
                while not self._stopped.is_set():
                    connection.settimeout(max(LEAST_S, self._flushed_s + self._flush_s - time.monotonic()))
                    try:
                        piece = connection.recv(PIECE_BYTES)
                    except TimeoutError:
                        self._flush()
                        continue
                    if not piece:
                        return
                    self._failures = 0
                    self._take(lines.feed(piece))
            finally:
                self._take(lines.end())
                self._flush()

    def _take(self, lines: list[str]) -> None:
        begun = 0
        while begun < len(lines):
            wanted = len(lines) - begun
            taken = wanted if self._stopped.is_set() else self._allowance.take(wanted, time.monotonic())
            is_much = self._segments.add(lines[begun : begun + taken]) >= SEGMENT_LINES
            begun += taken
            if is_much or time.monotonic() - self._flushed_s >= self._flush_s:
                self._flush()
            if begun < len(lines):
                self._stopped.wait(min(self._flush_s, self._allowance.wait_s()))

    def _flush(self) -> None:
        self._segments.flush()
        self._flushed_s = time.monotonic()


class SocketInput(ReceivingInput):
    """Plans: ``{"from": i, "to": j, "rows": n}``, numbers of segments. A batch has all lines that came before it was planned.

    Guarantee: a line that has been written down, 200 ms after it came at the latest, is in exactly one batch, also after the
    process has been killed. What was in the connection when it broke is lost, as the server does not send it again.

    Parameters
    ----------
    number : int
        Of the input, for listeners.
    bus : ListenerBus
        Hears of the receiver, in the thread of the next batch.
    now_ms : callable
        The time, ms since 1970.
    """

    kind = "socketTextStream"

    def __init__(
        self,
        context: SparkContext,
        host: str,
        port: int,
        slide_ms: int,
        *,
        number: int,
        bus: ListenerBus,
        remembered_ms: Callable[[], int],
        now_ms: Callable[[], int],
    ) -> None:
        super().__init__(slide_ms, remembered_ms=remembered_ms)
        self._context = context
        self._host = host
        self._port = int(port)
        self._number = number
        self._bus = bus
        self._now_ms = now_ms
        self._folder = ""
        self._segments: Segments | None = None
        self._receiver: Receiver | None = None
        self._heard: deque[tuple[str, str]] = deque()

    def start(self, folder: str, planned: Any | None) -> None:  # noqa: D102 (InputNode's)
        conf = self._context._jsc.sc().conf()  # noqa: SLF001 (reads times as Spark does)
        self._folder = folder
        self._segments = Segments(folder, planned)
        if planned is not None:
            self.drop(planned["from"])
        self._receiver = Receiver(
            self._host,
            self._port,
            self._segments,
            flush_s=min(FLUSH_MS, conf.getTimeAsMs("spark.streaming.blockInterval", f"{FLUSH_MS}ms")) / 1000,
            per_second=float(conf.get("spark.streaming.receiver.maxRate", "0")),
            delay_s=conf.getTimeAsMs("spark.streaming.receiverRestartDelay", "2000ms") / 1000,
            told=lambda event, error: self._heard.append((event, error)),
        )
        self._receiver.start()

    def plan(self, planned: Any | None, time_ms: int) -> dict[str, int]:  # noqa: D102 (InputNode's)
        self._tell()
        return self._written().plan(planned)

    def has_news(self, planned: Any | None) -> bool:  # noqa: D102 (InputNode's)
        return self._written().has_more(planned)

    def compute(self, batch: Batch) -> Rows:  # noqa: D102 (Node's)
        return segment_rows(batch.context, self._folder, batch.plan.inputs[self.name])

    def drop(self, before: int) -> None:  # noqa: D102 (ReceivingInput's)
        self._written().drop(before)

    def stop(self, *, graceful: bool) -> None:
        """End receiving; what has come is written down and is in the next batch, if need be after a restart."""
        if self._receiver is not None:
            self._receiver.stop()
            self._tell()

    def _written(self) -> Segments:
        assert self._segments is not None, "called after start()"  # noqa: S101 (a fact)
        return self._segments

    def _tell(self) -> None:
        while self._heard:
            event, error = self._heard.popleft()
            told = ReceiverInfo(
                streamId=self._number,
                name="SocketReceiver",
                active=event != "onReceiverStopped",
                location=socket.gethostname(),
                executorId="driver",
                lastErrorMessage=error,
                lastError=error,
                lastErrorTime=self._now_ms() if error else -1,
            )
            self._bus.post(event, receiverInfo=told)
