"""The event clock of a source: how far event time has come over all partitions, told by one row of each batch.

Spark's watermark follows the fastest partition; here the slowest live one holds the clock, and one that is silent for
long enough is let go. What the clock shows is part of the offset document, so a replay shows the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

from spark_ext.errors import SettingsError
from spark_ext.kafka.options import Place

__all__ = ["ClockState", "EventClock", "advance"]

MICROSECOND: Final = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class EventClock:
    """When a partition no longer holds the clock, and whether the clock goes on while all are silent.

    Parameters
    ----------
    idle_after : timedelta > 0
        How long a partition may bring nothing new before it is left out of the minimum.
    heartbeat : timedelta > 0, optional
        While all partitions are idle, a batch with nothing but a clock row comes this often, and event time goes on as the
        wall clock does. None: the clock stands still with its source, and no such batch comes.
    sample : int > 0
        How many of the last records of each partition's part of a batch are looked at. The clock of a partition is the
        largest event time among them and all before: never more than the largest event time that was read, so nothing
        comes too late on its account; less where events are disordered over more records than this.
    """

    idle_after: timedelta
    heartbeat: timedelta | None = None
    sample: int = 100

    def __post_init__(self) -> None:
        if self.idle_after <= timedelta(0) or (self.heartbeat is not None and self.heartbeat <= timedelta(0)) or self.sample <= 0:
            raise SettingsError(
                "use",
                "event clock",
                repr(self),
                expected="idle_after, heartbeat and sample above zero",
                got="another",
                todo="correct it",
            )

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        beat = None if self.heartbeat is None else self.heartbeat // MICROSECOND
        return {"idle_after_us": self.idle_after // MICROSECOND, "heartbeat_us": beat, "sample": self.sample}

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> EventClock:
        """Undo `to_json`."""
        beat = found["heartbeat_us"]
        return cls(timedelta(microseconds=found["idle_after_us"]), None if beat is None else timedelta(microseconds=beat), found["sample"])


@dataclass(frozen=True, slots=True)
class ClockState:
    """What the clock knows at the end of a batch.

    Attributes
    ----------
    shown_us : int or None
        Event time that the clock shows, microseconds since 1970; None before any.
    beat_us : int
        Wall clock of the last time that it moved by itself, or that a partition was heard of.
    times_us : mapping of place to int
        Largest event time seen of each partition.
    heard_us : mapping of place to int
        Wall clock when each partition last had something new, or was first seen.
    """

    shown_us: int | None = None
    beat_us: int = 0
    times_us: Mapping[Place, int] = field(default_factory=dict)
    heard_us: Mapping[Place, int] = field(default_factory=dict)


def advance(
    clock: EventClock, before: ClockState, *, now_us: int, partitions: Mapping[Place, bool], sampled: Mapping[Place, int]
) -> ClockState:
    """Return the clock's next state; it never goes back.

    Parameters
    ----------
    clock : EventClock
        The rules.
    before : ClockState
        As of the last batch.
    now_us : int
        Wall clock, microseconds since 1970.
    partitions : mapping of place to bool
        All there are, and whether the batch reads of them or leaves something for the next.
    sampled : mapping of place to int
        Largest event time of those whose last records were looked at.
    """
    heard = {at: now_us if live else before.heard_us.get(at, now_us) for at, live in partitions.items()}
    times = {at: max(before.times_us.get(at, sampled[at]), sampled[at]) if at in sampled else before.times_us[at]
             for at in partitions if at in sampled or at in before.times_us}  # fmt: skip
    holding = [at for at, since in heard.items() if now_us - since < clock.idle_after // MICROSECOND]
    shown = before.shown_us
    if holding:
        if all(at in times for at in holding):
            slowest = min(times[at] for at in holding)
            shown = slowest if shown is None else max(shown, slowest)
        return ClockState(shown, now_us, times, heard)
    # All are idle: everything that was read counts, whichever partition it came from.
    if times:
        shown = max(times.values()) if shown is None else max(shown, *times.values())
    if clock.heartbeat is None or shown is None:
        return ClockState(shown, before.beat_us, times, heard)
    passed = now_us - before.beat_us
    if passed < clock.heartbeat // MICROSECOND:
        return ClockState(shown, before.beat_us, times, heard)
    return ClockState(shown + passed, now_us, times, heard)
