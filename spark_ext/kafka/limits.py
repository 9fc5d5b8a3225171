"""Limits of a batch that can be changed while the query runs.

What flows in: numbers, in the user's process. What flows out: a file, replaced as a whole, which the planner reads for
every batch. The planner runs on the same machine: it is a child of the driver.
"""

from __future__ import annotations

import atexit
import json
import os
import shutil
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from spark_ext.errors import SettingsError

__all__ = ["Allowance", "ReadLimits", "read_limits"]


@dataclass(frozen=True, slots=True)
class Allowance:
    """Limits of one batch; None is: as the options of the source say.

    Attributes
    ----------
    max_offsets_per_trigger : int, optional
        Over all partitions.
    max_bytes_per_trigger : int, optional
        Of keys and values, approximately: from the mean size of a few records.
    max_offsets_per_partition : int, optional
        Of each partition.
    """

    max_offsets_per_trigger: int | None = None
    max_bytes_per_trigger: int | None = None
    max_offsets_per_partition: int | None = None

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value <= 0):
                raise SettingsError("set", "limit", name, expected="a whole number above zero", got=repr(value), todo="correct it")

    def overridden_by(self, other: Allowance) -> Allowance:
        """Return these limits, with those of `other` where it has any."""
        return replace(self, **{name: value for name, value in asdict(other).items() if value is not None})


class ReadLimits:
    """Limits of a running source.

    Guarantee: a change counts from the next batch that is planned; a batch once planned keeps its size, also when it is
    replayed.

    Parameters
    ----------
    max_offsets_per_trigger, max_bytes_per_trigger, max_offsets_per_partition : int > 0, optional
        As for `read`, whose numbers count where none is given here.

    Examples
    --------
    >>> limits = ReadLimits(max_offsets_per_trigger=1000)
    >>> limits.set(max_offsets_per_trigger=500)
    >>> limits.current.max_offsets_per_trigger
    500
    """

    def __init__(
        self,
        *,
        max_offsets_per_trigger: int | None = None,
        max_bytes_per_trigger: int | None = None,
        max_offsets_per_partition: int | None = None,
    ) -> None:
        folder = tempfile.mkdtemp(prefix="millrace-limits-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)  # a query may outlive this object
        self.path = str(Path(folder, "limits.json"))
        self._write(Allowance(max_offsets_per_trigger, max_bytes_per_trigger, max_offsets_per_partition))

    @property
    def current(self) -> Allowance:
        """The limits as they are now."""
        return self._current

    def set(self, **changes: int | None) -> None:
        """Change some limits; None gives one back to the options of the source.

        Raises
        ------
        SettingsError
            There is no such limit, or it is not a whole number above zero.
        """
        strange = sorted(set(changes) - set(asdict(self._current)))
        if strange:
            expected = f"some of {', '.join(asdict(self._current))}"
            raise SettingsError("set", "limit", strange[0], expected=expected, got="an unknown name", todo="correct it")
        self._write(replace(self._current, **changes))

    def _write(self, allowance: Allowance) -> None:
        part = f"{self.path}.part"
        Path(part).write_text(json.dumps(asdict(allowance)), encoding="utf-8")
        os.replace(part, self.path)  # whoever reads sees the old or the new limits, never half of them
        self._current = allowance


def read_limits(path: str) -> Allowance:
    """Read the limits that a `ReadLimits` has written.

    Raises
    ------
    SettingsError
        There is no such file, or it holds something else.
    """
    try:
        return Allowance(**json.loads(Path(path).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        todo = "let the process that made the ReadLimits run as long as the query, and make a new one at a new start"
        raise SettingsError("read", "limits", path, expected="the file of a ReadLimits", got=type(error).__name__, todo=todo) from error
