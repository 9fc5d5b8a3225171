"""`textFileStream` and `binaryRecordsStream`: the new files of a folder."""

from __future__ import annotations

import logging
import math
from abc import abstractmethod
from typing import Any, Final

import pyarrow as pa
from py4j.protocol import Py4JJavaError
from pyspark import SparkContext
from pyspark.sql import SparkSession

from spark_ext.dstream.batch import Batch
from spark_ext.dstream.errors import StreamArgumentError
from spark_ext.dstream.graph import InputNode
from spark_ext.dstream.inputs.arrow import reading_session, value_rows
from spark_ext.dstream.inputs.listing import File, escaped, files_in, folders, next_plan
from spark_ext.dstream.rows import Rows, nothing
from spark_ext.errors import StateError

__all__ = ["RecordsInput", "TextInput"]

REMEMBER: Final = "spark.streaming.fileStream.minRememberDuration"

_log = logging.getLogger(__name__)


class FilesInput(InputNode):
    """Plans: see `next_plan`. A batch gets the files that are there when it is planned and have not changed after its time.

    Parameters
    ----------
    directory : str
        Folder, URI, or a glob pattern of folders, as Hadoop reads it.
    since_ms : int
        Files must have changed after it: when the stream was made.
    """

    def __init__(self, context: SparkContext, directory: str, slide_ms: int, *, since_ms: int) -> None:
        super().__init__(slide_ms)
        self._context = context
        self._directory = directory
        self._since_ms = since_ms
        self._remember_ms = _remember_ms(context, slide_ms)
        self._session: SparkSession | None = None
        self._made: dict[str, Any] | None = None

    def plan(self, planned: Any | None, time_ms: int) -> dict[str, Any]:
        self._made = self._next(planned, time_ms)
        return self._made

    def has_news(self, planned: Any | None) -> bool:
        until_ms = 2**62 if planned is None else planned["until"] + self.slide_ms
        return bool(self._next(planned, until_ms)["files"])

    def row_count(self, planned: Any) -> int:
        """Return 0, as Spark does: nobody has counted."""
        return 0

    def describe(self, planned: Any) -> dict[str, Any]:
        paths = [path for path, *_ in planned["files"]] if planned else []
        return {"files": paths, "Description": "\n".join(paths)}

    def compute(self, batch: Batch) -> Rows:
        planned = batch.plan.inputs[self.name]
        files = [File(*file) for file in planned["files"]]
        if not files:
            return nothing(batch.context, 0)
        if planned is not self._made:
            self._check(files)
        if self._session is None:
            self._session = reading_session(batch.context)
        return self._read(self._session, escaped(file.path for file in files))

    @abstractmethod
    def _read(self, session: SparkSession, paths: str) -> Rows:
        """Return the rows of files, their paths as Hadoop's input formats take them."""

    def _next(self, planned: dict[str, Any] | None, until_ms: int) -> dict[str, Any]:
        try:
            listed = files_in(self._context, folders(self._context, self._directory))
        except Py4JJavaError as error:  # a file system may be away for a while; Spark goes on as well
            _log.warning("cannot list the files of stream %r now, a later batch will: %s", self.name, error.java_exception)
            listed = []
        return next_plan(listed, planned, since_ms=self._since_ms, until_ms=until_ms, remember_ms=self._remember_ms)

    def _check(self, files: list[File]) -> None:
        """Refuse a batch that is tried again and would not read what it was planned to read."""
        there = {file.path: file for file in files_in(self._context, sorted({file.path.rpartition("/")[0] for file in files}))}
        for file in files:
            now = there.get(file.path)
            if now != file:
                raise StateError(
                    "read again",
                    "file",
                    file.path,
                    expected=f"{file.size} bytes, changed at {file.changed_ms} ms",
                    got=f"{now.size} bytes, changed at {now.changed_ms} ms" if now else "no file",
                    why=f"a batch of stream {self.name!r} was planned with it",
                    todo="put it back as it was, with its time, or start with another checkpoint",
                )


class TextInput(FilesInput):
    """Lines, as Spark's `textFile` cuts and decodes them; one partition per file and block of a file."""

    kind = "textFileStream"

    def _read(self, session: SparkSession, paths: str) -> Rows:
        return value_rows(session, session.sparkContext._jsc.textFile(paths, 1), pa.string())  # noqa: SLF001 (PySpark's text is lines)


class RecordsInput(FilesInput):
    """Records of `length` bytes each, one after the other."""

    kind = "binaryRecordsStream"

    def __init__(self, context: SparkContext, directory: str, slide_ms: int, *, since_ms: int, length: int) -> None:
        if length <= 0:
            raise StreamArgumentError(
                "make", "stream of", directory, expected="recordLength above 0", got=repr(length), todo="give the bytes of one record"
            )
        super().__init__(context, directory, slide_ms, since_ms=since_ms)
        self._length = length

    def plan(self, planned: Any | None, time_ms: int) -> dict[str, Any]:
        """Refuse a file with half a record before it is planned, so that it can be taken away."""
        plan = super().plan(planned, time_ms)
        for path, size, _ in plan["files"]:
            if size % self._length:
                raise StateError(
                    "read",
                    "file",
                    path,
                    expected=f"a multiple of {self._length} bytes",
                    got=f"{size} bytes",
                    why="its last record would be cut off",
                    todo="take the file away or complete it, then start again from the checkpoint",
                )
        return plan

    def _read(self, session: SparkSession, paths: str) -> Rows:
        records = session.sparkContext._jsc.binaryRecords(paths, self._length)  # noqa: SLF001 (PySpark's gives records one by one)
        return value_rows(session, records, pa.binary())


def _remember_ms(context: SparkContext, slide_ms: int) -> int:
    conf = context._jsc.sc().conf()  # noqa: SLF001 (reads times as Spark does)
    seconds: int = conf.getTimeAsSeconds(REMEMBER, conf.get("spark.streaming.minRememberDuration", "60s"))
    return math.ceil(seconds * 1000 / slide_ms) * slide_ms
