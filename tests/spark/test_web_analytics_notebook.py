"""The notebook of the web analytics job runs from top to bottom on small tables, and is committed without outputs."""

from __future__ import annotations

import ast
import os
from pathlib import Path
from typing import Any

import nbformat
import pytest
from deltalake import write_deltalake
from nbclient import NotebookClient
from pyspark.sql import SparkSession

from jobs.web_analytics import pipeline, tables
from jobs.web_analytics.settings import Settings
from jobs.web_analytics.site import page_changes
from jobs.web_analytics.visits import Traffic, visits
from tests.web_analytics_tables import as_rows, sketch_tables

NOTEBOOK = Path(__file__).resolve().parents[2] / "notebooks" / "web_analytics.ipynb"
TRAFFIC = Traffic(visits=6_000)
CELL_TIMEOUT_S = 200
PLOTS = 5


@pytest.fixture
def out(spark: SparkSession, tmp_path: Path) -> Path:
    """What the job leaves behind, of few visits, none of them late."""
    settings = Settings.load("local", out=str(tmp_path / "out"))
    tables.create_tables(spark, settings)
    rows = as_rows(spark, visits(TRAFFIC))
    closed = pipeline.sessions(pipeline.by_session(rows)).persist()
    sketch_tables([rows], closed, Path(settings.out))
    write_deltalake(settings.table("visits"), rows.toArrow(), mode="append", schema_mode="merge")
    write_deltalake(settings.table("sessions"), closed.toArrow(), mode="append")
    versions = page_changes(TRAFFIC.day, seed=TRAFFIC.seed).sort_values(["page", "changed_at"], ignore_index=True)
    until = versions.groupby("page")["changed_at"].shift(-1)
    history = versions.assign(valid_from=versions["changed_at"], valid_to=until, is_current=until.isna())
    for name in ("changed_at", "valid_from", "valid_to"):
        history[name] = history[name].dt.as_unit("us")
    write_deltalake(settings.table("pages"), history)
    return Path(settings.out)


def test_it_is_committed_without_outputs() -> None:
    cells = [cell for cell in nbformat.read(NOTEBOOK, as_version=4).cells if cell.cell_type == "code"]
    assert cells, "no code"
    assert [cell.source for cell in cells if cell.outputs or cell.execution_count is not None] == []


@pytest.mark.spark
def test_it_runs(out: Path, tmp_path: Path) -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = NotebookClient(notebook, kernel_name="python3", timeout=CELL_TIMEOUT_S, resources={"metadata": {"path": str(tmp_path)}})
    client.execute(env={**os.environ, "MILLRACE_WEB_OUT": str(out)})

    said = {cell.source: cell.outputs for cell in notebook.cells if cell.cell_type == "code"}
    drawn = [output for outputs in said.values() for output in outputs if "image/png" in output.get("data", {})]
    assert len(drawn) == PLOTS
    hours = ast.literal_eval(result(said, '"hours": len'))
    assert hours["hours"] >= 24
    assert hours["outside"] <= 5
    popular = ast.literal_eval(result(said, '"asked": len'))
    assert popular["asked"] > 0
    assert popular["outside"] == 0
    assert ast.literal_eval(result(said, "without a title")) == {
        "without a title": 0,
        "views": TRAFFIC.visits,
        "of another section": 0,
    }
    assert result(said, "hot_now(minutes").count("\n") == 10
    assert "True" in result(said, "guaranteed").split(), "the first of a list is certain"


def result(said: dict[str, list[Any]], part: str) -> str:
    [outputs] = [outputs for source, outputs in said.items() if part in source]
    [text] = [output["data"]["text/plain"] for output in outputs if output["output_type"] == "execute_result"]
    return str(text)
