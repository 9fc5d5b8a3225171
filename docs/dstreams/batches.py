"""The program of the picture in docs/dstreams.md, and what its streams hold at each batch time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from spark_ext.dstream import DStream, StreamingContext

__all__ = ["BATCHES", "HELD", "WINDOW", "streams"]

WINDOW: Final = 3
# One list of words per batch interval; the fourth interval brings none.
BATCHES: Final = [["a", "b"], ["a"], ["b", "c"], [], ["a", "c"], ["c"]]

# What each stream holds, batch by batch; None where it has no rows.
HELD: Final[dict[str, list[list[Any] | None]]] = {
    "words": [["a", "b"], ["a"], ["b", "c"], [], ["a", "c"], ["c"]],
    "words.countByValue()": [
        [("a", 1), ("b", 1)],
        [("a", 1)],
        [("b", 1), ("c", 1)],
        [],
        [("a", 1), ("c", 1)],
        [("c", 1)],
    ],
    "words.window(3)": [["a", "b"], ["a", "a", "b"], ["a", "a", "b", "b", "c"], ["a", "b", "c"], ["a", "b", "c", "c"], ["a", "c", "c"]],
    "words.countByWindow(3, 3)": [None, None, [5], None, None, [3]],
    "pairs.updateStateByKey(total)": [
        [("a", 1), ("b", 1)],
        [("a", 2), ("b", 1)],
        [("a", 2), ("b", 2), ("c", 1)],
        [("a", 2), ("b", 2), ("c", 1)],
        [("a", 3), ("b", 2), ("c", 2)],
        [("a", 3), ("b", 2), ("c", 3)],
    ],
}


def total(new: list[int], old: int | None) -> int:
    """Add the new values of a key to what it had."""
    return sum(new) + (old or 0)


def streams(ssc: StreamingContext) -> dict[str, DStream[Any]]:
    """Build the streams of `HELD`; one batch interval is one second."""
    words = ssc.queueStream(BATCHES)
    pairs = words.map(lambda word: (word, 1))
    return {
        "words": words,
        "words.countByValue()": words.countByValue(),
        "words.window(3)": words.window(WINDOW),
        "words.countByWindow(3, 3)": words.countByWindow(WINDOW, WINDOW),
        "pairs.updateStateByKey(total)": pairs.updateStateByKey(total),
    }
