"""`up`, `status` and `down` as a user runs them: three processes that know each other by a file."""

import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from confluent_kafka.admin import AdminClient

from spark_ext.broker import state
from spark_ext.jars import cache_dir

pytestmark = pytest.mark.kafka


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = "from spark_ext.broker.cli import app; app()"
    return subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder that shares the real one's jars."""
    (tmp_path / "jars").symlink_to(cache_dir() / "jars")
    monkeypatch.setenv("MILLRACE_CACHE", str(tmp_path))
    return tmp_path


def test_up_status_down(cache: Path) -> None:
    try:
        first = run("up")
        assert first.returncode == 0, first.stderr
        servers = first.stdout.strip()
        assert AdminClient({"bootstrap.servers": servers}).list_topics(timeout=10).brokers.keys() == {1}

        again = run("up")
        assert (again.returncode, again.stdout.strip()) == (0, servers)
        assert "already up" in again.stderr

        shown = run("status")
        [node] = state.load()
        assert shown.returncode == 0, shown.stderr
        assert [part in shown.stdout for part in (str(node.process.pid), str(node.port), " up ")] == [True, True, True]

        node.process.suspend()
        paused = run("status")
        assert (paused.returncode, " paused " in paused.stdout) == (3, True)
    finally:
        stopped = run("down")
    assert stopped.returncode == 0, stopped.stderr
    assert node.state() == "down"
    assert not state.state_file().exists()
    assert list(cache.glob("broker/1-node-data/node-1/data/meta.properties")), "the data stays"


def test_nothing_is_up(cache: Path) -> None:
    assert not state.state_file().exists(), cache
    shown, stopped = run("status"), run("down")
    assert (shown.returncode, stopped.returncode) == (3, 0)
    assert "no broker is up" in shown.stdout


def test_another_process_with_the_same_id_is_left_alone(cache: Path) -> None:
    bystander = psutil.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    state.state_file().parent.mkdir(parents=True)
    state.state_file().write_text(
        f'[{{"node": 1, "pid": {bystander.pid}, "create_time": {bystander.create_time() - 60}, "port": 1, "directory": "{cache}"}}]',
        encoding="utf-8",
    )
    assert run("down").returncode == 0
    assert bystander.is_running()
    bystander.communicate(b"\n", timeout=30)
    assert bystander.returncode == 0
