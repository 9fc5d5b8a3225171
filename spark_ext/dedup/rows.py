"""What both ways to deduplicate have in common: tags, columns that come out, event times, and which columns cannot be used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from spark_ext.errors import SchemaError

__all__ = [
    "DUPLICATE",
    "INVALID",
    "LATE",
    "LATENESS",
    "MICROSECOND",
    "STAMP",
    "UNIQUE",
    "YEAR_1_US",
    "YEAR_9999_US",
    "Mask",
    "Times",
    "by_order",
    "check_columns",
    "tagged_rows",
    "tagged_schemas",
    "unusable",
]

UNIQUE: Final = "unique"
DUPLICATE: Final = "duplicate"
LATE: Final = "late"
INVALID: Final = "invalid"
LATENESS: Final = "lateness_ms"
STAMP: Final = pa.timestamp("us", "UTC")
MICROSECOND: Final = timedelta(microseconds=1)
YEAR_1_US: Final = -62_135_596_800_000_000
YEAR_9999_US: Final = 253_402_300_799_999_999

Times = NDArray[np.int64]
Mask = NDArray[np.bool_]


def check_columns(rows: pa.Schema, time: str, order: Sequence[str]) -> None:
    """Refuse an event time or an order that cannot be used.

    Raises
    ------
    SchemaError
        A column is missing, of a type that cannot be used, or has the name of a column that is added.
    """
    for name in (time, *order):
        if name not in rows.names:
            raise unusable(name, f"one of {rows.names}", "no such column", "correct the name")
    if rows.field(time).type != STAMP:
        raise unusable(time, f"event time as {STAMP}, not among the keys", str(rows.field(time).type), "cast it, or give it another name")
    if LATENESS in rows.names:
        raise unusable(LATENESS, "another name", "one that late rows get", "rename the column")
    for name in order:
        kind = rows.field(name).type
        if pa.types.is_nested(kind):
            raise unusable(name, "a plain value to order by", str(kind), "order by a part of it")


def tagged_schemas(rows: pa.Schema) -> Mapping[str, pa.Schema]:
    """Return the columns of each tag: those of the rows; ``late`` has ``lateness_ms`` more, int64, from the event to the watermark."""
    return {UNIQUE: rows, DUPLICATE: rows, LATE: rows.append(pa.field(LATENESS, pa.int64())), INVALID: rows}


def by_order(rows: pa.Table, order: Sequence[str]) -> Times:
    """Return the places of rows as `order` has them: ascending, nulls last; without one as they stand."""
    if not order:
        return np.arange(len(rows))
    found = pc.sort_indices(rows, sort_keys=[(name, "ascending") for name in order])  # nulls last
    return np.asarray(found).astype(np.int64)


def tagged_rows(rows: pa.Table, times: Times, unique: Mask, repeated: Mask, late: Mask, watermark_us: int) -> dict[str, pa.Table]:
    """Return rows by tag; each is in at most one."""
    behind = rows.filter(pa.array(late)).append_column(
        pa.field(LATENESS, pa.int64()), pa.array((watermark_us - times[late]) // 1_000, pa.int64())
    )
    return {UNIQUE: rows.filter(pa.array(unique)), DUPLICATE: rows.filter(pa.array(repeated)), LATE: behind}


def unusable(name: str, expected: str, got: str, todo: str) -> SchemaError:
    """Return the error of a column."""
    return SchemaError("deduplicate by", "column", name, expected=expected, got=got, todo=todo)
