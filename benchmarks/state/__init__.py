"""What keyed state by bucket costs beside Spark's own operators: see `__main__`."""
