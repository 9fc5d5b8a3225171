"""Everything that docs/testing.md shows runs as it stands, in order, and prints what the page says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

pytestmark = pytest.mark.spark

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "testing.md").read_text()
BLOCK = re.compile(r"```python\n(.*?)```\n\n```\n(.*?)```", re.DOTALL)


def general(text: str) -> str:
    """The text without the numbers that Spark gives to columns, and without the place of the files, which it cuts off if it is long."""
    return re.sub(r"#\d+", "#0", re.sub(r"Location: .*?, PartitionFilters", "Location: -, PartitionFilters", text)).strip()


def test_the_page_prints_what_it_shows(
    spark: SparkSession,  # the page's own call then gets this session
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "__main__"}
    blocks = BLOCK.findall(PAGE)
    assert len(blocks) == 2
    for code, shown in blocks:
        exec(compile(code, "docs/testing.md", "exec", dont_inherit=True), names)  # noqa: S102 (our own file)
        assert general(capsys.readouterr().out) == general(shown), code
    assert spark.range(1).count() == 1, "the page does not stop the session"
