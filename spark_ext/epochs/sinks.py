"""Where the rows of an epoch go: sinks as values, checked when the pipeline is made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from spark_ext.errors import SettingsError
from spark_ext.paths import absolute

__all__ = ["Append", "CountsAs", "Delivery", "History", "OnDamage", "Outbox", "Sink", "Sketches", "Table", "Upsert", "check_sinks"]

CountsAs = Literal["accepted", "late", "dead", "duplicate", "shed"]
Delivery = Literal["exactly_once", "at_least_once", "at_most_once"]
OnDamage = Literal["fail", "replace"]


@dataclass(frozen=True, slots=True)
class Sink:
    """A Delta table that takes rows of an epoch.

    Attributes
    ----------
    path : str
        Local path or URI of the table; it is made at the first start if it is not there.
    counts_as : str or None
        What an input row has become when it is in this table, for the ledger: ``accepted``, ``late``, ``dead``, ``duplicate`` or ``shed``.
        None for rows that are not input rows: results, copies.
    delivery : str
        ``exactly_once``: by transaction id. ``at_least_once``: without one; a replay writes the rows again.
        ``at_most_once``: only in the first attempt at the batch; a crash in the middle loses the rows.
    evolve : bool
        Whether columns that the table does not have are added to it; else the epoch is refused before anything is written.
    """

    path: str
    counts_as: CountsAs | None = None
    delivery: Delivery = "exactly_once"
    evolve: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", absolute(self.path))
        if self.counts_as is not None and self.counts_as not in get_args(CountsAs):
            raise _refused("counts_as", f"one of {', '.join(get_args(CountsAs))}", repr(self.counts_as))
        if self.delivery not in get_args(Delivery):
            raise _refused("delivery", f"one of {', '.join(get_args(Delivery))}", repr(self.delivery))


@dataclass(frozen=True, slots=True)
class Append(Sink):
    """Add the rows."""


@dataclass(frozen=True, slots=True)
class Upsert(Sink):
    """Keep one current row per key: the one with the highest `sequence`.

    Attributes
    ----------
    keys : sequence of str
        Columns that identify a row; a null key equals a null key.
    sequence : str or None
        Column that orders the rows of a key: a row replaces only one that is not newer than itself, within a batch as well. Without
        it a batch has one row per key at most, and the later batch wins.
    """

    keys: Sequence[str] = ()
    sequence: str | None = None

    def __post_init__(self) -> None:
        Sink.__post_init__(self)
        _check_keys(self.keys)


@dataclass(frozen=True, slots=True)
class History(Sink):
    """Keep every version of a key's row, with the time it held (slowly changing dimension, type 2).

    The table has the columns of the rows and ``valid_from``, ``valid_to`` (null: still) and ``is_current``.

    Attributes
    ----------
    keys : sequence of str
        Columns that identify a row.
    sequence : str
        Column of type timestamp: from when the row holds. A version that comes late is put between its neighbours.
    """

    keys: Sequence[str] = ()
    sequence: str = ""

    def __post_init__(self) -> None:
        Sink.__post_init__(self)
        _check_keys(self.keys)
        if not self.sequence:
            raise _refused("sequence", "the column that says from when a row holds", repr(self.sequence))


@dataclass(frozen=True, slots=True)
class Table(Sink):
    """Keep the current rows of a table that changes: takes rows with ``sign``, as `spark_ext.tables` makes them.

    A row that comes (+1) replaces that of its key, one that only goes (-1) is deleted, all of an epoch in one commit. The table is made
    with Delta's change data feed: `spark_ext.tables.read_changes` gives its changes to another query, and `spark_ext.tables.TableReader`
    its rows by key.

    Attributes
    ----------
    keys : sequence of str
        Columns that identify a row, not of type float; a null key equals a null key.
    sequence : str or None
        Column that orders the rows of a key: a row is neither replaced nor deleted by an older one. Without it the later epoch wins.
    """

    keys: Sequence[str] = ()
    sequence: str | None = None

    def __post_init__(self) -> None:
        Sink.__post_init__(self)
        _check_keys(self.keys)


@dataclass(frozen=True, slots=True)
class Sketches(Sink):
    """Merge the rows into a sketch table: sketches of a key are merged, counts added up, also those of rows that come late.

    The table says itself how each of its columns is added up; see `spark_ext.sketching.tables.create_sketch_table`. It is made at the first
    epoch only if the rows say it too, as those of `spark_ext.sketching.aggregate` do of their sketches.

    Attributes
    ----------
    keys : sequence of str
        The table's keys, all of them; a null key equals a null key.
    on_damage : str
        For a sketch in the table that is damaged: ``fail``, the epoch is refused; ``replace``, the new one takes its place and the log
        says so. See `spark_ext.sketching.combiner.Combiner`.
    """

    keys: Sequence[str] = ()
    on_damage: OnDamage = "fail"

    def __post_init__(self) -> None:
        Sink.__post_init__(self)
        _check_keys(self.keys)
        if self.on_damage not in get_args(OnDamage):
            raise _refused("on_damage", f"one of {', '.join(get_args(OnDamage))}", repr(self.on_damage))
        if self.evolve:
            raise _refused("evolve", "False: a new column would not say how it is added up", "True")


@dataclass(frozen=True, slots=True)
class Outbox(Sink):
    """Rows for Kafka, kept in a Delta table until the relay has published their epoch; see `spark_ext.epochs.outbox`.

    The rows have ``topic`` string, ``key`` binary, ``value`` binary and, if wanted, ``headers`` array<struct<key, value>> and
    ``partition`` int.
    """


def check_sinks(sinks: dict[str, Sink]) -> None:
    """Refuse two sinks in one table."""
    by_path: dict[str, str] = {}
    for name, sink in sinks.items():
        if sink.path in by_path:
            got = f"{by_path[sink.path]!r} and {name!r} both in {sink.path}"
            raise SettingsError("use", "sinks", name, expected="a table for each", got=got, todo="unite their rows in one sink")
        by_path[sink.path] = name


def _check_keys(keys: Sequence[str]) -> None:
    if isinstance(keys, str) or not keys:
        raise _refused("keys", "at least one column, as a sequence", repr(keys))


def _refused(name: str, expected: str, got: str) -> SettingsError:
    return SettingsError("use", "sink setting", name, expected=expected, got=got, todo="correct it")
