"""Write micro-batches into Delta tables so that a replayed batch changes nothing."""

from spark_ext.delta.append import append
from spark_ext.delta.apply_changes import apply_changes
from spark_ext.delta.combine import combine
from spark_ext.delta.commits import Commit, commits, written_by
from spark_ext.delta.history import history
from spark_ext.delta.tables import create_table
from spark_ext.delta.txn import Txn, Written
from spark_ext.delta.upsert import upsert

__all__ = ["Commit", "Txn", "Written", "append", "apply_changes", "combine", "commits", "create_table", "history", "upsert", "written_by"]
