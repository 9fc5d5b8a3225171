"""Discretized streams: the words of `pyspark.streaming`, on Structured Streaming.

What flows in: RDDs, files, sockets, Kafka, streaming DataFrames. What flows out: per batch interval one RDD or DataFrame per stream.
"""

from spark_ext.dstream.context import StreamingContext
from spark_ext.dstream.dstream import DStream
from spark_ext.dstream.listener import StreamingListener

__all__ = ["DStream", "StreamingContext", "StreamingListener"]
