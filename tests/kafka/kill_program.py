"""A query for tests to kill: topics into two Delta tables, batch by batch, with limits that change under way.

Run as ``python kill_program.py <settings as JSON>``. ``records`` gets one row for each record, good or dead; ``accounts`` what
became of each range. Nothing is persisted: each table has its rows from a read of its own.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from pyspark.sql import functions as F
from pyspark.sql.types import LongType, StringType, StructField, StructType

from spark_ext import kafka
from spark_ext.delta import Txn, append
from spark_ext.ingest import JsonFormat, accounts
from spark_ext.queries import Batch, Checkpoint, run, start
from spark_ext.session import spark_session

__all__ = ["FORMAT", "Settings"]

FORMAT = JsonFormat(StructType([StructField("n", LongType(), False), StructField("pad", StringType())]))


@dataclass(frozen=True)
class Settings:
    """What the program does.

    Attributes
    ----------
    servers, topics : addresses and topics separated by commas
    out : folder of the tables and the checkpoint
    seed, most : for the limits, which are drawn anew for each batch: so many offsets at most
    every : time between two batches, or None to end with what is there now
    die : the step of `write` before which the JVM ("records:jvm", "accounts:jvm", "commit:jvm") or the driver's Python
        ("records:driver" and so on) is killed, in the second batch of this run
    fetcher : as for `kafka.read`
    """

    servers: str
    topics: str
    out: str
    seed: int
    most: int
    every: str | None = None
    die: str | None = None
    fetcher: str = "auto"

    @property
    def command(self) -> list[str]:
        """The line that runs the program."""
        return [sys.executable, __file__, json.dumps(asdict(self))]


def main(settings: Settings) -> None:
    """Run the query until it ends or is killed."""
    conf = {
        "spark.ui.enabled": "false",
        "spark.sql.warehouse.dir": f"{settings.out}/warehouse",
        "spark.local.dir": tempfile.gettempdir(),
        # It does not live long enough for more of a compiler, and cannot clean up behind itself.
        "spark.driver.extraJavaOptions": f"-XX:TieredStopAtLevel=1 -Djava.io.tmpdir={tempfile.gettempdir()}",
    }
    spark = spark_session("kills", master="local[2,4]", conf=conf)
    dice = random.Random(settings.seed)  # noqa: S311 (a test's moments are no secrets)
    limits = kafka.ReadLimits(max_offsets_per_trigger=dice.randint(settings.most // 5, settings.most))
    topics = settings.topics.split(",")
    frame = kafka.read(
        spark,
        bootstrap_servers=settings.servers,
        topics=topics,
        format=FORMAT,
        limits=limits,
        fetcher=settings.fetcher,
        options={"max_rows_per_block": "70", "tasks": "3", "min_offsets_per_task": "200"},
    )
    sources = kafka.identify(spark, bootstrap_servers=settings.servers, topics=topics)
    checkpoint = Checkpoint.claim(f"{settings.out}/checkpoint", pipeline="kills", sources=sources)
    written = 0

    def die_before(step: str) -> None:
        if settings.die in (f"{step}:jvm", f"{step}:driver") and written == 1:
            jvm = spark.sparkContext._jvm
            assert jvm is not None
            os.kill(jvm.java.lang.ProcessHandle.current().pid() if settings.die.endswith("jvm") else os.getpid(), signal.SIGKILL)

    def write(batch: Batch) -> None:
        nonlocal written
        number = F.lit(batch.batch_id).cast("bigint").alias("batch_id")
        place = [F.col(f"source.{name}") for name in ("topic", "partition", "offset")]
        records = batch.rows.where("range IS NULL").select(*place, "n", "pad", "dead.reason", "dead.value", number)
        frames = {"records": records, "accounts": accounts(batch.rows).select("*", number)}
        for name, rows in frames.items():
            die_before(name)
            append(rows, str(Path(settings.out, name)), txn=Txn(batch.app_id, batch.batch_id))
        die_before("commit")
        written += 1
        limits.set(max_offsets_per_trigger=dice.randint(settings.most // 5, settings.most))

    run([start(frame, write, checkpoint=checkpoint, every=settings.every)])
    spark.stop()


if __name__ == "__main__":
    main(Settings(**json.loads(sys.argv[1])))
