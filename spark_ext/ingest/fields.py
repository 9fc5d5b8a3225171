"""The declared fields of a format, laid out as the kernel wants them."""

from __future__ import annotations

from typing import Final

import numpy as np
import pyarrow as pa
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import StructType

from spark_ext.ingest.codes import KINDS
from spark_ext.ingest.schema import EPOCH, EPOCH_UNITS

__all__ = ["Fields"]

_TESTS: Final = {
    "string": pa.types.is_string,
    "boolean": pa.types.is_boolean,
    "integer": pa.types.is_integer,
    "double": pa.types.is_floating,
    "decimal": pa.types.is_decimal,
    "timestamp": pa.types.is_timestamp,
    "date": pa.types.is_date,
    "array": pa.types.is_list,
}


class Fields:
    """Names, types and bounds of declared fields.

    Attributes
    ----------
    names : list of str
        In the order of the schema; a field is known by its place.
    types : list of pyarrow.DataType
        What its column holds.
    name_bytes, name_offsets : ndarray uint8, int64 (f + 1,)
        The names in UTF-8, one after the other.
    kinds, required : ndarray (f,) int8, bool
        What each field holds, as a place in `codes.KINDS`, and whether it must be there.
    lows, highs : ndarray (f,) int64
        Bounds of an integer; precision and scale of a decimal; microseconds per unit, for a timestamp that is a count.
    nested : list of int
        Fields that are structs, arrays or maps.
    """

    def __init__(self, schema: StructType) -> None:
        self.names = schema.fieldNames()
        self.types = [one.type for one in to_arrow_schema(schema, timezone="UTC")]
        encoded = [name.encode() for name in self.names]
        self.name_bytes = np.frombuffer(b"".join(encoded) or b"\0", np.uint8)
        self.name_offsets = np.cumsum([0, *(len(name) for name in encoded)], dtype=np.int64)
        kinds = [_kind(one) for one in self.types]
        self.kinds = np.array([KINDS.index(kind) for kind in kinds], np.int8)
        bounds = [_bounds(kind, one.metadata.get(EPOCH)) for kind, one in zip(self.types, schema.fields, strict=True)]
        self.lows = np.array([low for low, _ in bounds], np.int64)
        self.highs = np.array([high for _, high in bounds], np.int64)
        self.required = np.array([not one.nullable for one in schema.fields], np.bool_)
        self.nested = [at for at, kind in enumerate(kinds) if kind in {"object", "array"}]


def _kind(kind: pa.DataType) -> str:
    return next((name for name, test in _TESTS.items() if test(kind)), "object")


def _bounds(kind: pa.DataType, epoch: str | None) -> tuple[int, int]:
    """Return what bounds a value, see `lows` and `highs`."""
    if epoch is not None:
        return EPOCH_UNITS[epoch], 0
    if pa.types.is_integer(kind):
        return -(1 << (kind.bit_width - 1)), (1 << (kind.bit_width - 1)) - 1
    if pa.types.is_decimal(kind):
        return kind.precision, kind.scale
    return 0, 0
