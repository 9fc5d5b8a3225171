"""Discretized streams: the words of `pyspark.streaming`, on Structured Streaming.

What flows in: RDDs, files, sockets, Kafka, streaming DataFrames. What flows out: per batch interval one RDD or DataFrame per stream.
"""

from spark_ext.dstream.context import StreamingContext
from spark_ext.dstream.dstream import DStream
from spark_ext.dstream.listener import StreamingListener
from spark_ext.dstream.state.spec import State, StateSpec

__all__ = ["DStream", "State", "StateSpec", "StreamingContext", "StreamingListener"]
