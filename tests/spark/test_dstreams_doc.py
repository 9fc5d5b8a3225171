"""Everything that docs/dstreams.md shows runs as it stands, in order, and prints what the page says; its picture is true."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from docs.dstreams.batches import BATCHES, HELD, streams
from spark_ext.dstream import StreamingContext

pytestmark = pytest.mark.spark

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "dstreams.md").read_text()
BLOCK = re.compile(r"```python\n(.*?)```(?:\n\n```\n(.*?)```)?", re.DOTALL)


def test_the_page_prints_what_it_shows(
    spark: SparkSession,  # the page's own call then gets this session
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    # Functions of the main program are sent to workers, as they are for who copies the page.
    names = {"__name__": "__main__"}
    blocks = BLOCK.findall(PAGE)
    assert blocks
    assert all(shown for _, shown in blocks)
    for code, shown in blocks:
        exec(compile(code, "docs/dstreams.md", "exec", dont_inherit=True), names)  # noqa: S102 (our own file)
        assert capsys.readouterr().out.strip() == shown.strip(), code
    assert spark.range(1).count() == 1, "the page does not stop the session"


def test_the_picture_shows_what_the_streams_hold(spark: SparkSession, tmp_path: Path) -> None:
    ssc = StreamingContext(spark.sparkContext, 1, pace="asap")
    ssc.checkpoint(str(tmp_path))
    found: dict[str, dict[int, list[Any]]] = {name: {} for name in HELD}
    times: list[Any] = []
    for name, stream in streams(ssc).items():

        def take(time: Any, rdd: Any, to: dict[int, list[Any]] = found[name]) -> None:
            if time not in times:
                times.append(time)
            to[times.index(time)] = sorted(rdd.collect())

        stream.foreachRDD(take)
    ssc.start()
    try:
        assert ssc.awaitBatches(len(BATCHES), 120)
    finally:
        ssc.stop(False)
    assert {name: [held.get(n) for n in range(len(BATCHES))] for name, held in found.items()} == HELD
