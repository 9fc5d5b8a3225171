"""Where the first batch of a checkpoint starts: a file that a rewind puts beside the checkpoint's identity."""

from __future__ import annotations

import json
from typing import Final

from spark_ext.kafka.options import Start, position_text, read_position
from spark_ext.paths import file_system
from spark_ext.queries.checkpoint import Checkpoint

__all__ = ["starting", "write_starting"]

FILE: Final = "starting.json"


def starting(checkpoint: Checkpoint, default: Start = "earliest") -> Start:
    """Return where a job reads from, for ``kafka.read(starting=...)``: what the last rewind says, else `default`.

    A checkpoint that has made progress goes on from there, whatever this says.
    """
    files, root = file_system(checkpoint.path)
    try:
        with files.open_input_stream(f"{root}/{FILE}") as opened:
            found = json.loads(opened.readall())
    except FileNotFoundError:
        return default
    return read_position(found["starting"]) if found["checkpoint_id"] == checkpoint.checkpoint_id else default


def write_starting(checkpoint: Checkpoint, position: Start) -> None:
    """Say where the checkpoint starts; it counts for this checkpoint id only."""
    files, root = file_system(checkpoint.path)
    with files.open_output_stream(f"{root}/{FILE}") as opened:
        opened.write(json.dumps({"checkpoint_id": checkpoint.checkpoint_id, "starting": position_text(position)}, indent=1).encode())
