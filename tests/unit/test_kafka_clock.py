"""The event clock: the slowest live partition holds it, silence lets go, it never goes back."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spark_ext.errors import SettingsError
from spark_ext.kafka.clock import ClockState, EventClock, advance

A, B = ("t", 0), ("t", 1)
SECOND = 1_000_000
CLOCK = EventClock(timedelta(seconds=30))
BEATING = EventClock(timedelta(seconds=30), heartbeat=timedelta(seconds=5))


def test_the_slowest_partition_holds_the_clock() -> None:
    state = advance(CLOCK, ClockState(), now_us=0, partitions={A: True, B: True}, sampled={A: 500, B: 200})
    assert state.shown_us == 200
    state = advance(CLOCK, state, now_us=SECOND, partitions={A: True, B: True}, sampled={A: 900, B: 300})
    assert state.shown_us == 300


def test_a_partition_that_was_never_heard_holds_the_clock_until_it_counts_as_idle() -> None:
    state = advance(CLOCK, ClockState(), now_us=0, partitions={A: True, B: False}, sampled={A: 500})
    assert state.shown_us is None
    state = advance(CLOCK, state, now_us=29 * SECOND, partitions={A: True, B: False}, sampled={A: 600})
    assert state.shown_us is None
    state = advance(CLOCK, state, now_us=30 * SECOND, partitions={A: True, B: False}, sampled={A: 700})
    assert state.shown_us == 700


def test_a_partition_that_comes_back_holds_it_again_but_does_not_turn_it_back() -> None:
    state = advance(CLOCK, ClockState(), now_us=0, partitions={A: True, B: True}, sampled={A: 500, B: 200})
    state = advance(CLOCK, state, now_us=60 * SECOND, partitions={A: True, B: False}, sampled={A: 900})
    assert state.shown_us == 900
    state = advance(CLOCK, state, now_us=61 * SECOND, partitions={A: True, B: True}, sampled={A: 1000, B: 250})
    assert state.shown_us == 900
    state = advance(CLOCK, state, now_us=62 * SECOND, partitions={A: True, B: True}, sampled={A: 1100, B: 950})
    assert state.shown_us == 950


def test_silence_everywhere_shows_all_that_was_read_and_then_stands_still() -> None:
    state = advance(CLOCK, ClockState(), now_us=0, partitions={A: True, B: True}, sampled={A: 500, B: 200})
    state = advance(CLOCK, state, now_us=40 * SECOND, partitions={A: False, B: False}, sampled={})
    assert state.shown_us == 500
    assert advance(CLOCK, state, now_us=400 * SECOND, partitions={A: False, B: False}, sampled={}) == state


def test_with_a_heartbeat_event_time_goes_on_as_the_wall_clock_does() -> None:
    silent = {A: False, B: False}
    state = advance(BEATING, ClockState(), now_us=0, partitions={A: True, B: True}, sampled={A: 500, B: 200})
    state = advance(BEATING, state, now_us=29 * SECOND, partitions=silent, sampled={})
    assert state.shown_us == 200, "not idle yet"
    state = advance(BEATING, state, now_us=33 * SECOND, partitions=silent, sampled={})
    assert state.shown_us == 500, "no beat yet"
    state = advance(BEATING, state, now_us=34 * SECOND, partitions=silent, sampled={})
    assert state.shown_us == 500 + 5 * SECOND
    state = advance(BEATING, state, now_us=41 * SECOND, partitions=silent, sampled={})
    assert state.shown_us == 500 + 12 * SECOND


@given(
    st.lists(
        st.tuples(st.integers(0, 40), st.booleans(), st.booleans(), st.integers(0, 100), st.integers(0, 100)), min_size=1, max_size=30
    ),
    st.sampled_from([CLOCK, BEATING]),
)
def test_it_never_goes_back_and_never_passes_what_was_read_while_anybody_speaks(
    steps: list[tuple[int, bool, bool, int, int]], clock: EventClock
) -> None:
    state, now, most = ClockState(), 0, 0
    for seconds, a_speaks, b_speaks, a, b in steps:
        now += seconds * SECOND
        sampled = {at: time for at, speaks, time in ((A, a_speaks, a), (B, b_speaks, b)) if speaks}
        after = advance(clock, state, now_us=now, partitions={A: a_speaks, B: b_speaks}, sampled=sampled)
        if state.shown_us is not None:
            assert after.shown_us is not None
            assert after.shown_us >= state.shown_us
        most = max([most, *sampled.values()])
        if clock.heartbeat is None and after.shown_us is not None:
            assert after.shown_us <= most
        state = after


def test_rules_that_make_no_sense_are_refused() -> None:
    with pytest.raises(SettingsError, match="idle_after, heartbeat and sample above zero"):
        EventClock(timedelta(0))


def test_the_rules_cross_as_text() -> None:
    for clock in (CLOCK, BEATING):
        assert EventClock.from_json(clock.to_json()) == clock
