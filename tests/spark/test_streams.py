"""The streams API over real queries, a restart between any two batches, against plain Python by Kafka Streams' definitions."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from spark_ext.streams import StreamsBuilder
from tests.streams_apps import Script

pytestmark = pytest.mark.spark


def word_count(builder: StreamsBuilder, script: Script) -> None:
    words = builder.stream("lines", script.topic("lines")).flatMapValues(lambda v: F.split(v.t, " "))
    counts = words.groupBy(lambda k, word: word, name="by-word").count(store="counts", name="count")
    counts.toStream().to("counts")


def test_words_are_counted(spark: SparkSession, tmp_path: Path) -> None:
    script = Script(spark, tmp_path, word_count)
    batches = [["all streams lead to kafka", "hello kafka streams"], ["join kafka summit"], ["hello"]]
    seen: Counter[str] = Counter()
    updates: list[tuple[str, int]] = []
    for number, lines in enumerate(batches):
        script.feed("lines", [("k", line, 0, number) for line in lines])
        script.run()
        words = [word for line in lines for word in line.split()]
        seen.update(words)
        updates += [(word, seen[word]) for word in set(words)]
    assert script.store("counts") == seen
    assert Counter((key, value) for key, value, _ in script.records("counts")) == Counter(updates)
    assert script.app is not None
    assert script.app.store("counts").get("kafka") == 3
    assert script.app.store("counts").get("nobody") is None
