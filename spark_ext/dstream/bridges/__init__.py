"""From DStreams to the rest: DataFrames, Delta tables, epochs, sketches.

DStream -- toDF(schema) --> FrameStream: per batch a DataFrame -- foreachBatch, saveToDelta, SQL
   ^                             |
   '-------- toDStream ----------'
DStream -- sketchByKey --> (key, sketch) per batch or window
DStream -- toStreamingDF --> a table, read as a streaming DataFrame: windows over event time, dedup, joins
"""

from spark_ext.dstream.bridges.frames import FrameStream
from spark_ext.dstream.bridges.methods import Bridges

__all__ = ["Bridges", "FrameStream"]
