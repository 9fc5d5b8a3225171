"""Millrace's Spark layer: everything that turns DataFrames into DataFrames, and what a running job needs.

From an event to a table: `broker` and `kafka` bring records in, `ingest` makes typed rows or dead letters
of them, `queries` runs the stream, `delta` writes the tables. `session` builds the Spark session they share.
"""
