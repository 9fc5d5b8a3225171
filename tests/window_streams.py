"""Random streams for kernels of windows, and a loop that plays them to a kernel and to a slow model of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st

from spark_ext.state.codec import BucketState, Identity, decode, encode
from spark_ext.state.kernel import FOREVER_US, NEVER_US, Kernel, Moment, Step, empty_state
from spark_ext.windows.aggregates import count, max, sum  # noqa: A004
from spark_ext.windows.rows import Layout

Row = tuple[str | None, int | None, int | None, int | None]  # two parts of a key, event time, value
Key = tuple[str | int | None, ...]

STAMP = pa.timestamp("us", "UTC")
ROWS = pa.schema([("k", pa.string()), ("j", pa.int32()), ("ts", STAMP), ("v", pa.int64())])
EARLIEST, LATEST = -1_000, 1_000
BATCH_US = 7
KEYS: list[tuple[str, ...]] = [("k", "j"), ("k",), ()]

parts = st.tuples(st.sampled_from(["a", "é", None]), st.sampled_from([1, None]))
values = st.one_of(st.none(), st.integers(-9, 9))
times = st.one_of(st.integers(-20, 60), st.sampled_from([None, -2_000, 5_000]))
rows = st.builds(lambda key, time, value: (*key, time, value), parts, times, values)
streams = st.lists(st.lists(rows, max_size=10), min_size=1, max_size=4)


@st.composite
def orderly(draw: st.DrawFn, delay: int) -> list[list[Row]]:
    """Rows in disorder, but never later than by `delay`, cut into batches anywhere."""
    steps = draw(st.lists(st.tuples(st.integers(0, 15), st.integers(0, delay), parts, values, st.booleans()), max_size=24))
    stream: list[list[Row]] = [[]]
    now = 0
    for step, ahead, key, value, cut in steps:
        now += step
        if cut:
            stream.append([])
        stream[-1].append((*key, now + ahead, value))
    return stream


class Model(Protocol):
    """One row at a time, dictionaries, no cleverness."""

    out: list[Any]
    late: list[Any]

    def step(self, batch: list[Row], now: int, batch_us: int) -> None:
        """Do what a kernel does with rows that are valid."""
        ...

    def due(self) -> int | None:
        """Return the first watermark at which something has to be given out without further rows."""
        ...


@dataclass
class Played:
    """What a kernel gave out: per window its key, bounds, three results and whether it is final; and rows by tag."""

    out: list[Any] = field(default_factory=list)
    late: list[Any] = field(default_factory=list)
    invalid: list[Any] = field(default_factory=list)


def layout(keys: tuple[str, ...]) -> Layout:
    return Layout(ROWS, keys, "ts", (("n", count()), ("s", sum("v")), ("m", max("v"))), EARLIEST, LATEST)


def results(found: Sequence[int | None]) -> tuple[int, int | None, int | None]:
    """Count, sum and maximum of values."""
    there = sorted(value for value in found if value is not None)
    return len(found), int(np.sum(there)) if there else None, there[-1] if there else None


def key_of(row: Row, keys: tuple[str, ...]) -> Key:
    return row[: len(keys)]


def is_valid(row: Row) -> bool:
    return row[2] is not None and EARLIEST <= row[2] <= LATEST


def watermarks(stream: list[list[Row]], delay: int) -> list[int]:
    """Return the watermark of each batch: behind the newest row of all earlier ones."""
    found, newest = [], NEVER_US
    for batch in stream:
        found.append(NEVER_US if newest == NEVER_US else newest - delay)
        newest = sorted([newest, *(row[2] for row in batch if row[2] is not None and is_valid(row))])[-1]
    return found


def play(kernel: Kernel, keys: tuple[str, ...], model: Model, stream: list[list[Row]], delay: int, after: Sequence[Row] = ()) -> Played:
    """Play a stream, then the end of time, then rows that come `after` it; check state and wake-up calls on the way."""
    played, state, wake = Played(), empty_state(kernel), None
    moments = list(zip([*stream, [], list(after)], [*watermarks(stream, delay), FOREVER_US, FOREVER_US], strict=True))
    for number, (batch, now) in enumerate(moments):
        if not batch and now < FOREVER_US and (wake is None or now < wake):
            due = model.due()
            assert due is None or now < due, "nobody called"
            continue
        step = kernel.step(state, table(batch), Moment(now, number * BATCH_US))
        state, wake = stored(kernel, step), step.wake_us
        collect(played, step, keys)
        model.step([row for row in batch if is_valid(row)], now, number * BATCH_US)
        due = model.due()
        assert due is None or (wake is not None and now < wake <= due), "it would be called too late"
    assert not any(len(kept) for kept in state.values())
    return played


def agree(kernel: Kernel, keys: tuple[str, ...], model: Model, stream: list[list[Row]], delay: int, after: Sequence[Row] = ()) -> Played:
    """Play a stream and compare all that comes out, as lists: what is given out twice must show."""
    played = play(kernel, keys, model, stream, delay, after)
    assert Counter(played.out) == Counter(model.out)
    assert Counter(played.late) == Counter(model.late)
    assert Counter(played.invalid) == Counter(row for batch in [*stream, after] for row in batch if not is_valid(row))
    return played


def conserved(played: Played, stream: list[list[Row]], after: Sequence[Row] = ()) -> None:
    """Check that each row is in one window, late or invalid: by number and by sum."""
    everything = [row for batch in [*stream, after] for row in batch]
    aside = [*(row[:4] for row in played.late), *played.invalid]
    counted = [window[-4] for window in played.out]
    added = [window[-3] or 0 for window in played.out]
    assert int(np.sum(counted)) + len(aside) == len(everything)
    assert int(np.sum(added)) + int(np.sum([row[3] or 0 for row in aside])) == int(np.sum([row[3] or 0 for row in everything]))


def table(batch: Sequence[Row]) -> pa.Table:
    columns = [[row[at] for row in batch] for at in range(4)]
    arrays = [pa.array(column, each.type if each.name != "ts" else pa.int64()) for column, each in zip(columns, ROWS, strict=True)]
    arrays[2] = arrays[2].view(STAMP)
    return pa.table(arrays, schema=ROWS).select(["v", "ts", "k", "j"])  # any order of columns is fine


def stored(kernel: Kernel, step: Step) -> Mapping[str, pa.Table]:
    """Return a state as it is read in the next batch."""
    read = decode(encode(BucketState(Identity("x", "{}", 1), 0, NEVER_US, step.state)), name="test").tables
    assert {name: found.schema for name, found in read.items()} == dict(kernel.state_schema)
    assert all(found.schema == kernel.out_schema[tag] for tag, found in step.out.items())
    return read


def collect(played: Played, step: Step, keys: tuple[str, ...]) -> None:
    for tag, found in step.out.items():
        bounds = [_us(found, "window", part) for part in ("start", "end")] if tag != "invalid" else []
        named = [found.column(name).to_pylist() for name in keys]
        if tag == "window":
            plain = [found.column(name).to_pylist() for name in ("n", "s", "m", "is_final")]
            played.out += zip(*named, *bounds, *plain, strict=True)
            continue
        event = [found.column("event").combine_chunks().field(name).to_pylist() for name in ("k", "j")]
        event += [_us(found, "event", "ts"), found.column("event").combine_chunks().field("v").to_pylist()]
        assert named == event[: len(keys)]
        if tag == "invalid":
            played.invalid += zip(*event, strict=True)
        else:
            assert found.column("missed").to_pylist() == found.column("windows").to_pylist() == [1] * len(found)
            played.late += zip(*event, *bounds, found.column("lateness_ms").to_pylist(), strict=True)


def _us(found: pa.Table, struct: str, part: str) -> list[int | None]:
    times: list[int | None] = found.column(struct).combine_chunks().field(part).cast(pa.int64()).to_pylist()
    return times
