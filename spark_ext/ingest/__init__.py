"""From bytes to typed rows or dead letters; nothing is dropped in between."""

from spark_ext.ingest.bytes import BytesFormat
from spark_ext.ingest.csv import CsvFormat
from spark_ext.ingest.format import Format, format_from_json
from spark_ext.ingest.json import JsonFormat
from spark_ext.ingest.partial import PartialAggregate
from spark_ext.ingest.tags import accepted, accounts, split

__all__ = ["BytesFormat", "CsvFormat", "Format", "JsonFormat", "PartialAggregate", "accepted", "accounts", "format_from_json", "split"]
