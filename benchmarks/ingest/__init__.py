"""What it costs to get events in: one query over one real broker, by several ways in; see ``python -m benchmarks.ingest --help``."""
