"""When a batch is due: at its time, in a hurry, with news, or when the gate is closed."""

from __future__ import annotations

import threading

from spark_ext.dstream.ticks import Gate, ManualClock, WallClock


class Striding:
    """A clock that goes on by itself whenever somebody waits."""

    def __init__(self, stride_ms: int) -> None:
        self.now, self.stride, self.waits = 0, stride_ms, 0

    def now_ms(self) -> int:
        return self.now

    def wait(self, _: threading.Condition, until_ms: int) -> None:
        assert self.now < until_ms
        self.waits += 1
        self.now += self.stride


def waiting(gate: Gate) -> threading.Thread:
    thread = threading.Thread(target=gate.wait, daemon=True)
    thread.start()
    return thread


def until_it_waits(clock: ManualClock) -> None:
    done = threading.Event()
    while not clock._waiting:
        done.wait(0.001)


def test_a_batch_waits_for_its_time_and_not_longer() -> None:
    clock = Striding(300)
    Gate(clock, lambda: 1000).wait()
    assert (clock.now, clock.waits) == (1200, 4)


def test_a_batch_whose_time_has_come_does_not_wait() -> None:
    clock = Striding(300)
    clock.now = 1000
    Gate(clock, lambda: 1000).wait()
    assert clock.waits == 0


def test_the_next_due_time_is_asked_at_each_batch() -> None:
    clock, due = Striding(100), iter([100, 250])
    gate = Gate(clock, lambda: next(due))
    gate.wait()
    assert clock.now == 100
    gate.wait()
    assert clock.now == 300


def test_a_manual_clock_lets_nobody_through_before_it_is_there() -> None:
    clock = ManualClock(5)
    thread = waiting(Gate(clock, lambda: 1000))
    until_it_waits(clock)
    clock.advance(994)
    until_it_waits(clock)
    assert thread.is_alive()
    clock.advance(1)
    thread.join(10)
    assert not thread.is_alive()
    assert clock.now_ms() == 1000


def test_a_closed_gate_keeps_nobody() -> None:
    clock = ManualClock()
    gate = Gate(clock, lambda: 1000)
    thread = waiting(gate)
    until_it_waits(clock)
    gate.close()
    thread.join(10)
    assert not thread.is_alive()
    gate.wait()


def test_in_a_hurry_nobody_waits_for_the_clock_and_afterwards_again() -> None:
    clock = ManualClock()
    gate = Gate(clock, lambda: 1000)
    thread = waiting(gate)
    until_it_waits(clock)
    gate.hurry(True)
    thread.join(10)
    assert not thread.is_alive()
    gate.wait()
    gate.hurry(False)
    thread = waiting(gate)
    until_it_waits(clock)
    assert thread.is_alive()
    gate.close()
    thread.join(10)


def test_with_news_a_batch_does_not_wait_and_without_it_waits_for_its_time() -> None:
    asked: list[int] = []
    answers = iter([False, False, True])

    def has_news() -> bool:
        asked.append(clock.now_ms())
        return next(answers)

    clock = ManualClock()
    gate = Gate(clock, lambda: 1000, has_news)
    gate.wait()
    assert asked == [0, 0, 0]
    clock.advance(1000)
    gate.wait()
    assert asked == [0, 0, 0], "its time has come: nobody is asked"


def test_the_wall_clock_counts_in_milliseconds_and_wakes_up_for_a_change() -> None:
    clock, changed = WallClock(), threading.Condition()
    assert 1_700_000_000_000 < clock.now_ms() < 5_000_000_000_000
    with changed:
        clock.wait(changed, clock.now_ms() - 5)  # returns at once
        threading.Thread(target=lambda: _notify(changed), daemon=True).start()
        clock.wait(changed, clock.now_ms() + 3_600_000)


def _notify(changed: threading.Condition) -> None:
    with changed:
        changed.notify_all()
