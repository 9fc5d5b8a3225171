"""The examples of the page on sketch tables run as they stand and print what it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

pytestmark = pytest.mark.spark
PAGE = (Path(__file__).resolve().parents[2] / "docs" / "sketch-tables.md").read_text()


EXAMPLES = re.findall(r"```python\n(.*?)```\n\n```\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize(("code", "shown"), EXAMPLES, ids=range(len(EXAMPLES)))
def test_the_example_prints_what_the_page_shows(
    spark: SparkSession,  # the example's own call then gets this session
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    code: str,
    shown: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "docs/sketch-tables.md", "exec"), {"__name__": "page"})  # noqa: S102 (our own file)
    assert capsys.readouterr().out.strip() == shown.strip()
    assert spark.range(1).count() == 1
