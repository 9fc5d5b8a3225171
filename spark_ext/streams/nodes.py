"""What a topology is made of: nodes as values, each with what it reads. No Spark in here: functions over columns are kept, not called."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession

    from spark_ext.epochs import Refresh
    from spark_ext.streams.processor import Processor
    from spark_ext.streams.stores import StoreSpec
    from spark_ext.windows.aggregates import Aggregate
    from spark_ext.windows.shapes import Window

__all__ = [
    "Changes", "Consumed", "Fold", "ForeignJoin", "Lookup", "Merge", "Node", "Port", "Process", "Produced", "Sink", "Slide", "Source",
    "Stateful", "Step", "Store", "StreamJoin", "TableFold", "TableJoin", "To",
]  # fmt: skip

Change = Callable[["DataFrame"], "DataFrame"]
Joiner = Callable[["Column", "Column"], "Column"]
How = Literal["inner", "left", "outer"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Consumed:
    """How a topic is read.

    Attributes
    ----------
    read : callable
        Gets the session, returns a streaming DataFrame; the same plan at each start.
    key : str or callable
        Column, or a function from a row (a struct of all columns) to the key. None: keys are null.
    value : str or callable, optional
        As `key`; default a struct of all columns.
    timestamp : str
        Column of event time, type timestamp.
    sequence : str, optional
        Column of type bigint that orders the records of a key, such as Kafka's offset; default the event time. Of tables the newest wins.
    lateness : timedelta >= 0
        How far the watermark stays behind the newest event time. Kafka Streams has none: there the grace of a window is all.
    has_offsets : bool
        Whether `read` reads Kafka: the ledger then knows how many rows were read, and what is rejected counts there.
    """

    read: Callable[[SparkSession], DataFrame]
    timestamp: str
    key: str | Callable[[Column], Column] | None = None
    value: str | Callable[[Column], Column] | None = None
    sequence: str | None = None
    lateness: timedelta = timedelta(0)
    has_offsets: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Produced:
    """How records are written to Kafka: into an outbox, which ``millrace outbox relay`` publishes in transactions.

    Attributes
    ----------
    key, value : callable
        From key or value to what is cast to binary; default text of plain values, JSON of structs.
    """

    key: Callable[[Column], Column] | None = None
    value: Callable[[Column], Column] | None = None


@dataclass(frozen=True, eq=False)
class Node:
    """One node: a name that is its own in the topology, and what it reads."""

    name: str
    parents: tuple[Node, ...]

    @property
    def stores(self) -> tuple[str, ...]:
        """Names of the state that it has."""
        return ()


@dataclass(frozen=True, eq=False)
class Source(Node):
    """Records of a topic; `consumed` is None for one that this topology writes."""

    topic: str = ""
    consumed: Consumed | None = None


@dataclass(frozen=True, eq=False)
class Step(Node):
    """A change of records one by one: no state, the same over a stream or a batch. `makes_more`: of one record perhaps several."""

    change: Change = field(kw_only=True)
    makes_more: bool = False


@dataclass(frozen=True, eq=False)
class Merge(Node):
    """All records of all parents."""


@dataclass(frozen=True, eq=False)
class Stateful(Node):
    """Has state: the head of a sub-topology, as a query has one such operator."""

    @property
    def stores(self) -> tuple[str, ...]:  # noqa: D102
        return (f"{self.name}-state",)


@dataclass(frozen=True, eq=False)
class Fold(Stateful):
    """Aggregates of a stream by key, running or by window; `result` makes the value of the record from the aggregates.

    `only_final`: nothing is given out before a window closes.
    """

    aggregates: Mapping[str, Aggregate] = field(kw_only=True)
    result: str | None = None
    window: Window | None = None
    gap_us: int | None = None
    length_us: int = 0
    only_final: bool = False
    ttl: timedelta | None = None


@dataclass(frozen=True, eq=False)
class Slide(Fold):
    """Aggregates over windows that are where the records are: Kafka's sliding windows."""

    difference_us: int = 0
    grace_us: int = 0


@dataclass(frozen=True, eq=False)
class StreamJoin(Stateful):
    """A join of two streams by key and nearness in time: ``left.timestamp - before <= right.timestamp <= left.timestamp + after``."""

    joiner: Joiner = field(kw_only=True)
    how: How = "inner"
    before: timedelta = timedelta(0)
    after: timedelta = timedelta(0)
    grace: timedelta = timedelta(0)


@dataclass(frozen=True, eq=False)
class Process(Stateful):
    """A user's processor; `outputs` are the columns of what it forwards, by name, as DDL."""

    supplier: Callable[[], Processor] = field(kw_only=True)
    outputs: Mapping[str, str] = field(default_factory=dict)
    keeps: tuple[StoreSpec, ...] = ()
    ticks: timedelta | None = None

    @property
    def stores(self) -> tuple[str, ...]:  # noqa: D102
        return tuple(one.name for one in self.keeps)


@dataclass(frozen=True, eq=False)
class Changes(Stateful):
    """The updates of a table as rows that come and go, with a ``sign``: what aggregations and joins of tables are made of."""


@dataclass(frozen=True, eq=False)
class TableFold(Stateful):
    """Aggregates of a table by another key; `regroup` gives its rows that key and the value that is aggregated."""

    aggregates: Mapping[str, Aggregate] = field(kw_only=True)
    regroup: Change = field(kw_only=True)
    result: str | None = None


@dataclass(frozen=True, eq=False)
class TableJoin(Stateful):
    """A join of two tables by key."""

    joiner: Joiner = field(kw_only=True)
    how: How = "inner"


@dataclass(frozen=True, eq=False)
class ForeignJoin(Stateful):
    """A join of two tables by a key of the right one that the left one's value names."""

    foreign: Callable[[Column], Column] = field(kw_only=True)
    joiner: Joiner = field(kw_only=True)
    how: How = "inner"


@dataclass(frozen=True, eq=False)
class Port(Node):
    """What a processor forwards under a name."""

    port: str = ""


@dataclass(frozen=True, eq=False)
class Lookup(Node):
    """A join of a stream with the newest rows of a table, by batch; `on` gives the table's key, None: the record's own."""

    table: Store = field(kw_only=True)
    joiner: Joiner | Callable[[Column, Column, Column], Column] = field(kw_only=True)
    refresh: Refresh = field(kw_only=True)
    how: How = "inner"
    on: Callable[[Column, Column], Column] | None = None


@dataclass(frozen=True, eq=False)
class Sink(Node):
    """Where records leave the topology."""


@dataclass(frozen=True, eq=False)
class To(Sink):
    """Into a topic: a Delta table of the application, or, with `produced`, an outbox for Kafka."""

    topic: str = ""
    produced: Produced | None = None


@dataclass(frozen=True, eq=False)
class Store(Sink):
    """Into a table with the newest value of each key, which can be asked."""

    store: str = ""

    @property
    def stores(self) -> tuple[str, ...]:  # noqa: D102
        return (self.store,)
