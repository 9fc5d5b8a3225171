"""A block of records on its way to columns: what the scanner of its format found, and what it left over.

Values inside structs and arrays, and numbers with many digits, are settled here, record by record only where it must be.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from spark_ext.ingest.codes import ABSENT, DUPLICATE, EVENT_TIME_RANGE, GOOD, HARD, RANGE, REASONS, TYPE
from spark_ext.ingest.fields import Fields
from spark_ext.ingest.filters import Conditions, matches
from spark_ext.ingest.nested import FLOAT32_BEYOND, BadValueError, exact_decimal, exact_float, read_nested
from spark_ext.ingest.records import Records
from spark_ext.ingest.scanner import Found, Scanner
from spark_ext.ingest.strings_kernel import gather

__all__ = ["BEHIND_ALL", "Block"]

BEHIND_ALL: Final = 2**63 - 1  # a place, or a time
KERNEL_DECIMAL: Final = 18  # digits
SPARE: Final = 8


class Block:
    """One block while it is decoded.

    Attributes
    ----------
    reasons, details : ndarray (n,) int8, int16
        Of each record: place in `codes.REASONS`, and the field that it is about or -1.
    strange : ndarray (n,) bool
        Records whose names are not the declared ones.
    """

    def __init__(self, scan: Scanner, fields: Fields, records: Records, max_value_bytes: int) -> None:
        self._fields = fields
        self._data = records.values.data
        self._nested: dict[int, tuple[NDArray[np.int64], pa.Array]] = {}
        self._decimals: dict[int, dict[int, Any]] = {}
        found = Found.room(len(records), len(fields.names))
        scan(fields, records, max_value_bytes, found)
        self.reasons, self.details, self._places, self.strange = found.reasons, found.details, found.places, found.strange
        self._spans, self._lengths, self._values, self._flags = found.spans, found.lengths, found.values, found.flags
        self._settle()

    @cached_property
    def _sound(self) -> NDArray[np.bool_]:
        """Records whose structure is right, whatever their fields hold."""
        sound: NDArray[np.bool_] = (self.reasons == GOOD) | (self.reasons >= TYPE)
        return sound

    def _settle(self) -> None:
        """Read what the kernel left over, and take back the verdict on records where it is bad."""
        for field in self._fields.nested:
            rows = np.flatnonzero(self._sound & (self._lengths[:, field] > 0))
            array, bad = read_nested([self._text(row, field) for row in rows.tolist()], self._fields.types[field])
            self._nested[field] = (rows, array)
            for at, reason in bad.items():
                self._blame(int(rows[at]), field, REASONS.index(reason))
        for field, kind in enumerate(self._fields.types):
            if pa.types.is_float32(kind):
                numbers = np.abs(self._values.view(np.float64)[:, field])
                beyond = self._sound & (self._lengths[:, field] > 0) & (self._flags[:, field] == 0) & (numbers >= FLOAT32_BEYOND)
                for row in np.flatnonzero(beyond & (self.details != field)).tolist():
                    self._blame(row, field, RANGE)
        for field in np.flatnonzero((self._flags & HARD).any(axis=0)).tolist():
            for row in np.flatnonzero(self._sound & (self._flags[:, field] == HARD) & (self._lengths[:, field] > 0)).tolist():
                try:
                    self._settle_number(row, field, self._fields.types[field])
                except BadValueError as error:
                    self._blame(row, field, REASONS.index(str(error)))

    def _settle_number(self, row: int, field: int, kind: pa.DataType) -> None:
        text = self._text(row, field).decode()
        if pa.types.is_decimal(kind):
            self._decimals.setdefault(field, {})[row] = exact_decimal(text, kind.precision, kind.scale)
        else:
            self._values.view(np.float64)[row, field] = exact_float(text, kind)

    def _blame(self, row: int, field: int, reason: int) -> None:
        """Note a bad value, unless a bad field before it or a flaw of structure is known."""
        known = self.reasons[row]
        met = int(self._places[row]) if TYPE <= known <= RANGE else BEHIND_ALL
        if reason == DUPLICATE:  # a flaw of structure, the only one, as only sound records come here
            self.reasons[row], self.details[row] = reason, -1
        elif (known == GOOD or known >= TYPE) and self._spans[row, field] < met:
            self.reasons[row], self.details[row], self._places[row] = reason, field, self._spans[row, field]

    def check_event_time(self, field: int, earliest_us: int, latest_us: NDArray[np.int64]) -> None:
        """Refuse good records whose event time is before `earliest_us` or behind their own `latest_us`."""
        time = self._values[:, field]
        implausible = (self.reasons == GOOD) & ((time < earliest_us) | (time > latest_us))
        beyond = (self.reasons == RANGE) & (self.details == field)
        self.reasons[implausible | beyond] = EVENT_TIME_RANGE
        self.details[implausible] = field

    def _text(self, row: int, field: int) -> bytes:
        start = int(self._spans[row, field])
        return self._data[start : start + int(self._lengths[row, field])].tobytes()

    def matching(self, conditions: Conditions, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Tell which of these good records match."""
        columns = {name: self.column(name, rows) for name, _, _ in conditions}
        found: NDArray[np.bool_] = matches(conditions, columns).to_numpy(zero_copy_only=False).astype(np.bool_)
        return found

    def column(self, name: str, rows: NDArray[np.int64]) -> pa.Array:
        """Make the column of a field, for these good records."""
        field = self._fields.names.index(name)
        kind = self._fields.types[field]
        lengths = self._lengths[:, field]
        if field in self._nested:
            return self._nested_column(field, kind, rows)
        missing = lengths[rows] == ABSENT
        validity = pa.py_buffer(np.packbits(~missing, bitorder="little")) if missing.any() else None
        if pa.types.is_string(kind):
            offsets = np.empty(len(rows) + 1, np.int32)
            out = np.empty(int(np.maximum(lengths[rows], 0).sum(dtype=np.int64)) + SPARE, np.uint8)
            gather(self._data, self._spans[:, field], lengths, self._flags[:, field], rows, offsets, out)
            return pa.Array.from_buffers(kind, len(rows), [validity, pa.py_buffer(offsets), pa.py_buffer(out)])
        if pa.types.is_decimal(kind) and kind.precision > KERNEL_DECIMAL:
            known = self._decimals.get(field, {})
            return pa.array([known.get(row) for row in rows.tolist()], kind)
        values = np.where(missing, 0, self._values[rows, field])
        if pa.types.is_decimal(kind):
            wide = np.empty((len(rows), 2), np.int64)
            wide[:, 0], wide[:, 1] = values, values >> 63
            buffer = pa.py_buffer(wide)
        elif pa.types.is_boolean(kind):
            buffer = pa.py_buffer(np.packbits(values.astype(np.bool_), bitorder="little"))
        elif pa.types.is_floating(kind):
            buffer = pa.py_buffer(values.view(np.float64).astype(kind.to_pandas_dtype()))
        else:
            buffer = pa.py_buffer(values.astype(f"i{kind.bit_width // 8}"))
        return pa.Array.from_buffers(kind, len(rows), [validity, buffer])

    def _nested_column(self, field: int, kind: pa.DataType, rows: NDArray[np.int64]) -> pa.Array:
        held, array = self._nested[field]
        if len(held) == 0:
            return pa.nulls(len(rows), kind)
        at = np.searchsorted(held, rows)
        there = (at < len(held)) & (held[np.minimum(at, len(held) - 1)] == rows)
        return array.take(pa.array(at, mask=~there)).cast(kind)
