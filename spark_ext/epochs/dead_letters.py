"""Dead letters after a fix: which there are, and the same records once more through the same route.

A replay is an epoch of its own, of the pipeline ``<name>/replay``: with its own lease and transaction ids it may run beside the stream.
What it takes is written down before it runs, so that a crash in the middle is completed by the next replay with the same rows. Each letter
that came through is noted in the table ``<dead letters>_replayed``, a sink of that epoch, so that no later replay takes it again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

import pyarrow as pa
from deltalake import DeltaTable, write_deltalake
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from spark_ext.delta.arrow import read_arrow
from spark_ext.epochs.commit import Committer
from spark_ext.epochs.decoding import decode
from spark_ext.epochs.ledger import EpochRow, Ledger
from spark_ext.epochs.pipeline import Epoch, Pipeline, Route
from spark_ext.epochs.sinks import Append
from spark_ext.errors import EpochError, SettingsError
from spark_ext.ingest import Format, format_from_json
from spark_ext.paths import absolute, file_system
from spark_ext.queries import Batch
from spark_ext.queries.checkpoint import Checkpoint

__all__ = ["Reason", "Replayable", "reasons", "replay"]

SUFFIX: Final = "/replay"
MARKS: Final = "replayed"
PLACE: Final = ("topic", "partition", "offset")
MARKS_SCHEMA: Final = pa.schema([("topic", pa.string()), ("partition", pa.int32()), ("offset", pa.int64()), ("replay", pa.int64())])
BEFORE_ALL: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Reason:
    """Dead letters that died of the same.

    Attributes
    ----------
    reason, detail : str or None
        Why, and the field it is about.
    count, replayed : int
        How many there are, and how many of them a replay has brought in since.
    samples : sequence of (topic, partition, offset, value)
        The first few.
    """

    reason: str | None
    detail: str | None
    count: int
    replayed: int
    samples: Sequence[tuple[str, int, int, bytes | None]]


@dataclass(frozen=True, slots=True)
class Replayable:
    """What a replay needs of a job.

    Attributes
    ----------
    pipeline : Pipeline
        The job's; the sink that counts as ``dead`` has the letters.
    route : Route
        The job's; it gets the rows that the format now takes, with ``source``, ``dead`` and ``range`` as from the source.
    format : Format
        As it is after the fix.
    """

    pipeline: Pipeline
    route: Route
    format: Format


@dataclass(frozen=True, slots=True)
class _Plan:
    """What one replay takes; the same in every attempt at it."""

    number: int
    version: int
    where: str | None
    format: str


def reasons(path: str, *, samples: int = 3) -> list[Reason]:
    """Return what the letters of a table died of, the most frequent first; without Spark.

    Parameters
    ----------
    path : str
        Table with the columns of `spark_ext.ingest.tags.DEAD_LETTER_SCHEMA`.
    samples : int
        How many letters to show of each.

    State: places, reasons and values of all letters in memory.
    """
    table = DeltaTable(absolute(path))
    letters = read_arrow(table, columns=[*PLACE, "reason", "detail", "value"]).sort_by([(name, "ascending") for name in PLACE])
    done = set(_marked(absolute(path)))
    found: dict[tuple[str | None, str | None], list[Any]] = {}
    columns = [letters.column(name).to_pylist() for name in (*PLACE, "reason", "detail")]
    for row, (topic, partition, offset, reason, detail) in enumerate(zip(*columns, strict=True)):
        counts = found.setdefault((reason, detail), [0, 0, []])
        counts[0] += 1
        counts[1] += (topic, partition, offset) in done
        if len(counts[2]) < samples:
            counts[2].append((topic, partition, offset, letters.column("value")[row].as_py()))
    listed = [Reason(*of, *counts) for of, counts in found.items()]
    return sorted(listed, key=lambda one: (-one.count, one.reason or "", one.detail or ""))


def replay(spark: SparkSession, job: Replayable, *, where: str | None = None, now: datetime | None = None) -> list[EpochRow]:
    """Bring in the dead letters that the job's format takes by now.

    Guarantee: each letter comes in once, however often this is called and wherever it is cut off; those that are still bad stay what
    they were. No row counts as late: the watermark of the epoch is 1970. The ledger has it with `EpochRow.replay_of`.

    Parameters
    ----------
    job : Replayable
        Pipeline, route and format. At most one replay of a pipeline runs at a time: the lease of the last one counts.
    where : str, optional
        SQL over the columns of the table, such as ``"reason = 'bad_value'"``; all letters by default.

    Returns
    -------
    list of EpochRow
        Of this replay, and before it of one that had been cut off; none where nothing came in.

    Raises
    ------
    SettingsError
        The pipeline has no sink for dead letters, or more than one.
    EpochError
        A replay that was cut off cannot be completed, as what was written down about it is gone.

    Not supported: frames between source and route. What a job does there, a route must do here.
    """
    path, ledger = _letters(job.pipeline), Ledger(job.pipeline.ledger)
    name = job.pipeline.name + SUFFIX
    checkpoint = Checkpoint(job.pipeline.checkpoint.path, name, str(DeltaTable(path).metadata().id))
    write_deltalake(f"{path}_{MARKS}", MARKS_SCHEMA.empty_table(), mode="ignore")
    ledger.create()
    token = ledger.take_lease(name)
    done: list[EpochRow] = []
    for is_asked in (False, True):
        number = _next(ledger, checkpoint)
        known = _read_plan(path, number)
        if known is None:
            _check_unbegun(job.pipeline, checkpoint, number)
            if not is_asked:
                continue
            known = _Plan(number, DeltaTable(path).version(), where, job.format.to_json())
            _write_plan(path, known)
        row = _run(spark, job, known, path=path, checkpoint=checkpoint, ledger=ledger, token=token, now=now)
        done += [] if row is None else [row]
    return done


def _run(
    spark: SparkSession,
    job: Replayable,
    planned: _Plan,
    *,
    path: str,
    checkpoint: Checkpoint,
    ledger: Ledger,
    token: int,
    now: datetime | None,
) -> EpochRow | None:
    rows = decode(_selected(spark, planned, path), format_from_json(planned.format)).persist()
    try:
        if rows.isEmpty():
            _forget_plan(path, planned.number)
            return None
        sinks = {**job.pipeline.sinks, MARKS: Append(f"{path}_{MARKS}")}
        pipeline = replace(job.pipeline, checkpoint=checkpoint, sinks=sinks)

        def route(epoch: Epoch) -> Mapping[str, DataFrame]:
            marks = epoch.rows.select(*(f"source.{column}" for column in PLACE), F.lit(planned.number).cast("bigint").alias("replay"))
            return {**job.route(epoch), MARKS: marks}

        last = ledger.last(checkpoint.pipeline)
        committer = Committer(
            pipeline,
            route,
            ledger=ledger,
            token=token,
            first_epoch=0 if last is None else last.epoch + 1 - planned.number,
            planned=lambda _: [],
            replay_of=f"dead letters {json.dumps({'table': path, 'version': planned.version, 'where': planned.where})}",
            now=lambda: now or datetime.now(UTC),
        )
        committer(Batch(planned.number, rows, BEFORE_ALL, checkpoint.app_id))
        return ledger.last(checkpoint.pipeline)
    finally:
        rows.unpersist()


def _selected(spark: SparkSession, planned: _Plan, path: str) -> DataFrame:
    letters = spark.read.format("delta").option("versionAsOf", planned.version).load(path)
    wanted = letters if planned.where is None else letters.where(planned.where)
    marks = spark.read.format("delta").load(f"{path}_{MARKS}").where(F.col("replay") < planned.number)
    return wanted.join(marks, list(PLACE), "left_anti").dropDuplicates(list(PLACE))


def _letters(pipeline: Pipeline) -> str:
    found = [sink.path for sink in pipeline.sinks.values() if sink.counts_as == "dead"]
    if len(found) != 1 or MARKS in pipeline.sinks:
        expected, got = f"one sink that counts as dead, and none named {MARKS!r}", repr(list(pipeline.sinks))
        raise SettingsError("replay", "dead letters of", pipeline.name, expected=expected, got=got, todo="correct the sinks")
    return found[0]


def _next(ledger: Ledger, checkpoint: Checkpoint) -> int:
    done = ledger.table().transaction_version(checkpoint.app_id)
    return 0 if done is None else int(done) + 1


def _check_unbegun(pipeline: Pipeline, checkpoint: Checkpoint, number: int) -> None:
    for name, sink in pipeline.sinks.items():
        done = DeltaTable(sink.path).transaction_version(checkpoint.app_id) if DeltaTable.is_deltatable(sink.path) else None
        if done is not None and done >= number:
            raise EpochError(
                "replay",
                "dead letters of",
                pipeline.name,
                expected=f"_replays/{number}.json beside the letters, as sink {name!r} has rows of it",
                got="no such file",
                why="the replay was cut off, and it is not known which letters it took",
                todo="restore the file, or the sinks and the ledger to the epoch before: millrace rewind --help",
            )


def _plan_file(path: str, number: int) -> tuple[Any, str]:
    files, root = file_system(path)
    return files, f"{root}/_replays/{number}.json"  # a folder that readers and cleaners of the table pass over


def _read_plan(path: str, number: int) -> _Plan | None:
    files, file = _plan_file(path, number)
    try:
        with files.open_input_stream(file) as opened:
            return _Plan(**json.loads(opened.readall()))
    except (FileNotFoundError, ValueError):
        return None  # half of one: nothing had been written yet


def _write_plan(path: str, planned: _Plan) -> None:
    files, file = _plan_file(path, planned.number)
    files.create_dir(file.rpartition("/")[0], recursive=True)
    with files.open_output_stream(file) as opened:
        opened.write(json.dumps(asdict(planned)).encode())


def _forget_plan(path: str, number: int) -> None:
    files, file = _plan_file(path, number)
    files.delete_file(file)


def _marked(path: str) -> list[tuple[str, int, int]]:
    marks = f"{path}_{MARKS}"
    if not DeltaTable.is_deltatable(marks):
        return []
    rows = read_arrow(DeltaTable(marks), columns=list(PLACE))
    return list(zip(*(rows.column(name).to_pylist() for name in PLACE), strict=True))
