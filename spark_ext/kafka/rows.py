"""How the rows of the source look, and who makes them."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Final, cast

import pyarrow as pa
from pyspark.sql.types import (
    ArrayType,
    BinaryType,
    DataType,
    IntegerType,
    LongType,
    StringType,
    StructField,
    StructType,
    TimestampType,
)

from spark_ext.kafka.options import SourceOptions
from spark_ext.kafka.ranges import DEAD, RANGE, SOURCE, Account, DecodedRows, Decoder, RawRows, Rows

__all__ = ["rows_for", "schema_of"]


def _struct(**types: DataType) -> StructType:
    return StructType([StructField(name, kind) for name, kind in types.items()])


PLACE: Final = _struct(topic=StringType(), partition=IntegerType(), offset=LongType(), timestamp=TimestampType())
RECORD: Final = StructType([*_struct(key=BinaryType(), value=BinaryType()), *PLACE])
HEADERS: Final = ArrayType(_struct(key=StringType(), value=BinaryType()))
LETTER: Final = _struct(key=BinaryType(), value=BinaryType(), reason=StringType(), detail=StringType())
ACCOUNT: Final = _struct(**{name: LongType() for name in Account.__dataclass_fields__})


def schema_of(options: SourceOptions) -> StructType:
    """Return the columns that the options ask for; all are nullable, as a dead row has none of the declared ones."""
    if options.format is None:
        return StructType([*RECORD, StructField("headers", HEADERS)]) if options.headers else RECORD
    declared = StructType.fromJson(json.loads(options.format)["schema"])  # the format itself would load its kernels here
    names = declared.fieldNames() if options.columns is None else options.columns
    columns = [StructField(name, declared[name].dataType) for name in names]
    return StructType([*columns, *_struct(**{SOURCE: PLACE, DEAD: LETTER, RANGE: ACCOUNT})])


def rows_for(options: SourceOptions, schema: pa.Schema) -> Rows:
    """Return what turns records into rows of `schema`."""
    if options.format is None:
        return RawRows(schema)
    return DecodedRows(schema, _decoder(options.format, options.columns, options.where), place=options.source)


@lru_cache(maxsize=8)
def _decoder(text: str, columns: tuple[str, ...] | None, where: str) -> Decoder:
    """Return the decoder of a format, the same one for all tasks of a worker."""
    from spark_ext.ingest.filters import conditions_from_json  # noqa: PLC0415 (only workers that decode load numba)
    from spark_ext.ingest.json import JsonFormat  # noqa: PLC0415

    return cast(Decoder, JsonFormat.from_json(text).decoder(columns, conditions_from_json(json.loads(where))))
