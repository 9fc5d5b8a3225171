"""Everything that docs/joins.md shows runs as it stands, in order, and prints what the page says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pyspark.sql import SparkSession
from typer.testing import CliRunner

from spark_ext.ops.cli import app

pytestmark = pytest.mark.spark

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "joins.md").read_text()
BLOCK = re.compile(r"```python\n(.*?)```(?:\n\n```\n(.*?)```)?", re.DOTALL)
COMMAND = re.compile(r"```\nmillrace (state show .*?)\n(.*?)```", re.DOTALL)
SIZES = re.compile(r"(│ (?:bytes|skew) +│ )[\d,.]+ +│")  # how well a blob is packed is not the page's business
MOST_LINES = 20


@pytest.mark.timeout(900)
def test_the_page_prints_what_it_shows(
    spark: SparkSession,  # the page's own call then gets this session
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    # Classes and functions of the main program are sent to workers, as they are for who copies the page.
    names = {"__name__": "__main__"}
    blocks = BLOCK.findall(PAGE)
    assert len(blocks) == sum(bool(shown) for _, shown in blocks) == 20
    for code, shown in blocks:
        assert len(shown.splitlines()) <= MOST_LINES
        exec(compile(code, "docs/joins.md", "exec", dont_inherit=True), names)  # noqa: S102 (our own file)
        assert capsys.readouterr().out.strip() == shown.strip(), code
    ((command, shown),) = COMMAND.findall(PAGE)
    printed = CliRunner().invoke(app, command.split())
    assert printed.exit_code == 0, printed.output
    assert SIZES.sub(r"\1", shown).strip() in SIZES.sub(r"\1", printed.output)
    assert spark.range(1).count() == 1, "the page does not stop the session"
