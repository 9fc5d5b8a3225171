"""What all tests share: one Spark session, one broker, clean environments."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyspark import SparkContext
from pyspark.sql import SparkSession

from spark_ext.session import spark_session
from tests import dead_jvm

pytest_plugins = ["spark_ext.testing.plugin"]


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(dead_jvm)


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Iterator[SparkSession]:
    """The session every user gets, two cores wide and without its web page."""
    scratch = tmp_path_factory.mktemp("spark")
    conf = {
        "spark.ui.enabled": "false",
        "spark.sql.warehouse.dir": str(scratch / "warehouse"),
        "spark.driver.extraJavaOptions": dead_jvm.java_options(pytestconfig, scratch),
    }
    session = spark_session("tests", master="local[2]", conf=conf)
    yield session
    if not dead_jvm.has_ended():
        session.stop()


@pytest.fixture(scope="module", autouse=True)
def _little_is_left() -> Iterator[None]:
    """Free in the JVM what a module has made, so that a thousand tests fit into the memory of one session."""
    yield
    session = SparkSession.getActiveSession() if SparkContext._active_spark_context is not None and not dead_jvm.has_ended() else None
    if session is not None:
        session.catalog.clearCache()
        session._jvm.org.apache.spark.sql.delta.DeltaLog.clearCache()  # type: ignore[union-attr]  # it keeps 10,000 tables for an hour
        gc.collect()  # Python's handles are parts of cycles, and each holds a plan


@pytest.fixture
def checkpoint_path(tmp_path: Path) -> str:
    return str(tmp_path / "checkpoint")
