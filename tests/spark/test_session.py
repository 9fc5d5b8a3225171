"""The session: our settings fill gaps, the user's stay, nothing listens outside, nothing shows in a process list."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast
from zipfile import ZipFile

import psutil
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pyspark.errors import IllegalArgumentException
from pyspark.find_spark_home import _find_spark_home
from pyspark.sql import SparkSession

from spark_ext.errors import SessionError, SettingsError
from spark_ext.ops.submit import properties_file
from spark_ext.session import defaults, spark_session
from spark_ext.spark_conf import read_properties, write_properties

pytestmark = pytest.mark.spark

PROBE = """
import json, sys, psutil
from spark_ext.session import spark_session
spark = spark_session("probe", conf=json.loads(sys.argv[1]))
processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
listening = [c.laddr.ip for p in processes for c in p.net_connections() if c.status == "LISTEN"]
jvms = [p for p in processes if p.name() == "java"]
lines = [" ".join(p.cmdline()) for p in jvms]
settings = dict(spark.sparkContext.getConf().getAll())
home = spark.sparkContext.uiWebUrl or ""
print(json.dumps({"listening": listening, "lines": lines, "settings": settings, "home": home, "jvms": [p.pid for p in jvms]}))
spark.stop()
"""


@contextmanager
def started_processes(spark: SparkSession, record: Path) -> Iterator[list[str]]:
    """The commands that the JVM starts inside the block, in the list once it has ended."""
    jvm = cast("Any", spark._jvm)  # no public way
    started: list[str] = []
    recording = jvm.jdk.jfr.Recording()
    recording.enable("jdk.ProcessStart")
    recording.start()
    file = jvm.java.io.File(str(record)).toPath()
    try:
        yield started
        recording.dump(file)
    finally:
        recording.close()
    started.extend(event.getString("command") for event in jvm.jdk.jfr.consumer.RecordingFile.readAllEvents(file))


def probe(conf: dict[str, str], **environment: str) -> dict[str, object]:
    """Start a session in a fresh Python and ask it about itself."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE, json.dumps(conf)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    answer: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return answer


@pytest.mark.parametrize(("key", "value"), sorted((k, v) for k, v in defaults(local=True).items() if k.startswith("spark.sql.streaming")))
def test_our_settings_are_in_force(spark: SparkSession, key: str, value: str) -> None:
    assert spark.conf.get(key) == value


def test_what_the_user_set_anywhere_wins_and_lists_are_joined(tmp_path: Path) -> None:
    with ZipFile(tmp_path / "mine.jar", "w"):
        pass  # an empty jar is one
    (tmp_path / "spark-defaults.conf").write_text("spark.sql.shuffle.partitions 7\nspark.sql.session.timeZone Asia/Tokyo\n")
    answer = probe(
        {"spark.redaction.regex": "mine", "spark.ui.enabled": "false", "spark.sql.extensions": "mine.Extension"},
        SPARK_CONF_DIR=str(tmp_path),
        PYSPARK_SUBMIT_ARGS=f"--master local[1] --conf spark.driver.memory=1g --jars {tmp_path}/mine.jar"
        " --driver-java-options -Dmine=1 pyspark-shell",
    )
    found = answer["settings"]
    assert isinstance(found, dict)
    expected = {
        "spark.sql.shuffle.partitions": "7",  # spark-defaults.conf
        "spark.sql.session.timeZone": "Asia/Tokyo",
        "spark.master": "local[1]",  # PYSPARK_SUBMIT_ARGS
        "spark.driver.memory": "1g",
        "spark.redaction.regex": "mine",  # code
    }
    assert {key: found[key] for key in expected} == expected
    ours = defaults(local=True)
    assert found["spark.sql.extensions"] == ours["spark.sql.extensions"] + ",mine.Extension"
    assert found["spark.driver.extraJavaOptions"].endswith(ours["spark.driver.extraJavaOptions"] + " -Dmine=1"), "Spark puts its own first"
    assert [Path(jar).name for jar in found["spark.jars"].split(",")] == [
        *(Path(jar).name for jar in ours["spark.jars"].split(",")),
        "mine.jar",
    ]
    assert found["spark.sql.catalog.spark_catalog"] == ours["spark.sql.catalog.spark_catalog"], "the gaps are filled"


def test_nothing_listens_beyond_loopback_and_no_setting_is_on_the_command_line() -> None:
    answer = probe({"spark.hadoop.fs.s3a.secret.key": "canary-7731"})
    listening, lines = answer["listening"], answer["lines"]
    assert isinstance(listening, list)
    assert isinstance(lines, list)
    assert "http://127.0.0.1:" in str(answer["home"]), "the web page was up, or this test shows nothing"
    assert listening
    assert {address.removeprefix("::ffff:") for address in listening} <= {"127.0.0.1", "::1"}
    assert lines
    assert not any("canary-7731" in line or "spark.redaction" in line for line in lines)


def test_a_batch_starts_no_process_to_write_local_files(spark: SparkSession, tmp_path: Path) -> None:
    with started_processes(spark, tmp_path / "started.jfr") as started:
        spark.range(0, 5, 1, 5).write.parquet(str(tmp_path / "rows"))
        rows = spark.readStream.schema("id long").option("maxFilesPerTrigger", 1).parquet(str(tmp_path / "rows"))
        writer = rows.writeStream.format("noop").option("checkpointLocation", str(tmp_path / "checkpoint"))
        writer.trigger(availableNow=True).start().awaitTermination()
    # By path: Hadoop asks for the user's groups at times, and Spark removes the folders of sessions that are gone.
    assert [command for command in started if str(tmp_path) in command] == [], "Hadoop alone starts 100"
    commits = [tmp_path / "checkpoint" / "commits" / str(number) for number in range(5)]
    assert {file.stat().st_mode & 0o777 for file in commits} == {0o644}
    assert all(file.with_name(f".{file.name}.crc").exists() for file in tmp_path.glob("rows/*.parquet")), "read back with a checksum"


def test_a_second_call_returns_the_same_session(spark: SparkSession) -> None:
    before = spark.conf.get("spark.sql.shuffle.partitions")
    again = spark_session("other")
    assert again.sparkContext is spark.sparkContext
    assert again.conf.get("spark.sql.shuffle.partitions") == before


def test_a_setting_that_cannot_change_any_more_is_refused(spark: SparkSession) -> None:
    before = spark.conf.get("spark.sql.shuffle.partitions")
    message = (
        r"^cannot change setting '{}': expected '{}', got '{}'; a running session keeps it; stop the session first with `spark.stop\(\)`"
    )
    with pytest.raises(SessionError, match=message.format("spark.driver.memory", "9g", ".*")):
        spark_session("other", conf={"spark.sql.shuffle.partitions": "77", "spark.driver.memory": "9g"})
    with pytest.raises(SessionError, match=message.format("spark.master", r"local\[7\]", r"local\[2\]")):
        spark_session("other", master="local[7]")
    assert spark.conf.get("spark.sql.shuffle.partitions") == before, "all or nothing"
    with pytest.raises(SessionError, match=r"setting 'spark.hadoop.fs.s3a.secret.key': expected another secret") as refused:
        spark_session("other", conf={"spark.hadoop.fs.s3a.secret.key": "canary-7731"})
    assert "canary" not in str(refused.value)


def test_what_is_asked_and_is_so_is_not_refused(spark: SparkSession) -> None:
    ours = defaults(local=True)
    asked = {key: ours[key] for key in ("spark.jars", "spark.sql.extensions", "spark.driver.memory")}
    assert spark_session("other", master="local[2]", conf=asked).sparkContext is spark.sparkContext


def test_the_running_sessions_master_decides_what_is_filled_in(spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> None:
    masters: list[str | None] = []
    monkeypatch.setattr("spark_ext.session.is_local", masters.append)
    spark_session("other")
    assert masters == [spark.sparkContext.master]


def test_a_new_session_after_stop_is_the_one_that_was_asked_for() -> None:
    program = """
from spark_ext.session import spark_session
base = {"spark.ui.enabled": "false", "spark.driver.memory": "1g"}
spark_session("first", master="local[2]", conf={**base, "spark.sql.shuffle.partitions": "3"}).stop()
asked = {"spark.sql.shuffle.partitions": "7", "spark.sql.session.timeZone": "Asia/Tokyo"}
spark = spark_session("second", master="local[1]", conf={**base, **asked})
print(spark.sparkContext.master, spark.sparkContext.appName, *[spark.conf.get(key) for key in asked])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.split() == ["local[1]", "second", "7", "Asia/Tokyo"]


def test_workers_run_the_python_of_the_driver(spark: SparkSession) -> None:
    def whose(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for _ in batches:
            yield pa.RecordBatch.from_pydict({"python": [sys.executable]})

    answers = spark.range(2).mapInArrow(whose, "python string").collect()
    assert {row["python"] for row in answers} == {sys.executable}


def submit(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Spark's own spark-submit, without what our own session has put into this process's environment."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("PYSPARK_", "SPARK_"))}
    return subprocess.run(
        [Path(_find_spark_home(), "bin", "spark-submit"), *arguments],
        env={**inherited, "PYSPARK_PYTHON": sys.executable, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_plain_spark_submit_is_told_what_to_do(tmp_path: Path) -> None:
    program = tmp_path / "job.py"
    program.write_text("from spark_ext.session import spark_session\nspark_session('job')\n")
    done = submit("--conf", "spark.ui.enabled=false", program, SPARK_LOCAL_IP="127.0.0.1")
    assert done.returncode != 0
    said = done.stderr + done.stdout
    assert "start the job with `millrace submit`" in said
    assert 'SPARK_LOCAL_IP=127.0.0.1 spark-submit --properties-file "$(millrace properties)"' in said


@pytest.mark.parametrize("environment", [{}, {"SPARK_LOCAL_IP": "127.0.0.1"}])
def test_a_plain_spark_submit_does_not_listen_beyond_loopback(tmp_path: Path, environment: dict[str, str]) -> None:
    program = tmp_path / "job.py"
    program.write_text(
        "import psutil\nfrom spark_ext.session import spark_session\nspark = spark_session('job')\njvm = psutil.Process().parent()\n"
        "found = [c.laddr.ip.removeprefix('::ffff:') for c in jvm.net_connections() if c.status == 'LISTEN']\n"
        "print('found', bool(spark.sparkContext.uiWebUrl), *found)\n"
    )
    done = submit("--properties-file", properties_file({"spark.master": "local[1]"}), program, **environment)
    assert done.returncode == 0, done.stderr
    [page, *listening] = next(line.split()[1:] for line in done.stdout.splitlines() if line.startswith("found "))
    assert page == str("SPARK_LOCAL_IP" in environment), "with the variable there is a web page"
    assert listening
    assert set(listening) <= {"127.0.0.1", "::1"}


def test_the_session_ends_with_python() -> None:
    [jvm] = cast("list[int]", probe({"spark.ui.enabled": "false"})["jvms"])
    with suppress(psutil.NoSuchProcess):
        psutil.Process(jvm).wait(timeout=30)
    assert not psutil.pid_exists(jvm)


@settings(deadline=None)
@example(text="\\\r#")  # a comment behind a continued empty line
@example(text=":\\u")  # malformed where no name stands
@given(text=st.text(st.sampled_from("\\\\\\\r\n\t\f =:#!u0041abé\u2028\x85"), max_size=30))
def test_properties_are_read_as_java_reads_them(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    file = tmp_path_factory.getbasetemp() / "read.properties"
    file.write_text(text, encoding="utf-8", newline="")
    try:
        ours = read_properties(file)
    except SettingsError:
        with pytest.raises(IllegalArgumentException, match="Malformed"):
            java_reads(spark, file)
    else:
        assert java_reads(spark, file) == ours


@settings(deadline=None)
@given(wanted=st.dictionaries(st.text("ab =:#!\\\t\r\né", min_size=1, max_size=4), st.text("ab =:#!\\\t\f\r\né\u2028😀", max_size=8)))
def test_properties_are_written_as_java_reads_them(
    spark: SparkSession, tmp_path_factory: pytest.TempPathFactory, wanted: dict[str, str]
) -> None:
    file = tmp_path_factory.getbasetemp() / "written.properties"
    write_properties(wanted, file)
    assert java_reads(spark, file) == wanted


def java_reads(spark: SparkSession, file: Path) -> dict[str, str]:
    """Read a properties file with Java's own class, as Spark does; a value without a name is no setting."""
    jvm = spark._jvm
    assert jvm is not None
    properties = jvm.java.util.Properties()
    reader = jvm.java.io.InputStreamReader(jvm.java.io.FileInputStream(str(file)), "UTF-8")
    try:
        properties.load(reader)
    finally:
        reader.close()
    return {key: properties.getProperty(key) for key in properties.stringPropertyNames() if key}
