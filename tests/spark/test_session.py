"""The session: our settings fill gaps, the user's stay, nothing listens outside, nothing shows in a process list."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from pyspark.sql import SparkSession

from spark_ext.session import defaults, spark_session

pytestmark = pytest.mark.spark

PROBE = """
import json, sys, psutil
from spark_ext.session import spark_session
spark = spark_session("probe", conf=json.loads(sys.argv[1]))
processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
listening = [c.laddr.ip for p in processes for c in p.net_connections() if c.status == "LISTEN"]
lines = [" ".join(p.cmdline()) for p in processes if p.name() == "java"]
settings = dict(spark.sparkContext.getConf().getAll())
print(json.dumps({"listening": listening, "lines": lines, "settings": settings, "home": spark.sparkContext.uiWebUrl or ""}))
spark.stop()
"""


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


def test_what_the_user_set_anywhere_wins(tmp_path: Path) -> None:
    (tmp_path / "spark-defaults.conf").write_text("spark.sql.shuffle.partitions 7\nspark.sql.session.timeZone Asia/Tokyo\n")
    answer = probe(
        {"spark.redaction.regex": "mine", "spark.ui.enabled": "false"},
        SPARK_CONF_DIR=str(tmp_path),
        PYSPARK_SUBMIT_ARGS="--master local[1] --conf spark.driver.memory=1g pyspark-shell",
    )
    settings = answer["settings"]
    assert isinstance(settings, dict)
    expected = {
        "spark.sql.shuffle.partitions": "7",  # spark-defaults.conf
        "spark.sql.session.timeZone": "Asia/Tokyo",
        "spark.master": "local[1]",  # PYSPARK_SUBMIT_ARGS
        "spark.driver.memory": "1g",
        "spark.redaction.regex": "mine",  # code
    }
    assert {key: settings[key] for key in expected} == expected
    assert settings["spark.sql.extensions"] == "io.delta.sql.DeltaSparkSessionExtension", "the gaps are filled"


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


def test_a_second_call_returns_the_same_session(spark: SparkSession) -> None:
    before = spark.conf.get("spark.sql.shuffle.partitions")
    again = spark_session("other")
    assert again.sparkContext is spark.sparkContext
    assert again.conf.get("spark.sql.shuffle.partitions") == before


def test_workers_run_the_python_of_the_driver(spark: SparkSession) -> None:
    answers = spark.range(2).mapInArrow(lambda batches: batches, "id long").count()
    assert answers == 2
    assert os.environ["PYSPARK_PYTHON"] == sys.executable


def test_a_plain_spark_submit_is_told_what_to_do(tmp_path: Path) -> None:
    program = tmp_path / "job.py"
    program.write_text("from spark_ext.session import spark_session\nspark_session('job')\n")
    import pyspark  # noqa: PLC0415 (only to find its folder)

    done = subprocess.run(
        [Path(str(pyspark.__file__)).parent / "bin" / "spark-submit", "--conf", "spark.ui.enabled=false", str(program)],
        env={**os.environ, "PYSPARK_PYTHON": sys.executable, "SPARK_LOCAL_IP": "127.0.0.1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode != 0
    assert "start the job with `millrace submit`" in done.stderr + done.stdout


def test_the_session_ends_with_python() -> None:
    java = [child.pid for child in psutil.Process().children(recursive=True) if child.name() == "java"]
    probe({"spark.ui.enabled": "false"})
    after = [child.pid for child in psutil.Process().children(recursive=True) if child.name() == "java"]
    assert after == java
