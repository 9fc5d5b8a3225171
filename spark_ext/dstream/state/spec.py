"""`mapWithState`: what the user says (`StateSpec`) and what the user's function is given (`State`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, Generic, TypeVar

from pyspark import RDD

from spark_ext.dstream.closures import required_count
from spark_ext.dstream.errors import NoStateError, StreamArgumentError

__all__ = ["State", "StateSpec"]

S = TypeVar("S")
NOTHING: Final = object()
WITHOUT_TIME, WITH_TIME = 3, 4  # arguments


class State(Generic[S]):
    """The state of one key while the function of `mapWithState` is called; of no use after the call.

    What `get` returns may be changed in place: the state after the batch is what the object is then.
    """

    __slots__ = ("_is_removed", "_is_timing_out", "_state")

    def __init__(self, state: Any = NOTHING, *, is_timing_out: bool = False) -> None:
        self._state = state
        self._is_timing_out = is_timing_out
        self._is_removed = False

    def exists(self) -> bool:
        """Tell whether the key has a state; None is one."""
        return self._state is not NOTHING

    def get(self) -> S:
        """Return the state.

        Raises
        ------
        NoStateError
            There is none; ask `exists` before.
        """
        if self._state is NOTHING:
            raise NoStateError(
                "get",
                "state",
                "",
                expected="a key that has one",
                got="one that has none",
                why="State is not set",
                todo="ask exists() first",
            )
        return self._state  # type: ignore[no-any-return]  # what `update` was given

    def getOption(self) -> S | None:
        """Return the state, None if there is none."""
        return None if self._state is NOTHING else self._state

    def update(self, newState: S) -> None:
        """Set the state.

        Raises
        ------
        StreamArgumentError
            It has been removed in this call, or is timing out.
        """
        if self._is_removed:
            raise _cannot("update", "Cannot update the state after it has been removed")
        if self._is_timing_out:
            raise _cannot("update", "Cannot update the state that is timing out")
        self._state = newState

    def remove(self) -> None:
        """Remove the state, if there is one.

        Raises
        ------
        StreamArgumentError
            It has been removed in this call already, or is timing out.
        """
        if self._is_timing_out:
            raise _cannot("remove", "Cannot remove the state that is timing out")
        if self._is_removed:
            raise _cannot("remove", "Cannot remove the state that has already been removed")
        self._state = NOTHING
        self._is_removed = True

    def isTimingOut(self) -> bool:
        """Tell whether this is the last call for the key, which had no data for the time that the spec gives."""
        return self._is_timing_out

    def __str__(self) -> str:
        return "<state not set>" if self._state is NOTHING else str(self._state)


class StateSpec:
    """What `mapWithState` shall do; made by `StateSpec.function`, each method returns the spec itself.

    Examples
    --------
    >>> def count(key, value, state):
    ...     state.update((state.getOption() or 0) + 1)
    ...     return key, state.get()
    >>> spec = StateSpec.function(count).numPartitions(4).timeout(30)
    """

    def __init__(self, function: Callable[..., Any], *, takes_time: bool) -> None:
        self._function = function
        self._takes_time = takes_time
        self._initial: RDD[tuple[Any, Any]] | list[tuple[Any, Any]] | None = None
        self._partitions: int | None = None
        self._timeout_ms: int | None = None

    @classmethod
    def function(cls, mappingFunction: Callable[..., Any]) -> StateSpec:
        """Return a spec for ``f(key, value, state)`` or ``f(time, key, value, state)``.

        It is called for each value in the order of the batch, and with the value None for a key that times out. What it returns
        goes out unless it is None. `time` is the batch's, a local datetime.

        Raises
        ------
        StreamArgumentError
            The function takes neither three nor four arguments.
        """
        try:
            count = required_count(mappingFunction)
        except (TypeError, ValueError):
            count = -1
        if count not in {WITHOUT_TIME, WITH_TIME}:
            raise StreamArgumentError(
                "define",
                "stream",
                "mapWithState",
                expected="f(key, value, state) or f(time, key, value, state)",
                got=f"a function of {count} arguments" if count >= 0 else repr(mappingFunction),
                todo="give a function of three or four arguments",
            )
        return cls(mappingFunction, takes_time=count == WITH_TIME)

    def initialState(self, rdd: RDD[tuple[Any, S]] | Iterable[tuple[Any, S]]) -> StateSpec:
        """Set the pairs that are the state before the first batch; of a key that is there twice the last one counts."""
        self._initial = rdd if isinstance(rdd, RDD) else list(rdd)
        return self

    def numPartitions(self, numPartitions: int) -> StateSpec:
        """Set how many partitions the state has; default is what the checkpoint has, else Spark's parallelism."""
        self._partitions = numPartitions
        return self

    def timeout(self, idleDuration: float) -> StateSpec:
        """Set the seconds without data after which a key is given up: its last data is older than batch time - `idleDuration`.

        It may be another one after a restart.
        """
        if not idleDuration > 0:
            raise StreamArgumentError(
                "define",
                "stream",
                "mapWithState",
                expected="a timeout above 0 s",
                got=repr(idleDuration),
                todo="leave timeout out to keep keys for ever",
            )
        self._timeout_ms = round(idleDuration * 1000)
        return self


def _cannot(action: str, why: str) -> StreamArgumentError:
    return StreamArgumentError(
        action,
        "state",
        "",
        expected="a state that stays",
        got="one that goes",
        why=f"requirement failed: {why}",
        todo="see isTimingOut(), and call remove() last",
    )
