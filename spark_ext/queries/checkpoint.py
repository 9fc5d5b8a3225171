"""Whose a checkpoint is, and what it says about a batch.

Layout below the checkpoint's path: ``identity.json`` (ours) and ``spark/`` (Spark's own, which must start empty).
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from pyarrow import fs

from spark_ext.errors import CheckpointMismatchError
from spark_ext.paths import absolute, file_system

__all__ = ["BatchRecord", "Checkpoint"]

LAYOUT: Final = 1
WHY: Final = {
    "layout": "another release made it",
    "pipeline": "it holds that one's progress",
    "sources": "it holds the progress in those, and a topic that is made anew is another one",
}
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class BatchRecord:
    """What Spark wrote down about a batch before it ran it; the same at every replay.

    Attributes
    ----------
    watermark : datetime
        Event time up to which input counts as complete, as of the start of the batch; 1970 before any row.
    """

    watermark: datetime


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
        for field, value in wanted.items():
            if found.get(field) != value:
                raise _mismatch(path, expected=f"{field} {value!r}", got=f"{found.get(field)!r}", why=WHY[field])
        if not isinstance(found.get("checkpoint_id"), str):
            raise _damaged(identity, got=f"no checkpoint_id in {found!r}")
        return cls(path=path, pipeline=pipeline, checkpoint_id=found["checkpoint_id"])

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
        """Read what Spark's offset log says about a batch that has been planned."""
        files, root = file_system(self.spark_location)
        with files.open_input_stream(f"{root}/offsets/{batch_id}") as opened:
            metadata = json.loads(opened.readall().decode().splitlines()[1])
        return BatchRecord(watermark=EPOCH + timedelta(milliseconds=metadata["batchWatermarkMs"]))


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


def _mismatch(path: str, *, expected: str, got: str, why: str) -> CheckpointMismatchError:
    return CheckpointMismatchError(
        "use", "checkpoint", path, expected=expected, got=got, why=why, todo="keep it for its own job and give this job a new, empty folder"
    )
