"""Run a script: feed, crash, start again, look."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from pyspark.errors import StreamingQueryException
from pyspark.sql import SparkSession

from spark_ext.paths import absolute
from spark_ext.queries import Query
from spark_ext.testing.clock import Clock
from spark_ext.testing.crashes import Watch
from spark_ext.testing.result import JobUnderTest, Result, ledger_facts, read_ledger, read_tables
from spark_ext.testing.steps import INPUT, At, Check, Crash, CrashInOperator, Restart, Rows, ScriptError, Start, Step, Stop
from spark_ext.testing.stream import Folder

__all__ = ["run_script"]

STOP_S: Final = 60.0
PROGRESS: Final = ("name", "batchId", "numInputRows", "eventTime", "stateOperators")  # the rest is about time


def run_script(spark: SparkSession, job: JobUnderTest, steps: Sequence[Step], folder: str | Path) -> Result:
    """Run a job through a script and return what it left behind.

    Guarantee: each `Rows` is one micro-batch; after a crash the job is started again, with the same folder, until the batch is
    through. Two runs of the same steps see the same batches, whatever crashed.

    Parameters
    ----------
    spark : SparkSession
        Used for every start; a crash here ends the query, not the JVM. For that see `kill_cycles`.
    job : JobUnderTest
        What to run.
    steps : sequence of Step
        The script. A job that is stopped at its end is started, so that it reads what is left.
    folder : str or Path
        New or empty; a folder for each run.

    Raises
    ------
    ScriptError
        A crash did not happen, or the job caught it; the query ended by itself; the folder is not empty.
    QueryError
        The job failed, and not because of the script.
    """
    return _Run(spark, job, steps, Path(folder).resolve()).whole()


class _Run:
    def __init__(self, spark: SparkSession, job: JobUnderTest, steps: Sequence[Step], folder: Path) -> None:
        if folder.exists() and any(folder.iterdir()):
            raise ScriptError("run", "script in", str(folder), expected="a new folder", got="files in it", todo="give each run its own")
        self.spark, self.job, self.steps = spark, job, list(steps)
        self.folder = Folder(folder, job.schema)
        self.watch = Watch(folder)
        self.clock = Clock.of(folder)
        self.query: Query | None = None
        self.last: Query | None = None
        self.missed: list[Crash | CrashInOperator] = []
        names = {step.at for step in self.steps if isinstance(step, CrashInOperator)}
        self.is_crashing = INPUT in names

    def whole(self) -> Result:
        with self.watch.watching():
            try:
                self.start()
                for step in self.steps:
                    self.do(step)
                self.start()
                self.settle()
            finally:
                self.stop()
        return self.result()

    def do(self, step: Step) -> None:
        match step:
            case Rows(rows):
                self.folder.write(rows)
                if self.query is not None:
                    self.settle()
            case Crash() | CrashInOperator():
                self.watch.arm(step)
            case At(time):
                self.clock.set(time)
            case Check(look):
                look(self.result())
            case Stop():
                self.stop()
            case Start():
                self.start()
                self.settle()
            case Restart():
                self.stop()
                self.start()

    def start(self) -> None:
        if self.query is None:
            self.watch.started()
            stream = self.folder.stream(self.spark, crashing=self.is_crashing)
            self.query = self.last = self.job.build(self.spark, stream, self.folder.path)

    def stop(self) -> None:
        if self.query is not None:
            self.query.stop(timeout_s=STOP_S)
            self.query = None

    def settle(self) -> None:
        """Wait until all that is there has been worked on, through all crashes."""
        while True:
            assert self.query is not None, "called of a job that runs"  # noqa: S101
            try:
                self.query.spark_query.processAllAvailable()
            except StreamingQueryException as error:
                self.watch.check_death(is_active=self.query.is_active())
                if not self.watch.has_crashed(error=str(error)):
                    self.query.await_end()  # raises it, with what to do
                self.query = None
                self.start()
                continue
            self.watch.check_death(is_active=True)
            if not self.query.is_active():
                raise ScriptError(
                    "run",
                    "query",
                    self.query.name,
                    expected="one that goes on until it is stopped",
                    got="one that ended by itself",
                    todo='let `build` start it with every="0 seconds"',
                )
            break
        self.note_missed()

    def note_missed(self) -> None:
        missed = self.watch.settled()
        self.missed += missed
        for step in missed:
            if not step.optional:
                raise ScriptError(
                    "crash",
                    "batch behind step",
                    repr(step),
                    expected="a batch that comes there",
                    got="points " + ", ".join(sorted({point for one in self.watch.attempts[-1:] for point, _ in one.reached})),
                    todo="correct the point, or say optional=True",
                )

    def result(self) -> Result:
        path = self.folder.path
        ledger = read_ledger(self.job, path)
        compared = {absolute(path / table) for table in self.job.tables.values()}
        spark_query = self.last.spark_query if self.last is not None else None
        progress = spark_query.lastProgress if spark_query is not None else None
        return Result(
            job=self.job,
            steps=self.steps,
            folder=path,
            tables=read_tables(self.job, path),
            ledger=ledger,
            facts=ledger_facts(ledger, compared=compared),
            attempts=list(self.watch.attempts),
            hits=list(self.watch.hits),
            missed=list(self.missed),
            starts=self.watch.run,
            offsets=" ".join(str(one["endOffset"]) for one in progress["sources"]) if progress else "",
            progress=json.dumps({name: value for name, value in json.loads(progress.json).items() if name in PROGRESS}) if progress else "",
            plan=str(spark_query._jsq.explainInternal(False)) if spark_query is not None else "",  # noqa: SLF001 (else it is printed)
        )
