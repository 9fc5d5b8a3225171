"""Whose a checkpoint is, and what it says about a batch.

Layout below the checkpoint's path: ``identity.json`` (ours) and ``spark/`` (Spark's own, which must start empty).
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from pyarrow import fs

from spark_ext.errors import CheckpointMismatchError
from spark_ext.paths import absolute

__all__ = ["BatchRecord", "Checkpoint"]

LAYOUT: Final = 1
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

        Guarantee: one checkpoint serves one pipeline with one set of sources for ever.

        Parameters
        ----------
        path : str
            Local folder or a URI that pyarrow can open.
        pipeline : str
            Name of the pipeline, such as ``"flights/events"``.
        sources : sequence of str
            What it reads, such as ``"kafka topic flights"``.

        Raises
        ------
        CheckpointMismatchError
            It belongs to another pipeline or other sources, or was not made by Millrace.
        """
        path = absolute(path)
        files, root = _file_system(path)
        identity = f"{root}/identity.json"
        wanted = {"layout": LAYOUT, "pipeline": pipeline, "sources": sorted(sources)}
        if files.get_file_info(identity).type == fs.FileType.NotFound:
            if files.get_file_info(f"{root}/spark").type != fs.FileType.NotFound:
                raise _mismatch(path, expected="identity.json beside spark/", got="none", why="another program made it")
            found = {**wanted, "checkpoint_id": uuid.uuid4().hex}
            files.create_dir(root, recursive=True)
            with files.open_output_stream(identity) as opened:
                opened.write(json.dumps(found, indent=1).encode())
        with files.open_input_stream(identity) as opened:
            found = json.loads(opened.readall())
        for field, value in wanted.items():
            if found.get(field) != value:
                raise _mismatch(path, expected=f"{field} {value!r}", got=f"{found.get(field)!r}", why="it holds that one's progress")
        return cls(path=path, pipeline=pipeline, checkpoint_id=found["checkpoint_id"])

    @property
    def spark_location(self) -> str:
        """The folder to give to Spark as ``checkpointLocation``."""
        return f"{self.path}/spark"

    @property
    def app_id(self) -> str:
        """Name under which this pipeline's batches are known in Delta's logs."""
        return f"{self.pipeline}:{self.checkpoint_id}"

    def batch(self, batch_id: int) -> BatchRecord:
        """Read what Spark's offset log says about a batch that has been planned."""
        files, root = _file_system(self.spark_location)
        with files.open_input_stream(f"{root}/offsets/{batch_id}") as opened:
            metadata = json.loads(opened.readall().decode().splitlines()[1])
        return BatchRecord(watermark=EPOCH + timedelta(milliseconds=metadata["batchWatermarkMs"]))


def _file_system(path: str) -> tuple[fs.FileSystem, str]:
    if "://" in path or path.startswith("file:"):
        files, root = fs.FileSystem.from_uri(path)
        return files, root
    return fs.LocalFileSystem(), path


def _mismatch(path: str, *, expected: str, got: str, why: str) -> CheckpointMismatchError:
    return CheckpointMismatchError(
        "use", "checkpoint", path, expected=expected, got=got, why=why, todo="keep it for its own job and give this job a new, empty folder"
    )
