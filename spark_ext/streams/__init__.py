"""Kafka Streams' KStream and KTable on Structured Streaming: a topology of streams and tables, run as queries with epochs.

    StreamsBuilder -- stream, table, globalTable --> KStream, KTable, GlobalKTable -- build --> Topology -- run --> Application

Keys and values are columns: functions get Spark columns and return columns. Names are those of Kafka Streams; where the semantics
differ is in ``docs/streams.md``. Thin over `spark_ext.windows`, `spark_ext.joins`, `spark_ext.tables` and `spark_ext.epochs`.
"""

from spark_ext.streams.builder import StreamsBuilder
from spark_ext.streams.grouped import KGroupedStream, KGroupedTable, WindowedKStream
from spark_ext.streams.kstream import BranchedKStream, KStream
from spark_ext.streams.ktable import GlobalKTable, KTable
from spark_ext.streams.nodes import Consumed, Produced
from spark_ext.streams.processor import Processor, ProcessorContext, PunctuationType
from spark_ext.streams.run import Application
from spark_ext.streams.stores import StateStore, Stores
from spark_ext.streams.topology import Topology
from spark_ext.streams.windows import JoinWindows, SessionWindows, SlidingWindows, TimeWindows

__all__ = [
    "Application",
    "BranchedKStream",
    "Consumed",
    "GlobalKTable",
    "JoinWindows",
    "KGroupedStream",
    "KGroupedTable",
    "KStream",
    "KTable",
    "Processor",
    "ProcessorContext",
    "Produced",
    "PunctuationType",
    "SessionWindows",
    "SlidingWindows",
    "StateStore",
    "Stores",
    "StreamsBuilder",
    "TimeWindows",
    "Topology",
    "WindowedKStream",
]
