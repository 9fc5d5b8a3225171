"""What a write is given to be done once, and what it says afterwards."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

__all__ = ["WRITE", "Stamp", "Txn", "Writer", "Written", "read_stamp"]

Writer = Literal["driver", "spark"]
USER_METADATA: Final = "userMetadata"  # where both writers and Spark's `DESCRIBE HISTORY` have it
OURS: Final = "millrace"
WRITE: Final = "write"


@dataclass(frozen=True, slots=True)
class Txn:
    """Makes a write happen once: a table that has `version` or a higher one of `app_id` is left as it is.

    Attributes
    ----------
    app_id : str
        Who writes: one name per pipeline and checkpoint. A new checkpoint must use a new name, or its first batches are taken
        for replays and skipped.
    version : int
        Number of the batch, from 0, growing.
    metadata : mapping of str to str
        Kept in the commit for people and tools: ``{"millrace": {...}}`` in its ``userMetadata``.
    """

    app_id: str
    version: int
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Written:
    """What became of a write.

    Attributes
    ----------
    version : int
        The table's version with the rows in it: of this commit; the current one if the write was skipped or changed nothing.
    rows : int
        Rows of the table that the commit added or changed; of the original commit if skipped, 0 if that one is not found.
    skipped : bool
        Whether the table had the transaction already.
    writer : str
        ``driver`` (delta-rs) or ``spark``.
    """

    version: int
    rows: int
    skipped: bool
    writer: Writer


@dataclass(frozen=True, slots=True)
class Stamp:
    """A commit's metadata, with a number by which its writer knows it again."""

    write: str
    text: str

    @classmethod
    def of(cls, txn: Txn | None) -> Stamp:
        """Return a new stamp."""
        write = uuid.uuid4().hex
        return cls(write, json.dumps({OURS: {**(txn.metadata if txn else {}), WRITE: write}}))


def read_stamp(commit_info: Mapping[str, Any]) -> dict[str, str]:
    """Return what this package put into a commit, empty for a commit of others.

    Examples
    --------
    >>> read_stamp({"operation": "WRITE", "userMetadata": '{"millrace": {"pipeline": "flights"}}'})
    {'pipeline': 'flights'}
    >>> read_stamp({"operation": "WRITE", "userMetadata": "by hand"})
    {}
    """
    try:
        found = json.loads(commit_info.get(USER_METADATA) or "{}")
    except ValueError:
        return {}
    ours = found.get(OURS) if isinstance(found, dict) else None
    return {str(key): str(value) for key, value in ours.items()} if isinstance(ours, dict) else {}
