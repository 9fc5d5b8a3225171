"""The outbox table, read without Spark: the rows of committed epochs, in order, in pieces that fit a transaction."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt

from spark_ext.delta.arrow import arrow_dataset
from spark_ext.epochs.ledger import EpochRow, SinkRow
from spark_ext.errors import EpochError, SchemaError
from spark_ext.kafka.messages import Message
from spark_ext.paths import absolute

__all__ = ["Cut", "OutboxTable", "Reached"]

INDEX_ROWS: Final = 1_000_000  # rows whose place and size are held at once, 24 bytes each
NEEDED: Final = ("epoch", "seq", "topic", "key", "value")
OPTIONAL: Final = ("headers", "partition")
ROW_BYTES: Final = 64  # of a row, beside its key and value
DELETE_ATTEMPTS: Final = 5


class Reached(NamedTuple):
    """How far a relay is: all before `epoch` is published, and of `epoch` the rows up to and with `seq` (none: no row)."""

    epoch: int
    seq: int | None = None


class Cut(NamedTuple):
    """Rows for one transaction, and how far the relay is with them."""

    messages: list[Message]
    reached: Reached


class OutboxTable:
    """An outbox at a path, as it was when this was made.

    Raises
    ------
    SchemaError
        It lacks a column.
    """

    def __init__(self, path: str) -> None:
        self.path = absolute(path)
        self._table = DeltaTable(self.path)
        self.table_id, self.version = str(self._table.metadata().id), self._table.version()
        names = [field.name for field in self._table.schema().fields]
        if missing := [name for name in NEEDED if name not in names]:
            todo = "name the table of an Outbox sink"
            raise SchemaError("publish", "outbox", self.path, expected=f"columns {', '.join(NEEDED)}", got=f"no {missing}", todo=todo)
        self._columns = [*NEEDED, *(name for name in OPTIONAL if name in names)]

    def expected(self, rows: Sequence[EpochRow]) -> dict[int, int]:
        """Return by epoch how many rows the ledger says this table took; 0 before it was a sink of the pipeline.

        Raises
        ------
        EpochError
            This is not the pipeline's table any more, or not as new as the ledger says.
        """
        found: dict[int, int] = {}
        newest: SinkRow | None = None
        for row in rows:
            mine = [sink for sink in row.sinks if self.table_id == sink.table_id or self.path == sink.path]
            found[row.epoch] = sum(sink.rows for sink in mine)
            newest = mine[-1] if mine else None
        if newest is None or newest.kind != "outbox":
            known = [sink.path for sink in rows[-1].sinks if sink.kind == "outbox"]
            raise self._refused("an outbox of the pipeline", f"{known!r} in the ledger", "", "name one of them")
        if newest.table_id not in ("", self.table_id):
            why, todo = "it was deleted and made again", "restore the table, or move the relay to the epoch from which this table has rows"
            expected = f"table {newest.table_id!r}"
            raise self._refused(expected, repr(self.table_id), why, todo)
        if self.version < newest.version:
            why, todo = "it was restored to an older version", "restore it to the newest version"
            expected = f"version {newest.version} or newer"
            raise self._refused(expected, str(self.version), why, todo)
        return found

    def cuts(self, epochs: Mapping[int, int], *, since: Reached, max_rows: int, max_bytes: int, exact: bool | None) -> Iterator[Cut]:
        """Yield what is not published yet of committed epochs, ordered by epoch and seq.

        Whole epochs are put together up to the limits; one that is larger is cut. Files without such epochs are not read.

        Parameters
        ----------
        epochs : mapping of int to int
            The committed epochs, in order, with the rows that the ledger says they have.
        since : Reached
            Where to begin.
        max_rows, max_bytes : int, > 0
            Most rows and bytes of one cut; one row is always taken.
        exact : bool or None
            Whether there must be exactly as many rows as the ledger says, or at least (False), or any number (None).

        Raises
        ------
        EpochError
            Rows are missing, or belong to an epoch that is not in the ledger.
        """
        begin = since.epoch
        group: dict[int, int] = {}
        for epoch, rows in epochs.items():
            group[epoch] = rows
            if sum(group.values()) >= INDEX_ROWS or epoch == max(epochs):
                yield from self._cuts_of(group, begin, since, max_rows, max_bytes, exact=exact)
                begin, group = epoch + 1, {}

    def _cuts_of(
        self, epochs: Mapping[int, int], begin: int, since: Reached, max_rows: int, max_bytes: int, *, exact: bool | None
    ) -> Iterator[Cut]:
        number, seq, size = self._index(begin, max(epochs))
        self._check_counts(number, epochs, exact=exact)
        if since.seq is not None:
            left = (number > since.epoch) | (seq > since.seq)
            number, seq, size = number[left], seq[left], size[left]
        starts = np.flatnonzero(np.diff(number, prepend=-1))  # of each epoch
        ends_at = np.cumsum(size)
        at = 0
        while at < len(number):
            until = int(np.searchsorted(ends_at, max_bytes + (ends_at[at - 1] if at else 0), side="right"))
            until = max(at + 1, min(until, at + max_rows, len(number)))
            if until < len(number):
                whole = int(starts[np.searchsorted(starts, until, side="right") - 1])
                if whole > at:
                    until = whole
                while until < len(number) and (number[until], seq[until]) == (number[until - 1], seq[until - 1]):
                    until += 1  # written twice: the mark cannot stand between them
            last = int(number[until - 1])
            is_end = until == len(number) or number[until] != last
            reached = Reached(last + 1) if is_end else Reached(last, int(seq[until - 1]))
            yield Cut(self._messages((int(number[at]), int(seq[at])), (last, int(seq[until - 1]))), reached)
            at = until

    def _index(self, first: int, last: int) -> tuple[Any, Any, Any]:
        """Return epoch, seq and size of all rows of a span of epochs, in order."""
        sizes = [pc.coalesce(pc.binary_length(ds.field(name)), 0).cast(pa.int64()) for name in ("key", "value")]
        columns = {"epoch": ds.field("epoch"), "seq": ds.field("seq"), "bytes": pc.add(pc.add(*sizes), ROW_BYTES)}
        span = (ds.field("epoch") >= first) & (ds.field("epoch") <= last)
        found = arrow_dataset(self._table).to_table(columns=columns, filter=span)
        found = found.sort_by([("epoch", "ascending"), ("seq", "ascending")])
        return tuple(found.column(name).to_numpy() for name in ("epoch", "seq", "bytes"))

    def _check_counts(self, number: Any, epochs: Mapping[int, int], *, exact: bool | None) -> None:
        counted = dict(zip(*(each.tolist() for each in np.unique(number, return_counts=True)), strict=True))
        if strange := [epoch for epoch in counted if epoch not in epochs]:
            why, todo = "its row was dropped from the ledger before it was published", "see to these rows, then move the relay behind them"
            wanted = f"epoch {strange[0]} in the ledger"
            raise self._refused(wanted, "rows of it and no row there", why, todo)
        if exact is None:
            return
        for epoch, rows in epochs.items():
            got = counted.get(epoch, 0)
            if got < rows or (exact and got > rows):
                wanted, why = f"{rows} rows of epoch {epoch}", "the ledger counted so many when the epoch was committed"
                raise self._refused(wanted, str(got), why, "restore the table, or move the relay behind this epoch")

    def _messages(self, first: tuple[int, int], last: tuple[int, int]) -> list[Message]:
        epoch, seq = ds.field("epoch"), ds.field("seq")
        wanted = (epoch >= first[0]) & (epoch <= last[0])
        wanted &= (epoch > first[0]) | (seq >= first[1])
        wanted &= (epoch < last[0]) | (seq <= last[1])
        found = arrow_dataset(self._table).to_table(columns=self._columns, filter=wanted)
        rows = found.sort_by([("epoch", "ascending"), ("seq", "ascending")]).to_pylist()
        return [self._message(row) for row in rows]

    def _message(self, row: Mapping[str, Any]) -> Message:
        name = f"{self.path}, epoch {row['epoch']}, seq {row['seq']}"
        if not row["topic"]:
            why, todo = "it and what follows are kept", "correct what writes the rows, and move the relay behind this epoch"
            raise EpochError("publish", "row", name, expected="a topic", got=repr(row["topic"]), why=why, todo=todo)
        headers = row.get("headers")
        pairs = None if headers is None else [(one["key"], one["value"]) for one in headers]
        return Message(row["topic"], row["key"], row["value"], pairs, row.get("partition"), name)

    def drop_before(self, epoch: int) -> int:
        """Delete the rows of earlier epochs, and return how many; the files go with the next vacuum.

        Appends may go on meanwhile.
        """
        first = pa.table(self._table.get_add_actions(flatten=True))
        if not len(first) or ((oldest := pc.min(first.column("min.epoch")).as_py()) is not None and oldest >= epoch):
            return 0
        again = Retrying(stop=stop_after_attempt(DELETE_ATTEMPTS), retry=retry_if_exception_type(CommitFailedError), reraise=True)
        return int(again(lambda: DeltaTable(self.path).delete(f"epoch < {epoch}"))["num_deleted_rows"])

    def _refused(self, expected: str, got: str, why: str, todo: str) -> EpochError:
        return EpochError("publish", "outbox", self.path, expected=expected, got=got, why=why, todo=todo)
