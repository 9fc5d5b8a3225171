"""Rows meet a table of which every worker has a copy."""

from __future__ import annotations

from pyspark.sql import DataFrame

from spark_ext.errors import JoinError
from spark_ext.joins.copy_kernel import LookupHow
from spark_ext.joins.local_copy import MOST_ROWS, LocalCopy, copy_of, joined
from spark_ext.joins.on import On
from spark_ext.joins.table_layout import Columns, TableLayout

__all__ = ["check_matches", "lookup"]


def lookup(
    rows: DataFrame,
    table: DataFrame,
    *,
    on: On,
    how: LookupHow = "left",
    suffix: str = "_right",
    columns: Columns | None = None,
    most_matches: int = 1,
    most_rows: int = MOST_ROWS,
) -> DataFrame:
    """Join rows with a table that is small enough for a copy in each worker.

    Guarantee: the rows of Spark's join of the two on equal keys, in the order of `rows` within a partition; a null in a key matches
    nothing. The table is read once for a frame, not once per batch: `Epoch.table` gives the same frame for as long as the version is in
    use, so an epoch costs what its rows cost. No shuffle, no broadcast join.

    Parameters
    ----------
    rows : DataFrame
        A batch, a stream or a bounded frame. On a stream, outside of epochs, the table stays as it was at the first batch.
    table : DataFrame
        Bounded: of `Epoch.table`, or any other.
    on : str, sequence of str, or mapping of str to str
        Key columns, or the rows' to the table's. Types must be equal; no arrays, maps or collated texts.
    how : {"left", "inner", "semi", "anti"}
        As in Spark.
    suffix : str
        For columns of the table whose names the rows have.
    columns : sequence of str, or mapping of str to str, optional
        Columns of the table that come out, perhaps under other names; default all but the keys.
    most_matches : int
        Rows of the table that a key may have; more are refused, as rows of the stream would become many. Does not count for semi and anti.
    most_rows : int
        Rows of the table that are copied at most; see `lookup_keys` for more.

    Returns
    -------
    DataFrame
        The columns of `rows`, then those of the table, which are nullable.

    Raises
    ------
    SchemaError
        A column is missing or ambiguous, or keys have different types.
    SettingsError
        An argument that cannot be used.
    JoinError
        A key has more rows than `most_matches`, or the table more than `most_rows`.

    State: none in Spark; in the driver and each worker the copy: 8 bytes, the key and the columns, per row of the table.
    """
    layout = TableLayout.of(rows, table, on=on, how=how, suffix=suffix, columns=columns)
    copy = copy_of(table, layout, most_rows=most_rows)
    check_matches(copy, layout, most_matches)
    return joined(rows, copy, layout)


def check_matches(copy: LocalCopy, layout: TableLayout, most_matches: int) -> None:
    """Refuse a table with too many rows of one key.

    Raises
    ------
    JoinError
        With that key.
    """
    if layout.looked_up and copy.most > most_matches:
        raise JoinError(
            "look up", "key", ", ".join(layout.table_keys), expected=f"at most {most_matches} rows of a key in the table",
            got=f"{copy.most} of {copy.worst}", why="each row with that key would become as many",
            todo="leave one of them, or allow for it with most_matches=",
        )  # fmt: skip
