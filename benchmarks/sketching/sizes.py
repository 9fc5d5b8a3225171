"""What sketches take on disk, in a Delta table, beside the exact sets or rows that they stand for."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from pyspark.sql import DataFrame

from benchmarks.measure import machine
from benchmarks.sketching.rows import checksum, rows_of
from benchmarks.sketching.variants import TEMPLATES
from spark_ext.session import spark_session
from spark_ext.sketching import aggregate, sketch

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    rows: Annotated[int, typer.Option(help="rows")] = 10_000_000,
    groups: Annotated[list[int] | None, typer.Option(help="how many keys; may be given again")] = None,
) -> None:
    """Print bytes per key: of all sketches, of the distinct values with their counts, of the rows."""
    print(machine())
    spark = spark_session("benchmark", master="local[2]", conf={"spark.driver.memory": "6g"})
    spark.sparkContext.setLogLevel("OFF")
    for many in groups or [100, 10_000, 1_000_000]:
        frame = rows_of(spark, rows, many)
        exact = frame.groupBy("k", "v").count()
        print(f"{rows:,} rows, {many:,} keys, {exact.count() / many:,.1f} distinct values a key, checksum {checksum(frame)}")
        tables = {
            f"{name} {template!r}": aggregate(frame, keys=["k"], aggregates={"s": sketch(template, "v")})
            for name, template in TEMPLATES.items()
        }
        tables |= {"exact: values and counts": exact.sort("k", "v"), "rows": frame.sort("k")}
        for name, table in tables.items():
            print(f"  {name:70}{_stored(table) / many:12,.0f} bytes a key", flush=True)
        frame.unpersist()


def _stored(frame: DataFrame) -> int:
    folder = Path(tempfile.mkdtemp(prefix="millrace-sizes-"))
    try:
        frame.write.format("delta").mode("overwrite").save(str(folder))
        return sum(file.stat().st_size for file in folder.glob("*.parquet"))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    app()
