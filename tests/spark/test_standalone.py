"""`millrace submit --ship` on a real cluster of this machine, whose workers' Python has none of our packages."""

import json
import os
import subprocess
import sys
import urllib.request
import venv
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable
from pyspark.find_spark_home import _find_spark_home
from tenacity import Retrying, retry_if_exception_type, retry_if_not_result, stop_after_delay, wait_fixed

from jobs.flights.events import events
from jobs.flights.publish import publish
from spark_ext.broker import Broker
from spark_ext.broker.ports import choose_ports
from spark_ext.jars import cache_dir
from spark_ext.java import find_java
from spark_ext.ops.ship import ShipError, ship_settings
from spark_ext.ops.submit import submit_command
from spark_ext.spark_conf import read_properties

ROWS = 20_000
REPOSITORY = Path(__file__).resolve().parents[2]
MILLRACE = Path(sys.executable).with_name("millrace")
ON_CLUSTER = pytest.mark.timeout(600)

PROGRAM = """
import json
import pandas as pd
from pyspark.sql import functions as F
from spark_ext.session import spark_session

def where(batches):
    import sys
    import pandas, pyarrow
    import jobs.flights.settings, spark_ext.versions
    for _ in batches:
        conf = spark_ext.versions.conf_file("flights/docker.toml").is_file()
        row = [sys.prefix, pandas.__file__, pyarrow.__file__, jobs.flights.settings.__file__, str(conf)]
        yield pyarrow.RecordBatch.from_arrays([[text] for text in row], names=["prefix", "pandas", "pyarrow", "jobs", "conf"])

spark = spark_session("where")

@F.pandas_udf("long")
def doubled(numbers: pd.Series) -> pd.Series:
    return numbers * 2

numbers = spark.range(0, 4, 1, 2)
found = numbers.mapInArrow(where, "prefix string, pandas string, pyarrow string, jobs string, conf string").collect()
total = numbers.select(F.sum(doubled("id"))).first()[0]
print(json.dumps({"found": [row.asDict() for row in found], "total": total}))
spark.stop()
"""


@dataclass(frozen=True)
class Cluster:
    """A master, two workers, and the interpreter that the workers find as `python3.11`."""

    master: str
    ui: str
    work: list[Path]
    bare: Path

    def state(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self.ui}/json/", timeout=5) as answer:  # noqa: S310 (our own loopback address)
            return dict(json.load(answer))


def clean_environment(bare: Path) -> dict[str, str]:
    """What a worker's machine has: Spark, a Java, a bare Python; nothing of this process's environment."""
    return {
        "PATH": os.pathsep.join([str(bare / "bin"), "/usr/bin", "/bin"]),
        "JAVA_HOME": str(find_java(cache=cache_dir()).home),
        "SPARK_HOME": _find_spark_home(),
        "SPARK_LOCAL_IP": "127.0.0.1",
    }


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("cluster")
    venv.create(folder / "bare", with_pip=False)
    environment = clean_environment(folder / "bare")
    spark_class = str(Path(environment["SPARK_HOME"], "bin", "spark-class"))
    [ports] = choose_ports(1)
    made = Cluster(
        f"spark://127.0.0.1:{ports.broker}", f"http://127.0.0.1:{ports.controller}", [folder / "a", folder / "b"], folder / "bare"
    )
    master = ["org.apache.spark.deploy.master.Master", "--port", str(ports.broker), "--webui-port", str(ports.controller)]
    worker = ["org.apache.spark.deploy.worker.Worker", "--cores", "1", "--memory", "1g", "--webui-port", "0"]
    lines = [master, *([*worker, "--work-dir", str(work), made.master] for work in made.work)]
    with ExitStack() as stack:
        for number, (name, *arguments) in enumerate(lines):
            log = stack.enter_context((folder / f"{number}.log").open("w"))
            started = subprocess.Popen(
                [spark_class, name, "--host", "127.0.0.1", *arguments], cwd=folder, env=environment, stdout=log, stderr=log
            )
            stack.callback(started.wait, timeout=60)
            stack.callback(started.terminate)
        unready = retry_if_exception_type(OSError) | retry_if_not_result(lambda state: state["aliveworkers"] == len(made.work))
        Retrying(retry=unready, stop=stop_after_delay(60), wait=wait_fixed(0.2))(made.state)
        yield made


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty cache that shares the real one's jars, so that the archives are really packed."""
    folder = tmp_path_factory.mktemp("cache")
    (folder / "jars").symlink_to(cache_dir() / "jars")
    return folder


def submit(cluster: Cluster, cache: Path, program: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    settings = {
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.executor.cores": "1",
        "spark.sql.shuffle.partitions": "2",
        "spark.ui.enabled": "false",
    }
    options = [word for key, value in settings.items() for word in ("--conf", f"{key}={value}")]
    line = [MILLRACE, "submit", "--ship", "--master", cluster.master, *options, program, *arguments]
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYSPARK_", "SPARK_", "PYTHON"))}
    environment |= {"MILLRACE_CACHE": str(cache), "SPARK_LOCAL_IP": "127.0.0.1"}
    return subprocess.run(line, cwd=cache, env=environment, capture_output=True, text=True, timeout=400, check=False)


@pytest.mark.slow
@pytest.mark.spark
@pytest.mark.parametrize("module", ["pandas", "pyarrow", "spark_ext", "jobs"])
def test_the_workers_python_is_bare(cluster: Cluster, module: str) -> None:
    python = cluster.bare / "bin" / "python3.11"
    tried = subprocess.run([python, "-c", f"import {module}"], cwd=cluster.bare, env={}, capture_output=True, text=True, check=False)
    assert f"ModuleNotFoundError: No module named '{module}'" in tried.stderr


@pytest.mark.slow
@pytest.mark.spark
@ON_CLUSTER
def test_python_functions_find_their_packages_on_the_workers(cluster: Cluster, cache: Path, tmp_path: Path) -> None:
    program = tmp_path / "where.py"
    program.write_text(PROGRAM, encoding="utf-8")
    done = submit(cluster, cache, program)
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["total"] == 2 * (0 + 1 + 2 + 3)
    assert told["found"], "no batch reached an executor"
    for row in told["found"]:
        assert row["prefix"] == str(cluster.bare)
        assert row["conf"] == "True"
        for module, folder in {"pandas": "millrace_env", "pyarrow": "millrace_env", "jobs": "millrace_code"}.items():
            path = Path(row[module])
            assert folder in path.parts
            assert any(path.is_relative_to(work) for work in cluster.work), path


@pytest.mark.slow
@pytest.mark.spark
@pytest.mark.kafka
@ON_CLUSTER
def test_the_flights_job_runs_on_both_workers(cluster: Cluster, cache: Path, tmp_path: Path) -> None:
    with Broker() as broker:
        broker.create_topic("flights", partitions=2)
        publish(broker.bootstrap_servers, "flights", events().head(ROWS))
        job = REPOSITORY / "jobs" / "flights" / "main.py"
        done = submit(cluster, cache, job, "--bootstrap-servers", broker.bootstrap_servers, "--out", str(tmp_path / "out"))
    assert done.returncode == 0, done.stdout + done.stderr
    rows = {table.name: len(DeltaTable(table).to_pandas()) for table in (tmp_path / "out" / "tables").iterdir()}
    assert rows["flight_events"] + rows["late_events"] + rows["dead_letters"] == ROWS
    assert rows["dead_letters"] == 0
    assert rows["hourly_departures"] > 0
    assert rows["routes"] > 0
    newest = max(cluster.state()["completedapps"], key=lambda app: app["starttime"])
    assert [len(list(work.glob(f"{newest['id']}/*/stderr"))) for work in cluster.work] == [1, 1], "one executor on each worker"


def test_settings_of_the_user_are_kept(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILLRACE_CACHE", str(cache))
    monkeypatch.delenv("PYSPARK_PYTHON", raising=False)
    settings = ship_settings({"spark.archives": "mine.zip#mine", "spark.executorEnv.PYTHONPATH": "./mine"})
    assert settings["spark.executorEnv.PYTHONPATH"] == "./millrace_code:./millrace_env:./mine"
    assert [archive.partition("#")[2] for archive in settings["spark.archives"].split(",")] == ["millrace_code", "millrace_env", "mine"]
    assert settings["spark.pyspark.python"] == "python3.11"


def test_an_unchanged_environment_is_packed_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILLRACE_CACHE", str(cache))
    first = ship_settings({})
    written = {file: file.stat().st_mtime_ns for file in (cache / "ship").iterdir()}
    assert ship_settings({}) == first
    assert {file: file.stat().st_mtime_ns for file in (cache / "ship").iterdir()} == written


def test_shipping_to_this_machine_is_refused() -> None:
    with pytest.raises(
        ShipError, match=r"^cannot ship environment .*: expected the master of a cluster, got 'local\[2\]'; .*; leave --ship out"
    ):
        submit_command(["--ship", "--master", "local[2]", "job.py"])


@pytest.mark.parametrize("option", [["--files", "a.txt"], ["--py-files=a.py"], ["--verbose"], ["--load-spark-defaults"]])
def test_the_program_is_not_an_options_value(option: list[str], cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILLRACE_CACHE", str(cache))
    line, _ = submit_command([*option, "--master", "spark://there:7077", "job.py", "--ship", "--master", "mine"])
    assert line[3:] == [*option, "job.py", "--ship", "--master", "mine"]
    assert read_properties(Path(line[2]))["spark.master"] == "spark://there:7077"
