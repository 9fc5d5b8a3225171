"""The laws of aggregates, as a test for any of them: ours and a user's own."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from spark_ext.errors import EngineError, SettingsError
from spark_ext.state.segments import Segments, group
from spark_ext.windows.aggregates.aggregate import Aggregate, Types

__all__ = ["LAWS", "LawBrokenError", "check_laws"]

PARTS: Final = 3
GROUPS: Final = 4
LARGEST_CASE_ROWS: Final = 24
TODO: Final = "correct the aggregate: windows would depend on how rows are split into batches"

States = list[pa.Array]


class LawBrokenError(EngineError, AssertionError):
    """An aggregate does not obey a law; `law` names it."""

    law: str = ""


def check_laws(
    aggregate: Aggregate,
    rows: pa.Table,
    *,
    time: str,
    cases: int = 100,
    seed: int = 0,
    rel_tol: float = 1e-9,
    abs_tol: float = 1e-9,
) -> None:
    """Check that an aggregate can be used in windows.

    Guarantee: each of `LAWS` is tried on `cases` random samples of `rows`, of up to 24 rows, cut into three parts, some of them
    empty. Two states are equal if their results are; floats up to the tolerances, NaN equals NaN. What it does not show, another
    choice of rows may: give rows with nulls, ties of time, repeated and extreme values.

    Parameters
    ----------
    aggregate : Aggregate
        The one to try.
    rows : pa.Table
        Sample data: the columns in ``aggregate.inputs`` and the event time.
    time : str
        The column of event times: a timestamp, or int64 in microseconds since 1970; no nulls.
    cases : int, >= 1
        Samples for each law.
    seed : int
        Of the random choices; the same seed tries the same samples.
    rel_tol, abs_tol : float
        How far floats may be apart, as in `math.isclose`.

    Raises
    ------
    LawBrokenError
        A law does not hold; also an AssertionError. Its text says which, and shows the fewest rows that were found to break it.
    SettingsError
        `rows` has no rows, or not these columns.
    SchemaError
        The aggregate does not take columns of these types.

    Examples
    --------
    >>> from spark_ext.windows import aggregates
    >>> rows = pa.table({"time": pa.array([1, 2, 2]), "price": [1.5, None, 4.0]})
    >>> check_laws(aggregates.mean("price"), rows, time="time")
    """
    bench = _bench(aggregate, rows, time, rel_tol, abs_tol)
    for number, (law, holds) in enumerate(LAWS.items()):
        random = np.random.default_rng([seed, number])
        for _ in range(cases):
            sample = bench.sample(random)
            if _broken(bench, sample, holds) is None:
                continue
            sample = _smallest(bench, sample, holds)
            broken = _broken(bench, sample, holds)
            assert broken is not None  # noqa: S101
            why = f"the law '{law}' is broken by {bench.shown(sample)}"
            error = LawBrokenError("accept", "aggregate", repr(aggregate), expected=broken[0], got=broken[1], why=why, todo=TODO)
            error.law = law
            raise error


@dataclass(frozen=True)
class _Sample:
    """Some rows by number, and of each the group and the part that it is in."""

    rows: NDArray[np.int64]
    groups: NDArray[np.int64]
    parts: NDArray[np.int64]

    def where(self, keep: NDArray[np.bool_]) -> _Sample:
        return _Sample(self.rows[keep], self.groups[keep], self.parts[keep])

    def cut(self) -> list[NDArray[np.int64]]:
        return [self.rows[self.parts == part] for part in range(PARTS)]


@dataclass(frozen=True)
class _Bench:
    """An aggregate and the rows to try it on."""

    aggregate: Aggregate
    rows: pa.Table
    times: pa.Array
    rel_tol: float
    abs_tol: float

    @property
    def types(self) -> Types:
        return {field.name: field.type for field in self.rows.schema}

    def sample(self, random: np.random.Generator) -> _Sample:
        size = int(random.integers(1, LARGEST_CASE_ROWS + 1))
        rows = random.integers(0, len(self.times), size)
        return _Sample(rows, random.integers(0, GROUPS, size), random.integers(0, PARTS, size))

    def columns(self, rows: NDArray[np.int64], pad: int = 0) -> tuple[dict[str, pa.Array], pa.Array]:
        """Return rows and times in fresh memory, as slices out of the middle where padded."""
        padded = np.concatenate([np.zeros(pad, np.int64), rows, np.zeros(pad, np.int64)])
        taken = {name: self.rows[name].combine_chunks().take(pa.array(padded)).slice(pad, len(rows)) for name in self.types}
        return taken, self.times.take(pa.array(padded)).slice(pad, len(rows))

    def state(self, rows: NDArray[np.int64], pad: int = 0) -> States:
        """Return the state of one group of these rows."""
        if not len(rows):
            return self.aggregate.identity(self.types, 1)
        return self.aggregate.of_rows(*self.columns(rows, pad), Segments(np.zeros(1, np.int64), len(rows)))

    def merge(self, *states: States) -> States:
        return self.aggregate.merge(_joined(states), Segments(np.zeros(1, np.int64), len(states)))

    def results(self, states: States) -> list[Any]:
        listed: list[Any] = self.aggregate.finish(states, self.types).to_pylist()
        return listed

    def same(self, left: Any, right: Any) -> bool:
        if isinstance(left, float) and isinstance(right, float):
            return math.isclose(left, right, rel_tol=self.rel_tol, abs_tol=self.abs_tol) or (math.isnan(left) and math.isnan(right))
        if isinstance(left, list) and isinstance(right, list):
            return len(left) == len(right) and all(map(self.same, left, right))
        if isinstance(left, dict) and isinstance(right, dict):
            return list(left) == list(right) and all(map(self.same, left.values(), right.values()))
        return type(left) is type(right) and bool(left == right)

    def shown(self, sample: _Sample) -> str:
        columns, times = self.columns(sample.rows)
        parts = []
        for part, name in enumerate("abc"):
            inside = np.flatnonzero(sample.parts == part)
            values = {column: array.take(pa.array(inside)).to_pylist() for column, array in columns.items()}
            parts.append(f"{name} = {values | {'time': times.take(pa.array(inside)).to_pylist()}!r}")
        return ", ".join(parts) + f" (groups {sample.groups.tolist()!r})"


Claim = tuple[str, Any, Any]
Law = Callable[[_Bench, _Sample], Iterator[Claim]]


def _declared(bench: _Bench, sample: _Sample) -> Iterator[Claim]:
    """Require that states and results have the length and the types that were declared, also without groups."""
    aggregate, types = bench.aggregate, bench.types
    wanted = aggregate.state(types)
    order, segments = group(sample.groups)
    count = len(segments)
    nothing = Segments(np.empty(0, np.int64), 0)
    states = aggregate.of_rows(*bench.columns(sample.rows[order]), segments)
    empty = aggregate.identity(types, 0)
    for name, made, length in [
        ("of_rows", states, count),
        ("of_rows without rows", aggregate.of_rows(*bench.columns(sample.rows[:0]), nothing), 0),
        ("identity", aggregate.identity(types, 3), 3),
        ("identity of no groups", empty, 0),
        ("merge", aggregate.merge(states, Segments(np.zeros(1, np.int64), count)), 1),
        ("merge of no states", aggregate.merge(empty, nothing), 0),
        ("finish", [aggregate.finish(states, types)], count),
        ("finish of no states", [aggregate.finish(empty, types)], 0),
    ]:
        expected = [aggregate.result(types)] if name.startswith("finish") else wanted
        found = [f"{len(array)} of {array.type}" if isinstance(array, pa.Array) else type(array).__name__ for array in made]
        yield name, [f"{length} of {kind}" for kind in expected], found


def _identity(bench: _Bench, sample: _Sample) -> Iterator[Claim]:
    """Require that a group without rows adds nothing, before or after."""
    state, nothing = bench.state(sample.rows), bench.aggregate.identity(bench.types, 1)
    alone = bench.results(state)
    yield "merge(identity, a) to be a", alone, bench.results(bench.merge(nothing, state))
    yield "merge(a, identity) to be a", alone, bench.results(bench.merge(state, nothing))
    yield "merge(identity, identity) to be identity", bench.results(nothing), bench.results(bench.merge(nothing, nothing))


def _commutative(bench: _Bench, sample: _Sample) -> Iterator[Claim]:
    """Require that the order of states does not matter."""
    a, b, c = map(bench.state, sample.cut())
    yield "merge(b, a) to be merge(a, b)", bench.results(bench.merge(a, b)), bench.results(bench.merge(b, a))
    yield "merge(c, a, b) to be merge(a, b, c)", bench.results(bench.merge(a, b, c)), bench.results(bench.merge(c, a, b))


def _associative(bench: _Bench, sample: _Sample) -> Iterator[Claim]:
    """Require that it does not matter which states are merged first."""
    a, b, c = map(bench.state, sample.cut())
    together = bench.results(bench.merge(a, b, c))
    yield "merge(merge(a, b), c) to be merge(a, b, c)", together, bench.results(bench.merge(bench.merge(a, b), c))
    yield "merge(a, merge(b, c)) to be merge(a, b, c)", together, bench.results(bench.merge(a, bench.merge(b, c)))


def _split(bench: _Bench, sample: _Sample) -> Iterator[Claim]:
    """Require that rows in parts give what they give in one."""
    once = bench.results(bench.state(sample.rows))
    yield "merge of parts to be one pass", once, bench.results(bench.merge(*map(bench.state, sample.cut())))


def _order(bench: _Bench, sample: _Sample) -> Iterator[Claim]:
    """Require that the order of rows does not matter."""
    once = bench.results(bench.state(sample.rows))
    yield "reversed rows to give the same", once, bench.results(bench.state(sample.rows[::-1]))
    mixed = np.random.default_rng(len(sample.rows)).permutation(sample.rows)
    yield "mixed rows to give the same", once, bench.results(bench.state(mixed))


def _apart(bench: _Bench, sample: _Sample) -> Iterator[Claim]:
    """Require that no group gets anything of another."""
    order, segments = group(sample.groups)
    numbers = np.unique(sample.groups)
    each = [bench.state(sample.rows[sample.groups == number]) for number in numbers]
    alone = [bench.results(state)[0] for state in each]
    rows = sample.rows[order]
    states = bench.aggregate.of_rows(*bench.columns(rows), segments)
    yield "rows of several groups to give what each gives alone", alone, bench.results(states)
    parts = [sample.rows[(sample.groups == number) & ((sample.parts == 0) == part)] for number in numbers for part in (True, False)]
    halves = [bench.state(part) for part in parts]
    pairs = [bench.merge(one, other) for one, other in zip(halves[::2], halves[1::2], strict=True)]
    merged = bench.aggregate.merge(_joined(halves), Segments(np.arange(0, len(halves), 2), len(halves)))
    yield "states of several groups to give what each gives alone", bench.results(_joined(pairs)), bench.results(merged)


def _slices(bench: _Bench, sample: _Sample) -> Iterator[Claim]:
    """Require that slices of longer arrays give the same."""
    once = bench.results(bench.state(sample.rows))
    yield "slices of rows to give the same", once, bench.results(bench.state(sample.rows, pad=3))
    states = list(map(bench.state, sample.cut()))
    merged = bench.results(bench.merge(*states))
    sliced = [array.slice(1, PARTS) for array in _joined([bench.state(sample.rows[:1]), *states, states[0]])]
    again = bench.aggregate.merge(sliced, Segments(np.zeros(1, np.int64), PARTS))
    yield "slices of states to merge to the same", merged, bench.results(again)
    yield "slices of states to finish to the same", bench.results(_joined(states)), bench.results(sliced)


def _round_trip(bench: _Bench, sample: _Sample) -> Iterator[Claim]:
    """Require that states are as good when they were written and read again."""
    states = _joined([bench.state(part) for part in sample.cut()])
    read = _read(_written(states))
    yield "states read back to finish to the same", bench.results(states), bench.results(read)
    once = Segments(np.zeros(1, np.int64), PARTS)
    merged, again = (bench.results(bench.aggregate.merge(some, once)) for some in (states, read))
    yield "states read back to merge to the same", merged, again


def _untouched(bench: _Bench, sample: _Sample) -> Iterator[Claim]:
    """Require that nothing handed over is written to, and that states can be finished again."""
    columns, times = bench.columns(sample.rows)
    before = _written([*columns.values(), times])
    bench.aggregate.of_rows(columns, times, Segments(np.zeros(1, np.int64), len(sample.rows)))
    yield "of_rows to leave rows as they are", before, _written([*columns.values(), times])
    states = _joined([bench.state(part) for part in sample.cut()])
    before = _written(states)
    first = bench.results(states)
    yield "finish to leave states as they are", before, _written(states)
    yield "finish to give the same again", first, bench.results(states)
    bench.aggregate.merge(states, Segments(np.zeros(1, np.int64), PARTS))
    yield "merge to leave states as they are", before, _written(states)


LAWS: Final[dict[str, Law]] = {
    "lengths and types as declared": _declared,
    "inputs untouched": _untouched,
    "groups do not mix": _apart,
    "the order of rows does not matter": _order,
    "identity is neutral": _identity,
    "merge is commutative": _commutative,
    "merge is associative": _associative,
    "any split of rows equals one pass": _split,
    "slices equal copies": _slices,
    "states survive Arrow IPC": _round_trip,
}


def _joined(states: Sequence[States]) -> States:
    """Concatenate states column by column."""
    return [pa.concat_arrays(list(column)) for column in zip(*states, strict=True)]


def _written(arrays: Sequence[pa.Array]) -> bytes:
    sink = pa.BufferOutputStream()
    batch = pa.record_batch(list(arrays), [str(i) for i in range(len(arrays))])
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    written: bytes = sink.getvalue().to_pybytes()
    return written


def _read(data: bytes) -> States:
    with pa.ipc.open_stream(data) as reader:
        return list(reader.read_next_batch().columns)


def _bench(aggregate: Aggregate, rows: pa.Table, time: str, rel_tol: float, abs_tol: float) -> _Bench:
    missing = sorted({time, *aggregate.inputs} - set(rows.column_names))
    if missing or not rows.num_rows or rows[time].null_count:
        expected = f"rows with the columns {sorted({time, *aggregate.inputs})!r} and no null in {time!r}"
        got = f"{rows.num_rows} rows of {rows.column_names!r}"
        raise SettingsError("check", "aggregate", repr(aggregate), expected=expected, got=got, todo="give rows to try the laws on")
    times = rows[time].combine_chunks()
    if pa.types.is_timestamp(times.type):
        times = pc.cast(times, pa.timestamp("us", times.type.tz))
    return _Bench(aggregate, rows.select(list(aggregate.inputs)), pc.cast(times, pa.int64()), rel_tol, abs_tol)


def _broken(bench: _Bench, sample: _Sample, law: Law) -> tuple[str, str] | None:
    """Return what was expected and what came instead, None where the law holds."""
    for claim, expected, got in law(bench, sample):
        if not bench.same(expected, got):
            if isinstance(expected, bytes):
                return claim, "other values"
            return f"{claim}: {expected!r}", repr(got)
    return None


def _smallest(bench: _Bench, sample: _Sample, law: Law) -> _Sample:
    """Return the sample without the rows that the law breaks without."""
    for row in range(len(sample.rows) - 1, -1, -1):
        keep = np.arange(len(sample.rows)) != row
        if len(sample.rows) > 1 and _broken(bench, sample.where(keep), law) is not None:
            sample = sample.where(keep)
    return sample
