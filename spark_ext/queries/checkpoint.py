"""Whose a checkpoint is, and what it says about a batch.

Layout below the checkpoint's path: ``identity.json`` (ours) and ``spark/`` (Spark's own, which must start empty).
"""

from __future__ import annotations

import json
import os
import shlex
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from pyarrow import fs

from spark_ext.errors import CheckpointMismatchError
from spark_ext.paths import absolute, file_system, write_whole

__all__ = ["BatchRecord", "Checkpoint"]

LAYOUT: Final = 1
WHY: Final = {
    "layout": "another release made it",
    "pipeline": "it holds that one's progress",
    "sources": "it holds the progress in those, and a topic that is made anew is another one",
}
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
ANY: Final = "those of the next claim"
REWIND: Final = (
    "; if it is the same job, begin anew in this one: millrace rewind {pipeline} --checkpoint {path} --ledger <path> --to earliest"
)
LOG_VERSION: Final = "v1"
NO_OFFSET: Final = "-"


@dataclass(frozen=True, slots=True)
class BatchRecord:
    """What Spark wrote down about a batch before it ran it; the same at every replay.

    Attributes
    ----------
    watermark : datetime
        Event time up to which input counts as complete, as of the start of the batch; 1970 before any row.
    sources : tuple of str or None
        Where the batch ends in each source, as that source writes it down; None for one that has given nothing yet.
    planned_at : datetime or None
        When Spark planned the batch, by its clock; None if the log does not say.
    """

    watermark: datetime
    sources: tuple[str | None, ...] = ()
    planned_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint that has been claimed by one pipeline.

    Attributes
    ----------
    path : str
        Folder or URI that holds ``identity.json`` and ``spark/``.
    pipeline : str
        Name of the pipeline that owns it.
    checkpoint_id : str
        Random name given when it was made.
    """

    path: str
    pipeline: str
    checkpoint_id: str

    @classmethod
    def claim(cls, path: str, *, pipeline: str, sources: Sequence[str]) -> Checkpoint:
        """Open the checkpoint at `path` for a pipeline, or make it.

        Guarantee: one checkpoint serves one pipeline with one set of sources for ever. On a local file system this
        holds as well when several processes claim it at once; an object store keeps the last writer.

        Parameters
        ----------
        path : str
            Local folder or a URI that pyarrow can open.
        pipeline : str
            Name of the pipeline, such as ``"flights/events"``.
        sources : sequence of str
            What it reads; for Kafka the names that `kafka.identify` gives.

        Raises
        ------
        CheckpointMismatchError
            It belongs to another pipeline or other sources, was not made by Millrace, or its ``identity.json`` is damaged.
        """
        path = absolute(path)
        files, root = file_system(path)
        identity = f"{root}/identity.json"
        wanted = {"layout": LAYOUT, "pipeline": pipeline, "sources": sorted(sources)}
        has_spark = _exists(files, f"{root}/spark")  # asked first: who made it meanwhile has made the identity before
        if not _exists(files, identity):
            if has_spark:
                raise _mismatch(path, expected="identity.json beside spark/", got="none", why="another program made it")
            try:
                files.create_dir(root, recursive=True)
            except (FileExistsError, NotADirectoryError) as error:
                raise _mismatch(path, expected="a folder, or room for one", got=str(error), why="a file is in the way") from error
            _write_once(files, identity, json.dumps({**wanted, "checkpoint_id": uuid.uuid4().hex}, indent=1).encode())
        found = _read_identity(files, identity)
        if found.get("sources") == ANY and found.get("pipeline") == pipeline:
            _replace(files, identity, {**found, "sources": wanted["sources"]})  # the first claim after a rewind says what is read now
            found = _read_identity(files, identity)
        for field, value in wanted.items():
            if found.get(field) != value:
                also = REWIND.format(pipeline=shlex.quote(pipeline), path=shlex.quote(path)) if field == "sources" else ""
                raise _mismatch(path, expected=f"{field} {value!r}", got=f"{found.get(field)!r}", why=WHY[field], also=also)
        return cls(path=path, pipeline=pipeline, checkpoint_id=_id_of(found, identity))

    @classmethod
    def find(cls, path: str, *, pipeline: str) -> Checkpoint:
        """Return the checkpoint of a pipeline that has been claimed before, whatever its sources are.

        Raises
        ------
        CheckpointMismatchError
            There is none, it is another pipeline's, or its ``identity.json`` is damaged.
        """
        path = absolute(path)
        files, root = file_system(path)
        found = _read_identity(files, f"{root}/identity.json")
        for field, value in (("layout", LAYOUT), ("pipeline", pipeline)):
            if found.get(field) != value:
                raise _mismatch(path, expected=f"{field} {value!r}", got=f"{found.get(field)!r}", why=WHY[field])
        return cls(path=path, pipeline=pipeline, checkpoint_id=_id_of(found, f"{root}/identity.json"))

    def renew(self) -> Checkpoint:
        """Begin anew in the same folder, under a new id; what was there stays aside in ``spark-<old id>/``.

        The next claim says what the sources are. A crash in the middle leaves the old id without progress.

        Not supported: object stores, which cannot rename a folder.
        """
        files, root = file_system(self.path)
        if _exists(files, f"{root}/spark"):
            files.move(f"{root}/spark", f"{root}/spark-{self.checkpoint_id}")
        fresh = uuid.uuid4().hex
        _replace(files, f"{root}/identity.json", {"layout": LAYOUT, "pipeline": self.pipeline, "sources": ANY, "checkpoint_id": fresh})
        return replace(self, checkpoint_id=fresh)

    @property
    def spark_location(self) -> str:
        """The folder to give to Spark as ``checkpointLocation``."""
        return f"{self.path}/spark"

    @property
    def app_id(self) -> str:
        """Name under which this pipeline's batches are known in Delta's logs."""
        return f"{self.pipeline}:{self.checkpoint_id}"

    def forget_unplanned(self) -> None:
        """Remove what a kill left of a first batch that was never planned; call it before Spark starts.

        A process that ends while Spark writes ``offsets/0`` leaves a hidden part of it, which Spark's check for an
        empty folder then takes for a foreign checkpoint, at every start. As the plan was not written, no row was read.
        """
        files, root = file_system(f"{self.spark_location}/offsets")
        found = files.get_file_info(fs.FileSelector(root, allow_not_found=True))
        if all(file.base_name.startswith(".") for file in found):
            for file in found:
                files.delete_file(file.path)

    def batch(self, batch_id: int) -> BatchRecord:
        """Read what Spark's offset log says about a batch that has been planned.

        Raises
        ------
        FileNotFoundError
            The batch has not been planned, or Spark has forgotten it: it keeps the last 100.
        CheckpointMismatchError
            What is there cannot be read.
        """
        text = self._log("offsets", batch_id)
        place = f"{self.spark_location}/offsets/{batch_id}"
        version, *lines = text.split("\n")
        if version != LOG_VERSION:
            raise _unread(place, repr(version[:80]))
        try:
            found = json.loads(lines[0])
            watermark = EPOCH + timedelta(milliseconds=found["batchWatermarkMs"])
            planned_ms = found.get("batchTimestampMs")
            planned_at = None if planned_ms is None else EPOCH + timedelta(milliseconds=planned_ms)
        except (ValueError, LookupError, TypeError) as error:
            raise _unread(place, repr(text[:80])) from error
        sources = lines[1:] if lines[-1] else lines[1:-1]
        return BatchRecord(watermark, tuple(None if one == NO_OFFSET else one for one in sources), planned_at)

    def first_offsets(self, source: int) -> str | None:
        """Return where one of Spark's own Kafka sources started, as it wrote it down; None for sources that write nothing."""
        try:
            text = self._log(f"sources/{source}", 0)
        except FileNotFoundError:
            return None
        return text.removeprefix("\0").partition("\n")[2] or None  # the zero byte is for Spark 2.1

    def last_planned(self) -> int | None:
        """Return the number of the newest batch that Spark has planned, None before the first."""
        return self._newest("offsets")

    def last_committed(self) -> int | None:
        """Return the number of the newest batch that Spark has noted as done, None before the first."""
        return self._newest("commits")

    def _log(self, name: str, number: int) -> str:
        files, root = file_system(self.spark_location)
        with files.open_input_stream(f"{root}/{name}/{number}") as opened:
            return str(opened.readall().decode(errors="replace"))

    def _newest(self, name: str) -> int | None:
        files, root = file_system(f"{self.spark_location}/{name}")
        found = files.get_file_info(fs.FileSelector(root, allow_not_found=True))
        return max((int(file.base_name) for file in found if file.base_name.isdecimal()), default=None)


def _exists(files: fs.FileSystem, path: str) -> bool:
    return bool(files.get_file_info(path).type != fs.FileType.NotFound)


def _write_once(files: fs.FileSystem, path: str, content: bytes) -> None:
    """Make the file with its whole content, unless somebody else was first."""
    if not isinstance(files, fs.LocalFileSystem):
        with files.open_output_stream(path) as opened:
            opened.write(content)
        return
    aside = Path(f"{path}.{uuid.uuid4().hex}")
    aside.write_bytes(content)
    try:
        os.link(aside, path)  # unlike a rename it replaces nothing
    except FileExistsError:
        pass  # theirs counts
    finally:
        aside.unlink()


def _replace(files: fs.FileSystem, path: str, content: Mapping[str, object]) -> None:
    write_whole(files, path, json.dumps(content, indent=1).encode())


def _id_of(found: Mapping[str, Any], identity: str) -> str:
    if not isinstance(found.get("checkpoint_id"), str):
        raise _damaged(identity, got=f"no checkpoint_id in {found!r}")
    return str(found["checkpoint_id"])


def _read_identity(files: fs.FileSystem, path: str) -> dict[str, Any]:
    try:
        with files.open_input_stream(path) as opened:
            content = opened.readall()
    except OSError as error:
        if files.get_file_info(path).type == fs.FileType.File:
            raise
        raise _damaged(path, got="no file") from error
    try:
        found = json.loads(content)
    except ValueError as error:
        raise _damaged(path, got=repr(content[:80])) from error
    if not isinstance(found, dict):
        raise _damaged(path, got=repr(content[:80]))
    return found


def _damaged(identity: str, *, got: str) -> CheckpointMismatchError:
    return CheckpointMismatchError(
        "read",
        "checkpoint identity",
        identity,
        expected="a JSON object with the name of the checkpoint",
        got=got,
        why="without it batches that are in the tables cannot be told from new ones",
        todo="restore this file from a copy, or give the job a new, empty folder",
    )


def _unread(path: str, got: str) -> CheckpointMismatchError:
    return CheckpointMismatchError(
        "read",
        "checkpoint",
        path,
        expected=f"Spark's offset log, {LOG_VERSION}",
        got=got,
        why="another release of Spark made it, or it is damaged",
        todo="restore this file from a copy, or start anew where the ledger ends: millrace rewind --help",
    )


def _mismatch(path: str, *, expected: str, got: str, why: str, also: str = "") -> CheckpointMismatchError:
    todo = f"keep it for its own job and give this job a new, empty folder{also}"
    return CheckpointMismatchError("use", "checkpoint", path, expected=expected, got=got, why=why, todo=todo)
