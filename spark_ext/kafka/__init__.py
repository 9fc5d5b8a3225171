"""From a broker's topics to DataFrames of records."""

from spark_ext.kafka.read import RECORD_COLUMNS, read

__all__ = ["RECORD_COLUMNS", "read"]
