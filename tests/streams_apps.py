"""Topics made of files, a batch each, for applications of `spark_ext.streams` under test."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from spark_ext.delta.arrow import read_arrow
from spark_ext.streams import Application, Consumed, StreamsBuilder, Topology

START = datetime(2026, 1, 1, 12, tzinfo=UTC)
SCHEMA = pa.schema([("k", pa.string()), ("t", pa.string()), ("n", pa.int64()), ("at", pa.timestamp("us", "UTC"))])
DDL = "k string, t string, n bigint, at timestamp"

Row = tuple[Any, ...]


def at(seconds: float | None) -> datetime | None:
    return None if seconds is None else START + timedelta(seconds=seconds)


@dataclass
class Script:
    """An application that is started anew for each batch; its topics are folders of files."""

    spark: SparkSession
    root: Path
    build: Callable[[StreamsBuilder, Script], None]
    files: dict[str, int] = field(default_factory=dict)
    app: Application | None = None

    def topic(self, name: str, lateness: timedelta = timedelta(0), **how: Any) -> Consumed:
        """Rows (k, t, n, at) of a topic; key k, value (t, n) unless `how` says otherwise."""
        folder = self.root / "in" / name
        folder.mkdir(parents=True, exist_ok=True)
        how = {"key": "k", "value": _fields, **how}
        return Consumed(
            read=lambda spark: spark.readStream.schema(DDL).option("maxFilesPerTrigger", 1).parquet(str(folder)),
            timestamp="at",
            lateness=lateness,
            **how,
        )

    def feed(self, name: str, rows: Sequence[Row]) -> None:
        """Add a batch: rows (k, t, n, seconds)."""
        folder = self.root / "in" / name
        folder.mkdir(parents=True, exist_ok=True)
        number = self.files[name] = self.files.get(name, -1) + 1
        table = pa.Table.from_pylist([{"k": k, "t": t, "n": n, "at": at(s)} for k, t, n, s in rows], schema=SCHEMA)
        aside = folder / f".{number}"
        pq.write_table(table, aside)
        os.utime(aside, (1_700_000_000 + number, 1_700_000_000 + number))
        aside.rename(folder / f"{number:03d}.parquet")

    def topology(self) -> Topology:
        builder = StreamsBuilder()
        self.build(builder, self)
        return builder.build()

    def run(self) -> Application:
        """Start, take what is there, end."""
        self.app = self.topology().run(self.spark, "test", str(self.root / "app"), buckets=2)
        return self.app

    def close(self, seconds: float) -> None:
        assert self.app is not None
        self.app.closeWindows(START + timedelta(seconds=seconds))

    def records(self, topic: str) -> list[tuple[Any, Any, float]]:
        """Key, value and seconds of the records of a topic, in no order."""
        assert self.app is not None
        return [(row["key"], row["value"], seconds(row["timestamp"])) for row in rows_of(self.app.topic(topic))]

    def store(self, name: str) -> dict[Any, Any]:
        assert self.app is not None
        rows = self.app.store(name).all().to_pylist()
        keys = [name for name in rows[0] if name.startswith("key")] if rows else []
        return {row[keys[0]] if len(keys) == 1 else tuple(row[name] for name in keys): row["value"] for row in rows}

    def rejected(self) -> list[Row]:
        """Reason, key and seconds of what was rejected."""
        assert self.app is not None
        frame = self.app.rejected()
        rows = [] if frame is None else frame.toArrow().to_pylist()
        return [(row["reason"], row["key"], row["timestamp"] and seconds(row["timestamp"])) for row in rows]


def rows_of(path: str) -> list[dict[str, Any]]:
    return read_arrow(DeltaTable(path)).to_pylist()


def seconds(moment: datetime) -> float:
    return (moment - START).total_seconds()


def _fields(row: Any) -> Any:
    return F.struct(row.t.alias("t"), row.n.alias("n"))
