"""What all tests share: one Spark session, one broker, clean environments."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from spark_ext.session import spark_session

pytest_plugins = ["spark_ext.testing.plugin"]


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    """The session every user gets, two cores wide and without its web page."""
    scratch = tmp_path_factory.mktemp("spark")
    session = spark_session(
        "tests", master="local[2]", conf={"spark.ui.enabled": "false", "spark.sql.warehouse.dir": str(scratch / "warehouse")}
    )
    yield session
    session.stop()


@pytest.fixture
def checkpoint_path(tmp_path: Path) -> str:
    return str(tmp_path / "checkpoint")
