"""A small job with every kind of sink, and what its tables must hold according to plain Python.

Also a program to kill: ``python epoch_job.py <settings as JSON>`` runs the job on the files of a folder.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from sketches import HyperLogLog
from spark_ext import epochs
from spark_ext.epochs import points
from spark_ext.epochs.maintenance import Rules
from spark_ext.queries import Checkpoint, Query, run
from spark_ext.session import spark_session
from spark_ext.sketching.tables import create_sketch_table
from spark_ext.testing import EVENTS, JobUnderTest, KillPoint
from spark_ext.testing.result import sink_fact
from spark_ext.testing.stream import Folder

__all__ = ["JOB", "SINKS", "Settings", "expected"]

DELAY: Final = timedelta(seconds=90)
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
TOPIC: Final = "amounts"
KINDS: Final = {"late": "late", "dead": "dead", "duplicates": "duplicate"}  # what the rows of a sink are, if not accepted
SINKS: Final = ("events", "latest", "amounts", "distinct", "late", "dead", "duplicates", "outbox")
TEMPLATE: Final = HyperLogLog(8)


def sinks(folder: Path) -> dict[str, epochs.Sink]:
    """One of each kind."""
    path = {name: str(folder / name) for name in SINKS}
    return {
        "events": epochs.Append(path["events"], counts_as="accepted"),
        "latest": epochs.Upsert(path["latest"], keys=["key"], sequence="at"),
        "amounts": epochs.History(path["amounts"], keys=["key"], sequence="at"),
        "distinct": epochs.Sketches(path["distinct"], keys=["key"]),
        "late": epochs.Append(path["late"], counts_as="late"),
        "dead": epochs.Append(path["dead"], counts_as="dead"),
        "duplicates": epochs.Append(path["duplicates"], counts_as="duplicate"),
        "outbox": epochs.Outbox(path["outbox"]),
    }


def with_copy(stream: DataFrame) -> DataFrame:
    """Count how often the id of a row has come in its batch before; a batch is one block."""

    def counted(blocks: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for block in blocks:
            seen: Counter[int] = Counter()
            copies = []
            for one in block.column("id").to_pylist():
                copies.append(seen[one])
                seen[one] += 1
            yield block.append_column("copy", pa.array(copies, pa.int64()))

    return stream.mapInArrow(counted, f"{', '.join(f'{name} {kind}' for name, kind in stream.dtypes)}, copy long")


def sketched(rows: DataFrame) -> DataFrame:
    """Make a sketch of each row, so that a batch has several of a key."""

    def made(blocks: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for block in blocks:
            sketches = [TEMPLATE.copy() for _ in range(block.num_rows)]
            for one, amount in zip(sketches, block.column("amount").to_pylist(), strict=True):
                one.update(amount)
            columns = [block.column("key"), pa.array([one.to_bytes() for one in sketches], pa.binary()), block.column("amount")]
            yield pa.RecordBatch.from_arrays(columns, ["key", "amounts", "total"])

    return rows.select("key", "amount").mapInArrow(made, "key string, amounts binary, total bigint")


def route(epoch: epochs.Epoch) -> dict[str, DataFrame]:
    """Bad rows are dead, then repeated ones duplicates, then old ones late; the rest is accepted."""
    good = epoch.rows.where("raw IS NULL")
    first = good.where("copy = 0").drop("raw", "copy")
    is_late = F.col("at") < F.lit(epoch.watermark)
    accepted = first.where(~is_late)
    return {
        "events": accepted,
        "latest": accepted,
        "amounts": accepted.select("key", "at", "amount"),
        "distinct": sketched(accepted),
        "late": first.where(is_late).withColumn("epoch", F.lit(epoch.epoch).cast("bigint")),
        "dead": epoch.rows.where("raw IS NOT NULL").select("id", "raw"),
        "duplicates": good.where("copy > 0").select("id", "copy"),
        "outbox": accepted.select(
            F.lit(TOPIC).alias("topic"),
            F.col("key").cast("binary").alias("key"),
            F.col("amount").cast("string").cast("binary").alias("value"),
        ),
    }


def build(
    spark: SparkSession, stream: DataFrame, folder: Path, *, every: str | None = "0 seconds", driver_rows: int | None = None
) -> Query:
    """Start the job."""
    create_sketch_table(str(folder / "distinct"), keys={"key": "string"}, measures={"amounts": TEMPLATE, "total": "sum"})
    pipeline = epochs.Pipeline(
        checkpoint=Checkpoint.claim(str(folder / "checkpoint"), pipeline="test/epochs", sources=["script"]),
        ledger=str(folder / "ledger"),
        sinks=sinks(folder),
        event_time="at",
        on_imbalance="stop",
        maintenance=Rules(every=2, small_files=2, log_commits=3),
        **({} if driver_rows is None else {"driver_rows": driver_rows}),
    )
    frame = with_copy(stream).withWatermark("at", f"{DELAY.seconds} seconds")
    return epochs.start(frame, route, pipeline=pipeline, every=every)


JOB: Final = JobUnderTest(
    schema=EVENTS,
    build=build,
    tables={name: name for name in SINKS},
    ledger="ledger",
    keys={"latest": ["key"], "amounts": ["key", "valid_from"], "distinct": ["key"], "outbox": ["epoch", "seq"]},
)


def expected(batches: Sequence[Sequence[Mapping[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    """What the tables must hold after these batches."""
    tables: dict[str, list[dict[str, Any]]] = {name: [] for name in (*SINKS, "ledger")}
    latest: dict[str | None, dict[str, Any]] = {}
    versions: dict[str | None, dict[datetime, int]] = {}
    watermark, newest = EPOCH, EPOCH + DELAY
    for number, rows in enumerate(batches):
        watermark = max(watermark, newest - timedelta(microseconds=newest.microsecond % 1000) - DELAY)
        seen: Counter[int] = Counter()
        kinds: Counter[str] = Counter()
        for row in rows:
            kind = _kind(row, seen, watermark)
            seen[row["id"]] += row["raw"] is None
            kinds[kind] += 1
            event = {name: row[name] for name in ("id", "key", "at", "amount")}
            if kind == "dead":
                tables["dead"].append({"id": row["id"], "raw": row["raw"]})
            elif kind == "duplicate":
                tables["duplicates"].append({"id": row["id"], "copy": seen[row["id"]] - 1})
            elif kind == "late":
                tables["late"].append({**event, "epoch": number})
            else:
                tables["events"].append(event)
                key = None if row["key"] is None else row["key"].encode()
                value = str(row["amount"]).encode()
                tables["outbox"].append({"topic": TOPIC, "key": key, "value": value, "epoch": number, "seq": kinds[kind] - 1})
                if row["key"] not in latest or latest[row["key"]]["at"] <= row["at"]:
                    latest[row["key"]] = event
                versions.setdefault(row["key"], {})[row["at"]] = row["amount"]
        times = [row["at"] for row in rows if row["at"]]
        newest = max([newest, *times])
        tables["ledger"].append(
            {
                "epoch": number, "batch_id": number, "watermark": watermark, "read": len(rows), "is_balanced": True,
                "first_event": min(times, default=None), "last_event": max(times, default=None),
                **{kind: kinds[kind] for kind in ("accepted", "late", "dead", "duplicate")},
            }
        )  # fmt: skip
        tables["latest"] = list(latest.values())
        tables["distinct"] = _distinct(tables["events"])
        tables["amounts"] = [row for key, by_time in versions.items() for row in _history(key, by_time)]
        written = {name: kinds[KINDS.get(name, "accepted")] for name in SINKS}
        tables["ledger"][-1] |= {f"sink {name}": sink_fact(written[name], tables[name]) for name in SINKS}
    return tables


def _distinct(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One sketch of all values of a key, made in one go."""
    by_key: dict[str | None, list[int]] = {}
    for row in rows:
        by_key.setdefault(row["key"], []).append(row["amount"])
    found = []
    for key, amounts in by_key.items():
        sketch = TEMPLATE.copy()
        sketch.update_many(np.array(amounts))
        found.append({"key": key, "amounts": sketch.to_bytes(), "total": sum(amounts)})
    return found


def _kind(row: Mapping[str, Any], seen: Counter[int], watermark: datetime) -> str:
    if row["raw"] is not None:
        return "dead"
    if seen[row["id"]]:
        return "duplicate"
    return "late" if row["at"] < watermark else "accepted"


def _history(key: str | None, by_time: Mapping[datetime, int]) -> Iterator[dict[str, Any]]:
    times = sorted(by_time)
    for at, until in zip(times, [*times[1:], None], strict=True):
        yield {"key": key, "at": at, "amount": by_time[at], "valid_from": at, "valid_to": until, "is_current": until is None}


# The program -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Settings:
    """What the program does.

    Attributes
    ----------
    folder : folder of input, tables and checkpoint
    follow : whether to go on until it is killed, or to end with what is there
    kill : arguments of the `KillPoint`, if any
    up : file to touch when the query runs
    """

    folder: str
    follow: bool
    kill: dict[str, Any] | None = None
    up: str = ""

    @property
    def command(self) -> list[str]:
        """The line that runs the program."""
        return [sys.executable, __file__, json.dumps(asdict(self))]


def main(settings: Settings) -> None:
    """Run the job until it ends or is killed."""
    conf = {
        "spark.ui.enabled": "false",
        "spark.sql.warehouse.dir": f"{settings.folder}/warehouse",
        "spark.local.dir": tempfile.gettempdir(),
        # It does not live long enough for more of a compiler.
        "spark.driver.extraJavaOptions": f"-XX:TieredStopAtLevel=1 -Djava.io.tmpdir={tempfile.gettempdir()}",
    }
    spark = spark_session("epochs", master="local[2]", conf=conf)
    folder = Path(settings.folder)
    with ExitStack() as stack:
        if settings.kill:
            stack.enter_context(points.watched(KillPoint(**settings.kill)))
        stream = Folder.opened(folder, EVENTS).stream(spark, crashing=False)
        query = build(spark, stream, folder, every="0 seconds" if settings.follow else None)
        if settings.up:
            Path(settings.up).touch()
        run([query])
    spark.stop()


if __name__ == "__main__":
    main(Settings(**json.loads(sys.argv[1])))
