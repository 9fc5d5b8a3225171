"""The notebook runs from top to bottom on small tables, and is committed without outputs."""

import os
import sys
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from jupyter_client.kernelspec import KernelSpecManager
from nbclient import NotebookClient
from pyspark.sql import SparkSession

from jobs.flights.events import events
from jobs.flights.settings import Settings
from jobs.flights.tables import create_tables

NOTEBOOK = Path(__file__).resolve().parents[2] / "notebooks" / "flights.ipynb"
ROWS = 400
CELL_TIMEOUT_S = 120


def append(settings: Settings, name: str, frame: pd.DataFrame) -> None:
    table = DeltaTable(settings.table(name))
    schema = pa.schema(table.schema().to_arrow())
    write_deltalake(table, pa.Table.from_pandas(frame.reindex(columns=schema.names), schema=schema, preserve_index=False), mode="append")


def hours(facts: pd.DataFrame) -> pd.DataFrame:
    left = facts["event"] == "departure"
    counted = facts.assign(
        departures=left,
        cancelled=facts["event"] == "cancellation",
        delay=facts["delay_minutes"].astype("float64").where(left),
        aircraft=facts["tailnum"].where(left),
        window_start=facts["event_time"].dt.floor("h"),
    )[facts["event"] != "arrival"]
    made = counted.groupby(["origin", "window_start"], as_index=False).agg(
        departures=("departures", "sum"),
        cancelled=("cancelled", "sum"),
        mean_delay_minutes=("delay", "mean"),
        worst_delay_minutes=("delay", "max"),
        distinct_aircraft=("aircraft", "nunique"),
    )
    whole = {"worst_delay_minutes": made["worst_delay_minutes"].astype("Int64")}
    return made.assign(window_end=made["window_start"] + pd.Timedelta(hours=1), temp=39.0, **whole)


@pytest.fixture
def out(spark: SparkSession, tmp_path: Path) -> Path:
    """What the job leaves behind, of the year's first events: every twentieth arrival is late, one record is no event."""
    settings = Settings.load("local", out=str(tmp_path / "out"))
    create_tables(spark, settings)
    year = events().head(ROWS)
    now = pd.Timestamp("2026-01-01", tz="UTC")
    rows = year.assign(
        source=[{"topic": "flights", "partition": number % 2, "offset": number // 2, "timestamp": now} for number in range(ROWS)],
        event_date=year["event_time"].dt.date,
    )
    late = rows[rows["event"] == "arrival"].iloc[::20]
    facts = rows.drop(late.index)
    append(settings, "flight_events", facts)
    append(settings, "late_events", late.assign(batch_id=range(len(late)), watermark=late["event_time"] + pd.Timedelta(hours=2)))
    dead = {"topic": "flights", "partition": 0, "offset": ROWS // 2, "timestamp": now, "value": b"?", "reason": "malformed"}
    append(settings, "dead_letters", pd.DataFrame([dead]))
    append(settings, "hourly_departures", hours(facts))
    append(settings, "routes", facts.groupby(["origin", "dest", "carrier"], as_index=False).agg(departures=("event", "size")))
    return tmp_path / "out"


def test_it_is_committed_without_outputs() -> None:
    cells = [cell for cell in nbformat.read(NOTEBOOK, as_version=4).cells if cell.cell_type == "code"]
    assert cells, "no code"
    assert [cell.source for cell in cells if cell.outputs or cell.execution_count is not None] == []


def test_the_kernel_is_this_environments_python() -> None:
    spec = KernelSpecManager().get_kernel_spec("python3")
    assert Path(spec.resource_dir).is_relative_to(sys.prefix)
    assert spec.argv[0] in {"python", sys.executable}, "jupyter_client replaces 'python' by the running interpreter"


@pytest.mark.spark
def test_it_runs(out: Path, tmp_path: Path) -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = NotebookClient(notebook, kernel_name="python3", timeout=CELL_TIMEOUT_S, resources={"metadata": {"path": str(tmp_path)}})
    client.execute(env={**os.environ, "MILLRACE_FLIGHTS_OUT": str(out)})

    said = {cell.source: cell.outputs for cell in notebook.cells if cell.cell_type == "code"}
    assert result(said, "places.count()") == str(ROWS + 1)
    assert result(said, "exceptAll") == "0", "the stream's hours differ from those of the whole table"
    assert "image/png" in [kind for output in outputs(said, ".plot(") for kind in output.get("data", {})]
    assert result(said, "JOIN airlines").count("\n") > 1
    assert "'WRITE'" in result(said, "history")


def outputs(said: dict[str, list[Any]], part: str) -> list[Any]:
    [found] = [out for source, out in said.items() if part in source]
    return found


def result(said: dict[str, list[Any]], part: str) -> str:
    [text] = [output["data"]["text/plain"] for output in outputs(said, part) if output["output_type"] == "execute_result"]
    return str(text)
