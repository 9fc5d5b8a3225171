"""Event time of several sources: a watermark for each, how late rows are, and how far sources are apart."""

from spark_ext.time.histograms import lateness_histogram, skew
from spark_ext.time.idle import IdleWatch
from spark_ext.time.sources import guarded, union, with_watermark

__all__ = ["IdleWatch", "guarded", "lateness_histogram", "skew", "union", "with_watermark"]
