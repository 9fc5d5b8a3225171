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


def test_the_examples_print_what_the_page_shows(
    spark: SparkSession,  # the examples' own calls then get this session
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert len(EXAMPLES) == 2
    names: dict[str, Any] = {"__name__": "page"}  # the second example goes on where the first ends
    for code, shown in EXAMPLES:
        exec(compile(code, "docs/streams.md", "exec"), names)  # noqa: S102 (our own file)
        assert capsys.readouterr().out.strip() == shown.strip(), code
    assert spark.range(1).count() == 1, "the page does not stop the session"
