"""Records and tables grouped by key: count, reduce, aggregate, running or by window."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from spark_ext.errors import SettingsError
from spark_ext.streams import records
from spark_ext.streams.ktable import KTable
from spark_ext.streams.nodes import Fold, Node, Slide, TableFold
from spark_ext.streams.reduced import Reduced
from spark_ext.streams.windows import SessionWindows, SlidingWindows, TimeWindows
from spark_ext.windows.aggregates import Aggregate, count
from spark_ext.windows.shapes import Session, Window

if TYPE_CHECKING:
    from spark_ext.streams.builder import StreamsBuilder

__all__ = ["KGroupedStream", "KGroupedTable", "WindowedKStream"]

Reducer = Callable[[pa.Array, pa.Array], pa.Array]
Windows = TimeWindows | SessionWindows | SlidingWindows | Window
MICROSECOND = timedelta(microseconds=1)


class _Grouped:
    """What all groups can do; a null key is a group, as in SQL."""

    def __init__(self, builder: StreamsBuilder, node: Node) -> None:
        self._builder, self._node = builder, node

    def count(self, *, store: str | None = None, name: str | None = None) -> KTable:
        """Count the records of each key."""
        return self._fold({records.VALUE: count()}, records.VALUE, store, name)

    def aggregate(self, aggregates: Mapping[str, Aggregate], *, store: str | None = None, name: str | None = None) -> KTable:
        """Aggregate the values of each key.

        Parameters
        ----------
        aggregates : mapping of str to Aggregate
            Fields of the result's value, and what they are, as in `spark_ext.windows.aggregates`: over fields of the value, ``value`` (the
            whole of it), ``key`` or ``timestamp``. A function of one record and the state so far, as Kafka Streams takes, could be called
            for one record at a time only.
        """
        return self._fold(dict(aggregates), None, store, name)

    def _fold(self, aggregates: Mapping[str, Aggregate], result: str | None, store: str | None, name: str | None) -> KTable:
        raise NotImplementedError


class _GroupedStream(_Grouped):
    def reduce(self, reducer: Reducer, *, id: str = "", store: str | None = None, name: str | None = None) -> KTable:  # noqa: A002
        """Reduce the values of each key to one.

        Parameters
        ----------
        reducer : callable
            Gets two Arrow arrays of values (structs as such), returns one: pair by pair the value of both. Associative, as records are
            put together in any grouping, by event time.
        id : str
            Stands for the function in the checkpoint: change it with the function.
        """
        return self._fold({records.VALUE: Reduced(reducer, id)}, records.VALUE, store, name)


class KGroupedStream(_GroupedStream):
    """A stream grouped by key."""

    def windowedBy(self, windows: Windows) -> WindowedKStream:
        """Aggregate by window: `TimeWindows`, `SessionWindows`, `SlidingWindows`, or any window over time of `spark_ext.windows`."""
        return WindowedKStream(self._builder, self._node, windows)

    def _fold(self, aggregates: Mapping[str, Aggregate], result: str | None, store: str | None, name: str | None) -> KTable:
        node = Fold(self._builder.named("KSTREAM-AGGREGATE", name), (self._node,), aggregates=aggregates, result=result)
        return KTable.of(self._builder, self._builder.add(node), store)


class WindowedKStream(_GroupedStream):
    """A stream grouped by key and window; keys of results are structs ``key``, ``window`` (``start``, ``end``).

    Time windows are updated in each batch that has records for them, unless `KTable.suppress` follows; sessions and sliding windows come
    out once, when they close.
    """

    def __init__(self, builder: StreamsBuilder, node: Node, windows: Windows) -> None:
        super().__init__(builder, node)
        self._windows = windows

    def _fold(self, aggregates: Mapping[str, Aggregate], result: str | None, store: str | None, name: str | None) -> KTable:
        named, windows = self._builder.named("KSTREAM-WINDOWED-AGGREGATE", name), self._windows
        node: Node
        if isinstance(windows, SlidingWindows):
            node = Slide(
                named, (self._node,), aggregates=aggregates, result=result,
                difference_us=windows.difference // MICROSECOND, grace_us=windows.grace // MICROSECOND,
            )  # fmt: skip
            return KTable.of(self._builder, self._builder.add(node), store)
        window = windows if isinstance(windows, Window) else windows.window
        gap = windows.gap_us if isinstance(windows, SessionWindows) else None
        if "time" not in _kinds(window):
            got, todo = window.shape.kind, "use spark_ext.windows.aggregate in a pipeline of its own"
            raise SettingsError("window", "stream by", got, expected="windows over event time that close", got=got, todo=todo)
        node = Fold(
            named, (self._node,), aggregates=aggregates, result=result, window=window, gap_us=gap,
            length_us=_length_us(window), only_final=isinstance(window.shape, Session),
        )  # fmt: skip
        return KTable.of(self._builder, self._builder.add(node), store)


class KGroupedTable(_Grouped):
    """A table grouped by another key: a row that moves from one group to another leaves the first."""

    def __init__(self, builder: StreamsBuilder, node: Node, mapper: Callable[[Any, Any], tuple[Any, Any]], name: str | None) -> None:
        super().__init__(builder, node)
        self._mapper, self._name = mapper, name

    def _fold(self, aggregates: Mapping[str, Aggregate], result: str | None, store: str | None, name: str | None) -> KTable:
        named = self._builder.named("KTABLE-AGGREGATE", name or self._name)
        changes = self._builder.changes_of(self._node)
        node = TableFold(named, (changes,), aggregates=aggregates, result=result, regroup=records.regroup(self._mapper))
        return KTable.of(self._builder, self._builder.add(node), store)


def _kinds(window: Window) -> set[str]:
    kind = window.shape.kind
    return {kind, *(() if kind.startswith("count") or kind in {"global", "assigned"} else ("time",))}


def _length_us(window: Window) -> int:
    """Return how long before its end a window may have begun, in microseconds; of calendars a year."""
    shape = window.shape
    known = getattr(shape, "length_us", None) or getattr(shape, "gap_us", None)
    return int(known) if known else 366 * 86_400_000_000
