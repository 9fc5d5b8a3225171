"""Windows that a function of the user assigns, checked before anything is built on them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from spark_ext.errors import SettingsError
from spark_ext.state.kernel import FOREVER_US, NEVER_US
from spark_ext.windows.aligned_kernel import distinct
from spark_ext.windows.panes import OUTSIDE, Panes

__all__ = ["AssignedPanes", "Assigner"]

Assigner = Callable[[NDArray[np.int64]], tuple[NDArray[np.int64], NDArray[np.int64]]]

PROBED_ROWS: Final = 16
PAIR: Final = 2


@dataclass(frozen=True, slots=True)
class AssignedPanes:
    """Windows from a user's function, one per row.

    Guarantee: each window that comes out contains the row's event time, which is what makes "late" mean the same as for every other
    kind. The function is asked again about a few rows of each batch by themselves; that finds one that looks at the batch as a
    whole, not one that remembers earlier batches.

    Parameters
    ----------
    function : callable
        Called with event times, ndarray (n,) int64, microseconds since 1970, read-only, n > 0. Returns ``(starts, ends)``, two
        ndarrays (n,) int64: row i is in the window ``[starts[i], ends[i])``, which contains its time and lies from `NEVER_US` to
        `FOREVER_US`; it is in no window where both are `NEVER_US`. A window must depend on the row's time alone.
    name : str
        Stands for the function in errors, in equality and in checkpoints.

    Examples
    --------
    >>> import numpy as np
    >>> def decades(times_us):
    ...     starts = times_us // 10 * 10
    ...     return starts, starts + 10
    >>> panes = AssignedPanes(decades, name="decades").panes(np.array([25, 3, 21]))
    >>> panes.index.tolist(), panes.starts.tolist(), panes.ends.tolist()
    ([1, 0, 1], [0, 20], [10, 30])
    """

    function: Assigner = field(compare=False)
    name: str

    def panes(self, times_us: NDArray[np.int64]) -> Panes:
        """Return the pane of each event time, see `PaneAssigner.panes`.

        Raises
        ------
        SettingsError
            The function failed, or what it returned is not as described above; the function's own exception is the cause.
        """
        if not len(times_us):
            return Panes(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.int64))
        starts, ends = self._call(times_us)
        outside = (starts == NEVER_US) & (ends == NEVER_US)
        self._check_windows(times_us, starts, ends, outside)
        self._check_alone(times_us, starts, ends)
        start_index, start_values = distinct(starts)
        end_index, end_values = distinct(ends)
        index, pairs = distinct(start_index * len(end_values) + end_index)
        start_values, end_values = start_values[pairs // len(end_values)], end_values[pairs % len(end_values)]
        if outside.any():  # they have one pair of their own, the least of all
            return Panes(np.where(outside, OUTSIDE, index - 1), start_values[1:], end_values[1:])
        return Panes(index, start_values, end_values)

    def _call(self, times_us: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        given = times_us.view()
        given.flags.writeable = False
        try:
            result = self.function(given)
        except Exception as error:
            raise self._refusal(
                "windows",
                f"{type(error).__name__}: {error}",
                why=f"it was given {len(times_us)} event times, the first {int(times_us[0])}",
                todo="repair the function; the batch is read again when the query restarts",
            ) from error
        if not isinstance(result, tuple) or len(result) != PAIR:
            got = f"{type(result).__name__} of {len(result)}" if isinstance(result, tuple | list) else type(result).__name__
            raise self._refusal("a tuple (starts, ends)", got, todo="return two arrays")
        for what, array in zip(("starts", "ends"), result, strict=True):
            self._check_array(what, array, times_us.shape)
        return result

    def _check_array(self, what: str, array: object, shape: tuple[int, ...]) -> None:
        expected = f"{what} as a NumPy array of shape {shape} and dtype int64"
        if not isinstance(array, np.ndarray):
            raise self._refusal(expected, type(array).__name__, todo="return arrays, not lists or scalars")
        got = f"shape {array.shape} and dtype {array.dtype}"
        if array.shape != shape:
            why = "each row has one window or none"
            raise self._refusal(expected, got, why=why, todo=f"give {NEVER_US} as start and end to rows without a window")
        if array.dtype != np.int64:
            why = "floats do not hold microseconds exactly, and may be NaN" if array.dtype.kind == "f" else ""
            todo = "compute in int64 microseconds since 1970; of datetime64[us] that is .astype('int64')"
            raise self._refusal(expected, got, why=why, todo=todo)

    def _check_windows(
        self, times_us: NDArray[np.int64], starts: NDArray[np.int64], ends: NDArray[np.int64], outside: NDArray[np.bool_]
    ) -> None:
        good = (starts <= times_us) & (times_us < ends) & (starts >= NEVER_US) & (ends <= FOREVER_US) | outside
        if good.all():
            return
        row = int(np.flatnonzero(~good)[0])
        time, start, end = int(times_us[row]), int(starts[row]), int(ends[row])
        got = f"[{start}, {end}) for row {row} with time {time}"
        if start >= end:
            expected = "start < end"
        elif not start <= time < end:
            expected = "start <= time < end"
        else:
            expected = f"a window from {NEVER_US} to {FOREVER_US}"
        why = f"a row is late when its window has ended; {int(np.count_nonzero(~good))} rows are wrong"
        todo = f"return a window that contains the time, or {NEVER_US} as start and end for none"
        raise self._refusal(expected, got, why=why, todo=todo)

    def _check_alone(self, times_us: NDArray[np.int64], starts: NDArray[np.int64], ends: NDArray[np.int64]) -> None:
        rows = np.linspace(0, len(times_us) - 1, PROBED_ROWS).astype(np.int64)
        for each in (rows, rows[:1], rows[-1:]):  # a function may look at how many there are, or at the least
            again = self._call(times_us[each])
            wrong = np.flatnonzero((again[0] != starts[each]) | (again[1] != ends[each]))
            if len(wrong):
                at, row = int(wrong[0]), int(each[wrong[0]])
                raise self._refusal(
                    "the same window for the same time in every batch",
                    f"[{int(starts[row])}, {int(ends[row])}) for row {row} with time {int(times_us[row])}, "
                    f"and [{int(again[0][at])}, {int(again[1][at])}) when asked with {len(each)} rows",
                    why="results would depend on how rows are cut into batches",
                    todo="compute each window from that row's time alone",
                )

    def _refusal(self, expected: str, got: str, *, todo: str, why: str = "") -> SettingsError:
        return SettingsError("use", "window assigner", self.name, expected=expected, got=got, why=why, todo=todo)
