"""From bytes to typed rows or dead letters; nothing is dropped in between."""

from spark_ext.ingest.json import JsonFormat
from spark_ext.ingest.tags import accepted, accounts, split

__all__ = ["JsonFormat", "accepted", "accounts", "split"]
