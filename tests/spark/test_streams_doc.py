"""The examples of the page on streams run as they stand and print what it says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

pytestmark = pytest.mark.spark
PAGE = (Path(__file__).resolve().parents[2] / "docs" / "streams.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```\n\n```\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture(scope="module")
def space() -> dict[str, Any]:
    """Names of the page: the second example goes on where the first ends."""
    return {"__name__": "page"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("streams")


@pytest.mark.parametrize(("code", "shown"), EXAMPLES, ids=range(len(EXAMPLES)))
def test_the_example_prints_what_the_page_shows(
    spark: SparkSession,  # the example's own call then gets this session
    folder: Path,
    space: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    code: str,
    shown: str,
) -> None:
    monkeypatch.chdir(folder)
    exec(compile(code, "docs/streams.md", "exec"), space)  # noqa: S102 (our own file)
    assert capsys.readouterr().out.strip() == shown.strip()
    assert spark.range(1).count() == 1
