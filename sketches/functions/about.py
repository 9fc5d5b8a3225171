"""What is in a column of stored sketches: which kinds, of which parameters, and which rows are none."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa

from sketches.envelope import KINDS, kind_of
from sketches.errors import EngineError, SketchBytesError
from sketches.functions.registers import blocks
from sketches.functions.rows import CLASSES, OnError, Rows

__all__ = ["error", "kind", "parameters"]


def kind(sketches: Any, *, on_error: OnError = "fail") -> pa.Array:
    """Return which kind of sketch each row begins as, such as ``hyperloglog``; says nothing about the rest of the bytes.

    Parameters
    ----------
    sketches : Arrow array of binary (n,)
        Stored sketches; null gives null, here and in all functions.
    on_error : "fail" or "null"
        Whether a row that is no sketch is an error or null.

    Returns
    -------
    pyarrow.Array (n,) string

    Raises
    ------
    SketchBytesError
        A row is no sketch, and `on_error` is "fail".
    """
    rows = Rows(sketches, "kind", on_error)
    for form in np.flatnonzero(rows.code == 0).tolist():
        try:
            kind_of(rows.view(form))
        except SketchBytesError as wrong:
            rows.refuse(form, wrong)
    names = pa.array([None, *KINDS.values()], pa.string())  # the numbers are dense, from 1
    return rows.spread(names.take(pa.array(rows.code)))


def error(sketches: Any) -> pa.Array:
    """Return what is wrong with each row: null where it is a sound sketch, or null.

    Guarantee: where it is null, each function that has an answer for the kind of the sketch can read it. It costs what reading costs.

    Parameters
    ----------
    sketches : Arrow array of binary (n,)

    Returns
    -------
    pyarrow.Array (n,) string
    """
    rows = _Noting(sketches, "error", "null")
    distinct = np.isin(rows.code, [number for number, name in KINDS.items() if name in ("hyperloglog", "ultraloglog")])
    for _ in blocks(rows, np.flatnonzero(distinct)):
        pass
    rows.answers(lambda sketch: sketch.KIND, *CLASSES.values(), which=np.flatnonzero(~distinct))
    return rows.spread(pa.array(rows.reasons, pa.string()))


class _Noting(Rows):
    """Rows whose refusals are noted instead."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.reasons: list[str | None] = [None] * self.forms

    def refuse(self, form: int, error: EngineError) -> None:
        self.reasons[form] = str(error)


def parameters(sketches: Any, *, on_error: OnError = "fail") -> pa.Array:
    """Return the parameters of each sketch, what two must have in common to be merged, as a JSON object.

    Parameters
    ----------
    sketches : Arrow array of binary (n,)
    on_error : "fail" or "null"
        Whether a row that is no sound sketch is an error or null.

    Returns
    -------
    pyarrow.Array (n,) string
        By the names of the constructor's arguments, such as ``{"precision": 12, "hash": "xxh64"}``.
    """
    rows = Rows(sketches, "parameters", on_error)
    return rows.typed(rows.answers(lambda sketch: json.dumps(sketch.parameters), *CLASSES.values()), pa.string())
