"""Everything that docs/testing.md shows runs as it stands, in order, and prints what the page says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

pytestmark = pytest.mark.spark

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "testing.md").read_text()
BLOCK = re.compile(r"```python\n(.*?)```\n\n```\n(.*?)```", re.DOTALL)
# What a run says of itself: ids, times, durations, speeds, the folder.
OWN = (
    (re.compile(r'"(id|runId|timestamp)": "[^"]*"'), r'"\1": "-"'),
    (
        re.compile(
            r'"(\w*(?:Duration|PerSecond|addBatch|commitOffsets|getBatch|latestOffset|queryPlanning|triggerExecution|walCommit))": [\d.]+'
        ),
        r'"\1": 0',
    ),
    (re.compile(r"file:[^\]]*/crashed"), "file:crashed"),
    (re.compile(r"#\d+"), "#0"),
)


def general(text: str) -> str:
    for pattern, same in OWN:
        text = pattern.sub(same, text)
    return text.strip()


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
