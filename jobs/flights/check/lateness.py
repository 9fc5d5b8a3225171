"""Which rows come too late: the batch of each row from the query's offset log, the watermarks from the rows.

The log is believed in one thing only, which offsets made up each batch. Its watermarks are recomputed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd

from jobs.flights.check.broker import ProofError

__all__ = ["OffsetLog", "batch_of", "read_offset_log", "watermarks_ms"]


@dataclass(frozen=True)
class OffsetLog:
    """What one query planned: per batch the end offset of each partition, and the watermark."""

    ends: list[dict[int, int]]
    watermarks_ms: list[int]


def read_offset_log(folder: Path, topic: str) -> OffsetLog:
    """Read a Spark checkpoint's folder ``offsets``: one file per batch, named by its number.

    Raises
    ------
    ProofError
        No batch, a gap (Spark forgets batches beyond ``spark.sql.streaming.minBatchesToRetain``), or another format. The topic is the
        first source; what comes after it is passed over.
    """
    numbers = sorted(int(file.name) for file in folder.glob("[0-9]*") if file.name.isdigit())
    if not numbers or numbers != list(range(len(numbers))):
        got = f"batches {numbers[0]} to {numbers[-1]} ({len(numbers)} files)" if numbers else "none"
        todo = "keep more with spark.sql.streaming.minBatchesToRetain"
        msg = f"cannot read offset log '{folder}': expected every batch from 0 on, got {got}; {todo}"
        raise ProofError(msg)
    ends, watermarks = [], []
    for number in numbers:
        version, *parts = (folder / str(number)).read_text(encoding="utf-8").splitlines()
        if version != "v1" or len(parts) < 2:  # noqa: PLR2004 (metadata, and a source)
            got = f"{version!r} and {len(parts)} lines"
            msg = f"cannot read offset log '{folder / str(number)}': expected 'v1', metadata and a source, got {got}"
            raise ProofError(msg)
        metadata, source = (json.loads(part) for part in parts[:2])
        ends.append({int(partition): int(end) for partition, end in source["topics"][topic]["offsets"].items()})
        watermarks.append(int(metadata["batchWatermarkMs"]))
    return OffsetLog(ends=ends, watermarks_ms=watermarks)


def batch_of(rows: pd.DataFrame, log: OffsetLog) -> pd.Series:
    """Return the batch that read each row, by ``partition`` and ``offset``; the number of batches if none did."""
    batch = pd.Series(len(log.ends), rows.index, dtype="int64")
    for partition, part in rows.groupby("partition"):
        ends = np.array([end.get(int(str(partition)), 0) for end in log.ends])
        batch[part.index] = np.searchsorted(ends, part["offset"].to_numpy(), side="right")
    return batch


def watermarks_ms(event_time: pd.Series, batch: pd.Series, *, batches: int, lateness: timedelta) -> list[int]:
    """Return the watermark of each batch: the latest event of all batches before it, less the lateness, never falling."""
    newest = event_time.dt.tz_convert(None).astype("datetime64[ms]").astype("int64").groupby(batch).max()
    known = newest.reindex(range(batches), fill_value=0).cummax().shift(1, fill_value=0)
    return [max(0, int(time) - int(lateness.total_seconds() * 1000)) for time in known]
