"""Run a stream: one checkpoint, one function per micro-batch, a stop that waits for the batch to be whole."""

from spark_ext.queries.checkpoint import Checkpoint
from spark_ext.queries.progress import QueryProgress
from spark_ext.queries.query import Batch, Query, start
from spark_ext.queries.run import Outcome, run

__all__ = ["Batch", "Checkpoint", "Outcome", "Query", "QueryProgress", "run", "start"]
