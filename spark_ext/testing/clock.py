"""A clock that a script sets."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

__all__ = ["Clock"]

START: Final = datetime(2025, 1, 1, tzinfo=UTC)
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND: Final = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Clock:
    """Processing time as the script says; give `now` to a job that takes its clock as an argument.

    It is a file, so a Python worker that the job has sent it to sees the same time as the driver.

    Not supported: Spark's own ``current_timestamp()`` and processing-time timers, which read the clock of the machine.

    Attributes
    ----------
    path : str
        The file; the kit uses ``clock`` in the folder of the script.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     clock = Clock.of(folder)
    ...     clock.set(clock.now() + timedelta(hours=2))
    ...     print(clock.now())
    2025-01-01 02:00:00+00:00
    """

    path: str

    @classmethod
    def of(cls, folder: str | Path) -> Clock:
        """Return the clock of a script in its folder; until it is set it says midnight of 1 January 2025, UTC."""
        return cls(str(Path(folder) / "clock"))

    def now(self) -> datetime:
        """Return the time that was set last."""
        path = Path(self.path)
        return EPOCH + int(path.read_text()) * MICROSECOND if path.exists() else START

    def set(self, time: datetime) -> None:
        """Set the time; who reads it meanwhile sees the old or the new one."""
        aside = Path(f"{self.path}.new")
        aside.write_text(str((time - EPOCH) // MICROSECOND))
        os.replace(aside, self.path)
