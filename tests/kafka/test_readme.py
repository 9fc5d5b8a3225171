"""The README's example runs as it stands and prints what it says; its commands exist."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from spark_ext.broker import Broker
from spark_ext.errors import CheckpointMismatchError
from tests.kafka_topics import produce

pytestmark = [pytest.mark.kafka, pytest.mark.spark]

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
INGEST = (ROOT / "docs" / "ingest.md").read_text()


def test_the_example_prints_what_the_readme_shows(
    spark: SparkSession,  # the example's own call then gets this session
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, shown = re.findall(r"```python\n(.*?)```\n\n```\n(.*?)```", README, re.DOTALL)[0]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # a broker keeps its folder when the program fails
    program = compile(code, "README.md", "exec")
    exec(program, {"__name__": "readme"})  # noqa: S102 (our own file)
    assert capsys.readouterr().out.strip() == shown.strip()
    assert spark.range(1).count() == 1
    with pytest.raises(CheckpointMismatchError, match=r"expected sources \['kafka topic clicks .*a topic that is made anew is another one"):
        exec(program, {"__name__": "readme"})  # noqa: S102
    assert capsys.readouterr().out == "", "no table of the first run is shown as if it were the second's"


def test_the_two_commands_are_targets() -> None:
    makefile = (Path(__file__).resolve().parents[2] / "Makefile").read_text()
    for target in re.findall(r"\bmake ([a-z-]+)`?", README):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_the_example_of_the_ingest_page_splits_good_from_bad(spark: SparkSession, broker: Broker) -> None:
    code = re.findall(r"```python\n(.*?)```", INGEST, re.DOTALL)[0]
    names: dict[str, Any] = {}
    exec(compile(code, "docs/ingest.md", "exec"), names)  # noqa: S102 (our own file)
    broker.create_topic("orders")
    lines = ['{"id":"a","at":"2026-01-01T09:00:00Z","price":1.5}', '{"id":"b","at":"2026-01-01T09:00:00Z","price":-1}', "{"]
    produce(broker, "orders", [line.encode() for line in lines])
    frame = names["orders"](spark, broker.bootstrap_servers, streaming=False)
    good, bad = names["split"](frame)
    assert [row.id for row in good.collect()] == ["a"]
    assert [row.dead.reason for row in bad.orderBy("source.offset").collect()] == ["negative", "malformed"]
    account = names["accounts"](frame).first()
    assert (account.end - account.start, account.read, account.decoded, account.dead, account.lost) == (3, 3, 1, 2, 0)
