"""Records as they came, with the tags and the accounts that a format brings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np
import pyarrow as pa
from pyspark.sql.types import BinaryType, StructField, StructType

from spark_ext.errors import SchemaError, SettingsError
from spark_ext.ingest.decoded import Decoded, Decoder
from spark_ext.ingest.filters import Conditions
from spark_ext.ingest.format import Format
from spark_ext.ingest.records import Records

__all__ = ["BytesFormat"]

KEY_AND_VALUE: Final = StructType([StructField("key", BinaryType()), StructField("value", BinaryType())])


@dataclass(frozen=True)
class BytesFormat(Format):
    """Key and value as bytes: for what is decoded later, with every offset accounted for.

    Guarantee: as for `Format`. Every record is good, one without a value too, but those of more than `max_value_bytes`
    (``too_large``).

    Parameters
    ----------
    schema : StructType
        ``key`` and ``value``, both binary; there is no other.
    max_value_bytes : int, > 0
        Longest value of a good record.

    Raises
    ------
    SchemaError
        Another schema.
    SettingsError
        An event time or a rule, of which bytes have none.

    State: none.

    Examples
    --------
    >>> from spark_ext.ingest.records import Bytes
    >>> records = Records(np.arange(2), np.full(2, -1), Bytes.of([b"k", None]), Bytes.of([b"abc", b"abcdef"]))
    >>> decoded = BytesFormat(max_value_bytes=5).decoder().decode(records)
    >>> decoded.columns.to_pylist(), decoded.reasons
    ([{'key': b'k', 'value': b'abc'}], ['too_large'])
    """

    kind: ClassVar[str] = "bytes"

    schema: StructType = KEY_AND_VALUE

    def __post_init__(self) -> None:
        if self.schema != KEY_AND_VALUE:
            raise SchemaError(
                "read",
                "schema",
                ",".join(self.schema.fieldNames()),
                expected=KEY_AND_VALUE.simpleString(),
                got=self.schema.simpleString(),
                todo="leave it out, or use JsonFormat or CsvFormat",
            )
        if self.event_time is not None or self.earliest is not None or self.refuse:
            got = "event_time, earliest or refuse"
            raise SettingsError("use", "format", self.kind, expected="no rules on fields", got=got, todo="leave them out")

    def decoder(self, columns: Sequence[str] | None = None, where: Conditions = ()) -> Decoder:
        """Return what makes columns of the bytes; see `Format.decoder`."""
        self._conditions(where)  # refuses every one: none fits a field of bytes
        return _BytesDecoder(self._known(columns), self.max_value_bytes)


class _BytesDecoder:
    def __init__(self, columns: Sequence[str], max_value_bytes: int) -> None:
        self._columns, self._max_value_bytes = columns, max_value_bytes

    def decode(self, records: Records) -> Decoded:
        large = np.diff(records.values.offsets) > self._max_value_bytes
        good, bad = np.flatnonzero(~large), np.flatnonzero(large)
        whole = {"key": records.keys, "value": records.values}
        arrays = [whole[name].to_arrow() for name in self._columns]
        columns = pa.RecordBatch.from_arrays(arrays, schema=pa.schema([(name, pa.binary()) for name in self._columns]))
        return Decoded(
            columns=columns if len(bad) == 0 else columns.take(pa.array(good)),
            good=good,
            bad=bad,
            reasons=["too_large"] * len(bad),
            details=[None] * len(bad),
            filtered=0,
            drift=0,
        )
