"""The log of plans: for each batch its time and what each input gives to it, written before anything is computed."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from spark_ext.errors import CheckpointMismatchError
from spark_ext.paths import file_system, write_whole

__all__ = ["Plan", "PlanLog"]

KEPT: Final = 100  # as many as Spark keeps of its own log


@dataclass(frozen=True, slots=True)
class Plan:
    """What one batch is.

    Attributes
    ----------
    number : int
        Spark's number of the batch.
    time_ms : int
        Its time, ms since 1970.
    inputs : mapping of str to JSON value
        For each input by name what it gives, in that input's own words.
    """

    number: int
    time_ms: int
    inputs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PlanLog:
    """Plans below one folder, one file each.

    Guarantee: a plan is there whole or not at all, and what it gives to a stream is never changed once a batch has used it.

    Attributes
    ----------
    path : str
        Absolute folder or URI.
    """

    path: str

    def read(self, number: int) -> Plan | None:
        """Return the plan of a batch; None if it was never made."""
        files, root = file_system(self.path)
        try:
            with files.open_input_stream(f"{root}/{number}.json") as opened:
                found = json.loads(opened.readall())
            return Plan(number, int(found["time_ms"]), dict(found["inputs"]))
        except FileNotFoundError:
            return None
        except (ValueError, LookupError, TypeError) as error:
            raise CheckpointMismatchError(
                "read",
                "plan of batch",
                str(number),
                expected="JSON with time_ms and inputs",
                got=repr(error),
                why=f"{root}/{number}.json is damaged, or another release made it",
                todo="restore the file from a copy, or start with another checkpoint",
            ) from error

    def write(self, plan: Plan) -> None:
        """Write a plan, and forget the one that is `KEPT` batches older."""
        files, root = file_system(self.path)
        files.create_dir(root, recursive=True)
        content = json.dumps({"time_ms": plan.time_ms, "inputs": dict(plan.inputs)}).encode()
        write_whole(files, f"{root}/{plan.number}.json", content)
        with contextlib.suppress(FileNotFoundError):  # the log is younger than that
            files.delete_file(f"{root}/{plan.number - KEPT}.json")
