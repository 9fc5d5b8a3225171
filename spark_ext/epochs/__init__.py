"""Epochs: a batch is in all sinks or in none, and a ledger says where every row went.

What flows in: the batches of a query. What flows out: Delta tables and an outbox for Kafka, and one row of the ledger per batch.
`start` runs it; `commit` is the protocol, `ledger` the table, `sinks` and `pipeline` what a job declares, `lookups` and `pins` the
versions of the tables that its route reads; `guard` decides whether a job may
start, `reading` gives several tables at one point, `outbox` publishes to Kafka.
"""

from spark_ext.epochs.ledger import EpochRow, Ledger, RangeRow, SinkRow, TableRow
from spark_ext.epochs.lookups import ByAge, EveryBatch, Lookup, OnRequest, Pinned, Refresh
from spark_ext.epochs.pins import ask_refresh
from spark_ext.epochs.pipeline import Epoch, Pipeline, Route
from spark_ext.epochs.position import starting
from spark_ext.epochs.reading import create_views, read, versions
from spark_ext.epochs.sinks import Append, CountsAs, Delivery, History, OnDamage, Outbox, Sink, Sketches, Table, Upsert
from spark_ext.epochs.start import start

__all__ = [
    "Append",
    "ByAge",
    "CountsAs",
    "Delivery",
    "Epoch",
    "EpochRow",
    "EveryBatch",
    "History",
    "Ledger",
    "Lookup",
    "OnDamage",
    "OnRequest",
    "Outbox",
    "Pinned",
    "Pipeline",
    "RangeRow",
    "Refresh",
    "Route",
    "Sink",
    "SinkRow",
    "Sketches",
    "Table",
    "TableRow",
    "Upsert",
    "ask_refresh",
    "create_views",
    "read",
    "start",
    "starting",
    "versions",
]
