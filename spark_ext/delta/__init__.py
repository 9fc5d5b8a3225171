"""Write micro-batches into Delta tables so that a replayed batch changes nothing."""

from spark_ext.delta.append import append
from spark_ext.delta.small import append_small
from spark_ext.delta.tables import create_table
from spark_ext.delta.upsert import upsert

__all__ = ["append", "append_small", "create_table", "upsert"]
