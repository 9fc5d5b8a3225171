"""Rows that say the same thing twice are told apart from those that do not; none is dropped.

`drop_duplicates` is exact. `approx_drop_duplicates` takes a stated share of new rows for duplicates, and a fraction of the state.
"""

from spark_ext.dedup.approx_kernel import ApproxDedup
from spark_ext.dedup.approx_plan import approx_drop_duplicates
from spark_ext.dedup.dedup_kernel import Dedup
from spark_ext.dedup.plan import drop_duplicates, duplicates, invalid, late, unique

__all__ = ["ApproxDedup", "Dedup", "approx_drop_duplicates", "drop_duplicates", "duplicates", "invalid", "late", "unique"]
