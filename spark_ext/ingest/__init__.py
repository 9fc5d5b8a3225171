"""From bytes to typed rows or dead letters; nothing is dropped in between."""

from spark_ext.ingest.json import parse_json
from spark_ext.ingest.tags import accepted, dead_letters

__all__ = ["accepted", "dead_letters", "parse_json"]
