"""Unions, intersections and differences of two columns of stored sketches, row by row."""
# ruff: noqa: SLF001 (the hooks of sketches are for the package)

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sketches.base import Sketch, check_confidence
from sketches.envelope import NUMBERS
from sketches.errors import EngineError, SketchError
from sketches.functions.registers import DISTINCT, Counted, Registers, blocks, counted, united
from sketches.functions.rows import CLASSES, OnError, Rows
from sketches.functions.structs import NUMBERS as INTERVAL
from sketches.functions.structs import struct

__all__ = ["difference", "intersection", "jaccard", "union", "union_estimate"]

STEP: Final = 512  # pairs that are looked at together
Three = tuple[Counted, Counted, Counted]
Pair = tuple[Registers, Registers]


def union(a: Any, b: Any, *, on_error: OnError = "fail") -> pa.Array:
    """Return for each row the sketch of what at least one of two has taken: of all kinds, as `Sketch.merge` of the second into the first.

    Parameters
    ----------
    a, b : Arrow array of binary (n,)
        Stored sketches of equal kind and parameters in each row; null in one of them gives null.
    on_error : "fail" or "null"
        Whether a row is an error or null that is damaged, or whose two do not go together.

    Returns
    -------
    pyarrow.Array (n,) binary
    """
    pairs = _Pairs(a, b, "union", on_error)
    answers: list[bytes | None] = [None] * len(pairs)
    fast = np.isin(pairs.ours.code[pairs.our_form], [NUMBERS[some.KIND] for some in DISTINCT])
    for ours, theirs in pairs.registers(np.flatnonzero(fast)):
        both = united(ours, theirs)
        for row, state in zip(ours.which.tolist(), both.states, strict=True):
            answers[row] = both.template.of_state(state).to_bytes()
    for number in np.flatnonzero(~fast).tolist():
        answers[int(pairs.rows[number])] = pairs.merged(number)
    return pa.array(answers, pa.binary())


def union_estimate(a: Any, b: Any, confidence: float = 0.95, *, on_error: OnError = "fail") -> pa.Array:
    """Return how many distinct values at least one of two has taken, as `HyperLogLog.union_estimate`.

    Parameters
    ----------
    a, b : Arrow array of binary (n,)
        HyperLogLog or UltraLogLog, of equal parameters in each row; null in one of them gives null.
    confidence : float
        Of the bounds.
    on_error : "fail" or "null"
        Whether a row is an error or null that is damaged, or whose two do not go together.

    Returns
    -------
    pyarrow.Array (n,) struct<estimate: double, lower: double, upper: double>
    """
    check_confidence(confidence)
    return _answers(a, b, "union_estimate", on_error, lambda pair: counted(united(*pair), confidence))


def intersection(a: Any, b: Any, confidence: float = 0.95, *, on_error: OnError = "fail") -> pa.Array:
    """Return how many distinct values both of two have taken, by inclusion and exclusion, as `HyperLogLog.intersection_estimate`.

    Guarantee: the bounds hold with the confidence. The error is about that of the union: an intersection smaller than about four times the
    relative error of it cannot be told from none. Then the lower bound is 0.

    Parameters, Returns: as `union_estimate`.
    """

    def ask(pair: Pair) -> Counted:
        ours, theirs, both = _three(pair, confidence)
        upper = np.fmin(np.fmin(ours.upper, theirs.upper), np.fmax(0.0, ours.upper + theirs.upper - both.lower))
        estimate = np.fmin(np.fmax(0.0, ours.estimate + theirs.estimate - both.estimate), upper)
        return Counted(estimate, np.fmin(np.fmax(0.0, ours.lower + theirs.lower - both.upper), upper), upper)

    check_confidence(confidence)
    return _answers(a, b, "intersection", on_error, ask)


def difference(a: Any, b: Any, confidence: float = 0.95, *, on_error: OnError = "fail") -> pa.Array:
    """Return how many distinct values the first of two has taken and the second has not: |A or B| - |B|.

    Guarantee: the bounds hold with the confidence, by that of the three bounds they are made of. The error is about that of the union, so a
    small difference of large sets cannot be told from none.

    Parameters, Returns: as `union_estimate`.
    """

    def ask(pair: Pair) -> Counted:
        ours, theirs, both = _three(pair, confidence)
        upper = np.fmin(ours.upper, np.fmax(0.0, both.upper - theirs.lower))
        lower = np.fmin(np.fmax(0.0, np.fmax(both.lower, ours.lower) - theirs.upper), upper)  # the union is not below its parts
        return Counted(np.fmin(np.fmax(lower, both.estimate - theirs.estimate), upper), lower, upper)

    check_confidence(confidence)
    return _answers(a, b, "difference", on_error, ask)


def jaccard(a: Any, b: Any, confidence: float = 0.95, *, on_error: OnError = "fail") -> pa.Array:
    """Return the size of the intersection of two as a share of their union, as `HyperLogLog.jaccard`; 0 for two empty ones.

    Guarantee: as `intersection`.

    Parameters, Returns: as `union_estimate`.
    """

    def ask(pair: Pair) -> Counted:
        ours, theirs, both = _three(pair, confidence)
        some = both.estimate > 0
        shares = (
            (ours.estimate + theirs.estimate, both.estimate),
            (ours.lower + theirs.lower, both.upper),
            (ours.upper + theirs.upper, both.lower),
        )
        return Counted(*(np.where(some, np.fmin(1.0, np.fmax(0.0, over / np.where(some, by, 1.0) - 1.0)), 0.0) for over, by in shares))

    check_confidence(confidence)
    return _answers(a, b, "jaccard", on_error, ask)


def _three(pair: Pair, confidence: float) -> Three:
    """Return first, second and union, with bounds that hold together with the confidence."""
    each = 1.0 - (1.0 - confidence) / 3.0
    return counted(pair[0], each), counted(pair[1], each), counted(united(*pair), each)


def _answers(a: Any, b: Any, function: str, on_error: OnError, ask: Callable[[Pair], Counted]) -> pa.Array:
    pairs = _Pairs(a, b, function, on_error)
    found, valid = np.zeros((3, len(pairs))), np.zeros(len(pairs), np.bool_)
    for ours, theirs in pairs.registers(np.arange(pairs.rows.size)):
        with np.errstate(invalid="ignore"):  # of registers that are all full
            found[:, ours.which] = ask((ours, theirs))
        valid[ours.which] = True
    return struct(INTERVAL, dict(zip(("estimate", "lower", "upper"), found, strict=True)), valid)


class _Pairs:
    """The rows of two columns in which both have something.

    Attributes
    ----------
    rows : ndarray (pairs,) int64
    our_form, their_form : ndarray (pairs,) int64
        Of each, in `ours` and `theirs`.
    """

    def __init__(self, a: Any, b: Any, function: str, on_error: OnError) -> None:
        self.ours = Rows(a, function, on_error, once=False)
        self.theirs = Rows(b, f"{function} (second column)", on_error, once=False)
        if len(self.ours) != len(self.theirs):
            todo = "give two columns of one table"
            expected, got = f"{len(self.ours):,} sketches", f"{len(self.theirs):,}"
            raise SketchError("use", "argument", "b", expected=expected, got=got, todo=todo)
        self.rows = np.flatnonzero((self.ours.place >= 0) & (self.theirs.place >= 0))
        self.our_form, self.their_form = self.ours.place[self.rows], self.theirs.place[self.rows]

    def __len__(self) -> int:
        return len(self.ours)

    def registers(self, which: NDArray[np.int64]) -> Iterator[Pair]:
        """Yield the registers of some pairs, block by block, `which` of both being the row; pairs that are none are refused."""
        for start in range(0, which.size, STEP):
            some = which[start : start + STEP]
            ours, our_part, our_place = _located(self.ours, self.our_form[some])
            theirs, their_part, their_place = _located(self.theirs, self.their_form[some])
            together = our_part * (len(theirs) + 1) + their_part
            for code in np.unique(together[(our_part >= 0) & (their_part >= 0)]).tolist():
                at = np.flatnonzero((together == code) & (our_part >= 0) & (their_part >= 0))
                one, other, rows = ours[our_part[at[0]]], theirs[their_part[at[0]]], self.rows[some[at]]
                if type(one.template) is not type(other.template) or one.template._key() != other.template._key():
                    for row in rows.tolist():
                        self.ours.refuse_row(row, one.template._mismatch(other.template))
                    continue
                yield (
                    one._replace(which=rows, states=one.states[our_place[at]]),
                    other._replace(which=rows, states=other.states[their_place[at]]),
                )

    def merged(self, number: int) -> bytes | None:
        """Return the stored union of one pair, by its class."""
        try:
            one: Sketch = self.ours.read(int(self.our_form[number]), *CLASSES.values())
            one.merge(self.theirs.read(int(self.their_form[number]), *CLASSES.values()))
        except EngineError as error:
            self.ours.refuse_row(int(self.rows[number]), error)
            return None
        return one.to_bytes()


def _located(rows: Rows, forms: NDArray[np.int64]) -> tuple[list[Registers], NDArray[np.int64], NDArray[np.int64]]:
    """Return the registers of ascending forms in parts, and for each form in which part it is, -1 for none, and where."""
    found, part, place = list(blocks(rows, forms)), np.full(forms.size, -1), np.zeros(forms.size, np.int64)
    for number, some in enumerate(found):
        at = np.searchsorted(forms, some.which)
        part[at], place[at] = number, np.arange(at.size)
    return found, part, place
