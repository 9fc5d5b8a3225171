"""Bounds of event time: what lies outside is absurd."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from spark_ext.errors import SettingsError
from spark_ext.state.keys import ints

__all__ = ["bounds_us", "event_times"]

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND: Final = timedelta(microseconds=1)


def bounds_us(earliest: datetime, latest: datetime) -> tuple[int, int]:
    """Return both bounds in microseconds since 1970.

    Raises
    ------
    SettingsError
        One has no time zone.
    """
    for bound, moment in (("earliest", earliest), ("latest", latest)):
        if moment.tzinfo is None:
            todo = "give it as datetime(..., tzinfo=UTC)"
            raise SettingsError("use", "bound", bound, expected="a time with a zone", got=repr(moment), todo=todo)
    return (earliest - EPOCH) // MICROSECOND, (latest - EPOCH) // MICROSECOND


def event_times(column: pa.ChunkedArray, earliest_us: int, latest_us: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return event times in microseconds, and which of them are there and not absurd."""
    valid = column.is_valid().to_numpy() if column.null_count else np.ones(len(column), bool)
    times = ints(column)
    return times, valid & (times >= earliest_us) & (times <= latest_us)
