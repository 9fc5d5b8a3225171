"""The user's lines first, whatever is around them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pyspark.errors import PySparkException

from spark_ext.dstream.columns.steps import MapStep, run_on_elements
from spark_ext.dstream.tracebacks import last_words, users_traceback

WORKER = """An error occurred while calling z:org.apache.spark.api.python.PythonRDD.runJob.
: org.apache.spark.SparkException: Job aborted due to stage failure: Task 0 in stage 1.0 failed 1 times, most recent failure: Lost task 0.0
 (host executor driver): org.apache.spark.api.python.PythonException: [PYTHON_EXCEPTION] An exception was thrown from the Python worker: \
Traceback (most recent call last):
  File "/x/site-packages/pyspark/python/lib/pyspark.zip/pyspark/worker.py", line 3612, in process
    serializer.dump_stream(out_iter, outfile)
  File "/x/site-packages/pyspark/python/lib/pyspark.zip/pyspark/serializers.py", line 257, in dump_stream
    vs = list(itertools.islice(iterator, batch))
         ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  File "/home/me/job.py", line 12, in parse
    return int(text)
           ^^^^^^^^^
ValueError: invalid literal for int() with base 10: 'x'

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "/x/site-packages/pyspark/python/lib/pyspark.zip/pyspark/worker.py", line 3622, in main
    process()
  File "/home/me/job.py", line 14, in parse
    raise BadLineError(text) from None
job.BadLineError: x
 SQLSTATE: 38000
\tat org.apache.spark.api.python.BasePythonRunner$ReaderIterator.handlePythonException(PythonRunner.scala:665)
\tat java.base/java.lang.Thread.run(Thread.java:840)

Driver stacktrace:
\tat org.apache.spark.scheduler.DAGScheduler.abortStage(DAGScheduler.scala:1)
"""


def raised_by(work: Callable[[], Any]) -> BaseException:
    try:
        work()
    except BaseException as error:  # noqa: BLE001 (any)
        return error
    raise AssertionError


def in_file(path: str, source: str) -> Callable[..., Any]:
    made: dict[str, Any] = {}
    exec(compile(source, path, "exec"), made)  # noqa: S102 (our own text)
    function: Callable[..., Any] = made["work"]
    return function


CAPTURED = (
    WORKER[WORKER.index("An exception was thrown") :]
    .replace("worker: Trace", "worker:\nTrace")
    .replace("\n SQLSTATE: 38000\n", "\n\nJVM stacktrace:\n")
)


@pytest.mark.parametrize("text", [WORKER, CAPTURED])
def test_a_workers_traceback_has_the_users_frames_only(text: str) -> None:
    def fails() -> None:
        raise PySparkException(text)

    told = users_traceback(raised_by(fails))
    assert told == "\n".join([
        "Traceback (most recent call last):",
        '  File "/home/me/job.py", line 12, in parse',
        "    return int(text)",
        "           ^^^^^^^^^",
        "ValueError: invalid literal for int() with base 10: 'x'",
        "",
        "During handling of the above exception, another exception occurred:",
        "",
        "Traceback (most recent call last):",
        '  File "/home/me/job.py", line 14, in parse',
        "    raise BadLineError(text) from None",
        "job.BadLineError: x",
    ])  # fmt: skip
    assert last_words(told) == "job.BadLineError: x"


def test_a_drivers_traceback_has_no_frames_of_spark_and_of_this_package() -> None:
    theirs = in_file("/x/site-packages/pyspark/core/rdd.py", "def work(f):\n    return f()")
    users = in_file("/home/me/job.py", "def work():\n    raise KeyError('a\\nb')")
    error = raised_by(lambda: list(run_on_elements([MapStep(theirs)], 0, [users])))
    told = users_traceback(error)
    assert '"/home/me/job.py", line 2, in work' in told
    assert __file__ in told
    assert "rdd.py" not in told
    assert "steps.py" not in told
    assert last_words(told) == r"KeyError: 'a\nb'"


def test_a_message_of_several_lines_is_there_and_its_first_line_is_the_last_word() -> None:
    def fails() -> None:
        msg = "one\n  two\nthree"
        raise ValueError(msg)

    told = users_traceback(raised_by(fails))
    assert told.endswith("ValueError: one\n  two\nthree")
    assert last_words(told) == "ValueError: one"


def test_where_there_are_no_frames_of_the_user_all_are_shown() -> None:
    theirs = in_file("/x/site-packages/pyspark/core/rdd.py", "def work():\n    raise ValueError('in spark')")
    error = raised_by(theirs)
    error.__traceback__ = error.__traceback__ and error.__traceback__.tb_next  # without this test
    told = users_traceback(error)
    assert "rdd.py" in told
    assert last_words(told) == "ValueError: in spark"


def test_a_cause_is_kept_and_java_is_not() -> None:
    def fails() -> None:
        try:
            msg = "cannot reach it\n\tat org.apache.spark.Some.thing(Some.scala:1)\n\t... 12 more"
            raise OSError(msg)
        except OSError as error:
            msg = "no rows today"
            raise RuntimeError(msg) from error

    told = users_traceback(raised_by(fails))
    assert "OSError: cannot reach it\n\nThe above exception was the direct cause" in told
    assert "org.apache" not in told
    assert last_words(told) == "RuntimeError: no rows today"


def test_a_program_that_ends_itself_says_so() -> None:
    def fails() -> None:
        raise SystemExit(3)

    assert last_words(users_traceback(raised_by(fails))) == "SystemExit: 3"
