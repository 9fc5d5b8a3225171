"""The one builder of Spark sessions: for plain Python, notebooks and spark-submit.

What flows in: what the user set (in code, on the command line, in spark-defaults.conf) and our defaults.
What flows out: a SparkSession. What the user set always wins; ours fill the gaps. Settings travel to the
JVM in a private file, so none of them shows in a process list.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from py4j.java_gateway import JVMView
from pyspark import SparkConf, SparkContext
from pyspark.sql import SparkSession

from spark_ext.errors import SessionError
from spark_ext.jars import cache_dir, jars
from spark_ext.java import find_java
from spark_ext.spark_conf import holds, merge, split_settings, user_defaults, write_properties
from spark_ext.versions import check_versions, conf_file

__all__ = ["defaults", "is_local", "spark_session"]

REDACTION: Final = r"(?i)secret|passw|token|credential|access[.]?key|api[-_.]?key|sasl[.]jaas|private|keystore|truststore"
LOCAL_FILES: Final = "com.globalmentor.apache.hadoop.fs.BareLocalFileSystem"
FILE_MANAGER: Final = "org.apache.spark.sql.execution.streaming.checkpointing.FileSystemBasedCheckpointFileManager"
LOCAL_FILES_JAR: Final = "hadoop-bare-naked-local-fs"
PROBE_CLASSES: Final = ("org.apache.spark.sql.kafka010.KafkaSourceProvider", "io.delta.sql.DeltaSparkSessionExtension", LOCAL_FILES)


def spark_session(app_name: str, *, master: str | None = None, conf: Mapping[str, str] | None = None) -> SparkSession:
    """Return the Spark session of this process, starting it with Millrace's defaults if there is none.

    Guarantee: a setting that the user gave, here or elsewhere, is never overridden; lists of jars, extensions
    and Java options are joined with ours. With a local master nothing listens beyond the loopback address.
    Settings never appear on a command line.

    Parameters
    ----------
    app_name : str
        Name shown in Spark's UI and logs.
    master : str, optional
        Spark master; default is what spark-submit or spark-defaults.conf says, else ``local[*]``.
    conf : mapping of str to str, optional
        Further Spark settings; they win over every other place.

    Raises
    ------
    VersionMismatchError, JavaError, JarError
        An installed part does not fit, with what to change.
    SessionError
        A running JVM lacks our jars: it was started by a plain spark-submit or by other code. Or a running
        session has another value of a setting that was asked here and cannot change any more.
    """
    check_versions()
    asked = {"spark.app.name": app_name, **({"spark.master": master} if master else {}), **(conf or {})}
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)  # or workers start the system's Python
    if SparkContext._active_spark_context is not None:  # noqa: SLF001 (the only way to ask)
        return _adopt(asked)
    # After `spark.stop()` the JVM lives on, with what it was started with.
    if SparkContext._gateway is not None or "PYSPARK_GATEWAY_PORT" in os.environ:  # noqa: SLF001 (the only way to ask)
        return _submitted(asked)
    return _launched(asked)


def defaults(*, local: bool) -> dict[str, str]:
    """Return Millrace's Spark settings, each here for a reason that the user does not have to know.

    Parameters
    ----------
    local : bool
        Whether driver and executors are one process on this machine.
    """
    ours = jars("spark")
    settings = {
        "spark.jars": ",".join(map(str, ours)),
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        "spark.sql.session.timeZone": "UTC",
        "spark.redaction.regex": REDACTION,
        "spark.driver.extraJavaOptions": f"-Dlog4j2.configurationFile={conf_file('log4j2-spark.properties').as_uri()}",
        # State that is larger than memory, saved as changes; format 2 is the one with checksums.
        "spark.sql.streaming.stateStore.providerClass": "org.apache.spark.sql.execution.streaming.state.RocksDBStateStoreProvider",
        "spark.sql.streaming.stateStore.rocksdb.changelogCheckpointing.enabled": "true",
        "spark.sql.streaming.stateStore.checkpointFormatVersion": "2",
        "spark.sql.streaming.stopTimeout": "60s",  # a function that hangs must not hang the stop as well
        "spark.sql.execution.arrow.pyspark.enabled": "true",
        # With a limit Spark adds up the block's size before each row that goes to Python, which costs as much as the row; blocks
        # are limited by rows anyway. Only this very number switches it off.
        "spark.sql.execution.arrow.maxBytesPerBatch": "2147483647",
        # A Python task over TCP costs 40 ms of waiting more than one over a Unix socket.
        "spark.python.unix.domain.socket.enabled": str(os.name == "posix").lower(),
        # Small batches: a table's log needs no 50 tasks to be read.
        "spark.databricks.delta.snapshotPartitions": "2",
        "spark.ui.showConsoleProgress": "false",  # it tears other output apart
    }
    if local:
        early = os.pathsep.join(str(file) for file in ours if file.name.startswith(LOCAL_FILES_JAR))  # before `spark.jars` is read
        settings |= {
            # Hadoop starts a process to set the permissions of a local file and four to rename it; these two do it in Java.
            "spark.hadoop.fs.file.impl": LOCAL_FILES,
            "spark.sql.streaming.checkpointFileManagerClass": FILE_MANAGER,
            "spark.driver.extraClassPath": early,
            "spark.executor.extraClassPath": early,
            "spark.master": "local[*]",
            "spark.driver.host": "127.0.0.1",
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.driver.memory": "2g",
            "spark.sql.shuffle.partitions": str(max(2, os.cpu_count() or 2)),
        }
    return settings


def is_local(master: str | None) -> bool:
    """Tell whether a master, or none, means this one machine."""
    return master is None or master.startswith("local")


def _launched(asked: Mapping[str, str]) -> SparkSession:
    """Start the JVM from Python: every setting goes through a private properties file."""
    arguments = shlex.split(os.environ.get("PYSPARK_SUBMIT_ARGS", ""))
    arguments = arguments[:-1] if arguments[-1:] == ["pyspark-shell"] else arguments
    given, arguments = split_settings(arguments)
    chosen = {**user_defaults(), **given, **asked}
    local = is_local(chosen.get("spark.master"))
    os.environ.setdefault("JAVA_HOME", str(find_java(cache=cache_dir()).home))
    if local:
        os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")  # Spark's UI listens where this says
    before = os.environ.get("PYSPARK_SUBMIT_ARGS")
    with tempfile.TemporaryDirectory(prefix="millrace-") as private:
        file = Path(private, "spark.properties")
        write_properties(merge(defaults(local=local), chosen), file)
        os.environ["PYSPARK_SUBMIT_ARGS"] = shlex.join([*arguments, "--properties-file", str(file), "pyspark-shell"])
        try:
            session = SparkSession.Builder().getOrCreate()
        finally:
            os.environ.pop("PYSPARK_SUBMIT_ARGS")
            if before is not None:
                os.environ["PYSPARK_SUBMIT_ARGS"] = before
    _check_classes()
    return session


def _submitted(asked: Mapping[str, str]) -> SparkSession:
    """Fill the gaps in a session whose JVM spark-submit has started."""
    SparkContext._ensure_initialized()  # noqa: SLF001 (loads what spark-submit was given)
    given = dict(SparkConf().getAll())
    _check_classes()
    local = is_local({**given, **asked}.get("spark.master"))
    ours = defaults(local=local)
    if local and not _jvm().java.lang.System.getenv("SPARK_LOCAL_IP"):
        ours["spark.ui.enabled"] = "false"  # without that variable the web page listens on all interfaces
    builder = SparkSession.Builder()
    for key, value in merge(merge(ours, given), asked).items():
        if given.get(key) != value:
            builder.config(key, value)
    return builder.getOrCreate()


def _adopt(asked: Mapping[str, str]) -> SparkSession:
    """Use the session that is running; only settings that can still change are filled in."""
    _check_classes()
    session = SparkSession.Builder().getOrCreate()
    given = {**dict(session.sparkContext.getConf().getAll()), **session.conf.getAll}
    changing = {key: value for key, value in asked.items() if key != "spark.app.name" and not holds(given, key, value)}
    for key, value in changing.items():
        if not session.conf.isModifiable(key):
            secret = re.search(REDACTION, key) is not None
            raise SessionError(
                "change",
                "setting",
                key,
                expected="another secret" if secret else repr(value),
                got="the running session's" if secret else repr(given.get(key)),
                why="a running session keeps it",
                todo="stop the session first with `spark.stop()`, or leave the setting out",
            )
    ours = defaults(local=is_local(given.get("spark.master")))
    filling = {key: value for key, value in ours.items() if key not in given and session.conf.isModifiable(key)}
    for key, value in {**filling, **changing}.items():
        session.conf.set(key, value)
    return session


def _jvm() -> JVMView:
    jvm = SparkContext._jvm  # noqa: SLF001 (no public way)
    assert jvm is not None, "called with a running JVM only"  # noqa: S101 (a fact, not a check)
    return jvm


def _check_classes() -> None:
    loader = _jvm().java.lang.Thread.currentThread().getContextClassLoader()
    for name in PROBE_CLASSES:
        if loader.getResource(name.replace(".", "/") + ".class") is None:
            raise SessionError(
                "use",
                "session",
                "spark",
                expected=f"class {name}",
                got="a JVM without it",
                why="jars can only be added before the JVM starts",
                todo="start the job with `millrace submit`, or as: "
                'SPARK_LOCAL_IP=127.0.0.1 spark-submit --properties-file "$(millrace properties)" <job>',
            )
