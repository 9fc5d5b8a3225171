"""An approximate answer beside the exact one: it must be within the bounds it gave, as often as it said."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import pandas as pd

__all__ = ["ALWAYS", "Answer", "Claim", "allowed", "hold", "shared_confidence"]

ALWAYS: Final = 1.0
FALSE_ALARM: Final = 1e-6  # how likely a claim fails though all is well
SHOWN: Final = 5


@dataclass(frozen=True, slots=True)
class Answer:
    """What the sketches say to one question, group by group.

    Attributes
    ----------
    name : str
        The question.
    keys : sequence of str
        Columns that name a group.
    frame : DataFrame
        `keys`, and the numbers ``estimate``, ``lower``, ``upper``; where groups share what they are made of, and thereby their luck,
        also ``least`` and ``most``: bounds that hold for all groups together but once in a million times, see `shared_confidence`.
    confidence : float
        With which the bounds hold; `ALWAYS` if there is no chance in it.
    """

    name: str
    keys: Sequence[str]
    frame: pd.DataFrame
    confidence: float = ALWAYS


@dataclass(frozen=True, slots=True)
class Claim:
    """An answer, held against the exact one.

    Attributes
    ----------
    name, confidence
        As in `Answer`.
    rows : int
        Groups that were compared.
    outside : int
        Those in which the exact number is not within the bounds.
    allowed : int
        As many may be outside: all of them where groups share their luck, as then those wider bounds must hold.
    mismatches : sequence of str
        Groups that only one side has, and if too many are outside the first of these; empty if the claim holds.
    frame : DataFrame
        The keys, ``estimate``, ``exact``, ``lower``, ``upper``, ``inside``.
    """

    name: str
    confidence: float
    rows: int
    outside: int
    allowed: int
    mismatches: Sequence[str]
    frame: pd.DataFrame = field(repr=False)

    @property
    def median_error(self) -> float:
        """The median of the estimates' errors, relative to the exact number, over groups of which it is not 0."""
        return float(self._errors().median())

    @property
    def worst_error(self) -> float:
        """The largest of these errors."""
        return float(self._errors().max())

    def _errors(self) -> pd.Series:
        some = self.frame[self.frame["exact"] != 0]
        return ((some["estimate"] - some["exact"]).abs() / some["exact"].abs()) if len(some) else pd.Series([0.0])


def hold(answer: Answer, exact: pd.DataFrame, *, subset: bool = False) -> Claim:
    """Hold an answer against the exact one.

    Parameters
    ----------
    answer : Answer
        From the sketches.
    exact : DataFrame
        The keys, and ``exact``.
    subset : bool
        Whether the answer may be about some of the groups only; one that `exact` does not have has 0 there.
    """
    keys = list(answer.keys)
    both = _plain(answer.frame, keys).merge(_plain(exact, keys), how="left" if subset else "outer", on=keys, indicator=True)
    if subset:
        both["exact"] = both["exact"].fillna(0)
        lost = both.iloc[:0]
    else:
        lost = both[both["_merge"] != "both"]
    both = both.drop(index=lost.index)
    inside = (both["lower"] <= both["exact"]) & (both["exact"] <= both["upper"])
    most = 0 if answer.confidence == ALWAYS else allowed(len(both), 1 - answer.confidence)
    outside = int((~inside).sum())
    sides = {"left_only": "an exact answer, got none", "right_only": "an answer, got none"}
    beyond = both.iloc[:0]
    if {"least", "most"} <= set(both):
        most, beyond = len(both), both[(both["exact"] < both["least"]) | (both["exact"] > both["most"])]
    texts = [f"{answer.name} {_name(keys, row)}: expected {sides[str(row['_merge'])]}" for row in lost.head(SHOWN).to_dict("records")]
    if outside > most:
        texts.append(f"{answer.name}: expected at most {most:,} of {len(both):,} outside of their bounds, got {outside:,}")
        texts += [
            f"{answer.name} {_name(keys, row)}: expected {row['exact']:,} within {row['lower']:,} and {row['upper']:,}"
            for row in both[~inside].head(SHOWN).to_dict("records")
        ]
    texts += [
        f"{answer.name} {_name(keys, row)}: expected {row['exact']:,} within {row['least']:,} and {row['most']:,}, the widest bounds"
        for row in beyond.head(SHOWN).to_dict("records")
    ]
    frame = both[[*keys, "estimate", "exact", "lower", "upper"]].assign(inside=inside)
    return Claim(answer.name, answer.confidence, len(both), outside, most, tuple(texts), frame.reset_index(drop=True))


def shared_confidence(rows: int) -> float:
    """Return the confidence of each of `rows` bounds with which all of them hold but once in a million times, whatever they share."""
    return 1 - FALSE_ALARM / max(1, rows)


def allowed(rows: int, risk: float, *, false_alarm: float = FALSE_ALARM) -> int:
    """Return the least number that is exceeded with a probability of at most `false_alarm` if each of `rows` fails with `risk`.

    Independently, that is: of rows that share much it says nothing, see `shared_confidence`.

    Examples
    --------
    >>> allowed(1, 0.05), allowed(100, 0.05), allowed(100_000, 0.05)
    (1, 18, 5331)
    """
    if rows == 0:
        return 0
    number = np.arange(rows)
    steps = np.log(rows - number) - np.log(number + 1) + math.log(risk / (1 - risk))
    logarithms = np.append(0.0, np.cumsum(steps)) + rows * math.log1p(-risk)
    tail = np.cumsum(np.exp(logarithms)[::-1])[::-1]  # probability of at least so many
    return int(np.searchsorted(-tail, -false_alarm, side="left")) - 1


def _plain(frame: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Give keys types that can be compared: text without categories, times in microseconds of UTC."""
    changed = {}
    for name in keys:
        column = frame[name]
        if isinstance(column.dtype, pd.CategoricalDtype):
            changed[name] = column.astype(object)
        elif isinstance(column.dtype, pd.DatetimeTZDtype):
            changed[name] = column.dt.tz_convert("UTC").dt.as_unit("us")
    return frame.assign(**changed)


def _name(keys: list[str], row: dict[object, object]) -> str:
    return "(" + ", ".join(f"{name} {row[name]}" for name in keys) + ")"
