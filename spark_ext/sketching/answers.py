"""Questions to sketches as Spark's functions on Arrow: what runs in a Python worker, and which types come out.

    batch of columns, constants beside them ---> sketches.functions ---> batch of answers

No Spark here. A literal of SQL comes as a column; what must be one value for all (a confidence, a number of items) is taken apart by value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sketches import functions as fn
from sketches.errors import SketchError
from sketches.functions.merging import Merging
from sketches.functions.rows import OnError
from spark_ext.workers import settle

__all__ = ["RETURNS", "Answers"]

INTERVAL: Final = "struct<estimate: double, lower: double, upper: double>"
HOT: Final = "array<struct<item: {item}, estimate: {number}, lower: {number}, upper: {number}, guaranteed: boolean>>"
COUNTED: Final = HOT.replace("{number}", "bigint")
RETURNS: Final[Mapping[str, str]] = {
    "kind": "string",
    "error": "string",
    "parameters": "string",
    "estimate": "double",
    "bounds": INTERVAL,
    "contains": "boolean",
    "frequency": "struct<estimate: bigint, lower: bigint, upper: bigint>",
    "top": COUNTED,
    "top_at": HOT.replace("{number}", "double"),
    "heavy": COUNTED,
    "sample": "array<{item}>",
    "quantile": INTERVAL,
    "rank": INTERVAL,
    "decayed": "struct<count: double, sum: double, mean: double>",
    "union": "binary",
    "union_estimate": INTERVAL,
    "intersection": INTERVAL,
    "difference": INTERVAL,
    "jaccard": INTERVAL,
    "merge": "binary",
    "merge_list": "binary",
}
"""By the method of `Answers`: what it returns, as Spark writes types; ``{item}`` is the type of items, strings in SQL."""
HARMLESS: Final = {"confidence": 0.95, "n": 1, "share": 0.5, "hashed": False}


@dataclass(frozen=True, slots=True)
class Answers:
    """The functions, each of Arrow arrays of one length; arguments that may be left out are None.

    Parameters
    ----------
    on_error : "fail" or "null"
        As in `sketches.functions`.
    item_type : pyarrow.DataType, optional
        Of items that are given back; None: texts.

    State: none. Called: once for each batch of rows; `merge` once for each group, with its batches.
    """

    on_error: OnError = "fail"
    item_type: pa.DataType | None = None

    # One column -------------------------------------------------------------------------------------------------------

    def kind(self, sketches: pa.Array) -> pa.Array:  # noqa: D102 (all of them: see sketches.functions)
        return self._ask(fn.kind, (sketches,))

    def error(self, sketches: pa.Array) -> pa.Array:  # noqa: D102
        return self._ask(_error, (sketches,))

    def parameters(self, sketches: pa.Array) -> pa.Array:  # noqa: D102
        return self._ask(fn.parameters, (sketches,))

    def estimate(self, sketches: pa.Array) -> pa.Array:  # noqa: D102
        return self._ask(fn.estimate, (sketches,))

    def bounds(self, sketches: pa.Array, confidence: pa.Array = None) -> pa.Array:  # noqa: D102
        return self._ask(fn.bounds, (sketches,), confidence=(confidence, float))

    def sample(self, sketches: pa.Array) -> pa.Array:  # noqa: D102
        return self._ask(fn.sample, (sketches,), items=True)

    def top(self, sketches: pa.Array, n: pa.Array, confidence: pa.Array = None) -> pa.Array:  # noqa: D102
        return self._ask(fn.top, (sketches,), items=True, n=(n, int), confidence=(confidence, float))

    def top_at(self, sketches: pa.Array, n: pa.Array, at: pa.Array) -> pa.Array:  # noqa: D102
        return self._ask(_top_at, (sketches, at), items=True, n=(n, int))

    def heavy(self, sketches: pa.Array, share: pa.Array, confidence: pa.Array = None) -> pa.Array:  # noqa: D102
        return self._ask(fn.heavy, (sketches,), items=True, share=(share, float), confidence=(confidence, float))

    # With a column of arguments ---------------------------------------------------------------------------------------

    def contains(self, sketches: pa.Array, items: pa.Array, hashed: pa.Array = None) -> pa.Array:  # noqa: D102
        return self._ask(fn.contains, (sketches, items), hashed=(hashed, bool))

    def frequency(self, sketches: pa.Array, items: pa.Array, confidence: pa.Array = None, hashed: pa.Array = None) -> pa.Array:  # noqa: D102
        return self._ask(fn.frequency, (sketches, items), confidence=(confidence, float), hashed=(hashed, bool))

    def quantile(self, sketches: pa.Array, q: pa.Array, confidence: pa.Array = None) -> pa.Array:  # noqa: D102
        return self._ask(fn.quantile, (sketches, q), confidence=(confidence, float))

    def rank(self, sketches: pa.Array, x: pa.Array, confidence: pa.Array = None) -> pa.Array:  # noqa: D102
        return self._ask(fn.rank, (sketches, x), confidence=(confidence, float))

    def decayed(self, sketches: pa.Array, at: pa.Array) -> pa.Array:  # noqa: D102
        return self._ask(fn.decayed, (sketches, at))

    # Two columns ------------------------------------------------------------------------------------------------------

    def union(self, a: pa.Array, b: pa.Array) -> pa.Array:  # noqa: D102
        return self._ask(fn.union, (a, b))

    def union_estimate(self, a: pa.Array, b: pa.Array, confidence: pa.Array = None) -> pa.Array:  # noqa: D102
        return self._ask(fn.union_estimate, (a, b), confidence=(confidence, float))

    def intersection(self, a: pa.Array, b: pa.Array, confidence: pa.Array = None) -> pa.Array:  # noqa: D102
        return self._ask(fn.intersection, (a, b), confidence=(confidence, float))

    def difference(self, a: pa.Array, b: pa.Array, confidence: pa.Array = None) -> pa.Array:  # noqa: D102
        return self._ask(fn.difference, (a, b), confidence=(confidence, float))

    def jaccard(self, a: pa.Array, b: pa.Array, confidence: pa.Array = None) -> pa.Array:  # noqa: D102
        return self._ask(fn.jaccard, (a, b), confidence=(confidence, float))

    # Many rows --------------------------------------------------------------------------------------------------------

    def merge(self, batches: Iterator[pa.Array]) -> bytes:
        """Merge the sketches of one group, batch by batch: what is held is one sketch and one batch."""
        whole = Merging(self.on_error)
        for batch in batches:
            whole.take(batch)
        settle()
        return whole.stored  # type: ignore[return-value]  # None is Spark's null, which it has no word for

    def merge_list(self, lists: pa.Array) -> pa.Array:  # noqa: D102
        return self._ask(fn.merge_list, (lists,))

    def _ask(self, ask: Callable[..., pa.Array], columns: tuple[pa.Array, ...], *, items: bool = False, **given: Any) -> pa.Array:
        """Ask for each combination of constants the rows that have it, mostly all; null where one of the constants is null."""
        more = {"on_error": self.on_error, **({"item_type": self.item_type} if items else {})}
        constants = {name: column for name, (column, _) in given.items() if column is not None}
        of_row = _combinations(list(constants.values()), len(columns[0]))
        parts, places = [], []
        for number in range(max(1, int(of_row.max(initial=-1)) + 1)):
            which = np.flatnonzero(of_row == number)
            some = columns if which.size == of_row.size else tuple(column.take(pa.array(which)) for column in columns)
            values = {name: _value(name, column[int(which[0])].as_py(), given[name][1]) for name, column in constants.items() if which.size}
            if None in values.values() or not which.size:  # no answer, whatever the sketch
                some, values = (pa.nulls(which.size, columns[0].type), *some[1:]), {name: HARMLESS[name] for name in constants}
            parts.append(ask(*some, **values, **more))
            places.append(which)
        settle()
        return parts[0] if len(parts) == 1 else pa.concat_arrays(parts).take(pa.array(np.argsort(np.concatenate(places))))


def _combinations(constants: list[pa.Array], rows: int) -> NDArray[np.int64]:
    """Return for each row the number of its combination of values."""
    of_row = np.zeros(rows, np.int64)
    for column in constants:
        codes = np.asarray(column.dictionary_encode(null_encoding="encode").indices, np.int64)
        of_row = np.unique(of_row * (rows + 1) + codes, return_inverse=True)[1]
    return of_row


def _value(name: str, value: Any, kind: type) -> Any:
    """Return one constant as the function wants it; None for null."""
    fits = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
    if value is None or fits:
        return value
    if kind is float and isinstance(value, int | Decimal) and not isinstance(value, bool):
        return float(value)
    expected = {int: "a whole number", float: "a number", bool: "true or false"}[kind]
    raise SketchError("use", "argument", name, expected=expected, got=repr(value), todo="correct it")


def _error(sketches: pa.Array, *, on_error: OnError) -> pa.Array:
    del on_error  # it is what the function is there for
    return fn.error(sketches)


def _top_at(sketches: pa.Array, at: pa.Array, **more: Any) -> pa.Array:
    return fn.top(sketches, at=at, **more)
