"""Joins beside what else there is: Spark's stream-stream join, pandas.merge_asof, a broadcast join."""
