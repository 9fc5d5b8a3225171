"""The shape of a program as its checkpoint knows it, and what cannot survive a change of code."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from spark_ext.dstream.graph import Graph
from spark_ext.errors import CheckpointMismatchError
from spark_ext.paths import file_system, write_whole

__all__ = ["Shape", "agree", "shape_of"]

FILE = "graph.json"


@dataclass(frozen=True, slots=True)
class Shape:
    """What a checkpoint holds on to.

    Attributes
    ----------
    interval_ms, zero_ms : int
        Batch interval; the time one interval before the first batch.
    streams : mapping of str to mapping
        By name each input and each stream that keeps something: kind, site, slide, and what the kind adds.
    """

    interval_ms: int
    zero_ms: int
    streams: Mapping[str, Mapping[str, Any]]

    def write(self, folder: str) -> None:
        """Write the file whole or not at all."""
        files, root = file_system(folder)
        files.create_dir(root, recursive=True)
        content = {"interval_ms": self.interval_ms, "zero_ms": self.zero_ms, "streams": self.streams}
        write_whole(files, f"{root}/{FILE}", json.dumps(content, indent=1).encode())

    @classmethod
    def read(cls, folder: str) -> Shape | None:
        """Return the shape in a checkpoint; None if there is none."""
        files, root = file_system(folder)
        try:
            with files.open_input_stream(f"{root}/{FILE}") as opened:
                found = json.loads(opened.readall())
            return cls(int(found["interval_ms"]), int(found["zero_ms"]), dict(found["streams"]))
        except FileNotFoundError:
            return None
        except (ValueError, LookupError, TypeError) as error:
            raise CheckpointMismatchError(
                "read",
                "checkpoint",
                folder,
                expected=f"the program's shape in {FILE}",
                got=repr(error),
                why="it is damaged, or another release made it",
                todo="restore the file from a copy, or start with another checkpoint",
            ) from error


def shape_of(graph: Graph, zero_ms: int) -> Shape:
    """Return the shape of a program."""
    kept = [*graph.inputs(), *graph.keepers()]
    streams = {node.name: {"kind": node.kind, "site": node.site, "slide_ms": node.slide_ms, **node.shape()} for node in kept}
    return Shape(graph.interval_ms, zero_ms, streams)


def agree(found: Shape, wanted: Shape, *, folder: str, forget: Collection[str] = ()) -> set[str]:
    """Refuse a checkpoint whose streams the program does not have any more, or has in another shape.

    New streams are welcome: they begin empty. `site` may differ.

    Returns
    -------
    set of str
        The streams of the checkpoint that are lost, as `forget` permits.

    Raises
    ------
    CheckpointMismatchError
        Names every stream that cannot go on.
    """
    wrong, lost = [], set()
    if found.interval_ms != wanted.interval_ms:
        wrong.append(f"the batch interval was {found.interval_ms} ms and is {wanted.interval_ms} ms")
    for name, before in found.streams.items():
        now = wanted.streams.get(name)
        if now is None:
            said = [f"'{name}' ({before['site']}) is not in the program"]
        else:
            differing = sorted(key for key in before.keys() | now.keys() if key != "site" and before.get(key) != now.get(key))
            said = [f"'{name}' ({now['site']}) had {key} {before.get(key)!r} and has {now.get(key)!r}" for key in differing]
        if said and name in forget:
            lost.add(name)
        else:
            wrong.extend(said)
    if wrong:
        raise CheckpointMismatchError(
            "continue from",
            "checkpoint",
            folder,
            expected="the streams that it holds, in the shape that they had",
            got="; ".join(wrong),
            why="their state would be lost or misread",
            todo="give streams that moved their old names with setName, name what may be lost in forget=, or use another checkpoint",
        )
    return lost
