"""A table as a copy that is searched: rows sorted by hash of key, and in a history by the time from which they hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

import numpy as np
import pyarrow as pa

from spark_ext.errors import JoinError
from spark_ext.joins.sides import Mask, Numbers, equal_at, expanded, searched
from spark_ext.state.keys import ints, whole

__all__ = ["FOREVER", "HASH", "SINCE", "UNTIL", "Copy", "LookupHow", "Overlap", "copied", "found", "held", "result"]

HASH: Final = "hash"
SINCE: Final = "since"
UNTIL: Final = "until"
KEY: Final = "k"  # with its number
FOREVER: Final = np.iinfo(np.int64).max
SHOWN: Final = 200

LookupHow = Literal["left", "inner", "semi", "anti"]
HOWS: Final = get_args(LookupHow)
Overlap = Literal["fail", "latest"]


@dataclass(frozen=True, slots=True)
class Copy:
    """Rows in the order in which they are searched.

    Attributes
    ----------
    rows : pa.Table
        ``hash`` int64, ``k0``, ``k1``... the key, ``p0``, ``p1``... what is looked up, and in a history ``since`` and perhaps ``until``,
        int64 in microseconds; one chunk each. No two keys have one hash.
    most : int
        Rows of the key that has the most.
    worst : str
        That key, for people.
    """

    rows: pa.Table
    most: int
    worst: str


def copied(rows: pa.Table, *, name: str, overlap: Overlap | None = None) -> Copy | None:
    """Sort rows for being searched, and look at what they say.

    Parameters
    ----------
    rows : pa.Table
        Columns as of a `Copy`, no null in a key; ``since`` and ``until`` as they came, null for an interval without an end.
    name : str
        Of the table, for messages.
    overlap : str, optional
        In a history: ``fail`` or ``latest``; see `spark_ext.joins.lookup_history`.

    Returns
    -------
    Copy or None
        None if two keys have one hash: the caller takes another one.

    Raises
    ------
    JoinError
        In a history: a row without a beginning, two rows of a key from one time, or intervals that overlap.
    """
    times = None
    if overlap is not None:
        rows = _intervals(rows, name)
        times = rows.column(SINCE).to_numpy()
    hashes = ints(rows.column(HASH))
    order = np.argsort(hashes, kind="stable") if times is None else np.lexsort((times, hashes))
    rows = rows.take(pa.array(order)).combine_chunks()
    hashes = hashes[order]
    again = np.flatnonzero(hashes[1:] == hashes[:-1])
    keys = _keys(rows)
    if len(again) and not all_equal(keys, again, again + 1):
        return None
    if overlap is not None:
        _check_intervals(rows, again, name, overlap)
    begins = np.flatnonzero(np.r_[True, hashes[1:] != hashes[:-1]]) if len(hashes) else np.empty(0, np.int64)
    sizes = np.diff(np.r_[begins, len(hashes)])
    worst = int(begins[np.argmax(sizes)]) if len(sizes) else -1
    return Copy(rows, int(sizes.max(initial=0)), shown(keys, worst) if worst >= 0 else "")


def found(copy: Copy, hashes: Numbers, keys: Sequence[pa.Array]) -> tuple[Numbers, Numbers]:
    """Return for each row where the rows of its key stand in the copy, and how many they are; none for a null in the key.

    Parameters
    ----------
    copy : Copy
        What is searched.
    hashes : ndarray (n,) int64
        Of the keys.
    keys : sequence of pa.Array (n,)
        The keys themselves: hashes find candidates, and keys are compared.

    Returns
    -------
    starts, counts : ndarray (n,) int64
        Positions in the copy.
    """
    ours = copy.rows.column(HASH).to_numpy()
    if not len(ours):
        return np.zeros(len(hashes), np.int64), np.zeros(len(hashes), np.int64)
    starts = np.searchsorted(ours, hashes)
    if copy.most == 1:
        counts = (ours[np.minimum(starts, len(ours) - 1)] == hashes).astype(np.int64)
    else:
        counts = np.searchsorted(ours, hashes, "right") - starts
    for key in keys:
        if key.null_count:
            counts[key.is_null().to_numpy(zero_copy_only=False)] = 0
    some = np.flatnonzero(counts)
    same = np.ones(len(some), bool)
    for ours_key, theirs in zip(_keys(copy.rows), keys, strict=True):
        same &= equal_at(ours_key, starts[some], theirs, some)
    counts[some[~same]] = 0
    return starts, counts


def held(
    copy: Copy, starts: Numbers, counts: Numbers, times: Numbers, has_time: Mask, *, tolerance_us: int | None
) -> tuple[Numbers, Numbers]:
    """Return for each row the version of its key that held at its time: the last one that began by then and has not ended.

    Parameters
    ----------
    copy : Copy
        Of a history.
    starts, counts : ndarray (n,) int64
        As `found` gives them.
    times : ndarray (n,) int64
        Event times in microseconds.
    has_time : ndarray (n,) bool
        False for rows without one: nothing is found for them.
    tolerance_us : int or None
        How long before the event the version may have begun at most.

    Returns
    -------
    starts, counts : ndarray (n,) int64
        One version or none.
    """
    since = copy.rows.column(SINCE).to_numpy()
    at = searched(since, starts, starts + counts, times, after=True) - 1
    good = has_time & (at >= starts) & (counts > 0)
    at = np.where(good, at, 0)
    if len(since):
        if UNTIL in copy.rows.column_names:
            good &= times < copy.rows.column(UNTIL).to_numpy()[at]
        if tolerance_us is not None:
            good &= times - since[at] <= tolerance_us
    return at, good.astype(np.int64)


def result(how: LookupHow, starts: Numbers, counts: Numbers) -> tuple[Numbers, pa.Array | None]:
    """Return which rows come out, and for each the position in the copy of what it meets.

    Returns
    -------
    rows : ndarray (m,) int64
        Positions, ascending; a row with several partners comes several times.
    places : pa.Array (m,) int64 or None
        Null for a row without a partner; None where nothing of the table comes out.

    Examples
    --------
    >>> [part.tolist() for part in result("left", np.array([4, 0, 7]), np.array([2, 0, 1]))]
    [[0, 0, 1, 2], [4, 5, None, 7]]
    """
    if how in {"semi", "anti"}:
        return np.flatnonzero((counts > 0) == (how == "semi")), None
    if how == "inner":
        pairs = expanded(starts, counts)
        return pairs.left, pa.array(pairs.right)
    pairs = expanded(starts, np.maximum(counts, 1))
    return pairs.left, pa.array(pairs.right, mask=(counts == 0)[pairs.left])


def all_equal(keys: Sequence[pa.Array], one: Numbers, other: Numbers) -> bool:
    """Tell whether the keys at these positions are equal to those at the others."""
    return all(bool(equal_at(key, one, key, other).all()) for key in keys)


def shown(keys: Sequence[pa.Array], at: int) -> str:
    """Return a key for people."""
    return ", ".join(repr(key[at].as_py()) for key in keys)[:SHOWN]


def _keys(rows: pa.Table) -> list[pa.Array]:
    return [whole(rows.column(name)) for name in rows.column_names if name.startswith(KEY)]


def _intervals(rows: pa.Table, name: str) -> pa.Table:
    """Return the rows that hold at some time, their bounds as numbers."""
    if rows.column(SINCE).null_count:
        at = int(np.flatnonzero(rows.column(SINCE).is_null().to_numpy())[0])
        raise _refused(name, rows, at, "a time from which each row holds", "null", "fill it in, or leave the row out")
    since = ints(rows.column(SINCE))
    rows = rows.set_column(rows.schema.get_field_index(SINCE), SINCE, pa.array(since))
    if UNTIL not in rows.column_names:
        return rows
    column = rows.column(UNTIL)
    until = np.where(column.is_null().to_numpy(), FOREVER, ints(column))
    return rows.set_column(rows.schema.get_field_index(UNTIL), UNTIL, pa.array(until)).filter(pa.array(until > since))


def _check_intervals(rows: pa.Table, again: Numbers, name: str, overlap: Overlap) -> None:
    since = rows.column(SINCE).to_numpy()
    twice = again[since[again] == since[again + 1]]
    if len(twice):
        got = f"two from {_time(since[twice[0]])}"
        raise _refused(name, rows, int(twice[0]), "one row of a key at a time", got, "nothing says which one holds: leave one of them out")
    if overlap == "latest" or UNTIL not in rows.column_names:
        return
    until = rows.column(UNTIL).to_numpy()
    over = again[until[again] > since[again + 1]]
    if len(over):
        at = int(over[0])
        ends = "for ever" if until[at] == FOREVER else f"to {_time(until[at])}"
        got = f"one from {_time(since[at])} {ends}, and one from {_time(since[at + 1])}"
        todo = "correct the table, or let the version that began last win: overlap='latest'"
        raise _refused(name, rows, at, "intervals of a key that do not overlap", got, todo)


def _refused(name: str, rows: pa.Table, at: int, expected: str, got: str, todo: str) -> JoinError:
    return JoinError("look up in", "history", name, expected=expected, got=f"{got}, key {shown(_keys(rows), at)}", todo=todo)


def _time(microseconds: Any) -> str:
    return str(np.datetime64(int(microseconds), "us")) + "Z"
