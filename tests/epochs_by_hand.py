"""A pipeline's checkpoint, ledger and tables, made without Spark, as epochs leave them."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake

from spark_ext.epochs.ledger import EpochRow, Ledger, RangeRow, SinkRow
from spark_ext.epochs.sinks import Append, Sink
from spark_ext.kafka.offsets import Document
from spark_ext.queries.checkpoint import Checkpoint

T0 = datetime(2026, 1, 1, tzinfo=UTC)
ROWS = 10
PIPELINE = "shop/orders"


class World:
    """Batches of ten offsets of one partition, each an epoch with its rows in the sink ``facts``, every third in ``late`` too."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.claim()
        self.ledger = Ledger(str(root / "ledger"))
        self.ledger.create()
        self.token = self.ledger.take_lease(PIPELINE)
        self.sinks: dict[str, Sink] = {name: Append(str(root / name)) for name in ("facts", "late")}
        for sink in self.sinks.values():
            write_deltalake(sink.path, pa.table({"n": pa.array([], pa.int64())}))
        self.first_epoch = 0

    def claim(self, sources: tuple[str, ...] = ("kafka topic t A",)) -> Checkpoint:
        self.checkpoint = Checkpoint.claim(str(self.root / "checkpoint"), pipeline=PIPELINE, sources=list(sources))
        return self.checkpoint

    def file(self, name: str) -> Path:
        return Path(self.checkpoint.spark_location, name)

    def plan(self, batch: int, *, end: int | None = None, topic_id: str = "A", begin: int = 0) -> None:
        began = {("t", 0): begin} if batch == 0 else None
        document = Document({"t": topic_id}, {("t", 0): begin + ROWS * (batch + 1) if end is None else end}, {}, began)
        write_log(self.checkpoint, "offsets", batch, json.dumps(document.to_json()))

    def write(self, name: str, batch: int) -> None:
        mark = CommitProperties(app_transactions=[Transaction(self.checkpoint.app_id, batch)])
        write_deltalake(self.sinks[name].path, pa.table({"n": list(range(ROWS))}), mode="append", commit_properties=mark)

    def note(self, batch: int, *, begin: int = 0, at: datetime | None = None) -> None:
        written = ["facts", "late"] if batch % 3 == 0 else ["facts"]
        sinks = [self.sink_row(name, ROWS if name in written else 0) for name in self.sinks]
        start = begin + ROWS * batch
        row = row_of(
            self.checkpoint.checkpoint_id,
            self.first_epoch + batch,
            batch,
            token=self.token,
            ranges=[RangeRow("t", "A", 0, start, start + ROWS, ROWS, latest=start + 3 * ROWS)],
            sinks=sinks,
            at=at or T0 + timedelta(minutes=self.first_epoch + batch),
        )
        self.ledger.append(row, app_id=self.checkpoint.app_id)

    def sink_row(self, name: str, rows: int) -> SinkRow:
        table = DeltaTable(self.sinks[name].path)
        return SinkRow(
            name, self.sinks[name].path, str(table.metadata().id), "append", None, rows, table.version(), "driver" if rows else None
        )

    def commit(self, batch: int) -> None:
        write_log(self.checkpoint, "commits", batch, None)

    def epoch(self, batch: int, **options: Any) -> None:
        """All steps of one epoch."""
        self.plan(batch, begin=options.get("begin", 0))
        self.write("facts", batch)
        if batch % 3 == 0:
            self.write("late", batch)
        self.note(batch, **options)
        self.commit(batch)


def write_log(checkpoint: Checkpoint, name: str, batch: int, *sources: str | None) -> None:
    """Write an entry of Spark's logs."""
    file = Path(checkpoint.spark_location, name, str(batch))
    file.parent.mkdir(parents=True, exist_ok=True)
    texts = ["-" if one is None else one for one in sources]
    file.write_text("\n".join(["v1", '{"batchWatermarkMs":1000}', *texts]))
    file.with_name(f".{batch}.crc").write_bytes(b"crc")


def row_of(
    checkpoint_id: str, epoch: int, batch_id: int, *, token: int = 1, ranges: list[RangeRow], sinks: list[SinkRow], at: datetime = T0
) -> EpochRow:
    return EpochRow(
        pipeline=PIPELINE,
        checkpoint_id=checkpoint_id,
        epoch=epoch,
        batch_id=batch_id,
        token=token,
        started_at=at,
        committed_at=at,
        read=ROWS,
        accepted=ROWS,
        ranges=ranges,
        sinks=sinks,
    )
