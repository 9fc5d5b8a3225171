"""Chains of windows against an obvious slow model that has all rows at once."""

from __future__ import annotations

import builtins
import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spark_ext.errors import SchemaError, SettingsError
from spark_ext.state.codec import BucketState, Identity, decode, encode
from spark_ext.state.kernel import FOREVER_US, NEVER_US, Moment, empty_state
from spark_ext.windows import (
    assigned,
    business_hours,
    calendar,
    count_tumbling,
    global_window,
    session,
    sliding,
    stage,
    tumbling,
)
from spark_ext.windows.aggregates import count, max, sum  # noqa: A004
from spark_ext.windows.chain import Stage, chain
from spark_ext.windows.rows import Layout
from spark_ext.windows.shapes import Shape, Window

Row = tuple[str | None, int, int | None, int | None]  # two parts of a key, event time in units, value
Stream = list[tuple[list[Row], int]]

STAMP = pa.timestamp("us", "UTC")
ROWS = pa.schema([("k", pa.string()), ("j", pa.int32()), ("ts", STAMP), ("v", pa.int64())])
UNIT = timedelta(minutes=30)
UNIT_US = 1_800_000_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NEW_YORK = ZoneInfo("America/New_York")
BASE_US = int(datetime(2024, 3, 9, tzinfo=UTC).timestamp()) * 1_000_000  # the next night has an hour less there
LIMIT = 10_000
KEYS = [("k", "j"), ("k",), ()]

row = st.tuples(
    st.sampled_from(["a", "é", None]), st.sampled_from([1, 2]), st.one_of(st.integers(-10, 200), st.sampled_from([None, LIMIT + 1])),
    st.one_of(st.none(), st.integers(-9, 9)),
)  # fmt: skip
streams = st.lists(st.tuples(st.lists(row, max_size=12), st.integers(0, 40)), min_size=1, max_size=6)
fixed = st.one_of(
    st.builds(lambda length: tumbling(length * UNIT), st.integers(1, 20)),
    st.builds(lambda every, more: sliding((every + more) * UNIT, every=every * UNIT), st.integers(1, 8), st.integers(0, 12)),
    st.just(calendar("day", zone="America/New_York")),
)
gaps = st.builds(lambda gap: session(gap * UNIT), st.integers(1, 12))
counts = st.builds(count_tumbling, st.integers(1, 4))


@dataclass(frozen=True)
class Case:
    """Shapes of the stages, how many parts of the key each later one has, and the grace of the first."""

    shapes: list[Shape]
    parts: list[int]
    grace: int

    def chain(self) -> Any:
        aggregates = (("n", count()), ("s", sum("v")), ("m", max("v")))
        layout = Layout(ROWS, ("k", "j"), "ts", aggregates, BASE_US - LIMIT * UNIT_US, BASE_US + LIMIT * UNIT_US)
        first = Window(self.shapes[0], self.grace * UNIT_US)
        names = {"c": count(), "n": sum("n"), "s": sum("s"), "m": max("m")}
        return chain(
            layout, first, [stage(shape, names, keys=("k", "j")[:many]) for shape, many in zip(self.shapes[1:], self.parts, strict=True)]
        )


def cases(first: st.SearchStrategy[Any]) -> st.SearchStrategy[Case]:
    many = st.lists(st.tuples(st.one_of(fixed, gaps, counts), st.integers(0, 2)), min_size=1, max_size=2)

    def case(shape: Shape, later: list[tuple[Shape, int]], grace: int) -> Case:
        if len(later) == 2 and not isinstance(later[0][0], type(count_tumbling(1))):
            return Case([shape, *(one for one, _ in later)], sorted((parts for _, parts in later), reverse=True), grace)
        return Case([shape, later[0][0]], [later[0][1]], grace)

    return st.builds(case, first, many, st.integers(0, 10))


def windows(shape: Any, time_us: int) -> Iterator[tuple[int, int]]:
    """Windows of one event time, as their definitions say."""
    if shape.kind == "calendar":
        day = (EPOCH + timedelta(microseconds=time_us)).astimezone(NEW_YORK).date()
        midnights = [datetime(each.year, each.month, each.day, tzinfo=NEW_YORK) for each in (day, day + timedelta(days=1))]
        yield tuple(int(each.timestamp()) * 1_000_000 for each in midnights)  # type: ignore[misc]
        return
    every = getattr(shape, "every_us", shape.length_us)
    start = (time_us - shape.offset_us) // every * every + shape.offset_us
    while start > time_us - shape.length_us:
        yield start, start + shape.length_us
        start -= every


def grouped(shape: Any, rows: list[dict[str, Any]], columns: Sequence[str]) -> Iterator[tuple[int, int, int, list[dict[str, Any]]]]:
    """Cut the rows of one key into windows: start, end, the watermark that completes it, the rows."""
    if shape.kind == "session":
        run: list[dict[str, Any]] = []
        for each in [*sorted(rows, key=lambda each: each["t"]), None]:
            if run and (each is None or each["t"] >= run[-1]["t"] + shape.gap_us):
                yield run[0]["t"], run[-1]["t"] + shape.gap_us, run[-1]["t"] + shape.gap_us, run
                run = []
            if each is not None:
                run = [*run, each]
    elif shape.kind == "count_tumbling":
        ordered = sorted(rows, key=lambda each: (each["t"], *((each[name] is not None, each[name]) for name in columns)))
        for at in range(0, len(ordered), shape.rows):
            part = ordered[at : at + shape.rows]
            yield part[0]["t"], part[-1]["t"], part[-1]["t"] if len(part) == shape.rows else FOREVER_US, part
    else:
        found = defaultdict(list)
        for each in rows:
            for window in windows(shape, each["t"]):
                if window in each.get("counted", [window]):
                    found[window].append(each)
        for (start, end), part in found.items():
            yield start, end, end, part


def total(values: Sequence[int | None]) -> int | None:
    there = [value for value in values if value is not None]
    return builtins.sum(there) if there else None


def most(values: Sequence[int | None]) -> int | None:
    return sorted(value for value in values if value is not None)[-1] if any(value is not None for value in values) else None


def by_key(rows: list[dict[str, Any]], keys: Sequence[str]) -> dict[tuple[Any, ...], list[dict[str, Any]]]:
    found = defaultdict(list)
    for each in rows:
        found[tuple(each[name] for name in keys)].append(each)
    return found


def model(case: Case, rows: list[dict[str, Any]], moments: list[int]) -> list[Any]:
    """Aggregate counted rows stage by stage; of a result also the number of the call that gives it out."""
    keys: tuple[str, ...] = ("k", "j")
    out: list[Any] = []
    for number, shape in enumerate(case.shapes):
        keys = keys if number == 0 else keys[: case.parts[number - 1]]
        results, out = [], []
        for key, group in by_key(rows, keys).items():
            for start, end, complete, part in grouped(shape, group, [*keys, "n", "s", "m"]):
                sums = {
                    "n": total([each.get("n", 1) for each in part]),
                    "s": total([each["s"] for each in part]),
                    "m": most([each["m"] for each in part]),
                }
                results.append({**dict(zip(keys, key, strict=True)), **sums, "t": end - 1})
                call = next(at for at, now in enumerate(moments) if now == FOREVER_US or now - case.grace * UNIT_US >= complete)
                counted = () if number == 0 else (len(part),)
                out.append((*key, start, end, *counted, *sums.values(), call))
        rows = results
    return out


def play(
    case: Case, stream: Stream, delay: int
) -> tuple[Counter[Any], Counter[Any], Counter[Any], list[dict[str, Any]], list[int], Counter[Any]]:
    """Play a stream to the kernel, calling it as Spark does; return what came out, and what the model needs."""
    kernel = case.chain()
    state: Any = empty_state(kernel)
    out: Counter[Any] = Counter()
    late: Counter[Any] = Counter()
    missed: Counter[Any] = Counter()
    invalid: Counter[Any] = Counter()
    counted: list[dict[str, Any]] = []
    moments: list[int] = []
    now, newest, wake = NEVER_US, NEVER_US, None
    for number, (batch, jump) in enumerate([*stream, ([], -1)]):
        if newest > NEVER_US:
            now = sorted([now, newest - delay * UNIT_US])[-1] + jump * UNIT_US
        now = FOREVER_US if jump < 0 else now
        moments.append(now)
        for each in batch:
            if each[2] is None or each[2] > LIMIT:
                continue
            time = BASE_US + each[2] * UNIT_US
            newest = sorted([newest, time])[-1]
            if case.shapes[0].kind == "session":
                counted.append({"k": each[0], "j": each[1], "t": time, "s": each[3], "m": each[3]})
                continue
            mine = list(windows(case.shapes[0], time))
            open_ones = [window for window in mine if window[1] + case.grace * UNIT_US > now]
            counted.append({"k": each[0], "j": each[1], "t": time, "s": each[3], "m": each[3], "counted": open_ones})
            if len(open_ones) < len(mine):
                missed[each, len(mine) - len(open_ones), len(mine)] += 1
        if not batch and now < FOREVER_US and (wake is None or now < wake):
            continue
        step = kernel.step(state, table(batch), Moment(now, number))
        for tag, found in step.out.items():
            assert found.schema.equals(kernel.out_schema[tag])
        state = decode(encode(BucketState(Identity("x", "{}", 1), 0, NEVER_US, step.state)), name="test").tables
        assert {name: each.schema for name, each in state.items()} == dict(kernel.state_schema)
        wake = step.wake_us
        assert wake is None or wake > now
        if "window" in step.out:
            out.update((*found, number) for found in written(step.out["window"], kernel.keys))
        late.update(zip(events(step.out.get("late")), *behind(step.out.get("late")), strict=True))
        invalid.update(events(step.out.get("invalid")))
    assert not any(len(each) for each in state.values())
    return out, late, invalid, counted, moments, missed


def table(batch: list[Row]) -> pa.Table:
    keys, others, values = ([each[at] for each in batch] for at in (0, 1, 3))
    stamps = pa.array([None if time is None else BASE_US + time * UNIT_US for _, _, time, _ in batch], pa.int64()).view(STAMP)
    return pa.table([pa.array(keys, pa.string()), pa.array(others, pa.int32()), stamps, pa.array(values, pa.int64())], schema=ROWS)


def written(found: pa.Table, keys: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    assert all(found.column("is_final").to_pylist())
    bounds = [found.column("window").combine_chunks().field(name).cast(pa.int64()).to_pylist() for name in ("start", "end")]
    names = [name for name in ("c", "n", "s", "m") if name in found.column_names]
    yield from zip(
        *(found.column(name).to_pylist() for name in keys), *bounds, *(found.column(name).to_pylist() for name in names), strict=True
    )


def events(found: pa.Table | None) -> list[Row]:
    if found is None:
        return []
    event = found.column("event").combine_chunks()
    times = [None if time is None else (time - BASE_US) // UNIT_US for time in event.field("ts").cast(pa.int64()).to_pylist()]
    return list(zip(event.field("k").to_pylist(), event.field("j").to_pylist(), times, event.field("v").to_pylist(), strict=True))


def behind(found: pa.Table | None) -> list[list[int]]:
    return [[], []] if found is None else [found.column(name).to_pylist() for name in ("missed", "windows")]


def agree(case: Case, stream: Stream, delay: int) -> None:
    out, late, invalid, counted, moments, missed = play(case, stream, delay)
    assert out == Counter(model(case, counted, moments))
    everything = [each for batch, _ in stream for each in batch]
    assert invalid == Counter(each for each in everything if each[2] is None or each[2] > LIMIT)
    if case.shapes[0].kind == "session":
        assert not late
    else:
        assert late == missed
    if not any(shape.kind == "sliding" for shape in case.shapes):
        assert builtins.sum(int(each[-4]) * times for each, times in out.items()) == len(everything) - late.total() - invalid.total()


@settings(max_examples=500, deadline=None)
@given(case=cases(fixed), stream=streams, delay=st.integers(0, 60))
def test_chains_equal_the_model_and_close_when_they_can(case: Case, stream: Stream, delay: int) -> None:
    agree(case, stream, delay)


@settings(max_examples=300, deadline=None)
@given(case=cases(gaps), stream=streams, delay=st.integers(0, 60))
def test_results_of_sessions_are_aggregated_too(case: Case, stream: Stream, delay: int) -> None:
    def later(each: Row, number: int) -> Row:
        return each if each[2] is None or each[2] > LIMIT else (*each[:2], each[2] % 30 + 40 * number, each[3])

    agree(case, [([later(each, number) for each in batch], 0) for number, (batch, _) in enumerate(stream)], delay)


@settings(max_examples=200, deadline=None)
@given(case=cases(st.one_of(fixed, gaps)), stream=streams)
def test_batches_do_not_matter_when_nothing_is_late(case: Case, stream: Stream) -> None:
    def without_calls(found: Counter[Any]) -> Counter[Any]:
        return Counter({each[:-1]: times for each, times in found.items()})

    pieces = play(case, [(batch, 0) for batch, _ in stream], 300)
    whole = play(case, [([each for batch, _ in stream for each in batch], 0)], 300)
    assert without_calls(pieces[0]) == without_calls(whole[0])


def made(shape: Shape, aggregates: Any = None, **more: Any) -> Any:
    return stage(shape, aggregates or {"most": max("n")}, **more)


HOURS = tumbling(timedelta(hours=1))


def linked(*stages: Stage, first: Window | None = None) -> Any:
    layout = Layout(ROWS, ("k", "j"), "ts", (("n", count()), ("s", sum("v"))), 0, LIMIT)
    return chain(layout, first or HOURS.without_grace(), stages)


def test_settings_name_each_stage() -> None:
    found = json.loads(linked(made(HOURS), made(HOURS, {"c": count()}, keys=["k"])).settings)
    assert {at: (each["keys"], each["operator"]) for at, each in found["stages"].items()} == {
        "0": (["k", "j"], "time_windows_v1"), "1": (["k", "j"], "time_windows_v1"), "2": (["k"], "time_windows_v1"),
    }  # fmt: skip
    assert found["keys"] == ["k"]
    assert linked(made(HOURS)).settings != linked(made(HOURS, {"least": max("n")})).settings


@pytest.mark.parametrize("shape", [global_window(), business_hours("UTC"), assigned(lambda times: (times, times + 1), name="x_v1"), 5])
def test_shapes_that_leave_results_out_are_refused(shape: Any) -> None:
    with pytest.raises(SettingsError, match=r"cannot use window of the later stage '.*': expected tumbling, sliding, .* to a table"):
        made(shape)


def test_a_later_stage_has_no_lateness_policy() -> None:
    with pytest.raises(
        SettingsError, match=r"later stage 'tumbling': expected a shape without a lateness policy, got one with it; no result is"
    ):
        made(HOURS.without_grace())  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [global_window(), count_tumbling(3), assigned(lambda times: (times, times + 1), name="x_v1")])
def test_a_first_stage_must_close_in_order(shape: Shape) -> None:
    with pytest.raises(SettingsError, match=r"cannot use window of the first stage '.*': expected tumbling, .*, got another"):
        linked(made(HOURS), first=shape.without_grace())


def test_stages_that_do_not_fit_are_refused() -> None:
    with pytest.raises(SettingsError, match=r"cannot group by keys 'v': expected some of the keys of the stage before, \['k', 'j'\]"):
        linked(made(HOURS, keys=["v"]))
    with pytest.raises(SettingsError, match=r"cannot group by keys 'j': expected some of the keys of the stage before, \['k'\]"):
        linked(made(HOURS, keys=["k"]), made(HOURS, {"c": count()}, keys=["j"]))
    with pytest.raises(
        SchemaError, match=r"cannot aggregate column 'v': expected a key or result .* one of \['k', 'j', 'n', 's', 'window_time'\]"
    ):
        linked(made(HOURS, {"m": max("v")}))
    with pytest.raises(SettingsError, match=r"cannot name columns 'of a later stage': expected results with names of their own"):
        linked(made(HOURS, {"K": max("n")}))
    with pytest.raises(SettingsError, match=r"cannot name columns 'of a later stage'"):
        linked(made(HOURS, {"window_time": count()}))
    with pytest.raises(SettingsError, match=r"cannot name columns 'of a later stage'"):
        linked(stage(HOURS, {}))


def test_the_last_instant_of_a_window_can_be_aggregated() -> None:
    kernel = linked(made(tumbling(timedelta(hours=2)), {"until": max("window_time")}, keys=[]))
    begun = kernel.step(
        empty_state(kernel), pa.table([["a"], [1], pa.array([0], pa.int64()).view(STAMP), [5]], schema=ROWS), Moment(NEVER_US, 0)
    )
    done = kernel.step(begun.state, ROWS.empty_table(), Moment(FOREVER_US, 0))
    assert done.out["window"].column("until").cast(pa.int64()).to_pylist() == [3_600_000_000 - 1]
    assert done.wake_us is None
