"""A stream as a list of steps: what comes in, where it crashes, when it is started again, what is looked at under way."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, get_args

from spark_ext.epochs.points import POINTS, Point
from spark_ext.errors import EngineError, SettingsError

if TYPE_CHECKING:
    from spark_ext.testing.result import Result

__all__ = [
    "At",
    "Check",
    "Crash",
    "CrashInOperator",
    "Restart",
    "Rows",
    "ScriptError",
    "Start",
    "Step",
    "Stop",
    "as_python",
    "without_crashes",
]

INPUT: Final = "input"


class ScriptError(EngineError, AssertionError):
    """A script did not go as it says: a crash that did not happen or was swallowed, a query that ended by itself."""


@dataclass(frozen=True, slots=True)
class Rows:
    """One micro-batch with these rows, in this order; without rows a batch without rows.

    Event time is what the rows say, so the watermark of a batch is that of the rows in the steps before it. A stateful query may
    do another batch, without rows, behind one that moved the watermark: Spark decides that, in the same way in every run.

    Attributes
    ----------
    rows : sequence of mapping
        Column to value; a column that is not there is null.
    """

    rows: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True, slots=True)
class Crash:
    """Let the driver crash at a named point in the batch of the next `Rows`, and start it again.

    Attributes
    ----------
    point : str
        One of `spark_ext.epochs.points.POINTS`.
    sink : str or None
        The sink before or after which; None: whichever comes first.
    hits : int
        How many times in a row: with 2 the replay of the batch crashes there as well.
    optional : bool
        Whether the script goes on if the point is never reached, as with the maintenance of tables that need none. `Result.missed`
        has it then; else it is a `ScriptError`.
    """

    point: Point
    sink: str | None = None
    hits: int = 1
    optional: bool = False

    def __post_init__(self) -> None:
        if self.point not in get_args(Point):
            raise _refused("point", f"one of {', '.join(POINTS)}", repr(self.point))
        if self.hits < 1:
            raise _refused("hits", "1 or more", repr(self.hits))


@dataclass(frozen=True, slots=True)
class CrashInOperator:
    """Let a Python worker fail in the batch of the next `Rows`, when half of its rows are through; then start the query again.

    Attributes
    ----------
    at : str
        Which operator: ``"input"``, which the kit puts before the job's own, or a name that the job gave to `crash_site`.
    optional : bool
        As for `Crash`; an operator that gets no rows cannot fail.
    """

    at: str = INPUT
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Restart:
    """Stop at the boundary of batches and start again: a release."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Stop at the boundary of batches; rows gather until `Start` or the end of the script, still one batch for each `Rows`."""


@dataclass(frozen=True, slots=True)
class Start:
    """Start again after `Stop`."""


@dataclass(frozen=True, slots=True)
class At:
    """Set the clock of the script: what `Clock.now` says from the next batch on.

    Attributes
    ----------
    time : datetime
        With a time zone.
    """

    time: datetime

    def __post_init__(self) -> None:
        if self.time.tzinfo is None:
            raise _refused("time", "a time with a time zone", repr(self.time))


@dataclass(frozen=True, slots=True)
class Check:
    """Look at what is there now, between two batches.

    Attributes
    ----------
    look : callable
        Called with the `Result` so far; it asserts.
    """

    look: Callable[[Result], None] = field(repr=False)


Step = Rows | Crash | CrashInOperator | Restart | Stop | Start | At | Check


def without_crashes(steps: Sequence[Step]) -> list[Step]:
    """Return the same stream with nothing going wrong: neither crashes nor restarts, and no checks.

    `Stop` and `Start` stay, as they tell Spark what it may do between two batches without rows: it closes windows then.

    Examples
    --------
    >>> without_crashes([Rows([{"n": 1}]), Crash("after_sinks"), Rows([{"n": 2}]), Restart()])
    [Rows(rows=[{'n': 1}]), Rows(rows=[{'n': 2}])]
    """
    return [step for step in steps if isinstance(step, Rows | At | Stop | Start)]


def as_python(steps: Sequence[Step]) -> str:
    """Return steps as Python to copy; a `Check` is only named.

    Examples
    --------
    >>> print(as_python([Rows([{"n": 1}, {"n": 2}]), Crash("before_sink", "latest", hits=2), Restart()]))
    steps = [
        Rows([
            {'n': 1},
            {'n': 2},
        ]),
        Crash('before_sink', 'latest', hits=2),
        Restart(),
    ]
    """
    return "\n".join(["steps = [", *(f"    {_python(step)}," for step in steps), "]"])


def _python(step: Step) -> str:
    match step:
        case Rows(rows):
            given = "\n".join(["[", *(f"        {dict(row)!r}," for row in rows), "    ]"]) if rows else ""
        case Crash(point, sink, hits, optional):
            more = [repr(point), repr(sink) if sink else "", f"hits={hits}" if hits > 1 else "", "optional=True" if optional else ""]
            given = ", ".join(filter(None, more))
        case CrashInOperator(at, optional):
            given = ", ".join(filter(None, ["" if at == INPUT else repr(at), "optional=True" if optional else ""]))
        case At(time):
            given = repr(time)
        case Check(look):
            given = getattr(look, "__name__", "...")
        case _:
            given = ""
    return f"{type(step).__name__}({given})"


def _refused(name: str, expected: str, got: str) -> SettingsError:
    return SettingsError("use", "step setting", name, expected=expected, got=got, todo="correct the script")
