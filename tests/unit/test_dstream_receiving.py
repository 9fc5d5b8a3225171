"""Lines from sockets: cut, limited, written down, connected again."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from queue import Queue
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spark_ext.dstream.columns.blocks import decode, unpack
from spark_ext.dstream.inputs.lines import Allowance, Lines
from spark_ext.dstream.inputs.received import SEGMENTS, Segments
from spark_ext.dstream.inputs.socket import Receiver
from spark_ext.dstream.store import Store

WAIT_S = 20.0


@given(st.lists(st.sampled_from([b"a", b"\n", b"\r", b"\r\n", "\u00e9".encode(), b"\xff", b"bc", "\u2028\x0b".encode()])), st.data())
def test_lines_are_cut_as_by_a_buffered_reader_wherever_the_bytes_are_cut(parts: list[bytes], data: st.DataObject) -> None:
    text = b"".join(parts)
    places = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    lines = Lines()
    found = [line for begin, end in pairwise([0, *places, len(text)]) for line in lines.feed(text[begin:end])] + lines.end()
    expected = re.split("\r\n|\r|\n", text.decode("utf-8", "replace"))
    assert found == (expected[:-1] if expected[-1] == "" else expected)  # a text that ends has no line after its last end


@given(st.integers(1, 50), st.lists(st.tuples(st.integers(0, 40), st.integers(0, 30)), max_size=40))
def test_no_more_than_the_rate_comes_in_and_nobody_waits_longer_than_told(rate: int, asked: list[tuple[int, int]]) -> None:
    allowance, now_s, total = Allowance(rate, 0.0), 0.0, 0
    for wanted, tenths in asked:
        now_s += tenths / 10
        total += allowance.take(wanted, now_s)
        assert total <= now_s * rate + max(1, rate / 10) + 1e-6
    now_s += allowance.wait_s() + 1e-6
    assert allowance.take(1, now_s) == 1


def test_no_rate_is_no_limit() -> None:
    assert Allowance(0, 0.0).take(10**9, 0.0) == 10**9


def rows(folder: Path, plan: dict[str, int]) -> list[Any]:
    store = Store(str(folder))
    found = [store.read(SEGMENTS, number, 0) for number in range(plan["from"], plan["to"])]
    return [row for content in found if content is not None for row in unpack(decode(content))]


def test_segments_are_planned_once_also_after_a_restart_and_dropped_when_told(tmp_path: Path) -> None:
    segments = Segments(str(tmp_path), None)
    assert not segments.has_more(None)
    assert segments.plan(None) == {"from": 0, "to": 0, "rows": 0}
    segments.add(["a", "b"])
    segments.flush()
    segments.add(["c"])
    first = segments.plan(None)
    assert (first, rows(tmp_path, first)) == ({"from": 0, "to": 2, "rows": 3}, ["a", "b", "c"])
    assert not segments.has_more(first)
    segments.add(["d"])
    assert segments.has_more(first)
    segments.flush()
    segments.add(["never written"])
    again = Segments(str(tmp_path), first)
    assert again.has_more(first)
    again.add(["e"])
    second = again.plan(first)
    assert (second, rows(tmp_path, second)) == ({"from": 2, "to": 4, "rows": 2}, ["d", "e"])
    again.drop(before=2)
    assert Store(str(tmp_path)).times(SEGMENTS) == [2, 3]
    again.drop(before=4)
    last = Segments(str(tmp_path), second)
    assert last.plan(second) == {"from": 4, "to": 4, "rows": 0}


def test_a_start_that_ended_before_its_first_plan_loses_nothing(tmp_path: Path) -> None:
    segments = Segments(str(tmp_path), None)
    segments.add(["a"])
    segments.flush()
    assert rows(tmp_path, Segments(str(tmp_path), None).plan(None)) == ["a"]


class Told:
    """What a receiver tells, one after the other; waits of the receiver end when the test says so."""

    def __init__(self) -> None:
        self.events: Queue[tuple[str, str]] = Queue()
        self.delays: Queue[float] = Queue()
        self.go: Queue[None] = Queue()

    def __call__(self, event: str, error: str) -> None:
        self.events.put((event, error))

    def wait(self, seconds: float) -> None:
        self.delays.put(seconds)
        self.go.get(timeout=WAIT_S)

    def next(self) -> tuple[str, str]:
        return self.events.get(timeout=WAIT_S)


def receiver(port: int, segments: Segments, told: Told, *, per_second: float = 0) -> Receiver:
    return Receiver("127.0.0.1", port, segments, flush_s=0.05, per_second=per_second, delay_s=0.3, told=told, wait=told.wait)


def listening(port: int = 0) -> socket.socket:
    server = socket.create_server(("127.0.0.1", port))
    server.settimeout(WAIT_S)
    return server


def test_a_server_that_vanishes_and_returns_and_a_half_line_is_a_line(tmp_path: Path) -> None:
    told, segments = Told(), Segments(str(tmp_path), None)
    server = listening()
    port = server.getsockname()[1]
    one = receiver(port, segments, told)
    one.start()
    connection, _ = server.accept()
    connection.sendall(b"a\nhalf")
    server.close()
    connection.close()
    assert [told.next(), told.next(), told.next()] == [
        ("onReceiverStarted", ""),
        ("onReceiverError", "Socket data stream had no more data"),
        ("onReceiverStopped", "Socket data stream had no more data"),
    ]
    for delay_s in (0.1, 0.2):  # twice as long each time, up to the longest
        assert told.delays.get(timeout=WAIT_S) == pytest.approx(delay_s)
        told.go.put(None)
        assert told.next() == ("onReceiverStarted", "")
        event, error = told.next()
        assert event == "onReceiverError"
        assert "ConnectionRefusedError" in error
        assert told.next()[0] == "onReceiverStopped"
    assert told.delays.get(timeout=WAIT_S) == pytest.approx(0.3)
    server = listening(port)
    told.go.put(None)
    connection, _ = server.accept()
    assert told.next() == ("onReceiverStarted", "")
    connection.sendall(b"b\nc\n")
    connection.close()
    assert [told.next()[0], told.next()[0]] == ["onReceiverError", "onReceiverStopped"]
    assert told.delays.get(timeout=WAIT_S) == pytest.approx(0.1)  # it had worked
    told.go.put(None)
    connection, _ = server.accept()
    one.stop()
    connection.close()
    server.close()
    assert rows(tmp_path, segments.plan(None)) == ["a", "half", "b", "c"]
    assert told.next() == ("onReceiverStarted", "")
    assert told.next() == ("onReceiverStopped", "")
    assert told.events.empty()


def test_stop_writes_down_what_has_come(tmp_path: Path) -> None:
    told, segments, server = Told(), Segments(str(tmp_path), None), listening()
    one = receiver(server.getsockname()[1], segments, told, per_second=10)
    one.start()
    connection, _ = server.accept()
    connection.sendall(b"".join(b"%d\n" % n for n in range(30)))
    until(lambda: segments.has_more(None))
    limited = segments.plan(None)
    one.stop()
    connection.close()
    server.close()
    assert 0 < limited["rows"] < 30  # ten per second
    assert rows(tmp_path, {"from": 0, "to": segments.plan(limited)["to"]}) == [str(n) for n in range(30)]


KILLED = """
import sys, threading
from spark_ext.dstream.inputs.received import Segments
from spark_ext.dstream.inputs.socket import Receiver
one = Receiver("127.0.0.1", int(sys.argv[1]), Segments(sys.argv[2], None), flush_s=0.05, per_second=0, delay_s=1, told=lambda *_: None)
one.start()
threading.Event().wait()
"""


def test_kill_9_loses_nothing_that_was_written_down(tmp_path: Path) -> None:
    server = listening()
    arguments = [sys.executable, "-c", KILLED, str(server.getsockname()[1]), str(tmp_path)]
    with subprocess.Popen(arguments) as process:
        connection, _ = server.accept()
        connection.sendall(b"a\nb\nc")
        until(lambda: bool(Store(str(tmp_path)).times(SEGMENTS)))
        connection.sendall(b"d\n")
        until(lambda: len(Store(str(tmp_path)).times(SEGMENTS)) > 1)
        process.kill()
        connection.close()
        server.close()
    assert rows(tmp_path, Segments(str(tmp_path), None).plan(None)) == ["a", "b", "cd"]


def until(condition: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(int(WAIT_S / 0.01)):
        if condition():
            return
        pause.wait(0.01)
    pytest.fail("nothing came")
