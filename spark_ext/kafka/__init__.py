"""From a broker's topics to DataFrames of records."""

from spark_ext.kafka.clock import EventClock
from spark_ext.kafka.limits import ReadLimits
from spark_ext.kafka.read import RECORD_COLUMNS, read
from spark_ext.kafka.source import register
from spark_ext.kafka.topics import identify

__all__ = ["RECORD_COLUMNS", "EventClock", "ReadLimits", "identify", "read", "register"]
