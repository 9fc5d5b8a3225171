"""How often values came, by stored counters."""
# ruff: noqa: SLF001 (hashes are asked for where the classes ask for values)

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sketches.base import check_confidence
from sketches.count_min import CountMinSketch
from sketches.errors import EngineError
from sketches.functions.rows import OnError, Rows
from sketches.functions.structs import COUNTS, hashed_items, struct
from sketches.heavy_hitters import HeavyHitters
from sketches.hot_list import HotList
from sketches.items import mixed
from sketches.misra_gries import MisraGries
from sketches.space_saving import SpaceSaving

__all__ = ["frequency"]

COUNTERS: Final = (CountMinSketch, HeavyHitters, MisraGries, SpaceSaving)


def frequency(sketches: Any, items: Any, confidence: float = 0.95, *, hashed: bool = False, on_error: OnError = "fail") -> pa.Array:
    """Return for each row how often its item came by its sketch, with bounds.

    Guarantee: that of the class. Count-Min and heavy hitters: the upper bound is sure and the estimate, the lower one holds with the
    confidence. Hot lists: both bounds are sure, whatever the confidence.

    Parameters
    ----------
    sketches : Arrow array of binary (n,)
        Count-Min, heavy hitters, hot lists (MisraGries, SpaceSaving). Equal neighbours are read once.
    items : array (n,), or one value for all
        Of the types in `sketches.columns`, and of the type that the sketch was given; null gives null.
    confidence : float
        Of each lower bound.
    hashed : bool
        Whether items are hashes already, by `sketches.hashes` or Spark SQL's ``xxhash64``. Then nobody can tell whether their type was
        that of the sketch.
    on_error : "fail" or "null"
        Whether a row is an error or null that is damaged, of another kind, or asked for an item of another type than it keeps.

    Returns
    -------
    pyarrow.Array (n,) struct<estimate: int64, lower: int64, upper: int64>
    """
    check_confidence(confidence)
    rows = Rows(sketches, "frequency", on_error)
    found = hashed_items(items, len(rows), hashed=hashed)
    answers, valid = np.zeros((3, len(rows)), np.int64), np.zeros(len(rows), np.bool_)
    for form, which in rows.groups():
        some = which[found.present[which]]
        try:
            sketch = rows.read(form, *COUNTERS)
            if some.size:
                answers[:, some] = _asked(sketch, found.hashes[some], found.kind, confidence)
        except EngineError as error:
            rows.refuse(form, error)
            continue
        valid[some] = True
    return struct(COUNTS, dict(zip(("estimate", "lower", "upper"), answers, strict=True)), valid)


def _asked(sketch: Any, hashes: NDArray[np.uint64], kind: str | None, confidence: float) -> tuple[NDArray[np.int64], ...]:
    """Return estimates, lower and upper bounds of some values."""
    if isinstance(sketch, HotList):
        _check_kind(sketch.KIND, sketch._items.kind, kind)
        lower = _listed(sketch, hashes)
        return sketch._estimates(lower), lower, lower + sketch.error()
    if isinstance(sketch, HeavyHitters):
        _check_kind(sketch.KIND, sketch._kind, kind)
        sketch = sketch._table
    estimates: NDArray[np.int64] = sketch.estimate_hashes(hashes)
    return estimates, np.maximum(estimates - sketch.error(confidence), 0), estimates


def _check_kind(sketch: str, ours: str | None, theirs: str | None) -> None:
    if ours and theirs and ours != theirs:
        raise mixed("ask", sketch, ours, theirs)


def _listed(sketch: HotList, hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return the counters of some values, 0 for those not in the table."""
    known = sketch._hashes
    if not known.size:
        return np.zeros(hashes.size, np.int64)
    order = np.argsort(known)
    at = order[np.minimum(np.searchsorted(known, hashes, sorter=order), known.size - 1)]
    return np.where(known[at] == hashes, sketch._counts[at], 0)
