"""The questions to sketches as functions of SQL."""

from __future__ import annotations

from pyspark.sql import SparkSession
from pyspark.sql.pandas.functions import arrow_udf

from sketches.functions.rows import OnError
from spark_ext.sketching.answers import RETURNS, Answers

__all__ = ["register"]


def register(spark: SparkSession, on_error: OnError = "fail") -> None:
    """Make the questions to stored sketches functions of SQL in a session, by their names with ``sketch_`` before.

    ::

        sketch_kind(s), sketch_parameters(s)      what a sketch is; its parameters as JSON
        sketch_error(s)                           what is wrong with a row: null if it is sound
        sketch_estimate(s)                        the one number it stands for: double
        sketch_bounds(s [, confidence])           struct of estimate, lower, upper
        sketch_contains(s, item [, hashed])       whether a filter may hold it
        sketch_frequency(s, item [, confidence [, hashed]])   how often it came: struct of estimate, lower, upper
        sketch_top(s, n [, confidence])           the most frequent items: array of struct of item, estimate, lower, upper, guaranteed
        sketch_top_at(s, n, at)                   the same of decayed weights at an instant
        sketch_heavy(s, share [, confidence])     items that are at least a share of all, for certain or possibly
        sketch_sample(s)                          the items of a sample
        sketch_quantile(s, q [, confidence])      struct of estimate, lower, upper
        sketch_rank(s, x [, confidence])          the share of values up to x, likewise
        sketch_decayed(s, at)                     struct of count, sum, mean
        sketch_union(a, b)                        the sketch of both
        sketch_union_estimate(a, b [, confidence]), and sketch_intersection, sketch_difference, sketch_jaccard
        sketch_merge(s)                           aggregate: the sketch of all rows of a group
        sketch_merge_list(array)                  the sketch of all in an array, such as of collect_list(s)

    Guarantee: the answers of `sketches.functions`, in which what each promises is said. Arguments may be given by name, ``confidence =>
    0.99``. Items come back as strings. `spark_ext.sketching.functions` has the same for DataFrames.

    A literal has the type that SQL gives it, and 5 is an int: in a sketch of a bigint column ask for ``5L``. ``sketch_merge`` takes what
    comes batch by batch, so a group may be of any size, but Spark allows no aggregate of its own beside it, no window and no ``FILTER``,
    and gives no row for no rows without ``GROUP BY``; where one of these matters, and the sketches of a group fit into one row of 2 GB,
    write ``sketch_merge_list(collect_list(s))``. It is also several times as fast where groups are many and small: a group costs Spark
    some 0.5 ms in ``sketch_merge``. Rows in errors are counted within the batch that Spark made, for ``sketch_merge`` within
    the group.

    Parameters
    ----------
    spark : SparkSession
    on_error : "fail" or "null"
        Whether a row that cannot be answered (damaged or foreign bytes, a kind of sketch without such an answer) fails the query, or gives
        null; for merges, is left out. Calling it again changes it for queries that are planned afterwards.

    Examples
    --------
    >>> register(spark)  # doctest: +SKIP
    >>> spark.sql("SELECT day, sketch_estimate(sketch_merge(visitors)) FROM pages GROUP BY day")  # doctest: +SKIP
    """
    answers = Answers(on_error)
    for name, returns in RETURNS.items():
        function = arrow_udf(getattr(answers, name), returns.replace("{item}", "string"))  # type: ignore[call-overload]  # by its hints
        spark.udf.register(f"sketch_{name}", function)
