"""Rows of a batch or a stream with what a remote service knows of their keys.

    HTTP   rows -- mapInArrow: distinct keys of a block -- known? -- no --> batches of keys --> service
                       rows x answers <---------------------- yes        retries, deadline, circuit breaker

    JDBC   distinct keys of the batch --> driver: the same --> Spark's JDBC reader --> database
           rows -- Spark's join with the answers

One function, and the source decides where it runs: an HTTP service is asked by Python workers, next to the rows, so that also works on a
stream. JDBC needs a JVM, which workers have none of; Spark's reader is one, but makes a frame, which only the driver can ask for: while it
routes a batch. A Python driver of the database in workers would be another door to the same table, with its own types and secrets.
"""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql.types import StructType

from spark_ext.errors import SettingsError
from spark_ext.joins.on import On
from spark_ext.joins.remote.by_driver import by_driver
from spark_ext.joins.remote.by_workers import by_workers
from spark_ext.joins.remote.http import HttpLookup
from spark_ext.joins.remote.jdbc import JdbcLookup
from spark_ext.joins.remote.layout import Layout, OnFailure
from spark_ext.joins.remote.limits import Cache
from spark_ext.joins.remote.match_kernel import How

__all__ = ["lookup_remote"]


def lookup_remote(
    rows: DataFrame,
    source: HttpLookup | JdbcLookup,
    *,
    on: On,
    returns: StructType | str | None = None,
    how: How = "left",
    cache: Cache | None = None,
    on_failure: OnFailure = "fail",
) -> DataFrame:
    """Join rows with what a remote service has for their keys.

    Guarantee: each key is asked for at most once in a block of rows (JDBC: in a batch), and not at all while an answer for it is
    remembered. With ``on_failure="fail"`` the result is the join of the rows with the service's answers, none older than `cache` says,
    or an error. With ``"tag"`` every row whose key could not be looked up comes out once with the reason, whatever `how`, and the rest is
    the join. Nothing is promised across keys: the service may change between two requests.

    Not stable on replay: the service may answer otherwise when rows are computed again, after a crash or because two sinks use the
    frame. In an epoch that is committed nothing is computed again. If several sinks read the result, ``persist()`` it, and
    ``unpersist()`` it when the next epoch comes. Where each row must have one answer for ever, put the answers into a table first, in
    an epoch of their own, and join with that. JDBC is asked when this is called, so all that read the result see the same answers.

    Parameters
    ----------
    rows : DataFrame
        A stream or a bounded frame; `JdbcLookup`: the frame of a batch, such as the rows of an epoch, which is read when this is called.
    source : HttpLookup or JdbcLookup
        Whom to ask, and within which limits.
    on : str, sequence of str, or mapping of str to str
        Key columns; a mapping says how the service names them. A row with null in one of them is not asked for and matches nothing.
    returns : StructType or str
        Columns of the answer, a struct type or DDL: exactly as the service has them, nothing is cast. None with semi and anti.
    how : {"left", "inner", "semi", "anti"}
        As in Spark. A row comes out once for each row that the service has for its key.
    cache : Cache, optional
        What is kept of answers, in each worker (JDBC: in the driver); default is ``Cache()``.
    on_failure : {"fail", "tag"}
        Without an answer: end the query, or give the rows out with ``lookup_error``.

    Returns
    -------
    DataFrame
        The columns of `rows`; with left and inner those of `returns`, nullable; with ``on_failure="tag"`` also ``lookup_error``,
        string, null where the lookup went well.

    Raises
    ------
    SchemaError
        A column is missing or there already, or of a type that cannot be looked up.
    SettingsError
        Something else does not fit, with what to do; also in the running query, where a secret is not there.
    RemoteLookupError
        In the running query (JDBC: at once), with ``on_failure="fail"``: no answer, or one that cannot be used, with service, key and
        field. The checkpoint stands before the batch.

    State: none in the checkpoint; answers and circuit breaker live as long as the worker.
    """
    layout = Layout.of(rows, source, on, returns, how, Cache() if cache is None else cache, on_failure)
    if isinstance(source, HttpLookup):
        return by_workers(rows, source, layout)
    if rows.isStreaming:
        expected, got = "the frame of a batch", "a stream"
        why, todo = "the driver asks a database, batch by batch", "call it in the route of an epoch, or in foreachBatch"
        raise SettingsError("look up in", "table", source.name, expected=expected, got=got, why=why, todo=todo)
    return by_driver(rows, source, layout)
