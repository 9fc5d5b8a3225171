"""Tables that a route reads, and when a newer version of one is taken: values, checked when the pipeline is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from spark_ext.errors import SettingsError
from spark_ext.paths import absolute

__all__ = ["ByAge", "EveryBatch", "Lookup", "OnRequest", "Pinned", "Refresh", "check_lookups"]


@dataclass(frozen=True, slots=True)
class EveryBatch:
    """Each epoch reads the newest version."""


@dataclass(frozen=True, slots=True)
class ByAge:
    """The newest version is taken once the one in use was chosen so long ago.

    Attributes
    ----------
    most : timedelta
        Above zero. Measured between the times at which Spark planned the batches, so a replay measures the same.
    """

    most: timedelta

    def __post_init__(self) -> None:
        if self.most <= timedelta(0):
            raise _refused("by age", "a time above zero; EveryBatch() for the newest in each epoch", repr(self.most))


@dataclass(frozen=True, slots=True)
class OnRequest:
    """The newest version is taken in the first epoch, and when somebody asks: ``millrace ledger refresh``, or `pins.ask_refresh`."""


@dataclass(frozen=True, slots=True)
class Pinned:
    """One version, whatever the table becomes.

    Attributes
    ----------
    version : int
        Of the table, 0 or more. The table must keep its files.
    """

    version: int

    def __post_init__(self) -> None:
        if self.version < 0:
            raise _refused("pinned", "a version, 0 or more", repr(self.version))


Refresh = EveryBatch | ByAge | OnRequest | Pinned


@dataclass(frozen=True, slots=True)
class Lookup:
    """A Delta table that a route reads, at one version per epoch.

    Attributes
    ----------
    path : str
        Local path or URI of the table.
    refresh : Refresh
        When a newer version is taken; no default, as each has its price.
    persist : bool
        Whether Spark keeps the rows of the version in memory, for joins of your own. `spark_ext.joins.lookup` keeps a copy itself.
    """

    path: str
    refresh: Refresh = field(kw_only=True)
    persist: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", absolute(self.path))
        if not isinstance(self.refresh, Refresh):
            raise _refused("refresh", "EveryBatch(), ByAge(...), OnRequest() or Pinned(...)", repr(self.refresh))


def check_lookups(tables: Mapping[str, Lookup]) -> None:
    """Refuse names that are none."""
    if "" in tables:
        raise _refused("tables", "a name for each", repr(list(tables)))


def _refused(name: str, expected: str, got: str) -> SettingsError:
    return SettingsError("use", "setting of a lookup table", name, expected=expected, got=got, todo="correct it")
