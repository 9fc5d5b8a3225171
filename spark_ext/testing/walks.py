"""Random walks: streams with everything that happens to streams, and crashes at every point; the seed says it all."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pyarrow as pa

from spark_ext.epochs.points import POINTS, Point
from spark_ext.testing.steps import Crash, CrashInOperator, Restart, Rows, Start, Step, Stop

__all__ = ["EVENTS", "IN_OPERATOR", "Walk", "events", "random_walk"]

EVENTS: Final = pa.schema([
    ("id", pa.int64()), ("key", pa.string()), ("at", pa.timestamp("us", "UTC")), ("amount", pa.int64()), ("raw", pa.string()),
])  # fmt: skip
START: Final = datetime(2025, 1, 1, 12, tzinfo=UTC)
WITH_SINK: Final[frozenset[Point]] = frozenset({"before_sink", "after_sink"})
IN_OPERATOR: Final = "in_operator"

MakeRows = Callable[[random.Random, int], Sequence[Mapping[str, Any]]]


@dataclass(frozen=True, slots=True)
class Walk:
    """A script that a seed made.

    Attributes
    ----------
    seed : int
        The same seed makes the same walk.
    steps : sequence of Step
        What to give to `run_script`.
    """

    seed: int
    steps: Sequence[Step]

    @property
    def batches(self) -> list[Sequence[Mapping[str, Any]]]:
        """The rows of each micro-batch, for a model."""
        return [step.rows for step in self.steps if isinstance(step, Rows)]


def random_walk(
    seed: int,
    *,
    sinks: Sequence[str] = (),
    points: Sequence[str] = (*POINTS, IN_OPERATOR),
    batches: tuple[int, int] = (3, 5),
    crashes: tuple[int, int] = (1, 3),
    make_rows: MakeRows | None = None,
) -> Walk:
    """Make a script out of a seed: rows, boundaries, crashes, restarts.

    Guarantee: consecutive seeds take the points in turn for their first crash, so that as many walks as there are points reach each of
    them, as far as the job has it.

    Parameters
    ----------
    seed : int
        Any.
    sinks : sequence of str
        The job's sinks, of which a crash before or after a sink takes one; without them it is the first that comes.
    points : sequence of str
        Where it may crash: names of `spark_ext.epochs.points.POINTS`, and ``"in_operator"``.
    batches, crashes : tuple of int
        The least and the most of each. Two crashes may meet in one batch, or one after the other at one point.
    make_rows : callable, optional
        ``make_rows(dice, n)`` gives the rows of batch n, all chance from the dice; default `events`.
    """
    dice = random.Random(seed)  # noqa: S311 (a test's moments are no secrets)
    make = make_rows or events()
    many = dice.randint(*batches)
    script: list[list[Step]] = [[Rows(make(dice, number))] for number in range(many)]
    chosen = [points[seed % len(points)], *(dice.choice(points) for _ in range(dice.randint(*crashes) - 1))]
    for point in chosen:
        script[dice.randrange(many)].insert(0, _crash(dice, point, sinks))
    for before in script:
        if dice.random() < 0.2:  # noqa: PLR2004 (now and then)
            before.insert(0, Restart())
    if dice.random() < 0.3:  # noqa: PLR2004 (now and then)
        first = dice.randrange(many)
        script[first].insert(0, Stop())
        script[min(many - 1, first + dice.randint(0, 1))].append(Start())
    return Walk(seed, [step for steps in script for step in steps])


def _crash(dice: random.Random, point: str, sinks: Sequence[str]) -> Step:
    if point == IN_OPERATOR:
        return CrashInOperator(optional=True)  # a batch may have no rows
    named = next(one for one in POINTS if one == point)
    sink = dice.choice(sinks) if named in WITH_SINK and sinks else None
    # A replay of a batch that is in the ledger does not come by there again.
    is_last = named in ("after_ledger", "in_maintenance")
    return Crash(named, sink, hits=1 if is_last else dice.choice((1, 1, 1, 2)), optional=is_last)


def events(
    *,
    rows: tuple[int, int] = (0, 30),
    keys: int = 5,
    pace: timedelta = timedelta(minutes=1),
    disorder: timedelta = timedelta(minutes=3),
    duplicates: float = 0.1,
    bad: float = 0.1,
) -> MakeRows:
    """Return a maker of rows with the columns of `EVENTS`.

    ``raw`` is null in a good row; a bad one has only ``id`` and ``raw``. A duplicate is a row of the same or an earlier batch once more,
    with the same ``id``. Ids of other rows grow by one, from 0.

    Parameters
    ----------
    rows : tuple of int
        The least and the most rows of a batch.
    keys : int
        How many keys; one of them is null.
    pace, disorder : timedelta
        How far event time goes on with each batch, and how far a row may be behind that.
    duplicates, bad : float
        Which part of the rows is that, between 0 and 1.
    """
    before: list[Mapping[str, Any]] = []
    names = [None, *(f"k{number}" for number in range(1, keys))]

    def make(dice: random.Random, number: int) -> list[Mapping[str, Any]]:
        found: list[Mapping[str, Any]] = []
        if number == 0:
            before.clear()
        for _ in range(dice.randint(*rows)):
            chance = dice.random()
            if chance < duplicates and before:
                found.append(dice.choice(before))
                continue
            one = len({row["id"] for row in before})
            row: dict[str, Any] = {"id": one, "key": None, "at": None, "amount": None, "raw": f"?{dice.randrange(1000)}"}
            if chance < 1 - bad:
                at = START + (number + 1) * pace - dice.random() * disorder
                row |= {"key": dice.choice(names), "at": at, "amount": dice.randrange(-5, 100), "raw": None}
            found.append(row)
            before.append(row)
        return found

    return make
