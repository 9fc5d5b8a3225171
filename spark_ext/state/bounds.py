"""Bounds of event time: what lies outside is absurd."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from spark_ext.errors import SettingsError

__all__ = ["bounds_us"]

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
