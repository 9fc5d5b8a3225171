"""The source of a script: a folder in which one file is one micro-batch."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
from pyarrow import parquet
from pyspark.sql import DataFrame, SparkSession

from spark_ext.testing.crashes import in_operator, switch_of
from spark_ext.testing.steps import INPUT, ScriptError

__all__ = ["Folder", "crash_site"]

FIRST_FILE_S: Final = 1_700_000_000  # any time; the files are dated one second apart, as Spark orders them by date
# Without the age Spark leaves out files that are a week older than the newest one it has read.
OPTIONS: Final[Mapping[str, str]] = {
    "maxFilesPerTrigger": "1",
    "maxFileAge": "36500d",
    "latestFirst": "false",
    "pathGlobFilter": "*.parquet",
}


class Folder:
    """The folder of one script, with its source, its clock, and the switches for crashes in workers.

    Guarantee: file n is batch n of the stream, with its rows in the order in which they were given, also at a replay and after a
    restart. Batches that Spark does without rows for the sake of state come on top.
    """

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.path = path
        self.schema = schema
        self.files = 0
        self._source.mkdir(parents=True, exist_ok=True)

    @classmethod
    def opened(cls, path: Path, schema: pa.Schema) -> Folder:
        """Return the folder of a script that another process feeds."""
        folder = cls(path, schema)
        folder.files = len(list(folder._source.glob("*.parquet")))
        return folder

    @property
    def _source(self) -> Path:
        return self.path / "source"

    def stream(self, spark: SparkSession, *, crashing: bool) -> DataFrame:
        """Return the stream; `crashing`: with a place for `CrashInOperator` before anything else."""
        empty = self.path / "schema.parquet"
        if not empty.exists():
            parquet.write_table(self.schema.empty_table(), empty)
        schema = spark.read.parquet(str(empty)).schema
        frame = spark.readStream.schema(schema).options(**OPTIONS).parquet(str(self._source))
        return crash_site(frame, self.path) if crashing else frame

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add a micro-batch."""
        unknown = {name for row in rows for name in row} - set(self.schema.names)
        if unknown:
            raise ScriptError(
                "write",
                "rows of step",
                str(self.files),
                expected=f"columns {self.schema.names}",
                got=f"{sorted(unknown)}",
                todo="correct them",
            )
        aside = self.path / "next"
        parquet.write_table(pa.Table.from_pylist([dict(row) for row in rows], schema=self.schema), aside)
        dated = FIRST_FILE_S + self.files
        os.utime(aside, (dated, dated))
        os.replace(aside, self._source / f"{self.files:06}.parquet")
        self.files += 1


def crash_site(frame: DataFrame, folder: str | Path, name: str = INPUT) -> DataFrame:
    """Pass rows through a Python operator that `CrashInOperator(name)` lets fail.

    Put it behind an operator of the job to let the task fail while that one gives out rows: it has seen its input, and has not
    committed its state. Without a script it is an operator that does nothing.

    Parameters
    ----------
    frame : DataFrame
        Bounded or a stream.
    folder : str or Path
        The folder that the job was built in.
    name : str
        The operator's name in the script.
    """
    switch = str(switch_of(folder, name))
    text = in_operator(name)

    def through(blocks: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for block in blocks:
            if os.path.exists(switch):
                yield block.slice(0, block.num_rows // 2)
                raise RuntimeError(text)  # a builtin: the worker need not load this package for it
            yield block

    return frame.mapInArrow(through, frame.schema)
