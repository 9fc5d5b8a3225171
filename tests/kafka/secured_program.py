"""Reads a secured broker with secrets from the environment and files, and writes down all that shows what it does.

Run as ``python secured_program.py <settings.json> <folder>``.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from spark_ext import kafka
from spark_ext.session import spark_session


def main(given: dict[str, Any], out: Path) -> None:
    conf = {
        "spark.ui.enabled": "false",
        "spark.redaction.regex": "(?!)",  # Spark hides nothing: a secret would be seen
        "spark.sql.warehouse.dir": str(out / "warehouse"),
        "spark.eventLog.enabled": "true",
        "spark.eventLog.dir": out.as_uri(),
        "spark.eventLog.compress": "false",
    }
    spark = spark_session("secured", master="local[2]", conf=conf)
    spark.sparkContext.setLogLevel("INFO")
    report: dict[str, Any] = {"rows": {}, "plans": {}, "progress": {}, "refused": {}, "processes": [], "environments": []}

    def look_around() -> None:
        me = psutil.Process()
        for one in (me, *me.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                report["processes"].append(one.cmdline())
                report["environments"].append({name: text for name, text in one.environ().items() if name not in given["referenced"]})

    for name, arguments in given["reads"].items():
        batch = kafka.read(spark, **arguments, streaming=False)
        rows = {"batch": [_plain(row) for row in batch.collect()], "stream": []}

        def take(frame: Any, _: int, into: list[Any] = rows["stream"]) -> None:
            into += [_plain(row) for row in frame.collect()]
            look_around()

        stream = kafka.read(spark, **arguments)
        writer = stream.writeStream.foreachBatch(take).option("checkpointLocation", str(out / "checkpoints" / name))
        query = writer.trigger(availableNow=True).start()
        query.awaitTermination()
        report["rows"][name] = rows
        plans = [lambda: batch.explain("extended"), lambda: stream.explain("extended"), lambda: query.explain(extended=True)]  # noqa: B023
        report["plans"][name] = [_printed(plan) for plan in plans]
        report["progress"][name] = [one.json for one in query.recentProgress]
    for name, arguments in given["refused"].items():
        try:
            kafka.read(spark, **arguments, streaming=False).collect()
        except Exception as error:  # noqa: BLE001 (all that is said)
            report["refused"][name] = [str(error), repr(error), traceback.format_exc()]
    report["conf"] = [spark.sparkContext.getConf().getAll(), spark.conf.getAll, [list(row) for row in spark.sql("SET -v").collect()]]
    report["jvm"] = str(spark.sparkContext._jvm.java.lang.System.getProperties())
    spark.stop()
    (out / "report.json").write_text(json.dumps(report), encoding="utf-8")


def _plain(row: Any) -> list[Any]:
    return [row.topic, row.partition, row.offset, bytes(row.key).decode(), bytes(row.value).decode()]


def _printed(plan: Callable[[], None]) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as text:
        plan()
    return text.getvalue()


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")), Path(sys.argv[2]))
