"""Which items came most often, by stored hot lists and heavy hitters, and which weigh most at an instant."""
# ruff: noqa: SLF001 (tables of counters are looked into, column by column)

from __future__ import annotations

import math
from fractions import Fraction
from functools import partial
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sketches.base import check_confidence, is_whole, out_of_range
from sketches.decaying_top import ROUNDED, DecayingTop
from sketches.functions.kept_items import check_type, in_lists, items_of, whole
from sketches.functions.rows import OnError, Rows
from sketches.functions.structs import instants_of
from sketches.heavy_hitters import HeavyHitter, HeavyHitters
from sketches.hot_list import HotList
from sketches.items import Items
from sketches.misra_gries import MisraGries
from sketches.space_saving import SpaceSaving

__all__ = ["heavy", "top"]

LISTS: Final = (MisraGries, SpaceSaving, HeavyHitters)
MOST: Final = (1 << 31) - 1


class Listed(NamedTuple):
    """What one sketch lists: items, and arrays (n,) of their estimates, bounds and of whether they are sure to belong there."""

    items: Items
    estimate: NDArray[Any]
    lower: NDArray[Any]
    upper: NDArray[Any]
    guaranteed: NDArray[np.bool_]


def top(
    sketches: Any,
    n: int,
    at: Any = None,
    confidence: float = 0.95,
    *,
    item_type: pa.DataType | None = None,
    on_error: OnError = "fail",
) -> pa.Array:
    """Return the `n` items of each sketch that came most often, the most frequent first; fewer if it has fewer.

    Guarantee: an item is marked `guaranteed` if its lower bound is at least the upper bound of every item that is not among those listed,
    be it in the table or not: then no other item came more often than it, unless that one is listed too, so it belongs to the `n` most
    frequent. Hot lists: always. Heavy hitters: as surely as the lower bound, by `confidence`.

    Parameters
    ----------
    sketches : Arrow array of binary (n,)
        MisraGries, SpaceSaving, HeavyHitters; with `at` DecayingTop.
    n : int
        From 0.
    at : array (n,), or one instant for all, optional
        For DecayingTop: when; int64 in microseconds, datetimes or timestamps. Null gives null.
    confidence : float
        Of each lower bound of heavy hitters.
    item_type : pyarrow.DataType, optional
        Of the items. None, the default: texts; numbers in decimal, binary in hexadecimal, dates and times (in UTC) as ISO 8601 has them.
    on_error : "fail" or "null"
        Whether a row is an error or null that is damaged, of another kind, or whose items are not of the type asked for.

    Returns
    -------
    pyarrow.Array (n,) list<struct<item, estimate, lower, upper, guaranteed: bool>>
        Item: string or `item_type`. Estimate and bounds: int64; with `at` double.
    """
    if not is_whole(n, 0, MOST):
        raise out_of_range("n", f"a whole number from 0 to {MOST:,}", n)
    check_confidence(confidence)
    check_type(item_type)
    if at is None:
        rows = Rows(sketches, "top", on_error)
        return _lists(rows, rows.answers(lambda sketch: _top(sketch, n, confidence), *LISTS), item_type, pa.int64())
    rows = Rows(sketches, "top", on_error, once=False)
    moments, present = instants_of("at", at, len(rows))
    times = moments[rows.first]
    answers: list[Listed | None] = [None] * rows.forms
    for form in np.flatnonzero(present[rows.first]).tolist():
        ask = partial(_weightiest, n=n, time=int(times[form]))
        answers[form] = rows.answers(ask, DecayingTop, which=np.array([form]))[0]
    return _lists(rows, answers, item_type, pa.float64())


def heavy(
    sketches: Any,
    share: float,
    confidence: float = 0.95,
    *,
    item_type: pa.DataType | None = None,
    on_error: OnError = "fail",
) -> pa.Array:
    """Return the items of each sketch that came, for certain or possibly, at least `share` of the total weight; the most frequent first.

    Guarantee: each item that came so often is there; those marked `guaranteed` did so. Hot lists: always. Heavy hitters: marks are as sure
    as lower bounds, by `confidence`; items that are not there came less often for sure, unless `HeavyHitters.unlisted_bound` is above.

    Parameters
    ----------
    sketches : Arrow array of binary (n,)
        MisraGries, SpaceSaving, HeavyHitters.
    share : float
        Above 0, up to 1. A sketch that cannot tell items of so small a share is refused: a hot list whose `error` is not below it, heavy
        hitters with a greater phi.
    confidence, item_type, on_error
        As for `top`.

    Returns
    -------
    pyarrow.Array (n,) list<struct<item, estimate: int64, lower: int64, upper: int64, guaranteed: bool>>
    """
    if not 0 < share <= 1:
        raise out_of_range("share", "a number above 0, up to 1", share)
    check_confidence(confidence)
    check_type(item_type)
    rows = Rows(sketches, "heavy", on_error)
    return _lists(rows, rows.answers(lambda sketch: _heavy(sketch, share, confidence), *LISTS), item_type, pa.int64())


# One sketch -----------------------------------------------------------------------------------------------------------


def _top(sketch: Any, n: int, confidence: float) -> Listed:
    if isinstance(sketch, HeavyHitters):
        hits = sketch.items(confidence=confidence)
        others = max(hits[n].upper_bound if n < len(hits) else 0, sketch.unlisted_bound)
        return _hits(sketch, hits[:n], [hit.lower_bound >= others for hit in hits[:n]])
    places = sketch._ranked()
    others = int(sketch._counts[places[n]]) if n < places.size else 0
    return _hots(sketch, places[:n], others + sketch.error())


def _heavy(sketch: Any, share: float, confidence: float) -> Listed:
    if isinstance(sketch, HeavyHitters):
        hits = sketch.items(share, confidence)
        return _hits(sketch, hits, [hit.guaranteed for hit in hits])
    least = max(math.ceil(Fraction(str(share)) * sketch.total), 1)
    places = sketch._ranked()
    if sketch.total and least <= sketch.error():
        raise out_of_range("share", f"a share above {sketch.error() / sketch.total:.3g}, that of the error", share)
    return _hots(sketch, places[sketch._counts[places] + sketch.error() >= least], least)


def _hots(sketch: HotList, places: NDArray[np.int64], least: int) -> Listed:
    """Return some items; those with a lower bound of `least` are guaranteed."""
    lower = sketch._counts[places]
    return Listed(sketch._items.take(places), sketch._estimates(lower), lower, lower + sketch.error(), lower >= least)


def _hits(sketch: HeavyHitters, hits: list[HeavyHitter], guaranteed: list[bool]) -> Listed:
    estimate, lower, upper = np.array([(hit.estimate, hit.lower_bound, hit.upper_bound) for hit in hits], np.int64).reshape(-1, 3).T
    return Listed(items_of([hit.item for hit in hits], sketch._kind), estimate, lower, upper, np.array(guaranteed, np.bool_))


def _weightiest(sketch: DecayingTop, n: int, time: int) -> Listed:
    places = np.lexsort((sketch._hashes, -sketch._counts))
    counts = sketch._counts[places]
    others = float(counts[n]) if n < counts.size else 0.0
    guaranteed = counts[:n] * (1 - ROUNDED) >= (others + sketch._cut) * (1 + ROUNDED)  # weights fade alike: at each instant the same
    hots = sketch.top(n, time)
    estimate, lower, upper = np.array([(hot.estimate, hot.lower, hot.upper) for hot in hots]).reshape(-1, 3).T
    return Listed(sketch._items.take(places[:n]), estimate, lower, upper, guaranteed)


# A column of them -----------------------------------------------------------------------------------------------------


def _lists(rows: Rows, answers: list[Listed | None], item_type: pa.DataType | None, number: pa.DataType) -> pa.Array:
    items, valid = whole([None if answer is None else answer.items for answer in answers], item_type, rows)
    some = [answer for answer, there in zip(answers, valid.tolist(), strict=True) if answer is not None and there]
    sizes = np.zeros(rows.forms, np.int64)
    sizes[valid] = [len(answer.items) for answer in some]
    numbers = number.to_pandas_dtype()
    columns = [
        np.concatenate([np.empty(0, numbers), *(getattr(answer, name) for answer in some)]) for name in ("estimate", "lower", "upper")
    ]
    arrays = [items, *(pa.array(column, number) for column in columns)]
    arrays.append(pa.array(np.concatenate([np.empty(0, np.bool_), *(answer.guaranteed for answer in some)]), pa.bool_()))
    structs = pa.StructArray.from_arrays(arrays, ["item", "estimate", "lower", "upper", "guaranteed"])
    return in_lists(rows, structs, sizes, valid)
