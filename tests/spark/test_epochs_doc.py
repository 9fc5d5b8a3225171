"""The examples of the page on epochs run as they stand and print what it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

pytestmark = pytest.mark.spark
PAGE = (Path(__file__).resolve().parents[2] / "docs" / "epochs.md").read_text()


@pytest.mark.parametrize("example", [0, 1])
def test_the_example_prints_what_the_page_shows(
    spark: SparkSession,  # the example's own call then gets this session
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    example: int,
) -> None:
    examples = re.findall(r"```python\n(.*?)```\n\n```\n(.*?)```", PAGE, re.DOTALL)
    assert len(examples) == 2
    code, shown = examples[example]
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "docs/epochs.md", "exec"), {"__name__": "page"})  # noqa: S102 (our own file)
    assert capsys.readouterr().out.strip() == shown.strip()
    assert spark.range(1).count() == 1
