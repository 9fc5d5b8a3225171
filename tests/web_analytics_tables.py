"""The tables that the web analytics job leaves behind, made of a bounded frame in one go."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow as pa
from deltalake import write_deltalake
from pyspark.sql import DataFrame, SparkSession

from jobs.web_analytics import pipeline

__all__ = ["as_rows", "sketch_tables"]


def as_rows(spark: SparkSession, visits: pd.DataFrame) -> DataFrame:
    """Return visits as the source would decode them."""
    plain = {name: column.astype(object).where(column.notna(), None) for name, column in visits.items() if column.dtype == "category"}
    frame = visits.assign(**plain, at=visits["at"].dt.as_unit("us"))[pipeline.VISIT.names]
    return spark.createDataFrame(pa.Table.from_pandas(frame, preserve_index=False)).persist()


def sketch_tables(parts: list[DataFrame], closed: DataFrame, out: Path) -> None:
    """Write the tables of sketches: rows of each part as they are, not merged."""
    made = {
        "minute_pages": [pipeline.minute_pages(part) for part in parts],
        "minutes": [pipeline.minutes(part) for part in parts],
        "country_hours": [pipeline.country_hours(part) for part in parts],
        "session_hours": [pipeline.session_hours(closed)],
    }
    for name, frames in made.items():
        for frame in frames:
            write_deltalake(str(out / "tables" / name), frame.toArrow(), mode="append")
