"""Rows that say the same thing twice are told apart from those that do not; none is dropped."""

from spark_ext.dedup.dedup_kernel import Dedup
from spark_ext.dedup.plan import drop_duplicates, duplicates, invalid, late, unique

__all__ = ["Dedup", "drop_duplicates", "duplicates", "invalid", "late", "unique"]
